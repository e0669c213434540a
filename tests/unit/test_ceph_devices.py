"""What is done with a device of a Ceph host, by what is on it and what is known of it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.block_devices import DeviceError, Reading
from ansible_collections.brume.cloud.plugins.module_utils.ceph_devices import (
    Found,
    Known,
    Label,
    State,
    decide,
    parse_label,
)

FSID, OTHER = "f" * 8, "0" * 8
EMPTY = Found(Reading("b", "/dev/b", number="8:16"))
OURS = Found(Reading("b", "/dev/b", number="8:16", zeroed=False), Label(FSID, "uuid-3", 3, ready=True))
BROKEN = Found(Reading("b", "/dev/b", exists=False))
XFS = Found(Reading("b", "/dev/b", number="8:16", signature=(("TYPE", "xfs"),), zeroed=False))
HALF = Found(Reading("b", "/dev/b", number="8:16", zeroed=False), Label("", "uuid-3", -1))
FOREIGN = Found(Reading("b", "/dev/b", number="8:16", zeroed=False), Label(OTHER, "uuid-9", 9, ready=True))
DONE = {"b": Known("uuid-3", 3, done=True)}
BEGUN = {"b": Known("uuid-3", 3)}


UP, OUT, IDLE = State(3, up=True), State(3, up=True, weight_in=False), State(3, False, False, safe_to_destroy=True)


def steps(found: Found | None, known: dict[str, Known] | None = None, **more: Any) -> list[str]:
    options: dict[str, Any] = {"states": {"uuid-3": UP}, "running": [], "fsid": FSID, **more}
    return [str(step) for step in decide([found] if found else [], known or {}, **options).steps]


MAKE, START = ["make an OSD of /dev/b (b)"], ["start osd.3 on /dev/b (b)"]
OTHER_NAME = {"c": Known("uuid-3", 3, done=True)}
UNREADABLE = Found(OURS.reading, Label(error="no label"))
UNREAD = Found(OURS.reading, Label(unread=True))
BACK = {"b": Known("uuid-3", 3, done=True, emptied=True)}


@pytest.mark.parametrize(
    ("found", "known", "more", "wanted"),
    [
        (EMPTY, {}, {}, MAKE),
        (EMPTY, {}, {"states": None}, MAKE),
        (EMPTY, BEGUN, {}, MAKE),
        (HALF, BEGUN, {}, MAKE),
        (UNREADABLE, BEGUN, {}, MAKE),
        (XFS, {}, {"expendable": ["b"]}, MAKE),
        (FOREIGN, {}, {"expendable": ["b"]}, MAKE),
        (OURS, DONE, {"running": [3]}, []),
        (OURS, DONE, {}, START),
        (OURS, {}, {}, START),
        (OURS, {}, {"running": [3]}, ["note that osd.3 is on /dev/b (b)"]),
        (OURS, BACK, {"running": [3]}, ["let osd.3 (b) hold data again"]),
        (UNREAD, {}, {"states": None}, []),
        (EMPTY, DONE, {"replaced": ["b"]}, ["make osd.3 anew on /dev/b (b)"]),
        (EMPTY, DONE, {"replaced": ["b"], "states": {"uuid-3": State(7)}}, ["make osd.7 anew on /dev/b (b)"]),
        (EMPTY, DONE, {"replaced": ["b"], "states": {"uuid-9": State(3)}}, MAKE),
        (XFS, DONE, {"replaced": ["b"], "expendable": ["b"]}, ["make osd.3 anew on /dev/b (b)"]),
        (BROKEN, DONE, {}, []),
        (None, DONE, {}, ["take all data off osd.3 (b)"]),
        (None, DONE, {"states": {"uuid-3": OUT}}, []),
        (None, DONE, {"states": {"uuid-3": IDLE}}, ["remove osd.3 (b)"]),
        (None, DONE, {"states": {"uuid-3": State(4, False, False, True)}}, ["remove osd.4 (b)"]),
        # The number is another one's now.
        (None, DONE, {"states": {"uuid-9": IDLE}}, ["forget that osd.3 was b"]),
        (None, DONE, {"states": None}, []),
        # The device has another name: nothing is taken off it.
        (OURS, OTHER_NAME, {"running": [3]}, ["note that osd.3 is on /dev/b (b)", "forget that osd.3 was c"]),
    ],
)
def test_steps(found: Found | None, known: dict[str, Known], more: dict[str, Any], wanted: list[str]) -> None:
    assert steps(found, known, **more) == wanted


@pytest.mark.parametrize(
    ("found", "known", "more", "words"),
    [
        (XFS, {}, {}, "holds xfs; name it in ceph_format"),
        (FOREIGN, {}, {}, f"holds an OSD of the cluster {OTHER}; name it in ceph_format"),
        (HALF, {}, {}, "holds an unfinished OSD; name it in ceph_format"),
        (UNREADABLE, {}, {"expendable": ["b"]}, "holds an OSD whose label cannot be read (no label); wipe it"),
        (OURS, {}, {"states": {}}, "holds osd.3, which was removed from the cluster; wipe it"),
        (BROKEN, {}, {}, "there is no block device; correct ceph_devices"),
        (EMPTY, DONE, {}, "is empty, and osd.3 was on it; name it in ceph_replace"),
        (XFS, DONE, {"replaced": ["b"]}, "holds xfs; name it in ceph_format too"),
        (OURS, {"b": Known("uuid-4", 4, done=True)}, {}, "holds osd.3, and osd.4 was here"),
        (Found(Reading("b", "/dev/b", mounted_at=("/srv",))), {}, {"expendable": ["b"]}, "is in use (/srv)"),
        (Found(Reading("b", "/dev/b", users=("sdb1",))), {}, {"expendable": ["b"]}, "is in use (sdb1)"),
    ],
)
def test_refusals(found: Found, known: dict[str, Known], more: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError) as caught:
        steps(found, known, **more)
    assert words in str(caught.value)
    assert "/dev/b (b)" in str(caught.value)


def test_all_refusals_come_at_once_and_a_device_counts_once() -> None:
    second = Found(Reading("c", "/dev/disk/b", number="8:16"))
    third = Found(Reading("d", "/dev/d", number="8:32", signature=(("TYPE", "ext4"),)))
    with pytest.raises(DeviceError) as caught:
        decide([EMPTY, second, third], {}, {}, [], FSID)
    assert str(caught.value).splitlines() == [
        "/dev/disk/b (c): is /dev/b (b); name it once",
        "/dev/d (d): holds ext4; name it in ceph_format if that may be lost",
    ]


def test_a_broken_disk_is_named() -> None:
    (warning,) = decide([BROKEN], DONE, {}, [], FSID).warnings
    assert "of osd.3 cannot be read; replace the disk and name it in ceph_replace" in warning


def test_an_osd_that_is_emptied_is_waited_for() -> None:
    (warning,) = decide([], DONE, {"uuid-3": OUT}, [], FSID).warnings
    assert warning.startswith("osd.3 (b) is declared no more")


def test_numbers_are_given_back_before_new_ones() -> None:
    new = Found(Reading("c", "/dev/c", number="8:32"))
    found = decide([new], DONE, {"uuid-3": IDLE}, [], FSID)
    assert [step.verb for step in found.steps] == ["remove", "make"]


def test_labels() -> None:
    said = {"osd_uuid": "u", "ceph_fsid": "f", "whoami": "12", "ready": "ready", "size": 5}
    assert parse_label("/dev/b", {"/dev/b": said}) == Label("f", "u", 12, ready=True)
    assert parse_label("/dev/b", {"/dev/b": {"osd_uuid": "u"}}) == Label("", "u", -1)
