"""Registers all services in Keystone: users, roles, services and endpoints, in one call and one session."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import CA_FILE
from ansible_collections.brume.cloud.plugins.module_utils.secrets import ADMIN_SECRET


class ActionModule(PlanAction):
    """Without arguments, what the plan says; with arguments, those (the login is the cloud's administrator)."""

    module = "keystone_catalog"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the catalog of the plan."""
        auth = {
            "auth_url": next(
                one.url
                for one in piece.plan.cloud.endpoints
                if one.service == "keystone" and one.interface == "internal"
            ),
            "username": "admin",
            "password": piece.secret(ADMIN_SECRET),
            "project_name": "admin",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "ca_file": CA_FILE,
        }
        return {"auth": auth, **(args or _planned(piece))}

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Keystone's own Python: it has keystoneauth1."""
        path = next(one.path for one in piece.host.environments if one.service == "keystone")
        return {"ansible_python_interpreter": f"{path}/bin/python"}


def _planned(piece: Slice) -> dict[str, Any]:
    cloud = piece.plan.cloud
    by_service = {one.service: one for one in cloud.endpoints}
    return {
        "regions": [{"id": cloud.region}],
        "projects": [{"name": "service", "domain": "Default", "description": "Users of the services"}],
        "roles": [{"name": name} for name in dict.fromkeys(role for one in cloud.logins for role in one.roles)],
        "users": [
            {
                "name": one.name,
                "domain": "Default",
                "password": piece.secret(one.secret),
                "description": f"Service user of {one.service}",
            }
            for one in cloud.logins
        ],
        "assignments": [
            {
                "user": one.name,
                "user_domain": "Default",
                "project": "service",
                "project_domain": "Default",
                "role": role,
            }
            for one in cloud.logins
            for role in one.roles
        ],
        "services": [
            {"name": one.service, "type": one.type, "description": one.description} for one in by_service.values()
        ],
        "endpoints": [
            {"service": one.service, "interface": one.interface, "region": cloud.region, "url": one.url}
            for one in cloud.endpoints
        ],
    }
