"""Tells whether this host's OSDs are up and all placement groups are active and clean: exit code 0, else 1 and why.

After a host's OSDs have started anew the next host's must wait until what was written meanwhile has all its copies.
"""

import json
import os
import sys

import rados

FOLDER = "/var/lib/ceph/osd"
SECONDS = 5


def well(state):
    """Return whether a placement group serves, and has all its copies, be it on the way to other places."""
    words = set(state.split("+"))
    return "active" in words and not words & {"degraded", "undersized", "peering", "stale"}


def asked(cluster, **command):
    """Return a monitor's answer."""
    code, answer, message = cluster.mon_command(json.dumps({**command, "format": "json"}), b"", timeout=SECONDS)
    if code:
        raise OSError(-code, message)
    return json.loads(answer)


def main():
    """Ask, judge, say."""
    own = {int(name.removeprefix("ceph-")) for name in (os.listdir(FOLDER) if os.path.isdir(FOLDER) else [])}
    if not own:
        return ""
    cluster = rados.Rados(
        name="client.osd-host",
        conffile="/etc/ceph/ceph.conf",
        conf={"client_mount_timeout": str(SECONDS), "rados_mon_op_timeout": str(SECONDS)},
    )
    cluster.connect(timeout=SECONDS)
    try:
        state = {one["osd"]: one for one in asked(cluster, prefix="osd dump")["osds"]}
        # One that takes no part any more, such as that of a broken disk, keeps nobody waiting.
        down = sorted(number for number in own if state.get(number, {}).get("in") and not state[number]["up"])
        if down:
            return f"down: {', '.join(f'osd.{number}' for number in down)}"
        states = asked(cluster, prefix="status")["pgmap"].get("pgs_by_state", [])
        other = [f"{one['count']} {one['state_name']}" for one in states if not well(one["state_name"])]
        return f"placement groups: {', '.join(other)}" if other else ""
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    try:
        reason = main()
    except (rados.Error, OSError) as error:
        reason = str(error)
    if reason:
        sys.exit(reason)
