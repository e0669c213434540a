#!/usr/bin/python
"""Devices of a storage host: file systems and mounts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swift_devices
short_description: Gives each device of a Swift storage host an XFS file system and mounts it
description:
  - Formats devices that are empty. One that holds anything is refused, with all others that cannot be used, before any
    is touched, unless its name is in O(format).
  - File systems with the label C(swift) are taken as they are, so that a host whose system was installed anew keeps its
    objects.
  - Mounts are written by UUID into O(table), which the unit C(swift-devices) mounts at the host's start.
  - A device that is not named any more is unmounted once no partition is on it.
options:
  devices:
    description: All devices of the host.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name below C(/srv/node)., type: str, required: true}
      path: {description: 'The block device, such as C(/dev/disk/by-path/...).', type: path, required: true}
  format:
    description: Names of devices whose present content may be lost.
    type: list
    elements: str
    default: []
  table: {description: 'File with the mounts, as fstab(5) has them.', type: path, default: /etc/swift/fstab}
  owner: {description: User and group of the mounted file systems., type: str, default: swift}
attributes:
  check_mode: {support: full, description: Reports what a run would do. The UUID of a new file system is not known.}
  diff_mode: {support: full, description: The table of mounts.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Disks of object1
  brume.cloud.swift_devices:
    devices:
      - {name: sdb, path: /dev/disk/by-path/pci-0000:00:1f.2-ata-2}
"""

RETURN = r"""
rings: {description: Names of the rings that this host has., type: list, elements: str, returned: success}
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [format /dev/sdb with XFS, mount /dev/sdb at /srv/node/sdb]
held:
  description: >-
    Partitions on each mounted device by kind (accounts, containers, objects, objects-1). A broken one is left out.
  type: dict
  returned: success
  sample: {sdb: {accounts: 12, containers: 14, objects: 170}}
"""

import errno
import os
import pwd
import shutil
import stat
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import block_devices, host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write, text_diff

NOTHING_FOUND = 2
"""blkid(8): nothing is there that it knows."""

BEGINNING = 1024 * 1024
NEW = "(made by the run)"


def call(*words: str, accepted: tuple[int, ...] = (0,)) -> str:
    """Return a command's output. Raises DeviceError with what it says."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode not in accepted:
        raise block_devices.DeviceError(f"`{' '.join(words)}` ends with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def mounts() -> list[tuple[str, str]]:
    """Return device number (`8:16`) and place of each mount (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        words = [line.split() for line in stream]
    return [(line[2], line[4].encode().decode("unicode_escape")) for line in words]


def read(name: str, path: str, owner: str) -> block_devices.Reading:
    """Return what is on a device. Raises DeviceError."""
    try:
        found = os.stat(path)
        if not stat.S_ISBLK(found.st_mode):
            return block_devices.Reading(name, path, exists=False)
        with open(path, "rb") as stream:
            zeroed = not any(stream.read(BEGINNING))
    except OSError:  # a disk that is broken may have its name still
        return block_devices.Reading(name, path, exists=False)
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    below = f"/sys/dev/block/{number}"
    inside = os.listdir(below) if os.path.isdir(below) else []
    parts = [one for one in inside if os.path.exists(f"{below}/{one}/partition")]
    holders = os.listdir(f"{below}/holders") if "holders" in inside else []
    lines = call("blkid", "--probe", "--output", "export", path, accepted=(0, NOTHING_FOUND)).splitlines()
    place = f"{block_devices.ROOT}/{name}"
    mounted = mounts()
    return block_devices.Reading(
        name,
        path,
        number=number,
        signature=tuple((key, value) for key, sign, value in (line.partition("=") for line in lines) if sign),
        zeroed=zeroed,
        users=tuple(sorted(parts + holders)),
        mounted_at=tuple(where for device, where in mounted if device == number),
        owned=_belongs_to(place, owner),
        beneath=any(where == place and device != number for device, where in mounted),
    )


def _belongs_to(place: str, owner: str) -> bool:
    """Say whether a folder is a user's; neither needs to be there yet."""
    try:
        return os.stat(place).st_uid == pwd.getpwnam(owner).pw_uid
    except (OSError, KeyError):
        return False


RINGS, RING = "/etc/swift", ".ring.gz"


def names_in(folder: str) -> list[str]:
    """Return the names in a folder, none where it is missing."""
    return os.listdir(folder) if os.path.isdir(folder) else []


BROKEN = (errno.EIO, errno.EUCLEAN)
"""What a disk answers that is broken, and a file system that is."""


def partitions(name: str) -> dict[str, int] | None:
    """Return how many partitions lie on a mounted device, by the kind of what they hold; None where it is broken."""
    root = f"{block_devices.ROOT}/{name}"
    try:
        kinds = sorted(os.listdir(root)) if os.path.ismount(root) else []
        return {
            kind: sum(1 for one in os.scandir(f"{root}/{kind}") if one.name.isdigit())
            for kind in kinds
            if kind.partition("-")[0] in ("accounts", "containers", "objects")
        }
    except OSError as error:
        if error.errno not in BROKEN:
            raise
        return None


def text_of(path: str) -> str:
    """Return a file's text, nothing where it is missing."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def uuid_of(path: str) -> str:
    """Return the UUID of the file system on a device. Raises DeviceError."""
    return call("blkid", "--probe", "--match-tag", "UUID", "--output", "value", path).strip()


def apply(step: block_devices.Step, owner: str) -> None:
    """Do one step. Raises DeviceError and OSError."""
    place = f"{block_devices.ROOT}/{step.name}"
    if step.verb == "format":
        call("mkfs.xfs", "-f", "-q", "-L", block_devices.LABEL, step.path)
    elif step.verb == "mount":
        os.makedirs(place, mode=0o755, exist_ok=True)
        call("mount", "-t", "xfs", "-o", block_devices.OPTIONS, step.path, place)
        shutil.chown(place, owner, owner)
    elif step.verb == "own":
        shutil.chown(place, owner, owner)
    elif os.path.ismount(place):
        call("umount", place)


def main() -> None:
    """Read, decide, do, report."""
    module = AnsibleModule(
        argument_spec={
            "devices": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"name": {"type": "str", "required": True}, "path": {"type": "path", "required": True}},
            },
            "format": {"type": "list", "elements": "str", "default": []},
            "table": {"type": "path", "default": "/etc/swift/fstab"},
            "owner": {"type": "str", "default": "swift"},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    wanted: list[dict[str, Any]] = module.params["devices"]
    before = text_of(module.params["table"])
    known = block_devices.parse_table(before)
    try:
        readings = [read(one["name"], one["path"], module.params["owner"]) for one in wanted]
        held = {one.name: partitions(one.name) for one in known}
        counts = {name: sum((kinds or {}).values()) for name, kinds in held.items()}
        steps, warnings = block_devices.decide(readings, known, counts, module.params["format"])
        if not module.check_mode:
            for step in steps:
                apply(step, module.params["owner"])
        gone = {step.name for step in steps if step.verb == "unmount"}
        made = {step.name for step in steps if step.verb == "format"} if module.check_mode else set()
        entries = {one.name: one for one in known if one.name not in gone}
        for one in readings:
            if one.exists:
                uuid = NEW if one.name in made else uuid_of(one.path)
                entries[one.name] = block_devices.Mounted(one.name, uuid)
        after = block_devices.table(entries.values())
        if after != before and not module.check_mode:
            atomic_write(module.params["table"], after, 0o644)
    except (block_devices.DeviceError, OSError) as error:
        module.fail_json(msg=str(error))
    held = {one.name: partitions(one.name) for one in entries.values()}
    for name in [name for name, kinds in held.items() if kinds is None]:
        warnings.append(f"{block_devices.ROOT}/{name} cannot be read; replace the disk, or say `lost: true` of it")
    for warning in warnings:
        module.warn(warning)
    actions = [str(step) for step in steps]
    actions += [f"write {module.params['table']}"] if after != before else []
    module.exit_json(
        changed=bool(actions),
        actions=actions,
        rings=sorted(name.removesuffix(RING) for name in names_in(RINGS) if name.endswith(RING)),
        held={name: kinds for name, kinds in held.items() if kinds is not None},
        diff=[text_diff(module.params["table"], before, after)] if after != before else [],
    )


if __name__ == "__main__":
    main()
