"""What the probe says of its calls."""

from __future__ import annotations

from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Call, summary


def test_calls_are_counted_by_kind_and_failures_are_listed() -> None:
    calls = [
        Call("token", 0.0, 0.25, ""),
        Call("image", 0.1, 12.04, ""),
        Call("token", 0.2, 60.0, "timed out"),
        Call("image", 0.3, 0.1, "HTTP 503"),
        Call("image", 0.4, 0.1, ""),
    ]
    assert summary(calls) == [
        "call        number  failed   longest",
        "token            2       1    60.0 s",
        "image            3       1    12.0 s",
        "probe: 5 calls, 2 failed",
        "  at 0.2 s: token: timed out",
        "  at 0.3 s: image: HTTP 503",
    ]


def test_a_long_list_of_failures_says_what_it_leaves_out() -> None:
    lines = summary([Call("token", number, 1.0, "refused") for number in range(25)])
    assert lines[2] == "probe: 25 calls, 25 failed"
    assert lines[-2:] == ["  at 19.0 s: token: refused", "  and 5 more"]


def test_without_a_call_there_is_no_failure() -> None:
    assert summary([]) == ["call        number  failed   longest", "probe: 0 calls, 0 failed"]
