"""Running playbooks and measuring them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
LAST_LINES = 15


class NotMeasured(RuntimeError):
    """Something that was to be measured failed; the message says what and why."""


@dataclass(frozen=True)
class Run:
    """One run of a command: wall-clock seconds, seconds of its plays by name, peak memory, and what it said.

    `mebibytes` is the largest resident set of any one of its processes.
    """

    seconds: float
    plays: Mapping[str, float]
    mebibytes: float
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something, summed over hosts, by the recap."""
        return changes(self.output)


@dataclass(frozen=True)
class Context:
    """What every part gets: the inventory, and whether what would change a deployed cloud runs in check mode only."""

    inventory: str
    check: bool = False

    @property
    def state(self) -> Path:
        """Folder of the inventory's lab."""
        return ROOT / ".lab" / Path(self.inventory).resolve().name

    def playbook(self, path: str, *arguments: str, variables: Mapping[str, Any] | None = None) -> Run:
        """Run a playbook; raises NotMeasured. `variables` may hold secrets: they go through a private file."""
        with tempfile.TemporaryDirectory(prefix="brume-bench-") as folder:
            command = [str(BIN / "ansible-playbook"), "-i", self.inventory, path, *arguments]
            if variables:
                given = Path(folder) / "variables.json"
                with open(os.open(given, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
                    json.dump(variables, stream)
                command += ["-e", f"@{given}"]
            phases = Path(folder) / "phases.json"
            # The recap is read below, so its callback is the one that is known.
            run = execute(
                command,
                ANSIBLE_STDOUT_CALLBACK="ansible.builtin.default",
                ANSIBLE_NOCOLOR="1",
                BRUME_PHASES_FILE=str(phases),
            )
            found = json.loads(phases.read_text(encoding="utf-8")) if phases.exists() else []
        plays: dict[str, float] = {}
        for one in found:
            plays[one["phase"]] = plays.get(one["phase"], 0.0) + float(one["seconds"])
        return Run(run.seconds, plays, run.mebibytes, run.output)


def execute(command: Sequence[str], **variables: str) -> Run:
    """Run a command in the checkout, quietly, and measure it; raises NotMeasured with its last lines."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **variables}
    with tempfile.NamedTemporaryFile(prefix="brume-bench-") as result:
        measured = [sys.executable, "-S", str(Path(__file__).with_name("measured.py")), result.name, *command]
        process = subprocess.run(
            measured,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        found = json.load(result) if process.returncode == 0 else {"code": process.returncode}
    if found["code"]:
        last = "\n".join(process.stdout.strip().splitlines()[-LAST_LINES:])
        raise NotMeasured(f"`{' '.join(command)}` failed ({found['code']}):\n{last}")
    return Run(found["seconds"], {}, found["kibibytes"] / 1024, process.stdout)


def changes(output: str) -> int:
    """Return how many tasks changed something, summed over the hosts of a recap; raises NotMeasured without one."""
    found = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+) ", output, re.MULTILINE)
    if not found:
        raise NotMeasured("the run printed no recap")
    return sum(int(one) for one in found)


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(f"  {text}", flush=True)
