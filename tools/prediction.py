#!/usr/bin/env python3
"""Compares a dry run with the run that follows, action by action, on the deployed cloud of an inventory.

A case is an edit of the inventory, as an operator would make it. For each one: `site.yml --check --diff`, then
`site.yml --diff`; both have to name the same actions with the same differences, host by host and task by task, and
exactly the predicted units may have been started anew, whoever says what. At the end the inventory as it was is rolled
out again. The case `bare` compares both on hosts that have nothing yet.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

Edit = Callable[[dict[str, Any], dict[str, Any]], None]
"""Changes an inventory's variables: those of all hosts, and those of its first network host."""


class PredictionError(RuntimeError):
    """A playbook failed, so that there is nothing to compare; the text holds the end of what it said."""


def _set(path: str, value: Any) -> Edit:
    """Return an edit that sets one variable of all hosts; the path's parts are separated by ` > `."""

    def edit(everywhere: dict[str, Any], host: dict[str, Any]) -> None:
        _put(everywhere, path.split(" > "), value)

    return edit


def _put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def _host_option(everywhere: dict[str, Any], host: dict[str, Any]) -> None:
    _put(host, ["brume_config", "neutron", "dhcp_agent.ini", "DEFAULT", "dhcp_lease_duration"], 43200)


ENDPOINT_NAME = "cloud.example.test"

CASES: dict[str, Edit] = {
    "nova-option": _set("brume_config > nova > nova.conf > DEFAULT > osapi_max_limit", 500),
    "host-option": _host_option,
    "endpoint": _set("brume_networks > management > fqdn", ENDPOINT_NAME),
    "database-generation": _set("brume_secret_generations > neutron/database/neutron", 2),
    "workers": _set("brume_workers > glance/api", 2),
    "package": _set("host_packages", ["tree"]),
}
"""What an operator changes, by name. Each is made on top of those before it."""

BARE = "bare"
PERIODIC = re.compile(r"(apt-|dpkg-|e2scrub|fstrim|man-db|logrotate|systemd-|user@|user-runtime|run-|session)")
"""Units that start by themselves, by timer or login."""


@dataclass(frozen=True)
class Line:
    """What one task said on one host."""

    changed: bool
    actions: tuple[str, ...]
    diff: str


Record = dict[tuple[str, str, str], Line]
"""(play, task, host) -> what it said."""


def parse(text: str) -> Record:
    """Return what the callback `record` kept; several results of one task on one host are joined."""
    found: Record = {}
    for line in text.splitlines():
        item = json.loads(line)
        key = (item["play"], item["task"], item["host"])
        old = found.get(key, Line(False, (), ""))
        diff = json.dumps(item["diff"], sort_keys=True) if item["diff"] else ""
        found[key] = Line(old.changed or item["changed"], (*old.actions, *item["actions"]), old.diff + diff)
    return found


def differences(predicted: Record, done: Record) -> list[str]:
    """Return in what two records differ, one line each."""
    lines: list[str] = []
    for key in dict.fromkeys([*predicted, *done]):
        one, other = predicted.get(key, Line(False, (), "")), done.get(key, Line(False, (), ""))
        where = f"{key[2]}: {key[0]}: {key[1]}"
        before = len(lines)
        lines += [f"{where}: predicted, not done: {action}" for action in one.actions if action not in other.actions]
        lines += [f"{where}: done, not predicted: {action}" for action in other.actions if action not in one.actions]
        if len(lines) == before and one.actions != other.actions:
            lines.append(f"{where}: the order or the number of the actions differs")
        elif one.changed != other.changed:
            said = [("no change", "a change")[line.changed] for line in (one, other)]
            lines.append(f"{where}: predicted {said[0]}, done {said[1]}")
        elif one.diff != other.diff and len(lines) == before:
            lines.append(f"{where}: the differences that are shown are not the same")
    return lines


def bare_differences(predicted: Record, done: Record) -> list[str]:
    """Return in what two records of a deployment from nothing differ, host by host.

    What packages bring is not known before they are there: a file of theirs turns from `create` into `change`, a user
    of theirs needs no making or another shell only, a unit of theirs is enabled or not, and differences of such files
    are not compared.
    """

    def sentences(record: Record) -> dict[str, dict[str, bool]]:
        hosts: dict[str, dict[str, bool]] = {}
        for (_play, _task, host), line in record.items():
            for action in line.actions:
                text = re.sub(r"^(?:create|change|set) (file|directory|link) (\S+).*", r"write \1 \2", action)
                text = re.sub(r"^set the shell of user (\S+) to .*", r"create user \1", text)
                hosts.setdefault(host, {})[text] = True
        return hosts

    def brought(text: str, there: dict[str, bool]) -> bool:
        verb, _, unit = text.partition(" ")
        starts = verb == "enable" and any(one.startswith(f"start {unit} ") for one in there)
        return starts or text.startswith("create user ")

    one, other = sentences(predicted), sentences(done)
    return [
        f"{host}: {what}: {text}"
        for host in dict.fromkeys([*one, *other])
        for what, here, there in (
            ("predicted, not done", one.get(host, {}), other.get(host, {})),
            ("done, not predicted", other.get(host, {}), one.get(host, {})),
        )
        for text in here
        if text not in there and not brought(text, there)
    ]


def restarted(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """Return the units that began anew between two readings (unit -> systemd's invocation identifier)."""
    return {
        unit
        for unit, number in after.items()
        if number and before.get(unit) != number and not PERIODIC.match(unit)
    }


def announced(record: Record, host: str) -> set[str]:
    """Return the units that a record says are started or restarted on a host; a reload begins nothing anew."""
    found = set()
    for key, line in record.items():
        for action in line.actions:
            match = re.match(r"(?:start|restart) (\S+)", action)
            if match and key[2] == host:
                found.add(match[1])
    return found


def edited(inventory: Path, folder: Path, edits: Iterable[Edit]) -> Path:
    """Return a copy of an inventory with its edits made; it keeps its name, by which the lab is found."""
    copy = folder / inventory.resolve().name
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(inventory, copy)
    everywhere = copy / "group_vars/all.yml"
    hosts = yaml.safe_load((copy / "hosts.yml").read_text(encoding="utf-8"))
    name = next(iter(hosts["network"]["hosts"]))
    host = copy / f"host_vars/{name}.yml"
    documents = {
        path: (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}
        for path in (everywhere, host)
    }
    for edit in edits:
        edit(documents[everywhere], documents[host])
    host.parent.mkdir(exist_ok=True)
    for path, document in documents.items():
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return copy


def invocations(text: str) -> dict[str, dict[str, str]]:
    """Return host -> unit -> invocation identifier from what Ansible prints of `systemctl show`, see Cloud.units."""
    found: dict[str, dict[str, str]] = {}
    host = ""
    for block in re.split(r"\r?\n\r?\n", text):
        for line in block.splitlines():
            if match := re.match(r"(\S+) \| \w+ \| rc=\d+ >>", line):
                host = match[1]
        values = dict(line.strip().partition("=")[::2] for line in block.splitlines() if "=" in line)
        passing = values.get("Id", "").startswith("user") or ".timer" in values.get("TriggeredBy", "")
        if host and "Id" in values and not passing:
            found.setdefault(host, {})[values["Id"]] = values.get("InvocationID", "")
    return found


class Cloud:
    """The deployed cloud of an inventory."""

    def __init__(self, inventory: Path) -> None:
        """Find its folder."""
        self.inventory = inventory
        self.folder = ROOT / ".lab" / inventory.resolve().name / "prediction"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.edits: list[Edit] = []

    def run(self, inventory: Path, name: str, *words: str, playbook: str = "site.yml") -> Record:
        """Run a playbook and return its record. Raises PredictionError."""
        record, log = self.folder / f"{name}.jsonl", self.folder / f"{name}.log"
        record.unlink(missing_ok=True)
        command = [str(BIN / "ansible-playbook"), "-i", str(inventory), f"playbooks/{playbook}", "--diff", *words]
        with log.open("w", encoding="utf-8") as stream:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "BRUME_RECORD_FILE": str(record)},
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-30:])
            raise PredictionError(f"`{' '.join(command[1:])}` failed:\n{tail}")
        return parse(record.read_text(encoding="utf-8"))

    def units(self) -> dict[str, dict[str, str]]:
        """Return host -> unit -> invocation identifier of the services and sockets that do not come and go alone.

        Those are the ones of timers, and of users while they are logged in.
        """
        command = "systemctl --no-pager show --property=Id,InvocationID,TriggeredBy '*.service' '*.socket'"
        done = subprocess.run(
            [str(BIN / "ansible"), "-i", str(self.inventory), "all", "-m", "ansible.builtin.raw", "-a", command],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return invocations(done.stdout)

    def case(self, name: str) -> tuple[list[str], Record]:
        """Make a case's edit, predict and do. Return what was not as predicted, and what was done."""
        if name == BARE:
            predicted = self.run(self.inventory, f"{name}-check", "--check")
            done = self.run(self.inventory, name)
            return bare_differences(predicted, done), done
        self.edits.append(CASES[name])
        inventory = edited(self.inventory, self.folder, self.edits)
        before = self.units()
        predicted = self.run(inventory, f"{name}-check", "--check")
        done = self.run(inventory, name)
        lines = differences(predicted, done)
        after = self.units()
        for host, units in after.items():
            real, said = restarted(before.get(host, {}), units), announced(predicted, host)
            lines += [f"{host}: started anew, not predicted: {unit}" for unit in sorted(real - said)]
            lines += [f"{host}: predicted to start, did not: {unit}" for unit in sorted(said - real)]
        if not any(line.changed for line in done.values()):
            lines.append("the case changed nothing, so nothing was compared")
        return lines, done

    def settle(self) -> list[str]:
        """Roll out the inventory as it was; return what a dry run then still finds to change."""
        if self.edits:
            self.run(self.inventory, "restore")
            self.edits.clear()
        left = self.run(self.inventory, "settled", "--check")
        return [f"{key[2]}: {key[1]}: {line.actions}" for key, line in left.items() if line.changed]


def main(arguments: Sequence[str]) -> int:
    """Run the named cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("inventory", type=Path)
    parser.add_argument("cases", nargs="*", choices=[*CASES, BARE, []], help="all but `bare` unless named")
    options = parser.parse_args(arguments)
    cloud = Cloud(options.inventory)
    wrong = 0
    try:
        for name in options.cases or CASES:
            lines, done = cloud.case(name)
            count = sum(len(line.actions) for line in done.values())
            print(f"{name}: {count} actions predicted and done" if not lines else f"{name}: not as predicted")
            print("".join(f"  {line}\n" for line in lines), end="", flush=True)
            wrong += bool(lines)
        left = cloud.settle()
    except PredictionError as error:
        print(f"prediction: {error}", file=sys.stderr)
        return 1
    print("".join(f"settled: still to change: {line}\n" for line in left), end="")
    return 1 if wrong or left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
