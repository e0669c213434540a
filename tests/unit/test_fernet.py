"""Key repositories: exactly the given keys, in an order that leaves no moment without a key."""

from __future__ import annotations

import getpass
import grp
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import fernet

KEYS = {str(index): f"{index}" + "A" * 42 + "=" for index in range(5)}
GROUP = grp.getgrgid(os.getgid()).gr_name


def repository(path: Path | str, *indexes: int, **more: Any) -> fernet.Repository:
    """Return a repository with some of KEYS."""
    item = {
        "path": str(path),
        "owner": getpass.getuser(),
        "group": GROUP,
        "primary": max(indexes),
        "keys": {str(index): KEYS[str(index)] for index in indexes},
        "prune": True,
    }
    return fernet.parse([{**item, **more}])[0]


def found(*indexes: int) -> fernet.Found:
    """Return what is there when nothing is wrong with it."""
    return fernet.Found(True, True, {index: KEYS[str(index)] for index in indexes}, frozenset(indexes))


@pytest.mark.parametrize(
    ("planned", "there", "steps"),
    [
        ((0, 1), fernet.Found(), ["create /r", "create /r/1 (primary)", "create /r/0 (staged)"]),
        ((0, 1), found(0, 1), []),
        ((0, 1, 2), found(0, 1), ["create /r/2 (primary)"]),
        ((0, 2, 3), found(0, 1, 2), ["create /r/3 (primary)", "remove /r/1"]),
        ((0, 1), fernet.Found(True, True, {0: "old", 1: KEYS["1"]}, frozenset({0, 1})), ["change /r/0 (staged)"]),
        ((0, 1), fernet.Found(True, True, {0: KEYS["0"], 1: KEYS["1"]}, frozenset({0})), ["change /r/1 (primary)"]),
        ((0, 1), fernet.Found(True, False, {0: KEYS["0"], 1: KEYS["1"]}, frozenset({0, 1})), ["correct /r"]),
    ],
)
def test_new_keys_come_before_old_ones_go(planned: tuple[int, ...], there: fernet.Found, steps: list[str]) -> None:
    assert [str(step) for step in fernet.decide(repository("/r", *planned), there)] == steps


def test_other_keys_stay_without_prune() -> None:
    assert fernet.decide(repository("/r", 0, 2, prune=False), found(0, 1, 2)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keys": {"x": KEYS["0"], "1": KEYS["1"]}}, "index x is not a number"),
        ({"keys": {"0": "short-secret", "1": KEYS["1"]}}, "key 0 is not 32 bytes"),
        ({"primary": 7}, "primary 7 must be the highest index"),
        ({"keys": {"0": KEYS["0"]}, "primary": None}, "primary 0 must be the highest index"),
        ({"keys": {}}, "primary 1 must be"),
    ],
)
def test_a_repository_that_keystone_could_not_use_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(fernet.RepositoryError, match=words) as caught:
        repository("/r", 0, 1, **change)
    assert "short-secret" not in str(caught.value)


def test_keys_are_written_for_their_user_only_and_then_nothing_differs(tmp_path: Path) -> None:
    wanted = repository(tmp_path / "keys", 0, 1)
    for step in fernet.decide(wanted, fernet.read(wanted.path, wanted.owner, wanted.group)):
        fernet.apply(step)
    there = fernet.read(wanted.path, wanted.owner, wanted.group)
    assert there.primary == 1
    assert fernet.decide(wanted, there) == []
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys/1").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys/1").read_text() == KEYS["1"]
    (tmp_path / "keys/1").chmod(0o644)
    rotated = repository(tmp_path / "keys", 0, 2)
    for step in fernet.decide(rotated, fernet.read(wanted.path, wanted.owner, wanted.group)):
        fernet.apply(step)
    assert sorted(os.listdir(tmp_path / "keys")) == ["0", "2"]


def test_a_user_of_tomorrow_makes_everything_differ_and_is_no_error_to_read(tmp_path: Path) -> None:
    (tmp_path / "0").write_text(KEYS["0"])
    assert not fernet.read(str(tmp_path), "nobody-of-tomorrow", "root").plain


def test_no_text_holds_a_key() -> None:
    wanted = repository("/r", 0, 1)
    assert KEYS["1"] not in repr(wanted) + repr(found(0, 1)) + repr(fernet.decide(wanted, fernet.Found()))
    assert fernet.listing({0: KEYS["0"], 1: "x"}, {0: KEYS["0"], 1: KEYS["1"]}) == "0: <secret key>\n1: <another key>\n"
