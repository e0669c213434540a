"""Checks which hosts are to be rebooted, and from when on a start of a host counts as the wanted one."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.action.host_removal import members_of
from ansible_collections.brume.cloud.plugins.module_utils import membership
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class ActionModule(PlanAction):
    """Takes `hosts` (all where it is empty), `since` (now unless given) and `in_place`.

    Returns `hosts` in the plan's order, and `since` in seconds since 1970.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with everything that is wrong; change nothing."""
        known, args = task_vars or {}, self._task.args
        piece = self.slice(known)
        names = args.get("hosts") or list(piece.plan.hosts)
        found = mistakes(names, piece, known["hostvars"], in_place=bool(args.get("in_place")))
        said = str(args.get("since") or datetime.datetime.now(datetime.UTC).strftime(FORMAT))
        try:
            since = datetime.datetime.strptime(said, FORMAT).replace(tzinfo=datetime.UTC).timestamp()
        except ValueError:
            found.append(f"reboot_since: `{said}` is no time\n  next: write it as 2026-01-31T23:59:59Z, in UTC")
        if found:
            return {"changed": False, "failed": True, "msg": "\n".join(found)}
        chosen = [name for name in piece.plan.hosts if name in names]
        self._display.display(
            f"reboots {', '.join(chosen)}\nif this run is cut off, go on with the same and -e reboot_since={said}"
        )
        return {"changed": False, "hosts": chosen, "since": int(since)}


def mistakes(names: Any, piece: Slice, hostvars: Mapping[str, Mapping[str, Any]], *, in_place: bool) -> list[str]:
    """Return why the hosts cannot be rebooted one after the other, each with the next step."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ["""reboot_hosts: is no list of hosts\n  next: write -e '{"reboot_hosts": ["compute1"]}'"""]
    found = []
    members = members_of(piece, {}, [])
    for name in names:
        if name not in piece.plan.hosts:
            known = ", ".join(piece.plan.hosts)
            found.append(f"reboot_hosts: {name} is no host of the plan; known are {known}\n  next: correct the name")
            continue
        if hostvars[name].get("ansible_connection") == "local":
            found.append(f"{name}: the run is on it, and would end with it\n  next: reboot it by hand, run start.yml")
        for one in () if in_place else membership.lost_without(members, name):
            found.append(f"{name}: {one}\n  next: -e reboot_in_place=true accepts that until it is back")
    return found
