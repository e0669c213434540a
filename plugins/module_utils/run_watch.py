"""The process that watches a cloud while a run goes on: calls its APIs, pings addresses, appends to the run's report.

`PROGRAM` runs in a session of its own on the deploy host. Its standard input is a pipe of which the run's processes
alone hold the other end (`run.Own`), so that it sees when they are all gone, whatever ended them; it then deletes its
user and writes the report. Told to end by SIGTERM it leaves both to who told it. It holds a lock of the report's file
while it works, which the kernel releases with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import api_probe, probes, run_lines, run_report
from ansible_collections.brume.cloud.plugins.module_utils.api_probe import PROBLEMS, Call, Cloud, Probe
from ansible_collections.brume.cloud.plugins.module_utils.run_lines import NO_CALL, NO_PING, Lines

PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from ansible_collections.brume.cloud.plugins.module_utils import run_watch; run_watch.main(sys.argv[2])"
)

INTERVAL = 1.0
"""Seconds between two pings of an address."""

POLL = 0.2
"""Seconds until it is seen that the run is gone, or that the watch is."""

END_SECONDS = api_probe.TIMEOUT + 30.0
"""Longest wait for a watch that was told to end: calls on their way are waited for."""


class RecordedProbe(Probe):
    """A probe that writes calls down instead of keeping them."""

    lines: Lines

    def keep(self, call: Call) -> None:
        """Append a call to the report."""
        values = {"kind": call.kind, "seconds": call.seconds, "problem": call.problem}
        self.lines.write("call", self.lines.at(self.begin + call.began), **values)


def user(cloud: Cloud) -> str:
    """Return the name of a run's user.

    Not that of `tools/probe.py`, which may probe the run itself, nor of a region that shares the Keystone.
    """
    return f"brume-run-probe-{cloud.region or 'cloud'}"


def main(text: str) -> None:
    """Watch as the JSON `text` says, until the run is gone or SIGTERM comes.

    `report`, `clouds_file`, `cloud`, `rate`, `ping` (addresses), `ping_instances`. Prints one line of JSON as soon as
    all is under way: `apis` and `addresses` that are watched, and `notes` on what is not.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    wish = json.loads(text)
    path = Path(wish["report"])
    lines = Lines(path)
    try:
        fcntl.flock(lines.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(json.dumps({"apis": [], "addresses": {}, "notes": [f"{path}: a probe writes to it already"]}))
        return
    probe, notes = begun(wish)
    addresses, more = chosen(wish, probe)
    apis = probe.kinds if probe is not None else []
    for note in notes + more:
        lines.write("note", text=note)
    name = probe.name if probe is not None else ""
    lines.write("probe", pid=os.getpid(), user=name, rate=wish["rate"], apis=apis, addresses=addresses)
    print(json.dumps({"apis": apis, "addresses": addresses, "notes": notes + more}), flush=True)
    ended = threading.Event()
    threads = []
    if probe is not None:
        probe.lines, probe.ended, probe.begin = lines, ended, time.monotonic()
        threads.append(threading.Thread(target=probe.run, args=(wish["rate"],)))
    if addresses:
        threads.append(threading.Thread(target=pings, args=(list(addresses), lines, ended)))
    for thread in threads:
        thread.start()
    told = _wait(sys.stdin.fileno()) if threads else True
    ended.set()
    for thread in threads:
        thread.join()
    if not told:
        if probe is not None:
            with contextlib.suppress(*PROBLEMS):  # the next run's probe removes it
                probe.close()
        run_report.write(path)


def begun(wish: Mapping[str, Any]) -> tuple[RecordedProbe | None, list[str]]:
    """Return a probe with its user, or why there is none."""
    path = Path(wish["clouds_file"])
    if not path.is_file():
        return None, [f"{NO_CALL}: the cloud has no credentials yet, there is no {path}; site.yml writes it."]
    try:
        cloud = api_probe.settings(path, wish["cloud"])
        return RecordedProbe(path, wish["cloud"], user(cloud)), []
    except PROBLEMS as error:
        return None, [f"{NO_CALL}: a user for them could not be made: {str(error) or type(error).__name__}."]


def chosen(wish: Mapping[str, Any], probe: Probe | None) -> tuple[dict[str, str], list[str]]:
    """Return the addresses to ping with their hosts, and why there are no others."""
    addresses: dict[str, str] = dict.fromkeys(wish["ping"], "")
    try:
        for one in list(addresses)[:1]:
            probes.ping(one)  # raises where this machine cannot
        if wish["ping_instances"] and probe is not None:
            found = api_probe.floating_ips(probe.cloud.servers())
            addresses |= api_probe.reachable(found, probes.ping)
    except (probes.ProbeError, *PROBLEMS) as error:
        return {}, [f"{NO_PING}: {str(error) or type(error).__name__}."]
    if wish["ping_instances"] and not addresses:
        why = "no instance has a floating IP that answers" if probe else "there is no API to find instances with"
        return {}, [f"{NO_PING}: {why}."]
    return addresses, []


def pings(
    addresses: Sequence[str], lines: Lines, ended: threading.Event, ping: Callable[[str], bool] = probes.ping
) -> None:
    """Ping all addresses every INTERVAL until `ended` is set, each round a line; a late round is not made up for."""
    begin, number = time.monotonic(), 0
    with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
        while not ended.wait(max(0.0, begin + number * INTERVAL - time.monotonic())):
            at = lines.now()
            answers = list(pool.map(ping, addresses))
            lines.write("ping", at, lost=[one for one, well in zip(addresses, answers, strict=True) if not well])
            number = max(number + 1, int((time.monotonic() - begin) / INTERVAL))


def _wait(handle: int) -> bool:
    """Return True when SIGTERM comes, False when the other end of the pipe is closed."""
    while signal.sigtimedwait({signal.SIGTERM}, POLL) is None:
        if select.select([handle], [], [], 0)[0]:
            return False
    return True


def is_watched(path: Path) -> bool:
    """Return whether a watch appends to a report. Raises OSError."""
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def end(path: Path) -> str:
    """End the watch of a report, if there is one, and return the name of its user, empty where it had none.

    Raises OSError where there is no report.
    """
    with path.open(encoding="utf-8", errors="replace") as stream:
        begun = [one for one in run_lines.events(stream) if one["event"] == "probe"]
    if not begun:
        return ""
    number, deadline = signal.SIGTERM, time.monotonic() + END_SECONDS
    while is_watched(path):
        if number == signal.SIGTERM or time.monotonic() > deadline:
            # The lock says that the process lives, so that the number is not somebody else's by now.
            with contextlib.suppress(ProcessLookupError):
                os.kill(begun[-1]["pid"], number)
            number = signal.SIGKILL
        time.sleep(POLL)
    return str(begun[-1]["user"])
