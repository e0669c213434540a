"""Rings with Swift's own RingBuilder: what moves, what is written, and what holds whatever happens."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import convergence, swift_builders
from swift.common.exceptions import RingValidationError
from swift.common.ring import RingData
from swift.common.ring.builder import RingBuilder

from .swift_cluster import HOUR, Cluster, device, devices, key, ring

ROOT = Path(__file__).resolve().parents[2]
FIRST = key(devices()[0])


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "swift")


def aged(cluster: Cluster, **values: Any) -> dict[str, Any]:
    """Return a declaration that was built an hour ago."""
    declared = ring(**values)
    cluster.one(declared)
    cluster.hours(declared["min_part_hours"])
    return declared


def moved(before: list[tuple[str, ...]], after: list[tuple[str, ...]]) -> list[int]:
    """Return by partition how many of its devices are new."""
    return [len(set(new) - set(old)) for old, new in zip(before, after, strict=True)]


def test_a_new_ring_is_one_that_swift_reads(cluster: Cluster) -> None:
    report = cluster.one(ring())
    assert (report["changed"], report["complete"], report["moved"], report["before"]) == (True, True, 0, {})
    loaded = RingData.load(str(cluster.path("ring.gz")))
    assert (loaded.part_power, loaded.replica_count, len(loaded.devs)) == (7, 3, 12)
    built = RingBuilder.load(str(cluster.path("builder")))
    built.validate()
    assert report["after"]["balance"] == round(built.get_balance(), 2) == 0
    content = cluster.path("ring.gz").read_bytes()
    assert report["md5"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert report["sha256"] == hashlib.sha256(content).hexdigest()
    zones = {key(one): one["zone"] for one in devices()}
    assert {len({zones[one] for one in held}) for held in cluster.table()} == {3}
    modes = {path.name: path.stat().st_mode & 0o777 for path in (cluster.folder, *cluster.folder.iterdir())}
    assert modes == {"swift": 0o750, "history": 0o750, "object.builder": 0o640, "object.ring.gz": 0o640,
                     "object.state.json": 0o640}  # fmt: skip


def test_what_has_not_changed_is_not_touched(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = aged(cluster)
    before = {path: path.stat().st_mtime_ns for path in cluster.folder.rglob("*")}
    monkeypatch.setattr(RingBuilder, "rebalance", None)
    for mixed in (declared, {**declared, "devices": declared["devices"][::-1]}):
        report = cluster.one(mixed)
        assert (report["changed"], report["actions"], report["complete"]) == (False, [], True)
    assert {path: path.stat().st_mtime_ns for path in cluster.folder.rglob("*")} == before


def changed_devices(**values: Any) -> list[dict[str, Any]]:
    return [{**devices()[0], **values}, *devices()[1:]]


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "add": ({"devices": [*devices(), device(1, 3)]}, {}, True),
    "weigh": ({"devices": changed_devices(weight=50)}, {}, True),
    "place": ({"devices": changed_devices(zone=2), "overload": 1.0}, {}, True),
    "drain": ({"devices": devices()[1:]}, {}, True),
    "lose": ({"devices": devices()[1:]}, {"lost": [FIRST]}, True),
    "more replicas": ({"replicas": 3.5}, {}, True),
    "fewer replicas": ({"replicas": 2}, {"allow": ["replicas"]}, True),
    "overload": ({"devices": changed_devices(weight=50), "overload": 0.1}, {}, True),
    "a new disk in the same slot": ({"devices": changed_devices(meta="serial 2")}, {}, False),
    "another port": ({"devices": changed_devices(port=6300)}, {}, False),
    "another address": ({"devices": changed_devices(ip="10.0.9.9", was=FIRST)}, {}, False),
    "more hours": ({"min_part_hours": 2}, {}, False),
}
"""Name: keys of the declaration, options of the call, whether partitions move."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_predicted_and_made_once(name: str, cluster: Cluster, tmp_path: Path) -> None:
    values, options, moves = CHANGES[name]
    declared = aged(cluster)
    table = cluster.table()
    files = cluster.files()
    wanted = {**declared, **values}
    predicted = cluster.one(wanted, check=True, **options)
    assert cluster.files() == files
    made = cluster.one(wanted, **options)
    assert made == predicted
    assert made["changed"]
    names = {key(one): one.get("was", key(one)) for one in wanted["devices"]}
    after = [tuple(names.get(one, one) for one in held) for held in cluster.table()]
    assert (sum(moved(table, after)) > 0) is moves
    again = cluster.one(wanted, **options)
    assert (again["changed"], again["sha256"]) == (False, made["sha256"])
    other = Cluster(tmp_path / "other")
    aged(other)
    other.one(wanted, **options)
    assert other.files() == cluster.files()


def test_files_do_not_depend_on_the_process(cluster: Cluster) -> None:
    request = {"folder": str(cluster.folder), "rings": [ring()], "now": cluster.now}
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / '.collections')!r})\n"
        "from ansible_collections.brume.cloud.plugins.module_utils import swift_builders as one\n"
        f"one.run({request!r})\nrequest = {request!r}\nrequest['now'] += 7200\n"
        f"request['rings'][0]['devices'].pop()\none.run(request)\n"
    )
    seen = []
    for number in ("1", "2"):
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": number})
        seen.append(cluster.files())
        for path in cluster.folder.rglob("*"):
            if path.is_file():
                path.unlink()
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4


def test_devices_leave_in_steps(cluster: Cluster) -> None:
    declared = aged(cluster)
    short = {**declared, "devices": declared["devices"][1:]}
    report = cluster.one(short, held={FIRST: 0})
    assert report["after"]["devices"][FIRST]["parts"] == 0
    assert report["leaving"] == [FIRST]
    for held in ({}, {FIRST: 3}, {FIRST: {"account": 0}}):
        assert not cluster.one(short, held=held)["changed"], "the disk is not known to be empty"
    report = cluster.one(short, held={FIRST: {"object": 0}})
    assert (report["actions"][0], report["leaving"], report["moved"]) == (f"remove {FIRST}", [], 0)
    assert FIRST not in report["after"]["devices"]
    assert not cluster.one(short)["changed"]


def test_a_declared_device_comes_back_from_draining(cluster: Cluster) -> None:
    declared = aged(cluster)
    cluster.one({**declared, "devices": declared["devices"][1:]})
    cluster.hours(1)
    report = cluster.one(declared, held={FIRST: 0})
    assert report["actions"][0] == f"weigh {FIRST} (weight 100.0)"
    assert report["after"]["devices"][FIRST]["parts"] == 32


def test_what_may_not_move_yet_is_deferred(cluster: Cluster) -> None:
    declared = ring(min_part_hours=3)
    cluster.one(declared)
    table = cluster.table()
    cluster.hours(1.25)
    wanted = {**declared, "devices": [*devices(), device(1, 3)]}
    for changed in (True, False):
        report = cluster.one(wanted)
        assert (report["changed"], report["moved"], report["complete"]) == (changed, 0, False)
        assert (report["reason"], cluster.table() == table) == ("min_part_hours", True)
        assert report["next"] == 2 * HOUR, "Swift counts whole hours, from when it last counted"
    cluster.now += report["next"] - 1
    assert cluster.one(wanted)["moved"] == 0
    cluster.now += 1
    report = cluster.one(wanted)
    assert (report["complete"], report["next"], report["moved"] > 20) == (True, 0, True)
    assert not cluster.one(wanted)["changed"]


def test_hours_may_be_given_up(cluster: Cluster) -> None:
    declared = ring(min_part_hours=3)
    cluster.one(declared)
    wanted = {**declared, "devices": [*devices(), device(1, 3)]}
    assert cluster.one(wanted)["moved"] == 0
    report = cluster.one(wanted, allow=["min_part_hours"])
    assert report["complete"]
    assert report["moved"] > 20


def test_lost_devices_do_not_wait(cluster: Cluster) -> None:
    declared = ring()
    cluster.one(declared)
    table = cluster.table()
    report = cluster.one({**declared, "devices": devices()[1:]}, lost=[FIRST], maximum_share=0)
    assert FIRST not in report["after"]["devices"]
    after = cluster.table()
    for old, new in zip(table, after, strict=True):
        assert len(set(new)) == 3
        assert (old == new) or FIRST in old
        assert set(old) - {FIRST} <= set(new)


def test_the_last_copies_are_not_given_up_unheard(cluster: Cluster) -> None:
    declared = aged(cluster)
    gone = [key(one) for one in devices() if (one["ip"], one["device"]) <= ("10.0.3.1", "sdb")]
    left = {**declared, "replicas": 3, "devices": [one for one in devices() if key(one) not in gone]}
    assert len(left["devices"]) == 3
    table = cluster.table()
    number = sum(set(held) <= set(gone) for held in table)
    assert number
    (problem,) = cluster.ask(left, lost=gone)["problems"]
    assert problem.startswith(f"ring object: lost: {number} partitions have all copies on ")
    assert cluster.table() == table
    assert cluster.one(left, lost=gone, allow=["lost"])["changed"]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_a_rebalance_in_steps_ends_where_one_at_once_would(share: float, cluster: Cluster) -> None:
    declared = aged(cluster)
    wanted = {**declared, "devices": [*changed_devices(weight=50)[:-1], device(2, 3), device(3, 3)]}
    most = int(share * 3 * 128 + 1e-6)
    whole = cluster.one(wanted, check=True)
    steps = []
    while not steps or not steps[-1]["complete"]:
        table = cluster.table()
        report = cluster.one(wanted, maximum_share=share)
        assert sum(moved(table, cluster.table())) == report["moved"]
        assert report["moved"] <= most
        steps.append(report)
        if report["reason"] == "maximum_share":
            assert report["moved"] == most, "no step is wasted"
        cluster.hours(report["next"] / HOUR + 0.4)
    assert len(steps) >= whole["moved"] / most
    full = whole["moved"] // most
    assert [one["reason"] for one in steps[:full]] == ["maximum_share"] * full, "what did not move need not wait"
    assert sum(one["moved"] for one in steps) < 1.5 * whole["moved"]
    assert steps[-1]["after"]["balance"] <= whole["after"]["balance"] + 4
    assert not cluster.one(wanted, maximum_share=share)["changed"]


@pytest.mark.parametrize("seed", [9, 11, 41])
def test_steps_begin_with_what_gains_most(seed: int, cluster: Cluster) -> None:
    """In these rings `RingBuilder` also moves partitions between devices that gain nothing by it."""
    choose = random.Random(seed)  # noqa: S311
    items = devices(choose.choice([2, 3]), choose.choice([1, 2, 3]))
    for one in items:
        one["weight"] = choose.choice([50.0, 100.0, 300.0])
    overload = choose.choice([0, 0.1])
    declared = aged(cluster, devices=copy.deepcopy(items), overload=overload)
    for one in choose.sample(items, 3):
        one["weight"] = choose.choice([50.0, 100.0, 300.0])
    new = [device(choose.randint(1, 4), 7, weight=200.0), device(1, 8)]
    wanted = {**declared, "devices": [*items, *new]}
    whole = cluster.one(wanted, check=True)
    parts = [{name: one["parts"] for name, one in whole[side]["devices"].items()} for side in ("before", "after")]
    table = cluster.table()
    assert cluster.one(wanted, maximum_share=0.1)["moved"] == 38
    for old, after in zip(table, cluster.table(), strict=True):
        for source in set(old) - set(after):
            assert parts[0][source] > parts[1].get(source, 0)
        for goal in set(after) - set(old):
            assert parts[0].get(goal, 0) < parts[1][goal]


def test_a_ring_that_cannot_be_better_is_left_alone(cluster: Cluster) -> None:
    report = cluster.one(ring(devices=[*devices(3, 1, 2), device(1, 3, weight=300)], min_part_hours=0))
    for _ in range(5):
        if report["complete"]:
            break
        report = cluster.one(ring(devices=[*devices(3, 1, 2), device(1, 3, weight=300)], min_part_hours=0))
    assert report["complete"]
    assert swift_builders.excess(RingBuilder.load(str(cluster.path("builder")))) > 0
    cluster.path("state.json").unlink()
    cluster.hours(1)
    content = cluster.path("builder").read_bytes()
    report = cluster.one(ring(devices=[*devices(3, 1, 2), device(1, 3, weight=300)], min_part_hours=0))
    assert (report["changed"], report["complete"], report["moved"]) == (False, True, 0)
    assert cluster.path("builder").read_bytes() == content


@pytest.mark.parametrize(("replicas", "more"), [(2.5, 2.5), (2.5, 3.5), (2.0, 2.25), (3.25, 3.0)])
def test_steps_of_rings_with_a_part_of_a_replica(replicas: float, more: float, cluster: Cluster) -> None:
    declared = aged(cluster, replicas=replicas)
    wanted = {**declared, "replicas": more, "devices": devices()[1:]}
    reports = []
    while not reports or not reports[-1]["complete"]:
        reports.append(cluster.one(wanted, maximum_share=0.04, allow=["replicas"]))
        assert sum(map(len, cluster.table())) == int(more * 128)
        assert all(len(set(held)) == len(held) for held in cluster.table())
        cluster.hours(reports[-1]["next"] / HOUR + 0.1)
    assert len(reports) > 2
    assert reports[-1]["after"]["devices"][FIRST]["parts"] == 0


def test_no_share_moves_nothing(cluster: Cluster) -> None:
    declared = aged(cluster)
    table = cluster.table()
    report = cluster.one({**declared, "devices": devices()[1:]}, maximum_share=0)
    assert (report["moved"], report["complete"], cluster.table()) == (0, False, table)


def history(random_: random.Random) -> tuple[dict[str, Any], list[tuple[dict[str, Any], dict[str, Any], float]]]:
    """Return a declaration, and what follows: declaration, options, hours that pass before."""
    declared = ring(min_part_hours=random_.choice([0, 1, 2]), replicas=random_.choice([2, 3]), part_power=6)
    items = devices(3, random_.choice([1, 2]), 2)
    first = {**declared, "devices": copy.deepcopy(items)}
    steps = []
    for number in range(12):
        lost = []
        for _ in range(random_.randint(0, 2)):
            what = random_.choice(["add", "weigh", "drop", "lose", "inform"])
            one = random_.choice(items)
            if what == "add":
                items.append(device(random_.randint(1, 4), 10 + number, random_.randint(1, 9)))
                items = list({key(each): each for each in items}.values())
            elif what == "weigh":
                one["weight"] = random_.choice([25.0, 100.0, 200.0])
            elif what == "inform":
                one["meta"] = f"step {number}"
            elif len(items) > 7:
                items.remove(one)
                lost += [key(one)] if what == "lose" and not lost else []
        options = {
            "lost": [each for each in lost if each not in map(key, items)],
            "maximum_share": random_.choice([1.0, 1.0, 0.1, 0.02]),
            "held": {key(each): 0 for each in random_.sample(devices(), 4)},
            "allow": ["lost"],
        }
        hours = random_.choice([0.0, 0.3, 0.9, 1.0, 2.5])
        steps.append(({**declared, "devices": copy.deepcopy(items)}, options, hours))
    return first, steps


@pytest.mark.parametrize("seed", range(8))
def test_what_holds_whatever_happens(seed: int, cluster: Cluster, tmp_path: Path) -> None:
    """Check mode is the run, no partition moves twice too soon, shares are kept, and nothing is done twice."""
    first, steps = history(random.Random(seed))  # noqa: S311
    twin = Cluster(tmp_path / "twin")
    cluster.one(first)
    twin.one(first)
    last = [cluster.now] * 64
    total = 0
    for declared, options, hours in steps:
        cluster.hours(hours)
        twin.hours(hours)
        table = cluster.table()
        predicted = cluster.one(declared, check=True, **options)
        report = cluster.one(declared, **options)
        assert report == predicted
        twin.one(declared, **options)
        assert twin.files() == cluster.files()
        after = cluster.table()
        gone = set(options["lost"])
        free = 0
        for part, number in enumerate(moved(table, after)):
            forced = bool(gone & set(table[part]))
            assert len(set(after[part])) == first["replicas"]
            if number and not forced:
                assert number == 1
                assert cluster.now - last[part] >= first["min_part_hours"] * HOUR, part
                free += 1
            if number:
                last[part] = cluster.now
        assert free <= options["maximum_share"] * 64 * first["replicas"] + 1e-6
        total += free
        RingBuilder.load(str(cluster.path("builder"))).validate()
        if report["complete"]:
            files = cluster.files()
            assert not cluster.one(declared, **{**options, "held": {}})["changed"]
            assert cluster.files() == files
    for _ in range(40):
        cluster.hours(1)
        report = cluster.one(declared, maximum_share=0.1)
        if report["complete"]:
            break
    assert report["complete"]
    assert total


def test_a_builder_of_swift_ring_builder_is_taken_over(cluster: Cluster) -> None:
    cluster.folder.mkdir()
    command = [str(Path(sys.executable).with_name("swift-ring-builder")), str(cluster.path("builder"))]
    subprocess.run([*command, "create", "7", "3", "1"], check=True, capture_output=True)
    for one in devices():
        added = f"r1z{one['zone']}-{one['ip']}:6200/{one['device']}"
        subprocess.run([*command, "add", added, "100"], check=True, capture_output=True)
    subprocess.run([*command, "rebalance", "--seed", "1"], check=True, capture_output=True)
    content = cluster.path("builder").read_bytes()
    ring_content = cluster.path("ring.gz").read_bytes()
    report = cluster.one(ring())
    assert (report["changed"], report["complete"]) == (False, True)
    assert cluster.path("builder").read_bytes() == content
    assert cluster.path("ring.gz").read_bytes() == ring_content, "the same bytes as Swift's own"


def test_what_another_hand_has_done_is_said(cluster: Cluster) -> None:
    declared = aged(cluster)
    assert not cluster.one(declared)["changed_by_hand"]
    builder = RingBuilder.load(str(cluster.path("builder")))
    builder.add_dev({**device(1, 7), "replication_ip": "10.0.1.7", "replication_port": 6200})
    builder.save(str(cluster.path("builder")))
    report = cluster.one(declared, check=True)
    assert report["changed_by_hand"]
    assert report["leaving"] == ["10.0.1.7/sdb"]
    assert report["actions"][0] == "drain 10.0.1.7/sdb (weight 100.0) because it is not declared"
    cluster.one(declared)
    assert not cluster.one(declared)["changed_by_hand"]


def test_a_rebalance_that_another_hand_left_out_is_made(cluster: Cluster) -> None:
    declared = aged(cluster)
    builder = RingBuilder.load(str(cluster.path("builder")))
    builder.add_dev({**device(1, 3), "meta": "", "replication_ip": "10.0.1.3", "replication_port": 6200})
    builder.save(str(cluster.path("builder")))
    report = cluster.one({**declared, "devices": [*devices(), device(1, 3)]})
    assert report["moved"] > 20


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def newer(path: Path) -> None:
    path.write_bytes(pickle.dumps({**pickle.loads(path.read_bytes()), "tiers": 5}))  # noqa: S301


def miscounted(path: Path) -> None:
    data = pickle.loads(path.read_bytes())  # noqa: S301
    data["devs"][0]["parts"] += 1
    path.write_bytes(pickle.dumps(data))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage, "is damaged ("),
        (lambda path: path.write_bytes(b""), "is damaged ("),
        (lambda path: path.write_bytes(pickle.dumps([1, 2])), "is damaged ("),
        (miscounted, "is damaged (its devices have other partitions than its table says)"),
        (newer, "is of a newer Swift, which keeps tiers in it"),
        (lambda path: path.unlink(), "is missing, but there was one before"),
    ],
    ids=["cut", "empty", "another", "miscounted", "newer", "missing"],
)
def test_a_bad_builder_is_never_replaced(spoil: Callable[[Path], Any], said: str, cluster: Cluster) -> None:
    declared = aged(cluster)
    good = cluster.path("builder").read_bytes()
    for weight in (50, 60, 70):
        cluster.one({**declared, "devices": changed_devices(weight=weight)})
        cluster.hours(1)
    kept = sorted(cluster.folder.joinpath("history").iterdir())
    assert kept[0].read_bytes() == good
    damage(kept[-1])
    spoil(cluster.path("builder"))
    files = cluster.files()
    account = ring("account")
    (problem,) = cluster.ask(account, declared)["problems"]
    assert said in problem
    assert problem.startswith("ring object: ")
    assert str(kept[1]) in problem, "the newest copy that is good"
    assert cluster.files() == files, "no other ring is written either"


def test_a_missing_builder_without_history_points_to_the_ring(cluster: Cluster) -> None:
    aged(cluster)
    cluster.path("builder").unlink()
    (problem,) = cluster.ask(ring())["problems"]
    assert "write_builder` from object.ring.gz of any node" in problem


def test_a_ring_that_hosts_have_gets_no_new_builder(cluster: Cluster) -> None:
    known = {"object": "object1 has that ring"}
    (problem,) = cluster.ask(ring("account"), ring(), elsewhere=known)["problems"]
    assert problem.startswith("ring object: builder: ")
    assert ".builder is missing, and object1 has that ring; " in problem
    assert not cluster.folder.exists() or not cluster.files(), "no other ring is written either"
    declared = aged(cluster)
    report = cluster.one(declared, elsewhere=known)
    assert not report["changed"], "with its builder it is as good as ever"


def test_refusals_of_all_rings_come_at_once_and_nothing_is_written(cluster: Cluster) -> None:
    rings = [ring(name) for name in ("account", "container", "object")]
    cluster.ask(*rings)
    files = cluster.files()
    bad = [{**rings[0], "part_power": 8}, {**rings[1], "replicas": 2}, {**rings[2], "devices": devices()[1:]}]
    problems = cluster.ask(*bad)["problems"]
    assert [one.split(": ")[:2] for one in problems] == [["ring account", "part_power"], ["ring container", "replicas"]]
    assert cluster.files() == files


@pytest.mark.parametrize(
    ("method", "error", "said"),
    [
        ("rebalance", Exception("no home for 3/1"), "Swift cannot balance them: no home for 3/1"),
        ("validate", RingValidationError("Partition 3"), "the rebalanced ring is not valid: Partition 3"),
    ],
)
def test_what_swift_cannot_balance_is_a_problem(
    method: str, error: Exception, said: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(cluster)
    files = cluster.files()

    def fails(_self: RingBuilder, **_words: Any) -> None:
        raise error

    monkeypatch.setattr(RingBuilder, method, fails)
    problems = cluster.ask(ring("account"), ring(devices=devices()[1:]))["problems"]
    assert problems == [f"ring {name}: devices: {said}" for name in ("account", "object")]
    assert cluster.files() == files


@pytest.mark.parametrize("write", range(4))
def test_a_run_that_is_killed_is_finished_by_the_next(
    write: int, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = aged(cluster)
    wanted = {**declared, "devices": devices()[1:]}
    other = Cluster(tmp_path / "other")
    aged(other)
    expected = other.one(wanted)
    calls = Counter[str]()

    def dies(*words: Any, real: Any = convergence.atomic_write, **named: Any) -> None:
        calls["all"] += 1
        if calls["all"] > write:
            raise KeyboardInterrupt
        real(*words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(convergence, "atomic_write", dies)
        patch.setattr(swift_builders, "atomic_write", dies)
        if write < 3:
            with pytest.raises(KeyboardInterrupt):
                cluster.one(wanted)
        else:
            cluster.one(wanted)
            assert calls["all"] == 3, "state, builder, ring"
    with monkeypatch.context() as patch:
        if write >= 2:
            patch.setattr(RingBuilder, "rebalance", None)
        report = cluster.one(wanted)
    assert report["changed"] is (write < 3)
    assert report["actions"] == {2: ["write object.ring.gz"], 3: []}.get(write, report["actions"])
    assert not report["changed_by_hand"]
    assert report["sha256"] == expected["sha256"]
    assert cluster.files() == other.files()


@pytest.mark.parametrize("spoil", [damage, lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_ring_that_is_not_its_builders_is_written_anew(
    spoil: Callable[[Path], Any], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = aged(cluster)
    content = cluster.path("ring.gz").read_bytes()
    spoil(cluster.path("ring.gz"))
    monkeypatch.setattr(RingBuilder, "rebalance", None)
    report = cluster.one(declared)
    assert (report["changed"], report["actions"]) == (True, ["write object.ring.gz"])
    assert cluster.path("ring.gz").read_bytes() == content


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_the_history_is_pruned(keep: int, cluster: Cluster) -> None:
    declared = aged(cluster)
    cluster.one(ring("object-1"))
    contents = []
    for weight in range(60, 65):
        contents.append(cluster.path("builder").read_bytes())
        cluster.one({**declared, "devices": changed_devices(weight=weight)}, history=keep)
        cluster.hours(1)
    kept = sorted(cluster.folder.joinpath("history").iterdir())
    assert [path.read_bytes() for path in kept] == (contents[-keep:] if keep else [])


def test_the_part_power_is_raised_in_steps(cluster: Cluster) -> None:
    declared = aged(cluster)
    table = cluster.table()
    wanted = {**declared, "part_power": 8}
    done = []
    for allow in (["part_power"], ["part_power"], ["relinked"], [], ["cleaned"], []):
        report = cluster.one(wanted, allow=allow)
        done.append(report["actions"][0].split()[0] if report["changed"] else "")
        assert report["complete"] is ("finish" in done)
    assert done == ["prepare", "", "increase", "", "finish", ""]
    assert cluster.table() == [held for held in table for _ in range(2)]
    cluster.hours(1)
    assert cluster.one({**wanted, "devices": devices()[1:]})["moved"] > 30


def test_the_state_says_which_builder_it_is_of(cluster: Cluster) -> None:
    declared = aged(cluster)
    cluster.one({**declared, "devices": devices()[1:]}, maximum_share=0.02)
    state = json.loads(cluster.path("state.json").read_text())
    digest = hashlib.sha256(cluster.path("builder").read_bytes()).hexdigest()
    assert state[digest]["reason"] == "maximum_share"
    assert len(state) == 2
