#!/usr/bin/python
"""Ansible module: RabbitMQ virtual hosts and the accounts that reach them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: message_vhosts
short_description: Keep RabbitMQ's virtual hosts, accounts, permissions and replicas of streams as described
description:
  - Handles any number of virtual hosts and accounts with one export of the broker's definitions and, if anything
    differs, one import of what differs.
  - An account that is named reaches the virtual hosts it is named with and no other; permissions elsewhere are cleared.
  - Passwords are compared with the salted hash that the broker keeps. They are never arguments of a command; the import
    reads a file in O(directory) that only O(owner) can read.
  - Virtual hosts and accounts that are not named are left alone.
  - >-
    A broker that came back empty has lost its replicas. Quorum queues regain them by themselves, streams do not: with
    O(nodes), streams of the named virtual hosts are given a replica on every one of them that runs.
  - "Sources: U(https://www.rabbitmq.com/docs/definitions), U(https://www.rabbitmq.com/docs/passwords) (RabbitMQ 4)."
notes:
  - Runs as root on one host of the cluster whose broker is up.
attributes:
  check_mode:
    description: Reports what would change; where no broker was ever started, from what a new one holds.
    support: full
  diff_mode: {description: "One diff for each changed object, without secrets.", support: full}
options:
  vhosts:
    description: Virtual hosts.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      default_queue_type:
        description: Type of the queues that clients declare without saying one.
        type: str
        choices: [quorum, classic, stream]
        default: quorum
      accounts:
        description: Accounts that reach the virtual host. The same account may stand at several.
        type: list
        elements: dict
        default: []
        suboptions:
          name: {description: Name., type: str, required: true}
          password: {description: "Password; required unless the account is absent.", type: str}
          configure: {description: Regular expression of the resources it may declare., type: str, default: .*}
          write: {description: Regular expression of the resources it may publish to., type: str, default: .*}
          read: {description: Regular expression of the resources it may consume from., type: str, default: .*}
          tags: {description: Tags such as C(monitoring)., type: list, elements: str, default: []}
          state:
            description: V(absent) deletes the account unless another virtual host in this call wants it.
            type: str
            choices: [present, absent]
            default: present
      state:
        description: V(absent) deletes the virtual host with its queues, and its accounts like their own V(absent).
        type: str
        choices: [present, absent]
        default: present
  absent_accounts:
    description: Names of accounts that are not to exist, such as C(guest).
    type: list
    elements: str
    default: []
  spare_used:
    description: Fail, and name who, where an account that is to go is logged in at this moment.
    type: bool
    default: false
  nodes:
    description: Names of the cluster's nodes, each of which is to have a replica of every stream; none for one alone.
    type: list
    elements: str
    default: []
  owner: {description: User as whom C(rabbitmqctl) reads files., type: str, default: rabbitmq}
  directory: {description: "Folder in memory for the file to import.", type: path, default: /run}
  timeout: {description: Longest wait for one command in seconds., type: int, default: 60}
author: Brume developers
"""

EXAMPLES = r"""
- name: Virtual hosts of Nova and its first cell
  brume.cloud.message_vhosts:
    vhosts:
      - {name: nova, accounts: [{name: nova, password: "{{ nova_password }}"}]}
      - {name: nova_cell1, accounts: [{name: nova_cell1, password: "{{ cell_password }}"}]}
    absent_accounts: [guest]

- name: Delete an account whose password was rotated
  brume.cloud.message_vhosts:
    vhosts:
      - name: neutron
        accounts:
          - {name: neutron_2, password: "{{ neutron_password }}"}
          - {name: neutron, state: absent}
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run.
  returned: always
  type: list
  elements: str
  sample: ["create vhost nova", "create account nova", "create permission of nova on nova"]
broker:
  description: What tells the broker from one that is made anew, as M(brume.cloud.message_broker) returns it.
  returned: success
  type: str
anew:
  description: Whether it had none of the virtual hosts.
  returned: success
  type: bool
msg:
  description: On failure, what rabbitmqctl said, or one line for each mistake.
  returned: on failure
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock, messaging
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    ConvergenceError,
    apply_actions,
    describe,
    report,
)

STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
EXPRESSION: dict[str, Any] = {"type": "str", "default": ".*"}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "vhosts": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "default_queue_type": {"type": "str", "choices": ["quorum", "classic", "stream"], "default": "quorum"},
            "accounts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "no_log": True},
                    "configure": EXPRESSION,
                    "write": EXPRESSION,
                    "read": EXPRESSION,
                    "tags": {"type": "list", "elements": "str", "default": []},
                    "state": STATE,
                },
            },
            "state": STATE,
        },
    },
    "absent_accounts": {"type": "list", "elements": "str", "default": []},
    "spare_used": {"type": "bool", "default": False},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "owner": {"type": "str", "default": "rabbitmq"},
    "directory": {"type": "path", "default": "/run"},
    "timeout": {"type": "int", "default": 60},
}


def main() -> None:
    """Export, compare, import and delete unless in check mode, and exit without the arguments."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True
    )
    host_lock.hold(module)
    given = module.params
    try:
        run = messaging.connect("rabbitmqctl", given["timeout"])
        fresh = module.check_mode and messaging.is_fresh()
        exported = messaging.FRESH if fresh else messaging.export_definitions(run)
        changes = messaging.compare(given["vhosts"], given["absent_accounts"], exported, run)
        if given["spare_used"] and not fresh:
            messaging.refuse_used(changes.actions, messaging.users(run))
        if not module.check_mode:
            if changes.definitions:
                messaging.import_definitions(changes.definitions, run, given["owner"], given["directory"])
            apply_actions(changes.actions)
        lacking: list[messaging.Replica] = []
        if given["nodes"] and not fresh:
            names = [one["name"] for one in given["vhosts"]]
            lacking = messaging.lacking_replicas(names, given["nodes"], messaging.read_cluster(run))
        if not module.check_mode:
            messaging.add_replicas(lacking, run)
    except (ConvergenceError, messaging.MessagingError) as error:
        module.fail_json(msg=describe(error), invocation={})
    module.exit_json(
        **report([*changes.actions, *messaging.replica_actions(lacking)]),
        broker=messaging.UNBORN if fresh else messaging.identity(exported),
        anew=messaging.is_anew(given["vhosts"], exported),
        invocation={},
    )


if __name__ == "__main__":
    main()
