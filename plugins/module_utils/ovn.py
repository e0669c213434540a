"""OVN's databases: how each of their members starts, decided from what all of them hold; what a chassis is told.

Pure; the module `ovn_member` reads and acts. Rules: ovsdb(7), "Clustered Database Service Model", ovsdb-tool(1) and
ovsdb-server(1), "Cluster Commands": one member makes the cluster, the others join it, and one that lost its file is
removed before it joins as a new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.brume.cloud.plugins.module_utils.plan import Cloud, Host

GROUP = "control"
"""Whose hosts hold the databases: Neutron's servers, their busiest clients, are there."""

PHYSICAL_NETWORK = "external"


@dataclass(frozen=True)
class Database:
    """One of the two; `port` is for clients, `cluster_port` for the other members."""

    name: str
    short: str
    port: int
    cluster_port: int

    @property
    def file(self) -> str:
        """Return the file that holds it."""
        return f"/var/lib/ovn/ovn{self.short}_db.db"

    @property
    def unit(self) -> str:
        """Return the unit of its server."""
        return f"ovn-ovsdb-server-{self.short}.service"


NORTHBOUND = Database("OVN_Northbound", "nb", 6641, 6643)
SOUTHBOUND = Database("OVN_Southbound", "sb", 6642, 6644)
DATABASES = {one.name: one for one in (NORTHBOUND, SOUTHBOUND)}


@dataclass(frozen=True)
class Member:
    """What a member's server or file says of a database.

    `cluster` and `server` are identifiers, empty where there is none: no file, or one that has not joined yet.
    `leader` tells whether it knows one, so whether there is a majority. `servers` are the members as it knows them,
    identifier (the first four digits of it, as its server shows them) -> address.
    """

    active: bool = False
    exists: bool = False
    standalone: bool = False
    cluster: str = ""
    server: str = ""
    address: str = ""
    leads: bool = False
    leader: bool = False
    servers: Mapping[str, str] = field(default_factory=dict)
    outdated: bool = False
    """Whether its schema is older than its package's."""


@dataclass(frozen=True)
class Step:
    """What one member does before its server starts, in this order."""

    stop: bool = False
    set_aside: bool = False
    """Rename the file: nothing of it is wanted any more, and nothing is lost."""
    create: bool = False
    from_own: bool = False
    """The new cluster takes over what the file holds."""
    join: tuple[str, ...] = ()
    cluster: str = ""
    kick: tuple[str, ...] = ()
    convert: bool = False


@dataclass(frozen=True)
class Decision:
    """The members' steps. `problem` says why nothing may be done, `strangers` are members that no planned host is."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    reason: str = ""
    problem: str = ""
    strangers: tuple[str, ...] = ()


def bracketed(address: str) -> str:
    """Return an address as OVSDB's connection methods want it (ovsdb(7)): IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def location(address: str, port: int) -> str:
    """Return where a server is, as its clients and fellow members write it."""
    return f"ssl:{bracketed(address)}:{port}"


def remotes(addresses: Iterable[str], port: int) -> str:
    """Return where a database is, as its clients take it: all members, any of which will do."""
    return ",".join(location(address, port) for address in addresses)


def chassis(host: Host, cloud: Cloud) -> dict[str, str]:
    """Return the keys of external_ids by which ovn-controller works (ovn-controller(8)); empty ones must not be there.

    Neutron knows a chassis by its hostname, which has to be the name that Nova's compute service reports.
    """
    return {
        "system-id": host.name,
        "hostname": host.name,
        "ovn-remote": remotes((address for _name, address in cloud.members[GROUP]), SOUTHBOUND.port),
        "ovn-encap-type": str(host.variables["ovn_encap_type"]),
        "ovn-encap-ip": str(host.addresses["tunnel"]),
        "ovn-bridge-datapath-type": str(host.variables["openvswitch_datapath_type"]),
        "ovn-bridge-mappings": f"{PHYSICAL_NETWORK}:{host.external_bridge}" if host.external_bridge else "",
        "ovn-cms-options": "enable-chassis-as-gw" if "network" in host.groups else "",
    }


def parse_status(text: str) -> tuple[str, bool, bool, dict[str, str]]:
    """Return cluster, whether it leads, whether it knows a leader, and the members in what `cluster/status` prints."""
    said = dict(re.findall(r"^([A-Z][A-Za-z ]*): (.+)$", text, re.MULTILINE))
    found = re.search(r"\(([0-9a-f-]{36})\)", said.get("Cluster ID", ""))
    servers = re.findall(r"^\s+[0-9a-f]{4} \(([0-9a-f]{4}) at (\S+)\)", text, re.MULTILINE)
    leader = said.get("Leader", "unknown").strip()
    return found[1] if found else "", leader == "self", leader != "unknown", dict(servers)


def decide(
    database: Database, members: Mapping[str, Member], addresses: Mapping[str, str], bootstrap: str = ""
) -> Decision:
    """Return what each member does. `members` are those that were asked, `addresses` are of all that the plan has.

    `bootstrap` names the member whose data a new cluster begins with; it counts only where there is a problem.
    """
    places = {name: location(address, database.cluster_port) for name, address in addresses.items()}
    missing = [name for name in places if name not in members]
    # What the operator decides for all members, they must be there to take up.
    decision = _decided(members, places, missing)
    if not decision.problem or bootstrap not in members or missing:
        return decision
    return Decision(_anew(bootstrap, members, places), reason=f"ovn_bootstrap names {bootstrap}")


def _decided(members: Mapping[str, Member], places: Mapping[str, str], missing: Sequence[str]) -> Decision:
    problem = _problem(members)
    if problem:
        return Decision(problem=problem)
    clusters = {one.cluster for one in members.values() if one.cluster}
    if clusters:
        return _present(clusters.pop(), members, places, missing)
    if missing:
        return Decision(reason=f"{', '.join(missing)} were not asked")
    # Whoever waits to join waits for one that has lost its file since, or never had one.
    first = min(members, key=lambda name: (members[name].exists, name))
    steps = {
        name: Step(join=_others(places, name))
        for name, one in members.items()
        if name != first and not one.exists and len(places) > 1
    }
    steps[first] = Step(stop=members[first].active, set_aside=members[first].exists, create=True)
    return Decision(steps, reason="none of the members holds a database")


def _problem(members: Mapping[str, Member]) -> str:
    """Return why it cannot be known whose data is right."""
    clusters = {name: one.cluster for name, one in members.items() if one.cluster}
    if len(set(clusters.values())) > 1:
        return "the members belong to different clusters: " + ", ".join(f"{a} to {b}" for a, b in clusters.items())
    alone = [name for name, one in members.items() if one.standalone]
    return f"what {', '.join(alone)} hold{'' if alone[1:] else 's'} belongs to no cluster" if alone else ""


def _present(
    cluster: str, members: Mapping[str, Member], places: Mapping[str, str], missing: Sequence[str]
) -> Decision:
    """Return what is to be done where at least one member holds the cluster."""
    holders = {name: one for name, one in members.items() if one.cluster}
    majority = [name for name, one in holders.items() if one.active and one.leader]
    known: dict[str, str] = {}
    for name in majority or holders:
        known |= holders[name].servers
    if not majority:
        lost = _lost(members, known, missing)
        if lost:
            return Decision(problem=lost)
        if known and len(holders) < len(members):
            return Decision(reason="its members wait for others, which start")
    # Others removed it, or it has moved: only a cluster that works can say so.
    stale = [
        name
        for name, one in holders.items()
        if majority and name not in majority and (one.server[:4] not in known or one.address != places[name])
    ]
    healthy = [name for name in holders if name not in stale]
    join = tuple(places[name] for name in healthy)
    steps = {
        name: Step(stop=one.active, set_aside=one.exists, join=join, cluster=cluster)
        for name, one in members.items()
        if name in stale or not one.exists
    }
    kick, strangers = _lost_servers(known, members, places, steps) if majority else ((), ())
    if kick:
        steps[majority[0]] = Step(kick=kick)
    for name in majority:
        if holders[name].leads and holders[name].outdated:
            steps[name] = replace(steps.get(name, Step()), convert=True)
    return Decision(steps, reason=f"the cluster is {cluster}", strangers=strangers)


def on_hosts(database: Database, members: Mapping[str, Member], addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the identifiers of the servers that members count at the addresses of some hosts."""
    places = {location(address, database.cluster_port) for address in addresses if address}
    known = {number: place for one in members.values() for number, place in one.servers.items()}
    return tuple(sorted(number for number, place in known.items() if place in places))


def _lost(members: Mapping[str, Member], known: Mapping[str, str], missing: Sequence[str]) -> str:
    """Return that members wait for a majority that cannot come back, where that is certain."""
    left = [name for name, one in members.items() if one.cluster and one.server[:4] in known]
    if missing or not known or len(left) * 2 > len(known):
        return ""
    return f"of {len(known)} members only {', '.join(left) or 'none'} hold their data, which is no majority"


def _lost_servers(
    known: Mapping[str, str], members: Mapping[str, Member], places: Mapping[str, str], steps: Mapping[str, Step]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the identifiers that no member has any more, and the addresses of members that the plan does not have."""
    owners = {place: name for name, place in places.items()}
    current = {one.server[:4] for name, one in members.items() if one.server and name not in steps}
    former = {one.server[:4] for name, one in members.items() if one.server and name in steps}
    others = {number: place for number, place in known.items() if number not in current}
    gone = [number for number, place in others.items() if number in former or owners.get(place) in members]
    strangers = [place for number, place in others.items() if number not in former and place not in owners]
    return tuple(gone), tuple(strangers)


def _others(places: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(place for other, place in places.items() if other != name)


def _anew(first: str, members: Mapping[str, Member], places: Mapping[str, str]) -> dict[str, Step]:
    """Return the steps by which all members follow one of them."""
    steps = {
        name: Step(stop=one.active, set_aside=one.exists, join=(places[first],))
        for name, one in members.items()
        if name != first
    }
    begins = members[first]
    holds = bool(begins.cluster or begins.standalone)
    steps[first] = Step(stop=begins.active, set_aside=begins.exists, create=True, from_own=holds)
    return steps


def actions(database: Database, step: Step, address: str) -> list[str]:
    """Return what a step does as sentences, the same in check mode and in a run."""
    lines = [f"stop {database.unit}"] if step.stop else []
    lines += [f"set {database.file} aside"] if step.set_aside else []
    if step.create:
        begins = " with what it holds" if step.from_own else ""
        lines.append(f"begin a cluster of {database.name} at {address}{begins}")
    if step.join:
        lines.append(f"join the cluster of {database.name} at {', '.join(step.join)}")
    lines += [f"remove the lost member {one} from {database.name}" for one in step.kick]
    return [*lines, *([f"convert {database.name} to the schema of the package"] if step.convert else [])]
