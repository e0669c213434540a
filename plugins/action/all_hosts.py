"""Refuses a run that `--limit` keeps to some hosts, where a playbook needs all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Takes `otherwise`: what a limit would do, and `instead`: what to run without it, where there is more to say.

    Each play that changes something says so itself: a limit may have left those before it without hosts.
    """

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with the playbook's name where the run has a limit; in check mode too."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        spec = {"otherwise": {"type": "str", "required": True}, "instead": {"type": "str", "default": ""}}
        _found, args = self.validate_argument_spec(spec)
        if "ansible_limit" not in (task_vars or {}):
            return {**result, "changed": False}
        playbook = Path(self._task.get_path().rpartition(":")[0]).name
        remedy = f"run it without{'; ' * bool(args['instead'])}{args['instead']}"
        message = f"`--limit` is not for {playbook}: it {args['otherwise']}\n  next: {remedy}"
        return {**result, "failed": True, "msg": message}
