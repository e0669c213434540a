"""Finds members of a broker's cluster that came back empty, and lets one that runs forget them."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `forget`: whether it is the second look, when every member has said what its `__rabbitmq_member` holds."""

    module = "rabbitmq_member"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the module's arguments, where there are several members and something is to be done."""
        names = [name for name, _address in piece.plan.cloud.members["messaging"]]
        if len(names) == 1:
            return None
        data = f"/var/lib/rabbitmq/mnesia/rabbit@{piece.host.name}"
        if not args.get("forget"):
            return {"data": data}
        running = [name for name in names if self.said.get(name, {}).get("active")]
        empty = [name for name in names if self.said.get(name) == {"active": False, "empty": True}]
        if not empty or running[:1] != [piece.host.name]:
            return None
        return {"data": data, "forget": [f"rabbit@{name}" for name in empty]}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Keep what the members have said."""
        known = task_vars or {}
        answers = {name: known["hostvars"][name].get("__rabbitmq_member") for name in known["ansible_play_hosts"]}
        self.said: dict[str, dict[str, Any]] = {
            name: answer["member"] for name, answer in answers.items() if answer and "member" in answer
        }
        return super().run(tmp, task_vars)
