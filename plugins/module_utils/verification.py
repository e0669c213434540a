"""Checks that depend on each other: their order, one run over them, and the table that a run prints.

Nothing here knows OpenStack; the checks themselves are in `cloud_checks`. Pure but for the clock that is handed in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
V = TypeVar("V")
Outcome = Literal["ok", "FAILED", "not run"]


class VerificationError(ValueError):
    """The table of checks, or a choice among them, makes no sense; the message names the check."""


class CheckFailed(Exception):
    """What a check was to prove is not so; the message says what was seen instead."""


class NotYet(Exception):
    """What is waited for is not there yet; the message says how far it is."""


@dataclass(frozen=True)
class Check(Generic[T]):
    """One thing to prove. `run` takes the context, returns a detail for the table, and raises when it is not so.

    It runs only after all of `needs` were ok. `reads_only`: changes nothing, and so runs in check mode too.
    `last`: clean-up, which runs however the others ended. `about`: the type in the catalog of the service that it is
    about; a cloud without it has neither the check nor those that need it.
    """

    name: str
    run: Callable[[T], str]
    needs: tuple[str, ...] = ()
    reads_only: bool = False
    last: bool = False
    about: str = ""


@dataclass(frozen=True)
class Result:
    """What a check came to."""

    name: str
    outcome: Outcome
    seconds: float
    detail: str


@dataclass(frozen=True)
class Clock:
    """Seconds that only rise, and a pause in seconds; tests give their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def ordered(checks: Sequence[Check[T]]) -> list[Check[T]]:
    """Return the checks so that each comes after what it needs, otherwise as they were given; `last` ones at the end.

    Raises VerificationError for a name that is taken twice, a need that is no check, and needs in a circle.
    """
    known: dict[str, Check[T]] = {}
    for check in checks:
        if check.name in known:
            raise VerificationError(f"the check {check.name} is there twice")
        known[check.name] = check
    result: dict[str, Check[T]] = {}

    def place(check: Check[T], above: tuple[str, ...]) -> None:
        if check.name in above:
            raise VerificationError(f"the checks need each other in a circle: {' > '.join((*above, check.name))}")
        for need in check.needs:
            if need not in known:
                raise VerificationError(f"the check {check.name} needs {need}, which is no check")
            place(known[need], (*above, check.name))
        result.setdefault(check.name, check)

    for check in sorted(checks, key=lambda one: one.last):
        place(check, ())
    return list(result.values())


def of_cloud(checks: Sequence[Check[T]], types: Iterable[str]) -> list[Check[T]]:
    """Return the checks that a cloud can have whose catalog has these types. See `ordered` for what is raised."""
    there: dict[str, Check[T]] = {}
    known = {"", *types}
    for check in ordered(checks):
        if check.about in known and set(check.needs) <= set(there):
            there[check.name] = check
    return list(there.values())


def chosen(checks: Sequence[Check[T]], names: Iterable[str]) -> list[Check[T]]:
    """Return the named checks, what they need, and the `last` ones that follow them, in order; all without a name.

    Raises VerificationError for a name that is no check, see also `ordered`.
    """
    everything = ordered(checks)
    known = {check.name: check for check in everything}
    wanted: set[str] = set()
    pending = list(names)
    if not pending:
        return everything
    while pending:
        name = pending.pop()
        if name not in known:
            raise VerificationError(f"there is no check {name}; there are {', '.join(known)}")
        wanted.add(name)
        pending += [need for need in known[name].needs if need not in wanted]
    return [check for check in everything if check.name in wanted or (check.last and wanted.issuperset(check.needs))]


def run_checks(
    checks: Sequence[Check[T]],
    context: T,
    report: Callable[[Result], None],
    *,
    check_mode: bool = False,
    clock: Clock | None = None,
) -> list[Result]:
    """Run checks in the given order and hand each result to `report` as the check ends.

    A check whose needs are not all ok is not run. Whatever a check raises is its failure, never the end of the run;
    KeyboardInterrupt and SystemExit are.
    """
    clock = clock or Clock()
    results: dict[str, Result] = {}
    for check in checks:
        missing = [need for need in check.needs if need not in results or results[need].outcome != "ok"]
        if check_mode and not check.reads_only:
            result = Result(check.name, "not run", 0.0, "changes the cloud, and this is check mode")
        elif missing:
            result = Result(check.name, "not run", 0.0, f"needs {', '.join(missing)}")
        else:
            started = clock.now()
            outcome: Outcome = "ok"
            try:
                detail = check.run(context)
            except CheckFailed as error:
                outcome, detail = "FAILED", str(error)
            except Exception as error:  # a check that breaks proves nothing, and the others can still prove theirs
                outcome, detail = "FAILED", f"{type(error).__name__}: {error}"
            result = Result(check.name, outcome, round(clock.now() - started, 1), " ".join(detail.split()))
        results[check.name] = result
        report(result)
    return list(results.values())


def wait(what: str, seconds: float, probe: Callable[[], V], clock: Clock, interval: float = 1.0) -> V:
    """Return the probe's value as soon as it has one, asking every `interval` seconds while it raises NotYet.

    Raises CheckFailed with what the last NotYet said once `seconds` have passed; the probe is asked at least once.
    """
    end = clock.now() + seconds
    while True:
        try:
            return probe()
        except NotYet as error:
            if clock.now() >= end:
                raise CheckFailed(f"{what}: not within {seconds:.0f} s; {error}") from error
        clock.sleep(interval)


def header(checks: Sequence[Check[Any]]) -> str:
    """Return the table's first line."""
    return f"{'check':<{_width(checks)}}  {'result':<7}  {'seconds':>7}  detail"


def row(result: Result, checks: Sequence[Check[Any]]) -> str:
    """Return a result as a line of the table."""
    seconds = "" if result.outcome == "not run" else f"{result.seconds:.1f}"
    return f"{result.name:<{_width(checks)}}  {result.outcome:<7}  {seconds:>7}  {result.detail}".rstrip()


def summary(results: Sequence[Result]) -> str:
    """Return one line: how many checks passed, those that failed by name, and how many were not run."""
    by_outcome = {
        outcome: [result.name for result in results if result.outcome == outcome]
        for outcome in ("ok", "FAILED", "not run")
    }
    parts = [f"{len(by_outcome['ok'])} of {len(results)} checks ok"]
    parts += [f"failed: {', '.join(by_outcome['FAILED'])}"] if by_outcome["FAILED"] else []
    parts += [f"{len(by_outcome['not run'])} not run"] if by_outcome["not run"] else []
    return "; ".join(parts)


def _width(checks: Sequence[Check[Any]]) -> int:
    return max([len("check"), *(len(check.name) for check in checks)])


def console_address(console: str) -> set[str]:
    """Return the IPv4 addresses that the guest printed: `brume-test: address A.B.C.D`, or lines of our user data."""
    lines = [line for line in console.splitlines() if "brume-test: address" in line or "brume-verify address" in line]
    return {found for line in lines for found in re.findall(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", line)}


def key_body(public_key: str) -> str:
    """Return the base64 part of an OpenSSH public key, which survives whatever surrounds it on a console."""
    return public_key.split()[1]


def absent_agents(wanted: Iterable[tuple[str, str]], alive: Iterable[tuple[str, str]]) -> list[str]:
    """Return `binary on host` for each wanted (binary, host) that is not among those alive, in order."""
    seen = set(alive)
    return [f"{binary} on {host}" for binary, host in wanted if (binary, host) not in seen]
