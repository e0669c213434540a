#!/usr/bin/python
"""Virtual environments of all services of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: environments
short_description: Builds the virtual environments of all services of a host from their hash locks, side by side
description:
  - Builds with C(uv) what is missing, as many at a time as the host has processors. What is complete is left alone.
  - An environment is complete when its marker is there, which is written last. What an ended run left is built anew.
  - Index, proxy and trust settings come from C(/etc/uv/uv.toml), C(/etc/pip.conf) and C(/etc/environment).
  - Bytecode is written at the end, because services cannot write it; once for files that environments share.
options:
  environments:
    description: The environments.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The service., type: str, required: true, aliases: [service]}
      path: {description: Absolute path; it names the lock's digest., type: path, required: true}
      lock: {description: 'Text of the lock: requirements with versions and hashes.', type: str}
      python: {description: Interpreter to build with., type: path, default: /usr/bin/python3}
      modules:
        description: >-
          Modules of the operating system's Python that it sees, no others: bindings that no index has, such as V(rbd).
        type: list
        elements: str
        default: []
      current: {description: Link that shall point to the environment; swapped in one step., type: path}
      state:
        description: V(absent) removes the environment, unless its O(environments[].current) link points to it.
        type: str
        choices: [present, absent]
        default: present
  uv: {description: Path of C(uv)., type: path, required: true}
  wheelhouse:
    description: Folder on the host or HTTP address with every package, in the place of any index.
    type: str
  cache: {description: Directory of uv's cache; uv's own choice if left out., type: path}
  ca_file: {description: CA bundle for the index instead of the host's trust store., type: path}
attributes:
  check_mode: {support: full, description: Reports what a run would build and link.}
  diff_mode: {support: full, description: Digest and link of each environment.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Environment of Placement
  brume.cloud.environments:
    uv: /opt/brume/uv/0.13.9/uv
    environments:
      - name: placement
        path: /opt/brume/placement/2026.1-0123456789ab
        current: /opt/brume/placement/current
        lock: "{{ lookup('ansible.builtin.file', 'placement.txt') }}"
"""

RETURN = r"""
environments:
  description: All environments.
  type: list
  elements: dict
  returned: success
  contains:
    name: {description: The service., type: str}
    path: {description: Where it is., type: str}
    built: {description: Whether this call built it., type: bool}
    seconds: {description: 'How long its build took, without bytecode.', type: float}
bytecode_seconds:
  description: How long the bytecode of all environments took.
  type: float
  returned: success
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [build environment /opt/brume/placement/2026.1-0123456789ab]
"""

import os
import shutil
import time
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import convergence, file_state, host_lock
from ansible_collections.brume.cloud.plugins.module_utils import uv_environments as uv

SPEC: dict[str, Any] = {
    "environments": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True, "aliases": ["service"]},
            "path": {"type": "path", "required": True},
            "lock": {"type": "str"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "current": {"type": "path"},
            "modules": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        "required_if": [("state", "present", ("lock",))],
    },
    "uv": {"type": "path", "required": True},
    "wheelhouse": {"type": "str"},
    "cache": {"type": "path"},
    "ca_file": {"type": "path"},
}


def variables(params: dict[str, Any]) -> dict[str, str]:
    """Return uv's environment: the host's settings, then the module's own options."""
    found = uv.host_variables(os.environ)
    if params["cache"]:
        found["UV_CACHE_DIR"] = params["cache"]
    if params["ca_file"]:
        found["SSL_CERT_FILE"] = params["ca_file"]
    if params["wheelhouse"]:
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_NO_INDEX"):
            found.pop(name, None)
    return found


def diff(plan: uv.Plan) -> dict[str, str]:
    """Return one diff: what is there and what will be."""
    item = plan.environment
    link = f"{item.current} -> {plan.old_target}\n" if plan.old_target else ""
    new_link = f"{item.current} -> {item.path}\n" if item.current else ""
    text = f"{item.path} {item.digest}\n"
    return convergence.text_diff(f"environment {item.name}", ("" if plan.build else text) + link, text + new_link)


def remove(gone: list[dict[str, Any]]) -> list[str]:
    """Return the paths among the absent environments that are there. Raises BuildError for one that is in use."""
    used = [item["path"] for item in gone if uv.link_target(item["current"] or "") == item["path"]]
    if used:
        raise uv.BuildError(f"{', '.join(used)}: the current link points there; link another release first")
    return [item["path"] for item in gone if os.path.lexists(item["path"])]


def main() -> None:
    """Read the markers, build what is missing side by side, write bytecode, swap the links."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    host_lock.hold(module)
    params = module.params
    wheelhouse = ["--no-index", "--find-links", params["wheelhouse"]] if params["wheelhouse"] else []
    seconds: dict[str, float] = {}
    bytecode = 0.0
    try:
        items = [
            uv.Environment(
                item["name"], item["path"], item["lock"], item["python"], item["current"] or "", tuple(item["modules"])
            )
            for item in params["environments"]
            if item["state"] == "present"
        ]
        again = convergence.duplicates(item.path for item in items)
        if again:
            raise uv.BuildError(f"{', '.join(again)}: planned more than once")
        plans = [
            uv.decide(
                item,
                uv.marker_of(item),
                os.path.lexists(item.path),
                uv.link_target(item.current),
                uv.seen_modules(item.path),
            )
            for item in items
        ]
        gone = remove([item for item in params["environments"] if item["state"] == "absent"])
        building = [plan for plan in plans if plan.build]
        if not module.check_mode:
            environment = variables(params) if building else {}
            outcomes = convergence.side_by_side(
                {
                    plan.environment.path: partial(uv.build, plan, params["uv"], environment, wheelhouse)
                    for plan in building
                },
                limit=len(os.sched_getaffinity(0)),
            )
            seconds = {path: round(outcome.seconds, 1) for path, outcome in outcomes.items()}
            built = [plan.environment for plan in building if not outcomes[plan.environment.path].error]
            started = time.monotonic()
            uv.compile_all(built)
            bytecode = round(time.monotonic() - started, 1)
            for plan in plans:
                if plan.modules and (plan.environment in built or not plan.build):
                    uv.link_modules(plan.environment)
            for item in built:
                uv.finish(item, seconds[item.path])
            problems = [str(outcome.error) for outcome in outcomes.values() if outcome.error]
            if problems:
                raise uv.BuildError("\n".join(problems))
            for plan in plans:
                if plan.link:
                    os.makedirs(os.path.dirname(plan.environment.current), exist_ok=True)
                    file_state.replace_link(plan.environment.current, plan.environment.path)
            for path in gone:
                shutil.rmtree(path)
    except (uv.BuildError, OSError) as error:
        module.fail_json(msg=str(error), invocation={})
    changed = [plan for plan in plans if plan.actions]
    module.exit_json(
        changed=bool(changed or gone),
        actions=[line for plan in changed for line in plan.actions] + [f"remove environment {path}" for path in gone],
        diff=[diff(plan) for plan in changed]
        + [convergence.text_diff(f"environment {path}", f"{path}\n", "") for path in gone],
        environments=[
            {
                "name": plan.environment.name,
                "path": plan.environment.path,
                "built": plan.build and not module.check_mode,
                "seconds": seconds.get(plan.environment.path, 0.0),
            }
            for plan in plans
        ],
        bytecode_seconds=bytecode,
        invocation={},
    )


if __name__ == "__main__":
    main()
