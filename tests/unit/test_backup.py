"""What is a backup, which one is made of which member, which ones go, and what restoring one means."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action import backup as action_backup
from ansible_collections.brume.cloud.plugins.module_utils import (
    age_keys,
    backup,
    backup_host,
    backup_stream,
    host_lock,
    sources,
)
from ansible_collections.brume.cloud.plugins.module_utils.description import Identity, Restore, Service

from .playbooks import ROOT, playbook
from .test_playbooks import KEY as MASTER_KEY

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no test wait for another's lock."""
    monkeypatch.setattr(host_lock, "FOLDER", str(tmp_path / "locks"))
    return tmp_path / "locks"


MEMBER = {"active": True, "version": "11.8", "identity": "1:2", "missing": [], "clients": 0}
CLUSTERED = {**MEMBER, "wsrep_cluster_size": "3", "wsrep_cluster_status": "Primary", "wsrep_local_state": "4"}
DONOR = {**CLUSTERED, "wsrep_local_state": "2"}
CUT_OFF = {**CLUSTERED, "wsrep_cluster_status": "non-Primary"}


def manifest(name: str, base: str = "", **more: Any) -> dict[str, Any]:
    return {
        "format": 1, "name": name, "base": base, "cloud": backup.cloud_mark(KEY), "region": "RegionOne",
        "release": "2026.1", "member": "one", "version": "11.8", "identity": "1:2", "to_lsn": 7, "tables": {},
        "unpacked": 0, "services": {"nova": "abc"}, "configuration": {}, "parts": [], "images": {}, "with_images": True,
        **more,
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
        ({"one": {**CLUSTERED, "clients": 9}, "two": CLUSTERED, "three": {**CLUSTERED, "clients": 5}}, "two"),
        ({"one": {**MEMBER, "wsrep_cluster_size": "0"}, "two": CLUSTERED}, "two"),
        ({"one": CLUSTERED, "two": {**MEMBER, "wsrep_cluster_size": "0"}}, "one"),
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


def test_a_new_machine_that_has_no_client_is_a_member_that_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = backup_host.member(str(tmp_path), [])
    assert said == {"active": False, "missing": list(backup_host.TOOLS)}
    assert backup.choose({"one": CLUSTERED, "two": said}, {}, backup.FULL).member == "one"


def test_an_incremental_backup_needs_the_same_data_of_the_same_member() -> None:
    before = {FULL: manifest(FULL)}
    members = {"one": CLUSTERED, "two": {**CLUSTERED, "clients": 9}, "three": CLUSTERED}
    assert backup.choose(members, before, backup.INCREMENTAL) == backup.Choice("one", FULL, [])
    assert backup.choose(members, {}, backup.INCREMENTAL).notes == ["full, because there is none to build on"]
    for changed in ({"identity": "3:4"}, {"version": "11.9"}, {"clients": 20}, {"wsrep_local_state": "1"}):
        choice = backup.choose({**members, "one": {**CLUSTERED, **changed}}, before, backup.INCREMENTAL)
        assert choice.base == "" and choice.notes[0].startswith("full, because one"), changed


def test_an_incremental_backup_does_not_build_on_a_chain_with_a_gap() -> None:
    before = {FULL: manifest(FULL), AFTER: manifest(AFTER, NEXT)}
    choice = backup.choose({"one": CLUSTERED}, before, backup.INCREMENTAL)
    assert choice == backup.Choice("one", "", [f"full, because {AFTER} needs {NEXT}, which is not there"])
    whole = {**before, NEXT: manifest(NEXT, FULL)}
    assert backup.choose({"one": CLUSTERED}, whole, backup.INCREMENTAL).base == AFTER


def names(*days: str) -> dict[str, dict[str, Any]]:
    """Return backups `1 f`, `2 i`: day of March and kind, an incremental one on the one before; `-`: no images."""
    found: dict[str, dict[str, Any]] = {}
    for one in days:
        day, kind = one.split()
        name = f"202603{int(day):02d}T000000Z-{'full' if kind[0] == 'f' else 'incremental'}"
        found[name] = {"base": max(found) if kind[0] == "i" else "", "with_images": "-" not in kind}
    return found


@pytest.mark.parametrize(
    ("days", "count", "age", "gone"),
    [
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 0, 0, []),
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 2, 0, ["02", "01"]),
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 1, 0, ["02", "01"]),
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 1, 1, ["02", "01"]),
        (("1 f", "2 i", "19 f"), 0, 1, []),
        (("1 f", "2 i", "5 f", "6 i", "9 f"), 0, 15, ["02", "01"]),
        (("1 f", "2 i", "18 i", "9 f"), 0, 15, []),
        (("1 f", "2 i"), 1, 1, []),
        (("1 f", "2 f", "3 i", "5 f-", "6 f-", "9 f-"), 1, 1, ["05", "01"]),
        (("1 f", "2 f-", "3 i", "5 f-", "6 f-"), 2, 0, ["01"]),
        (("1 f-", "2 f-", "3 f-"), 2, 0, ["01"]),
    ],
)
def test_expired_backups_go_with_what_builds_on_them(
    days: tuple[str, ...], count: int, age: int, gone: list[str]
) -> None:
    some = names(*days)
    assert [name[6:8] for name in backup.expired(list(some), some, NOW, count, age)] == gone


def test_what_builds_on_nothing_pushes_out_no_full_backup() -> None:
    some = names("1 f", "2 i", "3 f", "4 f", "5 i", "6 i", "7 f-", "8 f", "9 i")
    for lost in ("20260304T000000Z-full", "20260301T000000Z-full"):
        del some[lost]
    # Whole are those of the 3rd, 7th and 8th: 5 and 6 have lost the 4th, and 2 the 1st.
    for count, gone in ((4, []), (3, ["02"]), (2, ["06", "05", "03", "02"])):
        assert [name[6:8] for name in backup.expired(list(some), some, NOW, count, 0)] == gone
    some = names("1 f", "3 f", "4 f-", "5 f-", "6 i")
    del some["20260305T000000Z-full"]  # what lacks it has images that nobody can restore
    assert [name[6:8] for name in backup.expired(list(some), some, NOW, 1, 0)] == ["01"]


def test_a_backup_without_images_does_not_push_out_the_last_one_with_them(
    action: Callable[..., Action], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = names("1 f", "2 f-", "3 f-")
    made = {"name": "20260320T000000Z-full", "base": ""}
    for images, gone in ((False, ["02"]), (True, ["02", "01"])):
        one = action(backup.Found(some), {}, True, __backup_database={"made": made})
        one.piece.vault = SimpleNamespace(master_key=KEY)
        said = one._step_finish(images, 2, 0)["actions"]
        assert [line.split()[1][6:8] for line in said if "expired" in line] == gone


@pytest.mark.parametrize(
    ("served", "release"),
    [
        ([["2025.1"], []], "2025.1"),  # the first controller alone has records, and the upgrade has its backup first
        ([["2025.1", "2026.1"]], "2026.1"),
        ([[], []], "2026.1"),
    ],
)
def test_a_backup_is_of_the_release_that_its_schemas_serve(served: list[list[str]], release: str) -> None:
    assert backup.release_of(served, "2026.1") == release


def test_a_clock_that_goes_back_makes_no_backup_before_those_that_it_builds_on() -> None:
    later = backup.moment_of(NEXT)
    assert backup.name_of(later, backup.INCREMENTAL, "") == backup.name_of(later, backup.INCREMENTAL, FULL) == NEXT
    for last in (NEXT, AFTER):
        with pytest.raises(backup.BackupError, match=f"^{last}: is of a time that .* 2026-03-02 00:00:00 UTC; next"):
            backup.name_of(later + timedelta(seconds=0.5), backup.INCREMENTAL, last)


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
    whole = manifest(FULL, images={"one": {"x": 1, "y": 2}}, configuration={"one": {"/etc/a": "1", "/etc/b": "2"}})
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
    more = manifest(NEXT, FULL, with_images=False)
    lines = backup.told([FULL, NEXT], {FULL: whole, NEXT: more}, NOW, plan)
    assert f"files of Glance's store: 2, as of {FULL}; later ones are in no backup" in lines


def test_of_a_file_that_grew_the_last_backup_has_it() -> None:
    first = manifest(FULL, images={"one": {"x": 1, "y": 2}, "two": {"z": 3}})
    later = manifest(NEXT, FULL, images={"one": {"y": 20}})
    assert backup.images_of([FULL, NEXT], {FULL: first, NEXT: later}) == {
        "one": {"x": (FULL, 1), "y": (NEXT, 20)}, "two": {"z": (FULL, 3)},
    }  # fmt: skip


def test_digests_of_configuration_cannot_be_guessed_without_the_key() -> None:
    assert backup.keyed_digest(KEY, "a") != backup.keyed_digest(OTHER, "a") and len(backup.keyed_digest(KEY, "a")) == 16


LOCAL = ["/bin/sh", "-c", backup_stream.shell()]


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
    records = tmp_path / "records"
    records.mkdir()
    (records / "nova.json").write_text('{"releases": ["2025.1", "2026.1"]}', "utf-8")
    (records / "glance.json").write_text('{"digest": "abc"}', "utf-8")
    said = backup_stream.ask(LOCAL, "controller", keys=str(keys), records=str(records))
    assert said == {"primary": 12, "releases": ["2025.1", "2026.1"]}
    said = backup_stream.ask(LOCAL, "controller", keys=str(keys), records=str(tmp_path / "none"))
    assert said == {"primary": 12, "releases": []}
    listed_now = backup_stream.ask(LOCAL, "images_list", images=str(images))
    assert listed_now == {"one": 3000, "-two": 4000, "three": 5000}
    backup_stream.ask(LOCAL, "store_begin", path=str(store), name=FULL)
    packing = {"images": str(images), "names": ["one", "gone", "-two"], "recipient": age_keys.recipient("s")}
    where = {"path": str(store), "name": FULL, "file": "images-one"}
    packed, part = backup_stream.flow(
        backup_stream.Call(LOCAL, "images_pack", packing), backup_stream.Call(LOCAL, "store_put", where)
    )
    assert packed == {"one": 3000, "-two": 4000}
    backup_stream.ask(LOCAL, "store_commit", path=str(store), name=FULL, manifest="{}")
    assert backup_stream.ask(LOCAL, "store_sum", **where) == part["sha256"]
    (other / "-two").write_text("-two" * 1000)
    served = (other / "-two").stat()
    sizes = {"one": 3000, "-two": 4000, "gone": 7}
    unpacking = {
        "images": str(other), "identity": age_keys.identity("s"), "sizes": sizes, "sha256": part["sha256"]
    }  # fmt: skip
    _given, lacking = backup_stream.flow(
        backup_stream.Call(LOCAL, "store_get", where), backup_stream.Call(LOCAL, "images_unpack", unpacking)
    )
    assert lacking == ["gone"]
    assert (other / "-two").stat() == served, "what Glance serves was replaced"
    assert sorted(one.name for one in other.iterdir()) == ["-two", "one"]
    assert (other / "one").read_text() == "one" * 1000 and (other / "one").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(shutil.which("age") is None, reason="lacks age")
def test_an_archive_that_anybody_could_encrypt_is_not_put_in_place(tmp_path: Path) -> None:
    """Also where its host sees no more than the end of what comes, as after a run that was killed."""
    images, other = tmp_path / "images", tmp_path / "other"
    images.mkdir()
    other.mkdir()
    (images / "image").write_text("changed")
    packing = {"images": str(images), "names": ["image"], "recipient": age_keys.recipient("s")}
    call = backup_stream.Call(LOCAL, "images_pack", packing)
    archive = call.output.read()
    call.end()
    unpacking = {"images": str(other), "identity": age_keys.identity("s"), "sizes": {"image": 7}}
    right = hashlib.sha256(archive).hexdigest()
    for sha256, there in (("0" * 64, []), (right, ["image"])):
        call = backup_stream.Call(LOCAL, "images_unpack", {**unpacking, "sha256": sha256})
        call.input.write(archive)
        if there:
            assert call.end() == []
        else:
            with pytest.raises(backup_stream.StreamError, match=r"images_unpack: .*its SHA-256 is another"):
                call.end()
        assert [one.name for one in other.iterdir()] == there


def without_age(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = "exec cat") -> None:
    """Put a program in the place of age that hands on what comes."""
    (folder / "bin").mkdir()
    (folder / "bin/age").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin/age").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")


def archived(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, text in content.items():
            one = tarfile.TarInfo(name)
            one.size = len(text)
            archive.addfile(one, io.BytesIO(text))
    return stream.getvalue()


def unpack(folder: Path, archive: bytes, sizes: dict[str, int]) -> Any:
    """Unpack images in this process, from standard input as a run gives it."""
    with (folder / "archive").open("w+b") as stream, pytest.MonkeyPatch.context() as patch:
        stream.write(archive)
        stream.flush()
        stream.seek(0)
        real = os.read
        patch.setattr(backup_host.os, "read", lambda fd, size: real(stream.fileno() if fd == 0 else fd, size))
        digest = hashlib.sha256(archive).hexdigest()
        return backup_host.images_unpack(str(folder / "images"), "", digest, sizes)


def test_of_an_archive_of_images_only_what_lacks_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_age(tmp_path, monkeypatch)
    images = tmp_path / "images"
    images.mkdir()
    (images / "there").write_bytes(b"served")
    written: list[str] = []
    real = backup_host.images_list

    def listed_images(folder: str) -> dict[str, int]:
        written.extend(one.name for one in Path(folder).iterdir() if folder.endswith(".brume-restore"))
        return real(folder)

    monkeypatch.setattr(backup_host, "images_list", listed_images)
    content = {"there": b"backup", "-big": bytes(3 << 20), "unwanted": bytes(100), "../out": b"x", "grew": b"1234"}
    sizes = {"there": 6, "-big": 3 << 20, "gone": 1, "grew": 5}
    assert unpack(tmp_path, archived(content), sizes) == ["gone", "grew"]
    assert written == ["-big"]
    assert {one.name: one.stat().st_size for one in images.iterdir()} == {"there": 6, "-big": 3 << 20}
    assert (images / "there").read_bytes() == b"served" and (images / "-big").stat().st_mode & 0o777 == 0o640


def test_images_without_room_for_them_are_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_age(tmp_path, monkeypatch)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/there").write_bytes(bytes(9 << 20))
    monkeypatch.setattr(backup_host, "room", lambda folder: 5 << 20)
    sizes = {"there": 9 << 20, "one": 3 << 20, "two": 3 << 20}
    with pytest.raises(backup_host.Failure, match=r"images: 2 files take 6 MiB there, and 5 MiB are free\n  next: "):
        unpack(tmp_path, b"", sizes)
    assert [one.name for one in (tmp_path / "images").iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("script", "cut", "expected"),
    [("exec cat", 1000, "is no whole archive"), ("exit 3", 0, "age: exit code 3"),
     ("exec cat", 0, "No space left on device")],
)  # fmt: skip
def test_why_images_cannot_be_unpacked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, cut: int, expected: str
) -> None:
    without_age(tmp_path, monkeypatch, script)
    (tmp_path / "images").mkdir()
    if "space" in expected:
        full = lambda *_args: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # noqa: E731
        monkeypatch.setattr(backup_host.shutil, "copyfileobj", full)
    archive = archived({"one": bytes(3 << 20)})
    with pytest.raises((backup_host.Failure, OSError), match=expected):
        unpack(tmp_path, archive[:cut] if cut else archive, {"one": 3 << 20})
    assert list((tmp_path / "images").iterdir()) == []


def test_what_a_host_says_to_do_is_the_only_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Action(backup.Found({FULL: manifest(FULL, parts=[{"file": "a", "sha256": ""}])}), {}, **TOLD)
    monkeypatch.setattr(backup_stream, "Call", lambda *_args: None)
    for said, expected in (("it is spoiled", "use another backup"), ("no room\n  next: make room", "make room")):
        monkeypatch.setattr(backup_stream, "flow", MagicMock(side_effect=backup_stream.StreamError(said)))
        with pytest.raises(backup.BackupError) as caught:
            action_backup.ActionModule._get(one, FULL, "a", [], "images_unpack", {})
        assert str(caught.value).split("\n  next: ")[1:] == [expected]


def test_what_a_full_disk_says_is_told(tmp_path: Path) -> None:
    where = {"path": str(tmp_path), "name": FULL, "file": "database"}
    (tmp_path / f"{FULL}.partial").mkdir()
    (tmp_path / f"{FULL}.partial/database").symlink_to("/dev/full")
    source = backup_stream.Call(LOCAL, "store_get", {"path": "/usr/bin", "name": ".", "file": "python3"})
    with pytest.raises(backup_stream.StreamError, match=r"store_put: .*No space left"):
        backup_stream.flow(source, backup_stream.Call(LOCAL, "store_put", where))


@pytest.mark.skipif(shutil.which("age") is None, reason="lacks age")
def test_no_secret_is_in_a_command(tmp_path: Path) -> None:
    request = {"images": str(tmp_path), "identity": age_keys.identity("secret"), "sha256": "", "sizes": {}}
    call = backup_stream.Call(LOCAL, "images_unpack", request)
    shown, end = "", time.monotonic() + 30
    while "age --decrypt" not in shown and time.monotonic() < end:
        shown = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    call.stop()
    assert "json.loads(line)" in shown and "age --decrypt" in shown
    assert age_keys.identity("secret") not in shown


def test_nothing_is_stopped_before_a_backup_was_tried() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/restore.yml").read_text(encoding="utf-8"))
    order = [one["name"] for one in plays]
    assert order.index("Tell") < order.index("Preflight") < order.index("Try") < order.index("Stop")
    assert order.index("Stop") < order.index("Place") < order.index("Controllers") < order.index("Deploy")
    assert order.index("Try") < order.index("Identities") < order.index("Deploy")
    assert order.index("Deploy") < order.index("Images") < order.index("Let the services finish it")


@pytest.mark.parametrize("name", ["restore", "backup"])
def test_a_limit_is_refused_wherever_it_leads(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    hosts = {one: {"hosts": {one: {"brume_addresses": {"management": f"192.0.2.{last}"}}}} for one, last in (
        ("first", 11), ("second", 12)
    )}  # fmt: skip
    groups = dict.fromkeys(("control", "network", "compute", "loadbalancer", "messaging"), hosts["second"])
    (folder / "hosts.yml").write_text(yaml.safe_dump({**groups, "database": hosts["first"]}))
    networks = {"management": {"cidr": "192.0.2.0/24", "interface": "nowhere1"}}
    networks["external"] = {"cidr": "198.51.100.0/24", "interface": "nowhere0"}
    variables = {"ansible_connection": "local", "brume_networks": networks, "brume_master_key": MASTER_KEY}
    (folder / "group_vars/all.yml").write_text(yaml.safe_dump(variables))
    done = playbook(folder, f"{name}.yml", "--check", "--limit", "second", "-e", f"backup_path={tmp_path}/backups")
    assert f"is not for {name}.yml" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("TASK [") == 1


def test_what_stops_the_cloud_refuses_limits_itself() -> None:
    """Each play that hosts are left in says so itself, because the one before may have had none."""
    plays = yaml.safe_load((ROOT / "playbooks/restore.yml").read_text(encoding="utf-8"))
    stop = next(one for one in plays if one["name"] == "Stop")["tasks"]
    assert "brume.cloud.all_hosts" in stop[0]
    assert stop[1]["brume.cloud.backup"] == {"step": "confirmed"}


NODE = Identity("compute", "/var/lib/nova/compute_id", "compute_nodes", "host", "uuid")
DESCRIBED = {
    "base": Service("base", "core", "file"),
    "nova": Service("nova", "core", "file", restore=Restore(("instances",), (NODE,))),
}
RUN = [
    SimpleNamespace(service=service, component=component, unit=f"{service}-{component}.service")
    for service, component in (("base", "api"), ("nova", "api"), ("nova", "compute"))
]


class Action(action_backup.ActionModule):
    """The action on the host `one`, which is all groups, without Ansible; `asked` is what hosts were asked to do."""

    def __init__(self, found: backup.Found, answers: dict[str, Any], check: bool = False, **said: Any) -> None:
        """Answer hosts' requests with what is given, or what it returns."""
        names = ("base", "nova_api", "nova_cell1")
        databases = [SimpleNamespace(service=name.partition("_")[0], name=name) for name in names]
        members = {"database": [("one", "")], "control": [("one", "")]}
        cloud = SimpleNamespace(members=members, databases=databases)
        self.piece: Any = SimpleNamespace(
            host=SimpleNamespace(name="one", instances=RUN),
            plan=SimpleNamespace(hosts={"one": None}, cloud=cloud, services=["base", "nova"]),
            sources=SimpleNamespace(services=DESCRIBED),
        )
        self.known = {"hostvars": {"one": said}}
        self._task: Any = SimpleNamespace(check_mode=check, delegate_to=None)
        self.told: list[str] = []
        self._display: Any = SimpleNamespace(warning=self.told.append, display=self.told.append)
        self.found, self.answers, self.asked = found, answers, list[Any]()

    def _found(self) -> backup.Found:
        return self.found

    def _argv(self) -> list[str]:
        return []

    def _recipient(self) -> str:
        return ""

    _identity = _recipient

    def ask(self, _argv: Any, do: str, **request: Any) -> Any:
        """Answer as a host."""
        self.asked.append((do, request))
        answer = self.answers.get(do)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _get(self, name: str, file: str, argv: list[str], do: str, request: Any) -> Any:
        return self.ask(argv, do, at=name, **request)

    def _put(self, name: str, file: str, do: str, request: Any) -> Any:
        return self.ask([], do, **request), {"file": file}

    def steps(self) -> list[str]:
        """Return the names of requests."""
        return [do for do, _request in self.asked]


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Action]:
    def make(*args: Any, **more: Any) -> Action:
        one = Action(*args, **more)
        monkeypatch.setattr(backup_stream, "ask", one.ask)
        return one

    return make


STORE = {"argv": [], "where": {"path": "/store", "login": ""}}
TOLD = {"__backup_told": {"name": FULL}, "__backup_store": {"store": STORE}}


def test_what_was_registered_is_looked_up_on_few_hosts(action: Callable[..., Action]) -> None:
    looked: list[str] = []

    class Hostvars(dict[str, Any]):
        def __getitem__(self, host: str) -> Any:
            looked.append(host)
            return super().__getitem__(host)

    one = action(backup.Found({}), {})
    groups = {"database": ["a", "b", "c"], "control": ["d", "e"], "compute": [f"n{number}" for number in range(1600)]}
    hosts = [host for group in groups.values() for host in group]
    said: dict[str, dict[str, Any]] = {host: {} for host in hosts}
    said["a"] = {"__backup_tried": {"skipped": True}, **TOLD}
    said["b"] = {"__backup_tried": {"identities": {"file": {}}}}
    said["e"] = {"__backup_images": {"part": None}}
    one.piece.plan.hosts = dict.fromkeys(hosts)
    one.piece.plan.cloud.members = {group: [(host, "") for host in some] for group, some in groups.items()}
    one.known = {"hostvars": Hostvars(said)}
    assert one._any("__backup_tried", "identities") == {"file": {}} and looked == ["a", "b"]
    assert one._said("__backup_images") == {"e": {"part": None}} and looked == ["a", "b", "d", "e"]
    assert one._told() == {"name": FULL} and looked[4:] == ["a"]


def test_what_is_registered_is_registered_by_hosts_of_its_group() -> None:
    found: dict[str, set[str]] = {}
    for name in ("backup", "restore"):
        for play in yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text(encoding="utf-8")):
            for task in play.get("tasks", ()):
                if str(task.get("register")).startswith("__backup_"):
                    found.setdefault(task["register"], set()).add(play["hosts"].partition("[")[0])
    assert found == {name: {group} for name, group in action_backup.REGISTERED.items()}


def test_a_controller_forgets_nothing_that_was_not_confirmed(action: Callable[..., Action]) -> None:
    one = action(backup.Found({FULL: manifest(FULL, fernet_primary=3)}), {})
    for step in (one._step_forget, one._step_confirmed, one._step_place):
        with pytest.raises(backup.BackupError, match="an earlier play was left out"):
            step()
    assert one.asked == []


def test_a_controller_forgets_all_that_phases_would_not_do_again(action: Callable[..., Action]) -> None:
    one = action(backup.Found({FULL: manifest(FULL, fernet_primary=3)}), {}, **TOLD)
    assert one._step_forget()["fernet_primary"] == 3
    # The administrator's password of the backup may be one from before a rotation.
    records = {"keystone-bootstrap.json", "keystone-passwords.json", "schema"}
    assert one.asked == [("remove", {"paths": one.asked[0][1]["paths"]})]
    assert set(one.asked[0][1]["paths"]) == {f"/var/lib/brume/{name}" for name in records}


def test_images_are_listed_when_they_are_backed_up_and_what_grew_is_new(action: Callable[..., Action]) -> None:
    found = backup.Found({FULL: manifest(FULL, images={"one": {"same": 1, "half": 2}, "two": {"other": 5}})})
    answers = {"images_list": {"same": 1, "half": 4, "other": 5, "gone": 9}, "images_pack": {"half": 4, "other": 5}}
    made = {"__backup_database": {"made": {"name": NEXT, "base": FULL}}}
    one = action(found, answers, **made)
    assert one._step_images()["new"] == {"half": 4, "other": 5}, "not what was packed"
    assert one.asked[1][1]["names"] == ["gone", "half", "other"]


def test_room_is_asked_for_before_anything_is_unpacked(action: Callable[..., Action]) -> None:
    found = backup.Found({FULL: manifest(FULL, unpacked=1000 << 20), NEXT: manifest(NEXT, FULL, unpacked=100 << 20)})
    for check in (True, False):
        one = action(found, {"room": 1400 << 20}, check, **{**TOLD, "__backup_told": {"name": NEXT}})
        with pytest.raises(backup.BackupError, match=r"takes 1466 MiB there, and 1400 MiB are free"):
            one._step_try(keep=True)
        assert one.steps() == ["room"] if check else ["remove", "room"]


@pytest.mark.parametrize("right", [True, False])
def test_a_database_gets_its_name_when_its_digest_is_known(
    right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With programs in the place of age, zstd and mbstream that hand on and unpack what comes."""
    into = 'exec cat >"${2#--directory=}/ibdata1"'
    for name, line in (("age", "exec cat"), ("zstd", "exec cat"), ("mbstream", into)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    work, content = tmp_path / "work", b"x" * 100_000
    (work / FULL).mkdir(parents=True)
    (work / FULL / "of an earlier run").touch()
    sha256 = hashlib.sha256(content if right else b"other").hexdigest()
    request = {"folder": str(work), "name": FULL, "identity": "", "sha256": sha256}
    call = backup_stream.Call(LOCAL, "database_unpack", request)
    call.input.write(content)
    call.input.flush()
    unpacked = work / f"{FULL}.partial/ibdata1"
    end = time.monotonic() + 20
    while time.monotonic() < end and not (unpacked.exists() and unpacked.stat().st_size):
        time.sleep(0.05)
    assert [one.name for one in work.iterdir()] == [f"{FULL}.partial"], "it is unpacked, and not in its place"
    if right:
        call.end()
        assert [str(one.relative_to(work)) for one in work.rglob("*")] == [FULL, f"{FULL}/ibdata1"]
    else:
        with pytest.raises(backup_stream.StreamError, match=r"database_unpack: .*its SHA-256 is another"):
            call.end()
        assert list(work.iterdir()) == []


@pytest.mark.parametrize("keep", [True, False])
def test_a_database_with_another_digest_is_neither_started_nor_kept(
    action: Callable[..., Action], odd: backup.Found, keep: bool
) -> None:
    one = action(odd, {"room": 1 << 40, "database_unpack": backup.BackupError("another")}, **TOLD)
    with pytest.raises(backup.BackupError, match="another"):
        one._step_try(FULL, keep=keep)
    assert one.steps() == ["remove", "room", "database_unpack", "remove"]


ROW = {"rows": 2, "checksum": "7", "moving": False}


@pytest.fixture
def odd() -> backup.Found:
    """Return a full backup with a file of images, of which a table has another checksum than the trial's."""
    part = {"file": "images-one", "sha256": "right"}
    return backup.Found({FULL: manifest(FULL, tables={"a": ROW}, parts=[part], images={"one": {"x": 1, "y": 2}})})


def trial(checksum: str, sha256: Any = "right") -> dict[str, Any]:
    tried = {"tables": {"a": {**ROW, "checksum": checksum}}, "identities": {}}
    return {"room": 1 << 40, "database_try": tried, "store_sum": sha256}


def test_differences_of_tables_can_be_accepted_by_name(action: Callable[..., Action], odd: backup.Found) -> None:
    for accept in ("", NEXT):
        one = action(odd, trial("8"), **TOLD)
        with pytest.raises(backup.BackupError, match=f"-e restore_accept_differences={FULL}"):
            one._step_try(keep=True, accept=accept)
    one = action(odd, trial("8"), **TOLD)
    assert one._step_try(keep=True, accept=FULL)["changed"]
    assert one.told == [f"{FULL}: a: has 2 rows, not the 2 of the backup, or others; accepted"]
    assert one.steps()[-1] != "remove", "the data is to be put in place"
    with pytest.raises(backup.BackupError, match="make a full backup now"):
        action(odd, trial("8"), **TOLD)._step_try(accept=FULL)


@pytest.mark.parametrize("sha256", ["wrong", backup_stream.StreamError("store_sum: No such file")])
def test_spoiled_images_are_told_and_fail_tests_alone(
    action: Callable[..., Action], odd: backup.Found, sha256: Any
) -> None:
    dry = action(odd, trial("7"), True, **TOLD)._step_try(keep=True)
    one = action(odd, trial("7", sha256), **TOLD)
    assert one._step_try(keep=True) == {**dry, "identities": {}}
    (wish,) = [request for do, request in one.asked if do == "database_try"]
    tables = ["nova_api.compute_nodes", "nova_cell1.compute_nodes"]
    assert (wish["ahead"], wish["identities"]) == (
        ["nova_api.instances", "nova_cell1.instances"],
        [{"file": NODE.file, "tables": tables, "host": "host", "identity": "uuid"}],
    )
    assert one.told[0].startswith(f"{FULL}/images-one: ") and one.told[0].endswith("; its images will be lacking")
    with pytest.raises(backup.BackupError, match=f"{FULL}/images-one: "):
        action(odd, trial("7", sha256), **TOLD)._step_try()


@pytest.mark.parametrize(
    ("there", "nodes", "written", "told"),
    [("", {"one": "a"}, ["a"], 0), ("", {"two": "a"}, [], 0), ("a", {"one": "a"}, [], 0), ("b", {"one": "a"}, [], 1),
     ("b", {}, [], 0)],
)  # fmt: skip
def test_bare_hosts_get_the_identities_that_services_know(
    action: Callable[..., Action], there: str, nodes: dict[str, str], written: list[str], told: int
) -> None:
    none = backup.Found({})
    one = action(none, {"identity_read": there}, __backup_tried={"identities": {NODE.file: nodes}})
    said = one._step_identify()
    asked = [(request["file"], request["identity"]) for do, request in one.asked if do == "identity_write"]
    assert asked == [(NODE.file, identity) for identity in written]
    assert one.steps()[0] == "identity_read" and one.steps().count("identity_read") == 1, "of one component alone"
    assert len(one.told) == told and bool(said.get("changed")) == bool(written)
    assert not told or one.told[0].endswith(f"write the former into {NODE.file} and restart nova-compute.service there")
    if there or written:
        dry = action(none, {"identity_read": there}, True)
        assert dry._step_identify() == said and dry.steps() == ["identity_read"]


def test_what_a_restore_does_for_services_is_in_their_descriptions() -> None:
    services = [name for name, one in sources.load().services.items() if one.wave != "infrastructure"]
    assert "keystone" in services
    text = Path(str(backup_host.__file__)).read_text(encoding="utf-8").lower()
    assert not [name for name in services if name in text]
    assert "nova" not in Path(str(action_backup.__file__)).read_text(encoding="utf-8").lower()
    restore = sources.load().services["nova"].restore
    assert restore == Restore(("instances",), (NODE,))


def test_an_identity_is_what_its_component_would_read(tmp_path: Path) -> None:
    file = tmp_path / "nova/compute_id"
    assert backup_stream.ask(LOCAL, "identity_read", file=str(file)) == ""
    backup_stream.ask(LOCAL, "identity_write", file=str(file), identity="4ce2e5a2-0d5b-4b0f-8d0c-5e1a4f1f7c11")
    assert backup_stream.ask(LOCAL, "identity_read", file=str(file)) == "4ce2e5a2-0d5b-4b0f-8d0c-5e1a4f1f7c11"
    assert len(file.read_text(encoding="ascii")) == 36 and file.stat().st_mode & 0o777 == 0o644


def test_images_come_from_the_backup_that_has_them_last_and_what_lacks_is_told(action: Callable[..., Action]) -> None:
    first = manifest(FULL, images={"one": {"kept": 1, "grew": 2}, "gone": {"far": 3}})
    found = backup.Found({FULL: first, NEXT: manifest(NEXT, FULL, images={"one": {"grew": 20}})})
    said = {**TOLD, "__backup_told": {"name": NEXT}}
    one = action(found, {"images_list": {"kept": 1}, "images_unpack": []}, **said)
    assert one._step_unpack()["lacking"] == []
    assert [(given["at"], given["sizes"]) for do, given in one.asked if do == "images_unpack"] == [
        (NEXT, {"grew": 20}), (FULL, {"far": 3}),
    ]  # fmt: skip
    there = {"kept": 1, "grew": 20, "far": 3}
    assert action(found, {"images_list": there}, True, **said)._step_unpack()["changed"] is False
    one = action(found, {"images_list": there | {"far": 2}, "images_unpack": backup.BackupError("spoiled")}, **said)
    assert one._step_unpack()["lacking"] == ["far"]
    assert one.told == ["spoiled", "one: 1 files are not put into Glance's store: far"]


@pytest.mark.skipif(shutil.which("age") is None, reason="lacks age")
def test_a_file_that_is_written_to_while_it_is_packed_is_left_to_the_next_backup(tmp_path: Path) -> None:
    (tmp_path / "grows").write_bytes(bytes(30 << 20))
    (tmp_path / "whole").write_text("whole")
    request = {"images": str(tmp_path), "names": ["grows", "whole"], "recipient": age_keys.recipient("s")}
    call = backup_stream.Call(LOCAL, "images_pack", request)
    output = call.output
    # More than the header, which age writes before it has read anything: the file's size was taken. Pipes and buffers
    # hold far less than the rest, so that packing waits here.
    assert len(output.read(1 << 20)) == 1 << 20
    with (tmp_path / "grows").open("ab") as stream:
        stream.write(b"more")
    output.read()
    assert call.end() == {"whole": 5}


@pytest.mark.skipif(shutil.which("age") is None, reason="lacks age")
def test_what_changes_a_host_holds_its_lock_and_waits_for_who_has_it(
    tmp_path: Path, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image").write_bytes(bytes(30 << 20))
    packing = {"images": str(tmp_path), "names": ["image"], "recipient": age_keys.recipient("s")}
    call = backup_stream.Call(LOCAL, "images_pack", packing)
    output = call.output
    assert output.read(100)
    started = time.monotonic()
    holder = host_lock.take(str(locks), {"module": "another"}, 0.0)
    assert holder is not None and holder["module"] == "backup images_pack" and holder["pid"], holder
    assert backup_stream.ask(LOCAL, "images_list", images=str(tmp_path))["image"] == 30 << 20  # what reads waits not
    child = Path(f"/proc/{holder['pid']}/task/{holder['pid']}/children").read_text(encoding="utf-8").split()[0]
    opened = [os.readlink(one) for one in Path(f"/proc/{child}/fd").iterdir()]
    assert str(locks / host_lock.WORK) in opened, "a command that outlives a killed run does not hold the lock"
    output.read()
    call.end()
    assert host_lock.take(str(locks), {"module": "another"}, 5.0) is None
    host_lock.release()
    assert time.monotonic() - started < host_lock.WAIT
