"""A large ring, built and changed by the module `swift_ring`, and by `swift-ring-builder` once for each device."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tools.bench_parts.figures import Figure
from tools.bench_parts.runs import BIN, Context, NotMeasured, Run, execute, say

PART_POWER, REPLICAS = 18, 3
ZONES, HOSTS, DISKS = 5, 20, 10
"""Zones, hosts of a zone, disks of a host: 1,000 devices."""

ADDED, WEIGHED, DRAINED = 10, 20, 5
UNCHANGED, FASTER = 1.0, 20.0
"""Aims: seconds with nothing to change, times faster than the command."""

REPORTED = 250
"""Calls of the command between two lines of progress."""

SEED = "3"
"""Of the command's rebalance, so that it ends the same way every time; with some, one does not balance a small ring."""


def device(zone: int, host: int, disk: int) -> dict[str, Any]:
    """Return a declared device."""
    return {
        "region": 1, "zone": zone + 1, "ip": f"10.{zone}.{host // 250}.{host % 250 + 1}", "port": 6200,
        "device": f"disk{disk:02}", "weight": 4000.0,
    }  # fmt: skip


def before(zones: int = ZONES, hosts: int = HOSTS, disks: int = DISKS) -> list[dict[str, Any]]:
    """Return the devices of the first ring."""
    return [device(zone, host, disk) for zone in range(zones) for host in range(hosts) for disk in range(disks)]


def after(devices: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Return the devices after the change, and what it consists of: those added, weighed anew and drained."""
    changed = copy.deepcopy(list(devices))
    step = len(changed) // (WEIGHED + DRAINED)
    touched = changed[::step]
    drained, weighed = touched[:DRAINED], touched[DRAINED : DRAINED + WEIGHED]
    for one in weighed:
        one["weight"] = 3000.0
    added = [device(number % ZONES, 0, 50 + number) for number in range(ADDED)]
    kept = [one for one in changed if one not in drained]
    return [*kept, *added], {"add": added, "weigh": weighed, "drain": drained}


class Module:
    """The module's work on a folder, in a process for each call."""

    def __init__(self, folder: Path, part_power: int) -> None:
        """Begin without a ring."""
        self.folder, self.part_power, self.now = folder, part_power, time.time()

    def run(self, devices: Sequence[dict[str, Any]], hours: float = 0.0) -> tuple[Run, dict[str, Any]]:
        """Return the run and what became of the ring, so many hours after the call before."""
        self.now += hours * 3600
        ring = {
            "name": "object", "part_power": self.part_power, "replicas": REPLICAS, "min_part_hours": 1,
            "devices": list(devices),
        }  # fmt: skip
        request = self.folder.with_suffix(".json")
        request.write_text(json.dumps({"folder": str(self.folder), "rings": [ring], "now": self.now}))
        run = execute([sys.executable, str(Path(__file__).with_name("ring_run.py")), str(request)])
        return run, json.loads(run.output.strip().splitlines()[-1])


class Command:
    """`swift-ring-builder` on a builder, and the seconds and number of its calls."""

    def __init__(self, folder: Path) -> None:
        """Begin without a builder."""
        folder.mkdir()
        self.builder, self.seconds, self.calls = folder / "object.builder", 0.0, 0

    def call(self, *words: str) -> None:
        """Call it once; raises NotMeasured. It exits with 1 for warnings, such as a ring that is not quite balanced."""
        command = [str(BIN / "swift-ring-builder"), str(self.builder), *words]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.seconds += time.monotonic() - began
        self.calls += 1
        if done.returncode not in (0, 1):
            raise NotMeasured(f"`{' '.join(command)}` failed ({done.returncode}):\n{done.stdout}{done.stderr}")
        if self.calls % REPORTED == 0:
            say(f"swift-ring-builder: {self.calls} calls, {self.seconds:.0f} s")

    def build(self, part_power: int, devices: Sequence[dict[str, Any]]) -> float:
        """Make a ring, one call for each device and a rebalance; return the seconds."""
        began = self.seconds
        self.call("create", str(part_power), str(REPLICAS), "1")
        for one in devices:
            self.call("add", place(one), f"{one['weight']:g}")
        self.call("rebalance", f"--seed={SEED}")
        return self.seconds - began

    def change(self, changes: Mapping[str, Sequence[dict[str, Any]]]) -> float:
        """Change it, one call for each device and a rebalance as if an hour had passed; return the seconds."""
        began = self.seconds
        for one in changes["add"]:
            self.call("add", place(one), f"{one['weight']:g}")
        for one in changes["weigh"]:
            self.call("set_weight", place(one), f"{one['weight']:g}")
        for one in changes["drain"]:
            self.call("set_weight", place(one), "0")
        self.call("pretend_min_part_hours_passed")
        self.call("rebalance", f"--seed={SEED}")
        return self.seconds - began

    def state(self) -> dict[str, float]:
        """Return balance and dispersion of the ring, in percent."""
        from swift.common.ring.builder import RingBuilder  # noqa: PLC0415  # it changes how a process locks

        builder = RingBuilder.load(str(self.builder))
        return {"balance": round(builder.get_balance(), 2), "dispersion": round(builder.dispersion, 2)}


def processor() -> float:
    """Return the seconds that processors have worked for commands that were waited for; other load adds little."""
    times = os.times()
    return times.children_user + times.children_system


def place(one: Mapping[str, Any]) -> str:
    """Return a device as the command names it."""
    return f"r{one['region']}z{one['zone']}-{one['ip']}:{one['port']}/{one['device']}"


def measure(_context: Context) -> Iterator[Figure]:
    """Yield seconds of both ways, building and changing a ring, and of a call with nothing to change.

    Both end with rings that are balanced alike; the figures' notes say how. Raises NotMeasured.
    """
    yield from compared(PART_POWER, before())


def compared(part_power: int, devices: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """Yield the figures of a ring of so many partitions and these devices; raises NotMeasured."""
    wanted, changes = after(devices)
    size = f"2^{part_power} partitions, {len(devices):,} devices"
    change = ", ".join(f"{len(items)} {verb}" for verb, items in changes.items())
    say(f"{size}; the change: {change}")
    marks = [processor()]
    with tempfile.TemporaryDirectory(prefix="brume-bench-") as folder:
        module = Module(Path(folder) / "module", part_power)
        build, built = module.run(devices)
        marks.append(processor())
        yield Figure("swift_ring, build", build.seconds, note=f"{size}; {described(built)}")
        again, nothing = module.run(devices)
        if nothing["changed"]:
            raise NotMeasured("swift_ring changed a ring that was as declared")
        marks.append(processor())
        note = f"{marks[-1] - marks[-2]:.2f} s of processors"
        yield Figure("swift_ring, no change", again.seconds, aim=UNCHANGED, note=note)
        changed, done = module.run(wanted, hours=1)
        marks.append(processor())
        yield Figure("swift_ring, change", changed.seconds, note=f"{change}; {described(done)}")
        yield Figure("swift_ring, memory", max(build.mebibytes, changed.mebibytes), "MiB")
        command = Command(Path(folder) / "command")
        slow_build = command.build(part_power, devices)
        marks.append(processor())
        calls = command.calls
        yield Figure("swift-ring-builder, build", slow_build, note=f"{calls:,} calls; {described(command.state())}")
        slow_change = command.change(changes)
        marks.append(processor())
        note = f"{command.calls - calls} calls; {described(command.state())}"
        yield Figure("swift-ring-builder, change", slow_change, note=note)
    worked = [later - earlier for earlier, later in pairwise(marks)]
    yield from ratios(
        {"build": (build.seconds, slow_build), "change": (changed.seconds, slow_change)},
        {"build": (worked[0], worked[3]), "change": (worked[2], worked[4])},
    )


def ratios(
    seconds: Mapping[str, tuple[float, float]], worked: Mapping[str, tuple[float, float]]
) -> Iterator[Figure]:
    """Yield how many times faster the module is, from seconds of both by the clock and by what processors worked."""
    sums = [{**one, "both": tuple(map(sum, zip(*one.values(), strict=True)))} for one in (seconds, worked)]
    for name, (quick, slow) in sums[0].items():
        busy = sums[1][name]
        aim = FASTER if name == "both" else None
        note = f"processors {busy[0]:.0f} s against {busy[1]:.0f} s, {busy[1] / busy[0]:.1f} times"
        yield Figure(f"how many times faster, {name}", slow / quick, "times", aim, "more", note)


def described(ring: Mapping[str, Any]) -> str:
    """Return how well a ring is balanced."""
    return f"balance {ring['balance']:.2f} %, dispersion {ring['dispersion']:.2f} %"
