"""Makes the databases and accounts of all services, in one call on a database host."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `service` to treat one service only, and `retire` to drop the accounts of earlier generations."""

    module = "service_databases"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return every database with its one account."""
        retire = bool(args.get("retire"))
        return {
            "spare_used": retire,
            "databases": [
                {
                    "name": one.name,
                    "accounts": [
                        {"name": one.account, "password": piece.secret(one.secret), "require_ssl": True},
                        *({"name": name, "state": "absent"} for name in one.former if retire),
                    ],
                }
                for one in piece.plan.cloud.databases
                if args.get("service", one.service) in ("", one.service)
            ]
        }
