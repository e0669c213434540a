#!/usr/bin/python
"""Rings of Swift on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swift_ring_files
short_description: Puts rings that were built elsewhere in place, each in one step
description:
  - Compares by digest, and replaces a ring as a whole, so that a server that reads it again finds the old one or the
    new one. Servers look for a newer ring every 15 s by themselves (C(swift.common.ring.ring)).
  - Verifies what it was given, and what lies on the disk afterwards.
options:
  folder: {description: Where rings are., type: path, default: /etc/swift}
  rings:
    description: Rings.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: 'Name, such as V(object-1).', type: str, required: true}
      sha256: {description: SHA-256 of the file., type: str, required: true}
      content: {description: 'The file, in base64. A dry run does not need it.', type: str, default: ''}
attributes:
  check_mode: {support: full, description: Compares the digests.}
  diff_mode: {support: full, description: Digests.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Rings
  brume.cloud.swift_ring_files:
    rings:
      - {name: account, sha256: "{{ digest }}", content: "{{ file }}"}
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [replace /etc/swift/account.ring.gz]
"""

import base64
import binascii
import hashlib
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write, describe, text_diff

MODE = 0o644
"""A ring tells addresses of disks and nothing secret; whoever asks for where an object lies may read it."""


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file, nothing where it is missing."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def replace(path: str, ring: dict[str, Any]) -> None:
    """Write a ring. Raises ValueError where it is not what its digest says, and OSError."""
    try:
        content = base64.b64decode(ring["content"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"{path}: content is no base64 ({error})") from None
    if hashlib.sha256(content).hexdigest() != ring["sha256"]:
        raise ValueError(f"{path}: content does not have the digest {ring['sha256']}; build the rings again")
    atomic_write(path, content, MODE)
    if digest_of(path) != ring["sha256"]:
        raise ValueError(f"{path}: reads back as something else; look at the disk")


def main() -> None:
    """Compare, write, report."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "default": "/etc/swift"},
            "rings": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                    "content": {"type": "str", "default": ""},
                },
            },
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    rings = {os.path.join(module.params["folder"], f"{one['name']}.ring.gz"): one for one in module.params["rings"]}
    found = {path: digest_of(path) for path in rings}
    changed = [path for path, ring in rings.items() if found[path] != ring["sha256"]]
    try:
        for path in [] if module.check_mode else changed:
            replace(path, rings[path])
    except (ValueError, OSError) as error:
        module.fail_json(msg=describe(error), invocation={})
    module.exit_json(
        changed=bool(changed),
        actions=[f"{'replace' if found[path] else 'create'} {path}" for path in changed],
        diff=[text_diff(path, _line(found[path]), _line(rings[path]["sha256"])) for path in changed],
        invocation={},
    )


def _line(digest: str) -> str:
    return f"sha256 {digest}\n" if digest else ""


if __name__ == "__main__":
    main()
