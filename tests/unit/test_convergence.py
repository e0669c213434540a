"""The skeleton of the modules: actions, what is reported of them, and files that are never seen half written."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import convergence
from ansible_collections.brume.cloud.plugins.module_utils.convergence import Action, ConvergenceError


def fail(message: str) -> Callable[[], Any]:
    def call() -> None:
        raise RuntimeError(message)

    return call


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action("user", "create", "nova", {}, {"enabled": True}), "create user nova"),
        (Action("user", "delete", "nova", {"enabled": True}, {}), "delete user nova"),
        (Action("service", "update", "n", {"type": "a", "b": 1}, {"type": "c", "b": 1}), "update service n (type)"),
    ],
)
def test_an_action_is_a_sentence(action: Action, text: str) -> None:
    assert str(action) == text


def test_check_mode_reports_the_same_and_applies_nothing() -> None:
    done: list[str] = []
    actions = [Action("thing", "update", "x", {"a": "1"}, {"a": "2"}, lambda: done.append("x"))]
    simulated = convergence.converge(actions, check_mode=True)
    assert done == []
    assert convergence.converge(actions, check_mode=False) == simulated
    assert done == ["x"]
    assert simulated["changed"] is True
    assert simulated["diff"] == [
        {"before_header": "thing x", "after_header": "thing x", "before": "a: 1\n", "after": "a: 2\n"}
    ]
    assert convergence.converge([], check_mode=False) == {"changed": False, "actions": [], "diff": []}


def test_steps_run_in_order_and_a_failed_step_ends_the_run_with_every_error_of_it() -> None:
    done: list[str] = []
    actions = [
        Action("c", "create", "later", apply=lambda: done.append("later"), step=3),
        Action("b", "create", "one", apply=fail("no"), step=2),
        Action("b", "create", "two", apply=fail("never"), step=2),
        Action("b", "create", "three", apply=lambda: done.append("three"), step=2),
        Action("a", "create", "first", apply=lambda: done.append("first"), step=1),
    ]
    with pytest.raises(ConvergenceError) as caught:
        convergence.apply_actions(actions, limit=4)
    assert str(caught.value) == "create b one: no\ncreate b two: never"
    assert done == ["first", "three"]


def test_objects_of_the_same_name_are_all_treated() -> None:
    done: list[int] = []
    convergence.apply_actions(
        [Action("service", "delete", "nova-conductor", apply=lambda n=n: done.append(n)) for n in range(3)]
    )
    assert sorted(done) == [0, 1, 2]


def test_side_by_side_runs_together_up_to_the_limit() -> None:
    together = threading.Barrier(3, timeout=5)
    outcomes = convergence.side_by_side(dict.fromkeys("abc", together.wait), limit=3)
    assert [outcome.error for outcome in outcomes.values()] == [None] * 3
    running, most = [0], [0]
    lock = threading.Lock()

    def count() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.01)
        with lock:
            running[0] -= 1

    convergence.side_by_side({str(number): count for number in range(9)}, limit=2)
    assert most == [2]


def test_outcomes_keep_names_and_order() -> None:
    outcomes = convergence.side_by_side({"b": lambda: 1, "a": fail("broken")})
    assert list(outcomes) == ["b", "a"]
    assert outcomes["b"].value == 1
    with pytest.raises(ConvergenceError, match=r"^a: broken$"):
        convergence.values(outcomes)


def test_text_is_one_line_per_key() -> None:
    value = {"b": True, "a": "x: y", "d": None, "c": {"k": 1}, "e": ""}
    assert convergence.to_text(value) == 'a: x: y\nb: true\nc: {"k": 1}\nd: null\ne: ""\n'


@pytest.mark.parametrize(
    ("text", "redactions", "expected"),
    [
        ("key=abcd", {"abc": "short", "abcd": "long"}, "key=<secret long>"),
        ("x", {"": "nothing"}, "x"),
        ("aa", {"a": "<hidden>"}, "<hidden><hidden>"),
    ],
)
def test_redaction(text: str, redactions: dict[str, str], expected: str) -> None:
    assert convergence.redact(text, redactions) == expected


def test_duplicates() -> None:
    assert convergence.duplicates(["a", "b", "a", "c", "b", "a"]) == ["a", "b"]


def test_a_written_file_has_its_mode_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    convergence.atomic_write(str(path), "new\udcff", mode=0o640, uid=os.getuid(), gid=os.getgid())
    assert path.read_bytes() == b"new\xff"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(_handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        convergence.atomic_write(str(path), "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_missing_or_damaged_marker_is_empty(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "marker.json"
    if content is not None:
        path.write_text(content)
    assert convergence.read_marker(str(path)) == {}


def test_a_marker_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "marker.json"
    convergence.write_marker(str(path), {"digest": "d"})
    assert convergence.read_marker(str(path)) == {"digest": "d"}


def test_retry_repeats_named_errors_only_and_says_how_often() -> None:
    pauses: list[float] = []
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise OSError("refused")
        return "done"

    def named(error: Exception) -> str | None:
        return "connection refused" if isinstance(error, OSError) else None

    assert convergence.retry(flaky, named, 5, 1.0, pauses.append) == "done"
    assert pauses == [1.0, 2.0]
    with pytest.raises(RuntimeError, match="other"):
        convergence.retry(fail("other"), named, 5, 1.0, pauses.append)
    assert pauses == [1.0, 2.0]

    def always() -> None:
        raise OSError("refused")

    with pytest.raises(ConvergenceError, match=r"^connection refused on each of 3 attempts: refused$"):
        convergence.retry(always, named, 3, 0.0, pauses.append)


def test_a_write_that_fails_names_its_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "nova.conf"
    target.write_text("old")
    monkeypatch.setattr(convergence.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device \(free some there\): '.*/nova.conf'"):
        convergence.atomic_write(str(target), "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
