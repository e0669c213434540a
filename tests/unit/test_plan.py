"""The plan of the project's own services, for good inventories and for bad ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import netaddr
import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils import plan_text, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.locks import lock_digest
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import check
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, _all_ports, plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer

from .goldens import golden
from .inventories import AIO, IPV6, committed, inventory
from .playbooks import playbook

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"

IPV6_HOSTS = {
    name: {
        "brume_addresses": {
            "management": f"2001:db8:1::{number}",
            "tunnel": f"2001:db8:2::{number}",
            "api": f"2001:db8:3::{number}",
        }
    }
    for name, number in (("control1", 11), ("network1", 21), ("compute1", 31), ("compute2", 32))
}
IPV6_GROUPS = {
    "control": ["control1"],
    "loadbalancer": ["control1"],
    "database": ["control1"],
    "messaging": ["control1"],
    "network": ["network1"],
    "compute": ["compute1", "compute2"],
}


def planned(variables: dict[str, Any], **rest: Any) -> Plan:
    return plan(inventory(variables, **rest), sources.load())


def renderer(found: Plan) -> Renderer:
    return Renderer(found, sources.load(), lambda name: f"<{name}>")


def test_one_host() -> None:
    found = planned(AIO)
    golden("aio.txt", "\n".join(plan_text.summary(found)) + "\n")


def test_ipv6_only() -> None:
    found = planned(IPV6, hosts=IPV6_HOSTS, groups=IPV6_GROUPS)
    golden("ipv6.txt", "\n".join(plan_text.summary(found)) + "\n")
    texts = [
        one.text for host in found.hosts.values() for one in renderer(found).files(host, list(found.cloud.services))
    ]
    assert all(
        isinstance(address, netaddr.IPAddress) for host in found.hosts.values() for address in host.addresses.values()
    )
    assert not [line for text in texts for line in text.splitlines() if "192.0.2." in line]
    nova = next(text for text in texts if "[api_database]" in text)
    assert "@[2001:db8:1::11]:3306/nova_api?" in nova
    assert "@[2001:db8:1::11]:5671/nova" in nova
    assert "https://[2001:db8:1::5]:5000" in nova


@pytest.mark.parametrize("name", ["three_node", "ha"])
def test_several_hosts(name: str) -> None:
    found = plan(committed(name), sources.load())
    golden(f"{name}.txt", "\n".join(plan_text.summary(found)) + "\n")


@pytest.mark.parametrize("tags", [(), ("--tags", "render")])
def test_the_plan_asks_no_host(tags: tuple[str, ...], tmp_path: Path) -> None:
    shutil.copytree(INVENTORIES / "ha", tmp_path / "ha")
    done = playbook(tmp_path / "ha", "plan.yml", *tags)
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^(\S+) +: ok=", done.stdout, re.MULTILINE) == ["localhost"], "each host would cost time"


def test_a_cluster_of_three() -> None:
    found = plan(committed("ha"), sources.load())
    lines = [
        f"#### {one.entry.path}\n{one.text}"
        for one in renderer(found).files(found.hosts["controller2"], ["loadbalancer", "mariadb", "rabbitmq"])
    ]
    golden("ha-cluster-files.txt", "\n".join(lines))
    texts = [
        one.text
        for host in found.hosts.values()
        for one in renderer(found).files(host, ["keystone", "nova", "neutron", "glance", "placement"])
    ]
    databases = {
        line.partition("@")[2].partition("/")[0] for text in texts for line in text.splitlines() if "+pym" in line
    }
    assert databases == {"10.123.10.10:3306"}, "there is one writer, behind the load balancer"
    brokers = [line for text in texts for line in text.splitlines() if line.startswith("transport_url")]
    assert brokers
    assert all(line.count("@10.123.10.1") == 3 for line in brokers)


@pytest.mark.parametrize("host", ["aio"])
def test_every_file_of_one_host(host: str) -> None:
    found = planned(AIO)
    lines = []
    for one in renderer(found).files(found.hosts[host], list(found.cloud.services)):
        lines.append(f"#### {one.entry.path} {one.entry.owner}:{one.entry.group} {one.entry.mode}\n{one.text}")
    # Of a key for tests even: who searches the repository for keys shall find none.
    text = re.sub(
        r"(BEGIN OPENSSH PRIVATE KEY-----\n).*?\n(-----END)", r"\1<key>\n\2", "\n".join(lines), flags=re.DOTALL
    )
    golden("aio-files.txt", text)


def test_units_of_one_host() -> None:
    found = planned(AIO)
    units = renderer(found).units(found.hosts["aio"], list(found.cloud.services))
    text = "\n".join(f"#### {one.instance.unit}\n{one.content}" for one in units if one.content)
    golden("aio-units.txt", _without_digests(text))


def test_what_remembers_the_cells_starts_anew_with_another_one() -> None:
    def units(cells: list[str]) -> dict[str, str | None]:
        found = planned({**AIO, "brume_cells": cells})
        listed = renderer(found).units(found.hosts["aio"], list(found.cloud.services))
        return {one.instance.unit: one.content for one in listed}

    one, two = units(["cell1"]), units(["cell1", "cell2"])
    assert {name for name in one if one[name] != two[name]} == {
        f"nova-{name}.service" for name in ("api", "metadata", "scheduler", "conductor")
    }


def _without_digests(text: str) -> str:
    for texts in sources.load().locks.values():
        for lock in texts.values():
            text = text.replace(lock_digest(lock), "<digest>")
    return text


def test_no_secret_is_in_the_plan() -> None:
    found = planned(AIO)
    real = Renderer(found, sources.load(), run.placeholder_vault().value)
    text = json.dumps(plan_text.data(found, real))
    values = [run.placeholder_vault().value(one.secret) for one in (*found.cloud.databases, *found.cloud.vhosts)]
    assert values
    assert not [value for value in values if value in text]


def test_a_second_cell_is_an_inventory_entry() -> None:
    found = planned(AIO | {"brume_cells": ["cell1", "cell2"]})
    assert "nova_cell2" in [one.name for one in found.cloud.databases]
    assert "nova_cell2" in [one.name for one in found.cloud.vhosts]
    assert "nova-cell-conductor-cell2.service" in [one.unit for one in found.hosts["aio"].instances]


def two_cells(**variables: Any) -> Plan:
    """Return the plan of a controller with a compute host in each of two cells."""
    hosts: dict[str, dict[str, Any]] = {
        name: {"brume_addresses": {"management": f"192.0.2.1{place}"}}
        for place, name in enumerate(("control1", "compute1", "compute2"))
    }
    hosts["compute2"]["nova_cell"] = "cell2"
    groups = {name: ["control1"] for name in ("control", "network", "loadbalancer", "database", "messaging")}
    return planned(
        AIO | {"brume_cells": ["cell1", "cell2"], "openvswitch_datapath_type": "system"} | variables,
        hosts=hosts,
        groups={**groups, "compute": ["compute1", "compute2"], "rack1": ["control1", "compute2"]},
    )


def settings(found: Plan, host: str, file: str, cell: str = "") -> dict[str, dict[str, Any]]:
    service = sources.load().services["nova"]
    return renderer(found).tree(found.hosts[host], service, service.files[file], cell)[0]


def test_a_compute_host_speaks_with_its_own_cell() -> None:
    found = two_cells()
    one, two = (settings(found, host, "nova-compute.conf") for host in ("compute1", "compute2"))
    assert one["DEFAULT"]["transport_url"].endswith("/nova_cell1")
    assert two["DEFAULT"]["transport_url"].endswith("/nova_cell2")
    assert one["vnc"]["novncproxy_base_url"].endswith(":6080/vnc_auto.html")
    assert two["vnc"]["novncproxy_base_url"].endswith(":6081/vnc_auto.html")


def test_each_cell_has_console_ports_of_its_own() -> None:
    found = two_cells()
    units = {one.cell: one for one in found.hosts["control1"].instances if one.component == "novncproxy"}
    listens = {cell: one.listen.port for cell, one in units.items() if one.listen is not None}
    assert listens == {"cell1": 16080, "cell2": 16081}
    for cell, port in listens.items():
        assert settings(found, "control1", "nova-cell-{cell}.conf", cell)["vnc"]["novncproxy_port"] == str(port)
    frontends = {one.name: (one.port, one.servers[0].port) for one in found.cloud.frontends if "novnc" in one.name}
    assert frontends == {"nova-novncproxy": (6080, 16080), "nova-novncproxy-cell2": (6081, 16081)}
    taken = [(one.address, one.port) for one in found.hosts["control1"].ports]
    assert len(taken) == len(set(taken))


def test_the_ports_of_all_cells_are_held_against_those_of_others() -> None:
    component = sources.load().services["nova"].components["novncproxy"]
    assert _all_ports(component, 3) == [6080, 6081, 6082, 16080, 16081, 16082]


def test_an_environment_holds_what_its_host_needs() -> None:
    """libvirt-python is built against libvirt's headers, which hosts that run no instances do not have."""
    found = plan(committed("ha"), sources.load())
    nova = {
        name: one
        for name, host in found.hosts.items()
        for one in host.environments
        if one.service == "nova" and name in ("controller1", "compute1")
    }
    assert nova["controller1"].without == ("libvirt-python",)
    assert nova["compute1"].without == ()
    lock = sources.load().locks["nova"]["2026.1"]
    assert nova["compute1"].path.endswith(lock_digest(lock))
    assert nova["controller1"].digest != nova["compute1"].digest
    assert nova["controller1"].path.endswith(nova["controller1"].digest)


def test_ratios_and_what_is_reserved_are_said_by_host_or_group() -> None:
    tree = settings(two_cells(nova_cpu_allocation_ratio=2), "compute1", "nova-compute.conf")["DEFAULT"]
    assert (tree["cpu_allocation_ratio"], tree["ram_allocation_ratio"]) == ("2", "1.0")
    assert (tree["reserved_host_cpus"], tree["reserved_host_memory_mb"]) == ("0", "512")


def test_groups_of_an_aggregate_become_their_compute_hosts() -> None:
    found = two_cells(
        nova_aggregates=[
            {"name": "rack1", "availability_zone": "east", "hosts": ["rack1", "compute2"], "metadata": {"ssd": True}},
            {"name": "all", "hosts": ["compute"]},
            {"name": "none", "hosts": []},
            {"name": "old", "state": "absent"},
        ]
    )
    assert [one.get("hosts") for one in found.cloud.aggregates] == [["compute2"], ["compute1", "compute2"], [], None]
    assert found.cloud.aggregates[0]["metadata"] == {"ssd": True}


def test_a_generation_gives_an_account_of_its_own() -> None:
    found = planned(AIO | {"brume_secret_generations": {"nova/database": 2}})
    accounts = {one.name: one.account for one in found.cloud.databases}
    assert accounts["nova_api"] == "nova_api_2"
    assert accounts["keystone"] == "keystone"


def test_accounts_of_earlier_generations_are_known_for_their_removal() -> None:
    found = planned(AIO | {"brume_secret_generations": {"nova/database/nova_api": 3, "nova/messaging": 2, "glance": 2}})
    databases = {one.name: (one.account, one.former) for one in found.cloud.databases}
    assert databases["nova_api"] == ("nova_api_3", ("nova_api", "nova_api_2"))
    assert databases["glance"] == ("glance_2", ("glance",))
    assert databases["keystone"] == ("keystone", ())
    logins = {one.service: (one.name, one.former) for one in found.cloud.logins}
    assert logins["glance"] == ("glance_2", ("glance",))
    assert logins["nova"] == ("nova", ())
    vhosts = {one.name: (one.account, one.former) for one in found.cloud.vhosts}
    assert vhosts["nova"] == ("nova_2", ("nova",))
    assert vhosts["neutron"] == ("neutron", ())


def test_overrides_go_from_all_to_group_to_host() -> None:
    def override(value: str) -> dict[str, Any]:
        return {"brume_config": {"nova": {"nova.conf": {"DEFAULT": {value: value, "shared": value}}}}}

    own = {"aio": {"brume_addresses": {"management": "192.0.2.11"}, **override("host")}}
    found = planned(AIO | override("all"), hosts=own, layers={"compute": override("group")})
    entry = next(one for one in found.hosts["aio"].files if one.path == "/etc/nova/nova.conf")
    rendered = renderer(found).file(found.hosts["aio"], entry)
    for line in ("all = all", "group = group", "host = host", "shared = host"):
        assert line in rendered.text.splitlines()
    assert rendered.layers["DEFAULT", "shared"] == "host_vars/aio.yml"
    assert rendered.layers["DEFAULT", "all"] == "group_vars/all.yml"


def test_an_unknown_option_is_a_warning_that_names_it() -> None:
    found = planned(AIO | {"brume_config": {"nova": {"nova.conf": {"DEFAULT": {"a_drivers_own": 1}}}}})
    assert len(found.warnings) == 1
    assert "group_vars/all.yml: brume_config.nova.nova.conf.DEFAULT.a_drivers_own" in found.warnings[0]


def test_settings_fit_the_release() -> None:
    found = planned(AIO)
    project = sources.load()
    host = found.hosts["aio"]
    odd = []
    for entry in host.files:
        schema = project.schemas.get(entry.service, {}).get("2026.1")
        service = project.services[entry.service]
        if schema is None or not service.files[entry.name].settings:
            continue
        tree, _layers = renderer(found).tree(host, service, service.files[entry.name], entry.cell)
        odd += [f"{entry.path}: {finding}" for finding in check(schema, tree)]
    assert odd == []


def test_the_examples_of_flavors_and_aggregates_can_be_planned() -> None:
    text = (sources.COLLECTION / "docs/flavors-and-aggregates.md").read_text(encoding="utf-8")
    variables: dict[str, Any] = {}
    for part in text.split("```yaml\n")[1:]:
        variables |= yaml.safe_load(part.partition("```")[0])
    assert variables.pop("nova_cell") == "cell2"
    assert {"nova_flavors", "nova_aggregates", "brume_config", "nova_cpu_allocation_ratio"} <= set(variables)
    hosts = {name: {"brume_addresses": {"management": f"192.0.2.{10 + place}"}} for place, name in enumerate(
        ("control1", "compute1", "compute2")
    )}  # fmt: skip
    groups = {name: ["control1"] for name in ("control", "network", "loadbalancer", "database", "messaging")}
    groups |= {"compute": ["compute1", "compute2"], "rack2_hosts": ["compute2"]}
    variables["openvswitch_datapath_type"] = "system"
    found = planned(AIO | variables, hosts=hosts, groups=groups, layers={"rack2_hosts": {"nova_cell": "cell2"}})
    assert found.warnings == ()
    assert found.hosts["compute2"].cell == "cell2"
    assert [len(found.cloud.flavors), len(found.cloud.aggregates)] == [3, 3]
    defaults = yaml.safe_load((sources.COLLECTION / "roles/nova/defaults/main.yml").read_text(encoding="utf-8"))
    assert {name: value for name, value in variables.items() if name.endswith(("ratio", "cpus", "mb"))} == {
        name: value for name, value in defaults.items() if name.endswith(("ratio", "cpus", "mb"))
    }
