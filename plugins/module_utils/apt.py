"""The one apt transaction of a host: what is missing, what apt would do, and which starts are held back meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.brume.cloud.plugins.module_utils import host_lock

POLICY = "/usr/sbin/policy-rc.d"
"""invoke-rc.d and deb-systemd-invoke ask this program before they start a unit (invoke-rc.d(8))."""

SAVED = "/var/lib/brume/policy-rc.d.saved"
"""Where the host's own policy lies while ours stands in its place."""

POLICY_MARK = "# Written by Brume for one apt transaction; removed at its end."
LISTS = "/var/lib/apt/lists"
OUTPUT_LINES = 20
UNFINISHED = frozenset(
    {"half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending", "reinstreq"}
)
"""States and flags of packages that dpkg has to finish (dpkg(1))."""

NOT_ALLOWED = 101
"""Exit code with which a policy forbids an action (invoke-rc.d(8))."""


class AptError(RuntimeError):
    """The transaction failed; the text names packages, cause, apt's last lines and the next step."""


@dataclass(frozen=True)
class Result:
    """A command's exit code and its output, both streams in one."""

    code: int
    output: str


def run(command: Sequence[str], timeout: float | None = None) -> Result:
    """Run a command without questions and in English."""
    variables = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBIAN_PRIORITY": "critical",
        "APT_LISTCHANGES_FRONTEND": "none",
        "NEEDRESTART_SUSPEND": "1",
        "LC_ALL": "C.UTF-8",
    }
    try:
        done = subprocess.run(
            list(command),
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            pass_fds=host_lock.inherited(),
        )
    except subprocess.TimeoutExpired:
        return Result(124, f"{command[0]} did not end within {timeout:.0f} s")
    return Result(done.returncode, done.stdout)


def parse_status(text: str) -> dict[str, str]:
    """Return package -> status from lines `name<TAB>status`; with several architectures, installed wins."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, tab, status = line.partition("\t")
        if tab and found.get(name) != "installed":
            found[name] = status.strip()
    return found


def query(packages: Sequence[str]) -> dict[str, str]:
    """Return the dpkg status of packages with one process; unknown ones are left out."""
    if not packages:
        return {}
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Status}\n", "--", *packages],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return parse_status(done.stdout)


def held(packages: Sequence[str]) -> list[str]:
    """Return those packages that an operator holds at their versions (apt-mark(8)), in the given order."""
    if not packages:
        return []
    done = run(["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Want}\n", "--", *packages])
    found = {line.partition("\t")[0] for line in done.output.splitlines() if line.endswith("\thold")}
    return [name for name in packages if name in found]


def missing(packages: Iterable[str], status: Mapping[str, str]) -> list[str]:
    """Return the packages that are not installed, in the given order."""
    return [name for name in packages if status.get(name) != "installed"]


def surplus(packages: Iterable[str], status: Mapping[str, str]) -> list[str]:
    """Return the packages that are installed and must not be, in the given order."""
    return [name for name in packages if status.get(name) == "installed"]


@dataclass(frozen=True)
class Change:
    """What apt does to a package; `old` or `new` is empty where there is no such version."""

    name: str
    old: str
    new: str
    removed: bool = False

    @property
    def sentence(self) -> str:
        """Return what a person is told."""
        if self.removed:
            return f"remove package {self.name} {self.old}".rstrip()
        if self.old:
            return f"upgrade package {self.name} {self.old} -> {self.new}"
        return f"install package {self.name} {self.new}".rstrip()


def parse_changes(text: str) -> list[Change]:
    """Return the changes in the output of `apt-get -s` (lines Inst and Remv)."""
    found = []
    for line in text.splitlines():
        match = re.match(r"(Inst|Remv) (\S+)(?: \[([^]]+)\])?(?: \((\S+))?", line)
        if match:
            verb, name, old, new = match.groups()
            found.append(Change(name, old or "", new or "", removed=verb == "Remv"))
    return found


def parse_simulation(text: str) -> list[str]:
    """Return one sentence per change from the output of `apt-get -s`."""
    return [change.sentence for change in parse_changes(text)]


def cache_age(now: float | None = None) -> float:
    """Return how many seconds ago the package lists were read; infinite when there are none."""
    try:
        names = [name for name in os.listdir(LISTS) if name.endswith(("Release", "_Packages", "_Packages.lz4"))]
        newest = os.stat(LISTS).st_mtime
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest, os.stat("/var/lib/apt/periodic/update-success-stamp").st_mtime)
    except OSError:
        return float("inf")
    return (time.time() if now is None else now) - newest if names else float("inf")


@contextlib.contextmanager
def lists_read_aside(options: Sequence[str], lists: str = LISTS) -> Iterator[list[str]]:
    """Read the package lists anew into a folder that goes with the block; yields apt-get's options that use it.

    So a dry run knows what a run will find, and the host's own lists stay as they are. Raises AptError.
    """
    with tempfile.TemporaryDirectory(prefix="brume-lists-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)  # noqa: S103  # apt fetches as a user of its own
        aside = f"{folder}/lists"
        # With the times of its files apt asks only for what is newer.
        ignored = shutil.ignore_patterns("partial", "lock")
        if os.path.isdir(lists):
            shutil.copytree(lists, aside, ignore=ignored)
        os.makedirs(f"{aside}/partial", exist_ok=True)
        words = ["-o", f"Dir::State::lists={aside}", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
        update([*options, *words])
        yield words


def update(options: Sequence[str]) -> None:
    """Read the package lists. Raises AptError, also for a single index that could not be read."""
    done = run(["apt-get", *options, "update"])
    if done.code or list_problem(done):
        raise failure("apt-get update", done)


def policy_text(units: Iterable[str]) -> str:
    """Return a policy that forbids to start the units and passes everything else to the host's own policy."""
    names = sorted({name for unit in units for name in (unit, unit.removesuffix(".service"))})
    cases = "|".join(names)
    return f"""#!/bin/sh
{POLICY_MARK}
name="" ; action=""
for word in "$@"; do
    case "$word" in
        --*) ;;
        *) if [ -z "$name" ]; then name="$word"; elif [ -z "$action" ]; then action="$word"; fi ;;
    esac
done
case "$name" in
    {cases})
        case "$action" in
            stop) exit 0 ;;
            *) exit {NOT_ALLOWED} ;;
        esac ;;
esac
[ -x {SAVED} ] && exec {SAVED} "$@"
exit 0
"""


def restore_policy(policy: str = POLICY, saved: str = SAVED) -> bool:
    """Put the host's own policy back, or remove ours. Return whether there was anything to do.

    Works on what a run that was ended left behind: ours is known by its mark.
    """
    try:
        with open(policy, encoding="utf-8", errors="replace") as stream:
            ours = POLICY_MARK in stream.read()
    except FileNotFoundError:
        ours = False
    if os.path.lexists(saved):
        if ours or not os.path.lexists(policy):
            os.replace(saved, policy)
        else:
            os.unlink(saved)
        return True
    if ours:
        os.unlink(policy)
    return ours


@contextlib.contextmanager
def held_back(units: Sequence[str], policy: str = POLICY, saved: str = SAVED) -> Iterator[None]:
    """Hold the starts of units back while the block runs; the former policy comes back in any case."""
    restore_policy(policy, saved)
    if not units:
        yield
        return
    os.makedirs(os.path.dirname(saved), exist_ok=True)
    new = f"{policy}.brume-new"
    with open(new, "w", encoding="utf-8") as stream:
        stream.write(policy_text(units).replace(SAVED, saved))
    os.chmod(new, 0o755)  # noqa: S103 (a program that other programs run)
    if os.path.lexists(policy):
        # Copied, not moved: there is a policy at every moment, the host's own or ours.
        with open(policy, "rb") as source, open(saved, "wb") as target:
            target.write(source.read())
        os.chmod(saved, os.stat(policy).st_mode & 0o7777)
    os.replace(new, policy)
    try:
        yield
    finally:
        restore_policy(policy, saved)


def options(unsafe_io: bool, lock_seconds: int) -> list[str]:
    """Return apt-get's options: no questions, configuration files of the host stay, another apt is waited for."""
    words = ["-q", "-y", "-o", f"DPkg::Lock::Timeout={lock_seconds}", "-o", "Dpkg::Use-Pty=0"]
    words += ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    return words + (["-o", "Dpkg::Options::=--force-unsafe-io"] if unsafe_io else [])


def interrupted() -> bool:
    """Return whether dpkg was interrupted and has to finish first.

    By the states of packages (dpkg(1)), not by `dpkg --audit`, which also tells of healthy packages without checksums.
    """
    updates = "/var/lib/dpkg/updates"
    if os.path.isdir(updates) and any(name.isdecimal() for name in os.listdir(updates)):
        return True
    form = "${db:Status-Status}\t${db:Status-Eflag}\n"
    lines = run(["dpkg-query", "-W", "-f", form]).output.splitlines()
    return any(UNFINISHED.intersection(line.split("\t")) for line in lines)


def finish(options: Sequence[str], *, removes: bool = False) -> list[str]:
    """Finish a transaction that was interrupted. Return what a person is told, empty where none was. Raises AptError.

    Where packages were left that need others which were not unpacked yet, or that were not unpacked wholly, apt gets
    those. Packages are removed for that only where that transaction was one that `removes` some.
    """
    if not interrupted():
        return []
    done = run(["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"])
    if done.code or interrupted():
        keep = [] if removes else ["--no-remove"]
        mended = run(["apt-get", *options, *keep, "--fix-broken", "install"])
        if mended.code:
            what = "dpkg --configure -a" if done.code else "apt-get --fix-broken install"
            raise failure(f"{what}, to finish an interrupted transaction,", done if done.code else mended)
    return ["finish the interrupted transaction"]


def failure(what: str, result: Result) -> AptError:
    """Return the error for a command of apt that failed."""
    errors = [line for line in result.output.splitlines() if line.startswith(("E:", "Err:", "W:"))]
    tail = (errors or result.output.splitlines())[-OUTPUT_LINES:]
    lines = "".join(f"\n    {line}" for line in tail)
    verdict = f"fails with {result.code}" if result.code else "could not read every index"
    return AptError(f"{what} {verdict}:{lines}\n  next: {advice(result.output)}; then run again")


def advice(output: str) -> str:
    """Return the next step for what apt complains about."""
    rules = (
        ("unable to locate package", "the index does not have it: check the release and components in apt's sources"),
        ("has no installation candidate", "the index does not have it: check apt's sources and pins"),
        ("could not get lock", "another apt or dpkg runs: wait for it, or find it with `fuser /var/lib/dpkg/lock`"),
        ("no space left", "free space on /var or /usr (`apt-get clean`)"),
        ("you don't have enough free space", "free space on /var or /usr (`apt-get clean`)"),
        ("certificate verification failed", "put the mirror's CA into the host's trust store"),
        ("is not valid yet", "set the host's clock"),
        ("no_pubkey", "the mirror's key is missing: install its keyring"),
        ("temporary failure resolving", "check name resolution and the proxy in apt's configuration"),
        ("could not connect", "check network, mirror and the proxy in apt's configuration"),
        ("failed to fetch", "check the mirror and the proxy in apt's configuration"),
        ("unmet dependencies", "see which package holds it back with `apt-get -s install` on the host"),
        ("script subprocess returned error", "a package's own script failed: `journalctl -e` on the host says more"),
    )
    text = output.lower()
    return next((step for words, step in rules if words in text), "correct the cause on the host")


def list_problem(result: Result) -> str:
    """Return the indexes that could not be read, which `apt-get update` may call a success."""
    bad = [line for line in result.output.splitlines() if line.startswith(("Err:", "E:"))]
    return "\n".join(bad)
