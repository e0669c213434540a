"""What users of a cloud see while something is lost: API calls, writes, answers to ping."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.brume.cloud.plugins.module_utils import api_probe
from ansible_collections.brume.cloud.plugins.module_utils.api_probe import PROBLEMS, Call, Probe

PING_INTERVAL = 0.1
"""Seconds between two pings."""

WRITE_INTERVAL = 0.5
"""Seconds between two writes."""

MARK = "brume-faults"
"""Name of every image record that is written."""


def longest_gap(times: Sequence[float], begin: float, end: float) -> float:
    """Return the longest time without an answer between two moments (all in seconds of one clock).

    Answers come every PING_INTERVAL, so that much less is lost than what lies between two of them.
    """
    before, after = api_probe.longest_gap(times, begin, end)
    return max(0.0, after - before - PING_INTERVAL)


class Ping:
    """Pings an address until it is closed, and keeps when answers came."""

    def __init__(self, address: str) -> None:
        """Start ping(8)."""
        self.address = address
        self.answers: list[float] = []
        self._process = subprocess.Popen(
            ["ping", "-n", "-i", str(PING_INTERVAL), address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if "bytes from" in line:
                self.answers.append(time.monotonic())

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._thread.join()
        self._process.wait()


class Writer(Probe):
    """A probe that also writes: records of images, which are rows in a database and nothing else."""

    def __init__(self, state: Path) -> None:
        """See Probe."""
        super().__init__(state / "clouds.yaml", "lab")
        self.acknowledged: set[str] = set()
        self._stop = threading.Event()

    def write(self) -> None:
        """Make one record; it counts once the API has said that it is made."""
        began, problem = time.monotonic(), ""
        url = f"{self.login.urls['image']}/v2/images"
        try:
            _, record = self.cloud.request("POST", url, self.login.token, {"name": MARK})
            self.acknowledged.add(record["id"])
        except PROBLEMS as error:
            problem = str(error) or type(error).__name__
        self.keep(Call("write", round(began - self.begin, 2), round(time.monotonic() - began, 2), problem))

    def keep_writing(self) -> None:
        """Write until `ended` is set."""
        while not self.ended.wait(WRITE_INTERVAL):
            self.write()

    def missing(self) -> set[str]:
        """Return the records that were acknowledged and are not there. Raises what PROBLEMS names."""
        there: set[str] = set()
        login = self.log_in()
        path = f"/v2/images?name={MARK}&limit=500"
        while path:
            _, page = self.cloud.request("GET", f"{login.urls['image']}{path}", login.token)
            there |= {one["id"] for one in page["images"]}
            path = page.get("next", "")
        return self.acknowledged - there

    def clear(self) -> None:
        """Delete the records, then the user. Raises what PROBLEMS names."""
        login = self.log_in()
        for number in self.acknowledged:
            with contextlib.suppress(ValueError):
                self.cloud.request("DELETE", f"{login.urls['image']}/v2/images/{number}", login.token)
        self.close()


@dataclass(frozen=True)
class Seen:
    """What was seen. Times in seconds since the loss."""

    calls: tuple[Call, ...]
    written: int
    missing: int
    gaps: dict[str, float]

    def failed(self) -> list[Call]:
        """Return the calls that failed."""
        return [one for one in self.calls if one.problem]


class Watch:
    """Watches a cloud while a block runs."""

    def __init__(self, state: Path, addresses: dict[str, str]) -> None:
        """`addresses`: what is pinged, by the name that reports give it."""
        self.probe = Writer(state)
        self.pings = {name: Ping(address) for name, address in addresses.items()}
        self.lost = time.monotonic()
        self._threads = [threading.Thread(target=one) for one in (self.probe.run, self.probe.keep_writing)]
        for thread in self._threads:
            thread.start()

    def mark(self) -> None:
        """Say that the loss begins now."""
        self.lost = time.monotonic()

    def close(self) -> Seen:
        """End watching and return what was seen."""
        end = time.monotonic()
        self.probe.ended.set()
        for ping in self.pings.values():
            ping.close()
        for thread in self._threads:
            thread.join()
        offset = self.lost - self.probe.begin
        calls = tuple(
            Call(one.kind, round(one.began - offset, 2), one.seconds, one.problem)
            for one in sorted(self.probe.calls, key=lambda call: call.began)
        )
        gaps = {name: round(longest_gap(ping.answers, self.lost, end), 1) for name, ping in self.pings.items()}
        missing = len(self.probe.missing())
        written = len(self.probe.acknowledged)
        self.probe.clear()
        return Seen(calls, written, missing, gaps)


@contextlib.contextmanager
def watching(state: Path, addresses: dict[str, str]) -> Iterator[Watch]:
    """Watch during a block that closes the watch; where it is left by an error, end what was started."""
    watch = Watch(state, addresses)
    try:
        yield watch
    finally:
        watch.probe.ended.set()
        for ping in watch.pings.values():
            ping.close()
