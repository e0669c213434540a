"""Flavors and aggregates: a fake Compute API in memory that keeps Nova's rules, so that predictions can be tried."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.action import nova_scheduling as action
from ansible_collections.brume.cloud.plugins.module_utils import api_session, nova_scheduling, sources
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, apply_actions, report
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import nova_scheduling as module

from . import api_server
from .api_server import keystone
from .inventories import AIO, committed, inventory

SIZES = {"vcpus": 1, "ram": 2048, "disk": 20}


class Nova:
    """Flavors, aggregates and instances (flavor's name, host); `calls` holds every change in order."""

    def __init__(self, page: int = 0) -> None:
        """Start empty. `page` limits lists of flavors, as Nova's `max_limit` does; 0 does not."""
        self.page = page
        self.flavors: dict[str, dict[str, Any]] = {}
        self.access: dict[str, set[str]] = {}
        self.aggregates: dict[int, dict[str, Any]] = {}
        self.hosts = {f"compute{number}" for number in range(1, 5)}
        self.instances: list[tuple[str, str]] = []
        self.calls: list[str] = []
        self.asked: list[str] = []
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request; raises ApiError as Nova refuses."""
        with self.lock:
            address = urlsplit(path)
            query = {name: value[0] for name, value in parse_qs(address.query).items()}
            parts = [unquote(part) for part in address.path.strip("/").split("/")]
            if method == "GET":
                self.asked.append(path)
                return self._read(parts, query)
            self.calls.append(f"{method} {address.path} {json.dumps(body, sort_keys=True) if body else ''}".strip())
            return self._change(method, parts, body or {})

    def _read(self, parts: list[str], query: dict[str, str]) -> dict[str, Any]:
        if parts == ["flavors", "detail"]:
            assert query["is_public"] == "None", "private flavors are flavors too"
            listed = list(self.flavors.values())
            if not self.page:
                return {"flavors": listed}
            begin = [one["id"] for one in listed].index(query["marker"]) + 1 if "marker" in query else 0
            found = listed[begin : begin + self.page]
            link = f"http://public/v2.1/flavors/detail?is_public=None&marker={found[-1]['id']}" if found else ""
            return {"flavors": found, **({"flavors_links": [{"rel": "next", "href": link}]} if found else {})}
        if parts[0] == "flavors" and parts[2] == "os-flavor-access":
            return {"flavor_access": [{"tenant_id": one} for one in self.access.get(parts[1], ())]}
        if parts == ["os-aggregates"]:
            return {"aggregates": json.loads(json.dumps(list(self.aggregates.values())))}
        if parts == ["os-services"]:
            assert query == {"binary": "nova-compute"}
            return {"services": [{"host": host} for host in sorted(self.hosts)]}
        assert parts == ["servers"]
        ids = {one["name"]: one["id"] for one in self.flavors.values()}
        found = [
            {"id": "server"}
            for name, host in self.instances
            if query.get("host", host) == host and query.get("flavor", ids.get(name)) == ids.get(name)
        ]
        return {"servers": found}

    def _change(self, method: str, parts: list[str], body: Mapping[str, Any]) -> dict[str, Any]:
        if parts[0] == "flavors":
            return self._change_flavor(method, parts, body)
        if method == "POST" and len(parts) == 1:
            number = next(self.numbers)
            name, zone = body["aggregate"]["name"], body["aggregate"].get("availability_zone")
            metadata = {"availability_zone": zone} if zone else {}
            record = {"id": number, "name": name, "hosts": [], "metadata": metadata, "availability_zone": zone}
            self.aggregates[number] = record
            return {"aggregate": {"id": number}}
        record = self.aggregates[int(parts[1])]
        if method == "DELETE":
            self._refuse_if(bool(record["hosts"]), "Host aggregate is not empty")
            del self.aggregates[int(parts[1])]
        elif method == "PUT":
            zone = body["aggregate"]["availability_zone"]
            for host in record["hosts"]:
                self._refuse_if(self._zones(host, record) - {zone} != set(), "One or more hosts already in zone")
                self._refuse_if(self._occupied(host), "One or more hosts contain instances in this zone")
            record["availability_zone"] = record["metadata"]["availability_zone"] = zone
        else:
            self._aggregate_action(record, body)
        return {}

    def _aggregate_action(self, record: dict[str, Any], body: Mapping[str, Any]) -> None:
        zone = record["metadata"].get("availability_zone")
        if "set_metadata" in body:
            for key, value in body["set_metadata"]["metadata"].items():
                assert key != "availability_zone"
                if value is None:
                    record["metadata"].pop(key, None)
                else:
                    assert isinstance(value, str)
                    record["metadata"][key] = value
            return
        host = next(iter(body.values()))["host"]
        others = self._zones(host, record)
        if "add_host" in body:
            self._refuse_if(host not in self.hosts, f"Compute host {host} could not be found.", 404)
            self._refuse_if(host in record["hosts"], "already has host")
            self._refuse_if(bool(zone and others - {zone}), "One or more hosts already in availability zone(s)")
            self._refuse_if(bool(zone) and others != {zone} and self._occupied(host), "The host cannot be added")
            record["hosts"].append(host)
            return
        self._refuse_if(host not in record["hosts"], "Cannot remove host", 404)
        self._refuse_if(bool(zone) and others != {zone} and self._occupied(host), "The host cannot be removed")
        record["hosts"].remove(host)

    def _zones(self, host: str, but: dict[str, Any]) -> set[str]:
        listed = [one for one in self.aggregates.values() if one is not but and host in one["hosts"]]
        return {one["availability_zone"] for one in listed if one["availability_zone"]}

    def _occupied(self, host: str) -> bool:
        return any(one[1] == host for one in self.instances)

    @staticmethod
    def _refuse_if(wrong: bool, message: str, status: int = 409) -> None:
        if wrong:
            raise ApiError(f"{message} (HTTP {status})", status)

    def _change_flavor(self, method: str, parts: list[str], body: Mapping[str, Any]) -> dict[str, Any]:
        if len(parts) == 1:
            wanted = body["flavor"]
            names = [one["name"] for one in self.flavors.values()]
            self._refuse_if(wanted["name"] in names or wanted.get("id") in self.flavors, "Flavor already exists")
            number = wanted.get("id") or f"f{next(self.numbers)}"
            defaults = {"swap": 0, "OS-FLV-EXT-DATA:ephemeral": 0, "rxtx_factor": 1.0, "description": None}
            whole = {**defaults, "os-flavor-access:is_public": True, **wanted, "id": number, "extra_specs": {}}
            self.flavors[number] = whole
            return {"flavor": whole}
        record = self.flavors[parts[1]]
        if len(parts) == 2 and method == "DELETE":
            del self.flavors[parts[1]]
            self.access.pop(parts[1], None)
        elif method == "PUT":
            assert set(body["flavor"]) == {"description"}, "nothing else of a flavor changes"
            record["description"] = body["flavor"]["description"]
        elif method == "DELETE":
            del record["extra_specs"][parts[3]]
        elif parts[2] == "os-extra_specs":
            assert all(isinstance(value, str) for value in body["extra_specs"].values())
            record["extra_specs"].update(body["extra_specs"])
        else:
            self._refuse_if(record["os-flavor-access:is_public"], "Can not add access to a public flavor.")
            allowed = self.access.setdefault(parts[1], set())
            for verb, one in body.items():
                (allowed.add if verb == "addTenantAccess" else allowed.remove)(one["tenant"])
        return {}


def compared(nova: Nova, **desired: Any) -> list[Any]:
    return nova_scheduling.compare(desired, nova_scheduling.fetch(desired, nova.request, keystone), nova.request)


def converges(nova: Nova, **desired: Any) -> list[str]:
    """Return the actions after seeing that the dry run changes nothing and the next run has nothing to do."""
    before = len(nova.calls)
    dry = report(compared(nova, **desired))
    assert len(nova.calls) == before, "a dry run changes nothing"
    actions = compared(nova, **desired)
    assert report(actions) == dry
    apply_actions(actions, 4)
    assert report(compared(nova, **desired)) == {"changed": False, "actions": [], "diff": []}
    found: list[str] = dry["actions"]
    return found


def refused(nova: Nova, **desired: Any) -> str:
    """Return why the wanted state cannot be, after seeing that nothing was changed."""
    before = len(nova.calls)
    with pytest.raises(ConvergenceError) as caught:
        compared(nova, **desired)
    assert len(nova.calls) == before
    return str(caught.value)


def flavor(name: str = "m1.small", **more: Any) -> dict[str, Any]:
    return {"name": name, **SIZES, **more}


def aggregate(name: str, zone: str = "", *hosts: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "availability_zone": zone or None, "hosts": list(hosts), **more}


@pytest.fixture
def nova() -> Nova:
    return Nova()


def test_a_flavor_is_made_with_all_that_belongs_to_it(nova: Nova) -> None:
    specs = {"hw:cpu_policy": "dedicated", "hw:cpu_max_sockets": 2, "hw:boot_menu": True}
    wanted = flavor(
        swap=512, ephemeral=5, rxtx_factor=2.0, description="Small", projects=["databases", "p2"], extra_specs=specs
    )
    assert converges(nova, flavors=[wanted]) == ["create flavor m1.small"]
    (made,) = nova.flavors.values()
    assert made["extra_specs"] == {"hw:cpu_policy": "dedicated", "hw:cpu_max_sockets": "2", "hw:boot_menu": "true"}
    assert (made["swap"], made["OS-FLV-EXT-DATA:ephemeral"], made["description"]) == (512, 5, "Small")
    assert made["os-flavor-access:is_public"] is False
    assert nova.access == {made["id"]: {"p1", "p2"}}


def test_other_flavors_are_left_alone(nova: Nova) -> None:
    converges(nova, flavors=[flavor("one"), flavor("two")])
    assert converges(nova, flavors=[flavor("two")]) == []
    assert converges(nova, flavors=[{"name": "one", "state": "absent"}]) == ["delete flavor one"]
    assert converges(nova, flavors=[{"name": "one", "state": "absent"}]) == []
    assert [one["name"] for one in nova.flavors.values()] == ["two"]


def test_what_is_not_said_of_a_flavor_is_left_alone(nova: Nova) -> None:
    converges(nova, flavors=[flavor(swap=512, description="Small", extra_specs={"a": "b"}, projects=["web"])])
    assert converges(nova, flavors=[flavor()]) == []


def test_what_may_change_of_a_flavor_is_updated(nova: Nova) -> None:
    converges(nova, flavors=[flavor(description="Small", extra_specs={"a": "1", "b": "2"}, projects=["web"])])
    changed = flavor(description="", extra_specs={"b": 3, "c/d": "4"}, projects=["databases"])
    dry = report(compared(nova, flavors=[changed]))["diff"][0]
    assert 'projects: ["web"]' in dry["before"]
    assert 'projects: ["databases"]' in dry["after"]
    assert converges(nova, flavors=[changed]) == ["update flavor m1.small (description, extra_specs, projects)"]
    number = next(iter(nova.flavors))
    assert nova.flavors[number]["description"] is None
    assert nova.flavors[number]["extra_specs"] == {"b": "3", "c/d": "4"}
    assert nova.access[number] == {"p1"}
    bare = flavor(extra_specs={}, projects=[])
    assert converges(nova, flavors=[bare]) == ["update flavor m1.small (extra_specs, projects)"]
    assert (nova.flavors[number]["extra_specs"], nova.access[number]) == ({}, set())


def test_all_pages_of_flavors_are_read() -> None:
    assert len(converges(Nova(page=2), flavors=[flavor(f"m{number}") for number in range(5)])) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vcpus": 2}, "vcpus from 1 to 2"),
        ({"ram": 4096, "disk": 0}, "ram from 2048 to 4096, disk from 20 to 0"),
        ({"rxtx_factor": 2.5}, "rxtx_factor from 1 to 2.5"),
        ({"projects": ["web"]}, "is_public from true to false"),
    ],
)
def test_a_flavor_of_another_size_is_refused(nova: Nova, change: dict[str, Any], said: str) -> None:
    converges(nova, flavors=[flavor()])
    text = refused(nova, flavors=[flavor(**change)])
    assert text.startswith(f"flavor m1.small: cannot change {said}, ")
    assert "replace: true" in text


def test_a_flavor_is_replaced_where_that_is_allowed_and_nothing_uses_it(nova: Nova) -> None:
    converges(nova, flavors=[flavor(extra_specs={"a": "b"}, projects=["web"]), flavor("other")])
    nova.instances = [("other", "compute1")]
    number = next(iter(nova.flavors))
    wanted = flavor(replace=True, ram=4096)
    assert converges(nova, flavors=[wanted]) == ["delete flavor m1.small", "create flavor m1.small"]
    made = nova.flavors[number]
    assert (made["ram"], made["extra_specs"], nova.access[number]) == (4096, {"a": "b"}, {"p2"}), "the rest stays"
    nova.instances = [("m1.small", "compute1")]
    assert converges(nova, flavors=[wanted]) == [], "permission alone replaces nothing"
    text = refused(nova, flavors=[flavor(replace=True, ram=8192)])
    assert "ram from 4096 to 8192, and instances use it" in text


def test_a_flavor_goes_although_instances_use_it(nova: Nova) -> None:
    converges(nova, flavors=[flavor()])
    nova.instances = [("m1.small", "compute1")]
    assert converges(nova, flavors=[{"name": "m1.small", "state": "absent"}]) == ["delete flavor m1.small"]


def test_mistakes_of_flavors_are_named_at_once(nova: Nova) -> None:
    wanted = [
        flavor("a", projects=["nobody"]),
        flavor("b", projects=["twice"]),
        flavor("c", is_public=True, projects=["web"]),
        flavor("d"),
        flavor("d"),
    ]
    assert refused(nova, flavors=wanted).splitlines() == [
        "flavor d: named more than once; one entry may stay",
        "flavor a: there is no project nobody; create it, or take it out of the list",
        "flavor b: twice is a project of 2 domains; write the id of the right one",
        "flavor c: is public, thus no project's own; remove `projects` or `is_public`",
    ]


def test_a_host_that_is_removed_leaves_its_aggregates_with_its_service(nova: Nova) -> None:
    converges(nova, aggregates=[aggregate("rack1", "east", "compute1", "compute2")])
    nova.instances = [("m1.small", "compute2")]  # a dry run has not drained it
    wanted = [aggregate("rack1", "east", "compute1")]
    assert "host compute2 has instances" in refused(nova, aggregates=wanted)
    assert converges(nova, aggregates=wanted, leaving=["compute2"]) == []


def test_aggregates_are_made_with_zone_metadata_and_hosts(nova: Nova) -> None:
    wanted = [
        aggregate("rack1", "east", "compute1", "compute2", metadata={"ssd": True, "generation": 3}),
        aggregate("fast", "", "compute1"),
    ]
    assert converges(nova, aggregates=wanted) == [
        "create aggregate rack1",
        "create aggregate fast",
        "create member compute1 of aggregate fast",
        "create member compute1 of aggregate rack1",
        "create member compute2 of aggregate rack1",
    ]
    one, two = sorted(nova.aggregates.values(), key=lambda record: record["name"], reverse=True)
    assert one["metadata"] == {"availability_zone": "east", "ssd": "true", "generation": "3"}
    assert sorted(one["hosts"]) == ["compute1", "compute2"]
    assert (two["hosts"], two["availability_zone"]) == (["compute1"], None)


def test_hosts_and_metadata_are_exact_and_other_aggregates_stay(nova: Nova) -> None:
    first = aggregate("a", "", "compute1", "compute2", metadata={"x": "1", "y": "2"})
    converges(nova, aggregates=[first, aggregate("b")])
    changed = aggregate("a", "", "compute2", "compute3", metadata={"y": "3"})
    assert converges(nova, aggregates=[changed]) == [
        "create member compute3 of aggregate a",
        "delete member compute1 of aggregate a",
        "update aggregate a (metadata)",
    ]
    record = next(one for one in nova.aggregates.values() if one["name"] == "a")
    assert record["metadata"] == {"y": "3"}
    assert converges(nova, aggregates=[aggregate("a", "", "compute2", "compute3")]) == [], "metadata is not said"
    assert converges(nova, aggregates=[{"name": "a", "state": "absent"}]) == [
        "delete member compute2 of aggregate a",
        "delete member compute3 of aggregate a",
        "delete aggregate a",
    ]
    assert [one["name"] for one in nova.aggregates.values()] == ["b"]


def test_a_host_moves_between_zones_while_it_is_empty(nova: Nova) -> None:
    converges(nova, aggregates=[aggregate("a", "east", "compute1"), aggregate("b", "west", "compute2")])
    moved = [aggregate("a", "east"), aggregate("b", "west", "compute1", "compute2")]
    assert converges(nova, aggregates=moved) == [
        "delete member compute1 of aggregate a",
        "create member compute1 of aggregate b",
    ]
    nova.instances = [("m1.small", "compute1")]
    text = refused(nova, aggregates=[aggregate("a", "east", "compute1"), aggregate("b", "west", "compute2")])
    assert "aggregate b: host compute1 has instances, whose zone would change from west to the default" in text


def test_a_host_with_instances_moves_within_its_zone(nova: Nova) -> None:
    """Nova refuses to let it leave first: for a moment its zone would be the default one."""
    converges(nova, aggregates=[aggregate("a", "east", "compute1")])
    nova.instances = [("m1.small", "compute1")]
    assert converges(nova, aggregates=[aggregate("a", "east"), aggregate("b", "east", "compute1")]) == [
        "create aggregate b",
        "create member compute1 of aggregate b",
        "delete member compute1 of aggregate a",
    ]


def test_a_host_with_instances_joins_an_aggregate_without_a_zone(nova: Nova) -> None:
    nova.instances = [("m1.small", "compute1")]
    assert len(converges(nova, aggregates=[aggregate("fast", "", "compute1")])) == 2
    text = refused(nova, aggregates=[aggregate("a", "east", "compute1")])
    assert "would change from the default to east" in text
    assert "shelve" in text


def test_the_zone_of_an_aggregate_changes_while_its_hosts_are_empty(nova: Nova) -> None:
    converges(nova, aggregates=[aggregate("a", "east", "compute1", "compute2")])
    assert converges(nova, aggregates=[aggregate("a", "west", "compute1", "compute2")]) == [
        "update aggregate a (availability_zone)"
    ]
    nova.instances = [("m1.small", "compute2")]
    text = refused(nova, aggregates=[aggregate("a", "east", "compute1", "compute2")])
    assert text.startswith("aggregate a: host compute2 has instances")
    assert len(text.splitlines()) == 1
    assert converges(nova, aggregates=[aggregate("a", "west", "compute1", "compute2")]) == []


def test_nova_counts_instances_also_where_a_zone_only_gets_a_second_aggregate(nova: Nova) -> None:
    converges(nova, aggregates=[aggregate("a", "east", "compute1"), aggregate("b", "", "compute1")])
    nova.instances = [("m1.small", "compute1")]
    assert "host compute1 has instances" in refused(nova, aggregates=[aggregate("b", "east", "compute1")])


def test_a_zone_that_an_aggregate_by_hand_gives_is_named(nova: Nova) -> None:
    converges(nova, aggregates=[aggregate("by-hand", "west", "compute1")])
    text = refused(nova, aggregates=[aggregate("a", "east", "compute1")])
    assert "host compute1 is in the zone west by the aggregate by-hand, and a host has one zone" in text


def test_only_hosts_whose_zone_changes_are_asked_for_instances(nova: Nova) -> None:
    converges(nova, aggregates=[aggregate("a", "east", "compute1", "compute2"), aggregate("free", "", "compute3")])
    nova.asked.clear()
    compared(nova, aggregates=[aggregate("a", "east", "compute1"), aggregate("free", "", "compute4")])
    assert nova.asked == ["/os-aggregates", "/servers?all_tenants=true&limit=1&host=compute2"]


def test_two_aggregates_of_a_host_do_not_change_at_once(nova: Nova) -> None:
    actions = compared(nova, aggregates=[aggregate("a", "", "compute1"), aggregate("b", "", "compute1")])
    assert len({action.step for action in actions if action.kind == "member"}) == 2


def test_what_nova_refuses_in_a_run_names_the_object(nova: Nova) -> None:
    with pytest.raises(ConvergenceError, match=r"create member compute9 of aggregate a: Compute host compute9"):
        apply_actions(compared(nova, aggregates=[aggregate("a", "", "compute9")]))


# --- the module, over HTTP --------------------------------------------------------------------------------------------


@pytest.fixture
def served(nova: Nova) -> Iterator[tuple[Nova, str]]:
    """Serve Keystone and Nova on loopback; the second is the address."""
    with api_server.served(nova.request, "/v2.1", f"compute {nova_scheduling.MICROVERSION}") as url:
        yield nova, url


def call(capsys: pytest.CaptureFixture[str], url: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
    auth = {"auth_url": url, "username": "admin", "password": "hunter2", "project_name": "admin", "timeout": 5}
    auth |= arguments.pop("auth", {})
    taken = {"auth": auth, "compute_url": f"{url}/v2.1", **arguments, "_ansible_check_mode": check}
    with patch_module_args(taken), pytest.raises(SystemExit):
        module.main()
    text = capsys.readouterr().out
    assert "hunter2" not in text
    result: dict[str, Any] = json.loads(text)
    return result


def said(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("changed", "actions", "diff")}


NOBODY = "http://127.0.0.1:9"
WANTED = {
    "flavors": [flavor(projects=["web"], extra_specs={"a": 1})],
    "aggregates": [aggregate("rack1", "east", "compute1")],
}


def test_the_module_over_http(served: tuple[Nova, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nova, url = served
    record = {"start_record": str(tmp_path / "record")}
    nowhere = call(capsys, NOBODY, check=True, **record, **WANTED)
    assert nowhere["changed"], "before there is a Nova, all of it is predicted"
    assert said(call(capsys, url, check=True, **record, **WANTED)) == said(nowhere)
    assert nova.calls == []
    assert said(call(capsys, url, **record, **WANTED)) == said(nowhere)
    assert call(capsys, url, **WANTED)["actions"] == []
    assert [one["hosts"] for one in nova.aggregates.values()] == [["compute1"]]


def test_a_nova_that_was_there_has_to_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "record").touch()
    monkeypatch.setattr(api_session, "log_in", partial(api_session.log_in, attempts=1))
    failed = call(capsys, NOBODY, check=True, start_record=str(tmp_path / "record"), **WANTED)
    assert failed["failed"]
    assert "refused" in failed["msg"]


def test_a_dry_run_logs_in_with_the_former_password(
    served: tuple[Nova, str], capsys: pytest.CaptureFixture[str]
) -> None:
    auth = {"password": "not-yet-set", "former_password": "hunter2"}
    assert call(capsys, served[1], check=True, auth=auth, **WANTED)["changed"]
    assert call(capsys, served[1], auth=auth, **WANTED)["failed"]


def test_a_refusal_of_nova_is_the_message(served: tuple[Nova, str], capsys: pytest.CaptureFixture[str]) -> None:
    failed = call(capsys, served[1], aggregates=[aggregate("a", "", "compute9")])
    assert "create member compute9 of aggregate a: Compute host compute9 could not be found." in failed["msg"]


# --- the action -------------------------------------------------------------------------------------------------------


def test_the_action_hands_out_what_the_inventory_declares() -> None:
    wanted = {"nova_flavors": [flavor(projects=["web"])], "nova_aggregates": [{"name": "all", "hosts": ["compute"]}]}
    found = plan(inventory(AIO | wanted), sources.load())
    vault = Vault(bytes(range(32)), {})
    piece = Slice(found, found.hosts["aio"], sources.load(), Renderer(found, sources.load(), vault.value), vault)
    taken = action.ActionModule.__new__(action.ActionModule).arguments(piece, {"hosts": ["aio"]})
    assert taken is not None
    assert (taken["optional_hosts"], "limit" in taken) == ([], False)
    assert taken["flavors"] == [flavor(projects=["web"])]
    assert taken["aggregates"] == [{"name": "all", "hosts": ["aio"]}]
    assert taken["compute_url"] == "https://192.0.2.11:8774/v2.1"
    assert taken["auth"]["password"] == vault.value("keystone/admin")


def test_without_flavors_and_aggregates_nothing_is_asked() -> None:
    found = plan(inventory(AIO), sources.load())
    vault = Vault(bytes(range(32)), {})
    piece = Slice(found, found.hosts["aio"], sources.load(), Renderer(found, sources.load(), vault.value), vault)
    assert action.ActionModule.__new__(action.ActionModule).arguments(piece, {"hosts": ["aio"]}) is None


@pytest.mark.parametrize(
    ("in_play", "expected"),
    [
        (["controller1", "controller2"], (1, ["compute1", "compute2"], None)),
        (["controller1", "compute2"], (1, ["compute1"], None)),
        (["compute2"], (0, None, ["compute2"])),
        (["controller2"], None),
        (["network1"], None),
    ],
)
def test_the_action_takes_what_the_hosts_in_play_are_concerned_with(
    in_play: list[str], expected: tuple[int, list[str] | None, list[str] | None] | None
) -> None:
    base = committed("ha")
    wanted = {"nova_flavors": [flavor()], "nova_aggregates": [{"name": "all", "hosts": ["compute"]}]}
    variables = dict(next(iter(base.hosts.values()))[0].variables) | wanted
    own = {host: dict(layers[-1].variables) for host, layers in base.hosts.items()}
    groups = {name: list(hosts) for name, hosts in base.groups.items()}
    found = plan(inventory(variables, hosts=own, groups=groups), sources.load())
    vault = Vault(bytes(range(32)), {})
    piece = Slice(found, found.hosts["compute2"], sources.load(), Renderer(found, sources.load(), vault.value), vault)
    taken = action.ActionModule.__new__(action.ActionModule).arguments(piece, {"hosts": in_play})
    if expected is None:
        assert taken is None
        return
    assert taken is not None
    assert (len(taken["flavors"]), taken.get("optional_hosts"), taken.get("limit")) == expected


# --- hosts in play ----------------------------------------------------------------------------------------------------


def test_a_host_that_was_never_deployed_joins_no_aggregate() -> None:
    nova = Nova()
    racks = [aggregate("rack1", "east", "compute1", "compute8"), aggregate("rack2", "", "compute2", "compute9")]
    optional = ["compute2", "compute8", "compute9"]
    assert converges(nova, aggregates=racks, optional_hosts=optional) == [
        "create aggregate rack1",
        "create aggregate rack2",
        "create member compute2 of aggregate rack2",
        "create member compute1 of aggregate rack1",
    ]
    nova.hosts |= {"compute8"}
    assert converges(nova, aggregates=racks, optional_hosts=optional) == ["create member compute8 of aggregate rack1"]
    nova.hosts -= {"compute1"}  # its service was deleted, which is no reason to leave
    assert converges(nova, aggregates=racks, optional_hosts=["compute1", "compute9"]) == []


def test_services_are_listed_only_where_hosts_are_optional() -> None:
    nova = Nova()
    compared(nova, aggregates=[aggregate("rack1", "", "compute1")], optional_hosts=["compute2"])
    assert not [path for path in nova.asked if "os-services" in path]


def test_a_limit_changes_the_membership_of_its_hosts_and_nothing_else() -> None:
    nova = Nova()
    old = [aggregate("rack1", "", "compute1", "compute2"), aggregate("rack2", "west", "compute3")]
    converges(nova, aggregates=old)
    racks = [
        aggregate("rack1", "", "compute4", metadata={"ssd": True}),
        aggregate("rack2", "north", "compute2", "compute4"),
        aggregate("rack3", "", "compute3", "compute4", metadata={"new": "yes"}),
        aggregate("rack4", "", "compute1"),
    ]
    assert converges(nova, aggregates=racks, limit=["compute4"]) == [
        "create aggregate rack3",
        "create member compute4 of aggregate rack1",
        "create member compute4 of aggregate rack3",
        "create member compute4 of aggregate rack2",
    ]
    found = {one["name"]: (one["availability_zone"], sorted(one["hosts"])) for one in nova.aggregates.values()}
    assert found == {
        "rack1": (None, ["compute1", "compute2", "compute4"]),
        "rack2": ("west", ["compute3", "compute4"]),
        "rack3": (None, ["compute4"]),
    }
    assert converges(nova, aggregates=racks, limit=["compute2"]) == [
        "delete member compute2 of aggregate rack1",
        "create member compute2 of aggregate rack2",
    ]


def test_an_aggregate_is_not_deleted_within_a_limit() -> None:
    nova = Nova()
    converges(nova, aggregates=[aggregate("rack1", "", "compute1")])
    gone = [{"name": "rack1", "state": "absent"}]
    assert converges(nova, aggregates=gone, limit=["compute1"]) == []
    assert converges(nova, aggregates=gone) == ["delete member compute1 of aggregate rack1", "delete aggregate rack1"]
