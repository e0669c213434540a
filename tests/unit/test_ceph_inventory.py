"""Mistakes of an inventory with Ceph: each is named with its place and a remedy, before any host is asked."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import ceph, external, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer

from .inventories import AIO, inventory

DEVICES = [{"name": "b", "path": "/dev/b"}]
NAMES = ("one", "two", "three")


def cloud(
    own: dict[str, Any] | None = None, monitors: tuple[str, ...] = ("one",), osds: tuple[str, ...] = NAMES, **more: Any
) -> list[str]:
    """Return the mistakes of a cloud with Ceph; `own` are variables of the host `one`."""
    hosts: dict[str, dict[str, Any]] = {
        name: {"brume_addresses": {"management": f"192.0.2.1{place}"}, "ceph_devices": DEVICES}
        for place, name in enumerate(NAMES)
    }
    hosts["one"] |= own or {}
    groups = {name: ["one"] for name in ("control", "network", "compute", "loadbalancer", "database", "messaging")}
    found = inventory({**AIO, **more}, hosts=hosts, groups={**groups, "ceph_mon": [*monitors], "ceph_osd": [*osds]})
    try:
        return [f"warning: {one}" for one in plan(found, sources.load()).warnings if "Ceph" in one]
    except PlanError as error:
        return [str(one) for one in error.problems]


def test_a_good_cloud_has_no_mistake() -> None:
    assert cloud(ceph_crush_location={"rack": "a"}) == []
    assert cloud(nova_images_type="rbd", glance_stores={"ceph": {"type": "rbd"}}, glance_default_store="ceph") == []
    assert cloud(monitors=(), osds=()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"own": {"ceph_devices": [{"name": "b"}]}}, "host_vars/one.yml: ceph_devices.b: has no `path`"),
        ({"own": {"ceph_devices": [{"name": "b", "path": "b"}]}}, "ceph_devices.b.path: `b` is no device"),
        ({"own": {"ceph_devices": [{"name": "b", "path": "/dev/b", "weight": 1}]}}, "b.weight: is not known"),
        ({"own": {"ceph_devices": DEVICES * 2}}, "ceph_devices.b: is said twice"),
        ({"own": {"ceph_devices": []}}, "ceph_devices: is empty for one; name its disks"),
        ({"own": {"ceph_format": ["c"]}}, "ceph_format: names `c`, which is no device of one; use b"),
        ({"own": {"ceph_replace": ["c"]}}, "ceph_replace: names `c`"),
        ({"own": {"ceph_crush_location": {"rak": "a"}}}, "ceph_crush_location.rak: is no kind of place; is rack"),
        ({"ceph_pool_size": 1}, "ceph_pool_size: `1` is no number of copies"),
        ({"ceph_pools": [{"name": "images", "size": 1}]}, "ceph_pools.images.size: `1` is no number of copies"),
        ({"ceph_pools": [{"name": "images", "size": 2, "min_size": 3}]}, "images.min_size: 3 is more than the 2"),
        ({"ceph_pools": [{"name": "a", "failure_domain": "cage"}]}, "a.failure_domain: `cage` is no failure domain"),
        ({"ceph_pool_size": 4}, "4 copies of images do not share a host, and there are 3"),
        ({"osds": ("one", "two")}, "3 copies of images do not share a host, and there are 2"),
        ({"ceph_failure_domain": "rack"}, "3 copies of images do not share a rack, and there are 0"),
        ({"monitors": ()}, "the group `ceph_osd` has hosts, and `ceph_mon` has none"),
        ({"monitors": (), "osds": (), "nova_images_type": "rbd"}, "nova_images_type: lies in Ceph, which this"),
        ({"nova_images_type": "rbd", "ceph_pools": [{"name": "vm"}]}, "uses the pool vms, which is not in ceph_pools"),
        ({"monitors": ("one", "two")}, "warning: "),
    ],
)
def test_mistakes(arguments: dict[str, Any], words: str) -> None:
    found = cloud(**arguments)
    assert [one for one in found if words in one], found
    assert len(found) == 1


def test_two_copies_fit_on_the_disks_of_one_host() -> None:
    two = [*DEVICES, {"name": "c", "path": "/dev/c"}]
    more: dict[str, Any] = {"ceph_failure_domain": "osd", "ceph_pool_size": 2}
    assert cloud(own={"ceph_devices": two}, osds=("one",), **more) == []
    assert len(cloud(osds=("one",), **more)) == 1


FSID = "2f9c3d0e-7a5b-4c55-8d0a-2f6f1f8b1f11"
OUTSIDE = {"fsid": FSID, "monitors": ["192.0.2.201", "mon2.example.org", "2001:db8::3"]}


def test_another_ones_cluster() -> None:
    variables: dict[str, Any] = {
        **AIO,
        "brume_external": {"ceph": OUTSIDE},
        "glance_stores": {"ceph": {"type": "rbd"}},
        "glance_default_store": "ceph",
        "nova_images_type": "rbd",
    }
    found = plan(inventory(variables), sources.load())
    assert "ceph" not in found.services
    assert found.cloud.ceph_users == ("client.glance", "client.nova")
    renderer = Renderer(found, sources.load(), lambda name: f"secret-of-{name}")
    texts = {one.entry.path: one.text for one in renderer.files(found.hosts["aio"], ["glance", "nova"])}
    for service in ("glance", "nova"):
        assert f"fsid = {FSID}\n" in texts[f"/etc/{service}/ceph.conf"]
        assert "mon_host = 192.0.2.201,mon2.example.org,[2001:db8::3]\n" in texts[f"/etc/{service}/ceph.conf"]
    said = {"ceph/constant/client.nova": "word"}
    problems = external.missing_keys(found.cloud.external, found.cloud.ceph_users, said)
    assert [str(one) for one in problems] == [
        "brume_secrets.ceph/constant/client.glance: is missing, and Ceph is external; give what `ceph auth get-key "
        "client.glance` shows",
        "brume_secrets.ceph/constant/client.nova: is no key, and Ceph is external; give what `ceph auth get-key "
        "client.nova` shows",
    ]
    keys = {ceph.secret_name(user): ceph.key(user) for user in found.cloud.ceph_users}
    assert external.missing_keys(found.cloud.external, found.cloud.ceph_users, keys) == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"monitors": ["192.0.2.1"]}, ".ceph.fsid is missing"),
        ({**OUTSIDE, "fsid": "one"}, ".ceph.fsid `one` is no UUID"),
        ({"fsid": FSID}, ".ceph.monitors `None` is no list of hosts"),
        ({**OUTSIDE, "monitors": ["127.0.0.1"]}, ".ceph.monitors 127.0.0.1 is no address of one host for all"),
        ({**OUTSIDE, "key": "x"}, ".ceph.key is no key of it"),
    ],
)
def test_mistakes_of_another_ones_cluster(said: dict[str, Any], words: str) -> None:
    _found, mistakes = external.read({"ceph": said})
    assert [f"{place} {message}" for place, message, _remedy in mistakes if words in f"{place} {message}"], mistakes


def test_a_cluster_is_external_or_the_clouds_own() -> None:
    found = cloud(brume_external={"ceph": OUTSIDE})
    assert [one for one in found if ".ceph: is external, and the group `ceph_mon` has hosts: one" in one]
    assert len(found) == 2
