"""A host from one release of Debian to the next in place: its sources, what is in the way, who goes together. Pure.

Sources: Debian's release notes for 13, "Upgrades from Debian 12" (sources, holds, pins, space, packages that are
removed) and "Issues to be aware of" (RabbitMQ is not brought over from Debian 12: its data is removed, and it begins
anew; MariaDB has to end in order before); Debian bug 1110030 (no new SSH connection while Debian 12's OpenSSH before
1:9.2p1-2+deb12u7 meets the new OpenSSL); mariadb.com, "Upgrading from MariaDB 10.6 to MariaDB 10.11 with Galera
Cluster" and "Upgrading from MariaDB Enterprise Server 10.6 to 11.8 with Galera Cluster" (to stop all members, upgrade
all and start them is a method of its own, by which series may be skipped); rabbitmq.com, "Upgrading RabbitMQ" and
"Blue-Green Deployment" (where no series leads in place to the wanted one, a new cluster takes the old one's place).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import host_updates

SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
"""Values of `brume_operating_system`, and the suites as Debian's archive calls them."""

FORMER = {"debian-13": "debian-12"}
"""The one from which a host comes in place; Debian skips none."""

POCKETS = ("", "-security", "-updates", "-backports", "-proposed-updates")
ORIGINS = frozenset({"Debian", "Debian Backports"})
"""What Debian's own archive calls itself in its Release files, also at a mirror."""

TARGETS = "$(REPO_URI)\t$(ORIGIN)"
"""Format for `apt-get indextargets` (apt-get(8)), which `parse_targets` reads."""

SSH = "openssh-server"
SSH_VERSION = "1:9.2p1-2+deb12u7"
LIBRARIES = frozenset({"libs", "oldlibs"})
"""Sections (Debian Policy, 2.4) whose packages go when their successors have other names."""

UNPACKED = 2
"""Bytes that a fetched package takes beside its old version while it is unpacked, as a multiple of its size."""

WHY = {
    "database": "MariaDB's new series cannot be reached member by member",
    "messaging": "RabbitMQ's new series cannot join the old one's cluster",
}
"""Group -> why its members go at once."""

NAMES = 6
"""Names that a line shows before it counts the rest."""


@dataclass(frozen=True)
class Source:
    """A suite that a file of apt's sources names."""

    file: str
    uri: str
    suite: str


@dataclass(frozen=True)
class Reading:
    """What a host says of itself. `codename` is its suite; `left` tells which run was cut off there, if one was."""

    codename: str = ""
    foreign: tuple[Source, ...] = ()
    own: bool = True
    """Whether a source of Debian's names the suite that is wanted, or will."""
    held: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    """Files of preferences that name the former suite."""
    lost: tuple[str, ...] = ()
    """Packages that somebody has asked for, or the plan, and that apt would remove."""
    old_ssh: str = ""
    space: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Folder -> bytes that are needed and that are free, of the same file system added up."""
    releases: tuple[str, ...] = ()
    """Other releases of OpenStack whose environments are there."""
    left: str = ""


def parse_targets(text: str) -> set[str]:
    """Return the URIs of Debian's own archive in the output of `apt-get indextargets --format TARGETS`."""
    lines = (line.split("\t") for line in text.splitlines())
    return {parts[0].rstrip("/") for parts in lines if len(parts) == 2 and parts[1] in ORIGINS}  # noqa: PLR2004


def moves(former: str, suite: str) -> dict[str, str]:
    """Return each suite of a release of Debian, with the one of the next release that takes its place."""
    return {f"{former}{pocket}": f"{suite}{pocket}" for pocket in POCKETS}


ONE_LINE = re.compile(
    r"^(?P<head>[ \t]*deb(?:-src)?[ \t]+(?:\[[^]\n]*\][ \t]+)?)(?P<uri>\S+)(?P<space>[ \t]+)(?P<suite>\S+)",
    re.MULTILINE,
)


def rewrite(text: str, own: Collection[str], former: str, suite: str) -> str:
    """Return a file of apt's sources (sources.list(5), both formats) with the suites of `own` URIs moved."""
    names = moves(former, suite)

    def moved(name: str, uris: Sequence[str]) -> str:
        ours = bool(uris) and all(uri.rstrip("/") in own for uri in uris)
        return names.get(name.rstrip("/"), name) if ours else name

    def line(match: re.Match[str]) -> str:
        return f"{match['head']}{match['uri']}{match['space']}{moved(match['suite'], [match['uri']])}"

    if ONE_LINE.search(text):
        return ONE_LINE.sub(line, text)
    return "".join(_stanza(part, moved) for part in re.split(r"(\n[ \t]*\n)", text))


def entries(text: str) -> list[tuple[str, str]]:
    """Return (URI, suite) of what a file of apt's sources names, but for what is disabled in it."""
    found = [(match["uri"], match["suite"]) for match in ONE_LINE.finditer(text)]
    for part in re.split(r"\n[ \t]*\n", text) if not found else ():
        words = {key: [one for _key, _head, value in group for one in value.split()] for key, group in _fields(part)}
        if " ".join(words.get("enabled", [])).lower() not in ("no", "false", "0"):
            found += [(uri, suite) for uri in words.get("uris", []) for suite in words.get("suites", [])]
    return found


def _lines(text: str) -> list[tuple[str, str, str]]:
    """Return of each line of a stanza of deb822 the field that it belongs to, its beginning, and its value."""
    found = []
    key = ""
    for one in text.split("\n"):
        if one.startswith("#"):
            found.append(("#", one, ""))
        elif one[:1] not in (" ", "\t") and ":" in one:
            head, colon, value = one.partition(":")
            key = head.strip().lower()
            found.append((key, head + colon, value))
        else:
            found.append((key, "", one))
    return found


def _fields(text: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    lines = _lines(text)
    return [(key, [one for one in lines if one[0] == key]) for key in dict.fromkeys(one[0] for one in lines)]


def _stanza(text: str, moved: Callable[[str, Sequence[str]], str]) -> str:
    """Return a stanza of deb822 with the words of its field `Suites` moved; comments and other fields stay."""
    lines = _lines(text)
    uris = [word for key, _head, value in lines if key == "uris" for word in value.split()]
    return "\n".join(
        head + (re.sub(r"\S+", lambda match: moved(match[0], uris), value) if key == "suites" else value)
        for key, head, value in lines
    )


def foreign(texts: Mapping[str, str], former: str) -> list[Source]:
    """Return what still names a former suite in files of sources, path -> text, when Debian's own were moved."""
    word = re.compile(rf"\b{re.escape(former)}\b")
    return [
        Source(path, uri, suite)
        for path, text in texts.items()
        for uri, suite in dict.fromkeys(entries(text))
        if former and word.search(f"{uri} {suite}")
    ]


def renewed(old: str, new: str) -> bool:
    """Return whether a broker's data is of no use to its new version, since no series may be skipped."""
    before, after = host_updates.upstream(old), host_updates.upstream(new)
    return bool(host_updates.broker_problem(old, new)) and len(before) > 1 and len(after) > 1 and before < after


def together(updates: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the groups whose members can only go all at once, for what a host's packages become."""
    had = {name: (one[0], one[1]) for name, one in updates.items() if one[0]}
    found = []
    if host_updates.DATABASE in had and host_updates.database_problem(*had[host_updates.DATABASE], 2):
        found.append("database")
    if host_updates.BROKER in had and renewed(*had[host_updates.BROKER]):
        found.append("messaging")
    return found


def refusals(updates: Mapping[str, Sequence[str]]) -> list[str]:
    """Return why a host cannot take what the new suite has, whoever goes together, each with the next step."""
    had = {name: (one[0], one[1]) for name, one in updates.items() if one[0]}
    found = []
    if host_updates.BROKER in had and not renewed(*had[host_updates.BROKER]):
        found.append(host_updates.broker_problem(*had[host_updates.BROKER]))
    if host_updates.DATABASE in had:
        found.append(host_updates.database_problem(*had[host_updates.DATABASE], 1))
    return [text for text in found if text]


def findings(said: Reading, former: str, suite: str) -> list[str]:
    """Return what is in the way on a host, each with the next step; `former` is empty where none leads to `suite`."""
    if said.codename not in (former, suite):
        known = f"{former} or {suite}" if former else suite
        return [
            f"it runs {said.codename or 'an unknown suite'}, and {known} is expected\n"
            "  next: correct brume_operating_system of this host, or install it anew (docs/operations/replace.md)"
        ]
    if said.left:
        return [f"{said.left} was cut off here\n  next: run {said.left} again, which finishes it"]
    found = [
        f"{one.file} names {one.suite} of {one.uri}, which apt does not know as Debian's own\n"
        f"  next: `apt-get update` there, if it is; else let it name what serves {suite}, or disable it (`Enabled: no`)"
        for one in said.foreign
    ]
    if not said.own:
        found.append(
            f"apt knows no source of Debian's that leads to {suite}\n"
            "  next: `apt-get update` there, and see that its sources name Debian's archive or a mirror of it"
        )
    if said.held:
        found.append(
            f"held: {names(said.held)}\n  next: `apt-mark unhold` there; a held package keeps others of the old system"
        )
    found += [
        f"{path} names {former}\n  next: take that out; it would keep packages of the old system"
        for path in said.pinned
    ]
    if said.lost:
        found.append(
            f"apt would remove {names(said.lost)}\n  next: remove them by hand, or say that nobody asks for them "
            "(`apt-mark auto`), and run again"
        )
    if said.old_ssh:
        found.append(
            f"{SSH} {said.old_ssh} takes no new connection during the upgrade (Debian bug 1110030)\n"
            "  next: update.yml brings a newer one first"
        )
    found += [
        f"{path} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} are needed\n"
        "  next: `apt-get clean`, or enlarge the file system"
        for path, (needed, free) in said.space.items()
        if free < needed
    ]
    if said.releases:
        found.append(
            f"environments of {names(said.releases)} are here, to which `rollback.yml` leads, and would be lost\n"
            "  next: end that upgrade first (finalize.yml)"
        )
    return found


def names(found: Sequence[str]) -> str:
    """Return a few names as text."""
    return ", ".join(found[:NAMES]) + (f" and {len(found) - NAMES} more" if found[NAMES:] else "")


def lost(
    removed: Iterable[str], manual: Collection[str], sections: Mapping[str, str], planned: Collection[str]
) -> list[str]:
    """Return those of the packages that apt would remove that somebody wants: the plan, or who named them."""
    return [
        name
        for name in removed
        if name in planned or (name in manual and sections.get(name, "").rpartition("/")[2] not in LIBRARIES)
    ]


def fetched_bytes(text: str) -> int:
    """Return the size of what is to be fetched, from the output of `apt-get -qq --print-uris`."""
    return sum(int(match[1]) for match in re.finditer(r"^'\S+' \S+ (\d+)", text, re.MULTILINE))


def batches(
    hosts: Sequence[str], begun: Collection[str], members: Collection[str], joint: Collection[str]
) -> tuple[list[str], list[int]]:
    """Return the hosts in order, and how many go at a time.

    Those that an earlier run has left are first, since others miss them. Members of clusters come after the other
    hosts: OVN's controllers go before its databases (docs.ovn.org, "OVN Upgrades"). Those of `joint` go at once.
    """
    first = bool(set(joint) & set(begun))
    ordered = sorted(hosts, key=lambda name: (first != (name in joint), name not in begun, name in members))
    sizes: list[int] = []
    for place, name in enumerate(ordered):
        if place and name in joint and ordered[place - 1] in joint:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return ordered, sizes


def reconnections(
    going: Mapping[str, Mapping[str, Any]], brokers: Collection[str], speakers: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Return host -> how many of its units start anew because hosts that go get a broker whose data is made anew.

    `speakers` are the units of the plan that speak to it. Those hosts themselves start all of theirs on the way.
    """
    anew = [
        name
        for name in brokers
        if name in going and ("messaging" in together(going[name]["updates"]) or going[name]["begun"].get("renew"))
    ]
    return {name: len(units) for name, units in speakers.items() if anew and name not in anew}


def joint_problems(
    members: Mapping[str, Sequence[str]],
    going: Mapping[str, Mapping[str, Any]],
    current: Collection[str],
    *,
    outage: bool,
) -> tuple[set[str], list[str]]:
    """Return the hosts that go all at once, and why they may not.

    `members` is group -> hosts of its cluster; `going` what those say that are to go, and `current` are hosts that
    run what they are to run already.
    """
    joint: set[str] = set()
    problems = []
    for group, hosts in members.items():
        stuck = [
            name
            for name in hosts
            if name in going and (group in together(going[name]["updates"]) or going[name]["begun"].get("together"))
        ]
        if len(hosts) < 2 or not stuck:  # noqa: PLR2004
            continue
        joint |= {name for name in hosts if name in going}
        missing = [name for name in hosts if name not in going and name not in current]
        what = WHY[group]
        if missing:
            problems.append(
                f"{group}: {what}, so that all members go at once; missing {'is' if len(missing) == 1 else 'are'} "
                f"{', '.join(missing)}\n  next: name all of them (operating_system_hosts, --limit), and let "
                "brume_operating_system of all of them be the same"
            )
        elif not outage:
            problems.append(
                f"{group}: {what}; {', '.join(hosts)} go at once, and no API answers meanwhile, for as long as their "
                "packages take\n"
                "  next: -e operating_system_outage=true accepts that; make a backup first (docs/backup.md)"
            )
    return joint, problems
