"""Renders the units that make backups regularly, and puts them on the deploy host or removes them."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible_collections.brume.cloud.plugins.module_utils import backup_timer
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

SYSTEMD = "/run/systemd/system"
"""There where systemd is process 1 (sd_booted(3))."""


class ActionModule(PlanAction):
    """Takes `state`, calendars `full` and `incremental` (systemd.time(7), empty for none), and `test` after each.

    The deploy host's alone. What backup.yml gets besides are the variables in `backup_timer.OPTIONS`, and of this run
    inventories, files of variables (`-e @file`) and of vault passwords, and Ansible's configuration.
    """

    module = "backup_timer"

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Keep the variables, which say where this run began."""
        self.known: Any = task_vars or {}
        return super().run(tmp, task_vars)

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any]:
        """Return the units; none for `absent`."""
        if not os.path.isdir(SYSTEMD):
            raise problem("localhost", "systemd is not its first process, so it has no timers",
                          "let what starts jobs there run the commands of docs/operations/backup.md")  # fmt: skip
        inventories = [str(one) for one in self.known["ansible_inventory_sources"]]
        if not inventories or not all(os.path.exists(one) for one in inventories):
            raise problem("--inventory", "is no folder or file", "name the inventory's folder with -i")
        checkout = str(Path(self.known["playbook_dir"]).parent)
        owner = backup_timer.mark(checkout, inventories[0])
        common = {"prefix": backup_timer.family(inventories[0]), "owner": owner}
        if args["state"] == "absent":
            return {**common, "units": {}}
        calendars = {kind: str(args[kind]) for kind in backup_timer.KINDS}
        mistakes(str(args["state"]), calendars)
        words = from_command_line(context.CLIARGS)
        file = constants.config.get_config_value("DEFAULT_VAULT_PASSWORD_FILE")
        words += ["--vault-password-file", str(file)] if file else []
        job = backup_timer.Job(
            checkout, pwd.getpwuid(os.stat(checkout).st_uid).pw_name,
            str(Path(sys.executable).with_name("ansible-playbook")), inventories, words,
            str(constants.config._config_file or ""), self._options(), bool(args["test"]),
        )  # fmt: skip
        return {**common, "units": backup_timer.render(job, calendars)}

    def _options(self) -> dict[str, Any]:
        return {
            name: self._templar.template(self.known[name]) for name in backup_timer.OPTIONS if name in self.known
        }


def problem(place: str, message: str, remedy: str) -> PlanError:
    """Return an error that names place and remedy."""
    return PlanError([Problem(place, message, remedy)])


def mistakes(state: str, calendars: Mapping[str, str]) -> None:
    """Raise PlanError for a state that there is not, and for calendars that systemd does not know."""
    if state != "present":
        raise problem("backup_timer_state", f"{state} is neither present nor absent", "-e backup_timer_state=present")
    if not any(calendars.values()):
        raise problem("backup_timer_full", "no timer is left", "-e backup_timer_state=absent removes them")
    for kind, calendar in calendars.items():
        if calendar:
            argv = ["systemd-analyze", "calendar", "--", calendar]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if done.returncode:
                said = " ".join((done.stderr or done.stdout).split())
                raise problem(f"backup_timer_{kind}", said, "write it as in systemd.time(7), such as `Sun 02:00`")


def from_command_line(given: Mapping[str, Any]) -> list[str]:
    """Return the words of this run that others need: names of files alone. Raises PlanError for a typed password."""
    identities = [str(one) for one in given.get("vault_ids") or ()]
    if given.get("ask_vault_pass") or any(one.rpartition("@")[2] == "prompt" for one in identities):
        raise problem("--ask-vault-pass", "a timer cannot type a password", "use --vault-password-file")
    words = [word for one in identities for word in ("--vault-id", absolute(one))]
    passwords = given.get("vault_password_files") or ()
    words += [word for one in passwords for word in ("--vault-password-file", absolute(one))]
    files = [one for one in given.get("extra_vars") or () if str(one).startswith("@")]
    return words + [word for one in files for word in ("--extra-vars", absolute(one))]


def absolute(word: str) -> str:
    """Return `file`, `@file` or `label@file` with the file's absolute path."""
    label, at, file = str(word).rpartition("@")
    return f"{label}{at}{os.path.abspath(os.path.expanduser(file))}"
