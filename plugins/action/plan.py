"""Checks the inventory and shows the plan, without asking any host."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils import plan_text, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer


class ActionModule(ActionBase):
    """Takes `show`: nothing (check only), `summary`, `explain`, `render` or `json`; `path` for the last.

    What is shown goes straight to the screen: as a result it would be JSON.
    """

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show what was asked for; fails with every mistake of the inventory."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        show = self._task.args.get("show", "")
        try:
            plan = run.current(task_vars or {})
            project = sources.load()
            renderer = Renderer(plan, project, run.placeholder_vault().value)
            if show == "summary":
                result["lines"] = plan_text.summary(plan)
            elif show == "explain":
                result["lines"] = plan_text.explain(plan, renderer)
            elif show == "render":
                start = time.monotonic()
                count, size = plan_text.render_all(plan, renderer)
                seconds = time.monotonic() - start
                result["lines"] = [
                    f"{len(plan.hosts)} hosts, {count} files and units, {size / 1024**2:.1f} MiB, rendered in "
                    f"{seconds:.1f} s"
                ]
            elif show == "json":
                Path(self._task.args["path"]).write_text(
                    json.dumps(plan_text.data(plan, renderer), indent=1) + "\n", encoding="utf-8"
                )
                result["lines"] = [f"written: {self._task.args['path']}"]
            if "lines" in result:
                self._display.display("\n".join(result.pop("lines")))
            for warning in plan.warnings:
                self._display.warning(warning)
        except PlanError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False}
