"""Keeps what every task said it changed, for tools that compare a dry run with a run."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: record
type: aggregate
short_description: Keep every task's changes in a file
description:
  - Where the environment variable BRUME_RECORD_FILE names a file, one line of JSON is appended to it for every result
    of a task on a host - play, task, action, host, C(changed), C(actions) and C(diff), in a loop those of all its
    items. Without it, nothing is done.
  - Nothing is kept while the file's folder does not exist.
  - What a task hides (C(no_log)) is left out of results before they come here.
requirements:
  - Enabled by C(callbacks_enabled = brume.cloud.record) in ansible.cfg.
"""


class CallbackModule(CallbackBase):
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "brume.cloud.record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Find out whether anything is to be kept."""
        super().__init__()
        self._path = os.environ.get("BRUME_RECORD_FILE", "")
        self._play = ""
        if not self._path:
            self.disabled = True

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember which play is on."""
        self._play = play.get_name().strip()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep a result."""
        if not os.path.isdir(os.path.dirname(os.path.abspath(self._path))):
            return  # before a lab is made, and after it was removed
        found: dict[str, Any] = result.result
        parts = found["results"] if result.task.loop is not None and "results" in found else [found]
        diffs = [part.get("diff") or [] for part in parts]
        line = {
            "play": self._play,
            "task": result.task.get_name().strip(),
            "action": str(result.task.resolved_action or result.task.action),
            "host": result.host.get_name(),
            "changed": bool(found.get("changed", False)),
            "actions": [str(one) for part in parts for one in part.get("actions") or ()],
            "diff": [one for diff in diffs for one in (diff if isinstance(diff, list) else [diff])],
        }
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, default=str) + "\n")
