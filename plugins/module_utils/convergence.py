"""The skeleton of every module: find, compare, then apply or simulate, and one way to report it.

A module turns wanted and actual state into a list of `Action`; `converge` applies them, or in check mode does not.
What it reports is computed from the actions before any of them runs, so a dry run and a run say the same.
Needs nothing but the standard library of Python 3.11 to 3.13: modules carry it to the hosts.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Verb = Literal["create", "update", "delete"]
T = TypeVar("T")

ADVICE = {errno.ENOSPC: " (free some there)", errno.EDQUOT: " (raise the quota)", errno.EROFS: " (remount it)"}
"""What to do about errors of the operating system while a file is written, by errno(3)."""

SIDE_BY_SIDE = 8
"""How many callables `side_by_side` runs at once unless told otherwise."""


class ConvergenceError(Exception):
    """One or more objects could not be converged; the message has one line per object."""


@dataclass(frozen=True)
class Action:
    """One change of one object.

    `before` and `after` are what a diff shows; they hold labels where the object has secrets. `apply` makes the
    change. Actions of one `step` do not depend on each other and may run side by side; steps run in ascending order.
    """

    kind: str
    verb: Verb
    name: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    apply: Callable[[], object] = field(default=lambda: None, compare=False, repr=False)
    step: int = 0

    def __str__(self) -> str:
        """Return the action as a sentence: verb, kind and name, and of an update the names of what differs."""
        text = f"{self.verb} {self.kind} {self.name}"
        return f"{text} ({', '.join(self.changed)})" if self.verb == "update" and self.changed else text

    @property
    def changed(self) -> list[str]:
        """Names of the attributes that differ, sorted."""
        return sorted(
            key for key in {*self.before, *self.after} if self.before.get(key) != self.after.get(key)
        )


@dataclass(frozen=True)
class Outcome:
    """What one of several callables came to: its value, or the exception it ended with, and its seconds."""

    name: str
    value: Any = None
    error: Exception | None = None
    seconds: float = 0.0


def side_by_side(calls: Mapping[str, Callable[[], Any]], limit: int = SIDE_BY_SIDE) -> dict[str, Outcome]:
    """Run every callable, at most `limit` at once, and return the outcomes by name, in the given order.

    An exception of one does not stop the others. KeyboardInterrupt and SystemExit are not held back.
    """

    def run(name: str, call: Callable[[], Any]) -> Outcome:
        started = time.monotonic()
        try:
            value = call()
        except Exception as error:
            return Outcome(name, error=error, seconds=time.monotonic() - started)
        return Outcome(name, value, seconds=time.monotonic() - started)

    if len(calls) < 2 or limit < 2:  # noqa: PLR2004 - one alone needs no thread
        return {name: run(name, call) for name, call in calls.items()}
    with ThreadPoolExecutor(max_workers=min(limit, len(calls))) as pool:
        futures = [pool.submit(run, name, call) for name, call in calls.items()]
        return {future.result().name: future.result() for future in futures}


def values(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Return the values of outcomes by name. Raises ConvergenceError with one line per outcome that failed."""
    failures = [f"{outcome.name}: {describe(outcome.error)}" for outcome in outcomes.values() if outcome.error]
    if failures:
        raise ConvergenceError("\n".join(failures))
    return {name: outcome.value for name, outcome in outcomes.items()}


def describe(error: BaseException) -> str:
    """Return an exception as text: its message, with the type's name when the message alone says nothing."""
    return str(error).strip() or type(error).__name__


def apply_actions(actions: Sequence[Action], limit: int = 1) -> None:
    """Apply actions: those of one step side by side (at most `limit` at once), step after step.

    Raises ConvergenceError naming every object of the first step in which any failed; later steps are not begun.
    """
    for step in sorted({action.step for action in actions}):
        calls: dict[str, Callable[[], object]] = {}
        for action in actions:
            if action.step == step:
                name = str(action)
                while name in calls:  # two objects may have one name, and none is forgotten
                    name += " (another)"
                calls[name] = action.apply
        values(side_by_side(calls, limit))


def converge(actions: Sequence[Action], *, check_mode: bool, limit: int = 1) -> dict[str, Any]:
    """Apply actions unless in check mode, and return `changed`, `actions` and `diff` for `exit_json`.

    Raises ConvergenceError, see apply_actions.
    """
    result = report(actions)
    if not check_mode:
        apply_actions(actions, limit)
    return result


def report(actions: Sequence[Action]) -> dict[str, Any]:
    """Return what a module says about its actions: `changed`, `actions` (one sentence each) and `diff`."""
    return {
        "changed": bool(actions),
        "actions": [str(action) for action in actions],
        "diff": [
            text_diff(
                f"{action.kind} {action.name}",
                to_text(action.before) if action.verb != "create" else "",
                to_text(action.after) if action.verb != "delete" else "",
            )
            for action in actions
        ],
    }


def text_diff(header: str, before: str, after: str) -> dict[str, str]:
    """Return one diff as Ansible prints it; an empty text stands for an object that is not there."""
    return {
        "before_header": header if before else f"{header} (absent)",
        "after_header": header if after else f"{header} (absent)",
        "before": before,
        "after": after,
    }


def to_text(value: Mapping[str, Any]) -> str:
    """Return a mapping as YAML-like text, keys sorted, one line per key; an empty mapping as `{}`."""
    if not value:
        return "{}\n"
    return "".join(
        f"{key}: {item if isinstance(item, str) and item else json.dumps(item, sort_keys=True, default=str)}\n"
        for key, item in sorted(value.items())
    )


def redact(text: str, redactions: Mapping[str, str]) -> str:
    """Return a text with every secret value replaced by its label, the longest values first.

    `redactions` is value: label. A label without angle brackets `nova/keystone` is shown as `<secret nova/keystone>`.
    """
    for value in sorted(filter(None, redactions), key=len, reverse=True):
        label = redactions[value]
        text = text.replace(value, label if label.startswith("<") else f"<secret {label}>")
    return text


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, in the order in which they repeat."""
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for name in names:
        if name in seen:
            repeated[name] = None
        seen.add(name)
    return list(repeated)


def atomic_write(
    path: str, content: str | bytes, mode: int = 0o644, uid: int | None = None, gid: int | None = None
) -> None:
    """Write a file so that a reader, or the host after a power cut, sees the old content or the new, never a part.

    `mode`, `uid` and `gid` (None keeps the caller's own) hold before the first byte is in the file's place.
    Text is UTF-8; bytes that were no UTF-8 when read with `surrogateescape` come back unchanged. Raises OSError.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    directory = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)  # made 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            if uid is not None or gid is not None:
                os.fchown(stream.fileno(), -1 if uid is None else uid, -1 if gid is None else gid)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno:  # of a write it names no file
            raise OSError(error.errno, f"{error.strerror}{ADVICE.get(error.errno, '')}", path) from error
        raise
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_marker(path: str) -> dict[str, Any]:
    """Return a JSON marker file's mapping; empty when it is missing or damaged, so that the work is done again."""
    try:
        with open(path, encoding="utf-8") as stream:
            marker = json.load(stream)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def write_marker(path: str, marker: Mapping[str, Any], mode: int = 0o644) -> None:
    """Write a JSON marker file atomically; its directory is made if missing. Raises OSError."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    atomic_write(path, json.dumps(marker, sort_keys=True, indent=1) + "\n", mode=mode)


def retry(
    call: Callable[[], T],
    transient: Callable[[Exception], str | None],
    attempts: int = 5,
    pause: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return what `call` returns, calling it again after an error that `transient` gives a name to.

    `pause` is in seconds and doubles with every attempt. Errors that are not transient are raised at once;
    when the attempts are used up, ConvergenceError names the transient error and the number of attempts.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except Exception as error:
            name = transient(error)
            if name is None:
                raise
            if attempt == attempts:
                raise ConvergenceError(f"{name} on each of {attempts} attempts: {describe(error)}") from error
            sleep(pause * 2 ** (attempt - 1))
    raise ConvergenceError("no attempt was allowed")
