"""What the steps of an upgrade in the lab are judged by, and with which inventory they are taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Call
from ansible_collections.brume.cloud.plugins.module_utils.run_lines import Report

from tools import upgrades
from tools.fault_parts.runs import FaultError
from tools.fault_parts.upgrades import ROUTER_PINGS, STEPS, Upgrades, missed

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"
FINE, BAD = Call("token", 1.0, 0.2, ""), Call("image", 3.5, 0.2, "HTTP 503")


def report(*calls: Call, rounds: int = 30, **lost: int) -> Report:
    return Report(calls=list(calls), rounds=rounds, lost={name: [1.0] * number for name, number in lost.items()})


def test_no_call_may_fail() -> None:
    assert missed(report(FINE), several=True) == []
    for several in (True, False):
        assert missed(report(FINE, BAD), several) == ["1 calls failed, the first at 3.5 s: HTTP 503"]


def test_a_report_without_calls_or_pings_shows_nothing() -> None:
    assert missed(report(), several=True) == ["no call was made"]
    assert missed(report(FINE, rounds=0), several=True) == ["nothing was pinged"]


def test_pings_may_be_lost_as_a_router_fails_over() -> None:
    enough, many = {"one": ROUTER_PINGS}, {"one": ROUTER_PINGS + 1}
    assert missed(report(FINE, **enough), several=True) == []
    assert missed(report(FINE, **many), several=True) == [f"{ROUTER_PINGS + 1} pings to one were lost"]
    assert missed(report(FINE, **many), several=False) == [], "its only network host starts everything anew"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upgrades:
    monkeypatch.setattr("tools.prediction.ROOT", tmp_path)
    return Upgrades(INVENTORIES / "ha", 1, "2025.1")


def test_the_release_and_hosts_that_stay_are_said_in_the_inventory(bench: Upgrades) -> None:
    first = bench.current()
    assert first.name == "ha", "by which the lab is found"
    assert yaml.safe_load((first / "group_vars/all.yml").read_text())["brume_release"] == "2025.1"
    bench.release, bench.stay = bench.target, {"compute2": "2025.1"}
    second = bench.current()
    assert yaml.safe_load((second / "group_vars/all.yml").read_text())["brume_release"] == bench.target != "2025.1"
    assert yaml.safe_load((second / "host_vars/compute2.yml").read_text()) == {"brume_release": "2025.1"}
    bench.stay = {}
    assert not (bench.current() / "host_vars/compute2.yml").exists()


def test_the_new_release_may_be_another_one_than_the_inventorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.prediction.ROOT", tmp_path)
    steps = {**STEPS, "deploy": lambda bench: f"{bench.former} {bench.target}"}
    monkeypatch.setattr(upgrades, "STEPS", steps)
    words = [str(INVENTORIES / "aio"), "--steps", "deploy"]
    assert upgrades.main([*words, "--former", "2026.1", "--release", "2026.2"]) == 0
    assert "1 deploy: 2026.1 2026.2 (" in capsys.readouterr().out
    assert upgrades.main(words) == 0
    assert "1 deploy: 2025.1 2026.1 (" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        upgrades.main([*words, "--release", "2026.2"])
    assert "no upgrade leads from 2025.1 to 2026.2; name others by --former and --release" in capsys.readouterr().err


def test_steps_end_at_the_first_that_fails(
    bench: Upgrades, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_bench: Upgrades) -> str:
        raise FaultError("the run did not notice")

    steps = {**STEPS, "deploy": lambda _bench: "deployed", "upgrade": fail}
    monkeypatch.setattr(upgrades, "STEPS", steps)
    monkeypatch.setattr(upgrades, "Upgrades", lambda *_words: bench)
    assert upgrades.main(["inventories/ha", "--former", "2025.1", "--seed", "7"]) == 1
    said = capsys.readouterr().out
    assert "1 deploy: deployed" in said and "2 upgrade: FAILED: the run did not notice" in said
    assert said.endswith(f"upgrades: 1 of {len(upgrades.WAY)} steps taken, seed 7\n")
    with pytest.raises(SystemExit):
        upgrades.main(["inventories/ha", "--former", "2025.1", "--steps", "deploy,upgrde"])
    assert "unknown step upgrde; use some of deploy, upgrade" in capsys.readouterr().err
