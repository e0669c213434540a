"""Who begins a database cluster."""

from __future__ import annotations

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import galera
from ansible_collections.brume.cloud.plugins.module_utils.galera import Decision, Member

NAMES = ("one", "two", "three")
A, B = "aaaaaaaa-0000-4000-8000-00000000000a", "bbbbbbbb-0000-4000-8000-00000000000b"


def stopped(seqno: int, uuid: str = A, safe: bool = False) -> Member:
    return Member(uuid=uuid, seqno=seqno, safe_to_bootstrap=safe, has_data=True)


def running(status: str, seqno: int = 5) -> Member:
    return Member(active=True, cluster_status=status, uuid=A, seqno=seqno, has_data=True)


@pytest.mark.parametrize(
    ("members", "begins", "promoted", "problem"),
    [
        ([Member(), Member(), Member()], "one", "", ""),
        # data of a server that was alone until now
        ([Member(), Member(has_data=True), Member()], "two", "", ""),
        ([Member(has_data=True), Member(has_data=True), Member()], "", "", "one, two hold databases that belong to no"),
        ([stopped(4), Member(has_data=True), stopped(4)], "", "", "two hold databases that belong to no cluster"),
        # the newest write wins, whatever the order and whatever the flag says
        ([stopped(4), stopped(7), stopped(5, safe=True)], "two", "", ""),
        ([stopped(7), stopped(7, safe=True), stopped(7)], "two", "", ""),
        ([stopped(7), stopped(7), stopped(7)], "one", "", ""),
        # one that is new or was wiped joins
        ([Member(), stopped(7), stopped(6)], "two", "", ""),
        ([stopped(galera.UNKNOWN), stopped(7), stopped(6)], "", "", "the last write of one could not be found"),
        ([stopped(7, B), stopped(7), stopped(6)], "", "", f"different clusters: one has {B}:7, two has {A}:7"),
        # somebody serves: the others join
        ([stopped(9), running("Primary"), stopped(6)], "", "", ""),
        # a power cut: who runs waits for the others, and starting them is enough
        ([stopped(9), running("non-Primary"), stopped(6)], "", "", ""),
        ([running("non-Primary", 3), running("non-Primary", 6), running("non-Primary", 5)], "", "two", ""),
    ],
)
def test_who_begins(members: list[Member], begins: str, promoted: str, problem: str) -> None:
    found = galera.decide(dict(zip(NAMES, members, strict=True)), NAMES)
    assert (found.begins, found.promoted) == (begins, promoted)
    assert problem in found.problem
    assert bool(problem) == bool(found.problem)


@pytest.mark.parametrize("member", [Member(), stopped(7), running("non-Primary")])
def test_nobody_begins_while_somebody_was_not_asked(member: Member) -> None:
    assert galera.decide({"one": member, "two": member}, NAMES) == Decision(reason="three were not asked")


def test_members_that_are_asked_may_find_the_primary_component() -> None:
    assert galera.decide({"two": running("Primary")}, NAMES).reason == "there is a primary component"


def test_state_files() -> None:
    text = f"# GALERA saved state\nversion: 2.1\nuuid:    {A}\nseqno:   -1\nsafe_to_bootstrap: 0\n"
    assert galera.parse_state(text) == (A, galera.UNKNOWN, False)
    assert galera.parse_state(text.replace("-1", "42").replace("bootstrap: 0", "bootstrap: 1")) == (A, 42, True)
    assert galera.parse_state("") == (galera.NOBODY, galera.UNKNOWN, False)


def test_a_position_is_found_in_the_data() -> None:
    log = f"2026-01-01 0 [Note] WSREP: Recovered position: {A}:17,1-2-3\n"
    assert galera.parse_recovered(log) == (A, 17)
    assert galera.parse_recovered("nothing") == (galera.NOBODY, galera.UNKNOWN)
