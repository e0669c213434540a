"""Begins the report of a run; the callback `report` hears of it, appends what the run does and writes the HTML."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils import run_lines, run_report

SPEC: dict[str, Any] = {
    "folder": {"type": "path", "required": True},
    "name": {"type": "str", "required": True},
    "what": {"type": "str", "required": True},
    "facts": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):
    """See the documentation of the module run_report."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the first line of a new report."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        _validation, args = self.validate_argument_spec(SPEC)
        if args["name"] != Path(args["name"]).name:
            return {**result, "failed": True, "msg": f"name: `{args['name']}` is no name of a file without a folder"}
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = Path(args["folder"]).absolute() / f"{args['name']}-{stamp}.jsonl"
        places = {"report": str(path), "html": str(run_report.page(path))}
        if self._task.check_mode:
            return {**result, **places, "msg": "a dry run writes no report"}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = run_lines.Lines(path)
            lines.write("report", what=args["what"], facts=run_lines.facts(args["facts"]))
            lines.close()
        except OSError as error:
            return {**result, "failed": True, "msg": f"folder: {path.parent}: {error.strerror}; give another one"}
        return {**result, **places}
