"""The real state that scheduling is judged by, read from Nova and Placement; nothing is changed.

Paths and attributes are those of the Compute API (https://docs.openstack.org/api-ref/compute/) and of Placement's
(https://docs.openstack.org/api-ref/placement/). What the scheduler knows from Nova's database and no API tells is said
in `UNKNOWN`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.api_session import NOT_FOUND, ApiError, Record, Request, pages
from ansible_collections.brume.cloud.plugins.module_utils.convergence import side_by_side, values
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import (
    DISK_GB,
    MEMORY_MB,
    VCPU,
    ZONE_KEY,
    Aggregate,
    Flavor,
    Group,
    Host,
    Instance,
    Inventory,
    SchedulingError,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import Request as Asked

COMPUTE_VERSION = "2.86"
"""Hypervisors tell their use until 2.87."""
SERVER_VERSION = "2.100"
"""Servers tell the zone they are pinned to (2.96) and their image's properties (2.98)."""
PLACEMENT_VERSION = "1.39"

BUSY = ("BUILD", "REBUILD", "RESIZE")
"""Status of instances that count as operations in progress (nova.compute.stats.Stats.io_workload)."""

UNKNOWN = (
    "BuildFailureWeigher: failed builds are told by no API; 0 is assumed",
    "IoOpsWeigher: snapshots, backups, rescues and unshelves in progress are not counted",
)


@dataclass
class State:
    """What was read."""

    hosts: list[Host] = field(default_factory=list)
    aggregates: list[Aggregate] = field(default_factory=list)
    flavors: dict[str, Flavor] = field(default_factory=dict)
    """By name."""
    groups: list[Group] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def fetch(compute: Request, placement: Request) -> State:
    """Read hosts, aggregates, flavors and server groups. Raises ConvergenceError naming what could not be read."""
    lists: dict[str, Callable[[], Any]] = {
        "hypervisors": lambda: pages(compute, "/os-hypervisors/detail", "hypervisors", with_servers="true"),
        "aggregates": lambda: compute("GET", "/os-aggregates")["aggregates"],
        "flavors": lambda: pages(compute, "/flavors/detail", "flavors", is_public="None"),
        "server groups": lambda: _groups(compute),
        "resource providers": lambda: placement("GET", "/resource_providers")["resource_providers"],
        **{f"instances in {status}": partial(_busy, compute, status) for status in BUSY},
    }
    found = values(side_by_side(lists))
    busy = Counter(host for status in BUSY for host in found[f"instances in {status}"])
    nodes = found["hypervisors"]
    parts = {
        f"{part} of {node['hypervisor_hostname']}": partial(_provider, placement, node["id"], part)
        for node in nodes
        for part in ("inventories", "usages", "traits")
    }
    providers = values(side_by_side(parts))
    aggregates = {one["name"]: _aggregate(one) for one in found["aggregates"]}
    on: dict[str, list[Aggregate]] = {}
    for one in found["aggregates"]:
        for name in one.get("hosts") or ():
            on.setdefault(name, []).append(aggregates[one["name"]])
    hosts = [
        _host(node, on.get(node["service"]["host"], ()), busy[node["service"]["host"]], [
            providers[f"{part} of {node['hypervisor_hostname']}"] for part in ("inventories", "usages", "traits")
        ])
        for node in nodes
    ]  # fmt: skip
    twice = sorted(name for name, count in Counter(host.name for host in hosts).items() if count > 1)
    if twice:
        raise SchedulingError(f"hosts with several nodes cannot be judged: {', '.join(twice)}")
    names = {node["id"]: node["service"]["host"] for node in nodes}
    roots = {one["root_provider_uuid"] for one in found["resource providers"] if one.get("parent_provider_uuid")}
    nested = sorted(names[root] for root in roots if root in names)
    unknown = [
        *UNKNOWN,
        *([f"nested resource providers are not judged: {', '.join(nested)} have some"] if nested else []),
    ]
    where = {uuid: host.name for host in hosts for uuid in host.instances}
    flavors = {one["name"]: _flavor(one) for one in found["flavors"]}
    groups = [_group(one, where) for one in found["server groups"]]
    return State(hosts, list(aggregates.values()), flavors, groups, unknown)


def _groups(compute: Request) -> list[Record]:
    """Return all server groups; this list is paged by offset, and ends with an empty page."""
    size, found = 1000, list[Record]()
    while True:
        page = compute("GET", f"/os-server-groups?all_projects=true&limit={size}&offset={len(found)}")["server_groups"]
        found += page
        if not page:
            return found


def _busy(compute: Request, status: str) -> list[str]:
    found = pages(compute, "/servers/detail", "servers", all_tenants="true", status=status)
    return [one["OS-EXT-SRV-ATTR:host"] for one in found if one.get("OS-EXT-SRV-ATTR:host")]


def _provider(placement: Request, number: str, part: str) -> Record:
    """Return a part of a resource provider; an empty one where Placement does not know it (yet)."""
    try:
        return placement("GET", f"/resource_providers/{number}/{part}")
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return {}


def _aggregate(record: Record) -> Aggregate:
    metadata = dict(record.get("metadata") or {})
    if record.get(ZONE_KEY):
        metadata[ZONE_KEY] = record[ZONE_KEY]
    return Aggregate(record["name"], metadata)


def _flavor(record: Record) -> Flavor:
    return Flavor(
        record["name"],
        record["vcpus"],
        record["ram"],
        record["disk"],
        record.get("OS-FLV-EXT-DATA:ephemeral") or 0,
        int(record.get("swap") or 0),
        dict(record.get("extra_specs") or {}),
    )


def _group(record: Record, where: Mapping[str, str]) -> Group:
    members = frozenset(record.get("members") or ())
    limit = int((record.get("rules") or {}).get("max_server_per_host") or 1)
    hosts = frozenset(where[uuid] for uuid in members if uuid in where)
    return Group(record["id"], record["policy"], record["name"], limit, members, hosts)


def _host(node: Record, aggregates: Sequence[Aggregate], busy: int, provider: Sequence[Record]) -> Host:
    """Return a host as Nova's hypervisor and Placement's provider describe it (HostState.update)."""
    used = provider[1].get("usages") or {}
    inventories = {
        name: Inventory(
            one["total"], used.get(name, 0), one["reserved"], one["allocation_ratio"], one["min_unit"], one["max_unit"],
            one["step_size"],
        )
        for name, one in (provider[0].get("inventories") or {}).items()
    }  # fmt: skip
    ratios = {name: one.allocation_ratio for name, one in inventories.items()}
    least = node.get("disk_available_least")
    free = node["free_disk_gb"] if least is None else min(least, node["free_disk_gb"])
    information = node.get("cpu_info") or ""
    return Host(
        node["service"]["host"],
        inventories,
        frozenset(provider[2].get("traits") or ()),
        tuple(aggregates),
        disabled=node["status"] == "disabled",
        disabled_reason=node["service"].get("disabled_reason") or "",
        up=node["state"] == "up",
        vcpus_total=node["vcpus"],
        vcpus_used=node["vcpus_used"],
        cpu_allocation_ratio=ratios.get(VCPU, 1.0),
        ram_allocation_ratio=ratios.get(MEMORY_MB, 1.0),
        disk_allocation_ratio=ratios.get(DISK_GB, 1.0),
        total_usable_ram_mb=node["memory_mb"],
        free_ram_mb=node["free_ram_mb"],
        total_usable_disk_gb=node["local_gb"],
        disk_mb_used=node["local_gb_used"] * 1024,
        free_disk_mb=free * 1024,
        num_instances=node["running_vms"],
        num_io_ops=busy,
        instances=frozenset(one["uuid"] for one in node.get("servers") or ()),
        hypervisor_hostname=node["hypervisor_hostname"],
        hypervisor_type=node["hypervisor_type"],
        hypervisor_version=node["hypervisor_version"],
        host_ip=node["host_ip"],
        cpu_info=information if isinstance(information, str) else json.dumps(information),
    )


def servers_on(servers: Request, host: str) -> list[Record]:
    """Return the servers of all projects on a host, with what moving them takes (SERVER_VERSION). Raises ApiError."""
    return pages(servers, "/servers/detail", "servers", all_tenants="true", host=host)


def instance(record: Record, immovable: str = "", destinations: frozenset[str] | None = None) -> Instance:
    """Return a server as it is scheduled; its group is known from the groups' members.

    Of a server that boots from a volume Nova tells no image properties, so that none are judged.
    """
    size, image = record["flavor"], record.get("image") or {}
    flavor = Flavor(
        size["original_name"],
        size["vcpus"],
        size["ram"],
        size["disk"],
        size.get("ephemeral") or 0,
        int(size.get("swap") or 0),
        dict(size.get("extra_specs") or {}),
    )
    return Instance(
        record["id"],
        record["OS-EXT-SRV-ATTR:host"],
        flavor,
        record["name"],
        availability_zone=record.get("pinned_availability_zone") or "",
        project_id=record["tenant_id"],
        image_properties=dict(image.get("properties") or {}),
        boot_from_volume=not image,
        immovable=immovable,
        destinations=destinations,
    )


def staying(hosts: Iterable[Host], but: Iterable[str] = ()) -> list[Instance]:
    """Return the instances of hosts that are only there: they count for groups, and their sizes are in the hosts'."""
    nothing, left = Flavor("", 0, 0), frozenset(but)
    return [Instance(uuid, host.name, nothing) for host in hosts for uuid in sorted(host.instances - left)]


# --- described by a person --------------------------------------------------------------------------------------------


def described(items: Iterable[Mapping[str, Any]]) -> State:
    """Return the state that described hosts make: the options `hosts` of the module. Raises SchedulingError."""
    hosts = [_described(item) for item in items]
    twice = sorted(name for name, count in Counter(host.name for host in hosts).items() if count > 1)
    if twice:
        raise SchedulingError(f"hosts: described twice: {', '.join(twice)}")
    return State(hosts, list({one.name: one for host in hosts for one in host.aggregates}.values()))


def _described(item: Mapping[str, Any]) -> Host:
    names = {VCPU: "vcpus", MEMORY_MB: "memory_mb", DISK_GB: "disk_gb"}
    wrong = [key for key, value in item.items() if isinstance(value, (int, float)) and value < 0]
    if wrong:
        raise SchedulingError(f"hosts: {item['name']}: {', '.join(wrong)} below 0")
    inventories = {
        name: Inventory(
            item[option],
            item[f"{option}_used"],
            item[f"{option}_reserved"],
            item[f"{option}_allocation_ratio"],
            max_unit=max(item[option], 1),
        )
        for name, option in names.items()
    }
    inventories |= {name: Inventory(int(total)) for name, total in (item.get("resources") or {}).items()}
    aggregates = [
        Aggregate(one["name"], {key: str(value) for key, value in (one.get("metadata") or {}).items()})
        for one in item.get("aggregates") or ()
    ]
    if item.get(ZONE_KEY):
        aggregates.append(Aggregate(f"zone {item[ZONE_KEY]}", {ZONE_KEY: item[ZONE_KEY]}))
    processors, memory, disk = (inventories[name] for name in names)
    instances = frozenset(item.get("instances") or ())
    supported = item.get("supported_instances")
    return Host(
        item["name"],
        inventories,
        frozenset(item.get("traits") or ()),
        tuple(aggregates),
        disabled=item["disabled"],
        up=item["up"],
        vcpus_total=processors.total,
        vcpus_used=processors.used,
        cpu_allocation_ratio=processors.allocation_ratio,
        ram_allocation_ratio=memory.allocation_ratio,
        disk_allocation_ratio=disk.allocation_ratio,
        total_usable_ram_mb=memory.total,
        free_ram_mb=memory.total - memory.reserved - memory.used,
        total_usable_disk_gb=disk.total,
        disk_mb_used=disk.used * 1024,
        free_disk_mb=(disk.total - disk.used) * 1024,
        num_instances=item["num_instances"] or len(instances),
        num_io_ops=item["num_io_ops"],
        failed_builds=item["failed_builds"],
        instances=instances,
        hypervisor_hostname=item["name"],
        hypervisor_type=item.get("hypervisor_type") or "QEMU",
        hypervisor_version=item["hypervisor_version"],
        supported_instances=None if supported is None else tuple((str(a), str(b), str(c)) for a, b, c in supported),
    )


def asked_of(item: Mapping[str, Any], state: State, default_zone: str) -> Asked:
    """Return the request that the module's option `request` describes. Raises SchedulingError with every mistake."""
    wrong: list[str] = []
    hosts = {host.name for host in state.hosts}
    size = {key: value for key, value in item["flavor"].items() if value is not None}
    flavor = state.flavors.get(size["name"])
    if flavor is None and not {"vcpus", "ram"} <= set(size):
        known = f"known are {', '.join(sorted(state.flavors))}" if state.flavors else "there are none to look it up in"
        wrong.append(f"flavor: {size['name']} has no vcpus and ram; {known}")
    specs = {key: str(value) for key, value in (size.pop("extra_specs", None) or {}).items()}
    base = flavor or Flavor(size["name"], 0, 0)
    flavor = replace(base, **size, extra_specs=specs or base.extra_specs)
    if min(flavor.vcpus, flavor.ram, flavor.disk, flavor.ephemeral, flavor.swap) < 0:
        wrong.append("flavor: a size is below 0")
    if item["count"] < 1:
        wrong.append(f"count: {item['count']} is below 1")
    zone = item.get(ZONE_KEY) or ""
    zones = {host.zone or default_zone for host in state.hosts}
    if zone and zone not in zones:
        wrong.append(f"{ZONE_KEY}: no host is in zone {zone}; there are {', '.join(sorted(zones))}")
    for option in ("requested_host", "force_host"):
        if item.get(option) and item[option] not in hosts:
            wrong.append(f"{option}: there is no host {item[option]}")
    wrong += [f"ignore_hosts: there is no host {name}" for name in item.get("ignore_hosts") or () if name not in hosts]
    group = None
    if item.get("group"):
        try:
            group = _group_of(item["group"], state.groups)
        except SchedulingError as error:
            wrong.append(f"group: {error}")
    if wrong:
        raise SchedulingError("\n".join(f"request: {one}" for one in wrong))
    return Asked(
        flavor,
        count=item["count"],
        availability_zone=zone,
        image_properties=dict(item.get("image_properties") or {}),
        boot_from_volume=item["boot_from_volume"],
        group=group,
        project_id=item.get("project_id") or "",
        image_id=item.get("image_id") or "",
        requested_host=item.get("requested_host") or "",
        ignore_hosts=tuple(item.get("ignore_hosts") or ()),
        force_hosts=(item["force_host"],) if item.get("force_host") else (),
        same_host=tuple(item.get("same_host") or ()),
        different_host=tuple(item.get("different_host") or ()),
    )


def _group_of(item: Mapping[str, Any], groups: Sequence[Group]) -> Group:
    """Return a group that is there by its name or id, or one that is described by its policy."""
    if item.get("policy"):
        limit = item.get("max_server_per_host") or 1
        return Group(item.get("name") or "new", item["policy"], item.get("name") or "", limit)
    found = [one for one in groups if item["name"] in (one.uuid, one.name)]
    if len(found) != 1:
        raise SchedulingError(
            f"there {'is no group' if not found else f'are {len(found)} groups'} {item['name']}; give "
            f"{'the id of the right one' if found else 'the name of one, or a policy'}"
        )
    return found[0]
