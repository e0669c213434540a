"""Whether a run ever has the same unit down on two hosts at once: what must never be, since only one may be missing."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

REPORT = r"""
import glob, json, os, subprocess, sys, time
while True:
    names = [os.path.basename(path)[:-5] for path in glob.glob("/var/lib/brume/units/*.json")]
    states = subprocess.run(["systemctl", "is-active", *names], capture_output=True, text=True).stdout.split()
    print(json.dumps([n for n, state in zip(names, states) if state not in ("active", "reloading")]), flush=True)
    time.sleep(0.3)
"""
"""Prints again and again which units are down that once started well there."""


class Together:
    """Judges reports of hosts: which units are down on several at once."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._down: dict[str, set[str]] = {}
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.heard: set[str] = set()
        """Hosts that have said something."""
        self.found: dict[str, str] = {}
        """By unit: when and where it was first down on two hosts."""

    def report(self, host: str, down: Sequence[str]) -> None:
        """Take what is down on a host from now on."""
        with self._lock:
            self.heard.add(host)
            self._down[host] = set(down)
            for unit in down:
                where = sorted(name for name, units in self._down.items() if unit in units)
                if len(where) > 1:
                    text = f"{unit} was down on {' and '.join(where)} after {time.monotonic() - self._began:.0f} s"
                    self.found.setdefault(unit, text)


@contextlib.contextmanager
def together(inventory: Path, hosts: Sequence[str]) -> Iterator[Together]:
    """Watch hosts of a lab during a block."""
    watch = Together()
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, str(ROOT / "tools/lab.py"), "ssh", "-i", str(inventory), host),
                f"python3 -c {shlex.quote(REPORT)}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for host in hosts
    ]

    def read(host: str, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            with contextlib.suppress(ValueError):
                watch.report(host, json.loads(line))

    threads = [threading.Thread(target=read, args=pair) for pair in zip(hosts, processes, strict=True)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        for process in processes:
            process.terminate()
        for thread in threads:
            thread.join()
        for process in processes:
            process.wait()
