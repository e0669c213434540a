#!/usr/bin/python
"""Newer packages of a host: told, fetched, and taken while the units that they are about are stopped."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_updates
short_description: Takes the packages of a host to the newest versions of its apt sources
description:
  - V(read) tells what is newer, which of O(units) that is about, and why the host wants to start anew. A unit is
    affected by a package of its own, by one whose files its processes have loaded, by files that were replaced already,
    and with those that it starts after. The package lists are read anew with O(refresh); nothing else changes.
  - V(begun) fetches the packages and notes that the host is under way. V(updated) finishes an interrupted transaction,
    stops the affected units and takes the packages. They are started by M(brume.cloud.unit_rollout), and V(ended)
    removes the note.
  - No package is removed, no version is taken that upstream does not support, and configuration files that the host has
    stay as they are. Packages may be added.
  - A run that is ended at any moment is gone on with by the same calls, since the note says how far it came.
  - With O(suite), the host is brought to another suite of Debian instead. Until V(updated) has stopped the units, its
    sources and lists stay as they are, and what apt would do is asked aside. Then Debian's own sources name the suite,
    all of O(units) stop, and packages that have no place in it are removed.
options:
  state:
    description: See above.
    type: str
    choices: [read, begun, updated, ended]
    default: read
  packages:
    description: Only these, where they are installed, and what they need. All unless given.
    type: list
    elements: str
  units:
    description: Units that may be stopped. Name to C(packages), lists of what brings the unit's program, and C(after).
    type: dict
    default: {}
  hold_units:
    description: Units whose start is held back during the transaction. Others may start.
    type: list
    elements: str
    default: []
  first: {description: Units that are stopped before all others., type: list, elements: str, default: []}
  last: {description: Units that are stopped after all others., type: list, elements: str, default: []}
  keep_units:
    description: Units of O(units) that are not stopped whatever they run.
    type: list
    elements: str
    default: []
  keep_packages:
    description: Packages that stay at their versions, with all that come from the same source.
    type: list
    elements: str
    default: []
  vacant_units:
    description:
      - Units that are stopped only when no instance and no interface of a router or network is on the host's switch.
        Interfaces that are about to go are waited for.
    type: list
    elements: str
    default: []
  suite:
    description: Debian's name of the suite that the host is to have, such as V(trixie). Empty for newer packages only.
    type: str
    default: ''
  former_suite:
    description: The suite from which a host comes to O(suite) in place. Empty where none leads there.
    type: str
    default: ''
  broker_data:
    description:
      - With O(suite), the folder of the broker's data. It is made empty where the suite's RabbitMQ cannot read what the
        former one has written, because series would be skipped.
    type: path
  together:
    description: With O(suite), whether all members of the clusters of database and broker go at the same time.
    type: bool
    default: false
  planned_packages:
    description: With O(suite), packages that must not be removed.
    type: list
    elements: str
    default: []
  environments:
    description: With O(suite), environments of the planned release; complete ones of another release are a finding.
    type: list
    elements: path
    default: []
  database_members:
    description: How many members the database's cluster has; one may skip series.
    type: int
    default: 1
  empties:
    description:
      - With V(begun), whether the host is to be emptied for it; with V(updated), whether it was. The note keeps both.
    type: bool
    default: false
  refresh: {description: Whether the package lists are read anew., type: bool, default: false}
  lock_seconds: {description: How long to wait for another apt or dpkg., type: int, default: 300}
  unsafe_io:
    description:
      - Lets dpkg skip flushing to the disk. A power cut can then leave broken files; for throw-away hosts.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: With O(refresh), lists are read anew into a folder that is removed again.
  diff_mode: {support: full, description: Packages before and after.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: See what is newer
  brume.cloud.host_updates:
    units: {haproxy.service: {packages: [haproxy]}}
    refresh: true

- name: Take it
  brume.cloud.host_updates:
    state: updated
    units: {haproxy.service: {packages: [haproxy]}}
    hold_units: [haproxy.service]
"""

RETURN = r"""
updates:
  description: Package to the version that it has (empty for one that is added) and the one that it will have or got.
  type: dict
  returned: success
  sample: {haproxy: [3.0.11-1, 3.0.11-2]}
removed:
  description: Packages that apt would remove. V(begun) and V(updated) fail where there is one.
  type: list
  elements: str
  returned: success
here: {description: Those of O(packages) that are installed., type: list, elements: str, returned: success}
held:
  description: Those of O(packages) that an operator holds at their versions (C(apt-mark hold)); they stay as they are.
  type: list
  elements: str
  returned: success
kept: {description: Those of O(keep_packages) that have newer versions., type: list, elements: str, returned: success}
units: {description: Units that are affected., type: list, elements: str, returned: success}
interrupted: {description: Whether dpkg has to finish first; then nothing else is known., type: bool, returned: success}
reboot: {description: Why the host wants to start anew., type: list, elements: str, returned: success}
begun: {description: The note of an earlier call, empty without one., type: dict, returned: success}
codename: {description: With O(suite), the suite that the host had before the call., type: str, returned: success}
suite: {description: O(suite)., type: str, returned: success}
findings:
  description: With O(suite), what stands in the way, each with the next step; V(begun) and V(updated) fail for it.
  type: list
  elements: str
  returned: success
deploys:
  description: With O(suite), whether the host has another suite afterwards, so that its configuration follows.
  type: bool
  returned: success
out: {description: Whether that call has stopped units and none of them runs., type: bool, returned: success}
actions:
  description: One sentence for each change; with V(read), what V(updated) would do, in check mode only.
  type: list
  elements: str
  returned: success
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import (
    apt,
    apt_suite,
    convergence,
    host_lock,
    host_updates,
    operating_system,
    rollout,
)

NOTE = "/var/lib/brume/update.json"
PREFERENCES = "/etc/apt/preferences"
REBOOT = "/run/reboot-required"
KERNEL = "/vmlinuz"
"""The link that Debian's kernels keep at the newest one (linux-update-symlinks(1))."""

CGROUPS = "/sys/fs/cgroup"
PROCESSES = "/proc"
VACANT_SECONDS = 60.0
"""How long interfaces may take to go after the last instance or router has."""

AT_ONCE = 400
"""Files that one process of dpkg-query is asked for."""

SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["read", "begun", "updated", "ended"], "default": "read"},
    "packages": {"type": "list", "elements": "str"},
    "units": {"type": "dict", "default": {}},
    "hold_units": {"type": "list", "elements": "str", "default": []},
    "first": {"type": "list", "elements": "str", "default": []},
    "last": {"type": "list", "elements": "str", "default": []},
    "keep_units": {"type": "list", "elements": "str", "default": []},
    "keep_packages": {"type": "list", "elements": "str", "default": []},
    "vacant_units": {"type": "list", "elements": "str", "default": []},
    "suite": {"type": "str", "default": ""},
    "former_suite": {"type": "str", "default": ""},
    "broker_data": {"type": "path"},
    "together": {"type": "bool", "default": False},
    "planned_packages": {"type": "list", "elements": "str", "default": []},
    "environments": {"type": "list", "elements": "path", "default": []},
    "database_members": {"type": "int", "default": 1},
    "empties": {"type": "bool", "default": False},
    "refresh": {"type": "bool", "default": False},
    "lock_seconds": {"type": "int", "default": 300},
    "unsafe_io": {"type": "bool", "default": False},
}


DATABASE_UNIT = "mariadb.service"
RENEWAL = "make the broker's data anew, which its new series cannot read"
UNFINISHED = """this host is on the way to another suite of Debian
  next: operating_system.yml finishes that"""
CONFIGURE = """an installation of packages was cut off here
  next: `dpkg --configure -a`, or update.yml, finishes it"""
ALONE = """its members cannot go one after the other
  next: operating_system.yml says which go together, and with which variable"""


class UpdateError(RuntimeError):
    """The packages cannot be taken; the text says why and what to do."""


class Host:
    """What one call knows of its host, and what it has done."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        """Read the note; nothing else is read before it is asked for."""
        self.params, self.check_mode = params, check_mode
        self.systemd = rollout.Systemd()
        self.options = apt.options(params["unsafe_io"], params["lock_seconds"])
        self.known = {
            name: host_updates.Unit(tuple(one.get("packages") or ()), tuple(one.get("after") or ()))
            for name, one in params["units"].items()
        }
        self.note = convergence.read_marker(NOTE)
        self.actions: list[str] = []
        self.changes: list[apt.Change] = []
        self.kept: list[str] = []
        self.here: list[str] = []
        self.held: list[str] = []
        self.units: list[str] = []
        self.interrupted = apt.interrupted()
        self.finished = False
        self.suite = apt_suite.Suite(params["former_suite"], params["suite"], self.options)
        self.codename = self.suite.codename() if params["suite"] else ""
        self.findings: list[str] = []

    @property
    def crosses(self) -> bool:
        """Whether the host is to have another suite, or is on the way there."""
        return bool(self.params["suite"]) and (self.codename != self.params["suite"] or "suite" in self.note)

    @contextlib.contextmanager
    def seen(self, *, refresh: bool) -> Iterator[list[str]]:
        """Let apt see what it is asked for while the block runs; yields its options. Raises AptError.

        After an interruption it can tell nothing, so that nothing is read either.
        """
        refresh = refresh and not self.interrupted
        with contextlib.ExitStack() as stack:
            more = stack.enter_context(self.suite.aside()) if self.crosses and not self.interrupted else []
            if not more and refresh and self.check_mode:
                more = stack.enter_context(apt.lists_read_aside(self.options))
            elif not more and refresh:
                apt.update(self.options)
            yield more

    def words(self) -> list[str] | None:
        """Return what apt-get is asked for; None where none of the packages that are wanted is there to be changed."""
        wanted = self.params["packages"]
        if wanted is None:
            return ["dist-upgrade"]
        status = apt.query(wanted)
        self.here = [name for name in wanted if status.get(name) == "installed"]
        # apt-get refuses to change those that it is asked for by name; without a name it leaves them alone by itself.
        self.held = apt.held(self.here)
        free = [name for name in self.here if name not in self.held]
        return ["--only-upgrade", "install", *free] if free else None

    def look(self, options: list[str]) -> None:
        """Find what apt would change and which units that is about; after an interruption apt can tell nothing."""
        self.changes, self.units = [], []
        self.findings = [UNFINISHED] if "suite" in self.note and not self.params["suite"] else []
        words = self.words()
        if self.params["suite"] and not self.crosses:
            return
        if self.interrupted or words is None:
            self.findings = [CONFIGURE] if self.crosses and "suite" not in self.note else []
            return
        self.changes = simulate([*options, *words])
        if self.crosses:
            self.findings = [*self.in_the_way(options), *self.down()]
            self.units = list(self.known) if self.changes or self.finished else []
            return
        kept = of_same_source(self.params["keep_packages"])
        self.kept = [one.name for one in self.changes if one.name in kept]
        if self.kept:
            with pinned(kept) as more:
                self.changes = simulate([*options, *more, *words])
        names = [one.name for one in self.changes]
        if names or self.finished:
            loaded = loaded_by(list(self.known), self.systemd)
            self.units = [
                name
                for name in host_updates.affected(self.known, names, loaded)
                if name not in self.params["keep_units"]
            ]

    def in_the_way(self, options: list[str]) -> list[str]:
        """Return what keeps the host from its suite, each with the next step. Raises AptError."""
        left = "update.yml" if self.note and "suite" not in self.note else ""
        planned, environments = self.params["planned_packages"], self.params["environments"]
        said = self.suite.read(self.changes, [*self.options, *options], planned, environments, left)
        return operating_system.findings(said, self.params["former_suite"], self.params["suite"])

    def down(self) -> list[str]:
        """Return that units with data do not run that no earlier call has stopped.

        What the server's end has left undone, only its own version can finish (Debian's release notes for 13, "MariaDB
        error recovery is not supported between major versions").
        """
        ours = self.note.get("stopped") or []
        states = self.systemd.states([name for name in self.params["last"] if name in self.known])
        return [
            f"{name} does not run\n  next: `site.yml` starts it, before another version finds its data"
            for name, state in states.items()
            if not state.is_active and name not in ours
        ]

    def removed(self) -> list[str]:
        """Return the packages that apt would remove."""
        return [one.name for one in self.changes if one.removed]

    def updates(self) -> dict[str, list[str]]:
        """Return package -> the version that it has and the one that it would have."""
        return {one.name: [one.old, one.new] for one in self.changes if not one.removed}

    def is_out(self) -> bool:
        """Return whether an earlier call has stopped units of which none runs now."""
        stopped = self.note.get("stopped") or []
        states = self.systemd.states(stopped) if stopped else {}
        return bool(stopped) and not any(state.is_active for state in states.values())

    def read(self) -> None:
        """Tell what is newer."""
        with self.seen(refresh=self.params["refresh"]) as more:
            self.look([*self.options, *more])
        if self.check_mode:
            self.actions = self.steps()

    def steps(self) -> list[str]:
        """Return what taking the packages means."""
        first = ["finish the interrupted transaction"] if self.interrupted else []
        first += [f"stop {name}" for name in self.running()]
        if not self.crosses:
            return [*first, *(one.sentence for one in self.changes)]
        first += [f"let {path} name {self.params['suite']}" for path in self.suite.rewritten()]
        return [*first, *self.counted(), *([RENEWAL] if self.renews() else [])]

    def counted(self) -> list[str]:
        """Return what becomes of the packages, those that stay counted, those that go by name."""
        staying = [one for one in self.changes if not one.removed]
        told = [f"take {len(staying)} packages of {self.params['suite']}"] if staying else []
        return told + [one.sentence for one in self.changes if one.removed]

    def renews(self) -> bool:
        """Return whether the broker's data is yet to be made anew."""
        old, new = self.updates().get(host_updates.BROKER, ("", ""))
        needed = bool(self.note.get("renew")) or (bool(old) and operating_system.renewed(old, new))
        return self.crosses and bool(self.params["broker_data"]) and needed and not self.note.get("renewed")

    def running(self) -> list[str]:
        """Return the affected units that run."""
        states = self.systemd.states(self.units)
        return [name for name, state in states.items() if state.active not in ("inactive", "failed")]

    def begin(self) -> None:
        """Fetch the packages, so that a mirror that fails stops nothing, and note that the host is under way."""
        with self.seen(refresh=False) as more:
            self.look([*self.options, *more])
            self.refuse()
            if self.changes and not self.check_mode:
                self.apt("--download-only", "fetch", more)
        if not self.check_mode:
            if self.crosses:
                self.remember(suite=self.params["suite"], together=self.params["together"])
            self.remember(empties=self.params["empties"] or bool(self.note.get("empties")))

    def update(self) -> None:
        """Stop the units, take the packages."""
        if self.check_mode:
            with self.seen(refresh=False) as more:
                self.look([*self.options, *more])
            self.refuse()
            self.actions = self.steps()
            return
        if self.crosses:
            self.cross()
            return
        with apt.held_back(self.params["hold_units"]):
            self.actions += apt.finish(self.options)
            self.finished, self.interrupted = bool(self.actions), False
            self.look(self.options)
            self.refuse()
            self.stop()
            if self.changes:
                self.apt("--no-remove", "take")
                self.actions += [one.sentence for one in self.changes]

    def cross(self) -> None:
        """Stop the units, let the sources name the suite, take its packages, and end what they cannot read."""
        with apt.held_back(self.params["hold_units"]):
            self.actions += apt.finish(self.options, removes=True)
            self.finished, self.interrupted = bool(self.actions), False
            with self.seen(refresh=False) as more:
                self.look([*self.options, *more])
            self.refuse()
            self.stop()
            self.see_clean_end()
            # Noted before, since afterwards nothing tells which version has written the data.
            self.remember(suite=self.params["suite"], renew=bool(self.note.get("renew")) or self.renews())
            self.actions += self.suite.apply()
            self.look(self.options)
            if self.changes:
                self.apt("", "take")
                self.actions += self.counted()
            codename = self.suite.codename()
            if codename != self.params["suite"]:
                raise UpdateError(
                    f"apt has no more for this host, and it is still {codename}\n  next: see what its sources name "
                    f"(/etc/apt), and that they have {self.params['suite']}; then run again"
                )
            if self.renews():
                empty(self.params["broker_data"])
                self.remember(renewed=True)
                self.actions.append(RENEWAL)

    def see_clean_end(self) -> None:
        """Raise UpdateError where the database did not end in order, and would find that with another series."""
        if host_updates.DATABASE not in self.updates():
            return
        state = self.systemd.states([DATABASE_UNIT])[DATABASE_UNIT]
        if state.result not in ("", "success"):
            raise UpdateError(
                f"{DATABASE_UNIT} did not end in order ({state.result}), and another series does not repair that\n"
                f"  next: `systemctl start {DATABASE_UNIT}` there, and run again; no package was changed"
            )

    def stop(self) -> None:
        """Stop the affected units that run, and note them before, so that a later run knows why they do not."""
        going = self.running()
        if not going:
            return
        if set(going) & set(self.params["vacant_units"]):
            see_vacant("" if self.params["suite"] else "; -e update_in_place=true leaves the switch as it is")
        self.remember(
            stopped=list(dict.fromkeys([*(self.note.get("stopped") or []), *going])),
            emptied=self.params["empties"] or bool(self.note.get("emptied")),
        )
        rollout.stop(going, self.systemd, self.params["first"], self.params["last"])
        self.actions += [f"stop {name}" for name in going]

    def apt(self, option: str, verb: str, seen: list[str] | None = None) -> None:
        """Run apt-get for what was found; `seen` lets it see a suite that its sources do not name. Raises AptError."""
        kept = of_same_source(self.params["keep_packages"]) if self.kept else {}
        with pinned(kept) as more:
            words = [*self.options, *(seen or []), *more, "--no-install-recommends", option, *(self.words() or [])]
            done = apt.run(["apt-get", *filter(None, words)])
        if done.code:
            raise apt.failure(f"apt-get, to {verb} newer packages,", done)

    def refuse(self) -> None:
        """Raise UpdateError for what may not be taken; after an interruption it is known only here."""
        updates, members = self.updates(), self.params["database_members"]
        problems = list(self.findings)
        if self.params["suite"]:
            problems += operating_system.refusals(updates)
            alone = self.crosses and not self.params["together"]
            problems += [f"{group}: {ALONE}" for group in operating_system.together(updates) if alone]
        else:
            problems += host_updates.refusals(updates, self.removed(), self.params["packages"], members)
        if problems:
            raise UpdateError("\n".join(problems))

    def remember(self, **values: Any) -> None:
        """Write the note."""
        self.note = {**self.note, **values}
        os.makedirs(os.path.dirname(NOTE), exist_ok=True)
        convergence.write_marker(NOTE, self.note, mode=0o600)

    def reasons(self) -> list[str]:
        """Return why the host wants to start anew."""
        found = ["a package asks for it"] if os.path.exists(REBOOT) else []
        newest = os.path.basename(os.path.realpath(KERNEL)).removeprefix("vmlinuz-") if os.path.islink(KERNEL) else ""
        if newest and newest != os.uname().release:
            found.append(f"kernel {newest} instead of {os.uname().release}")
        kept = [name for name in self.params["keep_units"] if name in self.known]
        old = [name for name, one in loaded_by(kept, self.systemd, owners=False).items() if one.replaced]
        return found + [f"{name} runs files that were replaced" for name in old]


def simulate(words: list[str]) -> list[apt.Change]:
    """Return what apt would change. Raises AptError when it could not do it."""
    done = apt.run(["apt-get", "-s", "--no-install-recommends", *words])
    if done.code:
        raise apt.failure("apt-get -s, to see what is newer,", done)
    return apt.parse_changes(done.output)


def of_same_source(packages: list[str]) -> dict[str, str]:
    """Return the installed packages that come from the same sources as some, with their versions."""
    if not packages:
        return {}
    form = "${source:Package}\t${Package}\t${Version}\t${db:Status-Status}\n"
    lines = [line.split("\t") for line in apt.run(["dpkg-query", "-W", "-f", form]).output.splitlines()]
    installed = [line for line in lines if line[3:] == ["installed"]]
    sources = {source for source, name, _version, _status in installed if name in packages}
    return {name: version for source, name, version, _status in installed if source in sources}


@contextlib.contextmanager
def pinned(versions: dict[str, str]) -> Iterator[list[str]]:
    """Keep packages at their versions while the block runs; yields apt-get's options for it.

    The host's own preferences count too. They lie in memory, so that nothing of it is left when the module is killed.
    """
    if not versions:
        yield []
        return
    own = ""
    with contextlib.suppress(FileNotFoundError), open(PREFERENCES, encoding="utf-8", errors="replace") as stream:
        own = stream.read()
    handle = os.memfd_create("preferences")
    with open(handle, "w", encoding="utf-8") as stream:
        stream.write(own + host_updates.pins(versions))
        stream.flush()
        yield ["-o", f"Dir::Etc::Preferences=/proc/{os.getpid()}/fd/{handle}"]


def loaded_by(names: list[str], systemd: rollout.Systemd, owners: bool = True) -> dict[str, host_updates.Loaded]:
    """Return what the processes of units have loaded; without `owners`, only whether it was replaced."""
    files: dict[str, set[str]] = {}
    replaced: dict[str, bool] = {}
    sockets: dict[str, tuple[str, ...]] = {}
    if not names:
        return {}
    # With Id no unit's block is empty, so that each has its place.
    shown = systemd.run("show", "--property=Id,ControlGroup,TriggeredBy", "--", *names).stdout
    for name, block in zip(names, shown.strip("\n").split("\n\n"), strict=False):
        said = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        sockets[name] = tuple(one for one in said.get("TriggeredBy", "").split() if one.endswith(".socket"))
        files[name], replaced[name] = set(), False
        for number in processes(said.get("ControlGroup", "")):
            with contextlib.suppress(OSError), open(f"{PROCESSES}/{number}/maps", errors="replace") as stream:
                found, old = host_updates.files_of(stream.read())
                files[name] |= found
                replaced[name] |= old
    known = owners_of(sorted(set().union(*files.values()))) if owners else {}
    return {
        name: host_updates.Loaded(
            frozenset(package for path in files[name] for package in known.get(path, ())), replaced[name], sockets[name]
        )
        for name in files
    }


def processes(group: str) -> list[str]:
    """Return the numbers of the processes in a control group and those below it; none where there is no group."""
    found: list[str] = []
    if group.strip("/"):
        for folder, _folders, names in os.walk(f"{CGROUPS}{group}"):
            if "cgroup.procs" in names:
                with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs", encoding="ascii") as stream:
                    found += stream.read().split()
    return found


def owners_of(paths: list[str]) -> dict[str, set[str]]:
    """Return path -> packages; files that no package has are left out."""
    asked = [name for path in paths for name in host_updates.spellings(path)]
    known: dict[str, set[str]] = {}
    for start in range(0, len(asked), AT_ONCE):
        done = apt.run(["dpkg-query", "-S", "--", *asked[start : start + AT_ONCE]])
        known |= host_updates.parse_owners(done.output)
    return {path: set().union(*(known.get(name, set()) for name in host_updates.spellings(path))) for path in paths}


def empty(folder: str) -> None:
    """Remove what is in a folder. Raises OSError."""
    for entry in os.scandir(folder) if os.path.isdir(folder) else ():
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def see_vacant(otherwise: str) -> None:
    """Wait until nothing of an instance, router or network is on the switch. Raises UpdateError."""
    command = ["ovs-vsctl", "--timeout=10", "--bare", "--columns=name", "find", "Interface", "external_ids:iface-id!=x"]
    deadline = time.monotonic() + VACANT_SECONDS
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise UpdateError(f"ovs-vsctl: {done.stderr.strip() or done.returncode}")
        left = done.stdout.split()
        if not left:
            return
        if time.monotonic() >= deadline:
            raise UpdateError(
                f"{', '.join(left)}: still on this host's switch, which would lose them by a restart; nothing was "
                "stopped\n"
                f"  next: see whose they are (`ovs-vsctl list Interface`), move that away, and run again{otherwise}"
            )
        time.sleep(1)


def main() -> None:
    """Read, fetch, take, or forget."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    host_lock.hold(module)
    state, changed = module.params["state"], False
    try:
        if state in ("begun", "ended") and not module.check_mode:
            # One that was killed may have left its own, and an operator may have ended its transaction.
            apt.restore_policy()
        host = Host(module.params, module.check_mode)
        if state == "read":
            host.read()
            changed = module.check_mode and bool(host.actions)
        elif state == "begun":
            host.begin()
        elif state == "updated":
            host.update()
            changed = bool(host.actions)
        elif not module.check_mode:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(NOTE)
            host.note = {}
        result = {
            "updates": host.updates(),
            "removed": host.removed(),
            "here": host.here,
            "kept": host.kept,
            "held": host.held,
            "units": host.units,
            "interrupted": host.interrupted,
            "reboot": host.reasons() if state in ("read", "updated") else [],
            "begun": host.note,
            "codename": host.codename,
            "suite": host.params["suite"],
            "findings": host.findings,
            "deploys": host.crosses,
            "out": state == "read" and host.is_out(),
        }
    except (apt.AptError, UpdateError, OSError) as error:
        module.fail_json(msg=str(error), invocation={})
    shown = host.changes if changed else []
    before = "".join(f"{one.name} {one.old or 'not installed'}\n" for one in shown)
    after = "".join(f"{one.name} {one.new or 'removed'}\n" for one in shown)
    module.exit_json(
        changed=changed,
        actions=host.actions,
        diff=[convergence.text_diff("packages", before, after)] if shown else [],
        invocation={},
        **result,
    )


if __name__ == "__main__":
    main()
