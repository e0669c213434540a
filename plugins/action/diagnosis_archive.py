"""Makes the folder in which a diagnosis is collected, and in the end one archive of it on the deploy host."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils import diagnosis
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write

CHECKOUT = Path(__file__).resolve().parents[2]


def default_path(sources: list[str], now: float) -> Path:
    """Return `.lab/<inventory>/diagnosis-<time>.tar.gz` of the checkout, by the first source of the inventory."""
    first = Path(sources[0]) if sources else Path("inventory")
    folder = first if first.is_dir() else first.parent
    return CHECKOUT / ".lab" / folder.resolve().name / diagnosis.file_name(now)


class ActionModule(ActionBase):
    """Takes `path` (empty for the default) to begin, and `archive` and `directory`, as returned, to end.

    It works in the controller process and asks no host.
    """

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Begin or end. In check mode nothing is written."""
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        args = self._task.args
        if "archive" not in args:
            given = str(args.get("path") or "")
            sources = list(variables.get("ansible_inventory_sources") or [])
            path = Path(given).expanduser().absolute() if given else default_path(sources, time.time())
            if self._task.check_mode:
                return {**result, "changed": False, "archive": str(path), "directory": ""}
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = tempfile.mkdtemp(prefix=diagnosis.folder_prefix(path), dir=path.parent)  # 0700
            return {**result, "changed": False, "archive": str(path), "directory": made}
        path = Path(args["archive"])
        actions = [f"write {path}"]
        if self._task.check_mode:
            return {**result, "changed": True, "actions": actions}
        directory = Path(str(args["directory"]))
        if not diagnosis.is_own_folder(directory, path):
            problem = f"directory: `{directory}` was not made by this action for {path}; hand on what it returned"
            return {**result, "failed": True, "msg": problem}
        try:
            hosts = list(variables["ansible_play_hosts_all"])
            found = {}
            for host in hosts:
                figures = directory / host / "figures.json"
                if figures.exists():
                    found[host] = diagnosis.Collected(**json.loads(figures.read_text(encoding="utf-8")))
            lines = diagnosis.table(hosts, found)
            diagnosis.store(directory, {"summary.txt": "\n".join(lines) + "\n"})
            atomic_write(str(path), diagnosis.pack(directory, path.name.removesuffix(".tar.gz")), 0o600)
        finally:
            shutil.rmtree(directory)
        self._display.display("\n".join([*lines, "", f"Archive: {path}"]))
        return {**result, "changed": True, "actions": actions}
