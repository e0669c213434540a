"""Makes the vhosts and accounts of all services, in one call on a messaging host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import messaging, operating_system
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


def members_said(known: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what brokers have said before they were started, in this run."""
    return [known["hostvars"][name].get("__rabbitmq_member") or {} for name in known["groups"].get("messaging", ())]


class ActionModule(PlanAction):
    """Takes `service` to treat one service only, and `retire` to delete the accounts of earlier generations."""

    module = "message_vhosts"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return every vhost with its one account; RabbitMQ's own `guest` goes."""
        retire = bool(args.get("retire"))
        members = piece.plan.cloud.members["messaging"]
        return {
            "spare_used": retire,
            "nodes": [f"rabbit@{name}" for name, _address in members] if len(members) > 1 else [],
            "vhosts": [
                {
                    "name": one.name,
                    "accounts": [
                        {"name": one.account, "password": piece.secret(one.secret)},
                        *({"name": name, "state": "absent"} for name in one.former if retire),
                    ],
                }
                for one in piece.plan.cloud.vhosts
                if args.get("service", one.service) in ("", one.service)
            ],
            "absent_accounts": ["guest"],
        }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make them; where the broker is a new one, say whom a limit leaves with what they know of the one before."""
        outcome = super().run(tmp, task_vars)
        known = task_vars or {}
        if outcome.get("broker") == messaging.UNBORN and messaging.joins(members_said(known)):
            # A dry run of a member that comes back empty: it will be the broker that the others are.
            outcome |= {"broker": "", "anew": False}
        if outcome.get("anew") and "ansible_limit" in known:
            hosts = operating_system.names(list(self.slice(known).renderer.speakers()))
            outcome["warnings"] = [
                *outcome.get("warnings", []),
                f"the broker is a new one, and this run has a limit ({known['ansible_limit']}): of {hosts}, those that "
                "it leaves out go on with what they know of a broker before, if there was one\n"
                "  next: site.yml without a limit starts anew what speaks to it",
            ]
        return outcome
