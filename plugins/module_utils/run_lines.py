"""What is kept of one run while it goes on: lines of JSON, each written at once and in one piece.

Three write to the same file: the action `run_report` (what it is about), the callback `report` (plays, tasks, hosts)
and the watch of `run_watch` (calls and pings). Every line has `at` (seconds since 1970, on this machine) and `event`:

    report      what, facts {name: text}
    play        play (its number), name
    task        task (its number), name
    begin, end  task, host; at the end also outcome: ok, changed, skipped, ignored, failed, unreachable
    probe       pid, user, apis [kind], rate (calls a second), addresses {address: host}
    call        kind, seconds, problem
    ping        lost [address]: one line for each round over all addresses
    note        text
    run end     failed [host]
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Call

UNFINISHED = "not ended"
"""Outcome of a task on a host that was cut off."""

NO_CALL = "No API call was made"
NO_PING = "Nothing was pinged"
"""How notes begin that say why."""

FAILED = ("failed", "unreachable")
"""Outcomes of tasks after which a host does not go on, unless the playbook rescues it."""


class Lines:
    """Appends lines to a report."""

    def __init__(self, path: str | Path) -> None:
        """Open the file, made where it is missing. Raises OSError."""
        self.handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        # A clock that is set while the run goes on would put what follows elsewhere.
        self._zero = time.time() - time.monotonic()

    def at(self, moment: float) -> float:
        """Return a moment of `time.monotonic` as lines name it."""
        return self._zero + moment

    def now(self) -> float:
        """Return this moment as lines name it."""
        return self.at(time.monotonic())

    def write(self, event: str, at: float | None = None, **values: Any) -> None:
        """Append a line, of now unless `at` says when. Raises OSError."""
        line = {"at": round(self.now() if at is None else at, 2), "event": event, **values}
        os.write(self.handle, f"{json.dumps(line, default=str)}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self.handle)


@dataclass(frozen=True)
class Play:
    """A play, with its number, from its begin to that of the next one (seconds since the report's)."""

    number: int
    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class Span:
    """What one host did for a time (seconds since the report's begin)."""

    begin: float
    end: float
    play: int
    text: str
    outcome: str


@dataclass
class Report:
    """What was seen of a run. Times are seconds since `started_at`, which is in seconds since 1970."""

    started_at: float = 0.0
    what: str = "Run"
    facts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    failed: list[str] | None = None
    """Hosts that failed or did not answer, as Ansible counts them at the end; None when the run was cut off."""

    plays: list[Play] = field(default_factory=list)
    work: dict[str, list[Span]] = field(default_factory=dict)
    rate: float = 0.0
    apis: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)
    """What was pinged, and the host it stands for, which is empty where it is not known."""

    rounds: int = 0
    """How many times each address was pinged."""

    lost: dict[str, list[float]] = field(default_factory=dict)
    """When each address did not answer."""

    notes: list[str] = field(default_factory=list)


def events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Return the lines of a report, without one that a kill or a full disk has cut."""
    for line in lines:
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and {"at", "event"} <= found.keys():
                yield found


class _Work:
    """Gathers plays, tasks and what hosts do."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, str, float]] = []
        self.spans: dict[str, list[Span]] = {}
        self._tasks: dict[int, tuple[int, str]] = {}
        self._running: dict[tuple[str, int], float] = {}

    def tell(self, at: float, line: Mapping[str, Any]) -> None:
        """Take a line, if it is one of these."""
        match line["event"]:
            case "play":
                self.begun.append((line["play"], str(line["name"]), at))
            case "task":
                self._tasks[line["task"]] = (self.begun[-1][0] if self.begun else 0, str(line["name"]))
            case "begin":
                self._running[line["host"], line["task"]] = at
            case "end":
                self._ended(self._running.pop((line["host"], line["task"]), at), at, line)

    def _ended(self, begin: float, end: float, line: Mapping[str, Any]) -> None:
        if line["outcome"] != "skipped":  # no work
            span = Span(begin, end, *self._tasks.get(line["task"], (0, "")), line["outcome"])
            self.spans.setdefault(line["host"], []).append(span)

    def end(self, seconds: float) -> None:
        """Close what has no end by then."""
        for (host, task), begin in self._running.items():
            self._ended(begin, max(begin, seconds), {"host": host, "task": task, "outcome": UNFINISHED})

    def plays(self, seconds: float) -> list[Play]:
        """Return the plays, the last one until then."""
        ends = [at for _number, _name, at in self.begun[1:]] + [seconds]
        return [Play(*play, max(play[2], end)) for play, end in zip(self.begun, ends, strict=False)]


def parse(lines: Iterable[str]) -> Report:
    """Return what the lines of a report say."""
    report, work, last, first = Report(), _Work(), 0.0, True
    for one in events(lines):
        if first:
            report.started_at, first = one["at"], False
        at = one["at"] - report.started_at
        last = max(last, at + one.get("seconds", 0.0))
        work.tell(at, one)
        match one["event"]:
            case "report":
                report.what, report.facts = str(one["what"]), facts(one["facts"])
            case "probe":
                report.rate, report.apis = one["rate"], one["apis"]
                report.addresses |= one["addresses"]
            case "call":
                report.calls.append(Call(one["kind"], at, one["seconds"], one["problem"]))
            case "ping":
                report.rounds += 1
                for address in one["lost"]:
                    report.lost.setdefault(address, []).append(at)
            case "note":
                report.notes.append(str(one["text"]))
            case "run end":
                report.seconds, report.failed = at, list(one["failed"])
    # What is on its way when a run ends is waited for, and is no part of its time.
    report.seconds = report.seconds or last
    work.end(report.seconds)
    report.work, report.plays = work.spans, work.plays(report.seconds)
    report.calls.sort(key=lambda call: call.began)
    return report


def read(path: Path) -> Report:
    """Return what a report's file says. Raises OSError."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        return parse(stream)


def facts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what a report is about as text, without what is empty."""
    return {key: str(value) for key, value in values.items() if str(value)}
