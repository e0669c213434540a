#!/usr/bin/python
"""Swift's rings, as they are declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swift_ring
short_description: Keeps Swift's ring builders and rings as declared
description:
  - Brings any number of rings to what is declared, with Swift's own C(RingBuilder). A ring that is as declared is
    neither rebalanced nor written.
  - Runs with the Python of Swift's environment (C(ansible_python_interpreter)).
  - A device is known by its C(ip) and C(device). What else differs is set on the same id, so that a new disk in the
    same slot moves nothing. After a change of the address, O(rings.devices.was) says what the device was.
  - A device that is declared no more gets the weight 0. It is removed when it has no partition in the ring and O(held)
    says that its disk has none either. O(lost) removes at once.
  - Everything is computed in memory, for all rings, before anything is written. With the same declaration, builders and
    hour, the files have the same bytes; check mode reports what a run would write.
  - No partition is moved again within C(min_part_hours), except from devices that are O(lost). What could not move is
    left to the next call, and the result says when.
  - "Sources: C(swift.common.ring.builder) and C(swift.cli.ringbuilder) (2.38),
    U(https://docs.openstack.org/swift/latest/overview_ring.html)."
notes:
  - Rings that lie in O(folder) and are not declared are left alone.
  - Files are written in one step each, the builder first; a ring that is not its builder's is written anew from it.
options:
  folder:
    description: >-
      Where C(<name>.builder) and C(<name>.ring.gz) lie, C(<name>.state.json) (whether the ring was brought to an end),
      and older builders in C(history/). Made with mode 0750, files with 0640.
    type: path
    required: true
  rings:
    description: Rings.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: "V(account), V(container), V(object), or V(object-1) of a storage policy.", type: str,
             required: true}
      part_power:
        description: The ring has 2 to the power of this partitions. It is chosen once; see O(allow).
        type: int
        required: true
      replicas: {description: "Copies of each partition; may have a fraction.", type: float, required: true}
      min_part_hours: {description: Hours before a partition may move again., type: int, default: 1}
      overload:
        description: Share by which devices may hold more than their weight says, for the sake of dispersion.
        type: float
        default: 0.0
      devices:
        description: Devices. Their order means nothing.
        type: list
        elements: dict
        required: true
        suboptions:
          region: {description: Region., type: int, required: true}
          zone: {description: Zone within the region., type: int, required: true}
          ip: {description: Address of the host's servers., type: str, required: true}
          port: {description: Port of the ring's server., type: int, required: true}
          replication_ip: {description: "Address for replication; C(ip) unless given.", type: str}
          replication_port: {description: "Port for replication; C(port) unless given.", type: int}
          device: {description: Name of the mount point., type: str, required: true}
          weight: {description: "Weight, such as the size in GB; V(0) keeps it empty.", type: float, required: true}
          meta: {description: Free text., type: str, default: ''}
          was:
            description: "What it was, as V(10.0.0.1/sdb), before it moved with its data to another address or name."
            type: str
  held:
    description: >-
      How many partitions lie on disks, as their hosts say: C({"10.0.0.1/sdb": 12}), or by ring
      C({"10.0.0.1/sdb": {"object": 12}}). A disk or ring that is not named is unknown, and its device stays.
    type: dict
    default: {}
  lost:
    description: >-
      Devices that are gone for good, as V(10.0.0.1/sdb). They are removed at once, and their partitions assigned to
      others whatever O(rings.min_part_hours) and O(maximum_share) say.
    type: list
    elements: str
    default: []
  maximum_share:
    description: >-
      Share of a ring's replicas of partitions that may move in this call; the rest is left for the next ones. New
      replicas are assigned at once, since nothing moves by it.
    type: float
    default: 1.0
  allow:
    description:
      - "V(replicas): there may be fewer than before. V(min_part_hours): it may be lowered, and partitions may move
        again before it has passed. V(lost): partitions may lose their last copy."
      - "V(part_power): the increase by one of an object ring is prepared. V(relinked): C(swift-object-relinker relink)
        has ended on all hosts, and the part power is raised. V(cleaned): C(swift-object-relinker cleanup) has ended on
        all hosts, and the increase is finished. Any other change of it is refused always."
    type: list
    elements: str
    choices: [part_power, relinked, cleaned, replicas, min_part_hours, lost]
    default: []
  elsewhere:
    description: >-
      Rings that may be in use already, with what says so, as C({"object": "object1 has it"}). Where their builder is
      missing it is not made anew, since a new one would place all data anew.
    type: dict
    default: {}
  frozen:
    description: >-
      Whether rings are only returned as they are, whatever is declared, because not all hosts could be given others.
    type: bool
    default: false
  content: {description: 'Whether C(content) of each ring is returned, its file in base64.', type: bool, default: false}
  history: {description: How many older builders are kept for each ring., type: int, default: 10}
attributes:
  check_mode: {support: full, description: Computes in memory what a run would write.}
  diff_mode: {support: full, description: "Partitions moved, balance of the ring and of each device, dispersion."}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Rings
  brume.cloud.swift_ring:
    folder: /var/lib/brume/swift
    maximum_share: 0.1
    held: {"10.0.0.9/sdb": 0}
    rings:
      - name: object
        part_power: 10
        replicas: 3
        devices:
          - {region: 1, zone: 1, ip: 10.0.0.1, port: 6200, device: sdb, weight: 4000}
          - {region: 1, zone: 2, ip: 10.0.0.2, port: 6200, device: sdb, weight: 4000}
          - {region: 1, zone: 3, ip: 10.0.0.3, port: 6200, device: sdb, weight: 4000}
"""

RETURN = r"""
actions:
  description: One sentence for each change, with the ring first; the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: ["object: weigh 10.0.0.1/sdb (weight 4000.0)", "object: move 12 partitions", "object: write object.ring.gz"]
complete:
  description: Whether every ring is as declared and balanced as well as it can be.
  type: bool
  returned: success
next:
  description: Seconds until a call moves more, of the ring that goes on first; 0 if it can at once or never has to.
  type: int
  returned: success
rings:
  description: >-
    What became of each ring: C(name), C(changed), C(actions), C(changed_by_hand), C(leaving) (devices that are not
    declared and still there), C(moved) (replicas of partitions) and C(moved_share), C(before) and C(after) (C(version),
    C(balance) and C(dispersion) in percent, and by device C(id), C(weight), C(parts), C(wanted), C(balance)),
    C(complete), C(reason) (V(maximum_share), V(min_part_hours), V(part_power) or nothing), C(next) (seconds), C(md5)
    as C(swift-recon --md5) compares it, and C(sha256) of the ring's file,
    C(content) where asked for. The filter P(brume.cloud.ring_plot#filter)
    draws it.
  type: list
  elements: dict
  returned: success
"""

import base64
import hashlib
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock, swift_rings
from ansible_collections.brume.cloud.plugins.module_utils.convergence import describe, text_diff

DEVICE: dict[str, Any] = {
    "region": {"type": "int", "required": True},
    "zone": {"type": "int", "required": True},
    "ip": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "replication_ip": {"type": "str"},
    "replication_port": {"type": "int"},
    "device": {"type": "str", "required": True},
    "weight": {"type": "float", "required": True},
    "meta": {"type": "str", "default": ""},
    "was": {"type": "str"},
}
RING: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "part_power": {"type": "int", "required": True},
    "replicas": {"type": "float", "required": True},
    "min_part_hours": {"type": "int", "default": 1},
    "overload": {"type": "float", "default": 0.0},
    "devices": {"type": "list", "elements": "dict", "required": True, "options": DEVICE},
}
SPEC: dict[str, Any] = {
    "folder": {"type": "path", "required": True},
    "rings": {"type": "list", "elements": "dict", "required": True, "options": RING},
    "held": {"type": "dict", "default": {}},
    "lost": {"type": "list", "elements": "str", "default": []},
    "maximum_share": {"type": "float", "default": 1.0},
    "allow": {"type": "list", "elements": "str", "choices": list(swift_rings.ALLOW), "default": []},
    "elsewhere": {"type": "dict", "default": {}},
    "frozen": {"type": "bool", "default": False},
    "content": {"type": "bool", "default": False},
    "history": {"type": "int", "default": 10},
}


def predicted(params: dict[str, Any]) -> dict[str, Any] | None:
    """Return what can be said where Swift is not installed yet: new rings. None where there is a ring already."""
    rings, problems = swift_rings.parse(params["rings"], params["lost"])
    names = (f"{ring.name}.{kind}" for ring in rings for kind in ("builder", "ring.gz"))
    if any(os.path.exists(os.path.join(params["folder"], name)) for name in names):
        return None
    actions = {ring.name: [str(one) for one in swift_rings.compare(ring, None)] for ring in rings}
    new = [{"name": name, "changed": True, "actions": said} for name, said in actions.items()]
    return {"problems": problems} if problems else {"rings": new}


def kept(params: dict[str, Any]) -> dict[str, Any]:
    """Return the rings as they lie there, in the form of `swift_builders.run`. Raises OSError."""
    rings: list[dict[str, Any]] = []
    problems = []
    for name in (one["name"] for one in params["rings"]):
        path = os.path.join(params["folder"], f"{name}.ring.gz")
        try:
            with open(path, "rb") as stream:
                content = stream.read()
        except FileNotFoundError:
            problem = "is missing, and is not built for some hosts only; run without a limit"
            problems.append(f"ring {name}: {path} {problem}")
            continue
        digests = {"sha256": hashlib.sha256(content).hexdigest()}
        digests["md5"] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        said = {"content": base64.b64encode(content).decode()} if params["content"] else {}
        rings.append({"name": name, "changed": False, "actions": [], "complete": True, "next": 0, **digests, **said})
    return {"problems": problems} if problems else {"rings": rings}


def computed(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return the answer of `swift_builders.run`. Raises ImportError where Swift is not installed, and OSError."""
    # here, because it needs Swift
    from ansible_collections.brume.cloud.plugins.module_utils import swift_builders  # noqa: PLC0415

    return swift_builders.run({**params, "now": time.time(), "check": check_mode})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    if not 0 <= params["maximum_share"] <= 1:
        problem = f"maximum_share: {params['maximum_share']} is no share; write a number from 0 to 1"
        module.fail_json(msg=problem, invocation={})
    if params["history"] < 0:
        problem = f"history: {params['history']} is no number of builders; write a number from 0 up"
        module.fail_json(msg=problem, invocation={})
    host_lock.hold(module)
    answer: dict[str, Any] | None = None
    try:
        answer = kept(params) if params["frozen"] else computed(params, module.check_mode)
    except ImportError as error:
        answer = predicted(params) if module.check_mode else None
        if answer is None:
            problem = f"{describe(error)}: run this module with the Python of Swift's environment"
            module.fail_json(msg=problem, invocation={})
        module.warn("rings are new, and were not balanced, because this host has no environment of Swift yet")
    except OSError as error:
        module.fail_json(msg=describe(error), invocation={})
    if answer.get("problems"):
        module.fail_json(msg="\n".join(answer["problems"]), problems=answer["problems"], invocation={})
    rings = answer["rings"]
    for ring in rings:
        if ring.get("changed_by_hand"):
            module.warn(
                f"ring {ring['name']}: its builder was changed by another hand; what is not declared goes: "
                f"{', '.join(ring['leaving']) or 'nothing'}"
            )
    pending = [ring["next"] for ring in rings if not ring.get("complete", True)]
    module.exit_json(
        changed=any(ring["changed"] for ring in rings),
        actions=[f"{ring['name']}: {one}" for ring in rings for one in ring["actions"]],
        complete=not pending,
        next=min(pending, default=0),
        rings=rings,
        diff=[
            text_diff(
                f"ring {ring['name']}",
                swift_rings.text(ring.get("before") or {}),
                swift_rings.text(ring.get("after") or {}, ring),
            )
            for ring in rings
            if ring["changed"]
        ],
        invocation={},  # as long as the result
    )


if __name__ == "__main__":
    main()
