"""What all tests of a deployed cloud share: the plan, its secrets, and one reading of each kind per host.

The plan is the JSON of `playbooks/plan.yml --tags json`, at BRUME_PLAN_FILE or in `.lab/<inventory>/plan.json`. The
inventory is pytest's `--ansible-inventory`, or BRUME_INVENTORY, or `inventories/aio`.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra
from ansible import constants
from ansible.cli import CLI
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from ansible_collections.brume.cloud.plugins.module_utils import host_program, inventory_data, run, sources
from ansible_collections.brume.cloud.plugins.module_utils import host_readings as readings
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Deployment:
    """The typed plan of an inventory, and its secrets, which no report of a failed test shows."""

    plan: Plan
    sources: sources.Sources
    vault: Vault = field(repr=False)

    def renderer(self) -> Renderer:
        """Return what renders files with the true secrets."""
        return Renderer(self.plan, self.sources, self.vault.value)


@functools.cache
def deployment(inventory_path: str) -> Deployment:
    """Return what an inventory plans, as a playbook sees it. Ends the run where it cannot be planned."""
    loader = DataLoader()
    identities = constants.DEFAULT_VAULT_IDENTITY_LIST
    loader.set_vault_secrets(CLI.setup_vault_secrets(loader, vault_ids=identities, auto_prompt=False))
    hosts = InventoryManager(loader, [inventory_path])
    manager = VariableManager(loader, hosts)
    run.prepare(hosts, loader, manager)
    try:
        found = run.current({})
        variables = manager.get_vars(host=hosts.get_host(next(iter(found.hosts))))
        templar = Templar(loader=loader, variables=variables)
        private = {name: templar.template(variables[name]) for name in inventory_data.PRIVATE if name in variables}
        return Deployment(found, sources.load(), run.vault(private, found.cloud.generations))
    except (PlanError, ValueError) as error:
        pytest.exit(f"{inventory_path}: {error}", returncode=1)


def program(inventory_path: str, host: str, module: Any, function: str, **arguments: Any) -> Any:
    """Return what a module's function returns on a host; `python`: the interpreter there. See `host_program`."""
    python = arguments.pop("python", "/usr/bin/python3")
    backend = testinfra.get_host(f"ansible://{host}", ansible_inventory=inventory_path).backend
    backend = backend.ansible_runner.get_host(host).backend
    words, quoted = backend._build_ssh_command(backend.get_command(host_program.command(python)))
    argv = shlex.split(backend.quote(" ".join(words), *quoted))
    try:
        return host_program.call(argv, module, function, host_program.Arguments(arguments), timeout=300)
    except host_program.HostProgramError as error:
        pytest.fail(f"{host}: {error}", pytrace=False)


def inventory(config: pytest.Config) -> str:
    """Return the inventory's path, from the repository's root if it is relative."""
    return str(ROOT / (config.getoption("ansible_inventory") or os.environ.get("BRUME_INVENTORY") or "inventories/aio"))


@functools.cache
def plan(inventory_path: str) -> dict[str, dict[str, Any]]:
    """Return the planned hosts by name."""
    default = ROOT / ".lab" / Path(inventory_path).name / "plan.json"
    path = ROOT / os.environ.get("BRUME_PLAN_FILE", str(default))
    hosts: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["hosts"]
    if not hosts:
        pytest.exit(f"{path}: no host, nothing would be tested", returncode=1)
    return hosts


class Reader:
    """A host and its readings; each command runs once per host, when a test first needs it."""

    def __init__(self, inventory_path: str, name: str) -> None:
        """Remember which host of which inventory."""
        self.inventory, self.name = inventory_path, name
        self.planned = plan(inventory_path)[name]

    def output(self, command: str) -> str:
        """Return what a command printed; that single items are missing is for the tests to say."""
        return _output(self.inventory, self.name, command)

    def paths(self) -> dict[str, tuple[str, str, int, str]]:
        """Return owner, group, mode and kind of all planned files and directories."""
        entries = [*self.planned["files"], *self.planned["directories"]]
        return readings.files(self.output(readings.files_command(dict.fromkeys(entry["path"] for entry in entries))))


@functools.cache
def _output(inventory_path: str, name: str, command: str) -> str:
    host = testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory_path)
    done = host.run(command)
    if not done.stdout.strip():
        program = command.split(maxsplit=1)[0]
        pytest.fail(f"{name}: `{program}` printed nothing, exit status {done.rc}: {done.stderr.strip()}")
    return str(done.stdout)
