"""Order, dependencies and table of the checks; the checks against a cloud that is not there; what probes understand."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import itertools
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import netaddr
import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action import cloud_verification
from ansible_collections.brume.cloud.plugins.module_utils import (
    cloud_checks,
    cloud_run,
    host_readings,
    probes,
    sources,
    verification,
)
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.verification import Check, CheckFailed, Clock, NotYet, Result
from openstack import exceptions

from .fake_volumes import FakeStorage
from .inventories import committed

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "6a2d0a43-6d3c-4f0c-9f0b-f6f4c2a6f001"
IDENTIFIERS = itertools.count()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey brume-verify"

AGENTS = ("neutron-openvswitch-agent", "neutron-l3-agent", "neutron-dhcp-agent", "neutron-metadata-agent")


class Time:
    """A clock on which only sleeping takes time."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.at = 0.0

    def clock(self) -> Clock:
        """Return it as the checks take it."""
        return Clock(lambda: self.at, self.sleep)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.at += seconds


def fine(_context: object) -> str:
    return "fine"


def broken(_context: object) -> str:
    raise CheckFailed("it is\nnot so")


def names(checks: list[Check[Any]]) -> list[str]:
    return [check.name for check in checks]


# order and choice


def test_checks_come_after_their_needs_and_the_last_at_the_end() -> None:
    checks = [Check("clean", fine, last=True), Check("b", fine, ("a",)), Check("c", fine), Check("a", fine)]
    assert names(verification.ordered(checks)) == ["a", "b", "c", "clean"]


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ([Check("a", fine, ("b",))], "a needs b, which is no check"),
        ([Check("a", fine, ("b",)), Check("b", fine, ("a",))], "circle: a > b > a"),
        ([Check("a", fine), Check("a", fine)], "a is there twice"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(checks: list[Check[Any]], message: str) -> None:
    with pytest.raises(verification.VerificationError, match=message):
        verification.ordered(checks)


def test_a_choice_brings_what_it_needs_and_the_clean_up() -> None:
    checks = [
        Check("a", fine),
        Check("b", fine, ("a",)),
        Check("c", fine),
        Check("clean", fine, ("a",), last=True),
    ]
    assert names(verification.chosen(checks, ["b"])) == ["a", "b", "clean"]
    assert names(verification.chosen(checks, ["c"])) == ["c"]
    assert names(verification.chosen(checks, [])) == ["a", "b", "c", "clean"]
    with pytest.raises(verification.VerificationError, match="no check d; there are a, b"):
        verification.chosen(checks, ["d"])


def test_the_table_of_a_cloud_makes_sense() -> None:
    checks = verification.ordered(cloud_checks.CHECKS)
    assert names(checks)[0] == "token"
    assert names(checks)[-1] == "clean-up"
    assert names(checks) == [check.name for check in cloud_checks.CHECKS], "the table is written in its own order"


# running


def test_a_failure_stops_what_depends_on_it_and_nothing_else() -> None:
    needy = [Check("c", fine, ("b",)), Check("d", fine, ("c",))]
    checks = [Check("a", fine), Check("b", broken), *needy, Check("e", fine)]
    seen: list[Result] = []
    results = verification.run_checks(checks, None, seen.append, clock=Time().clock())
    assert seen == results
    assert [(one.name, one.outcome, one.detail) for one in results] == [
        ("a", "ok", "fine"),
        ("b", "FAILED", "it is not so"),
        ("c", "not run", "needs b"),
        ("d", "not run", "needs c"),
        ("e", "ok", "fine"),
    ]
    assert verification.summary(results) == "2 of 5 checks ok; failed: b; 2 not run"


def test_a_check_that_breaks_has_failed() -> None:
    def breaks(_context: object) -> str:
        return str(next(iter([])))

    (result,) = verification.run_checks([Check("a", breaks)], None, lambda _result: None)
    assert (result.outcome, result.detail) == ("FAILED", "StopIteration:")


def test_check_mode_runs_only_what_reads() -> None:
    checks = [Check("a", fine, reads_only=True), Check("b", fine)]
    results = verification.run_checks(checks, None, lambda _result: None, check_mode=True)
    assert [one.outcome for one in results] == ["ok", "not run"]


def test_rows_line_up_under_the_header() -> None:
    checks = [Check("a-long-name", fine), Check("b", fine)]
    lines = [
        verification.header(checks),
        verification.row(Result("a-long-name", "ok", 12.34, "ACTIVE"), checks),
        verification.row(Result("b", "not run", 0.0, "needs a-long-name"), checks),
    ]
    assert lines == [
        "check        result   seconds  detail",
        "a-long-name  ok          12.3  ACTIVE",
        "b            not run           needs a-long-name",
    ]


def test_waiting_ends_with_the_value_or_with_the_last_word() -> None:
    time = Time()
    assert verification.wait("it", 5, lambda: "here", time.clock()) == "here"
    assert time.at == 0

    def never() -> str:
        raise NotYet(f"at {time.at:.0f}")

    with pytest.raises(CheckFailed, match="it: not within 5 s; at 5"):
        verification.wait("it", 5, never, time.clock())


def test_the_console_says_which_address_the_guest_has() -> None:
    console = "brume-test: address 10.0.0.5\n[ 1.0] eth0 10.9.9.9\nbrume-verify address    inet 10.0.0.6/24 brd x\n"
    assert verification.console_address(console) == {"10.0.0.5", "10.0.0.6"}


# the checks, against a cloud of plain objects


class Objects:
    """One kind of object in the cloud that is not there."""

    def __init__(self) -> None:
        """Begin with none."""
        self.all: dict[str, Any] = {}

    def add(self, **attributes: Any) -> Any:
        """Make one."""
        attributes.setdefault("id", f"id-{next(IDENTIFIERS)}")
        attributes.setdefault("name", "")
        self.all[attributes["id"]] = SimpleNamespace(**attributes)
        return self.all[attributes["id"]]

    def list(self, **query: Any) -> Iterator[Any]:
        """Give those that match."""
        wanted = {key: value for key, value in query.items() if key in ("device_id", "network_id")}
        exact = {"name": query["name"]} if "name" in query and not query["name"].startswith("^") else {}
        for one in list(self.all.values()):
            if all(getattr(one, key, None) == value for key, value in {**wanted, **exact}.items()):
                yield one

    def remove(self, identifier: str) -> None:
        """Remove one, if it is there."""
        self.all.pop(identifier, None)


KINDS = (
    "servers", "ips", "routers", "networks", "subnets", "ports", "groups", "rules", "keypairs", "flavors", "images",
)


class Answer(SimpleNamespace):
    """An answer over HTTP."""

    def __init__(self, status: int, content: bytes = b"", **headers: str) -> None:
        """Keep status, body and headers."""
        super().__init__(status_code=status, content=content, headers=headers)

    @property
    def text(self) -> str:
        """Return the body as text."""
        return str(self.content.decode())

    def json(self) -> Any:
        """Return the body's document."""
        return json.loads(self.content)


class FakeStore:
    """As much of an object store as the checks use; attributes say how it misbehaves."""

    def __init__(self) -> None:
        """Have no container."""
        self.containers: dict[str, dict[str, bytes]] = {}
        self.keys: dict[str, str] = {}
        self.etag = ""
        self.rotten = False
        self.ranges = True
        self.listed_after = 1
        """Listings that do not show an object yet, and still show one that was deleted."""
        self.signatures = True
        self.open = False

    @staticmethod
    def get_endpoint() -> str:
        """Return where the account is."""
        return "https://api:8080/v1/AUTH_project/"

    @staticmethod
    def parts(path: str) -> tuple[str, str]:
        """Return container and object."""
        container, _slash, name = path.partition("?")[0].strip("/").partition("/")
        return container, name

    def put(self, path: str, data: bytes) -> Answer:
        """Make a container, or write an object."""
        container, name = self.parts(path)
        if not name:
            self.containers.setdefault(container, {})
            return Answer(201)
        self.containers[container][name] = data
        return Answer(201, Etag=self.etag or f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """List a container, or give an object."""
        container, name = self.parts(path)
        if container not in self.containers:
            return Answer(404)
        if not name:
            self.listed_after -= 1
            found = [] if self.listed_after >= 0 else [{"name": one} for one in self.containers[container]]
            return Answer(200, json.dumps(found).encode())
        data = self.containers[container][name]
        data = data[:-1] + bytes([data[-1] ^ 1]) if self.rotten else data
        if headers and self.ranges:
            first, last = headers["Range"].removeprefix("bytes=").split("-")
            return Answer(206, data[int(first) : int(last) + 1])
        return Answer(200, data)

    def post(self, path: str, headers: dict[str, str]) -> Answer:
        """Set a container's metadata."""
        self.keys[self.parts(path)[0]] = headers["X-Container-Meta-Temp-URL-Key"]
        return Answer(204)

    def delete(self, path: str) -> Answer:
        """Delete a container that is empty, or an object."""
        container, name = self.parts(path)
        if name:
            del self.containers[container][name]
            self.listed_after = 2
        elif self.containers[container] or self.listed_after > 0:
            self.listed_after -= 1
            return Answer(409, b"There was a conflict when trying to complete your request.")
        else:
            del self.containers[container]
        return Answer(204)

    def temporary(self, url: str, authenticated: bool) -> Answer:
        """Give an object to who has no token, by the signature (docs.openstack.org/swift: TempURL)."""
        parts = urlsplit(url)
        container, _slash, name = parts.path.removeprefix("/v1/AUTH_project/").partition("/")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        text = f"GET\n{query['temp_url_expires']}\n{parts.path}"
        right = hmac.new(self.keys[container].encode(), text.encode(), hashlib.sha256).hexdigest()
        fits = self.signatures and query["temp_url_sig"] == right
        assert not authenticated, "a token would be a way in by itself"
        return Answer(200, self.containers[container][name]) if fits or self.open else Answer(401)


class FakeCloud:
    """As much of a connection as the checks use; attributes say how it misbehaves."""

    current_project_id = "project"

    def __init__(self) -> None:
        """Make a good cloud."""
        self.kinds = {kind: Objects() for kind in KINDS}
        self.http_status = 200
        self.busy = {"network": 2}
        self.boot = 0
        self.console = ""
        self.fault: dict[str, str] | None = None
        self.guest_name = "brume-verify"
        self.wrong_token_accepted = False
        self.firewall_open = False
        self.session = SimpleNamespace(
            verify=True,
            auth=SimpleNamespace(
                get_access=lambda _session: SimpleNamespace(
                    service_catalog=SimpleNamespace(
                        catalog=[
                            {
                                "type": "image",
                                "endpoints": [
                                    {"interface": "public", "region_id": "RegionOne", "url": "https://api:9292"},
                                    {"interface": "public", "region_id": "RegionTwo", "url": "https://two:9292"},
                                ],
                            },
                            *(
                                {
                                    "type": kind,
                                    "endpoints": [{"interface": "public", "region_id": "RegionOne", "url": url}],
                                }
                                for kind, url in (
                                    ("compute", "https://api:8774/v2.1"),
                                    ("network", "https://api:9696"),
                                    ("object-store", "https://api:8080/v1/AUTH_project"),
                                    ("block-storage", "https://api:8776/v3"),
                                )
                            ),
                        ]
                    ),
                    project_id="project",
                )
            ),
            get=self._get,
        )
        self.object_store = FakeStore()
        self.block_storage = FakeStorage(self._server_of)
        self.services = [
            SimpleNamespace(binary=name, host="one", state="up", status="enabled")
            for name in ("nova-scheduler", "nova-conductor", "nova-compute")
        ]
        self.agents = [
            SimpleNamespace(binary=name, host="one", is_alive=True) for name in AGENTS
        ]
        self.hypervisors = [SimpleNamespace(service_details={"host": "one"}, state="up", hypervisor_type="QEMU")]
        kinds_ = self.kinds
        self.compute = SimpleNamespace(
            services=lambda: iter(self.services),
            hypervisors=lambda details: iter(self.hypervisors),
            servers=kinds_["servers"].list,
            get_server=kinds_["servers"].all.__getitem__,
            create_server=self._server,
            delete_server=self._delete_server,
            create_volume_attachment=self.block_storage.attach,
            delete_volume_attachment=self.block_storage.detach,
            stop_server=lambda one: setattr(one, "status", "SHUTOFF"),
            start_server=self._boot,
            reboot_server=lambda one, _kind: self._boot(one),
            create_server_image=lambda _server, name: kinds_["images"].add(
                name=name, status="active", size=2**20, disk_format="qcow2"
            ),
            get_server_console_output=lambda _server, length=None: {
                "output": "\n".join(self.console.splitlines()[-length:] if length else self.console.splitlines())
            },
            create_console=lambda _server, **_kind: {"url": f"https://api:6080/vnc_auto.html?path=%3Ftoken%3D{TOKEN}"},
            keypairs=kinds_["keypairs"].list,
            create_keypair=kinds_["keypairs"].add,
            delete_keypair=lambda name: kinds_["keypairs"].remove(
                next(one.id for one in kinds_["keypairs"].list(name=name))
            ),
            flavors=kinds_["flavors"].list,
            create_flavor=kinds_["flavors"].add,
            delete_flavor=kinds_["flavors"].remove,
        )
        self.network = SimpleNamespace(
            agents=lambda: iter(self.agents),
            ips=kinds_["ips"].list,
            get_ip=kinds_["ips"].all.__getitem__,
            create_ip=lambda **a: kinds_["ips"].add(
                **a,
                status="ACTIVE",
                floating_ip_address=f"203.0.113.{9 + len(kinds_['ips'].all)}",
                fixed_ip_address="10.0.0.5",
            ),
            delete_ip=kinds_["ips"].remove,
            routers=kinds_["routers"].list,
            get_router=kinds_["routers"].all.__getitem__,
            create_router=self._router,
            add_interface_to_router=lambda router, subnet: kinds_["ports"].add(
                device_id=router, network_id="other", device_owner="network:router_interface"
            ),
            remove_interface_from_router=lambda _router, _subnet, port: kinds_["ports"].remove(port),
            delete_router=self._delete_router,
            networks=kinds_["networks"].list,
            find_network=lambda name, ignore_missing: next(kinds_["networks"].list(name=name), None),
            create_network=lambda **a: kinds_["networks"].add(
                **{"is_router_external": False, "provider_network_type": "vxlan", "mtu": 1450, **a}
            ),
            delete_network=self._delete_network,
            subnets=kinds_["subnets"].list,
            create_subnet=kinds_["subnets"].add,
            ports=kinds_["ports"].list,
            security_groups=kinds_["groups"].list,
            create_security_group=kinds_["groups"].add,
            delete_security_group=self._delete_group,
            create_security_group_rule=kinds_["rules"].add,
        )
        self.image = SimpleNamespace(
            images=kinds_["images"].list,
            get_image=kinds_["images"].all.__getitem__,
            create_image=lambda name, **_arguments: kinds_["images"].add(
                name=name, status="active", size=18 * 2**20, disk_format="qcow2"
            ),
            delete_image=kinds_["images"].remove,
        )

    def _get(self, url: str, authenticated: bool = True, **_arguments: Any) -> Any:
        if "temp_url" in url:
            return self.object_store.temporary(url, authenticated)
        return SimpleNamespace(status_code=self.http_status, text="<html>")

    def _server(self, **attributes: Any) -> Any:
        server = self.kinds["servers"].add(
            **attributes, status="ACTIVE", task_state=None, compute_host="one", fault=self.fault,
            addresses={"brume-verify": [{"addr": "10.0.0.5", "OS-EXT-IPS:type": "fixed"}]},
        )
        if self.fault:
            server.status = "ERROR"
        network = attributes["networks"][0]["uuid"]
        self.kinds["ports"].add(device_id=server.id, network_id=network, device_owner="compute:nova")
        if "block_device_mapping" in attributes:
            self.block_storage.boot(server, attributes["block_device_mapping"][0]["uuid"])
            return server
        script = base64.b64decode(attributes["user_data"]).decode()
        marker = next(line for line in script.splitlines() if "marker" in line).split("'")[1]
        self.console = f"boot\nmore\n{marker}\nbrume-verify key {KEY}\nbrume-test: address 10.0.0.5\n"
        self.boot += 1
        return server

    def _server_of(self, address: str) -> Any:
        floating = next(one for one in self.kinds["ips"].all.values() if one.floating_ip_address == address)
        return self.kinds["servers"].all[self.kinds["ports"].all[floating.port_id].device_id]

    def _delete_server(self, identifier: str) -> None:
        self.kinds["servers"].remove(identifier)
        self.block_storage.forget(identifier)

    def _boot(self, server: Any) -> None:
        server.status = "ACTIVE"
        self.boot += 1

    def _router(self, **attributes: Any) -> Any:
        attributes["external_gateway_info"]["external_fixed_ips"] = [{"ip_address": "203.0.113.2"}]
        return self.kinds["routers"].add(**attributes)

    def _delete_router(self, identifier: str) -> None:
        if any(self.kinds["ports"].list(device_id=identifier)):
            raise AssertionError("the router still has an interface")
        self.kinds["routers"].remove(identifier)

    def _delete_group(self, identifier: str) -> None:
        self.kinds["groups"].remove(identifier)
        self.kinds["rules"].all.clear()

    def _delete_network(self, identifier: str) -> None:
        if self.busy["network"]:
            self.busy["network"] -= 1
            raise exceptions.ConflictException("one or more ports have an IP allocation from this network")
        self.kinds["networks"].remove(identifier)

    def probes(self) -> cloud_run.Probes:
        """Return what can be seen of it from outside."""
        def opened(address: str) -> bool:
            return address == "203.0.113.2" or bool(self.kinds["rules"].all) or self.firewall_open

        def ssh(address: str, _user: str, _key: Path, command: str) -> str:
            said = self.block_storage.guest(address, command)
            if said is not None:
                return said
            if self._server_of(address).name != "brume-verify":
                return f"{self._server_of(address).name}\n"
            if "boot_id" in command:
                return f"boot-{self.boot}\n"
            if "meta_data.json" in command:
                return json.dumps({"uuid": next(iter(self.kinds["servers"].all))})
            return f"{self.guest_name}\n"

        def greeting(url: str, _verify: bool | str) -> str:
            if TOKEN not in url and not self.wrong_token_accepted:
                raise probes.ProbeError("closed")
            return "RFB 003.008"

        return cloud_run.Probes(
            ping=opened,
            connects=lambda address, _port: opened(address),
            ssh=ssh,
            make_key=lambda directory, _comment: (directory / "id_ed25519", KEY),
            vnc_greeting=greeting,
        )


def defaults() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / "roles/verify/defaults/main.yml").read_text(encoding="utf-8"))
    return values


ENDPOINTS = {
    "image": "https://api:9292",
    "compute": "https://api:8774/v2.1",
    "network": "https://api:9696",
    "object-store": "https://api:8080/v1/AUTH_%(project_id)s",
}


def context(cloud: FakeCloud, tmp_path: Path) -> cloud_run.Run:
    image = tmp_path / "image.qcow2"
    image.write_bytes(b"QFI")
    return cloud_run.Run(
        cloud,
        cloud_run.Settings(
            "brume-test", image, {"vcpus": 1, "ram": 192, "disk": 1}, "external", "external",
            netaddr.IPNetwork("10.0.0.0/24"), "root", defaults()["verify_timeouts"],
        ),
        cloud_run.Expected(
            "RegionOne", ENDPOINTS, ("one",), tuple((name, "one") for name in AGENTS),
            netaddr.IPNetwork("203.0.113.0/24"),
            netaddr.IPAddress("203.0.113.1"), (netaddr.IPAddress("203.0.113.2"), netaddr.IPAddress("203.0.113.99")),
        ),
        tmp_path,
        cloud.probes(),
        Time().clock(),
    )


def outcomes(run: cloud_run.Run) -> dict[str, Result]:
    """Run the checks that the cloud has; those of volumes are tried in test_volume_checks."""
    checks = verification.of_cloud(cloud_checks.CHECKS, (*run.expected.endpoints, *run.expected.features))
    results = verification.run_checks(checks, run, lambda _result: None, clock=run.clock)
    return {one.name: one for one in results}


def test_a_good_cloud_passes_and_keeps_only_image_and_external_network(tmp_path: Path) -> None:
    cloud = FakeCloud()
    run = context(cloud, tmp_path)
    results = outcomes(run)
    assert {name: one.detail for name, one in results.items() if one.outcome != "ok"} == {}
    assert [one.name for one in cloud.kinds["networks"].all.values()] == ["external"]
    assert [one.name for one in cloud.kinds["images"].all.values()] == ["brume-test"]
    for kind in ("servers", "ips", "routers", "groups", "keypairs", "flavors"):
        assert cloud.kinds[kind].all == {}, kind
    assert cloud.object_store.containers == {}
    assert run.lasting == ["image brume-test", "network external", "subnet external"]
    (subnet,) = [one for one in cloud.kinds["subnets"].all.values() if one.name == "external"]
    assert (subnet.cidr, subnet.gateway_ip, subnet.is_dhcp_enabled) == ("203.0.113.0/24", "203.0.113.1", False)
    assert subnet.allocation_pools == [{"start": "203.0.113.2", "end": "203.0.113.99"}]

    again = context(cloud, tmp_path)
    assert {one.outcome for one in outcomes(again).values()} == {"ok"}
    assert again.lasting == []


@pytest.mark.parametrize("other", [True, False])
def test_the_external_network_becomes_the_default_one_where_there_is_none(other: bool, tmp_path: Path) -> None:
    cloud = FakeCloud()
    cloud.kinds["networks"].add(name="other", is_router_external=True, is_default=other)
    run = context(cloud, tmp_path)
    cloud_checks.external_network(run)
    assert run.external.is_default is not other


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    cloud = FakeCloud()
    cloud.kinds["flavors"].add(name="m1.small")
    cloud.kinds["flavors"].add(name="brume-verify")
    cloud.kinds["ips"].add(description="brume-verify", floating_ip_address="203.0.113.7")
    cloud.kinds["ips"].add(description="mine", floating_ip_address="203.0.113.8")
    cloud.kinds["images"].add(name="brume-verify-snapshot", status="active")
    cloud.object_store.containers = {"mine": {"a": b""}, "brume-verify": {"object": b""}}
    cloud.object_store.listed_after = 0
    removed = cloud_checks.remove(context(cloud, tmp_path))
    assert removed == [
        "floating IP 203.0.113.7", "flavor brume-verify", "image brume-verify-snapshot",
        "object object", "container brume-verify",
    ]  # fmt: skip
    assert cloud.object_store.containers == {"mine": {"a": b""}}
    assert [one.name for one in cloud.kinds["flavors"].all.values()] == ["m1.small"]
    assert [one.description for one in cloud.kinds["ips"].all.values()] == ["mine"]


def spoil(attribute: str, value: Any) -> Callable[[FakeCloud, cloud_run.Run], None]:
    return lambda cloud, _run: setattr(cloud, attribute, value)


def spoil_store(**attributes: Any) -> Callable[[FakeCloud, cloud_run.Run], None]:
    return lambda cloud, _run: vars(cloud.object_store).update(attributes)


def spoil_probe(**replaced: Any) -> Callable[[FakeCloud, cloud_run.Run], None]:
    def apply(_cloud: FakeCloud, run: cloud_run.Run) -> None:
        run.probes = dataclasses.replace(run.probes, **replaced)

    return apply


def spoil_call(group: str, name: str, answer: Callable[..., Any]) -> Callable[[FakeCloud, cloud_run.Run], None]:
    return lambda cloud, _run: setattr(getattr(cloud, group), name, answer)


def same_boot(_address: str, _user: str, _key: Path, command: str) -> str:
    return "boot-1" if "boot_id" in command else "brume-verify"


def no_ssh(*_arguments: Any) -> str:
    raise probes.ProbeError("ssh: Permission denied (publickey)")


def other_metadata(_address: str, _user: str, _key: Path, command: str) -> str:
    return '{"uuid": "another"}' if "meta_data" in command else "brume-verify"


def stays(_one: Any) -> None:
    return None


SPOILED = [
    ("token", spoil("http_status", 503), "image: https://api:9292 answers 503"),
    ("token", lambda _cloud, run: setattr(
        run, "expected", dataclasses.replace(run.expected, endpoints={"image": "https://two:9292"})),
     "image: the catalog has https://api:9292 in place of https://two:9292"),
    ("compute-services", spoil("services", []), "absent: nova-scheduler, nova-conductor, nova-compute on one"),
    ("network-agents", spoil("agents", []), "absent: neutron-openvswitch-agent on one"),
    ("hypervisors", spoil("hypervisors", []), "absent: one"),
    ("image", lambda _cloud, run: run.settings.image_path.unlink(), "tools/guest_image.py"),
    ("external-network", lambda cloud, _run: cloud.kinds["networks"].add(name="external", is_router_external=False),
     "not external"),
    ("router", spoil_probe(ping=lambda _address: False), "203.0.113.2 does not answer ping"),
    ("server-active", spoil("fault", {"message": "No valid host was found"}), "No valid host was found"),
    ("address", lambda _cloud, run: setattr(
        run, "settings", dataclasses.replace(run.settings, tenant_cidr=netaddr.IPNetwork("10.1.0.0/24"))),
     "none of 10.1.0.0/24"),
    ("dhcp-lease", spoil_call("compute", "get_server_console_output", lambda *_a, **_k: {"output": "10.0.0.5"}),
     "no line with 10.0.0.5"),
    ("metadata", spoil_call("compute", "get_server_console_output", lambda *_a, **_k: {"output": ""}),
     "user data, the public key"),
    ("console-log", spoil_call("compute", "get_server_console_output",
                               lambda *_a, **_k: {"output": "brume-test: address 10.0.0.5"}), "1 where 2"),
    ("floating-ip", spoil_call("network", "create_ip", lambda **a: SimpleNamespace(id="x")), "KeyError"),
    ("security-group-closed", spoil("firewall_open", True), "without a rule ping and TCP 22 reached 203.0.113.9"),
    ("security-group-open", spoil_probe(connects=lambda _address, _port: False), "does not answer on TCP 22"),
    ("ssh", spoil_probe(ssh=no_ssh), "Permission denied"),
    ("ssh", spoil("guest_name", "localhost"), "called localhost, not brume-verify"),
    ("metadata-inside", spoil_probe(ssh=other_metadata), "that of another"),
    ("vnc-page", lambda cloud, _run: setattr(
        cloud.session, "get", lambda url, **_k: SimpleNamespace(status_code=404 if "vnc" in url else 200, text="")),
     "answers 404"),
    ("vnc-socket", spoil("wrong_token_accepted", True), "a wrong token is accepted"),
    ("stop", spoil_call("compute", "stop_server", stays), "status ACTIVE"),
    ("start", spoil_call("compute", "start_server", stays), "status SHUTOFF"),
    ("reboot-soft", spoil_call("compute", "reboot_server", lambda _one, _kind: None), "the boot before"),
    ("reboot-hard", spoil_call("compute", "reboot_server", lambda _one, _kind: None), "the boot before"),
    ("start", spoil_probe(ssh=same_boot), "the boot before"),
    ("clean-up", lambda cloud, _run: cloud.busy.update(network=10**6), "network brume-verify is removed: not within"),
    ("snapshot", lambda cloud, _run: setattr(cloud.compute, "create_server_image", lambda _server, name: (
        cloud.kinds["images"].add(name=name, status="killed", size=0))), "brume-verify-snapshot is killed"),
    ("token", lambda _cloud, run: setattr(run, "expected", dataclasses.replace(
        run.expected, endpoints={"object-store": "https://api:8080/v1/%(project_id)s"})),
     "object-store: the catalog has https://api:8080/v1/AUTH_project in place of https://api:8080/v1/project"),
    ("external-network", lambda _cloud, run: setattr(run, "expected", dataclasses.replace(run.expected, cidr=None)),
     "add `external` to brume_networks"),
    ("object-write", spoil_call("object_store", "put", lambda *_a, **_k: Answer(507, b"no disk")),
     "PUT of brume-verify answers 507: no disk"),
    ("object-write", spoil_store(etag="0" * 32), "ETag is 000"),
    ("object-read", spoil_store(rotten=True), "what was read is not what was written"),
    ("object-read", spoil_store(ranges=False), "a range of it answers 200 with 8388608 bytes"),
    ("object-read", spoil_store(listed_after=10**6), "the object is listed: not within"),
    ("object-temporary-url", spoil_store(open=True), "a right signature answers 200, a wrong one 200"),
    ("object-temporary-url", spoil_store(signatures=False), "a right signature answers 401, a wrong one 401"),
    ("clean-up", lambda cloud, _run: setattr(cloud.object_store, "delete", lambda path: Answer(409)),
     "container brume-verify is removed: not within"),
]


@pytest.mark.parametrize(("check", "damage", "words"), SPOILED, ids=[name for name, *_ in SPOILED])
def test_every_check_can_fail(
    check: str, damage: Callable[[FakeCloud, cloud_run.Run], None], words: str, tmp_path: Path
) -> None:
    cloud = FakeCloud()
    run = context(cloud, tmp_path)
    damage(cloud, run)
    result = outcomes(run)[check]
    assert result.outcome == "FAILED", result
    assert words in result.detail


def test_every_check_that_judges_is_seen_failing() -> None:
    without_judgment = {"leftovers", "flavor", "tenant-network", "security-group", "key-pair"}  # the API fails them
    checks = {check.name for check in verification.of_cloud(cloud_checks.CHECKS, ENDPOINTS)}
    assert {name for name, *_ in SPOILED} | without_judgment == checks


STORAGE_CHECKS = ["token", "leftovers", "object-write", "object-read", "object-temporary-url", "clean-up"]


def test_a_cloud_without_compute_has_only_its_checks(tmp_path: Path) -> None:
    """Nor does it ask services that are not there, in the checks that it has."""
    checks = verification.of_cloud(cloud_checks.CHECKS, ["identity", "object-store"])
    assert names(checks) == STORAGE_CHECKS
    cloud = FakeCloud()
    run = context(cloud, tmp_path)
    run.expected = dataclasses.replace(run.expected, endpoints={"object-store": ENDPOINTS["object-store"]}, cidr=None)
    vars(cloud).update(compute=None, network=None, image=None)
    results = verification.run_checks(checks, run, lambda _result: None, clock=run.clock)
    assert [(one.name, one.outcome) for one in results] == [(name, "ok") for name in STORAGE_CHECKS]
    assert results[-1].detail == "removed object object, container brume-verify"
    with pytest.raises(verification.VerificationError, match="no check server-active; there are token, leftovers"):
        verification.chosen(checks, ["server-active"])


def test_a_cloud_has_the_checks_of_what_is_in_its_catalog() -> None:
    checks = [
        Check("b", fine, ("a",)),
        Check("a", fine, about="compute"),
        Check("c", fine, about="image"),
        Check("d", fine, ("b", "c")),
        Check("e", fine, ("c",), last=True),
    ]
    assert names(verification.of_cloud(checks, ["image"])) == ["c", "e"]
    assert names(verification.of_cloud(checks, ["compute"])) == ["a", "b"]
    assert names(verification.of_cloud(checks, ["image", "compute"])) == ["a", "b", "c", "d", "e"]
    without = names(verification.of_cloud(cloud_checks.CHECKS, ["identity", "image", "compute", "network"]))
    elsewhere = ("object-", "volume-")
    assert without == [one.name for one in cloud_checks.CHECKS if not one.name.startswith(elsewhere)]


def test_the_plan_says_what_a_cloud_of_storage_hosts_has() -> None:
    expected = cloud_verification.expected(plan(committed("object"), sources.load()))
    assert expected.endpoints["object-store"] == "https://10.126.30.11:8080/v1/AUTH_%(project_id)s"
    assert (expected.cidr, expected.gateway, expected.allocation_pool) == (None, None, ())
    assert (expected.compute_hosts, expected.agents) == ((), ())


def test_a_failure_is_explained_by_fault_and_console(tmp_path: Path) -> None:
    cloud = FakeCloud()
    run = context(cloud, tmp_path)
    assert cloud_checks.diagnostics(run) == []
    cloud.fault = {"message": "No valid host was found"}
    explained: list[list[str]] = []
    verification.run_checks(
        [check for check in cloud_checks.CHECKS if not check.last],
        run,
        lambda one: explained.append(cloud_checks.diagnostics(run)) if one.name == "server-active" else None,
        clock=run.clock,
    )
    first, *more = explained[0]
    assert first == "instance: brume-verify, status ERROR, host one"
    assert more[:2] == ["fault: No valid host was found", "console:"]


# probes


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (f"https://api:6080/vnc_auto.html?path=%3Ftoken%3D{TOKEN}", ("https", "api", 6080, f"/?token={TOKEN}")),
        (f"http://[2001:db8::1]:6080/vnc_auto.html?token={TOKEN}", ("http", "2001:db8::1", 6080, f"/?token={TOKEN}")),
        ("https://api/vnc_lite.html?path=websockify%3Ftoken%3Dx", ("https", "api", 443, "/websockify?token=x")),
    ],
)
def test_a_console_url_says_where_its_websocket_is(url: str, target: tuple[str, str, int, str]) -> None:
    assert probes.websocket_target(url) == target


def test_a_console_url_without_a_token_is_refused() -> None:
    with pytest.raises(probes.ProbeError, match="neither `path` nor `token`"):
        probes.websocket_target("https://api:6080/vnc_auto.html")


@pytest.mark.parametrize("length", [0, 12, 125, 126, 70000])
def test_frames_of_every_length_are_read(length: int) -> None:
    content = b"x" * length
    if length < 126:
        head = bytes([0x82, length])
    elif length < 65536:
        head = bytes([0x82, 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x82, 127]) + length.to_bytes(8, "big")
    assert probes.first_frame(head + content + b"rest") == (2, content, b"rest")
    assert probes.first_frame((head + content)[:-1]) is None


def proxy(answer: Callable[[str], bytes]) -> Iterator[str]:
    """Serve one WebSocket upgrade; `answer` gets the client's key."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve() -> None:
            peer, _address = listening.accept()
            with peer:
                request = peer.recv(65536).decode()
                headers = dict(line.split(": ", 1) for line in request.split("\r\n")[1:] if ": " in line)
                if headers["Origin"] != f"http://{headers['Host']}":
                    return
                peer.sendall(answer(headers["Sec-WebSocket-Key"]))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/vnc_auto.html?path=%3Ftoken%3D{TOKEN}"
        thread.join(5)


def accepted(key: str) -> bytes:
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()  # noqa: S324
    accept = base64.b64encode(digest).decode()
    return f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()


def test_a_vnc_server_greets_through_the_websocket() -> None:
    greeting = b"\x82\x04RFB " + b"\x89\x03abc" + b"\x82\x08003.008\n"
    for url in proxy(lambda key: accepted(key) + greeting):
        assert probes.vnc_greeting(url, False, 5) == "RFB 003.008"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _key: b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        (lambda _key: accepted("other"), "wrong Sec-WebSocket-Accept"),
        (lambda key: accepted(key) + b"\x88\x02\x03\xf3", "closed the WebSocket"),
        (accepted, "hung up before"),
        (lambda key: accepted(key) + b"\x82\x0cHTTP/1.1 200", "no greeting"),
        (lambda _key: b"HTTP/1.1 1", "hung up after"),
    ],
)
def test_everything_else_is_no_greeting(answer: Callable[[str], bytes], message: str) -> None:
    for url in proxy(answer):
        with pytest.raises(probes.ProbeError, match=message) as caught:
            probes.vnc_greeting(url, False, 5)
        assert TOKEN not in str(caught.value)


def test_a_port_is_open_or_it_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert probes.connects("127.0.0.1", port)
    assert not probes.connects("127.0.0.1", port)


def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert probes.icmp_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert probes.icmp_checksum(b"\x01") == 0xFEFF


def test_a_key_pair_is_readable_by_the_caller_alone(tmp_path: Path) -> None:
    path, public = probes.make_key(tmp_path, "brume-verify")
    assert path.stat().st_mode & 0o777 == 0o600
    assert public.startswith("ssh-ed25519 ")
    assert public.endswith(" brume-verify")


# the role and the action


def test_defaults_argument_specs_and_action_agree() -> None:
    specs = yaml.safe_load((ROOT / "roles/verify/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    assert {name: option["default"] for name, option in options.items()} == defaults()
    (task,) = yaml.safe_load((ROOT / "roles/verify/tasks/main.yml").read_text(encoding="utf-8"))
    arguments = task["brume.cloud.cloud_verification"]
    assert arguments == {name: f"{{{{ verify_{name} }}}}" for name in cloud_verification.SPEC}
    timeouts = set(options["verify_timeouts"]["options"])
    assert timeouts == set(defaults()["verify_timeouts"]) == set(cloud_verification.SPEC["timeouts"]["options"])


def test_the_module_documents_every_option() -> None:
    text = (ROOT / "plugins/modules/cloud_verification.py").read_text(encoding="utf-8")
    documentation = yaml.safe_load(text.split('DOCUMENTATION = r"""')[1].split('"""')[0])
    documented = {name: option["type"] for name, option in documentation["options"].items()}
    assert documented == {name: option["type"] for name, option in cloud_verification.SPEC.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"image_name": "brume-verify-guest"}, "image_name"), ({"tenant_cidr": "ten"}, "`ten` is no network")],
)
def test_choices_that_make_no_sense_are_refused(change: dict[str, str], message: str) -> None:
    args = {name.removeprefix("verify_"): value for name, value in defaults().items()}
    assert cloud_verification.settings(args).tenant_cidr.version == 4
    with pytest.raises(ValueError, match=message):
        cloud_verification.settings({**args, **change})


def test_connecting_reads_the_file_and_not_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = {"clouds": {"lab": {"auth": {"auth_url": "https://elsewhere:5000/v3"}}}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(elsewhere), encoding="utf-8")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "other.yaml"))
    clouds = tmp_path / "clouds.yaml"
    with pytest.raises(ValueError, match="writes it at brume_clouds_file"):
        cloud_verification.connect(str(clouds), "lab")
    auth = {"auth_url": "https://api:5000/v3", "username": "admin", "password": "x", "project_name": "admin"}
    clouds.write_text(yaml.safe_dump({"clouds": {"lab": {"auth": auth}}}), encoding="utf-8")
    assert cloud_verification.connect(str(clouds), "lab").config.get_auth_args()["auth_url"] == "https://api:5000/v3"
    with pytest.raises(ValueError, match="nowhere"):
        cloud_verification.connect(str(clouds), "nowhere")


# readings of hosts

UNITS = """\
Id=nova-api.service
Names=nova-api.service
ActiveState=active
SubState=running
UnitFileState=enabled
NRestarts=0

Id=mariadb.service
Names=mysql.service mariadb.service
ActiveState=activating
SubState=auto-restart
UnitFileState=disabled
NRestarts=4

Id=ovs-vswitchd.service
Names=ovs-vswitchd.service
ActiveState=active
SubState=running
UnitFileState=static
NRestarts=0
"""


def test_units_are_active_and_enabled_or_it_is_said_why_not() -> None:
    found = host_readings.units(UNITS)
    assert host_readings.unit_problem("nova-api.service", found) == ""
    assert host_readings.unit_problem("ovs-vswitchd.service", found) == ""
    problem = "mysql.service is activating (auto-restart), restarts: 4 and disabled"
    assert host_readings.unit_problem("mysql.service", found) == problem
    assert host_readings.unit_problem("none.service", found) == "none.service is unknown to systemd"


ANYWHERE = "0.0.0.0"  # noqa: S104  # compared with, never bound
LISTENERS = """\
tcp   LISTEN 0      128          0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=88,fd=3))
tcp   LISTEN 0      128             [::]:22            [::]:*    users:(("sshd",pid=88,fd=4))
tcp   LISTEN 0      100        127.0.0.1:18774      0.0.0.0:*    users:(("uwsgi",pid=99,fd=4),("uwsgi",pid=98,fd=4))
tcp   LISTEN 0      100    [2001:db8::1]:8774          [::]:*    users:(("haproxy",pid=97,fd=4))
tcp   LISTEN 0      100                *:11211            *:*    users:(("memcached",pid=96,fd=4))
udp   UNCONN 0      0      127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=95,fd=4))
udp   UNCONN 0      0            0.0.0.0:4789       0.0.0.0:*
"""


def test_listeners_are_planned_or_allowed_or_named() -> None:
    found = host_readings.listeners(LISTENERS)
    assert str(found[5]) == "udp 127.0.0.53:53 (systemd-resolve)"
    planned = [("127.0.0.1", 18774), ("2001:db8::1", 8774), ("127.0.0.1", 11211)]
    assert [host_readings.is_open(*one, found) for one in planned] == [True, True, True]
    assert not host_readings.is_open("192.0.2.1", 18774, found)
    assert not host_readings.is_open("127.0.0.53", 53, found), "a datagram socket is no open TCP port"
    assert [str(one) for one in host_readings.unplanned(found, planned)] == ["tcp *:11211 (memcached)"]
    assert [str(one) for one in host_readings.unplanned(found, [(ANYWHERE, 11211), *planned[:2]])] == []
    assert [str(one) for one in host_readings.unplanned(found[:1], planned, ())] == ["tcp 0.0.0.0:22 (sshd)"]


def test_an_excuse_holds_for_its_process_and_its_place_only() -> None:
    wrong = [
        host_readings.Listener("tcp", ANYWHERE, 22, "netcat"),
        host_readings.Listener("tcp", ANYWHERE, 6640, "ovsdb-server"),
        host_readings.Listener("udp", ANYWHERE, 22, "sshd"),
    ]
    assert host_readings.unplanned(wrong, []) == wrong
    assert host_readings.unplanned([host_readings.Listener("tcp", "127.0.0.1", 6640, "ovsdb-server")], []) == []


def test_files_are_as_planned_or_it_is_said_how_they_differ(tmp_path: Path) -> None:
    found = host_readings.files("/a\troot\tnova\t640\tregular file\n/b\tnova\tnova\t755\tdirectory\n")
    assert host_readings.file_problem("/a", "root", "nova", "0640", "file", found) == ""
    assert host_readings.file_problem("/b", "nova", "nova", "0755", "directory", found) == ""
    assert host_readings.file_problem("/c", "root", "nova", "0640", "file", found) == "/c is missing"
    problem = "/b is a directory and belongs to nova:nova, not to root:nova and has mode 0755, not 0640"
    assert host_readings.file_problem("/b", "root", "nova", "0640", "file", found) == problem


def shell(command: str) -> str:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False).stdout


def test_the_commands_give_what_their_parsers_read(tmp_path: Path) -> None:
    one, link = tmp_path / "a file", tmp_path / "current"
    one.write_text("", encoding="utf-8")
    one.chmod(0o640)
    link.symlink_to(one)
    found = host_readings.files(shell(host_readings.files_command([str(one), str(tmp_path), "/nowhere"])))
    assert {path: entry[2:] for path, entry in found.items()} == {
        str(one): (0o640, "regular empty file"),
        str(tmp_path): (tmp_path.stat().st_mode & 0o7777, "directory"),
    }
    found_links = host_readings.links(shell(host_readings.links_command([str(link), str(one)])))
    assert found_links == {str(link): str(one), str(one): ""}
    states = host_readings.packages("nova\tinstalled\nold\tconfig-files\n")
    assert states == {"nova": "installed", "old": "config-files"}


def test_services_and_agents_of_chosen_hosts_are_judged_alone(tmp_path: Path) -> None:
    """A host goes back into use though another one is dead, and not while its own are."""
    cloud = FakeCloud()
    for services in (cloud.services, cloud.agents):
        dead = SimpleNamespace(binary="nova-compute", host="two", state="down", status="enabled", is_alive=False)
        services.append(dead)
    run = context(cloud, tmp_path)
    for check in (cloud_checks.compute_services, cloud_checks.network_agents):
        with pytest.raises(verification.CheckFailed, match="down: nova-compute on two"):
            check(run)
        check(dataclasses.replace(run, expected=dataclasses.replace(run.expected, hosts=("one",))))
        check(dataclasses.replace(run, expected=dataclasses.replace(run.expected, hosts=("three",))))
        with pytest.raises(verification.CheckFailed, match="down: nova-compute on two"):
            check(dataclasses.replace(run, expected=dataclasses.replace(run.expected, hosts=("two",))))
    cloud.agents.clear()
    cloud.services.clear()
    for check in (cloud_checks.compute_services, cloud_checks.network_agents):
        with pytest.raises(verification.CheckFailed, match="absent: n"):
            check(dataclasses.replace(run, expected=dataclasses.replace(run.expected, hosts=("one",))))
