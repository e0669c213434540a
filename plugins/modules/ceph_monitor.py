#!/usr/bin/python
"""The monitor and manager of this host: their folders."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_monitor
short_description: Makes the store of this host's Ceph monitor, and the folder of its manager
description:
  - The first monitors of a cluster begin with the map that all of them are in. One that is added, or comes back empty,
    takes the map of those that serve.
  - Without any monitor that has a store, and with OSDs that belong to the cluster, nothing is made; a new store would
    know nothing of their data.
options:
  name: {description: The monitor's name., type: str, required: true}
  fsid: {description: UUID of the cluster., type: str, required: true}
  members: {description: Addresses of all monitors by name., type: dict, required: true}
  stores:
    description: Names of monitors that have a store, as far as their hosts said so.
    type: list
    elements: str
    default: []
  osds:
    description: OSDs that hosts have, as far as they said so.
    type: list
    elements: str
    default: []
  unasked:
    description: Hosts with monitors or OSDs that are not in this run, so that nobody knows what they hold.
    type: list
    elements: str
    default: []
  state:
    description: V(asked) only says what is there.
    type: str
    choices: [asked, present]
    default: present
attributes:
  check_mode: {support: full, description: Reports what a run would do.}
  diff_mode: {support: none, description: Stores have no text.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Monitor of controller1
  brume.cloud.ceph_monitor:
    name: controller1
    fsid: 4f6d3b1e-0d0c-5d52-9d3f-2d3a1c1f7a11
    members: {controller1: "[v2:192.0.2.11:3300/0,v1:192.0.2.11:6789/0]"}
"""

RETURN = r"""
store: {description: Whether the monitor has a store., type: bool, returned: success}
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [make the store of the monitor controller1]
"""

import os
import shutil
import subprocess
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import ceph, ceph_cluster, host_lock

KEYRING = "/etc/ceph/mon.keyring"
USER = "ceph"


def call(*words: str) -> None:
    """Run a command. Raises CephError with what it says."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ceph_cluster.CephError(f"`{' '.join(words[:3])}` ends with {done.returncode}: {said}")


def taken(path: str, first: bool) -> bool:
    """Write the map of the monitors that serve. Raises CephError.

    While a cluster is made for the `first` time, those that have a store may not be enough to serve yet.
    """
    try:
        call("ceph", "--connect-timeout=10", "mon", "getmap", "-o", path)
    except ceph_cluster.CephError:
        if not first:
            raise
        return False
    return True


def make(store: str, name: str, fsid: str, members: dict[str, str], serving: bool, first: bool) -> None:
    """Make a monitor's store. Raises CephError and OSError.

    It is made beside its place and moved there at the end, so that what a run left unfinished is no store.
    """
    building = f"{store}.new"
    shutil.rmtree(building, ignore_errors=True)
    os.makedirs(building, mode=0o750)
    shutil.chown(building, USER, USER)
    with tempfile.TemporaryDirectory() as folder:
        shutil.chown(folder, USER, USER)
        path = os.path.join(folder, "monmap")
        if not (serving and taken(path, first)):
            words = [word for one, place in members.items() for word in ("--addv", one, place)]
            call("monmaptool", "--create", "--fsid", fsid, *words, path)
        shutil.chown(path, USER, USER)
        call(
            "ceph-mon", "--mkfs", "--id", name, "--mon-data", building, "--monmap", path, "--keyring", KEYRING,
            "--setuser", USER, "--setgroup", USER,
        )  # fmt: skip
    os.rename(building, store)


def main() -> None:
    """Read, decide, do, report."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "fsid": {"type": "str", "required": True},
            "members": {"type": "dict", "required": True},
            "stores": {"type": "list", "elements": "str", "default": []},
            "osds": {"type": "list", "elements": "str", "default": []},
            "unasked": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["asked", "present"], "default": "present"},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    given = module.params
    name: str = given["name"]
    store = f"/var/lib/ceph/mon/ceph-{name}"
    there = os.path.isdir(store) and bool(os.listdir(store))
    if given["state"] == "asked":
        module.exit_json(changed=False, store=there, actions=[])
    others = [one for one in given["stores"] if one != name]
    first = not given["osds"] and not given["unasked"]
    actions = []
    if not there:
        refusal = ceph.monitor_refusal(name, others, given["osds"], given["unasked"])
        if refusal:
            module.fail_json(msg=refusal)
        actions.append(f"make the store of the monitor {name}")
    place = f"/var/lib/ceph/mgr/ceph-{name}"
    if not os.path.isdir(place):
        actions.append(f"make {place}")
    try:
        if not module.check_mode:
            if not there:
                if os.path.isdir(store):
                    os.rmdir(store)
                make(store, name, given["fsid"], given["members"], bool(others), first)
            os.makedirs(place, mode=0o750, exist_ok=True)
            shutil.chown(place, USER, USER)
    except (ceph_cluster.CephError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(actions), store=there or not module.check_mode, actions=actions)


if __name__ == "__main__":
    main()
