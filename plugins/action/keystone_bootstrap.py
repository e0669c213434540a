"""Makes Keystone's first administrator, project, roles and endpoints through its Python API."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice, own_keystone
from ansible_collections.brume.cloud.plugins.module_utils.secrets import ADMIN_SECRET


class ActionModule(PlanAction):
    """Takes no arguments of its own."""

    module = "keystone_bootstrap"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the administrator and the catalog entry of Keystone itself."""
        own_keystone(piece.plan)
        urls = {one.interface: one.url for one in piece.plan.cloud.endpoints if one.service == "keystone"}
        return {
            "environment": next(one.path for one in piece.host.environments if one.service == "keystone"),
            "config_file": "/etc/keystone/keystone.conf",
            "user": "keystone",
            "admin_username": "admin",
            "admin_password": piece.secret(ADMIN_SECRET),
            "project_name": "admin",
            "role_name": "admin",
            "service_name": "keystone",
            "region": piece.plan.cloud.region,
            "public_url": urls["public"],
            "internal_url": urls["internal"],
        }
