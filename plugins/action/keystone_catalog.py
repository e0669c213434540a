"""Registers all services in Keystone: users, roles, services and endpoints, in one call and one session."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.external import IDENTITY
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rollout import RECORDS

RECORD = "/var/lib/brume/keystone-passwords.json"

START_RECORD = f"{RECORDS}/{IDENTITY}-api.service.json"
"""Every controller has it; what a bootstrap leaves is on the one alone that was the first at that time."""


class ActionModule(PlanAction):
    """Without arguments, what the plan says; with arguments, those (the login is the cloud's administrator).

    With `retire`, users of earlier generations go instead. With `withdraw`, all that another cloud's Keystone has of
    this region goes: endpoints, users and the region; what the regions have in common stays.
    """

    module = "keystone_catalog"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the catalog of the plan."""
        retire, withdraw = bool(args.pop("retire", False)), bool(args.pop("withdraw", False))
        if withdraw:
            return {"auth": piece.administrator(), "shared": True, "remember": RECORD, **_withdrawn(piece)}
        planned = args or _planned(piece)
        if retire:
            gone = [name for one in piece.plan.cloud.logins for name in one.former]
            planned["users"] = [{"name": name, "domain": "Default", "state": "absent"} for name in gone]
            planned["assignments"] = []
        return {
            "auth": piece.administrator(),
            "remember": RECORD,
            "shared": piece.plan.cloud.external.identity is not None,
            **planned,
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Keystone's own Python, or where it is another cloud's with a service's: both have keystoneauth1."""
        here = [one.service for one in piece.host.environments]
        names = [IDENTITY, *(one.service for one in piece.plan.cloud.logins)]
        return self.environment_python(piece, next(name for name in names if name in here))


def _planned(piece: Slice) -> dict[str, Any]:
    cloud = piece.plan.cloud
    by_service = {one.service: one for one in cloud.endpoints}
    roles = [*(role for one in cloud.logins for role in one.roles), *cloud.roles]
    return {
        **({} if cloud.external.identity else {"bootstrap_record": START_RECORD}),
        "regions": [{"id": cloud.region}],
        "projects": [{"name": "service", "domain": "Default", "description": "Users of the services"}],
        "roles": [{"name": name} for name in dict.fromkeys(roles)],
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


def _withdrawn(piece: Slice) -> dict[str, Any]:
    """Return what is the region's alone, to be deleted. Raises PlanError for a cloud whose Keystone is its own."""
    cloud = piece.plan.cloud
    if cloud.external.identity is None:
        message = "is not said, so that Keystone is this cloud's own and goes with it"
        raise PlanError([Problem("brume_external.identity", message, "remove the hosts instead")])
    gone = {"state": "absent"}
    return {
        "users": [
            {"name": name, "domain": "Default", **gone} for one in cloud.logins for name in (one.name, *one.former)
        ],
        "endpoints": [
            {"service": one.service, "interface": one.interface, "region": cloud.region, "url": one.url, **gone}
            for one in cloud.endpoints
        ],
        "regions": [{"id": cloud.region, **gone}],
    }
