"""Takes the host's lock for this run, see `module_utils/host_lock.py`. Whatever ends the run releases it."""

from __future__ import annotations

import json
import select
import shlex
import subprocess
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils import host_lock, host_shell, run

ANSWER_SECONDS = 60.0
"""Longest wait for an answer from the host, beyond the wait for a module of an earlier run."""

RELEASE_SECONDS = 15.0
"""After a run has died, its keepers on the hosts hear of it within moments; one that is cut off never does."""


class ActionModule(ActionBase):
    """Takes `wait`: seconds for what an earlier run left behind on the host to end, and `folder`: where locks lie."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the lock, or in check mode see whether it is free. Fails with the holder's name."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        own = run.own()
        spec = {
            "wait": {"type": "float", "default": 600.0},
            "folder": {"type": "path", "default": host_lock.FOLDER},
        }
        _found, args = self.validate_argument_spec(spec)
        wait = args["wait"]
        if own is None:
            self._display.warning(
                "brume.cloud.phases is not among callbacks_enabled of ansible.cfg, so this run holds no lock: "
                "a second one at the same time is not noticed"
            )
            return result
        variables = task_vars or {}
        if self._task.delegate_to:
            variables = variables["ansible_delegated_vars"][self._task.delegate_to]
        python = str(variables.get("ansible_python_interpreter") or "/usr/bin/python3")
        end, dead = "", 0.0
        deadline = time.monotonic() + wait
        while True:
            wish = {"record": own.record, "folder": args["folder"], "wait": wait, "end": end}
            answer = self._ask(python, {**wish, "look": bool(self._task.check_mode)}, own.read)
            state, holder = answer["state"], answer.get("holder", {})
            if state in ("ok", "ours", "no lock"):
                return result
            left = "run" in holder and own.is_dead(holder)
            if state == "orphan" or not left or time.monotonic() > deadline:
                return {**result, "failed": True, "msg": _refusal(holder, wait, has_ended=state == "orphan" or left)}
            if not dead:
                dead = time.monotonic()
                self._display.display(f"waiting for what a run that ended left behind: {host_lock.describe(holder)}")
            elif time.monotonic() - dead > RELEASE_SECONDS:
                end = holder["run"]
            time.sleep(host_lock.POLL * 2)

    def _ask(self, python: str, wish: dict[str, Any], stdin: int) -> dict[str, Any]:
        """Start the keeper on the host and return its last answer; it stays while the pipe behind `stdin` is open."""
        command = self._command(f"{python} -c {shlex.quote(host_lock.PROGRAM)} {shlex.quote(json.dumps(wish))}")
        if command is None:
            return {"state": "no lock"}
        keeper = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        out: Any = keeper.stdout
        text, end = b"", time.monotonic() + wish["wait"] + ANSWER_SECONDS
        while time.monotonic() < end:
            ready, _, _ = select.select([out], [], [], 1.0)
            if not ready:
                continue
            piece = out.read1(65536)
            if not piece:
                break
            text += piece
            lines = text.decode("utf-8", "replace").splitlines(keepends=True)
            answers = [json.loads(line) for line in lines if line.startswith('{"state"') and line.endswith("\n")]
            if answers and answers[-1]["state"] != "waiting":
                return dict(answers[-1])
            if answers:
                self._display.display(f"waiting for {host_lock.describe(answers[-1]['holder'])} of an earlier run")
        keeper.kill()
        raise AnsibleConnectionFailure(
            "the host gave no answer to the question for its lock\n"
            f"  next: see whether `{python} -c ''` runs there as the user that this run becomes, and run again"
        )

    def _command(self, shell: str) -> list[str] | None:
        """Return the command that runs a line on the host, None where it cannot be run beside Ansible's own calls."""
        try:
            return host_shell.command(self._connection, shell)
        except host_shell.UnusableError as error:
            self._display.warning(f"{error}, so this run holds no lock on this host")
            return None


def _refusal(holder: dict[str, Any], wait: float, *, has_ended: bool) -> str:
    """Return why the lock was not got: `has_ended` says that the run that took it is gone and left something behind."""
    if has_ended:
        return (
            f"what an earlier run left behind has not ended in {wait:.0f} s: {host_lock.describe(holder)}\n"
            "  next: look at its processes on this host; let them end, or end them, and run again"
        )
    return (
        f"this host is being changed by {host_lock.describe(holder)}\n"
        "  next: let that run end, or end it; nothing was changed by this one"
    )
