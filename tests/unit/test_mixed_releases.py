"""A cloud whose network and compute hosts stay with the release before the controllers' for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action.environments import ActionModule as Environments
from ansible_collections.brume.cloud.plugins.action.nova_cells import ActionModule as Cells
from ansible_collections.brume.cloud.plugins.action.preflight import ActionModule as Preflight
from ansible_collections.brume.cloud.plugins.action.unit_rollout import ActionModule as Rollout
from ansible_collections.brume.cloud.plugins.module_utils import plan_text, sources
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

from .inventories import committed
from .playbooks import one_host, playbook

VAULT = Vault(b"k" * 32)


def mixed(**releases: str) -> Plan:
    """Return the plan of inventories/ha with releases of hosts' own."""
    found = committed("ha")

    def layers(name: str) -> tuple[Layer, ...]:
        if name not in releases:
            return found.hosts[name]
        own = Layer(name, {"brume_release": releases[name]}, {"brume_release": f"host_vars/{name}.yml:2"})
        return (*found.hosts[name], own)

    return plan(Inventory({name: layers(name) for name in found.hosts}, found.groups), sources.load())


def piece(found: Plan, name: str) -> Slice:
    """Return a host's slice as an action has it."""
    host = found.hosts[name]
    renderer = Renderer(found, sources.load(), VAULT.value).of(host)
    return Slice(renderer.plan, host, renderer.sources, renderer, VAULT)


def option(found: Plan, name: str, line: str) -> bool:
    """Return whether a host's nova-compute.conf has a line."""
    one = piece(found, name)
    texts = {file.entry.path: file.text for file in one.renderer.files(one.host, ["nova"])}
    return line in texts["/etc/nova/nova-compute.conf"]


def test_hosts_that_stay_have_their_own_slice() -> None:
    found = mixed(compute2="2025.1", network1="2025.1")
    releases = {name: host.release for name, host in found.hosts.items()}
    behind = {name for name, one in releases.items() if one == "2025.1"}
    assert found.cloud.release == "2026.1" and behind == {"compute2", "network1"}
    for name, host in found.hosts.items():
        assert {one.path.rpartition("/")[2].rpartition("-")[0] for one in host.environments} == {releases[name]}
    assert option(found, "compute1", "manager_shutdown_timeout = ")
    assert not option(found, "compute2", "manager_shutdown_timeout = ")
    assert option(found, "compute2", "[upgrade_levels]\ncompute = auto")


def test_the_others_are_as_in_a_cloud_of_one_release() -> None:
    found, whole = mixed(compute2="2025.1"), mixed()
    assert {name: host for name, host in found.hosts.items() if name != "compute2"} == {
        name: host for name, host in whole.hosts.items() if name != "compute2"
    }
    assert found.cloud == whole.cloud


def test_locks_are_those_of_the_host_and_what_it_delegates_is_the_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    found = mixed(compute2="2025.1")
    monkeypatch.setattr(Environments, "_uv", lambda _self: "/uv")
    action = object.__new__(Environments)
    (nova,) = [one for one in (action.arguments(piece(found, "compute2"), {}) or {})["environments"]
               if one["service"] == "nova"]  # fmt: skip
    assert "\nnova==31." in nova["lock"]
    cells = object.__new__(Cells).arguments(piece(found, "compute2"), {"hosts": ["compute2"]}) or {}
    assert cells["environment"].startswith("/opt/brume/nova/2026.1-")


@pytest.mark.parametrize(
    "releases",
    [
        {"controller2": "2025.1"},
        {"compute1": "2025.1", "compute2": "2025.2"},
        {"compute1": "2026.2"},
        {"compute1": "2024.1"},
        {"network1": "soon"},
    ],
)
def test_other_differences_are_mistakes(releases: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="brume_release: holds for the whole cloud"):
        mixed(**releases)


def test_a_release_that_is_not_known_here_is_named_where_it_was_said() -> None:
    place = "host_vars/compute1.yml:2: brume_release"
    with pytest.raises(PlanError, match=f"{place}: `2025.2` is no release that is known here"):
        mixed(compute1="2025.2")


def test_the_summary_names_hosts_that_stay() -> None:
    lines = plan_text.summary(mixed(compute2="2025.1"))
    assert "Host compute2 (compute), stays with 2025.1" in lines and "Host compute1 (compute)" in lines


def test_all_files_and_units_of_a_mixed_cloud_can_be_rendered() -> None:
    found = mixed(compute1="2025.1", network2="2025.1")
    count, _size = plan_text.render_all(found, Renderer(found, sources.load(), VAULT.value))
    assert count > 100


@pytest.mark.parametrize("name", ["rollback.yml", "finalize.yml"])
@pytest.mark.parametrize("limit", ["one", "localhost,one"])
def test_all_hosts_go_back_or_are_finalized_together(name: str, limit: str, tmp_path: Path) -> None:
    done = playbook(one_host(tmp_path / "inventory"), name, "--limit", limit)
    assert f"`--limit` is not for {name}" in done.stdout, done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout
    assert done.returncode


@pytest.mark.parametrize("name", ["upgrade.yml", "rollback.yml", "finalize.yml"])
def test_hosts_are_asked_where_nothing_stands_against_it(name: str, tmp_path: Path) -> None:
    done = playbook(one_host(tmp_path / "inventory"), name, "--check", "-e", "upgrade_backup=false")
    assert "UNREACHABLE" in done.stdout, done.stdout + done.stderr


def test_an_upgrade_wants_a_backup_before_it_asks_anybody(tmp_path: Path) -> None:
    done = playbook(one_host(tmp_path / "inventory"), "upgrade.yml")
    assert "there would be no backup" in done.stdout and "UNREACHABLE" not in done.stdout


def test_nothing_is_finalized_while_a_host_stays(tmp_path: Path) -> None:
    folder = one_host(tmp_path / "inventory")
    two = {"brume_addresses": {"management": "192.0.2.12"}, "ansible_port": 1, "brume_release": "2025.1"}
    hosts = yaml.safe_load((folder / "hosts.yml").read_text())
    hosts["compute"] = {"hosts": {"two": two}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    done = playbook(folder, "finalize.yml")
    assert "brume_release: leaves two at 2025.1; upgrade it first" in done.stdout, done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout


def test_controllers_are_read_with_the_clouds_release() -> None:
    """A host that stays must not come before them, and is judged by its own release."""
    found = mixed(compute2="2025.1")
    action = object.__new__(Preflight)
    own = action.arguments(piece(found, "compute2"), {"crossing": "upgrade"}) or {}
    other = action.arguments(piece(found, "compute2"), {"host": "controller2"}) or {}
    assert (own["release"], own["crossing"]) == ("2025.1", "upgrade")
    assert (other["release"], other["crossing"]) == ("2026.1", "")
    units = {unit for one in other["environments"] for unit in one["units"]}
    assert "nova-conductor.service" in units and "nova-compute.service" not in units


def test_processes_that_keep_versions_start_anew_and_their_sockets_do_not() -> None:
    one = piece(mixed(), "controller1")
    action = object.__new__(Rollout)
    planned = (action.arguments(one, {"wave": "core", "versions": True}) or {})["units"]
    named = {unit["name"] for unit in planned if unit["versions"] == "2026.1"}
    assert {"nova-api.service", "nova-conductor.service", "nova-scheduler.service"} <= named
    assert not any(name.endswith(".socket") or name.startswith("neutron") for name in named)
    assert not any(unit["versions"] for unit in (action.arguments(one, {"wave": "core"}) or {})["units"])
