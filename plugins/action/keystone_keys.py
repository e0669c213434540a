"""Writes Keystone's Fernet and credential keys: every key is derived from the master key and its index."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.fernet import REPOSITORIES
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice, own_keystone
from ansible_collections.brume.cloud.plugins.module_utils.secrets import repository_key

ACTIVE_KEYS = 3
"""Keys that are kept, the staged one included (Keystone's [fernet_tokens] max_active_keys)."""


class ActionModule(PlanAction):
    """Takes `primary` (index of the key that signs, for every host the same), `keep` and `read`.

    The file `0` is the staged key, which becomes the primary of the next index (Keystone's Fernet key repositories), so
    a rotation is a higher index: a host that has not yet heard of it already holds the new key as its staged one.
    """

    module = "keystone_keys"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return both repositories with their keys by index."""
        own_keystone(piece.plan)
        owner = {"owner": "keystone", "group": "keystone"}
        if args.get("read"):
            return {"read": True, "repositories": [{"path": path, **owner} for path in REPOSITORIES.values()]}
        master_key = piece.vault.master_key
        fernet, keep = int(args.get("primary") or 1), int(args.get("keep") or ACTIVE_KEYS)
        repositories = []
        for name, path in REPOSITORIES.items():
            primary = fernet if name == "fernet" else 1
            indexes = range(max(1, primary - keep + 2), primary + 1)
            keys = {str(index): repository_key(master_key, name, index) for index in indexes}
            keys["0"] = repository_key(master_key, name, primary + 1)
            repositories.append({"path": path, **owner, "primary": primary, "keys": keys, "prune": True})
        return {"repositories": repositories}
