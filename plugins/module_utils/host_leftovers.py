"""What lies on a host and nobody uses: Python environments of other locks, what killed builds left, and old journals.

An environment stays when a link `current` or a file of systemd's names it, when a process has it open, when the plan
wants it, and when it is of the release before the one in use, which a way back needs, or of a newer one, which somebody
is on the way to. What does not have the name of an environment is never looked at.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import Action, ConvergenceError
from ansible_collections.brume.cloud.plugins.module_utils.releases import release_number
from ansible_collections.brume.cloud.plugins.module_utils.uv_environments import MARKER

ROOT = "/opt/brume"
UV = "uv"
"""Folder of the programs that build environments, by their versions."""

ENVIRONMENT = re.compile(r"(?P<release>\d{4}\.\d)-(?P<digest>[0-9a-f]{12,})")
SWAPPED = ".brume-new"
"""What file_state.replace_link adds to a link's name for a moment."""

PROCESSES = "/proc"
UNITS = ("/etc/systemd/system", "/run/systemd/system")
JOURNAL = "/var/log/journal"
ARCHIVED = re.compile(
    r"[^@]+@(?:[0-9a-f]{32}-[0-9a-f]{16}-(?P<head>[0-9a-f]{16})\.journal|(?P<time>[0-9a-f]{16})-[0-9a-f]{16}\.journal~)"
)
"""A journal file that is written no more, with the time of its first entry in microseconds since 1970
(systemd's src/libsystemd/sd-journal/journal-vacuum.c)."""


@dataclass(frozen=True)
class Leftover:
    """A path that may go, and the reason."""

    path: str
    why: str


def find(
    root: str, planned: Collection[str], uv: str, used: Collection[str], *, way_back: bool = True
) -> list[Leftover]:
    """Return what may go below ROOT. `used` are paths that a link, unit or process has; `uv` is the version in use.

    Without `way_back` the release before the one in use may go too.
    """
    found = []
    for service in sorted(_folders(root)):
        folder = f"{root}/{service}"
        if service == UV:
            others = [name for name in sorted(os.listdir(folder)) if name != uv and f"{folder}/{name}" not in used]
            found += [Leftover(f"{folder}/{name}", f"another version than {uv}") for name in others]
            if os.path.exists(f"{folder}/{uv}/uv.new"):
                found.append(Leftover(f"{folder}/{uv}/uv.new", "a copy that was not finished"))
            continue
        if os.path.islink(f"{folder}/current{SWAPPED}"):
            found.append(Leftover(f"{folder}/current{SWAPPED}", "a link that was not swapped"))
        current = os.path.basename(_target(f"{folder}/current"))
        inside = {name: match["release"] for name in _folders(folder) if (match := ENVIRONMENT.fullmatch(name))}
        found += [
            Leftover(f"{folder}/{name}", why)
            for name in sorted(inside)
            if f"{folder}/{name}" not in {*planned, *used}
            and (why := _reason(name, current, inside, os.path.exists(f"{folder}/{name}/{MARKER}"), way_back))
        ]
    return found


def _reason(name: str, current: str, inside: Mapping[str, str], complete: bool, way_back: bool) -> str:
    """Return why an environment that nobody has open may go, or nothing where it has to stay."""
    if current not in inside:  # nobody can tell which release is in use, and so which is the way back
        return ""
    now, own = release_number(inside[current]), release_number(inside[name])
    before = max((number for one in inside.values() if (number := release_number(one)) < now), default=())
    if own > now or (own == before and way_back):
        return ""
    if not complete:
        return "a build that was not finished"
    if own == now:
        return f"another lock of {inside[name]}, in which {current} is in use"
    if own == before:
        return f"of {inside[name]}, to which there is no way back from {inside[current]}"
    return f"of {inside[name]}, and the way back from {inside[current]} leads to a later release"


def _folders(path: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        return [one.name for one in entries if one.is_dir(follow_symlinks=False)]
    return []


def _target(link: str) -> str:
    """Return where a link leads; a link that is relative leads to its own folder."""
    if not os.path.islink(link):
        return ""
    return os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))


def used(root: str) -> set[str]:
    """Return the paths `root/<service>/<name>` that links, unit files and processes name.

    A process's program is the operating system's Python, so that its command line, environment and mapped files tell.
    Raises PermissionError where a process cannot be looked into, as in a container without its host's capabilities.
    """
    pattern = re.compile(rb"%s/[^/\s\0:;,\"'=]+/[^/\s\0:;,\"'=]+" % re.escape(root.encode()))
    found = {_target(f"{root}/{service}/current") for service in _folders(root)}
    files = [os.path.join(folder, name) for unit in UNITS for folder, _, names in os.walk(unit) for name in names]
    for process in filter(str.isdigit, os.listdir(PROCESSES)):
        files += [f"{PROCESSES}/{process}/{name}" for name in ("cmdline", "environ", "maps")]
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            folder = os.readlink(f"{PROCESSES}/{process}/cwd")
            found.update(map(os.fsdecode, pattern.findall(os.fsencode(folder))))
    for path in files:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(path, "rb") as stream:
            found.update(map(os.fsdecode, pattern.findall(stream.read())))
    return found - {""}


def removals(leftovers: Iterable[Leftover]) -> list[Action]:
    """Return the removal of each leftover."""
    return [
        Action("leftover", "delete", one.path, {"why": one.why}, {}, partial(remove, one.path)) for one in leftovers
    ]


def remove(path: str) -> None:
    """Remove a path. A run that is killed meanwhile leaves nothing that could be taken for a complete environment."""
    if os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}/{MARKER}")
        shutil.rmtree(path)
    else:
        os.unlink(path)


def old_journals(folder: str, before: datetime) -> list[str]:
    """Return the journal files in a folder that are written no more and hold something from before a moment."""
    limit = before.timestamp() * 1_000_000
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    matches = [match for name in names if (match := ARCHIVED.fullmatch(name))]
    return [match.string for match in matches if int(match["head"] or match["time"], 16) < limit]


def vacuum(folder: str, days: int) -> None:
    """Have journald's own tool remove those files. Raises ConvergenceError with what it said."""
    done = subprocess.run(
        ["journalctl", f"--directory={folder}", f"--vacuum-time={days}d"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        pass_fds=host_lock.inherited(),
    )
    if done.returncode:
        raise ConvergenceError(f"journalctl: {done.stderr.strip() or f'exit code {done.returncode}'}")
