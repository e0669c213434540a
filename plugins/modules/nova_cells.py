#!/usr/bin/python
"""Nova's cell mappings and the mapping of compute hosts to cells."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nova_cells
short_description: Maps Nova's cells and compute hosts, in one process
description:
  - Makes or updates the mapping of every given cell, cell0 included. No URL is ever an argument of a command.
  - With O(discover), maps all compute hosts that have reported to their cell, and waits for those in O(wait_for).
  - A host that is in O(hosts) alone and has not reported is left to the run that deploys it.
  - Compute hosts that are mapped to another cell than the given one are refused before anything changes.
  - Mappings that are not named are left alone.
options:
  environment: {description: Nova's virtual environment., type: path, required: true}
  current: {description: The one in use, for a dry run before the other is built., type: path}
  config_file: {description: A configuration file with the API database., type: path, required: true}
  user: {description: System user of Nova., type: str, default: nova}
  cells:
    description: Name of each cell, and C(transport_url) and C(database_connection) of it.
    type: dict
    default: {}
  hosts: {description: Name of each compute host and of the cell that it belongs to., type: dict, default: {}}
  discover: {description: Whether to map the hosts that are not., type: bool, default: false}
  wait_for:
    description:
      - With O(discover), those of O(hosts) that run by now, so that they are mapped before the module ends.
    type: list
    elements: str
    default: []
  timeout: {description: Seconds to wait for compute hosts that have not reported., type: int, default: 120}
attributes:
  check_mode: {support: full, description: 'Reports what a run would map; before there is a schema, everything.'}
  diff_mode: {support: full, description: 'Names only, since URLs hold passwords.'}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Map the cells
  brume.cloud.nova_cells:
    environment: /opt/brume/nova/current
    config_file: /etc/nova/nova.conf
    cells:
      cell1: {transport_url: "{{ cell1_transport_url }}", database_connection: "{{ cell1_connection }}"}
    hosts: {compute1: cell1, compute2: cell1}
    discover: true
    wait_for: [compute1]
"""

RETURN = r"""
actions:
  description: One sentence for each change.
  type: list
  elements: str
  returned: success
  sample: [create cell mapping cell1, map compute host compute1 to cell1]
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock, rollout, schema
from ansible_collections.brume.cloud.plugins.module_utils.convergence import text_diff
from ansible_collections.brume.cloud.plugins.module_utils.nova_cells import (
    PROGRAM,
    Change,
    astray,
    compare,
    to_map,
)
from ansible_collections.brume.cloud.plugins.module_utils.nova_process import NovaError, NovaProcess

SCHEMA_RECORD = f"{schema.RECORDS}/nova.json"
START_RECORD = f"{rollout.RECORDS}/nova-api.service.json"
"""Every controller has it; the other is on the one alone that was the first when the schema was made."""

SPEC: dict[str, Any] = {
    "environment": {"type": "path", "required": True},
    "current": {"type": "path"},
    "config_file": {"type": "path", "required": True},
    "user": {"type": "str", "default": "nova"},
    "cells": {"type": "dict", "default": {}},
    "hosts": {"type": "dict", "default": {}},
    "discover": {"type": "bool", "default": False},
    "wait_for": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 120},
}


def report(changes: list[Change], unmapped: dict[str, str]) -> dict[str, Any]:
    """Return what is said of the changes, the same before and after they are made."""
    return {
        "changed": bool(changes or unmapped),
        "actions": [
            *(str(one) for one in changes),
            *(f"map compute host {name} to {cell}" for name, cell in sorted(unmapped.items())),
        ],
        "diff": [one.diff() for one in changes]
        + [
            text_diff(f"host mapping {name}", "", f"cell: {cell}\nhost: {name}\n")
            for name, cell in sorted(unmapped.items())
        ],
    }


def refuse_astray(wanted: dict[str, str], present: dict[str, str]) -> None:
    """Raise NovaError for hosts that are in another cell: restarted, they would be lost to Nova."""
    message = astray(wanted, present)
    if message:
        raise NovaError(message)


def converge(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Map cells and hosts; return what was (or would be) changed. Raises NovaError."""
    # A dry run has not built what a run would use.
    there = not check_mode or os.path.exists(f"{params['environment']}/bin/python")
    environment = params["environment"] if there else params["current"] or params["environment"]
    nova = NovaProcess(environment, params["user"], params["config_file"], PROGRAM)
    try:
        found = nova.order(do="read", unmapped=params["discover"])
        changes = compare(params["cells"], found["cells"])
        refuse_astray(params["hosts"], {**found["unmapped"], **found["hosts"]})
        unmapped = to_map(params["hosts"], params["wait_for"], found["hosts"], found["unmapped"])
        if not check_mode:
            for change in changes:
                nova.order(do=change.verb, uuid=change.uuid, values=dict(change.values))
            order = {"do": "discover", "hosts": sorted(unmapped), "timeout": params["timeout"]}
            answer = nova.order(**order) if unmapped else {}
            refuse_astray(params["hosts"], answer.get("hosts") or {})
            if answer.get("missing"):
                raise NovaError(
                    f"compute hosts have not reported within {params['timeout']} s: {', '.join(answer['missing'])}\n"
                    "  next: read `journalctl -u nova-compute` on them, then run again"
                )
    finally:
        nova.close()
    return report(changes, unmapped)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True, no_log=True)
    host_lock.hold(module)
    params = module.params
    try:
        if module.check_mode and not any(map(os.path.exists, (SCHEMA_RECORD, START_RECORD))):
            # There is no schema yet, thus no mapping.
            coming = to_map(params["hosts"], params["wait_for"], {}, {})
            module.exit_json(**report(compare(params["cells"], []), coming), invocation={})
        module.exit_json(**converge(params, module.check_mode), invocation={})
    except NovaError as error:
        module.fail_json(msg=str(error), invocation={})


if __name__ == "__main__":
    main()
