"""Images and stores in the inventory: what is wrong is told before any host is asked, the rest becomes files."""

from __future__ import annotations

import configparser
import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action import keystone_catalog
from ansible_collections.brume.cloud.plugins.module_utils import image_inventory, run, sources, trust_store
from ansible_collections.brume.cloud.plugins.module_utils.description import read_service
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import check
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.releases import of_release
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer, UnitEntry
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

from .goldens import golden, golden_section
from .inventories import AIO, committed, inventory

FILE = "bad-images.txt"
RELEASES = ("2025.1", "2026.1", "2026.2")
SHA256 = "sha256:" + "ab" * 32
S3 = {"type": "s3", "s3_store_host": "https://s3.example.org", "s3_store_bucket": "images"}
DEBIAN: dict[str, Any] = {
    "name": "debian",
    "url": "https://images.example.org/debian.qcow2",
    "checksum": SHA256,
    "disk_format": "qcow2",
}


def planned(release: str = "2026.1", swift: bool = False, ceph: bool = False, **variables: Any) -> Plan:
    """Return the plan of a controller; with `swift` and `ceph` it has those too."""
    said = AIO | {"brume_release": release, "brume_services": ["keystone", "glance"]}
    groups: dict[str, list[str] | None] = dict.fromkeys(("network", "compute"))
    if swift:
        said["brume_services"] = ["keystone", "glance", "swift"]
        said |= {"swift_zone": 1, "swift_replicas": 1, "swift_devices": [{"name": "sdb", "path": "/dev/sdb"}]}
        groups["object"] = ["aio"]
    if ceph:
        groups["ceph_mon"] = ["aio"]
    return plan(inventory(said | variables, groups=groups), sources.load())


def stores(**items: Any) -> dict[str, Any]:
    return {"glance_stores": {"file": {"type": "file"}, **items}}


def images(*items: Any) -> dict[str, Any]:
    return {"cloud_images": list(items)}


def without(key: str, item: Mapping[str, Any] = DEBIAN) -> dict[str, Any]:
    return {one: value for one, value in item.items() if one != key}


AMI = {**DEBIAN, "name": "ami", "disk_format": "ami"}
AKI = {**DEBIAN, "name": "aki", "disk_format": "aki"}

KINDS: dict[str, dict[str, Any]] = {
    # stores
    "no store": {"glance_stores": {}},
    "stores that are a list": {"glance_stores": ["file"]},
    "store that is no mapping": stores(ceph="rbd"),
    "store without a type": stores(ceph={}),
    "unknown type of store": stores(ceph={"type": "rdb"}),
    "store in volumes": stores(cinder={"type": "cinder"}),
    "store with capitals": stores(Fast={"type": "file"}),
    "store with the name of a section": stores(database={"type": "file"}),
    "store with a reserved name": stores(os_glance_mine={"type": "file"}),
    "option of another type": stores(web={"type": "http", "rbd_store_pool": "images"}),
    "option that is a list": stores(more={"type": "file", "filesystem_store_datadirs": ["/a", "/b"]}),
    "default store that is none": {"glance_default_store": "ceph"},
    "default store that takes nothing": {**stores(web={"type": "http"}), "glance_default_store": "web"},
    "no store that takes images": {"glance_stores": {"web": {"type": "http"}}, "glance_default_store": "web"},
    "store in Swift without Swift": stores(objects={"type": "swift"}),
    "store in Ceph without Ceph": stores(ceph={"type": "rbd"}),
    "store in S3 without a host": stores(s3=without("s3_store_host", S3)),
    "store in S3 without a bucket": stores(s3=without("s3_store_bucket", S3)),
    "store in S3 with its keys": stores(s3={**S3, "s3_store_access_key": "AK", "s3_store_secret_key": "SK"}),
    "store in Swift with a password": stores(objects={"type": "swift", "swift_store_key": "hunter2"}),
    "cache of no size": {"glance_image_cache_max_size": 0},
    "cache that is text": {"glance_image_cache": "perhaps"},
    # images
    "image that is no mapping": images("debian"),
    "image without a name": images(without("name")),
    "image without a checksum": images(without("checksum")),
    "image without a disk format": images(without("disk_format")),
    "image without a source": images(without("url")),
    "image with two sources": images({**DEBIAN, "path": "/srv/debian.qcow2"}),
    "checksum without an algorithm": images({**DEBIAN, "checksum": "ab" * 32}),
    "checksum of another algorithm": images({**DEBIAN, "checksum": "md5:" + "ab" * 16}),
    "checksum that is too short": images({**DEBIAN, "checksum": SHA256[:-2]}),
    "checksum in capitals": images({**DEBIAN, "checksum": "sha256:" + "AB" * 32}),
    "address that is a file": images({**DEBIAN, "url": "file:///srv/debian.qcow2"}),
    "path that is relative": images({**without("url"), "path": "debian.qcow2"}),
    "unknown disk format": images({**DEBIAN, "disk_format": "vhdx"}),
    "unknown container format": images({**DEBIAN, "container_format": "tar"}),
    "container of another kind": images({**AKI, "container_format": "bare"}),
    "unknown visibility": images({**DEBIAN, "visibility": "everybody"}),
    "version that is a number": images({**DEBIAN, "os_version": 13}),
    "disk below zero": images({**DEBIAN, "min_disk": -1}),
    "memory that is text": images({**DEBIAN, "min_ram": "512M"}),
    "unknown key of an image": images({**DEBIAN, "visiblity": "public"}),
    "image said twice": images(DEBIAN, DEBIAN),
    "tags that are text": images({**DEBIAN, "tags": "lts"}),
    "tag that is too long": images({**DEBIAN, "tags": ["x" * 256]}),
    "properties that are a list": images({**DEBIAN, "properties": ["hw_disk_bus"]}),
    "property that is an attribute": images({**DEBIAN, "properties": {"min_disk": 3}}),
    "property that is an option": images({**DEBIAN, "properties": {"os_distro": "debian"}}),
    "property that is a reference": images({**DEBIAN, "properties": {"kernel_id": "7b1f"}}),
    "property that is Glance's": images({**DEBIAN, "properties": {"os_glance_import_task": "1"}}),
    "property that is Brume's": images({**DEBIAN, "properties": {"brume_checksum": SHA256}}),
    "property that is a mapping": images({**DEBIAN, "properties": {"hw": {"disk_bus": "scsi"}}}),
    "property without a name": images({**DEBIAN, "properties": {"": "scsi"}}),
    "kernel that is not declared": images(AMI | {"kernel": "akl"}, AKI),
    "kernel that is none": images(AMI | {"kernel": "debian"}, DEBIAN),
    "kernel that goes": images(AMI | {"kernel": "aki"}, {"name": "aki", "state": "absent"}),
    "kernel of a kernel": images(AKI | {"kernel": "aki"}),
    "stores of an image that are empty": images({**DEBIAN, "stores": []}),
    "store of an image that is none": images({**DEBIAN, "stores": ["ceph"]}),
    "store of an image that takes nothing": {**stores(web={"type": "http"}), **images({**DEBIAN, "stores": ["web"]})},
    "replace that is true": images({**DEBIAN, "replace": True}),
    "state that is none": images({**DEBIAN, "state": "gone"}),
    # together
    "a bad image hides no bad store": {**images(without("url")), "glance_stores": {"s3": {"type": "s4"}}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_explained(kind: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(**KINDS[kind])
    golden_section(FILE, kind, str(caught.value), KINDS)
    assert "hunter2" not in str(caught.value)


def test_what_is_right_is_no_mistake() -> None:
    wanted = [
        {**DEBIAN, "visibility": "public", "stores": ["file"], "properties": {"hw_disk_bus": "scsi", "x:y": 1.5}},
        AMI | {"kernel": "aki"},
        AKI,
        {"name": "old", "state": "absent", "protected": False},
        {**without("url"), "name": "local", "path": "/srv/images/local.raw", "disk_format": "raw"},
    ]
    found = planned(**images(*wanted))
    assert [one["name"] for one in found.cloud.images] == ["debian", "ami", "aki", "old", "local"]
    assert found.warnings == planned().warnings


def test_a_cloud_without_glance_has_no_images() -> None:
    found = planned(brume_services=["keystone"], **images(DEBIAN), glance_default_store="ceph")
    assert (found.cloud.images, found.cloud.image_stores) == ((), {})


def test_variables_of_images_hold_for_the_cloud() -> None:
    base = committed("three_node")
    own = {host: dict(layers[-1].variables) for host, layers in base.hosts.items()}
    variables = dict(next(iter(base.hosts.values()))[0].variables)
    for key, value in (("cloud_images", [DEBIAN]), ("glance_stores", {"other": {"type": "file"}})):
        changed = {host: said | ({key: value} if host == "compute1" else {}) for host, said in own.items()}
        groups = {name: list(hosts) for name, hosts in base.groups.items()}
        with pytest.raises(PlanError, match=f"{key}: holds for the whole cloud"):
            plan(inventory(variables, hosts=changed, groups=groups), sources.load())


# --- files ------------------------------------------------------------------------------------------------------------

EVERY = {
    "glance_stores": {
        "file": {"type": "file", "weight": 10},
        "more": {"type": "file"},
        "ceph": {"type": "rbd", "rbd_store_chunk_size": 16},
        "objects": {"type": "swift", "swift_store_container": "pictures"},
        "web": {"type": "http"},
    },
    "glance_default_store": "ceph",
    "glance_image_cache": True,
}


def renderer(found: Plan) -> Renderer:
    return Renderer(found, sources.load(), lambda name: f"<{name}>")


def tree(found: Plan, file: str = "glance-api.conf") -> dict[str, dict[str, Any]]:
    host = found.hosts["aio"]
    service = found.services["glance"]
    return renderer(found).tree(host, service, service.files[file], "")[0]


def names(found: Plan) -> list[str]:
    return [one.name for one in found.hosts["aio"].files if one.service == "glance"]


@pytest.mark.parametrize("release", RELEASES)
def test_stores_fit_the_release(release: str) -> None:
    every = {**EVERY, "glance_stores": {**EVERY["glance_stores"], "s3": {**S3, "s3_store_region_name": "r1"}}}
    found = planned(release, swift=True, ceph=True, **every)
    schema = sources.load().schemas["glance"][release]
    here = tree(found)
    del here["file"]["weight"]  # of every store (glance_store.driver), and in no list that a schema is made of
    assert [finding.text for finding in check(schema, here)] == []


def test_every_store_has_its_section() -> None:
    found = planned(swift=True, ceph=True, **EVERY)
    here = tree(found)
    assert here["DEFAULT"]["enabled_backends"] == "file:file,more:file,ceph:rbd,objects:swift,web:http"
    assert here["DEFAULT"]["enabled_import_methods"] == "[glance-direct,web-download,copy-image]"
    assert here["glance_store"] == {"default_backend": "ceph"}
    assert here["file"] == {"filesystem_store_datadir": "/var/lib/glance/images", "weight": 10}
    assert here["more"] == {"filesystem_store_datadir": "/var/lib/glance/images-more"}
    assert here["ceph"] == {
        "rbd_store_user": "glance", "rbd_store_pool": "images", "rbd_store_ceph_conf": "/etc/glance/ceph.conf",
        "rbd_store_chunk_size": 16,
    }  # fmt: skip
    assert (here["objects"]["swift_store_container"], here["objects"]["swift_store_multi_tenant"]) == (
        "pictures", False,
    )  # fmt: skip
    assert here["web"] == {"https_ca_certificates_file": "/etc/ssl/certs/ca-certificates.crt"}
    text = json.dumps(here)
    assert "<glance/keystone>" not in json.dumps({key: here[key] for key in here if key != "keystone_authtoken"})
    assert "<ceph" not in text


def test_passwords_of_stores_are_in_files_of_their_own() -> None:
    found = planned(swift=True, ceph=True, **EVERY)
    assert names(found) == [
        "glance-api.conf", "glance-swift-store.conf", "ceph.conf", "ceph.client.glance.keyring",
    ]  # fmt: skip
    modes = {one.path: (one.owner, one.group, one.mode) for one in found.hosts["aio"].files if one.service == "glance"}
    assert set(modes.values()) == {("root", "glance", "0640")}
    (text,) = [
        one.text for one in renderer(found).files(found.hosts["aio"], ["glance"]) if "swift-store" in one.entry.path
    ]
    parser = configparser.ConfigParser()  # as glance_store reads it, with interpolation
    parser.read_string(text)
    assert dict(parser["glance"]) == {
        "user": "service:glance", "key": "<glance/keystone>", "auth_address": "https://192.0.2.11:5000/v3",
        "user_domain_name": "Default", "project_domain_name": "Default",
    }  # fmt: skip
    assert tree(found)["objects"]["default_swift_reference"] == "glance"
    assert tree(found, "ceph.client.glance.keyring")["client.glance"]["key"]
    assert tree(found, "ceph.conf")["client"]["keyring"].startswith("/etc/glance/ceph.$name.keyring")


def test_without_further_stores_there_is_nothing_of_them() -> None:
    found = planned()
    assert names(found) == ["glance-api.conf"]
    here = tree(found)
    assert here["DEFAULT"]["enabled_import_methods"] == "[glance-direct,web-download]"
    assert here["paste_deploy"]["flavor"] == "keystone"
    assert "image_cache_dir" not in here["DEFAULT"]
    assert "/var/lib/glance/image-cache" not in [one.path for one in found.hosts["aio"].directories]
    environment = next(one for one in found.hosts["aio"].environments if one.service == "glance")
    assert environment.system_modules == ()


def test_ceph_s_bindings_come_with_its_store() -> None:
    found = planned(ceph=True, **stores(ceph={"type": "rbd"}))
    environment = next(one for one in found.hosts["aio"].environments if one.service == "glance")
    assert environment.system_modules == ("rados", "rbd")
    assert "python3-rbd" in found.hosts["aio"].packages


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (stores(), True),
        (stores(ceph={"type": "rbd"}), True),
        ({"glance_stores": {"ceph": {"type": "rbd"}}, "glance_default_store": "ceph"}, False),
    ],
)
def test_one_host_serves_only_where_images_lie_in_its_files(said: dict[str, Any], expected: bool) -> None:
    found = planned(ceph=True, **said)
    (front,) = [one for one in found.cloud.frontends if one.name == "glance-api"]
    assert (front.failover, found.services["glance"].components["api"].failover) == (expected, expected)


@pytest.mark.parametrize(
    ("key", "said", "expected"),
    [
        ("failover", {}, ["roles/glance/meta/service.yml: components.api.failover.when: is missing"]),
        ("failover", {"when": {"glance_shops": 1}}, ["`glance_shops` is no variable"]),
        ("service_roles", [{"item": "member", "when": {"glance_shops": 1}}], ["`glance_shops` is no variable"]),
        ("service_roles", [{"item": "member"}], ["service_roles: is an item without `item` or `when`"]),
    ],
)
def test_a_condition_that_cannot_be_is_a_mistake_of_the_project(key: str, said: Any, expected: list[str]) -> None:
    path = sources.COLLECTION / "roles/glance/meta/service.yml"
    data = of_release(yaml.safe_load(path.read_text(encoding="utf-8")), "2026.1")
    (data if key == "service_roles" else data["components"]["api"])[key] = said
    service, found = read_service(data, "roles/glance/meta/service.yml", "glance")
    found += sources.wrong_conditions(service, sources.load().variables)
    assert [one for one, text in zip(map(str, found), expected, strict=True) if text not in one] == []


def test_glance_may_use_its_account_in_swift() -> None:
    found = planned(swift=True, **stores(objects={"type": "swift"}))
    roles = {one.name: one.roles for one in found.cloud.logins}
    assert roles == {"glance": ("service", "member"), "swift": ("service",)}
    assert {one.name: one.roles for one in planned(swift=True).cloud.logins}["glance"] == ("service",)
    planned_roles = keystone_catalog._planned(type("Piece", (), {"plan": found, "secret": lambda _self, name: name})())
    assert "member" in [one["role"] for one in planned_roles["assignments"] if one["user"] == "glance"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({}, "False"),
        ({"ceph": {"type": "rbd"}}, "True"),
        ({"ceph": {"type": "rbd"}, "s3": S3}, "False"),
    ],
)
def test_places_are_shown_for_clones_and_never_with_a_key(said: dict[str, Any], shown: str) -> None:
    here = tree(planned(ceph=True, **stores(**said)))["DEFAULT"]
    assert here["show_image_direct_url"] == shown
    assert "show_multiple_locations" not in here


def test_controllers_find_each_other_by_tls() -> None:
    """By one address of all, an import would look for its data on the host that was asked, and caches would be one."""
    found = plan(committed("ha"), sources.load())
    service = found.services["glance"]
    urls = []
    for name in ("controller1", "controller2"):
        here = renderer(found).tree(found.hosts[name], service, service.files["glance-api.conf"], "")[0]
        urls.append(here["DEFAULT"]["worker_self_reference_url"])
    hosts = [found.hosts[name] for name in ("controller1", "controller2")]
    assert urls == [f"https://{one.addresses['management']}:19292" for one in hosts]
    assert tree(planned())["DEFAULT"]["worker_self_reference_url"] == "http://127.0.0.1:19292"
    environment = service.components["api"].environment
    assert environment["REQUESTS_CA_BUNDLE"] == trust_store.BUNDLE


def unit(found: Plan, name: str) -> UnitEntry:
    return next(one for one in renderer(found).units(found.hosts["aio"], ["glance"]) if one.instance.unit == name)


def test_the_cache_is_kept_within_its_size() -> None:
    found = planned(glance_image_cache=True, glance_image_cache_max_size=5)
    here = tree(found)
    assert (here["DEFAULT"]["image_cache_dir"], here["DEFAULT"]["image_cache_max_size"]) == (
        "/var/lib/glance/image-cache", "5",
    )  # fmt: skip
    assert here["paste_deploy"]["flavor"] == "keystone+cachemanagement"
    assert "/var/lib/glance/image-cache" in [one.path for one in found.hosts["aio"].directories]
    content = unit(found, "glance-cache.service").content
    (line,) = [one for one in str(content).splitlines() if one.startswith("ExecStart=")]
    environment = next(one.path for one in found.hosts["aio"].environments if one.service == "glance")
    assert line == (
        f'ExecStart=/bin/sh -c "while sleep 1800; do {environment}/bin/glance-cache-cleaner --config-file $$0; '
        f'{environment}/bin/glance-cache-pruner --config-file $$0; done" /etc/glance/glance-api.conf'
    )
    assert not [one for one in planned().hosts["aio"].instances if one.component == "cache"]


def test_the_loop_of_the_cache_runs_both_programs() -> None:
    """As systemd hands it to the shell: without the quotes, and with one dollar of two."""
    found = planned(glance_image_cache=True)
    environment = next(one.path for one in found.hosts["aio"].environments if one.service == "glance")
    line = str(unit(found, "glance-cache.service").content).partition('/bin/sh -c "')[2].partition("\n")[0]
    script, _quote, file = line.partition('" ')
    for text, other in (
        ("$$", "$"),
        ("sleep 1800", "test -z $over"),
        (f"{environment}/bin/glance-cache-cleaner", "echo cleaner"),
        (f"{environment}/bin/glance-cache-pruner", "over=yes; echo pruner"),
    ):
        assert text in script
        script = script.replace(text, other)
    done = subprocess.run(["/bin/sh", "-c", script, file], capture_output=True, text=True, timeout=5, check=False)
    assert done.stdout.splitlines() == [
        "cleaner --config-file /etc/glance/glance-api.conf", "pruner --config-file /etc/glance/glance-api.conf",
    ]  # fmt: skip


# --- secrets ----------------------------------------------------------------------------------------------------------

MASTER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def problems(found: Plan, said: dict[str, Any] | None) -> list[str]:
    variables = {"brume_master_key": MASTER, **({} if said is None else {"brume_secrets": said})}
    return [str(one) for one in run.secret_problems(variables, found)]


def test_keys_of_s3_are_secrets_that_somebody_else_has_given() -> None:
    found = planned(**stores(s3=S3))
    key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY="
    both = {"glance/s3/s3/access_key": "AKIAEXAMPLE", "glance/s3/s3/secret_key": key}
    assert problems(found, both) == []
    assert problems(found, None) == [
        f"brume_secrets.{name}: is missing, and the store s3 cannot be opened without; give the one that the "
        "object storage has given, from a vault file"
        for name in both
    ]
    (wrong,) = problems(found, both | {"glance/s3/s3/secret_key": "two words"})
    assert (wrong, "two words" in wrong) == (
        "brume_secrets.glance/s3/s3/secret_key: is no key of S3; write it in quotes, without spaces around it", False,
    )  # fmt: skip
    assert sum("is no secret of this cloud" in one for one in problems(planned(), both)) == 2
    vault = Vault(bytes(range(32)), both)
    text = Renderer(found, sources.load(), vault.value)
    service = found.services["glance"]
    here, _layers = text.tree(found.hosts["aio"], service, service.files["glance-api.conf"], "")
    assert here["s3"] == {
        **without("type", S3), "s3_store_access_key": "AKIAEXAMPLE", "s3_store_secret_key": key,
    }  # fmt: skip
    assert image_inventory.secret_names(found.cloud.image_stores) == list(both)


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_examples_of_the_page_can_be_planned() -> None:
    text = (sources.COLLECTION / "docs/images.md").read_text(encoding="utf-8")
    variables: dict[str, Any] = {}
    for part in text.split("```yaml\n")[1:]:
        variables |= yaml.safe_load(part.partition("```")[0])
    assert {"cloud_images", "glance_stores", "glance_default_store", "glance_image_cache"} <= set(variables)
    secrets = variables.pop("brume_secrets")
    found = planned(swift=True, ceph=True, **variables)
    assert problems(found, secrets) == []
    assert len(found.cloud.images) > 3


def test_what_the_role_takes_is_what_the_plan_and_the_module_take() -> None:
    specs = yaml.safe_load((sources.COLLECTION / "roles/glance/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]["cloud_images"]["options"]
    assert set(options) == set(image_inventory.IMAGE)
    formats = yaml.safe_load((sources.COLLECTION / "roles/glance/settings/glance-api.yml").read_text(encoding="utf-8"))
    assert tuple(formats["image_format"]["disk_formats"].split(",")) == image_inventory.DISK_FORMATS
    assert tuple(options["disk_format"]["choices"]) == image_inventory.DISK_FORMATS


def test_units_and_files_of_all_stores() -> None:
    found = planned(swift=True, ceph=True, **EVERY)
    lines = [
        f"#### {one.entry.path} {one.entry.owner}:{one.entry.group} {one.entry.mode}\n{one.text}"
        for one in renderer(found).files(found.hosts["aio"], ["glance"])
        if one.entry.path.startswith("/etc/glance/") and not one.entry.path.endswith(".ini")
    ]
    text = "\n".join(lines)
    for environment in found.hosts["aio"].environments:
        text = text.replace(environment.digest, "<digest>")
    golden("image-stores.txt", text)
