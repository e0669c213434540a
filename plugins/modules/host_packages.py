#!/usr/bin/python
"""Operating-system packages of a host in one apt transaction."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_packages
short_description: Installs all planned packages of a host in one apt transaction
description:
  - One C(dpkg-query) finds what is missing; when nothing is, this is the only process.
  - The package lists are read anew only when something is missing and they are older than O(cache_seconds).
  - An interrupted transaction is finished first. Configuration files that the host has stay as they are.
  - Units in O(hold_units) are not started by their packages, so that none ever runs with a package's own configuration.
options:
  packages: {description: Names of packages that must be installed., type: list, elements: str, default: []}
  absent: {description: 'Names of packages that must not be installed.', type: list, elements: str, default: []}
  hold_units:
    description: Units whose start is held back during the transaction. Others may start.
    type: list
    elements: str
    default: []
  claims:
    description:
      - Folders of data that packages fill and that are the project's from now on, see M(brume.cloud.preflight).
      - They are recorded in C(/var/lib/brume/data.json) before anything is installed.
    type: list
    elements: str
    default: []
  cache_seconds: {description: Age up to which the package lists are good enough., type: int, default: 3600}
  lock_seconds: {description: How long to wait for another apt or dpkg., type: int, default: 300}
  unsafe_io:
    description:
      - Lets dpkg skip flushing to the disk. A power cut can then leave broken files; for throw-away hosts.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Lists that are too old are read anew into a folder that is removed again, so that versions are right.
  diff_mode: {support: full, description: Packages before and after.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Packages of a control host
  brume.cloud.host_packages:
    packages: [mariadb-server, haproxy]
    hold_units: [mariadb.service, haproxy.service]
"""

RETURN = r"""
actions:
  description: One sentence for each package that changes and each folder that is claimed.
  type: list
  elements: str
  returned: success
  sample: [install package haproxy 3.0.11-1]
updated:
  description: Whether the package lists were read anew.
  type: bool
  returned: success
"""

import contextlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import apt, claims, convergence, host_lock

SPEC: dict[str, Any] = {
    "packages": {"type": "list", "elements": "str", "default": []},
    "absent": {"type": "list", "elements": "str", "default": []},
    "hold_units": {"type": "list", "elements": "str", "default": []},
    "claims": {"type": "list", "elements": "str", "default": []},
    "cache_seconds": {"type": "int", "default": 3600},
    "lock_seconds": {"type": "int", "default": 300},
    "unsafe_io": {"type": "bool", "default": False},
}


def names(words: list[str]) -> str:
    """Return a few names as text."""
    return ", ".join(words[:6]) + (f" and {len(words) - 6} more" if words[6:] else "")


def predict(install: list[str], remove: list[str], options: list[str]) -> list[str]:
    """Return what apt would do. Raises AptError when it could not do it."""
    wanted = [*install, *(f"{name}-" for name in remove)]
    done = apt.run(["apt-get", *options, "-s", "--no-install-recommends", "install", *wanted])
    if done.code:
        raise apt.failure(f"apt-get install of {names(wanted)}", done)
    return apt.parse_simulation(done.output)


def change(params: dict[str, Any], install: list[str], remove: list[str], check_mode: bool) -> tuple[bool, list[str]]:
    """Install and remove, or predict it; return whether the lists were read anew, and the actions. Raises AptError."""
    options = apt.options(params["unsafe_io"], params["lock_seconds"])
    updated, actions = False, []
    stale = bool(install) and apt.cache_age() > params["cache_seconds"]
    if check_mode:
        lists: contextlib.AbstractContextManager[list[str]] = contextlib.nullcontext([])
        with apt.lists_read_aside(options) if stale else lists as aside:
            actions = predict(install, remove, [*options, *aside])
    else:
        with apt.held_back(params["hold_units"]):
            actions += apt.finish(options)
            if stale:
                apt.update(options)
                updated = True
            actions += predict(install, remove, options)
            wanted = [*install, *(f"{name}-" for name in remove)]
            done = apt.run(["apt-get", *options, "--no-install-recommends", "install", *wanted])
            if done.code:
                raise apt.failure(f"apt-get install of {names(wanted)}", done)
            left = apt.missing(params["packages"], apt.query(list(dict.fromkeys(params["packages"]))))
            if left:
                raise apt.AptError(f"{names(left)}: not installed although apt says so; virtual packages must be named")
    return updated, actions


def transaction(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Find, predict and, unless in check mode, install. Raises AptError."""
    packages, absent = list(dict.fromkeys(params["packages"])), list(dict.fromkeys(params["absent"]))
    both = sorted(set(packages) & set(absent))
    if both:
        raise apt.AptError(f"{names(both)}: both planned and to be removed; take them out of one list")
    status = apt.query([*packages, *absent])
    install, remove = apt.missing(packages, status), apt.surplus(absent, status)
    unclaimed = sorted({*params["claims"]} - claims.claimed())
    if not install and not remove and not unclaimed:
        return {"changed": False, "actions": [], "updated": False, "diff": []}
    if unclaimed and not check_mode:
        claims.claim(unclaimed)
    claiming = [f"claim {path}" for path in unclaimed]
    updated, actions = False, list[str]()
    if install or remove:
        updated, actions = change(params, install, remove, check_mode)
    actions = claiming + actions
    before = "".join(f"{name} {status.get(name, 'not installed')}\n" for name in [*install, *remove])
    after = "".join(f"{line}\n" for line in actions)
    return {
        "changed": True,
        "actions": actions,
        "updated": updated,
        "diff": [convergence.text_diff("packages", before, after)],
    }


def main() -> None:
    """Run the transaction and report."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    host_lock.hold(module)
    try:
        result = transaction(module.params, module.check_mode)
    except (apt.AptError, OSError) as error:
        module.fail_json(msg=str(error), invocation={})
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
