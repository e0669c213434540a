"""Whether clusters of databases and brokers can do without some of their members, from what the others say. Pure.

A cluster goes on while more than half of the members that it counts are there, and a member that is lost counts until
the others have let it go. So those that stay must all serve, and be more than half of all. Sources: galeracluster.com,
"Weighted Quorum"; rabbitmq.com, "Clustering and Network Partitions" (pause_minority) and "Quorum Queues"; ovsdb(7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import galera, ovn

PRIMARY = "Primary"
ALONE = ("", "Disconnected")
"""What a server that is in no cluster says of its component."""

POWER_OFF = "power it off, or mend the way to it, then run again"


@dataclass(frozen=True)
class Members:
    """Who is to go on, by group, with the addresses, and who is not.

    `leaving` are hosts whose member is lost or about to go, with their addresses, `unreachable` those of them that
    Ansible does not reach.
    """

    database: Sequence[str]
    messaging: Sequence[str]
    ovn: Sequence[str]
    leaving: Mapping[str, str]
    unreachable: Collection[str] = ()


def problems(hosts: Members, said: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return why the members in `leaving` cannot go, each with the next step.

    `said` is kind (`mariadb`, `rabbitmq`, `ovn`) -> host -> what the module of that kind has returned.
    """
    return [
        *_database(hosts, said.get("mariadb") or {}),
        *_messaging(hosts, said.get("rabbitmq") or {}),
        *_ovn(hosts, said.get("ovn") or {}),
    ]


def _database(hosts: Members, said: Mapping[str, Any]) -> Iterable[str]:
    members = {name: galera.Member(**said[name]) if name in said else galera.Member() for name in hosts.database}
    alone = len(members) == 1 and all(one.active and one.cluster_status in ALONE for one in members.values())
    if alone or not said:
        return
    for name, one in members.items():
        if not one.active or one.cluster_status != PRIMARY:
            state = f"is in a component that is {one.cluster_status or 'none'}" if one.active else "does not run"
            yield f"database: the member on {name} {state}; next: `site.yml` brings it back, then run again"
    size = max((one.size for one in members.values()), default=0)
    if hosts.unreachable and size > len(members) + len(hosts.leaving) - len(hosts.unreachable):
        names = ", ".join(hosts.unreachable)
        yield f"database: {size} members run, one where Ansible does not reach it ({names}); next: {POWER_OFF}"
    yield from _minority("database", len(members), size)


def _messaging(hosts: Members, said: Mapping[str, Any]) -> Iterable[str]:
    running: set[str] = set()
    counted: set[str] = set()
    for name in hosts.messaging if said else ():
        member = said.get(name) or {}
        if not member.get("active"):
            yield f"messaging: the broker on {name} does not run; next: `site.yml` brings it back, then run again"
        running |= set(member.get("running") or ())
        counted |= set(member.get("nodes") or ())
    known = {f"rabbit@{name}" for name in (*hosts.messaging, *hosts.leaving)}
    for node in sorted(counted - known):
        yield (
            f"messaging: the cluster counts {node}, which no host of the inventory is; next: "
            f"`rabbitmqctl forget_cluster_node {node}` on a broker, then run again"
        )
    for name in hosts.leaving:
        if name in hosts.unreachable and f"rabbit@{name}" in running:
            yield f"messaging: the broker on {name} runs, and Ansible does not reach the host; next: {POWER_OFF}"
    yield from _minority("messaging", len(hosts.messaging), len(counted & known))


def _ovn(hosts: Members, said: Mapping[str, Any]) -> Iterable[str]:
    for database_name, database in ovn.DATABASES.items() if said else ():
        members = {name: ovn.Member(**said[name][database_name]) for name in hosts.ovn if name in said}
        place = f"{database_name} of OVN"
        for name in hosts.ovn:
            if name not in members or not members[name].active or not members[name].leader:
                yield f"{place}: {name} is in no majority; next: `site.yml` brings it back, then run again"
        own = {ovn.location(address, database.cluster_port) for address in hosts.leaving.values() if address}
        counted = {server for one in members.values() for server in one.servers.values()}
        yield from _minority(place, len(hosts.ovn), max(len(counted), len(hosts.ovn)) if counted & own else 0)


def _minority(what: str, staying: int, counted: int) -> Iterable[str]:
    """Yield that those who stay would be no majority of the members that their cluster counts."""
    if staying * 2 <= counted:
        yield (
            f"{what}: of {counted} members {staying} would stay, which is no majority; next: "
            + ("add a member first (docs/hosts.md)" if counted == 2 else "remove one host at a time, or add some first")  # noqa: PLR2004
        )


def incomplete(
    hosts: Members,
    said: Mapping[str, Mapping[str, Any]],
    asked: Collection[str] | None = None,
    away: Mapping[str, str] | None = None,
) -> list[str]:
    """Return what is missing in the clusters of the hosts that are to go on, with the next step.

    Only what those see counts that are in `asked`, where it is given. `away` is kind -> host whose member of that kind
    is known to be stopped: instead of it, all others that have said something must see each other.
    """
    gone = away or {}

    def asked_of(kind: str, names: Sequence[str]) -> list[str]:
        if len(names) < 2:  # noqa: PLR2004
            return []
        told = said.get(kind) or {}
        others = [name for name in names if name != gone.get(kind)]
        return [name for name in others if asked is None or name in asked or (kind in gone and name in told)]

    found = []
    most = len(hosts.database)
    for name in asked_of("mariadb", hosts.database):
        member = galera.Member(**said.get("mariadb", {}).get(name, {}))
        if member.cluster_status != PRIMARY or not most - ("mariadb" in gone) <= member.size <= most:
            found.append(f"database: {name} sees {member.size} of {most} members")
    wanted = {f"rabbit@{name}" for name in hosts.messaging if name != gone.get("rabbitmq")}
    for name in asked_of("rabbitmq", hosts.messaging):
        unseen = wanted - set(said.get("rabbitmq", {}).get(name, {}).get("running") or ())
        if unseen:
            found.append(f"messaging: {name} does not see {', '.join(sorted(unseen))}")
    for name in asked_of("ovn", hosts.ovn):
        for database, values in said.get("ovn", {}).get(name, {}).items():
            member_ovn = ovn.Member(**values)
            if not member_ovn.leader or len(member_ovn.servers) != len(hosts.ovn):
                found.append(f"{database} of OVN: {name} sees {len(member_ovn.servers)} of {len(hosts.ovn)} members")
    return found


def lost_without(hosts: Members, name: str) -> list[str]:
    """Return the clusters that stop serving while one of their members is away."""
    kinds = {"database": hosts.database, "messaging": hosts.messaging, "OVN's databases": hosts.ovn}
    return [
        f"{kind} would stop, since {len(members) - 1} of {len(members)} are no majority"
        for kind, members in kinds.items()
        if name in members and any(_minority(kind, len(members) - 1, len(members)))
    ]
