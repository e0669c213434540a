#!/usr/bin/python
"""Documentation of the action of the same name, which does the work in the controller process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tempest
short_description: Judges a deployed cloud by a set of Tempest's tests
description:
  - Builds Tempest's environment from its lock, finds out from the cloud's APIs what Tempest must know, runs a set of
    tests, writes JUnit, and prints a table and each failure's last line.
  - What the cloud's catalog has not is neither asked nor made.
  - Tests that C(omissions.yml) knows the cloud cannot pass are left out and named with the reason.
  - A failure that C(known_failures.yml) explains is shown with its reason. Any other one fails the task.
  - What tests left behind, as failed ones do, is named and removed; what cannot be removed fails the task too.
  - Makes flavors and an image called C(brume-tempest...) and removes them at the end, or the next run does if this one
    is killed. The guest's image and the external network are made where they are missing, and stay.
  - Works in the controller process; the machine must reach the public endpoints and the external network.
options:
  clouds_file: {description: The clouds.yaml with an administrator's credentials., type: path, required: true}
  cloud: {description: Name of the cloud in that file., type: str, required: true}
  set: {description: Name of a set in C(sets.yml)., type: str, default: smoke}
  regex: {description: Tests by a regular expression in place of a set., type: str, default: ''}
  concurrency:
    description: Tests at a time; V(0) is one per processor of this machine, and at most four.
    type: int
    default: 0
  directory:
    description: Folder of C(tempest.conf) (mode 0600), log and results.
    type: path
    required: true
  junit: {description: Where the results go., type: path, required: true}
  environments: {description: Folder below which Tempest's environment is built., type: path, required: true}
  wheelhouse:
    description: Folder on this machine or HTTP address with every package, in the place of any index.
    type: str
    default: ''
  image_name: {description: Name of the guest's image., type: str, required: true}
  image_path:
    description: The qcow2 file for the second image, and for the first where it is missing.
    type: path
    required: true
  flavor:
    description: Size of the instances.
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
  ssh_user: {description: User of the guest who has the key pair's key., type: str, required: true}
  timeouts:
    description: Seconds.
    type: dict
    required: true
    suboptions:
      image: {description: For the upload of an image., type: int, required: true}
      build: {description: Until an object has the state that a test waits for., type: int, required: true}
      ssh: {description: Until a guest answers ping and SSH., type: int, required: true}
  config:
    description: Options of C(tempest.conf) as section and option, over those that were found out.
    type: dict
    default: {}
attributes:
  check_mode:
    support: partial
    description: Asks the cloud; says which tests would run or be left out, and whether the environment would be built.
  diff_mode: {support: none, description: Nothing that stays is changed.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Judge the cloud by Tempest
  brume.cloud.tempest:
    clouds_file: clouds.yaml
    cloud: lab
    set: identity
    directory: tempest
    junit: tempest.xml
    environments: .cache
    image_name: brume-test
    image_path: .cache/brume-test.qcow2
    flavor: {vcpus: 1, ram: 192, disk: 1}
    external_network: external
    physical_network: external
    ssh_user: root
    timeouts: {image: 120, build: 600, ssh: 300}
"""

RETURN = r"""
msg:
  description: The set and how many of its tests passed, failed and were skipped; in check mode, what would run.
  type: str
  returned: always
  sample: 'smoke: 91 passed, 0 failed, 16 skipped'
left_out:
  description: Tests of the set that are not run, each with the reason. They are in none of the other lists.
  type: dict
  returned: always
failures: {description: Tests that failed without being known., type: list, elements: str, returned: after a run}
known_failures: {description: Tests that failed as known., type: list, elements: str, returned: after a run}
left_behind: {description: What tests did not remove; it was removed., type: list, elements: str, returned: after a run}
junit: {description: The file with the results., type: path, returned: after a run}
seconds: {description: How long the tests took., type: int, returned: after a run}
made: {description: What was made to stay., type: list, elements: str, returned: success}
"""
