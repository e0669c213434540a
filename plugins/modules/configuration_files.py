#!/usr/bin/python
"""Files, directories and links of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: configuration_files
short_description: Makes all planned files, directories and links of a host so, in one call
description:
  - Reads every path, compares content, owner, group and mode, and changes only what differs.
  - Files are written beside their place, flushed and renamed, so that a reader sees the old content or the new.
  - Nothing is written before everything was read and found possible; all problems are reported at once.
  - The module's arguments hold secrets, so neither they nor unredacted contents are logged or returned.
options:
  files:
    description: Files with their whole content.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: str, required: true}
      content: {description: The whole content as text (UTF-8). Required unless the file is to go., type: str}
      owner: {description: User name or number., type: str, default: root}
      group: {description: Group name or number., type: str, default: root}
      mode: {description: Octal mode as text., type: str, default: '0640'}
      state: {description: Whether the file exists., type: str, choices: [present, absent], default: present}
  directories:
    description: Directories. Missing parents belong to root with mode 0755. Only an empty directory is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: str, required: true}
      owner: {description: User name or number., type: str, default: root}
      group: {description: Group name or number., type: str, default: root}
      mode: {description: Octal mode as text., type: str, default: '0755'}
      state: {description: Whether the directory exists., type: str, choices: [present, absent], default: present}
  links:
    description: Symbolic links, replaced in one step.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path of the link., type: str, required: true}
      target: {description: What it points to., type: str}
      state: {description: Whether the link exists., type: str, choices: [present, absent], default: present}
  trusted:
    description:
      - Path of one of O(files) in C(/usr/local/share/ca-certificates) whose certificates have to be in the operating
        system's trust store; where they are not, or where the file changes, it is made anew.
    type: path
  redactions:
    description:
      - Secret values and the names to show in their place in diffs.
      - Former values are recognized by the setting or line they stand in, and shown as C(<another secret>).
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: Reports what a run would change; users that do not exist yet are no error.}
  diff_mode: {support: full, description: Redacted contents of what changes; owner, group and mode are the first line.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Configuration of Placement
  brume.cloud.configuration_files:
    directories:
      - {path: /etc/placement, owner: root, group: placement, mode: '0750'}
    files:
      - path: /etc/placement/placement.conf
        content: |
          [placement_database]
          connection = mysql+pymysql://placement:{{ password }}@192.0.2.10/placement
        group: placement
      - {path: /etc/placement/old.conf, state: absent}
    links:
      - {path: /etc/placement/current, target: /etc/placement}
    redactions: "{{ {password: 'placement/database/placement'} }}"
"""

RETURN = r"""
planned_digests:
  description:
    - Files and links whose content changes, and the SHA-256 of what it becomes, for M(brume.cloud.unit_rollout).
  type: dict
  returned: success
  sample: {/etc/placement/placement.conf: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [change file /etc/placement/placement.conf]
"""

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import convergence, file_state, host_lock, trust_store


def options(mode: str | None, **more: Any) -> dict[str, Any]:
    """Return the argument specification of one kind of entry; `mode` None leaves out owner, group and mode."""
    owned: dict[str, Any] = {
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str", "default": mode},
    }
    return {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            **(owned if mode else {}),
            **more,
        },
    }


def is_untrusted(
    path: str, entries: Sequence[file_state.Entry], changes: Sequence[file_state.Change]
) -> bool:
    """Return whether the trust store has to be made anew for a file. Raises FileError when the file is not planned."""
    entry = next((entry for entry in entries if entry.path == path), None)
    if entry is None:
        raise file_state.FileError(f"{path}: is named by `trusted`, but not planned; give it in `files` too")
    # A certificate that leaves the file has to leave the store.
    differs = any(change.path == path and change.content for change in changes)
    return differs or trust_store.missing(entry.content, file_state.read(trust_store.BUNDLE).content)


def main() -> None:
    """Read, compare, write what differs, report."""
    module = AnsibleModule(
        argument_spec={
            "files": options("0640", content={"type": "str"}),
            "directories": options("0755"),
            "links": options(None, target={"type": "str"}),
            "trusted": {"type": "path"},
            "redactions": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
        no_log=True,
    )
    host_lock.hold(module)
    params = module.params
    redactions = {str(value): str(name) for value, name in params["redactions"].items()}
    try:
        entries = file_state.parse(params["files"], params["directories"], params["links"])
        changes = file_state.compare(entries, file_state.read)
        untrusted = bool(params["trusted"]) and is_untrusted(params["trusted"], entries, changes)
        if not module.check_mode:
            file_state.check_owners(changes)
            for change in changes:
                file_state.apply(change)
            if untrusted:
                trust_store.update()
    except (file_state.FileError, OSError) as error:
        module.fail_json(msg=str(error), invocation={})
    trust = [f"trust {params['trusted']} on this host"] * untrusted
    module.exit_json(
        changed=bool(changes or untrusted),
        planned_digests=file_state.planned_digests(changes),
        actions=[*(change.action for change in changes), *trust],
        diff=[file_state.shown(change, redactions) for change in changes]
        + [convergence.text_diff(trust_store.BUNDLE, "", f"{line}\n") for line in trust],
        invocation={},
    )


if __name__ == "__main__":
    main()
