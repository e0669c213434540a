"""Keystone's bootstrap through its Python API, with the password on standard input.

Source: `keystone.cmd.bootstrap.Bootstrapper` and `keystone.cmd.cli` (2025.1 to 2026.1), which `keystone-manage
bootstrap` calls too; that command takes the password only from its arguments or its environment.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import redact
from ansible_collections.brume.cloud.plugins.module_utils.schema import identity

RECORD = "/var/lib/brume/keystone-bootstrap.json"
ITERATIONS = 200_000
"""Rounds of PBKDF2, so that the record on the host is no short cut to guess the password."""

OUTPUT_LINES = 20
TIMEOUT = 300.0
"""Seconds that the bootstrap may take; 4 are usual."""

PROGRAM = r"""
import json, sys

wanted = json.load(sys.stdin)
from keystone.cmd import bootstrap
from keystone.common import sql
import keystone.conf

keystone.conf.configure()
sql.initialize()
keystone.conf.set_default_for_default_log_levels()
keystone.conf.CONF(["--config-file", wanted.pop("config_file")], project="keystone", default_config_files=[])
keystone.conf.setup_logging()
one = bootstrap.Bootstrapper()
one.service_id = None
one.immutable_roles = True
for name, value in wanted.items():
    setattr(one, name, value)
one.bootstrap()
"""
"""Runs in the environment's interpreter; the keys of its input are the attributes of the Bootstrapper."""


class BootstrapError(RuntimeError):
    """Keystone's bootstrap failed; the text holds the end of what it said, and the next step."""


@dataclass(frozen=True)
class Bootstrap:
    """What the bootstrap makes: administrator, role, project, region, and the catalog's identity entry."""

    config_file: str
    admin_username: str
    admin_password: str
    project_name: str
    admin_role_name: str
    service_name: str
    region_id: str
    public_url: str
    internal_url: str
    admin_url: str | None = None

    def document(self) -> str:
        """Return the program's input."""
        return json.dumps({one.name: getattr(self, one.name) for one in fields(self)}, sort_keys=True)


def digest(wanted: Bootstrap, salt: str) -> str:
    """Return the digest to record; `salt` is a hexadecimal text.

    URLs are left out: once there is a catalog, keystone_catalog keeps Keystone's own entry like every other one.
    """
    kept = replace(wanted, public_url="", internal_url="", admin_url=None)
    return hashlib.pbkdf2_hmac("sha256", kept.document().encode(), bytes.fromhex(salt), ITERATIONS).hex()


def is_done(wanted: Bootstrap, record: Mapping[str, Any]) -> bool:
    """Return whether a record says that exactly this was done before."""
    try:
        return bool(record) and hmac.compare_digest(str(record["digest"]), digest(wanted, str(record["salt"])))
    except (KeyError, ValueError):
        return False


def run(wanted: Bootstrap, environment: str, user: str, execute: Callable[..., Any] = subprocess.run) -> None:
    """Run the bootstrap as `user`. Raises BootstrapError, and SchemaError when the user does not exist."""
    number, group, groups, home = identity(user)
    variables = {"PATH": f"{environment}/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home}
    try:
        done = execute(
            [f"{environment}/bin/python", "-I", "-c", PROGRAM],
            input=wanted.document(),
            user=number,
            group=group,
            extra_groups=groups,
            cwd="/",
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT,
            umask=0o027,
            pass_fds=host_lock.inherited(),
        )
    except subprocess.TimeoutExpired:
        raise BootstrapError(f"keystone bootstrap did not end within {TIMEOUT:.0f} s; is the database up?") from None
    except OSError as error:
        raise BootstrapError(f"keystone bootstrap cannot be run: {error}; is {environment} built?") from None
    if done.returncode:
        text = redact(done.stdout, {wanted.admin_password: "<secret admin password>"})
        tail = "".join(f"\n    {line}" for line in text.splitlines()[-OUTPUT_LINES:])
        raise BootstrapError(
            f"keystone bootstrap exits with {done.returncode}:{tail}\n"
            f"  next: check the database and the schema that {wanted.config_file} names, then run again"
        )
