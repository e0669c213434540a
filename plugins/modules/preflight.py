#!/usr/bin/python
"""What would stop a deployment on this host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Reads a host and reports everything that would stop a deployment, before anything is changed
description:
  - Changes nothing and starts no process. All findings are reported at once; the module fails if one is an error.
options:
  controller_time: {description: The controller's clock in seconds since the epoch., type: float}
  operating_system: {description: 'Planned operating system, for example V(debian-13).', type: str}
  disk_bytes: {description: Path and the bytes that must be free below it., type: dict, default: {}}
  memory_mib: {description: Memory the host must have in MiB., type: int, default: 0}
  interfaces:
    description: Interfaces the plan names.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name., type: str, required: true}
      addresses: {description: Addresses it must hold., type: list, elements: str, default: []}
      mtu: {description: Bytes that a packet on it may have at least., type: int}
  ports:
    description: TCP ports the plan needs.
    type: list
    elements: dict
    default: []
    suboptions:
      port: {description: Number., type: int, required: true}
      address: {description: Address it will be opened at; all if left out., type: str}
      unit: {description: Unit that will hold it; it may hold it already., type: str, required: true}
  tun: {description: Whether tap devices are needed., type: bool, default: false}
  kvm: {description: Whether guests of KVM must be possible., type: bool, default: false}
  data:
    description: Folders that must be empty unless what is in them is the project's own.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Folder., type: str, required: true}
      unit: {description: Unit that keeps its data there., type: str, required: true}
  environments:
    description: Python environments that the plan puts on this host.
    type: list
    elements: dict
    default: []
    suboptions:
      service: {description: Service., type: str, required: true}
      path: {description: Where it is built., type: str, required: true}
      current: {description: Link to the one in use., type: str, required: true}
      units: {description: Units that run from it., type: list, elements: str, default: []}
  release: {description: Planned release., type: str}
  crossing:
    description: Which way to the planned release the run goes. Without one, units of another release are an error.
    type: str
    choices: ['', upgrade, rollback]
    default: ''
  wheelhouse:
    description: Folder or address that this host gets wheels from. It is opened once when it is an address.
    type: str
  database_hosts: {description: 'Number of database hosts, on one of them; 0 elsewhere.', type: int, default: 0}
  excluded:
    description:
      - Units that the plan does not have because of a choice, with the variable and value with which
        it would have them. One that an earlier deployment started is an error.
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: It never changes anything.}
  diff_mode: {support: none, description: There is nothing to show.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Read the host
  brume.cloud.preflight:
    operating_system: debian-13
    disk_bytes: {/opt: 10737418240}
    interfaces: [{name: eth0, addresses: [192.0.2.10]}]
    ports: [{port: 5000, address: 192.0.2.10, unit: haproxy.service}]
"""

RETURN = r"""
findings:
  description: What is not as the plan needs it, errors first.
  type: list
  elements: dict
  returned: always
  contains:
    severity: {description: V(error) or V(warning)., type: str}
    subject: {description: What it is about., type: str}
    message: {description: What was found and what is needed., type: str}
    remedy: {description: What to do., type: str}
release: {description: The planned release., type: str, returned: success}
releases:
  description: By service, the releases that its units last started well with.
  type: dict
  returned: success
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import preflight

SPEC: dict[str, Any] = {
    "controller_time": {"type": "float"},
    "operating_system": {"type": "str"},
    "disk_bytes": {"type": "dict", "default": {}},
    "memory_mib": {"type": "int", "default": 0},
    "interfaces": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "mtu": {"type": "int"},
        },
    },
    "ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "address": {"type": "str"},
            "unit": {"type": "str", "required": True},
        },
    },
    "tun": {"type": "bool", "default": False},
    "kvm": {"type": "bool", "default": False},
    "data": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "str", "required": True}, "unit": {"type": "str", "required": True}},
    },
    "environments": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "service": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "current": {"type": "str", "required": True},
            "units": {"type": "list", "elements": "str", "default": []},
        },
    },
    "release": {"type": "str"},
    "crossing": {"type": "str", "choices": ["", "upgrade", "rollback"], "default": ""},
    "wheelhouse": {"type": "str"},
    "database_hosts": {"type": "int", "default": 0},
    "excluded": {"type": "dict", "default": {}},
}


def main() -> None:
    """Read, judge, report."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        needs = preflight.requirements(module.params)
        facts = preflight.gather(needs)
        findings = preflight.judge(facts, needs)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"the host cannot be read: {error}", findings=[], invocation={})
    result: dict[str, Any] = {"findings": [asdict(finding) for finding in findings], "invocation": {}}
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    for finding in findings:
        if finding.severity == "warning":
            module.warn(str(finding))
    if errors:
        module.fail_json(msg="\n".join(errors), **result)
    runs = {name: list(releases) for name, releases in facts.releases.items()}
    module.exit_json(changed=False, releases=runs, release=needs.release, **result)


if __name__ == "__main__":
    main()
