"""Writes clouds.yaml and the authority's certificate on the deploy host, readable by the caller alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.brume.cloud.plugins.module_utils import certificates
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction
from ansible_collections.brume.cloud.plugins.module_utils.secrets import ADMIN_SECRET, SecretError


class ActionModule(PlanAction):
    """Takes `path` (clouds.yaml) and `cloud` (its name there); the certificate lies beside it as `ca.crt`.

    With `overlap` the authority before the current one is trusted too, until a call with `retire`. With
    `authorities_only`, clouds.yaml is left alone.
    """

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
        balancer = piece.plan.cloud.external.loadbalancer
        public = piece.plan.cloud.public_certificate
        ca_file = balancer.ca_file if balancer else str(authority.absolute())
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
                    # Without it clients use what they trust by themselves.
                    **({} if public and not public.ca else {"cacert": ca_file}),
                }
            }
        }
        number = piece.vault.generation("ca")
        former = certificates.authority(piece.vault.master_key, number - 1) if number > 1 else None
        authorities = certificates.bundle(
            certificates.authority(piece.vault.master_key, number),
            former,
            authority.read_text(encoding="utf-8") if authority.exists() else "",
            renewing=bool(self._task.args.get("overlap")),
            retire=bool(self._task.args.get("retire")),
        )
        identity = piece.plan.cloud.external.identity
        authorities += (identity.ca if identity else "") + (public.ca if public else "")
        changed = []
        for target, text in (
            (authority, authorities),
            *([] if self._task.args.get("authorities_only") else [(path, yaml.safe_dump(clouds, sort_keys=False))]),
        ):
            if target.exists() and target.read_text(encoding="utf-8") == text:
                continue
            changed.append(str(target))
            if not self._task.check_mode:
                target.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(str(target), text.encode(), 0o600)
        return {"changed": bool(changed), "actions": [f"write {path}" for path in changed]}
