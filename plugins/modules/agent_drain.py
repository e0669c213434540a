#!/usr/bin/python
"""Ansible module: take networks and routers from Neutron's agents, or give the agents back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_drain
short_description: Take networks and routers from the DHCP and L3 agents of hosts, or give the agents back
description:
  - Each network and each HA router gets its next agent, whose port is waited for, before it leaves the drained one.
    What enough other agents have already only leaves. A router without HA is on one agent at a time, so its traffic
    pauses until the next agent has it; one that a killed run has left without an agent gets one.
  - Then the agents are disabled (C(admin_state_up)) with a description that says so.
  - With O(state=enabled) enables the agents that this module disabled, and tells of those that it did not. Neutron
    gives an agent that comes back those networks and HA routers that have fewer agents than its options ask for.
  - Agents that forward for their own host's instances alone (C(dvr)) are left alone. Gateways of OVN are refused.
  - "Source: Networking API, U(https://docs.openstack.org/api-ref/network/v2/), and C(neutron.db.agentschedulers_db)."
requirements: [keystoneauth1 (part of every environment of Nova and Neutron)]
notes:
  - Runs with the Python of Neutron's environment (C(ansible_python_interpreter)).
  - The action of the same name calls the module again and again, and shows what has ended meanwhile.
attributes:
  check_mode: {description: "Reports each network, router and agent.", support: full}
  diff_mode: {description: "One diff for each of them.", support: full}
extends_documentation_fragment: [brume.cloud.session]
options:
  network_url: {description: "Address of the Network API, without its version.", type: str, required: true}
  hosts:
    description: Hosts by the names that Neutron has for them; those without such agents are left alone.
    type: list
    elements: str
    required: true
  state: {description: "What their agents are to be.", type: str, choices: [drained, enabled], default: drained}
  accept_stuck:
    description: Take away what another agent can serve, and leave agents enabled that serve something else.
    type: bool
    default: false
  dhcp_agents_per_network: {description: "Neutron's option of this name.", type: int, default: 1}
  max_l3_agents_per_router: {description: "Neutron's option of this name; 0 for all.", type: int, default: 3}
  within:
    description: Seconds after which the module returns although not all is done; 0 waits for the end.
    type: float
    default: 0
  resume: {description: "RV(resume) of the call before, in the same run.", type: dict}
author: Brume developers
"""

EXAMPLES = r"""
- name: Take networks and routers from a host
  brume.cloud.agent_drain:
    auth: "{{ keystone_auth }}"
    network_url: https://internal.example.com:9696
    hosts: [network1]
    dhcp_agents_per_network: 2

- name: Give it back
  brume.cloud.agent_drain:
    auth: "{{ keystone_auth }}"
    network_url: https://internal.example.com:9696
    hosts: [network1]
    state: enabled
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run; returned by a run's first call.
  returned: success
  type: list
  elements: str
  sample: [update network private (5d1b...) from network1 to network3 (dhcp_agents),
           "update agent DHCP agent of network1 (admin_state_up, description)"]
stuck: {description: "What cannot leave, and what would let it.", returned: first call, type: list, elements: str}
lines: {description: "What has ended, and what was left alone.", returned: always, type: list, elements: str}
done: {description: "Whether the end is reached.", returned: success, type: bool}
resume: {description: "What to hand to the next call.", returned: unless RV(done), type: dict}
msg:
  description: On failure, one line for each object with what is wrong and what to do.
  returned: on failure
  type: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import agent_drain
from ansible_collections.brume.cloud.plugins.module_utils.api_module import execute
from ansible_collections.brume.cloud.plugins.module_utils.api_session import (
    AUTH,
    log_in_or_before,
    requests_to,
)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "auth": AUTH,
    "network_url": {"type": "str", "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["drained", "enabled"], "default": "drained"},
    "accept_stuck": {"type": "bool", "default": False},
    "dhcp_agents_per_network": {"type": "int", "default": 1},
    "max_l3_agents_per_router": {"type": "int", "default": 3},
    "within": {"type": "float", "default": 0},
    "resume": {"type": "dict"},
}


def run(params: dict[str, Any], check_mode: bool, lines: list[str]) -> dict[str, Any]:
    """Go on for as long as `within` says. Raises ConvergenceError, ApiError, OSError and ImportError."""
    wish = agent_drain.Wish(
        hosts=tuple(params["hosts"]),
        enabled=params["state"] == "enabled",
        accept_stuck=params["accept_stuck"],
        dhcp_agents_per_network=params["dhcp_agents_per_network"],
        max_l3_agents_per_router=params["max_l3_agents_per_router"],
    )
    network = requests_to(log_in_or_before(params["auth"], check_mode), params["network_url"])
    return agent_drain.step(
        wish,
        network,
        lines,
        begun=bool(params["resume"]),
        check_mode=check_mode,
        until=time.monotonic() + params["within"] if params["within"] else float("inf"),
        clock=time.monotonic,
        sleep=time.sleep,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    lines: list[str] = []
    execute(module, "Neutron", lambda: run(module.params, module.check_mode, lines), lines)


if __name__ == "__main__":
    main()
