#!/usr/bin/python
"""What a member of a Galera cluster says of itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: galera_member
short_description: Reads whether a database server runs in a cluster, and how new its data is
description:
  - Asks the server by its Unix socket if it runs. If not, reads C(grastate.dat), and where that does not know the last
    write (the server did not end in order), finds it in the data as the server itself does (C(--wsrep-recover)).
  - With O(state=primary) a server that runs outside of any primary component makes its component the primary one.
  - With O(state=upgraded) the system tables of a server that runs are brought to its version, where they are not. What
    the distribution's unit begins by itself, in the background of each start, is waited for. A single server will do.
options:
  state:
    description: V(read) changes nothing.
    type: str
    choices: [read, primary, upgraded]
    default: read
  data: {description: The server's folder of data., type: path, default: /var/lib/mysql}
attributes:
  check_mode:
    support: full
    description:
      - The last write of a server that did not end in order is not looked for, since that repairs its data. Whether
        system tables are old is not told, since only the server's new version knows it.
  diff_mode: {support: none}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Read how new the data is
  brume.cloud.galera_member:
  register: member
"""

RETURN = r"""
member:
  description:
    - Whether it is active, its cluster_status, uuid, seqno (-1 where unknown), safe_to_bootstrap, has_data, the size of
      its component, and how many clients are connected.
  type: dict
  returned: success
actions:
  description: One sentence for each change.
  type: list
  elements: str
  returned: success
"""

import dataclasses
import os
import subprocess
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import galera, host_lock

OWN = frozenset({"mysql", "performance_schema", "sys", "test", "lost+found"})
"""Folders that every server has."""

PROMOTE = "SET GLOBAL wsrep_provider_options='pc.bootstrap=YES'"
SECONDS = 300
UPGRADE_SECONDS = 1800.0
"""How long system tables and the check of all others may take, which a new series needs."""

CURRENT = "already upgraded"
"""What mariadb-upgrade says where there is nothing to do; it ends well all the same."""

LOCKED = "Could not exclusively lock on file"
"""What mariadb-upgrade says while another one works (client/mysql_upgrade.c)."""

STATUS = "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'wsrep%' OR Variable_name = 'Threads_connected'"


class MemberError(RuntimeError):
    """The server or its files cannot be read; the text says why."""


def run(*command: str, seconds: float = SECONDS) -> str:
    """Return a command's output. Raises MemberError."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MemberError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise MemberError(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def is_active() -> bool:
    """Return whether the server runs and answers."""
    done = subprocess.run(["systemctl", "is-active", "--quiet", "mariadb.service"], check=False)
    return done.returncode == 0


def status() -> dict[str, str]:
    """Return the status of a server that runs."""
    lines = run("mariadb", "--batch", "--skip-column-names", "--execute", STATUS)
    return dict(line.split("\t", 1) for line in lines.splitlines() if "\t" in line)


def recovered(data: str) -> tuple[str, int]:
    """Return the last write that the data holds, as the server itself finds it before it starts."""
    with tempfile.NamedTemporaryFile(prefix="brume-recover-", dir="/var/tmp", delete=False) as log:
        os.chmod(log.name, 0o600)
    try:
        os.chown(log.name, os.stat(data).st_uid, os.stat(data).st_gid)
        run("mariadbd", "--user=mysql", "--wsrep-recover", "--disable-log-error", f"--log-error={log.name}")
        with open(log.name, encoding="utf-8", errors="replace") as stream:
            return galera.parse_recovered(stream.read())
    finally:
        os.unlink(log.name)


def read(data: str, check_mode: bool) -> galera.Member:
    """Return what the server or its files say. Raises MemberError."""
    has_data = os.path.isdir(data) and any(
        entry.is_dir() and entry.name not in OWN and not entry.name.startswith(("#", ".")) for entry in os.scandir(data)
    )
    if is_active():
        found = status()
        number = found.get("wsrep_last_committed", "")
        return galera.Member(
            active=True,
            cluster_status=found.get("wsrep_cluster_status", ""),
            uuid=found.get("wsrep_cluster_state_uuid") or galera.NOBODY,
            seqno=int(number) if number.isdecimal() else galera.UNKNOWN,
            has_data=has_data,
            size=int(found.get("wsrep_cluster_size") or 0),
            connections=int(found.get("Threads_connected") or 0),
        )
    uuid, seqno, safe = galera.NOBODY, galera.UNKNOWN, False
    path = f"{data}/grastate.dat"
    if os.path.exists(path):
        with open(path, encoding="ascii", errors="replace") as stream:
            uuid, seqno, safe = galera.parse_state(stream.read())
    if uuid != galera.NOBODY and seqno == galera.UNKNOWN and not check_mode:
        history, position = recovered(data)
        if history == uuid:
            seqno = position
    return galera.Member(uuid=uuid, seqno=seqno, safe_to_bootstrap=safe, has_data=has_data)


def upgrade(patience: float = UPGRADE_SECONDS) -> bool:
    """Bring the system tables to the server's version. Return whether that was needed. Raises MemberError.

    It writes on this member alone, since the others may have the old version yet (mariadb-upgrade(1),
    skip-write-binlog, which is its default). Another one that works already has a lock, and is waited for; nothing else
    is mended by waiting.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return CURRENT not in run("mariadb-upgrade", seconds=patience)
        except MemberError as error:
            if LOCKED not in str(error) or time.monotonic() >= end or not is_active():
                raise
            time.sleep(2)


def main() -> None:
    """Read, and promote or upgrade if asked."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["read", "primary", "upgraded"], "default": "read"},
            "data": {"type": "path", "default": "/var/lib/mysql"},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    actions = []
    try:
        member = read(module.params["data"], module.check_mode)
        if module.params["state"] == "primary" and member.active and member.cluster_status != "Primary":
            actions.append("make the component of this member the primary one")
            if not module.check_mode:
                run("mariadb", "--execute", PROMOTE)
        if module.params["state"] == "upgraded" and member.active and not module.check_mode and upgrade():
            actions.append("upgrade the system tables")
    except (MemberError, OSError) as error:
        module.fail_json(msg=str(error), invocation={})
    module.exit_json(changed=bool(actions), actions=actions, member=dataclasses.asdict(member), invocation={})


if __name__ == "__main__":
    main()
