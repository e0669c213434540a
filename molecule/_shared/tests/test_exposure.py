"""No unit is more exposed than it may be; the table is in `.lab/<inventory>/systemd-security.txt`."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import host_readings as readings
from ansible_collections.brume.cloud.plugins.module_utils.description import EXPOSURE_LIMIT, Component
from cloud import ROOT, Reader, deployment, inventory


@functools.cache
def components(where: str) -> dict[tuple[str, str], Component]:
    """Return the component of each host's services; a socket stands for its service where that is not planned."""
    found = deployment(where)
    chosen = {}
    for host in found.plan.hosts.values():
        for socket_first in (True, False):
            for one in host.instances:
                if one.unit.endswith(".socket") is socket_first:
                    component = found.sources.services[one.service].components[one.component]
                    chosen[host.name, readings.service_of(one.unit)] = component
    return chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each unit."""
    if "unit" in metafunc.fixturenames:
        units = list(components(inventory(metafunc.config)))
        metafunc.parametrize("unit", units, ids=["-".join(one) for one in units])


def test_unit_is_not_exposed(where: str, unit: tuple[str, str]) -> None:
    host, name = unit
    reader, component = Reader(where, host), components(where)[unit]
    found = readings.exposures(reader.output(readings.EXPOSURE_COMMAND))
    if name not in found:
        socket = f"{name.removesuffix('.service')}.socket"
        shown = reader.output(f"systemctl show --property=Id,Triggers {socket}")
        triggered = next((line.partition("=")[2] for line in shown.splitlines() if line.startswith("Triggers=")), "")
        if triggered not in ("", name):
            assert triggered in found, f"{socket} starts {triggered}, which is not judged by systemd-analyze"
            return
        kinds = reader.output(f"systemctl show --property=Type {name}").split()
        assert kinds == ["Type=oneshot"], f"{name} is not judged by systemd-analyze, and runs on: {kinds}"
        return
    accepted = component.exposure.limit if component.exposure else None
    problem = readings.exposure_problem(name, EXPOSURE_LIMIT, accepted, found)
    assert not problem, problem


def test_exposure_is_recorded(where: str) -> None:
    rows = []
    for (host, unit), component in components(where).items():
        found = readings.exposures(Reader(where, host).output(readings.EXPOSURE_COMMAND))
        if unit in found:
            rows.append((host, unit, found[unit], component.exposure.reason if component.exposure else ""))
    path = ROOT / ".lab" / Path(where).name / "systemd-security.txt"
    path.write_text(readings.exposure_table(rows), encoding="utf-8")
    assert len(rows) > len({host for host, _unit, _exposure, _reason in rows})
