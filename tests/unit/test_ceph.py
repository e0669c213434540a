"""Keys, users and pools of a Ceph cluster, and the plan of a cloud that has one."""

from __future__ import annotations

import base64
import struct
import uuid
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import ceph_monitor as action
from ansible_collections.brume.cloud.plugins.module_utils import ceph, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

from .inventories import AIO, inventory

HOSTS = {
    name: {"brume_addresses": {"management": address}, "ceph_devices": [{"name": "b", "path": "/dev/b"}]}
    for name, address in (("one", "192.0.2.11"), ("two", "192.0.2.12"))
}
GROUPS = {name: ["one"] for name in ("control", "network", "compute", "loadbalancer", "database", "messaging")}
CEPH = {**GROUPS, "ceph_mon": ["one"], "ceph_osd": ["one", "two"]}


def planned(**more: Any) -> Plan:
    return plan(inventory({**AIO, "ceph_pool_size": 2, **more}, hosts=HOSTS, groups=CEPH), sources.load())


def rendered(host: str, **more: Any) -> dict[str, str]:
    found = planned(**more)
    renderer = Renderer(found, sources.load(), lambda name: f"secret-of-{name}")
    one = found.hosts[host]
    return {item.entry.path: item.text for item in renderer.files(one, ["ceph"])}


def test_a_key_is_what_ceph_reads_and_follows_from_its_secret() -> None:
    key = ceph.key("some secret")
    kind, seconds, nanoseconds, length = struct.unpack_from("<HIIH", base64.b64decode(key))
    assert (kind, seconds, nanoseconds, length) == (1, 0, 0, 16)
    assert len(base64.b64decode(key)) == 28
    assert key == ceph.key("some secret") != ceph.key("another secret")
    assert ceph.is_key(key)
    assert ceph.key(key) == key


@pytest.mark.parametrize("text", ["", "plain words", base64.b64encode(bytes(28)).decode(), "eA=="])
def test_what_is_no_key_is_a_secret(text: str) -> None:
    assert not ceph.is_key(text)
    assert ceph.is_key(ceph.key(text))


def test_identities() -> None:
    given = "2f9c3d0e-7a5b-4c55-8d0a-2f6f1f8b1f11"
    assert ceph.identity(given) == given
    assert uuid.UUID(ceph.identity("a secret")).version == 5
    assert ceph.identity("a secret") == ceph.identity("a secret") != ceph.identity("b secret")


def test_users_reach_their_own_pools_alone() -> None:
    pools = {name for one in ceph.USERS.values() for name in one.get("writes", ())}
    for user, said in ceph.USERS.items():
        found = ceph.caps(user)
        for pool in pools:
            assert (f"profile rbd pool={pool}" in found["osd"]) == (pool in said.get("writes", ()))
            assert (f"profile rbd-read-only pool={pool}" in found["osd"]) == (pool in said.get("reads", ()))
        assert "allow" not in " ".join(found.values())


def test_every_entity_has_a_secret_that_is_described() -> None:
    described = sources.load().services["ceph"].secrets
    hosts = {ceph.MONITORS: ["one"], ceph.OSDS: ["two"]}
    names = {ceph.secret_name(user) for user in ceph.entities(hosts)} | {ceph.FSID_SECRET}
    assert names == set(described)


def test_users_that_are_as_declared_are_left_alone() -> None:
    user = ceph.User("client.cinder", ceph.key("x"), ceph.caps("client.cinder"))
    known = {user.name: (user.key, dict(user.caps)), "client.other": ("?", {})}
    assert ceph.user_steps([user], known) == []
    assert [step.text for step in ceph.user_steps([user], {})] == ["make client.cinder"]
    (step,) = ceph.user_steps([user], {user.name: (user.key, {"mon": "allow r"})})
    assert step.text == "change what may client.cinder do"
    assert step.data == user.keyring
    (step,) = ceph.user_steps([user], {user.name: (ceph.key("y"), dict(user.caps))})
    assert step.text == "change the key of client.cinder"
    assert user.key not in step.text


POOL = {"application_metadata": {"rbd": {}}, "crush_rule": 1, "size": 3, "min_size": 2, "target_size_ratio": 0.2}
RULES = {"replicated_rule": 0, "replicated_host": 1}


def pool_texts(pools: list[dict[str, Any]], known: dict[str, dict[str, Any]]) -> list[str]:
    return [step.text for step in ceph.pool_steps(pools, known, RULES, "host")]


def test_pools() -> None:
    assert pool_texts([{"name": "images"}], {"images": POOL, "other": {}}) == []
    assert pool_texts([{"name": "images"}], {}) == [
        "make the pool images",
        "let rbd use the pool images",
        "set crush_rule of the pool images to replicated_host",
    ]
    assert pool_texts([{"name": "images", "size": 2, "target_size_ratio": 0.2}], {"images": POOL}) == [
        "set size of the pool images to 2"
    ]
    assert pool_texts([{"name": "images", "failure_domain": "rack"}], {"images": POOL}) == [
        "set crush_rule of the pool images to replicated_rack"
    ]
    files = {"name": "files", "application": "cephfs"}
    assert pool_texts([files], {"files": POOL}) == ["let cephfs use the pool files"]


def test_clones_of_the_second_kind_need_clients_that_know_them() -> None:
    assert [step.text for step in ceph.client_steps("luminous")] == ["require clients of Mimic or later"]
    assert ceph.client_steps("mimic") == ceph.client_steps("reef") == []


def test_a_dry_run_without_a_cluster_says_all_of_it() -> None:
    assert [step.text for step in ceph.first_steps([{"name": "images"}, {"name": "vms", "size": 2}], "host")] == [
        "require clients of Mimic or later",
        "make the rule replicated_host",
        "make the pool images",
        "let rbd use the pool images",
        "set crush_rule of the pool images to replicated_host",
        "make the pool vms",
        "let rbd use the pool vms",
        "set crush_rule of the pool vms to replicated_host",
        "set size of the pool vms to 2",
    ]


def test_rules() -> None:
    assert ceph.rule_steps("host", RULES) == []
    assert [step.text for step in ceph.rule_steps("rack", RULES)] == ["make the rule replicated_rack"]


def test_a_cloud_without_hosts_for_it_has_no_ceph() -> None:
    assert "ceph" not in plan(inventory(AIO), sources.load()).services


def test_units_bear_the_name_of_their_host() -> None:
    units = {one.unit: one.component for one in planned().hosts["one"].instances if one.service == "ceph"}
    assert units == {"ceph-mon@one.service": "mon", "ceph-mgr@one.service": "mgr", "ceph-osd.target": "osd"}
    assert {one.unit for one in planned().hosts["one"].ports if one.port == 3300} == {"ceph-mon@one.service"}


def test_files() -> None:
    one, two = rendered("one"), rendered("two", ceph_crush_location={"rack": "r1"})
    fsid = ceph.identity("secret-of-ceph/constant/fsid")
    assert f"fsid = {fsid}\n" in two["/etc/ceph/ceph.conf"]
    assert "mon_host = [v2:192.0.2.11:3300/0,v1:192.0.2.11:6789/0]\n" in two["/etc/ceph/ceph.conf"]
    assert "crush_location = root=default rack=r1 host=two\n" in two["/etc/ceph/ceph.conf"]
    assert [line for line in one["/etc/ceph/mon.keyring"].splitlines() if line.startswith("[")] == [
        "[mon.]",
        "[client.admin]",
        "[client.osd-host]",
        "[mgr.one]",
        "[client.glance]",
        "[client.cinder]",
        "[client.cinder-backup]",
        "[client.nova]",
    ]
    # A host with OSDs alone has no other key than its own.
    assert sorted(path for path in two if path.endswith("keyring")) == ["/etc/ceph/ceph.client.osd-host.keyring"]


def test_monitors_speak_ipv6_in_brackets() -> None:
    assert ceph.monitor("2001:db8::1") == "[v2:[2001:db8::1]:3300/0,v1:[2001:db8::1]:6789/0]"


OSDS = [{"osd": 0, "up": 1, "in": 1}, {"osd": 1, "up": 1, "in": 1}, {"osd": 2, "up": 0, "in": 0}]


def judged(**more: Any) -> ceph.Health:
    options: dict[str, Any] = {"health": "HEALTH_OK", "checks": {}, "states": {"active+clean": 33}, "used": 30}
    options |= {"osds": OSDS, **more}
    status = {
        "health": {"status": options["health"], "checks": options["checks"]},
        "pgmap": {"pgs_by_state": [{"state_name": name, "count": count} for name, count in options["states"].items()]},
    }
    df = {"stats": {"total_bytes": 100, "total_used_raw_bytes": options["used"]}}
    return ceph.judge(status, df, options["osds"], 0.8)


def test_a_cluster_that_is_well() -> None:
    found = judged()
    assert (found.problems, found.warnings, found.used) == ([], [], 0.3)
    assert found.text == "HEALTH_OK, 3 OSDs, 33 placement groups, 30% used"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"osds": [*OSDS, {"osd": 3, "up": 0, "in": 1}]}, "osd.3 is down"),
        ({"states": {"active+clean": 30, "down": 3}}, "3 placement groups are down"),
        ({"states": {"inactive+peering": 3}}, "3 placement groups are inactive+peering"),
        ({"used": 81}, "81% of its capacity are used, more than 80%"),
        ({"health": "HEALTH_ERR", "checks": {"A": {"summary": {"message": "lost"}}}}, "lost"),
    ],
)
def test_a_cluster_that_is_not(more: dict[str, Any], problem: str) -> None:
    assert judged(**more).problems == [problem]


def test_warnings_of_a_cluster_are_warnings() -> None:
    checks = {"A": {"summary": {"message": "few"}}, "B": {"summary": {"message": "known"}, "muted": True}}
    found = judged(health="HEALTH_WARN", checks=checks, states={"active+undersized+degraded": 3})
    assert (found.problems, found.warnings) == ([], ["few"])


@pytest.mark.parametrize(
    ("stores", "osds", "unasked", "words"),
    [
        ([], [], [], ""),
        (["two"], ["osd.0"], ["three"], ""),
        ([], ["osd.0", "osd.1"], [], "no monitor has a store, and hosts have osd.0, osd.1"),
        ([], [], ["two"], "one has no store, and two were not asked whether there is a cluster already"),
    ],
)
def test_no_second_cluster_is_begun(stores: list[str], osds: list[str], unasked: list[str], words: str) -> None:
    found = ceph.monitor_refusal("one", stores, osds, unasked)
    assert found.startswith(words)
    assert bool(found) == bool(words)


def test_who_was_not_asked_is_told() -> None:
    found = planned()
    piece = Slice(found, found.hosts["one"], sources.load(), Renderer(found, sources.load(), str), Vault(b""))
    asked = action.ActionModule.__new__(action.ActionModule)
    asked._said = {"one": {"__ceph_monitor": {"store": False}, "__ceph_osds": {"osds": ["osd.0"]}}}
    arguments = asked.arguments(piece, {})
    assert arguments is not None
    assert (arguments["stores"], arguments["osds"], arguments["unasked"]) == ([], ["osd.0"], ["two"])
    asked._said = {name: {"__ceph_monitor": {"store": True}, "__ceph_osds": {"osds": []}} for name in ("one", "two")}
    arguments = asked.arguments(piece, {"state": "asked"})
    assert arguments is not None
    assert (arguments["stores"], arguments["unasked"], arguments["state"]) == (["one"], [], "asked")
    elsewhere = Slice(found, found.hosts["two"], sources.load(), piece.renderer, Vault(b""))
    assert asked.arguments(elsewhere, {}) is None
