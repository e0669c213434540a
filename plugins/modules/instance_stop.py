#!/usr/bin/python
"""Ansible module: stops the instances of a whole cloud."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_stop
short_description: Stops all instances that run, so that their hosts can be switched off
description:
  - Tells Nova to stop every instance of every project that is active, and waits until each is off. Guests are asked
    first, as Nova does for C(openstack server stop).
  - When one cannot be stopped (it is paused, busy, in rescue mode, or a resize waits for its user), nothing is changed,
    and each is named with the reason.
  - Which instances were stopped is not remembered.
requirements: [keystoneauth1 (part of every environment of Nova)]
notes:
  - Runs with the Python of Nova's environment (C(ansible_python_interpreter)).
  - Source - Compute API v2.1.
attributes:
  check_mode: {support: full, description: Tells which instances would be stopped.}
  diff_mode: {support: full, description: One diff for each instance.}
extends_documentation_fragment: [brume.cloud.session]
options:
  compute_url: {description: "Address of the Compute API, with its version.", type: str, required: true}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Stop all instances
  brume.cloud.instance_stop:
    auth: "{{ keystone_auth }}"
    compute_url: https://internal.example.com:8774/v2.1
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: ["update instance web (6e2c...) on compute1 (status)"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import instance_stop
from ansible_collections.brume.cloud.plugins.module_utils.api_module import execute
from ansible_collections.brume.cloud.plugins.module_utils.api_session import AUTH, log_in_or_before, requests_to
from ansible_collections.brume.cloud.plugins.module_utils.convergence import SIDE_BY_SIDE, converge

ARGUMENTS: dict[str, Any] = {"auth": AUTH, "compute_url": {"type": "str", "required": True}}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Fetch, judge, and stop unless in check mode. Raises ConvergenceError, ApiError, OSError, ImportError."""
    compute = requests_to(log_in_or_before(params["auth"], check_mode), params["compute_url"])
    return converge(instance_stop.compare(compute), check_mode=check_mode, limit=SIDE_BY_SIDE)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    execute(module, "Nova", lambda: run(module.params, module.check_mode))


if __name__ == "__main__":
    main()
