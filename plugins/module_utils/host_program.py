"""Runs a function of one of these modules on a host, with its arguments on standard input; no file is left there.

For checks that hold secrets. What the host's command line shows is BOOTSTRAP alone.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BOOTSTRAP = (
    "import json, sys; given = json.load(sys.stdin); exec(given['program']); "
    "print(json.dumps(globals()[given['function']](**given['arguments'])))"
)
"""Reads a program, the name of a function and its arguments, and prints what the function returns."""


class HostProgramError(Exception):
    """The host could not be asked; the message holds no argument."""


class Arguments(dict[str, Any]):
    """Arguments that nobody prints, because they hold secrets."""

    def __repr__(self) -> str:
        """Return the names alone."""
        return f"Arguments({', '.join(self)})"


def command(python: str = "/usr/bin/python3") -> str:
    """Return the shell command that waits for a program; `-I` keeps the host's own settings of Python out."""
    return shlex.join([python, "-I", "-c", BOOTSTRAP])


def call(argv: Sequence[str], module: Any, function: str, arguments: Arguments, timeout: float) -> Any:
    """Return what a module's function returns there; `argv` runs `command()`, by SSH or on this machine.

    The module must need nothing beside the standard library and what the host's Python has. `timeout` in seconds.
    Raises HostProgramError with the last line of what the program said.
    """
    program = Path(module.__file__).read_text(encoding="utf-8")
    text = json.dumps({"program": program, "function": function, "arguments": arguments})
    problem = ""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=timeout)
        if done.returncode == 0:
            return json.loads(done.stdout)
        problem = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except (OSError, ValueError) as error:
        problem = str(error)
    except subprocess.TimeoutExpired:
        problem = f"no answer within {timeout:.0f} s"
    # From here and not from the handlers: what they caught holds the standard input.
    raise HostProgramError(f"{function}: {problem}")
