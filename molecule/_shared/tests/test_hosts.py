"""Every host is what the plan says: units, ports, files, environments, packages; one reading of each kind per host.

The plan is the JSON of `playbooks/plan.yml --tags json`, at BRUME_PLAN_FILE or in `.lab/<inventory>/plan.json`. The
inventory is pytest's `--ansible-inventory`, or BRUME_INVENTORY, or `inventories/aio`.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import testinfra
from ansible_collections.brume.cloud.plugins.module_utils import host_readings as readings

ROOT = Path(__file__).resolve().parents[3]


def inventory(config: pytest.Config) -> str:
    """Return the inventory's path, from the repository's root if it is relative."""
    return str(ROOT / (config.getoption("ansible_inventory") or os.environ.get("BRUME_INVENTORY") or "inventories/aio"))


@functools.cache
def plan(inventory_path: str) -> dict[str, dict[str, Any]]:
    """Return the planned hosts by name."""
    default = ROOT / ".lab" / Path(inventory_path).name / "plan.json"
    path = ROOT / os.environ.get("BRUME_PLAN_FILE", str(default))
    hosts: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["hosts"]
    if not hosts:
        pytest.exit(f"{path}: no host, nothing would be tested", returncode=1)
    return hosts


def items(kind: str, host: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return (name, planned item) of a kind of test on a host."""
    if kind == "unit":
        return [(unit["name"], unit["name"]) for unit in host["units"]]
    if kind == "port":
        return [(f"{port['address']}:{port['port']}-{port['unit']}", port) for port in host["ports"]]
    if kind in ("file", "directory"):
        entries = host["files" if kind == "file" else "directories"]
        return [(entry["path"], entry) for entry in {entry["path"]: entry for entry in entries}.values()]
    if kind == "environment":
        return [(entry["service"], entry) for entry in host["environments"]]
    return [(name, name) for name in host["packages"]]


KINDS = ("unit", "port", "file", "directory", "environment", "package")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each planned item, named by host and item."""
    where = inventory(metafunc.config)
    for kind in KINDS:
        if kind in metafunc.fixturenames:
            chosen = [(name, *item) for name, host in plan(where).items() for item in items(kind, host)]
            metafunc.parametrize(
                ("reader", kind),
                [(Reader(where, name), item) for name, _label, item in chosen],
                ids=[f"{name}-{label}" for name, label, _item in chosen],
            )
            return
    if "reader" in metafunc.fixturenames:
        metafunc.parametrize("reader", [Reader(where, name) for name in plan(where)], ids=list(plan(where)))


class Reader:
    """A host and its readings; each command runs once per host, when a test first needs it."""

    def __init__(self, inventory_path: str, name: str) -> None:
        """Remember which host of which inventory."""
        self.inventory, self.name = inventory_path, name
        self.planned = plan(inventory_path)[name]

    def output(self, command: str) -> str:
        """Return what a command printed; that single items are missing is for the tests to say."""
        return _output(self.inventory, self.name, command)

    def paths(self) -> dict[str, tuple[str, str, int, str]]:
        """Return owner, group, mode and kind of all planned files and directories."""
        entries = [*self.planned["files"], *self.planned["directories"]]
        return readings.files(self.output(readings.files_command(dict.fromkeys(entry["path"] for entry in entries))))


@functools.cache
def _output(inventory_path: str, name: str, command: str) -> str:
    host = testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory_path)
    done = host.run(command)
    if not done.stdout.strip():
        program = command.split(maxsplit=1)[0]
        pytest.fail(f"{name}: `{program}` printed nothing, exit status {done.rc}: {done.stderr.strip()}")
    return str(done.stdout)


def test_unit_is_active_and_enabled(reader: Reader, unit: str) -> None:
    names = [one["name"] for one in reader.planned["units"]]
    problem = readings.unit_problem(unit, readings.units(reader.output(readings.units_command(names))))
    assert not problem, problem


def test_port_is_open(reader: Reader, port: dict[str, Any]) -> None:
    found = readings.listeners(reader.output(readings.LISTENERS_COMMAND))
    near = [str(one) for one in found if one.port == port["port"]]
    assert readings.is_open(port["address"], port["port"], found), f"{port} is not open; there is {near or 'nothing'}"


def test_no_other_port_is_open(reader: Reader) -> None:
    planned = [(port["address"], port["port"]) for port in reader.planned["ports"]]
    found = readings.unplanned(readings.listeners(reader.output(readings.LISTENERS_COMMAND)), planned)
    assert not found, "neither in the plan nor allowed: " + ", ".join(str(one) for one in found)


def test_file(reader: Reader, file: dict[str, Any]) -> None:
    problem = readings.file_problem(
        file["path"], file["owner"], file["group"], file["mode"], "file", reader.paths()
    )
    assert not problem, problem


def test_directory(reader: Reader, directory: dict[str, Any]) -> None:
    problem = readings.file_problem(
        directory["path"], directory["owner"], directory["group"], directory["mode"], "directory", reader.paths()
    )
    assert not problem, problem


def test_environment_is_current(reader: Reader, environment: dict[str, Any]) -> None:
    links = [one["current"] for one in reader.planned["environments"]]
    found = readings.links(reader.output(readings.links_command(links)))
    assert found.get(environment["current"]) == environment["path"]


def test_package_is_installed(reader: Reader, package: str) -> None:
    found = readings.packages(reader.output(readings.packages_command(reader.planned["packages"])))
    assert found.get(package) == "installed", f"{package}: {found.get(package, 'unknown to dpkg')}"
