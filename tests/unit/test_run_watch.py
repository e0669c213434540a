"""Runs that are watched: the actions `run_report` and `api_probe`, the callback `report`, and how the watch ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils import probes, run_lines, run_watch

from .fake_cloud import FakeCloud

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    found = FakeCloud()
    yield found
    found.close()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def probe(folder: Path, state: str, **options: Any) -> dict[str, Any]:
    taken = {
        "state": state,
        "report": "{{ __report.report }}",
        "clouds_file": f"{folder}/clouds.yaml",
        "cloud": "lab",
        **options,
    }
    return {"name": f"Probe {state}", "brume.cloud.api_probe": taken, "register": f"__{state}"}


def playbook(folder: Path, *tasks: Mapping[str, Any]) -> list[dict[str, Any]]:
    begin = {"folder": f"{folder}/reports", "name": "upgrade", "what": "Upgrade", "facts": {"from": "a", "to": "b"}}
    common = {"gather_facts": False, "connection": "local"}
    keep = {
        "name": "Keep what was returned",
        "ansible.builtin.copy": {
            "content": "{{ {'report': __report, 'started': __started, 'stopped': __stopped} | to_json }}",
            "dest": f"{folder}/returned",
            "mode": "0644",
        },
        "when": "__stopped is defined",
    }
    first = [{"name": "Begin", "brume.cloud.run_report": begin, "register": "__report"}, probe(folder, "started")]
    return [
        {"name": "Report", "hosts": "localhost", **common, "tasks": first},
        {"name": "Work", "hosts": "localhost", **common, "tasks": [*tasks, keep]},
    ]


def start(folder: Path, plays: list[dict[str, Any]], *options: str) -> subprocess.Popen[str]:
    (folder / "site.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    (folder / "hosts.yml").write_text(
        f"all: {{hosts: {{localhost: {{ansible_python_interpreter: {sys.executable}}}}}}}\n"
    )
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "hosts.yml")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [*command, *options, str(folder / "site.yml")],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


SLEEP = {"name": "Work for a while", "ansible.builtin.command": {"argv": ["sleep", "3"]}, "changed_when": False}


def reports(folder: Path, suffix: str = "jsonl") -> list[Path]:
    return list((folder / "reports").glob(f"upgrade-*.{suffix}"))


def test_a_run_is_watched_and_reported(cloud: FakeCloud, tmp_path: Path) -> None:
    cloud.clouds_file(tmp_path)
    run = start(tmp_path, playbook(tmp_path, SLEEP, probe(tmp_path, "stopped")))
    assert run.wait() == 0, (tmp_path / "log").read_text()
    returned = json.loads((tmp_path / "returned").read_text())
    assert returned["started"]["apis"] == ["token", "image", "compute", "network"]
    assert not returned["started"]["changed"]
    figures = returned["stopped"]["figures"]
    assert list(figures) == ["token", "image", "compute", "network"]
    assert all(one["calls"] >= 2 and not one["failed"] and one["longest_gap"] > 0 for one in figures.values()), figures
    assert "0 failed" in returned["stopped"]["msg"]
    assert cloud.kept == {"users": {}, "projects": {}}
    (path,) = reports(tmp_path)
    assert not run_watch.is_watched(path)
    found = run_lines.read(path)
    assert [play.name for play in found.plays] == ["Report", "Work"]
    assert (found.what, found.facts, found.failed) == ("Upgrade", {"from": "a", "to": "b"}, [])
    spans = {one.text: one for one in found.work["localhost"]}
    assert spans["Work for a while"].end - spans["Work for a while"].begin >= 3
    assert spans["Work for a while"].outcome == "ok"
    assert spans["Keep what was returned"].outcome == "changed"
    assert "Probe started" in spans
    (page,) = reports(tmp_path, "html")
    assert "Upgrade from a to b" in page.read_text()
    assert "ended well" in page.read_text()
    log = (tmp_path / "log").read_text()
    assert f"Report: {page}" in log
    for text in (log, path.read_text(), page.read_text(), (tmp_path / "returned").read_text()):
        assert "secret-of-admin" not in text


def test_a_run_that_is_killed_leaves_no_probe_and_a_report(cloud: FakeCloud, tmp_path: Path) -> None:
    cloud.clouds_file(tmp_path)
    run = start(tmp_path, playbook(tmp_path, SLEEP))
    wait_for(lambda: bool(reports(tmp_path)) and run_watch.is_watched(reports(tmp_path)[0]), "no probe began")
    (path,) = reports(tmp_path)
    wait_for(lambda: "Work for a while" in path.read_text() and '"call"' in path.read_text(), "nothing was done")
    watch = next(one["pid"] for one in run_lines.events(path.open()) if one["event"] == "probe")
    assert b"secret-of-admin" not in Path(f"/proc/{watch}/cmdline").read_bytes()
    assert [one["name"] for one in cloud.kept["users"].values()] == ["brume-run-probe-RegionOne"]
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not run_watch.is_watched(path), "the probe goes on")
    assert cloud.kept == {"users": {}, "projects": {}}
    (page,) = reports(tmp_path, "html")
    assert "was cut off" in page.read_text()
    assert "Work for a while" in page.read_text()
    assert run_lines.read(path).calls


def test_a_run_that_fails_is_reported_with_the_calls_until_its_end(cloud: FakeCloud, tmp_path: Path) -> None:
    cloud.clouds_file(tmp_path)
    fail = {"name": "Fail", "ansible.builtin.fail": {"msg": "no"}}
    rescued = {"name": "Try", "block": [fail], "rescue": [{"name": "Go on", "ansible.builtin.meta": "noop"}]}
    run = start(tmp_path, playbook(tmp_path, rescued, SLEEP, {**fail, "name": "Fail for good"}))
    assert run.wait() == 2
    (path,) = reports(tmp_path)
    wait_for(lambda: not run_watch.is_watched(path), "the probe goes on")
    assert cloud.kept == {"users": {}, "projects": {}}
    found = run_lines.read(path)
    assert found.failed == ["localhost"]
    assert found.calls
    (page,) = reports(tmp_path, "html")
    assert "stopped by localhost" in page.read_text()


def test_a_cloud_without_credentials_is_told_and_fails_nothing(tmp_path: Path) -> None:
    fail = {"name": "Fail", "ansible.builtin.fail": {"msg": "no"}}
    rescued = {"name": "Try", "block": [fail], "rescue": [{"name": "Go on", "ansible.builtin.meta": "noop"}]}
    run = start(tmp_path, playbook(tmp_path, rescued, probe(tmp_path, "stopped")))
    assert run.wait() == 0, (tmp_path / "log").read_text()
    note = f"the cloud has no credentials yet, there is no {tmp_path}/clouds.yaml"
    returned = json.loads((tmp_path / "returned").read_text())
    assert note in returned["started"]["notes"][0]
    assert returned["stopped"]["figures"] == {}
    assert "no credentials yet" in " ".join((tmp_path / "log").read_text().split())
    (page,) = reports(tmp_path, "html")
    assert note in page.read_text()
    assert "Nothing was pinged." in page.read_text()
    assert "No API call was made." not in page.read_text(), "it is said why"
    assert "ended well" in page.read_text(), "what was rescued has not failed"


def test_why_no_call_is_made_is_said(cloud: FakeCloud, tmp_path: Path) -> None:
    wish = {"clouds_file": str(cloud.clouds_file(tmp_path)), "cloud": "lab"}
    cloud.broken.add("identity")
    assert run_watch.begun(wish) == (None, ["No API call was made: a user for them could not be made: HTTP 503."])
    cloud.broken.clear()
    probe, notes = run_watch.begun(wish)
    assert probe is not None
    assert notes == []


def test_a_dry_run_probes_and_writes_nothing(cloud: FakeCloud, tmp_path: Path) -> None:
    cloud.clouds_file(tmp_path)
    run = start(tmp_path, playbook(tmp_path, probe(tmp_path, "stopped")), "--check")
    assert run.wait() == 0, (tmp_path / "log").read_text()
    assert cloud.seen == []
    assert not (tmp_path / "reports").exists()


def test_a_second_probe_of_a_report_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report"
    lines = run_lines.Lines(path)
    run_watch.fcntl.flock(lines.handle, run_watch.fcntl.LOCK_EX)
    assert run_watch.is_watched(path)
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    try:
        run_watch.main(json.dumps({"report": str(path)}))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    assert "a probe writes to it already" in capsys.readouterr().out
    lines.close()
    assert not run_watch.is_watched(path)


def test_every_address_is_pinged_each_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_watch, "INTERVAL", 0.05)
    ended = threading.Event()
    asked: list[str] = []

    def ping(address: str) -> bool:
        asked.append(address)
        if len(asked) >= 6:
            ended.set()
        return address != "203.0.113.2"

    run_watch.pings(["203.0.113.1", "203.0.113.2"], run_lines.Lines(tmp_path / "report"), ended, ping)
    with (tmp_path / "report").open() as stream:
        found = list(run_lines.events(stream))
    assert sorted(asked) == ["203.0.113.1"] * 3 + ["203.0.113.2"] * 3
    assert [one["lost"] for one in found] == [["203.0.113.2"]] * 3
    assert found[-1]["at"] - found[0]["at"] >= 0.09


class Servers:
    """A probe of a cloud with some instances."""

    def __init__(self, *addresses: str) -> None:
        """Give one instance these floating IPs."""
        floating = [{"addr": one, "OS-EXT-IPS:type": "floating"} for one in addresses]
        found = [{"OS-EXT-SRV-ATTR:host": "compute1", "addresses": {"one": floating}}]
        self.cloud = type("Cloud", (), {"servers": lambda _self: found})()


@pytest.mark.parametrize(
    ("given", "instances", "found"),
    [
        (["203.0.113.9"], False, {"203.0.113.9": ""}),
        (["203.0.113.9"], True, {"203.0.113.9": "", "203.0.113.2": "compute1"}),
        ([], True, {"203.0.113.2": "compute1"}),
        ([], False, {}),
    ],
)
def test_addresses_are_given_or_found(
    given: list[str], instances: bool, found: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "ping", lambda address: address != "203.0.113.1")
    wish = {"ping": given, "ping_instances": instances}
    servers: Any = Servers("203.0.113.1", "203.0.113.2")
    assert run_watch.chosen(wish, servers) == (found, [])


def test_why_nothing_is_pinged_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ping", lambda _address: False)
    wish = {"ping": [], "ping_instances": True}
    silent: Any = Servers("203.0.113.1")
    assert run_watch.chosen(wish, silent)[1] == ["Nothing was pinged: no instance has a floating IP that answers."]
    assert run_watch.chosen(wish, None)[1] == ["Nothing was pinged: there is no API to find instances with."]

    def refuse(_address: str) -> bool:
        raise probes.ProbeError("cannot send ICMP")

    monkeypatch.setattr(probes, "ping", refuse)
    given = {"ping": ["203.0.113.1"], "ping_instances": False}
    assert run_watch.chosen(given, None) == ({}, ["Nothing was pinged: cannot send ICMP."])
