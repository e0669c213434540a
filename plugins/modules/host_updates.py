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
out: {description: Whether that call has stopped units and none of them runs., type: bool, returned: success}
actions:
  description: One sentence for each change; with V(read), what V(updated) would do, in check mode only.
  type: list
  elements: str
  returned: success
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import apt, convergence, host_lock, host_updates, rollout

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
    "database_members": {"type": "int", "default": 1},
    "empties": {"type": "bool", "default": False},
    "refresh": {"type": "bool", "default": False},
    "lock_seconds": {"type": "int", "default": 300},
    "unsafe_io": {"type": "bool", "default": False},
}


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
        words = self.words()
        if self.interrupted or words is None:
            return
        self.changes = simulate([*options, *words])
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
        aside: contextlib.AbstractContextManager[list[str]] = contextlib.nullcontext([])
        if self.params["refresh"] and not self.interrupted:
            if self.check_mode:
                aside = apt.lists_read_aside(self.options)
            else:
                apt.update(self.options)
        with aside as more:
            self.look([*self.options, *more])
        if self.check_mode:
            self.actions = self.steps()

    def steps(self) -> list[str]:
        """Return what taking the packages means."""
        first = ["finish the interrupted transaction"] if self.interrupted else []
        return [*first, *(f"stop {name}" for name in self.running()), *(one.sentence for one in self.changes)]

    def running(self) -> list[str]:
        """Return the affected units that run."""
        states = self.systemd.states(self.units)
        return [name for name, state in states.items() if state.active not in ("inactive", "failed")]

    def begin(self) -> None:
        """Fetch the packages, so that a mirror that fails stops nothing, and note that the host is under way."""
        self.look(self.options)
        self.refuse()
        if self.changes and not self.check_mode:
            self.apt("--download-only", "fetch")
        if not self.check_mode:
            self.remember(empties=self.params["empties"] or bool(self.note.get("empties")))

    def update(self) -> None:
        """Stop the units, take the packages."""
        if self.check_mode:
            self.look(self.options)
            self.refuse()
            self.actions = self.steps()
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

    def stop(self) -> None:
        """Stop the affected units that run, and note them before, so that a later run knows why they do not."""
        going = self.running()
        if not going:
            return
        if set(going) & set(self.params["vacant_units"]):
            see_vacant()
        self.remember(
            stopped=list(dict.fromkeys([*(self.note.get("stopped") or []), *going])),
            emptied=self.params["empties"] or bool(self.note.get("emptied")),
        )
        rollout.stop(going, self.systemd, self.params["first"], self.params["last"])
        self.actions += [f"stop {name}" for name in going]

    def apt(self, option: str, verb: str) -> None:
        """Run apt-get for what was found. Raises AptError."""
        kept = of_same_source(self.params["keep_packages"]) if self.kept else {}
        with pinned(kept) as more:
            words = [*self.options, *more, "--no-install-recommends", option, *(self.words() or [])]
            done = apt.run(["apt-get", *words])
        if done.code:
            raise apt.failure(f"apt-get, to {verb} newer packages,", done)

    def refuse(self) -> None:
        """Raise UpdateError for what may not be taken; after an interruption it is known only here."""
        members = self.params["database_members"]
        problems = host_updates.refusals(self.updates(), self.removed(), self.params["packages"], members)
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


def see_vacant() -> None:
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
                "stopped\n  next: see whose they are (`ovs-vsctl list Interface`), move that away, and run again; "
                "-e update_in_place=true leaves the switch as it is"
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
