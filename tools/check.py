#!/usr/bin/env python3
"""Runs the checks of `make test` (lint, unit tests, molecule) and ends with what failed and how many passed."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LINTERS = (
    ("ruff", ("ruff", "check", "--quiet", ".")),
    ("mypy", ("mypy", "plugins", "tools")),
    ("ansible-lint", ("ansible-lint", "--offline", "--profile", "production", "-q")),
)

INVENTORIES = {"default": "aio", "upgrade": "aio", "upgrade_ha": "ha"}
"""Inventories of molecule's scenarios; any other one has a scenario's own name."""

MOST, LONGEST = 10, 400
"""How many failures are named again at the end, and at which length (characters) they are cut."""


@dataclass(frozen=True)
class Outcome:
    """What a check came to: numbers of tests, or 1 for a tool that does not count."""

    name: str
    passed: int
    failed: int
    seconds: float
    failures: Sequence[str] = ()


def failures(output: str) -> list[str]:
    """Return the lines with which pytest and Ansible name what failed, without their frames."""
    found = re.findall(r"^[\s│]*((?:FAILED|ERROR) \S+::.*|fatal: \[.*)$", output, re.MULTILINE)
    return [line if len(line) <= LONGEST else f"{line[:LONGEST]} ..." for line in dict.fromkeys(map(str.strip, found))]


def counts(output: str, code: int) -> tuple[int, int]:
    """Return how many tests passed and failed by pytest's own last lines, all that were printed added up."""
    passed = failed = 0
    for line in re.findall(r"^(?:[\s│]*|=+ )((?:\d+ \w+,? ?)+in [\d.]+s.*)$", output, re.MULTILINE):
        for number, word in re.findall(r"(\d+) (\w+)", line):
            passed += int(number) if word == "passed" else 0
            failed += int(number) if word in ("failed", "error", "errors") else 0
    if not passed + failed:
        return int(code == 0), int(code != 0)
    return passed, failed or int(code != 0)


def run(name: str, command: Sequence[str], **variables: str) -> Outcome:
    """Run a check with its output shown as it comes."""
    print(f"\n--- {name}: {' '.join(command)}", flush=True)
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **variables}
    begin = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    text = ""
    for line in process.stdout or ():
        text += line
        print(line, end="", flush=True)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    passed, failed = counts(plain, process.wait())
    return Outcome(name, passed, failed, time.monotonic() - begin, failures(plain) if failed else ())


def main(arguments: Sequence[str]) -> int:
    """Run the named parts; returns the exit code. A cloud is not made where cheaper checks have failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=("lint", "unit", "molecule"))
    parser.add_argument("--scenario", default="default", help="of molecule; several are separated by commas")
    options = parser.parse_args(arguments)
    outcomes: list[Outcome] = []
    skipped = ""
    for part in options.parts:
        if part == "lint":
            outcomes += [run(name, command) for name, command in LINTERS]
        elif part == "unit":
            outcomes += [
                run("unit", ["pytest", "-n", "auto", "tests/unit"]),
                run("unit, with Swift", ["pytest", "-n", "auto", "tests/swift"]),
            ]
        for scenario in options.scenario.split(",") if part == "molecule" else ():
            if any(one.failed for one in outcomes):
                skipped = f"molecule {scenario}: not run, because of the failures above"
                break
            name = os.environ.get("BRUME_LAB") or INVENTORIES.get(scenario, scenario)
            folder = os.environ.get("BRUME_INVENTORY") or f"inventories/{name}"
            command = ["molecule", "test", "-s", scenario]
            outcomes.append(run(f"molecule {scenario}", command, BRUME_INVENTORY=folder, BRUME_LAB=name))
    print()
    for one in outcomes:
        print(f"{one.name:<20} {one.passed:5} passed {one.failed:4} failed {one.seconds:7.1f} s")
    if skipped:
        print(skipped)
    for one in outcomes:
        for line in one.failures[:MOST]:
            print(f"{one.name}: {line}")
        if len(one.failures) > MOST:
            print(f"{one.name}: and {len(one.failures) - MOST} more, above")
    failed = sum(one.failed for one in outcomes)
    print(f"{sum(one.passed for one in outcomes)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
