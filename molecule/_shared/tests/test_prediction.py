"""A dry run says what the run does: on hosts that had nothing, and for changes of the inventory that an operator makes.

What `prepare` predicted and `converge` did was kept by the callback `brume.cloud.record`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from cloud import plan

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tools import prediction  # noqa: E402

CASES = ("nova-option", "host-option", "database-generation")
"""Of tools/prediction.py, which has more; each takes half a minute."""


def folder(config: pytest.Config) -> Path:
    """Return the inventory's folder."""
    return ROOT / (config.getoption("ansible_inventory") or "inventories/aio")


@pytest.fixture(scope="module")
def cloud(request: pytest.FixtureRequest) -> Iterator[prediction.Cloud]:
    """Return the deployed cloud; afterwards its inventory is rolled out as it was."""
    one = prediction.Cloud(folder(request.config))
    yield one
    assert one.settle() == []


def machine(where: str, wanted: Callable[[dict[str, Any]], bool]) -> testinfra.host.Host:
    """Return the first host whose plan is wanted."""
    name = next(name for name, host in plan(where).items() if wanted(host))
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=where)


def test_bare_hosts(request: pytest.FixtureRequest) -> None:
    state = ROOT / ".lab" / folder(request.config).name
    predicted = prediction.parse((state / "bare-check.jsonl").read_text(encoding="utf-8"))
    done = prediction.parse((state / "bare.jsonl").read_text(encoding="utf-8"))
    plays = {key[0] for key in predicted}
    done = {key: line for key, line in done.items() if key[0] in plays}
    assert sum(len(line.actions) for line in predicted.values()) > 100, "a whole cloud was predicted"
    assert prediction.bare_differences(predicted, done) == []


def test_drift_is_shown_and_left(cloud: prediction.Cloud, where: str) -> None:
    path, unit = "/etc/glance/glance-api.conf", "neutron-l3-agent.service"
    host = machine(where, lambda one: path in [file["path"] for file in one["files"]])
    other = machine(where, lambda one: unit in [planned["name"] for planned in one["units"]])
    assert host.run(f"echo '# by hand' >> {path}").rc == 0
    assert other.run(f"systemctl disable {unit}").rc == 0
    for _again in range(2):
        record = cloud.run(cloud.inventory, "drift", "--tags", "drift", playbook="plan.yml")
        actions = {action.partition(" (")[0] for line in record.values() for action in line.actions}
        # The API still runs on what the plan says, so that it needs no restart once the file is as it was.
        assert actions == {f"change file {path}", f"enable {unit}"}
    assert "# by hand" in host.file(path).content_string
    done = cloud.run(cloud.inventory, "mended")
    assert {action.partition(" (")[0] for line in done.values() for action in line.actions} == actions


@pytest.mark.parametrize("case", CASES)
def test_case(cloud: prediction.Cloud, case: str) -> None:
    lines, _done = cloud.case(case)
    assert lines == []
