"""Units: what starts anew and why, in what order, and what happens when one does not become well."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import rollout
from ansible_collections.brume.cloud.plugins.module_utils.rollout import State, Step, Unit

UP = State("loaded", "active", "running", "enabled")
UNIT = Unit("a.service", content="[Service]\n", files=("/etc/a",), revision="1")
TEXTS = {f"{rollout.UNIT_DIRECTORY}/a.service": "[Service]\n"}
RECORD = {"digest": "whole", "start_digest": "start"}
DIGESTS = ("whole", "start")


def variant(**changes: Any) -> Unit:
    """Return UNIT with other fields."""
    return Unit(**{**vars(UNIT), **changes})


IDLE = Unit("a.service", idle=True)


def test_a_dry_run_knows_that_a_package_enables_its_unit() -> None:
    assert rollout.decide(IDLE, State(), None, {}, DIGESTS, simulated=True).remove


@pytest.mark.parametrize(
    ("unit", "state", "record", "digests", "changed", "actions"),
    [
        (UNIT, UP, RECORD, DIGESTS, (), []),
        (UNIT, UP, RECORD, ("new", "start"), (), ["restart a.service (its files changed since it last started well)"]),
        (UNIT, UP, RECORD, DIGESTS, ("/etc/a", "/etc/b"), ["restart a.service (/etc/a changed)"]),
        (UNIT, UP, RECORD, DIGESTS, ("/etc/b",), []),
        (UNIT, UP, RECORD, ("new", "new"), (), ["restart a.service (its unit or release changed)"]),
        (UNIT, UP, {}, DIGESTS, (), ["restart a.service (has never been seen to start well with this configuration)"]),
        (UNIT, State("loaded", "inactive", "dead", "enabled"), RECORD, DIGESTS, (), ["start a.service (does not run)"]),
        (UNIT, State("loaded", "failed", "failed", "enabled"), RECORD, DIGESTS, (), ["restart a.service (has failed)"]),
        (
            UNIT,
            State("loaded", "activating", "auto-restart", "enabled"),
            RECORD,
            DIGESTS,
            (),
            ["restart a.service (does not run)"],
        ),
        (UNIT, State("loaded", "active", "running", "disabled"), RECORD, DIGESTS, (), ["enable a.service"]),
        (variant(enabled=False), UP, RECORD, DIGESTS, (), ["disable a.service"]),
        (UNIT, State(), {}, DIGESTS, (), ["enable a.service", "start a.service (does not run)"]),
        (
            variant(on_change="reload"),
            UP,
            RECORD,
            ("new", "start"),
            (),
            ["reload a.service (its files changed since it last started well)"],
        ),
        (
            variant(on_change="reload"),
            UP,
            RECORD,
            ("new", "new"),
            (),
            ["restart a.service (its unit or release changed)"],
        ),
        (variant(on_change="none"), UP, RECORD, ("new", "new"), (), []),
        (
            variant(on_change="none"),
            State("loaded", "inactive", "dead", "enabled"),
            RECORD,
            DIGESTS,
            (),
            ["start a.service (does not run)"],
        ),
        (
            variant(content="other"),
            UP,
            RECORD,
            DIGESTS,
            (),
            ["write /etc/systemd/system/a.service", "restart a.service (its unit or release changed)"],
        ),
        (
            variant(content=None, dropin="x"),
            UP,
            RECORD,
            DIGESTS,
            (),
            ["write /etc/systemd/system/a.service.d/brume.conf", "restart a.service (its unit or release changed)"],
        ),
        (
            variant(versions="2026.1"),
            UP,
            RECORD,
            DIGESTS,
            (),
            ["restart a.service (it keeps the versions that other services had)"],
        ),
        (variant(versions="2026.1"), UP, {**RECORD, "versions": "2026.1"}, DIGESTS, (), []),
        (UNIT, UP, {**RECORD, "versions": "2025.1"}, DIGESTS, (), []),
        (
            variant(broker="b"),
            UP,
            {**RECORD, "broker": "a"},
            DIGESTS,
            (),
            ["restart a.service (its broker was made anew)"],
        ),
        (variant(broker="b"), UP, {**RECORD, "broker": "b"}, DIGESTS, (), []),
        (
            variant(broker="b"),
            UP,
            RECORD,
            DIGESTS,
            (),
            ["restart a.service (it is not known to have started with this broker)"],
        ),
        (UNIT, UP, {**RECORD, "broker": "a"}, DIGESTS, (), []),
        (
            variant(broker="b", on_change="reload"),
            UP,
            {**RECORD, "broker": "a"},
            ("new", "start"),
            (),
            ["restart a.service (its broker was made anew)"],
        ),
        (variant(absent=True), UP, RECORD, DIGESTS, (), ["stop, disable and remove a.service (nothing here plans it)"]),
        (variant(absent=True), UP, {}, DIGESTS, (), []),
        (IDLE, UP, {}, DIGESTS, (), ["stop and disable a.service (nothing here plans it)"]),
        (
            IDLE,
            State("loaded", "inactive", "dead", "enabled"),
            {},
            DIGESTS,
            (),
            ["stop and disable a.service (nothing here plans it)"],
        ),
        (IDLE, State("loaded", "inactive", "dead", "disabled"), {}, DIGESTS, (), []),
        (IDLE, State(), {}, DIGESTS, (), []),
    ],
)
def test_a_unit_is_touched_only_for_a_reason(
    unit: Unit,
    state: State,
    record: dict[str, str],
    digests: tuple[str, str],
    changed: Sequence[str],
    actions: list[str],
) -> None:
    assert rollout.decide(unit, state, record, TEXTS, digests, changed_files=changed).actions == actions


FILES = ("/etc/a", "/etc/ca.crt", "/etc/host.crt")


@pytest.mark.parametrize(
    ("changes", "digests", "changed", "action"),
    [
        ({}, DIGESTS, ("/etc/host.crt",), "reload a.service (/etc/host.crt changed)"),
        ({}, DIGESTS, ("/etc/host.crt", "/etc/ca.crt"), "reload a.service (/etc/ca.crt, /etc/host.crt changed)"),
        ({}, DIGESTS, ("/etc/host.crt", "/etc/a"), "restart a.service (/etc/a, /etc/host.crt changed)"),
        ({}, ("new", "start"), (), "restart a.service (its files changed since it last started well)"),
        ({}, ("new", "new"), ("/etc/ca.crt",), "restart a.service (its unit or release changed)"),
        ({"on_change": "none"}, ("new", "start"), ("/etc/ca.crt",), ""),
        ({"reload_files": ()}, DIGESTS, ("/etc/ca.crt",), "restart a.service (/etc/ca.crt changed)"),
        ({"on_change": "reload", "reload_files": ()}, DIGESTS, ("/etc/a",), "reload a.service (/etc/a changed)"),
    ],
)
def test_a_reload_is_enough_where_only_certificates_changed(
    changes: dict[str, Any], digests: tuple[str, str], changed: Sequence[str], action: str
) -> None:
    unit = variant(**{"files": FILES, "reload_files": FILES[1:], **changes})
    actions = rollout.decide(unit, UP, RECORD, TEXTS, digests, changed_files=changed).actions
    assert actions == ([action] if action else [])


def test_who_reconnects_is_left_as_it_is_otherwise() -> None:
    """What differs from the plan was not asked for, and what was never seen to run is none of it."""
    states = {"a.service": UP, "b.service": UP, "c.service": UP, "d.service": State("loaded", "failed", "failed")}
    with_broker = {"a.service": "a", "b.service": "b", "d.service": "a"}
    records = {name: {"broker": broker} for name, broker in with_broker.items()}
    steps = [
        rollout.decide(variant(name=name, content="new", broker="b"), state, records.get(name), {}, DIGESTS)
        for name, state in states.items()
    ]
    found = rollout.of_stage(steps, states, "reconnect", simulated=False)
    assert [line for step in found for line in step.actions] == [
        "restart a.service (its broker was made anew)",
        "restart d.service (has failed)",
    ]
    assert not any(step.record for step in found)


def test_files_that_differ_from_the_record_are_named() -> None:
    contents = {"/etc/a": b"one", "/etc/ca.crt": b"two"}
    unit = variant(files=FILES)
    recorded = rollout.file_digests(unit, contents.get)
    assert list(recorded) == list(FILES)
    assert recorded["/etc/host.crt"] == "absent"
    assert recorded["/etc/a"] == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # sha256sum
    assert rollout.differing(recorded, recorded) == []
    later = rollout.file_digests(unit, {"/etc/a": b"one", "/etc/host.crt": b"new"}.get)
    assert rollout.differing(recorded, later) == ["/etc/ca.crt", "/etc/host.crt"]
    assert rollout.differing({"/etc/a": recorded["/etc/a"]}, {**recorded}) == ["/etc/ca.crt", "/etc/host.crt"]
    assert rollout.differing({}, later) == [], "nothing was recorded, so nothing is known"


@pytest.mark.parametrize(
    ("socket_verb", "service", "expected"),
    [
        ("start", Step(Unit("a.service")), "restart a.service (a.socket starts anew)"),
        ("restart", Step(Unit("a.service"), "reload", "x changed"), "restart a.service (a.socket starts anew)"),
        ("start", Step(Unit("a.service"), "start", "does not run"), "start a.service (does not run)"),
        ("start", Step(Unit("a.service"), "restart", "x changed"), "restart a.service (x changed)"),
        ("start", Step(Unit("a.service", absent=True)), ""),
        ("start", Step(Unit("b.service")), ""),
        ("", Step(Unit("a.service")), ""),
    ],
)
@pytest.mark.parametrize("socket_name", ["a.socket", "other.socket"])
def test_a_service_starts_anew_with_its_socket(
    socket_name: str, socket_verb: rollout.Verb, service: Step, expected: str
) -> None:
    states = {"other.socket": State(triggers="a.service")} if socket_name == "other.socket" else {}
    steps = rollout.with_sockets(
        [service, Step(Unit(socket_name), socket_verb), Step(Unit("c.service"), "restart")], states
    )
    expected = expected.replace("a.socket", socket_name)
    assert steps[0].actions == ([expected] if expected else [])
    assert [step.verb for step in steps[1:]] == [socket_verb, "restart"]
    assert rollout.service_of(socket_name, states) == "a.service"
    assert [rollout.is_socket(name) for name in ("a.socket", "a.service")] == [True, False]


def test_an_absent_unit_that_is_not_there_needs_nothing() -> None:
    step = rollout.decide(variant(absent=True), State(), {}, {}, DIGESTS)
    assert not step.actions


def test_a_digest_is_recorded_even_where_nothing_is_restarted() -> None:
    assert rollout.decide(variant(on_change="none"), UP, RECORD, TEXTS, ("new", "new")).record
    assert not rollout.decide(UNIT, UP, RECORD, TEXTS, DIGESTS).record


@pytest.mark.parametrize("change", [{"content": "x"}, {"dropin": "x"}, {"revision": "2"}, {"files": ()}])
def test_the_digest_covers_what_a_unit_runs_on(change: dict[str, Any]) -> None:
    def text(_path: str) -> bytes:
        return b"text"

    assert rollout.digest(variant(**change), text)[0] != rollout.digest(UNIT, text)[0]
    assert rollout.digest(UNIT, lambda _path: b"other")[0] != rollout.digest(UNIT, text)[0]
    assert rollout.digest(UNIT, lambda _path: None)[0] != rollout.digest(UNIT, lambda _path: b"")[0]
    assert rollout.digest(UNIT, lambda _path: b"other")[1] == rollout.digest(UNIT, text)[1]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([{"name": "a"}, {"name": "a"}], "a: given more than once"),
        ([{"name": "a", "after": ["b"]}], "a: after names b"),
        ([{"name": "a", "after": ["b"]}, {"name": "b", "after": ["a"]}], "after: a, b wait for each other"),
        ([{"name": "a", "health": {"ping": 1}}], "a: unknown health check ping"),
    ],
)
def test_units_that_contradict_each_other_are_refused(items: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(rollout.UnitError, match=words):
        rollout.parse(items)


def test_states_are_read_in_the_order_of_the_names() -> None:
    text = (
        "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNRestarts=3\n"
        "NeedDaemonReload=yes\n\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"
    )
    assert rollout.parse_show(text, ["a", "b"]) == {
        "a": State("loaded", "active", "running", "enabled", 3, True),
        "b": State(),
    }


AGAIN = State("loaded", "activating", "auto-restart", result="exit-code")
"""systemd has seen it fail and tries again by itself."""


class FakeSystemd(rollout.Systemd):
    """A service manager whose units do what a test says: name -> states after its start, the last one stays."""

    def __init__(self, behavior: dict[str, list[State]], codes: dict[str, int] | None = None) -> None:
        """Take what units do, and the exit codes of starts that fail."""
        self.behavior = behavior
        self.codes = codes or {}
        self.calls: list[str] = []

    def run(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Remember the call."""
        self.calls.append(" ".join(arguments))
        return subprocess.CompletedProcess([], self.codes.get(arguments[-1], 0), "", "Job failed.\n")

    def states(self, names: Sequence[str]) -> dict[str, State]:
        """Return each unit's next state."""
        return {
            name: self.behavior[name].pop(0) if len(self.behavior[name]) > 1 else self.behavior[name][0]
            for name in names
        }

    def journal(self, name: str) -> list[str]:
        """Return one line."""
        return [f"{name} says why"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "POLL", 0.01)
    monkeypatch.setattr(rollout, "SETTLED", 0.05)
    monkeypatch.setattr(rollout, "SETTLED_PYTHON", 0.05)


@pytest.mark.parametrize(
    ("unit", "settled", "well"),
    [
        (Unit("a"), 2.0, True),
        (Unit("a"), 1.9, False),
        (Unit("a", revision="/opt/brume/a/1"), 2.0, False),
        (Unit("a", revision="/opt/brume/a/1"), 5.0, True),
    ],
)
def test_a_program_that_is_read_first_is_looked_at_longer(
    unit: Unit, settled: float, well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swift's load for some seconds before they find that a file of theirs is wrong."""
    monkeypatch.setattr(rollout, "SETTLED", 2.0)
    monkeypatch.setattr(rollout, "SETTLED_PYTHON", 5.0)
    assert rollout._problem(unit, settled) == ("" if well else "it has just started")


def go(systemd: FakeSystemd, *items: Unit) -> tuple[dict[str, rollout.Outcome], list[str]]:
    """Restart the units and return the outcomes by name, and the names that were recorded."""
    recorded: list[str] = []
    steps = [Step(item, verb="restart") for item in items]
    states = {item.name: UP for item in items}
    outcomes = rollout.roll_out(steps, states, systemd, lambda step: recorded.append(step.unit.name))
    return {outcome.name: outcome for outcome in outcomes}, recorded


@pytest.mark.parametrize(
    ("states", "code", "message"),
    [
        ([UP], 0, ""),
        ([State("loaded", "activating", "start"), UP], 0, ""),
        ([UP, State("loaded", "failed", "failed", result="exit-code")], 0, "it failed (exit-code)"),
        ([State("loaded", "inactive", "dead")], 0, "it ended"),
        (
            [State("loaded", "active", "running", restarts=2, result="exit-code")],
            0,
            "it ended and was restarted 2 times (exit-code)",
        ),
        ([State("loaded", "activating", "start")], 0, "not well after 0 s: it is activating (start)"),
        ([UP], 1, "systemctl restart: Job failed."),
        ([AGAIN, State("loaded", "activating", "start", restarts=1), UP], 1, ""),
        (
            [AGAIN, State("loaded", "activating", "auto-restart", restarts=2, result="exit-code")],
            1,
            "it ended and was restarted 2 times (exit-code)",
        ),
    ],
)
def test_a_unit_counts_as_well_only_when_it_stays(states: list[State], code: int, message: str) -> None:
    outcomes, recorded = go(FakeSystemd({"a": states}, {"a": code}), Unit("a", timeout=0.3))
    assert outcomes["a"].message == message
    assert recorded == ([] if message else ["a"])
    assert outcomes["a"].journal == (["a says why"] if message else [])


def test_a_unit_starts_when_what_it_waits_for_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["refused", "refused", ""]
    asked: list[tuple[str, int]] = []

    def answer(host: str, port: int, seconds: float = 5.0) -> str:
        asked.append((host, port))
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(rollout, "tcp_problem", answer)
    systemd = FakeSystemd({"a": [UP]})
    outcomes, _recorded = go(systemd, Unit("a", waits_for={"host": "192.0.2.1", "port": 1}, timeout=5))
    assert outcomes["a"].healthy
    assert asked == [("192.0.2.1", 1)] * 3
    answers[:] = ["192.0.2.1 port 1: refused"]
    systemd = FakeSystemd({"a": [UP]})
    outcomes, _recorded = go(systemd, Unit("a", waits_for={"host": "192.0.2.1", "port": 1}, timeout=0.1))
    assert "what it needs does not answer after 0 s: 192.0.2.1 port 1: refused" in outcomes["a"].message
    assert systemd.calls == [], "it is not started"


def test_what_waits_for_a_unit_that_fails_is_left_alone_and_the_rest_is_recorded() -> None:
    systemd = FakeSystemd({"a": [State("loaded", "failed", "failed")], "b": [UP], "c": [UP]})
    outcomes, recorded = go(systemd, Unit("b", after=("a",)), Unit("a"), Unit("c"))
    assert outcomes["b"].message == "left alone, because a is not well"
    assert recorded == ["c"]
    assert not any("b" in call.split() for call in systemd.calls)
    text = rollout.failure_text(outcomes.values())
    assert "a: it failed" in text
    assert "    a says why" in text
    assert "journalctl -u a" in text


def test_what_runs_is_waited_for_and_neither_touched_nor_recorded() -> None:
    """After a reboot: who is about to run is not started anew, as a start anew would be when a member catches up."""
    old, late, ended, gone = (replace(UNIT, name=f"{name}.service") for name in ("old", "late", "ended", "gone"))
    states = {old.name: UP, late.name: State(active="activating"), ended.name: State(active="inactive")}
    steps = [
        Step(old, verb="restart", reason="its files changed", record=True),
        Step(late, verb="restart", record=True),
        Step(ended, verb="start", reason="does not run", record=True),
        Step(replace(gone, idle=True), remove=True),
    ]
    staged = rollout.of_stage(steps, {**states, gone.name: UP}, "well", simulated=False)
    assert [(step.unit.name, step.verb) for step in staged] == [
        (old.name, "wait"),
        (late.name, "wait"),
        (ended.name, "start"),
    ]
    assert [line for step in staged for line in step.actions] == [f"start {ended.name} (does not run)"]
    systemd = FakeSystemd({old.name: [UP], late.name: [State(active="activating"), UP], ended.name: [UP]})
    recorded: list[str] = []
    outcomes = rollout.roll_out(staged, states, systemd, lambda step: recorded.append(step.unit.name))
    assert all(one.healthy for one in outcomes), outcomes
    assert systemd.calls == [f"start -- {ended.name}"]
    assert recorded == [ended.name], "what it runs on is not known"
    broken = FakeSystemd({old.name: [State(load="loaded", active="failed", result="exit-code")]})
    (outcome,) = rollout.roll_out(staged[:1], states, broken, lambda step: recorded.append(step.unit.name))
    assert (outcome.healthy, outcome.message) == (False, "it failed (exit-code)")


def test_a_unit_starts_when_those_before_it_are_well() -> None:
    systemd = FakeSystemd({"a": [State("loaded", "activating", "start")] * 5 + [UP], "b": [UP]})
    _outcomes, recorded = go(systemd, Unit("b", after=("a",)), Unit("a"))
    assert recorded == ["a", "b"]
    assert systemd.calls == ["restart -- a", "restart -- b"]


def test_units_that_do_not_wait_for_each_other_start_side_by_side() -> None:
    barrier = threading.Barrier(3, timeout=5)

    class Slow(FakeSystemd):
        def run(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
            barrier.wait()
            return super().run(*arguments, timeout=timeout)

    outcomes, _recorded = go(Slow({name: [UP] for name in "abc"}), *(Unit(name) for name in "abc"))
    assert all(outcome.healthy for outcome in outcomes.values())


def test_states_of_many_units_cost_one_process_at_a_time() -> None:
    class Counting(FakeSystemd):
        reads = 0

        def states(self, names: Sequence[str]) -> dict[str, State]:
            Counting.reads += 1
            return super().states(names)

    watch = rollout.Watch(Counting({name: [UP] for name in "abc"}), clock=lambda: 100.0)
    for name in "abc":
        watch.add(name)
    for name in "abc":
        watch.state(name)
    assert Counting.reads == 1


@pytest.fixture
def web() -> Iterator[Callable[[int], str]]:
    servers = []

    def serve(status: int) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "well"), [(200, True), (401, True), (499, True), (500, False), (503, False)])
def test_http_counts_below_500(web: Callable[[int], str], status: int, well: bool) -> None:
    assert (rollout.http_problem(web(status)) == "") is well


def test_a_closed_port_is_a_problem_and_an_open_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert rollout.tcp_problem("127.0.0.1", port) == ""
    assert "refused" in rollout.tcp_problem("127.0.0.1", port)
    assert "refused" in rollout.http_problem(f"http://127.0.0.1:{port}/")


def test_a_command_must_succeed() -> None:
    def outcome(script: str) -> rollout.Outcome:
        unit = Unit("a", health={"command": [sys.executable, "-c", script]}, timeout=0.5)
        return go(FakeSystemd({"a": [UP]}), unit)[0]["a"]

    assert outcome("").healthy
    assert "exits with 3: why" in outcome("import sys; print('why', file=sys.stderr); sys.exit(3)").message


FAKE_AMQP = """
import json, os, types

class AMQPError(Exception): pass
class NotFound(AMQPError): pass
exceptions = types.SimpleNamespace(AMQPError=AMQPError, NotFound=NotFound)

class Connection:
    count = 0
    def __init__(self, host, **options):
        open(os.environ["SEEN"], "a").write(json.dumps({"host": host, **options}, default=int) + "\\n")
        if host.startswith("down"):
            raise OSError("refused")
    def connect(self): pass
    def close(self): pass
    def channel(self): return self
    def queue_declare(self, queue, passive):
        Connection.count += 1
        if Connection.count < 3 or queue == "never":
            raise NotFound(queue)
        self.consumer_count = 0 if queue == "unheard" or Connection.count < 4 else 1
        return self
"""


def probe(tmp_path: Path, config: str, queue: str = "q") -> tuple[int, str, list[str]]:
    """Run the queue probe with a library that stands in for amqp."""
    (tmp_path / "amqp.py").write_text(FAKE_AMQP)
    (tmp_path / "a.conf").write_text(config)
    seen = tmp_path / "seen"
    done = subprocess.run(
        [sys.executable, "-", queue, str(tmp_path / "a.conf"), "1"],
        input=rollout.QUEUE_PROBE,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "SEEN": str(seen)},
    )
    return done.returncode, done.stderr.strip(), seen.read_text().splitlines() if seen.exists() else []


def test_the_queue_probe_tries_every_broker_until_the_queue_is_there(tmp_path: Path) -> None:
    code, error, seen = probe(
        tmp_path,
        "[DEFAULT]\ntransport_url = rabbit://u:p%2Fw@down:5671,u:p%2Fw@[::1]:5671/v%2F1\n"
        "[oslo_messaging_rabbit]\nssl = true\nssl_ca_file = /ca\n",
    )
    assert (code, error) == (0, "")
    assert [line.partition(", ")[0] for line in seen] == ['{"host": "down:5671"', '{"host": "[::1]:5671"']
    assert '"password": "p/w"' in seen[1]
    assert '"virtual_host": "v/1"' in seen[1]
    assert '"ca_certs": "/ca"' in seen[1]
    assert '"server_hostname": "::1"' in seen[1]


@pytest.mark.parametrize(
    ("config", "queue", "message"),
    [
        ("[DEFAULT]\ntransport_url = rabbit://u:pw@h/\n", "never", "the queue never does not exist yet"),
        ("[DEFAULT]\ntransport_url = rabbit://u:pw@down/\n", "q", "down port 5672: OSError: refused"),
        ("[other]\ntransport_url = rabbit://u:pw@h/\n", "q", "[DEFAULT] transport_url is missing"),
    ],
)
def test_the_queue_probe_says_why_and_no_password(tmp_path: Path, config: str, queue: str, message: str) -> None:
    code, error, _seen = probe(tmp_path, config, queue)
    assert code == 1
    assert message in error
    assert "pw" not in error


def test_a_queue_probe_ends_with_its_unit(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    health = {"queue": {"name": "q", "config_file": "/x", "python": str(fake)}}
    began = time.monotonic()
    outcomes, _recorded = go(
        FakeSystemd({"a": [UP, UP, UP, State("loaded", "failed", "failed")]}), Unit("a", health=health)
    )
    assert outcomes["a"].message == "it failed (failed)"
    assert time.monotonic() - began < 5
