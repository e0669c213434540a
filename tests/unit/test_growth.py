"""A host more: no other host's files change, and a run that is limited to it does what it needs elsewhere."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils import sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer

from .inventories import committed, inventory
from .playbooks import ROOT, playbook

NEW = {"compute": "compute3", "network": "network3"}

DIFFERENCES: dict[tuple[str, str], set[str]] = {
    ("ha", "compute"): set(),
    ("ha", "network"): set(),
    ("three_node", "compute"): set(),
    # With a second network host routers and DHCP become redundant, which Neutron's server decides.
    ("three_node", "network"): {
        "controller1: /etc/neutron/neutron.conf: dhcp_agents_per_network",
        "controller1: /etc/neutron/neutron.conf: l3_ha",
    },
}
"""Inventory and group of a new host -> host, file and option of each line that differs on other hosts."""


def texts(found: Plan) -> dict[str, list[str]]:
    """Return the lines of each host's files and units, each with its file, and whatever else the plan says of it."""
    renderer = Renderer(found, sources.load(), lambda name: f"<{name}>")
    services = list(found.services)
    result = {}
    for host in found.hosts.values():
        files = {one.entry.path: one.text for one in renderer.files(host, services)}
        files |= {one.instance.unit: one.content or "" for one in renderer.units(host, services)}
        files["the plan"] = f"{host.packages}\n{host.instances}\n{host.ports}\n{host.environments}\n{host.users}"
        result[host.name] = [f"{name}: {line}" for name, text in files.items() for line in text.splitlines()]
    return result


@pytest.mark.parametrize("more", [{}, {"neutron_driver": "ovn"}, {"neutron_distributed_routers": True}])
@pytest.mark.parametrize(("name", "group"), DIFFERENCES)
def test_a_new_host_changes_no_other_hosts_files(name: str, group: str, more: dict[str, Any]) -> None:
    present = committed(name)
    own = {host: dict(layers[-1].variables) for host, layers in present.hosts.items()}
    variables = dict(next(iter(present.hosts.values()))[0].variables) | more
    networks = {role: variables["brume_networks"][role]["cidr"].rpartition(".")[0] for role in ("management", "tunnel")}
    new = {NEW[group]: {"brume_addresses": {role: f"{network}.39" for role, network in networks.items()}}}
    groups = {one: list(hosts) for one, hosts in present.groups.items()}
    before = plan(inventory(variables, hosts=own, groups=groups), sources.load())
    grown = {**groups, group: [*groups[group], NEW[group]]}
    after = plan(inventory(variables, hosts=own | new, groups=grown), sources.load())
    changed, kept = texts(after), texts(before)
    assert set(changed) - set(kept) == set(new)
    differing = {
        f"{host}: {line.partition(' = ')[0]}"
        for host, lines in kept.items()
        for line in set(lines) ^ set(changed[host])
    }
    assert differing == (set() if "neutron_driver" in more else DIFFERENCES[name, group])
    assert before.cloud.frontends == after.cloud.frontends
    assert (before.cloud.databases, before.cloud.vhosts) == (after.cloud.databases, after.cloud.vhosts)


HOSTS = """
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: {python}
    brume_networks:
      management: {{cidr: 192.0.2.0/24, interface: nowhere1}}
      external: {{cidr: 198.51.100.0/24, interface: nowhere0}}
    nova_flavors: [{{name: small, vcpus: 1, ram: 512, disk: 1}}]
    nova_aggregates: [{{name: rack1, hosts: [compute1]}}, {{name: rack2, hosts: [compute2]}}]
  children:
    control:
      hosts:
        controller1: {{brume_addresses: {{management: 192.0.2.11}}}}
    network: {{children: {{control: {{}}}}}}
    compute:
      hosts:
        compute1: {{brume_addresses: {{management: 192.0.2.31}}}}
        compute2: {{brume_addresses: {{management: 192.0.2.32}}}}
    loadbalancer: {{children: {{control: {{}}}}}}
    database: {{children: {{control: {{}}}}}}
    messaging: {{children: {{control: {{}}}}}}
"""
"""All hosts are this one, on which a dry run finds no cloud yet."""

PLAYS = ("Plan", "Roll out core on network and compute hosts", "Register")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an inventory."""
    path = tmp_path / "inventory"
    (path / "group_vars").mkdir(parents=True)
    (path / "hosts.yml").write_text(HOSTS.format(python=sys.executable))
    key = base64.b64encode(bytes(range(32))).decode()
    (path / "group_vars/all.yml").write_text(f"---\nbrume_master_key: {key}\n")
    return path


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (
            "all",
            {
                "map compute host compute1 to cell1",
                "map compute host compute2 to cell1",
                "create flavor small",
                "create aggregate rack1",
                "create aggregate rack2",
                "create member compute1 of aggregate rack1",
                "create member compute2 of aggregate rack2",
            },
        ),
        (
            "compute2",
            {
                "map compute host compute2 to cell1",
                "create aggregate rack2",
                "create member compute2 of aggregate rack2",
            },
        ),
        ("controller1", {"create flavor small", "create aggregate rack1", "create aggregate rack2"}),
    ],
)
def test_what_is_registered_of_the_hosts_in_play(folder: Path, limit: str, expected: set[str]) -> None:
    """The first controller does it, whichever hosts the run is limited to, and says that it does."""
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    chosen = folder.parent / "register.yml"
    chosen.write_text(yaml.safe_dump([one for one in plays if one["name"] in PLAYS]))
    done = playbook(folder, str(chosen), "--limit", limit, "--check", "--tags", "rollout,register", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Could not match supplied host pattern" not in done.stdout + done.stderr
    found = re.findall(r"^changed: \[(\S+?)(?: -> (\S+?))?\] => (\{.*\})$", done.stdout.replace("\n    ", ""), re.M)
    assert {sentence for _host, _where, text in found for sentence in json.loads(text)["actions"]} == expected
    assert {where or host for host, where, _text in found} <= {"controller1", "controller1(192.0.2.11)"}


@pytest.mark.parametrize(
    ("options", "held"),
    [
        (("--limit", "compute2"), True),
        (("--limit", "compute2", "--tags", "always,register"), True),
        (("--limit", "compute2", "--tags", "always,configure"), False),
        (("--limit", "controller1,compute2"), False),
        ((), False),
    ],
)
def test_the_first_controller_is_held_where_something_is_registered(
    folder: Path, options: tuple[str, ...], held: bool
) -> None:
    tasks = yaml.safe_load((ROOT / "roles/preflight/tasks/main.yml").read_text())
    task = next(one for one in tasks if one["name"] == "Hold the first controller too")
    task["brume.cloud.run_lock"] = {"folder": str(folder.parent / "locks")}
    play = {"name": "Hold", "hosts": "control:compute", "gather_facts": False, "tags": "always", "tasks": [task]}
    (folder.parent / "hold.yml").write_text(yaml.safe_dump([play]))
    done = playbook(folder, str(folder.parent / "hold.yml"), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("ok: [compute2 -> controller1]" in done.stdout) is held, done.stdout
    assert (folder.parent / "locks/run.lock").exists() is held


@pytest.mark.parametrize(
    "text",
    [
        "brume_region: here: there\n",
        "brume_workers: many\nnova_cpu_allocation_ratio: -1\nbrume_secrets: {nova/keystone: a b}\n",
    ],
)
def test_a_limited_run_tells_the_mistakes_of_the_inventory_first(folder: Path, text: str) -> None:
    (folder / "group_vars/all.yml").write_text(text)
    told = []
    for options in ((), ("--limit", "compute2")):
        done = playbook(folder, "site.yml", *options)
        assert done.returncode, done.stdout
        failed = re.findall(r"^fatal: \[\S+\]: FAILED! => (\{.*\})$", done.stdout, re.M)
        told.append([json.loads(one)["msg"] for one in failed] or done.stderr)
        assert "Read the host" not in done.stdout
    assert told[0] == told[1]
    assert told[0]
