"""Ends rows that services have marked as deleted, and shows how far it is."""

from __future__ import annotations

from functools import partial
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.drain_action import WITHIN
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes nothing; `cleanup_kinds` chooses. Calls the module until it is done, so that long work is not silent."""

    module = "deleted_records"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the services of this host that describe how their rows end."""
        services: list[dict[str, Any]] = []
        if "records" not in piece.host.variables["cleanup_kinds"]:
            return None
        for one in piece.host.environments:
            cleanup = piece.sources.services[one.service].cleanup
            databases = [entry.name for entry in piece.plan.cloud.databases if entry.service == one.service]
            if cleanup is None or not databases:
                continue
            services.append(
                {
                    "name": one.service,
                    "user": one.service,
                    "environment": one.path,
                    "databases": {name: piece.renderer.database_url(name) for name in databases},
                    "keeps": list(cleanup.keeps),
                    "commands": [{"run": list(it.words), "success": list(it.success)} for it in cleanup.commands],
                }
            )
        if not services:
            return None
        return {
            "services": services,
            "days": piece.host.variables["cleanup_record_days"],
            "within": WITHIN,
            "redactions": piece.revealed,
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with the Python of the first of those services: it has SQLAlchemy."""
        service = next(one.service for one in piece.host.environments if piece.sources.services[one.service].cleanup)
        return self.environment_python(piece, service)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the first call found, and what is left after the last one."""
        call = partial(super().run, tmp, task_vars)
        first: dict[str, Any] = call()
        last = first
        while not last.get("failed") and not last.get("done", True):
            for name, rows in last["rows"].items():
                if rows["left"]:
                    self._display.display(f"  {name}: {rows['left']} of {first['rows'][name]['found']} rows are left")
            last = call()
        if last.get("failed") or "rows" not in last:
            return {**first, **last}
        left = [
            f"records of {name}: {many} rows of {table} stay after its commands"
            for name, rows in last["rows"].items()
            for table, many in ({} if self._task.check_mode else rows["tables"]).items()
        ]
        found = sum(rows["found"] for rows in first["rows"].values())
        stay = sum(rows["left"] for rows in last["rows"].values())
        first["kinds"] = {"records": {"found": found, "removed": found - stay, "left": left}}
        return first
