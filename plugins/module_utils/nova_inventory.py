"""What the inventory says about Nova's flavors, aggregates and cells: what is wrong, and what it comes to. Pure.

Limits are those of the Compute API's schemas (nova.api.openstack.compute.schemas at 2026.1). RULES are the plan's rules
for values of variables, see inventory_checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import inventory_items
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, Rule, near, shown
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import ALL_WEIGHERS
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_filters import FILTERS
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_weighers import WEIGHERS

ZONE_KEY = "availability_zone"

DESCRIPTION_LENGTH = 65535


def _factor(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return None if fits else ("no factor", "write a number above 0")


def _zone(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str) and ":" in value:
        return "no zone", "leave out the colon: users write zone:host"
    return inventory_items.name(value)


_pairs = inventory_items.pairs("Nova", re.compile(r"[A-Za-z0-9_:. -]{1,255}"))


def _metadata(value: Any) -> tuple[str, str] | None:
    if isinstance(value, Mapping) and ZONE_KEY in value:
        return "no metadata alone, because it has the zone", f"write `{ZONE_KEY}` beside `metadata`"
    return _pairs(value)


FLAVOR: Mapping[str, inventory_items.Check] = {
    "name": inventory_items.name,
    "vcpus": inventory_items.count(1, "processors"),
    "ram": inventory_items.count(1, "MiB"),
    "disk": inventory_items.count(0, "GiB"),
    "swap": inventory_items.count(0, "MiB"),
    "ephemeral": inventory_items.count(0, "GiB"),
    "rxtx_factor": _factor,
    "is_public": inventory_items.truth,
    "description": inventory_items.description(DESCRIPTION_LENGTH),
    "extra_specs": _pairs,
    "projects": inventory_items.texts,
    "replace": inventory_items.truth,
    "state": inventory_items.state,
}
AGGREGATE: Mapping[str, inventory_items.Check] = {
    "name": inventory_items.name,
    ZONE_KEY: _zone,
    "metadata": _metadata,
    "hosts": inventory_items.texts,
    "state": inventory_items.state,
}


def _flavors(value: Any, services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, FLAVOR, ("vcpus", "ram", "disk"))
    for item in value:
        if item.get("is_public") is True and "projects" in item:
            label = f".{item.get('name')}.projects"
            yield label, "names the projects of a flavor that all may use", "remove `projects`, or `is_public`"


def _aggregates(value: Any, services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, AGGREGATE, ("hosts",))


def _ratio(value: Any, services: Any) -> Iterator[Mistake]:
    if value < 0:
        yield "", f"{shown(value)} is below 0", "write a ratio, or 0 to leave it to Placement"


def _reserved(value: Any, services: Any) -> Iterator[Mistake]:
    if value < 0:
        yield "", f"{shown(value)} is below 0", "write how much of the host instances do not get"


RULES: Mapping[str, Rule] = {
    "nova_flavors": _flavors,
    "nova_aggregates": _aggregates,
    **{f"nova_{name}_allocation_ratio": _ratio for name in ("cpu", "ram", "disk")},
    **{f"nova_reserved_host_{name}": _reserved for name in ("cpus", "memory_mb", "disk_mb")},
}


def expanded(
    items: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]], compute: Sequence[str]
) -> tuple[list[dict[str, Any]], list[Mistake]]:
    """Return aggregates with their compute hosts in place of groups, and what is wrong with their hosts.

    Of a group those of its hosts count that are compute hosts.
    """
    result: list[dict[str, Any]] = []
    mistakes: list[Mistake] = []
    zones: dict[str, tuple[str, str]] = {}
    for item in items:
        hosts: dict[str, None] = {}
        for name in item.get("hosts") or ():
            found = [name] if name in compute else [host for host in groups.get(name, ()) if host in compute]
            if not found:
                known = "has no compute host" if name in groups else "is no compute host"
                meant = "" if name in groups else near(name, [*compute, *groups])
                remedy = f"is {meant} meant?" if meant else "name hosts of `compute`, or a group with some"
                mistakes.append((f".{item['name']}.hosts", f"{name} {known}", remedy))
            hosts.update(dict.fromkeys(found))
        result.append({**item, "hosts": list(hosts)} if "hosts" in item else dict(item))
        if item.get("state") == "absent" or not item.get(ZONE_KEY):
            continue
        for host in hosts:
            name, zone = zones.setdefault(host, (item["name"], item[ZONE_KEY]))
            if zone != item[ZONE_KEY]:
                message = f"{host} would be in the zone {item[ZONE_KEY]}, and by {name} in {zone}"
                mistakes.append((f".{item['name']}.hosts", message, "a host has one zone; take it out of one of them"))
    return result, mistakes


def cell_mistakes(cell: str, cells: Sequence[str]) -> list[Mistake]:
    """Return that a compute host's cell is none of the cloud's."""
    remedy = f"use one of {', '.join(cells)}, or add it to brume_cells"
    return [] if cell in cells else [("", f"{shown(cell)} is no cell", remedy)]


WEIGHER_MODULES = "nova.scheduler.weights."
PLACEMENT_DOES = frozenset({"AvailabilityZoneFilter", "CoreFilter", "DiskFilter", "RamFilter", "RetryFilter"})
"""Filters of earlier releases whose work Placement does now."""


def scheduler_mistakes(tree: Mapping[Any, Any]) -> list[Mistake]:
    """Return the filters and weighers of a `nova.conf` that Nova does not have at 2026.1: its scheduler does not start.

    Those of a module that the operator names in `available_filters` are known by their class; a function there gives
    any, and templates are not looked into.
    """
    options = tree.get("filter_scheduler")
    if not isinstance(options, Mapping):
        return []
    place, mistakes = ".filter_scheduler", list[Mistake]()
    own = [one for one in _listed(options.get("available_filters")) if one != "nova.scheduler.filters.all_filters"]
    known = {*FILTERS, *(one.rpartition(".")[2] for one in own)}
    opaque = any(not one.rpartition(".")[2][:1].isupper() for one in own)
    for name in [] if opaque else _listed(options.get("enabled_filters")):
        if name in PLACEMENT_DOES:
            remedy = "leave it out: Placement does its work"
            mistakes.append((f"{place}.enabled_filters", f"{name} is no more", remedy))
        elif name not in known and "{" not in name:
            meant = near(name, known)
            remedy = f"is {meant} meant?" if meant else "name its class in available_filters too, or leave it out"
            mistakes.append((f"{place}.enabled_filters", f"{name} is no filter of Nova", remedy))
    for path in _listed(options.get("weight_classes")):
        name = path.removeprefix(WEIGHER_MODULES).rpartition(".")[2]
        if path.startswith(WEIGHER_MODULES) and path != ALL_WEIGHERS and name not in WEIGHERS:
            meant = near(name, WEIGHERS)
            remedy = f"is {meant} meant?" if meant else f"use {ALL_WEIGHERS}, or the path of one of its classes"
            mistakes.append((f"{place}.weight_classes", f"{path} is no weigher of Nova", remedy))
    return mistakes


def _listed(value: Any) -> list[str]:
    """Return an option's list, which may be a text with commas."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [text for text in (str(one).strip() for one in items) if text]
