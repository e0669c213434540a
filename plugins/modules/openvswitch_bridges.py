#!/usr/bin/python
"""Bridges, ports and settings of Open vSwitch in one transaction."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openvswitch_bridges
short_description: Makes bridges, their ports and the switch's settings so, in one transaction
description:
  - Reads the switch's database and changes only what differs. Bridges and ports that are not named stay as they are.
  - Works before the switch runs, so that it finds everything at its first start. The database
    is started if it is not running.
  - A setting that the switch reads only when it starts is written and named in a warning. The switch is never
    restarted, because that interrupts the instances' traffic.
options:
  bridges:
    description: Bridges that must be there.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The bridge's name., type: str, required: true}
      datapath_type: {description: C(system) or C(netdev); empty is the switch's default., type: str, default: ''}
      ports: {description: Interfaces that must be its ports., type: list, elements: str, default: []}
  other_config:
    description: Keys of C(other_config) in the table Open_vSwitch (ovs-vswitchd.conf.db(5)). Other keys stay.
    type: dict
    default: {}
  external_ids:
    description: Keys of C(external_ids) in the table Open_vSwitch; one without a value is removed. Other keys stay.
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: A host without the switch counts as one whose database is empty.}
  diff_mode: {support: full, description: The named bridges and settings.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Bridge to the external network
  brume.cloud.openvswitch_bridges:
    bridges:
      - {name: br-ex, datapath_type: system, ports: [eth1]}
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [create bridge br-ex, add port eth1 to br-ex]
"""

import os
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock, openvswitch
from ansible_collections.brume.cloud.plugins.module_utils.convergence import text_diff

SOCKET = "/run/openvswitch/db.sock"
PROCESS = "/run/openvswitch/ovs-vswitchd.pid"
DATABASE = "ovsdb-server.service"
SECONDS = 30
"""Longest time that one call of ovs-vsctl may take."""


def call(*arguments: str) -> str:
    """Return a command's output. Raises SwitchError with its message when it fails."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise openvswitch.SwitchError(f"{arguments[0]}: {error.strerror}; is the package installed?") from error
    if done.returncode:
        raise openvswitch.SwitchError(f"{arguments[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def runs(path: str = PROCESS) -> bool:
    """Return whether the switch runs."""
    try:
        with open(path, encoding="utf-8") as stream:
            os.kill(int(stream.read()), 0)
    except (OSError, ValueError):
        return False
    return True


def main() -> None:
    """Read, compare, write in one transaction, report."""
    module = AnsibleModule(
        argument_spec={
            "bridges": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "datapath_type": {"type": "str", "default": ""},
                    "ports": {"type": "list", "elements": "str", "default": []},
                },
            },
            "other_config": {"type": "dict", "default": {}},
            "external_ids": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    vsctl = ["ovs-vsctl", f"--timeout={SECONDS}"]
    try:
        want = openvswitch.wanted(*(module.params[key] for key in ("bridges", "other_config", "external_ids")))
        start = not os.path.exists(SOCKET)
        if start and not module.check_mode:
            call("systemctl", "start", DATABASE)
        have = openvswitch.Switch()
        if os.path.exists(SOCKET):
            have = openvswitch.parse(call(*vsctl, "--no-wait", "--format=json", *openvswitch.QUERY))
        found = openvswitch.changes(want, have)
        running = runs()
        if found and not module.check_mode:
            # A switch that runs answers when it has applied the change; one that does not would be waited for in vain.
            call(*vsctl, *([] if running else ["--no-wait"]), *openvswitch.transaction(found))
    except openvswitch.SwitchError as error:
        module.fail_json(msg=str(error))
    for key in openvswitch.needs_restart(want, have) if running else ():
        module.warn(f"other_config {key} waits for a start of ovs-vswitchd, which interrupts traffic on this host")
    before = openvswitch.text(have, want)
    shown = openvswitch.text(openvswitch.after(want, have), want)
    module.exit_json(
        changed=bool(found or start),
        # In the words of unit_rollout, which finds it running afterwards.
        actions=[f"start {DATABASE} (does not run)"] * start + [change.action for change in found],
        diff=[text_diff("Open vSwitch", before, shown)] if found else [],
    )


if __name__ == "__main__":
    main()
