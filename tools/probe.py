#!/usr/bin/env python3
"""Calls a cloud's API ten times a second while a command runs, and says which calls failed and how long they took.

Usage: probe.py INVENTORY [--report FILE] -- COMMAND...
What is called and by whom: `plugins/module_utils/api_probe.py`; the cloud is that of `.lab/<inventory>/clouds.yaml`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / ".collections")]

from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Probe, summary  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    """Probe while the command runs; returns its exit code, or 3 where it succeeded and calls failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("inventory", type=Path)
    parser.add_argument("--report", type=Path, help="write every call to this file as JSON")
    words = list(arguments)
    middle = words.index("--") if "--" in words else len(words)
    options, command = parser.parse_args(words[:middle]), words[middle + 1 :]
    if not command:
        parser.error("give a command after `--`")
    probe = Probe(ROOT / ".lab" / options.inventory.resolve().name / "clouds.yaml", "lab")
    thread = threading.Thread(target=probe.run)
    thread.start()
    try:
        code = subprocess.run(command, check=False).returncode
    finally:
        probe.ended.set()
        thread.join()
    probe.close()
    print("\n".join(summary(probe.calls)))
    if options.report:
        options.report.write_text(json.dumps([asdict(one) for one in probe.calls], indent=1) + "\n", encoding="utf-8")
    return code or (3 if any(one.problem for one in probe.calls) else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
