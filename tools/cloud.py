#!/usr/bin/env python3
"""From nothing to a verified cloud: an inventory's hosts as containers, `site.yml`, `verify.yml`, and a summary."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


class StepError(RuntimeError):
    """A step failed; it has said why on its own output."""


def run(command: Sequence[str], **variables: str) -> None:
    """Run a command in the checkout with its output shown; raises StepError."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **variables}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise StepError(f"`{' '.join(command)}` failed")


def summary(state: Path, plan: dict[str, Any], phases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the closing lines: time per phase, API addresses, and how to use the cloud."""
    width = max(len(str(one["phase"])) for one in phases)
    lines = ["", "TIME"]
    lines += [f"  {one['phase']:<{width}}  {one['seconds']:7.1f} s" for one in phases]
    lines += [f"  {'total':<{width}}  {sum(float(one['seconds']) for one in phases):7.1f} s", "", "API"]
    public = [one for one in plan["cloud"]["endpoints"] if one["interface"] == "public"]
    lines += [f"  {one['type']:<14} {one['url']}" for one in public]
    clouds = state / "clouds.yaml"
    shown = clouds.relative_to(ROOT)
    return [
        *lines,
        "",
        f"Credentials: {shown} (cloud `lab`, administrator; authority: {shown.parent / 'ca.crt'})",
        f"  OS_CLIENT_CONFIG_FILE={shown} .venv/bin/openstack --os-cloud lab server list",
    ]


def main(arguments: Sequence[str]) -> int:
    """Make or converge the cloud of an inventory; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inventory", nargs="?", default="inventories/aio")
    inventory = parser.parse_args(arguments).inventory
    state = ROOT / ".lab" / Path(inventory).resolve().name
    phases: list[dict[str, Any]] = []

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        phases.append({"phase": name, "seconds": round(time.monotonic() - begin, 1)})

    lab, playbook = str(ROOT / "tools/lab.py"), str(BIN / "ansible-playbook")
    record = state / "phases.json"
    try:
        with timed("Image of instances"):
            run([sys.executable, str(ROOT / "tools/guest_image.py")])
        with timed("Image of hosts"):
            run([sys.executable, lab, "image", inventory])
        with timed("Hosts"):
            run([sys.executable, lab, "create", inventory])
        record.unlink(missing_ok=True)
        plan_file = state / "plan.json"
        run([playbook, "-i", inventory, "playbooks/plan.yml", "--tags", "json", "-e", f"plan_file={plan_file}"])
        for name in ("site.yml", "verify.yml"):
            run([playbook, "-i", inventory, f"playbooks/{name}"], BRUME_PHASES_FILE=str(record))
            # at once, so that what was downloaded serves the next lab even if the verification fails
            run([sys.executable, lab, "keep", inventory])
    except StepError as error:
        print(f"cloud: {error}", file=sys.stderr)
        return 1
    phases += json.loads(record.read_text(encoding="utf-8")) if record.exists() else []
    plan = json.loads(plan_file.read_text(encoding="utf-8"))
    print("\n".join(summary(state, plan, phases)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
