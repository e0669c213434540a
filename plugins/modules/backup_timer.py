#!/usr/bin/python
"""Timers of systemd that make backups, put on the deploy host or removed from it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_timer
short_description: Puts timers that make backups on the deploy host, or removes them
description:
  - The action of the same name renders the units.
  - A backup that runs meanwhile is left alone.
options:
  prefix: {description: What the names of the units begin with., type: str, required: true}
  owner: {description: The first line of units that may be replaced or removed., type: str, required: true}
  units: {description: Texts of units by name. Others with the prefix are removed., type: dict, required: true}
attributes:
  check_mode: {support: full, description: Tells what would be written, removed and started.}
  diff_mode: {support: full, description: The text of every unit.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Remove the timers of an inventory
  brume.cloud.backup_timer:
    prefix: brume-backup-aio
    owner: >-
      # Made by playbooks/backup_timer.yml in /srv/brume for /srv/brume/inventories/aio; -e backup_timer_state=absent
      removes it.
    units: {}
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [write brume-backup-aio-full.timer, enable and start brume-backup-aio-full.timer]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import backup_timer, host_lock, rollout


def main() -> None:
    """Compare, and change unless in check mode."""
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "units": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    given, systemd, folder = module.params, rollout.Systemd(), rollout.UNIT_DIRECTORY
    try:
        change = backup_timer.changes(folder, given["prefix"], given["units"], given["owner"], systemd)
        if not module.check_mode:
            backup_timer.apply(folder, change, systemd)
    except OSError as error:
        module.fail_json(msg=str(error), invocation={})
    module.exit_json(**change.report(), invocation={})


if __name__ == "__main__":
    main()
