"""Key repositories of Keystone: files named by an index, of which the highest is the primary and 0 is staged.

Source of the rules: Keystone's administration guide, "Fernet - Frequently Asked Questions", and
`keystone.common.fernet_utils`. The keys' values come from elsewhere; here they only find their place.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write
from ansible_collections.brume.cloud.plugins.module_utils.file_state import identifiers

REPOSITORIES = {name: f"/etc/keystone/{name}-keys" for name in ("fernet", "credential")}
"""Keystone's repositories, and where they lie."""

FILE_MODE, DIRECTORY_MODE = 0o600, 0o700

_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
"""32 bytes in URL-safe base64 (the Fernet specification)."""


class RepositoryError(ValueError):
    """A repository is planned that Keystone could not use; one line per mistake."""


@dataclass(frozen=True)
class Repository:
    """A repository as it is planned. `keys` is index -> value."""

    path: str
    owner: str
    group: str
    primary: int
    keys: Mapping[int, str] = field(repr=False)
    prune: bool = False


@dataclass(frozen=True)
class Found:
    """What is on the host. `plain` are indexes whose file has the planned owner and mode."""

    exists: bool = False
    directory_right: bool = False
    keys: Mapping[int, str] = field(default_factory=dict, repr=False)
    plain: frozenset[int] = frozenset()

    @property
    def primary(self) -> int | None:
        """Return the highest index, None when there is no key."""
        return max(self.keys, default=None)


@dataclass(frozen=True)
class Step:
    """One change: a key to write or remove, or the directory to make right. It never holds a value in its text."""

    repository: Repository
    verb: str
    index: int | None = None

    def __str__(self) -> str:
        """Return the step as a sentence."""
        place = self.repository.path if self.index is None else f"{self.repository.path}/{self.index}"
        role = ""
        if self.index is not None and self.verb != "remove":
            role = " (staged)" if self.index == 0 else " (primary)" if self.index == self.repository.primary else ""
        return f"{self.verb} {place}{role}"


def parse(items: Iterable[Mapping[str, Any]]) -> list[Repository]:
    """Return the module's `repositories` as typed records. Raises RepositoryError without showing a value."""
    problems, result = [], []
    for item in items:
        path = str(item["path"])
        keys = {str(index): str(value) for index, value in (item.get("keys") or {}).items()}
        wrong = [index for index in keys if not index.isdecimal()]
        problems += [f"{path}: index {index} is not a number" for index in wrong]
        problems += [
            f"{path}: key {index} is not 32 bytes in URL-safe base64"
            for index, value in keys.items()
            if not _KEY.fullmatch(value)
        ]
        numbers = {int(index): value for index, value in keys.items() if index not in wrong}
        primary = int(item.get("primary") or max(numbers, default=0))
        if not numbers or primary not in numbers or primary != max(numbers) or primary == 0:
            problems.append(f"{path}: primary {primary} must be the highest index and above 0")
        result.append(
            Repository(path, str(item["owner"]), str(item["group"]), primary, numbers, bool(item.get("prune")))
        )
    if problems:
        raise RepositoryError("\n".join(problems))
    return result


def read(path: str, owner: str, group: str) -> Found:
    """Return what is in a repository. An owner that does not exist yet makes every file differ. Raises OSError."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return Found()
    try:
        wanted: tuple[int, int] | None = identifiers(owner, group)
    except ValueError:
        wanted = None
    keys, plain = {}, set()
    for name in os.listdir(path):
        if name.isdecimal():
            place = os.path.join(path, name)
            with open(place, encoding="utf-8", errors="replace") as stream:
                keys[int(name)] = stream.read().strip()
            own = os.stat(place)
            if (own.st_uid, own.st_gid) == wanted and stat.S_IMODE(own.st_mode) == FILE_MODE:
                plain.add(int(name))
    right = (status.st_uid, status.st_gid) == wanted and stat.S_IMODE(status.st_mode) == DIRECTORY_MODE
    return Found(True, right, keys, frozenset(plain))


def decide(repository: Repository, found: Found) -> list[Step]:
    """Return the steps in an order in which Keystone can read the repository at every moment.

    The new primary and the other keys are written before 0, because Keystone signs with the highest index and a token
    that another host signed must be readable here; old keys go last.
    """
    steps = []
    if not found.exists:
        steps.append(Step(repository, "create"))
    elif not found.directory_right:
        steps.append(Step(repository, "correct"))
    ordered = sorted(repository.keys, key=lambda index: (index == 0, index))
    for index in ordered:
        if index not in found.keys:
            steps.append(Step(repository, "create", index))
        elif found.keys[index] != repository.keys[index] or index not in found.plain:
            steps.append(Step(repository, "change", index))
    if repository.prune:
        steps += [Step(repository, "remove", index) for index in sorted(found.keys) if index not in repository.keys]
    return steps


def apply(step: Step) -> None:
    """Make one change. Raises OSError, and ValueError when the owner does not exist."""
    repository = step.repository
    user, group = identifiers(repository.owner, repository.group)
    place = repository.path if step.index is None else f"{repository.path}/{step.index}"
    if step.index is None:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, DIRECTORY_MODE)
        os.chown(place, user, group)
        os.chmod(place, DIRECTORY_MODE)
    elif step.verb == "remove":
        os.unlink(place)
    else:
        atomic_write(place, repository.keys[step.index], mode=FILE_MODE, uid=user, gid=group)


def listing(keys: Mapping[int, str], planned: Mapping[int, str]) -> str:
    """Return a repository's indexes as text for a diff; a value that is not the planned one shows as another key."""
    return "".join(
        f"{index}: {'<secret key>' if index not in planned or planned[index] == value else '<another key>'}\n"
        for index, value in sorted(keys.items())
    )
