"""Members of OVN's databases: what each does follows from what all of them hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import ovn
from ansible_collections.brume.cloud.plugins.module_utils.ovn import NORTHBOUND, SOUTHBOUND, Member, Step, decide

ADDRESSES = {"one": "192.0.2.11", "two": "192.0.2.12", "three": "192.0.2.13"}
ONE, TWO, THREE = PLACES = [f"ssl:{address}:6643" for address in ADDRESSES.values()]
CLUSTER = "38b0510a-0c18-419d-8127-60573d898e0f"
SERVERS = {"ad88": ONE, "ebce": TWO, "0ba0": THREE}

EMPTY = Member()
JOINS = Member(exists=True, server="cefc0000", address=TWO)
STOPPED = {
    name: Member(exists=True, cluster=CLUSTER, server=f"{server}0000", address=place)
    for name, (server, place) in zip(ADDRESSES, SERVERS.items(), strict=True)
}
WORKS = {name: replace(one, active=True, leader=True, servers=SERVERS) for name, one in STOPPED.items()}
ALONE = replace(WORKS["three"], leader=False)
OTHER = "dbb665ff-413c-4690-98fc-ac8d3d485e32"

STATUS = """ebce
Name: OVN_Northbound
Cluster ID: 38b0 (38b0510a-0c18-419d-8127-60573d898e0f)
Server ID: ebce (ebcecd74-7714-4fa3-8e49-a6555af4e22b)
Address: ssl:192.0.2.12:6643
Status: cluster member
Role: follower
Term: 2
Leader: ad88
Vote: unknown

Election timer: 4000
Log: [2, 6]
Entries not yet committed: 0
Entries not yet applied: 0
Connections: ->0000 <-ad88 <-0ba0 ->0ba0
Disconnections: 1
Servers:
    ebce (ebce at ssl:192.0.2.12:6643) (self)
    0ba0 (0ba0 at ssl:192.0.2.13:6643)
    ad88 (ad88 at ssl:192.0.2.11:6643) last msg 616 ms ago
"""
"""What ovsdb-server 3.5 prints."""


@pytest.mark.parametrize(
    ("leader", "found"),
    [
        ("ad88", (CLUSTER, False, True, SERVERS)),
        ("self", (CLUSTER, True, True, SERVERS)),
        ("unknown", (CLUSTER, False, False, SERVERS)),
    ],
)
def test_what_a_server_says_is_read(leader: str, found: Any) -> None:
    assert ovn.parse_status(STATUS.replace("Leader: ad88", f"Leader: {leader}")) == found


def test_a_server_that_knows_no_cluster() -> None:
    assert ovn.parse_status("") == ("", False, False, {})
    assert ovn.parse_status("Cluster ID: not yet known\nLeader: unknown\n")[0] == ""


@pytest.mark.parametrize(
    ("members", "steps"),
    [
        pytest.param(
            {"one": EMPTY, "two": EMPTY, "three": EMPTY},
            {"one": Step(create=True), "two": Step(join=(ONE, THREE)), "three": Step(join=(ONE, TWO))},
            id="bare hosts",
        ),
        pytest.param(
            {"one": EMPTY, "two": JOINS, "three": replace(JOINS, address=THREE)},
            {"one": Step(create=True)},
            id="two wait for one that has lost its file before they joined",
        ),
        pytest.param(
            {"one": JOINS, "two": EMPTY, "three": EMPTY},
            {"three": Step(create=True), "two": Step(join=(ONE, THREE))},
            id="one waits already, so another begins",
        ),
        pytest.param(
            {"one": replace(JOINS, active=True), "two": JOINS, "three": JOINS},
            {"one": Step(stop=True, set_aside=True, create=True)},
            id="all wait for one that never was",
        ),
        pytest.param({"one": EMPTY, "two": EMPTY}, {}, id="one was not asked: it may hold everything"),
        pytest.param(STOPPED, {}, id="all stopped, as after a power cut"),
        pytest.param(WORKS, {}, id="all work"),
        pytest.param({"two": WORKS["two"]}, {}, id="only one was asked"),
        pytest.param(
            WORKS | {"two": EMPTY},
            {"two": Step(join=(ONE, THREE), cluster=CLUSTER), "one": Step(kick=("ebce",))},
            id="one came back empty",
        ),
        pytest.param(
            {"one": EMPTY, "two": WORKS["two"]},
            {"one": Step(join=(TWO,), cluster=CLUSTER), "two": Step(kick=("ad88",))},
            id="the first came back empty, and another was not asked",
        ),
        pytest.param(
            STOPPED | {"two": EMPTY},
            {"two": Step(join=(ONE, THREE), cluster=CLUSTER)},
            id="one came back empty while all are stopped; its former self is removed once they work",
        ),
        pytest.param(
            {name: replace(one, servers=SERVERS | {"cefc": TWO}) for name, one in WORKS.items()}
            | {"two": replace(WORKS["two"], server="cefc0000", servers=SERVERS | {"cefc": TWO})},
            {"one": Step(kick=("ebce",))},
            id="the former self of one that has joined anew",
        ),
        pytest.param(
            WORKS | {"two": replace(JOINS, active=True)},
            {"one": Step(kick=("ebce",))},
            id="the former self of one that waits to join",
        ),
        pytest.param(
            {name: replace(one, servers={"ad88": ONE, "0ba0": THREE}) for name, one in WORKS.items()}
            | {"two": replace(STOPPED["two"], active=True)},
            {"two": Step(stop=True, set_aside=True, join=(ONE, THREE), cluster=CLUSTER)},
            id="others have removed one",
        ),
        pytest.param(
            {name: replace(one, servers=SERVERS | {"ebce": "ssl:192.0.2.99:6643"}) for name, one in WORKS.items()}
            | {"two": replace(STOPPED["two"], address="ssl:192.0.2.99:6643")},
            {
                "two": Step(set_aside=True, join=(ONE, THREE), cluster=CLUSTER),
                "one": Step(kick=("ebce",)),
            },
            id="one has another address",
        ),
        pytest.param(
            {"one": replace(WORKS["one"], servers={"ad88": ONE}), "two": EMPTY, "three": EMPTY},
            {"two": Step(join=(ONE,), cluster=CLUSTER), "three": Step(join=(ONE,), cluster=CLUSTER)},
            id="from one to three",
        ),
        pytest.param(
            {name: replace(one, leads=name == "two", outdated=True) for name, one in WORKS.items()},
            {"two": Step(convert=True)},
            id="the leader brings the schema of a new package",
        ),
        pytest.param(
            {"one": STOPPED["one"], "two": EMPTY, "three": ALONE},
            {},
            id="one waits for another that will start",
        ),
    ],
)
def test_what_the_members_do(members: dict[str, Member], steps: dict[str, Step]) -> None:
    decision = decide(NORTHBOUND, members, ADDRESSES)
    assert (decision.steps, decision.problem) == (steps, "")


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (
            {"one": EMPTY, "two": EMPTY, "three": ALONE},
            "of 3 members only three hold their data, which is no majority",
        ),
        (
            WORKS | {"two": replace(STOPPED["two"], cluster=OTHER)},
            f"the members belong to different clusters: one to {CLUSTER}, two to {OTHER}, three to {CLUSTER}",
        ),
        (
            {"one": Member(exists=True, standalone=True), "two": EMPTY, "three": EMPTY},
            "what one holds belongs to no cluster",
        ),
    ],
)
def test_what_only_the_operator_can_decide(members: dict[str, Member], problem: str) -> None:
    assert decide(NORTHBOUND, members, ADDRESSES).problem == problem
    assert not decide(NORTHBOUND, members, ADDRESSES).steps
    assert decide(NORTHBOUND, members, ADDRESSES, bootstrap="nobody").problem == problem
    some = {name: one for name, one in members.items() if name != "two"}
    assert not decide(NORTHBOUND, some, ADDRESSES, bootstrap="three").steps, "two has to take it up too"


def test_the_operator_names_whose_data_is_kept() -> None:
    decision = decide(NORTHBOUND, {"one": JOINS, "two": EMPTY, "three": ALONE}, ADDRESSES, bootstrap="three")
    assert decision.steps == {
        "one": Step(set_aside=True, join=(THREE,)),
        "two": Step(join=(THREE,)),
        "three": Step(stop=True, set_aside=True, create=True, from_own=True),
    }
    assert not decide(NORTHBOUND, WORKS, ADDRESSES, bootstrap="three").steps, "there is nothing to decide"


def test_a_member_that_no_host_is_any_more_is_named_and_stays() -> None:
    known = SERVERS | {"beef": "ssl:192.0.2.14:6643"}
    decision = decide(NORTHBOUND, {name: replace(one, servers=known) for name, one in WORKS.items()}, ADDRESSES)
    assert decision.strangers == ("ssl:192.0.2.14:6643",)
    assert not decision.steps


@pytest.mark.parametrize("order", [["one", "two", "three"], ["three", "two", "one"], ["two", "three", "one"]])
def test_the_order_of_the_inventory_decides_nothing(order: list[str]) -> None:
    members: dict[str, Member] = {"one": EMPTY, "two": STOPPED["two"], "three": EMPTY}
    addresses = {name: ADDRESSES[name] for name in order}
    decision = decide(NORTHBOUND, {name: members[name] for name in order}, addresses)
    assert decision.steps == {name: Step(join=(TWO,), cluster=CLUSTER) for name in ("one", "three")}
    bare = decide(NORTHBOUND, dict.fromkeys(order, EMPTY), addresses)
    assert [name for name, step in bare.steps.items() if step.create] == ["one"]


def test_one_host_is_a_cluster_of_one() -> None:
    assert decide(SOUTHBOUND, {"one": EMPTY}, {"one": "2001:db8::1"}).steps == {"one": Step(create=True)}
    assert ovn.actions(SOUTHBOUND, Step(create=True), ovn.location("2001:db8::1", 6644)) == [
        "begin a cluster of OVN_Southbound at ssl:[2001:db8::1]:6644"
    ]


def test_what_a_step_says() -> None:
    step = Step(stop=True, set_aside=True, create=True, from_own=True, kick=("ebce",), convert=True)
    assert ovn.actions(NORTHBOUND, step, ONE) == [
        "stop ovn-ovsdb-server-nb.service",
        "set /var/lib/ovn/ovnnb_db.db aside",
        f"begin a cluster of OVN_Northbound at {ONE} with what it holds",
        "remove the lost member ebce from OVN_Northbound",
        "convert OVN_Northbound to the schema of the package",
    ]
