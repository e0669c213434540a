"""Files of a host: what is planned against what is there, and diffs that tell no secret."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import file_state
from ansible_collections.brume.cloud.plugins.module_utils.file_state import Entry, FileError

FILE = Entry("/a", "file", "text\n", "root", "root", 0o640)


@pytest.mark.parametrize(
    ("found", "wanted", "action", "content"),
    [
        (FILE, FILE, None, False),
        (Entry("/a", "absent"), FILE, "create file /a (root:root 0640)", True),
        (Entry("/a", "file", "old\n", mode=0o640), FILE, "change file /a", True),
        (Entry("/a", "file", "text\n", mode=0o644), FILE, "set file /a (mode 0644 -> 0640)", False),
        (
            Entry("/a", "file", "text\n", "daemon", "root", 0o640),
            FILE,
            "set file /a (owner daemon:root -> root:root)",
            False,
        ),
        (FILE, Entry("/a", "file", "text\n", "0", "0", 0o640), None, False),
        (
            Entry("/a", "file", "text\n", "root", "root", 0o640),
            Entry("/a", "file", "text\n", "nova-of-tomorrow", "root", 0o640),
            "set file /a (owner root:root -> nova-of-tomorrow:root)",
            False,
        ),
        (Entry("/a", "link", target="/x"), Entry("/a", "link", target="/x"), None, False),
        (
            Entry("/a", "link", target="/x"),
            Entry("/a", "link", target="/y"),
            "change link /a (target /x -> /y)",
            True,
        ),
        (Entry("/a", "link", target="/x"), FILE, "create file /a (root:root 0640)", True),
        (FILE, Entry("/a", "absent"), "remove file /a", True),
        (Entry("/a", "absent"), Entry("/a", "absent"), None, False),
        (Entry("/a", "directory"), Entry("/a", "absent"), "remove directory /a", True),
    ],
)
def test_a_path_changes_only_where_it_differs(found: Entry, wanted: Entry, action: str | None, content: bool) -> None:
    changes = file_state.compare([wanted], lambda _path: found)
    assert [(change.action, change.content) for change in changes] == ([(action, content)] if action else [])


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        (Entry("/a", "directory"), FILE, "is a directory, planned is a file"),
        (FILE, Entry("/a", "directory"), "is a file, planned is a directory"),
        (Entry("/a", "directory", names=("b", "c")), Entry("/a", "absent"), "still holds b, c"),
    ],
)
def test_nothing_that_nobody_planned_is_destroyed(found: Entry, wanted: Entry, words: str) -> None:
    with pytest.raises(FileError, match=words):
        file_state.compare([wanted], lambda _path: found)


def test_a_directory_goes_when_what_it_holds_goes_in_the_same_call() -> None:
    there = {"/d": Entry("/d", "directory", names=("f",)), "/d/f": Entry("/d/f", "file")}
    entries = file_state.parse([{"path": "/d/f", "state": "absent"}], [{"path": "/d", "state": "absent"}], [])
    assert [change.path for change in file_state.compare(entries, lambda path: there[path])] == ["/d/f", "/d"]


def test_parents_come_before_what_lies_in_them() -> None:
    entries = file_state.parse(
        [{"path": "/d/e/f", "content": ""}],
        [{"path": "/d/e"}, {"path": "/d"}],
        [{"path": "/l", "target": "/d"}],
    )
    assert [entry.path for entry in entries] == ["/d", "/d/e", "/d/e/f", "/l"]


def test_every_mistake_is_reported_at_once() -> None:
    files = [
        {"path": "relative", "content": ""},
        {"path": "/a/../b", "content": ""},
        {"path": "/mode", "content": "", "mode": "rw"},
        {"path": "/none"},
        {"path": "/twice", "content": ""},
        {"path": "/twice", "content": ""},
    ]
    with pytest.raises(FileError) as caught:
        file_state.parse(files, [], [{"path": "/link"}])
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["relative", "/a/../b", "/mode", "/none", "/link", "/twice"]


@pytest.mark.parametrize(
    ("before", "after", "shown_before", "shown_after"),
    [
        ("", "password = new\n", "", "password = <secret a/b>\n"),
        ("password = old\n", "password = new\n", "password = <another secret>\n", "password = <secret a/b>\n"),
        ("password = new\n", "password = new\n", "password = <secret a/b>\n", "password = <secret a/b>\n"),
        (
            "connection = mysql://nova:old@db/nova\n",
            "connection = mysql://nova:new@db/nova\n",
            "connection = mysql://nova:<another secret>@db/nova\n",
            "connection = mysql://nova:<secret a/b>@db/nova\n",
        ),
        (
            "transport_url = rabbit://n:old@a:5671,n:old@b:5671/v\n",
            "transport_url = rabbit://n:new@a:5671,n:new@b:5671/v\n",
            "transport_url = rabbit://n:<another secret>@a:5671,n:<another secret>@b:5671/v\n",
            "transport_url = rabbit://n:<secret a/b>@a:5671,n:<secret a/b>@b:5671/v\n",
        ),
        ("connection=mysql://u:old@db\n", "", "connection=mysql://u:<another secret>@db\n", ""),
        ("admin_password = old\nx = 1\n", "x = 2\n", "admin_password = <another secret>\nx = 1\n", "x = 2\n"),
        (
            "    stats auth admin:old\n",
            "    stats auth admin:new\n",
            "    stats auth admin:<another secret>\n",
            "    stats auth admin:<secret a/b>\n",
        ),
        ("key=old\n", "key = new\n", "key=<another secret>\n", "key = <secret a/b>\n"),
        ("old\n", "new\n", "<another secret>\n", "<secret a/b>\n"),
        ("db_password = own\n", "db_password = own\n", "db_password = <secret>\n", "db_password = <secret>\n"),
        ("db_password = own\n", "db_password = two\n", "db_password = <another secret>\n", "db_password = <secret>\n"),
        (
            "max_password_length = 50\n",
            "max_password_length = 72\n",
            "max_password_length = 50\n",
            "max_password_length = 72\n",
        ),
        ("url = mysql://u:other@db new\n", "", "url = mysql://u:<another secret>@db <secret a/b>\n", ""),
        (
            "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\nxyz\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\n<another secret>\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\n<secret>\n-----END PRIVATE KEY-----\n",
        ),
        (
            "cert\n-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
            "tree\n-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
            "cert\n-----BEGIN PRIVATE KEY-----\n<secret>\n-----END PRIVATE KEY-----\n",
            "tree\n-----BEGIN PRIVATE KEY-----\n<secret>\n-----END PRIVATE KEY-----\n",
        ),
    ],
)
def test_a_diff_tells_that_a_secret_changes_and_not_what_it_was(
    before: str, after: str, shown_before: str, shown_after: str
) -> None:
    assert file_state.redact_pair(before, after, {"new": "a/b"}) == (shown_before, shown_after)


def arguments(root: Path, **file: Any) -> list[Entry]:
    """Return entries below a temporary folder, owned by whoever runs the tests."""
    mine = {"owner": str(os.getuid()), "group": str(os.getgid())}
    return file_state.parse(
        [{"path": f"{root}/d/f", "content": "one\n", "mode": "0600", **mine, **file}],
        [{"path": f"{root}/d", "mode": "0750", **mine}],
        [{"path": f"{root}/l", "target": f"{root}/d"}],
    )


def test_after_the_changes_nothing_differs(tmp_path: Path) -> None:
    entries = arguments(tmp_path)
    for change in file_state.compare(entries, file_state.read):
        file_state.apply(change)
    assert file_state.compare(entries, file_state.read) == []
    assert (tmp_path / "d/f").read_text() == "one\n"
    assert (tmp_path / "d/f").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o750
    assert os.readlink(tmp_path / "l") == f"{tmp_path}/d"
    changes = file_state.compare(arguments(tmp_path, mode="0640"), file_state.read)
    inode = (tmp_path / "d/f").stat().st_ino
    for change in changes:
        file_state.apply(change)
    assert (tmp_path / "d/f").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "d/f").stat().st_ino == inode, "a mode alone does not write the file anew"


def test_a_missing_owner_stops_a_run_before_anything_is_written_and_not_a_dry_run(tmp_path: Path) -> None:
    changes = file_state.compare(arguments(tmp_path, owner="nova-of-tomorrow"), file_state.read)
    assert len(changes) == 3
    with pytest.raises(FileError, match="user nova-of-tomorrow does not exist"):
        file_state.check_owners(changes)


def test_bytes_that_are_no_text_survive_and_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a\xff\n")
    found = file_state.read(f"{tmp_path}/x")
    wanted = Entry(f"{tmp_path}/x", "file", "b\n", found.owner, found.group)
    (change,) = file_state.compare([wanted], lambda _path: found)
    assert file_state.shown(change, {})["before"].endswith("a\ufffd\n")
