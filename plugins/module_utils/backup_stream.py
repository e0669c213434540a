"""Runs `backup_host` on hosts, and lets data flow from one host to another through the deploy host, in no file."""

from __future__ import annotations

import contextlib
import inspect
import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from ansible_collections.brume.cloud.plugins.module_utils import backup_host, backup_store, host_lock

BOOTSTRAP = """
import json, os
line = bytearray()
while not line.endswith(b"\\n"):
    byte = os.read(0, 1)
    if not byte:
        raise SystemExit(3)
    line += byte
given = json.loads(line)
names = {}
for name, text in given["programs"].items():
    names[name] = {"__name__": name}
    exec(text, names[name])
names["backup_host"]["main"](given["request"], names["host_lock"], given["folder"], names["backup_store"])
"""
"""Reads programs and what is to be done from the first line of standard input, and leaves the rest of it alone."""


PROGRAMS = (host_lock, backup_store, backup_host)


class StreamError(Exception):
    """A host could not do it; the message says what it said."""


def shell(python: str = "/usr/bin/python3") -> str:
    """Return the line of shell that waits for the program on a host."""
    return shlex.join(here(python))


def here(python: str = sys.executable) -> list[str]:
    """Return the command that waits for the program; without `python`, with this run's own and its libraries."""
    return [python, "-I", "-c", BOOTSTRAP]


class Call:
    """One request on one host that has begun; `argv` runs `shell()` there."""

    def __init__(self, argv: Sequence[str], do: str, request: Mapping[str, Any]) -> None:
        """Start it and hand it the program."""
        self._do, self._result, self._said = do, "", list[str]()
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        programs = {one.__name__.rpartition(".")[2]: inspect.getsource(one) for one in PROGRAMS}
        text = json.dumps({"programs": programs, "folder": host_lock.FOLDER, "request": {"do": do, **request}})
        try:
            self.input.write(text.encode() + b"\n")
            self.input.flush()
        except BrokenPipeError:
            self.end()

    @property
    def input(self) -> IO[bytes]:
        """Return its standard input."""
        return self._process.stdin  # type: ignore[return-value]

    @property
    def output(self) -> IO[bytes]:
        """Return its standard output, at the begin of what the program writes."""
        stream: Any = self._process.stdout
        while True:
            line = stream.readline(65536)
            if line == backup_host.BEGIN or not line:
                return stream  # type: ignore[no-any-return]

    def _listen(self) -> None:
        stream: Any = self._process.stderr
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if line.startswith(backup_host.RESULT):
                self._result = line
                continue
            if line.startswith(backup_host.ERROR):
                line = json.loads(line.removeprefix(backup_host.ERROR))
            self._said = [*self._said[-9:], line]

    def stop(self) -> None:
        """End it; the host ends what it had begun when its standard input ends."""
        self._process.kill()
        self._process.wait()
        # Commands of a local one outlive it until they read this end.
        with contextlib.suppress(BrokenPipeError):
            self.input.close()

    def end(self) -> Any:
        """Wait for its end and return its result. Raises StreamError."""
        with contextlib.suppress(BrokenPipeError):
            self.input.close()
        for _piece in iter(lambda: self._process.stdout.read(65536), b""):  # type: ignore[union-attr]
            pass
        code = self._process.wait()
        self._thread.join()
        if code or not self._result:
            said = [line for line in self._said if line.strip()]
            raise StreamError(f"{self._do}: {said[-1] if said else f'exit code {code}'}")
        return json.loads(self._result.removeprefix(backup_host.RESULT))


def ask(argv: Sequence[str], do: str, **request: Any) -> Any:
    """Return the result of a request that neither takes nor gives data. Raises StreamError."""
    call = Call(argv, do, request)
    # Standard input stays open: its end would mean that this run has ended.
    stream = call.output
    while stream.read(65536):
        pass
    return call.end()


def flow(source: Call, target: Call) -> tuple[Any, Any]:
    """Let the output of one call be the input of another; return both results. Raises StreamError."""
    try:
        stream: Any = source.output
        try:
            while piece := stream.read1(backup_host.CHUNK):
                target.input.write(piece)
        except BrokenPipeError:
            source.stop()
            target.end()
        given = source.end()
    except BaseException:
        source.stop()
        target.stop()
        raise
    return given, target.end()
