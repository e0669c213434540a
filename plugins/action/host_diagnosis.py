"""Reads a host for a diagnosis, and keeps what it read in the folder that becomes the archive."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import diagnosis, public_certificate
from ansible_collections.brume.cloud.plugins.module_utils.convergence import redact
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rollout import UNIT_DIRECTORY
from ansible_collections.brume.cloud.plugins.module_utils.secrets import ADMIN_SECRET

_STATS_SOCKET = re.compile(r"^\s*stats socket (/\S+)", re.MULTILINE)


def wanted(piece: Slice, journal_lines: int) -> dict[str, Any]:
    """Return the module's arguments: everything that the plan puts on the host, and every secret that it may show."""
    host, cloud = piece.host, piece.plan.cloud
    services = list(dict.fromkeys(one.service for one in host.instances))
    texts = {one.entry.path: one.text for one in piece.renderer.files(host, services)}
    units = piece.renderer.units(host, services)
    texts |= {f"{UNIT_DIRECTORY}/{unit.instance.unit}": unit.content for unit in units if unit.content}
    for one in (*cloud.databases, *cloud.vhosts):
        piece.secret(one.secret)
    for name in (ADMIN_SECRET, *(login.secret for login in cloud.logins)):
        piece.secret(name)
    for name, value in piece.vault.explicit.items():
        if name != public_certificate.KEY_SECRET:  # no host needs it for that: private keys are never shown
            piece.revealed[value] = f"<secret {name}>"
    commands = [list(argv) for name in services for argv in piece.sources.services[name].commands.get("diagnose", ())]
    return {
        "files": [{"path": path, "planned": redact(text, piece.revealed)} for path, text in texts.items()],
        "units": list(dict.fromkeys(unit.instance.unit for unit in units)),
        "links": [environment.current for environment in host.environments],
        "commands": commands,
        "sockets": [
            {"path": path, "command": command}
            for text in texts.values()
            for path in _STATS_SOCKET.findall(text)
            for command in ("show info", "show stat")
        ],
        "journal_lines": journal_lines,
        "redactions": piece.revealed,
    }


class ActionModule(PlanAction):
    """Takes `directory`, where the host's parts go, and `journal_lines`."""

    module = "host_diagnosis"
    _redactions: dict[str, str]

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what is to be read."""
        self._redactions = piece.revealed
        return wanted(piece, int(args.get("journal_lines") or 2000))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the host; in check mode too, because reading is all it does. What a host cannot answer is no failure."""
        host = str((task_vars or {})["inventory_hostname"])
        result = super().run(tmp, task_vars)
        directory = self._task.args.get("directory")
        if "collected" not in result:
            if result.get("failed") and directory and hasattr(self, "_redactions"):
                problem = diagnosis.redact_text(str(result.get("msg", "")), self._redactions)
                self._keep(Path(directory), host, diagnosis.Collected(problems=[problem]))
                return {"changed": False, "read": False, "problem": problem}
            return result
        found = diagnosis.Collected(**json.loads(zlib.decompress(base64.b64decode(result.pop("collected")))))
        # The host has done the same; what reaches the disk does not depend on its word.
        found.parts = {name: diagnosis.redact_text(text, self._redactions) for name, text in found.parts.items()}
        if directory:
            self._keep(Path(directory), host, found)
        elif self._task.check_mode:
            self._display.display(f"{host}: {diagnosis.size(found.parts)}")
        return {**result, "changed": False, "read": True}

    @staticmethod
    def _keep(directory: Path, host: str, found: diagnosis.Collected) -> None:
        figures = {"problems": found.problems, "inactive": found.inactive, "errors": found.errors}
        parts = {**found.parts, "figures.json": json.dumps(figures, indent=1) + "\n"}
        diagnosis.store(directory / host, parts)
