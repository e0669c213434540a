#!/usr/bin/python
"""What a member of OVN's database clusters holds, and how it becomes one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ovn_member
short_description: Tells what this host holds of OVN's databases, and makes or joins their clusters
description:
  - Reads the files of OVN's northbound and southbound database and asks their servers if they run.
  - With O(steps), a cluster is begun or joined, a file that others do not know any more is set aside, a member that is
    lost is removed, and the schema becomes that of the installed package. Servers that are to start do so afterwards,
    by M(brume.cloud.unit_rollout).
  - No file is ever removed. One that is set aside has C(.aside-) and the time in its name.
options:
  address: {description: This host's address for the other members. Required with O(steps)., type: str, default: ''}
  steps:
    description: By name of the database, the step that C(module_utils/ovn.py) has decided.
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: Tells what would be done.}
  diff_mode: {support: full, description: One line for each step.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Read what this host holds
  brume.cloud.ovn_member:
  register: member

- name: Join the northbound cluster
  brume.cloud.ovn_member:
    address: 192.0.2.12
    steps: {OVN_Northbound: {join: ['ssl:192.0.2.11:6643']}}
"""

RETURN = r"""
members:
  description: By database, what this host's server or file says (C(module_utils/ovn.py), C(Member)).
  type: dict
  returned: success
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: ['begin a cluster of OVN_Northbound at ssl:192.0.2.11:6643']
"""

import dataclasses
import os
import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock, ovn
from ansible_collections.brume.cloud.plugins.module_utils.convergence import text_diff

RUN = "/run/ovn"
SCHEMAS = "/usr/share/ovn"
SECONDS = 30

ELECTION_MS = 4000
"""Milliseconds without a word from the leader after which members elect another. The default of one second takes a busy
processor for a lost leader; a cluster that exists is changed step by step by `cluster/change-election-timer`."""


class MemberError(RuntimeError):
    """A tool or server of the databases does not answer as it should; the text says why."""


def call(*command: str, codes: tuple[int, ...] = (0,)) -> str:
    """Return a command's output. Raises MemberError for another exit code than those in `codes`."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MemberError(f"{command[0]}: {error}") from error
    if done.returncode not in codes:
        raise MemberError(f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout.strip()


def is_active(database: ovn.Database) -> bool:
    """Return whether the unit of a database's server runs."""
    return subprocess.run(["systemctl", "is-active", "--quiet", database.unit], check=False).returncode == 0


def read(database: ovn.Database) -> ovn.Member:
    """Return what this host holds of a database. Raises MemberError."""
    if not os.path.exists(database.file):
        return ovn.Member(active=is_active(database))
    if subprocess.run(["ovsdb-tool", "db-is-standalone", database.file], check=False).returncode == 0:
        return ovn.Member(active=is_active(database), exists=True, standalone=True)
    member = ovn.Member(
        active=is_active(database),
        exists=True,
        # Exit code 2 says that it has not joined yet (ovsdb-tool(1)).
        cluster=call("ovsdb-tool", "db-cid", database.file, codes=(0, 2)),
        server=call("ovsdb-tool", "db-sid", database.file),
        address=call("ovsdb-tool", "db-local-address", database.file),
    )
    control, schema = f"{RUN}/ovn{database.short}_db.ctl", f"{SCHEMAS}/ovn-{database.short}.ovsschema"
    if not member.active or not os.path.exists(control):
        return member
    # One that others have removed says that it knows no cluster, with exit code 2: it has no leader and no members.
    text = call("ovs-appctl", f"--timeout={SECONDS}", "-t", control, "cluster/status", database.name, codes=(0, 2))
    _cluster, leads, leader, servers = ovn.parse_status(text)
    outdated = leads and call("ovsdb-client", f"--timeout={SECONDS}", "needs-conversion", socket(database), schema)
    return dataclasses.replace(member, leads=leads, leader=leader, servers=servers, outdated=outdated == "yes")


def socket(database: ovn.Database) -> str:
    """Return where the server of this host is reached from this host."""
    return f"unix:{RUN}/ovn{database.short}_db.sock"


def apply(database: ovn.Database, step: ovn.Step, address: str) -> None:
    """Take a step. Raises MemberError and OSError."""
    file, schema = database.file, f"{SCHEMAS}/ovn-{database.short}.ovsschema"
    local = ovn.location(address, database.cluster_port)
    if step.stop:
        call("systemctl", "stop", database.unit)
    aside = f"{file}.aside-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    if step.set_aside:
        os.rename(file, aside)
    if step.create or step.join:
        os.makedirs(os.path.dirname(file), mode=0o755, exist_ok=True)
    if step.create:
        call(
            "ovsdb-tool",
            f"--election-timer={ELECTION_MS}",
            "create-cluster",
            file,
            contents(aside, step) or schema,
            local,
        )
    elif step.join:
        known = [f"--cid={step.cluster}"] if step.cluster else []
        call("ovsdb-tool", *known, "join-cluster", file, database.name, local, *step.join)
    for server in step.kick:
        control = f"{RUN}/ovn{database.short}_db.ctl"
        call("ovs-appctl", f"--timeout={SECONDS}", "-t", control, "cluster/kick", database.name, server)
    if step.convert:
        call("ovsdb-client", f"--timeout={SECONDS}", "convert", socket(database), schema)


def contents(aside: str, step: ovn.Step) -> str:
    """Return a file with what a new cluster begins with, or nothing where it begins empty. Raises MemberError."""
    if not step.from_own:
        return ""
    if subprocess.run(["ovsdb-tool", "db-is-standalone", aside], check=False).returncode == 0:
        return aside
    alone = f"{aside}.standalone"
    call("ovsdb-tool", "cluster-to-standalone", alone, aside)
    return alone


def main() -> None:
    """Read, and take the steps."""
    module = AnsibleModule(
        argument_spec={"address": {"type": "str", "default": ""}, "steps": {"type": "dict", "default": {}}},
        supports_check_mode=True,
    )
    host_lock.hold(module)
    address, said = module.params["address"], []
    members: dict[str, Any] = {}
    try:
        for name, database in ovn.DATABASES.items():
            members[name] = dataclasses.asdict(read(database))
            step = step_of(module.params["steps"].get(name) or {})
            said += ovn.actions(database, step, ovn.location(address, database.cluster_port))
            if not module.check_mode:
                apply(database, step, address)
    except (MemberError, OSError) as error:
        module.fail_json(msg=str(error), invocation={})
    lines = "".join(f"{line}\n" for line in said)
    module.exit_json(
        changed=bool(said),
        actions=said,
        diff=[text_diff("OVN's databases", "", lines)] if said else [],
        members=members,
        invocation={},
    )


def step_of(data: dict[str, Any]) -> ovn.Step:
    """Return a step from the module's arguments."""
    arguments: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return ovn.Step(**arguments)


if __name__ == "__main__":
    main()
