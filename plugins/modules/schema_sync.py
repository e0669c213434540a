#!/usr/bin/python
"""Schemas of all services in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_sync
short_description: Runs the schema commands of all services whose digest changed, side by side
description:
  - The commands of one service run in order, as the service's user, from its environment, in the directory C(/).
  - The digest is recorded in C(/var/lib/brume/schema) after all of a service's commands succeeded; with an equal digest
    nothing is run.
  - When one service fails, the others are finished and recorded; all failures are reported at once, without secrets.
options:
  services:
    description: The services.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the record., type: str, required: true}
      user: {description: System user., type: str}
      environment: {description: The virtual environment; its C(bin) leads the search path., type: path}
      digest:
        description: 'What makes running again necessary: release, commands, databases. Without secrets.'
        type: str
      commands: {description: Lists of words without secrets., type: list, elements: list, default: []}
      variables: {description: Environment variables without secrets., type: dict, default: {}}
      timeout: {description: Seconds that one command may take., type: float, default: 900}
      state:
        description: V(absent) removes the record and leaves the schema as it is.
        type: str
        choices: [present, absent]
        default: present
  redactions: {description: Secret values and the names to show instead., type: dict, default: {}}
  limit: {description: How many services run at a time., type: int, default: 8}
attributes:
  check_mode: {support: full, description: Reports which services' commands a run would start.}
  diff_mode: {support: full, description: Recorded and planned digest.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Schema of Placement
  brume.cloud.schema_sync:
    services:
      - name: placement
        user: placement
        environment: /opt/brume/placement/2026.1-0123456789ab
        digest: 2026.1-0123456789ab
        commands: [[placement-manage, db, sync]]
"""

RETURN = r"""
services:
  description: Services whose commands were run, each with its commands and their seconds.
  type: list
  elements: dict
  returned: always
actions:
  description: One sentence for each service, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: ['run the schema commands of placement: placement-manage db sync']
"""

import os
import time
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import convergence, host_lock, schema

SPEC: dict[str, Any] = {
    "services": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "user": {"type": "str"},
            "environment": {"type": "path"},
            "digest": {"type": "str"},
            "commands": {"type": "list", "elements": "list", "default": []},
            "variables": {"type": "dict", "default": {}},
            "timeout": {"type": "float", "default": 900},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        "required_if": [("state", "present", ("user", "environment", "digest"))],
    },
    "redactions": {"type": "dict", "default": {}},
    "limit": {"type": "int", "default": 8},
}


def path_of(name: str) -> str:
    """Return where a service's record lies."""
    return f"{schema.RECORDS}/{name}.json"


def converge(service: schema.Service, redactions: dict[str, str]) -> list[dict[str, Any]]:
    """Run a service's commands and record its digest."""
    results = schema.run(service, redactions)
    os.makedirs(schema.RECORDS, mode=0o700, exist_ok=True)
    done_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    convergence.write_marker(path_of(service.name), {"digest": service.digest, "done_at": done_at}, mode=0o600)
    return results


def main() -> None:
    """Compare digests, run what is pending side by side, report."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True, no_log=True)
    host_lock.hold(module)
    redactions = {str(value): str(name) for value, name in module.params["redactions"].items()}
    outcomes: dict[str, convergence.Outcome] = {}
    try:
        services = schema.parse(item for item in module.params["services"] if item["state"] == "present")
        records = {service.name: convergence.read_marker(path_of(service.name)) for service in services}
        work = schema.pending(services, records)
        absent = [item["name"] for item in module.params["services"] if item["state"] == "absent"]
        gone = [name for name in absent if os.path.exists(path_of(name))]
        digests = [(service.name, str(records[service.name].get("digest", "")), service.digest) for service in work]
        digests += [(name, str(convergence.read_marker(path_of(name)).get("digest", "?")), "") for name in gone]
        if not module.check_mode:
            outcomes = convergence.side_by_side(
                {service.name: partial(converge, service, redactions) for service in work},
                limit=module.params["limit"],
            )
            for name in gone:
                os.unlink(path_of(name))
    except (schema.SchemaError, OSError) as error:
        module.fail_json(msg=str(error), services=[], invocation={})
    results = [
        {"name": name, "seconds": round(outcome.seconds, 1), "commands": outcome.value or []}
        for name, outcome in outcomes.items()
    ]
    problems = [str(outcome.error) for outcome in outcomes.values() if outcome.error]
    if problems:
        module.fail_json(msg="\n".join(problems), services=results, invocation={})
    module.exit_json(
        changed=bool(work or gone),
        actions=[schema.action(service) for service in work] + [f"remove the schema record of {name}" for name in gone],
        diff=[
            convergence.text_diff(f"schema {name}", f"{before}\n" if before else "", f"{after}\n" if after else "")
            for name, before, after in digests
        ],
        services=results,
        invocation={},
    )


if __name__ == "__main__":
    main()
