"""Makes the images that the inventory declares, in one session; files of the deploy host are brought to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.brume.cloud.plugins.module_utils.api_objects import present
from ansible_collections.brume.cloud.plugins.module_utils.image_files import digests
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rollout import RECORDS

FOLDER = "/var/lib/brume/images"
"""Root's alone, and empty between runs."""


class ActionModule(PlanAction):
    """Takes `hosts`, the hosts in play; a run without the first controller leaves images alone.

    Where there are images with `path`, the module is asked first which of them have to be uploaded, and these alone
    are brought to the host.
    """

    module = "glance_images"
    _here: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """Images by name whose data are on this host."""
    _brought: Mapping[str, str] | None = None
    """By name of image: files on the first controller; None until it is known which are wanted there."""

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the inventory declares, and the login of the cloud's administrator."""
        cloud = piece.plan.cloud
        first, _address = cloud.members["control"][0]
        if not cloud.images or first not in args.get("hosts", piece.plan.hosts):
            return None
        self._here = {one["name"]: one for one in cloud.images if present(one) and one.get("path")}
        return {
            "auth": piece.administrator(),
            "image_url": piece.internal_url("glance"),
            "compute_url": piece.internal_url("nova") if "nova" in cloud.services else None,
            "start_record": f"{RECORDS}/glance-api.service.json",
            "folder": FOLDER,
            "files": dict(self._brought or {}),
            "judge": bool(self._here) and self._brought is None and not self._task.check_mode,
            "images": [dict(one) for one in cloud.images],
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Glance's own Python: it has keystoneauth1. Before it is built, a dry run needs none."""
        return self.environment_python(piece.of_first_controller(), "glance")

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bring what has to be uploaded from here, then make the images."""
        outcome = super().run(tmp, task_vars)
        wanted = [one for name, one in self._here.items() if name in outcome.get("needed", ())]
        problems = [
            f"image {one['name']}: {one['path']} is no file on the deploy host; correct `path`, or bring it"
            for one in wanted
            if not os.path.isfile(one["path"])
        ]
        if problems:
            return {**outcome, "failed": True, "changed": False, "msg": "\n".join(problems)}
        if outcome.get("failed") or self._task.check_mode or not self._here:
            return outcome
        try:
            self._brought = {one["name"]: self._bring(one, place) for place, one in enumerate(wanted)}
        except (AnsibleError, OSError) as error:
            return {**outcome, "failed": True, "changed": False, "msg": str(error)}
        return super().run(tmp, task_vars)

    def _bring(self, item: Mapping[str, Any], place: int) -> str:
        """Bring a file to the host and return its path there. Raises AnsibleError and OSError."""
        algorithm, _colon, wanted = item["checksum"].partition(":")
        found = digests(item["path"], {algorithm})[algorithm]
        if found != wanted:
            raise AnsibleError(
                f"image {item['name']}: {item['path']} has the {algorithm} {found}, not the declared {wanted}; correct "
                "`checksum` or the file"
            )
        size = os.path.getsize(item["path"]) // 1024**2
        self._display.display(f"bringing image {item['name']} to the first controller, {size} MiB")
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        return str(self._transfer_file(item["path"], self._connection._shell.join_path(folder, f"image-{place}")))
