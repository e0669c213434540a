"""Waves that empty compute hosts: what has to hold after every single move, on generated clouds."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.drain_waves import Waves, drain_waves
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import (
    Aggregate,
    Flavor,
    Group,
    Host,
    Instance,
    Inventory,
    Settings,
)

FLAVORS = [Flavor("m1", 1, 2048, 10), Flavor("m2", 2, 4096, 20), Flavor("m4", 4, 8192, 40), Flavor("m8", 8, 16384, 80)]
ZONES = ["east", "west", "north"]
Cloud = tuple[list[Host], list[Instance], list[Group]]


def host_of(name: str, zone: str = "", ram: int = 65536, **more: object) -> Host:
    """Return an empty host."""
    inventories = {
        "VCPU": Inventory(32, allocation_ratio=4.0, max_unit=32),
        "MEMORY_MB": Inventory(ram, reserved=512, max_unit=ram),
        "DISK_GB": Inventory(2000),
    }
    aggregates = (Aggregate(f"zone-{zone}", {"availability_zone": zone}),) if zone else ()
    return replace(Host(name, inventories, aggregates=aggregates), **more)  # type: ignore[arg-type]


def filled(hosts: list[Host], instances: list[Instance]) -> list[Host]:
    """Return hosts with what their instances use."""
    found = []
    for host in hosts:
        own = [one for one in instances if one.host == host.name]
        used = {
            "VCPU": sum(one.flavor.vcpus for one in own),
            "MEMORY_MB": sum(one.flavor.ram for one in own),
            "DISK_GB": sum(0 if one.boot_from_volume else one.flavor.disk for one in own),
        }
        inventories = {name: replace(one, used=used[name]) for name, one in host.inventories.items()}
        found.append(replace(host, inventories=inventories, num_instances=len(own)))
    return found


def cloud_of(seed: int, size: int = 12, count: int = 90, ram: int = 65536) -> Cloud:
    """Return a cloud whose zones and groups are kept; some instances cannot move."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    zones = [dice.choice(ZONES) for _ in range(size)]
    hosts = [
        host_of(f"compute{number}", zone, ram, up=number == 0 or dice.random() > 0.05)
        for number, zone in enumerate(zones)
    ]
    policies = ["anti-affinity", "anti-affinity", "soft-anti-affinity", "soft-affinity", "affinity"]
    groups = [Group(f"group{number}", dice.choice(policies), "", dice.choice([1, 2])) for number in range(count // 15)]
    free = [ram - 512] * size
    members: Counter[tuple[str, int]] = Counter()
    home: dict[str, int] = {}
    instances = []
    for number in range(count):
        flavor, index = dice.choice(FLAVORS), dice.randrange(size)
        group = dice.choice(groups) if dice.random() < 0.4 else None
        if group is not None and group.policy == "affinity":
            index = home.setdefault(group.uuid, index)
        full = group is not None and group.policy == "anti-affinity" and (
            members[group.uuid, index] >= group.max_server_per_host
        )  # fmt: skip
        if free[index] < flavor.ram or full:
            continue
        free[index] -= flavor.ram
        if group is not None:
            members[group.uuid, index] += 1
        instances.append(
            Instance(
                f"instance{number}", hosts[index].name, flavor,
                availability_zone=zones[index] if dice.random() < 0.5 else "",
                group=group.uuid if group else "",
                boot_from_volume=dice.random() < 0.2,
                immovable="has a device of its host" if dice.random() < 0.01 else "",
            )
        )  # fmt: skip
    return filled(hosts, instances), instances, groups


def check(cloud: Cloud, drained: list[str], found: Waves, at_once: int, per_zone: int = 0) -> None:
    """Go through the waves move by move, and see that every rule holds all the time."""
    hosts, instances, groups = cloud
    by_name, by_id, rules = (
        {one.name: one for one in hosts},
        {one.uuid: one for one in instances},
        {g.uuid: g for g in groups},
    )
    at = {one.uuid: one.host for one in instances}
    used = {host.name: {name: one.used for name, one in host.inventories.items()} for host in hosts}
    emptied: Counter[str] = Counter()
    for wave in found.waves:
        assert 0 < len(wave.hosts) <= at_once
        if per_zone:
            assert max(Counter(by_name[name].zone for name in wave.hosts).values()) <= per_zone
        assert len({move.instance for move in wave.moves}) == len(wave.moves)
        for move in wave.moves:
            one, target = by_id[move.instance], by_name[move.destination]
            assert at[one.uuid] == move.source and move.source in wave.hosts
            assert move.destination not in wave.hosts and target.up and not target.disabled
            assert not one.immovable
            assert one.destinations is None or target.name in one.destinations
            assert not one.availability_zone or target.zone == one.availability_zone
            group = rules.get(one.group)
            there = [u for u, place in at.items() if place == target.name and group and by_id[u].group == group.uuid]
            if group and group.policy == "anti-affinity":
                assert len(there) < group.max_server_per_host
            if group and group.policy == "affinity":
                assert there
            need = {"VCPU": one.flavor.vcpus, "MEMORY_MB": one.flavor.ram,
                    "DISK_GB": 0 if one.boot_from_volume else one.flavor.disk}  # fmt: skip
            for name, amount in need.items():  # the destination is filled before the source is freed
                used[target.name][name] += amount
                assert used[target.name][name] <= target.inventories[name].capacity
                used[move.source][name] -= amount
            at[one.uuid] = target.name
        assert not set(at.values()) & set(wave.hosts)
        emptied.update(wave.hosts)
    assert sorted([*emptied, *found.left]) == sorted(drained)
    assert set(emptied.values()) <= {1}
    assert {one.host for one in found.stuck} <= set(drained)
    explained = {at[one.instance] for one in found.stuck}
    assert explained == set(found.left)
    assert all(by_id[one.uuid].host == at[one.uuid] for one in instances if by_id[one.uuid].host in found.left)


@pytest.mark.parametrize("seed", range(60))
def test_rules_hold_after_every_move(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    cloud = cloud_of(seed, count=dice.choice([30, 90, 150]))
    drained = dice.sample([host.name for host in cloud[0]], dice.randint(1, 12))
    at_once, per_zone = dice.randint(1, 4), dice.choice([0, 1, 2])
    check(cloud, drained, drain_waves(*cloud, drained, at_once, at_once_per_zone=per_zone), at_once, per_zone)


def test_a_roomy_cloud_is_emptied_as_a_whole() -> None:
    hosts = [host_of(f"compute{number}") for number in range(8)]
    instances = [Instance(f"i{number}", f"compute{number % 8}", FLAVORS[number % 3]) for number in range(40)]
    cloud = filled(hosts, instances), instances, list[Group]()
    names = [host.name for host in hosts]
    found = drain_waves(*cloud, names, 3)
    check(cloud, names, found, 3)
    assert not found.left and len(found.waves) == 3


def test_hosts_that_stay_are_preferred_so_that_instances_move_once() -> None:
    hosts = [host_of(f"compute{number}") for number in range(4)]
    instances = [Instance("a", "compute0", FLAVORS[0]), Instance("b", "compute1", FLAVORS[0])]
    found = drain_waves(filled(hosts, instances), instances, [], ["compute0", "compute1", "compute2"], 1)
    assert sorted(move.instance for wave in found.waves for move in wave.moves) == ["a", "b"]


def test_what_cannot_move_is_named_with_what_refuses_it() -> None:
    hosts = [host_of("a", "east"), host_of("b", "west"), host_of("c", "west", disabled=True)]
    instances = [
        Instance("zoned", "a", FLAVORS[0], availability_zone="east"),
        Instance("free", "a", FLAVORS[0]),
        Instance("device", "b", FLAVORS[0], immovable="has a device of its host"),
    ]
    found = drain_waves(filled(hosts, instances), instances, [], ["a", "b"], 2)
    assert not found.waves and found.left == ("a", "b")
    assert [(one.instance, dict(one.refused)) for one in found.stuck] == [
        ("zoned", {"Placement": 1, "ComputeFilter": 1}),
        ("device", {}),
    ]
    assert found.stuck[0].reason == "no host takes it: Placement refuses 1 host, ComputeFilter refuses 1 host"
    assert found.stuck[1].reason == "has a device of its host"


def test_members_of_an_affinity_group_cannot_leave_the_only_host_of_it() -> None:
    hosts = [host_of("a"), host_of("b")]
    instances = [Instance(name, "a", FLAVORS[0], group="g") for name in ("one", "two")]
    found = drain_waves(filled(hosts, instances), instances, [Group("g", "affinity")], ["a"], 1)
    assert [dict(one.refused) for one in found.stuck] == [{"ServerGroupAffinityFilter": 1}] * 2


def test_a_group_knows_members_that_do_not_know_it() -> None:
    hosts = [host_of("a"), host_of("b", ram=131072), host_of("c")]  # without the rule, b has the most room
    instances = [Instance("one", "a", FLAVORS[0]), Instance("two", "b", FLAVORS[0])]
    group = Group("g", "anti-affinity", members=frozenset({"one", "two"}))
    found = drain_waves(filled(hosts, instances), instances, [group], ["a"], 1)
    assert [move.destination for wave in found.waves for move in wave.moves] == ["c"]


def test_a_full_cloud_says_that_there_is_no_room() -> None:
    hosts = [host_of("a", ram=9216), host_of("b", ram=9216)]
    instances = [Instance(f"{host}{number}", host, FLAVORS[1]) for host in "ab" for number in range(2)]
    found = drain_waves(filled(hosts, instances), instances, [], ["a"], 1)
    assert found.left == ("a",)
    assert [dict(one.refused) for one in found.stuck] == [{"Placement": 1}] * 2


def test_room_for_each_but_not_for_all_is_said() -> None:
    hosts = [host_of("a", ram=9216), host_of("b", ram=5120)]
    instances = [Instance(f"a{number}", "a", FLAVORS[1]) for number in range(2)]
    found = drain_waves(filled(hosts, instances), instances, [], ["a"], 1)
    assert [one.reason for one in found.stuck] == [
        "there is room for each instance of its host, but not for all of them together"
    ]


def test_filling_up_saves_what_spreading_would_not() -> None:
    gone = {"disabled": True}  # they do not come back as destinations
    hosts = [host_of("a", **gone), host_of("b", ram=4608), host_of("c", ram=8704), host_of("d", **gone)]
    instances = [Instance("small", "a", FLAVORS[1]), Instance("big", "d", FLAVORS[2])]
    cloud = filled(hosts, instances), instances, list[Group]()
    found = drain_waves(*cloud, ["a", "d"], 2)
    check(cloud, ["a", "d"], found, 2)
    assert not found.left


def test_the_number_of_instances_is_kept_where_a_filter_limits_it() -> None:
    hosts = [host_of("a"), host_of("b")]
    instances = [Instance("one", "a", FLAVORS[0]), Instance("two", "b", FLAVORS[0])]
    settings = Settings(enabled_filters=("ComputeFilter", "NumInstancesFilter"), max_instances_per_host=1)
    found = drain_waves(filled(hosts, instances), instances, [], ["a"], 1, settings=settings)
    assert [dict(one.refused) for one in found.stuck] == [{"NumInstancesFilter": 1}]


@pytest.mark.parametrize(
    ("drained", "at_once", "message"),
    [
        (["a", "z"], 1, "not among the compute hosts: z"),
        (["a", "a"], 1, "named twice"),
        (["a"], 0, "at least one host"),
    ],
)
def test_what_makes_no_sense_is_refused(drained: list[str], at_once: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drain_waves([host_of("a")], [], [], drained, at_once)


def test_instances_on_unknown_hosts_are_refused() -> None:
    with pytest.raises(ValueError, match="compute9"):
        drain_waves([host_of("a")], [Instance("one", "compute9", FLAVORS[0])], [], ["a"], 1)


def test_five_hundred_hosts_with_twenty_thousand_instances_are_planned_in_time() -> None:
    """The limit is 30 s on two cores; here it is processor time, with a reserve for slower machines."""
    cloud = cloud_of(7, size=500, count=20600, ram=524288)
    instances = [replace(one, immovable="") for one in cloud[1]]
    assert len(instances) >= 20000
    started = time.process_time()
    drained = [host.name for host in cloud[0]]
    found = drain_waves(cloud[0], instances, cloud[2], drained, 25)
    assert time.process_time() - started < 30
    assert len(found.waves) >= 20
