"""What the probe asks of a cloud, and what it says of its calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import api_probe
from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Call, Probe, figures, summary

from .fake_cloud import ADMIN, MEMBER, FakeCloud


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    found = FakeCloud()
    yield found
    found.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


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
    assert figures([]) == {}


@pytest.mark.parametrize(
    ("calls", "gap"),
    [
        ([Call("image", moment, 0.5, "") for moment in (0.0, 1.0, 2.0)], (0.5, 1.5)),
        ([Call("image", 0, 0.5, ""), Call("image", 1, 0.1, "HTTP 503"), Call("image", 2, 0.5, "")], (0.5, 2.5)),
        ([Call("image", 0, 0.5, ""), Call("image", 1, 6.0, ""), Call("image", 2, 5.0, "")], (0.5, 7.0)),  # it waited
        ([Call("image", 0, 0.5, ""), Call("image", 1, 0.5, "refused"), Call("image", 9, 0.5, "refused")], (0.5, 9.5)),
        ([Call("image", 0, 0.5, "refused"), Call("image", 4, 0.5, "")], (0.0, 4.5)),
    ],
)
def test_a_gap_lies_between_two_answers_without_a_failure(calls: list[Call], gap: tuple[float, float]) -> None:
    found = figures([*calls, Call("token", 0.0, 99.0, "")])["image"]
    assert found.gap == pytest.approx(gap)
    assert (found.calls, found.failed) == (len(calls), sum(bool(one.problem) for one in calls))


def test_the_probe_is_a_user_of_its_own_and_leaves_nothing(cloud: FakeCloud, tmp_path: Path) -> None:
    path = cloud.clouds_file(tmp_path)
    cloud.kept["users"]["left"] = {"id": "left", "name": "brume-probe", "domain_id": "default", "password": "old"}
    cloud.kept["users"]["other"] = {"id": "other", "name": "brume-probe", "domain_id": "theirs", "password": "old"}
    probe = Probe(path, "lab")
    assert [(one["id"], one["name"]) for one in cloud.kept["users"].values()] == [
        ("other", "brume-probe"),
        ("users-1", "brume-probe"),
    ]
    assert cloud.roles == [("projects-0", "users-1", "role")]
    before = len(cloud.seen)
    thread = threading.Thread(target=probe.run, args=(40.0,))
    thread.start()
    wait_for(lambda: {one.kind for one in probe.calls} == {"token", "image", "compute", "network"})
    cloud.broken.add("compute")
    wait_for(lambda: any(one.problem for one in probe.calls))
    probe.ended.set()
    thread.join()
    asked = cloud.seen[before:]
    assert {line.rpartition("-")[0] for line in asked if line.startswith("GET")} == {
        f"GET /{kind} {MEMBER}" for kind in ("image/v2/images", "compute/servers", "network/v2.0/networks")
    }
    assert not [line for line in asked if line.endswith(ADMIN)], "the probe calls as a user does"
    assert {one.problem for one in probe.calls if one.kind == "compute"} == {"", "HTTP 503"}
    assert {one.problem for one in probe.calls if one.kind != "compute"} == {""}
    probe.close()
    assert list(cloud.kept["users"]) == ["other"]
    assert cloud.kept["projects"] == {}


def test_a_token_is_used_for_half_of_its_life(tmp_path: Path) -> None:
    for seconds, number in ((3600, "0"), (0, "1")):
        cloud = FakeCloud(token_seconds=seconds)
        probe = Probe(cloud.clouds_file(tmp_path), "lab")
        probe.call("token")
        probe.call("image")
        cloud.close()
        assert cloud.seen[-1] == f"GET /image/v2/images {MEMBER}-{number}"
        assert [one.problem for one in probe.calls] == ["", ""]


def test_a_password_is_used_now_and_then(cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(api_probe.time, "monotonic", lambda: now)
    probe = Probe(cloud.clouds_file(tmp_path), "lab")
    cloud.methods.clear()
    for seconds in (0.0, 1.0, api_probe.LOGIN_INTERVAL - 2.0, 2.0):
        now += seconds
        probe.call("token")
    assert cloud.methods == ["password", "token", "token", "password"]
    assert {one.problem for one in probe.calls} == {""}


def test_an_api_that_hangs_takes_no_calls_of_the_others(
    cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe(cloud.clouds_file(tmp_path), "lab")
    free = threading.Event()
    called: list[str] = []

    def call(kind: str) -> None:
        called.append(kind)
        if kind == "compute":
            free.wait(60)

    monkeypatch.setattr(probe, "call", call)
    thread = threading.Thread(target=probe.run, args=(1000.0,))
    thread.start()
    try:
        wait_for(lambda: min(called.count("compute"), called.count("token")) >= 80)
    finally:
        probe.ended.set()
        free.set()
        thread.join()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clouds: {other: {}}", "cloud lab: there is no 'lab'; site.yml writes the file"),
        ("clouds: {lab: {auth: {auth_url: x}}}", "there is no 'username'"),
        ("", "site.yml writes the file"),
    ],
)
def test_clouds_yaml_that_says_too_little_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "clouds.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"clouds\.yaml") as caught:
        api_probe.settings(path, "lab")
    assert message in str(caught.value)


def server(host: str, *addresses: str) -> dict[str, object]:
    network = [{"addr": "192.0.2.7", "OS-EXT-IPS:type": "fixed"}]
    network += [{"addr": one, "OS-EXT-IPS:type": "floating"} for one in addresses]
    return {"OS-EXT-SRV-ATTR:host": host, "addresses": {"tenant": network}}


def test_one_instance_of_each_host_is_pinged(cloud: FakeCloud, tmp_path: Path) -> None:
    cloud.servers = [
        server("compute1", "203.0.113.1"),
        server("compute1", "203.0.113.2"),
        server("compute1", "203.0.113.3"),
        server("compute2"),
        server("compute3", "203.0.113.4"),
        *(server("compute4", f"203.0.113.{number}") for number in range(5, 9)),
    ]
    servers = api_probe.settings(cloud.clouds_file(tmp_path), "lab").servers()
    assert servers == cloud.servers, "more than one page"
    found = api_probe.floating_ips(servers)
    asked = []

    def ping(address: str) -> bool:
        asked.append(address)
        return address not in ("203.0.113.1", "203.0.113.4", "203.0.113.5", "203.0.113.6", "203.0.113.7")

    assert api_probe.reachable(found, ping) == {"203.0.113.2": "compute1"}
    assert "203.0.113.8" not in asked, "of each host three are tried"
