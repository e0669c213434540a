#!/usr/bin/python
"""Documentation of the action of the same name, which does the work on the deploy host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_report
short_description: Begins the report of a run, one HTML file with figures and a timeline
description:
  - Makes a file of JSON lines in O(folder) on the deploy host. The callback P(brume.cloud.report#callback) hears of it,
    appends what the run does from then on, and writes the HTML beside it when the run ends, also when it failed.
  - P(brume.cloud.api_probe#module) appends calls and pings to the same file.
options:
  folder: {description: Where reports are kept; made where it is missing., type: path, required: true}
  name: {description: How names of files begin; the time follows., type: str, required: true}
  what: {description: What the run does; the title., type: str, required: true}
  facts:
    description: What the report says of the run, as text by name. C(from) and C(to) are part of the title.
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: Nothing is written.}
  diff_mode: {support: none, description: Every run has a file of its own.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Begin the report
  brume.cloud.run_report:
    folder: reports
    name: upgrade
    what: Upgrade
    facts: {from: "2025.1", to: "2026.1"}
  register: report
"""

RETURN = r"""
report:
  description: The file of JSON lines.
  type: str
  returned: success
  sample: /srv/reports/upgrade-20260131T235959Z.jsonl
html:
  description: Where the HTML will be.
  type: str
  returned: success
  sample: /srv/reports/upgrade-20260131T235959Z.html
"""
