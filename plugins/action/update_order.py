"""Checks which hosts get newer packages, in what order, and whether each step is one that upstream supports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.action.host_removal import members_of, members_said
from ansible_collections.brume.cloud.plugins.module_utils import host_updates, membership, operating_system
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `hosts` (all in play where it is empty), `packages`, `in_place`, `reboot` and `stage`.

    `names`: only what the operator has given is judged, before any host is asked. `order`: what the hosts said of
    themselves too (`__host_updates` of M(brume.cloud.host_updates), and the role cluster_members). `end`: says which
    hosts want to start anew. Returns `hosts`, of `order` those with something to do; then also `sizes`, how many go at
    a time, `joint`, those that go all at once, and `moving`, those whose instances move away (where no earlier run has
    left a host). With `system` it returns `left` too: hosts out of the limit that a broker made anew leaves behind.
    With `system`, hosts are brought to the operating system of the inventory; `outage` accepts that no API answers
    meanwhile.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with everything that is wrong; change nothing."""
        known, args = task_vars or {}, self._task.args
        piece, hostvars = self.slice(known), known["hostvars"]
        in_play = [name for name in piece.plan.hosts if name in known["ansible_play_hosts_all"]]
        found = {name: dict(hostvars[name].get("__host_updates") or {}) for name in in_play}
        stage = args["stage"]
        if stage == "end":
            # What the run before the walk has said; the hosts do not know it any more.
            said_before = [hostvars[name].get("__update_order") or {} for name in in_play]
            left: list[str] = next((one["left"] for one in said_before if one.get("left")), [])
            self._display.display("\n".join([*wishes(found), *left_out(left)]))
            return {"changed": False}
        more: dict[str, Any] = {}
        wrong = mistakes(args, piece, hostvars, in_play)
        chosen = [name for name in in_play if not args.get("hosts") or name in args["hosts"]]
        if stage == "order" and not wrong:
            found = {name: said for name, said in found.items() if "work" in said}
            chosen = [name for name in chosen if found.get(name, {}).get("pending")]
            said = members_said(hostvars, in_play)
            joint: set[str] = set()
            if args.get("system"):
                joint, wrong = system_problems(piece, found, said, in_play, chosen, args)
            else:
                wrong = problems(piece, found, said, in_play, args)
            connections = {name: one.get("connections", 0) for name, one in said["mariadb"].items()}
            databases = [name for name, _address in piece.plan.cloud.members["database"]]
            chosen = host_updates.order(chosen, databases, connections)
            # The one that an earlier run has left is missed by the others.
            chosen.sort(key=lambda name: not found[name]["begun"])
            sizes = [1] * len(chosen)
            if args.get("system"):
                begun = [name for name in chosen if found[name]["begun"]]
                chosen, sizes = operating_system.batches(chosen, begun, holders(piece), joint)
            self._display.display("\n".join(lines(chosen, found)))
            computes = dict(piece.plan.cloud.members["compute"])
            moving = [name for name in chosen if found[name]["empties"] and name in computes]
            # Nova may be what an earlier run has stopped.
            moving = [] if any(found[name]["begun"] for name in chosen) else moving
            more = {"sizes": sizes, "joint": sorted(joint), "moving": moving}
            if args.get("system"):
                brokers = [name for name, _address in piece.plan.cloud.members["messaging"]]
                going = {name: found[name] for name in chosen}
                anew = operating_system.reconnections(going, brokers, piece.renderer.speakers())
                more["left"] = [name for name in anew if name not in in_play]
                told = reconnecting(anew, more["left"])
                self._display.display("\n".join(told)) if told else None
        if wrong:
            return {"changed": False, "failed": True, "msg": "\n".join(wrong)}
        return {"changed": False, "hosts": chosen, **more}


def mistakes(
    args: Mapping[str, Any], piece: Slice, hostvars: Mapping[str, Mapping[str, Any]], in_play: Sequence[str]
) -> list[str]:
    """Return what is wrong with what the operator has given, each with the next step."""
    found = []
    verb = "operating_system" if args.get("system") else "update"
    for name, example in (("hosts", "compute1"), ("packages", "haproxy")):
        given = args.get(name) or []
        if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
            remedy = f"""write -e '{{"{verb}_{name}": ["{example}"]}}'"""
            found.append(f"{verb}_{name}: is no list of names\n  next: {remedy}")
    if found:
        return found
    hosts = args.get("hosts") or list(piece.plan.hosts)
    unknown = [name for name in hosts if name not in piece.plan.hosts]
    known = ", ".join(piece.plan.hosts)
    found += [
        f"{verb}_hosts: {name} is no host of the plan; known are {known}\n  next: correct the name" for name in unknown
    ]
    local = [name for name in hosts if name in in_play and hostvars[name].get("ansible_connection") == "local"]
    if args.get("reboot"):
        by_hand = f"-e {verb}_reboot=false, and reboot it by hand"
        found += [f"{name}: the run is on it, and would end with a reboot\n  next: {by_hand}" for name in local]
    return found


def holders(piece: Slice) -> set[str]:
    """Return the hosts that are members of clusters of databases and brokers."""
    members = members_of(piece, {}, [])
    return {*members.database, *members.messaging, *members.ovn}


def system_problems(
    piece: Slice,
    found: Mapping[str, Mapping[str, Any]],
    said: Mapping[str, Mapping[str, Any]],
    in_play: Sequence[str],
    chosen: Sequence[str],
    args: Mapping[str, Any],
) -> tuple[set[str], list[str]]:
    """Return the hosts that go to another system all at once, and why hosts cannot go, each with the next step."""
    wrong = []
    members = members_of(piece, {}, [])
    going = {name: found[name] for name in chosen}
    suites = {one["suite"] for one in going.values()}
    current = [name for name, one in found.items() if name not in going and {one["codename"]} == suites]
    clusters = {"database": members.database, "messaging": members.messaging}
    joint, refused = operating_system.joint_problems(clusters, going, current, outage=bool(args.get("outage")))
    wrong += refused
    for name, one in going.items():
        texts = [*one["findings"], *operating_system.refusals(one["updates"])]
        if not args.get("in_place") and not (name in joint and args.get("outage")):
            remedy = "-e operating_system_in_place=true accepts that until it is back"
            texts += [f"{text}\n  next: {remedy}" for text in membership.lost_without(members, name)]
        wrong += [f"{name}: {text}" for text in texts]
    if piece.plan.newest is not None or piece.plan.former is not None:
        wrong.append(
            "brume_release: hosts have two releases\n  next: bring all to one first (docs/upgrades.md), since what is "
            "left of the former would not run on the new system"
        )
    if going and not any(one["begun"] for one in going.values()):
        remedy = "\n  next: `journalctl -u mariadb -u rabbitmq-server` there, then `site.yml`"
        wrong += [f"{text}{remedy}" for text in membership.incomplete(members, said, in_play)]
    return joint, wrong


def problems(
    piece: Slice,
    found: Mapping[str, Mapping[str, Any]],
    said: Mapping[str, Mapping[str, Any]],
    in_play: Sequence[str],
    args: Mapping[str, Any],
) -> list[str]:
    """Return why hosts cannot take what is newer, each with the next step; `found` and `said` are by host."""
    wrong = []
    members = members_of(piece, {}, [])
    packages = args.get("packages") or None
    for name, one in found.items():
        refused = [
            *one["findings"],
            *host_updates.refusals(one["updates"], one["removed"], packages, len(members.database)),
        ]
        wrong += [f"{name}: {text}" for text in refused]
        if not args.get("in_place") and one["leaves"]:
            lost = membership.lost_without(stopping(piece, members, name, one, reboot=bool(args.get("reboot"))), name)
            remedy = "-e update_in_place=true accepts that until it is back (docs/operations/update.md)"
            wrong += [f"{name}: {text}\n  next: {remedy}" for text in lost]
    if packages and found and not any(one["interrupted"] for one in found.values()):
        nowhere = [name for name in packages if not any(name in one.get("here", ()) for one in found.values())]
        wrong += [f"update_packages: {name} is installed on none of the hosts\n  next: correct it" for name in nowhere]
    if any(one["work"] for one in found.values()) and not any(one["begun"] for one in found.values()):
        remedy = "\n  next: `journalctl -u mariadb -u rabbitmq-server` there, then `site.yml`"
        wrong += [f"{text}{remedy}" for text in membership.incomplete(members, said, in_play)]
    return wrong


def stopping(
    piece: Slice, members: membership.Members, name: str, found: Mapping[str, Any], *, reboot: bool
) -> membership.Members:
    """Return the clusters' members without those clusters whose member on a host goes on meanwhile."""
    services = {
        one.service
        for one in piece.plan.hosts[name].instances
        if (one.unit in found["units"] and piece.sources.services[one.service].components[one.component].data)
        or reboot
        or found["interrupted"]
    }
    return dataclasses.replace(
        members,
        database=members.database if "mariadb" in services else (),
        messaging=members.messaging if "rabbitmq" in services else (),
        ovn=members.ovn if "ovn" in services else (),
    )


def lines(chosen: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what will be done with each host, for a person."""
    told = []
    for name in chosen:
        one = found[name]
        parts = ["goes on where an earlier run was cut off"] if one["begun"] else []
        parts += ["finishes what apt has begun"] if one["interrupted"] else []
        parts += crossing(one) if one.get("deploys") else []
        parts += [f"{len(one['updates'])} packages"] if one["updates"] else []
        stops = f"{len(one['units'])} units" if one.get("deploys") else ", ".join(one["units"])
        parts += [f"stops {stops}"] if one["units"] else []
        parts += ["is emptied before"] if one["empties"] else []
        parts += [f"stay as they are without a reboot: {', '.join(one['kept'])}"] if one["kept"] else []
        parts += [f"held, stay as they are: {', '.join(one['held'])}"] if one.get("held") else []
        parts += [f"wants to start anew ({', '.join(one['reboot'])})"] if one["reboot"] else []
        told.append(f"{name}: {'; '.join(parts)}")
    rest = [name for name in found if name not in chosen]
    held = {name: found[name]["held"] for name in rest if found[name].get("held")}
    told += [f"{name}: held, stay as they are: {', '.join(packages)}" for name, packages in held.items()]
    return [*told, f"nothing newer: {', '.join(rest)}"] if rest else told


def crossing(one: Mapping[str, Any]) -> list[str]:
    """Return what another operating system means for a host, beside what newer packages do."""
    had = {name: (pair[0], pair[1]) for name, pair in one["updates"].items() if pair[0]}
    told = [f"{one['codename']} -> {one['suite']}"] if one["codename"] != one["suite"] else [one["suite"]]
    told += [f"apt removes {len(one['removed'])} packages: {', '.join(one['removed'])}"] if one["removed"] else []
    database, broker = had.get(host_updates.DATABASE), had.get(host_updates.BROKER)
    if database and host_updates.database_problem(*database, 2):
        told.append(f"MariaDB {database[0]} -> {database[1]}, from which only a backup leads back")
    if broker and operating_system.renewed(*broker):
        told.append(f"RabbitMQ {broker[0]} -> {broker[1]}, whose data is made anew: messages in flight are lost")
    return told


def reconnecting(anew: Mapping[str, int], left: Sequence[str]) -> list[str]:
    """Return what a broker that is made anew means for other hosts, `left` of which this run does not reach."""
    reached = [name for name in anew if name not in left]
    units = sum(anew[name] for name in reached)
    told = f"at the end {units} units that speak to the broker start anew, host by host: "
    return [*([told + operating_system.names(reached)] if reached else []), *left_out(left)]


def left_out(left: Sequence[str]) -> list[str]:
    """Return which hosts a limit leaves with what they know of the broker before, with the next step."""
    if not left:
        return []
    return [
        f"not in this run, so that their agents go on with what they know of the broker before: {', '.join(left)}\n"
        "  next: the same playbook for them, or site.yml, without a limit that leaves them out"
    ]


def wishes(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which hosts want to start anew, and why."""
    reasons = {name: one["reboot"] for name, one in found.items() if one.get("reboot")}
    if not reasons:
        return ["no host wants to start anew"]
    told = [f"{name} wants to start anew: {', '.join(why)}" for name, why in reasons.items()]
    return [*told, "next: -e update_reboot=true, or reboot.yml"]
