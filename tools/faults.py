#!/usr/bin/env python3
"""Breaks runs and hosts of a lab, and sees whether it recovers.

Runs (`tools/fault_parts/runs.py`): `deploy` and `reconfigure` are killed at a random moment; the `network`, the `disk`,
the package `index` or a `daemon` fails under one. Where there are several controllers, also losses under the eyes of
users (`tools/fault_parts/losses.py`): of a controller, a service, a network host, the management network of one
host, room on a disk, all power.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from tools.fault_parts.losses import LOSSES, Losses  # noqa: E402
from tools.fault_parts.runs import KINDS, ONCE, FaultError  # noqa: E402


@dataclass(frozen=True)
class Outcome:
    """What became of one fault."""

    name: str
    text: str
    recovered: bool


def main(arguments: Sequence[str]) -> int:
    """Run the faults; returns the exit code. Ends with how many were run and recovered."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("inventory", type=Path)
    parser.add_argument("--count", type=int, default=2, help="how many deploys and how many reconfigurations")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument(
        "--kinds",
        help=f"separated by commas, of {', '.join((*KINDS, *LOSSES))}; `kind:N` is the Nth of its kind alone. Without: "
        "losses where there are several controllers, runs elsewhere",
    )
    parser.add_argument("--keep", action="store_true", help="where no deploy is killed: use the lab as it is")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(3), "big")
    bench = Losses(options.inventory, seed)
    several = len(bench.controllers) > 1
    kinds = options.kinds.split(",") if options.kinds else [*(LOSSES if several else KINDS)]
    known = {kind: 1 if kind in ONCE else options.count for kind in KINDS} | (LOSSES if several else {})
    wanted: list[tuple[str, int]] = []
    for kind in kinds:
        name, _, number = kind.partition(":")
        if name not in known or (number and number not in map(str, range(1, known[name] + 1))):
            parser.error(f"unknown kind {kind}; use some of {', '.join(known)}")
        wanted += [(name, int(number) - 1)] if number else [(name, one) for one in range(known[name])]
    fate = "is used as it is" if options.keep else "is made anew, and what is on it is lost"
    print(f"faults: the lab of {options.inventory} {fate}; seed {seed}", flush=True)
    outcomes: list[Outcome] = []
    if wanted[0][0] != "deploy":
        if not options.keep:
            bench.fresh()
        if wanted[0][0] in KINDS:
            bench.recover("before")
    for kind, number in wanted:
        method: Callable[[], str] = getattr(bench, kind)
        bench.number = number
        try:
            if kind in LOSSES and not bench.instance:
                bench.prepare()
            outcome = Outcome(f"{kind} {number + 1}", method(), True)
        except (FaultError, subprocess.SubprocessError, OSError) as error:
            outcome = Outcome(f"{kind} {number + 1}", f"NOT RECOVERED: {error}", False)
        outcomes.append(outcome)
        print(f"{outcome.name}: {outcome.text}", flush=True)
    good = sum(one.recovered for one in outcomes)
    print(f"faults: {len(outcomes)} run, {good} recovered, seed {seed}")
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
