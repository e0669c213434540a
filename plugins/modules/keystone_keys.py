#!/usr/bin/python
"""Key repositories of Keystone on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: keystone_keys
short_description: Writes exactly the given keys into Keystone's Fernet and credential repositories
description:
  - The order of the writes leaves a repository that Keystone can use at every moment. New keys come before old ones go.
  - It makes no keys and rotates nothing by itself, so that all hosts take the same step together.
options:
  repositories:
    description: The repositories.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Directory., type: path, required: true}
      owner: {description: User., type: str, default: keystone}
      group: {description: Group., type: str, default: keystone}
      primary: {description: Index of the key that signs; the highest., type: int}
      keys: {description: 'Index and value (32 bytes in URL-safe base64).', type: dict}
      prune: {description: Whether keys that are not named are removed., type: bool, default: false}
      state:
        description: V(absent) removes the keys and the directory.
        type: str
        choices: [present, absent]
        default: present
  read: {description: Only return the current indexes., type: bool, default: false}
attributes:
  check_mode: {support: full, description: Reports what a run would write and remove.}
  diff_mode: {support: full, description: Indexes without values.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Fernet keys
  brume.cloud.keystone_keys:
    repositories:
      - path: /etc/keystone/fernet-keys
        primary: 1
        keys: {'0': "{{ staged }}", '1': "{{ signing }}"}
        prune: true
"""

RETURN = r"""
repositories:
  description: The indexes of each repository as they were found.
  type: list
  elements: dict
  returned: success
  contains:
    path: {description: Directory., type: str}
    primary: {description: 'The highest index, null when there is no key.', type: int}
    indexes: {description: All indexes., type: list, elements: int}
actions:
  description: One sentence for each change.
  type: list
  elements: str
  returned: success
  sample: [create /etc/keystone/fernet-keys/1 (primary)]
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import fernet, host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import text_diff

SPEC: dict[str, Any] = {
    "repositories": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "keystone"},
            "group": {"type": "str", "default": "keystone"},
            "primary": {"type": "int"},
            "keys": {"type": "dict", "no_log": False},
            "prune": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    },
    "read": {"type": "bool", "default": False},
}


def remove(path: str) -> None:
    """Remove a repository's keys and its directory. Raises OSError when something else lies there."""
    for name in os.listdir(path):
        if name.isdecimal():
            os.unlink(os.path.join(path, name))
    os.rmdir(path)


def main() -> None:
    """Read, decide, write, report."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True, no_log=True)
    host_lock.hold(module)
    items = module.params["repositories"]
    try:
        found = {item["path"]: fernet.read(item["path"], item["owner"], item["group"]) for item in items}
        work = [] if module.params["read"] else items
        planned = fernet.parse(item for item in work if item["state"] == "present")
        gone = [item["path"] for item in work if item["state"] == "absent" and found[item["path"]].exists]
        steps = [step for repository in planned for step in fernet.decide(repository, found[repository.path])]
        if not module.check_mode:
            for step in steps:
                fernet.apply(step)
            for path in gone:
                remove(path)
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error), invocation={})
    diffs = []
    for repository in planned:
        if any(step.repository is repository for step in steps):
            old = found[repository.path].keys
            kept = {} if repository.prune else old
            before = fernet.listing(old, repository.keys)
            after = fernet.listing({**kept, **repository.keys}, repository.keys)
            diffs.append(text_diff(repository.path, before, after))
    diffs += [text_diff(path, fernet.listing(found[path].keys, {}), "") for path in gone]
    module.exit_json(
        changed=bool(steps or gone),
        actions=[str(step) for step in steps] + [f"remove {path}" for path in gone],
        diff=diffs,
        repositories=[
            {"path": path, "primary": one.primary, "indexes": sorted(one.keys)} for path, one in found.items()
        ],
        invocation={},
    )


if __name__ == "__main__":
    main()
