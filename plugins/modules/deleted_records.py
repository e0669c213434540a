#!/usr/bin/python
"""Ansible module: ends rows of services' databases that are marked as deleted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deleted_records
short_description: Removes rows that services have marked as deleted, by the services' own commands
description:
  - Counts the rows of the services' databases that were marked as deleted more than O(days) ago, and runs the commands
    of those that have some, as the service's user, from its environment, in the directory C(/).
  - Commands may do a part each time. They are repeated as long as there are fewer rows afterwards, and for O(within)
    seconds; RV(done) tells whether another call would go on. What a run that was killed has left, the next one removes.
  - Only rows that are marked are counted. Others that belong to them (actions of an instance) go with them.
requirements: [SQLAlchemy and PyMySQL (part of the environment of every service that has a database)]
notes:
  - Runs with the Python of a service's environment (C(ansible_python_interpreter)).
options:
  services:
    description: The services.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      user: {description: System user., type: str, required: true}
      environment: {description: The virtual environment., type: path, required: true}
      databases: {description: Name of each database and its SQLAlchemy URL., type: dict, required: true}
      keeps: {description: Tables that the commands leave., type: list, elements: str, default: []}
      commands:
        description: Commands in order.
        type: list
        elements: dict
        required: true
        suboptions:
          run:
            description: Words; V({before}) stands for the moment in UTC, V({days}) for O(days).
            type: list
            elements: str
            required: true
          success: {description: Exit codes of a success., type: list, elements: int, default: [0]}
      timeout: {description: Seconds that one command may take., type: float, default: 3600}
  days: {description: Age in days., type: int, default: 30}
  within: {description: 'Seconds after which no pass is begun any more.', type: float, default: 20}
  redactions: {description: Secret values and the names to show instead., type: dict, default: {}}
attributes:
  check_mode: {support: full, description: Counts.}
  diff_mode: {support: full, description: The rows of each table that has some.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: End what was deleted a month ago
  brume.cloud.deleted_records:
    services:
      - name: glance
        user: glance
        environment: /opt/brume/glance/2026.1-0123456789ab
        databases: {glance: "{{ database_url }}"}
        keeps: [images]
        commands: [{run: [glance-manage, db, purge, --age_in_days, "{days}"]}]
"""

RETURN = r"""
actions:
  description: One sentence for each service, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: ['delete records of glance: 12 rows deleted more than 30 days ago']
rows:
  description: By service, how many rows there were (C(found)) and are (C(left)), and the latter by table (C(tables)).
  type: dict
  returned: success
done: {description: Whether another call would change nothing., type: bool, returned: success}
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import deleted_records, host_lock, schema
from ansible_collections.brume.cloud.plugins.module_utils.convergence import Action, describe, redact, report
from ansible_collections.brume.cloud.plugins.module_utils.databases import DatabaseError

SPEC: dict[str, Any] = {
    "services": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "environment": {"type": "path", "required": True},
            "databases": {"type": "dict", "required": True},
            "keeps": {"type": "list", "elements": "str", "default": []},
            "commands": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "run": {"type": "list", "elements": "str", "required": True},
                    "success": {"type": "list", "elements": "int", "default": [0]},
                },
            },
            "timeout": {"type": "float", "default": 3600},
        },
    },
    "days": {"type": "int", "default": 30},
    "within": {"type": "float", "default": 20},
    "redactions": {"type": "dict", "default": {}},
}


def records_of(item: dict[str, Any], days: int, before: datetime) -> deleted_records.Records:
    """Return a service's records, not yet counted. Raises ImportError."""
    runs = {name: deleted_records.connect(url) for name, url in item["databases"].items()}

    def count() -> dict[str, int]:
        return {
            table: many
            for name, run in runs.items()
            for table, many in deleted_records.count(run, name, item["keeps"], before).items()
        }

    words = {"before": f"{before:%Y-%m-%d %H:%M:%S}", "days": days}
    service = schema.parse([{**item, "digest": "", "commands": []}])[0]
    commands = [([word.format(**words) for word in one["run"]], one["success"]) for one in item["commands"]]
    return deleted_records.Records(service, commands, count)


def action(one: deleted_records.Records, days: int) -> Action:
    """Return what is said of a service that has rows."""
    many = sum(one.found.values())
    rows = "1 row" if many == 1 else f"{many} rows"
    return Action("records", "delete", f"of {one.service.name}: {rows} deleted more than {days} days ago", one.found)


def main() -> None:
    """Count, and remove unless in check mode."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True, no_log=True)
    host_lock.hold(module)
    params = module.params
    redactions = {str(value): str(name) for value, name in params["redactions"].items()}
    before = datetime.now(UTC) - timedelta(days=params["days"])
    try:
        records = [records_of(item, params["days"], before) for item in params["services"]]
        deleted_records.look(records)
        result = report([action(one, params["days"]) for one in records if one.found])
        if not module.check_mode:
            deleted_records.remove(records, redactions, params["within"])
    except ImportError as error:
        message = f"{describe(error)}: run this module with the Python of a service's environment"
        module.fail_json(msg=message, invocation={})
    except (DatabaseError, schema.SchemaError) as error:
        module.fail_json(msg=redact(str(error), redactions), invocation={})
    rows = {
        one.service.name: {
            "found": sum(one.found.values()),
            "left": sum(one.left.values()),
            "tables": dict(one.left),
        }
        for one in records
    }
    done = module.check_mode or all(one.done for one in records)
    module.exit_json(**result, rows=rows, done=done, invocation={})


if __name__ == "__main__":
    main()
