#!/usr/bin/env python3
"""Runs docs/first-steps.md against a deployed cloud: every command of its `sh` blocks, in order, as a new user would.

A command must end with 0 and print what stands behind it as `# word`. After a failure the section that removes
everything is run all the same, so that the next run begins as this one did.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/first-steps.md"
WRITTEN_FOR = ".lab/aio/"
"""Where the page finds the cloud; another inventory has its own folder."""

TIMEOUT = 600
"""Seconds that one command may take."""

LAST = "Remove it all"
"""Title of the section that is run even after a failure."""


@dataclass(frozen=True)
class Step:
    """A command of the page, what it must print (empty: anything), and the title of its section."""

    command: str
    expected: str
    section: str


def steps(page: str) -> list[Step]:
    """Return the commands of a page's `sh` blocks: one a line, with `  # text` behind it for what it must print."""
    found = []
    section, inside = "", False
    for line in page.splitlines():
        if line.startswith("```"):
            inside = line == "```sh"
        elif inside and line.strip():
            command, _hash, expected = line.partition("  # ")
            found.append(Step(command.strip(), expected.strip(), section))
        elif line.startswith("#"):
            section = line.strip("# ")
    return found


def run(step: Step, variables: Mapping[str, str]) -> tuple[str, str, dict[str, str]]:
    """Run a command in bash. Return what is wrong (empty: nothing), its output, and the variables as it left them."""
    reading, writing = os.pipe()
    script = f"set -a -o pipefail\n{step.command}\ncode=$?\nenv -0 >&{writing}\nexit $code"
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=dict(variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=TIMEOUT, pass_fds=(writing,), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        os.close(writing)
        os.close(reading)
        output = error.output or b""
        text = output.decode(errors="replace") if isinstance(output, bytes) else str(output)
        return f"not done within {TIMEOUT} s", text, dict(variables)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="surrogateescape") as stream:
        left = dict(entry.split("=", 1) for entry in stream.read().split("\0") if "=" in entry)
    left.pop("code", None)
    if done.returncode:
        return f"ends with {done.returncode}", done.stdout, left or dict(variables)
    if step.expected not in done.stdout:
        return f"prints no `{step.expected}`", done.stdout, left
    return "", done.stdout, left


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those of the client: a new user's shell has none."""
    return {key: value for key, value in variables.items() if not key.startswith("OS_")}


def walk(todo: Iterable[Step], variables: Mapping[str, str]) -> int:
    """Run steps in order and print each; return how many failed. After a failure only the last section is run."""
    failed = 0
    current = dict(variables)
    for step in todo:
        if failed and step.section != LAST:
            continue
        begin = time.monotonic()
        wrong, output, current = run(step, current)
        print(f"{time.monotonic() - begin:6.1f} s  {step.command}", flush=True)
        if wrong:
            failed += 1
            print(f"{step.command}\n    {wrong}:\n" + re.sub("^", "    ", output.rstrip(), flags=re.MULTILINE))
    return failed


def main(arguments: Sequence[str]) -> int:
    """Run the page on the cloud of an inventory; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inventory", nargs="?", default="inventories/aio")
    name = Path(parser.parse_args(arguments).inventory).resolve().name
    todo = steps(PAGE.read_text("utf-8").replace(WRITTEN_FOR, f".lab/{name}/"))
    begin = time.monotonic()
    failed = walk(todo, clean_environment(os.environ))
    print(f"first steps: {len(todo)} commands, {failed} failed, {time.monotonic() - begin:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
