"""What the inventory says about Nova's flavors, aggregates and cells: what is wrong, and what it comes to. Pure.

Limits are those of the Compute API's schemas (nova.api.openstack.compute.schemas at 2026.1). RULES are the plan's rules
for values of variables, see inventory_checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.convergence import duplicates
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import (
    Mistake,
    Rule,
    is_number,
    near,
    shown,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import ALL_WEIGHERS
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_filters import FILTERS
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_weighers import WEIGHERS

MAXIMUM = 2**31 - 1
"""Nova's columns are of 32 bits."""

NAME_LENGTH = 255
DESCRIPTION_LENGTH = 65535
SPEC = re.compile(r"[A-Za-z0-9_:. -]{1,255}")
"""Key of an extra spec."""

ZONE_KEY = "availability_zone"

Check = Callable[[Any], tuple[str, str] | None]
"""Returns what a value is not and the remedy, or nothing."""


def _count(least: int, unit: str) -> Check:
    remedy = f"write a whole number of {unit}, at least {least}"
    return lambda value: None if is_number(value) and least <= value <= MAXIMUM else (f"no number of {unit}", remedy)


def _factor(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return None if fits else ("no factor", "write a number above 0")


def _truth(value: Any) -> tuple[str, str] | None:
    return None if isinstance(value, bool) else ("neither true nor false", "write true or false")


def _state(value: Any) -> tuple[str, str] | None:
    return None if value in ("present", "absent") else ("no state", "write present or absent")


def _name(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str) and value.strip() == value and value.isprintable() and 0 < len(value) <= NAME_LENGTH:
        return None
    return "no name", f"write a text of 1 to {NAME_LENGTH} characters without spaces around it, numbers in quotes"


def _zone(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str) and ":" in value:
        return "no zone", "leave out the colon: users write zone:host"
    return _name(value)


def _description(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, str) and len(value) <= DESCRIPTION_LENGTH
    return None if fits else ("no description", f"write a text of at most {DESCRIPTION_LENGTH} characters")


def _pairs(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, Mapping):
        return "no mapping", "write `key: value` lines below it"
    for key, item in value.items():
        if not isinstance(key, str) or not SPEC.fullmatch(key):
            return f"no mapping of keys that Nova takes, because of {shown(key)}", "use letters, digits and - _ : ."
        if not isinstance(item, (str, int, float)) or len(str(item)) > NAME_LENGTH:
            return f"no mapping of short values, because of {key}", f"write at most {NAME_LENGTH} characters"
    return None


def _metadata(value: Any) -> tuple[str, str] | None:
    if isinstance(value, Mapping) and ZONE_KEY in value:
        return "no metadata alone, because it has the zone", f"write `{ZONE_KEY}` beside `metadata`"
    return _pairs(value)


def _texts(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
    return None if fits else ("no list of names", "write [one, other], or [] for none")


FLAVOR: Mapping[str, Check] = {
    "name": _name,
    "vcpus": _count(1, "processors"),
    "ram": _count(1, "MiB"),
    "disk": _count(0, "GiB"),
    "swap": _count(0, "MiB"),
    "ephemeral": _count(0, "GiB"),
    "rxtx_factor": _factor,
    "is_public": _truth,
    "description": _description,
    "extra_specs": _pairs,
    "projects": _texts,
    "replace": _truth,
    "state": _state,
}
AGGREGATE: Mapping[str, Check] = {
    "name": _name,
    ZONE_KEY: _zone,
    "metadata": _metadata,
    "hosts": _texts,
    "state": _state,
}


def _items(value: Any, keys: Mapping[str, Check], needed: Iterable[str]) -> Iterator[Mistake]:
    """Yield the mistakes of a list of objects; `needed` are the keys that an object has unless it is to go."""
    for place, item in enumerate(value):
        label = f".{item['name']}" if _name(item.get("name")) is None else f"[{place}]"
        for key, one in item.items():
            if key not in keys:
                meant = near(str(key), keys)
                hint = f"is {meant} meant?" if meant else f"use {', '.join(keys)}"
                yield f"{label}.{key}", "is not known", hint
                continue
            wrong = keys[key](one)
            if wrong:
                yield f"{label}.{key}", f"{shown(one)} is {wrong[0]}", wrong[1]
        for key in ("name", *(needed if item.get("state") != "absent" else ())):
            if key not in item:
                yield label, f"has no `{key}`", f"add `{key}: ...`"
    for name in duplicates(str(item["name"]) for item in value if "name" in item):
        yield f".{name}", "is said twice", "remove one of the two"


def _flavors(value: Any, services: Any) -> Iterator[Mistake]:
    yield from _items(value, FLAVOR, ("vcpus", "ram", "disk"))
    for item in value:
        if item.get("is_public") is True and "projects" in item:
            label = f".{item.get('name')}.projects"
            yield label, "names the projects of a flavor that all may use", "remove `projects`, or `is_public`"


def _aggregates(value: Any, services: Any) -> Iterator[Mistake]:
    yield from _items(value, AGGREGATE, ("hosts",))


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
