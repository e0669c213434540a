#!/usr/bin/python
"""Ansible module: Nova's flavors and host aggregates."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nova_scheduling
short_description: Keep Nova's flavors and host aggregates as described
description:
  - Handles any number of objects in one process with one session. Each type is listed once, only what differs changes.
  - Objects are known by name, and those that are not named here are left alone.
  - Flavors do not change in Nova but for their description, extra specs and projects. Another size is an error unless
    O(flavors[].replace) allows to delete the flavor and make it anew, which is done only while no instance uses it.
  - The hosts of an aggregate are exactly those given. A host joins before it leaves another aggregate of its zone.
  - What Nova would refuse because of zones is refused before anything changes, in a check mode run too.
  - >-
    Sources: Compute API, U(https://docs.openstack.org/api-ref/compute/), microversion 2.86, and the zone rules of
    C(nova.compute.api.AggregateAPI).
requirements: [keystoneauth1 (part of every environment of Nova)]
notes:
  - Runs with the Python of Nova's environment (C(ansible_python_interpreter)).
  - Deleting a flavor leaves the instances that use it as they are, since each keeps a copy of its flavor.
  - >-
    Requests are sent again, five times at most, after a refused or reset connection and HTTP 502, 503 and 504, and
    nothing else. Creations are repeated only when the first attempt certainly did not arrive (refused, 503).
attributes:
  check_mode: {description: "Reports what would change; before there is a Nova, everything.", support: full}
  diff_mode: {description: "One diff for each changed object.", support: full}
extends_documentation_fragment: [brume.cloud.session]
options:
  compute_url: {description: "Address of the Compute API, with its version.", type: str, required: true}
  start_record:
    description:
      - File that the first good start of the API leaves on this host. Where it is missing in check mode and the API
        cannot be asked, there is none yet, and what would change is predicted as for an empty Nova.
    type: path
  flavors:
    description: Flavors. Options that are not given are left alone; a new flavor gets Nova's defaults.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      vcpus: {description: "Number of virtual processors; required unless O(flavors[].state=absent).", type: int}
      ram: {description: "Memory in MiB; required unless O(flavors[].state=absent).", type: int}
      disk: {description: "Root disk in GiB, 0 for the image's size; required as O(flavors[].ram).", type: int}
      swap: {description: "Swap in MiB.", type: int}
      ephemeral: {description: "Second disk in GiB.", type: int}
      rxtx_factor: {description: "Bandwidth factor, which few drivers read.", type: float}
      is_public: {description: "Whether all projects may use it; false with O(flavors[].projects).", type: bool}
      description: {description: "Text.", type: str}
      extra_specs: {description: "Extra specs; others are deleted.", type: dict}
      projects:
        description: Names or ids of the projects that may use it; access is taken from others.
        type: list
        elements: str
      replace:
        description: Delete the flavor and make it anew, with its id, where that takes what does not change otherwise.
        type: bool
        default: false
      state: &state {description: "Whether it is to exist.", type: str, choices: [present, absent], default: present}
  aggregates:
    description: Host aggregates.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      availability_zone:
        description: Zone of its hosts; left alone unless given, since Nova never takes a zone away.
        type: str
      metadata: {description: "Metadata; other keys are deleted. Left alone unless given.", type: dict}
      hosts:
        description: Its compute hosts, no more and no less; required unless O(aggregates[].state=absent).
        type: list
        elements: str
      state: *state
  optional_hosts:
    description: Compute hosts that may not have been deployed; one without a compute service joins no aggregate.
    type: list
    elements: str
    default: []
  limit:
    description:
      - Compute hosts to which the run is limited. They join and leave aggregates, and nothing else changes of these; a
        missing aggregate is made when one of them belongs to it, without its other hosts. Without O(flavors).
    type: list
    elements: str
  leaving:
    description: Hosts that are removed from the cloud. They stay in their aggregates until their services are deleted.
    type: list
    elements: str
    default: []
author: Brume developers
"""

EXAMPLES = r"""
- name: Two sizes and two zones
  brume.cloud.nova_scheduling:
    auth: "{{ keystone_auth }}"
    compute_url: https://internal.example.com:8774/v2.1
    flavors:
      - {name: m1.small, vcpus: 1, ram: 2048, disk: 20}
      - {name: db.large, vcpus: 8, ram: 32768, disk: 40, projects: [databases], extra_specs: {"hw:cpu_policy": shared}}
    aggregates:
      - {name: rack1, availability_zone: east, hosts: [compute1, compute2], metadata: {ssd: true}}
      - {name: rack2, availability_zone: west, hosts: [compute3]}

- name: Retire a size
  brume.cloud.nova_scheduling:
    auth: "{{ keystone_auth }}"
    compute_url: https://internal.example.com:8774/v2.1
    flavors: [{name: m0.tiny, state: absent}]
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run.
  returned: success
  type: list
  elements: str
  sample: [create flavor m1.small, create aggregate rack1, create member compute1 of aggregate rack1]
msg:
  description: On failure, one line for each object with what is wrong and what to do.
  returned: on failure
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import nova_scheduling
from ansible_collections.brume.cloud.plugins.module_utils.api_module import execute
from ansible_collections.brume.cloud.plugins.module_utils.api_session import (
    AUTH,
    ONCE,
    ApiError,
    Request,
    base_url,
    log_in_or_before,
    requests_to,
    unreachable,
)
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    SIDE_BY_SIDE,
    ConvergenceError,
    converge,
)

STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "auth": AUTH,
    "compute_url": {"type": "str", "required": True},
    "start_record": {"type": "path"},
    "flavors": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            **{name: {"type": "int"} for name in ("vcpus", "ram", "disk", "swap", "ephemeral")},
            "rxtx_factor": {"type": "float"},
            "is_public": {"type": "bool"},
            "description": {"type": "str"},
            "extra_specs": {"type": "dict"},
            "projects": {"type": "list", "elements": "str"},
            "replace": {"type": "bool", "default": False},
            "state": STATE,
        },
        "required_if": [("state", "present", ("vcpus", "ram", "disk"))],
    },
    "aggregates": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "availability_zone": {"type": "str"},
            "metadata": {"type": "dict"},
            "hosts": {"type": "list", "elements": "str"},
            "state": STATE,
        },
        "required_if": [("state", "present", ("hosts",))],
    },
    "optional_hosts": {"type": "list", "elements": "str", "default": []},
    "limit": {"type": "list", "elements": "str"},
    "leaving": {"type": "list", "elements": "str", "default": []},
}


def apis(params: dict[str, Any], check_mode: bool, **more: Any) -> tuple[Request, Request]:
    """Log in; return what sends requests to Nova and to Keystone. Raises ApiError."""
    session = log_in_or_before(params["auth"], check_mode, **more)
    headers = {"OpenStack-API-Version": f"compute {nova_scheduling.MICROVERSION}"}
    compute = requests_to(session, params["compute_url"], headers)
    return compute, requests_to(session, base_url(params["auth"]["auth_url"]))


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Fetch, compare and apply unless in check mode. Raises ConvergenceError, ApiError, OSError and ImportError."""
    record = params["start_record"]
    may_lack = check_mode and bool(record) and not os.path.exists(record)
    try:
        compute, identity = apis(params, check_mode, **(ONCE if may_lack else {}))
        actual = nova_scheduling.fetch(params, compute, identity)
    except (ApiError, ConvergenceError, OSError, ImportError):
        if not may_lack:
            raise
        compute, actual = unreachable("Nova"), nova_scheduling.Actual()
    actions = nova_scheduling.compare(params, actual, compute)
    return converge(actions, check_mode=check_mode, limit=SIDE_BY_SIDE)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    execute(module, "Nova", lambda: run(module.params, module.check_mode))


if __name__ == "__main__":
    main()
