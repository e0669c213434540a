"""Where partitions lie on a storage host, and where its rings have them; and how far replication is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROOT = "/srv/node"
RING_CHECK = 15.0
"""Seconds after which Swift's programs look for another ring (ring_check_interval in swift.common.ring.ring)."""

PROGRAMS: Mapping[str, tuple[str, str, float]] = {
    "account-replicator": ("account.recon", "replication", 1.0),
    "container-replicator": ("container.recon", "replication", 1.0),
    "object-replicator": ("object.recon", "object_replication", 60.0),
    "object-reconstructor": ("object.recon", "object_reconstruction", 60.0),
}
"""Program -> file and keys of its passes, and the seconds of the unit in which their length is (swift.common.recon)."""


@dataclass(frozen=True)
class Pass:
    """The last pass of a program that has ended: seconds since the epoch, and how many copies failed."""

    began: float
    ended: float
    failures: int = 0


def newest_ring(folder: str) -> float:
    """Return when the newest ring was put in place, in seconds since the epoch. Raises ValueError without rings."""
    found = [entry.stat().st_mtime for entry in os.scandir(folder) if entry.name.endswith(".ring.gz")]
    if not found:
        raise ValueError(f"{folder}: has no rings; run site.yml")
    return max(found)


def read_pass(folder: str, program: str) -> Pass | None:
    """Return the last pass of a program, None before it has ended one."""
    name, key, unit = PROGRAMS[program]
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as stream:
            found: dict[str, Any] = json.load(stream)
    except FileNotFoundError:
        return None
    last = found.get(f"{key}_last")
    if not last:
        return None
    failures = 0 if program == "object-reconstructor" else int((found.get("replication_stats") or {}).get("failure", 0))
    return Pass(float(last) - float(found.get(f"{key}_time") or 0) * unit, float(last), failures)


def misplaced(folder: str, address: str) -> dict[str, dict[str, int]]:
    """Return how many partitions of each ring lie on devices of a host whose ring has them elsewhere.

    `address` is the host's in the rings. Needs Swift.
    """
    from swift.common.ring import Ring  # noqa: PLC0415  # only hosts with Swift have it

    found: dict[str, dict[str, int]] = {}
    for file in sorted(name for name in os.listdir(folder) if name.endswith(".ring.gz")):
        name = file.removesuffix(".ring.gz")
        kind, dash, index = name.partition("-")
        ring = Ring(folder, ring_name=name)
        for device in sorted(os.listdir(ROOT)):
            place = f"{ROOT}/{device}/{kind}s{dash}{index}"
            there = [int(one) for one in os.listdir(place) if one.isdigit()] if os.path.isdir(place) else []
            here = (address, device)
            strange = [
                part for part in there if here not in [(one["ip"], one["device"]) for one in ring.get_part_nodes(part)]
            ]
            if strange:
                found.setdefault(device, {})[name] = len(strange)
    return found


def reasons(
    passes: Mapping[str, Pass | None], since: float, misplaced: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Return what is not in place yet. `since` is when the rings were, in seconds since the epoch."""
    found = []
    for program, one in passes.items():
        if one is None or one.began < since + RING_CHECK:
            moment = time.strftime("%H:%M:%S", time.localtime(since + RING_CHECK))
            found.append(f"{program} has not ended a pass that began after {moment}")
        elif one.failures:
            found.append(f"{program} had {one.failures} failures in its last pass")
    found += [
        f"{device} holds {count} partitions of {ring} that belong elsewhere"
        for device, counts in misplaced.items()
        for ring, count in counts.items()
    ]
    return found
