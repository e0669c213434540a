"""The bench: its table and file, what it measures with, and that it destroys nothing it was not asked to."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import bench
from tools.bench_parts import catalog, cloud, runs, scale, unit_memory
from tools.bench_parts.figures import Figure, Part, growth, merged, number, table
from tools.bench_parts.runs import Context, NotMeasured, Run

RECAP = """
PLAY RECAP *********************************************************************
aio                        : ok=40   changed=2    unreachable=0    failed=0    skipped=1    rescued=0    ignored=0
localhost                  : ok=2    changed=1    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0
"""


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("a", 9.9, aim=10), True),
        (Figure("a", 10, aim=10), True),
        (Figure("a", 10.1, aim=10), False),
        (Figure("a", 49, "times", 50, "more"), False),
        (Figure("a", 50, "times", 50, "more"), True),
        (Figure("a", 5), None),
    ],
)
def test_an_aim_is_met_in_its_direction(figure: Figure, met: bool | None) -> None:
    assert figure.met is met


def test_the_table_shows_aims_beside_what_was_measured() -> None:
    parts = [
        Part("again", (Figure("second run", 12.74, aim=15, note="changed=0"),)),
        Part("catalog", (Figure("faster", 30.123, "times", 50, "more"), Figure("loops", 1234.5)), "Nova is not there"),
    ]
    assert table(parts) == [
        "part     figure          measured  aim                 note",
        "again    second run        12.7 s  ≤ 15 s      met     changed=0",
        "catalog  faster        30.1 times  ≥ 50 times  missed",
        "catalog  loops            1,234 s",
        "catalog  not measured                                  Nova is not there",
    ]


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12"), (12.34, "12.3"), (99.95, "100.0"), (3875.2, "3,875")])
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_the_file_keeps_parts_of_earlier_runs() -> None:
    first = merged(None, [Part("scale", (Figure("x", 1),)), Part("again", (Figure("y", 20, aim=15),), "", {"cpus": 2})])
    assert first["parts"]["again"] == {
        "cpus": 2,
        "figures": [{"name": "y", "value": 20, "unit": "s", "aim": 15, "better": "less", "note": "", "met": False}],
        "problem": "",
    }
    second = merged(first, [Part("again", (Figure("y", 10),)), Part("scale", (), "no")])
    assert second["parts"]["again"]["figures"][0]["value"] == 10
    assert second["parts"]["scale"] == first["parts"]["scale"], "a failure does not replace figures"
    for damaged in ([], {"parts": 1}, "x"):
        assert merged(damaged, [Part("scale", (), "no")]) == {"parts": {"scale": {"figures": [], "problem": "no"}}}


def test_the_file_is_written_anew_when_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "lab/bench.json"
    bench.keep(path, [Part("scale", (Figure("x", 1),))])
    bench.keep(path, [Part("again", (Figure("x", 2),))])
    assert sorted(json.loads(path.read_text())["parts"]) == ["again", "scale"]
    path.write_text("{")
    bench.keep(path, [Part("again", (Figure("x", 2),))])
    assert list(json.loads(path.read_text())["parts"]) == ["again"]


def test_growth_is_the_cost_of_one_more() -> None:
    assert growth([(10, 1.0), (100, 10.0), (1000, 200.0)]) == [(10, 100, 1.0), (100, 1000, 2.0)]
    assert growth([(10, 1.0)]) == []


def test_changes_are_those_of_the_recap() -> None:
    assert runs.changes(RECAP) == 3
    with pytest.raises(NotMeasured, match="no recap"):
        runs.changes("changed=1")


def test_a_command_is_measured(tmp_path: Path) -> None:
    run = runs.execute([sys.executable, "-c", "import time; time.sleep(0.1); x = b'x' * 30 * 2**20; print('done')"])
    assert run.output == "done\n"
    assert run.seconds > 0.1
    assert 30 < run.mebibytes < 50, "not what this process has"
    with pytest.raises(NotMeasured, match=r"failed \(3\):\nlast"):
        runs.execute([sys.executable, "-c", "print('last'); raise SystemExit(3)"])


def test_variables_go_through_a_private_file(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def execute(command: list[str], **variables: str) -> Run:
        seen.extend(command)
        given = Path(command[-1].removeprefix("@"))
        assert given.stat().st_mode & 0o777 == 0o600
        assert json.loads(given.read_text()) == {"password": "secret"}
        plays = [{"phase": "A", "seconds": 1.5}, {"phase": "B", "seconds": 1}, {"phase": "A", "seconds": 2}]
        Path(variables["BRUME_PHASES_FILE"]).write_text(json.dumps(plays))
        return Run(4.0, {}, 1.0, RECAP)

    monkeypatch.setattr(runs, "execute", execute)
    run = Context("inventories/aio").playbook("p.yml", variables={"password": "secret"})
    assert run.plays == {"A": 3.5, "B": 1.0}
    assert "secret" not in " ".join(seen)
    assert not Path(seen[-1].removeprefix("@")).exists()


def test_the_content_is_that_of_a_whole_cloud() -> None:
    wanted = catalog.content("RegionOne")
    sizes = {name: len(items) for name, items in wanted.items()}
    assert sizes == {"projects": 1, "roles": 1, "users": 15, "assignments": 15, "services": 15, "endpoints": 45}
    assert len({user["password"] for user in wanted["users"]}) == 15
    names = [item["name"] for kind in ("projects", "roles", "users", "services") for item in wanted[kind]]
    assert {name.startswith(catalog.PREFIX) for name in names} == {True}
    gone = catalog.removal(wanted)
    assert {item["state"] for items in gone.values() for item in items} == {"absent"}
    assert {len(gone["assignments"]), len(gone["endpoints"])} == {0}
    assert "password" not in str(gone)


def test_what_was_registered_is_removed_even_when_a_run_changes_what_it_should_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    states: list[str] = []

    def playbook(_self: Context, path: str, *_arguments: str, variables: dict[str, Any]) -> Run:
        states.append(variables["bench_content"]["services"][0].get("state", "present"))
        return Run(2.0, {catalog.PLAYS[path]: 1.0}, 1.0, RECAP)

    clouds = "clouds: {lab: {region_name: RegionOne, auth: {}}}"
    (tmp_path / "clouds.yaml").write_text(clouds)
    monkeypatch.setattr(Context, "state", tmp_path)
    monkeypatch.setattr(Context, "playbook", playbook)
    part = bench.measure("catalog", Context("inventories/aio"))
    assert states == ["absent", "present", "present", "absent"]
    assert [figure.name for figure in part.figures] == ["keystone_catalog, create"]
    assert part.problem == "no change, every password asked for: 3 tasks changed something; expected none"


def test_an_undeployed_cloud_is_said() -> None:
    part = bench.measure("catalog", Context("inventories/nowhere"))
    assert part.problem.endswith("this part needs a deployed cloud")


@pytest.mark.parametrize("name", ["deploy", "cold"])
def test_check_mode_destroys_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Any] = []
    monkeypatch.setattr(cloud, "execute", commands.append)
    assert bench.measure(name, Context("inventories/aio", check=True)).problem
    assert commands == []


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_an_option_is_set_back(check: bool, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[str, ...], bool]] = []

    def playbook(_self: Context, _path: str, *arguments: str, variables: dict[str, Any] | None = None) -> Run:
        calls.append((arguments, variables is not None))
        if fails and variables:
            raise NotMeasured("a unit did not come up")
        return Run(2.0, {}, 1.0, RECAP)

    monkeypatch.setattr(Context, "playbook", playbook)
    part = bench.measure("option", Context("inventories/aio", check))
    assert calls == ([(("--check",), True)] if check else [((), True), ((), False)])
    assert bool(part.figures) is not fails


@pytest.mark.parametrize("fails", [True, False])
def test_downloads_return_when_there_are_no_new_ones(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "CACHE", tmp_path)
    for name in ("uv", "apt-trixie", "apt-lists-trixie", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").touch()
    try:
        with cloud._aside():
            assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("aside")) == ["other"]
            (tmp_path / "uv").mkdir()
            if fails:
                raise NotMeasured("no network")
    except NotMeasured:
        assert fails
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.name == "old")
    assert found == ["apt-lists-trixie/old", "apt-trixie/old", "other/old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apt-lists-trixie", "apt-trixie", "other", "uv"]


def test_parts_are_chosen_by_name_and_run_in_order() -> None:
    assert bench.chosen("scale, deploy") == ["deploy", "scale"]
    for text in ("scale,sale", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="there are cold, deploy"):
            bench.chosen(text)
    assert "cold" not in bench.DEFAULT


def test_generated_inventories_can_be_planned(tmp_path: Path) -> None:
    reading, planning, rendering, files = scale.functions(scale.write(tmp_path / "a", 3))
    more = scale.functions(scale.write(tmp_path / "b", 4))[3]
    assert min(reading, planning, rendering) > 0
    assert more > files > 0
    addresses = [
        address
        for members in scale.hosts(1000).values()
        for host in members.get("hosts", {}).values()
        for address in host["brume_addresses"].values()
    ]
    assert len(addresses) == len(set(addresses)) == 2004


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/keystone-api.service", "keystone-api.service"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("0::/machine.slice/lab.scope/system.slice/nova-api.service/sub", "nova-api.service"),
        ("0::/system.slice/podman.service/system.slice/nova-api.service", "nova-api.service"),
        ("1:name=systemd:/system.slice/a.service\n0::/", "a.service"),
        ("0::/user.slice/user-0.slice/session-1.scope", ""),
        ("0::/init.scope", "init.scope"),
        ("0::/", ""),
    ],
)
def test_the_unit_of_a_process(cgroup: str, unit: str) -> None:
    assert unit_memory.unit_of(cgroup) == unit


def test_memory_is_summed_by_unit(tmp_path: Path) -> None:
    rollup = "Rss:  9000 kB\nPss:  1000 kB\nPss_Anon:  900 kB\nSwapPss:  24 kB\n"
    for process, unit in (("1", "a"), ("2", "a"), ("3", "b")):
        (tmp_path / process).mkdir()
        (tmp_path / process / "cgroup").write_text(f"0::/system.slice/{unit}.service\n")
        (tmp_path / process / "smaps_rollup").write_text(rollup)
    (tmp_path / "4").mkdir()
    (tmp_path / "4/cgroup").write_text("0::/user.slice/session-1.scope\n")
    (tmp_path / "4/smaps_rollup").write_text(rollup)
    folders = [*tmp_path.iterdir(), tmp_path / "gone"]
    assert unit_memory.units(folders) == {"a.service": 2048, "b.service": 1024}
