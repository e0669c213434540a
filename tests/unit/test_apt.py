"""Packages: what is missing, what apt says, and whose units start meanwhile."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import apt


def test_status_knows_installed_from_half_installed_and_removed() -> None:
    lines = ["a\tinstalled", "b\tconfig-files", "c\thalf-configured", "d\tnot-installed", "d\tinstalled", "noise"]
    status = apt.parse_status("\n".join(lines))
    assert apt.missing(["a", "b", "c", "d", "e"], status) == ["b", "c", "e"]
    assert apt.surplus(["a", "b", "e"], status) == ["a"]


def test_status_of_two_architectures_is_the_better_one() -> None:
    assert apt.parse_status("a\tinstalled\na\tnot-installed\n") == {"a": "installed"}


def test_a_simulation_is_told_in_sentences() -> None:
    text = (
        "NOTE: This is only a simulation!\n"
        "Inst libfoo [1.0-1] (1.1-1 Debian:13/stable [amd64])\n"
        "Inst haproxy (3.0.11-1 Debian:13/stable [amd64])\n"
        "Remv nginx [1.26-1]\n"
        "Conf haproxy (3.0.11-1 Debian:13/stable [amd64])\n"
    )
    assert apt.parse_simulation(text) == [
        "upgrade package libfoo 1.0-1 -> 1.1-1",
        "install package haproxy 3.0.11-1",
        "remove package nginx 1.26-1",
    ]


def ask(policy: Path, *words: str) -> int:
    """Ask a policy the way invoke-rc.d and deb-systemd-invoke do."""
    return subprocess.run([str(policy), *words], check=False).returncode


@pytest.mark.parametrize("own", [None, "#!/bin/sh\nexit 42\n"])
def test_only_planned_units_are_held_back_and_the_hosts_policy_comes_back(tmp_path: Path, own: str | None) -> None:
    policy, saved = tmp_path / "policy-rc.d", tmp_path / "saved"
    if own:
        policy.write_text(own)
        policy.chmod(0o755)
    with pytest.raises(RuntimeError), apt.held_back(["mariadb.service"], str(policy), str(saved)):
        assert ask(policy, "mariadb.service", "start") == 101
        assert ask(policy, "mariadb", "restart") == 101
        assert ask(policy, "--quiet", "mariadb", "start", "2") == 101
        assert ask(policy, "mariadb", "stop") == 0
        assert ask(policy, "ssh", "start") == (42 if own else 0)
        raise RuntimeError
    assert (policy.read_text() if policy.exists() else None) == own
    assert not saved.exists()


@pytest.mark.parametrize("own", [None, "#!/bin/sh\nexit 42\n"])
def test_what_an_ended_run_left_is_put_right(tmp_path: Path, own: str | None) -> None:
    policy, saved = tmp_path / "policy-rc.d", tmp_path / "saved"
    policy.write_text(apt.policy_text(["a"]))
    if own:
        saved.write_text(own)
    with apt.held_back([], str(policy), str(saved)):
        assert (policy.read_text() if policy.exists() else None) == own
    assert not saved.exists()


def test_the_hosts_own_policy_is_left_alone(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    assert not apt.restore_policy(str(policy), str(tmp_path / "saved"))
    assert policy.exists()


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("E: Unable to locate package foo", "components in apt's sources"),
        ("E: Could not get lock /var/lib/dpkg/lock", "another apt"),
        ("Err:1 x\n  Temporary failure resolving 'm'", "name resolution"),
        (
            "E: Sub-process /usr/bin/dpkg returned an error code (1)\ninstalled foo package post-installation script "
            "subprocess returned error exit status 1\n",
            "own script failed",
        ),
        ("x", "correct the cause"),
    ],
)
def test_an_error_names_command_lines_and_next_step(output: str, words: str) -> None:
    text = str(apt.failure("apt-get install of foo", apt.Result(100, output)))
    assert text.startswith("apt-get install of foo fails with 100:")
    assert output.splitlines()[0] in text
    assert words in text


def test_an_index_that_cannot_be_read_is_a_problem_although_apt_succeeds() -> None:
    assert apt.list_problem(apt.Result(0, "Hit:1 a\nErr:2 b\n  not found\n")) == "Err:2 b"
    assert apt.list_problem(apt.Result(0, "Hit:1 a\n")) == ""


def test_apt_asks_nothing_and_flushes_unless_told() -> None:
    assert "-y" in apt.options(False, 1)
    assert not any("unsafe" in word for word in apt.options(False, 1))
    assert any("unsafe" in word for word in apt.options(True, 1))
    done = apt.run(["sh", "-c", "echo $DEBIAN_FRONTEND; cat; exit 3"])
    assert (done.code, done.output) == (3, "noninteractive\n")


def test_the_age_of_the_lists_is_infinite_without_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "LISTS", str(tmp_path))
    assert apt.cache_age() == float("inf")
    (tmp_path / "m_InRelease").touch()
    assert apt.cache_age(os.stat(tmp_path).st_mtime + 10) <= 10
