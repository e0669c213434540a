#!/usr/bin/python
"""Ansible module: which hosts Nova's scheduler would choose, and why not the others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schedule_preview
short_description: Tell which hosts Nova's scheduler would choose, in what order, and why not the others
description:
  - Reads hosts, aggregates, flavors and server groups of Nova and the resource providers of Placement, or takes
    O(hosts) as they are described, and judges a request as the scheduler does, filter by filter. Changes nothing.
  - >-
    Sources: C(nova.scheduler) at 2026.1, Compute API U(https://docs.openstack.org/api-ref/compute/), microversion 2.86,
    and Placement API U(https://docs.openstack.org/api-ref/placement/), microversion 1.39.
requirements: [keystoneauth1 (part of every environment of Nova), unless hosts are described]
notes:
  - Runs with the Python of Nova's environment (C(ansible_python_interpreter)).
  - What is not judged is said in RV(unjudged).
attributes:
  check_mode: {description: "Is never anything else than a check.", support: full}
  diff_mode: {description: "Nothing changes.", support: none}
extends_documentation_fragment: [brume.cloud.session]
options:
  auth:
    description: Who logs in, and where; required unless O(hosts) are described.
    required: false
  compute_url: {description: "Address of the Compute API, with its version.", type: str}
  placement_url: {description: "Address of the Placement API.", type: str}
  configuration:
    description: Options of C(nova.conf) that the scheduler has, section -> option -> value; else Nova's defaults.
    type: dict
    default: {}
  request:
    description: What is asked for.
    type: dict
    required: true
    suboptions:
      flavor:
        description: The size; what is not said of it is that of Nova's flavor of this name.
        type: dict
        required: true
        suboptions:
          name: {description: "Name.", type: str, required: true}
          vcpus: {description: "Number of virtual processors.", type: int}
          ram: {description: "Memory in MiB.", type: int}
          disk: {description: "Root disk in GiB.", type: int}
          ephemeral: {description: "Second disk in GiB.", type: int}
          swap: {description: "Swap in MiB.", type: int}
          extra_specs: {description: "Extra specs; all of them, if any is given.", type: dict}
      count: {description: "Number of instances.", type: int, default: 1}
      availability_zone: {description: "Zone that is asked for.", type: str}
      image_properties:
        description: Properties of the image by Nova's names, such as C(hw_architecture).
        type: dict
      image_id: {description: "Id of the image.", type: str}
      boot_from_volume: {description: "The root disk is a volume.", type: bool, default: false}
      group:
        description: Server group, one that is there by O(request.group.name), or a new one by O(request.group.policy).
        type: dict
        suboptions:
          name: {description: "Name or id.", type: str}
          policy:
            description: Policy of a new group.
            type: str
            choices: [affinity, anti-affinity, soft-affinity, soft-anti-affinity]
          max_server_per_host: {description: "Rule of a new group with C(anti-affinity).", type: int}
      project_id: {description: "Id of the project.", type: str}
      requested_host: {description: "The only host to be judged.", type: str}
      force_host: {description: "The host to be taken without filters.", type: str}
      ignore_hosts: {description: "Hosts to leave out.", type: list, elements: str}
      same_host: {description: "Hint, ids of instances.", type: list, elements: str}
      different_host: {description: "Hint, ids of instances.", type: list, elements: str}
  hosts:
    description: Hosts as they are described, in place of the real ones. Sizes are those of Placement's inventories.
    type: list
    elements: dict
    suboptions:
      name: {description: "Name.", type: str, required: true}
      vcpus: {description: "Processors.", type: int, required: true}
      memory_mb: {description: "Memory in MiB.", type: int, required: true}
      disk_gb: {description: "Disk in GiB.", type: int, required: true}
      vcpus_used: {description: "Processors in use.", type: int, default: 0}
      memory_mb_used: {description: "Memory in use in MiB.", type: int, default: 0}
      disk_gb_used: {description: "Disk in use in GiB.", type: int, default: 0}
      vcpus_reserved: {description: "Processors that the host keeps.", type: int, default: 0}
      memory_mb_reserved: {description: "Memory that the host keeps, in MiB.", type: int, default: 512}
      disk_gb_reserved: {description: "Disk that the host keeps, in GiB.", type: int, default: 0}
      vcpus_allocation_ratio: {description: "Allocation ratio.", type: float, default: 4.0}
      memory_mb_allocation_ratio: {description: "Allocation ratio.", type: float, default: 1.0}
      disk_gb_allocation_ratio: {description: "Allocation ratio.", type: float, default: 1.0}
      resources: {description: "Resource class -> number of others that it has.", type: dict}
      traits: {description: "Traits.", type: list, elements: str}
      availability_zone: {description: "Zone.", type: str}
      aggregates:
        description: Aggregates that it is in.
        type: list
        elements: dict
        suboptions:
          name: {description: "Name.", type: str, required: true}
          metadata: {description: "Metadata.", type: dict}
      disabled: {description: "Its compute service is disabled.", type: bool, default: false}
      up: {description: "Its compute service reports.", type: bool, default: true}
      instances: {description: "Ids of its instances.", type: list, elements: str}
      num_instances: {description: "Number of its instances, where they are not listed.", type: int, default: 0}
      num_io_ops: {description: "Builds, resizes, snapshots in progress.", type: int, default: 0}
      failed_builds: {description: "Builds that failed lately.", type: int, default: 0}
      hypervisor_type: {description: "Type, C(QEMU) unless given.", type: str}
      hypervisor_version: {description: "Version, 10000013 for 10.0.13.", type: int, default: 0}
      supported_instances:
        description: Lists of architecture, hypervisor type and mode that it can run; unknown unless given.
        type: list
        elements: list
author: Brume developers
"""

EXAMPLES = r"""
- name: Would three more database servers fit?
  brume.cloud.schedule_preview:
    auth: "{{ keystone_auth }}"
    compute_url: https://internal.example.com:8774/v2.1
    placement_url: https://internal.example.com:8778
    request: {flavor: {name: db.large}, count: 3, availability_zone: east, group: {policy: anti-affinity}}

- name: Would they fit on two hosts that are to be bought?
  brume.cloud.schedule_preview:
    hosts:
      - {name: new1, vcpus: 64, memory_mb: 262144, disk_gb: 2000}
      - {name: new2, vcpus: 64, memory_mb: 262144, disk_gb: 2000}
    request: {flavor: {name: db.large, vcpus: 8, ram: 32768, disk: 40}, count: 3}
"""

RETURN = r"""
fits:
  description: Whether every instance gets a host; else Nova makes none of them.
  returned: success
  type: bool
placings:
  description: One for each instance, in their order.
  returned: success
  type: list
  elements: dict
  contains:
    instance: {description: Name that stands for the instance., type: str}
    host: {description: Host that it gets; empty for none., type: str}
    order: {description: "Hosts that pass, best first: C(host), C(weight), and C(parts) by weigher.", type: list}
    tied: {description: Hosts of which Nova may take any., type: list}
    refused: {description: "Hosts that do not pass: C(host), and C(filters) with C(filter) and C(reason).", type: list}
unjudged:
  description: What Nova looks at and this module does not.
  returned: success
  type: list
  elements: str
table:
  description: The same as lines to read.
  returned: success
  type: list
  elements: str
msg:
  description: On failure, one line for each mistake of the request.
  returned: on failure
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import scheduling_state
from ansible_collections.brume.cloud.plugins.module_utils.api_module import execute
from ansible_collections.brume.cloud.plugins.module_utils.api_session import (
    AUTH,
    log_in_or_before,
    requests_to,
)
from ansible_collections.brume.cloud.plugins.module_utils.schedule_preview import as_data, schedule, table
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import POLICIES, settings_of

NAMES: dict[str, Any] = {"type": "list", "elements": "str"}
REQUEST: dict[str, Any] = {
    "flavor": {
        "type": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            **{name: {"type": "int"} for name in ("vcpus", "ram", "disk", "ephemeral", "swap")},
            "extra_specs": {"type": "dict"},
        },
    },
    "count": {"type": "int", "default": 1},
    "availability_zone": {"type": "str"},
    "image_properties": {"type": "dict"},
    "image_id": {"type": "str"},
    "boot_from_volume": {"type": "bool", "default": False},
    "group": {
        "type": "dict",
        "options": {
            "name": {"type": "str"},
            "policy": {"type": "str", "choices": list(POLICIES)},
            "max_server_per_host": {"type": "int"},
        },
        "required_one_of": [("name", "policy")],
    },
    "project_id": {"type": "str"},
    "requested_host": {"type": "str"},
    "force_host": {"type": "str"},
    "ignore_hosts": NAMES,
    "same_host": NAMES,
    "different_host": NAMES,
}
SIZES = {"vcpus": (0, 4.0), "memory_mb": (512, 1.0), "disk_gb": (0, 1.0)}
HOST: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    **{name: {"type": "int", "required": True} for name in SIZES},
    **{f"{name}_used": {"type": "int", "default": 0} for name in SIZES},
    **{f"{name}_reserved": {"type": "int", "default": kept} for name, (kept, _) in SIZES.items()},
    **{f"{name}_allocation_ratio": {"type": "float", "default": ratio} for name, (_, ratio) in SIZES.items()},
    "resources": {"type": "dict"},
    "traits": NAMES,
    "availability_zone": {"type": "str"},
    "aggregates": {
        "type": "list",
        "elements": "dict",
        "options": {"name": {"type": "str", "required": True}, "metadata": {"type": "dict"}},
    },
    "disabled": {"type": "bool", "default": False},
    "up": {"type": "bool", "default": True},
    "instances": NAMES,
    **{name: {"type": "int", "default": 0} for name in ("num_instances", "num_io_ops", "failed_builds")},
    "hypervisor_type": {"type": "str"},
    "hypervisor_version": {"type": "int", "default": 0},
    "supported_instances": {"type": "list", "elements": "list"},
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "auth": {**AUTH, "required": False},
    "compute_url": {"type": "str"},
    "placement_url": {"type": "str"},
    "configuration": {"type": "dict", "default": {}},
    "request": {"type": "dict", "required": True, "options": REQUEST},
    "hosts": {"type": "list", "elements": "dict", "options": HOST},
}


def read(params: dict[str, Any], check_mode: bool) -> scheduling_state.State:
    """Return the described hosts, or what the APIs tell. Raises ApiError, ConvergenceError and ImportError."""
    if params["hosts"] is not None:
        return scheduling_state.described(params["hosts"])
    session = log_in_or_before(params["auth"], check_mode)

    def to(service: str, version: str) -> Any:
        return requests_to(session, params[f"{service}_url"], {"OpenStack-API-Version": f"{service} {version}"})

    return scheduling_state.fetch(
        to("compute", scheduling_state.COMPUTE_VERSION), to("placement", scheduling_state.PLACEMENT_VERSION)
    )


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Read, judge, and return what is told. Raises SchedulingError too."""
    settings = settings_of(params["configuration"])
    state = read(params, check_mode)
    request = scheduling_state.asked_of(params["request"], state, settings.default_availability_zone)
    preview = schedule(state.hosts, request, settings, state.aggregates, state.unknown)
    return {"changed": False, **as_data(preview), "table": table(preview)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        no_log=True,
        required_together=[("auth", "compute_url", "placement_url")],
        required_one_of=[("auth", "hosts")],
        mutually_exclusive=[("auth", "hosts")],
    )
    execute(module, "Nova", lambda: run(module.params, module.check_mode), lock=False)


if __name__ == "__main__":
    main()
