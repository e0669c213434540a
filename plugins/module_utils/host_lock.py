"""Locks of a host, released by the kernel when their holder ends, whatever ends it (flock(2)).

`run.lock` is held by a run from preflight to its end: the action `run_lock` starts PROGRAM on the host, which keeps the
lock until its standard input ends, and that is a pipe that only the run's own processes hold open. `work.lock` is held
by a module while it changes the host, and by the commands that it starts, so that the orphans of a run that was killed
are waited for and nothing is done twice at the same time.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any

FOLDER = "/run/brume"
WORK = "work.lock"
WAIT = 120.0
"""Seconds that a module waits for another one on the same host; within a run there is none."""

POLL = 0.2

PROGRAM = r"""
import fcntl, json, os, signal, sys, time
wish = json.loads(sys.argv[1])
def say(state, **more):
    print(json.dumps({"state": state, **more}), flush=True)
def held_by(path):
    try:
        return json.loads(open(path, encoding="utf-8").read() or "{}")
    except (OSError, ValueError):
        return {}
def taken(handle, kind):
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
os.makedirs(wish["folder"], mode=0o755, exist_ok=True)
run_path, work_path = (os.path.join(wish["folder"], name) for name in ("run.lock", "work.lock"))
run = os.open(run_path, os.O_RDWR | os.O_CREAT, 0o600)
work = os.open(work_path, os.O_RDWR | os.O_CREAT, 0o600)
if not taken(run, fcntl.LOCK_EX):
    holder = held_by(run_path)
    if holder.get("run") == wish["record"]["run"]:
        say("ours")
        sys.exit()
    if not (wish["end"] and holder.get("run") == wish["end"]):
        say("busy", holder=holder)
        sys.exit()
    if not taken(work, fcntl.LOCK_EX):
        say("busy", holder=holder)
        sys.exit()
    fcntl.flock(work, fcntl.LOCK_UN)
    os.kill(holder["pid"], signal.SIGKILL)
    fcntl.flock(run, fcntl.LOCK_EX)
if wish["look"]:
    say("ok")
    sys.exit()
os.ftruncate(run, 0)
os.pwrite(run, json.dumps({**wish["record"], "pid": os.getpid()}).encode(), 0)
end = time.monotonic() + wish["wait"]
told = False
while not taken(work, fcntl.LOCK_EX):
    if time.monotonic() > end:
        say("orphan", holder=held_by(work_path))
        sys.exit()
    if not told:
        say("waiting", holder=held_by(work_path))
        told = True
    time.sleep(0.2)
fcntl.flock(work, fcntl.LOCK_UN)
say("ok")
sys.stdin.read()
"""
"""Takes the run's lock on a host and keeps it until its standard input ends. Its argument is JSON: `folder`, `record`
(who asks), `look` (only see whether it is free), `wait` (seconds for a module of an earlier run), `end` (a run that is
known to be dead, whose keeper may be ended). It answers with lines of JSON, the last with `state` ok, ours, busy or
orphan."""

_held: list[int] = []


def inherited() -> tuple[int, ...]:
    """Return the file descriptors that a long command has to inherit (`pass_fds`), so that it holds the lock too."""
    return tuple(_held)


def release() -> None:
    """Forget the lock; the kernel gives it free when the process's file descriptors of it are closed."""
    _held.clear()


def hold(module: Any) -> None:
    """Take the host's lock for a module that is going to change something, until its process ends.

    `module` is the AnsibleModule; in check mode, or for who is not root, nothing is taken. Ends the module when another
    one has held the lock for WAIT seconds, and names it.
    """
    if module.check_mode or os.geteuid() != 0 or _held:
        return
    try:
        holder = take(FOLDER, {"module": getattr(module, "_name", "") or "a module"}, WAIT)
    except OSError as error:
        module.fail_json(msg=f"{FOLDER}: the host's lock cannot be taken: {error}")
    if holder is not None:
        module.fail_json(
            msg=f"this host is being changed by {describe(holder)}; it was waited for {WAIT:.0f} s\n"
            "  next: let it end, or end it if it hangs, and run again"
        )


def take(folder: str, record: dict[str, Any], wait: float) -> dict[str, Any] | None:
    """Take the work lock for this process. Return None, or after `wait` seconds the record of who holds it.

    Raises OSError when the lock's file cannot be opened.
    """
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle = os.open(os.path.join(folder, WORK), os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                text = os.pread(handle, 65536, 0).decode("utf-8", "replace")
                os.close(handle)
                return _parsed(text)
            time.sleep(POLL)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({**record, "pid": os.getpid(), "started_at": started}).encode(), 0)
    _held.append(handle)
    return None


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def describe(holder: dict[str, Any]) -> str:
    """Return the holder of a lock for people."""
    if not holder:
        return "a process that left no name"
    if "module" in holder:
        return f"{holder['module']} (pid {holder.get('pid')} on the host, since {holder.get('started_at')})"
    return (
        f"{holder.get('playbook')} of {holder.get('user')} at {holder.get('controller')}"
        f" (pid {holder.get('controller_pid')} there, since {holder.get('started_at')})"
    )
