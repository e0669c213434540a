"""Computes the plan once per run, before the first task, and records how long each phase takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.brume.cloud.plugins.module_utils import run
from ansible_collections.brume.cloud.plugins.module_utils.description import GROUPS, WAVES
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError
from ansible_collections.brume.cloud.plugins.module_utils.progress import PhaseClock

DOCUMENTATION = r"""
name: phases
type: aggregate
short_description: Plan once, record the time per phase
description:
  - Computes the plan in the controller process, so that all workers inherit it.
  - Makes the groups C(brume_pending_<wave>), to which the first stage of a roll-out adds the hosts with something to
    replace, and C(brume_updated) for those that get newer packages, and those groups of a cloud that the inventory has
    no hosts for. They are empty at first; Ansible warns of groups in patterns that it does not know.
  - Where the environment variable BRUME_PHASES_FILE names a file, the wall-clock seconds of each play are appended to
    its JSON list. What a person sees of a run is the business of P(brume.cloud.progress#callback).
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
        self._phases = PhaseClock()
        self._planned = False

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Begin the run."""
        run.begin(playbook._file_name)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Note when each play began; plan at the first."""
        self._phases.start(play._uuid, play.get_name().strip())
        if not self._planned:
            self._planned = True
            manager = play.get_variable_manager()
            try:
                run.prepare(manager._inventory, play.get_loader(), manager)
                for group in (*(f"brume_pending_{wave}" for wave in WAVES), "brume_updated", *GROUPS):
                    manager._inventory.add_group(group)
            except PlanError as error:
                # Ansible would stop at the first of the files, at the first task that reads it.
                self._display.error(str(error), wrap_text=False)
                raise SystemExit(1) from None

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Append the seconds of each phase to the record, if there shall be one."""
        timed, self._phases = self._phases.times(), PhaseClock()
        target = os.environ.get("BRUME_PHASES_FILE")
        if target and timed:
            path = Path(target)
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            known += [{"phase": name, "seconds": round(seconds, 1)} for name, seconds in timed]
            path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
