"""A Ceph cluster as its monitors answer it, by the bindings of the operating system's Python (docs.ceph.com: librados).

`rados` is not imported before a cluster is asked: a dry run on a bare host has no bindings, and no cluster either.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

CONFIGURATION = "/etc/ceph/ceph.conf"
MANAGED = ("osd safe-to-destroy",)
"""Commands that managers answer, not monitors."""

CONNECT_SECONDS = 10
ANSWER_SECONDS = 60


class CephError(RuntimeError):
    """The cluster cannot be reached, or refuses; the text says which command and why."""


class Cluster:
    """An open connection; the commands are those of `ceph`, as JSON."""

    def __init__(self, handle: Any, rados: ModuleType) -> None:
        """Keep the connection."""
        self.handle, self.rados = handle, rados

    def tell(self, command: Mapping[str, Any], data: str = "") -> str:
        """Return the answer to a command. Raises CephError, never with `data`, which may hold keys."""
        wanted = json.dumps({"format": "json", **command})
        call = self.handle.mgr_command if command["prefix"] in MANAGED else self.handle.mon_command
        try:
            code, answer, message = call(wanted, data.encode(), timeout=ANSWER_SECONDS)
        except self.rados.Error as error:
            raise CephError(f"`{command['prefix']}`: {error}") from None
        if code:
            raise CephError(f"`{command['prefix']}` is refused: {message} ({code})")
        return str(answer.decode())

    def ask(self, prefix: str, **options: Any) -> Any:
        """Return the parsed answer to a command that reads."""
        return json.loads(self.tell({"prefix": prefix, **options}))


@contextlib.contextmanager
def connected(user: str, seconds: float = CONNECT_SECONDS) -> Iterator[Cluster]:
    """Open a connection as a user whose keyring is in /etc/ceph. Raises CephError when nobody answers in time."""
    try:
        rados = importlib.import_module("rados")
    except ImportError:
        raise CephError("the system's Python has no module rados; install python3-rados") from None
    options = {"client_mount_timeout": str(seconds), "rados_mon_op_timeout": str(ANSWER_SECONDS)}
    try:
        handle = rados.Rados(name=user, conffile=CONFIGURATION, conf=options)
        handle.connect(timeout=seconds)
    except rados.Error as error:
        raise CephError(f"no monitor of {CONFIGURATION} answers {user}: {error}") from None
    try:
        yield Cluster(handle, rados)
    finally:
        handle.shutdown()
