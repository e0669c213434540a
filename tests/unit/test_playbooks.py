"""A run ends with the first host that fails or does not answer, whichever play it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from .playbooks import ROOT, playbook

STOPPING = {"any_errors_fatal": True, "max_fail_percentage": 0}


def plays(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load(path.read_text(encoding="utf-8")) if "hosts" in one]


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_plays_stop_runs_for_hosts_that_fail_and_for_those_that_do_not_answer(path: Path) -> None:
    halves = [one["name"] for one in plays(path) if 0 < len(STOPPING.items() & one.items()) < len(STOPPING)]
    assert not halves


def test_nothing_follows_a_play_whose_host_does_not_answer(tmp_path: Path) -> None:
    """Where the play has one host alone, Ansible goes on without `max_fail_percentage`."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "hosts.yml").write_text("all: {hosts: {lost: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n")
    ping = [{"name": "Ask", "ansible.builtin.ping": None}]
    after = [{"name": "Say", "ansible.builtin.debug": {"msg": "it went on"}}]
    common = {"gather_facts": False}
    first = {"name": "Gate", "hosts": "lost", **common, **STOPPING, "tasks": ping}
    then = {"name": "Change", "hosts": "localhost", "connection": "local", **common, "tasks": after}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([first, then], sort_keys=False))
    done = playbook(folder, str(tmp_path / "play.yml"))
    assert "UNREACHABLE" in done.stdout, done.stdout + done.stderr
    assert "it went on" not in done.stdout
