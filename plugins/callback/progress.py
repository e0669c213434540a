"""Shows a run by its phases: what changed where, why it stopped, and how long each phase took."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible import constants, context
from ansible.plugins.callback.default import CallbackModule as Default
from ansible_collections.brume.cloud.plugins.module_utils import progress

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Phases, changes by host, failures with their next step, and time per phase
description:
  - Shows each play as a phase with its hosts and the time since the start, and below it what changed, in the words of
    the modules' C(actions); what many hosts say is said once. In check mode the same is shown as a prediction.
  - Ends with Ansible's own recap, the time per phase, and for a run that failed the reason of every host, what was kept
    and the next step.
  - On a terminal one line at the bottom follows the run. Where there is no terminal, or the environment has C(CI),
    there are plain lines only.
  - With C(-v) and above it prints what the callback C(default) prints, and the closing summary.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - C(stdout_callback = brume.cloud.progress) in ansible.cfg.
"""

TICK = 0.5
"""Seconds between two drawings of the status line."""

OUTPUT_LINES = 10
"""Last lines of a failed command's output that are shown."""

_COLORS = {
    "heading": "COLOR_HIGHLIGHT",
    "changed": "COLOR_CHANGED",
    "failed": "COLOR_ERROR",
    "unreachable": "COLOR_UNREACHABLE",
    "note": "COLOR_SKIP",
}
"""What a line is about -> Ansible's setting of its color."""

_PROMPTING = ("pause", "ansible.builtin.pause", "ansible.legacy.pause")


class StatusLine:
    """The last line of a terminal, drawn anew while everything else scrolls above it.

    Whatever Ansible displays, warnings and workers' output included, goes through its one Display object; there the
    line is taken away before and put back after. It is written past Python's buffers, whose locks a fork could inherit.
    """

    def __init__(self, display: Any, status: Callable[[int], str]) -> None:
        """Take `status(width)`, which gives the text, and begin to draw."""
        self._display, self._status = display, status
        self._original = display.display
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._stopped = threading.Event()
        self._shown = self._suspended = False
        vars(display)["display"] = self._displayed
        threading.Thread(target=self._tick, name="status line", daemon=True).start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Take the line away for good."""
        if os.getpid() == self._process and not self._stopped.is_set():
            self._stopped.set()
            with self._lock:
                self._clear()
                vars(self._display).pop("display", None)

    def suspend(self, suspended: bool) -> None:
        """Take the line away while somebody is asked to type, or draw it again."""
        with self._lock:
            self._suspended = suspended
            if suspended:
                self._clear()
            else:
                self._draw()

    def _clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def _displayed(self, *args: Any, **kwargs: Any) -> Any:
        if os.getpid() != self._process:  # a worker hands it to the main process
            return self._original(*args, **kwargs)
        with self._lock:
            self._clear()
            result = self._original(*args, **kwargs)
            if kwargs.get("newline", True):
                self._draw()
        return result

    def _tick(self) -> None:
        while not self._stopped.wait(TICK):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        if not self._suspended and not self._stopped.is_set():
            self._write(f"\r\x1b[K{self._status(shutil.get_terminal_size().columns)}")
            self._shown = True

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone is no reason to stop a deployment
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(sys.stdout.fileno(), text.encode(errors="replace"))


class CallbackModule(Default):
    """See DOCUMENTATION. Every event is told to the model; whether its lines or the default's are shown is `_plain`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "brume.cloud.progress"

    def __init__(self) -> None:
        """Start with an empty run."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._own = self._display.verbosity == 0
        self._progress = progress.Progress(check_mode=bool(context.CLIARGS.get("check")))
        self._line: StatusLine | None = None
        self._play: Any = None
        self._manager: Any = None

    def _say(self, lines: Iterable[progress.Line]) -> None:
        """Print lines of the model, unless the default callback speaks."""
        if self._own:
            self._print(lines)

    def _print(self, lines: Iterable[progress.Line]) -> None:
        """Print lines at once, because a pipe is read as the run goes on."""
        for line in lines:
            color = constants.config.get_config_value(_COLORS[line.color]) if line.color else None
            self._display.display(line.text, color=color)
        with contextlib.suppress(BrokenPipeError):  # somebody has read enough, which must not stop the run
            sys.stdout.flush()

    def _default(self, event: str, *arguments: Any) -> None:
        getattr(super(), event)(*arguments)

    def _detail(self, event: str, *arguments: Any) -> None:
        """Leave an event to the default callback where details are asked for; else show only a result's warnings."""
        if not self._own:
            self._default(event, *arguments)
        elif arguments and hasattr(arguments[0], "is_changed"):
            self._handle_warnings(arguments[0].result)

    # Plays and tasks

    def v2_playbook_on_vars_prompt(self, *args: Any, **kwargs: Any) -> None:
        """Make room for an answer; the first task of the play ends it."""
        if self._line is not None:
            self._line.suspend(True)

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Learn how many phases there are."""
        self._progress.plays(len(playbook.get_plays()))
        self._detail("v2_playbook_on_start", playbook)
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        if self._own and terminal and not os.environ.get("CI"):
            self._line = StatusLine(self._display, self._progress.status)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Begin a phase, or its next batch of hosts."""
        self._manager = play.get_variable_manager()
        inventory = self._manager._inventory
        batch = [host.get_name() for host in inventory.get_hosts(play.hosts)]
        total = len(inventory.get_hosts(play.hosts, ignore_restrictions=True))
        self._say(self._progress.phase(play._uuid, play.get_name().strip(), batch, total))
        self._play = play
        self._detail("v2_playbook_on_play_start", play)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Begin a task."""
        self._begin(task)
        self._detail("v2_playbook_on_task_start", task, is_conditional)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Begin a handler."""
        self._begin(task)
        self._detail("v2_playbook_on_handler_task_start", task)

    def _begin(self, task: Any) -> None:
        self._say(self._progress.task(_title(task), self._play._removed_hosts))
        if self._line is not None:
            self._line.suspend(task.action in _PROMPTING)

    # Results

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep what changed; show what a debug task wants to be shown."""
        host, found = result.host.get_name(), result.result
        looped = bool(result.task.loop) and "results" in found
        if found.get("changed"):
            items = [one for one in found["results"] if one.get("changed")] if looped else [found]
            self._progress.changed(host, [line for one in items for line in self._sentences(result, one)])
        self._detail("v2_runner_on_ok", result)
        if not looped:
            self._debugged(result)
        self._say(self._progress.ended(host))

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Show what a debug task wants to be shown of an item."""
        self._detail("v2_runner_item_on_ok", result)
        self._debugged(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Keep why the host does not go on."""
        foreign = not str(result.task.resolved_action or result.task.action).startswith("brume.cloud.")
        failure = progress.Failure(
            result.host.get_name(),
            self._play.get_name().strip(),
            _title(result.task),
            self._reason(result),
            hint="-v shows the whole result" if foreign else "",
        )
        self._lost(result, failure, ignore_errors)
        self._detail("v2_runner_on_failed", result, ignore_errors)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Show an item's warnings; the failure is told with the task's."""
        self._detail("v2_runner_item_on_failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Keep which address did not answer."""
        host = self._manager._inventory.get_host(result.task.delegate_to or result.host.get_name()) or result.host
        address, login = self._connection_of(host)
        failure = progress.Failure(
            result.host.get_name(),
            self._play.get_name().strip(),
            _title(result.task),
            _text(result.result.get("msg")) or "the connection failed",
            unreachable=True,
            address=address,
            login=login,
        )
        self._lost(result, failure, result.task.ignore_unreachable)
        self._detail("v2_runner_on_unreachable", result)

    def _lost(self, result: Any, failure: progress.Failure, ignored: bool) -> None:
        (self._progress.ignored if ignored else self._progress.failed)(failure)
        self._say(self._progress.ended(failure.host))

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Show nothing: most tasks have nothing to do on most hosts."""
        self._detail("v2_runner_on_skipped", result)
        self._say(self._progress.ended(result.host.get_name()))

    def v2_on_file_diff(self, result: Any) -> None:
        """Keep the diffs that were asked for, to show them below the changes they belong to."""
        if not self._own:
            self._detail("v2_on_file_diff", result)
            return
        found = result.result
        items = found["results"] if result.task.loop and "results" in found else [found]
        for one in items:
            if one.get("diff") and one.get("changed"):
                self._progress.diff(result.host.get_name(), self._get_diff(one["diff"]))

    # The end

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print Ansible's recap, which others read too, then time, changes and failures."""
        self._say(self._progress.flush())
        if self._line is not None:
            self._line.stop()
            self._line = None
        self._default("v2_playbook_on_stats", stats)
        counters = {host: stats.summarize(host) for host in sorted(stats.processed, key=progress.natural)}
        self._print(self._progress.closing(counters))

    # What is told only where details are asked for

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Say nothing: a phase without hosts has no line."""
        self._detail("v2_playbook_on_no_hosts_matched")

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Say nothing: the failures say it."""
        self._detail("v2_playbook_on_no_hosts_remaining")

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say nothing."""
        self._detail("v2_playbook_on_include", included_file)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Say nothing."""
        self._detail("v2_runner_item_on_skipped", result)

    def v2_runner_retry(self, result: Any) -> None:
        """Say nothing."""
        self._detail("v2_runner_retry", result)

    # Reading results

    def _sentences(self, result: Any, found: Mapping[str, Any]) -> list[str]:
        """Return what a result says that it changed, and where if not on its host; the task's name by default."""
        task, actions = result.task, found.get("actions")
        here = task.loop or task.delegate_to in (None, result.host.get_name())  # of a loop, the labels tell
        where = "" if here else f" (on {task.delegate_to})"
        if isinstance(actions, list) and actions and all(isinstance(one, str) for one in actions):
            return [f"{one}{where}" for one in actions]
        label = self._label(found) if task.loop else ""
        return [f"{_title(task)} ({label}){where}" if label else f"{_title(task)}{where}"]

    def _label(self, found: Mapping[str, Any]) -> str:
        """Return what an item is called; a mapping without a label of its own may hold anything, so it has no name."""
        label = self._get_item_label(found)
        return str(label) if isinstance(label, (str, int, float)) else ""

    def _debugged(self, result: Any) -> None:
        """Show a debug task's message, or its variable as YAML, as far as the verbosity asks for it."""
        if not self._own or result.task.action not in constants._ACTION_DEBUG or not self._run_is_verbose(result):
            return
        found = result.result
        self._clean_results(found, result.task.action)
        message = found.get("msg")
        if isinstance(message, list) and all(isinstance(one, str) for one in message):
            text = "\n".join(message)
        else:
            text = message if isinstance(message, str) else self._dump_results(found, indent=2)
        self._say(self._progress.message(text))

    def _reason(self, result: Any) -> str:
        """Return why a task failed: the module's message, and of a command the end of its output."""
        found = result.result
        items = [one for one in found.get("results") or () if isinstance(one, dict) and one.get("failed")]
        if items:
            return "\n".join(": ".join(filter(None, (self._label(one), _reason(one)))) for one in items)
        return _reason(found)

    def _connection_of(self, host: Any) -> tuple[str, str]:
        """Return the address that Ansible connects to and the command that does the same by hand."""
        variables = self._manager.get_vars(play=self._play, host=host, include_hostvars=False)
        said = {
            name: str(variables[f"ansible_{name}"])
            for name in ("host", "port", "user", "connection")
            if f"ansible_{name}" in variables and "{{" not in str(variables[f"ansible_{name}"])
        }
        address = said.get("host", host.get_name())
        if said.get("connection", "ssh") not in ("ssh", "ansible.builtin.ssh"):
            return address, ""
        port = f"-p {said['port']} " if "port" in said else ""
        return address, f"ssh {port}{said['user'] + '@' if 'user' in said else ''}{address}"


def _title(task: Any) -> str:
    """Return a task's name without the role's, which the phase implies."""
    name = str(task.name or task.get_name()).strip()
    return name.partition(" : ")[2] or name


def _reason(found: Mapping[str, Any]) -> str:
    """Return one result's message; of a command also the end of what it printed."""
    if "censored" in found:
        return "the result is hidden, because the task has no_log"
    lines = [_text(found.get("msg")) or "failed without a message"]
    for name in ("stderr", "module_stderr", "stdout", "module_stdout"):
        output = found.get(name)
        if isinstance(output, str) and output.strip():
            lines += [f"    {line}" for line in output.strip().splitlines()[-OUTPUT_LINES:]]
            break
    return "\n".join(lines)


def _text(message: Any) -> str:
    return "" if message is None else str(message).strip().removeprefix("Task failed: ")
