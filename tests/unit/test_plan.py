"""The plan of the project's own services, for good inventories and for bad ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import netaddr
import pytest
from ansible_collections.brume.cloud.plugins.module_utils import plan_text, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import check
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
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
    golden("aio-files.txt", "\n".join(lines))


def test_units_of_one_host() -> None:
    found = planned(AIO)
    units = renderer(found).units(found.hosts["aio"], list(found.cloud.services))
    text = "\n".join(f"#### {one.instance.unit}\n{one.content}" for one in units if one.content)
    golden("aio-units.txt", _without_digests(text))


def _without_digests(text: str) -> str:
    for digests in sources.load().locks.values():
        for digest in digests.values():
            text = text.replace(digest, "<digest>")
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
