"""Newer packages of a host: which units they are about, which steps upstream supports, and who is first. Pure.

A unit is affected by a package of its own, by one whose files its processes have loaded, and by files that are replaced
already; with it go those that start after it, and the sockets that would start it while its files are exchanged.
Sources: rabbitmq.com, "Upgrading RabbitMQ" and "Rolling Upgrade" (no series is skipped; 3.12 needs 3.11.18);
mariadb.com, "General Upgrade Information" (rolling upgrades of a cluster take one major or long-term series at a time,
a single server may skip some) and "Upgrading Galera Cluster".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

BROKER = "rabbitmq-server"
DATABASE = "mariadb-server"

LAST_OF_MAJOR = {3: 13}
"""RabbitMQ: major number -> the last minor number that it has."""

LAST_FIXES = {(3, 11): 18}
"""RabbitMQ: series -> the oldest of its versions from which the next series can be reached."""

ROLLING = ("10.4", "10.5", "10.6", "10.11", "11.4", "11.8", "12.3")
"""MariaDB: series in the order in which a cluster goes through them, member by member."""

LOADED_FROM = ("/usr/", "/lib", "/bin/", "/sbin/")
"""Where packages have their programs and libraries."""

DELETED = " (deleted)"


@dataclass(frozen=True)
class Unit:
    """A unit of the cloud: packages that bring what it runs, and what must be there before it starts."""

    packages: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """What the processes of a unit have loaded, and the sockets that start it."""

    packages: frozenset[str] = frozenset()
    replaced: bool = False
    """Whether a file of it is not there any more, because a newer one has taken its place."""
    sockets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a host says of itself, as far as others must know it before the first one is touched."""

    updates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Package -> the version that it has and the one that it will have."""
    removed: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    out: bool = False


def affected(units: Mapping[str, Unit], changing: Collection[str], loaded: Mapping[str, Loaded]) -> list[str]:
    """Return the units that have to start anew when packages change, in the order of `units`."""
    changed = frozenset(changing)
    found = {
        name
        for name, unit in units.items()
        if changed.intersection(unit.packages)
        or changed & loaded.get(name, Loaded()).packages
        or loaded.get(name, Loaded()).replaced
    }
    while True:
        more = {name for name, unit in units.items() if found.intersection(unit.after)}
        more |= {socket for name in found if name in loaded for socket in loaded[name].sockets if socket in units}
        if more <= found:
            return [name for name in units if name in found]
        found |= more


def files_of(maps: str) -> tuple[set[str], bool]:
    """Return the files of packages in `/proc/<pid>/maps`, and whether one of them has been replaced (proc(5))."""
    paths = {line.split(None, 5)[5] for line in maps.splitlines() if len(line.split(None, 5)) > 5}  # noqa: PLR2004
    ours = {path for path in paths if path.startswith(LOADED_FROM)}
    return {path.removesuffix(DELETED) for path in ours}, any(path.endswith(DELETED) for path in ours)


def spellings(path: str) -> list[str]:
    """Return the names under which dpkg may know a file: packages older than the merge of /usr have the short one."""
    return [path, path.removeprefix("/usr")] if path.startswith(("/usr/lib", "/usr/bin/", "/usr/sbin/")) else [path]


def parse_owners(text: str) -> dict[str, set[str]]:
    """Return path -> packages from the output of `dpkg-query -S`."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        names, colon, path = line.partition(": ")
        if colon and path.startswith("/") and "diversion " not in names:
            found.setdefault(path, set()).update(name.partition(":")[0] for name in names.split(", "))
    return found


def pins(versions: Mapping[str, str]) -> str:
    """Return preferences that keep packages at a version (apt_preferences(5))."""
    return "".join(
        f"\nPackage: {name}\nPin: version {version}\nPin-Priority: 1001\n" for name, version in versions.items()
    )


def upstream(version: str) -> tuple[int, ...]:
    """Return the numbers of upstream's version in a version of Debian's, such as `1:11.8.9+ds-0+deb13u1`."""
    found = re.match(r"\d+(?:\.\d+)*", version.partition(":")[2] or version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def broker_problem(old: str, new: str) -> str:
    """Return why a broker cannot go from one version of Debian's to another, with the next step, or an empty text."""
    before, after = upstream(old), upstream(new)
    series, wanted = before[:2], after[:2]
    if len(series) != 2 or len(wanted) != 2:  # noqa: PLR2004
        return f"RabbitMQ {old} -> {new}: no version of RabbitMQ's\n  next: look at the apt sources"
    major, minor = series
    following = (major + 1, 0) if LAST_OF_MAJOR.get(major) == minor else (major, minor + 1)
    said = f"RabbitMQ {'.'.join(map(str, before))} -> {'.'.join(map(str, after))}"
    if after < before:
        return f"{said}: brokers do not go back\n  next: look at the apt sources and pins"
    if wanted == series:
        return ""
    step = ".".join(map(str, following))
    if wanted != following:
        return f"{said}: no series may be skipped\n  next: give apt a source that has {step} first"
    oldest = LAST_FIXES.get((major, minor))
    if oldest is not None and before < (major, minor, oldest):
        first = f"{major}.{minor}.{oldest}"
        return f"{said}: needs {first} before\n  next: give apt a source that has {first} first"
    return ""


def database_problem(old: str, new: str, members: int) -> str:
    """Return why members of a database cluster cannot go to a version one after the other, or an empty text."""
    before, after = upstream(old), upstream(new)
    said = f"MariaDB {'.'.join(map(str, before))} -> {'.'.join(map(str, after))}"
    if after < before:
        return f"{said}: servers do not go back\n  next: look at the apt sources and pins"
    series, wanted = (".".join(map(str, one[:2])) for one in (before, after))
    if series == wanted or members == 1:
        return ""
    place = ROLLING.index(series) if series in ROLLING else len(ROLLING)
    following = ROLLING[place + 1] if place + 1 < len(ROLLING) else ""
    if wanted == following:
        return ""
    step = f"give apt a source that has {following} first" if following else "see mariadb.com, Upgrading Galera Cluster"
    return f"{said}: a cluster that goes on serving takes one series at a time\n  next: {step}"


def order(hosts: Sequence[str], databases: Collection[str], connections: Mapping[str, int]) -> list[str]:
    """Return the hosts with the database member that clients use after the other members, so that they move once."""
    members = [name for name in hosts if name in databases]
    used = max(members, key=lambda name: connections.get(name, 0), default="")
    if not connections.get(used, 0) or used == members[-1]:
        return list(hosts)
    rest = [name for name in hosts if name != used]
    place = rest.index(members[-1]) + 1
    return [*rest[:place], used, *rest[place:]]


def removal_problem(removed: Iterable[str], packages: Sequence[str] | None) -> str:
    """Return that apt would remove packages, with the next step, or an empty text; no `packages` are all."""
    names = ", ".join(removed)
    if not names:
        return ""
    command = "dist-upgrade" if packages is None else f"install --only-upgrade {' '.join(packages)}"
    return (
        f"apt would remove {names}\n  next: `apt-get -s {command}` on the host says why; "
        "remove them by hand, or hold what needs it (`apt-mark hold`), and run again"
    )


def refusals(
    updates: Mapping[str, Sequence[str]], removed: Iterable[str], packages: Sequence[str] | None, members: int
) -> list[str]:
    """Return why a host cannot take what is newer, each with the next step.

    `updates` is package -> the version that it has (empty for one that is added) and the one that it would have;
    `members` is how many the database's cluster has.
    """
    had = {name: (old, new) for name, (old, new) in updates.items() if old}
    found = [removal_problem(removed, packages)]
    found += [broker_problem(*had[BROKER])] if BROKER in had else []
    found += [database_problem(*had[DATABASE], members)] if DATABASE in had else []
    return [text for text in found if text]
