"""Units of systemd that make backups regularly on the deploy host, and what changes when they are put there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import rollout
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write, text_diff

KINDS = ("full", "incremental")
OPTIONS = ("backup_path", "backup_login", "backup_host", "backup_images", "backup_keep_count", "backup_keep_days")
"""Variables of backup.yml that a run of the timer gets as they are where the timer is made."""


@dataclass(frozen=True)
class Job:
    """How backup.yml is run: by whom, from where, with which words."""

    checkout: str
    user: str
    program: str
    inventories: Sequence[str]
    words: Sequence[str] = ()
    configuration: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    test: bool = True


def family(inventory: str) -> str:
    """Return the begin of the units' names, from the name of an inventory's folder; a file lies in its own."""
    return f"brume-backup-{re.sub(r'[^A-Za-z0-9_.]', '-', os.path.basename(_folder(inventory)))}"


def _folder(inventory: str) -> str:
    return os.path.abspath(os.path.dirname(inventory) if os.path.isfile(inventory) else inventory)


def names(prefix: str) -> list[str]:
    """Return the names of all units that there can be."""
    return [f"{prefix}-{kind}.{suffix}" for kind in KINDS for suffix in ("service", "timer")]


def mark(checkout: str, inventory: str) -> str:
    """Return the first line of units that are a checkout's for an inventory; folders of two can have one name."""
    where = f"{checkout} for {_folder(inventory)}"
    return f"# Made by playbooks/backup_timer.yml in {where}; -e backup_timer_state=absent removes it."


def render(job: Job, calendars: Mapping[str, str]) -> dict[str, str]:
    """Return units by name; `calendars` are those of kinds (systemd.time(7)), an empty one is no timer."""
    prefix, owner, found = family(job.inventories[0]), mark(job.checkout, job.inventories[0]), {}
    for kind in KINDS:
        if not calendars.get(kind):
            continue
        given = json.dumps({**job.options, "backup_kind": kind})
        # One run at a time: timers that were missed elapse together. What SSH leaves behind does not hold the lock.
        command = ["/usr/bin/flock", "--close", job.inventories[0], job.program]
        command += [word for one in job.inventories for word in ("--inventory", one)]
        command += [*job.words, "--extra-vars", given, f"{job.checkout}/playbooks/backup.yml"]
        lines = [" ".join(map(quoted, command))]
        lines += [f"{lines[0]} --tags test"] if job.test else []
        settings = [f"Environment={quoted(f'ANSIBLE_CONFIG={job.configuration}')}"] if job.configuration else []
        found[f"{prefix}-{kind}.service"] = "\n".join([
            owner, "[Unit]", f"Description=Backup of the cloud of {escaped(job.inventories[0])} ({kind})",
            "Wants=network-online.target", "After=network-online.target", "", "[Service]", "Type=oneshot",
            f"User={job.user}", f"WorkingDirectory={escaped(job.checkout)}", *settings,
            *(f"ExecStart={line}" for line in lines), "",
        ])  # fmt: skip
        found[f"{prefix}-{kind}.timer"] = "\n".join([
            owner, "[Unit]", f"Description=Backups of the cloud of {escaped(job.inventories[0])} ({kind})",
            "", "[Timer]", f"OnCalendar={calendars[kind]}", "Persistent=true", "", "[Install]",
            "WantedBy=timers.target", "",
        ])  # fmt: skip
    return found


def escaped(text: str) -> str:
    """Return a text without specifiers (systemd.unit(5))."""
    return text.replace("%", "%%")


def quoted(word: str) -> str:
    """Return a word of a command line, which systemd takes as it is (systemd.service(5), Command lines)."""
    text = escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII) else f'"{text}"'


@dataclass(frozen=True)
class Changes:
    """What is written, removed and started, by name."""

    there: Mapping[str, str]
    written: Mapping[str, str]
    gone: Sequence[str]
    started: Sequence[str]

    def report(self) -> dict[str, Any]:
        """Return what a module says of them."""
        actions = [f"remove {name}" for name in self.gone] + [f"write {name}" for name in self.written]
        actions += [f"enable and start {name}" for name in self.started]
        diff = [text_diff(name, self.there[name], "") for name in self.gone]
        diff += [text_diff(name, self.there.get(name, ""), text) for name, text in self.written.items()]
        return {"changed": bool(actions), "actions": actions, "diff": diff}


def changes(folder: str, prefix: str, units: Mapping[str, str], owner: str, systemd: rollout.Systemd) -> Changes:
    """Return what has to change in a folder of units. Raises OSError for units with another `mark`."""
    there = {}
    for name in names(prefix):
        with suppress(FileNotFoundError), open(f"{folder}/{name}", encoding="utf-8") as stream:
            there[name] = stream.read()
    for name, text in there.items():
        first = text.partition("\n")[0]
        if first != owner:
            raise OSError(f"{folder}/{name}: is not of this checkout and inventory; it begins with `{first}`\n"
                          "  next: remove it from there with that inventory, or rename the inventory's folder; what "
                          "nobody knows any more goes by `systemctl disable --now` and `rm`")  # fmt: skip
    written = {name: text for name, text in units.items() if there.get(name) != text}
    timers = [name for name in units if name.endswith(".timer")]
    states = systemd.states([name for name in timers if name in there])
    running = [name for name, one in states.items() if one.active == "active" and one.file_state == "enabled"]
    started = [name for name in timers if name in written or name not in running]
    return Changes(there, written, [name for name in there if name not in units], started)


def apply(folder: str, change: Changes, systemd: rollout.Systemd) -> None:
    """Make changes. A backup that runs is left alone. Raises OSError with what systemd said."""

    def run(*words: str) -> None:
        done = systemd.run(*words)
        if done.returncode:
            raise OSError(f"systemctl {words[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")

    timers = [name for name in change.gone if name.endswith(".timer")]
    if timers:
        run("disable", "--now", "--", *timers)
    for name in change.gone:
        os.unlink(f"{folder}/{name}")
    for name, text in change.written.items():
        atomic_write(f"{folder}/{name}", text)
    if change.gone or change.written:
        run("daemon-reload")
    if change.started:
        run("enable", "--", *change.started)
        run("restart", "--", *change.started)
