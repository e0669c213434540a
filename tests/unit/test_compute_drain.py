"""Emptying compute hosts, against a Nova and a Placement in memory that move instances."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.action import compute_drain as action
from ansible_collections.brume.cloud.plugins.module_utils import compute_drain, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.compute_drain import MARK, Apis, Wish, Work, step
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError
from ansible_collections.brume.cloud.plugins.module_utils.drain_action import mistake
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import compute_drain as module

from .fake_compute import Killed, Nova
from .inventories import AIO, committed, inventory


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def drain(nova: Nova, *hosts: str, check: bool = False, **more: Any) -> dict[str, Any]:
    """Run the module's logic to its end, and return what it says."""
    clock, lines = Clock(), list[str]()
    within = more.pop("within", None)
    work: dict[str, Any] | None = None
    wish = Wish(tuple(hosts), **more)
    apis = Apis(nova.request, nova.request, nova.placement)
    first: dict[str, Any] = {}
    while True:
        result = step(
            wish,
            apis,
            Work.of(json.loads(json.dumps(work))),
            lines,
            check_mode=check,
            until=clock() + within if within is not None else float("inf"),
            clock=clock,
            sleep=clock.sleep,
            elsewhere={"network1"},
        )
        first = first or result
        if result["done"]:
            return {**first, "lines": lines}
        work = result["resume"]


def refused(nova: Nova, *hosts: str, **more: Any) -> str:
    """Return why a drain does not begin or end, and see that it changed nothing unless it had to."""
    with pytest.raises(ConvergenceError) as caught:
        drain(nova, *hosts, **more)
    return str(caught.value)


def reason(nova: Nova, host: str) -> str:
    return str(nova.services[host]["disabled_reason"])


@pytest.fixture
def nova() -> Nova:
    """Return a cloud whose first host has an instance of each state that can leave."""
    cloud = Nova()
    cloud.server("web", "compute1")
    cloud.server("frozen", "compute1", "paused")
    cloud.server("off", "compute1", "stopped")
    cloud.server("kept", "compute1", "shelved")
    cloud.server("other", "compute2")
    return cloud


def test_a_host_is_emptied_and_check_mode_tells_it_before(nova: Nova) -> None:
    dry = drain(nova, "compute1", check=True)
    assert nova.calls == []
    real = drain(nova, "compute1")
    assert {key: dry[key] for key in ("changed", "actions", "diff")} == {
        key: real[key] for key in ("changed", "actions", "diff")
    }
    assert "update compute service compute1 (disabled_reason, status)" in real["actions"]
    assert "offload shelved instance kept (uuid-kept) from compute1" in real["actions"]
    for name, way in (("web", "live"), ("frozen", "live"), ("off", "cold")):
        to = nova.host_of(f"uuid-{name}")
        assert f"move instance {name} (uuid-{name}) from compute1 to {to} by {way} migration" in real["actions"]
    assert nova.on("compute1") == []
    assert nova.state_of("uuid-off") == ("stopped", None)
    assert nova.state_of("uuid-frozen") == ("paused", None)
    assert {host for host, _ram in nova.allocations.values()}.isdisjoint({"compute1"})
    assert nova.services["compute1"]["status"] == "disabled"
    assert reason(nova, "compute1").startswith(MARK)
    assert nova.most["compute1"] == 2
    calls = len(nova.calls)
    assert drain(nova, "compute1")["changed"] is False
    assert len(nova.calls) == calls


def test_hosts_are_empty_at_the_same_time(nova: Nova) -> None:
    assert drain(nova, "compute1", "compute2", "compute3")["changed"]
    assert [nova.on(f"compute{number}") for number in (1, 2, 3)] == [[], [], []]
    assert nova.on("compute4") == ["frozen", "off", "other", "web"]
    assert len([call for call in nova.calls if "/action" in call]) == 6, "nobody moved twice"


def test_undrain_enables_what_a_drain_disabled_and_nothing_else(nova: Nova) -> None:
    nova.services["compute3"] |= {"status": "disabled", "disabled_reason": "broken fan"}
    result = drain(nova, "compute1", "compute3")
    assert any("broken fan" in line for line in result["lines"])
    assert reason(nova, "compute3") == "broken fan"
    hosts = ("compute1", "compute2", "compute3")
    dry = drain(nova, *hosts, check=True, enabled=True)
    real = drain(nova, *hosts, enabled=True)
    assert real["actions"] == dry["actions"] == ["update compute service compute1 (disabled_reason, status)"]
    assert nova.services["compute1"]["status"] == "enabled"
    assert nova.services["compute3"]["status"] == "disabled"
    assert any("stays disabled; the reason given is: broken fan" in line for line in real["lines"])
    assert drain(nova, *hosts, enabled=True)["changed"] is False


@pytest.mark.parametrize(
    ("state", "more", "said"),
    [
        ("suspended", {}, "is suspended\n  next: openstack server resume uuid-sad"),
        ("rescued", {}, "next: openstack server unrescue uuid-sad"),
        ("error", {}, "is in error"),
        ("resized", {}, "next: openstack server resize confirm uuid-sad"),
        ("soft-delete", {}, "next: openstack server restore uuid-sad"),
        ("active", {"extra_specs": {"accel:device_profile": "gpu"}}, "has an accelerator"),
        ("active", {"properties": {"hw_mem_encryption": "True"}}, "has encrypted memory"),
        ("active", {"extra_specs": {"hw:tpm_version": "2.0"}}, "has a TPM"),
        ("active", {"task": "resize_prep"}, "is being resized"),
        ("deleted", {}, "no way leads to another host"),
    ],
)
def test_what_cannot_leave_is_told_before_anything_changes(
    nova: Nova, state: str, more: dict[str, Any], said: str
) -> None:
    nova.server("sad", "compute1", state, **more)
    text = refused(nova, "compute1")
    assert "1 instance cannot leave; nothing was changed" in text
    assert said in text
    assert "drain_accept_stuck" in text
    assert text == refused(nova, "compute1", check=True)
    assert nova.calls == []
    assert drain(nova, "compute1", accept_stuck=True)["changed"]
    assert nova.on("compute1") == ["sad"]
    assert drain(nova, "compute1", accept_stuck=True)["changed"] is False


def test_a_stopped_instance_with_a_tpm_moves() -> None:
    nova = Nova(2)
    nova.server("safe", "compute1", "stopped", extra_specs={"hw:tpm_version": "2.0"})
    drain(nova, "compute1")
    assert nova.on("compute2") == ["safe"]


def test_a_host_that_is_down_is_not_drained_with_instances(nova: Nova) -> None:
    nova.services["compute1"]["state"] = "down"
    assert "nova-compute does not answer\n  next: start it, or evacuate" in refused(nova, "compute1")
    nova.services["compute4"]["state"] = "down"
    assert drain(nova, "compute4")["changed"]


def test_instances_without_a_place_are_told() -> None:
    nova = Nova(2, ram=5500)
    nova.server("big", "compute1", size="m4")
    nova.server("small", "compute1")
    nova.server("full", "compute2")
    text = refused(nova, "compute1")
    assert "there is room for each instance of its host, but not for all of them together" in text
    drain(nova, "compute1", accept_stuck=True)
    assert nova.on("compute1") == ["big"]


def test_groups_are_kept() -> None:
    nova = Nova(3)
    members = [nova.server("one", "compute1"), nova.server("two", "compute2")]
    nova.groups = [{"id": "group", "name": "apart", "policy": "anti-affinity", "members": members}]
    drain(nova, "compute1")
    assert nova.on("compute3") == ["one"]
    assert "ServerGroupAntiAffinityFilter refuses" in refused(nova, "compute2", "compute1")


def test_the_last_host_stays_unless_one_insists() -> None:
    nova = Nova(2)
    text = refused(nova, "compute1", "compute2")
    assert "without compute1, compute2 no compute host is left that takes instances" in text
    assert nova.calls == []
    assert drain(nova, "compute1", "compute2", accept_stuck=True)["changed"]
    assert drain(nova, "compute1", "compute2")["changed"] is False


def test_cells_are_not_left() -> None:
    nova = Nova(3)
    nova.server("web", "compute1")
    cells = {"compute1": "cell2", "compute2": "cell1", "compute3": "cell2"}
    drain(nova, "compute1", cells=cells)
    assert nova.on("compute3") == ["web"]
    assert "destinations refuses 2 hosts" in refused(nova, "compute3", cells={**cells, "compute1": "cell1"})


def test_a_cell_that_is_down_is_told() -> None:
    nova = Nova(2)
    nova.services["compute2"] = {"host": "compute2", "binary": "nova-compute", "status": "UNKNOWN"}
    assert "the cell of compute2 does not answer" in refused(nova, "compute2")
    assert "no compute host is left" in refused(nova, "compute1")


def test_unknown_hosts_are_named() -> None:
    text = refused(Nova(2), "compute1", "compute9", "network1", "nobody")
    assert "neither Nova nor Neutron knows compute9, nobody; they know compute1, compute2, network1" in text
    assert drain(Nova(2), "network1")["changed"] is False


def test_a_migration_that_fails_is_tried_with_another_destination() -> None:
    nova = Nova(3)
    nova.server("web", "compute1")
    (planned,) = [one for one in drain(nova, "compute1", check=True)["actions"] if "web" in one]
    first = "compute2" if "compute2" in planned else "compute3"
    nova.refusing = {first: 9}
    result = drain(nova, "compute1")
    assert nova.on({"compute2": "compute3", "compute3": "compute2"}[first]) == ["web"]
    assert any("failed: compute_live_migration: Error: qemu said no" in line for line in result["lines"])


def test_with_one_destination_alone_it_is_tried_again() -> None:
    nova = Nova(2)
    nova.server("web", "compute1")
    nova.refusing = {"compute2": 1}
    drain(nova, "compute1")
    assert nova.on("compute2") == ["web"]


def test_an_instance_that_fails_twice_is_an_error_and_the_others_move() -> None:
    nova = Nova(2)
    nova.server("web", "compute1")
    nova.server("off", "compute1", "stopped")
    nova.refusing = {"compute2": 2}
    text = refused(nova, "compute1", per_host=1)
    assert "could not be moved, to compute2: compute_live_migration: Error: qemu said no; to compute2: " in text
    assert nova.on("compute2") == ["off"]
    assert drain(nova, "compute1")["changed"], "the next run tries again"
    assert nova.on("compute1") == []


def test_a_migration_without_progress_is_given_up_and_one_with_progress_is_not(nova: Nova) -> None:
    job = nova.start("uuid-web", "compute2", live=True)
    job["left"] = 2000
    drain(nova, "compute1", patience=60.0)
    assert nova.on("compute1") == []
    nova.server("slow", "compute3")
    nova.start("uuid-slow", "compute4", live=True)
    nova.hanging = {"uuid-slow"}
    text = refused(nova, "compute3", patience=60.0)
    assert "nothing of compute3 has made progress for 60 s" in text
    assert "openstack server migration abort" in text


def test_an_instance_that_is_deleted_meanwhile_is_no_error(nova: Nova, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive = nova._arrive

    def deleted(server: dict[str, Any], job: dict[str, Any]) -> bool:
        found = arrive(server, job)
        if server["id"] == "uuid-web":
            del nova.servers["uuid-web"], nova.allocations["uuid-web"]
        return found

    monkeypatch.setattr(nova, "_arrive", deleted)
    monkeypatch.setattr(nova, "_tick", _forgiving(nova))
    assert any("the instance was deleted" in line for line in drain(nova, "compute1")["lines"])


def _forgiving(nova: Nova) -> Any:
    def tick(uuid: str) -> None:
        try:
            Nova._tick(nova, uuid)
        except KeyError:
            nova.allocations.pop(uuid, None)

    return tick


def test_a_user_that_stops_an_instance_meanwhile_lets_it_move_cold() -> None:
    nova = Nova(2)
    for name in ("one", "two"):
        nova.server(name, "compute1")
    told = drain(nova, "compute1", check=True)
    answer = nova._act

    def act(server: dict[str, Any], verb: str, given: Any) -> dict[str, Any]:
        for other in nova.servers.values():  # as soon as the first is on its way
            if other is not server and nova.host_of(other["id"]) == "compute1":
                other["OS-EXT-STS:vm_state"] = "stopped"
        return answer(server, verb, given)

    nova._act = act  # type: ignore[method-assign]
    result = drain(nova, "compute1", per_host=1)
    assert result["actions"] == told["actions"]
    assert any("not begun, since it is stopped by now" in line for line in result["lines"])
    assert nova.on("compute2") == ["one", "two"]


def test_a_resize_of_a_user_is_never_confirmed(nova: Nova) -> None:
    for name, kind in (("resized", "resize"), ("moved", "migration")):
        nova.start(nova.server(name, "compute1", "stopped"), "compute2", live=False, kind=kind)
        nova.finish(f"uuid-{name}")
    text = refused(nova, "compute1")
    assert "is on compute2 by a resize that was not confirmed" in text
    assert "openstack server migration confirm uuid-moved" in text, "an operator's own, from before the drain"
    drain(nova, "compute1", accept_stuck=True)
    assert [nova.state_of(f"uuid-{name}")[0] for name in ("resized", "moved")] == ["resized", "resized"]


def test_undrain_finishes_what_a_killed_drain_left(nova: Nova) -> None:
    def answer(method: str, path: str, body: Any = None) -> dict[str, Any]:
        result = Nova.request(nova, method, path, body)
        if body and "migrate" in body:
            raise Killed
        return result

    nova.request = answer  # type: ignore[method-assign]
    with pytest.raises(Killed):
        drain(nova, "compute1")
    del nova.request  # type: ignore[method-assign]
    nova.finish("uuid-off")
    assert nova.state_of("uuid-off")[0] == "resized"
    result = drain(nova, "compute1", enabled=True)
    assert any(one.startswith("confirm cold migration of instance off") for one in result["actions"])
    assert nova.state_of("uuid-off")[0] == "stopped"
    assert nova.services["compute1"]["status"] == "enabled"


def test_what_comes_to_the_host_is_waited_for_and_moved_on(nova: Nova) -> None:
    nova.start("uuid-other", "compute1", live=True)
    nova.server("new", "compute1", "building", task="spawning")
    calls = 0

    def answer(method: str, path: str, body: Any = None) -> dict[str, Any]:
        nonlocal calls
        calls += "uuid-new" in path
        if calls == 3:
            nova.servers["uuid-new"] |= {"OS-EXT-STS:vm_state": "active", "OS-EXT-STS:task_state": None}
        return Nova.request(nova, method, path, body)

    nova.request = answer  # type: ignore[method-assign]
    drain(nova, "compute1")
    assert nova.on("compute1") == []
    assert nova.state_of("uuid-new") == ("active", None)


def test_allocations_without_an_instance_are_an_error(nova: Nova) -> None:
    nova.allocations["lost"] = ("compute1", 1)
    text = refused(nova, "compute1")
    assert "compute1: Placement has allocations there, of lost, and Nova no instance" in text
    assert "nova-manage placement audit" in text


def test_short_calls_do_the_same_as_a_long_one(nova: Nova) -> None:
    told = drain(nova, "compute1", check=True)
    result = drain(nova, "compute1", within=0.0)
    assert result["actions"] == told["actions"]
    assert len([line for line in result["lines"] if line.endswith(": done")]) == 4
    assert nova.on("compute1") == []


def _small() -> Nova:
    nova = Nova(3)
    nova.server("web", "compute1")
    nova.server("off", "compute1", "stopped")
    nova.server("kept", "compute1", "shelved")
    return nova


def _requests_of_a_drain() -> int:
    nova = _small()
    drain(nova, "compute1")
    return nova.requests


@pytest.mark.parametrize("arrived", [False, True])
def test_a_run_that_is_killed_at_any_request_is_finished_by_the_next_one(arrived: bool) -> None:
    total = _requests_of_a_drain()
    assert total > 40
    for number in range(1, total + 1):
        nova = _small()
        nova.kill = (number, arrived)
        with pytest.raises(Killed):
            drain(nova, "compute1")
        nova.kill = None
        told = drain(nova, "compute1", check=True)
        result = drain(nova, "compute1")
        assert told["actions"] == result["actions"], number
        assert nova.on("compute1") == [], number
        assert nova.state_of("uuid-off") == ("stopped", None), number
        assert nova.state_of("uuid-web") == ("active", None), number
        assert nova.state_of("uuid-kept") == ("shelved_offloaded", None), number
        assert "compute1" not in {host for host, _ram in nova.allocations.values()}, number
        assert drain(nova, "compute1")["changed"] is False, number


def test_two_kills_and_moves_that_end_meanwhile() -> None:
    for number in range(20, _requests_of_a_drain(), 7):
        nova = _small()
        for more in (0, 9):
            nova.kill = (number + more, True)
            nova.requests = 0 if not more else nova.requests
            try:
                drain(nova, "compute1")
            except Killed:
                for uuid in list(nova.jobs):
                    nova.finish(uuid)
        nova.kill = None
        drain(nova, "compute1")
        assert nova.on("compute1") == []
        assert nova.state_of("uuid-off") == ("stopped", None)


def test_waves_are_shown_and_nothing_changes(nova: Nova) -> None:
    apis = Apis(nova.request, nova.request, nova.placement)
    nova.servers.pop("uuid-kept")
    hosts = ("compute1", "compute2", "compute3", "compute4")
    lines = compute_drain.rolling(Wish(hosts), apis, 1)
    assert nova.calls == []
    assert [line for line in lines if line.startswith("wave")] == [
        f"wave {number} of 4: compute{number}" for number in (1, 2, 3, 4)
    ]
    assert any(line.startswith("  web (uuid-web)  compute1 -> compute") for line in lines)
    nova.server("sad", "compute2", "suspended")
    assert "not emptied: compute2" in compute_drain.rolling(Wish(hosts), apis, 2)


# --- the module, over HTTP --------------------------------------------------------------------------------------------


@pytest.fixture
def served(nova: Nova) -> Iterator[tuple[Nova, str]]:
    """Serve Keystone, Nova, Placement and Neutron's agents on loopback; the second is the address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, headers, version = 200, {}, self.headers.get("OpenStack-API-Version") or ""
            if self.path.startswith("/v3/auth/tokens"):
                status, headers = 201, {"X-Subject-Token": "token"}
                times = {"issued_at": "2026-05-04T12:00:00.000000Z", "expires_at": "2036-05-04T13:00:00.000000Z"}
                result: dict[str, Any] = {"token": {**times, "methods": ["password"], "user": {"id": "u"}}}
            elif self.path.startswith("/v2.0/agents"):
                result = {"agents": [{"host": "network1"}]}
            else:
                nodes = "/os-hypervisors" in self.path or "/os-aggregates" in self.path or "/flavors" in self.path
                place, _, path = self.path.removeprefix("/").partition("/")
                wanted = "placement 1.39" if place == "placement" else "compute 2.100"
                if version != "compute 2.86" or not (nodes or "groups" in path or "status=" in path):
                    assert version == wanted, self.path
                try:
                    send = nova.placement if place == "placement" else nova.request
                    result = send(self.command, f"/{path}", body)
                except ApiError as error:
                    status, result = error.status, {"fault": {"message": str(error), "code": error.status}}
            data = json.dumps(result).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": len(data)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield nova, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def call(capsys: pytest.CaptureFixture[str], url: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
    auth = {"auth_url": url, "username": "admin", "password": "hunter2", "project_name": "admin", "timeout": 5}
    urls = {"compute_url": f"{url}/compute", "placement_url": f"{url}/placement", "network_url": url}
    with (
        patch_module_args({"auth": auth, **urls, **arguments, "_ansible_check_mode": check}),
        pytest.raises(SystemExit),
    ):
        module.main()
    text = capsys.readouterr().out
    assert "hunter2" not in text
    result: dict[str, Any] = json.loads(text)
    return result


def test_the_module_over_http(
    served: tuple[Nova, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nova, url = served
    monkeypatch.setattr(compute_drain, "POLL", 0.001)
    assert "they know compute1" in call(capsys, url, hosts=["nobody"])["msg"]
    dry = call(capsys, url, check=True, hosts=["compute1"])
    assert nova.calls == []
    assert len(dry["actions"]) == 5
    result = call(capsys, url, hosts=["compute1"], within=0.0001)
    assert result["actions"] == dry["actions"]
    while not result["done"]:
        result = call(capsys, url, hosts=["compute1"], within=0.0001, resume=result["resume"])
    assert nova.on("compute1") == []
    assert call(capsys, url, hosts=["compute1"])["changed"] is False
    assert call(capsys, url, hosts=["compute1"], rolling=1)["waves"] == ["wave 1 of 1: compute1"]
    assert call(capsys, url, hosts=["compute1", "network1"], state="enabled")["changed"]


# --- the action -------------------------------------------------------------------------------------------------------


def _slice(found: Any, host: str) -> Slice:
    vault = Vault(bytes(range(32)), {})
    return Slice(found, found.hosts[host], sources.load(), Renderer(found, sources.load(), vault.value), vault)


def test_the_action_hands_out_addresses_and_the_schedulers_options() -> None:
    found = plan(inventory(AIO), sources.load())
    taken = action.ActionModule.__new__(action.ActionModule).arguments(
        _slice(found, "aio"), {"hosts": ["aio"], "accept_stuck": True, "rolling": 2}
    )
    assert taken is not None
    assert taken["compute_url"] == "https://192.0.2.11:8774/v2.1"
    assert taken["network_url"] == "https://192.0.2.11:9696"
    assert (taken["hosts"], taken["accept_stuck"], taken["rolling"], taken["cells"]) == (["aio"], True, 2, {})
    assert "transport_url" not in json.dumps(taken["configuration"])


def test_controllers_and_what_is_no_list_are_refused() -> None:
    found = plan(committed("ha"), sources.load())
    assert mistake({"hosts": ["compute1", "network1", "gone"]}, found) == ""
    assert "drain_hosts: controller1: controllers have no instances" in mistake({"hosts": ["controller1"]}, found)
    for wrong in (None, [], "compute1", [1]):
        assert "is no list of hosts" in mistake({"hosts": wrong}, found)
    alone = plan(inventory(AIO), sources.load())
    assert mistake({"hosts": ["aio"]}, alone) == "", "it runs instances too"


def test_the_action_calls_until_it_is_done_and_shows_what_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        {"changed": True, "actions": ["a"], "done": False, "lines": ["one"], "resume": {"x": 1}},
        {"changed": False, "done": False, "lines": ["two"], "resume": {"x": 2}},
        {"changed": False, "done": True, "lines": []},
    ]
    given, shown = [], list[str]()

    def answer(self: Any, *_arguments: Any) -> dict[str, Any]:
        given.append(self.resume)
        return dict(answers[len(given) - 1])

    monkeypatch.setattr(PlanAction, "run", answer)
    monkeypatch.setattr(run, "current", lambda _variables: plan(committed("ha"), sources.load()))
    one = action.ActionModule.__new__(action.ActionModule)
    one._task = type("Task", (), {"args": {"hosts": ["compute1"]}})()
    one._display = type("Display", (), {"display": staticmethod(shown.append)})()
    assert one.run() == {"changed": True, "actions": ["a"], "done": True}
    assert (given, shown) == ([None, {"x": 1}, {"x": 2}], ["  one", "  two"])
    answers[2] = {"failed": True, "msg": "no", "lines": ["last"]}
    given.clear()
    one.resume = None
    assert one.run()["msg"] == "no"
    assert shown[-1] == "  last"
    given.clear()
    one._task.args = {"hosts": ["controller1"]}
    assert one.run()["failed"]
    assert given == []
