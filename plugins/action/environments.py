"""Builds the Python environments of this host's services, all in one call."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.brume.cloud.plugins.module_utils.locks import lock_without
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `service` to build one environment only, and `link: false` to leave the link `current` where it is.

    The deploy host's own `uv` is handed to the host first.
    """

    module = "environments"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the environments with their locks' texts."""
        chosen = [one for one in piece.host.environments if not args.get("service") or one.service == args["service"]]
        if not chosen:
            return None
        release = piece.plan.cloud.release
        return {
            "uv": self._uv(),
            "wheelhouse": piece.host.variables["brume_wheelhouse"],
            "environments": [
                {
                    "service": one.service,
                    "path": one.path,
                    "current": one.current if args.get("link", True) else "",
                    "python": "/usr/bin/python3",
                    "modules": list(one.system_modules),
                    "lock": lock_without(piece.sources.locks[one.service][release], one.without),
                }
                for one in chosen
            ],
        }

    def _uv(self) -> str:
        """Return uv's path on the host, after copying the deploy host's one there where it is missing."""
        path = f"/opt/brume/uv/{version('uv')}/uv"
        if self._task.check_mode or self._low_level_execute_command(f"test -x {path}")["rc"] == 0:
            return path
        from uv import find_uv_bin  # noqa: PLC0415  # only the deploy host has it

        folder = self._make_tmp_path()
        source = Path(find_uv_bin())
        uploaded = self._transfer_file(str(source), self._connection._shell.join_path(folder, "uv"))
        done = self._low_level_execute_command(f"install -D -m 0755 {uploaded} {path}.new && mv {path}.new {path}")
        if done["rc"] != 0:
            raise AnsibleError(f"uv could not be put to {path}: {done['stderr']}")
        return path
