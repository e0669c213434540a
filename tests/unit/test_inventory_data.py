"""Ansible's inventory as layers: who said what, where, and with which precedence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager
from ansible_collections.brume.cloud.plugins.module_utils import inventory_data

HOSTS = """
all:
  children:
    control:
      hosts:
        one: {brume_addresses: {management: "192.0.2.{{ number }}"}, number: 11, other: left out}
    compute:
      hosts:
        two: {brume_addresses: {management: 192.0.2.12}}
"""


@pytest.fixture
def found(tmp_path: Path) -> inventory_data.Inventory:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text(HOSTS)
    (tmp_path / "group_vars/all.yml").write_text(
        "brume_region: here\nbrume_config: {a: 1}\nbrume_master_key: secret\nbrume_secrets: {a/b: c}\n"
    )
    (tmp_path / "group_vars/compute.yml").write_text("\nbrume_config: {a: 2}\nbrume_region: !unsafe '{{ address }}'\n")
    loader: Any = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(tmp_path / "hosts.yml")])
    return inventory_data.read(inventory, loader, VariableManager(loader, inventory), ["brume_"])


def test_layers_are_in_order_of_precedence(found: inventory_data.Inventory) -> None:
    layers = found.hosts["two"]
    assert [one.name for one in layers] == ["all", "group compute", "host two"]
    assert [one.variables.get("brume_config") for one in layers] == [{"a": 1}, {"a": 2}, None]


def test_what_hosts_share_is_one_object(found: inventory_data.Inventory) -> None:
    assert found.hosts["one"][0].variables["brume_config"] is found.hosts["two"][0].variables["brume_config"]


def test_a_place_is_file_and_line(found: inventory_data.Inventory) -> None:
    assert found.hosts["two"][1].where("brume_config").endswith("group_vars/compute.yml:2")


def test_templates_are_resolved_with_the_hosts_own_variables(found: inventory_data.Inventory) -> None:
    assert found.hosts["one"][-1].variables == {"brume_addresses": {"management": "192.0.2.11"}}


def test_a_protected_template_is_left_for_the_plan(found: inventory_data.Inventory) -> None:
    assert found.hosts["two"][1].variables["brume_region"] == "{{ address }}"


def test_secrets_stay_outside(found: inventory_data.Inventory) -> None:
    assert "brume_master_key" not in str(found.hosts)
    assert "brume_secrets" not in str(found.hosts)


def test_groups_have_their_hosts(found: inventory_data.Inventory) -> None:
    assert found.groups["control"] == ("one",)
    assert sorted(found.groups["all"]) == ["one", "two"]
