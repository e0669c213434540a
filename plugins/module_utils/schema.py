"""Schema commands of services: those of one in order, all services side by side, and only when something changed."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.file_state import redact_pair

RECORDS = "/var/lib/brume/schema"
OUTPUT_LINES = 30
"""Last lines of a failed command's output that an error shows."""


class SchemaError(RuntimeError):
    """A command failed; the text names service, command and exit code, and the end of what it said."""


@dataclass(frozen=True)
class Service:
    """The schema work of one service. `digest` stands for everything that makes running it again necessary."""

    name: str
    user: str
    environment: str
    digest: str
    commands: tuple[tuple[str, ...], ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 900.0


def parse(items: Iterable[Mapping[str, Any]]) -> list[Service]:
    """Return the module's `services` as typed records. Raises SchemaError for names given twice and empty commands."""
    services = [
        Service(
            name=str(item["name"]),
            user=str(item["user"]),
            environment=str(item["environment"]),
            digest=str(item["digest"]),
            commands=tuple(tuple(str(word) for word in command) for command in item["commands"]),
            variables={str(key): str(value) for key, value in (item.get("variables") or {}).items()},
            timeout=float(item.get("timeout") or 900),
        )
        for item in items
    ]
    names = [service.name for service in services]
    problems = [f"{name}: given more than once" for name in sorted({name for name in names if names.count(name) > 1})]
    problems += [f"{service.name}: holds an empty command" for service in services if not all(service.commands)]
    if problems:
        raise SchemaError("\n".join(problems))
    return services


def pending(services: Iterable[Service], records: Mapping[str, Mapping[str, Any]]) -> list[Service]:
    """Return the services whose recorded digest is not the planned one."""
    return [service for service in services if records.get(service.name, {}).get("digest") != service.digest]


def action(service: Service) -> str:
    """Return what a person is told, the same in check mode and in a run."""
    return f"run the schema commands of {service.name}: " + "; ".join(" ".join(line) for line in service.commands)


def identity(user: str) -> tuple[int, int, list[int], str]:
    """Return a user's number, group, supplementary groups and home. Raises SchemaError when it does not exist."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise SchemaError(f"user {user} does not exist on this host; the host phase makes it") from None
    return entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid), entry.pw_dir


def run(service: Service, redactions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Run a service's commands in order, as its user. Return each with its seconds.

    Raises SchemaError at the first that fails; later ones are not begun, so that the next run begins anew.
    """
    results = []
    for command in service.commands:
        began = time.monotonic()
        execute(service, command, redactions)
        results.append({"command": " ".join(command), "seconds": round(time.monotonic() - began, 1)})
    return results


def execute(
    service: Service, command: Sequence[str], redactions: Mapping[str, str], success: Sequence[int] = (0,)
) -> None:
    """Run one command as a service's user, in its environment. Raises SchemaError when it fails."""
    user, group, groups, home = identity(service.user)
    search = f"{service.environment}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    variables = {"PATH": search, "LANG": "C.UTF-8", "HOME": home, "USER": service.user, **service.variables}
    own = f"{service.environment}/bin/{command[0]}"
    words = [own if "/" not in command[0] and os.path.exists(own) else command[0], *command[1:]]
    try:
        done = subprocess.run(
            words,
            user=user,
            group=group,
            extra_groups=groups,
            cwd="/",
            env=variables,
            umask=0o027,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=service.timeout,
            check=False,
            pass_fds=host_lock.inherited(),
        )
    except subprocess.TimeoutExpired as error:
        output = error.output or b""
        text = output.decode("utf-8", "replace") if isinstance(output, bytes) else str(output)
        raise SchemaError(
            failure(service, command, f"did not end within {service.timeout:.0f} s", text, redactions)
        ) from None
    except OSError as error:
        raise SchemaError(failure(service, command, f"cannot be run: {error}", "", redactions)) from None
    if done.returncode not in success:
        raise SchemaError(failure(service, command, f"exits with {done.returncode}", done.stdout, redactions))


def failure(service: Service, command: Sequence[str], reason: str, output: str, redactions: Mapping[str, str]) -> str:
    """Return the message for a command that failed, without secrets."""
    _before, text = redact_pair("", output, redactions)
    tail = "".join(f"\n    {line}" for line in text.splitlines()[-OUTPUT_LINES:])
    return (
        f"{service.name}: `{' '.join(command)}` (as {service.user}) {reason}{tail}\n"
        "  next: correct the cause and run again; the commands of this service start from the first"
    )
