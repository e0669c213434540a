"""One process at a time for what a deploy host does to a cloud, past the death of the run that began it.

A run that is killed leaves its workers, which go on: a verification's then cleans up, and takes with it what the next
run's has just made. The lock is released by the kernel when its holder ends (flock(2)); who finds it held by the worker
of a run that is dead ends that worker.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WAIT = 600.0
"""Seconds that a run waits for another one that lives."""

POLL = 0.2


class Busy(RuntimeError):
    """Another run that lives holds the lock; the text names its process."""


def path_of(what: str) -> Path:
    """Return the lock's file for something, such as a cloud's address."""
    return Path(tempfile.gettempdir()) / f"brume-{os.getuid()}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.lock"


def started(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; nothing where it is gone (proc_pid_stat(5), field 22)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in ("Z", "X") else fields[18]


@contextlib.contextmanager
def alone(what: str, owner: int, wait: float = WAIT) -> Iterator[None]:
    """Hold the lock of something for the run whose process is `owner`. Raises Busy where another one takes longer."""
    path, end = path_of(what), time.monotonic() + wait
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        while not _taken(handle):
            holder = _holder(path)
            # Between the lock and the note, and in older files, there is nobody to be judged.
            orphaned = holder and started(holder["owner"]) != holder["owner_started"]
            if orphaned and started(holder["pid"]) == holder["pid_started"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder["pid"], signal.SIGKILL)
            elif time.monotonic() > end:
                other = holder.get("pid", "?")
                raise Busy(f"process {other} does the same for a run that lives; wait until it has ended")
            time.sleep(POLL)
        own = os.getpid()
        note = {"pid": own, "pid_started": started(own), "owner": owner, "owner_started": started(owner)}
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
