"""What a diagnosis reads of a host, without its secrets, and how the parts become one archive.

`collect` asks a `Reader` and touches nothing itself; `HostReader` reads a host and changes nothing there.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.brume.cloud.plugins.module_utils.convergence import describe, redact, side_by_side
from ansible_collections.brume.cloud.plugins.module_utils.file_state import UNNAMED, redact_pair
from ansible_collections.brume.cloud.plugins.module_utils.rollout import State, Systemd

SECONDS = 30.0
"""How long one command may take."""

PART_BYTES = 4 * 1024**2
"""Bytes of one part at most: of what is longer, the end is kept."""

ERROR = re.compile(r"\b(?:ERROR|CRITICAL) \S+ \[|\[(?:ERROR|error|critical|ALERT)\]")
"""A line of a journal that tells an error: oslo.log's first one of each, MariaDB, RabbitMQ, HAProxy."""

_SETTING = re.compile(
    r"""(?ix) ( [\w.-]* (?: password | (?<!no)passwd | passphrase | secret (?:_?key)? | _token | cookie )
        ["']? \s* [=:] \s* ) (?! true\b | false\b | null\b | none\b ) ( "[^"]*" | '[^']*' | [^\s,;"'}\])]+ )""",
)
_TOKEN = re.compile(r"\bgAAAA[\w-]{16,}={0,2}|(?<=Bearer )[\w.~+/-]{16,}=*")
"""Fernet tokens, which begin with their version and time (the high bytes of which are zero), and bearer tokens."""


class Reader(Protocol):
    """What can be asked of a host. Each raises OSError where there is no answer."""

    def text(self, path: str) -> str:
        """Return a file's content."""

    def target(self, path: str) -> str:
        """Return where a symbolic link leads to."""

    def run(self, argv: Sequence[str]) -> str | None:
        """Return a command's output, None where the program is not installed."""

    def ask(self, path: str, command: str) -> str:
        """Return what a Unix socket answers to a line."""

    def states(self, units: Sequence[str]) -> Mapping[str, State]:
        """Return the units' states."""


@dataclass(frozen=True)
class Wanted:
    """What shall be read: files with their planned and already redacted texts, units, links, commands, sockets."""

    files: Mapping[str, str] = field(default_factory=dict)
    units: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    sockets: tuple[tuple[str, str], ...] = ()
    journal_lines: int = 2000
    redactions: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Collected:
    """What was read: texts by their names in the archive, what could not be read, and the figures of the table."""

    parts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    inactive: list[str] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)


def redact_text(text: str, redactions: Mapping[str, str]) -> str:
    """Return free text without secrets: known values, passwords in URLs and after `password =`, keys and tokens."""
    text = redact_pair("", redact(text, redactions), {})[1]
    text = _SETTING.sub(lambda found: found[0] if found[2].startswith("<") else f"{found[1]}{UNNAMED}", text)
    return _TOKEN.sub(UNNAMED, text)


def redact_file(text: str, planned: str, redactions: Mapping[str, str]) -> str:
    """Return a configuration file without secrets; where the plan has one, the line's former value is one too."""
    return redact_text(redact_pair(text, planned, redactions)[0], redactions)


def part_name(argv: Sequence[str]) -> str:
    """Return a command as a file name."""
    return re.sub(r"[^\w.=@+-]+", "_", " ".join(argv)).strip("_")[:80]


def collect(wanted: Wanted, host: Reader) -> Collected:
    """Read everything side by side. What fails is named in `problems`, the rest is there."""
    found = Collected()
    calls: dict[str, Callable[[], Any]] = {
        f"configuration{path}": partial(_present, host.text, path) for path in wanted.files
    }
    for unit in wanted.units:
        argv = ["journalctl", "-u", unit, "-n", str(wanted.journal_lines), "--no-pager", "-o", "short-iso", "-q"]
        calls[f"journal/{unit}.txt"] = partial(host.run, argv)
    calls |= {f"state/{part_name(argv)}.txt": partial(host.run, argv) for argv in wanted.commands}
    calls |= {
        f"state/{part_name([command])}.txt": partial(_present, host.ask, path, command)
        for path, command in wanted.sockets
    }
    calls["state/environments.txt"] = lambda: "".join(f"{path} -> {_link(host, path)}\n" for path in wanted.links)
    calls["state/units.txt"] = lambda: host.states(wanted.units)
    missing = []
    for name, outcome in side_by_side(calls).items():
        if outcome.error is not None:
            problem = redact_text(f"{name}: {describe(outcome.error)}", wanted.redactions)
            found.problems.append(" ".join(problem.split()))
        elif outcome.value is None:
            missing.append(name)
        elif name == "state/units.txt":
            found.parts[name] = units_table(outcome.value)
            found.inactive = [unit for unit, state in outcome.value.items() if not state.is_active]
        elif outcome.value:
            planned = wanted.files.get(name.removeprefix("configuration"))
            text = outcome.value[-PART_BYTES:]
            found.parts[name] = (
                redact_text(text, wanted.redactions)
                if planned is None
                else redact_file(text, planned, wanted.redactions)
            )
            if name.startswith("journal/") and (count := sum(1 for line in text.splitlines() if ERROR.search(line))):
                found.errors[name.removeprefix("journal/").removesuffix(".txt")] = count
    if missing:
        found.parts["missing.txt"] = "Planned or looked for, and not there:\n" + "".join(f"{one}\n" for one in missing)
    return found


def _present(read: Callable[..., str], path: str, *rest: str) -> str | None:
    """Return what is read at a path, None where there is nothing."""
    try:
        return read(path, *rest)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _link(host: Reader, path: str) -> str:
    try:
        return host.target(path)
    except OSError as error:
        return error.strerror or describe(error)


def units_table(states: Mapping[str, State]) -> str:
    """Return the units' states, one a line."""
    width = max((len(unit) for unit in states), default=0)
    return "".join(
        f"{unit:<{width}}  {state.active:<10} {state.sub:<10} {state.file_state or 'no unit file':<12} "
        f"restarts {state.restarts}{f', result {state.result}' if state.result not in ('', 'success') else ''}\n"
        for unit, state in states.items()
    )


class HostReader:
    """Reads the host that the module runs on."""

    def text(self, path: str) -> str:
        """Return a file's content."""
        return Path(path).read_text(encoding="utf-8", errors="replace")

    def target(self, path: str) -> str:
        """Return where a symbolic link leads to."""
        return os.readlink(path)

    def run(self, argv: Sequence[str]) -> str | None:
        """Return a command's output. Raises OSError with its last line when it fails or takes longer than SECONDS."""
        if shutil.which(argv[0]) is None:
            return None
        try:
            done = subprocess.run(
                argv,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=SECONDS,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"did not end within {SECONDS:.0f} s") from None
        output = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            last = (output.strip().splitlines() or ["no output"])[-1]
            raise OSError(f"exits with {done.returncode}: {last}")
        return output

    def ask(self, path: str, command: str) -> str:
        """Return what a Unix socket answers to a line, and closes after."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            connection.connect(path)
            connection.sendall(f"{command}\n".encode())
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces).decode("utf-8", "replace")

    def states(self, units: Sequence[str]) -> Mapping[str, State]:
        """Return the units' states."""
        return Systemd().states(units)


# On the deploy host


def store(directory: Path, parts: Mapping[str, str]) -> None:
    """Write the parts below a directory, for the caller alone. Raises ValueError for a name that leads out of it."""
    for name, text in parts.items():
        pure = Path(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"the host answered with a part called {name}, which is no name in an archive")
        path = directory / pure
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)


def size(parts: Mapping[str, str]) -> str:
    """Return how many parts of each kind there are, and how large they are together."""
    kinds = Counter(name.partition("/")[0] for name in parts if "/" in name)
    bytes_ = sum(len(text.encode()) for text in parts.values())
    return f"{', '.join(f'{kind} {number}' for kind, number in sorted(kinds.items()))}, {bytes_ / 1024**2:.1f} MiB"


def pack(directory: Path, name: str) -> bytes:
    """Return a directory as a gzipped tar archive, below `name`, for whoever unpacks it alone."""

    def anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mode = 0o700 if info.isdir() else 0o600
        return info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(directory, arcname=name, filter=anonymous)
    return buffer.getvalue()


def folder_prefix(archive: Path) -> str:
    """Return how the folder begins, beside the archive, in which its parts are collected."""
    return f".{archive.name}."


def is_own_folder(directory: Path, archive: Path) -> bool:
    """Whether a directory was made for this archive, so that it may be removed with all it holds."""
    return (
        directory.parent == archive.parent
        and directory.name.startswith(folder_prefix(archive))
        and directory.is_dir()
        and not directory.is_symlink()
    )


def file_name(now: float) -> str:
    """Return the archive's name for a time in seconds since the epoch."""
    return f"diagnosis-{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime(now))}.tar.gz"


def table(hosts: Iterable[str], found: Mapping[str, Collected]) -> list[str]:
    """Return a line per host: units that are not active, errors in the journals, and what could not be read."""
    names = list(hosts)
    width = max(len(name) for name in ("host", *names))
    lines = [f"{'host':<{width}}  errors  units that are not active"]
    problems = []
    for name in names:
        one = found.get(name)
        if one is None:
            lines.append(f"{name:<{width}}       -  not read")
            problems.append(f"{name}: could not be read, see above")
            continue
        worst = sorted(one.errors.items(), key=lambda item: -item[1])[:2]
        most = f"  (errors mostly of {', '.join(unit for unit, _number in worst)})" if worst else ""
        inactive = ", ".join(one.inactive) or "none"
        lines.append(f"{name:<{width}}  {sum(one.errors.values()):6}  {inactive}{most}")
        problems += [f"{name}: {problem}" for problem in one.problems]
    return [*lines, *(["", "Not read:", *(f"  {problem}" for problem in problems)] if problems else [])]
