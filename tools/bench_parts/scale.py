"""How the plan and the rendering of everything grow with the number of hosts. No host is needed."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager
from ansible_collections.brume.cloud.plugins.module_utils import inventory_data, plan_text, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer

from tools.bench_parts.figures import Figure, growth
from tools.bench_parts.runs import Context, say

SIZES = (10, 100, 1000)
CONTROLLERS, NETWORK_HOSTS = 1, 1


def hosts(computes: int) -> dict[str, Any]:
    """Return an inventory of one controller, one network host and so many compute hosts, as its YAML file."""

    def named(prefix: str, count: int, third: int) -> dict[str, Any]:
        return {
            f"{prefix}{index:04}": {
                "brume_addresses": {
                    network: f"10.{second}.{third + index // 250}.{index % 250 + 1}"
                    for network, second in (("management", 10), ("tunnel", 11))
                }
            }
            for index in range(count)
        }

    groups = {
        "control": named("control", CONTROLLERS, 0),
        "network": named("network", NETWORK_HOSTS, 1),
        "compute": named("compute", computes, 2),
    }
    result: dict[str, Any] = {name: {"hosts": members} for name, members in groups.items()}
    for name in ("loadbalancer", "database", "messaging"):
        result[name] = {"children": {"control": {}}}
    return result


VARIABLES: dict[str, Any] = {
    "brume_services": ["keystone", "glance", "placement", "nova", "neutron"],
    "brume_networks": {
        "management": {"cidr": "10.10.0.0/16", "interface": "eth0"},
        "tunnel": {"cidr": "10.11.0.0/16", "interface": "eth2"},
        "external": {"cidr": "203.0.113.0/24", "interface": "eth1", "gateway": "203.0.113.1"},
    },
    "brume_workers": {"default": 4},
    "brume_config": {"nova": {"nova-compute.conf": {"DEFAULT": {"reserved_host_memory_mb": 1024}}}},
}


def write(folder: Path, computes: int) -> Path:
    """Write an inventory into a folder and return it. JSON is YAML that is read faster."""
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text(json.dumps(hosts(computes)), encoding="utf-8")
    (folder / "group_vars/all.yml").write_text(json.dumps(VARIABLES), encoding="utf-8")
    return folder


def functions(folder: Path) -> tuple[float, float, float, int]:
    """Return processor seconds of reading an inventory, of the plan and of the rendering, and the number of files."""
    project = sources.load()
    marks = [time.process_time()]
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(folder)])
    data = inventory_data.read(inventory, loader, VariableManager(loader=loader, inventory=inventory), ["brume_"])
    marks.append(time.process_time())
    planned = plan(data, project)
    marks.append(time.process_time())
    count, _size = plan_text.render_all(planned, Renderer(planned, project, run.placeholder_vault().value))
    marks.append(time.process_time())
    reading, planning, rendering = (after - before for before, after in pairwise(marks))
    return reading, planning, rendering, count


def measure(_context: Context) -> Iterator[Figure]:
    """Yield seconds and memory of `plan.yml --tags render`, seconds of the functions, and how both grow."""
    whole: list[tuple[int, float]] = []
    inner: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory(prefix="brume-bench-") as folder:
        for computes in SIZES:
            place = write(Path(folder) / str(computes), computes)
            number = computes + CONTROLLERS + NETWORK_HOSTS
            playbook = Context(str(place)).playbook("playbooks/plan.yml", "--tags", "render")
            reading, planning, rendering, count = functions(place)
            whole.append((number, playbook.seconds))
            inner.append((number, reading + planning + rendering))
            parts = f"read {reading:.2f} s, plan {planning:.2f} s, render {rendering:.2f} s, {count:,} files and units"
            say(f"{computes} compute hosts: {playbook.seconds:.1f} s, {playbook.mebibytes:.0f} MiB; {parts}")
            yield Figure(f"plan.yml --tags render, {computes} compute hosts", playbook.seconds)
            yield Figure(f"its memory, {computes} compute hosts", playbook.mebibytes, "MiB")
            yield Figure(f"functions alone, {computes} compute hosts", inner[-1][1], note=parts)
            yield Figure(f"functions alone, per host of {number}", 1000 * inner[-1][1] / number, "ms")
    for name, sizes in (("plan.yml", whole), ("functions alone", inner)):
        for small, large, factor in growth(sizes):
            note = "1 is linear, less is better than linear"
            yield Figure(f"{name}, cost of a host of {large} against one of {small}", factor, "times", note=note)
