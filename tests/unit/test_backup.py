"""What is a backup, which one is made of which member, which ones go, and what restoring one means."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils import age_keys, backup, backup_host, backup_stream

from .playbooks import ROOT

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
MEMBER = {"active": True, "version": "11.8", "identity": "1:2", "missing": [], "clients": 0}
CLUSTERED = {**MEMBER, "wsrep_cluster_size": "3", "wsrep_cluster_status": "Primary", "wsrep_local_state": "4"}
DONOR = {**CLUSTERED, "wsrep_local_state": "2"}
CUT_OFF = {**CLUSTERED, "wsrep_cluster_status": "non-Primary"}


def manifest(name: str, base: str = "", **more: Any) -> dict[str, Any]:
    return {
        "format": 1, "name": name, "base": base, "cloud": backup.cloud_mark(KEY), "region": "RegionOne",
        "release": "2026.1", "member": "one", "version": "11.8", "identity": "1:2", "to_lsn": 7, "tables": {},
        "services": {"nova": "abc"}, "configuration": {}, "parts": [], "images": {}, "with_images": True, **more,
    }  # fmt: skip


def listed(*manifests: dict[str, Any], key: bytes = KEY, **more: Any) -> dict[str, Any]:
    signed = {one["name"]: backup.sign(one, key) for one in manifests}
    return {"manifests": signed, "partial": [], "strange": [], **more}


FULL = "20260301T000000Z-full"
NEXT = "20260302T000000Z-incremental"
AFTER = "20260303T000000Z-incremental"


def test_bech32_is_that_of_its_specification() -> None:
    """A test vector of BIP 173 whose data are the numbers 0 to 31, five bits each."""
    number = 0
    for value in range(32):
        number = number << 5 | value
    vector = "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"
    assert age_keys.bech32("abcdef", number.to_bytes(20, "big")) == vector


@pytest.mark.skipif(shutil.which("age-keygen") is None, reason="lacks age")
@pytest.mark.parametrize("secret", ["", "a secret", "another"])
def test_age_reads_the_keys(secret: str) -> None:
    text = age_keys.identity(secret)
    done = subprocess.run(["age-keygen", "-y"], input=text, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == age_keys.recipient(secret)
    assert secret == "" or secret not in age_keys.identity(secret)


def test_keys_of_age_follow_from_the_secret_alone() -> None:
    assert age_keys.identity("a") == age_keys.identity("a") != age_keys.identity("b")
    assert age_keys.recipient("a").startswith("age1") and age_keys.identity("a").startswith("AGE-SECRET-KEY-1")


def test_a_manifest_is_read_as_it_was_signed() -> None:
    found = backup.found(listed(manifest(FULL), manifest(NEXT, FULL)), KEY, "RegionOne")
    assert list(found.manifests) == [FULL, NEXT]
    assert found.manifests[NEXT]["base"] == FULL
    assert backup.chain(NEXT, found.manifests) == [FULL, NEXT]


def test_a_backup_of_another_cloud_or_region_is_refused() -> None:
    other = manifest(FULL, cloud=backup.cloud_mark(OTHER))
    for said, key in ((listed(other, key=OTHER), KEY), (listed(manifest(FULL, region="RegionTwo")), KEY)):
        with pytest.raises(backup.BackupError, match="of another cloud"):
            backup.found(said, key, "RegionOne")


@pytest.mark.parametrize("change", [("to_lsn", 8), ("base", NEXT), ("name", NEXT)])
def test_an_altered_manifest_is_refused(change: tuple[str, Any]) -> None:
    said = listed(manifest(FULL))
    text = json.loads(said["manifests"][FULL])
    said["manifests"][FULL] = json.dumps({**text, change[0]: change[1]})
    with pytest.raises(backup.BackupError, match="was altered"):
        backup.found(said, KEY, "RegionOne")


def test_a_manifest_under_the_name_of_another_is_refused() -> None:
    said = {"manifests": {FULL: backup.sign(manifest(NEXT, FULL), KEY)}, "partial": [], "strange": []}
    with pytest.raises(backup.BackupError, match="was altered"):
        backup.found(said, KEY, "RegionOne")


def test_what_is_no_backup_is_named_and_never_deleted() -> None:
    said = listed(manifest(FULL), partial=["photos.partial", f"{FULL}.partial"], strange=["notes"])
    with pytest.raises(backup.BackupError) as caught:
        backup.found(said, KEY, "RegionOne")
    assert "notes: is no backup" in str(caught.value) and "photos.partial: is no backup" in str(caught.value)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"one": MEMBER}, "one"),
        ({"one": {**MEMBER, "clients": 5}}, "one"),
        ({"one": {**CLUSTERED, "clients": 90}, "two": CLUSTERED, "three": CLUSTERED}, "three"),
        ({"one": CLUSTERED, "two": CLUSTERED, "three": {**CLUSTERED, "clients": 90}}, "two"),
        ({"one": {**CLUSTERED, "clients": 90}, "two": CLUSTERED, "three": DONOR}, "two"),
        ({"one": CLUSTERED, "two": CUT_OFF, "three": {"active": False}}, "one"),
    ],
)
def test_the_member_that_serves_is_left_alone(members: dict[str, Any], expected: str) -> None:
    choice = backup.choose(members, {}, backup.FULL)
    assert (choice.member, choice.base) == (expected, "")


def test_the_only_member_in_step_is_taken_and_named() -> None:
    members = {"one": {**CLUSTERED, "clients": 9}, "two": {"active": False, "missing": []}}
    assert backup.choose(members, {}, backup.FULL).notes == ["one serves clients, and no other member is in step"]


def test_without_a_member_that_serves_there_is_no_backup() -> None:
    with pytest.raises(backup.BackupError, match=r"one: does not run\); next"):
        backup.choose({"one": {"active": False}}, {}, backup.FULL)


def test_lacking_programs_are_named() -> None:
    with pytest.raises(backup.BackupError, match="lacks age, zstd; next"):
        backup.choose({"one": {**MEMBER, "missing": ["age", "zstd"]}}, {}, backup.FULL)


def test_an_incremental_backup_needs_the_same_data_of_the_same_member() -> None:
    before = {FULL: manifest(FULL)}
    members = {"one": CLUSTERED, "two": {**CLUSTERED, "clients": 9}, "three": CLUSTERED}
    assert backup.choose(members, before, backup.INCREMENTAL) == backup.Choice("one", FULL, [])
    assert backup.choose(members, {}, backup.INCREMENTAL).notes == ["full, because there is none to build on"]
    for changed in ({"identity": "3:4"}, {"version": "11.9"}, {"clients": 20}, {"wsrep_local_state": "1"}):
        choice = backup.choose({**members, "one": {**CLUSTERED, **changed}}, before, backup.INCREMENTAL)
        assert choice.base == "" and choice.notes[0].startswith("full, because one"), changed


def names(*days: str) -> dict[str, dict[str, Any]]:
    """Return backups `1 f`, `2 i`: day of March and kind, an incremental one built on the one before."""
    found: dict[str, dict[str, Any]] = {}
    for one in days:
        day, kind = one.split()
        base = max(found) if kind == "i" else ""
        found[f"202603{int(day):02d}T000000Z-{'full' if kind == 'f' else 'incremental'}"] = {"base": base}
    return found


@pytest.mark.parametrize(
    ("days", "count", "age", "gone"),
    [
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 0, 0, []),
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 2, 0, ["02", "01"]),
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 1, 0, ["06", "05", "02", "01"]),
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 0, 15, ["02", "01"]),
        (("1 f", "2 i", "18 i", "9 f"), 0, 15, []),
        (("1 f", "2 i"), 1, 1, []),
    ],
)
def test_expired_backups_go_with_what_builds_on_them(
    days: tuple[str, ...], count: int, age: int, gone: list[str]
) -> None:
    some = names(*days)
    assert [name[6:8] for name in backup.expired(list(some), some, NOW, count, age)] == gone


def test_a_chain_with_a_gap_is_refused() -> None:
    with pytest.raises(backup.BackupError, match=f"builds on {NEXT}, which is not there"):
        backup.chain(AFTER, {FULL: manifest(FULL), AFTER: manifest(AFTER, NEXT)})


def test_the_newest_is_picked_unless_one_is_named() -> None:
    some = backup.Found({FULL: manifest(FULL), NEXT: manifest(NEXT, FULL)})
    assert backup.pick("", some) == NEXT and backup.pick(FULL, some) == FULL
    with pytest.raises(backup.BackupError, match="is no whole backup there"):
        backup.pick(AFTER, some)
    with pytest.raises(backup.BackupError, match="there is no whole backup"):
        backup.pick("", backup.Found({}))


def test_tables_that_differ_are_named() -> None:
    row = {"rows": 2, "checksum": "7", "moving": False}
    expected = {"a": row, "b": {**row, "moving": True}, "c": row, "d": {**row, "moving": True}}
    actual = {"a": {"rows": 2, "checksum": "8"}, "b": {"rows": 9, "checksum": "9"}, "c": row, "e": row}
    assert backup.differences(expected, actual) == [
        "d: is not there", "e: is there, and was not", "a: has 2 rows, not the 2 of the backup, or others",
    ]  # fmt: skip
    said = "2 tables are row by row what they were; 2 were written to meanwhile and are there: b, d"
    assert backup.compared(expected) == said


def test_another_release_and_services_that_nobody_deploys_are_refused() -> None:
    assert backup.not_fitting(manifest(FULL), "2026.1", {"nova": "other"}) == []
    assert "and brume_release is 2025.1" in backup.not_fitting(manifest(FULL), "2025.1", {"nova": ""})[0]
    assert "holds nova, which the inventory" in backup.not_fitting(manifest(FULL), "2026.1", {})[0]


def test_what_a_restore_means_is_told() -> None:
    whole = manifest(FULL, images={"one": ["x", "y"]}, configuration={"one": {"/etc/a": "1", "/etc/b": "2"}})
    plan = {"services": {"nova": "newer"}, "configuration": {"one": {"/etc/a": "1", "/etc/b": "3"}}}
    lines = backup.told([FULL], {FULL: whole}, backup.moment_of(FULL) + timedelta(hours=50), plan)
    assert "2 days and 2 hours ago" in lines[1]
    assert lines[3:] == [
        "files of Glance's store: 2",
        "nova: other packages than at the backup; its schema is brought up to date",
        "configured otherwise than at the backup, and it stays so: one:/etc/b",
    ]
    without = backup.told([FULL], {FULL: manifest(FULL, with_images=False)}, NOW, plan)
    assert "no files of Glance's store are in it" in without


def test_digests_of_configuration_cannot_be_guessed_without_the_key() -> None:
    assert backup.keyed_digest(KEY, "a") != backup.keyed_digest(OTHER, "a") and len(backup.keyed_digest(KEY, "a")) == 16


LOCAL = ["/bin/sh", "-c", backup_stream.shell()]


def test_a_backup_is_whole_only_with_its_manifest_and_deleted_ones_never_look_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store")
    backup_stream.ask(LOCAL, "store_begin", path=store, name=FULL)
    assert backup_stream.ask(LOCAL, "store_list", path=store)["partial"] == [f"{FULL}.partial"]
    backup_stream.ask(LOCAL, "store_commit", path=store, name=FULL, manifest="{}")
    said = backup_stream.ask(LOCAL, "store_list", path=store)
    assert said["manifests"] == {FULL: "{}"} and said["partial"] == [] and said["free"] > 0

    def killed(path: str) -> None:
        raise OSError("killed")

    monkeypatch.setattr(backup_host.shutil, "rmtree", killed)
    with pytest.raises(OSError, match="killed"):
        backup_host.store_delete(store, [FULL])
    monkeypatch.undo()
    assert backup_host.store_list(store)["partial"] == [f"{FULL}.partial"]
    backup_host.store_delete(store, [f"{FULL}.partial"])
    assert list(Path(store).iterdir()) == []


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert backup_host.store_list(str(tmp_path / "a/b"))["manifests"] == {}


@pytest.mark.skipif(shutil.which("age") is None, reason="lacks age")
def test_images_come_back_as_the_stores_owner_has_them(tmp_path: Path) -> None:
    store, images, other = tmp_path / "store", tmp_path / "images", tmp_path / "other"
    images.mkdir()
    other.mkdir()
    for name in ("one", "-two", "three"):
        (images / name).write_text(name * 1000)
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "0").touch()
    (keys / "12").touch()
    said = backup_stream.ask(LOCAL, "controller", images=str(images), keys=str(keys))
    assert said == {"images": {"one": 3000, "-two": 4000, "three": 5000}, "primary": 12}
    backup_stream.ask(LOCAL, "store_begin", path=str(store), name=FULL)
    packing = {"images": str(images), "names": ["one", "-two"], "recipient": age_keys.recipient("s")}
    where = {"path": str(store), "name": FULL, "file": "images-one"}
    _given, part = backup_stream.flow(
        backup_stream.Call(LOCAL, "images_pack", packing), backup_stream.Call(LOCAL, "store_put", where)
    )
    backup_stream.ask(LOCAL, "store_commit", path=str(store), name=FULL, manifest="{}")
    assert backup_stream.ask(LOCAL, "store_sum", **where) == part["sha256"]
    unpacking = {"images": str(other), "identity": age_keys.identity("s")}
    backup_stream.flow(
        backup_stream.Call(LOCAL, "store_get", where),
        backup_stream.Call(LOCAL, "images_unpack", unpacking),
        part["sha256"],
    )
    assert sorted(one.name for one in other.iterdir()) == ["-two", "one"]
    assert (other / "one").read_text() == "one" * 1000 and (other / "one").stat().st_mode & 0o777 == 0o640


def test_what_a_full_disk_says_is_told(tmp_path: Path) -> None:
    where = {"path": str(tmp_path), "name": FULL, "file": "database"}
    (tmp_path / f"{FULL}.partial").mkdir()
    (tmp_path / f"{FULL}.partial/database").symlink_to("/dev/full")
    source = backup_stream.Call(LOCAL, "store_get", {"path": "/usr/bin", "name": ".", "file": "python3"})
    with pytest.raises(backup_stream.StreamError, match=r"store_put: .*No space left"):
        backup_stream.flow(source, backup_stream.Call(LOCAL, "store_put", where))


def test_no_secret_is_in_a_command(tmp_path: Path) -> None:
    request = {"images": str(tmp_path), "identity": age_keys.identity("secret")}
    call = backup_stream.Call(LOCAL, "images_unpack", request)
    shown = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    call.stop()
    assert "json.loads(line)" in shown
    assert age_keys.identity("secret") not in shown


def test_nothing_is_stopped_before_a_backup_was_tried() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/restore.yml").read_text(encoding="utf-8"))
    order = [one["name"] for one in plays]
    assert order.index("Tell") < order.index("Preflight") < order.index("Try") < order.index("Stop")
    assert order.index("Stop") < order.index("Place") < order.index("Controllers") < order.index("Deploy")
    assert order.index("Deploy") < order.index("Images") < order.index("OVN")
