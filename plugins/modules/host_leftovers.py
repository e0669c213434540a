#!/usr/bin/python
"""Ansible module: removes what lies on a host and nobody uses."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_leftovers
short_description: Removes Python environments that nobody uses, what killed builds left, and old journals
description:
  - Environments stay that a link C(current), a unit file or a process has, that are O(planned), that are of the release
    before the one in use, or of a newer one. Without a link C(current) all of a service stay.
  - Of journals only files go that are written no more and hold entries older than O(journal_days).
options:
  kinds:
    description: What to look for.
    type: list
    elements: str
    choices: [environments, journals]
    default: [environments, journals]
  planned: {description: Paths of planned environments., type: list, elements: path, required: true}
  way_back: {description: Whether the release before the one in use stays too., type: bool, default: true}
  uv: {description: The version of C(uv) that builds environments., type: str, required: true}
  journal_days: {description: Age of journal entries in days., type: int, default: 30}
  root: {description: Folder of the environments of all services., type: path, default: /opt/brume}
  journal: {description: Folder of journals by machine., type: path, default: /var/log/journal}
attributes:
  check_mode: {support: full, description: Tells what would be removed.}
  diff_mode: {support: full, description: 'One diff for each path, with the reason.'}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Remove environments that nobody uses
  brume.cloud.host_leftovers:
    kinds: [environments]
    planned: [/opt/brume/nova/2026.1-0123456789ab]
    uv: 0.13.9
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [delete leftover /opt/brume/nova/2026.1-ba9876543210]
kinds:
  description: By kind, how many were found (C(found)), how many went (C(removed)), and what stays and why (C(left)).
  type: dict
  returned: success
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_leftovers, host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import Action, ConvergenceError, converge

KINDS = ["environments", "journals"]
SPEC: dict[str, Any] = {
    "kinds": {"type": "list", "elements": "str", "choices": KINDS, "default": KINDS},
    "planned": {"type": "list", "elements": "path", "required": True},
    "way_back": {"type": "bool", "default": True},
    "uv": {"type": "str", "required": True},
    "journal_days": {"type": "int", "default": 30},
    "root": {"type": "path", "default": host_leftovers.ROOT},
    "journal": {"type": "path", "default": host_leftovers.JOURNAL},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Find, and remove unless in check mode. Raises OSError, ConvergenceError."""
    found: dict[str, list[Any]] = {}
    actions = []
    folder, unseen = "", []
    before = datetime.now(UTC) - timedelta(days=params["journal_days"])
    if "environments" in params["kinds"]:
        root, found["environments"] = params["root"], []
        try:
            in_use = host_leftovers.used(root)
            found["environments"] = host_leftovers.find(
                root, params["planned"], params["uv"], in_use, way_back=params["way_back"]
            )
            if not params["way_back"]:
                still = host_leftovers.find(root, params["planned"], params["uv"], (), way_back=False)
                unseen = [f"{one.path}: it is still in use" for one in still if one not in found["environments"]]
        except PermissionError as error:
            unseen = [f"{root}: all environments, because a process cannot be looked into: {error}"]
        actions += host_leftovers.removals(found["environments"])
    if "journals" in params["kinds"]:
        folder = f"{params['journal']}/{Path('/etc/machine-id').read_text(encoding='ascii').strip()}"
        found["journals"] = host_leftovers.old_journals(folder, before)
        if found["journals"]:
            many = len(found["journals"])
            name = f"{many} journal file{'s' if many > 1 else ''} with entries of before {before:%Y-%m-%d}"
            apply = partial(host_leftovers.vacuum, folder, params["journal_days"])
            actions.append(Action("archived", "delete", name, {"files": found["journals"]}, {}, apply))
    result = converge(actions, check_mode=check_mode)
    kinds: dict[str, dict[str, Any]] = {
        name: {"found": len(some), "removed": 0 if check_mode else len(some), "left": []}
        for name, some in found.items()
    }
    if unseen:
        kinds["environments"]["left"] = unseen
    if folder and not check_mode:
        stay = host_leftovers.old_journals(folder, before)
        kinds["journals"]["left"] = [f"{folder}/{name}: journalctl has left it" for name in stay]
        kinds["journals"]["removed"] = len(found["journals"]) - len(stay)
    return {**result, "kinds": kinds}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    host_lock.hold(module)
    try:
        result = run(module.params, module.check_mode)
    except (OSError, ConvergenceError) as error:
        module.fail_json(msg=str(error), invocation={})
    if not module.params["way_back"]:
        for line in result["kinds"]["environments"]["left"]:
            module.warn(line)
    module.exit_json(**result, invocation={})


if __name__ == "__main__":
    main()
