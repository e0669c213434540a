"""The plan of this run: computed once in the controller process, inherited by Ansible's workers.

The callback `brume.cloud.phases` calls `prepare` before the first task; workers are forks and find the result here.
Where the callback is not enabled, `current` computes the plan itself: the same answer, later.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import inventory_data, plan, sources
from ansible_collections.brume.cloud.plugins.module_utils.secrets import SecretError, Vault, parse_master_key

_state: dict[str, plan.Plan | plan.PlanError] = {}


def prepare(inventory: Any, loader: Any, variable_manager: Any) -> None:
    """Compute the plan of this run and keep it, or its error."""
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
        raise SecretError(
            "brume_secrets: is no mapping of names to strings; write `nova/keystone: <value>` lines below it"
        )
    return Vault(parse_master_key(variables.get("brume_master_key")), dict(explicit), generations)


def placeholder_vault() -> Vault:
    """Return secrets for renderings that go nowhere (`plan.yml --tags render`): none is a real one."""
    return Vault(parse_master_key(base64.b64encode(bytes(32)).decode()))
