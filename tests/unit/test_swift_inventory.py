"""Swift in the inventory: what is wrong with it is told before any host is asked, and what is right becomes rings."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import keystone_catalog, unit_rollout
from ansible_collections.brume.cloud.plugins.module_utils import plan_text, sources, swift_inventory
from ansible_collections.brume.cloud.plugins.module_utils.description import GROUPS as DESCRIBED
from ansible_collections.brume.cloud.plugins.module_utils.locks import lock_digest
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

from .goldens import golden, golden_section
from .inventories import AIO, committed, inventory
from .playbooks import playbook
from .test_catalog import Keystone
from .test_regions import arguments, converge

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"

FILE = "bad-swift.txt"
MISSING = object()
"""Takes a variable away."""

DEVICES = [{"name": "sdb", "path": "/dev/sdb"}, {"name": "sdc", "path": "/dev/sdc"}]
STORAGE = ("one", "two", "three")
CLOUD: dict[str, Any] = {
    "brume_services": ["keystone", "swift"],
    "brume_networks": {
        "management": {"cidr": "192.0.2.0/24", "interface": "eth0"},
        "storage": {"cidr": "203.0.113.0/24", "interface": "eth1"},
    },
}
GROUPS: dict[str, list[str] | None] = {
    **dict.fromkeys(("network", "compute")),
    **{name: ["controller"] for name in ("control", "loadbalancer", "database", "messaging")},
    "object": list(STORAGE),
}
ERASURE = {
    "index": 1, "name": "deep", "policy_type": "erasure_coding", "ec_type": "liberasurecode_rs_vand",
    "ec_num_data_fragments": 2, "ec_num_parity_fragments": 1,
}  # fmt: skip
GOLD = {"index": 0, "name": "gold", "default": True}


def planned(variables: dict[str, Any] | None = None, **hosts: dict[str, Any]) -> Plan:
    """Return the plan of a controller and three storage hosts.

    `variables` are of all, `hosts` those of one host; MISSING takes one away, and a host whose `object` is False is
    not in that group.
    """
    own: dict[str, dict[str, Any]] = {
        "controller": {"brume_addresses": {"management": "192.0.2.11", "storage": "203.0.113.11"}}
    }
    members = []
    for number, name in enumerate(STORAGE, start=1):
        said = {
            "brume_addresses": {"management": f"192.0.2.2{number}", "storage": f"203.0.113.2{number}"},
            "swift_zone": number,
            "swift_devices": DEVICES,
        } | hosts.get(name, {})
        members += [name] if said.pop("object", True) else []
        own[name] = {key: value for key, value in said.items() if value is not MISSING}
    groups = GROUPS | {"object": members}
    own = {name: found for name, found in own.items() if name == "controller" or name in members}
    return plan(inventory(CLOUD | (variables or {}), own, groups), sources.load())


def policies(*items: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"swift_storage_policies": list(items)}, {}


def devices(*items: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"two": {"swift_devices": list(items)}}


def without(item: dict[str, Any], key: str) -> dict[str, Any]:
    return {one: value for one, value in item.items() if one != key}


DISK = {"name": "sdb", "path": "/dev/sdb"}

KINDS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    # what holds for all rings; one said of storage hosts alone would be lost, since the controller builds rings
    "part power of zero": ({"swift_part_power": 0}, {}),
    "part power above the maximum": ({"swift_part_power": 33}, {}),
    "part power that is text": ({"swift_part_power": "many"}, {}),
    "no replica": ({"swift_replicas": 0}, {}),
    "replicas that are text": ({"swift_replicas": "three"}, {}),
    "hours below zero": ({"swift_min_part_hours": -1}, {}),
    "connections that are text": ({"swift_rsync_connections": "few"}, {}),
    "encryption that is text": ({"swift_encryption": "perhaps"}, {}),
    "cloud's variable on one host": ({}, {"two": {"swift_part_power": 9}}),
    "cloud's variable in a group": ({}, {name: {"swift_encryption": True} for name in STORAGE}),
    # rings
    "unknown ring": ({"swift_rings": {"object-1": {"replicas": 2}}}, {}),
    "ring that is no mapping": ({"swift_rings": {"object": 3}}, {}),
    "unknown key of a ring": ({"swift_rings": {"object": {"partpower": 10}}}, {}),
    "part power of a ring": ({"swift_rings": {"account": {"part_power": 99}}}, {}),
    "overload of a ring below zero": ({"swift_rings": {"account": {"overload": -0.1}}}, {}),
    "replicas of an erasure-coded ring": (
        {"swift_storage_policies": [GOLD, ERASURE], "swift_rings": {"object-1": {"replicas": 4}}},
        {},
    ),
    # policies
    "no policy": policies(),
    "policy that is no mapping": policies("gold"),
    "unknown key of a policy": policies({**GOLD, "defualt": True}),
    "policy without an index": policies({"name": "gold", "default": True}),
    "policy with an index below zero": policies({**GOLD, "index": -1}),
    "policy without a name": policies({"index": 0, "default": True}),
    "policy with a name that is a number": policies({**GOLD, "name": "12"}),
    "policy with a blank in its name": policies({**GOLD, "name": "all gold"}),
    "policies without index 0": policies({**GOLD, "index": 1}),
    "policies with one index": policies(GOLD, {"index": 0, "name": "silver"}),
    "policies with one name": policies(GOLD, {"index": 1, "name": "Gold"}),
    "two default policies": policies(GOLD, {"index": 1, "name": "silver", "default": True}),
    "no default policy": policies({"index": 0, "name": "gold"}),
    "deprecated default policy": policies({**GOLD, "deprecated": True}),
    "unknown type of policy": policies({**GOLD, "policy_type": "raid"}),
    "fragments of a replicated policy": policies({**GOLD, "ec_num_data_fragments": 4}),
    "erasure coding without a type": policies(GOLD, without(ERASURE, "ec_type")),
    "erasure coding without data fragments": policies(GOLD, without(ERASURE, "ec_num_data_fragments")),
    "erasure coding without parity fragments": policies(GOLD, without(ERASURE, "ec_num_parity_fragments")),
    "erasure coding with fragments that are text": policies(GOLD, {**ERASURE, "ec_num_data_fragments": "two"}),
    "erasure coding with no parity": policies(GOLD, {**ERASURE, "ec_num_parity_fragments": 0}),
    "duplication factor that is text": policies(GOLD, {**ERASURE, "ec_duplication_factor": "two"}),
    "duplication factor of zero": policies(GOLD, {**ERASURE, "ec_duplication_factor": 0}),
    "segment size that is text": policies(GOLD, {**ERASURE, "ec_object_segment_size": "1M"}),
    "aliases that are no list": policies({**GOLD, "aliases": "yellow"}),
    "alias that is another's name": policies({**GOLD, "aliases": ["silver"]}, {"index": 1, "name": "silver"}),
    "name that is reserved": policies(GOLD, {"index": 1, "name": "Policy-0"}),
    "erasure coding with a type that is a number": policies(GOLD, {**ERASURE, "ec_type": 1}),
    "default that is text": policies({**GOLD, "default": "maybe"}),
    # devices
    "host without a zone": ({}, {"two": {"swift_zone": MISSING}}),
    "zone that is text": ({}, {"two": {"swift_zone": "rack"}}),
    "region of zero": ({}, {"two": {"swift_region": 0}}),
    "host without devices": ({}, {"two": {"swift_devices": MISSING}}),
    "device that is no mapping": devices("/dev/sdb"),
    "unknown key of a device": devices({**DISK, "wieght": 5}),
    "device without a name": devices({"path": "/dev/sdb"}),
    "device whose name is a path": devices({**DISK, "name": "../sdb"}),
    "device without a path": devices({"name": "sdb"}),
    "device whose path is elsewhere": devices({**DISK, "path": "/srv/disk.img"}),
    "weight below zero": devices({**DISK, "weight": -1}),
    "weight that is text": devices({**DISK, "weight": "heavy"}),
    "weight that is no number": devices({**DISK, "weight": float("nan")}),
    "weight without an end": devices({**DISK, "weight": float("inf")}),
    "lost that is text": devices({**DISK, "lost": "yes, sadly"}),
    "rings of a device that are text": devices({**DISK, "rings": "object"}),
    "unknown ring of a device": devices({**DISK, "rings": ["account", "container", "objects"]}),
    "devices with one name": devices(DISK, {**DISK, "path": "/dev/sdc"}),
    "devices with one path": devices(DISK, {**DISK, "name": "sdc"}),
    "format of an unknown device": ({}, {"two": {"swift_format": ["sdx"]}}),
    "format that is text": ({}, {"two": {"swift_format": "sdb"}}),
    # together
    "a bad policy hides no bad device": (
        {"swift_storage_policies": [without(GOLD, "index")], "swift_rings": {"object-1": {}}},
        {"two": {"swift_zone": 0, "swift_devices": [{**DISK, "weight": -1}]}},
    ),
    "a bad device hides no bad zone": ({}, {"two": {"swift_zone": 0, "swift_devices": [{**DISK, "weight": -1}]}}),
    "fewer devices than replicas": ({"swift_replicas": 7}, {}),
    "devices without weight do not count": (
        {"swift_replicas": 3},
        {name: {"swift_devices": [{**DISK, "weight": 0}]} for name in STORAGE},
    ),
    "lost devices do not count": ({}, {name: {"swift_devices": [{**DISK, "lost": True}]} for name in STORAGE}),
    "fewer devices than fragments": policies(GOLD, {**ERASURE, "ec_num_data_fragments": 6}),
    "no storage host": ({}, {name: {"object": False} for name in STORAGE}),
    "storage host without an address there": (
        {},
        {"two": {"brume_addresses": {"management": "192.0.2.22"}}},
    ),
    # secrets
    "generation of a constant": ({"brume_secret_generations": {"swift/constant/hash_path_prefix": 2}}, {}),
    "generation of all constants": ({"brume_secret_generations": {"swift/constant": 2}}, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_explained(kind: str) -> None:
    variables, hosts = KINDS[kind]
    with pytest.raises(PlanError) as caught:
        planned(variables, **hosts)
    golden_section(FILE, kind, str(caught.value), KINDS)


def test_a_good_cluster_is_no_mistake() -> None:
    assert planned().warnings == planned({"swift_storage_policies": [GOLD, ERASURE]}).warnings


def test_a_cluster_in_regions_with_devices_of_all_kinds() -> None:
    gone = {"name": "sdd", "path": "/dev/sdd", "lost": True}
    small = {"name": "sde", "path": "/dev/sde", "weight": 12.5, "rings": ["account", "container"]}
    found = planned(
        {
            "swift_part_power": 8,
            "swift_storage_policies": [GOLD, ERASURE],
            "swift_rings": {"account": {"replicas": 2.5, "overload": 0.1}, "object-1": {"min_part_hours": 24}},
        },
        two={"swift_region": 2, "swift_devices": [*DEVICES, gone, small]},
    )
    hosts = {name: found.hosts[name].variables for name in STORAGE}
    addresses = {name: found.hosts[name].addresses for name in STORAGE}
    rings = {one["name"]: one for one in swift_inventory.rings(found.hosts["controller"].variables, hosts, addresses)}
    shapes = {name: tuple(one[key] for key in swift_inventory.RING_KEYS) for name, one in rings.items()}
    assert shapes == {
        "account": (8, 2.5, 1, 0.1),
        "container": (8, 3.0, 1, 0.0),
        "object": (8, 3.0, 1, 0.0),
        "object-1": (8, 3, 24, 0.0),
    }
    names = {name: [f"{one['meta']}/{one['device']}" for one in ring["devices"]] for name, ring in rings.items()}
    everywhere = ["one/sdb", "one/sdc", "two/sdb", "two/sdc"]
    assert names["container"] == names["account"] == [*everywhere, "two/sde", "three/sdb", "three/sdc"]
    assert names["object"] == names["object-1"] == [*everywhere, "three/sdb", "three/sdc"]
    assert rings["account"]["devices"][4] == {
        "region": 2, "zone": 2, "ip": "203.0.113.22", "port": 6202, "replication_ip": "203.0.113.22",
        "replication_port": 6202, "device": "sde", "weight": 12.5, "meta": "two",
    }  # fmt: skip
    assert [rings[name]["devices"][0]["port"] for name in rings] == [6202, 6201, 6200, 6200]
    assert swift_inventory.lost(hosts, addresses) == ["203.0.113.22/sdd"]


def test_partitions_are_copied_on_the_network_replication() -> None:
    networks = {**CLOUD["brume_networks"], "replication": {"cidr": "198.51.100.0/24", "interface": "eth2"}}
    addresses = {
        name: {
            "brume_addresses": {
                "management": f"192.0.2.2{number}", "storage": f"203.0.113.2{number}",
                "replication": f"198.51.100.2{number}",
            }
        }
        for number, name in enumerate(STORAGE, start=1)
    }  # fmt: skip
    found = planned({"brume_networks": networks}, **addresses)
    hosts = {name: found.hosts[name].variables for name in STORAGE}
    rings = swift_inventory.rings(
        found.hosts["controller"].variables, hosts, {name: found.hosts[name].addresses for name in STORAGE}
    )
    one = rings[0]["devices"][0]
    assert (one["ip"], one["replication_ip"]) == ("203.0.113.21", "198.51.100.21")
    ports = {(str(one.address), one.port) for one in found.hosts["one"].ports}
    assert {("203.0.113.21", 6200), ("203.0.113.21", 6201), ("203.0.113.21", 6202), ("198.51.100.21", 873)} <= ports
    (rsync,) = [one.text for one in renderer(found).files(found.hosts["one"], ["swift"]) if "rsyncd" in one.entry.path]
    assert "address = 198.51.100.21\n" in rsync


def renderer(found: Plan) -> Renderer:
    return Renderer(found, sources.load(), lambda name: f"<{name}>")


def test_the_plan_of_storage_hosts() -> None:
    golden("object.txt", "\n".join(plan_text.summary(plan(committed("object"), sources.load()))) + "\n")


def test_the_role_that_swift_gives_a_meaning_to_is_made_and_given_to_nobody() -> None:
    found = plan(committed("object"), sources.load())
    files = renderer(found).files(found.hosts["controller1"], ["swift"])
    (text,) = [one.text for one in files if one.entry.path.endswith("/proxy-server.conf")]
    done = converge(Keystone(), arguments(keystone_catalog, found))
    for role in found.cloud.roles:
        assert f"reseller_admin_role = {role}\n" in text
        assert [one for one in done if role in one] == [f"create role {role}"]
    assert found.cloud.roles


def test_files_of_storage_hosts() -> None:
    found = plan(committed("object"), sources.load())
    lines = [
        f"#### {host} {one.entry.path} {one.entry.owner}:{one.entry.group} {one.entry.mode}\n{one.text}"
        for host in ("controller1", "object1")
        for one in renderer(found).files(found.hosts[host], ["swift"])
    ]
    golden("object-files.txt", "\n".join(lines))


def test_units_of_storage_hosts() -> None:
    found = plan(committed("object"), sources.load())
    text = "\n".join(
        f"#### {host} {one.instance.unit}\n{one.content}"
        for host in ("controller1", "object1")
        for one in renderer(found).units(found.hosts[host], ["swift"])
        if one.content
    )
    for texts in sources.load().locks.values():
        for lock in texts.values():
            text = text.replace(lock_digest(lock), "<digest>")
    golden("object-units.txt", text)


def test_encryption_has_a_root_secret_that_swift_can_read() -> None:
    """The key master wants base64 of at least 32 bytes; it stands before encryption, that after all but logging."""
    found = planned({"swift_encryption": True})
    files = renderer(found).files(found.hosts["controller"], ["swift"])
    (text,) = [one.text for one in files if one.entry.path.endswith("/proxy-server.conf")]
    assert " keymaster encryption proxy-logging proxy-server\n" in text
    (line,) = [one for one in text.splitlines() if one.startswith("encryption_root_secret")]
    secret = base64.b64decode(line.partition(" = ")[2], validate=True)
    assert secret == b"<swift/constant/encryption_root_secret>"


SWIFT_READS = """
import configparser, json, sys
from swift.common.storage_policy import parse_storage_policies
parser = configparser.ConfigParser(interpolation=None)
parser.read_string(sys.stdin.read())
gold, deep = parse_storage_policies(parser)
print(json.dumps([
    [gold.idx, gold.alias_list, gold.is_default, gold.is_deprecated],
    [deep.idx, deep.name, deep.policy_type, deep.is_deprecated, deep.ec_ndata, deep.ec_nparity],
]))
"""


def test_policies_are_what_swift_reads() -> None:
    found = planned(
        {"swift_storage_policies": [{**GOLD, "aliases": ["yellow", "best"]}, {**ERASURE, "deprecated": True}]}
    )
    files = renderer(found).files(found.hosts["one"], ["swift"])
    (text,) = [one.text for one in files if one.entry.path.endswith("/swift.conf")]
    done = subprocess.run([sys.executable, "-c", SWIFT_READS], input=text, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        [0, ["gold", "yellow", "best"], True, False],
        [1, "deep", "erasure_coding", True, 2, 1],
    ]


HEALTH = [
    ("object1", "swift-account-server", {"tcp": {"host": "10.126.40.41", "port": 6202}}),
    ("object1", "swift-object-server", {"tcp": {"host": "10.126.40.41", "port": 6200}}),
    ("object1", "rsync", {"tcp": {"host": "10.126.40.41", "port": 873}}),
    ("object1", "swift-object-auditor", {}),
    ("object1", "swift-devices", {}),
    ("controller1", "swift-proxy", {"http": "http://127.0.0.1:18080/healthcheck"}),
    ("controller1", "swift-object-expirer", {}),
    ("controller1", "memcached", {"tcp": {"host": "10.126.10.11", "port": 11211}}),
]


@pytest.mark.parametrize(("host", "unit", "expected"), HEALTH, ids=[unit for _host, unit, _expected in HEALTH])
def test_units_are_asked_where_they_listen(host: str, unit: str, expected: dict[str, Any]) -> None:
    found, project = plan(committed("object"), sources.load()), sources.load()
    piece = Slice(found, found.hosts[host], project, renderer(found), Vault(bytes(range(32))))
    units = renderer(found).units(found.hosts[host], list(found.cloud.services))
    (one,) = [one for one in units if one.instance.unit == f"{unit}.service"]
    assert unit_rollout._health(piece, one) == expected


def test_the_user_is_made_though_a_unit_of_the_distribution_has_it_too() -> None:
    """Of rsync's unit alone none is made; Swift's programs beside it need theirs."""
    for host in ("controller1", "object1"):
        users = {one.name: one for one in plan(committed("object"), sources.load()).hosts[host].users}
        assert users["swift"].create, host


@pytest.mark.parametrize(
    ("services", "missing", "expected"),
    [
        (["keystone"], ["network", "compute", "object"], []),
        (["keystone", "swift"], ["network", "compute"], []),
        (["keystone", "swift"], ["network", "compute", "object"], ["object"]),
        (["keystone", "glance"], ["object", "control"], ["control"]),
        (["keystone", "glance", "placement", "neutron", "nova"], ["network", "compute"], ["network", "compute"]),
    ],
)
def test_a_group_is_missed_only_where_something_would_run_on_it(
    services: list[str], missing: list[str], expected: list[str]
) -> None:
    hosts = {"one": {"brume_addresses": {"management": "192.0.2.11"}}}
    groups = {name: [] if name in missing else ["one"] for name in DESCRIBED if name != "block"}
    disks = [{"name": f"d{number}", "path": f"/dev/d{number}"} for number in range(3)]
    own = {"swift_zone": 1, "swift_devices": disks}
    variables = AIO | {"brume_services": services}
    made = inventory(variables, {"one": hosts["one"] | own}, {**groups, "spare": ["one"]})
    try:
        plan(made, sources.load())
        problems: list[str] = []
    except PlanError as error:
        problems = [str(one) for one in error.problems if "the group" in str(one)]
    assert problems == [
        f"inventory: the group `{group}` has no host; add `{group}: {{hosts: {{...}}}}`" for group in expected
    ]


def test_ansible_does_not_warn_of_groups_that_the_cloud_does_not_need(tmp_path: Path) -> None:
    shutil.copytree(INVENTORIES / "object", tmp_path / "object")
    done = playbook(tmp_path / "object", "plan.yml")
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert "host pattern" not in shown


@pytest.mark.parametrize("kind", swift_inventory.PORTS)
def test_rings_name_the_ports_at_which_servers_listen(kind: str) -> None:
    found = plan(committed("object"), sources.load())
    port = swift_inventory.PORTS[kind]
    assert [entry["port"] for entry in found.services["swift"].components[f"{kind}-server"].ports] == [port]
    files = renderer(found).files(found.hosts["object1"], ["swift"])
    (text,) = [one.text for one in files if one.entry.path == f"/etc/swift/{kind}-server.conf"]
    assert f"bind_port = {port}\n" in text
