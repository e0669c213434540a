"""Cell mappings: what is missing is made, what differs is updated, nothing secret is printed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import nova_cells as action
from ansible_collections.brume.cloud.plugins.module_utils import sources
from ansible_collections.brume.cloud.plugins.module_utils.nova_cells import CELL0, astray, compare, to_map
from ansible_collections.brume.cloud.plugins.module_utils.nova_process import NovaError
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import nova_cells as module

from .inventories import committed

WANTED = {
    "cell0": {"transport_url": "rabbit://api:pw1", "database_connection": "mysql://cell0:pw2"},
    "cell1": {"transport_url": "rabbit://cell1:pw3", "database_connection": "mysql://cell1:pw4"},
}
PRESENT: list[dict[str, Any]] = [
    {"uuid": CELL0, "name": "cell0", "transport_url": "none:///", "database_connection": "mysql://cell0:pw2"},
    {
        "uuid": "u1",
        "name": "cell1",
        "transport_url": "rabbit://cell1:pw3",
        "database_connection": "mysql://cell1:pw4",
    },
]


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], ["create cell mapping cell0", "create cell mapping cell1"]),
        (PRESENT, []),
        (PRESENT[:1], ["create cell mapping cell1"]),
        ([{**PRESENT[0], "name": "other"}, PRESENT[1]], []),
        ([PRESENT[0], {**PRESENT[1], "transport_url": "old"}], ["update cell mapping cell1 (transport_url)"]),
        ([*PRESENT, {**PRESENT[1], "name": "cell9", "uuid": "u9"}], []),
    ],
)
def test_changes(present: list[dict[str, Any]], expected: list[str]) -> None:
    assert [str(one) for one in compare(WANTED, present)] == expected


def test_cell0_has_its_uuid_and_no_transport() -> None:
    cell0 = compare(WANTED, [])[0]
    assert cell0.uuid == CELL0
    assert cell0.values["transport_url"] == "none:///"


def test_nothing_secret_is_shown() -> None:
    for change in compare(WANTED, [{**PRESENT[1], "database_connection": "old"}]):
        shown = str(change) + str(change.diff())
        assert "pw" not in shown
        assert change.diff()["before"] != change.diff()["after"]


def test_hosts_in_another_cell_are_named_and_unmapped_ones_are_not() -> None:
    wanted = {"one": "cell1", "two": "cell2", "new": "cell2"}
    assert astray(wanted, {"one": "cell1", "two": "cell2", "other": "cell9"}) == ""
    text = astray(wanted, {"one": "cell2", "two": "cell1"})
    assert [line.partition(",")[0] for line in text.splitlines()[:-1]] == [
        "compute host one is mapped to cell2",
        "compute host two is mapped to cell1",
    ]


@pytest.mark.parametrize(
    ("awaited", "reported", "expected"),
    [
        ([], {}, {}),
        (["new"], {}, {"new": "cell2"}),
        (["old", "new"], {"new": "cell2", "old": "cell1"}, {"new": "cell2"}),
        ([], {"new": "cell2"}, {"new": "cell2"}),
        (["new"], {"guest": "cell1"}, {"new": "cell2", "guest": "cell1"}),
        (["stranger"], {}, {}),
    ],
)
def test_hosts_that_report_or_are_in_play_are_mapped_and_no_others(
    awaited: list[str], reported: dict[str, str], expected: dict[str, str]
) -> None:
    wanted = {"old": "cell1", "new": "cell2", "never": "cell1"}
    assert to_map(wanted, awaited, {"old": "cell1"}, reported) == expected


class Nova:
    """The module's process of Nova's Python: hosts report one after the other, at each discovery."""

    mapped: dict[str, str]
    unmapped: dict[str, str]
    coming: dict[str, str]
    orders: list[str]
    started: list[str]

    def __init__(self, *started: str) -> None:
        """Start it, however often."""
        self.started.append(started[0])

    def order(self, **order: Any) -> dict[str, Any]:
        """Answer as PROGRAM does."""
        self.orders.append(order["do"])
        if order["do"] == "read":
            unmapped = dict(self.unmapped) if order["unmapped"] else {}
            return {"cells": PRESENT, "hosts": dict(self.mapped), "unmapped": unmapped}
        assert order["do"] == "discover"
        self.mapped.update(self.unmapped | self.coming)
        return {"missing": sorted(set(order["hosts"]) - set(self.mapped)), "hosts": dict(self.mapped)}

    def close(self) -> None:
        """End it."""


@pytest.fixture
def nova(monkeypatch: pytest.MonkeyPatch) -> type[Nova]:
    fresh: dict[str, Any] = {"mapped": {"one": "cell1"}, "unmapped": {}, "coming": {}, "orders": [], "started": []}
    kind = type("Fresh", (Nova,), fresh)
    monkeypatch.setattr(module, "NovaProcess", kind)
    return kind


def converged(check_mode: bool = False, **params: Any) -> list[str]:
    taken = {
        "environment": "/new",
        "current": "/old",
        "user": "",
        "config_file": "",
        "cells": {},
        "hosts": {"one": "cell1", "two": "cell1", "never": "cell1"},
        "discover": True,
        "wait_for": [],
        "timeout": 1,
    }
    found: list[str] = module.converge(taken | params, check_mode)["actions"]
    return found


def test_a_dry_run_asks_the_release_in_use(nova: type[Nova]) -> None:
    converged(check_mode=True)
    converged()
    assert nova.started == ["/old", "/new"]


def test_a_host_that_was_never_deployed_is_no_failure(nova: type[Nova]) -> None:
    assert converged() == converged(check_mode=True) == []
    assert "discover" not in nova.orders


def test_a_host_in_play_is_predicted_waited_for_and_mapped(nova: type[Nova]) -> None:
    nova.coming = {"two": "cell1"}
    predicted = converged(check_mode=True, wait_for=["two"])
    assert "discover" not in nova.orders
    assert converged(wait_for=["two"]) == predicted == ["map compute host two to cell1"]
    assert nova.mapped == {"one": "cell1", "two": "cell1"}
    assert converged(wait_for=["two"]) == []


def test_a_host_in_play_that_does_not_report_is_named(nova: type[Nova]) -> None:
    with pytest.raises(NovaError, match=r"have not reported within 1 s: two\n  next: read `journalctl"):
        converged(wait_for=["one", "two"])


def test_what_an_earlier_run_left_unmapped_is_mapped(nova: type[Nova]) -> None:
    nova.unmapped = {"two": "cell1"}
    assert converged(check_mode=True) == converged() == ["map compute host two to cell1"]


@pytest.mark.parametrize("discover", [True, False])
def test_a_host_that_reported_in_another_cell_is_refused_before_it_is_mapped(nova: type[Nova], discover: bool) -> None:
    nova.unmapped = {"two": "cell9"}
    if not discover:
        assert converged(discover=False) == []
        return
    with pytest.raises(NovaError, match="compute host two is mapped to cell9"):
        converged(wait_for=["two"])
    assert "discover" not in nova.orders


@pytest.mark.parametrize(
    ("in_play", "awaited"),
    [
        (["controller1"], []),
        (["controller1", "compute1", "compute2", "network1"], ["compute1", "compute2"]),
        (["compute2"], ["compute2"]),
        (["network1"], None),
        (["controller2"], None),
    ],
)
def test_the_action_waits_for_hosts_in_play(in_play: list[str], awaited: list[str] | None) -> None:
    found = plan(committed("ha"), sources.load())
    vault = Vault(bytes(range(32)), {})
    piece = Slice(found, found.hosts["compute1"], sources.load(), Renderer(found, sources.load(), vault.value), vault)
    taken = action.ActionModule.__new__(action.ActionModule).arguments(piece, {"hosts": in_play})
    if awaited is None:
        assert taken is None
        return
    assert taken is not None
    assert (taken["discover"], taken["wait_for"]) == (True, awaited)
    assert taken["hosts"] == {"compute1": "cell1", "compute2": "cell1"}
