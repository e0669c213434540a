#!/usr/bin/python
"""Ansible module: takes hosts out of Nova, Neutron and Placement."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_removal
short_description: Takes hosts out of Nova, Neutron and Placement
description:
  - Deletes the hosts' services, network agents and resource providers, in one process with one session. Nova takes a
    compute service's aggregates, provider and host mapping along.
  - Everything that keeps a host from being removed is said at once, before anything changes.
  - Hosts that are unknown to the APIs, or not known any more, are no error.
  - >-
    Sources: Compute API microversion 2.86, Networking API v2.0, Placement API microversion 1.20, Image API v2.
requirements: [keystoneauth1 (part of every environment of Nova)]
notes:
  - Runs with the Python of Nova's environment (C(ansible_python_interpreter)).
  - The hosts' units have to be stopped before, since what reports in again comes back.
attributes:
  check_mode:
    support: full
    description: Tells what would be deleted. Instances of hosts that are reached count as drained.
  diff_mode: {description: One diff for each object., support: full}
extends_documentation_fragment: [brume.cloud.session]
options:
  compute_url: {description: "Address of the Compute API, with its version.", type: str, required: true}
  network_url: {description: "Address of the Networking API.", type: str, required: true}
  placement_url: {description: "Address of the Placement API.", type: str, required: true}
  image_url:
    description: Address of the Image API, where images lie in files of one controller.
    type: str
  image_directory:
    description: Folder of images on this host, which serves them when the others are gone.
    type: path
  hosts: {description: Names of the hosts as services report them., type: list, elements: str, required: true}
  lost: {description: Those of them that cannot be reached., type: list, elements: str, default: []}
  accept_loss:
    description:
      - Delete the instances of O(lost) hosts that are down in Nova too, and go on without images that have no file.
    type: bool
    default: false
  replaced:
    description:
      - The hosts stay, as new machines. Only a compute service that is down goes, with its providers. A new
        C(nova-compute) refuses to start as long as there is one (C(_ensure_existing_node_identity) in
        C(nova.compute.manager)).
    type: bool
    default: false
  judge: {description: Change nothing; tell problems instead of failing with them., type: bool, default: false}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Remove a compute host whose units have been stopped
  brume.cloud.host_removal:
    auth: "{{ keystone_auth }}"
    compute_url: https://internal.example.com:8774/v2.1
    network_url: https://internal.example.com:9696
    placement_url: https://internal.example.com:8778
    hosts: [compute3]
"""

RETURN = r"""
problems:
  description: With O(judge), why the hosts cannot go, each with the next step.
  type: list
  elements: str
  returned: with O(judge)
drain:
  description: With O(judge), the hosts that have something to drain.
  type: list
  elements: str
  returned: with O(judge)
actions:
  description: One sentence for each change, the same in check mode and in the run.
  type: list
  elements: str
  returned: without O(judge)
  sample: [delete service nova-compute of compute3, delete resource provider compute3]
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_removal
from ansible_collections.brume.cloud.plugins.module_utils.api_module import execute
from ansible_collections.brume.cloud.plugins.module_utils.api_session import (
    AUTH,
    Request,
    log_in_or_before,
    requests_to,
)
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    SIDE_BY_SIDE,
    ConvergenceError,
    converge,
)

ARGUMENTS: dict[str, Any] = {
    "auth": AUTH,
    "compute_url": {"type": "str", "required": True},
    "network_url": {"type": "str", "required": True},
    "placement_url": {"type": "str", "required": True},
    "image_url": {"type": "str"},
    "image_directory": {"type": "path"},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "lost": {"type": "list", "elements": "str", "default": []},
    "accept_loss": {"type": "bool", "default": False},
    "replaced": {"type": "bool", "default": False},
    "judge": {"type": "bool", "default": False},
}


def apis(params: dict[str, Any], check_mode: bool) -> dict[str, Request]:
    """Log in; return what sends requests to each API. Raises ApiError."""
    session = log_in_or_before(params["auth"], check_mode)
    return {
        name: requests_to(session, params[f"{name}_url"], host_removal.HEADERS.get(name))
        for name in ("compute", "network", "placement", "image")
        if params[f"{name}_url"]
    }


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Fetch, judge, compare and apply unless in check mode. Raises ConvergenceError, ApiError, OSError, ImportError."""
    leaving = host_removal.Leaving(
        hosts=params["hosts"],
        lost=params["hosts"] if params["replaced"] else params["lost"],
        accept_loss=params["accept_loss"],
        replaced=params["replaced"],
    )
    senders = apis(params, check_mode)
    actual = host_removal.fetch(leaving, senders)
    folder = params["image_directory"] or ""
    files = os.listdir(folder) if os.path.isdir(folder) else []
    found = host_removal.problems(leaving, actual, files, drains=params["judge"] or check_mode)
    if params["judge"]:
        return {"changed": False, "problems": found, "drain": host_removal.drained(leaving, actual)}
    if found:
        raise ConvergenceError("\n".join(found))
    return converge(host_removal.compare(leaving, actual, senders), check_mode=check_mode, limit=SIDE_BY_SIDE)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    execute(module, "Nova", lambda: run(module.params, module.check_mode))


if __name__ == "__main__":
    main()
