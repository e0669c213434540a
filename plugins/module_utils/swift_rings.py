"""What Swift's rings should be: what is wrong with a declaration, and what differs between it and a builder. Pure.

Needs neither Swift nor Ansible, so that the plan can ask it too; `swift_builders` does the work in Swift's Python.
Rules are those of `swift.common.ring.builder.RingBuilder` and `swift.cli.ringbuilder` (2.38).
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

NAME = re.compile(r"account|container|object(-[1-9][0-9]*)?")
"""Names of rings by swift.common.storage_policy: `object-N` is the ring of the storage policy with the index N."""

DEVICE = re.compile(r"[A-Za-z0-9_.:-]+")
"""Name of a mount point below the folder `devices` of Swift's servers."""

HIGHEST_PART_POWER = 32
MOST_HOURS = 255
"""The builder counts the hours since a partition moved in one byte, and stops at 255."""

HIGHEST_PORT = 65535

ALLOW = ("part_power", "relinked", "cleaned", "replicas", "min_part_hours", "lost")
"""What an operator may confirm; see `refusals`."""

INFO = ("ip", "port", "replication_ip", "replication_port", "device", "meta")
"""Attributes of a device that change nothing about where partitions are (`swift-ring-builder set_info`)."""

Verb = Literal[
    "create", "set", "prepare", "increase", "finish", "lose", "rename", "inform", "place", "weigh", "drain", "remove",
    "add",
]  # fmt: skip

QUIET = ("rename", "inform", "prepare", "increase", "finish")
"""Verbs after which no partition has a reason to move."""


@dataclass(frozen=True)
class Device:
    """A device of a ring; `was` is the `ip/device` that it had before its host got another address."""

    region: int
    zone: int
    ip: str
    port: int
    replication_ip: str
    replication_port: int
    device: str
    weight: float
    meta: str = ""
    was: str = ""

    @property
    def key(self) -> str:
        """What identifies it: `ip/device`. A host has one device of a name, whatever ports its servers listen on."""
        return f"{self.ip}/{self.device}"

    def values(self) -> dict[str, Any]:
        """Return the attributes that a builder keeps."""
        return {name: value for name, value in vars(self).items() if name != "was"}


@dataclass(frozen=True)
class Ring:
    """A declared ring. `overload` is a share (0.1 is 10 %), `replicas` may have a fraction."""

    name: str
    part_power: int
    replicas: float
    min_part_hours: int
    overload: float
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class Found:
    """What a builder has: its attributes, and its devices as `RingBuilder.devs` without the holes."""

    part_power: int
    next_part_power: int | None
    replicas: float
    min_part_hours: int
    overload: float
    devices: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Action:
    """One change of a builder. `key` is a device's `ip/device` or an attribute of the ring."""

    verb: Verb
    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    def __str__(self) -> str:
        """Return it as a sentence."""
        said = ", ".join(f"{name} {value}" for name, value in self.values.items() if value != "")
        return " ".join(part for part in (self.verb, self.key, said and f"({said})", self.why) if part)


def address(text: Any) -> str:
    """Return an address as Swift writes it (swift.common.ring.utils.validate_and_normalize_address), or no text."""
    try:
        return str(ipaddress.ip_address(str(text)))
    except ValueError:
        return ""


def key_of(text: str) -> str:
    """Return an `ip/device` with the address as Swift writes it; what is none comes back as it is."""
    ip, _, device = text.rpartition("/")
    return f"{address(ip) or ip}/{device}"


def key_in(device: Mapping[str, Any]) -> str:
    """Return the key of a builder's device."""
    return f"{address(device['ip']) or device['ip']}/{device['device']}"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _ring_problems(item: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    power, replicas, hours = item.get("part_power"), item.get("replicas"), item.get("min_part_hours", 1)
    if not (_whole(power) and 1 <= int(power or 0) <= HIGHEST_PART_POWER):
        yield "part_power", f"{power!r} is no power; write a whole number from 1 to {HIGHEST_PART_POWER}"
    if not _finite(replicas) or float(replicas or 0) < 1:
        yield "replicas", f"{replicas!r} is no number of replicas; write a number from 1 up, such as 3"
    if not _whole(hours) or not 0 <= hours <= MOST_HOURS:
        yield "min_part_hours", f"{hours!r} is no number of hours; write a whole number from 0 to {MOST_HOURS}"
    overload = item.get("overload", 0.0)
    if not _finite(overload) or overload < 0:
        yield "overload", f"{overload!r} is no share; write a number from 0 up, 0.1 is 10 %"


def _device_problems(item: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("region", "zone"):
        if not _whole(item.get(name)) or item[name] < 1:
            yield name, f"{item.get(name)!r} is no {name}; write a whole number from 1 up"
    for name in ("ip", "replication_ip"):
        value = item.get(name)
        if (value or name == "ip") and not address(value):
            yield name, f"{value!r} is no address; write the address at which the host's servers listen"
    for name in ("port", "replication_port"):
        value = item.get(name)
        if (value is not None or name == "port") and not (_whole(value) and 1 <= int(value or 0) <= HIGHEST_PORT):
            yield name, f"{value!r} is no port; write a whole number from 1 to {HIGHEST_PORT}"
    if not (isinstance(item.get("device"), str) and DEVICE.fullmatch(item["device"])):
        yield "device", f"{item.get('device')!r} is no device; write the name of its mount point, such as sdb"
    weight = item.get("weight")
    if not _finite(weight) or float(weight or 0) < 0:
        yield "weight", f"{weight!r} is no weight; write a number from 0 up, such as the disk's size in GB"
    if not isinstance(item.get("meta") or "", str):
        yield "meta", f"{item['meta']!r} is no text; put it in quotes"
    was = item.get("was") or ""
    if was and (not isinstance(was, str) or not address(was.rpartition("/")[0])):
        yield "was", f"{was!r} is no former device; write its former address and name, such as 10.0.0.1/sdb"


def _device(item: Mapping[str, Any]) -> Device:
    ip = address(item["ip"])
    return Device(
        region=item["region"],
        zone=item["zone"],
        ip=ip,
        port=item["port"],
        replication_ip=address(item.get("replication_ip")) or ip,
        replication_port=item.get("replication_port") or item["port"],
        device=item["device"],
        weight=float(item["weight"]),
        meta=item.get("meta") or "",
        was=key_of(item["was"]) if item.get("was") else "",
    )


def parse(items: Sequence[Mapping[str, Any]], lost: Iterable[str] = ()) -> tuple[list[Ring], list[str]]:
    """Return the declared rings, and all that is wrong with them: one line for each, with ring, key and remedy.

    `items` and `lost` are options of the module `swift_ring`. With problems, the rings are those that have none.
    """
    rings: list[Ring] = []
    problems: list[str] = []
    gone = {key_of(one) for one in lost}
    problems += [f"lost: {one!r} is no device; write address and name, such as 10.0.0.1/sdb" for one in sorted(lost)
                 if not address(one.rpartition("/")[0]) or not DEVICE.fullmatch(one.rpartition("/")[2])]  # fmt: skip
    for index, item in enumerate(items):
        name = item.get("name")
        label = f"ring {name}" if isinstance(name, str) else f"rings[{index}]"
        found = [f"{label}: {key}: {text}" for key, text in _ring_problems(item)]
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            found.append(f"{label}: name: {name!r} is no ring; use account, container, object or object-1")
        devices = []
        for place, one in enumerate(item.get("devices") or ()):
            here = f"{label}: devices[{place}] ({one.get('ip')}/{one.get('device')})"
            wrong = [f"{here}: {key}: {text}" for key, text in _device_problems(one)]
            found += wrong
            devices += [] if wrong else [_device(one)]
        if not found:
            ring = Ring(
                str(name), item["part_power"], float(item["replicas"]), item.get("min_part_hours", 1),
                float(item.get("overload", 0.0)), tuple(devices),
            )  # fmt: skip
            found = [f"{label}: devices: {text}" for text in _membership_problems(ring, gone)]
            rings += [] if found else [ring]
        problems += found
    names = Counter(one.get("name") for one in items)
    problems += [f"ring {one}: name: is declared {count} times; keep one" for one, count in names.items() if count > 1]
    return rings, problems


def _membership_problems(ring: Ring, lost: set[str]) -> Iterator[str]:
    """Yield what is wrong with a ring's devices together."""
    keys = Counter(one.key for one in ring.devices)
    yield from (f"{key} is declared {count} times; keep one" for key, count in keys.items() if count > 1)
    weighty = [one for one in ring.devices if one.weight > 0]
    if not weighty:
        yield "none has weight; declare at least one device with a weight above 0"
    elif len(weighty) < ring.replicas:
        yield (
            f"{len(weighty)} with weight above 0 are fewer than {ring.replicas:g} replicas, which would lie on the "
            "same device; declare more devices, or fewer replicas"
        )
    zones = {(one.region, one.zone) for one in weighty}
    for region, zone in sorted({(one.region, one.zone) for one in ring.devices} - zones) if weighty else ():
        yield (
            f"no device of region {region} zone {zone} has weight; give one a weight above 0, or take them out of the "
            "declaration to empty the zone"
        )
    for key in sorted(lost & set(keys)):
        yield f"{key} is declared and also lost; take it out of one of the two"
    former = Counter(one.was for one in ring.devices if one.was)
    for was, count in former.items():
        if count > 1:
            yield f"{was} is what {count} devices say they were; keep one"
        if was in keys:
            yield f"{was} is what a device says it was, and is declared itself; take out `was` or that device"


def refusals(ring: Ring, found: Found, actions: Iterable[Action], allow: Iterable[str]) -> list[str]:
    """Return why a builder may not become what is declared: one line for each reason, with key and remedy.

    `allow` confirms: `replicas` that there are fewer, `min_part_hours` that it is lowered and that partitions may move
    before it has passed, `part_power` that an increase by one is prepared, `relinked` and `cleaned` that the relinker
    has done its work on all hosts, `lost` that partitions lose their last copy.

    Any other change of the part power is refused always: objects would be looked for where they are not, since a
    partition is the first bits of a name's digest (docs.openstack.org/swift: Modifying Ring Partition Power).
    """
    allowed = set(allow)
    said = []
    if ring.part_power not in (found.part_power, found.next_part_power):
        if ring.part_power != found.part_power + 1 or not ring.name.startswith("object") or found.next_part_power:
            said.append(
                f"part_power: cannot become {ring.part_power} from {found.part_power}: all data would be out of reach; "
                f"set it back to {found.part_power}. Swift can only raise that of object rings, by one"
            )
        elif "part_power" not in allowed:
            said.append(
                f"part_power: {found.part_power} becomes {ring.part_power} only in steps, between which "
                f"swift-object-relinker runs on all hosts; set it back to {found.part_power}, or begin with "
                "`allow: [part_power]`"
            )
    if ring.replicas < found.replicas and "replicas" not in allowed:
        said.append(
            f"replicas: {ring.replicas:g} are fewer than {found.replicas:g}, whose copies would be given up; "
            f"set it back to {found.replicas:g}, or confirm with `allow: [replicas]`"
        )
    if ring.min_part_hours < found.min_part_hours and "min_part_hours" not in allowed:
        said.append(
            f"min_part_hours: {ring.min_part_hours} is lower than {found.min_part_hours}, so that a second replica of "
            f"a partition could move before the first has arrived; set it back to {found.min_part_hours}, or confirm "
            "with `allow: [min_part_hours]`"
        )
    actions = list(actions)
    waiting = [str(one) for one in actions if moves(one)]
    if waiting and (found.next_part_power or any(one.verb == "prepare" for one in actions)):
        said.append(
            f"part_power: is being raised, until which no partition may move, but there is to do: {waiting[0]}"
            f"{f' and {len(waiting) - 1} more' if waiting[1:] else ''}; take that back until the increase is finished"
        )
    twice = Counter(key_in(one) for one in found.devices)
    said += [
        f"devices: the builder has {key} {count} times; remove one with swift-ring-builder"
        for key, count in twice.items()
        if count > 1
    ]
    return [f"ring {ring.name}: {one}" for one in said]


def moves(action: Action) -> bool:
    """Return whether partitions may have a reason to move after an action."""
    return action.verb not in QUIET and action.key != "min_part_hours"


def compare(
    ring: Ring,
    found: Found | None,
    *,
    held: Mapping[str, Any] | None = None,
    lost: Iterable[str] = (),
    allow: Iterable[str] = (),
) -> list[Action]:
    """Return what makes a builder (None: there is none) the declared one, in the order in which it is done.

    A device that is declared no more gets the weight 0, and is removed when it has no partition in the ring and
    `held` says that its disk has none either: {"10.0.0.1/sdb": 12}, or by ring {"10.0.0.1/sdb": {"account": 12}}.
    Unknown means that it stays. What `lost` names is removed at once.
    """
    if found is None:
        values = {name: getattr(ring, name) for name in ("part_power", "replicas", "min_part_hours")}
        return [Action("create", ring.name, values), *_overload(ring, 0.0), *_added(ring.devices)]
    actions = _power(ring, found, set(allow))
    if ring.replicas != found.replicas:
        actions.append(Action("set", "replicas", {"from": found.replicas, "to": ring.replicas}))
    if ring.min_part_hours != found.min_part_hours:
        actions.append(Action("set", "min_part_hours", {"from": found.min_part_hours, "to": ring.min_part_hours}))
    actions += _overload(ring, found.overload)
    there = {key_in(one): one for one in found.devices}
    gone = {key_of(one) for one in lost} & set(there)
    actions += [Action("lose", key) for key in sorted(gone)]
    staying, new = set(gone), []
    for device in sorted(ring.devices, key=_order):
        old = there.get(device.key)
        if old is None and device.was in there and device.was not in gone:
            old = {**there[device.was], "ip": device.ip, "device": device.device}
            actions.append(Action("rename", device.was, {"to": device.key}))
            staying.add(device.was)
        if old is None:
            new.append(device)
        else:
            staying.add(device.key)
            actions += _changes(device, old)
    for key in sorted(set(there) - staying):
        if there[key]["weight"] > 0:
            actions.append(Action("drain", key, {"weight": there[key]["weight"]}, "because it is not declared"))
        elif not there[key].get("parts") and is_empty(key, ring.name, held or {}):
            actions.append(Action("remove", key))
    return actions + _added(new)


def is_empty(key: str, ring: str, held: Mapping[str, Any]) -> bool:
    """Return whether a host has said that a disk has no partition of a ring."""
    said = {key_of(str(name)): value for name, value in held.items()}.get(key)
    count = said.get(ring) if isinstance(said, Mapping) else said
    return count is not None and not isinstance(count, bool) and int(count) == 0


def leaving(ring: Ring, found: Found, lost: Iterable[str] = ()) -> list[str]:
    """Return the devices that a builder has and that are declared no more, the lost ones left out."""
    kept = {one.key for one in ring.devices} | {one.was for one in ring.devices} | {key_of(one) for one in lost}
    return sorted({key_in(one) for one in found.devices} - kept)


def _power(ring: Ring, found: Found, allowed: set[str]) -> list[Action]:
    values = {"from": found.part_power, "to": ring.part_power}
    if ring.part_power == found.part_power + 1 and found.next_part_power is None:
        return [Action("prepare", "part_power", values)]
    if ring.part_power == found.next_part_power == found.part_power + 1:
        return [Action("increase", "part_power", values)] if "relinked" in allowed else []
    if ring.part_power == found.next_part_power == found.part_power and "cleaned" in allowed:
        return [Action("finish", "part_power", {"to": ring.part_power})]
    return []


def _overload(ring: Ring, found: float) -> list[Action]:
    return [Action("set", "overload", {"from": found, "to": ring.overload})] if ring.overload != found else []


def _order(device: Device) -> tuple[Any, ...]:
    """Return where a device stands among others, so that ids do not depend on the order of a declaration."""
    ip = ipaddress.ip_address(device.ip)
    return device.region, device.zone, ip.version, int(ip), device.device


def _added(devices: Iterable[Device]) -> list[Action]:
    return [Action("add", one.key, one.values()) for one in sorted(devices, key=_order)]


def _changes(device: Device, old: Mapping[str, Any]) -> list[Action]:
    wanted = device.values()
    actions: list[Action] = []
    groups: tuple[tuple[Verb, tuple[str, ...]], ...] = (
        ("inform", INFO), ("place", ("region", "zone")), ("weigh", ("weight",)),
    )  # fmt: skip
    for verb, names in groups:
        values = {name: wanted[name] for name in names if wanted[name] != old.get(name, "")}
        if values:
            actions.append(Action(verb, device.key, values))
    return actions


ATTRIBUTES = ("part_power", "next_part_power", "replicas", "min_part_hours", "overload", "balance", "dispersion")


def text(state: Mapping[str, Any], ring: Mapping[str, Any] | None = None) -> str:
    """Return one side of a ring's diff: `state` is `before` or `after` of what is reported of a ring.

    The side after has `ring`, the report itself: what moves, and whether it is the end.
    """
    if not state:
        return "".join(f"{one}\n" for one in ring["actions"]) if ring else ""
    lines = [f"{name}: {_shown(state[name])}" for name in ATTRIBUTES if state[name] is not None]
    if ring:
        lines.append(f"partitions moved: {ring['moved']} ({100 * ring['moved_share']:.2f} %)")
        lines += [f"not complete: {ring['reason']}"] if ring["reason"] else []
    leaving = set(ring["leaving"]) if ring else set()
    for key, one in state["devices"].items():
        place = f"r{one['region']}z{one['zone']}-{key}"
        lines.append(
            f"{place}: weight {one['weight']:g}, partitions {one['parts']}, balance {one['balance']:.2f}"
            f"{', leaving: not declared' if key in leaving else ''}"
        )
    return "".join(f"{line}\n" for line in lines)


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
