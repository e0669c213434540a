"""Mistakes of an inventory with Ceph: each is named with its place and a remedy, before any host is asked."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError, plan

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
        ({"monitors": (), "osds": (), "nova_images_type": "rbd"}, "nova_images_type: needs Ceph"),
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
