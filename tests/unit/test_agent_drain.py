"""Taking networks and routers from agents, against a Neutron in memory whose agents bring up ports after some looks."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.brume.cloud.plugins.action import agent_drain as action
from ansible_collections.brume.cloud.plugins.module_utils import agent_drain, sources
from ansible_collections.brume.cloud.plugins.module_utils.agent_drain import DHCP, L3, MARK, OVN_GATEWAY, Wish, step
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError, Session, requests_to
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

from .fake_compute import Killed
from .inventories import committed

LOOKS = 3
"""After so many looks a new agent's port is up."""


class Neutron:
    """Agents, and what is bound to them: agent -> object -> looks until its port is up (None for no port)."""

    def __init__(self, hosts: int = 3) -> None:
        """Make a DHCP and an L3 agent on each host."""
        self.agents: dict[str, dict[str, Any]] = {}
        for number in range(1, hosts + 1):
            self.agent(DHCP, f"network{number}")
            self.agent(L3, f"network{number}", configurations={"agent_mode": "legacy"})
        self.objects: dict[str, dict[str, Any]] = {}
        self.bound: dict[str, dict[str, int | None]] = {number: {} for number in self.agents}
        self.calls: list[str] = []
        self.gaps: list[str] = []
        """Objects that had no agent with a port for a while."""
        self.kill: tuple[int, bool] | None = None
        self.requests = 0
        self.lock = threading.RLock()

    def agent(self, kind: str, host: str, **more: Any) -> None:
        """Make an agent."""
        number = f"{kind.partition(' ')[0].lower()}-{host}"
        base = {"id": number, "agent_type": kind, "host": host, "alive": True, "admin_state_up": True}
        self.agents[number] = {**base, "description": None, "configurations": {}, **more}

    def add(self, name: str, *agents: str, port: bool = True, **more: Any) -> None:
        """Make a network, or with `ha` a router, on agents."""
        self.objects[name] = {"id": name, "name": name, "admin_state_up": True, **more}
        for one in agents:
            self.bound[one][name] = 0 if port else None

    def on(self, host: str) -> set[str]:
        """Return what a host's agents have."""
        return {name for number, found in self.bound.items() if number.endswith(f"-{host}") for name in found}

    def having(self, name: str) -> list[str]:
        """Return the agents that have an object."""
        return sorted(number for number, found in self.bound.items() if name in found)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request."""
        with self.lock:
            self.requests += 1
            if self.kill is not None and self.requests > self.kill[0]:
                raise Killed
            dies = self.kill is not None and self.requests == self.kill[0]
            if dies and self.kill is not None and not self.kill[1]:
                raise Killed
            result: dict[str, Any] = json.loads(json.dumps(self._answer(method, path, body or {})))
            if dies:
                raise Killed
            return result

    def _answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:  # noqa: PLR0911 - one per path
        address = urlsplit(path)
        query = {name: value[0] for name, value in parse_qs(address.query).items()}
        parts = [unquote(part) for part in address.path.removeprefix("/v2.0/").split("/")]
        if method != "GET":
            self.calls.append(f"{method} {'/'.join(parts)} {json.dumps(body) if body else ''}".strip())
        if parts == ["agents"]:
            return {"agents": list(self.agents.values())}
        if parts == ["routers"]:
            return {"routers": [one for one in self.objects.values() if "ha" in one]}
        if parts == ["ports"]:
            return {"ports": self._ports(query)}
        number = parts[1]
        if method == "PUT":
            self.agents[number] |= body["agent"]
            return {"agent": self.agents[number]}
        found = self.bound[number]
        if method == "GET":
            return {parts[2].split("-")[1]: [self.objects[name] for name in found]}
        if method == "POST":
            return self._bind(number, next(iter(body.values())))
        if parts[3] not in found:
            raise ApiError("is not hosted by the agent (HTTP 409)", 409)
        if found.pop(parts[3]) is not None and not any(one.get(parts[3], 1) == 0 for one in self.bound.values()):
            self.gaps.append(parts[3])
        return {}

    def _ports(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        if query["device_owner"] == "network:router_interface":
            return [{"device_id": name} for name, one in self.objects.items() if one.get("interface")]
        kind = "dhcp" if query["device_owner"] == "network:dhcp" else "l3"
        name = query["network_id" if kind == "dhcp" else "device_id"]
        found = self.bound[f"{kind}-{query['binding:host_id']}"]
        if found.get(name) is None:
            return []
        looks = int(found[name] or 0)
        found[name] = max(looks - 1, 0)
        return [{"status": "ACTIVE" if not looks else "DOWN"}]

    def _bind(self, number: str, name: str) -> dict[str, Any]:
        agent, having = self.agents[number], self.having(name)
        if not agent["admin_state_up"] or number in having:
            raise ApiError("already hosted, or an invalid agent (HTTP 409)", 409)
        if agent["agent_type"] == L3 and not self.objects[name]["ha"] and having:
            raise ApiError("has been already hosted (HTTP 409)", 409)
        self.bound[number][name] = LOOKS
        return {}


def drain(
    neutron: Neutron, *hosts: str, check: bool = False, within: float = float("inf"), **more: Any
) -> dict[str, Any]:
    """Run the module's logic to its end, and return what it says."""
    now, lines, begun, first = [0.0], list[str](), False, dict[str, Any]()

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    wish = Wish(tuple(hosts), **{"dhcp_agents_per_network": 2, **more})
    while True:
        until = now[0] + within
        result = step(
            wish, neutron.request, lines, begun=begun, check_mode=check, until=until, clock=clock, sleep=lambda _s: None
        )
        first = first or result
        if result["done"]:
            return {**first, "lines": lines}
        begun = bool(result["resume"])


def refused(neutron: Neutron, *hosts: str, **more: Any) -> str:
    before = len(neutron.calls)
    with pytest.raises(ConvergenceError) as caught:
        drain(neutron, *hosts, **more)
    assert len(neutron.calls) == before
    return str(caught.value)


@pytest.fixture
def neutron() -> Neutron:
    return cloud()


def cloud() -> Neutron:
    found = Neutron()
    found.add("blue", "dhcp-network1", "dhcp-network2")
    found.add("red", "dhcp-network1", "dhcp-network3")
    found.add("flat", "dhcp-network1", port=False)
    found.add("ha", "l3-network1", "l3-network2", ha=True)
    found.add("plain", "l3-network1", ha=False, interface=True)
    return found


def test_networks_and_routers_leave_and_check_mode_tells_it_before(neutron: Neutron) -> None:
    neutron.add("solo", "dhcp-network1")
    dry = drain(neutron, "network1", check=True)
    assert neutron.calls == []
    real = drain(neutron, "network1")
    assert {key: dry[key] for key in ("changed", "actions", "diff")} == {
        key: real[key] for key in ("changed", "actions", "diff")
    }
    assert real["lines"] == real["actions"]
    assert neutron.on("network1") == set()
    assert neutron.having("blue") == neutron.having("red") == ["dhcp-network2", "dhcp-network3"]
    assert neutron.having("ha") == ["l3-network2", "l3-network3"]
    assert len(neutron.having("plain")) == 1
    assert neutron.gaps == ["plain"], "what can be on two agents is never on none"
    for number in ("dhcp-network1", "l3-network1"):
        assert neutron.agents[number]["admin_state_up"] is False
        assert neutron.agents[number]["description"] == MARK
    assert drain(neutron, "network1")["changed"] is False


def test_short_calls_do_the_same_as_a_long_one(neutron: Neutron) -> None:
    told = drain(neutron, "network1", check=True)
    result = drain(neutron, "network1", within=1.0)
    assert result["actions"] == told["actions"]
    assert neutron.on("network1") == set()


def test_two_hosts_leave_to_the_third(neutron: Neutron) -> None:
    dry = drain(neutron, "network1", "network2", check=True)
    assert drain(neutron, "network1", "network2")["actions"] == dry["actions"]
    assert neutron.on("network3") == {"blue", "red", "flat", "ha", "plain"}
    assert neutron.gaps == ["plain"]


def test_undrain_enables_what_a_drain_disabled_and_keeps_descriptions(neutron: Neutron) -> None:
    neutron.agents["l3-network1"]["description"] = "rack 7"
    neutron.agents["dhcp-network3"] |= {"admin_state_up": False, "description": "broken"}
    drain(neutron, "network1")
    assert neutron.agents["l3-network1"]["description"] == f"{MARK}; rack 7"
    result = drain(neutron, "network1", "network3", enabled=True)
    assert result["actions"] == [
        f"update agent {kind} of network1 (admin_state_up, description)" for kind in (DHCP, L3)
    ]
    assert neutron.agents["l3-network1"]["description"] == "rack 7"
    assert neutron.agents["l3-network1"]["admin_state_up"] is True
    assert neutron.agents["dhcp-network3"]["admin_state_up"] is False
    assert any("stays disabled; its description: broken" in line for line in result["lines"])
    assert drain(neutron, "network1", "network3", enabled=True)["changed"] is False


def test_the_last_agent_stays(neutron: Neutron) -> None:
    text = refused(neutron, "network1", "network2", "network3")
    assert "network blue (blue) on the DHCP agent of network1: no other agent can take it" in text
    assert f"without network1, network2, network3 no {L3} is left" in text
    drain(neutron, "network1", "network2", "network3", accept_stuck=True)
    assert neutron.gaps == []
    assert neutron.agents["dhcp-network1"]["admin_state_up"] is True, "it serves on"


def test_agents_that_are_dead_or_only_forward_for_their_host_take_nothing(neutron: Neutron) -> None:
    neutron.agents["l3-network2"]["alive"] = False
    neutron.agents["l3-network3"]["configurations"] = {"agent_mode": "dvr"}
    text = refused(neutron, "network1")
    assert "router ha (ha) on the L3 agent of network1: no other agent can take it" in text
    assert "dvr" not in text


def test_a_distributed_router_needs_an_agent_that_can() -> None:
    neutron = Neutron()
    neutron.add("wide", "l3-network1", ha=False, distributed=True)
    neutron.agents["l3-network3"]["configurations"] = {"agent_mode": "dvr_snat"}
    drain(neutron, "network1")
    assert neutron.having("wide") == ["l3-network3"]


def test_an_agent_that_does_not_come_up_takes_nothing_away(neutron: Neutron, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_drain, "READY", LOOKS - 1)
    with pytest.raises(ConvergenceError, match="has not brought up its port in 2 s; the one that is drained serves on"):
        drain(neutron, "network1")
    assert "dhcp-network1" in neutron.having("blue")


def test_gateways_of_ovn_are_refused() -> None:
    neutron = Neutron(0)
    neutron.agent(OVN_GATEWAY, "network1")
    assert "ovs-vsctl remove open_vswitch . external_ids ovn-cms-options" in refused(neutron, "network1")
    assert drain(neutron, "compute1")["changed"] is False


def test_a_run_that_is_killed_at_any_request_is_finished_by_the_next_one() -> None:
    whole = cloud()
    drain(whole, "network1")
    for number in range(1, whole.requests + 1):
        for arrived in (False, True):
            neutron = cloud()
            neutron.kill = (number, arrived)
            with pytest.raises(Killed):
                drain(neutron, "network1")
            neutron.kill = None
            told = drain(neutron, "network1", check=True)
            assert drain(neutron, "network1")["actions"] == told["actions"]
            assert neutron.on("network1") == set()
            assert [len(neutron.having(name)) for name in ("blue", "red", "ha")] == [2, 2, 2], number
            assert len(neutron.having("plain")) == 1, number
            assert set(neutron.gaps) <= {"plain"}
            assert neutron.agents["l3-network1"]["admin_state_up"] is False


def test_the_action_hands_out_neutrons_numbers() -> None:
    found = plan(committed("ha"), sources.load())
    vault = Vault(bytes(range(32)), {})
    piece = Slice(
        found, found.hosts["controller1"], sources.load(), Renderer(found, sources.load(), vault.value), vault
    )
    taken = action.ActionModule.__new__(action.ActionModule).arguments(piece, {"hosts": ["network1"]})
    assert taken is not None
    assert int(taken["dhcp_agents_per_network"]) == 2
    assert taken["network_url"].endswith(":9696")
    assert (taken["state"], taken["accept_stuck"]) == ("drained", False)


def test_an_answer_that_is_null_is_an_empty_one() -> None:
    answer = SimpleNamespace(status_code=201, content=b"null", json=lambda: None)
    now = datetime.now(UTC)
    send = requests_to(Session(lambda *_given, **_more: answer, now, now, 1, 0.0), "http://127.0.0.1:9696")
    assert send("POST", "/v2.0/agents/one/dhcp-networks", {"network_id": "blue"}) == {}
