"""Appends what a run does to its report, and writes the report at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.brume.cloud.plugins.module_utils import run_report
from ansible_collections.brume.cloud.plugins.module_utils.run_lines import Lines

DOCUMENTATION = r"""
name: report
type: aggregate
short_description: Keep when plays, tasks and hosts began and ended, and write the run's report
description:
  - From the first task with the action P(brume.cloud.run_report#module) on, one line of JSON is appended to its file
    for the begin of each play and task, and for the begin and the end of each task on each host. Without such a task
    nothing is done.
  - At the end of the run, also of one that failed, the report's HTML is written beside that file.
  - A file that cannot be written is a warning and stops no run.
requirements:
  - Enabled by C(callbacks_enabled = brume.cloud.report) in ansible.cfg.
"""

BEGINS = "brume.cloud.run_report"
"""The action whose result says where the report is."""


class CallbackModule(CallbackBase):
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "brume.cloud.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Start without a report."""
        super().__init__()
        self._path: Path | None = None
        self._lines: Lines | None = None
        self._play_key = ""
        self._play: dict[str, Any] = {"play": 0, "name": ""}
        self._tasks: dict[str, int] = {}
        self._number = 0

    def _write(self, event: str, **values: Any) -> None:
        """Append a line, if there is a report."""
        if self._lines is not None:
            try:
                self._lines.write(event, **values)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._display.warning(f"the report ends here: {self._path}: {error.strerror}")
        self._lines = self._path = None

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Note a play; one that goes over its hosts in batches is one."""
        if play._uuid != self._play_key:
            self._play_key = play._uuid
            self._play = {"play": self._play["play"] + 1, "name": play.get_name().strip()}
            self._write("play", **self._play)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Note a task."""
        self._number += 1
        self._tasks[task._uuid] = self._number
        self._write("task", task=self._number, name=task.get_name().strip())

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Note a handler."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Note that a host begins a task."""
        self._write("begin", host=host.get_name(), task=self._tasks.get(task._uuid, 0))

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note that a host has ended a task; begin the report when it is the one that says where."""
        if str(result.task.resolved_action or result.task.action) == BEGINS and not result.task.check_mode:
            self._begin(Path(result.result["report"]))
        self._ended(result, "changed" if result.result.get("changed") else "ok")

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Note that a host had nothing to do."""
        self._ended(result, "skipped")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Note that a host has failed."""
        self._ended(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note that a host does not answer."""
        self._ended(result, "ignored" if result.task.ignore_unreachable else "unreachable")

    def _ended(self, result: Any, outcome: str) -> None:
        number = self._tasks.get(result.task._uuid, 0)
        self._write("end", host=result.host.get_name(), task=number, outcome=outcome)

    def _begin(self, path: Path) -> None:
        self._path = path
        try:
            self._lines = Lines(path)
        except OSError as error:
            self._give_up(error)
        self._write("play", **self._play)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the report."""
        self._write("run end", failed=sorted({*stats.failures, *stats.dark}))
        if self._path is not None:
            try:
                self._display.display(f"Report: {run_report.write(self._path)}")
            except OSError as error:
                self._give_up(error)
