#!/usr/bin/python
"""System users, groups and memberships of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: system_users
short_description: Makes the planned system users, groups and memberships
description:
  - Writes C(/etc/sysusers.d/brume.conf) and, if anything in it is missing on the host, runs C(systemd-sysusers).
  - What is missing is read from the host's own tables, so that a dry run names the same users as the run.
  - The login shell of a user that is there already is set by usermod(8), since C(systemd-sysusers) leaves it alone.
  - Nothing is ever removed; sysusers.d(5) has no word for it.
options:
  header: {description: First line of the file., type: str, required: true}
  groups: {description: Groups beside those of the users., type: list, elements: str, default: []}
  users:
    description: Users.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      home: {description: 'Home, which is not made.', type: str, required: true}
      groups: {description: Groups that it is a member of., type: list, elements: str, default: []}
      shell:
        description: Login shell. Without one, new users get nologin(8) and others keep theirs.
        type: str
        default: ''
      create: {description: V(false) where a package makes the user., type: bool, default: true}
attributes:
  check_mode: {support: full, description: Reports what a run would make.}
  diff_mode: {support: full, description: 'The file, and what is missing.'}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Users of Nova
  brume.cloud.system_users:
    header: "# Written by Brume"
    users: [{name: nova, home: /var/lib/nova, groups: [libvirt, kvm]}]
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [create user nova, add user nova to group libvirt]
"""

import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import convergence, file_state, host_lock, system_users

SPEC: dict[str, Any] = {
    "header": {"type": "str", "required": True},
    "groups": {"type": "list", "elements": "str", "default": []},
    "users": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "home": {"type": "str", "required": True},
            "groups": {"type": "list", "elements": "str", "default": []},
            "shell": {"type": "str", "default": ""},
            "create": {"type": "bool", "default": True},
        },
    },
}


def run(*argv: str) -> None:
    """Run a program. Raises subprocess.CalledProcessError with what it said when it fails."""
    subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def main() -> None:
    """Compare, write, run systemd-sysusers, report."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    host_lock.hold(module)
    groups, users = module.params["groups"], module.params["users"]
    text = system_users.text(module.params["header"], groups, users)
    file = {"path": system_users.PATH, "content": text, "mode": "0644"}
    try:
        changes = file_state.compare(file_state.parse([file], [], []), file_state.read)
        present = system_users.present()
        missing = system_users.changes(groups, users, present)
        if not module.check_mode:
            for change in changes:
                file_state.apply(change)
            if missing:
                run("systemd-sysusers", system_users.PATH)
            for name, shell in system_users.shells(users, present).items():
                run("usermod", "--shell", shell, name)
    except subprocess.CalledProcessError as error:
        said = f"{error.cmd[0]}: {error.stderr.strip()}; correct the cause and run again"
        module.fail_json(msg=said, invocation={})
    except (file_state.FileError, OSError) as error:
        module.fail_json(msg=str(error), invocation={})
    diff = [file_state.shown(change, {}) for change in changes]
    if missing:
        diff.append(convergence.text_diff("system users", "", "".join(f"{line}\n" for line in missing)))
    module.exit_json(
        changed=bool(changes or missing),
        actions=[*(change.action for change in changes), *missing],
        diff=diff,
        invocation={},
    )


if __name__ == "__main__":
    main()
