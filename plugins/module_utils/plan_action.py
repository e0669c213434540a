"""What every action of Brume has in common: find the host's slice of the plan, call the module, return its result."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils import ceph, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.plan import Host, Plan, PlanError
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer, endpoint_ca_file
from ansible_collections.brume.cloud.plugins.module_utils.secrets import ADMIN_SECRET, SecretError, Vault

UNLOGGED = {"ansible_no_target_syslog": True}
"""Without it a module writes its arguments, and so every secret among them, to the host's journal.

What a module itself says (`AnsibleModule(no_log=True)`) does not count: Ansible overrides it for every task.
"""


def own_keystone(plan: Plan) -> None:
    """Raise PlanError where Keystone is another cloud's."""
    if plan.cloud.external.identity is not None:
        message = "says that Keystone is another cloud's"
        raise PlanError([Problem("brume_external.identity", message, "do this with the inventory of that cloud")])


@dataclass
class Slice:
    """What an action may read: one host's slice, the cloud's part, the project's data, and secrets by name.

    The host is the one in play, also where the task is delegated to another one.
    """

    plan: Plan
    host: Host
    sources: sources.Sources
    renderer: Renderer
    vault: Vault
    revealed: dict[str, str] = field(default_factory=dict, repr=False)
    """Values of secrets that were asked for -> their labels, for redaction."""

    def of_first_controller(self) -> Slice:
        """Return the slice of the host to which others delegate what is the cloud's."""
        plan = self.plan.newest or self.plan
        renderer = self.renderer if plan is self.plan else Renderer(plan, sources.load(), self.renderer.secret)
        host = plan.hosts[plan.cloud.members["control"][0][0]]
        return replace(self, plan=plan, host=host, renderer=renderer, sources=renderer.sources)

    def secret(self, name: str) -> str:
        """Return a secret's value."""
        return self.renderer.secret(name)

    def internal_url(self, service: str) -> str:
        """Return the internal endpoint of a service."""
        found = self.plan.cloud.endpoints
        return next(one.url for one in found if one.service == service and one.interface == "internal")

    def administrator(self) -> dict[str, str]:
        """Return the login of the cloud's administrator, as api_session takes it."""
        auth = {
            "auth_url": self.internal_url("keystone"),
            "username": "admin",
            "password": self.secret(ADMIN_SECRET),
            "project_name": "admin",
            "ca_file": endpoint_ca_file(self.plan.cloud),
        }
        former = self.vault.former(ADMIN_SECRET)
        return auth if former is None else {**auth, "former_password": former}

    def services(self, wave: str, only: str = "") -> list[str]:
        """Return the host's services of a wave (`all` but infrastructure when empty), or only the one named."""
        waves = [wave] if wave else ["identity", "core"]
        names = [name for one in waves for name in self.host.services(one, self.sources.services)]
        return [name for name in names if not only or name == only]

    def data(self) -> dict[str, str]:
        """Return the folders of data on this host, with the unit whose they are."""
        components = {
            one.unit: self.sources.services[one.service].components[one.component] for one in self.host.instances
        }
        return {component.data: unit for unit, component in components.items() if component.data}


class PlanAction(ActionBase):
    """An action whose arguments come from the plan; subclasses give `module` and `arguments`."""

    module = ""
    TRANSFERS_FILES = False

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the module's arguments, or None when there is nothing to do on this host."""
        raise NotImplementedError

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Return variables that the module's execution needs, such as its interpreter."""
        return {}

    def environment_python(self, piece: Slice, service: str) -> dict[str, Any]:
        """Return variables that run the module with the Python of a service's environment.

        In a dry run it is the one that is there: the plan's, else the one in use, else the host's own.
        """
        environment = next(one for one in piece.host.environments if one.service == service)
        if not self._task.check_mode:
            return {"ansible_python_interpreter": f"{environment.path}/bin/python"}
        command = f"ls -d {environment.path}/bin/python {environment.current}/bin/python 2>/dev/null || :"
        execute: Any = self._low_level_execute_command
        there = execute(command)["stdout"].split()
        return {"ansible_python_interpreter": there[0]} if there else {}

    def slice(self, task_vars: Mapping[str, Any]) -> Slice:
        """Return this host's slice of the plan."""
        plan = run.current(task_vars)
        project = sources.load()
        revealed: dict[str, str] = {}
        variables = {
            name: self._templar.template(task_vars[name])
            for name in ("brume_master_key", "brume_secrets")
            if name in task_vars
        }
        vault = run.vault(variables, plan.cloud.generations)

        def secret(name: str) -> str:
            value = vault.value(name)
            revealed[value] = f"<secret {name}>"
            # as some files have to hold it, such as Swift's proxy-server.conf
            revealed[base64.b64encode(value.encode()).decode()] = f"<secret {name} in base64>"
            if name.startswith("ceph/"):
                revealed[ceph.key(value)] = f"<key of {name}>"
            return value

        host = plan.hosts.get(task_vars["inventory_hostname"])
        if host is None:
            host = next(iter(plan.hosts.values()))  # localhost works for the cloud, in the name of its first host
        renderer = Renderer(plan, project, secret).of(host)
        return Slice(renderer.plan, host, renderer.sources, renderer, vault, revealed)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the module with the arguments of the plan."""
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        try:
            piece = self.slice(variables)
            arguments = self.arguments(piece, dict(self._task.args))
        except (PlanError, SecretError) as error:
            return {**result, "failed": True, "msg": str(error)}
        if arguments is None:
            return {**result, "changed": False, "skipped": True, "skip_reason": "the plan has nothing here"}
        own = {**UNLOGGED, **self.task_variables(piece)}
        # Where the task is delegated, the interpreter is looked for among that host's variables alone.
        delegated = {name: {**known, **own} for name, known in variables.get("ansible_delegated_vars", {}).items()}
        outcome: dict[str, Any] = self._execute_module(
            module_name=f"brume.cloud.{self.module}",
            module_args=arguments,
            task_vars={**variables, **own, **({"ansible_delegated_vars": delegated} if delegated else {})},
        )
        outcome.pop("invocation", None)
        return {**result, **outcome}
