"""An OSD that takes over a number: what is noted before anything is told, and what is told at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import ceph
from ansible_collections.brume.cloud.plugins.module_utils.ceph_cluster import CephError
from ansible_collections.brume.cloud.plugins.module_utils.ceph_devices import Step
from ansible_collections.brume.cloud.plugins.modules import ceph_osds

REPLACE, MAKE = Step("replace", "b", "/dev/b", 3), Step("make", "b", "/dev/b")


class Cluster:
    """Knows osd.3 by a UUID, and ends the run at one command."""

    def __init__(self, folder: Path, uuid: str, ends_at: str) -> None:
        """Begin with nothing told."""
        self.folder, self.uuid, self.ends_at = folder, uuid, ends_at
        self.told: list[tuple[str, Any]] = []

    def ask(self, prefix: str) -> Any:
        """Return the OSDs."""
        assert prefix == "osd dump"
        return {"osds": [{"osd": 3, "uuid": self.uuid}]}

    def tell(self, command: Mapping[str, Any], data: str = "") -> str:
        """Keep what is told, or end the run."""
        record = json.loads((self.folder / "b.json").read_text(encoding="utf-8"))
        assert record["wanted"] == 3  # whatever is told, the next run knows what for
        assert ceph.is_key(record["key"])
        if command["prefix"] == self.ends_at:
            raise CephError(f"ended at {self.ends_at}")
        self.told.append((command["prefix"], command["id"]))
        return "{}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ceph_osds, "NOTED", str(tmp_path))
    (tmp_path / "b.json").write_text(json.dumps({"osd_uuid": "old", "number": 3, "done": True}), encoding="utf-8")
    return tmp_path


def run(folder: Path, step: Step, uuid: str = "old", ends_at: str = "osd new") -> list[tuple[str, Any]]:
    cluster: Any = Cluster(folder, uuid, ends_at)
    with pytest.raises(CephError, match=f"ended at {ends_at}"):
        ceph_osds.make(cluster, step)
    return list(cluster.told)


def test_what_is_wanted_is_noted_before_a_number_is_freed(folder: Path) -> None:
    assert run(folder, REPLACE, ends_at="osd destroy-actual") == []
    noted = ceph_osds.noted()["b"]
    assert (noted["wanted"], noted["former"], "done" in noted) == (3, "old", False)
    # The next run sees an empty device that was begun.
    assert run(folder, MAKE) == [("osd destroy-actual", 3)]
    assert ceph_osds.noted()["b"] == noted


def test_a_number_that_is_free_already_is_not_freed_again(folder: Path) -> None:
    assert run(folder, REPLACE, uuid="00000000-0000-0000-0000-000000000000") == []


def test_the_number_of_another_osd_is_left_alone(folder: Path) -> None:
    assert run(folder, REPLACE, uuid="another") == []
