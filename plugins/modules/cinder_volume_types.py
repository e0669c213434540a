#!/usr/bin/python
"""Ansible module: Cinder's volume types, QoS specs and default quotas."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cinder_volume_types
short_description: Keep Cinder's volume types, QoS specs and default quotas as described
description:
  - Handles any number of objects in one process with one session. Each kind is listed once, only what differs changes.
  - Objects are known by name, and those that are not named here are left alone.
  - Cinder changes extra specs of a type only while no volume has it, and deletes no such type, no default type, and no
    QoS specs that a type has. What it would refuse so is refused before anything changes, in a check mode run too.
  - >-
    Sources: Block Storage API v3, U(https://docs.openstack.org/api-ref/block-storage/v3/), microversion 3.62, and the
    rules of C(cinder.api.contrib.types_extra_specs), C(cinder.volume.volume_types) and C(cinder.volume.qos_specs).
requirements: [keystoneauth1 (part of every environment of Cinder)]
notes:
  - Runs with the Python of Cinder's environment (C(ansible_python_interpreter)).
  - Other QoS specs hold for volumes that are attached (V(front-end)) or made and retyped (V(back-end)) from then on.
  - A type that groups have, and no volume, is refused by Cinder itself when it is to be deleted.
  - >-
    Requests are sent again, five times at most, after a refused or reset connection and HTTP 502, 503 and 504, and
    nothing else. Creations are repeated only when the first attempt certainly did not arrive (refused, 503).
attributes:
  check_mode: {description: "Reports what would change; before there is a Cinder, everything.", support: full}
  diff_mode: {description: "One diff for each changed object.", support: full}
extends_documentation_fragment: [brume.cloud.session]
options:
  volume_url:
    description: Address of the Block Storage API, with its version and without a project.
    type: str
    required: true
  start_record:
    description:
      - File that the first good start of the API leaves on this host. Where it is missing in check mode and the API
        cannot be asked, there is none yet, and what would change is predicted as for a new Cinder.
    type: path
  volume_types:
    description: Volume types. Options that are not given are left alone.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      description: {description: "Text.", type: str}
      is_public:
        description: Whether all projects may use it; false with O(volume_types[].projects).
        type: bool
      projects:
        description: Names or ids of the projects that may use it; access is taken from others.
        type: list
        elements: str
      extra_specs: {description: "Extra specs; others are deleted.", type: dict}
      qos:
        description: Name of its QoS specs, an empty text for none.
        type: str
      state: &state {description: "Whether it is to exist.", type: str, choices: [present, absent], default: present}
  qos_specs:
    description: QoS specs.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      consumer:
        description: Who holds volumes to them, Nova, Cinder's driver, or both. Cinder's default is V(back-end).
        type: str
        choices: [front-end, back-end, both]
      specs: {description: "Their keys and values; others are deleted. Left alone unless given.", type: dict}
      state: *state
  default_quotas:
    description:
      - Quotas of projects that have none of their own, by resource, such as C(volumes), C(gigabytes) (GiB) and
        C(gigabytes_TYPE). V(-1) is no limit. Resources that are not given are left alone.
    type: dict
    default: {}
  default_volume_type:
    description: Name of the type that a volume gets which names none, as C(cinder.conf) says it; it has to be there.
    type: str
author: Brume developers
"""

EXAMPLES = r"""
- name: Two types, one of them limited
  brume.cloud.cinder_volume_types:
    auth: "{{ keystone_auth }}"
    volume_url: https://internal.example.com:8776/v3
    qos_specs:
      - {name: slow, consumer: front-end, specs: {total_iops_sec: 500, total_bytes_sec: 52428800}}
    volume_types:
      - {name: ceph, extra_specs: {volume_backend_name: ceph}}
      - {name: archive, extra_specs: {volume_backend_name: ceph}, qos: slow, projects: [databases]}
    default_quotas: {volumes: 20, gigabytes: 2000, gigabytes_archive: 500}
    default_volume_type: ceph

- name: Retire the type that Cinder brings along
  brume.cloud.cinder_volume_types:
    auth: "{{ keystone_auth }}"
    volume_url: https://internal.example.com:8776/v3
    volume_types: [{name: __DEFAULT__, state: absent}]
    default_volume_type: ceph
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run.
  returned: success
  type: list
  elements: str
  sample: [create QoS specs slow, create volume type archive, update quotas default (gigabytes)]
msg:
  description: On failure, one line for each object with what is wrong and what to do.
  returned: on failure
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import volume_types
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
    "volume_url": {"type": "str", "required": True},
    "start_record": {"type": "path"},
    "volume_types": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "description": {"type": "str"},
            "is_public": {"type": "bool"},
            "projects": {"type": "list", "elements": "str"},
            "extra_specs": {"type": "dict"},
            "qos": {"type": "str"},
            "state": STATE,
        },
    },
    "qos_specs": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "consumer": {"type": "str", "choices": list(volume_types.CONSUMERS)},
            "specs": {"type": "dict"},
            "state": STATE,
        },
    },
    "default_quotas": {"type": "dict", "default": {}},
    "default_volume_type": {"type": "str"},
}


def apis(params: dict[str, Any], check_mode: bool, **more: Any) -> tuple[Request, Request]:
    """Log in; return what sends requests to Cinder and to Keystone. Raises ApiError."""
    session = log_in_or_before(params["auth"], check_mode, **more)
    headers = {"OpenStack-API-Version": f"volume {volume_types.MICROVERSION}"}
    volume = requests_to(session, params["volume_url"], headers)
    return volume, requests_to(session, base_url(params["auth"]["auth_url"]))


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Fetch, compare and apply unless in check mode. Raises ConvergenceError, ApiError, OSError and ImportError."""
    record = params["start_record"]
    may_lack = check_mode and bool(record) and not os.path.exists(record)
    try:
        volume, identity = apis(params, check_mode, **(ONCE if may_lack else {}))
        actual = volume_types.fetch(params, volume, identity)
    except (ApiError, ConvergenceError, OSError, ImportError):
        if not may_lack:
            raise
        volume, actual = unreachable("Cinder"), volume_types.Actual()
    actions = volume_types.compare(params, actual, volume)
    return converge(actions, check_mode=check_mode, limit=SIDE_BY_SIDE)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    execute(module, "Cinder", lambda: run(module.params, module.check_mode))


if __name__ == "__main__":
    main()
