#!/usr/bin/python
"""What a member of a RabbitMQ cluster is like, and which lost ones it forgets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_member
short_description: Tells whether a broker runs and has data, and readies its cluster for what its members go through
description:
  - A member that comes back empty is refused by the others as long as they think that it is still one of them
    (rabbitmq.com, Clustering Guide, "Restarting Cluster Nodes"). Once they have forgotten it, it joins as a new one.
  - Only a member that does not run is forgotten. Its queues' replicas go with it (rabbitmqctl(8), forget_cluster_node).
  - Before members get a new version one after the other, all stable feature flags have to be on, since the new version
    may not start without them (rabbitmq.com, "Feature Flags"). A flag that is on stays on.
options:
  forget: {description: Names of nodes that have come back empty., type: list, elements: str, default: []}
  leaving:
    description: Names of nodes that leave for good and have been stopped. In check mode they may run still.
    type: list
    elements: str
    default: []
  cluster:
    description: Whether to tell what a broker that runs counts as its cluster.
    type: bool
    default: false
  features:
    description:
      - Whether the stable feature flags that are off are enabled. Nothing is, while members run different versions or
        one does not run.
    type: bool
    default: false
  quorum:
    description: Whether to wait until no queue would lose its majority without this broker.
    type: bool
    default: false
  data: {description: Folder of the node's data., type: path, required: true}
attributes:
  check_mode: {support: full, description: Tells which members would be forgotten and which flags enabled.}
  diff_mode: {support: full, description: The members that are forgotten.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Let the others forget a member that was reinstalled
  brume.cloud.rabbitmq_member:
    data: /var/lib/rabbitmq/mnesia/rabbit@controller1
    forget: [rabbit@controller2]

- name: Let the others forget a member that has left
  brume.cloud.rabbitmq_member:
    data: /var/lib/rabbitmq/mnesia/rabbit@controller1
    leaving: [rabbit@controller3]

- name: Ready the cluster for a new version
  brume.cloud.rabbitmq_member:
    data: /var/lib/rabbitmq/mnesia/rabbit@controller1
    features: true
"""

RETURN = r"""
member:
  description:
    - Whether it is C(active), and C(empty). With O(cluster), of a broker that runs, the names of the C(nodes) that its
      cluster counts, and of those that are C(running).
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
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import text_diff

UNIT = "rabbitmq-server.service"
SECONDS = 60
QUORUM_SECONDS = 120
"""How long queues may take to get all their members back after a broker has started."""

LEAVE_SECONDS = 30.0
"""How long a node that was stopped may count as running: the others hear of it by their connections."""


class MemberError(RuntimeError):
    """The broker cannot be asked; the text says why."""


def rabbitmqctl(*words: str) -> str:
    """Return what the broker answers. Raises MemberError."""
    return answer(["rabbitmqctl", "--quiet", *words], SECONDS)


def answer(command: list[str], seconds: float) -> str:
    """Return the output of one of the broker's tools. Raises MemberError."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MemberError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise MemberError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip() or done.returncode}")
    return done.stdout


def cluster() -> dict[str, list[str]]:
    """Return the names of the nodes that the cluster counts, and of those that run. Raises MemberError."""
    status = json.loads(rabbitmqctl("--formatter", "json", "cluster_status"))
    return {"nodes": sorted(status["disk_nodes"]), "running": sorted(status["running_nodes"])}


def disabled_flags() -> list[str]:
    """Return the stable feature flags that can be enabled; none while members differ. Raises MemberError."""
    status = json.loads(rabbitmqctl("--formatter", "json", "cluster_status"))
    versions = {one["rabbitmq_version"] for one in status["versions"].values()}
    if len(versions) > 1 or len(status["versions"]) < len(status["disk_nodes"]):
        return []
    found = json.loads(rabbitmqctl("--formatter", "json", "list_feature_flags", "name", "state", "stability"))
    return sorted(one["name"] for one in found if one["state"] == "disabled" and one["stability"] == "stable")


def await_quorum() -> None:
    """Wait until no queue would lose its majority without this broker. Raises MemberError."""
    command = ["rabbitmq-upgrade", "--quiet", "--timeout", str(QUORUM_SECONDS), "await_online_quorum_plus_one"]
    try:
        answer(command, QUORUM_SECONDS + SECONDS)
    except MemberError as error:
        raise MemberError(
            f"{error}\n  next: `rabbitmq-queues check_if_node_is_quorum_critical` there names the queues; "
            "start the brokers that have their other members, and run again"
        ) from error


def lost(wanted: list[str], found: dict[str, list[str]]) -> list[str]:
    """Return those nodes that the cluster still counts as members and that do not run."""
    return [name for name in wanted if name in found["nodes"] and name not in found["running"]]


def left(leaving: list[str], found: dict[str, list[str]], check_mode: bool) -> list[str]:
    """Return those nodes that have left and that the cluster still counts. Raises MemberError for one that goes on."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while not check_mode and set(leaving) & set(found["running"]):
        if time.monotonic() > deadline:
            names = ", ".join(sorted(set(leaving) & set(found["running"])))
            raise MemberError(f"{names} is to leave and still runs\n  next: stop rabbitmq-server there, and run again")
        time.sleep(1)
        found = cluster()
    return [name for name in leaving if name in found["nodes"]]


def main() -> None:
    """Look, and forget."""
    module = AnsibleModule(
        argument_spec={
            "forget": {"type": "list", "elements": "str", "default": []},
            "leaving": {"type": "list", "elements": "str", "default": []},
            "cluster": {"type": "bool", "default": False},
            "features": {"type": "bool", "default": False},
            "quorum": {"type": "bool", "default": False},
            "data": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    data, forget, leaving = (module.params[name] for name in ("data", "forget", "leaving"))
    active = subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0
    member: dict[str, Any] = {"active": active, "empty": not (os.path.isdir(data) and os.listdir(data))}
    names: list[str] = []
    flags: list[str] = []
    try:
        if active and module.params["features"]:
            flags = disabled_flags()
        if active and module.params["quorum"] and not module.check_mode:
            await_quorum()
        if active and (forget or leaving or module.params["cluster"]):
            found = cluster()
            names = [*lost(forget, found), *left(leaving, found, module.check_mode)]
            member |= found if module.params["cluster"] else {}
        if not module.check_mode:
            for name in names:
                rabbitmqctl("forget_cluster_node", name)
            for flag in flags:
                rabbitmqctl("enable_feature_flag", flag)
    except (MemberError, ValueError, KeyError) as error:
        module.fail_json(msg=str(error), invocation={})
    module.exit_json(
        changed=bool(names or flags),
        actions=[*(f"forget {name}" for name in names), *(f"enable feature flag {flag}" for flag in flags)],
        diff=[text_diff("lost members", "".join(f"{name}\n" for name in names), "")] if names else [],
        member=member,
        invocation={},
    )


if __name__ == "__main__":
    main()
