"""Files, directories and links of a host: what is wanted against what is there, as changes.

`read` and `apply` touch the host; `compare` is pure. A path is read once, so that a run's diff says what the run does.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write, redact

Kind = Literal["file", "directory", "link", "absent"]

ANOTHER = "<another secret>"
"""Stands for a value that was secret too but is not the one that is planned, so that a change of it stays visible."""

UNNAMED = "<secret>"
"""Stands for a value that looks like a secret and that the plan gave no name."""


class FileError(ValueError):
    """What is planned cannot be written; one line per path, each with its remedy."""


@dataclass(frozen=True)
class Entry:
    """A path as it is planned, or as it is on the host. `owner` and `group` are names, or numbers without a name."""

    path: str
    kind: Kind
    content: str = ""
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    target: str = ""
    names: tuple[str, ...] = ()
    """Of a directory that is to go: what it holds."""


@dataclass(frozen=True)
class Change:
    """One path that differs: what to do with it, and the texts a diff shows."""

    path: str
    action: str
    actual: Entry
    wanted: Entry
    content: bool
    """Whether the content changes: a unit that reads the file has to notice."""
    attributes: bool
    """Whether owner, group or mode change."""

    @property
    def kind_of_text(self) -> bool:
        """Whether the path is or was something a unit reads: a file or a link, not a directory."""
        return {self.actual.kind, self.wanted.kind} & {"file", "link"} != set()


def digest(content: bytes | None) -> str:
    """Return a file's digest (SHA-256, hexadecimal), and `absent` for one that is not there."""
    return "absent" if content is None else hashlib.sha256(content).hexdigest()


def planned_digests(changes: Iterable[Change]) -> dict[str, str]:
    """Return path -> digest of the content that each change leaves, for what a unit may read: files and links."""
    return {
        change.path: digest(
            None if change.wanted.kind == "absent" else (change.wanted.content or change.wanted.target).encode()
        )
        for change in changes
        if change.content and change.kind_of_text
    }


def parse(
    files: Iterable[Mapping[str, Any]],
    directories: Iterable[Mapping[str, Any]],
    links: Iterable[Mapping[str, Any]],
) -> list[Entry]:
    """Return the module's arguments as entries, in the order in which they have to be applied.

    Directories come first, parents before children; then files, links, and last what is to go, children before parents.
    Raises FileError for paths that are not absolute, modes that are no octal text, and paths that are given twice.
    """
    problems: list[str] = []
    entries: list[Entry] = []
    kinds: tuple[tuple[Kind, Iterable[Mapping[str, Any]]], ...] = (
        ("directory", directories),
        ("file", files),
        ("link", links),
    )
    for kind, group in kinds:
        for item in group:
            path = str(item["path"])
            if not path.startswith("/") or os.path.normpath(path) != path:
                problems.append(f"{path}: not an absolute, normalized path; write it without `..` and trailing slashes")
                continue
            mode = str(item.get("mode") or {"file": "0640", "directory": "0755", "link": "0777"}[kind])
            if not re.fullmatch(r"[0-7]{3,5}", mode):
                problems.append(f"{path}: mode {mode} is not octal; write for example '0640'")
                continue
            if kind == "file" and item.get("content") is None and item.get("state", "present") != "absent":
                problems.append(f"{path}: no content; give `content`, or `state: absent` to remove the file")
                continue
            if kind == "link" and not item.get("target") and item.get("state", "present") != "absent":
                problems.append(f"{path}: no target; give `target`, or `state: absent` to remove the link")
                continue
            entries.append(
                Entry(
                    path=path,
                    kind="absent" if item.get("state", "present") == "absent" else kind,
                    content=str(item.get("content") or ""),
                    owner=str(item.get("owner") or "root"),
                    group=str(item.get("group") or "root"),
                    mode=int(mode, 8),
                    target=str(item.get("target") or ""),
                )
            )
    seen: set[str] = set()
    for entry in entries:
        if entry.path in seen:
            problems.append(f"{entry.path}: planned more than once; one entry may stay")
        seen.add(entry.path)
    if problems:
        raise FileError("\n".join(problems))
    present = [entry for entry in entries if entry.kind != "absent"]
    order = {"directory": 0, "file": 1, "link": 2}
    present.sort(key=lambda entry: (order[entry.kind], entry.path if entry.kind == "directory" else ""))
    absent = sorted((entry for entry in entries if entry.kind == "absent"), key=lambda entry: entry.path, reverse=True)
    return present + absent


def read(path: str) -> Entry:
    """Return what is at a path. Raises OSError when it is there but cannot be read."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Entry(path, "absent")
    owner, group, mode = _user_name(status.st_uid), _group_name(status.st_gid), stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Entry(path, "link", owner=owner, group=group, mode=mode, target=os.readlink(path))
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, "directory", owner=owner, group=group, mode=mode, names=tuple(sorted(os.listdir(path))))
    with open(path, "rb") as stream:
        content = stream.read().decode("utf-8", "surrogateescape")
    return Entry(path, "file", content=content, owner=owner, group=group, mode=mode)


def compare(wanted: Iterable[Entry], actual: Callable[[str], Entry]) -> list[Change]:
    """Return a change for each path that differs, in the given order.

    Raises FileError when a change would destroy what nobody planned: a directory in the place of a file, or a
    directory that is to go and still holds something.
    """
    changes: list[Change] = []
    problems: list[str] = []
    gone: set[str] = set()
    for entry in wanted:
        found = actual(entry.path)
        if entry.kind == "absent":
            if found.kind == "absent":
                continue
            left = [name for name in found.names if f"{entry.path}/{name}" not in gone]
            if left:
                problems.append(
                    f"{entry.path}: still holds {', '.join(left[:5])}{' and more' if left[5:] else ''}; "
                    "remove them by hand if nobody needs them, then run again"
                )
                continue
            gone.add(entry.path)
            changes.append(Change(entry.path, f"remove {found.kind} {entry.path}", found, entry, True, False))
        elif found.kind not in ("absent", entry.kind) and "directory" in (found.kind, entry.kind):
            problems.append(f"{entry.path}: is a {found.kind}, planned is a {entry.kind}; move it away, then run again")
        else:
            change = _difference(found, entry)
            if change is not None:
                changes.append(change)
    if problems:
        raise FileError("\n".join(problems))
    return changes


def _difference(found: Entry, entry: Entry) -> Change | None:
    """Return the change that turns one entry into the other, both of which may exist."""
    new = found.kind != entry.kind
    content = new or (found.content != entry.content if entry.kind == "file" else found.target != entry.target)
    notes = []
    if not new and entry.kind != "link":
        if (found.owner, found.group) != (_normal(entry.owner, _user_name), _normal(entry.group, _group_name)):
            notes.append(f"owner {found.owner}:{found.group} -> {entry.owner}:{entry.group}")
        if found.mode != entry.mode:
            notes.append(f"mode {found.mode:04o} -> {entry.mode:04o}")
    if not (content or notes):
        return None
    if new:
        detail = f" -> {entry.target}" if entry.kind == "link" else f" ({entry.owner}:{entry.group} {entry.mode:04o})"
        action = f"create {entry.kind} {entry.path}{detail}"
    else:
        verb = "change" if content else "set"
        what = [f"target {found.target} -> {entry.target}"] if content and entry.kind == "link" else []
        detail = ", ".join(what + notes)
        action = f"{verb} {entry.kind} {entry.path}" + (f" ({detail})" if detail else "")
    return Change(entry.path, action, found, entry, content, bool(notes) or new)


def _normal(owner: str, name_of: Callable[[int], str]) -> str:
    """Return a planned owner the way `read` spells it: a number that has a name becomes the name."""
    return name_of(int(owner)) if owner.isdecimal() else owner


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def identifiers(owner: str, group: str) -> tuple[int, int]:
    """Return the numbers of a user and a group. Raises FileError naming the one that does not exist."""
    try:
        user = int(owner) if owner.isdecimal() else pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise FileError(f"user {owner} does not exist on this host; the host phase makes it") from None
    try:
        return user, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise FileError(f"group {group} does not exist on this host; the host phase makes it") from None


def check_owners(changes: Sequence[Change]) -> None:
    """Raise FileError naming every path whose owner is missing, before anything is written."""
    problems = []
    for change in changes:
        if change.wanted.kind in ("file", "directory"):
            try:
                identifiers(change.wanted.owner, change.wanted.group)
            except FileError as error:
                problems.append(f"{change.path}: {error}")
    if problems:
        raise FileError("\n".join(problems))


def apply(change: Change) -> None:
    """Make one change. Raises OSError and FileError."""
    entry = change.wanted
    if entry.kind == "absent":
        os.rmdir(entry.path) if change.actual.kind == "directory" else os.unlink(entry.path)
        return
    if entry.kind == "link":
        os.makedirs(os.path.dirname(entry.path), exist_ok=True)
        replace_link(entry.path, entry.target)
        return
    user, group = identifiers(entry.owner, entry.group)
    if entry.kind == "directory":
        os.makedirs(os.path.dirname(entry.path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(entry.path, 0o700)
        os.chown(entry.path, user, group)
        os.chmod(entry.path, entry.mode)
    elif change.content:
        os.makedirs(os.path.dirname(entry.path), exist_ok=True)
        atomic_write(entry.path, entry.content, mode=entry.mode, uid=user, gid=group)
    else:
        os.chown(entry.path, user, group)
        os.chmod(entry.path, entry.mode)


def replace_link(path: str, target: str) -> None:
    """Make `path` a symbolic link to `target` in one step: a reader sees the old target or the new one."""
    temporary = f"{path}.brume-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


_SETTING = re.compile(r"^(\s*)([\w.-]+)(\s*[=:]\s*)(.*)$")
_SECRET_KEY = re.compile(
    r"(?:password|passwd|_pass|passphrase|secret|(?:secret|shared)_key|admin_token)$", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(://|,)([^:@/,\s]*):([^@\s<>]+)@")
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----\n).*?(-----END [A-Z ]*PRIVATE KEY-----)", re.DOTALL)
_LABEL = "<secret "


def redact_pair(before: str, after: str, redactions: Mapping[str, str]) -> tuple[str, str]:
    """Return both texts of a diff without secrets.

    Values that are known become `<secret NAME>`. What was secret before is known by the line it stands in: the line
    that now holds a secret, a key that is named like one, a password in a URL, a private key. It becomes
    `<another secret>`, unless it is the same line still, so that the diff shows that it changes and not what it was.
    """
    before, after = redact(before, redactions), redact(after, redactions)
    same_key = [one[0] for one in _PRIVATE_KEY.finditer(before)] == [one[0] for one in _PRIVATE_KEY.finditer(after)]
    lines = after.split("\n")
    prefixes = {line.partition(_LABEL)[0] for line in lines if _LABEL in line}
    keys = {match[2] for line in lines if _LABEL in line and (match := _SETTING.match(line))}
    kept = set(lines)
    if _LABEL in after and "" in {prefix.strip() for prefix in prefixes}:
        # The secret stands at the beginning of a line, so that any old line may be its former value.
        shown = [line if line in kept or not line.strip() else ANOTHER for line in before.split("\n")]
    else:
        shown = [
            _mask(line, UNNAMED, set(), set()) if line in kept else _mask(line, ANOTHER, prefixes, keys)
            for line in before.split("\n")
        ]
    before = "\n".join(shown)
    after = "\n".join(_mask(line, UNNAMED, set(), set()) for line in lines)
    return (
        _PRIVATE_KEY.sub(rf"\g<1>{UNNAMED if same_key else ANOTHER}\n\g<2>", before),
        _PRIVATE_KEY.sub(rf"\g<1>{UNNAMED}\n\g<2>", after),
    )


def _mask(line: str, label: str, prefixes: set[str], keys: set[str]) -> str:
    """Return a line whose secret, if it holds one that has no name yet, is replaced by the label."""
    masked = _URL_PASSWORD.sub(rf"\g<1>\g<2>:{label}@", line)
    if masked != line or _LABEL in line:
        return masked
    match = _SETTING.match(line)
    if match and match[4] and (match[2] in keys or _SECRET_KEY.search(match[2])):
        return f"{match[1]}{match[2]}{match[3]}{label}"
    known = [prefix for prefix in prefixes if prefix.strip() and line.startswith(prefix)]
    return max(known, key=len) + label if known else line


def shown(change: Change, redactions: Mapping[str, str]) -> dict[str, str]:
    """Return one diff as Ansible prints it; owner and mode stand in the header lines where they change."""
    before, after = redact_pair(change.actual.content, change.wanted.content, redactions)
    return {
        "before_header": _header(change.actual),
        "after_header": _header(change.wanted),
        "before": _body(replace(change.actual, content=before)),
        "after": _body(replace(change.wanted, content=after)),
    }


def _header(entry: Entry) -> str:
    return f"{entry.path} (absent)" if entry.kind == "absent" else f"{entry.path} ({entry.kind})"


def _body(entry: Entry) -> str:
    """Return what a diff compares: attributes in the first line, then the content."""
    if entry.kind == "absent":
        return ""
    if entry.kind == "link":
        return f"-> {entry.target}\n"
    first = f"# {entry.owner}:{entry.group} {entry.mode:04o}\n"
    content = entry.content.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return first + (content if not content or content.endswith("\n") else content + "\n")
