"""Nova's cell mappings and host mappings, in one process of Nova's own Python.

`nova-manage cell_v2` takes URLs with passwords as arguments and costs four seconds a call. Here one process reads and
changes everything through Nova's objects (nova.objects.cell_mapping, host_mapping.discover_hosts at 2026.1); URLs reach
it on its standard input. What to change is decided here, without Nova.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.convergence import text_diff

CELL0 = "00000000-0000-0000-0000-000000000000"
"""nova.objects.CellMapping.CELL0_UUID: instances that were never scheduled."""

PROGRAM = r"""
import time
from oslo_utils import uuidutils
from nova.objects import host_mapping

def state():
    cells = objects.CellMappingList.get_all(ctx)
    hosts = objects.HostMappingList.get_all(ctx)
    return {
        "cells": [
            {"uuid": one.uuid, "name": one.name, "transport_url": one.transport_url,
             "database_connection": one.database_connection, "disabled": bool(one.disabled)}
            for one in cells
        ],
        "hosts": {one.host: one.cell_mapping.name for one in hosts},
    }

def unmapped():
    found = {}
    for cell in objects.CellMappingList.get_all(ctx):
        if not cell.is_cell0():
            with context.target_cell(ctx, cell) as cell_ctx:
                for node in objects.ComputeNodeList.get_all_by_not_mapped(cell_ctx, 1):
                    found[node.host] = cell.name
    return found

def do(order):
    if order["do"] == "read":
        return {**state(), "unmapped": unmapped() if order["unmapped"] else {}}
    if order["do"] == "create":
        objects.CellMapping(ctx, uuid=order["uuid"] or uuidutils.generate_uuid(), **order["values"]).create()
    if order["do"] == "update":
        one = objects.CellMapping.get_by_uuid(ctx, order["uuid"])
        for name, value in order["values"].items():
            setattr(one, name, value)
        one.save()
    if order["do"] == "discover":
        end = time.monotonic() + order["timeout"]
        while True:
            host_mapping.discover_hosts(ctx)
            found = state()["hosts"]
            missing = sorted(set(order["hosts"]) - set(found))
            if not missing or time.monotonic() > end:
                return {"missing": missing, "hosts": found}
            time.sleep(1)
    return {}
"""


@dataclass(frozen=True)
class Change:
    """One cell mapping to create or update; `values` hold secrets and are never printed."""

    verb: str
    uuid: str
    name: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the change for people, without a URL's value."""
        what = "" if self.verb == "create" else f" ({', '.join(sorted(self.values))})"
        return f"{self.verb} cell mapping {self.name}{what}"

    def diff(self) -> dict[str, str]:
        """Return the change as a diff; values are secrets, so their names stand for them."""
        after = "".join(f"{key}: <secret>\n" for key in sorted(self.values))
        before = "".join(f"{key}: <another secret>\n" for key in sorted(self.values)) if self.verb == "update" else ""
        return text_diff(f"cell mapping {self.name}", before, after)


def compare(wanted: Mapping[str, Mapping[str, str]], present: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Return what makes `present` mappings hold every wanted cell; others are left alone.

    `wanted` is name -> {transport_url, database_connection}; cell0 has no transport (`none:///`) and its own UUID.
    """
    changes = []
    by_name = {one["name"]: one for one in present}
    by_uuid = {one["uuid"]: one for one in present}
    for name, urls in wanted.items():
        uuid = CELL0 if name == "cell0" else ""
        values = {**urls, "transport_url": "none:///"} if name == "cell0" else dict(urls)
        found = by_uuid.get(uuid) if uuid else by_name.get(name)
        if found is None:
            changes.append(Change("create", uuid, name, {"name": name, "disabled": False, **values}))
            continue
        differing = {key: value for key, value in values.items() if found[key] != value}
        if differing:
            changes.append(Change("update", found["uuid"], name, differing))
    return changes


def to_map(
    wanted: Mapping[str, str], awaited: Iterable[str], mapped: Mapping[str, str], reported: Mapping[str, str]
) -> dict[str, str]:
    """Return the hosts that are to be mapped, host -> cell: all that have reported, and of `wanted` those `awaited`.

    A host that is wanted, and neither there nor about to come, is left to the run that deploys it.
    """
    coming = {host: wanted[host] for host in awaited if host in wanted}
    return {host: cell for host, cell in {**coming, **reported}.items() if host not in mapped}


def astray(wanted: Mapping[str, str], present: Mapping[str, str]) -> str:
    """Return what to say of hosts that are mapped to another cell than the wanted one, empty for none.

    Both are host -> cell. Nova does not move hosts: their instances are in the database of the cell they are in.
    """
    lines = [
        f"compute host {host} is mapped to {present[host]}, and its nova_cell is {cell}"
        for host, cell in sorted(wanted.items())
        if present.get(host, cell) != cell
    ]
    remedy = (
        "  next: say the cell that it is in; or move its instances away, stop its nova-compute, delete its compute "
        "service (openstack compute service delete), which takes it out of the cell, and run again"
    )
    return "\n".join([*lines, remedy]) if lines else ""
