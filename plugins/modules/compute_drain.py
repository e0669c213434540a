#!/usr/bin/python
"""Ansible module: empty compute hosts, or give them back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_drain
short_description: Empty compute hosts by moving their instances, or give them back
description:
  - Disables the compute services of all hosts with a reason of its own, moves every instance to a host that is not
    drained, and sees that Nova and Placement have nothing left there. Destinations are planned so that room, zones and
    groups are kept, and Nova's scheduler checks each (C(host) without C(force)).
  - >-
    Active and paused instances migrate live, with their disks where these are not shared (C(block_migration: auto)),
    stopped ones cold, which is confirmed, and shelved ones are offloaded. Others cannot leave; nothing is changed then
    unless O(accept_stuck). Locks hold off users, not administrators, so locked instances move.
  - What is under way is read from Nova, so that a run goes on where a killed one ended. A cold migration is confirmed
    only if it is none of a user and began after the service was disabled by this module.
  - With O(state=enabled) enables the services that this module disabled, and tells of those that it did not.
  - >-
    Sources: Compute API, U(https://docs.openstack.org/api-ref/compute/), microversions 2.86 for hypervisors and 2.100,
    C(nova.compute.api.API), and Placement API, U(https://docs.openstack.org/api-ref/placement/), microversion 1.39.
requirements: [keystoneauth1 (part of every environment of Nova)]
notes:
  - Runs with the Python of Nova's environment (C(ansible_python_interpreter)).
  - The action of the same name calls the module again and again, and shows what has ended meanwhile.
attributes:
  check_mode: {description: "Reports the services and each move with source and destination.", support: full}
  diff_mode: {description: "One diff for each service and instance.", support: full}
extends_documentation_fragment: [brume.cloud.session]
options:
  compute_url: {description: "Address of the Compute API, with its version.", type: str, required: true}
  placement_url: {description: "Address of the Placement API.", type: str, required: true}
  network_url:
    description: Address of the Network API; hosts that only it knows are left to M(brume.cloud.agent_drain).
    type: str
    required: true
  hosts:
    description: Hosts by the names that Nova has for them.
    type: list
    elements: str
    required: true
  state: {description: "What they are to be.", type: str, choices: [drained, enabled], default: drained}
  accept_stuck: {description: "Move what can be moved, and leave the rest.", type: bool, default: false}
  rolling:
    description:
      - Unless 0, change nothing and return the waves in which the hosts can be emptied, maintained and given back, so
        many at a time.
    type: int
    default: 0
  per_host:
    description: Instances of one host on their way at once; Nova queues those above C(max_concurrent_live_migrations).
    type: int
    default: 2
  patience:
    description: Seconds without any progress of a host's migrations after which the module gives up.
    type: float
    default: 1800
  within:
    description: Seconds after which the module returns although not all is done; 0 waits for the end.
    type: float
    default: 0
  resume: {description: "RV(resume) of the call before, in the same run.", type: dict}
  cells: {description: "Compute host -> cell, where there are several. Instances stay.", type: dict, default: {}}
  configuration:
    description: Options of C(nova.conf) that the scheduler has, section -> option -> value; else Nova's defaults.
    type: dict
    default: {}
author: Brume developers
"""

EXAMPLES = r"""
- name: Empty two hosts
  brume.cloud.compute_drain:
    auth: "{{ keystone_auth }}"
    compute_url: https://internal.example.com:8774/v2.1
    placement_url: https://internal.example.com:8778
    network_url: https://internal.example.com:9696
    hosts: [compute1, compute2]

- name: Give them back
  brume.cloud.compute_drain:
    auth: "{{ keystone_auth }}"
    compute_url: https://internal.example.com:8774/v2.1
    placement_url: https://internal.example.com:8778
    network_url: https://internal.example.com:9696
    hosts: [compute1, compute2]
    state: enabled
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run; returned by a run's first call.
  returned: success
  type: list
  elements: str
  sample: ["update compute service compute1 (disabled_reason, status)",
           "move instance web (6e2c...) from compute1 to compute3 by live migration"]
stuck:
  description: Instances that cannot leave, why, and what would let them.
  returned: first call
  type: list
  elements: str
lines: {description: "What has ended, and what was left alone.", returned: always, type: list, elements: str}
done: {description: "Whether the end is reached.", returned: success, type: bool}
resume: {description: "What to hand to the next call.", returned: unless RV(done), type: dict}
waves: {description: "Waves as lines to read.", returned: with O(rolling), type: list, elements: str}
msg:
  description: On failure, what cannot leave or did not, with Nova's own reason and what to do.
  returned: on failure
  type: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import compute_drain, scheduling_state
from ansible_collections.brume.cloud.plugins.module_utils.agent_drain import known_hosts
from ansible_collections.brume.cloud.plugins.module_utils.api_module import execute
from ansible_collections.brume.cloud.plugins.module_utils.api_session import (
    AUTH,
    Request,
    log_in_or_before,
    requests_to,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import settings_of

ARGUMENTS: dict[str, dict[str, Any]] = {
    "auth": AUTH,
    **{f"{name}_url": {"type": "str", "required": True} for name in ("compute", "placement", "network")},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["drained", "enabled"], "default": "drained"},
    "accept_stuck": {"type": "bool", "default": False},
    "rolling": {"type": "int", "default": 0},
    "per_host": {"type": "int", "default": 2},
    "patience": {"type": "float", "default": 1800},
    "within": {"type": "float", "default": 0},
    "resume": {"type": "dict"},
    "cells": {"type": "dict", "default": {}},
    "configuration": {"type": "dict", "default": {}},
}


def run(params: dict[str, Any], check_mode: bool, lines: list[str]) -> dict[str, Any]:
    """Go on for as long as `within` says. Raises ConvergenceError, SchedulingError, ApiError, OSError, ImportError."""
    wish = compute_drain.Wish(
        hosts=tuple(dict.fromkeys(params["hosts"])),
        enabled=params["state"] == "enabled",
        accept_stuck=params["accept_stuck"],
        cells=params["cells"],
        per_host=max(params["per_host"], 1),
        patience=params["patience"],
        settings=settings_of(params["configuration"]),
    )
    session = log_in_or_before(params["auth"], check_mode)

    def to(service: str, version: str) -> Request:
        return requests_to(session, params[f"{service}_url"], {"OpenStack-API-Version": f"{service} {version}"})

    apis = compute_drain.Apis(
        to("compute", scheduling_state.COMPUTE_VERSION),
        to("compute", scheduling_state.SERVER_VERSION),
        to("placement", scheduling_state.PLACEMENT_VERSION),
    )
    elsewhere = known_hosts(requests_to(session, params["network_url"]))
    if params["rolling"]:
        waves = compute_drain.rolling(wish, apis, params["rolling"], elsewhere)
        return {"changed": False, "actions": [], "diff": [], "done": True, "lines": lines, "waves": waves}
    until = time.monotonic() + params["within"] if params["within"] else float("inf")
    work = compute_drain.Work.of(params["resume"])
    return compute_drain.step(
        wish,
        apis,
        work,
        lines,
        check_mode=check_mode,
        until=until,
        clock=time.monotonic,
        sleep=time.sleep,
        elsewhere=elsewhere,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    lines: list[str] = []
    execute(module, "Nova", lambda: run(module.params, module.check_mode, lines), lines)


if __name__ == "__main__":
    main()
