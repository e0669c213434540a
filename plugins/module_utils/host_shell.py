"""The command with which a process of the run reaches a host beside Ansible's own calls: streams, and locks."""

from __future__ import annotations

from typing import Any


class UnusableError(Exception):
    """This connection cannot be used beside Ansible's own calls; the text says why."""


def command(connection: Any, shell: str) -> list[str]:
    """Return the command that runs a line of shell on the host of an action's connection, become included.

    Raises UnusableError where a password would have to be typed, and for connections that are neither SSH nor local.
    """
    if connection.become is not None:
        if connection.become.get_option("become_pass"):
            raise UnusableError("a password for become was given")
        shell = connection.become.build_become_command(shell, connection._shell)
    if connection.transport == "local":
        return ["/bin/sh", "-c", shell]
    if connection.transport != "ssh":
        raise UnusableError(f"its connection is of type {connection.transport}")
    if connection.get_option("password") or connection._play_context.password:
        # sshpass would wait for a password on a pipe that nobody fills beside Ansible's own call.
        raise UnusableError("a password for SSH was given")
    connection.host = connection.get_option("host") or connection._play_context.remote_addr
    words = connection._build_command(connection.get_option("ssh_executable"), "ssh", connection.host, shell)
    return [word.decode() if isinstance(word, bytes) else str(word) for word in words]
