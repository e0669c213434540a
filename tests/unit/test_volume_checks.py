"""The checks of volumes against a cloud that is not there: each passes, can fail, and leaves nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import cloud_verification
from ansible_collections.brume.cloud.plugins.module_utils import (
    cloud_checks,
    cloud_run,
    sources,
    verification,
    volume_checks,
)
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.verification import CheckFailed
from ansible_collections.brume.cloud.plugins.module_utils.volume_types import CATALOG_TYPE
from openstack import exceptions

from .inventories import committed
from .test_verification import ENDPOINTS, FakeCloud, context, names, outcomes, spoil_call

ALL = frozenset({volume_checks.BACKUP, volume_checks.BACKENDS, volume_checks.MULTIATTACH})
NAMES = [one.name for one in cloud_checks.CHECKS if one.name.startswith("volume-")]


def volume_context(cloud: FakeCloud, tmp_path: Path, **expected: Any) -> cloud_run.Run:
    run = context(cloud, tmp_path)
    whole = {
        "endpoints": {**ENDPOINTS, CATALOG_TYPE: "https://api:8776/v3"},
        "volume_services": (("cinder-scheduler", "one"), ("cinder-volume", "one"), ("cinder-backup", "one")),
        "volume_backends": ("ceph", "lvm"),
        "volume_types": {"ceph": "ceph", "disks": "lvm"},
        "multiattach_type": "shared",
        "features": ALL,
        **expected,
    }
    run.expected = dataclasses.replace(run.expected, **whole)
    return run


def empty(cloud: FakeCloud) -> bool:
    return not any(cloud.block_storage.kinds.values()) and not cloud.kinds["servers"].all


def test_a_good_cloud_passes_and_keeps_nothing(tmp_path: Path) -> None:
    cloud = FakeCloud()
    results = outcomes(volume_context(cloud, tmp_path))
    assert {name: one.detail for name, one in results.items() if one.outcome != "ok"} == {}
    assert set(NAMES) <= set(results)
    assert empty(cloud)
    assert cloud.block_storage.disks == {}
    assert results["volume-retype"].detail == "disks: from one@ceph#ceph to one@lvm#lvm"
    assert results["volume-boot"].detail == "brume-verify-volume on one, from vda"
    assert results["volume-extend"].detail == "2 GiB at vdb, attached"
    assert results["volume-quota"].detail.endswith(" of 1000 GiB are used")
    assert {one.outcome for one in outcomes(volume_context(cloud, tmp_path)).values()} == {"ok"}


def test_a_cloud_has_the_checks_of_its_features() -> None:
    types = [*ENDPOINTS, CATALOG_TYPE]
    plain = names(verification.of_cloud(cloud_checks.CHECKS, types))
    special = {"volume-types", "volume-backup", "volume-restore", "volume-retype", "volume-multiattach"}
    assert [one for one in plain if one.startswith("volume-")] == [one for one in NAMES if one not in special]
    only = names(verification.of_cloud(cloud_checks.CHECKS, [CATALOG_TYPE, "image"]))
    assert [one for one in only if one.startswith("volume-")] == ["volume-services", "volume-create", "volume-quota"]


def test_nothing_is_begun_that_the_cloud_has_not(tmp_path: Path) -> None:
    cloud = FakeCloud()
    run = volume_context(cloud, tmp_path, features=frozenset())
    assert {one.outcome for one in outcomes(run).values()} == {"ok"}
    assert set(run.begun) == {"volume-from-image", "volume-boot", "volume-clone", "volume-from-snapshot"}


def test_what_is_on_nfs_is_extended_detached(tmp_path: Path) -> None:
    cloud = FakeCloud()
    cloud.block_storage.protocol = "NFS"
    assert outcomes(volume_context(cloud, tmp_path))["volume-extend"].detail == "2 GiB at vdb, detached: it is on NFS"


def test_a_project_without_limits_has_nothing_to_refuse(tmp_path: Path) -> None:
    cloud = FakeCloud()
    cloud.block_storage.unlimited = True
    assert "no limit" in outcomes(volume_context(cloud, tmp_path))["volume-quota"].detail


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    cloud = FakeCloud()
    storage = cloud.block_storage
    mine = storage.create_volume("mine", 1)
    storage.create_snapshot("mine", mine.id)
    source = storage.create_volume("brume-verify-data", 1)
    snapshot = storage.create_snapshot("brume-verify-data", source.id)
    storage.create_volume("brume-verify-copy", 1, snapshot_id=snapshot.id)
    storage.create_backup("brume-verify-clone", source.id)
    stuck = storage.create_volume("brume-verify-clone", 1)
    storage.pending.pop(stuck.id)
    stuck.status = "attaching"
    removed = cloud_checks.remove(volume_context(cloud, tmp_path))
    assert removed == [
        "backup brume-verify-clone", "volume brume-verify-clone", "volume brume-verify-copy",
        "snapshot brume-verify-data", "volume brume-verify-data",
    ]  # fmt: skip
    assert [one.name for kind in storage.kinds.values() for one in kind.values()] == ["mine", "mine"]


def test_a_run_that_is_broken_off_is_cleaned_up(tmp_path: Path) -> None:
    cloud = FakeCloud()
    run = volume_context(cloud, tmp_path)
    cloud.block_storage.failing = {"brume-verify-clone"}
    results = outcomes(run)
    assert results["volume-clone"].outcome == "FAILED"
    assert results["volume-from-snapshot"].outcome == "ok", "what does not need it goes on"
    assert results["clean-up"].outcome == "ok"
    assert empty(cloud)


Damage = Callable[[FakeCloud, cloud_run.Run], None]


def storage_with(**attributes: Any) -> Damage:
    return lambda cloud, _run: vars(cloud.block_storage).update(attributes)


def failing(name: str) -> Damage:
    return storage_with(failing={f"brume-verify-{name}"})


def rotten(name: str) -> Damage:
    return storage_with(rotten={f"brume-verify-{name}"})


def lost(name: str) -> Damage:
    return storage_with(lost={f"brume-verify-{name}"})


def refusing(method: str) -> Damage:
    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise exceptions.ForbiddenException("not for you")

    return lambda cloud, _run: setattr(cloud.block_storage, method, refuse)


def without_image(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    create = cloud.block_storage.create_volume

    def refuse(name: str, size: int, **source: Any) -> Any:
        if "image_id" in source:
            raise exceptions.ForbiddenException("not for you")
        return create(name, size, **source)

    cloud.block_storage.create_volume = refuse  # type: ignore[method-assign]


def forbidden_quota(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    create = cloud.block_storage.create_volume

    def refuse(name: str, size: int, **source: Any) -> Any:
        if name.endswith("-quota"):
            raise exceptions.ForbiddenException("not for you")
        return create(name, size, **source)

    cloud.block_storage.create_volume = refuse  # type: ignore[method-assign]


def not_bootable(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    get = cloud.block_storage.get_volume
    cloud.block_storage.get_volume = lambda number: SimpleNamespace(  # type: ignore[method-assign]
        **{**vars(get(number)), "is_bootable": False}
    )


def second_fails(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    create = cloud.compute.create_server

    def made(**attributes: Any) -> Any:
        server = create(**attributes)
        if "block_device_mapping" in attributes:
            vars(server).update(status="ERROR", fault={"message": "Block device mapping is invalid"})
        return server

    cloud.compute.create_server = made


def second_is_called(name: str) -> Damage:
    def damage(cloud: FakeCloud, run: cloud_run.Run) -> None:
        ssh = run.probes.ssh
        run.probes = dataclasses.replace(
            run.probes,
            ssh=lambda address, user, key, command: (
                name if "uname" in command and address.endswith(".10") else ssh(address, user, key, command)
            ),
        )

    return damage


def half_read(cloud: FakeCloud, run: cloud_run.Run) -> None:
    """Let the second instance read something else."""
    ssh = run.probes.ssh

    def read(address: str, user: str, key: Path, command: str) -> str:
        if address.endswith(".10") and command.startswith("dd"):
            return "other  -"
        return ssh(address, user, key, command)

    run.probes = dataclasses.replace(run.probes, ssh=read)


def small(cloud: FakeCloud, run: cloud_run.Run) -> None:
    ssh = run.probes.ssh

    def read(address: str, user: str, key: Path, command: str) -> str:
        return "8" if command.startswith("cat /sys/block") else ssh(address, user, key, command)

    run.probes = dataclasses.replace(run.probes, ssh=read)


def not_larger(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    cloud.block_storage.extend_volume = lambda number, size: None  # type: ignore[method-assign]


def down(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    cloud.block_storage.services_[1].state = "down"


def never_gone(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    def refuse(number: str, ignore_missing: bool, force: bool) -> None:
        raise exceptions.BadRequestException("Volume status must be available")

    cloud.block_storage.delete_volume = refuse  # type: ignore[method-assign]


def stays_deleting(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    def delete(number: str, ignore_missing: bool, force: bool) -> None:
        cloud.block_storage.kinds["volume"][number].status = "error_deleting"

    cloud.block_storage.delete_volume = delete  # type: ignore[method-assign]


def moves_back(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    def retype(number: str, target: str, migration_policy: str) -> None:
        cloud.block_storage.kinds["volume"][number].volume_type = target

    cloud.block_storage.retype_volume = retype  # type: ignore[method-assign]


def moves_only(cloud: FakeCloud, _run: cloud_run.Run) -> None:
    def retype(number: str, target: str, migration_policy: str) -> None:
        cloud.block_storage.kinds["volume"][number].host = "one@lvm#lvm"

    cloud.block_storage.retype_volume = retype  # type: ignore[method-assign]


SPOILED: list[tuple[str, Damage, str]] = [
    ("volume-services", storage_with(services_=[]),
     "absent: cinder-scheduler on one, cinder-volume on one, cinder-backup on one, back end ceph, back end lvm"),
    ("volume-services", down, "down: cinder-volume on one@ceph"),
    ("volume-create", failing("data"), "^the volume brume-verify-data is error: No room"),
    ("volume-create", refusing("create_volume"), "not for you"),
    ("volume-types", failing("type-disks"), "^the volume brume-verify-type-disks is error: No room"),
    ("volume-from-image", without_image, "not for you"),
    ("volume-from-image", not_bootable, "the volume brume-verify-boot is not bootable"),
    ("volume-attach", lost("data"), "the guest sees the volume: not within"),
    ("volume-attach", small, "the guest sees 1 GiB at vdb: not within 120 s; it has 4096 bytes"),
    ("volume-write", rotten("data"), "/dev/vdb: what the guest reads is not what was written"),
    ("volume-detach", storage_with(keeps_disks=True), "the guest still has the disk"),
    ("volume-detach", spoil_call("compute", "delete_volume_attachment", lambda *_a, **_k: None), "it is in-use"),
    ("volume-snapshot", lambda cloud, _run: setattr(cloud.block_storage, "get_snapshot", lambda _number: (
        SimpleNamespace(status="error", size=1))), "^the snapshot is error"),
    ("volume-clone", rotten("clone"), "the volume brume-verify-clone: what the guest reads"),
    ("volume-clone", failing("clone"), "is error: No room"),
    ("volume-from-snapshot", rotten("copy"), "the volume brume-verify-copy: what the guest reads"),
    ("volume-boot", second_fails, "Block device mapping is invalid"),
    ("volume-boot", second_is_called("localhost"), "called localhost, not brume-verify-volume"),
    ("volume-boot", lost("boot"), "the guest sees the volume: not within"),
    ("volume-elsewhere", half_read, "the volume brume-verify-data: what the guest reads"),
    ("volume-extend", storage_with(stale_size=True), "the guest sees 2 GiB at vdb: not within"),
    ("volume-extend", not_larger, "the volume has 1 GiB, not 2"),
    ("volume-backup", refusing("create_backup"), "not for you"),
    ("volume-backup", lambda cloud, _run: setattr(cloud.block_storage, "get_backup", lambda _number: (
        SimpleNamespace(status="error", fail_reason="no container"))), "^the backup is error: no container"),
    ("volume-restore", rotten("restored"), "the volume brume-verify-restored: what the guest reads"),
    ("volume-restore", refusing("restore_backup"), "not for you"),
    ("volume-retype", storage_with(keeps_type=True), "is of type ceph at one@ceph#ceph, not of disks"),
    ("volume-retype", moves_only, "is of type ceph at one@lvm#lvm, not of disks"),
    ("volume-retype", moves_back, "is of type disks at one@ceph#ceph, not of disks"),
    ("volume-retype", lambda _cloud, run: setattr(
        run, "expected", dataclasses.replace(run.expected, volume_types={"ceph": "ceph"})),
     "no type leads to another back end than ceph"),
    ("volume-multiattach", half_read, "one instance does not read what the other one wrote"),
    ("volume-quota", storage_with(generous=True), "was taken"),
    ("volume-quota", forbidden_quota, "^ForbiddenException"),
    ("volume-quota", lambda cloud, _run: setattr(cloud.block_storage, "get_limits", lambda: (
        SimpleNamespace(absolute=SimpleNamespace(max_total_volume_gigabytes=0, total_gigabytes_used=0)))), "was taken"),
    ("clean-up", never_gone, "volume brume-verify-shared is removed: not within"),
    ("clean-up", stays_deleting, "volumes are deleted: not within 120 s; brume-verify-"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "damage", "words"), SPOILED, ids=[name for name, *_ in SPOILED])
def test_every_check_can_fail(check: str, damage: Damage, words: str, tmp_path: Path) -> None:
    cloud = FakeCloud()
    run = volume_context(cloud, tmp_path)
    damage(cloud, run)
    result = outcomes(run)[check]
    assert result.outcome == "FAILED", result
    assert result.detail.startswith(words[1:]) if words.startswith("^") else words in result.detail


def test_every_check_is_seen_failing() -> None:
    assert {name for name, *_ in SPOILED} - {"clean-up"} == set(NAMES)


def test_only_judged_hosts_are_looked_at(tmp_path: Path) -> None:
    cloud = FakeCloud()
    run = volume_context(cloud, tmp_path, hosts=("two",))
    with pytest.raises(CheckFailed, match="absent: cinder-volume on two"):
        run.expected = dataclasses.replace(run.expected, volume_services=(("cinder-volume", "two"),))
        volume_checks.services(run)
    cloud.block_storage.services_[2].host = "two@lvm"
    cloud.block_storage.services_[1].state = "down"
    run.expected = dataclasses.replace(
        run.expected, volume_services=(("cinder-volume", "two"), ("cinder-volume", "three"))
    )
    assert volume_checks.services(run) == "1 up", "another host's services and back ends are not judged"


def planned(**variables: Any) -> dict[str, Any]:
    """Return what the action takes from a plan with these variables."""
    known = {
        "cinder_backends": {"ceph": {"type": "rbd"}, "lvm": {"type": "lvm"}}, "cinder_volume_types": [],
        "cinder_backup_driver": "", **variables,
    }  # fmt: skip
    instances = [SimpleNamespace(service="cinder", component=one) for one in ("api", "scheduler", "volume")]
    host = SimpleNamespace(name="one", instances=instances, variables=known)
    plan: Any = SimpleNamespace(
        hosts={"one": host}, cloud=SimpleNamespace(members={"control": (("one", None),)}, networks={})
    )
    return cloud_verification.volumes(plan)


def test_the_plan_says_what_of_cinder_is_there() -> None:
    assert planned() == {
        "volume_services": (("cinder-scheduler", "one"), ("cinder-volume", "one")),
        "volume_backends": ("ceph", "lvm"),
        "volume_types": {"ceph": "ceph", "lvm": "lvm"},
        "multiattach_type": "",
        "features": frozenset({volume_checks.BACKENDS}),
    }
    types = [
        {"name": "a", "extra_specs": {"volume_backend_name": "ceph"}},
        {"name": "b", "extra_specs": {"volume_backend_name": "ceph", "multiattach": "<is> True"}},
        {"name": "c", "extra_specs": {"volume_backend_name": "lvm"}, "is_public": False},
        {"name": "d", "extra_specs": {"volume_backend_name": "lvm"}, "projects": ["web"]},
        {"name": "e"},
        {"name": "f", "extra_specs": {"volume_backend_name": "lvm"}, "state": "absent"},
    ]
    found = planned(cinder_volume_types=types, cinder_backup_driver="swift")
    assert (found["volume_types"], found["multiattach_type"]) == ({"a": "ceph"}, "b")
    assert found["features"] == {volume_checks.BACKUP, volume_checks.MULTIATTACH}


def test_a_committed_inventory_is_understood() -> None:
    expected = cloud_verification.expected(plan(committed("block"), sources.load()))
    assert expected.volume_services == (
        ("cinder-scheduler", "controller1"), ("cinder-volume", "controller1"), ("cinder-backup", "controller1")
    )  # fmt: skip
    assert (expected.volume_backends, expected.volume_types) == (("ceph",), {"ceph": "ceph"})
    assert expected.features == {volume_checks.BACKUP}
    assert CATALOG_TYPE in expected.endpoints
