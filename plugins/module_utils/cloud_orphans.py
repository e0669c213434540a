"""What Nova, Neutron and Placement keep and nobody wants: allocations of nobody, and agents and services of nobody's.

`allocations` and `agents` read, and return what may go as actions, and what stays although it looks like it, each with
the reason. Rules: nova.cmd.manage.PlacementCommands.audit at 2026.1 says which allocations are Nova's. Its `--delete`
is not used: it asks for instances by host and node, and so takes allocations from living ones too. Those are instances
that are being built or that move (Nova writes their host at the end), all of a compute node whose cell does not answer,
and all on a provider that several compute nodes share.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import host_removal
from ansible_collections.brume.cloud.plugins.module_utils.api_session import NOT_FOUND, ApiError, Record, Request, pages
from ansible_collections.brume.cloud.plugins.module_utils.convergence import Action, side_by_side, values
from ansible_collections.brume.cloud.plugins.module_utils.host_removal import Leaving

HEADERS = {
    "compute": {"OpenStack-API-Version": "compute 2.86"},
    "placement": {"OpenStack-API-Version": "placement 1.38"},
    "allocations": {"OpenStack-API-Version": "placement 1.28"},
}
"""2.59 tells migrations' UUIDs, 2.69 instances of cells that are down. 1.38 tells types of consumers; 1.28 does not
want them back, and `unknown` cannot be written."""

CLASSES = frozenset(
    (
        *("VCPU", "PCPU", "VGPU", "MEMORY_MB", "DISK_GB", "MEM_ENCRYPTION_CONTEXT"),
        *("NET_BW_EGR_KILOBIT_PER_SEC", "NET_BW_IGR_KILOBIT_PER_SEC"),
    )
)
"""Nova's resource classes, as its audit knows them: consumers of others alone are not Nova's."""

TYPES = ("unknown", "INSTANCE", "MIGRATION")
"""Nova gives its consumers no type; whoever gives another one is not Nova."""

ENDED = ("confirmed", "reverted", "completed", "done", "cancelled", "failed", "error")
"""What Nova does not count as in progress (nova.db.main.api.migration_get_in_progress_by_host_and_node)."""

AUDIT = "look at its instance, then `nova-manage placement audit --verbose` on a controller"
REMEDY = "next: put it into the group `removed` and run remove.yml (docs/operations/remove.md)"


@dataclass(frozen=True)
class Wish:
    """What is known of the cloud. `agents` are binary and host as the plan has them."""

    inventory: Collection[str]
    """Every host of the inventory, whatever its groups."""
    planned: Collection[str]
    agents: Collection[tuple[str, str]]
    before: datetime
    """What has reported since is left alone."""


@dataclass
class Found:
    """Actions, and one line for each thing that stays, with the reason."""

    actions: list[Action] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    """Consumers whose allocations go."""


# --- allocations ------------------------------------------------------------------------------------------------------


def allocations(apis: Mapping[str, Request]) -> Found:
    """Return the allocations whose consumer is unknown to Nova. Raises ConvergenceError, ApiError.

    Allocations are read first. Nova makes the record of an instance or migration before its allocations, so a consumer
    that is unknown afterwards will never be known.
    """
    compute, placement = apis["compute"], apis["placement"]
    host_removal.refuse_silent_cells(compute("GET", "/os-services")["services"])
    names = {one["uuid"]: one["name"] for one in placement("GET", "/resource_providers")["resource_providers"]}
    held = values(side_by_side({number: partial(consumers, placement, number) for number in names}))
    owners = {one for some in held.values() for one, what in some.items() if CLASSES & set(what["resources"])}
    if not owners:
        return Found()
    instances = {one["id"] for one in pages(compute, "/servers", "servers", all_tenants="true")}
    migrations = {one["uuid"]: one["status"] for one in pages(compute, "/os-migrations", "migrations")}
    found = Found()
    for owner in sorted(owners - instances):
        if owner in migrations:
            if migrations[owner] in ENDED:  # Nova may still take it back, or has forgotten to; a person has to tell
                found.left.append(f"allocations of migration {owner}: it is {migrations[owner]}; next: {AUDIT}")
            continue
        if _is_instance(compute, owner):  # a list may leave out what has just been asked for
            continue
        record = placement("GET", f"/allocations/{owner}")
        if not record.get("allocations"):  # its deletion was still under way
            continue
        where = ", ".join(sorted(names.get(number, number) for number in record["allocations"]))
        if record["consumer_type"] not in TYPES:
            found.left.append(f"allocations of {owner} on {where}: are of type {record['consumer_type']}, not Nova's")
            continue
        before = {
            "why": "no instance and no migration of Nova's has this number",
            **{names.get(number, number): one["resources"] for number, one in record["allocations"].items()},
        }
        apply = partial(_release, apis["allocations"], owner, record)
        found.released.append(owner)
        found.actions.append(Action("allocations", "delete", f"of {owner} on {where}", before, {}, apply))
    return found


def consumers(placement: Request, provider: str) -> dict[str, Any]:
    """Return what is allocated on a provider, by consumer; nothing where the provider is gone meanwhile."""
    try:
        return dict(placement("GET", f"/resource_providers/{provider}/allocations").get("allocations") or {})
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return {}


def _is_instance(compute: Request, number: str) -> bool:
    try:
        compute("GET", f"/servers/{number}")
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return False
    return True


def _release(placement: Request, owner: str, record: Record) -> None:
    """Take everything from a consumer; Placement refuses where its allocations have changed since they were read."""
    body = {name: record[name] for name in ("project_id", "user_id", "consumer_generation")}
    placement("PUT", f"/allocations/{owner}", {"allocations": {}, **body})


# --- agents and services ----------------------------------------------------------------------------------------------


def agents(wish: Wish, apis: Mapping[str, Request], released: Collection[str] = ()) -> Found:
    """Return records of hosts that left the inventory, and of agents of a kind that their host does not run any more.

    `released` are consumers whose allocations go before. Raises ConvergenceError, ApiError.
    """
    services = apis["compute"]("GET", "/os-services")["services"]
    host_removal.refuse_silent_cells(services)
    every = pages(apis["network"], "/v2.0/agents", "agents")
    found = Found()
    for host in sorted({one["host"] for one in (*services, *every) if one["host"]} - set(wish.inventory)):
        leaving = Leaving([host], lost=[host])
        actual = host_removal.fetch(leaving, apis)
        # Of a kind that the cloud does not use any more, nobody depends on an agent.
        used = {binary for binary, _host in wish.agents}
        actual.stranded = [one for one in actual.stranded if one[1] in used]
        reason = _stays(leaving, actual, wish, apis["placement"], released)
        if reason:
            found.left.append(f"{host}: is not in the inventory, and {reason}")
            continue
        last = max((seen for one in (*actual.services, *actual.agents) if (seen := _seen(one))), default=None)
        why = f"{host} is not in the inventory, and has not reported since {last:%Y-%m-%d %H:%M} UTC" if last else ""
        found.actions += [
            replace(one, before={**one.before, "why": why}) for one in host_removal.compare(leaving, actual, apis)
        ]
    _foreign(wish, apis["network"], services, every, found)
    return found


def _stays(
    leaving: Leaving, actual: host_removal.Actual, wish: Wish, placement: Request, released: Collection[str]
) -> str:
    """Return why records of a host that is not in the inventory stay, or nothing."""
    (host,) = leaving.hosts
    up = host_removal.reporting(host, actual)
    if up:
        return f"its {', '.join(up)} report; next: give it back to the inventory, or stop it"
    if not _all_silent([*actual.services, *actual.agents], wish.before):
        return f"has reported since {wish.before:%Y-%m-%d %H:%M} UTC; next: run again later (cleanup_agent_hours)"
    problems = host_removal.problems(leaving, actual, (), drains=False)
    if problems:
        return f"{problems[0].partition(': ')[2].partition('; next: ')[0]}; {REMEDY}"
    held = {owner for one in actual.providers for owner in consumers(placement, one["uuid"])} - set(released)
    return f"Placement counts {', '.join(sorted(held))} on it; {REMEDY}" if held else ""


def _foreign(
    wish: Wish, network: Request, services: Sequence[Record], every: Sequence[Record], found: Found
) -> None:
    """Add agents of a kind that the plan does not have on their host, as long as the host itself lives."""
    living = {one["host"] for one in services if one["state"] == "up"} | {one["host"] for one in every if one["alive"]}
    used = {binary for binary, _host in wish.agents}
    for agent in every:
        host, binary = agent["host"], agent["binary"]
        if host not in wish.planned or (binary, host) in wish.agents or agent["alive"]:
            continue
        label = f"{binary} of {host}"
        if host not in living:
            found.left.append(f"{label}: is not planned there, but nothing of the host reports; next: see to the host")
        elif (agent.get("configurations") or {}).get("chassis_name"):
            # Neutron would delete the chassis with it, which the host's OVN still is (ml2/drivers/ovn/mech_driver).
            found.left.append(f"{label}: is not planned there, but is one with the host's chassis in OVN")
        elif not _all_silent([agent], wish.before):
            found.left.append(f"{label}: is not planned there, but has reported since {wish.before:%Y-%m-%d %H:%M} UTC")
        elif binary in used and (bound := host_removal.stranded([agent], [host], network, every)):
            what = ", ".join(one[2] for one in bound)
            found.left.append(f"{label}: is not planned there, but nothing else serves {what}")
        else:
            before = {"heartbeat_timestamp": agent["heartbeat_timestamp"], "why": f"{host} does not run it any more"}
            apply = partial(host_removal.delete, network, f"/v2.0/agents/{agent['id']}")
            found.actions.append(
                Action("network agent", "delete", label, before, {}, apply, host_removal.REPORTED)
            )


def _all_silent(records: Sequence[Record], before: datetime) -> bool:
    """Return whether all have reported once, and none since a moment."""
    seen = [_seen(one) for one in records]
    return all(one is not None and one < before for one in seen)


def _seen(record: Record) -> datetime | None:
    """Return when a service of Nova's or an agent of Neutron's has last reported; both tell UTC."""
    said = record.get("heartbeat_timestamp") or record.get("updated_at")
    try:
        found = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
