"""A run ends with the first host that fails or does not answer, whichever play it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from .playbooks import KEY, ROOT, playbook

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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--limit", "old"], "`--limit` is not for remove.yml: it would leave out those who judge"),
        (["-e", "drain_accept_stuck=true"], "`drain_accept_stuck` are not for remove.yml"),
        (["-e", "drain_plan=true"], "`drain_accept_stuck` are not for remove.yml"),
    ],
    ids=["limit", "stuck", "plan"],
)
def test_hosts_are_not_removed_without_being_judged_and_emptied(
    options: list[str], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    one = {"hosts": {"one": {"brume_addresses": {"management": "192.0.2.11"}}}}
    groups = dict.fromkeys(("control", "network", "compute", "loadbalancer", "database", "messaging"), one)
    removed = {"hosts": {"old": {"brume_addresses": {"management": "192.0.2.12"}}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({**groups, "removed": removed}))
    networks = {"management": {"cidr": "192.0.2.0/24", "interface": "nowhere1"}}
    networks["external"] = {"cidr": "198.51.100.0/24", "interface": "nowhere0"}
    variables = {"ansible_connection": "local", "brume_networks": networks, "brume_master_key": KEY}
    (folder / "group_vars/all.yml").write_text(yaml.safe_dump(variables))
    done = playbook(folder, "remove.yml", "--check", *options)
    assert words in done.stdout, done.stdout + done.stderr
    assert "Ask the members that stay" not in done.stdout


def test_one_action_refuses_limits() -> None:
    """What else looks at a limit takes one: upgrade.yml once it has begun, update.yml always."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "playbooks").glob("*.yml")}
    refusing = ("backup", "finalize", "reboot", "remove", "replace", "restore", "rings", "rollback", "stop")
    assert {name for name, text in texts.items() if "brume.cloud.all_hosts:" in text} == {
        f"{name}.yml" for name in refusing
    }
    assert {name for name, text in texts.items() if "ansible_limit" in text} == {"update.yml", "upgrade.yml"}
