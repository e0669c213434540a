"""Computes the plan once per run, before the first task, and measures how long each phase takes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.brume.cloud.plugins.module_utils import run

DOCUMENTATION = r"""
name: phases
type: aggregate
short_description: Plan once, time per phase
description:
  - Computes the plan in the controller process, so that all workers inherit it.
  - Prints the wall-clock seconds of each play at the end.
  - Where the environment variable BRUME_PHASES_FILE names a file, the seconds are appended to its JSON list.
requirements:
  - Enabled by C(callbacks_enabled = brume.cloud.phases) in ansible.cfg.
"""


class CallbackModule(CallbackBase):
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "brume.cloud.phases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Start with no phase."""
        super().__init__()
        self._phases: list[tuple[str, float]] = []
        self._planned = False

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Begin the run."""
        run.begin(playbook._file_name)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Plan at the first play; note when each play began."""
        manager = play.get_variable_manager()
        if not self._planned:
            self._planned = True
            run.prepare(manager._inventory, play.get_loader(), manager)
        self._phases.append((play.get_name().strip(), time.monotonic()))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print and keep the seconds of each phase."""
        ends = [start for _name, start in self._phases[1:]] + [time.monotonic()]
        timed = [(name, end - start) for (name, start), end in zip(self._phases, ends, strict=True)]
        if not timed:
            return
        width = max(len(name) for name, _seconds in timed)
        lines = [f"{name:<{width}}  {seconds:7.1f} s" for name, seconds in timed]
        total = sum(seconds for _name, seconds in timed)
        self._display.display("\n".join(["", "TIME PER PHASE", *lines, f"{'total':<{width}}  {total:7.1f} s"]))
        target = os.environ.get("BRUME_PHASES_FILE")
        if target:
            path = Path(target)
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            known += [{"phase": name, "seconds": round(seconds, 1)} for name, seconds in timed]
            path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
