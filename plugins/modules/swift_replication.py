#!/usr/bin/python
"""What replication on a storage host has come to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swift_replication
short_description: Says whether a storage host has moved everything to where the rings want it
description:
  - Well is a host whose replicators (of accounts, containers and objects, and the reconstructor where a policy has
    erasure coding) have each ended a pass without failures that began after its rings were put in place, and on whose
    devices no partition lies that a ring has elsewhere.
  - Passes are read from where C(swift-recon) reads them (C(swift.common.recon)). A replicator looks for another ring at
    the begin of a pass, when the last look is C(ring_check_interval) ago, 15 s.
  - Runs with the Python of Swift's environment (C(ansible_python_interpreter)). Changes nothing.
options:
  folder: {description: Where rings are., type: path, default: /etc/swift}
  recon: {description: Where Swift keeps its passes., type: path, default: /var/lib/swift/recon}
  address: {description: 'The host''s address in the rings.', type: str, required: true}
  erasure_coding: {description: Whether a policy has erasure coding., type: bool, default: false}
attributes:
  check_mode: {support: full, description: It only reads.}
  diff_mode: {support: none, description: There is nothing to show.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Wait until partitions are where they belong
  brume.cloud.swift_replication:
    address: 10.0.0.1
  register: result
  until: result.well
  retries: 40
  delay: 15
"""

RETURN = r"""
well: {description: Whether everything is in place., type: bool, returned: success}
reasons:
  description: What is not, one sentence each.
  type: list
  elements: str
  returned: success
  sample: ["sdb holds 12 partitions of object that belong elsewhere"]
misplaced:
  description: Partitions on each device that belong elsewhere, by ring.
  type: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import swift_placement


def main() -> None:
    """Read and report."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "default": "/etc/swift"},
            "recon": {"type": "path", "default": "/var/lib/swift/recon"},
            "address": {"type": "str", "required": True},
            "erasure_coding": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    try:
        since = swift_placement.newest_ring(params["folder"])
        passes = {kind: swift_placement.read_pass(params["recon"], kind) for kind in swift_placement.PROGRAMS}
        misplaced = swift_placement.misplaced(params["folder"], params["address"])
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    if not params["erasure_coding"]:
        passes.pop("object-reconstructor")
    reasons = swift_placement.reasons(passes, since, misplaced)
    module.exit_json(changed=False, well=not reasons, reasons=reasons, misplaced=misplaced)


if __name__ == "__main__":
    main()
