"""The module `swift_ring` and the picture of what it reports."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.module_utils import ring_plot

from .swift_cluster import device, devices, key, ring

ROOT = Path(__file__).resolve().parents[2]
MODULE = "ansible_collections.brume.cloud.plugins.modules.swift_ring"
BUILDERS = "ansible_collections.brume.cloud.plugins.module_utils.swift_builders"
SVG = "{http://www.w3.org/2000/svg}"
FIRST = key(devices()[0])

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    def run(*rings: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
        module = importlib.import_module(MODULE)
        arguments = {"folder": str(tmp_path / "swift"), "rings": list(rings), **options, "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


def test_a_dry_run_says_what_the_run_does_and_the_next_one_has_nothing_to_do(call: Call) -> None:
    rings = [ring("account"), ring("object", part_power=8)]
    dry = call(*rings, check=True)
    run = call(*rings)
    assert run == dry
    assert run["changed"]
    assert run["complete"]
    assert run["actions"][0] == "account: create account (part_power 7, replicas 3.0, min_part_hours 1)"
    assert len(run["actions"]) == 2 * (1 + 12 + 1)
    again = call(*rings)
    assert (again["changed"], again["actions"], again["diff"], again["next"]) == (False, [], [], 0)
    assert [one["sha256"] for one in again["rings"]] == [one["sha256"] for one in run["rings"]]


def test_frozen_rings_are_returned_as_they_are(call: Call, tmp_path: Path) -> None:
    missing = call(ring(), frozen=True)
    assert "object.ring.gz is missing, and is not built for some hosts only" in missing["msg"]
    built = call(ring(), content=True)
    before = {path: path.read_bytes() for path in (tmp_path / "swift").iterdir() if path.is_file()}
    found = call(ring(devices=devices()[1:]), lost=[FIRST], frozen=True, content=True)
    assert (found["changed"], found["actions"], found["complete"], found["diff"]) == (False, [], True, [])
    kept = ("name", "sha256", "md5", "content")
    assert [{key: one[key] for key in kept} for one in found["rings"]] == [
        {key: one[key] for key in kept} for one in built["rings"]
    ]
    assert {path: path.read_bytes() for path in before} == before


def test_the_diff_shows_what_moves_and_how_well_it_is_balanced(call: Call) -> None:
    new = call(ring(min_part_hours=0))["diff"]
    assert [(one["before_header"], one["before"]) for one in new] == [("ring object (absent)", "")]
    declared = ring(min_part_hours=0, devices=devices()[1:])
    dry, run = call(declared, check=True), call(declared)
    assert dry == run
    (diff,) = run["diff"]
    (report,) = run["rings"]
    lines = {side: diff[side].splitlines() for side in ("before", "after")}
    for side in ("before", "after"):
        assert f"balance: {report[side]['balance']:.2f}" in lines[side]
        assert f"dispersion: {report[side]['dispersion']:.2f}" in lines[side]
    assert f"r1z1-{FIRST}: weight 100, partitions 32, balance 0.00" in lines["before"]
    assert f"r1z1-{FIRST}: weight 0, partitions 0, balance 0.00, leaving: not declared" in lines["after"]
    assert f"partitions moved: {report['moved']} ({100 * report['moved_share']:.2f} %)" in lines["after"]
    assert report["moved"] > 30


def test_a_deferred_change_says_when_it_goes_on(call: Call) -> None:
    call(ring(), ring("account", min_part_hours=2))
    wider = [*devices(), device(1, 3)]
    result = call(ring(devices=wider), ring("account", min_part_hours=2, devices=wider))
    assert result["complete"] is False
    assert 3500 < result["next"] <= 3600
    assert "not complete: min_part_hours" in result["diff"][0]["after"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maximum_share": 1.1}, "maximum_share: 1.1 is no share; write a number from 0 to 1"),
        ({"history": -1}, "history: -1 is no number of builders; write a number from 0 up"),
        ({"lost": ["sdb"]}, "lost: 'sdb' is no device; write address and name, such as 10.0.0.1/sdb"),
    ],
)
def test_bad_options_are_explained(options: dict[str, Any], message: str, call: Call, tmp_path: Path) -> None:
    result = call(ring(), **options)
    assert (result["failed"], result["msg"]) == (True, message)
    assert not tmp_path.joinpath("swift").exists()


def test_problems_come_as_lines(call: Call) -> None:
    call(ring(), ring("account"))
    result = call(ring(replicas=2), ring("account", part_power=6))
    assert result["msg"].splitlines() == result["problems"]
    assert [one.split(":")[0] for one in result["problems"]] == ["ring object", "ring account"]


def test_what_another_hand_has_done_is_a_warning(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the controller's part of Ansible is loaded too, warnings are shown and not in the result.
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, text: warnings.append(text))
    call(ring())
    assert warnings == []
    tmp_path.joinpath("swift/object.state.json").write_text('{"another": {"ring": ""}}')
    call(ring(), check=True)
    assert warnings == ["ring object: its builder was changed by another hand; what is not declared goes: nothing"]


def test_without_swift_a_dry_run_predicts_new_rings(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    known = call(ring())["actions"]
    package, _, name = BUILDERS.rpartition(".")
    monkeypatch.setitem(sys.modules, BUILDERS, None)
    monkeypatch.delattr(importlib.import_module(package), name)
    result = call(ring(), check=True)
    assert result["msg"].endswith("run this module with the Python of Swift's environment"), "there is a ring"
    account = call(ring("account"), check=True)
    assert account["actions"] == [one.replace("object", "account") for one in known[:-1]]
    assert call(ring("account", part_power=0), check=True)["failed"]
    assert call(ring("account"))["failed"], "a run needs Swift"


def test_a_play_gets_all_that_the_module_needs_and_the_picture(tmp_path: Path) -> None:
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"brume.cloud.swift_ring": {"folder": str(tmp_path / "swift"), "rings": [ring()]}, "register": "result"},
            {
                "ansible.builtin.copy": {
                    "content": "{{ result.rings[0] | brume.cloud.ring_plot }}",
                    "dest": str(tmp_path / "object.svg"),
                    "mode": "0644",
                }
            },
        ],
    }
    tmp_path.joinpath("play.yml").write_text(json.dumps([play]))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")), "-i", "host,", "-c", "local",
        "-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml"),
    ]  # fmt: skip
    configuration = tmp_path / "ansible.cfg"  # without the callbacks that plan
    configuration.write_text(f"[defaults]\ncollections_path = {ROOT / '.collections'}\n")
    environment = {**os.environ, "ANSIBLE_CONFIG": str(configuration)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.joinpath("swift").iterdir()) == [
        "history", "object.builder", "object.ring.gz", "object.state.json"
    ]  # fmt: skip
    picture = ElementTree.fromstring(tmp_path.joinpath("object.svg").read_text())  # noqa: S314  # our own
    assert len(bars(picture)) == len(devices())


def drawn(report: dict[str, Any]) -> ElementTree.Element:
    """Return the picture of a ring as elements."""
    return ElementTree.fromstring(ring_plot.svg(report))  # noqa: S314  # our own


def bars(picture: ElementTree.Element) -> dict[str, str]:
    """Return by device what its title says."""
    titles = [one.findtext(f"{SVG}title") or "" for one in picture.findall(f"{SVG}g")]
    return dict(title.split(": ", 1) for title in titles)


def test_the_picture_has_every_device_before_and_after(call: Call) -> None:
    first = drawn(call(ring(min_part_hours=0))["rings"][0])
    assert set(bars(first)) == {key(one) for one in devices()}
    assert bars(first)[FIRST] == "new, 32 now, 32 wanted, balance 0.00 %"
    (report,) = call(ring(min_part_hours=0, devices=[*devices()[1:], device(4, 1)]), lost=[FIRST])["rings"]
    picture = drawn(report)
    found = bars(picture)
    assert found[FIRST] == "32 before, removed"
    assert found["10.0.4.1/sdb"].startswith("new, ")
    assert len(found) == 13
    heads = [one.text for one in picture.findall(f"{SVG}text")]
    assert [one for one in heads if one and one.startswith("region")] == [f"region 1 zone {zone}" for zone in "1234"]
    assert f"{report['moved']} partitions moved" in (picture.findtext(f"{SVG}title") or "")
    assert ring_plot.svg({"name": "object", "changed": True, "actions": []}) == ""


def test_nothing_of_the_picture_is_cut_off(call: Call) -> None:
    (report,) = call(ring(min_part_hours=0, replicas=1, devices=[device(1, 1), device(2, 1, weight=1.0)]))["rings"]
    many = {**report, "after": {**report["after"], "devices": {
        f"10.0.{number % 5}.{number}/sdb": {"id": number, "region": 1, "zone": number % 5 + 1, "weight": 1.0,
                                            "parts": number, "wanted": 500.0, "balance": 0.0}
        for number in range(1000)
    }}}  # fmt: skip
    for one in (report, many):
        picture = drawn(one)
        width, height = (float(picture.get(side) or 0) for side in ("width", "height"))
        rectangles = picture.findall(f"{SVG}g/{SVG}rect")
        assert len(rectangles) >= 2
        for shape in rectangles:
            left, top, wide, high = (float(shape.get(name) or 0) for name in ("x", "y", "width", "height"))
            assert left >= ring_plot.LEFT
            assert left + wide <= width
            assert top >= ring_plot.TOP - 0.1
            assert top + high <= height
