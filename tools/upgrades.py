#!/usr/bin/env python3
"""Takes a lab's cloud from a former release to that of its inventory or another and back, and judges every step.

Steps, in the order in which they are named (`tools/fault_parts/upgrades.py`): `deploy` the former release, with
instances; `upgrade` with a backup, judged by its report; `rollback`, and use of the instances; `finalize`; `tempest`.
Harder ones: `upgrade_killed` and `rollback_killed` at a random moment, `host_dies` in mid-upgrade, `mixed` releases for
a while, `restored` by the upgrade's backup.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from openstack.exceptions import SDKException

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from tools.fault_parts.runs import FaultError  # noqa: E402
from tools.fault_parts.upgrades import STEPS, Upgrades  # noqa: E402

FORMER = "2025.1"
"""The SLURP release before the inventories' one."""

WAY = ("deploy", "upgrade", "rollback", "upgrade", "finalize", "tempest")
"""The whole way."""


def main(arguments: Sequence[str]) -> int:
    """Take the steps until one fails; returns the exit code. Ends with how many were taken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("inventory", type=Path)
    parser.add_argument("--former", default=FORMER, help=f"where the cloud comes from, {FORMER} unless given")
    parser.add_argument("--release", default="", help="where it goes to, the inventory's unless given")
    parser.add_argument("--steps", default=",".join(WAY), help=f"separated by commas, of {', '.join(STEPS)}")
    parser.add_argument("--times", type=int, default=1, help="how often all steps are taken")
    parser.add_argument("--seed", type=int, default=None, help="repeats the moments of kills")
    options = parser.parse_args(arguments)
    names = options.steps.split(",") * options.times
    if unknown := sorted(set(names) - set(STEPS)):
        parser.error(f"unknown step {', '.join(unknown)}; use some of {', '.join(STEPS)}")
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(3), "big")
    try:
        bench = Upgrades(options.inventory, seed, options.former, options.release)
    except FaultError as error:
        parser.error(str(error))
    print(f"upgrades: from {bench.former} to {bench.target} on the lab of {options.inventory}; seed {seed}", flush=True)
    taken = 0
    for bench.number, name in enumerate(names):
        began = time.monotonic()
        try:
            text = STEPS[name](bench)
        except (FaultError, SDKException, subprocess.SubprocessError, OSError) as error:
            print(f"{bench.number + 1} {name}: FAILED: {error}", flush=True)
            break
        taken += 1
        print(f"{bench.number + 1} {name}: {text} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"upgrades: {taken} of {len(names)} steps taken, seed {seed}")
    return 0 if taken == len(names) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
