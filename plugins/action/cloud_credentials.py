"""Writes clouds.yaml and the authority's certificate on the deploy host, readable by the caller alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.brume.cloud.plugins.action.keystone_catalog import ADMIN_SECRET
from ansible_collections.brume.cloud.plugins.module_utils import certificates
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction
from ansible_collections.brume.cloud.plugins.module_utils.secrets import SecretError


class ActionModule(PlanAction):
    """Takes `path` (clouds.yaml) and `cloud` (its name there); the certificate lies beside it as `ca.crt`."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write both files where they differ."""
        variables = task_vars or {}
        try:
            piece = self.slice(variables)
            password = piece.secret(ADMIN_SECRET)
        except (PlanError, SecretError) as error:
            return {"failed": True, "msg": str(error)}
        path = Path(self._task.args["path"]).expanduser()
        authority = path.parent / "ca.crt"
        url = next(
            one.url for one in piece.plan.cloud.endpoints if (one.service, one.interface) == ("keystone", "public")
        )
        clouds = {
            "clouds": {
                str(self._task.args.get("cloud", "brume")): {
                    "auth": {
                        "auth_url": str(url),
                        "username": "admin",
                        "password": str(password),
                        "project_name": "admin",
                        "user_domain_name": "Default",
                        "project_domain_name": "Default",
                    },
                    "region_name": str(piece.plan.cloud.region),
                    "identity_api_version": 3,
                    "interface": "public",
                    "cacert": str(authority.absolute()),
                }
            }
        }
        changed = []
        for target, text in (
            (authority, certificates.authority(piece.vault.master_key, piece.vault.generation("ca")).pem),
            (path, yaml.safe_dump(clouds, sort_keys=False)),
        ):
            if target.exists() and target.read_text(encoding="utf-8") == text:
                continue
            changed.append(str(target))
            if not self._task.check_mode:
                target.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(str(target), text.encode(), 0o600)
        return {"changed": bool(changed), "actions": [f"write {path}" for path in changed]}
