#!/usr/bin/python
"""Keystone's first administrator, region and catalog entry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: keystone_bootstrap
short_description: Bootstraps Keystone through its Python API, with the password on standard input
description:
  - Makes the default domain, the administrator with project and roles, Keystone's default roles, the region and
    Keystone's own catalog entry, straight in the database, so Keystone need not run.
  - A salted digest of all options is recorded in C(/var/lib/brume/keystone-bootstrap.json); with an equal one nothing
    is run. After a change of the password or a URL it runs again and resets them.
options:
  environment: {description: Virtual environment of Keystone., type: path}
  config_file: {description: Keystone's configuration., type: path, default: /etc/keystone/keystone.conf}
  user: {description: System user., type: str, default: keystone}
  admin_username: {description: Name of the administrator., type: str, default: admin}
  admin_password: {description: Password of the administrator., type: str}
  project_name: {description: Project of the administrator., type: str, default: admin}
  role_name: {description: Role of the administrator., type: str, default: admin}
  service_name: {description: Name of the catalog's identity service., type: str, default: keystone}
  region: {description: Region., type: str}
  public_url: {description: Public endpoint., type: str}
  internal_url: {description: Internal endpoint., type: str}
  admin_url: {description: Admin endpoint; none if left out., type: str}
  state:
    description: V(absent) removes the record, so that the next run bootstraps again; the database stays as it is.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode: {support: full, description: Reports whether a run would bootstrap.}
  diff_mode: {support: full, description: What is bootstrapped, without the password.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: First administrator
  brume.cloud.keystone_bootstrap:
    environment: /opt/brume/keystone/current
    admin_password: "{{ password }}"
    region: RegionOne
    public_url: https://cloud.example.org:5000/v3
    internal_url: https://192.0.2.10:5000/v3
"""

RETURN = r"""
seconds:
  description: How long the bootstrap took.
  type: float
  returned: success
actions:
  description: One sentence if it was run.
  type: list
  elements: str
  returned: success
  sample: [bootstrap keystone (region RegionOne, administrator admin)]
"""

import os
import secrets
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import convergence, host_lock, schema
from ansible_collections.brume.cloud.plugins.module_utils import keystone_bootstrap as keystone

SPEC: dict[str, Any] = {
    "environment": {"type": "path"},
    "config_file": {"type": "path", "default": "/etc/keystone/keystone.conf"},
    "user": {"type": "str", "default": "keystone"},
    "admin_username": {"type": "str", "default": "admin"},
    "admin_password": {"type": "str", "no_log": True},
    "project_name": {"type": "str", "default": "admin"},
    "role_name": {"type": "str", "default": "admin"},
    "service_name": {"type": "str", "default": "keystone"},
    "region": {"type": "str"},
    "public_url": {"type": "str"},
    "internal_url": {"type": "str"},
    "admin_url": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
NEEDED = ("environment", "admin_password", "region", "public_url", "internal_url")


def wanted_from(params: dict[str, Any]) -> keystone.Bootstrap:
    """Return the options as the bootstrap's record."""
    return keystone.Bootstrap(
        config_file=params["config_file"],
        admin_username=params["admin_username"],
        admin_password=params["admin_password"],
        project_name=params["project_name"],
        admin_role_name=params["role_name"],
        service_name=params["service_name"],
        region_id=params["region"],
        public_url=params["public_url"],
        internal_url=params["internal_url"],
        admin_url=params["admin_url"],
    )


def main() -> None:
    """Compare with the record, bootstrap if it differs, record."""
    module = AnsibleModule(
        argument_spec=SPEC, required_if=[("state", "present", NEEDED)], supports_check_mode=True, no_log=True
    )
    host_lock.hold(module)
    params = module.params
    if params["state"] == "absent":
        there = os.path.exists(keystone.RECORD)
        if there and not module.check_mode:
            os.unlink(keystone.RECORD)
        diff = [convergence.text_diff("keystone bootstrap", "recorded\n", "")] if there else []
        actions = ["forget the keystone bootstrap"] if there else []
        module.exit_json(changed=there, actions=actions, diff=diff, seconds=0.0, invocation={})
    wanted = wanted_from(params)
    record = convergence.read_marker(keystone.RECORD)
    needed = not keystone.is_done(wanted, record)
    began = time.monotonic()
    if needed and not module.check_mode:
        try:
            keystone.run(wanted, params["environment"], params["user"])
            salt = secrets.token_hex(16)
            digest = {"salt": salt, "digest": keystone.digest(wanted, salt)}
            convergence.write_marker(keystone.RECORD, digest, mode=0o600)
        except (keystone.BootstrapError, schema.SchemaError, OSError) as error:
            module.fail_json(msg=str(error), invocation={})
    shown = {name: value for name, value in vars(wanted).items() if name != "admin_password" and value is not None}
    after = convergence.to_text({**shown, "admin_password": "<secret>"})
    module.exit_json(
        changed=needed,
        actions=[f"bootstrap keystone (region {wanted.region_id}, administrator {wanted.admin_username})"] * needed,
        diff=[convergence.text_diff("keystone bootstrap", "another bootstrap\n" if record else "", after)] * needed,
        seconds=round(time.monotonic() - began, 1),
        invocation={},
    )


if __name__ == "__main__":
    main()
