#!/usr/bin/python
"""OSDs of a host: one of each declared device."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_osds
short_description: Makes an OSD of each declared device of a host, and empties and removes those of others
description:
  - Takes whole devices that are empty. One that holds anything is refused, with all others that cannot be used, before
    any is touched, unless its name is in O(format).
  - A device that holds an OSD of this cluster is taken as it is, so that a host whose system was installed anew keeps
    its data.
  - A device that is not declared any more is emptied first. Its OSD is removed by a later run, when the cluster can do
    without it.
options:
  fsid: {description: UUID of the cluster., type: str, required: true}
  devices:
    description: All devices of the host.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: What the operator calls it., type: str, required: true}
      path: {description: 'The block device, such as C(/dev/disk/by-path/...).', type: path, required: true}
  format: {description: Names of devices whose present content may be lost., type: list, elements: str, default: []}
  replace:
    description: Names of devices that are new in the place of broken ones.
    type: list
    elements: str
    default: []
  state:
    description: V(asked) only says which OSDs are here.
    type: str
    choices: [asked, present]
    default: present
attributes:
  check_mode: {support: full, description: Reports what a run would do. The number of a new OSD is not known.}
  diff_mode: {support: none, description: Devices have no text.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Disks of ceph1
  brume.cloud.ceph_osds:
    fsid: 4f6d3b1e-0d0c-5d52-9d3f-2d3a1c1f7a11
    devices:
      - {name: sdb, path: /dev/disk/by-path/pci-0000:00:1f.2-ata-2}
"""

RETURN = r"""
osds: {description: 'The host''s OSDs.', type: list, elements: str, returned: success, sample: [osd.0]}
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [make an OSD of /dev/sdb (sdb)]
"""

import functools
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import time
import uuid
from collections.abc import Container
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import (
    block_devices,
    ceph,
    ceph_cluster,
    ceph_devices,
    host_lock,
)
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write

NOTED = "/var/lib/ceph/brume"
"""What the host has noted of each device: `<name>.json`."""

USER = "ceph"
NOTHING_FOUND = 2
"""blkid(8): nothing is there that it knows."""

BEGINNING = 1024 * 1024
START_SECONDS = 60


def call(*words: str, accepted: tuple[int, ...] = (0,)) -> str:
    """Return a command's output. Raises DeviceError with what it says."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode not in accepted:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise block_devices.DeviceError(f"`{' '.join(words[:4])}` ends with {done.returncode}: {said}")
    return done.stdout


def read(name: str, path: str) -> ceph_devices.Found:
    """Return what is on a device. Raises DeviceError."""
    missing = ceph_devices.Found(block_devices.Reading(name, path, exists=False))
    try:
        found = os.stat(path)
        if not stat.S_ISBLK(found.st_mode):
            return missing
        with open(path, "rb") as stream:
            beginning = stream.read(BEGINNING)
    except OSError:  # a disk that is broken may have its name still
        return missing
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    label = _label(path) if beginning.startswith(ceph_devices.MAGIC) else None
    below = f"/sys/dev/block/{number}"
    inside = os.listdir(below) if os.path.isdir(below) else []
    parts = [one for one in inside if os.path.exists(f"{below}/{one}/partition")]
    holders = os.listdir(f"{below}/holders") if "holders" in inside else []
    with open("/proc/self/mountinfo", encoding="utf-8") as stream_:
        mounted = [words[4] for line in stream_ if (words := line.split())[2] == number]
    lines = call("blkid", "--probe", "--output", "export", path, accepted=(0, NOTHING_FOUND)).splitlines()
    signature = tuple((key, value) for key, sign, value in (line.partition("=") for line in lines) if sign)
    reading = block_devices.Reading(
        name,
        path,
        number=number,
        signature=signature,
        zeroed=not any(beginning),
        users=tuple(sorted(parts + holders)),
        mounted_at=tuple(mounted),
    )
    return ceph_devices.Found(reading, label)


def _label(path: str) -> ceph_devices.Label:
    """Return a device's label, or why it cannot be read."""
    try:
        return ceph_devices.parse_label(path, json.loads(call("ceph-bluestore-tool", "show-label", "--dev", path)))
    except FileNotFoundError:
        return ceph_devices.Label(unread=True)
    except (block_devices.DeviceError, ValueError) as error:
        return ceph_devices.Label(error=str(error).splitlines()[-1])


def present(found: dict[str, ceph_devices.Found], fsid: str) -> list[str]:
    """Return the OSDs that this host has, or may have: by their labels, by what is noted, by their folders."""
    labels = {name: one.label for name, one in found.items() if one.label is not None}
    names = {f"osd.{one.whoami}" for one in labels.values() if one.fsid == fsid}
    names |= {f"an OSD on {name}" for name, one in labels.items() if one.error or one.unread}
    names |= {f"osd.{one['number']}" for one in noted().values() if one.get("done")}
    folders = os.listdir(ceph_devices.ROOT) if os.path.isdir(ceph_devices.ROOT) else []
    return sorted(names | {f"osd.{one.removeprefix('ceph-')}" for one in folders if one.startswith("ceph-")})


def noted() -> dict[str, dict[str, Any]]:
    """Return what the host has noted, by device."""
    result = {}
    for name in sorted(os.listdir(NOTED)) if os.path.isdir(NOTED) else []:
        if name.endswith(".json"):
            with open(f"{NOTED}/{name}", encoding="utf-8") as stream:
                result[name.removesuffix(".json")] = json.load(stream)
    return result


def note(name: str, value: dict[str, Any] | None) -> None:
    """Note something of a device, or forget it. Only root reads it: until an OSD is made its key is there."""
    path = f"{NOTED}/{name}.json"
    if value is None:
        os.unlink(path)
        return
    if not os.path.isdir(NOTED):
        os.makedirs(NOTED, mode=0o700)
    atomic_write(path, json.dumps(value) + "\n", 0o600)


def running() -> set[int]:
    """Return the numbers of OSDs whose units run and start with the host."""
    words = ("systemctl", "list-units", "--plain", "--no-legend", "--state=active", "ceph-osd@*")
    active = {int(one) for one in re.findall(r"ceph-osd@(\d+)\.service", call(*words))}
    wants = "/etc/systemd/system/ceph-osd.target.wants"
    names = os.listdir(wants) if os.path.isdir(wants) else []
    return active & {int(one) for name in names for one in re.findall(r"ceph-osd@(\d+)\.service", name)}


def states(cluster: ceph_cluster.Cluster, leaving: Container[str]) -> dict[str, ceph_devices.State]:
    """Return what the monitors say of all OSDs, by UUID, and of those that are `leaving` whether they can."""
    return {
        one["uuid"]: ceph_devices.State(
            one["osd"], bool(one["up"]), bool(one["in"]), one["uuid"] in leaving and is_safe(cluster, one["osd"])
        )
        for one in cluster.ask("osd dump")["osds"]
    }


def is_safe(cluster: ceph_cluster.Cluster, number: int) -> bool:
    """Say whether the cluster can do without an OSD; while it does not know that of some of its data, it cannot."""
    try:
        answer = cluster.ask("osd safe-to-destroy", ids=[str(number)])
    except ceph_cluster.CephError:
        return False
    return number in answer["safe_to_destroy"]


def make(cluster: ceph_cluster.Cluster, step: ceph_devices.Step) -> None:
    """Make an OSD. Raises CephError, DeviceError and OSError. What a run left unfinished is finished by the next."""
    record = noted().get(step.name, {})
    if not record or record.get("done"):
        former = {"wanted": step.number, "former": record["osd_uuid"]} if step.verb == "replace" else {}
        record = {"osd_uuid": str(uuid.uuid4()), "key": ceph.key(secrets.token_hex()), **former}
        note(step.name, record)
    # What is wanted is noted before: a run that ends here must not forget whose number it has freed.
    known = {one["osd"]: one["uuid"] for one in cluster.ask("osd dump")["osds"]}
    if "wanted" in record and known.get(record["wanted"]) == record["former"]:
        cluster.tell({"prefix": "osd destroy-actual", "id": record["wanted"], "yes_i_really_mean_it": True})
    command = {"prefix": "osd new", "uuid": record["osd_uuid"]}
    if "wanted" in record:
        command["id"] = record["wanted"]
    answer = json.loads(cluster.tell(command, json.dumps({"cephx_secret": record["key"]})))
    number = int(answer["osdid"])
    record["number"] = number
    note(step.name, record)
    place = f"{ceph_devices.ROOT}/ceph-{number}"
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place, mode=0o750)
    shutil.chown(place, USER, USER)
    with open(step.path, "r+b") as stream:
        stream.write(bytes(BEGINNING))
    os.symlink(step.path, f"{place}/block")
    shutil.chown(step.path, USER, USER)
    atomic_write(f"{place}/keyring", ceph.User(f"osd.{number}", record["key"], {}).keyring, 0o600)
    shutil.chown(f"{place}/keyring", USER, USER)
    call(
        "ceph-osd", "--mkfs", "--id", str(number), "--osd-uuid", record["osd_uuid"], "--osd-data", place,
        "--osd-objectstore", "bluestore", "--setuser", USER, "--setgroup", USER,
    )  # fmt: skip
    note(step.name, {"osd_uuid": record["osd_uuid"], "number": number, "done": True})
    start(cluster, number)


def start(cluster: ceph_cluster.Cluster, number: int) -> None:
    """Enable and start an OSD's unit, and wait until the monitors know that it is up. Raises DeviceError."""
    unit = f"ceph-osd@{number}.service"
    call("systemctl", "reset-failed", unit, accepted=(0, 1))
    call("systemctl", "enable", "--now", unit)
    end = time.monotonic() + START_SECONDS
    while not any(one["osd"] == number and one["up"] for one in cluster.ask("osd dump")["osds"]):
        if time.monotonic() > end:
            raise block_devices.DeviceError(
                f"osd.{number} is not up {START_SECONDS} s after its start; `journalctl -u {unit}` says why"
            )
        time.sleep(1)


def adopt(cluster: ceph_cluster.Cluster, step: ceph_devices.Step, found: ceph_devices.Found) -> None:
    """Give an OSD that is on a device its folder back where the host has none, and start it."""
    place = f"{ceph_devices.ROOT}/ceph-{step.number}"
    if not os.path.exists(f"{place}/keyring"):
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place, mode=0o750)
        call("ceph-bluestore-tool", "prime-osd-dir", "--dev", step.path, "--path", place, "--no-mon-config")
        if os.path.lexists(f"{place}/block"):
            os.unlink(f"{place}/block")
        os.symlink(step.path, f"{place}/block")
        for one in [place, *(entry.path for entry in os.scandir(place) if not entry.is_symlink())]:
            shutil.chown(one, USER, USER)
    remember(step, found)
    start(cluster, step.number)


def remember(step: ceph_devices.Step, found: ceph_devices.Found) -> None:
    """Note which OSD is on a device."""
    if found.label is not None:
        emptied = bool(noted().get(step.name, {}).get("emptied"))
        record = {"osd_uuid": found.label.osd_uuid, "number": step.number, "done": True}
        note(step.name, record | ({"emptied": True} if emptied else {}))


def remove(cluster: ceph_cluster.Cluster, step: ceph_devices.Step) -> None:
    """End an OSD. What its device holds stays until somebody else takes the device. Raises DeviceError.

    Numbers are given again: just before, the one that is meant has to have it still, and to be dispensable.
    """
    meant = {one["osd"]: one["uuid"] for one in cluster.ask("osd dump")["osds"]}.get(step.number)
    if meant != noted()[step.name]["osd_uuid"] or not is_safe(cluster, step.number):
        raise block_devices.DeviceError(f"osd.{step.number} ({step.name}) cannot be removed any more; run again")
    unit = f"ceph-osd@{step.number}.service"
    call("systemctl", "disable", "--now", unit)
    cluster.tell({"prefix": "osd purge-actual", "id": step.number, "yes_i_really_mean_it": True})
    shutil.rmtree(f"{ceph_devices.ROOT}/ceph-{step.number}", ignore_errors=True)
    note(step.name, None)


def apply(cluster: ceph_cluster.Cluster, step: ceph_devices.Step, found: dict[str, ceph_devices.Found]) -> None:
    """Do one step."""
    if step.verb in ("make", "replace"):
        make(cluster, step)
    elif step.verb == "start":
        adopt(cluster, step, found[step.name])
    elif step.verb == "note":
        remember(step, found[step.name])
    elif step.verb == "forget":
        note(step.name, None)
    elif step.verb == "remove":
        remove(cluster, step)
    else:
        out = step.verb == "empty"
        cluster.tell({"prefix": "osd out" if out else "osd in", "ids": [str(step.number)]})
        note(step.name, noted()[step.name] | {"emptied": out})


def main() -> None:
    """Read, decide, do, report."""
    module = AnsibleModule(
        argument_spec={
            "fsid": {"type": "str", "required": True},
            "devices": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"name": {"type": "str", "required": True}, "path": {"type": "path", "required": True}},
            },
            "format": {"type": "list", "elements": "str", "default": []},
            "replace": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["asked", "present"], "default": "present"},
        },
        supports_check_mode=True,
    )
    host_lock.hold(module)
    given = module.params
    try:
        found = {one["name"]: read(one["name"], one["path"]) for one in given["devices"]}
        here = present(found, given["fsid"])
        if given["state"] == "asked":
            module.exit_json(changed=False, osds=here, actions=[])
        known = {
            name: ceph_devices.Known(
                one["osd_uuid"], one.get("number", -1), one.get("done", False), one.get("emptied", False)
            )
            for name, one in noted().items()
        }
        # On a bare host nothing can ask the cluster, and there may be none yet.
        fresh = module.check_mode and not known and all(one.label is None or one.label.unread for one in found.values())
        decide = functools.partial(
            ceph_devices.decide,
            list(found.values()),
            known,
            fsid=given["fsid"],
            expendable=given["format"],
            replaced=given["replace"],
        )
        if fresh:
            decision = decide(None, [])
        else:
            with ceph_cluster.connected(ceph.OSD_HOST) as cluster:
                leaving = {one.osd_uuid for name, one in known.items() if name not in found}
                decision = decide(states(cluster, leaving), running())
                if not module.check_mode:
                    for step in decision.steps:
                        apply(cluster, step, found)
    except (block_devices.DeviceError, ceph_cluster.CephError, OSError) as error:
        module.fail_json(msg=str(error))
    for warning in decision.warnings:
        module.warn(warning)
    actions = [str(step) for step in decision.steps]
    module.exit_json(changed=bool(actions), actions=actions, osds=present(found, given["fsid"]))


if __name__ == "__main__":
    main()
