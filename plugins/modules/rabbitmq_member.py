#!/usr/bin/python
"""What a member of a RabbitMQ cluster is like, and which lost ones it forgets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_member
short_description: Tells whether a broker runs and has data, and lets a cluster forget members that lost theirs
description:
  - A member that comes back empty is refused by the others as long as they think that it is still one of them
    (rabbitmq.com, Clustering Guide, "Restarting Cluster Nodes"). Once they have forgotten it, it joins as a new one.
  - Only a member that does not run is forgotten.
options:
  forget: {description: Names of nodes that have come back empty., type: list, elements: str, default: []}
  data: {description: Folder of the node's data., type: path, required: true}
attributes:
  check_mode: {support: full, description: Tells which members would be forgotten.}
  diff_mode: {support: full, description: The members that are forgotten.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Let the others forget a member that was reinstalled
  brume.cloud.rabbitmq_member:
    data: /var/lib/rabbitmq/mnesia/rabbit@controller1
    forget: [rabbit@controller2]
"""

RETURN = r"""
member:
  description: Whether it is C(active), and C(empty).
  type: dict
  returned: success
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [forget rabbit@controller2]
"""

import json
import os
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import text_diff

UNIT = "rabbitmq-server.service"
SECONDS = 60


class MemberError(RuntimeError):
    """The broker cannot be asked; the text says why."""


def rabbitmqctl(*words: str) -> str:
    """Return what the broker answers. Raises MemberError."""
    command = ["rabbitmqctl", "--quiet", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MemberError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise MemberError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip() or done.returncode}")
    return done.stdout


def lost(wanted: list[str]) -> list[str]:
    """Return those nodes that the cluster still counts as members and that do not run. Raises MemberError."""
    status = json.loads(rabbitmqctl("--formatter", "json", "cluster_status"))
    return [name for name in wanted if name in status["disk_nodes"] and name not in status["running_nodes"]]


def main() -> None:
    """Look, and forget."""
    module = AnsibleModule(
        argument_spec={
            "forget": {"type": "list", "elements": "str", "default": []},
            "data": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    data, forget = module.params["data"], module.params["forget"]
    active = subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0
    names: list[str] = []
    try:
        names = lost(forget) if active and forget else []
        if not module.check_mode:
            for name in names:
                rabbitmqctl("forget_cluster_node", name)
    except (MemberError, ValueError, KeyError) as error:
        module.fail_json(msg=str(error), invocation={})
    module.exit_json(
        changed=bool(names),
        actions=[f"forget {name}" for name in names],
        diff=[text_diff("lost members", "".join(f"{name}\n" for name in names), "")] if names else [],
        member={"active": active, "empty": not (os.path.isdir(data) and os.listdir(data))},
        invocation={},
    )


if __name__ == "__main__":
    main()
