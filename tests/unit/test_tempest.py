"""Tempest: its configuration from what a cloud tells, the sets, known failures, results, and what tests left behind."""

from __future__ import annotations

import dataclasses
import os
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.action import tempest as action
from ansible_collections.brume.cloud.plugins.module_utils import run, sources, tempest, tempest_cloud
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.tempest import Case, KnownFailure, TempestError
from keystoneauth1.exceptions import ConnectFailure
from openstack import exceptions

from .inventories import committed

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden/tempest.conf"
FILES = ROOT / "roles/tempest/files"
SWIFT = sources.read_yaml((ROOT / "roles/swift/settings/proxy-server.yml").read_text("utf-8"))
LINK = "https://bugs.launchpad.net/tempest/+bug/1"
ACCESS = tempest.Access(
    auth_url="https://192.0.2.11:5000/v3",
    username="admin",
    password="pa$$word",
    project="admin",
    user_domain="Default",
    project_domain="Default",
    region="RegionOne",
    interface="public",
    authority="/srv/ca.crt",
)
CLOUD = tempest.Cloud(
    service_types=("compute", "identity", "image", "network", "placement"),
    compute_microversions=("2.1", "2.103"),
    placement_microversions=("1.0", "1.39"),
    hypervisor_types=("QEMU",),
    network_extensions=("router", "port-security", "external-net"),
    disk_formats=("qcow2", "raw"),
    container_formats=("bare",),
    image_stores=("file",),
    image="11111111-0000-4000-8000-000000000000",
    image_alt="22222222-0000-4000-8000-000000000000",
    flavor="33333333-0000-4000-8000-000000000000",
    flavor_alt="44444444-0000-4000-8000-000000000000",
    external_network="55555555-0000-4000-8000-000000000000",
    external_network_name="external",
)
CHOICES = tempest.Choices(
    directory="/srv/tempest",
    ssh_user="root",
    image_path="/srv/image",
    image_url="http://192.0.2.1:80/image",
    build_timeout=600,
    ssh_timeout=300,
    config={},
)
FORBIDDEN = "tempest.lib.exceptions.Forbidden: Forbidden"
JUNIT = """<testsuite errors="0" failures="1" name="" tests="4" time="3.5">
<testcase classname="tempest.api.A" name="test_good[id-1,smoke]" time="1.5"/>
<testcase classname="" name="setUpClass (tempest.api.B)" time="0.0">
<skipped>Volume service not enabled.</skipped>
</testcase>
<testcase classname="tempest.api.A" name="test_bad[id-2]" time="2.0">
<failure type="testtools.testresult.real._StringException">testtools.testresult.real._StringException: log: {{{
2026-01-01 ERROR a request
Traceback (most recent call last):
ValueError: of the log
}}}

Traceback (most recent call last):
  File "a.py", line 1, in test_bad
    self.create()
    ^^^^^^^^^^^^^
tempest.lib.exceptions.Forbidden: Forbidden
Details: {'code': 403}

</failure></testcase>
<testcase classname="tempest.api.A" name="test_worse[id-3]" time="0.1"><error>boom</error></testcase>
</testsuite>"""
"""As subunit2junitxml writes it."""


def tree(**changes: Any) -> tempest.Tree:
    return tempest.configuration(ACCESS, tempest.Cloud(**{**vars(CLOUD), **changes}), CHOICES)


# configuration


def test_the_configuration() -> None:
    text = tempest.text(tree())
    if os.environ.get("BRUME_GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text("utf-8")


def test_object_storage_is_told_as_its_info_tells_it() -> None:
    made = tree(
        service_types=("identity", "object-store"), object_capabilities=("versioned_writes", "swift", "account_quotas")
    )
    features = made["object-storage-feature-enabled"]
    assert features == {
        "discoverable_apis": ["account_quotas", "swift", "versioned_writes"],
        "object_versioning": True,
        "container_sync": False,
    }
    assert made["object-storage"]["reseller_admin_role"] == SWIFT["filter:keystoneauth"]["reseller_admin_role"]
    assert made["object-storage"]["operator_role"] in SWIFT["filter:keystoneauth"]["operator_roles"].split(", ")
    without = tree(service_types=("object-store",), object_capabilities=("swift",))["object-storage-feature-enabled"]
    assert (without["discoverable_apis"], without["object_versioning"]) == (["swift"], False)


RBD, LVM, NFS = (
    tempest.Pool("ceph", "ceph", "Open Source"),
    tempest.Pool("lvm", "iSCSI", "Open Source"),
    tempest.Pool("shares", "NFS", "nfs"),
)


def volume_tree(*pools: tempest.Pool, driver: str = "", **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two sections of a cloud with these pools."""
    told: dict[str, Any] = {"service_types": ("identity", "block-storage"), "volume_pools": pools, **changes}
    made = tempest.configuration(
        ACCESS, tempest.Cloud(**told), dataclasses.replace(CHOICES, backup_driver=driver, config={})
    )
    assert made["service_available"]["cinder"]
    return made["volume"], made["volume-feature-enabled"]


@pytest.mark.parametrize(
    ("pools", "protocol", "names", "snapshots", "features"),
    [
        ((LVM,), "iSCSI", ["lvm"], "_snapshot-%s", {"manage_volume", "manage_snapshot", "extend"}),
        ((RBD, RBD), "ceph", ["ceph"], "snapshot-%s", {"manage_volume", "manage_snapshot", "extend"}),
        ((LVM, RBD), "ceph", ["lvm", "ceph"], "snapshot-%s", {"multi_backend", "extend"}),
        ((NFS,), "NFS", ["shares"], "_snapshot-%s", set()),
        ((NFS, LVM), "NFS", ["shares", "lvm"], "_snapshot-%s", {"multi_backend"}),
    ],
)
def test_volumes_are_told_as_the_pools_tell_them(
    pools: tuple[tempest.Pool, ...], protocol: str, names: list[str], snapshots: str, features: set[str]
) -> None:
    volume, enabled = volume_tree(*pools)
    assert (volume["storage_protocol"], volume["backend_names"]) == (protocol, names)
    assert volume["manage_snapshot_ref"] == ["source-name", snapshots]
    assert "backup_driver" not in volume
    wanted = {"multi_backend", "manage_volume", "manage_snapshot", "extend"}
    enabled["extend"] = enabled["extend_attached_volume"] and enabled["extend_volume_with_snapshot"]
    assert {name for name in wanted if enabled[name]} == features
    assert (enabled["snapshot"], enabled["clone"], enabled["backup"]) == (True, True, False)


def test_backups_are_told_by_their_driver() -> None:
    volume, enabled = volume_tree(RBD, driver="swift", volume_backup=True, volume_microversions=("3.0", "3.71"))
    assert (volume["backup_driver"], enabled["backup"]) == ("swift", True)
    assert (volume["min_microversion"], volume["max_microversion"]) == ("3.0", "3.71")


def test_compute_is_told_what_volumes_can_do() -> None:
    types = (*CLOUD.service_types, "block-storage")
    several: dict[str, Any] = {"hypervisor_types": ("QEMU", "QEMU"), "volume_pools": (RBD,)}
    made = tree(service_types=types, volume_type_multiattach="shared", **several)
    features = made["compute-feature-enabled"]
    assert (features["volume_backed_live_migration"], features["volume_multiattach"]) == (True, True)
    assert made["volume"]["volume_type_multiattach"] == "shared"
    features = tree(hypervisor_types=("QEMU", "QEMU"))["compute-feature-enabled"]
    assert (features["volume_backed_live_migration"], features["volume_multiattach"]) == (False, False)


def test_of_a_service_that_is_not_there_nothing_is_told() -> None:
    cloud = tempest.Cloud(service_types=("identity", "object-store"), object_capabilities=("swift",))
    made = tempest.configuration(ACCESS, cloud, CHOICES)
    assert sorted(made) == [
        "DEFAULT", "auth", "enforce_scope", "identity", "identity-feature-enabled", "object-storage",
        "object-storage-feature-enabled", "oslo_concurrency", "service_available",
    ]  # fmt: skip
    assert [name for name, there in made["service_available"].items() if there] == ["swift"]
    assert [name for name, there in made["enforce_scope"].items() if there] == ["keystone"]


def test_a_service_is_available_when_the_catalog_has_one_of_its_types() -> None:
    types = (*CLOUD.service_types, "volumev3")
    assert not tree()["service_available"]["cinder"]
    assert tree(service_types=types)["service_available"]["cinder"]


def test_instances_move_only_where_there_is_a_second_hypervisor() -> None:
    alone, two = tree(), tree(hypervisor_types=("QEMU", "QEMU"))
    names = ("cold_migration", "live_migration", "block_migration_for_live_migration")
    assert [alone["compute-feature-enabled"][name] for name in names] == [False] * 3
    assert [two["compute-feature-enabled"][name] for name in names] == [True] * 3
    assert (alone["compute"]["min_compute_nodes"], two["compute"]["min_compute_nodes"]) == (1, 2)


def test_given_options_come_over_those_that_were_found() -> None:
    choices = tempest.Choices(**{**vars(CHOICES), "config": {"compute": {"image_ref": "other"}, "new": {"key": 1}}})
    made = tempest.configuration(ACCESS, CLOUD, choices)
    assert (made["compute"]["image_ref"], made["new"]) == ("other", {"key": 1})
    assert made["compute"]["flavor_ref"] == CLOUD.flavor


def test_a_password_is_not_shown() -> None:
    assert "pa$$word" not in repr(ACCESS)


# sets


def test_every_set_of_the_role_can_be_chosen() -> None:
    sets = sources.read_yaml((FILES / "sets.yml").read_text("utf-8"))
    names = {"smoke", "identity", "image", "network", "object_storage", "volume", "compute", "scenario"}
    assert names == set(sets)
    for name in sets:
        assert tempest.selection(sets, name).include


def test_a_set_becomes_arguments() -> None:
    sets = {"one": {"include": ["^a", "^b"], "exclude": ["slow", "big"]}, "two": {"include": ["^c"]}}
    assert tempest.selection(sets, "one").arguments() == ["--regex", "^a|^b", "--exclude-regex", "slow|big"]
    assert tempest.selection(sets, "two").arguments() == ["--regex", "^c"]
    assert tempest.selection(sets, "one", "^x").arguments() == ["--regex", "^x"]


@pytest.mark.parametrize(
    ("sets", "name", "regex", "message"),
    [
        ({"one": {"include": ["a"]}}, "two", "", "there is no set `two` with an include; there are one"),
        ({"one": {"exclude": ["a"]}}, "one", "", "there is no set `one` with an include"),
        ([], "one", "", "is no mapping"),
        ({"one": {"include": ["(a"]}}, "one", "", r"`\(a` is no regular expression"),
        ({}, "one", "a)", r"`a\)` is no regular expression"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused(sets: Any, name: str, regex: str, message: str) -> None:
    with pytest.raises(TempestError, match=message):
        tempest.selection(sets, name, regex)


# tests that are left out

OMISSION = tempest.Omission(("tempest.A.test_a[id-1,smoke]", "tempest.A.test_b[id-2]"), "because", "l3", "dvr")


def test_tests_that_the_cloud_cannot_pass_are_left_out_with_the_reason() -> None:
    network = tempest.Selection("network", (r"^tempest\.A",), ("slow",))
    chosen, omitted = tempest.leave_out(network, [OMISSION], {"router"}, {"l3", "dhcp"})
    assert omitted == {"tempest.A.test_a": "because", "tempest.A.test_b": "because"}
    assert chosen.include == network.include
    for name, there in (("test_a[id-1,smoke]", False), ("test_b[id-2]", False), ("test_b_too[id-3]", True)):
        assert chosen.finds(f"tempest.A.{name}") is there
    assert not chosen.finds("tempest.A.test_slow[id-4]")
    assert tempest.omitted_lines(omitted) == [
        "left out: tempest.A.test_a",
        "left out: tempest.A.test_b",
        "    because",
    ]
    smoke = tempest.Selection("smoke", (r"\[.*\bsmoke\b.*\]",))
    assert list(tempest.leave_out(smoke, [OMISSION], (), {"l3"})[1]) == ["tempest.A.test_a"]


@pytest.mark.parametrize(
    ("include", "extensions", "agents"), [("^tempest", ["dvr"], ["l3"]), ("^tempest", [], ["dhcp"]), ("^x", [], ["l3"])]
)
def test_nothing_is_left_out_without_need(include: str, extensions: list[str], agents: list[str]) -> None:
    chosen = tempest.Selection("one", (include,))
    assert tempest.leave_out(chosen, [OMISSION], extensions, agents) == (chosen, {})


def test_the_omissions_of_the_role_are_routers_of_l3_agents_that_are_down() -> None:
    file = FILES / "omissions.yml"
    (found,) = tempest.omissions(sources.read_yaml(file.read_text("utf-8")), file.name)
    assert (found.with_agent, found.without_extension) == ("neutron-l3-agent", "dvr")
    sets = sources.read_yaml((FILES / "sets.yml").read_text("utf-8"))
    numbers = {
        name: len(tempest.leave_out(tempest.selection(sets, name), [found], (), {found.with_agent})[1]) for name in sets
    }
    assert {name: number for name, number in numbers.items() if number} == {"smoke": 4, "network": 10}


def test_mistakes_in_omissions_are_told_at_once() -> None:
    test = "test_a[id-802c73c9-c937-4cef-824b-2191e24a6aab,smoke]"
    good = {"tests": {"tempest.api.A": [test]}, "reason": "because", "with_agent": "l3", "without_extension": "dvr"}
    assert tempest.omissions([good], "o.yml")[0].tests == (f"tempest.api.A.{test}",)
    entries = [
        good,
        {"tests": good["tests"]},
        {**good, "tests": [test]},
        {**good, "tests": {"tempest.api.A": ["test_a"]}},
        {**good, "reason": " "},
        {**good, "with_agent": None},
        {**good, "tests": {}},
    ]
    with pytest.raises(TempestError) as error:
        tempest.omissions(entries, "o.yml")
    lines = str(error.value).splitlines()
    assert [line.split(":")[1] for line in lines] == [f" entry {number}" for number in range(2, 8)]
    assert [line.rpartition(": ")[2] for line in lines[2:]] == [
        "`tempest.api.A.test_a` is no test; write it as `tempest run --list-tests` does",
        "says no reason",
        "says no with_agent",
        "says no tests",
    ]
    with pytest.raises(TempestError, match="is no list"):
        tempest.omissions({"a": 1}, "o.yml")
    assert tempest.omissions(None, "o.yml") == ()


# known failures


def test_the_known_failures_of_the_role_keep_the_rules() -> None:
    file = FILES / "known_failures.yml"
    known = tempest.known_failures(sources.read_yaml(file.read_text("utf-8")), file.name)
    assert len({one.test for one in known}) == len(known)


def test_mistakes_in_known_failures_are_told_at_once() -> None:
    good = {"test": r"tempest\.api\.A\.test", "reason": "because", "link": LINK}
    entries = [
        good,
        {"test": "a"},
        {**good, "test": "(a"},
        {**good, "reason": " "},
        {**good, "link": "https://example.org/1"},
        {**good, "link": f"see {LINK}"},
    ]
    with pytest.raises(TempestError) as error:
        tempest.known_failures(entries, "k.yml")
    lines = str(error.value).splitlines()
    assert [line.split(":")[1] for line in lines] == [f" entry {number}" for number in range(2, 7)]
    with pytest.raises(TempestError, match="is no list"):
        tempest.known_failures({"a": 1}, "k.yml")
    assert tempest.known_failures(None, "k.yml") == ()


def test_a_known_failure_matches_whole_ids_only() -> None:
    known = KnownFailure(r"tempest\.api\.A\.test_bad", "because", LINK)
    assert known.matches("tempest.api.A.test_bad")
    assert not known.matches("tempest.api.A.test_bad_too")
    assert not known.matches("x.tempest.api.A.test_bad")


# results


def test_results_are_read_from_junit() -> None:
    assert tempest.cases(JUNIT) == [
        Case("tempest.api.A.test_good", "passed", 1.5),
        Case("setUpClass (tempest.api.B)", "skipped", 0.0, "Volume service not enabled."),
        Case("tempest.api.A.test_bad", "failed", 2.0, f"{FORBIDDEN} Details: {{'code': 403}}"),
        Case("tempest.api.A.test_worse", "failed", 0.1, "boom"),
    ]


@pytest.mark.parametrize(("text", "message"), [("<testsuite", "is no JUnit"), ("<testsuite/>", "holds no test")])
def test_results_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(TempestError, match=message):
        tempest.cases(text)


def test_a_long_last_line_is_cut() -> None:
    assert len(tempest.last_line("Error: " + "x" * 1000)) == tempest.DETAIL
    assert tempest.last_line(None) == ""


def test_the_verdict_puts_known_failures_aside() -> None:
    results = tempest.cases(JUNIT)
    known = (KnownFailure(r"tempest\.api\.A\.test_bad", "because", LINK), KnownFailure(r".*test_good", "was", LINK))
    verdict = tempest.judge(results, known)
    assert [case.name for case in verdict.failed] == ["tempest.api.A.test_worse"]
    assert [case.name for case, _reason in verdict.known] == ["tempest.api.A.test_bad"]
    assert [case.name for case, _reason in verdict.surprises] == ["tempest.api.A.test_good"]
    assert not verdict.ok
    assert tempest.judge(results[:3], known).ok
    assert not tempest.judge(results[1:2], known).ok


def test_the_table() -> None:
    known = (KnownFailure(r"tempest\.api\.A\.test_bad", "because", LINK), KnownFailure(r".*test_good", "was", LINK))
    verdict = tempest.judge(tempest.cases(JUNIT), known)
    assert tempest.table("network", verdict, 61.7) == [
        "set      passed  failed  skipped  known failures  seconds",
        "network       1       1        1               1       62",
        "FAILED tempest.api.A.test_worse",
        "    boom",
        "known failure tempest.api.A.test_bad",
        f"    because ({LINK})",
        "passed, though known to fail: tempest.api.A.test_good",
        f"    remove the entry if that lasts ({LINK})",
    ]
    line = "network: 1 passed, 1 failed, 1 skipped, 1 known to fail"
    assert tempest.summary("network", verdict) == line
    assert tempest.summary("network", verdict, 2) == f"{line}, 2 left out"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{0} tempest.api.A.test_b [1.23s] ... ok", ("tempest.api.A.test_b", "ok")),
        ("{1} tempest.api.A.test_b[id-1,smoke] [1.2s] ... FAILED", ("tempest.api.A.test_b", "FAILED")),
        ("{1} setUpClass (tempest.api.B) ... SKIPPED: no: volumes", ("setUpClass (tempest.api.B)", "SKIPPED")),
        ("Ran: 95 tests in 358.9421 sec.", None),
    ],
)
def test_progress_is_read_from_the_output(line: str, found: tuple[str, str] | None) -> None:
    assert tempest.progress(line) == found


def test_what_tests_made_and_left_is_named() -> None:
    before = {"project": {"1": "tempest-old", "2": "admin"}}
    after = {"project": {"1": "tempest-old", "3": "tempest-new", "4": "somebody"}, "server": {"5": "tempest-vm"}}
    left = tempest.left_behind(before, after)
    assert [str(one) for one in left] == ["project tempest-new (3)", "server tempest-vm (5)"]


ALONE = ("identity", "object-store")
"""The catalog of a cloud with nothing but object storage."""


def test_what_is_left_is_removed_with_users_before_what_they_use() -> None:
    calls: list[str] = []

    class Cloud:
        """Records what is called on it; images cannot be deleted."""

        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **_options: Any) -> Any:
                if name == "delete_image":
                    raise RuntimeError("in use")
                calls.append(f"{name} {arguments[0] if arguments else ''}".strip())
                return f"server-{len(calls)}" if name == "get_server" else []

            return self if name in ("compute", "identity", "image", "network", "block_storage") else call

    kinds = ("domain", "project", "QoS specs", "volume type", "volume", "image", "router", "backup", "server")
    left = [tempest.Left(kind, "tempest-x", f"{kind}-1") for kind in kinds]
    assert tempest_cloud.discard(Cloud(), left) == ["image tempest-x (image-1): RuntimeError: in use"]
    deleted = [call for call in calls if call.startswith(("delete", "update"))]
    assert deleted == [
        "delete_server server-1",  # as get_server returned it
        "delete_backup backup-1",
        "delete_volume volume-1",
        "delete_type volume type-1",
        "delete_qos_spec QoS specs-1",
        "delete_router router-1",
        "delete_project project-1",
        "update_domain domain-1",
        "delete_domain domain-1",
    ]
    types = ("block-storage", "compute", "identity", "image", "network")
    assert set(tempest_cloud.census(Cloud(), types)) == set(tempest_cloud.KINDS)
    assert set(tempest_cloud.census(Cloud(), ALONE)) == {"user", "group", "project", "role", "service", "domain"}


# the cloud


class Glance:
    """Images and what Glance tells of itself."""

    def __init__(self) -> None:
        """Begin without images."""
        self.found: list[Any] = []

    def images(self, name: str = "") -> list[Any]:
        """Return images by name."""
        return [one for one in self.found if not name or one.name == name]

    def create_image(self, name: str, **_options: Any) -> Any:
        """Keep an image."""
        self.found.append(SimpleNamespace(id=name, name=name, status="active"))
        return self.found[-1]

    def delete_image(self, identifier: str) -> None:
        """Drop an image."""
        self.found = [one for one in self.found if one.id != identifier]

    def get(self, path: str) -> Any:
        """Answer as the API does."""
        answers: dict[str, Any] = {
            "/schemas/image": {
                "properties": {"disk_format": {"enum": [None, "raw"]}, "container_format": {"enum": [None, "bare"]}}
            },
            "/info/stores": {"stores": [{"id": "file"}]},
        }
        return SimpleNamespace(json=lambda: answers[path])


class Neutron:
    """Extensions and subnet pools; auto-allocation works when `ready`."""

    ready = True

    def __init__(self) -> None:
        """Begin without pools."""
        self.pools: list[Any] = []

    def extensions(self) -> list[Any]:
        """Return three."""
        return [SimpleNamespace(alias=name) for name in ("router", "auto-allocated-topology", "agent")]

    def agents(self) -> list[Any]:
        """Return two hosts' agents."""
        return [SimpleNamespace(binary="neutron-l3-agent") for _host in range(2)]

    def subnet_pools(self, **query: Any) -> list[Any]:
        """Return pools by name."""
        return [one for one in self.pools if query.get("name", one.name) == one.name]

    def create_subnet_pool(self, **options: Any) -> None:
        """Keep a pool."""
        self.pools.append(SimpleNamespace(id=options["name"], **options))

    def delete_subnet_pool(self, identifier: str) -> None:
        """Drop a pool."""
        self.pools = [one for one in self.pools if one.id != identifier]

    def validate_auto_allocated_topology(self, project: str) -> None:
        """Answer as Neutron does when something is missing."""
        if not self.ready:
            raise exceptions.BadRequestException(f"{project}: no default external network")


class Nova:
    """Flavors and hypervisors."""

    def __init__(self) -> None:
        """Begin without flavors."""
        self.found: list[Any] = []

    def flavors(self) -> list[Any]:
        """Return the flavors."""
        return list(self.found)

    def create_flavor(self, **options: Any) -> Any:
        """Keep a flavor."""
        self.found.append(SimpleNamespace(id=options["name"], **options))
        return self.found[-1]

    def delete_flavor(self, identifier: str) -> None:
        """Drop a flavor."""
        self.found = [one for one in self.found if one.id != identifier]

    def hypervisors(self, details: bool) -> list[Any]:
        """Return one."""
        assert details
        return [SimpleNamespace(hypervisor_type="QEMU")]

    def get_endpoint_data(self) -> Any:
        """Return microversions as keystoneauth has them."""
        return SimpleNamespace(min_microversion=(2, 1), max_microversion=(2, 103))


def connection() -> Any:
    catalog = [
        {"type": kind, "endpoints": [{"region_id": region} for region in regions]}
        for kind, regions in (
            ("image", ("RegionOne", "RegionTwo")),
            ("compute", ("RegionOne",)),
            ("volume", ("RegionTwo",)),
        )
    ]
    data = SimpleNamespace(service_catalog=SimpleNamespace(catalog=catalog))
    return SimpleNamespace(
        image=Glance(),
        compute=Nova(),
        placement=SimpleNamespace(
            get_endpoint_data=lambda: SimpleNamespace(min_microversion=(1,), max_microversion=(1, 39))
        ),
        network=Neutron(),
        current_project_id="p",
        session=SimpleNamespace(auth=SimpleNamespace(get_access=lambda _session: data)),
        config=SimpleNamespace(get_region_name=lambda: "RegionOne"),
    )


class ObjectStorage:
    """A cloud of Keystone and Swift alone; asking for another service is an error."""

    def __init__(self) -> None:
        """Begin with an account."""
        catalog = [{"type": kind, "endpoints": [{"region_id": "RegionOne"}]} for kind in ALONE]
        data = SimpleNamespace(service_catalog=SimpleNamespace(catalog=catalog))
        self.session = SimpleNamespace(auth=SimpleNamespace(get_access=lambda _session: data))
        login = {"auth_url": ACCESS.auth_url, "username": "admin", "password": "p", "project_name": "admin"}
        self.config = SimpleNamespace(
            get_region_name=lambda: "RegionOne",
            get_interface=lambda _service: "public",
            get_auth_args=lambda: login,
            get_requests_verify_args=lambda: (True, None),
        )
        kinds = ("users", "groups", "projects", "roles", "services", "domains")
        self.identity = SimpleNamespace(**dict.fromkeys(kinds, list))
        self.object_store = SimpleNamespace(get_endpoint=lambda: "https://192.0.2.11:8080/v1/AUTH_p", get=self.get)

    def close(self) -> None:
        """End."""

    @staticmethod
    def get(url: str) -> Any:
        """Answer as Swift does."""
        assert url == "https://192.0.2.11:8080/info"
        return SimpleNamespace(json=lambda: {"swift": {"version": "2.37.0"}, "slo": {}})


def test_a_cloud_of_object_storage_alone_is_asked_for_nothing_else(tmp_path: Path) -> None:
    cloud = ObjectStorage()
    types = tempest_cloud.service_types(cloud)
    assert types == ALONE
    assert tempest_cloud.network_features(cloud, types) == (set(), set())
    assert tempest_cloud.prepare(cloud, types, tmp_path / "none", SIZE, 60) == {}
    assert tempest_cloud.discover(cloud, types, {}) == tempest.Cloud(ALONE, object_capabilities=("slo", "swift"))
    assert tempest_cloud.remove(cloud, types) == []
    assert action.lasting(SimpleNamespace(cloud=cloud), types) == {}  # type: ignore[arg-type]


def test_a_cloud_that_does_not_answer_is_told() -> None:
    def refuse(_session: Any) -> Any:
        raise ConnectFailure("connection refused")

    cloud = ObjectStorage()
    cloud.session.auth.get_access = refuse
    with pytest.raises(TempestError, match=r"does not answer \(connection refused\); see why with playbooks/verify"):
        tempest_cloud.service_types(cloud)


TYPES = ("compute", "image", "network", "placement")
SIZE = {"vcpus": 1, "ram": 192, "disk": 1}


def test_what_is_made_for_tests_is_made_once_and_removed(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.touch()
    cloud = connection()
    made = tempest_cloud.prepare(cloud, TYPES, image, SIZE, 60)
    assert tempest_cloud.prepare(cloud, TYPES, image, SIZE, 60) == made
    assert made == {"image_alt": "brume-tempest-alt", "flavor": "brume-tempest", "flavor_alt": "brume-tempest-alt"}
    assert [(one.name, one.ram) for one in cloud.compute.found] == [("brume-tempest", 192), ("brume-tempest-alt", 256)]
    cloud.image.create_image("brume-test")
    cloud.compute.create_flavor(name="somebody's", ram=1)
    assert [one.name for one in cloud.network.pools] == ["brume-tempest"]
    assert tempest_cloud.remove(cloud, TYPES) == [
        "flavor brume-tempest", "flavor brume-tempest-alt", "image brume-tempest-alt", "subnet pool brume-tempest"
    ]  # fmt: skip
    assert [one.name for one in (*cloud.image.images(), *cloud.compute.flavors())] == ["brume-test", "somebody's"]


def test_a_default_pool_of_the_cloud_is_enough(tmp_path: Path) -> None:
    (tmp_path / "image").touch()
    cloud = connection()
    cloud.network.create_subnet_pool(name="own", is_default=True)
    tempest_cloud.prepare(cloud, TYPES, tmp_path / "image", SIZE, 60)
    tempest_cloud.remove(cloud, TYPES)
    assert [one.name for one in cloud.network.pools] == ["own"]


def test_without_the_image_file_nothing_is_made(tmp_path: Path) -> None:
    cloud = connection()
    with pytest.raises(TempestError, match=r"there is no file .*: make it with tools/guest_image.py"):
        tempest_cloud.prepare(cloud, TYPES, tmp_path / "none", SIZE, 60)
    assert cloud.compute.flavors() == []


def test_features_come_from_the_apis(tmp_path: Path) -> None:
    (tmp_path / "image").touch()
    cloud = connection()
    assert tempest_cloud.service_types(cloud) == ("compute", "image")
    assert tempest_cloud.network_features(cloud, TYPES) == (
        {"router", "auto-allocated-topology", "agent"}, {"neutron-l3-agent"}
    )  # fmt: skip
    objects = tempest_cloud.prepare(cloud, TYPES, tmp_path / "image", SIZE, 60)
    objects |= {"image": "i", "external_network": "e", "external_network_name": "external"}
    found = tempest_cloud.discover(cloud, TYPES, objects)
    assert found == tempest.Cloud(
        service_types=TYPES,
        compute_microversions=("2.1", "2.103"),
        placement_microversions=("1.0", "1.39"),
        hypervisor_types=("QEMU",),
        network_extensions=("agent", "auto-allocated-topology", "router"),
        disk_formats=("raw",),
        container_formats=("bare",),
        image_stores=("file",),
        image="i",
        image_alt="brume-tempest-alt",
        flavor="brume-tempest",
        flavor_alt="brume-tempest-alt",
        external_network="e",
        external_network_name="external",
    )
    cloud.network.ready = False
    found = tempest_cloud.discover(cloud, TYPES, objects)
    assert found.network_extensions == ("agent", "router")
    cloud.compute.hypervisors = lambda details: []
    with pytest.raises(TempestError, match="no hypervisor"):
        tempest_cloud.discover(cloud, TYPES, objects)


def cinder(**more: Any) -> Any:
    pool = {"volume_backend_name": "ceph", "storage_protocol": "ceph", "vendor_name": "Open Source"}
    services = [SimpleNamespace(binary=one) for one in ("cinder-volume", "cinder-backup")]
    types = [
        SimpleNamespace(name="ceph", extra_specs={}),
        SimpleNamespace(name="shared", extra_specs={"multiattach": "<is> True"}),
    ]
    found = {
        "backend_pools": lambda: [SimpleNamespace(capabilities=pool)],
        "types": lambda is_public: types if is_public == "None" else [],
        "services": lambda: services,
        "get_endpoint_data": lambda: SimpleNamespace(min_microversion=(3, 0), max_microversion=(3, 71)),
        **more,
    }
    return SimpleNamespace(block_storage=SimpleNamespace(**found))


def test_features_of_volumes_come_from_the_apis() -> None:
    types = ("block-storage",)
    assert tempest_cloud.discover(cinder(), types, {}) == tempest.Cloud(
        service_types=types,
        volume_microversions=("3.0", "3.71"),
        volume_pools=(RBD,),
        volume_backup=True,
        volume_type_multiattach="shared",
    )
    bare = tempest_cloud.discover(cinder(services=list, types=lambda is_public: []), types, {})
    assert (bare.volume_backup, bare.volume_type_multiattach) == (False, "")
    with pytest.raises(TempestError, match="no back end of Cinder has reported"):
        tempest_cloud.discover(cinder(backend_pools=list), types, {})


# the action


def test_workers_are_bounded_by_processors_and_four(monkeypatch: pytest.MonkeyPatch) -> None:
    for processors, number in ((1, 1), (2, 2), (16, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _process, n=processors: set(range(n)))
        assert action.workers(0) == number
    assert action.workers(7) == 7


def test_the_environment_is_named_after_its_lock() -> None:
    item = action.environment(ROOT, "2026.1", "/srv/cache")
    assert item.path == f"/srv/cache/tempest/2026.1-{item.digest}"
    with pytest.raises(TempestError, match=r"locks/1999.1.txt: is missing; make it with `make lock RELEASE=1999.1`"):
        action.environment(ROOT, "1999.1", "/srv/cache")


@pytest.mark.parametrize(("address", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_an_image_is_served_while_tests_run(address: str, url: str, tmp_path: Path) -> None:
    image = tmp_path / "guest.qcow2"
    image.write_bytes(b"image")
    with action.served(image, address, 0) as found:
        assert found.startswith(url)
        assert urllib.request.urlopen(found, timeout=10).read() == b"image"  # noqa: S310  # our own server
        port = int(found.rpartition(":")[2].partition("/")[0])
        with action.served(image, address, port) as second:
            assert second == ""
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(found, timeout=10)  # noqa: S310
    assert action.own_address(found) == address


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        action.alone(tmp_path),
        pytest.raises(TempestError, match="another run is using it"),
        action.alone(tmp_path),
    ):
        pass
    with action.alone(tmp_path):
        pass


def test_a_command_that_is_left_is_ended(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), action.started(["sleep", "5"], str(tmp_path), dict(os.environ)) as process:
        raise KeyboardInterrupt
    assert process.returncode == -15


def run_action(
    monkeypatch: pytest.MonkeyPatch, folder: Path, cloud: Any, check: bool, tests: str
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Run the action without Tempest; return its result, the lines it shows, and Tempest's arguments."""
    shown: list[str] = []
    given: list[str] = []
    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setitem(run._state, "plan", plan(committed("object"), sources.load()))
    monkeypatch.setattr(action, "connect", lambda _file, _cloud: cloud)
    monkeypatch.setattr(action, "build", lambda _plan, _wheelhouse: None)
    monkeypatch.setattr(action, "stestr_configuration", lambda _item: "")
    one = action.ActionModule.__new__(action.ActionModule)
    monkeypatch.setattr(one, "_run", lambda _item, _folder, chosen, *_more: given.extend(chosen.arguments()))
    monkeypatch.setattr(one, "_write_junit", lambda _item, _folder, junit: junit.write_text(JUNIT, "utf-8"))
    display = SimpleNamespace(display=lambda line, **_options: shown.append(line))
    monkeypatch.setattr(one, "_display", display, raising=False)
    arguments = {
        "clouds_file": "clouds.yaml", "cloud": "lab", "set": tests, "directory": str(folder / "tempest"),
        "junit": str(folder / "tempest.xml"), "environments": str(folder), "image_name": "guest",
        "image_path": str(folder / "none"), "flavor": SIZE, "external_network": "external",
        "physical_network": "external", "ssh_user": "root", "timeouts": {"image": 1, "build": 1, "ssh": 1},
    }  # fmt: skip
    monkeypatch.setattr(one, "_task", SimpleNamespace(args=arguments, check_mode=check), raising=False)
    return one.run(None, {}), shown, given


def test_a_cloud_of_object_storage_alone_is_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(action, "served")  # there is no Glance that could download an image
    result, _shown, given = run_action(monkeypatch, tmp_path, ObjectStorage(), check=False, tests="object_storage")
    assert result["msg"] == "object_storage: 1 passed, 2 failed, 1 skipped"
    assert (result["failed"], result["left_out"]) == (True, {})
    assert given == ["--regex", r"^tempest\.api\.object_storage\."]
    written = (tmp_path / "tempest/tempest.conf").read_text("utf-8")
    assert "discoverable_apis = slo,swift\n" in written
    assert "[compute]" not in written


@pytest.mark.parametrize("check", [True, False])
def test_what_is_left_out_is_said_before_a_run_and_with_its_result(
    check: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All that there is of Neutron here is what it says of itself."""
    cloud = ObjectStorage()
    monkeypatch.setattr(tempest_cloud, "network_features", lambda _cloud, _types: ({"router"}, {"neutron-l3-agent"}))
    result, shown, given = run_action(monkeypatch, tmp_path, cloud, check, "network")
    assert len(result["left_out"]) == 10
    lines = [f"left out: {name}" for name in result["left_out"]]
    (reason,) = set(result["left_out"].values())
    begin = shown.index(lines[0])
    assert shown[begin : begin + 11] == [*lines, f"    {reason}"]
    said = result["msg"] if check else " ".join(given)
    name = r"\.test_routers\.RoutersTest\.test_add_multiple_router_interfaces\["
    assert said.count("--exclude-regex") == said.count(name) == 1
    if not check:
        assert result["msg"].endswith(", 10 left out")
        assert not set(result["left_out"]) & {*result["failures"], *result["known_failures"]}
