"""Broken files, of the inventory and of the project, each with the whole message that an operator gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager
from ansible_collections.brume.cloud.plugins.module_utils import inventory_data, inventory_files, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError, plan

from .goldens import golden_section, sections
from .inventories import AIO, inventory
from .playbooks import playbook

Change = Callable[[Path], object]


def write(name: str, text: str | bytes) -> Change:
    """Return what writes a file below a folder."""

    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def append(name: str, text: str | bytes) -> Change:
    """Return what adds to a file below a folder."""
    return lambda folder: write(
        name, (folder / name).read_bytes() + (text if isinstance(text, bytes) else text.encode())
    )(folder)


def replace(name: str, old: str, new: str) -> Change:
    """Return what replaces a text in a file below a folder."""

    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def dangling(name: str) -> Change:
    """Return what puts a link to nowhere in a file's place: unreadable for root too, unlike a file of mode 0."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("nowhere")

    return change


def several(*changes: Change) -> Change:
    """Return what makes several changes."""
    return lambda folder: [change(folder) for change in changes]


HOSTS = """---
control:
  hosts:
    aio:
      brume_addresses: {management: 192.0.2.11}
network: {hosts: {aio: {}}}
compute: {hosts: {aio: {}}}
loadbalancer: {children: {control: {}}}
database: {children: {control: {}}}
messaging: {children: {control: {}}}
"""
ALL = """---
brume_networks:
  management: {cidr: 192.0.2.0/24, interface: eth0}
  external: {cidr: 198.51.100.0/24, interface: eth1}
libvirt_virt_type: qemu
"""

INVENTORY: dict[str, Change] = {
    "YAML syntax in hosts.yml": append("hosts.yml", "object: {hosts: [\n"),
    "YAML syntax in group_vars": append("group_vars/all.yml", "brume_region: here: there\n"),
    "YAML syntax in host_vars": write("host_vars/aio.yml", "brume_region: 'here\n"),
    "tab in hosts.yml": replace("hosts.yml", "    aio:", "\taio:"),
    "tab in group_vars": replace("group_vars/all.yml", "  external", "\texternal"),
    "encrypted file without its password": write("group_vars/compute.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n"),
    "list in group_vars": write("group_vars/compute.yml", "- brume_region: here\n"),
    "text that is not UTF-8": append("group_vars/all.yml", "brume_region: M\xfcnchen\n".encode("latin-1")),
    "unreadable file": dangling("group_vars/all.yml"),
    "unreadable hosts.yml": dangling("hosts.yml"),
    "date that no calendar has": append("group_vars/all.yml", "brume_region: 2026-02-30\n"),
    "duplicate key in group_vars": append("group_vars/all.yml", "libvirt_virt_type: kvm\n"),
    "duplicate key in a network": replace("group_vars/all.yml", "eth1}", "eth1, cidr: 198.51.100.0/25}"),
    "duplicate key in a folder": write("group_vars/control/a.yml", "brume_workers: {nova: 1, nova: 2}\n"),
    "duplicate host": replace("hosts.yml", "compute: {hosts: {aio: {}}}", "compute: {hosts: {aio: {}, aio: {}}}"),
    "duplicate group": append("hosts.yml", "compute: {hosts: {aio: {}}}\n"),
    "broken hosts.yml beside variables of its groups": several(
        append("hosts.yml", "object: {hosts: [\n"), write("group_vars/control.yml", "brume_workers: {nova: 2}\n")
    ),
    "variables of a group that is not there": write("group_vars/computes.yml", "brume_workers: {nova: 2}\n"),
    "file beside a folder of one group": write("group_vars/all/keys.yml", "memcached_memory: 64\n"),
    "undefined variable": append("group_vars/all.yml", 'brume_region: "{{ site }}"\n'),
    "broken expression": append("group_vars/all.yml", 'brume_region: "{{ site | }}"\n'),
    "lookup of a missing file": append("group_vars/all.yml", "brume_region: \"{{ lookup('file', '/nowhere') }}\"\n"),
    "release without quotes": append("group_vars/all.yml", "brume_release: 2026.1\n"),
    "switch in words": append("group_vars/all.yml", "brume_kernel_shared: 'yes'\n"),
    "key of a number": append("group_vars/all.yml", "brume_config: {nova: {nova.conf: {1: {debug: true}}}}\n"),
    "several broken files": several(
        append("group_vars/all.yml", "\tbrume_region: here\n"),
        write("group_vars/compute.yml", "brume_workers: {nova: 2\n"),
        write("group_vars/network.yml", "brume_workers: {nova: 2}\nbrume_workers: {nova: 3}\n"),
        write("host_vars/aio.yml", b"\xff\xfe\n"),
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a good inventory, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write("hosts.yml", HOSTS)(tmp_path / "inventory")
    write("group_vars/all.yml", ALL)(tmp_path / "inventory")
    return tmp_path / "inventory"


def read(folder: Path) -> inventory_data.Inventory:
    """Read an inventory as `ansible-playbook -i FOLDER` does."""
    loader = DataLoader()
    found = InventoryManager(loader=loader, sources=[str(folder)])
    return inventory_data.read(found, loader, VariableManager(loader, found), ["brume_", "libvirt_", "memcached_"])


def test_the_good_inventory_has_no_problem(folder: Path) -> None:
    plan(read(folder), sources.load())


@pytest.mark.parametrize("kind", INVENTORY)
def test_a_broken_inventory_is_explained(kind: str, folder: Path) -> None:
    INVENTORY[kind](folder)
    with pytest.raises((PlanError, inventory_data.Unreadable)) as caught:
        plan(read(folder), sources.load())
    text = "\n".join(map(str, caught.value.problems))
    # Its own words change with Ansible's versions.
    text = re.sub(r"(cannot be resolved|cannot be decrypted) \(.+\);", r"\1 (Ansible's reason);", text)
    golden_section("bad-files.txt", kind, text, INVENTORY)


def test_no_kind_is_left_over() -> None:
    assert list(sections("bad-files.txt")) == list(INVENTORY)
    assert list(sections("bad-project.txt")) == list(PROJECT)


def test_variables_of_a_host_that_is_out_are_a_warning(folder: Path) -> None:
    write("host_vars/spare.yml", "brume_addresses: {management: 192.0.2.12}\n")(folder)
    write("host_vars/aio.bak", "left: over\n")(folder)
    warnings = plan(read(folder), sources.load()).warnings
    assert warnings == ("inventory/host_vars/spare.yml: `spare` is no host of the inventory, so nobody reads this",)


def test_tags_and_encrypted_files_are_left_to_ansible(folder: Path) -> None:
    write("group_vars/compute.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n")(folder)
    write("group_vars/network.yml", "a: !unsafe {b: !unsafe c}\nd: !unsafe [1]\ne: !vault |\n  f\n")(folder)
    found = inventory_files.check([str(folder)], ["control", "compute", "network"], ["aio"])
    assert (found.broken, found.problems, found.warnings) == ([], [], [])


def test_a_list_of_hosts_is_no_file(folder: Path) -> None:
    found = inventory_files.check(["aio,", str(folder / "hosts.yml")], ["control"], ["aio"])
    assert (found.broken, found.problems, found.warnings) == ([], [], [])


SERVICE = """name: {name}
wave: {wave}
requires: [{requires}]
databases: [{name}]
components:
  api: {{group: control, kind: wsgi, app: "{name}:application", port: {port}, health: /}}
  worker: {{group: compute, kind: daemon, command: [{name}-worker]}}
files:
  {name}.conf: {{settings: [{name}], components: [api, worker]}}
  policy.txt: {{template: policy.j2, format: text, components: [api]}}
python: {{packages: [{name}]}}
"""
LOCK = f"one==1.0 --hash=sha256:{'0' * 64}\n"
DESCRIPTION = "roles/two/meta/service.yml"

PROJECT: dict[str, Change] = {
    "YAML syntax in service.yml": append(DESCRIPTION, "databases: [two\n"),
    "tab in service.yml": replace(DESCRIPTION, "  worker", "\tworker"),
    "duplicate key in service.yml": append(DESCRIPTION, "wave: identity\n"),
    "key of a list in service.yml": append(DESCRIPTION, "? [a, b]\n: c\n"),
    "service.yml that is not UTF-8": append(DESCRIPTION, b"description: \xff\n"),
    "unreadable service.yml": dangling(DESCRIPTION),
    "empty service.yml": write(DESCRIPTION, ""),
    "service.yml that is a list": write(DESCRIPTION, "- name: two\n"),
    "unknown key in service.yml": append(DESCRIPTION, "vhost: [two]\n"),
    "control character in service.yml": append(DESCRIPTION, 'description: "a\\0b"\n'),
    "program without packages": replace(DESCRIPTION, "python: {packages: [two]}\n", ""),
    "wrong type in service.yml": replace(DESCRIPTION, "databases: [two]", "databases: two"),
    "wrong type in a list of service.yml": replace(DESCRIPTION, "python: {packages: [two]}", "python: {packages: [2]}"),
    "unknown key of a component": replace(DESCRIPTION, "kind: daemon,", "kind: daemon, prot: 6001,"),
    "wrong type of a component's port": replace(DESCRIPTION, "port: 6001", "port: '6001'"),
    "unknown wave": replace(DESCRIPTION, "wave: core", "wave: second"),
    "unknown group": replace(DESCRIPTION, "group: compute", "group: computes"),
    "unknown kind of a component": replace(DESCRIPTION, "kind: daemon", "kind: process"),
    "condition of an unknown variable": replace(DESCRIPTION, "kind: daemon", "kind: daemon, when: {two_color: red}"),
    "item of a list without a condition": replace(DESCRIPTION, "group: compute", "group: [{item: compute}]"),
    "bound of a component that is no release": replace(DESCRIPTION, "kind: daemon", "kind: daemon, since: gazpacho"),
    "bound without quotes": replace(DESCRIPTION, "group: compute", "group: [{value: compute, until: 2025.1}]"),
    "bounds of no release": append(DESCRIPTION, "since: '2026.1'\nuntil: '2025.1'\n"),
    "bound of an option that is no release": write(
        "roles/two/settings/two.yml", "DEFAULT: {debug: {since: '2026.3', value: true}}\n"
    ),
    "value of a release with more beside it": write(
        "roles/two/settings/two.yml", "DEFAULT: {debug: {since: '2026.1', value: true, other: 1}}\n"
    ),
    "service of other releases": append(DESCRIPTION, "until: '2025.2'\n"),
    "application of other releases": replace(
        DESCRIPTION, 'app: "two:application"', 'app: {value: "two:application", until: "2025.2"}'
    ),
    "unknown probe": replace(DESCRIPTION, "command: [two-worker]", "command: [two-worker], health: {udp: 6001}"),
    "wrong type of a probe": replace(DESCRIPTION, "command: [two-worker]", "command: [two-worker], health: {queue: 1}"),
    "another name than the folder's": replace(DESCRIPTION, "name: two", "name: too"),
    "port out of range": replace(DESCRIPTION, "port: 6001", "port: 70000"),
    "port whose process has none": replace(DESCRIPTION, "port: 6001", "port: 60001"),
    "port of a component that is none": replace(
        DESCRIPTION, "command: [two-worker]", "command: [two-worker], ports: [no]"
    ),
    "port on an unknown network": replace(
        DESCRIPTION, "command: [two-worker]", "command: [two-worker], ports: [{port: 7000, network: stroage}]"
    ),
    "unknown key of a port": replace(
        DESCRIPTION, "command: [two-worker]", "command: [two-worker], ports: [{port: 7000, netwrok: storage}]"
    ),
    "probe of an unknown network": replace(
        DESCRIPTION, "command: [two-worker]", "command: [two-worker], health: {tcp: {port: 7000, network: external}}"
    ),
    "probe without a port": replace(
        DESCRIPTION, "command: [two-worker]", "command: [two-worker], health: {tcp: {network: storage}}"
    ),
    "two components on one port": replace(DESCRIPTION, "port: 6001", "port: 6000"),
    "port that another's process has": replace(
        DESCRIPTION, "command: [two-worker]", "command: [two-worker], ports: [16000]"
    ),
    "two services with one database": replace(DESCRIPTION, "databases: [two]", "databases: [one]"),
    "database with a hyphen": replace(DESCRIPTION, "databases: [two]", "databases: [two-api]"),
    "unknown name in braces": replace(DESCRIPTION, "databases: [two]", "databases: [{name: 'two_{host}', each: cell}]"),
    "API without an application": replace(DESCRIPTION, 'app: "two:application", ', ""),
    "daemon without a command": replace(DESCRIPTION, ", command: [two-worker]", ""),
    "components that wait for each other": replace(
        DESCRIPTION, "command: [two-worker]", "command: [two-worker], after: [worker]"
    ),
    "package that is not locked": replace(DESCRIPTION, "kind: daemon", "kind: daemon, python_packages: [tow]"),
    "file of an unknown component": replace(DESCRIPTION, "components: [api, worker]", "components: [api, wroker]"),
    "file that is neither tree nor template": replace(DESCRIPTION, "settings: [two], ", ""),
    "mode without quotes": replace(DESCRIPTION, "format: text,", "format: text, mode: 0640,"),
    "command that is no list": append(DESCRIPTION, "commands: {expand: two-manage db sync}\n"),
    "version of a package that is not locked": replace(
        DESCRIPTION, "{packages: [two]}", "{packages: [two], pinned: {tow: '1.0'}}"
    ),
    "version that is a number": replace(DESCRIPTION, "[two]}", "[two], pinned: {two: 1.0}}"),
    "command of numbers": append(DESCRIPTION, "commands: {expand: [[two-manage, 7]]}\n"),
    "cleanup without commands": append(DESCRIPTION, "cleanup: {keeps: [images]}\n"),
    "cleanup of no program": append(DESCRIPTION, "cleanup: {commands: [{success: [0]}]}\n"),
    "cleanup with an unknown name": append(DESCRIPTION, "cleanup: {commands: [{run: [two-manage, '{age}']}]}\n"),
    "cleanup with codes that are none": append(DESCRIPTION, "cleanup: {commands: [{run: [x], success: [one]}]}\n"),
    "restore of no table": append(DESCRIPTION, "restore: {ahead: [Rows]}\n"),
    "identity of an unknown component": append(
        DESCRIPTION, "restore: {identities: {wroker: {file: /a, table: hosts, host: host, identity: uuid}}}\n"
    ),
    "identity without columns": append(DESCRIPTION, "restore: {identities: {worker: {file: a, table: hosts}}}\n"),
    "missing requirement": replace(DESCRIPTION, "requires: [one]", "requires: [three]"),
    "requirement in a later wave": several(
        replace(DESCRIPTION, "wave: core", "wave: identity"), replace("roles/one/meta/service.yml", "identity", "core")
    ),
    "missing lock": lambda root: (root / "roles/two/files/locks/2026.1.txt").unlink(),
    "lock without hashes": write(
        "roles/two/files/locks/2026.1.txt", "".join(f"package{number}==1.0\n" for number in range(9))
    ),
    "lock without versions": write("roles/two/files/locks/2026.1.txt", f"two>=1.0 --hash=sha256:{'0' * 64}\n"),
    "lock with an index": write("roles/two/files/locks/2026.1.txt", f"--index-url https://x.example.org/\n{LOCK}"),
    "empty lock": write("roles/two/files/locks/2026.1.txt", "\n"),
    "lock that is not UTF-8": write("roles/two/files/locks/2026.1.txt", b"\xff\n"),
    "missing tree of settings": lambda root: (root / "roles/two/settings/two.yml").unlink(),
    "settings without sections": write("roles/two/settings/two.yml", "debug: true\n"),
    "YAML syntax in settings": write("roles/two/settings/two.yml", "DEFAULT: {debug: true\n"),
    "missing template": lambda root: (root / "roles/two/templates/policy.j2").unlink(),
    "broken option schema": write("roles/two/files/schemas/2026.1.json", "{}"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a small project of two services."""
    for name, wave, requires, port in (("one", "identity", "", 6000), ("two", "core", "one", 6001)):
        role = tmp_path / "roles" / name
        text = SERVICE.format(name=name, wave=wave, requires=requires, port=port)
        write("meta/service.yml", text)(role)
        write(f"settings/{name}.yml", "DEFAULT: {debug: false}\n")(role)
        write("templates/policy.j2", "policy\n")(role)
        write("files/locks/2026.1.txt", LOCK)(role)
    return tmp_path


def planned(root: Path) -> None:
    """Plan the small project's services."""
    variables = {"brume_services": ["one", "two"], "brume_networks": AIO["brume_networks"]}
    plan(inventory(variables), sources.load.__wrapped__(root))


def test_the_good_project_has_no_problem(root: Path) -> None:
    planned(root)


@pytest.mark.parametrize("kind", PROJECT)
def test_a_broken_project_is_explained(kind: str, root: Path) -> None:
    PROJECT[kind](root)
    with pytest.raises(PlanError) as caught:
        planned(root)
    golden_section("bad-project.txt", kind, "\n".join(map(str, caught.value.problems)), PROJECT)


@pytest.mark.parametrize("name", ["bad-files.txt", "bad-project.txt"])
def test_each_line_has_place_and_remedy(name: str) -> None:
    for text in sections(name).values():
        for line in text.splitlines():
            where, colon, rest = line.partition(": ")
            assert "/" in where or where == "inventory"
            assert colon and "; " in rest


def test_a_run_stops_at_broken_files_and_tells_all_of_them(folder: Path) -> None:
    INVENTORY["several broken files"](folder)
    done = playbook(folder, "plan.yml")
    shown = done.stdout + done.stderr
    assert done.returncode == 1, shown
    assert "Traceback" not in shown
    for line in sections("bad-files.txt")["several broken files"].splitlines():
        assert line.removeprefix("inventory/") in shown


def test_a_run_stops_at_mistakes_and_a_short_key_and_tells_both(folder: Path) -> None:
    append("group_vars/all.yml", "brume_region: eu/1\nbrume_master_key: c2hvcnQ=\n")(folder)
    done = playbook(folder, "site.yml")
    shown = done.stdout + done.stderr
    assert done.returncode == 2, shown
    assert "Traceback" not in shown
    assert "2 mistakes" in shown
    for part in ("all.yml:6: brume_region: `eu/1`", "all.yml:7: brume_master_key: has 5 bytes"):
        assert part in shown


def test_a_plan_needs_no_key_and_a_deployment_does(folder: Path) -> None:
    seen = playbook(folder, "plan.yml")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert "brume_master_key: is missing" in seen.stderr + seen.stdout
    done = playbook(folder, "site.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "brume_master_key: is missing" in done.stdout + done.stderr
