"""Makes the host's system users, groups and memberships."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import HEADER, TLS_GROUP


class ActionModule(PlanAction):
    """Takes no arguments of its own."""

    module = "system_users"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the users of the host's slice."""
        return {
            "header": HEADER,
            "groups": [TLS_GROUP],
            "users": [
                {
                    "name": user.name,
                    "home": user.home,
                    "groups": list(user.groups),
                    "create": user.create,
                    "shell": user.shell,
                }
                for user in piece.host.users
            ],
        }
