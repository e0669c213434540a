"""Locks: requirements files in which every package has one version and the hashes of its files.

The format is pip's (pip.pypa.io: Requirements File Format, Secure installs); versions and markers are those of
the Python Packaging User Guide. Only what a lock needs is accepted: it names no index, so it serves any mirror.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass

DIGEST_LENGTH = 12
"""Hexadecimal digits of a lock's digest, which stands in the path of an environment."""

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?P<rest>.*)")
_PIN = re.compile(r"==\s*(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)\s*(?:;\s*(?P<marker>.+))?")
_HASH = re.compile(r"--hash=(?P<hash>sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Requirement:
    """One pinned package: normalized name, version, environment marker (empty: always), hashes `sha256:<hex>`."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


class LockError(ValueError):
    """A lock breaks its rules; the text has one line for each mistake: file, line, what is wrong, remedy."""


def normalized(name: str) -> str:
    """Return a package's name as indexes compare it (packaging.python.org: Names and normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def lock_digest(text: str) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of a lock's lines, comments and margins left out."""
    lines = (_without_comment(line).strip() for line in text.splitlines())
    return hashlib.sha256("\n".join(line for line in lines if line).encode()).hexdigest()[:DIGEST_LENGTH]


@functools.cache
def lock_without(text: str, names: tuple[str, ...]) -> str:
    """Return a lock's text without some packages, given by their normalized names."""
    if not names:
        return text
    lines = _logical_lines(text)
    return "".join(f"{line}\n" for _, line in lines if normalized(re.split(r"[^A-Za-z0-9._-]", line)[0]) not in names)


def parse_lock(text: str, file: str) -> tuple[Requirement, ...]:
    """Return the packages of a lock in its order; `file` is the name that errors show.

    Raises LockError, with all mistakes at once: an option or an address, a version that is not pinned with `==`, a
    package without hashes, a package twice under one marker, a lock without packages.
    """
    found: dict[tuple[str, str], Requirement] = {}
    mistakes: list[str] = []
    for number, line in _logical_lines(text):
        requirement = _requirement(line)
        if isinstance(requirement, str):
            mistakes.append(f"{file}:{number}: {requirement}")
        elif (requirement.name, requirement.marker) in found:
            mistakes.append(f"{file}:{number}: {requirement.name} stands here a second time; remove one of the two")
        else:
            found[requirement.name, requirement.marker] = requirement
    if not found and not mistakes:
        mistakes.append(f"{file}:1: holds no package; make it again with tools/locks.py")
    if mistakes:
        raise LockError("\n".join(mistakes))
    return tuple(found.values())


def _without_comment(line: str) -> str:
    """Return a line without its comment, which begins a line or follows a space, so that no fragment is cut."""
    return re.sub(r"(^|\s)#.*$", "", line)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Return number and text of the lines, those that end with a backslash joined with the next ones."""
    result: list[tuple[int, str]] = []
    start, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        line = _without_comment(raw).strip()
        if not parts:
            start = number
        parts.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            result.append((start, " ".join(part for part in parts if part)))
            parts = []
    if parts:
        result.append((start, " ".join(part for part in parts if part)))
    return [(number, line) for number, line in result if line]


def _requirement(line: str) -> Requirement | str:
    """Return the package that a logical line pins, or what is wrong with it and the remedy."""
    if line.startswith("-"):
        option = re.split("[ =]", line, maxsplit=1)[0]
        return f"`{option}` has no place in a lock, which names no index; remove the line"
    head, *words = re.split(r"\s+(?=--)", line)
    named = _REQUIREMENT.fullmatch(head)
    if named is None or "://" in head or " @ " in head:
        return f"`{head.split(maxsplit=1)[0]}` is no package with a version; pin it with `==`"
    name = normalized(named["name"])
    pin = _PIN.fullmatch(named["rest"])
    hashes = [_HASH.fullmatch(word.strip()) for word in words]
    if pin is None:
        wrong = "is not pinned to one version with `==`"
    elif not hashes:
        wrong = "has no hash"
    elif None in hashes:
        wrong = "has something else than sha256 hashes"
    else:
        digests = tuple(one["hash"] for one in hashes if one)
        return Requirement(name, pin["version"], (pin["marker"] or "").strip(), digests)
    return f"{name} {wrong}; make the lock again with tools/locks.py"
