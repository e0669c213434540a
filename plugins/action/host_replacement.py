"""Checks which hosts are to be replaced, and afterwards that clusters are whole again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.action.host_removal import members_of, members_said
from ansible_collections.brume.cloud.plugins.module_utils import membership
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

EXAMPLE = """playbooks/replace.yml -e '{"replace_hosts": ["controller2"]}'"""


class ActionModule(PlanAction):
    """Takes `hosts`, names of hosts; or `complete: true`, to look at what the role cluster_members has asked.

    With `alone: true` only what the host in play sees of its clusters counts. Where a member of its own does not run,
    and its unit is in `stopped` (a run that was cut off has stopped it), the others must be whole, as far as they were
    asked.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with everything that is wrong; change nothing."""
        known = task_vars or {}
        piece = self.slice(known)
        if self._task.args.get("complete"):
            said = members_said(known["hostvars"], list(piece.plan.hosts))
            asked = [piece.host.name] if self._task.args.get("alone") else None
            away = stopped_members(piece, said, self._task.args.get("stopped") or [])
            found = membership.incomplete(members_of(piece, {}, []), said, asked, away)
            remedy = "  next: `journalctl -u mariadb -u rabbitmq-server` there, then `site.yml`"
        else:
            found = mistakes(self._task.args.get("hosts"), piece.plan)
            remedy = f"  next: {EXAMPLE}"
        return {"changed": False, **({"failed": True, "msg": "\n".join([*found, remedy])} if found else {})}


def stopped_members(piece: Slice, said: Mapping[str, Mapping[str, Any]], stopped: Sequence[str]) -> dict[str, str]:
    """Return kind -> the host, for its members that do not run and whose units are in `stopped`."""
    services = {
        one.service
        for one in piece.host.instances
        if one.unit in stopped and piece.sources.services[one.service].components[one.component].data
    }
    found = {}
    for kind in services & set(said):
        own = said[kind].get(piece.host.name)
        if own and not all(one["active"] for one in (own.values() if kind == "ovn" else [own])):
            found[kind] = piece.host.name
    return found


def mistakes(names: Any, plan: Plan) -> list[str]:
    """Return what is wrong with the names of hosts to replace."""
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return ["replace_hosts: is no list of hosts"]
    removed = [name for name in names if name in plan.cloud.removed]
    unknown = [name for name in names if name not in plan.hosts and name not in removed]
    found = [f"replace_hosts: {name} is in the group `removed`; move it back to its groups" for name in removed]
    found += [f"replace_hosts: {name} is no host of the plan; known are {', '.join(plan.hosts)}" for name in unknown]
    for group in ("control", "database", "messaging"):
        members = [name for name, _address in plan.cloud.members[group]]
        if members and set(members) <= set(names):
            found.append(
                f"replace_hosts: no host of the group `{group}` would stay ({', '.join(members)}), and nobody else has "
                "what they held; restore it from a backup"
            )
    return found
