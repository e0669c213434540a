"""What nobody wants goes, and nothing else: orphans of APIs, deleted rows, environments, journals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.brume.cloud.plugins.action import deleted_records as records_action
from ansible_collections.brume.cloud.plugins.action.cleanup_summary import summary
from ansible_collections.brume.cloud.plugins.module_utils import (
    cloud_orphans,
    deleted_records,
    host_leftovers,
    schema,
    sources,
)
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.cloud_orphans import Found, Wish
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    ConvergenceError,
    apply_actions,
    converge,
)
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.module_utils.uv_environments import MARKER
from ansible_collections.brume.cloud.plugins.modules import cloud_orphans as orphans_module

from .inventories import AIO, inventory
from .playbooks import playbook
from .test_host_modules import Call, call, converges, program  # noqa: F401 - a fixture
from .test_host_removal import Apis, Killed
from .test_power import inventory as unreachable  # noqa: F401 - a fixture

# --- allocations, agents and services ---------------------------------------------------------------------------------

OLD, NEW = "2026-01-01 00:00:00", "2026-03-01 00:00:00"
BEFORE = datetime(2026, 2, 1, tzinfo=UTC)
INVENTORY = ("controller1", "controller2", "network1", "network2", "compute1", "compute2")


class Cloud(Apis):
    """The fake of hosts that leave, with times of reports, and Placement and Nova as orphans are looked for there."""

    def __init__(self) -> None:
        """Start with what serves reporting now."""
        self.migrations: list[dict[str, Any]] = []
        self.building: set[str] = set()
        """Instances that no list has yet."""
        self.types: dict[str, str] = {}
        self.resources: dict[str, dict[str, int]] = {}
        self.generations: dict[str, int] = {}
        self.without_l3 = False
        super().__init__()

    def service(self, host: str, binary: str) -> None:
        """Add a service that has reported lately."""
        super().service(host, binary)
        self.services[f"{binary}-{host}"]["updated_at"] = f"{NEW.replace(' ', 'T')}.000000"

    def agent(self, host: str, binary: str) -> None:
        """Add an agent that has reported lately."""
        super().agent(host, binary)
        self.agents[f"{binary}-{host}"]["heartbeat_timestamp"] = NEW

    def silence(self, host: str, since: str = OLD) -> None:
        """Let a host not report since a time."""
        self.lose(host)
        for one in self.services.values():
            one["updated_at"] = since.replace(" ", "T") if one["host"] == host else one["updated_at"]
        for one in self.agents.values():
            one["heartbeat_timestamp"] = since if one["host"] == host else one["heartbeat_timestamp"]

    def senders(self) -> dict[str, Any]:
        """Return what the module takes in place of sessions."""
        return {**super().senders(), "allocations": self.placement}

    def compute(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer as Nova."""
        address = urlsplit(path)
        parts = address.path.strip("/").split("/")
        if parts == ["servers"]:
            assert parse_qs(address.query)["all_tenants"] == ["true"]
            return {"servers": list(self.servers.values())}
        if parts == ["os-migrations"]:
            return {"migrations": self.migrations}
        if parts[0] == "servers" and parts[-1] in self.building:
            return {"server": {"id": parts[1]}}
        return super().compute(method, path, body)

    def network(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer as Neutron, whose driver may have no list of an L3 agent's routers."""
        if self.without_l3 and path.endswith("/l3-routers"):
            raise ApiError("The resource could not be found. (HTTP 404)", 404)
        return super().network(method, path, body)

    def placement(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer as Placement."""
        parts = path.strip("/").split("/")
        if parts[0] == "allocations":
            if method == "PUT":
                assert body is not None
                if body["consumer_generation"] != self.generations.get(parts[1], 1):
                    raise ApiError("consumer generation conflict (HTTP 409)", 409)
                assert body == {
                    "allocations": {}, "project_id": "p", "user_id": "u", "consumer_generation": 1
                }  # fmt: skip
                dies = self.changing(method, path)
                for some in self.allocations.values():
                    some.discard(parts[1])
                if dies:
                    raise Killed
                return {}
            holders = [number for number, some in self.allocations.items() if parts[1] in some]
            found = {number: {"resources": self._of(parts[1])} for number in holders}
            more = {"project_id": "p", "user_id": "u", "consumer_generation": 1}
            return {"allocations": found, **more, "consumer_type": self.types.get(parts[1], "unknown")} if found else {}
        if parts[-1] == "allocations":
            self._found(self.providers, parts[1])
            return {"allocations": {one: {"resources": self._of(one)} for one in self.allocations.get(parts[1], ())}}
        return super().placement(method, path, body)

    def _of(self, consumer: str) -> dict[str, int]:
        return self.resources.get(consumer, {"VCPU": 1})


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def wish(cloud: Cloud, *gone: str, without: Sequence[tuple[str, str]] = ()) -> Wish:
    """Return what an inventory without some hosts knows; the plan has every agent of the fake but those `without`."""
    hosts = [host for host in INVENTORY if host not in gone]
    planned = {(one["binary"], one["host"]) for one in cloud.agents.values()}
    return Wish(hosts, hosts, [one for one in planned if one[1] in hosts and one not in without], BEFORE)


def told(found: Found) -> list[str]:
    return [str(one) for one in found.actions]


def removed(cloud: Cloud, found: Found) -> list[str]:
    before = len(cloud.calls)
    dry = converge(found.actions, check_mode=True)
    assert len(cloud.calls) == before, "a dry run changes nothing"
    assert converge(found.actions, check_mode=False, limit=4) == dry
    actions: list[str] = dry["actions"]
    return actions


def test_allocations_of_nobody_go_and_those_of_instances_stay(cloud: Cloud) -> None:
    cloud.allocations["rp-compute1"] |= {"nobody"}
    cloud.allocations["rp-compute2"] = {"nobody"}
    found = cloud_orphans.allocations(cloud.senders())
    assert found.released == ["nobody"]
    assert found.actions[0].before["why"] == "no instance and no migration of Nova's has this number"
    assert removed(cloud, found) == [
        "delete allocations of nobody on compute1.example.org, compute2.example.org"
    ]
    assert cloud.allocations == {"rp-compute1": {"server1"}, "rp-compute2": set()}
    assert told(cloud_orphans.allocations(cloud.senders())) == []


def test_allocations_that_may_be_wanted_stay(cloud: Cloud) -> None:
    cloud.allocations["rp-compute2"] = {"new", "moving", "kept", "reserved", "foreign"}
    cloud.building = {"new"}
    cloud.migrations = [{"uuid": "moving", "status": "migrating"}, {"uuid": "kept", "status": "confirmed"}]
    cloud.types["reserved"] = "RESERVATION"
    cloud.resources["foreign"] = {"CUSTOM_LICENSE": 1}
    found = cloud_orphans.allocations(cloud.senders())
    assert (told(found), found.released) == ([], [])
    kept, reserved = found.left
    assert kept.startswith("allocations of migration kept: it is confirmed; next: ")
    assert reserved == "allocations of reserved on compute2.example.org: are of type RESERVATION, not Nova's"


def test_a_consumer_that_gets_something_meanwhile_keeps_it(cloud: Cloud) -> None:
    cloud.allocations["rp-compute2"] = {"nobody"}
    found = cloud_orphans.allocations(cloud.senders())
    cloud.generations["nobody"] = 2
    with pytest.raises(ConvergenceError, match=r"allocations of nobody on compute2\.example\.org: consumer "):
        apply_actions(found.actions)
    assert cloud.allocations["rp-compute2"] == {"nobody"}


@pytest.mark.parametrize("kind", ["allocations", "agents"])
def test_while_a_cell_is_down_nothing_is_an_orphan(kind: str, cloud: Cloud) -> None:
    """A living instance of that cell, and a host of it, would look like one."""
    cloud.allocations["rp-compute2"] = {"nobody"}
    cloud.services["nova-compute-compute2"].pop("id")
    with pytest.raises(ConvergenceError, match="the cell of compute2 does not answer Nova"):
        if kind == "allocations":
            cloud_orphans.allocations(cloud.senders())
        else:
            cloud_orphans.agents(wish(cloud), cloud.senders())


def test_nothing_is_found_where_everything_is_in_the_inventory(cloud: Cloud) -> None:
    for host in ("compute1", "network1", "controller1"):
        cloud.silence(host)
    assert cloud_orphans.agents(wish(cloud), cloud.senders()) == Found(), "a host that is down is no orphan"


def test_records_of_hosts_that_left_the_inventory_go(cloud: Cloud) -> None:
    cloud.silence("compute2")
    others = {host: cloud.of(host) for host in INVENTORY if host != "compute2"}
    found = cloud_orphans.agents(wish(cloud, "compute2"), cloud.senders())
    why = "compute2 is not in the inventory, and has not reported since 2026-01-01 00:00 UTC"
    assert {one.before["why"] for one in found.actions} == {why}
    assert removed(cloud, found) == [
        "delete service nova-compute of compute2 (nova-compute-compute2)",
        "delete network agent neutron-openvswitch-agent of compute2",
        "delete resource provider compute2_child.example.org",
        "delete resource provider compute2.example.org",
    ]
    assert cloud.of("compute2") == []
    assert {host: cloud.of(host) for host in others} == others
    assert cloud_orphans.agents(wish(cloud, "compute2"), cloud.senders()) == Found()


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("kill_at", range(1, 5))
def test_a_run_that_is_killed_is_finished_by_the_next(kill_at: int, arrives: bool, cloud: Cloud) -> None:
    cloud.silence("compute2")
    cloud.kill_at, cloud.arrives = kill_at, arrives
    with pytest.raises(Killed):
        apply_actions(cloud_orphans.agents(wish(cloud, "compute2"), cloud.senders()).actions)
    cloud.kill_at = 0
    removed(cloud, cloud_orphans.agents(wish(cloud, "compute2"), cloud.senders()))
    assert cloud.of("compute2") == []


def reports(cloud: Cloud) -> None:
    cloud.lose("none")


def recent(cloud: Cloud) -> None:
    cloud.silence("compute1", NEW)


def never(cloud: Cloud) -> None:
    cloud.silence("compute1")
    cloud.services["nova-compute-compute1"]["updated_at"] = None


def instances(cloud: Cloud) -> None:
    cloud.silence("compute1")


def evacuated(cloud: Cloud) -> None:
    cloud.silence("compute1")
    cloud.servers["server1"]["host"] = "compute2"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (reports, "its nova-compute, neutron-openvswitch-agent report; next: give it back"),
        (recent, "has reported since 2026-02-01 00:00 UTC; next: run again later"),
        (never, "has reported since 2026-02-01 00:00 UTC; next: run again later"),
        (instances, "is lost with 1 instance: server1 (name of server1); next: put it into the group `removed`"),
        (evacuated, "Placement counts server1 on it; next: put it into the group `removed` and run remove.yml"),
    ],
)
def test_a_host_that_may_be_wanted_stays(state: Any, words: str, cloud: Cloud) -> None:
    state(cloud)
    found = cloud_orphans.agents(wish(cloud, "compute1"), cloud.senders())
    assert told(found) == []
    (reason,) = found.left
    assert reason.startswith(f"compute1: is not in the inventory, and {words}")


def test_allocations_that_go_before_keep_no_host(cloud: Cloud) -> None:
    cloud.silence("compute2")
    cloud.allocations["rp-compute2"] = {"nobody"}
    assert len(cloud_orphans.agents(wish(cloud, "compute2"), cloud.senders()).left) == 1
    released = cloud_orphans.allocations(cloud.senders()).released
    assert len(cloud_orphans.agents(wish(cloud, "compute2"), cloud.senders(), released).actions) == 4


def test_what_a_gone_network_host_alone_serves_keeps_its_agents(cloud: Cloud) -> None:
    cloud.silence("network2")
    cloud.bound = {"r1": ("routers", {"neutron-l3-agent-network2"})}
    (reason,) = cloud_orphans.agents(wish(cloud, "network2"), cloud.senders()).left
    assert "nothing else serves router r1; next: put it into the group `removed`" in reason


L3, DHCP = ("neutron-l3-agent", "network2"), ("neutron-dhcp-agent", "network2")


def test_agents_of_kinds_that_a_host_does_not_run_any_more_go(cloud: Cloud) -> None:
    cloud.agent("network2", "neutron-metadata-agent")
    gone = cloud.agents["neutron-l3-agent-network2"]
    without = wish(cloud, without=[L3])
    assert cloud_orphans.agents(without, cloud.senders()) == Found(), "it reports"
    gone |= {"alive": False}
    (reason,) = cloud_orphans.agents(without, cloud.senders()).left
    assert reason == "neutron-l3-agent of network2: is not planned there, but has reported since 2026-02-01 00:00 UTC"
    gone |= {"heartbeat_timestamp": OLD}
    cloud.bound = {"r1": ("routers", {"neutron-l3-agent-network2"})}
    (reason,) = cloud_orphans.agents(without, cloud.senders()).left
    assert reason == "neutron-l3-agent of network2: is not planned there, but nothing else serves router r1"
    cloud.bound["r1"][1].add("neutron-l3-agent-network1")
    found = cloud_orphans.agents(without, cloud.senders())
    assert found.actions[0].before == {"heartbeat_timestamp": OLD, "why": "network2 does not run it any more"}
    assert removed(cloud, found) == ["delete network agent neutron-l3-agent of network2"]
    assert cloud_orphans.agents(without, cloud.senders()) == Found()


def test_of_a_host_that_is_down_nobody_can_tell_what_it_runs(cloud: Cloud) -> None:
    cloud.silence("network2")
    found = cloud_orphans.agents(wish(cloud, without=[L3]), cloud.senders())
    assert told(found) == []
    (reason,) = found.left
    assert reason.startswith("neutron-l3-agent of network2: is not planned there, but nothing of the host reports;")


def test_after_the_change_to_ovn_agents_of_open_vswitch_go_whatever_they_served(cloud: Cloud) -> None:
    every = [(one["binary"], one["host"]) for one in cloud.agents.values()]
    for host in ("network1", "network2", "compute1", "compute2"):
        cloud.agent(host, "ovn-controller")
    for binary, host in every:
        cloud.agents[f"{binary}-{host}"] |= {"alive": False, "heartbeat_timestamp": OLD}
    cloud.bound = {"n1": ("networks", {"neutron-dhcp-agent-network2"})}
    cloud.without_l3 = True
    found = cloud_orphans.agents(wish(cloud, without=every), cloud.senders())
    assert (len(found.actions), found.left) == (len(every), [])
    # and those of a host that went away before
    cloud.silence("network2")
    cloud.agents.pop("ovn-controller-network2")
    found = cloud_orphans.agents(wish(cloud, "network2", without=every), cloud.senders())
    assert (len(found.actions), found.left) == (len(every), [])


def test_an_agent_that_is_a_living_chassis_of_ovn_stays(cloud: Cloud) -> None:
    """Neutron deletes the chassis with the agent's record."""
    cloud.agent("compute1", "neutron-ovn-metadata-agent")
    old = cloud.agents["neutron-ovn-metadata-agent-compute1"]
    old |= {"alive": False, "heartbeat_timestamp": OLD, "configurations": {"chassis_name": "compute1"}}
    found = cloud_orphans.agents(wish(cloud, without=[("neutron-ovn-metadata-agent", "compute1")]), cloud.senders())
    assert told(found) == []
    assert found.left == [
        "neutron-ovn-metadata-agent of compute1: is not planned there, but is one with the host's chassis in OVN"
    ]


def test_a_host_of_the_inventory_that_is_not_planned_is_left_alone(cloud: Cloud) -> None:
    cloud.silence("compute2")
    parked = wish(cloud, "compute2")
    assert cloud_orphans.agents(Wish(INVENTORY, parked.planned, parked.agents, BEFORE), cloud.senders()) == Found()


def test_the_module_finds_the_kinds_that_are_asked_for(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.silence("compute2")
    cloud.allocations["rp-compute2"] = {"nobody"}
    known = wish(cloud, "compute2")
    session = {"c": cloud.compute, "n": cloud.network, "p": cloud.placement}
    monkeypatch.setattr(orphans_module, "log_in_or_before", lambda _auth, _check: None)
    monkeypatch.setattr(orphans_module, "requests_to", lambda _session, address, _headers: session[address])
    params = {
        "auth": {}, "compute_url": "c", "network_url": "n", "placement_url": "p", "inventory": known.inventory,
        "planned": known.planned, "agents": [list(one) for one in known.agents], "agent_hours": 24,
    }  # fmt: skip
    one = orphans_module.run({**params, "kinds": ["allocations"]}, check_mode=True)
    assert one["kinds"] == {"allocations": {"found": 1, "removed": 0, "left": []}}
    both = orphans_module.run({**params, "kinds": ["allocations", "agents"]}, check_mode=False)
    assert {name: (said["found"], said["removed"]) for name, said in both["kinds"].items()} == {
        "allocations": (1, 1),
        "agents": (4, 4),
    }
    assert cloud.of("compute2") == []


# --- deleted rows -----------------------------------------------------------------------------------------------------


def test_rows_are_counted_as_the_mixin_marks_them() -> None:
    tables = {"instances": {"deleted", "deleted_at"}, "images": {"deleted", "deleted_at"}, "trust": {"deleted_at"}}
    asked = []

    def run(statement: str, parameters: Sequence[str]) -> list[dict[str, Any]]:
        if "information_schema" in statement:
            assert tuple(parameters) == ("nova_cell1",)
            pairs = [(name, part) for name, parts in {**tables, "other": {"deleted"}}.items() for part in parts]
            return [{"name": name, "part": part} for name, part in pairs]
        asked.append(statement.partition("FROM ")[2])
        assert tuple(parameters) == ("2026-02-01 00:00:00",)
        return [{"many": 0 if "trust" in statement else 7}]

    assert deleted_records.count(run, "nova_cell1", ["images"], BEFORE) == {"nova_cell1.instances": 7}
    assert asked == [
        "`instances` WHERE deleted_at < %s AND deleted <> '0'",
        "`trust` WHERE deleted_at < %s",
    ]


def rows(counts: list[int]) -> deleted_records.Records:
    """Return records whose count is the next of a list each time."""
    service = schema.Service("nova", "root", "/none", "", ())

    def count() -> dict[str, int]:
        many = counts.pop(0)
        return {"nova_cell1.instances": many} if many else {}

    return deleted_records.Records(service, [(["purge"], [0, 3])], count)


@pytest.mark.parametrize(
    ("counts", "runs", "left"),
    [([0], 0, 0), ([5, 0], 1, 0), ([5, 3, 0], 2, 0), ([5, 5], 1, 5), ([5, 2, 2], 2, 2), ([5, 6], 1, 6)],
)
def test_commands_are_repeated_while_rows_become_fewer(
    counts: list[int], runs: int, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(schema, "execute", lambda _one, words, _secrets, success: done.append((words, success)))
    one = rows(list(counts))
    deleted_records.look([one])
    deleted_records.remove([one], {}, 1000)
    assert done == [(["purge"], [0, 3])] * runs
    assert (sum(one.left.values()), one.done) == (left, True)


def test_a_pass_that_takes_long_ends_the_call_and_not_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "execute", lambda *_given: None)
    one = rows([9, 6, 3, 0])
    deleted_records.look([one])
    clock = iter([0.0, 5.0, 25.0])
    deleted_records.remove([one], {}, 20, lambda: next(clock))
    assert (one.done, sum(one.left.values())) == (False, 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_only_exit_codes_of_a_success_are_one() -> None:
    service = schema.Service("nova", "root", "/none", "", ())
    schema.execute(service, ["sh", "-c", "exit 3"], {}, (0, 3))
    with pytest.raises(schema.SchemaError, match="exits with 1"):
        schema.execute(service, ["sh", "-c", "exit 1"], {}, (0, 3))


def test_services_say_themselves_how_their_rows_end() -> None:
    project = sources.load()
    made = plan(inventory(AIO), project)
    piece = Slice(made, made.hosts["aio"], project, Renderer(made, project, lambda name: f"<{name}>"), Vault(bytes(32)))
    action = records_action.ActionModule.__new__(records_action.ActionModule)
    arguments = action.arguments(piece, {})
    assert arguments is not None
    found = {one["name"]: one for one in arguments["services"]}
    assert set(found) == {"glance", "nova"}
    assert set(found["nova"]["databases"]) == {"nova_api", "nova_cell0", "nova_cell1"}
    assert found["glance"]["keeps"] == ["images"]
    assert [one["success"] for one in found["nova"]["commands"]] == [[0, 1], [0, 3]]
    chosen = plan(inventory({**AIO, "cleanup_kinds": ["agents"]}), project)
    piece = Slice(chosen, chosen.hosts["aio"], project, Renderer(chosen, project, str), Vault(bytes(32)))
    assert action.arguments(piece, {}) is None


def test_long_work_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(found: int, left: int, done: bool) -> dict[str, Any]:
        tables = {"nova_cell1.instances": left} if left else {}
        return {"changed": True, "rows": {"nova": {"found": found, "left": left, "tables": tables}}, "done": done}

    answers = [said(9000, 5000, False), said(5000, 1000, False), said(1000, 2, True)]
    shown: list[str] = []
    monkeypatch.setattr(PlanAction, "run", lambda *_given: answers.pop(0))
    action = records_action.ActionModule.__new__(records_action.ActionModule)
    monkeypatch.setattr(action, "_display", type("Display", (), {"display": staticmethod(shown.append)}), raising=False)
    monkeypatch.setattr(action, "_task", type("Task", (), {"check_mode": False}), raising=False)
    result = action.run(None, {})
    assert shown == ["  nova: 5000 of 9000 rows are left", "  nova: 1000 of 9000 rows are left"]
    stays = "records of nova: 2 rows of nova_cell1.instances stay after its commands"
    assert result["kinds"] == {"records": {"found": 9000, "removed": 8998, "left": [stays]}}


# --- leftovers of hosts -----------------------------------------------------------------------------------------------

NOW, OTHER, BROKEN = "2026.1-0123456789ab", "2026.1-ffffffffffff", "2026.1-eeeeeeeeeeee"


def environment(root: Path, service: str, name: str, *, complete: bool = True) -> Path:
    path = root / service / name
    (path / "bin").mkdir(parents=True)
    if complete:
        (path / MARKER).write_text("{}")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with everything that can lie there."""
    root = tmp_path / "brume"
    others = ("2024.1-0123456789ab", "2025.1-0123456789ab", "2025.1-ffffffffffff", "2026.2-0123456789ab")
    for name in (*others, NOW, OTHER):
        environment(root, "nova", name)
    for name in (BROKEN, "2025.1-eeeeeeeeeeee"):
        environment(root, "nova", name, complete=False)
    environment(root, "nova", "of-an-operator")
    (root / "nova/current").symlink_to(root / "nova" / NOW)
    (root / "nova/current.brume-new").symlink_to(root / "nova" / OTHER)
    environment(root, "glance", OTHER)  # never linked
    for name in ("0.9.1", "0.9.2"):
        (root / "uv" / name).mkdir(parents=True)
    (root / "uv/0.9.2/uv.new").write_text("")
    return root


def found(root: Path, planned: Sequence[str] = (), used: Sequence[str] = ()) -> dict[str, str]:
    leftovers = host_leftovers.find(str(root), planned, "0.9.2", {f"{root}/nova/{NOW}", *used})
    return {one.path.removeprefix(f"{root}/"): one.why for one in leftovers}


def test_environments_that_nobody_uses_go(root: Path) -> None:
    assert found(root) == {
        "nova/current.brume-new": "a link that was not swapped",
        "nova/2024.1-0123456789ab": "of 2024.1, and the way back from 2026.1 leads to a later release",
        f"nova/{BROKEN}": "a build that was not finished",
        f"nova/{OTHER}": f"another lock of 2026.1, in which {NOW} is in use",
        "uv/0.9.1": "another version than 0.9.2",
        "uv/0.9.2/uv.new": "a copy that was not finished",
    }


def test_a_way_back_that_was_given_up_goes_too(root: Path) -> None:
    more = host_leftovers.find(str(root), [], "0.9.2", {f"{root}/nova/{NOW}"}, way_back=False)
    whys = {one.path.removeprefix(f"{root}/nova/"): one.why for one in more if "nova/2025.1" in one.path}
    why = "of 2025.1, to which there is no way back from 2026.1"
    unfinished = "a build that was not finished"
    assert whys == {
        "2025.1-0123456789ab": why,
        "2025.1-ffffffffffff": why,
        "2025.1-eeeeeeeeeeee": unfinished,
    }


def test_environments_that_are_planned_or_open_stay(root: Path) -> None:
    kept = found(root, planned=[f"{root}/nova/{OTHER}"], used=[f"{root}/nova/{BROKEN}", f"{root}/uv/0.9.1"])
    assert set(kept) == {"nova/current.brume-new", "nova/2024.1-0123456789ab", "uv/0.9.2/uv.new"}


def test_processes_units_and_links_say_what_is_used(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_leftovers, "PROCESSES", f"{tmp_path}/proc")
    monkeypatch.setattr(host_leftovers, "UNITS", [f"{tmp_path}/units"])
    old = f"{root}/nova/{OTHER}"
    names = {"cmdline": f"{old}1/bin/python\0x", "environ": f"A=b\0VIRTUAL_ENV={old}2\0", "maps": f"7f r-xp {old}3/x"}
    for number, (name, text) in enumerate(names.items(), 1):
        process = tmp_path / f"proc/{number}"
        process.mkdir(parents=True)
        for one in names:
            (process / one).write_text(text if one == name else "")
        (process / "cwd").symlink_to(f"{old}4" if number == 1 else "/")
    (tmp_path / "proc/4").mkdir()  # it has ended meanwhile
    units = tmp_path / "units/nova-api.service.d"
    units.mkdir(parents=True)
    (units / "brume.conf").write_text(f'ExecStart="{old}5/bin/nova-api" --x\n')
    (units / "gone.conf").symlink_to("/nowhere")
    assert host_leftovers.used(str(root)) == {f"{root}/nova/{NOW}", *(f"{old}{number}" for number in range(1, 6))}


def test_a_removal_that_is_killed_leaves_nothing_complete(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_path: str) -> None:
        raise Killed

    path = root / "nova" / OTHER
    monkeypatch.setattr(host_leftovers.shutil, "rmtree", killed)
    with pytest.raises(Killed):
        host_leftovers.remove(str(path))
    assert path.exists() and not (path / MARKER).exists()
    monkeypatch.undo()
    assert found(root)[f"nova/{OTHER}"] == "a build that was not finished"
    host_leftovers.remove(str(path))
    assert not path.exists()


def journals(folder: Path, days: int) -> list[str]:
    """Make two archived files with a first entry of so many days ago, and return their names."""
    time = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1_000_000)
    names = [f"system@{'a' * 32}-{1:016x}-{time:016x}.journal", f"user-1000@{time:016x}-{'b' * 16}.journal~"]
    for name in names:
        (folder / name).write_text("")
    return names


@pytest.mark.skipif(os.geteuid() != 0, reason="the modules change owners and users")
def test_leftovers_of_a_host(
    call: Call, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    folder = tmp_path / "journal" / Path("/etc/machine-id").read_text().strip()
    folder.mkdir(parents=True)
    old = journals(folder, 40)
    young = journals(folder, 20)
    (folder / "system.journal").write_text("")
    log = tmp_path / "log"
    program(
        tmp_path / "bin/journalctl",
        f'echo "$@" >> {log}\nrm {folder}/{old[0]}\n[ -e {tmp_path}/stubborn ] || rm {folder}/{old[1]}\n',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "proc").mkdir()
    monkeypatch.setattr(host_leftovers, "PROCESSES", f"{tmp_path}/proc")
    monkeypatch.setattr(host_leftovers, "UNITS", ())
    arguments = {"planned": [], "uv": "0.9.2", "root": str(root), "journal": f"{tmp_path}/journal"}
    before = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%d}"
    dry = call("host_leftovers", arguments, check=True)
    assert not dry.get("failed"), dry
    assert dry["kinds"]["journals"] == {"found": 2, "removed": 0, "left": []}
    actions = converges(call, "host_leftovers", arguments)
    assert f"delete leftover {root}/nova/{OTHER}" in actions
    assert actions[-1] == f"delete archived 2 journal files with entries of before {before}"
    assert log.read_text() == f"--directory={folder} --vacuum-time=30d\n"
    assert sorted(os.listdir(folder)) == sorted([*young, "system.journal"])
    assert sorted(os.listdir(root / "nova")) == [
        "2025.1-0123456789ab", "2025.1-eeeeeeeeeeee", "2025.1-ffffffffffff", NOW, "2026.2-0123456789ab", "current",
        "of-an-operator",
    ]  # fmt: skip
    for name in old:
        (folder / name).touch()
    (tmp_path / "stubborn").touch()
    result = call("host_leftovers", {**arguments, "kinds": ["journals"]})["kinds"]
    assert list(result) == ["journals"]
    assert (result["journals"]["found"], result["journals"]["removed"], len(result["journals"]["left"])) == (2, 1, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="the modules change owners and users")
def test_while_a_process_cannot_be_looked_into_all_environments_stay(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    def refused(_root: str) -> set[str]:
        raise PermissionError(13, "Permission denied", "/proc/1/maps")

    monkeypatch.setattr(host_leftovers, "used", refused)
    arguments = {"planned": [], "uv": "0.9.2", "root": str(root), "kinds": ["environments"]}
    result = call("host_leftovers", arguments)
    assert (result["changed"], result["kinds"]["environments"]["found"]) == (False, 0)
    (reason,) = result["kinds"]["environments"]["left"]
    assert reason.endswith("because a process cannot be looked into: [Errno 13] Permission denied: '/proc/1/maps'")


# --- the run ----------------------------------------------------------------------------------------------------------


def test_the_end_says_what_was_found_by_kind() -> None:
    hostvars = {
        "controller1": {
            "__cleanup_cloud": {"kinds": {"allocations": {"found": 3, "removed": 2, "left": ["x: why"]}}},
            "__cleanup_records": {"skipped": True},
            "__cleanup_host": {"kinds": {"environments": {"found": 1, "removed": 1, "left": []}}},
        },
        "compute1": {"__cleanup_host": {"kinds": {"environments": {"found": 2, "removed": 2, "left": []}}}},
        "localhost": {},
    }
    assert summary(hostvars, check_mode=False) == [
        "allocations: 3 found, 2 removed",
        "environments: 3 found, 3 removed",
        "  stays, allocations (controller1): x: why",
    ]
    assert summary(hostvars, check_mode=True)[:2] == [
        "allocations: 3 found, 2 would be removed",
        "environments: 3 found, 3 would be removed",
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('{"cleanup_kinds": ["agent"]}', "`agent` is nothing that cleanup.yml looks for; use allocations, agents"),
        ('{"cleanup_record_days": 0}', "cleanup_record_days: `0` is no age; write a whole number, at least 1"),
        ('{"cleanup_journal_days": -1}', "cleanup_journal_days: `-1` is no age"),
        ('{"cleanup_agent_hours": "7"}', "cleanup_agent_hours: `7` is not of type int"),
    ],
)
def test_a_mistaken_wish_is_refused_before_a_host_is_asked(given: str, words: str, unreachable: Path) -> None:  # noqa: F811
    done = playbook(unreachable, "cleanup.yml", "-e", given)
    assert words in done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout
    assert done.returncode


def test_what_is_meant_asks_the_hosts(unreachable: Path) -> None:  # noqa: F811
    done = playbook(unreachable, "cleanup.yml", "--check")
    assert "UNREACHABLE" in done.stdout, done.stdout + done.stderr
