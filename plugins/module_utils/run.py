"""The plan of this run: computed once in the controller process, inherited by Ansible's workers.

The callback `brume.cloud.phases` calls `prepare` before the first task; workers are forks and find the result here.
Where the callback is not enabled, `current` computes the plan itself: the same answer, later.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import (
    ceph,
    external,
    image_inventory,
    inventory_checks,
    inventory_data,
    plan,
    public_certificate,
    sources,
)
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.secrets import (
    ADMIN_SECRET,
    SecretError,
    Vault,
    parse_master_key,
)

_state: dict[str, plan.Plan | plan.PlanError] = {}
_own: list[Own] = []


@dataclass(frozen=True)
class Own:
    """This run: who it is, and a pipe of which its processes alone hold the other end, so that it ends with them."""

    record: Mapping[str, Any]
    read: int
    write: int

    def is_dead(self, holder: Mapping[str, Any]) -> bool:
        """Return whether the run that a lock's record names was of this machine and its first process has ended."""
        same = [holder.get(key) == self.record[key] for key in ("controller", "boot")]
        return all(same) and _started(int(holder.get("controller_pid", 0))) != holder.get("controller_started")


def _started(process: int) -> str:
    """Return when a process began, in clock ticks since boot (proc(5), stat, field 22); empty when there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def begin(playbook: str) -> None:
    """Make this process the first of a run of a playbook; whatever it forks from now on belongs to the run."""
    if _own:
        return
    boot = Path("/proc/sys/kernel/random/boot_id")
    record = {
        "run": secrets.token_hex(8),
        "playbook": Path(playbook).name,
        "user": getpass.getuser(),
        "controller": socket.gethostname(),
        "boot": boot.read_text(encoding="utf-8").strip() if boot.exists() else "",
        "controller_pid": os.getpid(),
        "controller_started": _started(os.getpid()),
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    _own.append(Own(record, *os.pipe()))


def own() -> Own | None:
    """Return this run, None where no callback has begun it."""
    return _own[0] if _own else None


def prepare(inventory: Any, loader: Any, variable_manager: Any) -> None:
    """Compute the plan of this run and keep it, or its error.

    Raises PlanError when files of the inventory are broken: Ansible cannot go on with them either.
    """
    project = sources.load()
    prefixes = {
        "brume_",
        *(f"{name}_" for name in project.services),
        *(f"{name.split('_', maxsplit=1)[0]}_" for name in project.variables),
    }
    try:
        data = inventory_data.read(inventory, loader, variable_manager, sorted(prefixes))
        _state["plan"] = plan.plan(data, project)
    except plan.PlanError as error:
        _state["plan"] = error
    except inventory_data.Unreadable as error:
        broken = plan.PlanError(error.problems)
        _state["plan"] = broken
        raise broken from None


def current(task_vars: Mapping[str, Any]) -> plan.Plan:
    """Return the plan of this run; raises PlanError when the inventory cannot be planned."""
    if "plan" not in _state:
        hostvars = task_vars["hostvars"]
        prepare(hostvars._inventory, hostvars._loader, hostvars._variable_manager)
    found = _state["plan"]
    if isinstance(found, plan.PlanError):
        raise found
    return found


def vault(variables: Mapping[str, Any], generations: Mapping[str, int]) -> Vault:
    """Return the cloud's secrets from the two private variables; raises SecretError without a usable master key."""
    explicit = variables.get("brume_secrets") or {}
    if not isinstance(explicit, Mapping) or not all(isinstance(value, str) for value in explicit.values()):
        raise SecretError("brume_secrets", "is no mapping of names to strings", "write `nova/keystone: <value>` lines")
    return Vault(parse_master_key(variables.get("brume_master_key")), dict(explicit), generations)


def secret_problems(variables: Mapping[str, Any], found: plan.Plan | None) -> list[Problem]:
    """Return what is wrong with the two private variables; of a cloud that cannot be planned, with the key alone."""
    problems = []
    try:
        parse_master_key(variables.get("brume_master_key"))
    except SecretError as error:
        problems.append(error.problem)
    if found is not None:
        said = variables.get("brume_secrets") or {}
        problems += external.missing_secrets(found.cloud.external, found.cloud.databases, found.cloud.vhosts, said)
        problems += external.missing_administrator(found.cloud.external, said)
        problems += external.missing_keys(found.cloud.external, found.cloud.ceph_users, said)
        problems += image_inventory.secret_problems(found.cloud.image_stores, said)
    if found is not None and variables.get("brume_secrets"):
        names = inventory_checks.secret_names(found.services.values(), found.cloud.cells, found.hosts)
        names += [ADMIN_SECRET] if found.cloud.external.identity is not None else []
        names += [ceph.secret_name(user) for user in found.cloud.ceph_users]
        names += [public_certificate.KEY_SECRET, *image_inventory.secret_names(found.cloud.image_stores)]
        problems += inventory_checks.explicit_secrets(_passwords(variables["brume_secrets"], found), names)
    return problems


def _passwords(said: Any, found: plan.Plan) -> Any:
    """Return brume_secrets without the key of the public certificate and those of stores, which others look at."""
    if not isinstance(said, Mapping):
        return said
    others = [public_certificate.KEY_SECRET, *image_inventory.secret_names(found.cloud.image_stores)]
    return {name: value for name, value in said.items() if name not in others}


def placeholder_vault() -> Vault:
    """Return secrets for renderings that go nowhere (`plan.yml --tags render`): none is a real one."""
    return Vault(bytes(32))
