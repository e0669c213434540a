"""Nova's own Python as a process, for what its programs and its API do not do or take secrets as arguments for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

BEGIN = r"""
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
request = json.loads(sys.stdin.readline())
from nova import config, context, objects
config.parse_args(["nova", "--config-file", request["config_file"]], default_config_files=[])
objects.register_all()
ctx = context.get_admin_context()
"""
"""What every program begins with: the first line of its input, Nova's configuration and objects, and a context."""

END = r"""
for line in sys.stdin:
    answers.write(json.dumps(do(json.loads(line))) + "\n")
    answers.flush()
"""


class NovaError(RuntimeError):
    """Nova's Python failed; the text holds the end of what it said, and the next step."""


class NovaProcess:
    """Nova's Python as a process that reads one order per line and answers each with one line."""

    def __init__(self, environment: str, user: str, config_file: str, program: str) -> None:
        """Start it as `user`; `config_file` names the API's database. `program` defines `do(order)`, see BEGIN."""
        self.process = subprocess.Popen(
            ["runuser", "-u", user, "--", f"{environment}/bin/python", "-c", BEGIN + program + END],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            text=True,
        )
        self._send({"config_file": config_file})

    def _send(self, document: Mapping[str, Any]) -> None:
        if self.process.stdin is not None:
            self.process.stdin.write(json.dumps(document) + "\n")
            self.process.stdin.flush()

    def order(self, **document: Any) -> dict[str, Any]:
        """Send an order and return its answer; raises NovaError when Nova's Python fails."""
        try:
            self._send(document)
            line = self.process.stdout.readline() if self.process.stdout is not None else ""
        except BrokenPipeError:
            line = ""
        if not line:
            _out, said = self.process.communicate()
            end = "\n    ".join(said.strip().splitlines()[-12:])
            raise NovaError(
                f"Nova's Python could not {document['do']}:\n    {end}\n"
                "  next: check that the database answers and that its schema is up to date, then run again"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=30)
