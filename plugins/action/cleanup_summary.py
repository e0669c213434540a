"""Says, by kind, how many orphans a run of cleanup.yml has found and removed, and what stays and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction

REGISTERED = ("__cleanup_cloud", "__cleanup_records", "__cleanup_host")


class ActionModule(PlanAction):
    """Takes nothing; reads what the tasks before have registered on any host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show the lines."""
        lines = summary((task_vars or {})["hostvars"], check_mode=bool(self._task.check_mode))
        self._display.display("\n".join(lines))
        return {"changed": False, "summary": lines}


def summary(hostvars: Mapping[str, Mapping[str, Any]], *, check_mode: bool) -> list[str]:
    """Return a line for each kind that was looked for, and one for each thing that stays."""
    totals: dict[str, list[int]] = {}
    left = []
    for host, known in ((name, hostvars[name]) for name in hostvars):
        for kind, said in (pair for name in REGISTERED for pair in (known.get(name) or {}).get("kinds", {}).items()):
            total = totals.setdefault(kind, [0, 0, 0])
            for place, number in enumerate((said["found"], said["removed"], len(said["left"]))):
                total[place] += number
            left += [f"  stays, {kind} ({host}): {reason}" for reason in said["left"]]
    verb = "would be removed" if check_mode else "removed"
    return [
        f"{kind}: {found} found, {found - stay if check_mode else removed} {verb}"
        for kind, (found, removed, stay) in totals.items()
    ] + left
