"""The plan of this run: computed once in the controller process, inherited by Ansible's workers.

The callback `brume.cloud.phases` calls `prepare` before the first task; workers are forks and find the result here.
Where the callback is not enabled, `current` computes the plan itself: the same answer, later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import inventory_checks, inventory_data, plan, sources
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.secrets import SecretError, Vault, parse_master_key

_state: dict[str, plan.Plan | plan.PlanError] = {}


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
    if found is not None and variables.get("brume_secrets"):
        services = [sources.load().services[name] for name in found.cloud.services]
        names = inventory_checks.secret_names(services, found.cloud.cells, found.hosts)
        problems += inventory_checks.explicit_secrets(variables["brume_secrets"], names)
    return problems


def placeholder_vault() -> Vault:
    """Return secrets for renderings that go nowhere (`plan.yml --tags render`): none is a real one."""
    return Vault(bytes(32))
