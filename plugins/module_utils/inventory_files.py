"""The inventory's own files, read before Ansible reads them: those that are broken, and those that nobody reads.

Ansible stops at the first file that it cannot read, keeps the last of two equal keys, and passes over variables of a
group that does not exist. An operator wants to hear of all of them, and at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.sources import (
    read_text,
    read_yaml,
    yaml_problem,
)

EXTENSIONS = ("", ".yml", ".yaml", ".json")
"""What Ansible tries after the name of a group or host, in its order; it takes the first that is there."""

IGNORED = ("~", ".orig", ".bak", ".swp", ".retry", ".pyc", ".pyo")
FOLDERS = {"group_vars": "group", "host_vars": "host"}
VAULT = "$ANSIBLE_VAULT"


@dataclass
class Findings:
    """What is wrong with the files; `broken` are those that nobody can read, Ansible included.

    Of the `encrypted` ones, only Ansible can say whether they can be read.
    """

    broken: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    encrypted: list[Path] = field(default_factory=list)


def check(sources: Iterable[str], groups: Iterable[str], hosts: Iterable[str]) -> Findings:
    """Return what is wrong with the files of inventory sources (`-i`); lists of hosts are passed over.

    `groups` and `hosts` are the names that the inventory knows.
    """
    findings = Findings()
    known = {"group": {*groups, "all", "ungrouped"}, "host": set(hosts)}
    folders: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if not path.exists():
            continue
        folders[path if path.is_dir() else path.parent] = None
        for file in _files(path):
            if file.suffix in (".yml", ".yaml"):
                _read(file, findings)
    named = not findings.broken  # a broken file may have the names that seem to be missing
    for folder in folders:
        for name, kind in FOLDERS.items():
            _variables(folder / name, kind, known[kind] if named else None, findings)
    return findings


def relative(path: str | Path) -> str:
    """Return a path as messages show it: from the current folder, if it is below it."""
    try:
        return str(Path(path).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.endswith(IGNORED)


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or the files below a folder, those of variables left out."""
    if not path.is_dir():
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.name not in FOLDERS and not _ignored(entry.name):
            yield from _files(entry)


def _read(path: Path, findings: Findings) -> None:
    """Read a file for what is wrong with it."""
    shown = relative(path)
    text = read_text(path, shown, findings.broken)
    if text is None:
        return
    if text.startswith(VAULT):
        findings.encrypted.append(path)
        return
    try:
        data = read_yaml(text, tags=True)
    except yaml.YAMLError as error:
        problem = yaml_problem(error, shown)
        (findings.problems if "a second time" in problem.message else findings.broken).append(problem)
        return
    if data is not None and not isinstance(data, dict):
        findings.broken.append(Problem(shown, "is no mapping", "write `name: value` lines"))


def _variables(folder: Path, kind: str, known: set[str] | None, findings: Findings) -> None:
    """Read the variables of groups or hosts; note files that Ansible would pass over. `known`: the names, or None."""
    if not folder.is_dir():
        return
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if _ignored(path.name):
            continue
        for file in _files(path) if os.path.lexists(path) else ():
            _read(file, findings)
        stem = path.name if path.name in (known or ()) or path.suffix not in EXTENSIONS else path.stem
        found.setdefault(stem, []).append(path)
    for name, paths in found.items():
        if known is not None and name not in known:
            _unknown(name, paths[0], kind, findings)
        paths.sort(key=lambda one: EXTENSIONS.index(one.name.removeprefix(name)))
        for path in paths[1:]:
            message = f"is passed over, because {relative(paths[0])} is there"
            remedy = f"move it to {relative(paths[0])}/" if paths[0].is_dir() else "join the two"
            findings.problems.append(Problem(relative(path), message, remedy))


def _unknown(name: str, path: Path, kind: str, findings: Findings) -> None:
    """Note variables of a group or host that is not there; a host may be out of the inventory for a while."""
    message = f"`{name}` is no {kind} of the inventory, so nobody reads this"
    if kind == "group":
        findings.problems.append(Problem(relative(path), message, "correct the name, or add the group"))
    else:
        findings.warnings.append(f"{relative(path)}: {message}")
