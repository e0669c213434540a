#!/usr/bin/python
"""The units that a host runs for the cloud: told, or stopped."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_units
short_description: Tells which units a host runs for the cloud, or stops them
description:
  - The host's own records say which units those are (C(/var/lib/brume/units), of M(brume.cloud.unit_rollout)), so a
    host that no plan has any more can be asked. Unit files and drop-ins of Brume's count too, because a unit that never
    became well has no record.
  - Data, configuration, packages and records stay. What is planned here again is started by the next deployment.
options:
  state:
    description: V(read) changes nothing.
    type: str
    choices: [read, stopped]
    default: read
  units:
    description: Only these, as far as they are there. All unless given.
    type: list
    elements: str
  disable:
    description: Whether units that are stopped do not start with the host any more.
    type: bool
    default: true
  power_off:
    description: Switch the machine off, five seconds after the module has ended.
    type: bool
    default: false
  first: {description: Units that are stopped before all others., type: list, elements: str, default: []}
  last: {description: Units that are stopped after all others., type: list, elements: str, default: []}
  keep: {description: Units that are left alone., type: list, elements: str, default: []}
attributes:
  check_mode: {support: full, description: Tells which units would be stopped.}
  diff_mode: {support: full, description: One line for each unit.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Stop everything, the database after those who use it
  brume.cloud.host_units:
    state: stopped
    last: [mariadb.service, rabbitmq-server.service]
    keep: [chrony.service]
"""

RETURN = r"""
recorded:
  description: Units that have run well here.
  type: list
  elements: str
  returned: success
guests:
  description: Domains of libvirt that run or are paused here, whether libvirtd runs or not.
  type: list
  elements: str
  returned: success
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [stop and disable nova-compute.service]
"""

import glob
import os
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock, rollout
from ansible_collections.brume.cloud.plugins.module_utils.convergence import text_diff

DROPIN = "brume.conf"
ENABLED = ("enabled", "enabled-runtime")
GUESTS = "/run/libvirt/qemu"
"""Where each domain that runs has its state and the number of its process, `<domain>.xml` and `.pid`.

Libvirt's driver itself has a number there too (`driver.pid`), and no state.
"""

POWER_OFF = ("systemd-run", "--on-active=5", "--timer-property=AccuracySec=1", "--", "systemctl", "poweroff")
"""Later than at once, so that Ansible still hears of it."""

SUFFIXES = (".service", ".socket", ".timer", ".path", ".target", ".mount")


def recorded() -> list[str]:
    """Return the units that have a record of a good start."""
    return sorted(os.path.basename(path).removesuffix(".json") for path in glob.glob(f"{rollout.RECORDS}/*.json"))


def written() -> list[str]:
    """Return the units that have a file or drop-in of Brume's. Raises OSError."""
    folder = rollout.UNIT_DIRECTORY
    found = [os.path.basename(os.path.dirname(path)).removesuffix(".d") for path in glob.glob(f"{folder}/*.d/{DROPIN}")]
    for path in glob.glob(f"{folder}/*"):
        if path.endswith(SUFFIXES) and os.path.isfile(path) and not os.path.islink(path):
            with open(path, encoding="utf-8", errors="replace") as stream:
                if "Brume" in stream.readline():
                    found.append(os.path.basename(path))
    return found


def guests() -> list[str]:
    """Return the domains whose process is there. Raises OSError."""
    found = []
    for path in sorted(glob.glob(f"{GUESTS}/*.pid")):
        with open(path, encoding="ascii") as stream:
            number = stream.read().strip()
        if number and os.path.exists(f"/proc/{number}") and os.path.exists(f"{path.removesuffix('.pid')}.xml"):
            found.append(os.path.basename(path).removesuffix(".pid"))
    return found


def power_off() -> None:
    """Have the machine switched off in a moment. Raises OSError with what was said."""
    done = subprocess.run(POWER_OFF, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(f"{POWER_OFF[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def main() -> None:
    """Read, and stop if asked."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["read", "stopped"], "default": "read"},
            "units": {"type": "list", "elements": "str"},
            "disable": {"type": "bool", "default": True},
            "power_off": {"type": "bool", "default": False},
            "first": {"type": "list", "elements": "str", "default": []},
            "last": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    params, systemd = module.params, rollout.Systemd()
    going: dict[str, rollout.State] = {}
    try:
        wanted = params["units"]
        if params["state"] == "stopped":
            names = [name for name in dict.fromkeys([*recorded(), *written()]) if name not in params["keep"]]
            names = [name for name in names if wanted is None or name in wanted]
            states = systemd.states(names)
            going = {name: state for name, state in states.items() if goes_on(state, params["disable"])}
            if not module.check_mode:
                disabled = [name for name in going if params["disable"] and going[name].file_state in ENABLED]
                rollout.stop(list(going), systemd, params["first"], params["last"], disabled)
        if params["power_off"] and not module.check_mode:
            power_off()
        found = guests()
    except OSError as error:
        module.fail_json(msg=f"{error}\n  next: `systemctl status` on this host says more", invocation={})
    before = "".join(f"{name}: {state.active}, {state.file_state or 'no file'}\n" for name, state in going.items())
    result: dict[str, Any] = {
        "changed": bool(going) or params["power_off"],
        "actions": [f"stop{' and disable' * params['disable']} {name}" for name in going]
        + ["power off this machine"] * params["power_off"],
        "diff": [text_diff("units", before, "")] if going else [],
        "recorded": recorded(),
        "guests": found,
        "invocation": {},
    }
    module.exit_json(**result)


def goes_on(state: rollout.State, disable: bool) -> bool:
    """Return whether a unit runs, is about to, or, where that counts, starts with the host."""
    active = state.active in ("active", "reloading", "activating", "deactivating")
    return active or (disable and state.file_state in ENABLED)


if __name__ == "__main__":
    main()
