"""Cell mappings: what is missing is made, what differs is updated, nothing secret is printed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.nova_cells import CELL0, astray, compare

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
