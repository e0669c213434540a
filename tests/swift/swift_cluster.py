"""Declared rings, and the module's work on them without Ansible, for tests with Swift's own RingBuilder."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import swift_builders

START = 1_800_000_000.0
HOUR = 3600


def device(zone: int, host: int, disk: int = 1, **values: Any) -> dict[str, Any]:
    """Return a device of a zone's host."""
    return {
        "region": 1, "zone": zone, "ip": f"10.0.{zone}.{host}", "port": 6200, "device": f"sd{'abcdefghij'[disk]}",
        "weight": 100.0, **values,
    }  # fmt: skip


def devices(zones: int = 3, hosts: int = 2, disks: int = 2) -> list[dict[str, Any]]:
    """Return the devices of a cluster of equals."""
    return [
        device(zone, host, disk)
        for zone in range(1, zones + 1)
        for host in range(1, hosts + 1)
        for disk in range(1, disks + 1)
    ]


def key(one: dict[str, Any]) -> str:
    """Return what the module calls a device."""
    return f"{one['ip']}/{one['device']}"


def ring(name: str = "object", **values: Any) -> dict[str, Any]:
    """Return a declared ring."""
    return {"name": name, "part_power": 7, "replicas": 3, "min_part_hours": 1, "devices": devices(), **values}


class Cluster:
    """A folder of rings, and a time that only moves when it is told to."""

    def __init__(self, folder: Path) -> None:
        """Begin without any ring."""
        self.folder = folder
        self.now = START

    def ask(self, *rings: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
        """Return the answer for rings."""
        return swift_builders.run(
            {"folder": str(self.folder), "rings": copy.deepcopy(rings), "now": self.now, "check": check, **options}
        )

    def one(self, declared: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return what is reported of one ring that is not refused."""
        answer = self.ask(declared, **options)
        assert "rings" in answer, answer["problems"]
        report: dict[str, Any] = answer["rings"][0]
        return report

    def hours(self, hours: float) -> None:
        """Let time pass."""
        self.now += hours * HOUR

    def path(self, kind: str, name: str = "object") -> Path:
        """Return a ring's file: builder, ring.gz, state.json."""
        return self.folder / f"{name}.{kind}"

    def builder(self, name: str = "object") -> dict[str, Any]:
        """Return what a builder's file holds."""
        found: dict[str, Any] = pickle.loads(self.path("builder", name).read_bytes())  # noqa: S301
        return found

    def table(self, name: str = "object") -> list[tuple[str, ...]]:
        """Return by partition the devices that hold it."""
        data = self.builder(name)
        names = {one["id"]: key(one) for one in data["devs"] if one}
        rows = data["_replica2part2dev"]
        return [tuple(names[row[part]] for row in rows if part < len(row)) for part in range(data["parts"])]

    def files(self) -> dict[str, bytes]:
        """Return the content of all files."""
        return {str(one.relative_to(self.folder)): one.read_bytes() for one in self.folder.rglob("*") if one.is_file()}
