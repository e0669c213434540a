"""Servers of a running HAProxy: taken out of use in order, and back, by its admin socket.

Upstream: HAProxy Management Guide, section 9.3 (`set server`, `show stat`).
"""

from __future__ import annotations

import csv
import io
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

SOCKET = "/run/haproxy/admin.sock"
POLL = 0.2
"""Seconds between two looks at the servers."""


class HaproxyError(RuntimeError):
    """HAProxy cannot be asked, or refuses; the text says why."""


@dataclass(frozen=True)
class Server:
    """A server of a backend: its state in words of HAProxy's (UP, DOWN, DRAIN, MAINT) and its open sessions."""

    status: str
    sessions: int


def call(command: str, path: str = SOCKET, seconds: float = 5.0) -> str:
    """Return what HAProxy answers to a command. Raises HaproxyError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(path)
            connection.sendall(f"{command}\n".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
    except OSError as error:
        raise HaproxyError(f"{path}: {error}; does HAProxy run?") from error
    return answer.decode()


def parse(text: str) -> dict[str, Server]:
    """Return `backend/server` -> its state, from the output of `show stat`."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    return {
        f"{row['pxname']}/{row['svname']}": Server(row["status"].split()[0], int(row["scur"] or 0))
        for row in rows
        if row.get("svname") not in (None, "FRONTEND", "BACKEND")
    }


def to_change(state: str, names: Iterable[str], found: Mapping[str, Server]) -> list[str]:
    """Return the servers that are not in a state yet, `drain` or `ready`; those that HAProxy does not know are left."""
    drained = {name for name in names if name in found and found[name].status in ("DRAIN", "MAINT")}
    known = [name for name in names if name in found]
    return [name for name in known if (name in drained) != (state == "drain")]


def dispensable(names: Iterable[str], found: Mapping[str, Server]) -> list[str]:
    """Return those servers without which their backends still have one that is in use."""
    leaving = set(names)

    def others(name: str) -> list[str]:
        backend = name.partition("/")[0]
        return [
            other
            for other, server in found.items()
            if other.partition("/")[0] == backend and other not in leaving and server.status in ("UP", "no")
        ]

    return [name for name in names if others(name)]


def waiting(state: str, names: Iterable[str], found: Mapping[str, Server]) -> list[str]:
    """Return the servers that still have sessions (`drain`), or that no request goes to yet (`ready`)."""
    if state == "drain":
        return [name for name in names if name in found and found[name].sessions]
    return [name for name in names if name in found and found[name].status not in ("UP", "no")]


def wait(
    state: str, names: list[str], seconds: float, ask: Callable[[str], str] = call, pause: float = POLL
) -> list[str]:
    """Wait until the servers are without sessions, or in use; return those that are not after that many seconds."""
    end = time.monotonic() + seconds
    while left := waiting(state, names, parse(ask("show stat"))):
        if time.monotonic() >= end:
            break
        time.sleep(pause)
    return left
