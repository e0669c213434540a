"""Runs a command and writes its seconds, peak memory and exit code as JSON: `measured.py FILE COMMAND...`.

A process of its own, and a small one: the kernel counts the memory of the process that starts another as the other's
first peak (getrusage(2), ru_maxrss), and the bench is larger than some of what it measures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main(path: str, command: list[str]) -> None:
    """Run the command with this process' own output."""
    begin = time.monotonic()
    process = subprocess.Popen(command)
    _number, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    result = {"seconds": time.monotonic() - begin, "kibibytes": usage.ru_maxrss, "code": process.returncode}
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(result, stream)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
