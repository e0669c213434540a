#!/usr/bin/python
"""Documentation of the action of the same name, which does the work in the controller process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_verification
short_description: Proves that a deployed cloud works, from a token to an instance that answers over a floating IP
description:
  - Runs checks in the order of what they need from each other, and prints a line for each as it ends.
  - A failed check leaves those that need it V(not run), and shows the instance's status, fault and end of console.
  - Everything it makes is called C(brume-verify...) and is removed at the end, or by the next run if this one
    is killed. The guest's image and the external network are made where they are missing, and stay.
  - Where the catalog has Cinder, an instance boots from a volume, and volumes are attached, copied and extended too.
  - Works in the controller process; the machine must reach the public endpoints and the external network, and
    have C(ssh) and C(ssh-keygen). ICMP needs root, or the program C(ping).
options:
  clouds_file: {description: The clouds.yaml with an administrator's credentials., type: path, required: true}
  cloud: {description: Name of the cloud in that file., type: str, required: true}
  checks:
    description: Names of checks; what they need and the clean-up run too. All checks when empty.
    type: list
    elements: str
    default: []
  hosts:
    description:
      - Hosts whose services and agents the checks V(compute-services), V(network-agents) and V(volume-services) are
        about. All when empty.
    type: list
    elements: str
    default: []
  image_name: {description: Name of the guest's image., type: str, required: true}
  image_path:
    description: The qcow2 file that is uploaded when Glance has no active image of that name.
    type: path
    required: true
  flavor:
    description: Size of the instance.
    type: dict
    required: true
    suboptions:
      vcpus: {description: Number of vCPUs., type: int, required: true}
      ram: {description: Memory in MiB., type: int, required: true}
      disk: {description: Root disk in GiB., type: int, required: true}
  external_network:
    description: Name of the external network; made with the plan's C(brume_networks.external) when missing.
    type: str
    required: true
  physical_network:
    description: C(provider:physical_network) of a flat external network that is made.
    type: str
    required: true
  tenant_cidr: {description: IPv4 network of the instance., type: str, required: true}
  ssh_user: {description: User of the guest who has the key pair's key., type: str, required: true}
  timeouts:
    description: Seconds.
    type: dict
    required: true
    suboptions:
      services: {description: 'Until services, agents and hypervisors are up.', type: float, required: true}
      image: {description: For the upload., type: float, required: true}
      router: {description: Until the router answers and the floating IP is ACTIVE., type: float, required: true}
      active: {description: Until the instance is ACTIVE., type: float, required: true}
      console: {description: Until the guest has printed its address and metadata., type: float, required: true}
      security_group: {description: Until a new rule lets ping through., type: float, required: true}
      ssh: {description: Until the guest answers over SSH., type: float, required: true}
      stop: {description: Until the instance is SHUTOFF., type: float, required: true}
      reboot: {description: Until the instance is ACTIVE again., type: float, required: true}
      snapshot: {description: Until the snapshot is active., type: float, required: true}
      volume: {description: 'Until a volume is made, attached, detached or deleted.', type: float, required: true}
      backup: {description: 'Until a backup is made or restored, or a volume has moved.', type: float, required: true}
      delete: {description: Until one object is gone., type: float, required: true}
  keep: {description: Leave everything for a look; the next run removes it., type: bool, default: false}
attributes:
  check_mode: {support: partial, description: Only the checks that change nothing run.}
  diff_mode: {support: none, description: Nothing that stays is changed.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Verify the cloud
  brume.cloud.cloud_verification:
    clouds_file: clouds.yaml
    cloud: lab
    image_name: brume-test
    image_path: .cache/brume-test.qcow2
    flavor: {vcpus: 1, ram: 192, disk: 1}
    external_network: external
    physical_network: external
    tenant_cidr: 192.0.2.0/24
    ssh_user: root
    timeouts: {services: 60, image: 120, router: 60, active: 180, console: 120, security_group: 30, ssh: 120,
               stop: 120, reboot: 180, snapshot: 180, volume: 120, backup: 180, delete: 120}
"""

RETURN = r"""
checks:
  description: Every check in the order of the run.
  type: list
  elements: dict
  returned: success
  contains:
    name: {description: Name of the check., type: str}
    outcome: {description: 'V(ok), V(FAILED) or V(not run).', type: str}
    seconds: {description: How long it took., type: float}
    detail: {description: What was seen., type: str}
actions:
  description: What was made to stay, one sentence for each.
  type: list
  elements: str
  returned: always
msg:
  description: How many checks passed, the names of those that failed, and how many were not run.
  type: str
  returned: always
  sample: '30 of 30 checks ok'
"""
