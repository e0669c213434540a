"""What Nova, Neutron and Placement keep of hosts that leave the cloud: what is there, why it may not go, and its end.

`fetch` reads, the rest is pure but for the callables it hands out. Rules: nova.api.openstack.compute.services.delete at
2026.1 (a compute service takes its aggregates, provider and host mapping along, and does not go while there are
instances), neutron.db.agents_db, Placement's API reference (a provider goes after its children and its allocations).
A service that is not stopped would report in again, so hosts are stopped before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.api_session import NOT_FOUND, ApiError, Record, Request, pages
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    Action,
    ConvergenceError,
    side_by_side,
    values,
)
from ansible_collections.brume.cloud.plugins.module_utils.membership import POWER_OFF

COMPUTE = "nova-compute"
HEADERS = {
    "compute": {"OpenStack-API-Version": "compute 2.86"},
    "placement": {"OpenStack-API-Version": "placement 1.20"},
}
"""From 2.53 services and hypervisors are known by UUID, a hypervisor by its provider's; 1.14 has provider trees."""

BOUND = {
    "neutron-l3-agent": ("l3-routers", "routers", "l3-agents", "router"),
    "neutron-dhcp-agent": ("dhcp-networks", "networks", "dhcp-agents", "network"),
}
"""By an agent's binary: where what it serves is listed, its plural, where its agents are listed, and its name."""

SHOWN = 10
"""So many instances are named in a message."""

INSTANCE, COMPUTE_SERVICE, REPORTED, PROVIDER = 1000, 2000, 3000, 4000
"""Steps: instances that are given up, then what reports, then providers, those below others first."""

DELETED = ("DELETED", "SOFT_DELETED")
SECONDS = 300.0
"""Longest wait for an instance of a lost host to be gone: Nova's API deletes it itself."""

POLL = 2.0


@dataclass(frozen=True)
class Leaving:
    """The hosts to remove.

    `lost` are those that Ansible does not reach. With `accept_loss`, instances on those of them that are down in Nova
    too are deleted. `replaced` hosts stay in the cloud as new machines: only what a new nova-compute would take for an
    earlier start of its own goes.
    """

    hosts: Sequence[str]
    lost: Collection[str] = ()
    accept_loss: bool = False
    replaced: bool = False


@dataclass
class Actual:
    """What the APIs list of the hosts."""

    services: list[Record] = field(default_factory=list)
    agents: list[Record] = field(default_factory=list)
    servers: dict[str, list[Record]] = field(default_factory=dict)
    """By host."""
    providers: list[Record] = field(default_factory=list)
    """Roots and all below them."""
    stranded: list[tuple[str, str, str]] = field(default_factory=list)
    """Host, agent's binary and name of what only agents of lost hosts serve."""
    images: list[str] = field(default_factory=list)
    """Images that lie in files, by id."""


def fetch(leaving: Leaving, apis: Mapping[str, Request]) -> Actual:
    """Read what there is of the hosts, lists side by side. Raises ConvergenceError naming what could not be read.

    `apis` are `compute`, `network`, `placement`, and `image` where images that lie in files are asked for.
    """
    compute, placement = apis["compute"], apis["placement"]
    hosts = set(leaving.hosts)
    lists: dict[str, Callable[[], Any]] = {
        "list of compute services": lambda: compute("GET", "/os-services")["services"],
        "list of hypervisors": lambda: pages(compute, "/os-hypervisors/detail", "hypervisors"),
        "list of network agents": lambda: pages(apis["network"], "/v2.0/agents", "agents"),
        "list of resource providers": lambda: placement("GET", "/resource_providers")["resource_providers"],
    }
    if "image" in apis:
        lists["list of images"] = partial(_images, apis["image"])
    for host in leaving.hosts:
        lists[f"instances on {host}"] = partial(
            pages, compute, "/servers/detail", "servers", all_tenants="true", host=host
        )
    found = values(side_by_side(lists))
    services = [one for one in found["list of compute services"] if one["host"] in hosts]
    refuse_silent_cells(services)
    actual = Actual(
        services=services,
        agents=[one for one in found["list of network agents"] if one["host"] in hosts],
        servers={host: found[f"instances on {host}"] for host in leaving.hosts},
        images=found.get("list of images", []),
    )
    roots = {one["id"] for one in found["list of hypervisors"] if one["service"]["host"] in hosts}
    providers = found["list of resource providers"]
    roots |= {one["uuid"] for one in providers if one["name"] in hosts}
    actual.providers = [one for one in providers if one["root_provider_uuid"] in roots]
    if leaving.lost and not leaving.replaced:
        actual.stranded = stranded(actual.agents, leaving.lost, apis["network"], found["list of network agents"])
    return actual


def refuse_silent_cells(services: Iterable[Record]) -> None:
    """Raise ConvergenceError where a cell is down: Nova tells names alone of its services, and no instances."""
    unknown = sorted({one["host"] for one in services if "id" not in one})
    if unknown:
        raise ConvergenceError(
            f"the cell of {', '.join(unknown)} does not answer Nova\n"
            "  next: see the cell's database and broker, `openstack compute service list`, and run again"
        )


def _images(image: Request) -> list[str]:
    """Return the ids of active images whose data lies in Glance's file store."""
    found = []
    for hidden in ("false", "true"):
        path = f"/v2/images?visibility=all&os_hidden={hidden}&status=active"
        while path:
            body = image("GET", path)
            found += [one["id"] for one in body["images"] if "file" in str(one.get("stores", "file")).split(",")]
            path = body.get("next", "")
    return found


def stranded(
    agents: Iterable[Record], lost: Collection[str], network: Request, every: Iterable[Record]
) -> list[tuple[str, str, str]]:
    """Return what agents of lost hosts serve and no agent elsewhere that lives."""
    living = {one["id"] for one in every if one["alive"] and one["host"] not in lost}
    found = []
    for agent in agents:
        if agent["host"] not in lost or agent["binary"] not in BOUND:
            continue
        listed, plural, holders, what = BOUND[agent["binary"]]
        for one in _served(network, f"/v2.0/agents/{agent['id']}/{listed}", plural):
            others = network("GET", f"/v2.0/{plural}/{one['id']}/{holders}")["agents"]
            if not any(other["id"] in living for other in others):
                found.append((agent["host"], agent["binary"], f"{what} {one['id']}"))
    return found


def _served(network: Request, path: str, plural: str) -> list[Record]:
    """Return what an agent serves: nothing where the driver needs no such agents, so that Neutron has no list."""
    try:
        return list(network("GET", path)[plural])
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return []


def drained(leaving: Leaving, actual: Actual) -> list[str]:
    """Return the hosts that have something to drain: those that are reached and have a hypervisor, routers or DHCP."""
    binaries = [(one["host"], one["binary"]) for one in (*actual.services, *actual.agents)]
    return [
        host
        for host in leaving.hosts
        if host not in leaving.lost and any((host, binary) in binaries for binary in (COMPUTE, *BOUND))
    ]


def problems(leaving: Leaving, actual: Actual, files: Collection[str], *, drains: bool) -> list[str]:
    """Return why the hosts cannot go, each with the next step.

    `files` are the names in the image store of the controller that serves images afterwards. `drains` says that hosts
    which are reached are drained before, so that their instances do not matter yet.
    """
    found = []
    for host in leaving.hosts:
        up = reporting(host, actual)
        if host in leaving.lost and not leaving.replaced and up:
            found.append(f"{host}: Ansible does not reach it, and its {', '.join(up)} report; next: {POWER_OFF}")
        servers = actual.servers.get(host) or []
        if not servers or _is_new(leaving, host, actual):
            continue
        if leaving.replaced or host in leaving.lost:
            if not (leaving.accept_loss and _is_down(host, actual)):
                found.append(
                    f"{host}: is lost with {_named(servers)}; next: `openstack server evacuate <id>` builds each anew "
                    f"elsewhere; `-e {'replace' if leaving.replaced else 'remove'}_accept_loss=true` deletes them, and "
                    "volumes that end with their instance too"
                )
        elif not drains:
            found.append(f"{host}: still has {_named(servers)}; next: move or delete them, then run again")
    for host, binary, what in actual.stranded:
        kind = "l3" if binary == "neutron-l3-agent" else "dhcp"
        noun = what.partition(" ")[0]
        found.append(
            f"{host}: is lost, and nothing else serves {what}; next: `openstack network agent remove {noun} --{kind} "
            f"<its agent> <{noun}>` and `... add {noun} --{kind} <another> <{noun}>`"
        )
    controls = any(one["binary"] != COMPUTE for one in actual.services)
    missing = [image for image in actual.images if image not in files]
    if controls and missing and not leaving.accept_loss:
        shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else "")
        found.append(
            f"glance: the controller that serves images from now on lacks the files of {len(missing)}: {shown}; "
            "next: copy /var/lib/glance/images there with owners and modes (`rsync -a`); "
            "`-e remove_accept_loss=true` goes on without them"
        )
    return found


def compare(leaving: Leaving, actual: Actual, apis: Mapping[str, Request]) -> list[Action]:
    """Return the actions that end what there is of the hosts, in the order of their steps."""
    compute = apis["compute"]
    actions = []
    for host in leaving.hosts:
        if _is_new(leaving, host, actual):
            continue
        for one in actual.servers.get(host) or () if leaving.accept_loss and host in leaving.lost else ():
            label = f"{one['name']} ({one['id']}) of {host}"
            apply = partial(_give_up, compute, f"/servers/{one['id']}")
            actions.append(Action("instance", "delete", label, {"status": one.get("status")}, {}, apply, INSTANCE))
    for one in actual.services:
        if leaving.replaced and (one["binary"] != COMPUTE or _is_new(leaving, one["host"], actual)):
            continue
        step = COMPUTE_SERVICE if one["binary"] == COMPUTE else REPORTED
        apply = partial(delete, compute, f"/os-services/{one['id']}")
        before = {"status": one["status"], "state": one["state"]}
        # A controller has a conductor for each cell, and one above them.
        label = f"{one['binary']} of {one['host']} ({one['id']})"
        actions.append(Action("service", "delete", label, before, {}, apply, step))
    for one in actual.agents if not leaving.replaced else ():
        apply = partial(delete, apis["network"], f"/v2.0/agents/{one['id']}")
        before = {"admin_state_up": one["admin_state_up"], "alive": one["alive"]}
        label = f"{one['binary']} of {one['host']}"
        actions.append(Action("network agent", "delete", label, before, {}, apply, REPORTED))
    if not leaving.replaced or any(one.kind == "service" for one in actions):
        actions += _providers(actual.providers, apis["placement"])
    return sorted(actions, key=lambda action: action.step)


def _providers(providers: Sequence[Record], placement: Request) -> Iterable[Action]:
    """Yield the deletion of providers: Nova leaves those behind that it could not delete, and says so in its log."""
    parents = {one["uuid"]: one["parent_provider_uuid"] for one in providers}
    deepest = max((_depth(one["uuid"], parents) for one in providers), default=0)
    for one in providers:
        apply = partial(_delete_provider, placement, one["uuid"], one["name"])
        step = PROVIDER + deepest - _depth(one["uuid"], parents)
        yield Action("resource provider", "delete", one["name"], {"uuid": one["uuid"]}, {}, apply, step)


def _depth(number: str | None, parents: Mapping[str, str | None]) -> int:
    depth = 0
    while number and parents.get(number):
        number, depth = parents[number], depth + 1
    return depth


def reporting(host: str, actual: Actual) -> list[str]:
    """Return what of a host reports in."""
    services = [one["binary"] for one in actual.services if one["host"] == host and one["state"] == "up"]
    return services + [one["binary"] for one in actual.agents if one["host"] == host and one["alive"]]


def _is_down(host: str, actual: Actual) -> bool:
    """Return whether Nova counts a compute host as down."""
    return all(one["state"] == "down" for one in actual.services if one["host"] == host and one["binary"] == COMPUTE)


def _is_new(leaving: Leaving, host: str, actual: Actual) -> bool:
    """Return whether a replaced host has nothing of the machine before: its nova-compute has reported since."""
    return leaving.replaced and not any(
        one["host"] == host and one["binary"] == COMPUTE and one["state"] == "down" for one in actual.services
    )


def _named(servers: Sequence[Record]) -> str:
    """Return a number of instances with their ids."""
    shown = ", ".join(f"{one['id']} ({one['name']})" for one in servers[:SHOWN])
    more = f" and {len(servers) - SHOWN} more" if servers[SHOWN:] else ""
    return f"{len(servers)} instance{'s' if servers[1:] else ''}: {shown}{more}"


def delete(send: Request, path: str) -> None:
    """Delete what is at a path; that it is gone already, by Nova or by a run before, is no error."""
    try:
        send("DELETE", path)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise


def _give_up(compute: Request, path: str) -> None:
    """Delete an instance and wait until it is gone. Raises ConvergenceError."""
    delete(compute, path)
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            status = compute("GET", path)["server"]["status"]
        except ApiError as error:
            if error.status == NOT_FOUND:
                return
            raise
        if status in DELETED:
            return
        if time.monotonic() > deadline:
            raise ConvergenceError(f"is {status} {SECONDS:.0f} s after its deletion; look at it, then run again")
        time.sleep(POLL)


def _delete_provider(placement: Request, number: str, name: str) -> None:
    """Delete a provider. Raises ApiError with the next step where instances still hold something of it."""
    try:
        delete(placement, f"/resource_providers/{number}")
    except ApiError as error:
        held = placement("GET", f"/resource_providers/{number}/allocations").get("allocations") or {}
        if not held:
            raise
        raise ApiError(
            f"{error}; it still counts {', '.join(sorted(held))}\n"
            "  next: `playbooks/cleanup.yml` with the kind `allocations` removes what no instance has any more of "
            f"{name}, then run again",
            error.status,
        ) from error
