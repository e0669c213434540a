"""Checks the inventory and shows the plan, without asking any host."""

from __future__ import annotations

import datetime
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils import (
    certificates,
    diagram,
    plan_text,
    public_certificate,
    run,
    sources,
)
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import PRIVATE, place
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, said_at
from ansible_collections.brume.cloud.plugins.module_utils.public_certificate import PublicCertificate
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer


class ActionModule(ActionBase):
    """Takes `show`: nothing (check only), `summary`, `explain`, `render`, `json` or `diagram`; `path` for the last two.

    Returns the cloud's `release`. With `one_release`, hosts that stay with another one are a mistake.
    What is shown goes straight to the screen: as a result it would be JSON. With `master_key: optional`, a missing one
    is a warning, because a plan needs none.
    """

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show what was asked for; fails with every mistake of the inventory."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        show = self._task.args.get("show", "")
        try:
            plan = run.current(task_vars or {}) if show else self._checked(task_vars or {})
            if self._task.args.get("one_release"):
                self._refuse_former(plan)
            project = sources.load()
            renderer = Renderer(plan, project, run.placeholder_vault().value)
            if show == "summary":
                result["lines"] = plan_text.summary(plan)
            elif show == "explain":
                result["lines"] = plan_text.explain(plan, renderer)
            elif show == "render":
                start = time.monotonic()
                count, size = plan_text.render_all(plan, renderer)
                seconds = time.monotonic() - start
                result["lines"] = [
                    f"{len(plan.hosts)} hosts, {count} files and units, {size / 1024**2:.1f} MiB, rendered in "
                    f"{seconds:.1f} s"
                ]
            elif show == "json":
                Path(self._task.args["path"]).write_text(
                    json.dumps(plan_text.data(plan, renderer), indent=1) + "\n", encoding="utf-8"
                )
                result["lines"] = [f"written: {self._task.args['path']}"]
            elif show == "diagram":
                Path(self._task.args["path"]).write_text(diagram.svg(plan, plan.services), encoding="utf-8")
                result["lines"] = [f"written: {self._task.args['path']}"]
            if "lines" in result:
                self._display.display("\n".join(result.pop("lines")))
        except PlanError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False, "release": plan.cloud.release}

    @staticmethod
    def _refuse_former(plan: Plan) -> None:
        """Raise PlanError, naming the hosts that stay with the release before the cloud's."""
        problems = [
            Problem(said_at(host.layers, "brume_release"), f"leaves {host.name} at {host.release}", "upgrade it first")
            for host in plan.hosts.values()
            if host.release != plan.cloud.release
        ]
        if problems:
            raise PlanError(problems)

    @staticmethod
    def _placed(problem: Problem, task_vars: dict[str, Any]) -> Problem:
        """Return a problem of a private variable with the file and line that say the variable."""
        file = place(task_vars.get(problem.where.split(".")[0]), "")
        return replace(problem, where=f"{file}: {problem.where}") if file else problem

    def _public_certificate(self, plan: Plan | None, task_vars: dict[str, Any]) -> PublicCertificate | None:
        """Return the operator's certificate; of an inventory that cannot be planned, what can be read of it."""
        if plan is not None:
            return plan.cloud.public_certificate
        try:
            said = {name: self._templar.template(task_vars.get(name)) for name in public_certificate.VARIABLES}
        except AnsibleError:
            return None  # the plan's error says so
        return public_certificate.read(said)[0]

    def _checked(self, task_vars: dict[str, Any]) -> Plan:
        """Return the plan after checking all that needs no host; raises PlanError with every mistake."""
        plan, problems = None, []
        try:
            plan = run.current(task_vars)
        except PlanError as error:
            problems += error.problems
        variables = {}
        for name in PRIVATE:
            try:
                variables[name] = self._templar.template(task_vars.get(name))
            except AnsibleError as error:
                message = f"cannot be read ({' '.join(str(error).split())})"
                remedy = "correct the lookup, or give Ansible the vault's password"
                problems.append(self._placed(Problem(name, message, remedy), task_vars))
        now = datetime.datetime.now(datetime.UTC)
        given = self._public_certificate(plan, task_vars)
        ended, ending = public_certificate.time_problems(given, now) if given is not None else ([], [])
        problems += [self._placed(one, task_vars) for one in ended]
        found = [one for one in run.secret_problems(variables, plan) if one.where.split(".")[0] in variables]
        found += public_certificate.key_problems(given, variables.get("brume_secrets"))
        found = [self._placed(one, task_vars) for one in found]
        if self._task.args.get("master_key") == "optional" and not task_vars.get("brume_master_key"):
            for one in found:
                self._display.warning(f"{one} (needed from site.yml on)")
            found = []
        problems += found
        wrong = certificates.clock_fault(now)
        if wrong:
            problems.append(Problem("the clock of this machine", wrong, "set the clock"))
        if plan is None or problems:
            raise PlanError(problems)
        for warning in [*plan.warnings, *ending]:
            self._display.warning(warning)
        return plan
