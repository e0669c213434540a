#!/usr/bin/python
"""Health and capacity of a Ceph cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_health
short_description: Judges the health and the capacity of a Ceph cluster
description:
  - Fails where the cluster says C(HEALTH_ERR), a placement group is not active, an OSD is down, or more than O(full) of
    the raw capacity is used. Other warnings of the cluster are warnings.
  - Runs on a host with a monitor, as C(client.admin), and changes nothing.
options:
  full: {description: Share of the raw capacity that may be used., type: float, default: 0.8}
  wait: {description: Seconds within which it has to be well., type: int, default: 30}
attributes:
  check_mode: {support: full, description: It only reads.}
  diff_mode: {support: none, description: It only reads.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: See that Ceph is well
  brume.cloud.ceph_health:
"""

RETURN = r"""
health: {description: The cluster's own word., type: str, returned: success, sample: HEALTH_OK}
used: {description: Share of the raw capacity that is used., type: float, returned: success, sample: 0.31}
msg: {description: 'Health, OSDs, placement groups and capacity in a line.', type: str, returned: always}
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import ceph, ceph_cluster

SECONDS_BETWEEN = 2


def read() -> dict[str, Any]:
    """Return what the cluster says of itself. Raises CephError."""
    with ceph_cluster.connected(ceph.ADMINISTRATOR) as cluster:
        return {"status": cluster.ask("status"), "df": cluster.ask("df"), "osds": cluster.ask("osd dump")["osds"]}


def main() -> None:
    """Ask until it is well or the time is over, and report."""
    module = AnsibleModule(
        argument_spec={"full": {"type": "float", "default": 0.8}, "wait": {"type": "int", "default": 30}},
        supports_check_mode=True,
    )
    end = time.monotonic() + module.params["wait"]
    while True:
        try:
            found = ceph.judge(**read(), full=module.params["full"])
            problems, text = found.problems, found.text
        except ceph_cluster.CephError as error:
            problems, text = [str(error)], "Ceph cannot be asked"
            found = None
        if not problems or time.monotonic() > end:
            break
        time.sleep(SECONDS_BETWEEN)
    if found is None or problems:
        module.fail_json(msg=f"{text}: {'; '.join(problems)}")
    for warning in found.warnings:
        module.warn(f"Ceph: {warning}")
    module.exit_json(changed=False, health=found.health, used=found.used, msg=text)


if __name__ == "__main__":
    main()
