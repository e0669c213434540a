"""How instances travel between compute hosts: certificates, keys, addresses; and what a further host leaves alone."""

from __future__ import annotations

import datetime
from typing import Any

import netaddr
import pytest
from ansible_collections.brume.cloud.plugins.action import host_certificates
from ansible_collections.brume.cloud.plugins.module_utils import certificates, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from cryptography import x509

from .inventories import AIO, IPV6, inventory

KEY = bytes(range(32))
IPV4 = {key: value for key, value in AIO.items() if key != "openvswitch_datapath_type"}
CA, QEMU_CA = certificates.authority(KEY), certificates.authority(KEY, 1, "ca/qemu")


def planned(computes: int, variables: dict[str, Any] = IPV4) -> Plan:
    """Return the plan of a controller and some compute hosts, the first of a network's hosts the controller."""
    names = ["controller1", *(f"compute{number}" for number in range(1, computes + 1))]
    networks = {role: netaddr.IPNetwork(one["cidr"]) for role, one in variables["brume_networks"].items()}
    del networks["external"]
    hosts = {
        name: {"brume_addresses": {role: str(network.network + 11 + place) for role, network in networks.items()}}
        for place, name in enumerate(names)
    }
    groups = dict.fromkeys(("control", "network", "loadbalancer", "database", "messaging"), names[:1])
    return plan(inventory(variables, hosts, {**groups, "compute": names[1:]}), sources.load())


def texts(found: Plan, host: str) -> dict[str, str]:
    """Return every file and unit of a host."""
    renderer = Renderer(found, sources.load(), lambda name: f"<{name}>")
    services = list(found.cloud.services)
    files = {one.entry.path: one.text for one in renderer.files(found.hosts[host], services)}
    return files | {one.instance.unit: one.content or "" for one in renderer.units(found.hosts[host], services)}


def given(found: Plan, host: str, present: dict[str, str], generations: dict[str, int], **args: Any) -> dict[str, Any]:
    """Return what the action gives the module, on a host with files."""
    project = sources.load()
    action = host_certificates.ActionModule.__new__(host_certificates.ActionModule)
    action._read = lambda *paths: [present.get(path, "") for path in paths]  # type: ignore[method-assign]
    vault = Vault(KEY, generations=generations)
    piece = Slice(found, found.hosts[host], project, Renderer(found, project, str), vault)
    arguments = action.arguments(piece, args)
    assert arguments is not None
    return arguments


def contents(arguments: dict[str, Any]) -> dict[str, str]:
    """Return text by path."""
    return {one["path"]: one["content"] for one in arguments["files"] if one.get("state") != "absent"}


@pytest.fixture(name="two", scope="module")
def _two() -> Plan:
    return planned(2)


def test_certificates_of_a_compute_host(two: Plan) -> None:
    arguments = given(two, "compute1", {}, {})
    found = contents(arguments)
    host = x509.load_pem_x509_certificate(found["/etc/brume/tls/host.crt"].encode())
    assert host.subject.rfc4514_string() == "CN=compute1", "whoever reads its key is not to open libvirtd"
    own = x509.load_pem_x509_certificate(found["/etc/pki/libvirt/servercert.pem"].encode())
    # RFC 4514 writes the last part first; libvirt writes the parts as they are in the certificate.
    assert own.subject.rfc4514_string() == "CN=compute1,OU=compute"
    pattern = next(
        line for line in texts(two, "compute1")["/etc/libvirt/libvirtd.conf"].splitlines() if "dn_list" in line
    )
    assert pattern == 'tls_allowed_dn_list = [ "OU=compute,CN=*" ]'
    assert certificates.is_issued_by(found["/etc/pki/libvirt/servercert.pem"], CA)
    usage = own.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.value.digital_signature and not usage.critical, "libvirt and QEMU refuse it otherwise"

    qemu = x509.load_pem_x509_certificate(found["/etc/pki/qemu/server-cert.pem"].encode())
    assert qemu.subject.rfc4514_string() == "CN=compute1"
    assert found["/etc/pki/qemu/ca-cert.pem"] == QEMU_CA.pem != found["/etc/brume/ca.crt"]
    assert certificates.is_issued_by(found["/etc/pki/qemu/server-cert.pem"], QEMU_CA)
    assert not certificates.is_issued_by(found["/etc/pki/qemu/server-cert.pem"], CA)
    held = qemu.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in held.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "192.0.2.12"]
    assert found["/etc/pki/qemu/server-key.pem"] != found["/etc/brume/tls/host.key"]

    written = [one for one in arguments["files"] if "owner" in one]
    attributes = {one["path"]: (one["owner"], one["group"], one["mode"]) for one in written}
    assert attributes["/etc/pki/qemu/server-key.pem"] == ("root", "libvirt-qemu", "0640")
    assert attributes["/etc/brume/tls/host.key"] == ("root", "brume-tls", "0640")
    assert attributes["/etc/pki/libvirt/private/serverkey.pem"] == ("root", "root", "0600")
    assert {one["path"]: one["target"] for one in arguments["links"]} == host_certificates.LINKS
    keys = {found[path] for path in found if path.endswith(("key.pem", ".key"))}
    assert len(keys) == 3 and set(arguments["redactions"]) == keys


def test_a_controller_has_none_of_it(two: Plan) -> None:
    arguments = given(two, "controller1", {}, {})
    assert not [path for path in contents(arguments) if path.startswith("/etc/pki")]
    assert arguments["links"] == []
    own = x509.load_pem_x509_certificate(contents(arguments)["/etc/brume/tls/host.crt"].encode())
    assert own.subject.rfc4514_string() == "CN=controller1"


def test_a_later_run_changes_nothing(two: Plan) -> None:
    names = ["compute1", "localhost", "127.0.0.1", "192.0.2.12"]
    ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
    before = contents(given(two, "compute1", {}, {}))
    key, qemu_key = before["/etc/brume/tls/host.key"], before["/etc/pki/qemu/server-key.pem"]
    libvirt_key = before["/etc/pki/libvirt/private/serverkey.pem"]
    before["/etc/brume/tls/host.crt"] = certificates.issue(CA, key, "compute1", names, ago)
    before["/etc/pki/libvirt/servercert.pem"] = certificates.issue(CA, libvirt_key, "compute1", names, ago, "compute")
    before["/etc/brume/tls/host.pem"] = before["/etc/brume/tls/host.crt"] + key
    before["/etc/pki/qemu/server-cert.pem"] = certificates.issue(QEMU_CA, qemu_key, "compute1", names, ago)
    assert contents(given(two, "compute1", before, {})) == before


def test_libvirt_does_not_keep_a_certificate_without_the_unit(two: Plan) -> None:
    key = certificates.host_key(KEY, "compute1/libvirt")
    names = ["compute1", "localhost", "127.0.0.1", "192.0.2.12"]
    before = certificates.issue(CA, key, "compute1", names, datetime.datetime.now(datetime.UTC))
    present = {"/etc/pki/libvirt/servercert.pem": before, "/etc/brume/ca.crt": CA.pem}
    found = contents(given(two, "compute1", present, {}))
    after = x509.load_pem_x509_certificate(found["/etc/pki/libvirt/servercert.pem"].encode())
    assert after.subject.rfc4514_string() == "CN=compute1,OU=compute"
    assert found["/etc/pki/libvirt/private/serverkey.pem"] == key


def test_a_new_authority_comes_with_the_former_one_until_it_is_retired(two: Plan) -> None:
    first = contents(given(two, "compute1", {}, {}))
    later = contents(given(two, "compute1", first, {"ca": 2}))
    new = certificates.authority(KEY, 2, "ca/qemu")
    assert certificates.is_issued_by(later["/etc/pki/qemu/server-cert.pem"], new)
    assert later["/etc/pki/qemu/ca-cert.pem"] == new.pem + QEMU_CA.pem
    assert later["/etc/brume/ca.crt"] == certificates.authority(KEY, 2).pem + CA.pem
    assert contents(given(two, "compute1", later, {"ca": 2}, retire=True))["/etc/pki/qemu/ca-cert.pem"] == new.pem
    other = contents(given(two, "compute1", first, {"host": 2}))
    assert other["/etc/pki/qemu/server-key.pem"] != first["/etc/pki/qemu/server-key.pem"]


def test_another_compute_host_changes_no_file_of_the_others(two: Plan) -> None:
    three = planned(3)
    for host in ("controller1", "compute1", "compute2"):
        assert texts(three, host) == texts(two, host)
    assert texts(planned(1), "compute1") == texts(two, "compute1")
    assert texts(planned(1), "controller1")["/etc/nova/nova.conf"] == texts(two, "controller1")["/etc/nova/nova.conf"]


def test_addresses_of_ipv6() -> None:
    found = texts(planned(1, IPV6), "compute1")
    assert "\nListenStream=[2001:db8:1::c]:16514\n" in found["/etc/systemd/system/libvirtd-tls.socket.d/brume.conf"]
    assert "\nPort 8022\nListenAddress 2001:db8:1::c\n" in found["/etc/nova/sshd_config"]
    assert '\nmigration_address = "2001:db8:1::c"\n' in found["/etc/libvirt/qemu.conf"]
    assert "\nlive_migration_inbound_addr = 2001:db8:1::c\n" in found["/etc/nova/nova-compute.conf"]


def test_a_port_belongs_to_the_service_that_holds_it_later(two: Plan) -> None:
    """Preflight would take a socket's service for a stranger."""
    assert {port.port: port.unit for port in two.hosts["compute1"].ports}[16514] == "libvirtd.service"


def test_only_compute_hosts_hold_ssh_keys(two: Plan) -> None:
    assert not [path for path in texts(two, "controller1") if "ssh" in path or path.endswith("id_ed25519")]
    one, other = texts(two, "compute1"), texts(two, "compute2")
    for path in ("/etc/nova/ssh_host_ed25519_key", "/etc/nova/id_ed25519", "/etc/nova/known_hosts"):
        assert one[path] == other[path], "whoever comes later finds what the others trust"
    shells = {user.name: user.shell for user in two.hosts["compute1"].users}
    assert shells["nova"] == "/bin/sh" and shells["neutron"] == ""
    assert {user.shell for user in two.hosts["controller1"].users} == {""}
