"""Hosts leave Nova, Neutron and Placement: a fake of the three that keeps their rules, killed at every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import host_removal
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    ConvergenceError,
    apply_actions,
    converge,
    report,
)
from ansible_collections.brume.cloud.plugins.module_utils.host_removal import Leaving
from ansible_collections.brume.cloud.plugins.modules import host_removal as module


class Killed(BaseException):
    """What ends a run in the middle."""


class Apis:
    """Two compute hosts, two network hosts, two controllers; `calls` holds every change in order."""

    def __init__(self) -> None:
        """Start with everything up and one instance on compute1."""
        self.calls: list[str] = []
        self.kill_at = 0
        """The request that changes something and does not come back: 1 is the first; 0 for none."""
        self.arrives = True
        """Whether the request that does not come back has arrived."""
        self.services: dict[str, dict[str, Any]] = {}
        self.agents: dict[str, dict[str, Any]] = {}
        self.hypervisors: dict[str, str] = {}
        self.servers: dict[str, dict[str, Any]] = {}
        self.providers: dict[str, dict[str, Any]] = {}
        self.allocations: dict[str, set[str]] = {}
        self.bound: dict[str, tuple[str, set[str]]] = {}
        """Router -> its plural, and its agents."""
        self.images: list[dict[str, Any]] = []
        self.aggregates: dict[str, set[str]] = {"rack1": {"compute1", "compute2"}}
        for host in ("compute1", "compute2"):
            self.service(host, "nova-compute")
            self.agent(host, "neutron-openvswitch-agent")
            self.provider(host)
            self.provider(f"{host}_child", host)
        for host in ("controller1", "controller2"):
            self.service(host, "nova-scheduler")
            self.service(host, "nova-conductor")
        for host in ("network1", "network2"):
            self.agent(host, "neutron-l3-agent")
            self.agent(host, "neutron-dhcp-agent")
        self.boot("compute1")

    def service(self, host: str, binary: str) -> None:
        """Add a service of Nova's."""
        number = f"{binary}-{host}"
        self.services[number] = {"id": number, "host": host, "binary": binary, "state": "up", "status": "enabled"}

    def agent(self, host: str, binary: str) -> None:
        """Add an agent of Neutron's."""
        number = f"{binary}-{host}"
        self.agents[number] = {"id": number, "host": host, "binary": binary, "alive": True, "admin_state_up": True}

    def provider(self, name: str, parent: str | None = None) -> None:
        """Add a provider; a hypervisor's has the name that libvirt gives, which is not that of the service."""
        self.providers[f"rp-{name}"] = {
            "uuid": f"rp-{name}",
            "name": f"{name}.example.org",
            "parent_provider_uuid": f"rp-{parent}" if parent else None,
            "root_provider_uuid": f"rp-{parent or name}",
        }
        if parent is None:
            self.hypervisors[f"rp-{name}"] = name

    def boot(self, host: str) -> None:
        """Add an instance."""
        number = f"server{len(self.servers) + 1}"
        self.servers[number] = {"id": number, "name": f"name of {number}", "status": "ACTIVE", "host": host}
        self.allocations.setdefault(f"rp-{host}", set()).add(number)

    def lose(self, host: str) -> None:
        """Let nothing of a host report any more."""
        for one in self.services.values():
            one["state"] = "down" if one["host"] == host else one["state"]
        for one in self.agents.values():
            one["alive"] = one["alive"] and one["host"] != host

    def senders(self) -> dict[str, Any]:
        """Return what the module takes in place of sessions."""
        return {"compute": self.compute, "network": self.network, "placement": self.placement, "image": self.image}

    def changing(self, method: str, path: str) -> bool:
        """Note a change; return whether it is to be made and then killed. Raises Killed before it where so wanted."""
        self.calls.append(f"{method} {path}")
        dies = len(self.calls) == self.kill_at
        if dies and not self.arrives:
            raise Killed
        return dies

    def compute(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer as Nova."""
        address = urlsplit(path)
        query = {key: value[0] for key, value in parse_qs(address.query).items()}
        parts = address.path.strip("/").split("/")
        if method == "DELETE":
            dies = self.changing(method, path)
            self._delete_server(parts[1]) if parts[0] == "servers" else self._delete_service(parts[1])
            if dies:
                raise Killed
            return {}
        if parts == ["os-services"]:
            return {"services": list(self.services.values())}
        if parts == ["os-hypervisors", "detail"]:
            return {"hypervisors": [{"id": one, "service": {"host": host}} for one, host in self.hypervisors.items()]}
        if parts == ["servers", "detail"]:
            assert query["all_tenants"] == "true"
            return {"servers": [one for one in self.servers.values() if one["host"] == query["host"]]}
        return {"server": self._found(self.servers, parts[1])}

    def _delete_server(self, number: str) -> None:
        host = self._found(self.servers, number)["host"]
        del self.servers[number]
        self.allocations[f"rp-{host}"].discard(number)

    def _delete_service(self, number: str) -> None:
        """nova.api.openstack.compute.services.delete: the provider goes along where nothing holds it."""
        one = self._found(self.services, number)
        if one["binary"] == "nova-compute":
            if any(server["host"] == one["host"] for server in self.servers.values()):
                raise ApiError("Unable to delete compute service that is hosting instances. (HTTP 409)", 409)
            for hosts in self.aggregates.values():
                hosts.discard(one["host"])
            root = f"rp-{one['host']}"
            self.hypervisors.pop(root, None)
            if not self.allocations.get(root):
                self.providers = {k: v for k, v in self.providers.items() if v["root_provider_uuid"] != root}
        del self.services[number]

    def network(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer as Neutron."""
        parts = urlsplit(path).path.strip("/").split("/")[1:]
        if method == "DELETE":
            dies = self.changing(method, path)
            del self.agents[self._found(self.agents, parts[1])["id"]]
            if dies:
                raise Killed
            return {}
        if parts == ["agents"]:
            return {"agents": list(self.agents.values())}
        if parts[0] == "agents":
            plural = parts[2].partition("-")[2]
            return {plural: [{"id": k} for k, (kind, on) in self.bound.items() if kind == plural and parts[1] in on]}
        return {"agents": [self.agents[one] for one in sorted(self.bound[parts[1]][1])]}

    def placement(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer as Placement."""
        parts = path.strip("/").split("/")
        if method == "DELETE":
            dies = self.changing(method, path)
            if dies and parts[1] not in self.providers:
                raise Killed  # Nova was faster
            self._found(self.providers, parts[1])
            below = [one for one in self.providers.values() if one["parent_provider_uuid"] == parts[1]]
            if below or self.allocations.get(parts[1]):
                raise ApiError("Unable to delete resource provider (HTTP 409)", 409)
            del self.providers[parts[1]]
            if dies:
                raise Killed
            return {}
        if parts[1:]:
            return {"allocations": {one: {} for one in self.allocations.get(parts[1], ())}}
        return {"resource_providers": list(self.providers.values())}

    def image(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer as Glance, one image a page."""
        query = {key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}
        hidden = query.get("os_hidden") == "true"
        found = [one for one in self.images if bool(one.get("os_hidden")) == hidden]
        place = int(query.get("marker", 0))
        more = {"next": f"/v2/images?os_hidden={query['os_hidden']}&marker={place + 1}"} if found[place + 1 :] else {}
        return {"images": found[place : place + 1], **more}

    @staticmethod
    def _found(things: Mapping[str, Any], number: str) -> Any:
        if number not in things:
            raise ApiError(f"{number} could not be found (HTTP 404)", 404)
        return things[number]

    def of(self, host: str) -> list[str]:
        """Return everything that is left of a host."""
        return [
            *(one["id"] for one in (*self.services.values(), *self.agents.values()) if one["host"] == host),
            *(one for one in self.providers if one.startswith(f"rp-{host}")),
            *(name for name, hosts in self.aggregates.items() if host in hosts),
        ]


@pytest.fixture
def apis() -> Apis:
    return Apis()


def judged(apis: Apis, leaving: Leaving, files: tuple[str, ...] = ()) -> list[str]:
    """Return the problems of a first look, which changes nothing."""
    found = host_removal.problems(
        leaving, host_removal.fetch(leaving, apis.senders()), files, drains=True
    )
    assert apis.calls == []
    return found


def removed(apis: Apis, leaving: Leaving) -> list[str]:
    """Remove; return the actions after seeing that a dry run says the same and a second run has nothing to do."""
    before = len(apis.calls)
    dry = report(host_removal.compare(leaving, host_removal.fetch(leaving, apis.senders()), apis.senders()))
    assert len(apis.calls) == before, "a dry run changes nothing"
    actions = host_removal.compare(leaving, host_removal.fetch(leaving, apis.senders()), apis.senders())
    assert converge(actions, check_mode=False, limit=4) == dry
    again = host_removal.compare(leaving, host_removal.fetch(leaving, apis.senders()), apis.senders())
    assert report(again)["actions"] == []
    found: list[str] = dry["actions"]
    return found


def test_a_compute_host_leaves_nothing_behind(apis: Apis) -> None:
    others = {host: apis.of(host) for host in ("compute1", "network1", "controller1")}
    assert removed(apis, Leaving(["compute2"])) == [
        "delete service nova-compute of compute2 (nova-compute-compute2)",
        "delete network agent neutron-openvswitch-agent of compute2",
        "delete resource provider compute2_child.example.org",
        "delete resource provider compute2.example.org",
    ]
    assert apis.of("compute2") == []
    assert {host: apis.of(host) for host in others} == others


def test_controllers_and_network_hosts_leave_nothing_behind(apis: Apis) -> None:
    assert removed(apis, Leaving(["controller2", "network2"])) == [
        "delete service nova-scheduler of controller2 (nova-scheduler-controller2)",
        "delete service nova-conductor of controller2 (nova-conductor-controller2)",
        "delete network agent neutron-l3-agent of network2",
        "delete network agent neutron-dhcp-agent of network2",
    ]
    assert apis.of("controller2") + apis.of("network2") == []


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("kill_at", range(1, 6))
def test_a_run_that_is_killed_is_finished_by_the_next(kill_at: int, arrives: bool) -> None:
    apis = Apis()
    apis.lose("compute1")
    leaving = Leaving(["compute1"], lost=["compute1"], accept_loss=True)
    apis.kill_at, apis.arrives = kill_at, arrives
    actions = host_removal.compare(leaving, host_removal.fetch(leaving, apis.senders()), apis.senders())
    assert len(actions) == 5
    with pytest.raises(Killed):
        apply_actions(actions, 1)
    apis.kill_at = 0
    removed(apis, leaving)
    assert apis.of("compute1") == []
    assert apis.servers == {}


def test_what_nova_has_left_behind_of_a_host_goes_too(apis: Apis) -> None:
    del apis.services["nova-compute-compute2"]
    del apis.hypervisors["rp-compute2"]
    apis.providers["rp-compute2"]["name"] = "compute2"
    assert removed(apis, Leaving(["compute2"]))[1:] == [
        "delete resource provider compute2_child.example.org",
        "delete resource provider compute2",
    ]


def test_a_provider_that_something_is_counted_on_is_named_with_the_next_step(apis: Apis) -> None:
    apis.allocations["rp-compute2"] = {"server9"}
    leaving = Leaving(["compute2"])
    actions = host_removal.compare(leaving, host_removal.fetch(leaving, apis.senders()), apis.senders())
    with pytest.raises(ConvergenceError, match=r"counts server9\n  next: `playbooks/cleanup\.yml`"):
        apply_actions(actions, 4)


def test_hosts_that_are_reached_are_drained_first(apis: Apis) -> None:
    leaving = Leaving(["compute1", "network1", "controller2"])
    actual = host_removal.fetch(leaving, apis.senders())
    assert host_removal.drained(leaving, actual) == ["compute1", "network1"]
    assert judged(apis, leaving) == []
    assert host_removal.problems(leaving, actual, (), drains=False) == [
        "compute1: still has 1 instance: server1 (name of server1); next: move or delete them, then run again"
    ]
    lost = Leaving(["compute1", "network1"], lost=["compute1"])
    assert host_removal.drained(lost, host_removal.fetch(lost, apis.senders())) == ["network1"]
    gone = Leaving(["compute9"])
    assert host_removal.drained(gone, host_removal.fetch(gone, apis.senders())) == []


def test_a_lost_compute_host_with_instances_is_refused(apis: Apis) -> None:
    leaving = Leaving(["compute1"], lost=["compute1"])
    (reports, instances) = judged(apis, leaving)
    assert reports.startswith("compute1: Ansible does not reach it, and its nova-compute, neutron-openvswitch-agent ")
    apis.lose("compute1")
    assert judged(apis, leaving) == [instances]
    assert "1 instance: server1 (name of server1); next: `openstack server evacuate <id>`" in instances
    assert "-e remove_accept_loss=true" in instances


def test_instances_are_given_up_only_where_the_host_is_down_too(apis: Apis) -> None:
    accepted = Leaving(["compute1"], lost=["compute1"], accept_loss=True)
    assert len(judged(apis, accepted)) == 2, "it reports"
    reached = Leaving(["compute1"], accept_loss=True)
    actual = host_removal.fetch(reached, apis.senders())
    assert not [one for one in host_removal.compare(reached, actual, apis.senders()) if one.kind == "instance"]
    apis.lose("compute1")
    assert judged(apis, accepted) == []
    assert removed(apis, accepted)[0] == "delete instance name of server1 (server1) of compute1"


def test_what_only_a_lost_network_host_serves_is_refused(apis: Apis) -> None:
    apis.bound = {
        "r1": ("routers", {"neutron-l3-agent-network1"}),
        "r2": ("routers", {"neutron-l3-agent-network1", "neutron-l3-agent-network2"}),
        "n1": ("networks", {"neutron-dhcp-agent-network1"}),
    }
    apis.lose("network1")
    found = judged(apis, Leaving(["network1"], lost=["network1"]))
    assert [one.partition(";")[0] for one in found] == [
        "network1: is lost, and nothing else serves router r1",
        "network1: is lost, and nothing else serves network n1",
    ]
    assert "`openstack network agent remove router --l3 <its agent> <router>`" in found[0]
    assert judged(apis, Leaving(["network1"])) == [], "one that is reached is drained"


def test_images_have_to_be_where_they_are_served_afterwards(apis: Apis) -> None:
    apis.images = [
        {"id": "i1", "stores": "file"},
        {"id": "i2", "stores": "rbd"},
        {"id": "i3", "stores": "rbd,file"},
        {"id": "i4", "stores": "file", "os_hidden": True},
    ]
    leaving = Leaving(["controller1"])
    (found,) = judged(apis, leaving, ("i1",))
    assert "lacks the files of 2: i3, i4; next: copy /var/lib/glance/images there" in found
    assert judged(apis, leaving, ("i1", "i3", "i4")) == []
    assert judged(apis, Leaving(["controller1"], accept_loss=True)) == []
    assert judged(apis, Leaving(["compute2"])) == [], "no controller leaves"


def test_of_a_replaced_host_only_what_a_new_one_would_stumble_over_goes(apis: Apis) -> None:
    leaving = Leaving(["compute2"], lost=["compute2"], replaced=True)
    assert removed(apis, leaving) == [], "what reports is the new machine"
    apis.lose("compute2")
    assert removed(apis, leaving) == [
        "delete service nova-compute of compute2 (nova-compute-compute2)",
        "delete resource provider compute2_child.example.org",
        "delete resource provider compute2.example.org",
    ]
    assert apis.of("compute2") == ["neutron-openvswitch-agent-compute2"], "the new agent takes it over"
    apis.lose("compute1")
    apis.calls.clear()
    (found,) = judged(apis, Leaving(["compute1"], lost=["compute1"], replaced=True))
    assert "-e replace_accept_loss=true" in found


def test_the_module_refuses_before_it_changes_anything(apis: Apis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "apis", lambda _params, _check: apis.senders())
    params = {"hosts": ["compute1"], "lost": [], "accept_loss": False, "replaced": False, "image_directory": None}
    assert module.run({**params, "judge": True}, check_mode=False) == {
        "changed": False,
        "problems": [],
        "drain": ["compute1"],
    }
    assert len(module.run({**params, "judge": False}, check_mode=True)["actions"]) == 4, "a dry run has not drained"
    with pytest.raises(ConvergenceError, match="still has 1 instance"):
        module.run({**params, "judge": False}, check_mode=False)
    assert apis.calls == []


def test_of_a_cell_that_does_not_answer_nothing_is_known(apis: Apis) -> None:
    """Nova tells names alone of its services, and nothing of its instances."""
    for one in apis.services.values():
        if one["host"] == "compute2":
            one.pop("id")
    with pytest.raises(ConvergenceError, match=r"the cell of compute2 does not answer Nova\n  next: "):
        judged(apis, Leaving(["compute2"]))
