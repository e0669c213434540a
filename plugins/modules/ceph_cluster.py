#!/usr/bin/python
"""Users, rules and pools of a Ceph cluster in one connection."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_cluster
short_description: Makes the users, rules and pools of a Ceph cluster as declared
description:
  - Runs on a host with a monitor, as C(client.admin). Users and pools that are not declared are left alone, and no pool
    is ever deleted.
  - Without a cluster that answers it does nothing where O(wait) is 0, as before the first start of the monitors.
options:
  users:
    description: Entities with C(name), C(key) and C(caps).
    type: list
    elements: dict
    default: []
  pools: {description: 'Pools, see C(ceph_pools).', type: list, elements: dict, default: []}
  failure_domain: {description: What no two copies of an object share., type: str, default: host}
  wait: {description: Seconds to wait for a cluster that answers., type: int, default: 0}
attributes:
  check_mode: {support: full, description: Reports what a run would do.}
  diff_mode: {support: none, description: The actions name every value but keys.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Pools
  brume.cloud.ceph_cluster:
    pools: [{name: images}, {name: volumes, size: 3}]
    wait: 60
"""

RETURN = r"""
health: {description: The cluster's own word., type: str, returned: when a cluster answers, sample: HEALTH_OK}
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [make the pool images, set size of the pool images to 3]
"""

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import ceph, ceph_cluster, host_lock

T = TypeVar("T")
ADMINISTRATOR = "client.admin"


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what a call that may fail while a cluster starts returns. Raises its CephError when the time is over."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except ceph_cluster.CephError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def steps(cluster: ceph_cluster.Cluster, given: dict[str, Any]) -> list[ceph.Step]:
    """Return what is to be done."""
    users = [ceph.User(one["name"], one["key"], one["caps"]) for one in given["users"]]
    found: list[ceph.Step] = []
    if users:
        known = {one["entity"]: (one["key"], one["caps"]) for one in cluster.ask("auth ls")["auth_dump"]}
        found += ceph.user_steps(users, known)
    if given["pools"]:
        rules = {one["rule_name"]: one["rule_id"] for one in cluster.ask("osd crush rule dump")}
        pools = {
            one["pool_name"]: {**one, **one.get("options", {})} for one in cluster.ask("osd pool ls", detail="detail")
        }
        oldest = cluster.ask("osd dump")["require_min_compat_client"]
        found += ceph.plan(given["pools"], pools, rules, oldest, given["failure_domain"])
    return found


def answers() -> None:
    """Ask for the cluster's health. Raises CephError."""
    with ceph_cluster.connected(ADMINISTRATOR) as cluster:
        cluster.ask("health")


def main() -> None:
    """Ask, decide, do, report."""
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "dict", "default": [], "no_log": False},
            "pools": {"type": "list", "elements": "dict", "default": []},
            "failure_domain": {"type": "str", "default": "host"},
            "wait": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    given = module.params
    # A monitor without a store cannot answer, and a client would wait for it.
    begun = os.path.isdir("/var/lib/ceph/mon") and any(os.scandir("/var/lib/ceph/mon"))
    if not begun and (module.check_mode or not given["wait"]):
        # Only a dry run gets here with pools; the first users come with the monitors' stores.
        wanted = ceph.first_steps(given["pools"], given["failure_domain"]) if given["pools"] else []
        module.exit_json(changed=bool(wanted), actions=[one.text for one in wanted])

    try:
        within(given["wait"], answers)
    except ceph_cluster.CephError as error:
        if not given["wait"]:
            module.exit_json(changed=False, actions=[], msg=str(error))
        module.fail_json(msg=str(error))
    try:
        with ceph_cluster.connected(ADMINISTRATOR) as cluster:
            wanted = steps(cluster, given)
            if not module.check_mode:
                for one in wanted:
                    cluster.tell(one.command, one.data)
            actions, health = [one.text for one in wanted], str(cluster.ask("health")["status"])
    except ceph_cluster.CephError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(actions), actions=actions, health=health)


if __name__ == "__main__":
    main()
