"""Every host is what the plan says: units, ports, files, environments, packages; one reading of each kind per host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import host_readings as readings
from cloud import Reader, inventory, plan


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


def test_unit_is_active_and_enabled(reader: Reader, unit: str) -> None:
    names = [one["name"] for one in reader.planned["units"]]
    problem = readings.unit_problem(unit, readings.units(reader.output(readings.units_command(names))))
    assert not problem, problem


def test_idle_units_do_not_run(reader: Reader) -> None:
    idle = reader.planned["idle"]
    found = readings.units(reader.output(readings.units_command(idle))) if idle else {}
    states = {name: (found[name].get("ActiveState"), found[name].get("UnitFileState")) for name in idle}
    assert states == dict.fromkeys(idle, ("inactive", "disabled"))


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
