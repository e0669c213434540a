"""Looks for secrets on a machine: in every file, in the journal, in the arguments and environment of every process.

This text is sent to a host and runs there with the host's own Python (see `host_program`), so it needs nothing but the
standard library of Python 3.11. Values arrive on standard input and stay in memory; what is found is told by the
secret's name, the form it was found in, and the place.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import grp
import gzip
import lzma
import os
import pwd
import re
import resource
import stat
import subprocess
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

NOT_FILES = frozenset({"/proc", "/sys", "/dev"})
"""Folders that hold the kernel's view of the machine; processes are read separately."""

COMPRESSED: Mapping[str, Callable[[str], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
COMPRESSED_BELOW = ("/var/log/", "/var/lib/systemd/", "/var/crash/", "/var/backups/")
"""Where compressed files hold what ran here; elsewhere they come from packages."""

UNREADABLE = (".zst", ".lz4")
"""Compressed in a way that Python's standard library cannot undo, as systemd-coredump does."""

SHORTEST = 8
"""Bytes below which a piece of a binary value proves nothing."""

FILES_AT_ONCE = 8000
"""Paths that fit into the arguments of one program (Linux's ARG_MAX is 2 MiB)."""


def forms(value: bytes) -> dict[str, bytes]:
    """Return what a value looks like where it may stand: plain, quoted for a URL, in base64 and in hexadecimal digits.

    Base64 of a longer text holds one of three texts for the value, by the value's place in it; the characters that its
    neighbors have a share in are left out. A pattern holds no line feed and no NUL: of a value that does, the longest
    piece without.
    """
    found = {"plain": max(re.split(rb"[\n\0]", value), key=len), "hexadecimal": value.hex().encode()}
    with contextlib.suppress(UnicodeDecodeError):
        found["URL-quoted"] = urllib.parse.quote(value.decode(), safe="").encode()
    for offset in range(3):
        bits = 8 * (offset + len(value))
        whole = slice(-(-8 * offset // 6), bits // 6)
        found[f"base64, offset {offset}"] = base64.b64encode(bytes(offset) + value)[whole]
        found[f"URL-safe base64, offset {offset}"] = base64.urlsafe_b64encode(bytes(offset) + value)[whole]
    distinct: dict[bytes, str] = {}
    for name, pattern in found.items():
        if len(pattern) >= SHORTEST:
            distinct.setdefault(pattern, name)
    return {name: pattern for pattern, name in distinct.items()}


class Patterns:
    """All forms of all secrets, and the secret that each belongs to."""

    def __init__(self, secrets: Mapping[str, Iterable[bytes]]) -> None:
        """Take values by the secret's name."""
        self._meaning = {
            pattern: (name, form)
            for name, values in secrets.items()
            for value in values
            for form, pattern in forms(value).items()
        }

    def __len__(self) -> int:
        """Return how many patterns are looked for."""
        return len(self._meaning)

    def __repr__(self) -> str:
        """Return nothing of the values."""
        return f"Patterns({len(self)})"

    def within(self, data: bytes) -> list[tuple[str, str]]:
        """Return (secret, form) of all that a small text holds."""
        return sorted({meaning for pattern, meaning in self._meaning.items() if pattern in data})

    def in_files(self, paths: list[str]) -> dict[str, list[tuple[str, str]]]:
        """Return (secret, form) by path; a file that went meanwhile holds nothing."""
        chunks = [paths[start : start + FILES_AT_ONCE] for start in range(0, len(paths), FILES_AT_ONCE)]
        found: dict[str, set[tuple[str, str]]] = {}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for output in pool.map(self._grep, chunks):
                for path, matched in re.findall(rb"([^\0]+)\0([^\n]*)\n", output):
                    found.setdefault(os.fsdecode(path), set()).add(self._meaning[matched])
        return {path: sorted(meanings) for path, meanings in found.items()}

    def any_in(self, data: bytes) -> bool:
        """Tell whether a large text holds anything that is looked for, many times faster than `within`."""
        handle = os.memfd_create("text")
        try:
            with os.fdopen(os.dup(handle), "wb") as stream:
                stream.write(data)
            return bool(self._grep([f"/proc/self/fd/{handle}"], handle))
        finally:
            os.close(handle)

    def _grep(self, paths: list[str], *handles: int) -> bytes:
        """Return `path NUL match LF` for every match; the patterns are handed over by standard input."""
        done = subprocess.run(
            ["grep", "-a", "-o", "-s", "-H", "-Z", "-F", "-f", "-", "--", *paths],
            input=b"\n".join(self._meaning),
            capture_output=True,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            pass_fds=handles,
            check=False,
        )
        return done.stdout


def regular_files(top: str, skipped: frozenset[str] = NOT_FILES) -> Iterator[tuple[str, os.stat_result]]:
    """Return every regular file that is not empty, once, whatever its number of names; a file that goes is left out."""
    seen = set()
    pending = [top]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue  # it went, or it is a file system that even root may not look into (another user's FUSE)
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    pending += [entry.path] if entry.path not in skipped else []
                elif entry.is_file(follow_symlinks=False):
                    state = entry.stat(follow_symlinks=False)
                    identity = (state.st_dev, state.st_ino)
                    if state.st_size and identity not in seen:
                        seen.add(identity)
                        yield entry.path, state


def compressed(path: str) -> Callable[[str], Any] | None:
    """Return what opens a compressed record of what ran here, None for any other file."""
    return COMPRESSED.get(os.path.splitext(path)[1]) if path.startswith(COMPRESSED_BELOW) else None


def _name(number: int, find: Callable[[int], Any]) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)


def search_files(patterns: Patterns, top: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return findings in all files below a folder, and how many files and bytes were searched."""
    states = dict(regular_files(top))
    hits = patterns.in_files(list(states))
    findings = []
    for path, state in states.items():
        unpack = compressed(path)
        if unpack is not None:
            with contextlib.suppress(FileNotFoundError), unpack(path) as stream:
                hits.setdefault(path, []).extend(patterns.within(stream.read()))
        elif path.startswith(COMPRESSED_BELOW) and path.endswith(UNREADABLE):
            hits.setdefault(path, []).append(("", "compressed"))
        for secret, form in hits.get(path, ()):
            findings.append(
                {
                    "kind": "file",
                    "secret": secret,
                    "form": form,
                    "place": path,
                    "owner": _name(state.st_uid, pwd.getpwuid),
                    "group": _name(state.st_gid, grp.getgrgid),
                    "mode": stat.S_IMODE(state.st_mode),
                }
            )
    return findings, {"files": len(states), "bytes": sum(state.st_size for state in states.values())}


def search_processes(patterns: Patterns) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return findings in arguments and environments of all processes, how many there were, and how many were closed."""
    findings = []
    closed = set()
    processes = [name for name in os.listdir("/proc") if name.isdecimal()]
    for process in processes:
        for part in ("cmdline", "environ"):
            try:
                with open(f"/proc/{process}/{part}", "rb") as stream:
                    data = stream.read()
                with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as stream:
                    program = stream.read().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
            except PermissionError:
                closed.add(process)
                continue
            for secret, form in patterns.within(data):
                place = f"/proc/{process}/{part} ({program})"
                findings.append({"kind": "process", "secret": secret, "form": form, "place": place})
    return findings, {"processes": len(processes), "closed processes": len(closed)}


def search_journal(patterns: Patterns) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return findings in the whole journal, all fields of all entries, and its bytes.

    Its files hold compressed entries, so its own program reads them.
    """
    argv = ["journalctl", "--all", "--merge", "--quiet", "--no-pager", "--output=export"]
    journal = subprocess.run(argv, capture_output=True, check=True).stdout
    findings = []
    for entry in journal.split(b"\n\n") if patterns.any_in(journal) else ():
        for secret, form in patterns.within(entry):
            unit = re.search(rb"^_SYSTEMD_UNIT=(.*)$", entry, re.MULTILINE)
            when = re.search(rb"^__REALTIME_TIMESTAMP=(\d+)$", entry, re.MULTILINE)
            place = f"the journal at @{int(when[1]) // 1000000 if when else '?'}"
            place += f" ({unit[1].decode(errors='replace')})" if unit else ""
            findings.append({"kind": "journal", "secret": secret, "form": form, "place": place})
    return findings, {"journal bytes": len(journal)}


def search(values: Mapping[str, list[str]]) -> dict[str, Any]:
    """Search the whole machine; `values` are in base64, by the secret's name.

    Returns `found` (kind, secret, form, place, and of files owner, group and mode) and `searched` (how much).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash of this program must not write what it looks for
    patterns = Patterns({name: [base64.b64decode(one) for one in texts] for name, texts in values.items()})
    found: list[dict[str, Any]] = []
    searched = {"patterns": len(patterns)}
    for findings, numbers in (search_processes(patterns), search_journal(patterns), search_files(patterns, "/")):
        found += findings
        searched |= numbers
    return {"found": found, "searched": searched}
