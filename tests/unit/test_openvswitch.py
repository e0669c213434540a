"""Bridges, ports and settings: what ovs-vsctl says, what is wanted, and the one transaction between them."""

from __future__ import annotations

import json

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.openvswitch import (
    Bridge,
    Switch,
    SwitchError,
    after,
    changes,
    needs_restart,
    parse,
    text,
    transaction,
    wanted,
)

BR_EX = {"name": "br-ex", "datapath_type": "netdev", "ports": ["eth1"]}
TSO = {"userspace-tso-enable": "true"}


def answer(ports: list[tuple[str, str]], members: object, datapath: str = "netdev") -> str:
    tables = [
        {"data": [["br-ex", datapath, members]], "headings": ["name", "datapath_type", "ports"]},
        {"data": [[["uuid", uuid], name] for uuid, name in ports], "headings": ["_uuid", "name"]},
        {
            "data": [[["map", [["hostname", "one"]]], ["map", [["userspace-tso-enable", "true"]]]]],
            "headings": ["external_ids", "other_config"],
        },
    ]
    return "".join(json.dumps(table) + "\n" for table in tables)


def test_reads_a_set_of_many_and_a_set_of_one() -> None:
    many = parse(answer([("a", "eth1"), ("b", "br-ex")], ["set", [["uuid", "a"], ["uuid", "b"]]]))
    assert many == Switch({"br-ex": Bridge("br-ex", "netdev", ("br-ex", "eth1"))}, TSO, {"hostname": "one"})
    one = parse(answer([("b", "br-ex")], ["uuid", "b"]))
    assert one.bridges["br-ex"].ports == ("br-ex",)


def test_an_answer_that_is_none() -> None:
    with pytest.raises(SwitchError, match="cannot be read"):
        parse("ovs-vsctl: no\n")


def test_everything_in_one_transaction_settings_first() -> None:
    found = changes(wanted([BR_EX], TSO), Switch())
    assert [change.action for change in found] == [
        "set other_config userspace-tso-enable to true",
        "create bridge br-ex",
        "set datapath_type of br-ex to netdev",
        "add port eth1 to br-ex",
    ]
    assert " ".join(transaction(found)) == (
        '-- set Open_vSwitch . other_config:userspace-tso-enable="true" -- add-br br-ex '
        '-- set Bridge br-ex datapath_type="netdev" -- add-port br-ex eth1'
    )


def test_nothing_when_it_is_so_and_foreign_ports_stay() -> None:
    have = Switch({"br-ex": Bridge("br-ex", "netdev", ("br-ex", "eth1", "phy-br-ex")), "br-int": Bridge("br-int")}, TSO)
    want = wanted([BR_EX], TSO)
    assert changes(want, have) == []
    assert after(want, have) == have


def test_what_a_diff_shows_is_what_follows() -> None:
    want = wanted([BR_EX], TSO)
    assert text(after(want, Switch()), want) == (
        "other_config userspace-tso-enable: true\nbridge br-ex: datapath netdev, ports br-ex eth1\n"
    )
    assert changes(want, after(want, Switch())) == []


def test_identifiers_are_set_and_those_without_a_value_removed() -> None:
    have = Switch({}, {}, {"rundir": "/run", "ovn-bridge-mappings": "external:br-ex", "hostname": "other"})
    want = wanted([], {}, {"hostname": "one", "ovn-bridge-mappings": "", "ovn-cms-options": ""})
    found = changes(want, have)
    assert [change.action for change in found] == [
        "set external_ids hostname to one",
        "remove external_ids ovn-bridge-mappings",
    ]
    assert " ".join(transaction(found)) == (
        '-- set Open_vSwitch . external_ids:hostname="one" -- remove Open_vSwitch . external_ids ovn-bridge-mappings'
    )
    assert after(want, have).external_ids == {"rundir": "/run", "hostname": "one"}
    assert text(have, want) == "external_ids hostname: other\nexternal_ids ovn-bridge-mappings: external:br-ex\n"
    assert changes(want, after(want, have)) == []


def test_a_port_of_another_bridge_is_never_taken_away() -> None:
    have = Switch({"br-other": Bridge("br-other", "", ("br-other", "eth1"))})
    with pytest.raises(SwitchError, match="eth1: is a port of br-other, wanted on br-ex"):
        changes(wanted([BR_EX], {}), have)


def test_one_port_for_two_bridges() -> None:
    with pytest.raises(SwitchError, match="eth1: given to br-ex and to br-2"):
        wanted([BR_EX, {"name": "br-2", "ports": ["eth1"]}], {})


def test_settings_that_wait_for_a_start() -> None:
    assert needs_restart(wanted([], {**TSO, "max-idle": "5"}), Switch()) == ["userspace-tso-enable"]
    assert needs_restart(wanted([], TSO), Switch({}, TSO)) == []
