#!/usr/bin/python
"""Ansible module: removes what Nova, Neutron and Placement keep and nobody wants."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_orphans
short_description: Removes allocations of nobody, and agents and services of hosts that are gone
description:
  - Allocations in Placement of Nova's resource classes whose consumer is neither an instance nor a migration of Nova's.
  - Services of Nova, agents of Neutron and resource providers of hosts that are not in O(inventory); agents of kinds
    that their host does not run any more. Both only when they have not reported for O(agent_hours).
  - Nothing is removed of what reports, of a host that is in the inventory and down, of a host with instances, or of
    what alone serves a router or network. What stays is returned with its reason.
  - >-
    Sources: Compute API microversion 2.86, Networking API v2.0, Placement API microversions 1.28 and 1.38.
requirements: [keystoneauth1 (part of every environment of Nova)]
notes:
  - Runs with the Python of Nova's environment (C(ansible_python_interpreter)).
attributes:
  check_mode: {support: full, description: Tells what would be deleted.}
  diff_mode: {support: full, description: "One diff for each object, with the reason."}
extends_documentation_fragment: [brume.cloud.session]
options:
  compute_url: {description: "Address of the Compute API, with its version.", type: str, required: true}
  network_url: {description: "Address of the Networking API.", type: str, required: true}
  placement_url: {description: "Address of the Placement API.", type: str, required: true}
  kinds:
    description: What to look for.
    type: list
    elements: str
    choices: [allocations, agents]
    default: [allocations, agents]
  inventory: {description: Names of all hosts of the inventory., type: list, elements: str, required: true}
  planned: {description: Names of those that the cloud is planned on., type: list, elements: str, required: true}
  agents:
    description: Agents that run on planned hosts, each as its binary and its host.
    type: list
    elements: list
    required: true
  agent_hours:
    description: Hours for which a service or agent must have been silent.
    type: int
    default: 24
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Remove allocations of nobody
  brume.cloud.cloud_orphans:
    auth: "{{ keystone_auth }}"
    compute_url: https://internal.example.com:8774/v2.1
    network_url: https://internal.example.com:9696
    placement_url: https://internal.example.com:8778
    kinds: [allocations]
    inventory: [controller1, compute1]
    planned: [controller1, compute1]
    agents: [[neutron-openvswitch-agent, compute1]]
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run.
  type: list
  elements: str
  returned: success
  sample: [delete network agent neutron-l3-agent of network9]
kinds:
  description: By kind, how many were found (C(found)), how many went (C(removed)), and what stays and why (C(left)).
  type: dict
  returned: success
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import cloud_orphans
from ansible_collections.brume.cloud.plugins.module_utils.api_module import execute
from ansible_collections.brume.cloud.plugins.module_utils.api_session import AUTH, log_in_or_before, requests_to
from ansible_collections.brume.cloud.plugins.module_utils.convergence import SIDE_BY_SIDE, converge

KINDS = ["allocations", "agents"]
ARGUMENTS: dict[str, Any] = {
    "auth": AUTH,
    **{f"{name}_url": {"type": "str", "required": True} for name in ("compute", "network", "placement")},
    "kinds": {"type": "list", "elements": "str", "choices": KINDS, "default": KINDS},
    "inventory": {"type": "list", "elements": "str", "required": True},
    "planned": {"type": "list", "elements": "str", "required": True},
    "agents": {"type": "list", "elements": "list", "required": True},
    "agent_hours": {"type": "int", "default": 24},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Fetch, compare and apply unless in check mode. Raises ConvergenceError, ApiError, OSError, ImportError."""
    session = log_in_or_before(params["auth"], check_mode)
    addresses = {**{name: name for name in ("compute", "network", "placement")}, "allocations": "placement"}
    apis = {
        name: requests_to(session, params[f"{service}_url"], cloud_orphans.HEADERS.get(name))
        for name, service in addresses.items()
    }
    wish = cloud_orphans.Wish(
        inventory=params["inventory"],
        planned=params["planned"],
        agents=[(binary, host) for binary, host in params["agents"]],
        before=datetime.now(UTC) - timedelta(hours=params["agent_hours"]),
    )
    found: dict[str, cloud_orphans.Found] = {}
    if "allocations" in params["kinds"]:
        found["allocations"] = cloud_orphans.allocations(apis)
    if "agents" in params["kinds"]:
        released = found["allocations"].released if "allocations" in found else []
        found["agents"] = cloud_orphans.agents(wish, apis, released)
    actions = [action for one in found.values() for action in one.actions]
    result = converge(actions, check_mode=check_mode, limit=SIDE_BY_SIDE)
    kinds = {
        name: {
            "found": len(one.actions) + len(one.left),
            "removed": 0 if check_mode else len(one.actions),
            "left": one.left,
        }
        for name, one in found.items()
    }
    return {**result, "kinds": kinds}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    execute(module, "Nova", lambda: run(module.params, module.check_mode))


if __name__ == "__main__":
    main()
