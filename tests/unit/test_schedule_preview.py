"""Previews as an operator gets them: the module with described and real hosts, its action, the scheduler's settings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.action import schedule_preview as action
from ansible_collections.brume.cloud.plugins.module_utils import scheduling_state, sources
from ansible_collections.brume.cloud.plugins.module_utils.nova_inventory import scheduler_mistakes
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import SchedulingError, settings_of
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import schedule_preview as module

from .inventories import AIO, inventory

SMALL = {"name": "m1.small", "vcpus": 1, "ram": 2048, "disk": 20}


def described(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "vcpus": 8, "memory_mb": 16384, "disk_gb": 100, **more}


def call(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    text = capsys.readouterr().out
    assert "hunter2" not in text
    result: dict[str, Any] = json.loads(text)
    return result


# --- described hosts --------------------------------------------------------------------------------------------------


def test_described_hosts_are_judged_without_a_cloud(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [
        described("east1", availability_zone="east"),
        described("east2", availability_zone="east", memory_mb_used=8192, vcpus_used=8, disk_gb_used=40),
        described("east3", availability_zone="east", disabled=True, memory_mb_used=15000),
        described("west1", availability_zone="west"),
    ]
    request = {"flavor": SMALL, "count": 2, "availability_zone": "east", "group": {"policy": "anti-affinity"}}
    result = call(capsys, hosts=hosts, request=request)
    assert [one["host"] for one in result["placings"]] == ["east1", "east2"]
    assert result["fits"] and not result["changed"]
    assert result["table"] == [
        "instance 1 of 2: east1",
        "  1.  east1  weight 3      CPU +1, Disk +1, RAM +1",
        "  2.  east2  weight 1.834  CPU +0.75, Disk +0.6, RAM +0.484",
        "  -   east3  Placement     MEMORY_MB: 2048 asked, 872 of 15872 free (also ComputeFilter)",
        "  -   west1  Placement     is not in zone east",
        "instance 2 of 2: east2",
        "  1.  east2  weight 0",
        "  -   east1  ServerGroupAntiAffinityFilter  has 1 of group new (at most 1)",
    ]


def test_hosts_of_the_same_weight_are_a_tie(capsys: pytest.CaptureFixture[str]) -> None:
    result = call(capsys, hosts=[described("a"), described("b"), described("c", up=False)], request={"flavor": SMALL})
    assert result["placings"][0]["tied"] == ["a", "b"]
    assert "  Nova may take any of a, b" in result["table"]
    assert any("c" in line and "ComputeFilter" in line and "not reported" in line for line in result["table"])


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    result = call(capsys, hosts=[described("a")], request={"flavor": SMALL, "count": 9})
    assert not result["fits"]
    assert [one["host"] for one in result["placings"]] == ["a"] * 5 + [""] * 4  # the disk has room for five
    assert "instance 6 of 9: no host; Nova makes none of the instances" in result["table"]
    assert "instance 7 of 9: not tried, since an instance before it gets no host" in result["table"]


def test_what_is_not_judged_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    flavor = {**SMALL, "extra_specs": {"hw:numa_nodes": 2, "hw:cpu_policy": "dedicated", "hw:watchdog_action": "reset"}}
    request = {"flavor": flavor, "image_properties": {"hw_architecture": "x86_64"}}
    result = call(capsys, hosts=[described("a")], request=request)
    assert result["unjudged"] == [
        "extra spec hw:numa_nodes: what it asks of hosts is not judged",
        "extra spec hw:cpu_policy: what it asks of hosts is not judged",
        "ImagePropertiesFilter: what a can run is not known, so they pass",
    ]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"flavor": {"name": "m9"}}, "request: flavor: m9 has no vcpus and ram; there are none to look it up in"),
        ({"flavor": SMALL, "count": 0}, "request: count: 0 is below 1"),
        (
            {"flavor": SMALL, "availability_zone": "south"},
            "request: availability_zone: no host is in zone south; there are east, nova",
        ),
        ({"flavor": SMALL, "force_host": "z"}, "request: force_host: there is no host z"),
        (
            {"flavor": {**SMALL, "ram": -1}, "ignore_hosts": ["z"], "group": {"name": "web"}},
            "request: flavor: a size is below 0\nrequest: ignore_hosts: there is no host z\n"
            "request: group: there is no group web; give the name of one, or a policy",
        ),
    ],
)
def test_mistakes_of_the_request_are_named(
    capsys: pytest.CaptureFixture[str], request_: dict[str, Any], message: str
) -> None:
    result = call(capsys, hosts=[described("a", availability_zone="east"), described("b")], request=request_)
    assert result["failed"] and result["msg"] == message


def test_arguments_are_validated(capsys: pytest.CaptureFixture[str]) -> None:
    assert "one of the following is required: auth, hosts" in call(capsys, request={"flavor": SMALL})["msg"]
    wrong = call(capsys, hosts=[described("a", cpus=1)], request={"flavor": SMALL})
    assert "cpus" in wrong["msg"]
    twice = call(capsys, hosts=[described("a"), described("a")], request={"flavor": SMALL})
    assert twice["msg"] == "hosts: described twice: a"
    below = call(capsys, hosts=[described("a", vcpus_used=-1)], request={"flavor": SMALL})
    assert below["msg"] == "hosts: a: vcpus_used below 0"


def test_the_schedulers_own_options_count(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [described("full", memory_mb_used=8192), described("empty")]
    options = {"filter_scheduler": {"ram_weight_multiplier": "-5.0", "enabled_filters": ["ComputeFilter"]}}
    result = call(capsys, hosts=hosts, request={"flavor": SMALL}, configuration=options)
    assert [one["host"] for one in result["placings"]] == ["full"]


def test_options_that_cannot_be_read_are_named() -> None:
    with pytest.raises(SchedulingError, match=r"\[filter_scheduler\] ram_weight_multiplier: 'much' cannot be read"):
        settings_of({"filter_scheduler": {"ram_weight_multiplier": "much"}})
    with pytest.raises(SchedulingError, match="host_subset_size"):
        settings_of({"filter_scheduler": {"host_subset_size": "x"}})
    found = settings_of({"metrics": {"weight_multiplier": 2, "required": "false"}, "scheduler": {"unknown": 1}})
    assert found.multipliers["metrics_weight_multiplier"] == 2.0 and not found.required


# --- real hosts -------------------------------------------------------------------------------------------------------


def node(number: int, **more: Any) -> dict[str, Any]:
    """Return a hypervisor as the Compute API lists it at 2.86."""
    name = f"compute{number}"
    return {
        "id": f"uuid-{name}", "hypervisor_hostname": f"{name}.example", "state": "up", "status": "enabled",
        "service": {"host": name, "id": f"s{number}", "disabled_reason": None}, "vcpus": 8, "vcpus_used": 1,
        "memory_mb": 16384, "memory_mb_used": 2560, "free_ram_mb": 13824, "local_gb": 100, "local_gb_used": 20,
        "free_disk_gb": 80, "disk_available_least": 70, "running_vms": 1, "current_workload": 0, "host_ip": "192.0.2.1",
        "hypervisor_type": "QEMU", "hypervisor_version": 10000013, "cpu_info": {"arch": "x86_64"},
        "servers": [{"uuid": f"instance{number}", "name": "one"}], **more,
    }  # fmt: skip


class Cloud:
    """Answers reads of Nova and Placement; anything else is a mistake."""

    def __init__(self) -> None:
        """Have four hosts: one with a group's member, one disabled, one that Placement does not know."""
        self.nodes = [
            node(1),
            node(2),
            node(3, status="disabled", service={"host": "compute3", "id": "s3", "disabled_reason": "disk"}),
            node(4, servers=[]),
        ]
        self.asked: list[str] = []

    def answer(self, service: str, path: str) -> dict[str, Any]:
        """Answer one read."""
        self.asked.append(path)
        address = urlsplit(path)
        parts, options = address.path.strip("/").split("/"), parse_qs(address.query)
        if service == "placement 1.39":
            return self.placement(parts)
        assert service == "compute 2.86"
        match parts:
            case ["os-hypervisors", "detail"]:
                assert options["with_servers"] == ["true"]
                begin = 2 if "marker" in options else 0
                following = [{"rel": "next", "href": "http://public/os-hypervisors/detail?with_servers=true&marker=x"}]
                more = {} if begin else {"hypervisors_links": following}
                return {"hypervisors": self.nodes[begin : begin + 2], **more}
            case ["os-aggregates"]:
                zone = {"name": "rack1", "availability_zone": "east", "metadata": {"availability_zone": "east"}}
                return {"aggregates": [{**zone, "hosts": ["compute1", "compute2", "compute3"]}]}
            case ["flavors", "detail"]:
                small = {"name": "m1.small", "vcpus": 1, "ram": 2048, "disk": 20, "swap": "", "extra_specs": {}}
                return {"flavors": [{**small, "OS-FLV-EXT-DATA:ephemeral": 0}]}
            case ["os-server-groups"]:
                web = {"id": "g1", "name": "web", "policy": "anti-affinity", "rules": {"max_server_per_host": 1}}
                return {"server_groups": [] if options["offset"] != ["0"] else [{**web, "members": ["instance1"]}]}
            case ["servers", "detail"]:
                assert options["all_tenants"] == ["true"]
                busy = options["status"] == ["BUILD"]
                return {"servers": [{"id": "b", "OS-EXT-SRV-ATTR:host": "compute2"}] if busy else []}
        raise AssertionError(path)

    def placement(self, parts: list[str]) -> dict[str, Any]:
        """Answer for Placement; nothing means that it is not found."""
        units = {"reserved": 0, "min_unit": 1, "max_unit": 1000000, "step_size": 1, "allocation_ratio": 1.0}
        match parts:
            case ["resource_providers"]:
                return {"resource_providers": [
                    {"uuid": "uuid-compute1", "parent_provider_uuid": None, "root_provider_uuid": "uuid-compute1"},
                    {"uuid": "vgpu", "parent_provider_uuid": "uuid-compute1", "root_provider_uuid": "uuid-compute1"},
                ]}  # fmt: skip
            case [_, "uuid-compute4", _]:
                return {}
            case [_, _, "inventories"]:
                totals = {"VCPU": 8, "MEMORY_MB": 16384, "DISK_GB": 100}
                return {"inventories": {name: {**units, "total": total} for name, total in totals.items()}}
            case [_, _, "usages"]:
                return {"usages": {"VCPU": 1, "MEMORY_MB": 2048, "DISK_GB": 20}}
            case [_, uuid, "traits"]:
                return {"traits": ["COMPUTE_STATUS_DISABLED"] if uuid == "uuid-compute3" else ["HW_CPU_X86_AVX2"]}
        raise AssertionError(parts)


@pytest.fixture
def served() -> Iterator[tuple[Cloud, str]]:
    """Serve a cloud on loopback; the second is the address."""
    cloud = Cloud()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers, status = {}, 200
            if self.path.startswith("/v3/auth/tokens"):
                times = {"issued_at": "2026-05-04T12:00:00.000000Z", "expires_at": "2036-05-04T13:00:00.000000Z"}
                result = {"token": {**times, "methods": ["password"], "user": {"id": "u", "name": "admin"}}}
                headers, status = {"X-Subject-Token": "token"}, 201
            else:
                assert self.command == "GET", "a preview changes nothing"
                path = self.path.removeprefix("/v2.1").removeprefix("/placement")
                result = cloud.answer(self.headers["OpenStack-API-Version"], path)
                status = 200 if result else 404
            data = json.dumps(result).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": len(data)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield cloud, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def asked(capsys: pytest.CaptureFixture[str], url: str, **request: Any) -> dict[str, Any]:
    auth = {"auth_url": url, "username": "admin", "password": "hunter2", "project_name": "admin", "timeout": 5}
    urls = {"compute_url": f"{url}/v2.1", "placement_url": f"{url}/placement"}
    return call(capsys, auth=auth, request=request, **urls)


def test_the_real_state_is_read_and_judged(served: tuple[Cloud, str], capsys: pytest.CaptureFixture[str]) -> None:
    result = asked(capsys, served[1], flavor={"name": "m1.small"}, availability_zone="east", group={"name": "web"})
    (placing,) = result["placings"]
    assert placing["host"] == "compute2"
    first = {one["host"]: one["filters"][0] for one in placing["refused"]}
    assert first["compute1"] == {"filter": "ServerGroupAntiAffinityFilter", "reason": "has 1 of group web (at most 1)"}
    assert first["compute3"]["filter"] == "Placement" and "COMPUTE_STATUS_DISABLED" in first["compute3"]["reason"]
    assert first["compute4"]["reason"].startswith("has no MEMORY_MB")
    both = next(one["filters"] for one in placing["refused"] if one["host"] == "compute3")
    assert [one["reason"] for one in both if one["filter"] == "ComputeFilter"] == ["its service is disabled (disk)"]
    assert "nested resource providers are not judged: compute1 have some" in result["unjudged"]


def test_hosts_are_as_nova_and_placement_say(served: tuple[Cloud, str], capsys: pytest.CaptureFixture[str]) -> None:
    cloud, _ = served
    state = scheduling_state.fetch(
        lambda _method, path, _body=None: cloud.answer("compute 2.86", path),
        lambda _method, path, _body=None: cloud.answer("placement 1.39", path),
    )
    one = {host.name: host for host in state.hosts}["compute2"]
    assert (one.free_disk_mb, one.free_ram_mb, one.num_io_ops, one.zone) == (70 * 1024, 13824, 1, "east")
    assert one.instances == {"instance2"} and json.loads(one.cpu_info) == {"arch": "x86_64"}
    assert one.supported_instances is None


def test_an_unknown_flavor_is_named_with_those_there_are(
    served: tuple[Cloud, str], capsys: pytest.CaptureFixture[str]
) -> None:
    result = asked(capsys, served[1], flavor={"name": "m9"})
    assert result["msg"] == "request: flavor: m9 has no vcpus and ram; known are m1.small"


# --- the action -------------------------------------------------------------------------------------------------------


def taken(more: dict[str, Any], **args: Any) -> dict[str, Any]:
    found = plan(inventory(AIO | more), sources.load())
    vault = Vault(bytes(range(32)), {})
    piece = Slice(found, found.hosts["aio"], sources.load(), Renderer(found, sources.load(), vault.value), vault)
    arguments = action.ActionModule.__new__(action.ActionModule).arguments(piece, args)
    assert arguments is not None
    return arguments


def test_the_action_hands_out_request_settings_and_login() -> None:
    options = {"filter_scheduler": {"ram_weight_multiplier": -1.0}}
    found = taken({"brume_config": {"nova": {"nova.conf": options}}}, request={"flavor": "m1.small"})
    assert found["request"] == {"flavor": {"name": "m1.small"}}
    assert found["configuration"]["filter_scheduler"] == {"ram_weight_multiplier": -1.0}
    assert found["configuration"]["DEFAULT"] == {}
    assert found["compute_url"].endswith(":8774/v2.1") and ":8778" in found["placement_url"]
    assert found["auth"]["username"] == "admin"


def test_described_hosts_need_no_login() -> None:
    found = taken({}, request={"flavor": SMALL}, hosts=[described("a")])
    assert set(found) == {"request", "configuration", "hosts"}


@pytest.mark.parametrize(
    ("args", "message"),
    [({"request": {}}, "is no mapping with a flavor"), ({"request": {"flavor": "x"}, "host": []}, "takes no host")],
)
def test_a_wrong_call_is_refused(args: dict[str, Any], message: str) -> None:
    assert message in action.mistake(args)
    assert action.mistake({"request": {"flavor": "x"}}) == ""


# --- scheduler settings of the inventory ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"enabled_filters": ["ComputeFilter", "NUMATopologyFilter"]}, []),
        (
            {"enabled_filters": "ComputeFilter, ComputFilter"},
            ["ComputFilter is no filter of Nova; is ComputeFilter meant?"],
        ),
        (
            {"enabled_filters": ["AvailabilityZoneFilter"]},
            ["AvailabilityZoneFilter is no more; leave it out: Placement does its work"],
        ),
        (
            {"enabled_filters": ["Mine"]},
            ["Mine is no filter of Nova; name its class in available_filters too, or leave it out"],
        ),
        ({"enabled_filters": ["Mine"], "available_filters": ["nova.scheduler.filters.all_filters", "ours.Mine"]}, []),
        ({"enabled_filters": ["Mine"], "available_filters": ["ours.all_filters"]}, []),
        ({"enabled_filters": "{{ filters }}"}, []),
        ({"weight_classes": ["nova.scheduler.weights.all_weighers", "ours.Weigher"]}, []),
        (
            {"weight_classes": ["nova.scheduler.weights.ram.RAMWeiger"]},
            ["nova.scheduler.weights.ram.RAMWeiger is no weigher of Nova; is RAMWeigher meant?"],
        ),
    ],
)
def test_filters_and_weighers_that_nova_does_not_have_are_named(options: dict[str, Any], said: list[str]) -> None:
    found = scheduler_mistakes({"filter_scheduler": options})
    assert [f"{message}; {remedy}" for _place, message, remedy in found] == said


def test_the_plan_refuses_an_unknown_filter() -> None:
    options = {"nova": {"nova.conf": {"filter_scheduler": {"enabled_filters": ["ComputFilter"]}}}}
    with pytest.raises(PlanError, match=r"enabled_filters.*ComputFilter is no filter of Nova"):
        plan(inventory(AIO | {"brume_config": options}), sources.load())
