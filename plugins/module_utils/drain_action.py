"""What the actions that drain hosts have in common: the module in short calls, so that a long drain is not silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import run
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

WITHIN = 20.0
"""Seconds between two looks of the person who waits."""


def mistake(args: Mapping[str, Any], plan: Plan) -> str:
    """Return what is wrong with the hosts that the task names; Nova and Neutron judge whether they know them."""
    hosts = args.get("hosts")
    if not isinstance(hosts, list) or not hosts or not all(isinstance(one, str) and one for one in hosts):
        return """drain_hosts: is no list of hosts\n  next: write -e '{"drain_hosts": ["compute1"]}'"""
    others = {name for group in ("compute", "network") for name, _address in plan.cloud.members[group]}
    controllers = {name for name, _address in plan.cloud.members["control"]} - others
    wrong = [name for name in hosts if name in controllers]
    if not wrong:
        return ""
    return (
        f"drain_hosts: {', '.join(wrong)}: controllers have no instances, networks or routers\n"
        "  next: leave them out; roll-outs take their APIs from the load balancer by themselves"
    )


class DrainAction(PlanAction):
    """Takes `hosts`, `state` and `accept_stuck`. Calls the module until it is done, and shows what has ended."""

    resume: Mapping[str, Any] | None = None

    def slice(self, task_vars: Mapping[str, Any]) -> Slice:
        """Return the slice of the host that works, also where the host in play is one that is drained."""
        return super().slice(task_vars).of_first_controller()

    def common(self, piece: Slice, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that both modules have."""
        return {
            "auth": piece.administrator(),
            "network_url": piece.internal_url("neutron"),
            "hosts": args["hosts"],
            "state": args.get("state", "drained"),
            "accept_stuck": args.get("accept_stuck", False),
            "within": WITHIN,
            "resume": self.resume,
        }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the first call said of all changes, and how the last one ended."""
        try:
            wrong = mistake(self._task.args, run.current(task_vars or {}))
        except PlanError as error:
            wrong = str(error)
        if wrong:
            return {"failed": True, "msg": wrong}
        first: dict[str, Any] = super().run(tmp, task_vars)
        last = first
        while True:
            for line in last.pop("lines", ()):
                self._display.display(f"  {line}")
            if last.get("failed") or last.get("done", True):
                break
            self.resume = last.pop("resume")
            last = super().run(tmp, task_vars)
        if last.get("failed"):
            return {**first, **last}
        return {**first, "done": True}
