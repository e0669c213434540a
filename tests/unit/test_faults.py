"""What the losses of hosts and services are judged by."""

from __future__ import annotations

import math

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Call

from tools.fault_parts.losses import verdict
from tools.fault_parts.together import Together
from tools.fault_parts.watch import Seen, longest_gap

FINE = Call("token", 1.0, 0.2, "")


def seen(*calls: Call, missing: int = 0, **gaps: float) -> Seen:
    return Seen((FINE, *calls), 10, missing, gaps)


@pytest.mark.parametrize(
    ("answers", "gap"),
    [
        ([1.0, 1.1, 1.2, 3.2, 3.3, 4.0], 1.9),
        ([3.9], 2.8),  # the first answer comes late
        ([1.1], 2.8),  # nothing comes back
        ([], 2.9),
        ([0.5, 4.5], 2.9),  # others' times do not count
        ([number / 10 for number in range(10, 40)], 0.0),
    ],
)
def test_the_longest_time_without_an_answer(answers: list[float], gap: float) -> None:
    assert longest_gap(answers, 1.0, 4.0) == pytest.approx(gap)


def test_calls_may_fail_for_a_while_after_a_host_is_lost() -> None:
    early, late = Call("image", 4.9, 1.0, "HTTP 503"), Call("image", 5.0, 1.0, "HTTP 502")
    assert verdict(seen(early), 5, {}) == []
    assert verdict(seen(Call("image", -0.2, 1.0, "reset")), 5, {}) == [], "it was on its way"
    assert verdict(seen(early, late), 5, {}) == ["1 calls failed, the first at 5.0 s: image: HTTP 502"]


def test_no_call_may_fail_when_a_service_is_lost() -> None:
    assert verdict(seen(), -math.inf, {}) == []
    assert verdict(seen(Call("token", -0.2, 1.0, "reset")), -math.inf, {}) == [
        "1 calls failed, the first at -0.2 s: token: reset"
    ]


def test_a_write_may_fail_but_not_vanish() -> None:
    assert verdict(seen(Call("write", 8.0, 1.0, "HTTP 500")), -math.inf, {}) == []
    assert verdict(seen(missing=2), 5, {}) == ["2 acknowledged writes are gone"]


def test_addresses_may_be_silent_for_less_than_their_aim() -> None:
    assert verdict(seen(address=2.9, instance=9.9), 5, {"address": 3.0, "instance": 10.0}) == []
    assert verdict(seen(address=3.0, instance=0.1), 5, {"address": 3.0, "instance": 10.0}) == [
        "address did not answer for 3.0 s (aim 3)"
    ]


def test_what_is_down_on_two_hosts_at_once_is_told_once() -> None:
    watch = Together()
    watch.report("one", ["nova-api.service"])
    watch.report("two", ["glance-api.service"])
    watch.report("one", [])
    watch.report("two", ["nova-api.service"])
    assert not watch.found
    watch.report("one", ["nova-api.service", "haproxy.service"])
    watch.report("one", ["nova-api.service"])
    assert list(watch.found) == ["nova-api.service"]
    assert watch.found["nova-api.service"].startswith("nova-api.service was down on one and two after ")
