#!/usr/bin/python
"""Schemas of all services in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_sync
short_description: Runs the commands of a stage of schema work for all services that need it, side by side
description:
  - Commands of one service run in order, as the service's user, from its environment, in the directory C(/).
  - What a stage has brought up to which digest is recorded in C(/var/lib/brume/schema) after all commands of a service
    succeeded; with an equal digest nothing is run. An expanded schema serves two digests until it is contracted.
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
      expand:
        description: Commands in the place of O(services[].commands) where the schema serves another release too.
        type: list
        elements: list
        default: []
      release: {description: 'OpenStack release, as V(2026.1).', type: str, default: ''}
      timeout: {description: Seconds that one command may take., type: float, default: 900}
      state:
        description: V(absent) removes the record and leaves the schema as it is.
        type: str
        choices: [present, absent]
        default: present
  stage:
    description:
      - V(sync) brings the schema to what a release needs, all at once, where nothing of another release uses it.
      - V(expand), V(online) and V(contract) do it in the steps between which two releases use it.
      - V(check) runs commands that change nothing, also in check mode where the environment is there. Exit code 1 is a
        warning.
      - V(served) runs nothing and fails where a schema does not serve the planned digest.
    type: str
    choices: [sync, check, expand, online, contract, served]
    default: sync
  redactions: {description: Secret values and the names to show instead., type: dict, default: {}}
  limit: {description: How many services run at a time., type: int, default: 8}
attributes:
  check_mode: {support: full, description: 'Reports which services'' commands a run would start, and checks.'}
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
from dataclasses import replace
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
            "expand": {"type": "list", "elements": "list", "default": []},
            "release": {"type": "str", "default": ""},
            "variables": {"type": "dict", "default": {}},
            "timeout": {"type": "float", "default": 900},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        "required_if": [("state", "present", ("user", "environment", "digest"))],
    },
    "stage": {"type": "str", "choices": ["sync", "check", "expand", "online", "contract", "served"], "default": "sync"},
    "redactions": {"type": "dict", "default": {}},
    "limit": {"type": "int", "default": 8},
}


def path_of(name: str) -> str:
    """Return where a service's record lies."""
    return f"{schema.RECORDS}/{name}.json"


def converge(
    service: schema.Service, record: dict[str, Any], stage: schema.Stage, redactions: dict[str, str]
) -> list[dict[str, Any]]:
    """Run a service's commands and record what is done by them."""
    if stage == "check":
        return schema.run(service, redactions, schema.CHECKED)
    os.makedirs(schema.RECORDS, mode=0o700, exist_ok=True)
    own = schema.stage_of(service, record, stage)
    before = schema.begun(service, record, stage) if own == stage else None
    if before is not None:
        convergence.write_marker(path_of(service.name), before, mode=0o600)
    results = schema.run(service, redactions)
    done_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    after = {**schema.done(service, record, own), "done_at": done_at}
    convergence.write_marker(path_of(service.name), after, mode=0o600)
    return results


def adapted(service: schema.Service, record: dict[str, Any], stage: schema.Stage) -> schema.Service:
    """Return a service with the commands that are for it while its schema serves two releases."""
    own = schema.stage_of(service, record, stage)
    return service if own == stage else replace(service, commands=service.expand if own == "expand" else ())


def told_of(record: dict[str, Any], stage: schema.Stage) -> str:
    """Return the digest that a stage was last done for, as a diff shows it."""
    return str(record.get("digest" if stage in ("sync", "expand") else stage) or "")


def main() -> None:
    """Compare digests, run what is pending side by side, report."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True, no_log=True)
    host_lock.hold(module)
    redactions = {str(value): str(name) for value, name in module.params["redactions"].items()}
    outcomes: dict[str, convergence.Outcome] = {}
    try:
        services = schema.parse(item for item in module.params["services"] if item["state"] == "present")
        records = {service.name: convergence.read_marker(path_of(service.name)) for service in services}
        stage: schema.Stage = module.params["stage"]
        work = [
            adapted(service, records[service.name], stage)
            for service in services
            if not schema.is_done(service, records[service.name], stage)
        ]
        if stage == "served":
            schema.refuse_unserved(services, records)
            work = []
        checks = stage == "check"
        if checks and module.check_mode:
            work = [service for service in work if os.path.exists(f"{service.environment}/bin")]
        absent = [item["name"] for item in module.params["services"] if item["state"] == "absent"]
        gone = [name for name in absent if os.path.exists(path_of(name))]
        # What has no commands for a stage is recorded with the others, and nothing to tell of.
        told = [service for service in work if schema.is_told(service, records[service.name], stage)]
        digests = [(service.name, told_of(records[service.name], stage), service.digest) for service in told]
        digests += [(name, str(convergence.read_marker(path_of(name)).get("digest", "?")), "") for name in gone]
        if checks or not module.check_mode:
            outcomes = convergence.side_by_side(
                {one.name: partial(converge, one, records[one.name], stage, redactions) for one in work},
                limit=module.params["limit"],
            )
        if not module.check_mode:
            for name in gone:
                os.unlink(path_of(name))
    except (schema.SchemaError, OSError) as error:
        module.fail_json(msg=str(error), services=[], invocation={})
    results: list[dict[str, Any]] = [
        {"name": name, "seconds": round(outcome.seconds, 1), "commands": outcome.value or []}
        for name, outcome in outcomes.items()
        if outcome.value or outcome.error
    ]
    problems = [str(outcome.error) for outcome in outcomes.values() if outcome.error]
    if problems:
        module.fail_json(msg="\n".join(problems), services=results, invocation={})
    for result in results:
        for one in result["commands"]:
            if one["code"]:
                module.warn("\n".join([f"`{one['command']}` warns:", *one["output"]]))
    module.exit_json(
        changed=bool(told or gone),
        actions=[schema.action(service, stage) for service in told]
        + [f"remove the schema record of {name}" for name in gone],
        diff=[
            convergence.text_diff(f"schema {name}", f"{before}\n" if before else "", f"{after}\n" if after else "")
            for name, before, after in digests
        ],
        services=results,
        invocation={},
    )


if __name__ == "__main__":
    main()
