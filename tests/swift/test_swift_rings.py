"""Declared rings: what is refused, and what differs from a builder, without Swift."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import swift_rings
from ansible_collections.brume.cloud.plugins.module_utils.swift_rings import Found, compare, parse, refusals

from .swift_cluster import device, devices, key, ring


def found(items: list[dict[str, Any]], **values: Any) -> Found:
    """Return a builder with devices as they were declared, in this order, with 10 partitions each."""
    kept = [
        {"id": number, "replication_ip": one["ip"], "replication_port": one["port"], "meta": "", "parts": 10, **one}
        for number, one in enumerate(items)
    ]
    fields = {"part_power": 7, "next_part_power": None, "replicas": 3.0, "min_part_hours": 1, "overload": 0.0}
    return Found(**{**fields, **values, "devices": kept})


def said(items: list[dict[str, Any]], there: Found | None, **options: Any) -> list[str]:
    """Return the actions for a ring of these devices."""
    values = {name: options.pop(name) for name in ("part_power", "replicas", "overload") if name in options}
    rings, problems = parse([ring(devices=items, **values)])
    assert not problems
    return [str(one) for one in compare(rings[0], there, **options)]


SIX = devices(disks=1)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": "objects"}, "ring objects: name: 'objects' is no ring; use account, container, object or object-1"),
        ({"name": "log"}, "ring log: name: 'log' is no ring; use account, container, object or object-1"),
        ({"name": "object-0"}, "ring object-0: name: 'object-0' is no ring; use account, container, object or "
                               "object-1"),
        ({"part_power": 0}, "ring object: part_power: 0 is no power; write a whole number from 1 to 32"),
        ({"part_power": 33}, "ring object: part_power: 33 is no power; write a whole number from 1 to 32"),
        ({"part_power": True}, "ring object: part_power: True is no power; write a whole number from 1 to 32"),
        ({"replicas": 0.5}, "ring object: replicas: 0.5 is no number of replicas; write a number from 1 up, such as 3"),
        (
            {"replicas": float("nan")},
            "ring object: replicas: nan is no number of replicas; write a number from 1 up, such as 3",
        ),
        (
            {"min_part_hours": 256},
            "ring object: min_part_hours: 256 is no number of hours; write a whole number from 0 to 255",
        ),
        ({"overload": -0.1}, "ring object: overload: -0.1 is no share; write a number from 0 up, 0.1 is 10 %"),
        (
            {"devices": []},
            "ring object: devices: none has weight; declare at least one device with a weight above 0",
        ),
        (
            {"devices": [device(zone, 1) for zone in (1, 2)]},
            "ring object: devices: 2 with weight above 0 are fewer than 3 replicas, which would lie on the same "
            "device; declare more devices, or fewer replicas",
        ),
        (
            {"devices": [*SIX, device(4, 1, weight=0)]},
            "ring object: devices: no device of region 1 zone 4 has weight; give one a weight above 0, or take them "
            "out of the declaration to empty the zone",
        ),
        ({"devices": [*SIX, SIX[0]]}, "ring object: devices: 10.0.1.1/sdb is declared 2 times; keep one"),
        (
            {"devices": [*SIX, {**SIX[0], "port": 6300}]},
            "ring object: devices: 10.0.1.1/sdb is declared 2 times; keep one",
        ),
        (
            {"devices": [*SIX, device(1, 3, was="10.0.1.1/sdb")]},
            "ring object: devices: 10.0.1.1/sdb is what a device says it was, and is declared itself; take out "
            "`was` or that device",
        ),
        (
            {"devices": [*SIX, device(1, 3, was="10.0.1.9/sdb"), device(1, 4, was="10.0.1.9/sdb")]},
            "ring object: devices: 10.0.1.9/sdb is what 2 devices say they were; keep one",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_ring_is_explained(values: dict[str, Any], problem: str) -> None:
    rings, problems = parse([ring(**values)])
    assert problems == [problem]
    assert rings == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"region": 0}, "region: 0 is no region; write a whole number from 1 up"),
        ({"zone": -1}, "zone: -1 is no zone; write a whole number from 1 up"),
        ({"zone": "1"}, "zone: '1' is no zone; write a whole number from 1 up"),
        ({"ip": "storage1"}, "ip: 'storage1' is no address; write the address at which the host's servers listen"),
        ({"replication_ip": "x"}, "replication_ip: 'x' is no address; write the address at which the host's servers "
                                  "listen"),
        ({"port": 0}, "port: 0 is no port; write a whole number from 1 to 65535"),
        ({"replication_port": 65536}, "replication_port: 65536 is no port; write a whole number from 1 to 65535"),
        ({"device": "/dev/sdb"}, "device: '/dev/sdb' is no device; write the name of its mount point, such as sdb"),
        ({"weight": -1}, "weight: -1 is no weight; write a number from 0 up, such as the disk's size in GB"),
        ({"weight": None}, "weight: None is no weight; write a number from 0 up, such as the disk's size in GB"),
        ({"meta": 7}, "meta: 7 is no text; put it in quotes"),
        ({"was": "sdb"}, "was: 'sdb' is no former device; write its former address and name, such as 10.0.0.1/sdb"),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_device_is_explained(values: dict[str, Any], problem: str) -> None:
    bad = {**device(1, 3), **values}
    assert parse([ring(devices=[*SIX, bad])])[1] == [
        f"ring object: devices[6] ({bad['ip']}/{bad['device']}): {problem}"
    ]


def test_all_problems_of_all_rings_are_told_at_once() -> None:
    problems = parse(
        [ring("account", part_power=0, replicas=0), ring("object", devices=[device(0, 1, port=0)]), ring(), ring()],
        ["sdb"],
    )[1]
    assert [one.split(":")[0] for one in problems] == ["lost", *["ring account"] * 2, *["ring object"] * 3]
    assert problems[-1] == "ring object: name: is declared 3 times; keep one"


def test_what_is_lost_is_not_declared() -> None:
    assert parse([ring(devices=SIX)], ["10.0.1.1/sdb"])[1] == [
        "ring object: devices: 10.0.1.1/sdb is declared and also lost; take it out of one of the two"
    ]


def test_addresses_are_written_as_swift_writes_them() -> None:
    long = {**device(1, 1), "ip": "2001:0DB8:0::1"}
    declared = parse([ring(replicas=1, devices=[long])])[0][0].devices[0]
    assert (declared.key, declared.replication_ip) == ("2001:db8::1/sdb", "2001:db8::1")
    assert swift_rings.key_of("2001:DB8:0::1/sdb") == declared.key
    there = found([{**long, "ip": "2001:DB8::1"}], replicas=1.0)
    assert said([long], there, replicas=1) == [
        "inform 2001:db8::1/sdb (ip 2001:db8::1, replication_ip 2001:db8::1)"
    ]


ADD = "add 10.0.1.3/sdb (region 1, zone 1, ip 10.0.1.3, port 6200, replication_ip 10.0.1.3, replication_port 6200, " \
      "device sdb, weight 100.0)"  # fmt: skip


@pytest.mark.parametrize(
    ("items", "options", "actions"),
    [
        (SIX, {}, []),
        (SIX[::-1], {}, []),
        ([*SIX, device(1, 3)], {}, [ADD]),
        ([{**SIX[0], "weight": 50}, *SIX[1:]], {}, ["weigh 10.0.1.1/sdb (weight 50.0)"]),
        ([{**SIX[0], "zone": 2, "region": 2}, *SIX[1:]], {}, ["place 10.0.1.1/sdb (region 2, zone 2)"]),
        (
            [{**SIX[0], "meta": "new disk", "port": 6300}, *SIX[1:]],
            {},
            ["inform 10.0.1.1/sdb (port 6300, replication_port 6300, meta new disk)"],
        ),
        (
            [{**SIX[0], "ip": "10.0.1.9", "was": "10.0.1.1/sdb"}, *SIX[1:]],
            {},
            ["rename 10.0.1.1/sdb (to 10.0.1.9/sdb)", "inform 10.0.1.9/sdb (replication_ip 10.0.1.9)"],
        ),
        ([{**SIX[0], "was": "10.0.9.9/sdb"}, *SIX[1:]], {}, []),
        (SIX[1:], {}, ["drain 10.0.1.1/sdb (weight 100) because it is not declared"]),
        (SIX[1:], {"held": {"10.0.1.1/sdb": 0}}, ["drain 10.0.1.1/sdb (weight 100) because it is not declared"]),
        (SIX[1:], {"lost": ["10.0.1.1/sdb"]}, ["lose 10.0.1.1/sdb"]),
        (SIX, {"lost": ["10.0.1.7/sdb"]}, []),
        (SIX, {"replicas": 3.5, "overload": 0.1}, ["set replicas (from 3.0, to 3.5)",
                                                  "set overload (from 0.0, to 0.1)"]),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_differs_is_done(items: list[dict[str, Any]], options: dict[str, Any], actions: list[str]) -> None:
    assert said(items, found([{**one, "weight": 100} for one in SIX]), **options) == actions


@pytest.mark.parametrize(
    ("held", "removed"),
    [
        ({}, False),
        ({"10.0.1.1/sdb": 12}, False),
        ({"10.0.1.1/sdb": 0}, True),
        ({"10.0.1.1/sdb": None}, False),
        ({"10.0.1.1/sdb": {"account": 0}}, False),
        ({"10.0.1.1/sdb": {"account": 12, "object": 0}}, True),
        ({"10.0.1.2/sdb": 0}, False),
    ],
)
def test_a_drained_device_goes_when_its_host_says_that_it_is_empty(held: dict[str, Any], removed: bool) -> None:
    drained = {**SIX[0], "weight": 0.0, "parts": 0}
    expected = ["remove 10.0.1.1/sdb"] if removed else []
    assert said(SIX[1:], found([drained, *SIX[1:]]), held=held) == expected
    assert said(SIX[1:], found([{**drained, "parts": 1}, *SIX[1:]]), held=held) == []


def test_ids_do_not_depend_on_the_order_of_the_declaration() -> None:
    mixed = [SIX[4], SIX[1], SIX[5], SIX[0], SIX[3], SIX[2], device(1, 10), device(1, 9)]
    added = [one for one in said(mixed, None) if one.startswith("add")]
    assert added == [one for one in said(sorted(mixed, key=lambda one: one["ip"]), None) if one.startswith("add")]
    assert [one.split()[1] for one in added[:4]] == [f"10.0.1.{host}/sdb" for host in (1, 2, 9, 10)]


def test_actions_do_not_depend_on_the_order_of_the_declaration() -> None:
    wanted = [{**one, "weight": 50} for one in SIX]
    actions = said(wanted, found(SIX))
    assert said(wanted[::-1], found(SIX)) == actions
    assert [one.split()[0] for one in actions] == ["weigh"] * 6


FORMER = {"part_power": 7, "replicas": 3.0, "min_part_hours": 24}


@pytest.mark.parametrize(
    ("name", "values", "there", "allow", "problem"),
    [
        ("object", {}, {}, (), ""),
        ("object", {"replicas": 4}, {}, (), ""),
        ("object", {"replicas": 2}, {}, (), "replicas: 2 are fewer than 3, whose copies would be given up"),
        ("object", {"replicas": 2}, {}, ("replicas",), ""),
        ("object", {"min_part_hours": 1}, {}, (), "min_part_hours: 1 is lower than 24"),
        ("object", {"min_part_hours": 1}, {}, ("min_part_hours",), ""),
        ("object", {"part_power": 8}, {}, (), "part_power: 7 becomes 8 only in steps"),
        ("object", {"part_power": 8}, {}, ("part_power",), ""),
        ("object-2", {"part_power": 8}, {}, ("part_power",), ""),
        ("object", {"part_power": 8}, {"next_part_power": 8}, (), ""),
        ("object", {"part_power": 9}, {}, ("part_power",), "part_power: cannot become 9 from 7"),
        ("object", {"part_power": 6}, {}, ("part_power",), "part_power: cannot become 6 from 7"),
        ("account", {"part_power": 8}, {}, ("part_power",), "part_power: cannot become 8 from 7"),
        (
            "object",
            {"part_power": 8, "replicas": 4},
            {},
            ("part_power",),
            "part_power: is being raised, until which no partition may move, but there is to do: set replicas",
        ),
        (
            "object",
            {"part_power": 8, "devices": SIX[1:]},
            {"next_part_power": 8},
            (),
            "part_power: is being raised, until which no partition may move, but there is to do: drain 10.0.1.1/sdb",
        ),
    ],
)
def test_what_would_lose_data_is_refused(
    name: str, values: dict[str, Any], there: dict[str, Any], allow: tuple[str, ...], problem: str
) -> None:
    builder = found(SIX, **{**FORMER, **there})
    (declared,), problems = parse([ring(name, **{**FORMER, "devices": SIX, **values})])
    assert not problems
    refused = refusals(declared, builder, compare(declared, builder, allow=allow), allow)
    if problem:
        assert len(refused) == 1
        assert refused[0].startswith(f"ring {name}: {problem}")
    else:
        assert refused == []


def test_a_builder_with_two_devices_of_a_name_is_refused() -> None:
    builder = found([*SIX, {**SIX[0], "port": 6300}])
    (declared,), _problems = parse([ring(devices=SIX)])
    assert refusals(declared, builder, compare(declared, builder), ()) == [
        f"ring object: devices: the builder has {key(SIX[0])} 2 times; remove one with swift-ring-builder"
    ]
