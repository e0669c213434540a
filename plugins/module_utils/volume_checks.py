"""The checks of `playbooks/verify.yml` that are about volumes: those of cloud_checks, for clouds with Cinder.

A volume is known in the guest by its serial number, which Nova makes its id; so the guest needs no more than a shell
with `dd`, `grep` and `sha256sum`, and libvirt's virtio disks. What takes long is begun by one check and waited for by a
later one (Run.begun), so that copies, backups and the second instance's boot go on side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.cloud_run import (
    PREFIX,
    Gone,
    Run,
    down_and_absent,
    give_floating_ip,
    on_server,
    ours,
    until_status,
)
from ansible_collections.brume.cloud.plugins.module_utils.probes import ProbeError
from ansible_collections.brume.cloud.plugins.module_utils.verification import (
    Check,
    CheckFailed,
    NotYet,
    absent_agents,
    wait,
)
from ansible_collections.brume.cloud.plugins.module_utils.volume_types import CATALOG_TYPE

BACKUP, BACKENDS, MULTIATTACH = "volume-backup", "volume-backends", "volume-multiattach"
"""Features that a cloud may lack: a driver for backups, a second back end with a type, a type of shared volumes."""

SIZE = 1
"""GiB of a volume."""

DATA_SIZE = 4 * 1024 * 1024
"""Bytes that the guest writes."""

SERIAL_LENGTH = 20
"""Characters of a volume's id that a virtio disk shows (VIRTIO_BLK_ID_BYTES of the virtio specification)."""

TOO_MUCH = 413
"""What Cinder answers to who exceeds a quota."""


def services(run: Run) -> str:
    """Prove that every service of Cinder is up, that the plan's are there, and that each back end has one.

    Where only some hosts are judged, theirs. A service of volumes is `host@back end`.
    """

    def probe() -> str:
        listed = [(one, one.host.partition("@")) for one in run.cloud.block_storage.services()]
        found = [(one, parts) for one, parts in listed if run.expected.judges(parts[0])]
        down = [f"{one.binary} on {one.host}" for one, _parts in found if one.state != "up"]
        wanted = [(binary, host) for binary, host in run.expected.volume_services if run.expected.judges(host)]
        absent = absent_agents(wanted, [(one.binary, parts[0]) for one, parts in found])
        served = {parts[2] for _one, parts in found}
        anywhere = () if run.expected.hosts else run.expected.volume_backends
        absent += [f"back end {name}" for name in anywhere if name not in served]
        if down or absent:
            raise NotYet(down_and_absent(down, absent))
        disabled = [f"{one.binary} on {one.host}" for one, _parts in found if one.status != "enabled"]
        return f"{len(found)} up" + (f", disabled: {', '.join(disabled)}" if disabled else "")

    return wait("volume services are up", run.seconds("services"), probe, run.clock)


# --- what several checks do -------------------------------------------------------------------------------------------


def _begin(run: Run, check: str, call: Callable[[], Any]) -> None:
    """Begin something for a later check, to which its failure belongs too."""
    try:
        run.begun[check] = call()
    except Exception as error:  # whatever it is, this check has not failed
        run.begun[check] = error


def _begun(run: Run, check: str) -> Any:
    """Return what was begun. Raises what kept it from beginning."""
    found = run.begun[check]
    if isinstance(found, Exception):
        raise found
    return found


def _create(run: Run, label: str, **attributes: Any) -> Any:
    """Ask for a volume; return it as it is then."""
    made = run.cloud.block_storage.create_volume(name=f"{PREFIX}-{label}", size=SIZE, **attributes)
    run.volumes[label] = made
    return made


def _reason(run: Run, number: str) -> str:
    """Return what Cinder told the user about an object's failure, after a colon; empty where it told nothing."""
    try:
        told = [one.user_message for one in run.cloud.block_storage.messages() if one.resource_uuid == number]
    except Exception:  # what explains a failure must not hide it
        return ""
    return f": {told[0]}" if told else ""


def _until(run: Run, label: str, status: str = "available") -> Any:
    """Return a volume once it has a status; an error ends the wait at once."""

    def probe() -> Any:
        found = run.cloud.block_storage.get_volume(run.volumes[label].id)
        if found.status.startswith("error"):
            raise CheckFailed(f"the volume {found.name} is {found.status}{_reason(run, found.id)}")
        if found.status != status:
            raise NotYet(f"it is {found.status}")
        return found

    run.volumes[label] = wait(f"the volume {PREFIX}-{label} is {status}", run.seconds("volume"), probe, run.clock)
    return run.volumes[label]


def _device(run: Run, label: str, address: str) -> str:
    """Return a volume's device in a guest, such as `vdb`, once it is there."""
    serial = run.volumes[label].id[:SERIAL_LENGTH]

    def probe() -> str:
        try:
            found = on_server(run, f"grep -l '^{serial}' /sys/block/*/serial", address).split("/")
        except ProbeError as error:  # as grep ends where it found nothing
            raise NotYet(f"no disk with the serial number {serial}: {error}") from error
        return found[-2]

    return wait("the guest sees the volume", run.seconds("volume"), probe, run.clock)


def _attach(run: Run, label: str, server: Any, address: str = "") -> str:
    """Attach a volume to an instance and return its device there."""
    run.cloud.compute.create_volume_attachment(server, run.volumes[label].id)
    _until(run, label, "in-use")
    return _device(run, label, address)


def _detach(run: Run, label: str, server: Any) -> None:
    run.cloud.compute.delete_volume_attachment(server, run.volumes[label].id, ignore_missing=False)
    _until(run, label)


def _read(run: Run, device: str, address: str = "") -> str:
    """Return the digest of what a guest reads, past its own memory."""
    command = f"dd if=/dev/{device} bs=1M count={DATA_SIZE // 1024**2} iflag=direct 2>/dev/null | sha256sum"
    return on_server(run, command, address).split()[0]


def _write(run: Run, device: str, address: str = "") -> str:
    """Let a guest write random data to the beginning of a device, and return its digest."""
    file = f"/tmp/{PREFIX}"  # noqa: S108  # in the guest, which is ours alone
    command = (
        f"head -c {DATA_SIZE} /dev/urandom >{file} && "
        f"dd if={file} of=/dev/{device} bs=1M oflag=direct conv=fsync 2>/dev/null && sha256sum <{file}"
    )
    return on_server(run, command, address).split()[0]


def _compare(run: Run, what: str, digest: str) -> None:
    if digest != run.digest:
        raise CheckFailed(f"{what}: what the guest reads is not what was written")


def _same_data(run: Run, label: str, server: Any, address: str = "") -> str:
    """Prove that a volume holds what the guest wrote, and leave it detached."""
    device = _attach(run, label, server, address)
    _compare(run, f"the volume {PREFIX}-{label}", _read(run, device, address))
    _detach(run, label, server)
    return f"{DATA_SIZE // 1024**2} MiB as written, read at {device}"


def _until_size(run: Run, label: str, device: str, size: int, address: str) -> None:
    """Wait until a guest's disk has a size in GiB."""

    def probe() -> None:
        found = int(on_server(run, f"cat /sys/block/{device}/size", address)) * 512
        if found != size * 1024**3:
            raise NotYet(f"it has {found} bytes")

    wait(f"the guest sees {size} GiB at {device}", run.seconds("volume"), probe, run.clock)


# --- the checks -------------------------------------------------------------------------------------------------------


def create(run: Run) -> str:
    """Prove that a volume becomes available."""
    _create(run, "data")
    _begin(run, "volume-from-image", lambda: _create(run, "boot", image_id=run.image.id))
    found = _until(run, "data")
    return f"{found.size} GiB, type {found.volume_type}, at {found.host or 'a host that is not shown'}"


def each_type(run: Run) -> str:
    """Prove that a volume of each type becomes available where the type leads."""
    for name in run.expected.volume_types:
        _create(run, f"type-{name}", volume_type=name)
    places = {name: _until(run, f"type-{name}").host for name in run.expected.volume_types}
    return ", ".join(f"{name} at {place}" for name, place in places.items())


def from_image(run: Run) -> str:
    """Prove that a volume can be made from an image."""
    _begun(run, "volume-from-image")
    found = _until(run, "boot")
    if not found.is_bootable:
        raise CheckFailed(f"the volume {found.name} is not bootable")
    _begin(run, "volume-boot", lambda: _second(run))
    return f"{found.size} GiB, bootable"


def _second(run: Run) -> Any:
    """Begin to boot an instance from the volume, on the first one's network."""
    disk = {
        "boot_index": 0,
        "uuid": run.volumes["boot"].id,
        "source_type": "volume",
        "destination_type": "volume",
        "delete_on_termination": False,
    }
    return run.cloud.compute.create_server(
        name=f"{PREFIX}-volume",
        flavor_id=run.flavor.id,
        key_name=PREFIX,
        networks=[{"uuid": run.network.id}],
        security_groups=[{"name": run.group.id}],
        block_device_mapping=[disk],
    )


def attach(run: Run) -> str:
    """Prove that a volume can be attached to a running instance, whose guest sees a disk of its size."""
    device = _attach(run, "data", run.server)
    _until_size(run, "data", device, SIZE, "")
    return f"{SIZE} GiB at {device}"


def write(run: Run) -> str:
    """Prove that the guest can write to the volume, and reads what it wrote."""
    device = _device(run, "data", "")
    run.digest = _write(run, device)
    _compare(run, f"/dev/{device}", _read(run, device))
    return f"{DATA_SIZE // 1024**2} MiB at {device}"


def detach(run: Run) -> str:
    """Prove that the volume can be detached, and is gone in the guest."""
    serial = run.volumes["data"].id[:SERIAL_LENGTH]
    _detach(run, "data", run.server)

    def probe() -> str:
        # All serial numbers, so that no answer is an error and not a disk that is gone.
        if any(one.startswith(serial) for one in on_server(run, "cat /sys/block/*/serial").split()):
            raise NotYet("the guest still has the disk")
        return "available, and gone in the guest"

    return wait("the disk is gone in the guest", run.seconds("volume"), probe, run.clock)


def snapshot(run: Run) -> str:
    """Prove that a snapshot of the volume becomes available."""
    storage = run.cloud.block_storage
    source = run.volumes["data"].id
    made = storage.create_snapshot(name=f"{PREFIX}-data", volume_id=source)
    _begin(run, "volume-clone", lambda: _create(run, "clone", source_volume_id=source))

    def probe() -> Any:
        found = storage.get_snapshot(made.id)
        if found.status.startswith("error"):
            raise CheckFailed(f"the snapshot is {found.status}{_reason(run, made.id)}")
        if found.status != "available":
            raise NotYet(f"it is {found.status}")
        return found

    found = wait("the snapshot is available", run.seconds("volume"), probe, run.clock)
    _begin(run, "volume-from-snapshot", lambda: _create(run, "copy", snapshot_id=made.id))
    return f"{found.size} GiB"


def clone(run: Run) -> str:
    """Prove that a volume made from another one holds the same data."""
    _begun(run, "volume-clone")
    _until(run, "clone")
    detail = _same_data(run, "clone", run.server)
    if BACKUP in run.expected.features:
        _begin(run, "volume-backup", lambda: _backup(run))
    return detail


def _backup(run: Run) -> Any:
    """Begin a backup, and make the volume into which it will be restored."""
    storage = run.cloud.block_storage
    made = storage.create_backup(name=f"{PREFIX}-clone", volume_id=run.volumes["clone"].id)
    _create(run, "restored")
    return made


def from_snapshot(run: Run) -> str:
    """Prove that a volume made from a snapshot holds the same data."""
    _begun(run, "volume-from-snapshot")
    _until(run, "copy")
    detail = _same_data(run, "copy", run.server)
    if BACKENDS in run.expected.features:
        _begin(run, "volume-retype", lambda: _retype(run))
    return detail


def _retype(run: Run) -> tuple[str, str]:
    """Begin to retype a volume to a type of another back end; return its place before, and that type."""
    types = run.expected.volume_types
    before = run.volumes["copy"]
    target = next((name for name, backend in types.items() if backend != types.get(before.volume_type)), "")
    if not target:
        raise CheckFailed(f"no type leads to another back end than {before.volume_type}")
    run.cloud.block_storage.retype_volume(before.id, target, migration_policy="on-demand")
    return before.host, target


def boot(run: Run) -> str:
    """Prove that an instance boots from a volume, and answers over SSH."""
    run.second = _begun(run, "volume-boot")
    run.second = until_status(run, run.second, "the instance is ACTIVE", "ACTIVE", run.seconds("active"))
    run.second_floating = give_floating_ip(run, run.second)
    address = run.second_floating.floating_ip_address

    def probe() -> str:
        try:
            return on_server(run, "uname -n", address).strip()
        except ProbeError as error:
            raise NotYet(str(error)) from error

    name = wait("the guest answers over SSH", run.seconds("ssh"), probe, run.clock)
    if not name.startswith(f"{PREFIX}-volume"):
        raise CheckFailed(f"the guest is called {name or 'nothing'}, not {PREFIX}-volume")
    device = _device(run, "boot", address)
    return f"{name} on {run.second.compute_host}, from {device}"


def elsewhere(run: Run) -> str:
    """Prove that another instance reads what the first one wrote."""
    address = run.second_floating.floating_ip_address
    device = _attach(run, "data", run.second, address)
    _compare(run, f"the volume {PREFIX}-data", _read(run, device, address))
    return f"{DATA_SIZE // 1024**2} MiB as written, read at {device} on {run.second.compute_host}"


def extend(run: Run) -> str:
    """Prove that a volume can be extended while it is attached, and the guest sees it.

    Cinder's driver for NFS refuses that (cinder.volume.drivers.nfs, Launchpad bug 1870367): there it is detached first.
    """
    storage, address = run.cloud.block_storage, run.second_floating.floating_ip_address
    place = run.volumes["data"].host or ""
    kinds = [str(one.capabilities.get("storage_protocol")) for one in storage.backend_pools() if one.name == place]
    online = "NFS" not in kinds
    if not online:
        _detach(run, "data", run.second)
    storage.extend_volume(run.volumes["data"].id, SIZE + 1)
    found = _until(run, "data", "in-use" if online else "available")
    if found.size != SIZE + 1:
        raise CheckFailed(f"the volume has {found.size} GiB, not {SIZE + 1}")
    device = _device(run, "data", address) if online else _attach(run, "data", run.second, address)
    _until_size(run, "data", device, SIZE + 1, address)
    _compare(run, f"/dev/{device}", _read(run, device, address))
    return f"{SIZE + 1} GiB at {device}, {'attached' if online else 'detached: it is on NFS'}"


def backup(run: Run) -> str:
    """Prove that a backup of a volume becomes available."""
    storage = run.cloud.block_storage
    made = _begun(run, "volume-backup")

    def probe() -> Any:
        found = storage.get_backup(made.id)
        if found.status.startswith("error"):
            raise CheckFailed(f"the backup is {found.status}: {found.fail_reason or 'Cinder does not say why'}")
        if found.status != "available":
            raise NotYet(f"it is {found.status}")
        return found

    found = wait("the backup is available", run.seconds("backup"), probe, run.clock)
    _until(run, "restored")
    _begin(run, "volume-restore", lambda: storage.restore_backup(made.id, run.volumes["restored"].id))
    return f"{found.size} GiB, {found.object_count or 0} objects"


def restore(run: Run) -> str:
    """Prove that a backup that is restored to another volume holds the same data."""
    _begun(run, "volume-restore")
    number = run.begun["volume-backup"].id

    def probe() -> None:
        found = run.cloud.block_storage.get_backup(number)
        if found.status != "available":
            raise NotYet(f"the backup is {found.status}")

    wait("the backup is restored", run.seconds("backup"), probe, run.clock)
    _until(run, "restored")
    return _same_data(run, "restored", run.server)


def retype(run: Run) -> str:
    """Prove that a volume moves with its data to the back end of another type."""
    before, target = _begun(run, "volume-retype")

    def probe() -> Any:
        found = run.cloud.block_storage.get_volume(run.volumes["copy"].id)
        if found.status.startswith("error"):
            raise CheckFailed(f"the volume is {found.status}{_reason(run, found.id)}")
        if found.status != "available":
            raise NotYet(f"it is {found.status}, migration {found.migration_status}")
        return found

    found = wait("the volume is retyped", run.seconds("backup"), probe, run.clock)
    if (found.volume_type, found.host == before) != (target, False):
        reason = _reason(run, found.id)
        raise CheckFailed(f"the volume is of type {found.volume_type} at {found.host}, not of {target}{reason}")
    _same_data(run, "copy", run.server)
    return f"{target}: from {before} to {found.host}"


def multiattach(run: Run) -> str:
    """Prove that two instances have one volume at a time, and one reads what the other wrote."""
    kind, address = run.expected.multiattach_type, run.second_floating.floating_ip_address
    _create(run, "shared", volume_type=kind)
    _until(run, "shared")
    here, there = _attach(run, "shared", run.server), _attach(run, "shared", run.second, address)
    if _write(run, here) != _read(run, there, address):
        raise CheckFailed("one instance does not read what the other one wrote")
    run.cloud.compute.delete_volume_attachment(run.server, run.volumes["shared"].id, ignore_missing=False)
    return f"type {kind}, at {here} and {there}"


def quota(run: Run) -> str:
    """Prove that a quota refuses a volume that exceeds it."""
    from openstack import exceptions  # noqa: PLC0415  # only where a cloud is talked to

    limits = run.cloud.block_storage.get_limits().absolute
    limit, used = limits.max_total_volume_gigabytes, limits.total_gigabytes_used
    if limit < 0:
        return "the project has no limit of gigabytes, so that there is nothing to refuse"
    size = limit - used + 1
    try:
        run.cloud.block_storage.create_volume(name=f"{PREFIX}-quota", size=size)
    except exceptions.HttpException as error:
        if error.status_code != TOO_MUCH:
            raise
        return f"{size} GiB refused: {used} of {limit} GiB are used"
    raise CheckFailed(f"a volume of {size} GiB was taken: {used} of {limit} GiB are used")


# --- clean-up ---------------------------------------------------------------------------------------------------------

STUCK = ("attaching", "detaching", "reserved")
"""Statuses in which a run that was killed may leave a volume for good; its instance is gone before it."""


def remove(run: Run, gone: Gone) -> None:
    """Remove volumes with what was made of them, all side by side: users before what they use."""
    from openstack import exceptions  # noqa: PLC0415  # only where a cloud is talked to

    storage = run.cloud.block_storage

    def delete(call: Callable[[], object]) -> None:
        try:
            call()
        except exceptions.BadRequestException as error:  # Cinder's answer where the status does not allow it yet
            raise NotYet(str(error)) from error

    def delete_volume(number: str) -> None:
        force = storage.get_volume(number).status in STUCK
        delete(lambda: storage.delete_volume(number, ignore_missing=False, force=force))

    def without_snapshots() -> list[Any]:
        parents = {one.volume_id for one in storage.snapshots()}
        return [one for one in storage.volumes() if one.id not in parents]

    kinds: tuple[tuple[str, Callable[[], Iterable[Any]], Callable[[str], object]], ...] = (
        ("backup", storage.backups, lambda one: delete(lambda: storage.delete_backup(one, ignore_missing=False))),
        # what was made of a snapshot keeps it in some drivers, and a snapshot keeps what it was made of
        ("volume", without_snapshots, delete_volume),
        ("snapshot", storage.snapshots, lambda one: delete(lambda: storage.delete_snapshot(one, ignore_missing=False))),
        ("volume", storage.volumes, delete_volume),
    )
    for kind, listed, deletion in kinds:
        found = ours(listed())
        for one in sorted(found, key=lambda one: one.created_at or "", reverse=True):  # clones before their sources
            if one.status != "deleting":
                gone(f"{kind} {one.name}", lambda one=one, deletion=deletion: deletion(one.id))  # type: ignore[misc]

        def none_left(listed: Callable[[], Iterable[Any]] = listed) -> None:
            left = ours(listed())
            if left:
                raise NotYet(", ".join(f"{one.name} is {one.status}{_reason(run, one.id)}" for one in left))

        if found:
            wait(f"{kind}s are deleted", run.seconds("volume"), none_left, run.clock)


HEALTH: Check[Run] = Check("volume-services", services, ("token",), reads_only=True, about=CATALOG_TYPE)
BEFORE_INSTANCES: tuple[Check[Run], ...] = (
    Check("volume-create", create, ("volume-services", "leftovers", "image"), about=CATALOG_TYPE),
    Check("volume-types", each_type, ("volume-create",), about=BACKENDS),
)
WITH_INSTANCES: tuple[Check[Run], ...] = (
    Check("volume-from-image", from_image, ("volume-create", "ssh")),
    Check("volume-attach", attach, ("volume-create", "ssh")),
    Check("volume-write", write, ("volume-attach",)),
    Check("volume-detach", detach, ("volume-attach",)),
    Check("volume-snapshot", snapshot, ("volume-write", "volume-detach")),
    Check("volume-clone", clone, ("volume-snapshot",)),
    Check("volume-from-snapshot", from_snapshot, ("volume-snapshot",)),
    Check("volume-boot", boot, ("volume-from-image",)),
    Check("volume-elsewhere", elsewhere, ("volume-boot", "volume-write", "volume-detach")),
    Check("volume-extend", extend, ("volume-elsewhere",)),
    Check("volume-backup", backup, ("volume-clone",), about=BACKUP),
    Check("volume-restore", restore, ("volume-backup",)),
    Check("volume-retype", retype, ("volume-from-snapshot",), about=BACKENDS),
    Check("volume-multiattach", multiattach, ("volume-boot",), about=MULTIATTACH),
    Check("volume-quota", quota, ("volume-create",)),
)
"""The first one has the second instance boot while the others work with the first."""
