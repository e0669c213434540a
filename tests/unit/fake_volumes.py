"""A Cinder for the checks of volumes, and the guests that have its disks."""

from __future__ import annotations

import itertools
import re
import secrets
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.probes import ProbeError
from openstack import exceptions

GIBIBYTE = 1024**3
TYPES = {"ceph": "ceph", "disks": "lvm", "shared": "ceph"}
"""Volume type -> back end. The first is the default."""


class FakeStorage:
    """As much of a connection's `block_storage` as the checks use; attributes say how it misbehaves.

    What takes time is done when it has been looked at once before.
    """

    def __init__(self, server_of: Callable[[str], Any]) -> None:
        """Be empty; `server_of` returns the instance behind a floating IP."""
        self.server_of = server_of
        self.kinds: dict[str, dict[str, Any]] = {"volume": {}, "snapshot": {}, "backup": {}}
        self.pending: dict[str, str] = {}
        """Id of what is busy -> its next status."""
        self.data: dict[str, str] = {}
        """Id of a volume, snapshot or backup -> digest of its first bytes."""
        self.disks: dict[tuple[str, str], str] = {}
        """Ids of instance and volume -> device."""
        self.seen: dict[str, int] = {}
        """Id of a volume -> GiB that its guests see."""
        self.times = itertools.count(1)
        self.told: list[Any] = []
        self.failing: set[str] = set()
        """Names of what ends in an error."""
        self.rotten: set[str] = set()
        """Names of volumes that are read as something else."""
        self.stale_size = self.keeps_disks = self.keeps_type = self.unlimited = self.generous = False
        self.lost: set[str] = set()
        """Names of volumes that no guest sees."""
        self.protocol = "ceph"
        self.services_: list[Any] = [
            SimpleNamespace(binary=binary, host=host, state="up", status="enabled")
            for binary, host in (
                ("cinder-scheduler", "one"),
                ("cinder-volume", "one@ceph"),
                ("cinder-volume", "one@lvm"),
                ("cinder-backup", "one"),
            )
        ]

    # --- the API ---

    def services(self) -> Iterator[Any]:
        """List services."""
        return iter(self.services_)

    def backend_pools(self) -> Iterator[Any]:
        """List pools."""
        for name in ("ceph", "lvm"):
            protocol = self.protocol if name == "ceph" else "iSCSI"
            yield SimpleNamespace(name=f"one@{name}#{name}", capabilities={"storage_protocol": protocol})

    def messages(self) -> Iterator[Any]:
        """List what users are told."""
        return iter(self.told)

    def get_limits(self) -> Any:
        """Return the project's limits."""
        used = sum(one.size for one in self.kinds["volume"].values())
        limit = -1 if self.unlimited else 1000
        return SimpleNamespace(
            absolute=SimpleNamespace(max_total_volume_gigabytes=limit, total_gigabytes_used=used)
        )

    def _busy(self, one: Any, status: str, end: str = "available") -> Any:
        one.status = status
        self.pending[one.id] = "error" if one.name in self.failing else end
        if one.name in self.failing:
            self.told.append(SimpleNamespace(resource_uuid=one.id, user_message="No room"))
        return one

    def _add(self, kind: str, name: str, **attributes: Any) -> Any:
        made = SimpleNamespace(id=str(uuid.uuid4()), name=name, created_at=f"{next(self.times):05}", **attributes)
        self.kinds[kind][made.id] = made
        return self._busy(made, "creating")

    def _get(self, kind: str, number: str) -> Any:
        one = self.kinds[kind][number]
        now = SimpleNamespace(**vars(one))
        if number in self.pending:
            one.status = self.pending.pop(number)
            if one.status == "deleted":
                del self.kinds[kind][number]
        return now

    def _listed(self, kind: str) -> Iterator[Any]:
        return iter([self._get(kind, number) for number in list(self.kinds[kind])])

    def create_volume(self, name: str, size: int, **source: Any) -> Any:
        """Make a volume."""
        used = sum(one.size for one in self.kinds["volume"].values())
        if used + size > 1000 and not self.generous:
            raise exceptions.HttpException("VolumeSizeExceedsAvailableQuota", http_status=413)
        kind = source.get("volume_type", "ceph")
        place = f"one@{TYPES[kind]}#{TYPES[kind]}"
        bootable = "image_id" in source
        made = self._add(
            "volume", name, size=size, volume_type=kind, host=place, is_bootable=bootable, migration_status=None
        )
        origin = source.get("snapshot_id") or source.get("source_volume_id")
        self.data[made.id] = self.data[origin] if origin else "zeros"
        self.seen[made.id] = size
        return made

    def get_volume(self, number: str) -> Any:
        """Return a volume as it is now."""
        return self._get("volume", number)

    def volumes(self) -> Iterator[Any]:
        """List volumes."""
        return self._listed("volume")

    def create_snapshot(self, name: str, volume_id: str) -> Any:
        """Make a snapshot."""
        made = self._add("snapshot", name, volume_id=volume_id, size=self.kinds["volume"][volume_id].size)
        self.data[made.id] = self.data[volume_id]
        return made

    def get_snapshot(self, number: str) -> Any:
        """Return a snapshot."""
        return self._get("snapshot", number)

    def snapshots(self) -> Iterator[Any]:
        """List snapshots."""
        return self._listed("snapshot")

    def create_backup(self, name: str, volume_id: str) -> Any:
        """Make a backup."""
        made = self._add("backup", name, volume_id=volume_id, size=1, object_count=20, fail_reason="no container")
        self.data[made.id] = self.data[volume_id]
        return made

    def get_backup(self, number: str) -> Any:
        """Return a backup."""
        return self._get("backup", number)

    def backups(self) -> Iterator[Any]:
        """List backups."""
        return self._listed("backup")

    def restore_backup(self, number: str, volume: str) -> None:
        """Write a backup to a volume."""
        self._busy(self.kinds["backup"][number], "restoring")
        self._busy(self.kinds["volume"][volume], "restoring-backup")
        self.data[volume] = self.data[number]

    def extend_volume(self, number: str, size: int) -> None:
        """Make a volume larger; its guests see it."""
        one = self.kinds["volume"][number]
        if one.status == "in-use" and self.protocol == "NFS":
            raise exceptions.BadRequestException("Cannot extend volume while it is attached.")
        self._busy(one, "extending", one.status)
        one.size = size
        if not self.stale_size:
            self.seen[number] = size

    def retype_volume(self, number: str, target: str, migration_policy: str) -> None:
        """Move a volume."""
        assert migration_policy == "on-demand"
        one = self._busy(self.kinds["volume"][number], "retyping")
        if not self.keeps_type:
            vars(one).update(volume_type=target, host=f"one@{TYPES[target]}#{TYPES[target]}")

    def _delete(self, kind: str, number: str, allowed: tuple[str, ...]) -> None:
        if number not in self.kinds[kind]:
            raise exceptions.NotFoundException("gone")
        one = self.kinds[kind][number]
        if one.status not in allowed or number in self.pending:
            self._get(kind, number)
            raise exceptions.BadRequestException(f"{kind} status must be available or error, but it is {one.status}")
        one.status = "deleting"
        self.pending[number] = "deleted"

    def delete_volume(self, number: str, ignore_missing: bool, force: bool) -> None:
        """Delete a volume without snapshots and attachments."""
        if any(one.volume_id == number for one in self.kinds["snapshot"].values()):
            raise exceptions.BadRequestException("Volume has dependent snapshots")
        self._delete("volume", number, ("available", "error", *(("attaching", "reserved") if force else ())))

    def delete_snapshot(self, number: str, ignore_missing: bool) -> None:
        """Delete a snapshot."""
        self._delete("snapshot", number, ("available", "error"))

    def delete_backup(self, number: str, ignore_missing: bool) -> None:
        """Delete a backup."""
        self._delete("backup", number, ("available", "error"))

    # --- Nova's part ---

    def attach(self, server: Any, number: str) -> None:
        """Give a volume to an instance."""
        one = self.kinds["volume"][number]
        assert one.status == "available" or (one.status == "in-use" and one.volume_type == "shared"), one.status
        taken = {device for (owner, _volume), device in self.disks.items() if owner == server.id}
        self.disks[server.id, number] = next(f"vd{letter}" for letter in "bcdefg" if f"vd{letter}" not in taken)
        self._busy(one, "attaching" if one.status == "available" else "in-use", "in-use")

    def detach(self, server: Any, number: str, ignore_missing: bool = True) -> None:
        """Take a volume from an instance."""
        if not self.keeps_disks:
            del self.disks[server.id, number]
        self._busy(self.kinds["volume"][number], "detaching")

    def boot(self, server: Any, number: str) -> None:
        """Start an instance from a volume."""
        self.disks[server.id, number] = "vda"
        vars(self.kinds["volume"][number]).update(status="in-use")

    def forget(self, server: str) -> None:
        """Detach everything from an instance that is gone."""
        for owner, number in list(self.disks):
            if owner == server:
                del self.disks[owner, number]
                vars(self.kinds["volume"][number]).update(status="available")

    # --- guests ---

    def guest(self, address: str, command: str) -> str | None:
        """Return what a command prints in a guest; None for one that is not about disks."""
        server = self.server_of(address)
        mine = {device: number for (owner, number), device in self.disks.items() if owner == server.id}
        if serial := re.search(r"grep -l '\^(\S{20})' /sys/block/\*/serial", command):
            for device, number in mine.items():
                if number.startswith(serial[1]) and self.kinds["volume"][number].name not in self.lost:
                    return f"/sys/block/{device}/serial\n"
            raise ProbeError("ssh: exit status 1")
        if command == "cat /sys/block/*/serial":
            here = [number for number in mine.values() if self.kinds["volume"][number].name not in self.lost]
            return "".join(f"{number[:20]}\n" for number in here)
        if size := re.fullmatch(r"cat /sys/block/(\w+)/size", command):
            return f"{self.seen[mine[size[1]]] * GIBIBYTE // 512}\n"
        if target := re.search(r"/dev/urandom .* of=/dev/(\w+) ", command):
            self.data[mine[target[1]]] = secrets.token_hex(32)
            return f"{self.data[mine[target[1]]]}  -\n"
        if source := re.match(r"dd if=/dev/(\w+) .* iflag=direct .*sha256sum$", command):
            number = mine[source[1]]
            rotten = self.kinds["volume"][number].name in self.rotten
            return f"{'rotten' if rotten else self.data[number]}  -\n"
        return None
