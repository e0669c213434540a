"""What a run shows: phases, hosts, what changed, failures and a closing summary, as lines of text.

Pure: the callback `brume.cloud.progress` tells it what happens and prints the lines that come back. No line that says
`changed` begins at the margin and the standard recap stays, because molecule judges idempotence by both.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
Color = Literal["", "heading", "changed", "failed", "unreachable", "note"]

MOST_SENTENCES = 20
"""Changes of one host and task that a run lists; a dry run lists all, because they are what it is for."""

MOST_NAMES = 4
"""Names or ranges of hosts in one label."""

RANGE = 3
"""Hosts with consecutive numbers that are worth a range."""

QUIET = 30.0
"""Seconds without a line after which a host that ends its task is worth one, where there is no status line."""

_OUTCOMES: Mapping[str, Color] = {
    "FAILED": "failed",
    "UNREACHABLE": "unreachable",
    "failed, which is ignored": "note",
    "unreachable, which is ignored": "note",
}

_NUMBERED = re.compile(r"(.*\D|)(\d+)(\D*)", re.DOTALL)


@dataclass(frozen=True)
class Line:
    """One line, or several that belong together, and what it is about."""

    text: str
    color: Color = ""


@dataclass(frozen=True)
class Failure:
    """Why a host does not go on. `address` is what the connection was made to, for an unreachable host alone."""

    host: str
    phase: str
    task: str
    message: str
    hint: str = ""
    unreachable: bool = False
    address: str = ""
    login: str = ""
    """The command that tries the same connection."""


@dataclass
class _Report:
    """What one host said about the current task."""

    sentences: list[str] = field(default_factory=list)
    diff: str = ""
    outcome: tuple[str, str] = ("", "")
    """Empty, or a key of _OUTCOMES and what is told of it at once; why a run stops is told at its end."""


class PhaseClock:
    """Seconds of each phase. A play that goes over its hosts in batches is one phase."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep the clock; its zero does not matter."""
        self._clock = clock
        self._names: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._current = ""
        self._since = 0.0

    def start(self, key: str, name: str) -> bool:
        """Begin a phase, or go on with it; return whether it is new."""
        self._stop()
        new = key not in self._names
        self._names.setdefault(key, name)
        self._seconds.setdefault(key, 0.0)
        self._current, self._since = key, self._clock()
        return new

    def times(self, keys: Collection[str] | None = None) -> list[tuple[str, float]]:
        """Return name and seconds until now of each phase, or of those with `keys`, in the order they began."""
        self._stop()
        return [(self._names[key], seconds) for key, seconds in self._seconds.items() if keys is None or key in keys]

    def _stop(self) -> None:
        now = self._clock()
        if self._current:
            self._seconds[self._current] += now - self._since
        self._since = now


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """Return a key that sorts compute2 before compute10."""
    return tuple((text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name))


def fold(hosts: Iterable[str]) -> str:
    """Return hosts as a short label: `compute1..compute40, control1`; beyond MOST_NAMES their number is named."""
    runs: list[list[str]] = []
    for name in sorted(set(hosts), key=natural):
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    pieces = [piece for run in runs for piece in ([f"{run[0]}..{run[-1]}"] if len(run) >= RANGE else run)]
    if len(pieces) <= MOST_NAMES:
        return ", ".join(pieces)
    shown: list[str] = []
    left = sum(len(run) for run in runs)
    for run in runs:
        if len(shown) >= MOST_NAMES - 1:
            break
        part = [f"{run[0]}..{run[-1]}"] if len(run) >= RANGE else run[: MOST_NAMES - 1 - len(shown)]
        left -= len(run) if len(run) >= RANGE else len(part)
        shown += part
    return f"{', '.join(shown)} and {left} more"


def _follows(one: str, other: str) -> bool:
    """Whether two names differ by one in their last number alone, written in the same width or without zeros."""
    first, second = _NUMBERED.fullmatch(one), _NUMBERED.fullmatch(other)
    if first is None or second is None or (first[1], first[3]) != (second[1], second[3]):
        return False
    padded = first[2].startswith("0") or second[2].startswith("0")
    return int(second[2]) == int(first[2]) + 1 and (not padded or len(first[2]) == len(second[2]))


def duration(seconds: float) -> str:
    """Return seconds as a clock shows them: 0:05, 12:34, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 host, 2 hosts."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Progress:
    """The state of a run. Methods that take an event return the lines it is worth."""

    def __init__(self, *, check_mode: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now; `clock` counts seconds."""
        self._check = check_mode
        self._clock = clock
        self._began = self._spoke = clock()
        self.phases = PhaseClock(clock)
        self._plays = 0
        self._position = 0
        self._phase = ""
        self._key = ""
        self._worked: set[str] = set()
        """Phases that had a task: the others' hosts are out, or their tags were not asked for."""
        self._coming: tuple[Sequence[str], int] | None = None
        """Hosts and their whole number of a phase, or of its batch, that has had no task yet."""
        self._hosts = 0
        self._earlier = 0
        """Hosts of the batches of this phase that came before."""
        self._batch = 0
        self._task = ""
        self._ended: set[str] = set()
        self._reports: dict[str, _Report] = {}
        self._failures: list[Failure] = []
        self._changes: dict[str, int] = {}

    def plays(self, number: int) -> None:
        """Hear how many phases a playbook has; several playbooks add up."""
        self._plays += number

    def phase(self, key: str, name: str, batch: Sequence[str], total: int) -> list[Line]:
        """Begin a phase, or its next batch. `batch` are the hosts that take it now, `total` is how many will."""
        lines = self.flush()
        if self.phases.start(key, name):
            self._position += 1
            self._earlier = self._batch = 0
        self._earlier += self._batch
        self._batch, self._hosts = len(batch), max(total, self._earlier + len(batch))
        self._key, self._phase, self._task, self._ended = key, name, "", set()
        self._coming = (batch, total)
        return lines

    def task(self, name: str, out: Collection[str] = ()) -> list[Line]:
        """Begin a task; return what the one before came to, and for the first one the phase.

        `out` are hosts that take no part any more, because an earlier phase lost them.
        """
        lines = self.flush()
        self._task, self._ended = name, set()
        if self._coming is not None:
            batch = [host for host in self._coming[0] if host not in out]
            self._batch, self._coming = len(batch), None
            self._worked.add(self._key)
            if self._hosts > len(batch):
                who = f"{fold(batch)} ({self._earlier + len(batch)} of {self._hosts} hosts)"
            else:
                who = batch[0] if len(batch) == 1 else count(len(batch), "host")
            lines.append(self._said(Line(f"{self._stamp()} {self._phase}: {who}", "heading")))
        return lines

    def ended(self, host: str) -> list[Line]:
        """Hear that a host is through with the task. Where nothing was said for long, tell how far the hosts are."""
        self._ended.add(host)
        if self._clock() - self._spoke < QUIET or len(self._ended) >= self._batch:
            return []
        return [self._said(Line(f"{self._stamp()} {self._phase}: {self._task}, {self._how_far()}", "note"))]

    def changed(self, host: str, sentences: Sequence[str]) -> None:
        """Hear what a host's task changed, or in check mode would change."""
        self._report(host).sentences += [line for line in sentences if line]
        self._changes[host] = self._changes.get(host, 0) + len(sentences)

    def diff(self, host: str, text: str) -> None:
        """Hear the diff that belongs to a host's change."""
        self._report(host).diff += text

    def failed(self, failure: Failure) -> None:
        """Hear that a host cannot go on."""
        self._failures.append(failure)
        self._report(failure.host).outcome = ("UNREACHABLE" if failure.unreachable else "FAILED", "")

    def ignored(self, failure: Failure) -> None:
        """Hear of a failure that the one who wrote the task lets pass."""
        word = "unreachable" if failure.unreachable else "failed"
        self._report(failure.host).outcome = (f"{word}, which is ignored", failure.message)

    def message(self, text: str) -> list[Line]:
        """Return a message that a task wants to be shown, below its phase."""
        return [*self.flush(), self._said(Line(_indent(text, 4)))]

    def flush(self) -> list[Line]:
        """Return what the hosts said about the current task, the same words of several hosts once."""
        reports = dict(sorted(self._reports.items(), key=lambda item: natural(item[0])))
        self._reports = {}
        by_sentence: dict[str, list[str]] = {}
        for host, report in reports.items():
            for sentence in dict.fromkeys(report.sentences):
                by_sentence.setdefault(sentence, []).append(host)
        blocks: dict[tuple[str, ...], list[str]] = {}
        for sentence, hosts in by_sentence.items():
            blocks.setdefault(tuple(hosts), []).append(sentence)
        lines: list[Line] = []
        for changed, sentences in blocks.items():
            label = f"    {fold(changed)} {'would change' if self._check else 'changed'}:"
            most = len(sentences) if self._check or len(sentences) <= MOST_SENTENCES + 1 else MOST_SENTENCES
            shown = [_indent(one, 6) for one in sentences[:most]]
            if most < len(sentences):
                shown.append(f"      and {len(sentences) - most} more; -v shows all")
            lines.append(
                Line(f"{label} {sentences[0]}" if len(sentences) == 1 else "\n".join([label, *shown]), "changed")
            )
        for text, told in _grouped((report.diff, host) for host, report in reports.items() if report.diff).items():
            heading = [Line(f"    {fold(told)}:", "note")] if len(reports) > 1 else []
            lines += [*heading, Line(text.rstrip("\n"))]
        outcomes = _grouped((report.outcome, host) for host, report in reports.items() if report.outcome[0])
        for (word, reason), left in outcomes.items():
            text = f"    {fold(left)} {word}: {self._task}"
            lines.append(Line(f"{text}\n{_indent(reason, 6)}" if reason else text, _OUTCOMES[word]))
        if lines:
            self._spoke = self._clock()
        return lines

    def status(self, width: int) -> str:
        """Return the whole state in one line that is shorter than `width`."""
        changes = sum(self._changes.values())
        parts = [f"{self._stamp()} {self._phase}", self._how_far() if self._batch else "", self._task]
        parts += [f"{count(changes, 'change')}{' predicted' if self._check else ''}"] if changes else []
        parts += [f"{len(self._failures)} failed"] if self._failures else []
        return ", ".join(filter(None, parts))[: max(width - 1, 0)]

    def closing(self, counters: Mapping[str, Mapping[str, int]]) -> list[Line]:
        """Return the end of the summary: time per phase, what changed where, and why the run stopped.

        `counters` is Ansible's own count per host: `changed`, `failures`, `unreachable`. A failure that was rescued is
        in none of them and is not told again.
        """
        timed = self.phases.times(self._worked)
        width = max(len(name) for name in ("total", *(name for name, _seconds in timed)))
        total = sum(seconds for _name, seconds in timed)
        lines: list[Line] = []
        if timed:
            lines.append(Line("TIME PER PHASE", "heading"))
            lines += [Line(f"{name:<{width}}  {seconds:7.1f} s") for name, seconds in timed]
            lines += [Line(f"{'total':<{width}}  {total:7.1f} s"), Line("")]
        return [*lines, *self._verdict(counters), *self._stopped(counters)]

    def _verdict(self, counters: Mapping[str, Mapping[str, int]]) -> list[Line]:
        hosts = {
            word: [name for name, found in counters.items() if found.get(word)]
            for word in ("changed", "failures", "unreachable")
        }
        changes = count(sum(self._changes.get(name, 0) for name in hosts["changed"]), "change")
        colors: Mapping[str, Color] = {"failures": "failed", "unreachable": "unreachable"}
        bad = [
            Line(f"{count(len(hosts[key]), 'host')} {color}: {fold(hosts[key])}", color)
            for key, color in colors.items()
            if hosts[key]
        ]
        where = f"{changes} on {count(len(hosts['changed']), 'host')}: {fold(hosts['changed'])}"
        if hosts["changed"] and self._check:
            said = [Line(f"Dry run, nothing was changed. A run would make {where}", "changed")]
        elif hosts["changed"]:
            said = [Line(f"Made {where}", "changed")]
        elif bad:
            said = []  # what failed may have done a part of its work
        else:
            said = [Line("Dry run: there is nothing to change" if self._check else "There was nothing to change")]
        return [*said, *bad]

    def _stopped(self, counters: Mapping[str, Mapping[str, int]]) -> list[Line]:
        """Return the failures that stand, identical ones folded, with what was kept and the next step."""
        left = {
            name: {"failures": found.get("failures", 0), "unreachable": found.get("unreachable", 0)}
            for name, found in counters.items()
        }
        standing: list[Failure] = []
        for failure in reversed(self._failures):  # of a host's failures, the last ones are not those that were rescued
            key = "unreachable" if failure.unreachable else "failures"
            if left.get(failure.host, {}).get(key, 0) > 0:
                left[failure.host][key] -= 1
                standing.insert(0, failure)
        if not standing:
            return []
        lines: list[Line] = []
        for group in _grouped((_common(failure), failure) for failure in standing).values():
            one = group[0]
            message = one.message if len(group) == 1 else _common(one)[-1]
            word: Literal["UNREACHABLE", "FAILED"] = "UNREACHABLE" if one.unreachable else "FAILED"
            text = [f"{word} {fold(failure.host for failure in group)} in {one.phase}: {one.task}", _indent(message, 2)]
            if one.unreachable:
                text.append(_indent(_remedy(group), 2))
            elif one.hint:
                text.append(_indent(one.hint, 2))
            lines += [Line(""), Line("\n".join(text), "unreachable" if one.unreachable else "failed")]
        return [*lines, Line(""), Line(self._next([name for name, found in counters.items() if found.get("changed")]))]

    def _next(self, changed: Sequence[str]) -> str:
        again = "Next: correct the cause, then give the same command again."
        kept = f" What was done on {fold(changed)} is kept and skipped then." if changed and not self._check else ""
        return again + kept

    def _report(self, host: str) -> _Report:
        return self._reports.setdefault(host, _Report())

    def _said(self, line: Line) -> Line:
        self._spoke = self._clock()
        return line

    def _stamp(self) -> str:
        of = f"[{self._position:>{len(str(self._plays))}}/{self._plays}]" if self._plays else ""
        return f"{duration(self._clock() - self._began):>7} {of}".rstrip()

    def _how_far(self) -> str:
        return f"{self._earlier + len(self._ended)} of {count(self._hosts, 'host')}"


def _grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """Return the values of each key, in the order in which the keys came."""
    groups: dict[Key, list[Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _common(failure: Failure) -> tuple[bool, str, str, str, str]:
    """Return what failures must share to be told once; hosts differ by the address that SSH names."""
    message = failure.message.replace(failure.address, "its address") if failure.address else failure.message
    return failure.unreachable, failure.phase, failure.task, failure.hint, message


def _remedy(group: Sequence[Failure]) -> str:
    one = group[0]
    if not one.login:
        return "next: see that the host is up, and that ansible_host is its address"
    each = "" if len(group) == 1 else ", and so for the others,"
    return (
        f"next: `{one.login}` on this machine{each} must end without a question; where it does not, see that the host "
        "is up, that ansible_host is its address, and that ansible_user and the key are right"
    )


def _indent(text: str, spaces: int) -> str:
    return "\n".join(f"{' ' * spaces}{line}".rstrip() for line in text.splitlines())
