"""Back ends and backups in the inventory: what is wrong is told before any host is asked, the rest becomes files."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import sources, volume_inventory
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import check
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer, UnitEntry

from tools.service_options import CPUS

from .goldens import golden, golden_section
from .inventories import AIO, IPV6, committed, inventory

FILE = "bad-volumes.txt"
RELEASES = ("2025.1", "2026.1", "2026.2")
RBD: dict[str, Any] = {"type": "rbd"}
LVM: dict[str, Any] = {"type": "lvm", "volume_group": "cinder-volumes"}
NFS: dict[str, Any] = {"type": "nfs", "nas_host": "192.0.2.99", "nas_share_path": "/srv/volumes"}
OTHER: dict[str, Any] = {"volume_driver": "cinder.volume.drivers.dell_emc.sc.storagecenter_iscsi.SCISCSIDriver"}
ARRAY: dict[str, Any] = {**OTHER, "volume_backend_name": "array", "san_ip": "192.0.2.98"}
EVERY = {"ceph": RBD, "lvm": LVM, "nfs": NFS, "array": ARRAY}
BINDINGS = ("rados", "rbd")


def planned(
    release: str = "2026.1",
    services: tuple[str, ...] = (),
    ceph: bool = True,
    block: bool = True,
    base: dict[str, Any] = AIO,
    hosts: dict[str, dict[str, Any]] | None = None,
    **said: Any,
) -> Plan:
    """Return the plan of a controller that is a block host too, with one back end unless said otherwise."""
    said = {"cinder_backends": {"ceph": RBD} if ceph else {"lvm": LVM}} | said
    said = base | {"brume_release": release, "brume_services": ["keystone", "glance", "cinder", *services]} | said
    groups: dict[str, list[str] | None] = dict.fromkeys(("network", "compute"))
    groups |= {name: ["aio"] for name, there in (("block", block), ("ceph_mon", ceph)) if there}
    if "swift" in services:
        said |= {"swift_zone": 1, "swift_replicas": 1, "swift_devices": [{"name": "sdb", "path": "/dev/sdb"}]}
        groups["object"] = ["aio"]
    if base is IPV6:
        hosts = {"aio": {"brume_addresses": {"management": "2001:db8:1::11", "tunnel": "2001:db8:2::11"}}}
        hosts["aio"]["brume_addresses"] |= {"api": "2001:db8:3::11"}
    return plan(inventory(said, hosts=hosts, groups=groups), sources.load())


def backends(**items: Any) -> dict[str, Any]:
    return {"cinder_backends": items}


def without(key: str, item: dict[str, Any]) -> dict[str, Any]:
    return {one: value for one, value in item.items() if one != key}


KINDS: dict[str, dict[str, Any]] = {
    # back ends
    "no back ends": backends(),
    "name of a back end with a dot": {"cinder_backends": {"ceph.fast": RBD}},
    "name of a back end that is a number": {"cinder_backends": {1: RBD}},
    "name of a back end that is Cinder's": backends(nova=RBD),
    "name of a back end that is Oslo's": backends(oslo_messaging_rabbit=RBD),
    "back end that is text": backends(ceph="rbd"),
    "back end of an unknown type": backends(ceph={"type": "rdb"}),
    "back end of a type that is none": backends(ceph={"type": "fibre"}),
    "back end without a type and a driver": backends(array={"san_ip": "192.0.2.98"}),
    "volume group that is not said": backends(lvm={"type": "lvm"}),
    "volume group of two back ends": backends(lvm=LVM, more=LVM),
    "share that is not said": backends(nfs={"type": "nfs"}),
    "share of two back ends": backends(nfs=NFS, more={**NFS, "nfs_mount_options": "vers=3"}),
    "share with a relative path": backends(nfs={**NFS, "nas_share_path": "volumes"}),
    "share of an IPv6 address without brackets": backends(nfs={**NFS, "nas_host": "2001:db8::9"}),
    "mount options in the wrong place": backends(nfs={**NFS, "nas_mount_options": "vers=4.1"}),
    "file of shares": backends(nfs={**NFS, "nfs_shares_config": "/etc/shares"}),
    "option that is a mapping": backends(ceph={**RBD, "replication_device": {"password": "hunter2"}}),
    "option that does not fit": backends(lvm={**LVM, "lvm_type": "thinn"}),
    "pool of two back ends": backends(ceph=RBD, more={**RBD, "rbd_pool": "volumes"}),
    "pool that is not Cinder's": backends(ceph={**RBD, "rbd_pool": "images"}),
    "back end in Ceph without Ceph": {"ceph": False, **backends(ceph=RBD)},
    # types
    "default type that nobody makes": {"cinder_default_volume_type": "gold"},
    "default type that nobody says": {"cinder_volume_types": [{"name": "gold"}]},
    "default type that goes": {
        "cinder_default_volume_type": "__DEFAULT__",
        "cinder_volume_types": [{"name": "__DEFAULT__", "state": "absent"}],
    },
    # backups
    "backups to an unknown place": {"cinder_backup_driver": "tape"},
    "backups to Ceph without Ceph": {"ceph": False, "cinder_backup_driver": "ceph"},
    "backups to Swift without Swift": {"cinder_backup_driver": "swift"},
    "backups to NFS without a share": {"cinder_backup_driver": "nfs"},
    "backups to a share that is none": {"cinder_backup_driver": "nfs", "cinder_backup_share": "192.0.2.99"},
    # locks
    "locks in Redis": {"cinder_coordination_url": "redis://192.0.2.11:6379"},
    "locks in a relative folder": {"cinder_coordination_url": "file://locks"},
    # together
    "a bad back end hides no bad share": {**backends(ceph="rbd"), "cinder_backup_share": "nowhere"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_explained(kind: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(**KINDS[kind])
    golden_section(FILE, kind, str(caught.value), KINDS)
    assert "hunter2" not in str(caught.value)


def test_what_is_right_is_no_mistake() -> None:
    more = {**RBD, "rbd_pool": "fast", "rbd_ceph_conf": "/etc/ceph/fast.conf", "volume_backend_name": "ceph"}
    found = planned(
        services=("swift",),
        cinder_backends={**EVERY, "fast": more, "nfs6": {**NFS, "nas_host": "[2001:db8::9]"}},
        cinder_default_volume_type="gold",
        cinder_volume_types=[{"name": "gold"}, {"name": "__DEFAULT__", "state": "absent"}],
        cinder_backup_driver="swift",
        cinder_coordination_url="etcd3+https://192.0.2.11:2379",
    )
    assert [one for one in found.warnings if "cinder" in one] == []


@pytest.mark.parametrize(
    "said",
    [
        {"cinder_backup_driver": "nfs", "cinder_backup_share": "[2001:db8::9]:/"},
        {"cinder_coordination_url": "file:///srv/locks"},
    ],
)
def test_a_share_is_a_share_in_ipv6_and_locks_may_be_files(said: dict[str, Any]) -> None:
    assert planned(**said).services["cinder"]


def test_a_cloud_without_cinder_has_no_mistakes_of_it() -> None:
    found = planned(brume_services=["keystone"], cinder_default_volume_type="gold", **backends())
    assert "cinder" not in found.services


@pytest.mark.parametrize("release", RELEASES)
def test_no_section_of_cinder_can_be_a_back_end(release: str) -> None:
    schema = sources.load().schemas["cinder"][release]
    assert schema is not None
    free = {
        name for name in schema.options
        if name not in volume_inventory.SECTIONS and not name.startswith(volume_inventory.OF_OTHERS)
    }  # fmt: skip
    assert free == set()


def test_variables_of_volumes_hold_for_the_cloud() -> None:
    base = committed("three_node")
    own = {host: dict(layers[-1].variables) for host, layers in base.hosts.items()}
    variables = dict(next(iter(base.hosts.values()))[0].variables)
    groups = {name: list(hosts) for name, hosts in base.groups.items()}
    for key, value in (("cinder_backends", {"ceph": RBD}), ("cinder_backup_share", "192.0.2.9:/")):
        changed = {host: said | ({key: value} if host == "compute1" else {}) for host, said in own.items()}
        with pytest.raises(PlanError, match=f"{key}: holds for the whole cloud"):
            plan(inventory(variables, hosts=changed, groups=groups), sources.load())


# --- files ------------------------------------------------------------------------------------------------------------


def renderer(found: Plan) -> Renderer:
    return Renderer(found, sources.load(), lambda name: f"<{name}>")


def tree(found: Plan, file: str = "cinder-volume.conf") -> dict[str, dict[str, Any]]:
    service = found.services["cinder"]
    return renderer(found).tree(found.hosts["aio"], service, service.files[file], "")[0]


def names(found: Plan) -> list[str]:
    return [one.name for one in found.hosts["aio"].files if one.service == "cinder"]


def unit(found: Plan, name: str) -> UnitEntry:
    return next(one for one in renderer(found).units(found.hosts["aio"], ["cinder"]) if one.instance.unit == name)


def modules(found: Plan, service: str = "cinder") -> tuple[str, ...]:
    return next(one for one in found.hosts["aio"].environments if one.service == service).system_modules


@pytest.mark.parametrize("driver", ["", "ceph", "swift", "nfs", "posix"])
@pytest.mark.parametrize("release", RELEASES)
def test_every_file_fits_the_release(release: str, driver: str) -> None:
    share = "192.0.2.99:/srv/backups" if driver == "nfs" else ""
    found = planned(
        release, ("swift",), cinder_backends=EVERY, cinder_backup_driver=driver, cinder_backup_share=share,
        cinder_coordination_url="etcd3+https://192.0.2.11:2379",
    )  # fmt: skip
    schema = sources.load().schemas["cinder"][release]
    assert schema is not None
    files = ["cinder.conf", "cinder-volume.conf", *(["cinder-backup.conf"] if driver else [])]
    assert [name for name in names(found) if name.startswith("cinder")] == files
    for name in files:
        # How service_user logs in is in no list of Cinder's options; where api-paste.ini lies is said in no other way.
        known = [("service_user", key) for key in renderer(found).login(found.services["cinder"], "service_user")]
        known.append(("DEFAULT", "api_paste_config"))
        found_here = [one for one in check(schema, tree(found, name)) if (one.section, one.key) not in known]
        assert [one.text for one in found_here] == []


def test_every_back_end_has_its_section() -> None:
    found = planned(cinder_backends=EVERY)
    here = tree(found)
    assert here["DEFAULT"]["enabled_backends"] == "ceph,lvm,nfs,array"
    golden("volume-backends.txt", json.dumps({name: here[name] for name in EVERY}, indent=1) + "\n")


def test_targets_are_offered_on_the_storage_network() -> None:
    network = {"cidr": "203.0.113.0/24", "interface": "eth5"}
    found = planned(
        cinder_backends={"lvm": LVM},
        brume_networks=AIO["brume_networks"] | {"storage": network},
        hosts={"aio": {"brume_addresses": {"management": "192.0.2.11", "storage": "203.0.113.11"}}},
    )
    assert tree(found)["lvm"]["target_ip_address"] == "203.0.113.11"
    assert tree(planned(base=IPV6, cinder_backends={"lvm": LVM}))["lvm"]["target_ip_address"] == "2001:db8:1::11"


@pytest.mark.parametrize("release", RELEASES)
def test_cinder_asks_as_a_service_where_images_lie(release: str) -> None:
    here = tree(planned(release))
    for file in ("cinder.conf", "cinder-volume.conf"):
        assert tree(planned(release), file).get("glance", {}).get("username") == (
            None if release == "2025.1" else "cinder"
        )
    assert (here["nova"]["username"], here["nova"]["interface"]) == ("cinder", "internal")


@pytest.mark.parametrize(
    ("said", "cluster"),
    [
        ({}, ""),
        ({"cinder_coordination_url": "etcd3+https://192.0.2.11:2379"}, "cinder"),
        ({"cinder_coordination_url": "etcd3+https://192.0.2.11:2379", **backends(ceph=RBD, lvm=LVM)}, ""),
        ({"cinder_coordination_url": "etcd3+https://192.0.2.11:2379", **backends(array=OTHER)}, ""),
    ],
)
def test_hosts_are_a_cluster_where_all_drivers_let_them(said: dict[str, Any], cluster: str) -> None:
    assert tree(planned(**said))["DEFAULT"]["cluster"] == cluster


def test_packages_follow_the_back_ends() -> None:
    ceph, lvm, nfs = {"python3-rbd", "ceph-common"}, {"lvm2", "open-iscsi"}, {"nfs-common"}
    for said, expected in (
        (backends(lvm=LVM), lvm),
        (backends(nfs=NFS), nfs),
        (backends(array=OTHER), set()),
        ({**backends(array=OTHER), "cinder_backup_driver": "nfs", "cinder_backup_share": "a:/b"}, nfs),
    ):
        assert set(planned(ceph=False, **said).hosts["aio"].packages) & (ceph | lvm | nfs) == expected
    found = planned(cinder_backends={"lvm": LVM}, cinder_backup_driver="ceph")
    assert set(found.hosts["aio"].packages) >= ceph | lvm


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, BINDINGS),
        (backends(lvm=LVM), ()),
        ({**backends(lvm=LVM), "cinder_backup_driver": "ceph"}, BINDINGS),
        ({**backends(lvm=LVM), "cinder_backup_driver": "swift"}, ()),
    ],
)
def test_bindings_come_with_ceph(said: dict[str, Any], expected: tuple[str, ...]) -> None:
    services = ("swift",) if said.get("cinder_backup_driver") == "swift" else ()
    assert modules(planned(services=services, **said)) == expected


def test_compute_hosts_reach_the_volumes() -> None:
    everything = ("placement", "neutron", "nova")
    groups = {name: ["aio"] for name in ("block", "network", "compute")}
    for backend, package in ((LVM, "open-iscsi"), (NFS, "nfs-common")):
        said = AIO | {"brume_services": ["keystone", "glance", *everything, "cinder"], **backends(one=backend)}
        found = plan(inventory(said, groups=groups), sources.load())
        packages = found.services["nova"].components["compute"].packages
        assert {"open-iscsi", "nfs-common"} & set(packages) == {package}


def test_backups_in_ceph_are_another_user_s() -> None:
    found = planned(cinder_backends={"lvm": LVM}, cinder_backup_driver="ceph")
    own = ["ceph-backup.conf", "ceph.client.cinder-backup.keyring"]
    assert [name for name in names(found) if "ceph" in name] == own
    here = tree(found, "cinder-backup.conf")["DEFAULT"]
    assert (here["backup_ceph_conf"], here["backup_ceph_user"]) == ("/etc/cinder/ceph-backup.conf", "cinder-backup")
    both = names(planned(cinder_backup_driver="ceph"))
    assert [name for name in both if "ceph" in name] == ["ceph.conf", "/etc/ceph/ceph.client.cinder.keyring", *own]


def test_without_backups_there_is_nothing_of_them() -> None:
    found = planned()
    assert "backup" not in found.services["cinder"].components
    assert "cinder-backup.conf" not in names(found)
    assert "nfs-common" not in found.hosts["aio"].packages


def test_a_backup_to_swift_outlives_the_user_s_token() -> None:
    here = tree(planned(services=("swift",), cinder_backup_driver="swift"), "cinder-backup.conf")
    assert here["DEFAULT"]["backup_swift_service_auth"] is True
    assert here["service_user"]["send_service_user_token"] is True
    assert here["DEFAULT"]["swift_catalog_info"].endswith(":internalURL")


@pytest.mark.parametrize("name", ["cinder-volume.service", "cinder-backup.service"])
def test_a_stop_is_not_for_the_copies_that_are_under_way(name: str) -> None:
    text = unit(planned(cinder_backup_driver="ceph"), name).content or ""
    assert "KillMode=mixed\n" in text
    (seconds,) = [line.partition("=")[2] for line in text.splitlines() if line.startswith("TimeoutStopSec=")]
    assert int(seconds) > 60  # oslo.service: graceful_shutdown_timeout
    # Filters of rootwrap know privsep's daemon with one file alone.
    assert text.count("--config-file") == 1


def test_the_driver_of_lio_finds_its_program() -> None:
    found = planned(cinder_backends={"lvm": LVM})
    path = next(one.path for one in found.hosts["aio"].environments if one.service == "cinder")
    assert f'Environment="PATH={path}/bin:' in (unit(found, "cinder-volume.service").content or "")
    for release in RELEASES:
        schema = sources.load().schemas["cinder"][release]
        assert schema is not None
        assert "cinder-rtstool" in schema.programs


def test_a_limit_is_not_the_number_of_cpus_of_who_made_the_schema() -> None:
    for release in RELEASES:
        schema = sources.load().schemas["cinder"][release]
        assert schema is not None
        assert schema.options["DEFAULT"]["backup_workers"]["max"] == CPUS


def test_who_keeps_versions_starts_anew_when_an_upgrade_is_final() -> None:
    components = planned(cinder_backup_driver="ceph").services["cinder"].components
    assert {name for name, one in components.items() if one.keeps_versions} == set(components)
