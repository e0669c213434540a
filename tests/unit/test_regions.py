"""A second region in the Keystone of the first: planned, rendered, registered, withdrawn, or refused with a reason."""

from __future__ import annotations

import base64
import configparser
import copy
import datetime
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action import (
    cloud_credentials,
    host_certificates,
    keystone_bootstrap,
    keystone_catalog,
    keystone_keys,
)
from ansible_collections.brume.cloud.plugins.module_utils import catalog, certificates, plan_text, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, apply_actions, report
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import CA_FILE, ENDPOINTS_CA_FILE, Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import keystone_catalog as catalog_module

from .goldens import golden, golden_section, sections
from .inventories import AIO, inventory
from .playbooks import playbook
from .test_catalog import OWN, Keystone

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"
KEY_ONE, KEY_TWO = bytes(range(32)), bytes(range(32, 64))
CA_ONE, CA_TWO = certificates.authority(KEY_ONE), certificates.authority(KEY_TWO)
IDENTITY = {"internal": "https://10.121.10.11:5000/v3", "public": "https://one.example.org:5000/v3", "ca": CA_ONE.pem}
SERVICES = ["glance", "placement", "nova", "neutron"]
REGION = AIO | {"brume_services": SERVICES, "brume_region": "RegionTwo", "brume_external": {"identity": IDENTITY}}


def committed() -> Plan:
    """Return the plan of inventories/region_two, with what it looks up beside it."""
    folder = INVENTORIES / "region_two"
    variables = yaml.safe_load((folder / "group_vars/all.yml").read_text(encoding="utf-8"))
    del variables["brume_secrets"]
    variables["brume_external"]["identity"]["ca"] = CA_ONE.pem
    groups = yaml.safe_load((folder / "hosts.yml").read_text(encoding="utf-8"))
    return plan(inventory(variables, hosts=groups["control"]["hosts"]), sources.load())


def planned(**changes: Any) -> Plan:
    return plan(inventory(REGION | changes), sources.load())


def piece(found: Plan, vault: Vault) -> Slice:
    project = sources.load()
    return Slice(found, next(iter(found.hosts.values())), project, Renderer(found, project, vault.value), vault)


def arguments(action: Any, found: Plan, vault: Vault | None = None, **args: Any) -> dict[str, Any]:
    """Return what an action gives to its module."""
    given = vault or Vault(KEY_TWO, {"keystone/admin": "own-password"})
    result: dict[str, Any] = action.ActionModule.__new__(action.ActionModule).arguments(piece(found, given), args)
    return result


def trees(found: Plan) -> dict[str, configparser.RawConfigParser]:
    """Return the section-and-key files of the first host by path, parsed."""
    host = next(iter(found.hosts.values()))
    result = {}
    for one in Renderer(found, sources.load(), lambda name: f"<{name}>").files(host, list(found.cloud.services)):
        if one.layers:
            result[one.entry.path] = configparser.RawConfigParser(strict=False, default_section="\0")
            result[one.entry.path].read_string(one.text)
    return result


# --- plan and files -----------------------------------------------------------------------------------------------


def test_the_plan_of_a_second_region() -> None:
    golden("region_two.txt", "\n".join(plan_text.summary(committed())) + "\n")


def test_what_services_are_told_of_identity() -> None:
    """The sections that log in, verify or name a region."""
    lines = []
    for path, tree in trees(committed()).items():
        for section in tree.sections():
            if {"auth_url", "region_name", "cafile", "auth_ca_cert"} & set(tree[section]):
                lines += ["", f"#### {path} [{section}]", *(f"{key} = {text}" for key, text in tree[section].items())]
    golden("region_two-identity.txt", "\n".join(lines[1:]) + "\n")


def test_nothing_of_keystone_is_deployed() -> None:
    found = committed()
    assert "keystone" not in found.cloud.services
    assert not [one for one in found.cloud.frontends if one.name.startswith("keystone")]
    assert "keystone" not in {one.name for one in found.cloud.databases}
    for host in found.hosts.values():
        assert "keystone" not in {one.service for one in (*host.instances, *host.environments, *host.files)}
        assert "keystone" not in {one.name for one in host.users}
        assert not {5000, 15000} & {one.port for one in host.ports}


def test_whoever_logs_in_says_the_region_and_verifies_both_clouds() -> None:
    for path, tree in trees(planned()).items():
        for section in tree.sections():
            keys = dict(tree[section])
            if "auth_url" in keys:
                assert keys["auth_url"] == IDENTITY["internal"], f"{path} [{section}]"
                assert keys["username"].endswith("@RegionTwo")
                region = keys.get("region_name") or keys.get("os_region_name")  # as Nova calls it for Cinder
                assert (region or "RegionTwo" if section == "service_user" else region) == "RegionTwo"
            assert keys.get("www_authenticate_uri", IDENTITY["public"]) == IDENTITY["public"]
            assert {keys.get("cafile", ENDPOINTS_CA_FILE), keys.get("auth_ca_cert", ENDPOINTS_CA_FILE)} == {
                ENDPOINTS_CA_FILE
            }
    assert CA_FILE in trees(planned())["/etc/nova/nova.conf"]["api_database"]["connection"], "servers of its own"


def test_users_bear_their_region_in_every_generation() -> None:
    (nova,) = [one for one in planned(brume_secret_generations={"nova": 3}).cloud.logins if one.service == "nova"]
    assert (nova.name, nova.former) == ("nova_3@RegionTwo", ("nova@RegionTwo", "nova_2@RegionTwo"))


def test_the_first_region_is_what_it_was() -> None:
    found = plan(inventory(AIO), sources.load())
    assert {one.name for one in found.cloud.logins} == set(SERVICES)
    assert "shared" not in {key for key, value in arguments(keystone_catalog, found).items() if value}


def test_the_public_address_is_the_internal_one_unless_it_is_said() -> None:
    identity = {key: value for key, value in IDENTITY.items() if key != "public"}
    found = planned(brume_external={"identity": identity})
    assert {one.url for one in found.cloud.endpoints if one.service == "keystone"} == {IDENTITY["internal"]}


def test_an_ipv6_address_of_keystone_stays_one() -> None:
    url = "https://[2001:db8::5]:5000/v3"
    found = trees(planned(brume_external={"identity": IDENTITY | {"internal": url}}))
    assert found["/etc/nova/nova.conf"]["neutron"]["auth_url"] == url


def test_the_inventory_finds_the_lab_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "inventories/region_two"
    shutil.copytree(INVENTORIES / "region_two", folder)
    done = playbook(folder, "plan.yml")
    assert done.returncode != 0
    assert "brume_external: cannot be resolved" in done.stdout + done.stderr
    lab = tmp_path / ".lab/aio"
    lab.mkdir(parents=True)
    (lab / "ca.crt").write_text(CA_ONE.pem)
    (lab / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"lab": {"auth": {"password": "of-admin"}}}}))
    done = playbook(folder, "plan.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nova@RegionTwo" in done.stdout


def test_the_administrators_password_is_asked_for() -> None:
    variables = {"brume_master_key": base64.b64encode(KEY_TWO).decode(), "brume_secrets": {}}
    assert [str(one) for one in run.secret_problems(variables, planned())] == [
        "brume_secrets.keystone/admin: is missing, and Keystone is another cloud's; give the password of its user admin"
    ]
    variables["brume_secrets"] = {"keystone/admin": "any password"}  # type: ignore[assignment]
    assert run.secret_problems(variables, planned()) == []


# --- bad input ----------------------------------------------------------------------------------------------------

FILE = "bad-regions.txt"
LEAF = certificates.issue(
    CA_ONE,
    certificates.host_key(KEY_ONE, "aio"),
    "aio",
    ["aio"],
    datetime.datetime(2026, 5, 4, tzinfo=datetime.UTC),
)


def without(key: str) -> dict[str, Any]:
    return {"brume_external": {"identity": {name: value for name, value in IDENTITY.items() if name != key}}}


def but(**changes: Any) -> dict[str, Any]:
    return {"brume_external": {"identity": IDENTITY | changes}}


KINDS: dict[str, dict[str, Any]] = {
    "no address": without("internal"),
    "no authority": without("ca"),
    "nothing at all": {"brume_external": {"identity": {}}},
    "no mapping": {"brume_external": {"identity": IDENTITY["internal"]}},
    "unknown key": but(ca_file="/etc/ssl/one.pem"),
    "administrator": but(administrator="admin"),
    "address without TLS": but(internal="http://one.example.org:5000/v3"),
    "address without the version": but(internal="https://one.example.org:5000"),
    "address with an account": but(internal="https://admin:word@one.example.org:5000/v3"),
    "address that is a name": but(public="one.example.org"),
    "address with a port that is none": but(public="https://one.example.org:66000/v3"),
    "address that is a number": but(internal=5000),
    "address on loopback": but(internal="https://127.0.0.1:5000/v3"),
    "authority that is a path": but(ca="/etc/ssl/one.pem"),
    "authority that cannot be read": but(ca=CA_ONE.pem.replace("M", "N")),
    "authority that is none": but(ca=LEAF),
    "authority with its key": but(ca=CA_ONE.pem + certificates.authority_key(KEY_ONE)),
    "region that is not said": {"brume_region": None},
    "region with a long name": {"brume_region": "r" * 201},
    "keystone of its own too": {"brume_services": ["keystone", *SERVICES]},
    "options of keystone": {"brume_config": {"keystone": {"keystone.conf": {"DEFAULT": {"debug": True}}}}},
    "generation of the administrator": {"brume_secret_generations": {"keystone/admin": 2}},
    "external load balancer": {
        "brume_external": {"identity": IDENTITY, "loadbalancer": {"internal": "lb.example.org"}}
    },
}


def messages(kind: str) -> str:
    said = {key: value for key, value in (REGION | KINDS[kind]).items() if value is not None}
    gone: dict[str, list[str] | None] = dict.fromkeys(set(said["brume_external"]) - {"identity"})
    with pytest.raises(PlanError) as caught:
        plan(inventory(said, groups=gone), sources.load())
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_explained(kind: str) -> None:
    text = messages(kind)
    assert certificates.authority_key(KEY_ONE).splitlines()[1] not in text
    assert "admin:word" not in text
    golden_section(FILE, kind, text, KINDS)


def test_no_kind_is_left_over() -> None:
    assert list(sections(FILE)) == list(KINDS)


# --- the catalog --------------------------------------------------------------------------------------------------


def converge(keystone: Keystone, given: dict[str, Any]) -> list[str]:
    """Run twice, the first time after a dry run, and hold what was predicted against what was done."""
    desired, shared = copy.deepcopy(given), bool(given.get("shared"))

    def compare() -> list[Any]:
        actual = catalog.fetch(desired, keystone.request, keystone.authenticate, OWN)
        return catalog.compare(desired, actual, keystone.request, OWN, shared=shared)

    predicted = report(compare())
    actions = compare()
    apply_actions(actions)
    assert report(actions) == predicted
    assert compare() == [], "the second run changes"
    return [str(one) for one in actions]


def one_cloud() -> tuple[Keystone, dict[str, Any]]:
    """Return a Keystone with its first region, and what that region wants."""
    keystone = Keystone()
    networks = AIO["brume_networks"] | {"management": {"cidr": "10.121.10.0/24", "interface": "eth0"}}
    hosts = {"aio": {"brume_addresses": {"management": "10.121.10.11"}}}
    found = plan(inventory(AIO | {"brume_networks": networks}, hosts=hosts), sources.load())
    first = arguments(keystone_catalog, found, Vault(KEY_ONE))
    converge(keystone, first)
    return keystone, first


def everything(keystone: Keystone) -> dict[str, Any]:
    return copy.deepcopy({**keystone.records, "assignments": keystone.assignments, "passwords": keystone.passwords})


def is_kept(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Return whether everything that was there is as it was."""
    kept = all(
        after[kind].get(number) == record
        for kind, records in before.items()
        if kind != "assignments"
        for number, record in records.items()
    )
    return kept and before["assignments"] <= after["assignments"]


def test_a_second_region_is_added_and_nothing_of_the_first_is_touched() -> None:
    keystone, first = one_cloud()
    before = everything(keystone)
    done = converge(keystone, arguments(keystone_catalog, committed()))
    golden("region_two-catalog.txt", "\n".join(done) + "\n")
    assert is_kept(before, everything(keystone))
    assert converge(keystone, first) == [], "nor is the second by the first"


def test_rotation_in_one_region_leaves_the_other() -> None:
    keystone, first = one_cloud()
    converge(keystone, arguments(keystone_catalog, planned()))
    before = everything(keystone)
    raised = planned(brume_secret_generations={"nova": 2})
    vault = Vault(KEY_TWO, {"keystone/admin": "own-password"}, raised.cloud.generations)
    assert "create user Default/nova_2@RegionTwo" in converge(keystone, arguments(keystone_catalog, raised, vault))
    assert is_kept(before, everything(keystone))
    retired = arguments(keystone_catalog, raised, vault, retire=True)
    assert converge(keystone, retired) == ["delete user Default/nova@RegionTwo"]
    assert converge(keystone, first) == []


def test_what_regions_have_in_common_is_not_changed() -> None:
    keystone, _first = one_cloud()
    for plural in ("services", "projects"):
        for record in keystone.records[plural].values():
            record |= {"description": "of the first region", "enabled": False}
    before = everything(keystone)
    converge(keystone, arguments(keystone_catalog, planned()))
    assert is_kept(before, everything(keystone))


def test_what_only_the_second_region_has_is_made() -> None:
    keystone, _first = one_cloud()
    given = arguments(keystone_catalog, planned())
    given["services"].append({"name": "swift", "type": "object-store", "description": "Objects"})
    assert "create service swift" in converge(keystone, given)


SAME_NAME = (
    "leads to 10.121.10.11 in the Keystone that is shared, and this cloud's to 192.0.2.11; give the region another"
)


@pytest.mark.parametrize("withdraw", [False, True])
def test_a_region_that_another_cloud_has_is_not_taken_over(withdraw: bool) -> None:
    keystone, _first = one_cloud()
    before = everything(keystone)
    given = arguments(keystone_catalog, planned(brume_region="RegionOne"), withdraw=withdraw)
    with pytest.raises(ConvergenceError) as caught:
        converge(keystone, given)
    lines = str(caught.value).splitlines()
    assert len([line for line in lines if SAME_NAME in line]) == 2 * len(SERVICES)
    assert lines[0].startswith("endpoint keystone public RegionOne: leads to 10.121.10.11"), "another address of it"
    assert everything(keystone) == before


def test_a_region_that_has_moved_is_registered_when_its_old_endpoints_are_deleted() -> None:
    keystone, _first = one_cloud()
    converge(keystone, arguments(keystone_catalog, committed()))
    with pytest.raises(ConvergenceError, match=r"delete the endpoint e-\d+ first"):
        converge(keystone, arguments(keystone_catalog, planned()))
    keystone.records["endpoints"] = {
        number: one for number, one in keystone.records["endpoints"].items() if one["region_id"] != "RegionTwo"
    }
    done = converge(keystone, arguments(keystone_catalog, planned()))
    assert done and {one.split()[1] for one in done} == {"endpoint"}


def test_a_path_may_change() -> None:
    keystone, _first = one_cloud()
    given = arguments(keystone_catalog, planned())
    converge(keystone, given)
    for one in given["endpoints"]:
        one["url"] += "/v9" if one["service"] == "nova" else ""
    assert converge(keystone, given) == [
        f"update endpoint nova {one} RegionTwo (url)" for one in ("public", "internal")
    ]


def test_a_region_is_withdrawn_without_a_trace() -> None:
    keystone, first = one_cloud()
    before = everything(keystone)
    raised = planned(brume_secret_generations={"nova": 2})
    for found in (planned(), raised):
        vault = Vault(KEY_TWO, {"keystone/admin": "own-password"}, found.cloud.generations)
        converge(keystone, arguments(keystone_catalog, found, vault))
    done = converge(keystone, arguments(keystone_catalog, raised, vault, withdraw=True))
    assert done[-1] == "delete region RegionTwo"
    after = everything(keystone)
    for kind in ("regions", "users", "services", "endpoints", "projects"):
        assert after[kind] == before[kind], kind
    assert converge(keystone, first) == []


def test_a_cloud_with_a_keystone_of_its_own_is_not_withdrawn() -> None:
    with pytest.raises(PlanError, match=r"Keystone is this cloud's own"):
        arguments(keystone_catalog, plan(inventory(AIO), sources.load()), withdraw=True)


@pytest.mark.parametrize("action", [keystone_bootstrap, keystone_keys])
def test_what_is_the_other_clouds_is_left_to_it(action: Any) -> None:
    with pytest.raises(PlanError, match=r"do this with the inventory of that cloud"):
        arguments(action, planned())


def test_the_module_runs_with_an_environment_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    action = keystone_catalog.ActionModule.__new__(keystone_catalog.ActionModule)
    monkeypatch.setattr(action, "environment_python", lambda _piece, service: asked.append(service) or {})
    for found in (planned(), plan(inventory(AIO), sources.load())):
        action.task_variables(piece(found, Vault(KEY_TWO)))
    assert asked == ["glance", "keystone"]


def test_a_dry_run_on_a_bare_host_predicts_the_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    keystone, _first = one_cloud()
    given = arguments(keystone_catalog, committed())
    ran = converge(keystone, given)
    assert catalog_module._unasked(given)["actions"] == ran


# --- trust --------------------------------------------------------------------------------------------------------


def test_hosts_trust_the_other_cloud_for_endpoints_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_certificates.ActionModule, "_read", lambda _self, *paths: ["" for _path in paths])
    given = arguments(host_certificates, planned())
    texts = {one["path"]: one for one in given["files"]}
    assert texts[ENDPOINTS_CA_FILE]["content"] == CA_TWO.pem + CA_ONE.pem
    assert texts[ENDPOINTS_CA_FILE]["mode"] == "0644"
    assert [path for path, one in texts.items() if CA_ONE.pem in one.get("content", "")] == [ENDPOINTS_CA_FILE]
    own = arguments(host_certificates, plan(inventory(AIO), sources.load()))
    assert ENDPOINTS_CA_FILE not in {one["path"] for one in own["files"]}


def test_clients_of_the_deploy_host_trust_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Task:
        args = {"path": str(tmp_path / "clouds.yaml"), "cloud": "lab"}  # noqa: RUF012
        check_mode = False

    action = cloud_credentials.ActionModule.__new__(cloud_credentials.ActionModule)
    action._task = Task()
    vault = Vault(KEY_TWO, {"keystone/admin": "of-admin"})
    monkeypatch.setattr(action, "slice", lambda _variables: piece(planned(), vault))
    assert action.run()["changed"]
    assert (tmp_path / "ca.crt").read_text() == CA_TWO.pem + CA_ONE.pem
    (cloud,) = yaml.safe_load((tmp_path / "clouds.yaml").read_text())["clouds"].values()
    assert (cloud["region_name"], cloud["auth"]["password"]) == ("RegionTwo", "of-admin")
    assert cloud["auth"]["auth_url"] == IDENTITY["public"]
    assert cloud["cacert"] == str(tmp_path / "ca.crt")
    assert not action.run()["changed"]


def _serve(listening: socket.socket, pem: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    connection, _address = listening.accept()
    try:
        context.wrap_socket(connection, server_side=True).close()
    except OSError:  # the client did not like the certificate
        connection.close()


@pytest.fixture
def shakes_hands(tmp_path: Path) -> Callable[[bytes, str], bool]:
    """Return what tells whether a server of a cloud with a master key is trusted by some authorities."""

    def tried(key: bytes, authorities: str) -> bool:
        own = certificates.host_key(key, "host")
        now = datetime.datetime.now(datetime.UTC)
        pem = tmp_path / "host.pem"
        pem.write_text(certificates.issue(certificates.authority(key), own, "host", ["127.0.0.1"], now) + own)
        context = ssl.create_default_context(cadata=authorities)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=_serve, args=(listening, pem))
            thread.start()
            try:
                with socket.create_connection(listening.getsockname(), timeout=10) as plain:
                    context.wrap_socket(plain, server_hostname="127.0.0.1").close()
            except ssl.SSLCertVerificationError:
                return False
            finally:
                thread.join(10)
        return True

    return tried


@pytest.mark.parametrize("order", [(CA_ONE, CA_TWO), (CA_TWO, CA_ONE)])
def test_authorities_of_one_name_can_be_trusted_together(
    order: tuple[certificates.Authority, ...], shakes_hands: Callable[[bytes, str], bool]
) -> None:
    """Every cloud's first authority has the same subject: clients tell them apart by the key's identifier."""
    both = "".join(one.pem for one in order)
    assert CA_ONE.certificate.subject == CA_TWO.certificate.subject
    assert shakes_hands(KEY_ONE, both) and shakes_hands(KEY_TWO, both)
    assert not shakes_hands(KEY_ONE, CA_TWO.pem)
