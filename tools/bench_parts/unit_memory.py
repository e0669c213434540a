"""Prints, as JSON, the memory of every systemd unit of the host it runs on, in KiB. Needs root.

Proportional set size: what processes share is split between them, so that the sum is what the host has to have
(https://docs.kernel.org/filesystems/proc.html, smaps_rollup). Swapped-out memory counts as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path


def unit_of(cgroup: str) -> str:
    """Return the unit a process belongs to, from /proc/PID/cgroup; empty for sessions of users and the kernel's own.

    The innermost unit of the system counts; the service that holds a container from outside does not.
    """
    names = re.findall(r"/system\.slice/(?:[^/\n]+\.slice/)*([^/\n]+\.(?:service|scope|socket|mount))", cgroup)
    if names:
        return str(names[-1])
    return "init.scope" if re.search(r"/init\.scope$", cgroup, re.MULTILINE) else ""


def kibibytes(rollup: str) -> int:
    """Return the proportional set size, swap included, from /proc/PID/smaps_rollup."""
    return sum(int(value) for value in re.findall(r"^(?:Pss|SwapPss): +(\d+) kB$", rollup, re.MULTILINE))


def units(folders: Iterable[Path]) -> dict[str, int]:
    """Return the KiB of each unit; processes that end meanwhile are left out."""
    found: dict[str, int] = {}
    for folder in folders:
        try:
            unit = unit_of((folder / "cgroup").read_text(encoding="utf-8"))
            size = kibibytes((folder / "smaps_rollup").read_text(encoding="utf-8"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if unit:
            found[unit] = found.get(unit, 0) + size
    return found


if __name__ == "__main__":
    print(json.dumps(units(one for one in Path("/proc").iterdir() if one.name.isdigit())))
