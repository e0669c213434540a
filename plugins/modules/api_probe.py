#!/usr/bin/python
"""Documentation of the action of the same name, which does the work on the deploy host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: api_probe
short_description: Calls a cloud's APIs as a user does while a run goes on, and counts what fails
description:
  - Starts a process on the deploy host that makes O(rate) calls a second through the public addresses - a token, and
    lists of images, servers and networks, in turn - as a user of its own, and that pings addresses once a second.
  - Each call, and each round of pings, is a line of JSON in O(report) as soon as it is over.
  - With V(stopped) the process and its user are ended. When the run is gone, whatever ended it, the process ends by
    itself, deletes its user and writes the report's HTML.
  - A cloud that cannot be probed, as one without credentials yet, is a warning and fails no run.
  - Works on the deploy host, whatever the play's hosts are; run it once. ICMP needs root, leave of the kernel
    (C(net.ipv4.ping_group_range)), or the program C(ping).
options:
  state: {description: Whether to begin or to end., type: str, choices: [started, stopped], default: started}
  report:
    description: The file that lines are appended to, as P(brume.cloud.run_report#module) names it.
    type: path
    required: true
  clouds_file: {description: The clouds.yaml with an administrator's credentials., type: path, required: true}
  cloud: {description: Name of the cloud in that file., type: str, required: true}
  rate: {description: Calls a second., type: float, default: 10.0}
  ping: {description: IPv4 addresses to ping., type: list, elements: str, default: []}
  ping_instances:
    description:
      - Ping a floating IP of one running instance of each compute host too, chosen of those that answer at the
        beginning.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: Nothing is probed.}
  diff_mode: {support: none, description: Nothing that stays is changed.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Probe the APIs from now on
  brume.cloud.api_probe:
    report: "{{ report.report }}"
    clouds_file: clouds.yaml
    cloud: lab
    ping_instances: true

- name: End probing
  brume.cloud.api_probe:
    state: stopped
    report: "{{ report.report }}"
    clouds_file: clouds.yaml
    cloud: lab
"""

RETURN = r"""
apis: {description: What is called., type: list, elements: str, returned: started, sample: [token, image]}
figures:
  description: Calls, failed calls, seconds of the longest gap between two answers without a failure and of the longest
    call, by what was called.
  type: dict
  returned: stopped
  sample: {token: {calls: 300, failed: 0, longest_gap: 0.6, longest_call: 0.3}}
addresses: {description: What is pinged, and the compute host it stands for., type: dict, returned: started}
pings: {description: How many times each address was pinged., type: int, returned: stopped}
lost_pings: {description: How many times each address did not answer., type: dict, returned: stopped}
notes: {description: What could not be done, and why., type: list, elements: str, returned: not in check mode}
msg: {description: The figures in a sentence., type: str, returned: stopped, sample: '1200 calls, 0 failed'}
"""
