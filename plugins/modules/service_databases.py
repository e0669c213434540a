#!/usr/bin/python
"""Ansible module: MariaDB databases and the accounts that reach them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_databases
short_description: Keep databases and their accounts in MariaDB as described
description:
  - Handles any number of databases and accounts over one connection, reads the server's own tables once, and changes
    only what differs.
  - An account that is named reaches the databases it is named with and no other; what it may do elsewhere is revoked.
    The underscore in a database's name stands for itself, not for any character.
  - Passwords are compared with, and sent as, the hash that the server keeps; no statement holds one.
  - Databases and accounts that are not named are left alone. Nothing is dropped unless its state is V(absent).
  - "Sources: U(https://mariadb.com/docs/server/), tables C(mysql.global_priv) and C(mysql.db) (MariaDB 10.4 or later)."
requirements: [PyMySQL (Debian package python3-pymysql)]
notes:
  - Logs in as C(root) through the UNIX socket, which MariaDB allows the operating system's root without a password.
attributes:
  check_mode:
    description:
      - Reports what would change; where there is no server yet, everything.
      - A server that does not run but has databases is not asked, and a warning says so.
    support: full
  diff_mode: {description: "One diff for each changed object, without secrets.", support: full}
options:
  databases:
    description: Databases.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      character_set:
        description: Default character set when the database is made; later it is the migrations' matter.
        type: str
        default: utf8mb4
      collation: {description: "Default collation when the database is made; the server's unless given.", type: str}
      accounts:
        description: Accounts that reach the database. The same account may stand at several.
        type: list
        elements: dict
        default: []
        suboptions:
          name: {description: Name., type: str, required: true}
          host: {description: "Host or pattern from which it may connect.", type: str, default: '%'}
          password: {description: "Password; required unless the account is absent.", type: str}
          privileges:
            description: Privileges on the database by their SQL names; V(ALL) is all of them without C(GRANT OPTION).
            type: list
            elements: str
            default: [ALL]
          require_ssl: {description: Whether it may connect with TLS only., type: bool, default: false}
          state:
            description: V(absent) drops the account unless another database in this call wants it.
            type: str
            choices: [present, absent]
            default: present
      state:
        description: V(absent) drops the database with all its data, and its accounts like their own V(absent).
        type: str
        choices: [present, absent]
        default: present
  spare_used:
    description: Fail, and name who, where an account that is to go is logged in at this moment.
    type: bool
    default: false
  login_unix_socket: {description: Socket of the server., type: path, default: /run/mysqld/mysqld.sock}
author: Brume developers
"""

EXAMPLES = r"""
- name: Databases of Placement and of a Nova cell
  brume.cloud.service_databases:
    databases:
      - name: placement
        accounts: [{name: placement, password: "{{ placement_password }}", require_ssl: true}]
      - name: nova_cell1
        accounts: [{name: nova_cell1, password: "{{ cell_password }}"}]

- name: Drop an account whose password was rotated
  brume.cloud.service_databases:
    databases:
      - name: placement
        accounts:
          - {name: placement_2, password: "{{ placement_password }}"}
          - {name: placement, state: absent}
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run.
  returned: always
  type: list
  elements: str
  sample: ["create database placement", "create account placement@%", "create grant of placement@% on placement"]
msg:
  description: On failure, one line for each object with the message of the server.
  returned: on failure
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import databases, host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, converge, describe

STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"], "default": "present"}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "databases": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "character_set": {"type": "str", "default": "utf8mb4"},
            "collation": {"type": "str"},
            "accounts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "host": {"type": "str", "default": "%"},
                    "password": {"type": "str", "no_log": True},
                    "privileges": {"type": "list", "elements": "str", "default": ["ALL"]},
                    "require_ssl": {"type": "bool", "default": False},
                    "state": STATE,
                },
            },
            "state": STATE,
        },
    },
    "spare_used": {"type": "bool", "default": False},
    "login_unix_socket": {"type": "path", "default": "/run/mysqld/mysqld.sock"},
}


def main() -> None:
    """Fetch, compare, apply unless in check mode, and exit without the arguments, which hold passwords."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True
    )
    host_lock.hold(module)
    desired = module.params["databases"]
    try:
        socket = module.params["login_unix_socket"]
        if module.check_mode and not os.path.exists(socket):
            held = databases.held(desired)
            if held:
                module.warn(f"MariaDB does not run, so its accounts are not known; it holds {', '.join(held)}")
            actions = [] if held else databases.compare(desired, databases.FRESH, databases.unreachable)
        else:
            run = databases.connect(socket)
            actions = databases.compare(desired, databases.fetch(desired, run), run)
            if module.params["spare_used"]:
                databases.refuse_used(actions, databases.users(run))
        result = converge(actions, check_mode=module.check_mode)
    except ImportError as error:
        module.fail_json(msg=f"{describe(error)}: install PyMySQL (Debian package python3-pymysql)", invocation={})
    except (ConvergenceError, databases.DatabaseError) as error:
        module.fail_json(msg=describe(error), invocation={})
    module.exit_json(**result, invocation={})


if __name__ == "__main__":
    main()
