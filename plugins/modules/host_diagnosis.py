#!/usr/bin/python
"""What helps to find out why a host does not do what it should."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_diagnosis
short_description: Reads a host's configuration, journals, unit states and cluster states, without secrets
description:
  - Changes nothing. Everything is read side by side; what cannot be read is named and the rest is returned.
  - Values in O(redactions), passwords in URLs and after keys that are named like one, private keys and tokens are
    replaced on the host, before anything leaves it.
options:
  files:
    description: Configuration files.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      planned:
        description: The planned text with labels for its secrets; a line that has one there has one on the host too.
        type: str
        default: ''
  units: {description: Units whose states and journals are read., type: list, elements: str, default: []}
  journal_lines: {description: Last lines of each unit's journal., type: int, default: 2000}
  links: {description: Symbolic links whose targets are read., type: list, elements: str, default: []}
  commands:
    description: Commands that only read, as lists of words. One whose program is not installed is no problem.
    type: list
    elements: list
    default: []
  sockets:
    description: Unix sockets that are asked one line.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      command: {description: The line., type: str, required: true}
  redactions: {description: Secret values and the names to show instead., type: dict, default: {}}
attributes:
  check_mode: {support: full, description: It never changes anything.}
  diff_mode: {support: none, description: There is nothing to show.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Read the host
  brume.cloud.host_diagnosis:
    files: [{path: /etc/nova/nova.conf}]
    units: [nova-api.service]
    commands: [[uname, -a]]
    sockets: [{path: /run/haproxy/admin.sock, command: show stat}]
"""

RETURN = r"""
collected:
  description:
    - JSON, compressed with zlib, in base64. C(parts) holds texts by their names in the archive, C(problems) what could
      not be read, C(inactive) the units that are not active, C(errors) the number of error lines by unit.
  type: str
  returned: always
"""

import base64
import json
import zlib
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import diagnosis

SPEC: dict[str, Any] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "path", "required": True}, "planned": {"type": "str", "default": ""}},
    },
    "units": {"type": "list", "elements": "str", "default": []},
    "journal_lines": {"type": "int", "default": 2000},
    "links": {"type": "list", "elements": "str", "default": []},
    "commands": {"type": "list", "elements": "list", "default": []},
    "sockets": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "path", "required": True}, "command": {"type": "str", "required": True}},
    },
    "redactions": {"type": "dict", "default": {}},
}


def main() -> None:
    """Read and return."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    wanted = diagnosis.Wanted(
        files={one["path"]: one["planned"] for one in params["files"]},
        units=tuple(params["units"]),
        links=tuple(params["links"]),
        commands=tuple(tuple(str(word) for word in argv) for argv in params["commands"]),
        sockets=tuple((one["path"], one["command"]) for one in params["sockets"]),
        journal_lines=params["journal_lines"],
        redactions={str(value): str(name) for value, name in params["redactions"].items()},
    )
    found = json.dumps(asdict(diagnosis.collect(wanted, diagnosis.HostReader())))
    module.exit_json(changed=False, collected=base64.b64encode(zlib.compress(found.encode())).decode(), invocation={})


if __name__ == "__main__":
    main()
