"""Asks which broker the cloud has, where this run has not seen it yet."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.action.message_vhosts import members_said
from ansible_collections.brume.cloud.plugins.module_utils import messaging
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `wave` and `required`. To be delegated to the first messaging host, which a limit may leave out.

    A broker that somebody else runs is not asked: its accounts need not see what it calls itself.
    """

    module = "message_broker"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the module's arguments, where the cloud has a broker of its own and the wave may use it."""
        if args.get("wave") == "infrastructure" or piece.plan.cloud.external.messaging is not None:
            return None
        return {"required": bool(args.get("required"))}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the run has seen when it made the accounts, without another look, which takes a second."""
        known = task_vars or {}
        for name in known["groups"].get("messaging", ()):
            seen = (known["hostvars"][name].get("__phase_messaging_result") or {}).get("broker")
            if seen:
                return {"changed": False, "broker": seen}
        outcome = super().run(tmp, task_vars)
        if outcome.get("broker") == messaging.UNBORN and messaging.joins(members_said(known)):
            outcome["broker"] = ""
        return outcome
