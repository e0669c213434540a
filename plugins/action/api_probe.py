"""Starts and ends the process that calls a cloud's APIs while a run goes on, see `module_utils/run_watch.py`."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils import api_probe, run, run_lines, run_report, run_watch

SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "report": {"type": "path", "required": True},
    "clouds_file": {"type": "path", "required": True},
    "cloud": {"type": "str", "required": True},
    "rate": {"type": "float", "default": api_probe.RATE},
    "ping": {"type": "list", "elements": "str", "default": []},
    "ping_instances": {"type": "bool", "default": False},
}

START_SECONDS = 180.0
"""Longest wait for the probe's user and for the choice of instances."""

ROOT = Path(__file__).parents[5]
"""The folder that holds `ansible_collections`."""


class ActionModule(ActionBase):
    """See the documentation of the module api_probe."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start or end the probe. That nothing can be probed is a warning, never a failure."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        _validation, args = self.validate_argument_spec(SPEC)
        if args["rate"] <= 0:
            return {**result, "failed": True, "msg": f"rate: {args['rate']} calls a second; write a number above 0"}
        if self._task.check_mode:
            return {**result, "msg": "a dry run probes nothing"}
        found = self._start(args) if args["state"] == "started" else self._stop(args)
        for note in found["notes"]:
            self._display.warning(note)
        return {**result, **found}

    def _start(self, args: dict[str, Any]) -> dict[str, Any]:
        """Start the process and return what it says that it watches."""
        nothing: dict[str, Any] = {"apis": [], "addresses": {}}
        own = run.own()
        if own is None:
            note = (
                "nothing was probed: brume.cloud.phases is not among callbacks_enabled of ansible.cfg, "
                "so that nothing would end the probe with the run"
            )
            return {**nothing, "notes": [note]}
        wish = json.dumps({key: args[key] for key in SPEC if key != "state"})
        process = subprocess.Popen(
            [sys.executable, "-c", run_watch.PROGRAM, str(ROOT), wish],
            stdin=own.read,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        said = _first_line(process)
        if said:
            return dict(json.loads(said))
        process.kill()
        why = process.communicate()[1].decode("utf-8", "replace").strip().splitlines()
        reason = why[-1] if why else f"the probe was not ready in {START_SECONDS:.0f} s"
        return {**nothing, "notes": [f"nothing was probed: {reason}"]}

    def _stop(self, args: dict[str, Any]) -> dict[str, Any]:
        """End the process, delete its user, and return the figures."""
        path, notes = Path(args["report"]), []
        try:
            name = run_watch.end(path)
            report = run_lines.read(path)
        except FileNotFoundError:
            return {"figures": {}, "pings": 0, "lost_pings": {}, "notes": [f"nothing was probed: there is no {path}"]}
        if name:
            try:
                api_probe.settings(Path(args["clouds_file"]), args["cloud"]).remove_user(name)
            except api_probe.PROBLEMS as error:
                reason = str(error) or type(error).__name__
                notes.append(f"the user {name} of the probe could not be deleted, the next probe does it: {reason}")
        return {
            "figures": {
                kind: {
                    "calls": one.calls,
                    "failed": one.failed,
                    "longest_gap": round(one.gap_seconds, 1),
                    "longest_call": round(one.longest, 1),
                }
                for kind, one in api_probe.figures(report.calls).items()
            },
            "pings": report.rounds,
            "lost_pings": {address: len(report.lost.get(address, ())) for address in report.addresses},
            "msg": run_report.sentence(report),
            "notes": notes,
        }


def _first_line(process: subprocess.Popen[bytes]) -> str:
    """Return the first line that a process prints, empty when it ends or is silent for START_SECONDS."""
    out: Any = process.stdout
    text, end = b"", time.monotonic() + START_SECONDS
    while not text.endswith(b"\n") and time.monotonic() < end:
        if select.select([out], [], [], 1.0)[0]:
            piece = out.read1(65536)
            if not piece:
                return ""
            text += piece
    return text.decode() if text.endswith(b"\n") else ""
