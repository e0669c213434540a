"""Tells where Nova would put instances, by the real state of the cloud or by described hosts, and shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import of_scheduling

TAKEN = {"request", "hosts"}


def mistake(args: Mapping[str, Any]) -> str:
    """Return what is wrong with the task's arguments as a whole; the module judges what is in them."""
    unknown = sorted(set(args) - TAKEN)
    if unknown:
        return f"schedule_preview takes no {', '.join(unknown)}; use request and hosts"
    request = args.get("request")
    if not isinstance(request, Mapping) or not request.get("flavor"):
        return (
            "schedule_request is no mapping with a flavor; write "
            '-e \'{"schedule_request": {"flavor": "m1.small", "count": 2}}\''
        )
    return ""


class ActionModule(PlanAction):
    """Takes `request` and, in place of the real hosts, `hosts` of the module; a flavor may be its name alone."""

    module = "schedule_preview"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the request, the scheduler's own options, and the login of the cloud's administrator."""
        request = args.get("request")
        if isinstance(request, Mapping) and isinstance(request.get("flavor"), str):
            request = {**request, "flavor": {"name": request["flavor"]}}
        service = piece.sources.services["nova"]
        tree, _layers = piece.renderer.tree(piece.host, service, service.files["nova.conf"], "")
        common = {"request": request, "configuration": of_scheduling(tree)}
        if args.get("hosts"):
            return {**common, "hosts": args["hosts"]}
        return {
            **common,
            "auth": piece.administrator(),
            "compute_url": piece.internal_url("nova"),
            "placement_url": piece.internal_url("placement"),
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Nova's own Python: it has keystoneauth1."""
        return {} if self._task.args.get("hosts") else self.environment_python(piece, "nova")

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show the table; as a result it would be JSON."""
        wrong = mistake(self._task.args)
        if wrong:
            return {"failed": True, "msg": wrong}
        result: dict[str, Any] = super().run(tmp, task_vars)
        lines = result.pop("table", None)
        if lines:
            self._display.display("\n".join(lines))
        return result
