"""Schema commands of services: those of one in order, all services side by side, and only when something changed."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.file_state import redact_pair
from ansible_collections.brume.cloud.plugins.module_utils.releases import release_number

RECORDS = "/var/lib/brume/schema"
OUTPUT_LINES = 30
"""Last lines of a failed command's output that an error shows."""


Stage = Literal["sync", "check", "expand", "online", "contract", "served"]
"""What commands are for: `sync` brings a schema to what a release needs, all at once; the others are the steps of the
way to another release while both serve (docs.openstack.org/nova: upgrades; keystone and neutron have the same).
`served` has no commands: it sees that there is a way back."""

CHECKED = (0, 1)
"""Exit codes of `*-status upgrade check` with which an upgrade may go on: all well, or warnings
(docs.openstack.org/oslo.upgradecheck)."""

RESULTS = "Upgrade Check Results"
"""What such a program prints, unlike one that ended by an exception, which has the exit code of warnings too."""


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
    release: str = ""
    expand: tuple[tuple[str, ...], ...] = ()
    """What takes the place of `commands` where the schema serves another release too."""


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
            release=str(item.get("release") or ""),
            expand=tuple(tuple(str(word) for word in command) for command in item.get("expand") or ()),
        )
        for item in items
    ]
    names = [service.name for service in services]
    problems = [f"{name}: given more than once" for name in sorted({name for name in names if names.count(name) > 1})]
    problems += [f"{service.name}: holds an empty command" for service in services if not all(service.commands)]
    if problems:
        raise SchemaError("\n".join(problems))
    return services


def served(record: Mapping[str, Any]) -> list[str]:
    """Return the digests of all that a schema serves."""
    return [str(one) for one in record.get("digests", [record.get("digest", "")]) if one]


def releases(record: Mapping[str, Any]) -> list[str]:
    """Return the releases that a schema serves: two from the first step to another one until it is contracted."""
    return [str(one) for one in record.get("releases") or () if one]


def stage_of(service: Service, record: Mapping[str, Any], stage: Stage) -> Stage | Literal["none"]:
    """Return what a stage is for one service.

    While a schema serves two releases, bringing it up to date at once would take the way back: the newer one expands,
    and the older one has what it needs, and programs that do not know the schema. Where the former release was never
    noted, there are two digests and the newer release alone.
    """
    others = [one for one in releases(record) if one != service.release]
    if stage != "sync" or not (others or len(served(record)) > 1):
        return stage
    later = any(release_number(one) > release_number(service.release) for one in others)
    return "none" if later else "expand"


def is_done(service: Service, record: Mapping[str, Any], stage: Stage) -> bool:
    """Return whether a record says that a stage has nothing to do for a service.

    Checks are made anew each time, and so are migrations of data until the schema is contracted, because hosts of the
    former release may still write.
    """
    if stage in ("sync", "expand"):
        return service.digest in served(record)
    return stage in ("online", "contract") and record.get("contract") == service.digest


def is_told(service: Service, record: Mapping[str, Any], stage: Stage) -> bool:
    """Return whether a stage that is not done is a change: not where it only looks for more of what it did before."""
    return stage != "check" and bool(service.commands) and (stage != "online" or record.get(stage) != service.digest)


def begun(service: Service, record: Mapping[str, Any], stage: Stage) -> dict[str, Any] | None:
    """Return the record that must stand while a stage runs, None where the present one may: a run may be killed."""
    if stage not in ("sync", "contract") or not served(record):
        return None
    same = [one for one in served(record) if one == service.digest]
    return {**record, "digests": same, "releases": [one for one in releases(record) if one == service.release]}


def done(service: Service, record: Mapping[str, Any], stage: Stage | Literal["none"]) -> dict[str, Any]:
    """Return a service's record after a stage.

    What was synced at once has nothing left to migrate or to contract. What was expanded serves the former release too,
    so that nothing has to be run on the way back to it, until it is contracted.
    """
    both = stage in ("expand", "none")
    digests = list(dict.fromkeys([*served(record), service.digest])) if both else [service.digest]
    names = list(dict.fromkeys([*releases(record), service.release])) if both else [service.release]
    if stage == "online":
        digests, names = served(record), releases(record)
    finished = {key: record[key] for key in ("online", "contract") if key in record}
    if stage == "sync":
        finished = dict.fromkeys(("online", "contract"), service.digest)
    elif stage in ("online", "contract"):
        finished[stage] = service.digest
    elif stage == "expand":
        finished = {}
    return {"digest": service.digest, "digests": digests, "releases": names, **finished}


def refuse_unserved(services: Iterable[Service], records: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SchemaError, naming each service whose schema does not serve its planned release any more, or not yet."""

    def serves(one: Service) -> bool:
        record = records.get(one.name, {})
        return one.digest in served(record) or (bool(one.release) and one.release in releases(record))

    names = [one.name for one in services if not serves(one)]
    if names:
        raise SchemaError(
            f"the schema of {', '.join(names)} does not serve the planned release: it was never expanded from it, or "
            "contracted since (finalize.yml)\n  next: restore a backup of that release, which loses what came after it"
        )


def action(service: Service, stage: Stage) -> str:
    """Return what a person is told, the same in check mode and in a run."""
    what = "schema" if stage == "sync" else stage
    return f"run the {what} commands of {service.name}: " + "; ".join(" ".join(line) for line in service.commands)


def identity(user: str) -> tuple[int, int, list[int], str]:
    """Return a user's number, group, supplementary groups and home. Raises SchemaError when it does not exist."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise SchemaError(f"user {user} does not exist on this host; the host phase makes it") from None
    return entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid), entry.pw_dir


def run(service: Service, redactions: Mapping[str, str], accepted: Sequence[int] = (0,)) -> list[dict[str, Any]]:
    """Run a service's commands in order, as its user. Return each with its seconds, exit code and output's end.

    Raises SchemaError at the first that fails; later ones are not begun, so that the next run begins anew.
    """
    results = []
    for command in service.commands:
        began = time.monotonic()
        code, output = execute(service, command, redactions, accepted)
        if code and RESULTS not in output:
            raise SchemaError(failure(service, command, f"exits with {code}", output, redactions))
        results.append(
            {
                "command": " ".join(command),
                "seconds": round(time.monotonic() - began, 1),
                "code": code,
                "output": tail(output, redactions),
            }
        )
    return results


def execute(
    service: Service, command: Sequence[str], redactions: Mapping[str, str], success: Sequence[int] = (0,)
) -> tuple[int, str]:
    """Run one command as a service's user, in its environment; return its exit code and what it said.

    Raises SchemaError when it fails. What it said may hold secrets.
    """
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
    return done.returncode, done.stdout


def tail(output: str, redactions: Mapping[str, str]) -> list[str]:
    """Return the last lines of a command's output, without secrets."""
    _before, text = redact_pair("", output, redactions)
    return text.splitlines()[-OUTPUT_LINES:]


def failure(service: Service, command: Sequence[str], reason: str, output: str, redactions: Mapping[str, str]) -> str:
    """Return the message for a command that failed, without secrets."""
    shown = "".join(f"\n    {line}" for line in tail(output, redactions))
    return (
        f"{service.name}: `{' '.join(command)}` (as {service.user}) {reason}{shown}\n"
        "  next: correct the cause and run again; the commands of this service start from the first"
    )
