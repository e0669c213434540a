"""The operator's certificate for the public endpoints: read and refused, shown by HAProxy, trusted by clients."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action import cloud_credentials, host_certificates, unit_rollout
from ansible_collections.brume.cloud.plugins.action import plan as plan_action
from ansible_collections.brume.cloud.plugins.module_utils import (
    certificates,
    file_state,
    public_certificate,
    run,
    secret_exposure,
    sources,
    tls_trials,
)
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.public_certificate import (
    AUTHORITIES,
    CERTIFICATE,
    KEY_SECRET,
    LIST_FILE,
    PEM_FILE,
)
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import SecretError, Vault
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .goldens import golden, golden_section, sections
from .inventories import AIO, IPV6, committed, inventory

NOW = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
MASTER_KEY = bytes(range(32))
VIP, NAME = "10.123.30.10", "cloud.example.org"
HOSTS_OWN = "/etc/brume/tls/host.pem"


@cache
def key_of(name: str) -> Any:
    """Return a key by its name; the beginning says its kind."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(65537, int(name[3:7]))
    if name.startswith("ed25519"):
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP192R1() if name.startswith("p192") else ec.SECP256R1())


def made(
    subject: str,
    issuer: str = "Root",
    names: tuple[str, ...] = (),
    key: str = "",
    begin: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + 365 * DAY,
    usage: x509.ObjectIdentifier | None = None,
    is_authority: bool = False,
) -> str:
    """Return a certificate as PEM text; keys go by the name of who has them."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key_of(key or subject).public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(certificates.names_of(names)), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return certificates.pem_of([builder.sign(key_of(issuer), hashes.SHA256())])


def key(name: str, passphrase: bytes = b"") -> str:
    """Return a key as PEM text, in another form than the one on hosts where there is one, or encrypted."""
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    plain = passphrase or name.startswith("ed25519")
    form = serialization.PrivateFormat.PKCS8 if plain else serialization.PrivateFormat.TraditionalOpenSSL
    text: bytes = key_of(name).private_bytes(serialization.Encoding.PEM, form, encryption)
    return text.decode()


ROOT = made("Root", is_authority=True)
MIDDLE = made("Middle", is_authority=True)
SERVER = made("server", "Middle", (VIP, "*.example.org"), usage=ExtendedKeyUsageOID.SERVER_AUTH)
CHAIN = SERVER + MIDDLE
GIVEN = {CERTIFICATE: CHAIN, AUTHORITIES: ROOT}
NETWORKS = AIO["brume_networks"]
SHARED = {"brume_networks": NETWORKS | {"management": NETWORKS["management"] | {"fqdn": NAME}}}


def ha(variables: Mapping[str, Any]) -> Plan:
    """Return the plan of inventories/ha with some more variables."""
    found = committed("ha")
    more = Layer("all", variables, dict.fromkeys(variables, "group_vars/all.yml"))
    hosts = {name: (layers[0], more, *layers[1:]) for name, layers in found.hosts.items()}
    return plan(Inventory(hosts, found.groups), sources.load())


def aio(variables: Mapping[str, Any] = GIVEN) -> Plan:
    """Return the plan of a cloud on one host, where all endpoints share its address."""
    return plan(inventory(AIO | SHARED | variables), sources.load())


def files(found: Plan, host: str) -> dict[str, str]:
    renderer = Renderer(found, sources.load(), lambda name: f"<{name}>")
    one = found.hosts[host]
    return {item.entry.path: item.text for item in renderer.files(one, list(found.services))}


def binds(found: Plan, host: str) -> list[str]:
    lines = files(found, host)["/etc/haproxy/haproxy.cfg"].splitlines()
    return [line.strip() for line in lines if line.strip().startswith("bind ")]


def piece(found: Plan, host: str, secrets: Mapping[str, str] | None = None) -> Slice:
    given = {KEY_SECRET: key("server")} if secrets is None else secrets
    vault = Vault(MASTER_KEY, {"keystone/admin": "of-admin", **given})
    return Slice(found, found.hosts[host], sources.load(), Renderer(found, sources.load(), vault.value), vault)


# --- mistakes -----------------------------------------------------------------------------------------------------

FILE = "bad-public-certificate.txt"
LOADBALANCER = {"brume_external": {"loadbalancer": {"internal": "lb.example.org"}}}
IDENTITY = {"internal": "https://one.example.org:5000/v3", "ca": ROOT}
OTHERS_KEYSTONE = {
    "brume_external": {"identity": IDENTITY},
    "brume_region": "RegionTwo",
    "brume_services": ["glance", "placement", "nova", "neutron"],
}
KINDS: dict[str, dict[str, Any]] = {
    "no PEM": {CERTIFICATE: "/etc/ssl/public.crt"},
    "no text": {CERTIFICATE: ["a.pem"]},
    "a list that holds a key": {CERTIFICATE: [key("server")]},
    "PEM that cannot be read": {CERTIFICATE: CHAIN.replace("M", "N")},
    "key beside the certificate": {CERTIFICATE: SERVER + key("server")},
    "key as authority": {CERTIFICATE: CHAIN, AUTHORITIES: key("server")},
    "authorities alone": {AUTHORITIES: ROOT},
    "chain in the wrong order": {CERTIFICATE: MIDDLE + SERVER, AUTHORITIES: ROOT},
    "chain with a gap": {CERTIFICATE: made("server", "Inner", (VIP,)) + MIDDLE, AUTHORITIES: ROOT},
    "chain of another with the same name": {CERTIFICATE: SERVER + made("Middle", key="other", is_authority=True)},
    "chain through no authority": {CERTIFICATE: SERVER + made("Middle")},
    "authority that is none": {CERTIFICATE: CHAIN, AUTHORITIES: ROOT + SERVER},
    "issuer that is not there": {CERTIFICATE: SERVER, AUTHORITIES: ROOT},
    "root that is not there": {CERTIFICATE: CHAIN, AUTHORITIES: MIDDLE},
    "signed by itself": {CERTIFICATE: made("server", "server", (VIP,))},
    "another address": {CERTIFICATE: made("server", "Middle", ("10.123.30.11", NAME)) + MIDDLE},
    "no name at all": {CERTIFICATE: made(VIP, "Middle") + MIDDLE},
    "weak RSA": {CERTIFICATE: made("server", "Middle", (VIP,), key="rsa1024") + MIDDLE},
    "weak ECDSA": {CERTIFICATE: made("server", "Middle", (VIP,), key="p192") + MIDDLE},
    "neither RSA nor ECDSA": {CERTIFICATE: made("server", "Middle", (VIP,), key="ed25519") + MIDDLE},
    "for clients only": {CERTIFICATE: made("server", "Root", (VIP,), usage=ExtendedKeyUsageOID.CLIENT_AUTH)},
    "several at once": {CERTIFICATE: made("server", "Middle", ("other.org",), key="rsa1024") + ROOT, AUTHORITIES: "x"},
}


def message(variables: Mapping[str, Any]) -> str:
    with pytest.raises(PlanError) as caught:
        ha(variables)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_explained(kind: str) -> None:
    text = message(KINDS[kind])
    assert not any(line in text for line in key("server").splitlines()[1:-1])
    golden_section(FILE, kind, text, KINDS)


def test_no_kind_is_left_over() -> None:
    assert list(sections(FILE)) == list(KINDS)


def test_a_weak_signature_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """No SHA-1 signature can be made here, so SHA-256 is the weak one."""
    monkeypatch.setattr(public_certificate, "WEAK_HASHES", (hashes.SHA256,))
    _given, mistakes = public_certificate.read(GIVEN)
    # Nobody reads that of a root.
    weak = [f"the signature of CN={name} is weak: SHA256" for name in ("server", "Middle")]
    assert [one[1] for one in mistakes] == weak


def test_with_an_external_load_balancer_it_is_refused() -> None:
    with pytest.raises(PlanError, match=rf"{CERTIFICATE}: is given, and the load balancer is external; give the"):
        plan(inventory(AIO | GIVEN | LOADBALANCER, groups={"loadbalancer": None}), sources.load())


def test_beside_another_clouds_keystone_its_authorities_are_needed() -> None:
    said = AIO | SHARED | OTHERS_KEYSTONE
    with pytest.raises(PlanError, match=rf"{AUTHORITIES}: is missing, and brume_external.identity has authorities"):
        plan(inventory(said | {CERTIFICATE: CHAIN}), sources.load())
    assert plan(inventory(said | GIVEN), sources.load()).cloud.public_certificate


def test_at_the_address_of_internal_endpoints_it_needs_a_name() -> None:
    with pytest.raises(PlanError, match=r"is for the address 192.0.2.11, at which the internal endpoints are too; "):
        plan(inventory(AIO | GIVEN), sources.load())


def test_a_name_of_the_api_network_is_covered_rather_than_its_vip() -> None:
    addresses = {name: f"2001:db8:{number}::11" for number, name in enumerate(("management", "tunnel", "api"), start=1)}
    hosts = {"one": {"brume_addresses": addresses}}
    found = plan(inventory(IPV6 | GIVEN, hosts=hosts), sources.load()).cloud
    assert (found.public_host, found.public_certificate) == (NAME, public_certificate.PublicCertificate(CHAIN, ROOT))
    with pytest.raises(PlanError, match=rf"does not cover {NAME}, where the public endpoints are; it has "):
        given = {CERTIFICATE: made("server", "Middle", ("2001:db8:3::5", "a.cloud.example.org")) + MIDDLE}
        plan(inventory(IPV6 | given, hosts=hosts), sources.load())


@pytest.mark.parametrize(
    ("names", "host", "covered"),
    [
        (("cloud.example.org",), "Cloud.Example.org", True),
        (("*.example.org",), "cloud.example.org", True),
        (("*.example.org",), "a.cloud.example.org", False),
        (("*.example.org",), "example.org", False),
        (("192.0.2.5",), "192.0.2.5", True),
        (("2001:db8::5",), "2001:0db8::5", True),
        (("192.0.2.6",), "192.0.2.5", False),
        ((), "server", False),
    ],
)
def test_what_a_certificate_covers(names: tuple[str, ...], host: str, covered: bool) -> None:
    (one,) = certificates.certificates_in(made("server", names=names))
    assert public_certificate._covers(one, host) is covered


def test_any_way_to_a_root_will_do() -> None:
    """An authority that another one signed, as new roots begin: clients have the new root, the old one, or both."""
    crossed = made("Middle", "Old", is_authority=True)
    old = made("Old", "Old", is_authority=True)
    new = made("Middle", "Middle", is_authority=True)
    for authorities in (old, new, old + new):
        assert public_certificate.read({CERTIFICATE: SERVER + crossed, AUTHORITIES: authorities})[1] == []
    looped = made("Old", "Middle", is_authority=True)
    (mistake,) = public_certificate.read({CERTIFICATE: SERVER, AUTHORITIES: crossed + looped})[1]
    assert mistake[1].startswith("does not hold the issuer of"), "two that signed each other are no root"


KEYS: dict[str, tuple[Any, str]] = {
    "good": (key("server"), ""),
    "missing": (None, f"is missing, and {CERTIFICATE} is given"),
    "no text": (7, "is no text"),
    "path": ("/etc/ssl/public.key", "is no PEM text of a private key"),
    "certificate": (CHAIN, "is no PEM text of a private key"),
    "broken": (key("server").replace("M", "N"), "is no PEM text of a private key"),
    "encrypted": (key("server", b"passphrase"), "is encrypted with a passphrase of its own"),
    "another's": (key("other"), "does not belong to the certificate of CN=server"),
    "of an unknown kind": (key("ed25519"), "is neither RSA nor ECDSA"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_what_is_wrong_with_the_key(kind: str) -> None:
    secret, expected = KEYS[kind]
    given = public_certificate.read(GIVEN)[0]
    problems = public_certificate.key_problems(given, {} if secret is None else {KEY_SECRET: secret})
    assert [one.message for one in problems] == ([expected] if expected else [])
    assert all(one.where == f"brume_secrets.{KEY_SECRET}" and one.remedy for one in problems)
    assert not any(line in str(one) for one in problems for line in str(secret).splitlines()[1:-1])


def test_a_key_without_a_certificate_is_a_mistake() -> None:
    (problem,) = public_certificate.key_problems(None, {KEY_SECRET: key("server")})
    assert str(problem) == f"brume_secrets.{KEY_SECRET}: is given without {CERTIFICATE}; give both, or neither"
    assert public_certificate.key_problems(None, {}) == public_certificate.key_problems(None, ["no mapping"]) == []


def test_the_key_needs_no_quoting_but_its_name_is_checked() -> None:
    secrets = {KEY_SECRET: key("server"), "loadbalancer/public_certificate": "misspelled"}
    master_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    (problem,) = run.secret_problems({"brume_master_key": master_key, "brume_secrets": secrets}, ha(GIVEN))
    assert str(problem).endswith(f"is no secret of this cloud; is {KEY_SECRET} meant?")


@pytest.mark.parametrize(
    ("now", "errors", "warnings"),
    [
        (NOW, [], []),
        (NOW - 2 * DAY, ["is valid from 2026-11-25 12:00 UTC on only"] * 3, []),
        (NOW + 335 * DAY, [], []),
        (NOW + 336 * DAY, [], ["ends on 2027-11-26"] * 3),
        (NOW + 365 * DAY, ["has ended on 2027-11-26"] * 3, []),
    ],
)
def test_when_it_is_valid(now: datetime.datetime, errors: list[str], warnings: list[str]) -> None:
    given = public_certificate.read(GIVEN)[0]
    assert given is not None
    problems, warned = public_certificate.time_problems(given, now)
    names = [f"{CERTIFICATE}: CN=server", f"{CERTIFICATE}: CN=Middle", f"{AUTHORITIES}: CN=Root"]
    assert [str(one).partition(";")[0] for one in problems] == [f"{n} {e}" for n, e in zip(names, errors, strict=False)]
    assert [one.partition(";")[0] for one in warned] == [f"{n} {w}" for n, w in zip(names, warnings, strict=False)]


def checked(found: Plan | PlanError, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the first task of every playbook says of an inventory."""

    def current(_variables: Any) -> Plan:
        if isinstance(found, PlanError):
            raise found
        return found

    monkeypatch.setattr(run, "current", current)
    action = plan_action.ActionModule.__new__(plan_action.ActionModule)
    action._task = SimpleNamespace(args={})
    action._templar = SimpleNamespace(template=lambda value: value)
    shown: list[str] = []
    action._display = SimpleNamespace(warning=shown.append)
    try:
        action._checked({"brume_master_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", **variables})
    except PlanError as error:
        return [str(one) for one in error.problems]
    return shown


def test_the_first_task_finds_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and dates beside what the plan finds, and also where there is no plan."""
    ended = made("server", "Middle", (VIP,), begin=NOW - 900 * DAY, end=NOW - 700 * DAY) + MIDDLE
    secrets = {"brume_secrets": {KEY_SECRET: key("other")}}
    expected = [f"{CERTIFICATE}: CN=server has ended", f"brume_secrets.{KEY_SECRET}: does not belong to"]
    texts = checked(ha({CERTIFICATE: ended}), secrets, monkeypatch)
    assert [text.startswith(one) for text, one in zip(texts, expected, strict=True)] == [True, True]
    with pytest.raises(PlanError) as caught:
        ha({CERTIFICATE: ended, "brume_relase": "x"})
    texts = checked(caught.value, {CERTIFICATE: ended, **secrets}, monkeypatch)
    assert [text.startswith(one) for text, one in zip(texts[-2:], expected, strict=True)] == [True, True]
    assert "brume_relase" in texts[0]


def test_what_ends_soon_is_a_warning_of_the_first_task(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ending = {CERTIFICATE: made("server", "Middle", (VIP,), begin=now - DAY, end=now + 29 * DAY) + MIDDLE}
    texts = checked(ha(ending), {"brume_secrets": {KEY_SECRET: key("server")}}, monkeypatch)
    (text,) = [one for one in texts if one.startswith(CERTIFICATE)]
    assert "CN=server ends on" in text and "run site.yml" in text


# --- what is done with it -----------------------------------------------------------------------------------------


def test_only_public_addresses_show_it() -> None:
    golden("ha-public-certificate.txt", "\n".join(binds(ha(GIVEN), "controller1")) + "\n")


@pytest.mark.parametrize("host", ["controller1", "network1", "compute1"])
def test_nothing_else_changes(host: str) -> None:
    before, after = files(ha({}), host), files(ha(GIVEN), host)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == ({"/etc/haproxy/haproxy.cfg"} if host == "controller1" else set())


def test_at_a_shared_address_it_goes_to_who_asks_by_name() -> None:
    found = aio()
    assert found.cloud.public_certificate == public_certificate.PublicCertificate(CHAIN, ROOT, NAME)
    options = {line.partition(":")[2].partition(" alpn")[0] for line in binds(found, "aio")}
    assert {f"5000 ssl crt-list {LIST_FILE}", f"6080 ssl crt-list {LIST_FILE}"} <= options
    assert [one for one in options if "crt-list" not in one] == [f"8775 ssl crt {HOSTS_OWN}"], "metadata is internal"
    texts = {one["path"]: one.get("content") for one in written(found, "aio")["files"]}
    assert texts[LIST_FILE] == f"{HOSTS_OWN} !*\n{PEM_FILE} {NAME}\n"


def written(found: Plan, host: str, secrets: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the arguments with which the host gets its certificates; it has none yet."""
    action = host_certificates.ActionModule.__new__(host_certificates.ActionModule)
    action._read = lambda *paths: ["" for _path in paths]
    result = action.arguments(piece(found, host, secrets), {})
    assert result is not None
    return result


def test_load_balancers_alone_have_the_key_and_root_alone_reads_it() -> None:
    found = ha(GIVEN)
    for host in found.hosts:
        listed = {one["path"]: one for one in written(found, host)["files"]}
        assert listed[LIST_FILE] == {"path": LIST_FILE, "state": "absent"}
        if host.startswith("controller"):
            text = CHAIN + certificates.key_text(key_of("server"))
            assert listed[PEM_FILE] == {"path": PEM_FILE, "content": text, "mode": "0600"}
        else:
            assert listed[PEM_FILE] == {"path": PEM_FILE, "state": "absent"}
        assert [path for path, one in listed.items() if "CN=server" in str(one) or ROOT in str(one)] == []


def test_without_a_certificate_there_is_no_file() -> None:
    before = {one["path"]: one for one in written(ha({}), "controller1", {})["files"]}
    assert before[PEM_FILE]["state"] == before[LIST_FILE]["state"] == "absent"
    with_it = {one["path"]: one for one in written(ha(GIVEN), "controller1")["files"]}
    assert {path for path in with_it if with_it[path] != before[path]} == {PEM_FILE}


def test_a_key_that_nobody_checked_is_not_made_up() -> None:
    with pytest.raises(SecretError, match=r"is no text; see playbooks/plan.yml"):
        written(ha(GIVEN), "controller1", {})


def test_the_diff_of_a_renewal_shows_certificates_and_no_key() -> None:
    renewed = {CERTIFICATE: made("server", "Middle", (VIP,), key="next") + MIDDLE, AUTHORITIES: ROOT}
    old, new = written(ha(GIVEN), "controller1"), written(ha(renewed), "controller1", {KEY_SECRET: key("next")})
    there = {one["path"]: one.get("content", "") for one in old["files"]}[PEM_FILE]
    wanted = file_state.parse([one for one in new["files"] if one["path"] == PEM_FILE], [], [])
    (change,) = file_state.compare(wanted, lambda path: file_state.Entry(path, "file", there, mode=0o600))
    diff = file_state.shown(change, new["redactions"])
    assert change.action == f"change file {PEM_FILE}"
    assert diff["before"].count("<another secret>") == 1, "the key's, which is another one"
    assert SERVER.splitlines()[3] in diff["before"] and renewed[CERTIFICATE].splitlines()[3] in diff["after"]
    for name in ("server", "next"):
        secret = certificates.key_text(key_of(name)).splitlines()[1:-1]
        assert not any(line in text for line in secret for text in diff.values())


def test_a_renewal_is_taken_up_by_a_reload() -> None:
    def units(found: Plan, host: str) -> dict[str, Any]:
        action = unit_rollout.ActionModule.__new__(unit_rollout.ActionModule)
        result = action.arguments(piece(found, host), {"wave": "infrastructure"})
        return {one["name"]: one for one in result["units"]} if result else {}

    found = units(ha(GIVEN), "controller1")
    assert {name for name, one in found.items() if PEM_FILE in one.get("files", ())} == {"haproxy.service"}
    assert found["haproxy.service"]["on_change"] == "reload"
    assert not any(PEM_FILE in one.get("files", ()) for one in units(ha({}), "controller1").values())
    # Where HAProxy only takes TLS off before the APIs of its host.
    hosts = {name: {"brume_addresses": {"management": f"192.0.2.1{name[-1]}"}} for name in ("one1", "two2")}
    groups = {"loadbalancer": ["one1"]}
    said = AIO | SHARED | GIVEN | {"openvswitch_datapath_type": "system"}
    apart = plan(inventory(said, hosts=hosts, groups=groups), sources.load())
    shown = {host: PEM_FILE in units(apart, host)["haproxy.service"]["files"] for host in hosts}
    assert shown == {"one1": True, "two2": False}


# --- clients ------------------------------------------------------------------------------------------------------


def credentials(
    found: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, **args: Any
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Return clouds.yaml's entry and ca.crt, and what the action said."""
    action = cloud_credentials.ActionModule.__new__(cloud_credentials.ActionModule)
    action._task = SimpleNamespace(args={"path": str(folder / "clouds.yaml"), **args}, check_mode=False)
    vault = Vault(MASTER_KEY, {"keystone/admin": "of-admin"}, {"ca": args.pop("generation", 1)})
    host = next(iter(found.hosts.values()))
    one = Slice(found, host, sources.load(), Renderer(found, sources.load(), vault.value), vault)
    monkeypatch.setattr(action, "slice", lambda _variables: one)
    result = action.run()
    (cloud,) = yaml.safe_load((folder / "clouds.yaml").read_text())["clouds"].values()
    return cloud, (folder / "ca.crt").read_text(), result


def test_clients_trust_the_given_authorities_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [certificates.authority(MASTER_KEY, number).pem for number in (1, 2)]
    cloud, text, _result = credentials(ha(GIVEN), tmp_path, monkeypatch)
    assert (cloud["cacert"], text) == (str(tmp_path / "ca.crt"), own[0] + ROOT)
    assert not credentials(ha(GIVEN), tmp_path, monkeypatch)[2]["changed"]
    # As rotate.yml does it.
    for args, expected in (({"overlap": True}, own[1] + own[0]), ({}, own[1] + own[0]), ({"retire": True}, own[1])):
        assert credentials(ha(GIVEN), tmp_path, monkeypatch, generation=2, **args)[1] == expected + ROOT


def test_clients_use_what_they_trust_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, text, _result = credentials(ha({CERTIFICATE: CHAIN}), tmp_path, monkeypatch)
    assert "cacert" not in cloud
    assert text == certificates.authority(MASTER_KEY).pem, "by which internal endpoints are verified still"
    assert credentials(ha({}), tmp_path, monkeypatch)[0]["cacert"] == str(tmp_path / "ca.crt")


def test_public_endpoints_are_tried_with_their_own_authorities() -> None:
    for given, expected in ((GIVEN, ROOT), ({CERTIFICATE: CHAIN}, "")):
        for name, one in tls_trials.endpoints(ha(given).cloud).items():
            assert one.get("authorities") == (expected if name.endswith("-public") else None), name
    assert not any("authorities" in one for one in tls_trials.endpoints(ha({}).cloud).values())


def test_whose_authorities_a_trial_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    def handshake(_endpoint: Any, ca_file: str, *_more: str) -> tuple[int, str]:
        return 0, Path(ca_file).read_text() if ca_file.startswith("/tmp") else ca_file

    monkeypatch.setattr(tls_trials, "handshake", handshake)
    endpoint = {"host": "192.0.2.5", "port": 1, "protocol": "mysql"}
    given = {"own": {}, "theirs": {"authorities": ROOT}, "system": {"authorities": ""}}
    tried = tls_trials.trial({name: endpoint | more for name, more in given.items()}, "/etc/brume/ca.crt", [])
    said = {name: one["said"] for name, one in tried["endpoints"].items()}
    assert said == {"own": "/etc/brume/ca.crt", "theirs": ROOT, "system": tls_trials.SYSTEM}


@pytest.mark.parametrize("kind", ["server", "rsa2048"])
def test_openssl_takes_the_file_and_clients_verify_it(tmp_path: Path, kind: str) -> None:
    """By the name at the given authorities alone, through the chain in the file."""
    now = datetime.datetime.now(datetime.UTC)
    span = {"begin": now - DAY, "end": now + 365 * DAY}
    middle, root = (made(name, is_authority=True, **span) for name in ("Middle", "Root"))
    given = {CERTIFICATE: made("server", "Middle", (VIP, NAME), key=kind, **span) + middle, AUTHORITIES: root}
    texts = {one["path"]: one for one in written(ha(given), "controller1", {KEY_SECRET: key(kind)})["files"]}
    (tmp_path / "public.pem").write_text(texts[PEM_FILE]["content"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "public.pem")
    client = ssl.create_default_context(cadata=given[AUTHORITIES])
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT  # it wants identifiers of keys, which `made` leaves out
    sides = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _side in range(2)]
    ends = [
        client.wrap_bio(*sides[0], server_hostname=VIP),
        server.wrap_bio(sides[0][1], sides[0][0], server_side=True),
    ]
    for _round in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version() == "TLSv1.3"


@pytest.mark.parametrize("kind", ["server", "rsa2048"])
def test_the_key_is_looked_for_everywhere(kind: str) -> None:
    vault = Vault(MASTER_KEY, {KEY_SECRET: key(kind)})
    found = secret_exposure.all_of(ha(GIVEN), sources.load(), vault, primary=1)[KEY_SECRET]
    assert found.readers == {"root"}
    one = key_of(kind).private_numbers()
    number = one.d if kind.startswith("rsa") else one.private_value
    assert int.from_bytes(found.values[0], "big") == number
    assert found.values[1].decode() in certificates.key_text(key_of(kind))
    public = certificates.pem_of(certificates.certificates_in(made("server", key=kind)))
    assert found.values[1].decode() not in public
