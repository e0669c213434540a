"""Gives a host the authority's certificate, its own certificate and key, and load balancers the operator's."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import certificates, public_certificate, trust_store
from ansible_collections.brume.cloud.plugins.module_utils.plan import Host
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import (
    CA_FILE,
    ENDPOINTS_CA_FILE,
    HOST_PEM,
    LIBVIRT_CERTIFICATE,
    TLS_GROUP,
)

SEPARATOR = "-----brume-----"
CERTIFICATE, KEY = "/etc/brume/tls/host.crt", "/etc/brume/tls/host.key"

MIGRATION_AUTHORITY, MIGRATION_CERTIFICATE = "/etc/pki/qemu/ca-cert.pem", "/etc/pki/qemu/server-cert.pem"
"""QEMU's own folder and names (docs of QEMU, TLS setup): the only ones that AppArmor lets its processes read."""

QEMU_GROUP = "libvirt-qemu"

LIBVIRT_KEY = "/etc/pki/libvirt/private/serverkey.pem"

LINKS = {
    # Where libvirtd looks for what it shows as a server and as a client. A reload (`virt-admin server-update-tls`)
    # looks nowhere else (virNetTLSContextReloadForServer).
    "/etc/pki/CA/cacert.pem": CA_FILE,
    "/etc/pki/libvirt/clientcert.pem": "servercert.pem",
    "/etc/pki/libvirt/private/clientkey.pem": "serverkey.pem",
    # The same process is the client of one migration and the server of another one.
    "/etc/pki/qemu/client-cert.pem": "server-cert.pem",
    "/etc/pki/qemu/client-key.pem": "server-key.pem",
}
"""Links of compute hosts, and what they point to."""


@dataclass(frozen=True)
class Pair:
    """What one authority comes to on a host: the certificates to trust, and the host's own certificate and key."""

    authorities: str
    certificate: str
    key: str


class ActionModule(PlanAction):
    """Takes `retire`: trust the current authorities only, once no certificate of the former ones is left.

    The present certificates are kept while they serve (see certificates.fault).
    """

    module = "configuration_files"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the files; the authorities' keys stay on the deploy host."""
        host, retire = piece.host, bool(args.get("retire"))
        is_compute = "compute" in host.groups
        present = self._read(
            CERTIFICATE,
            CA_FILE,
            *((LIBVIRT_CERTIFICATE, MIGRATION_CERTIFICATE, MIGRATION_AUTHORITY) if is_compute else ()),
        )
        own = self._pair(piece, "ca", host.name, present[:2], retire=retire)
        files = [
            (CA_FILE, own.authorities, "root", "0644"),
            (trust_store.LOCAL, own.authorities, "root", "0644"),
            (CERTIFICATE, own.certificate, TLS_GROUP, "0640"),
            (KEY, own.key, TLS_GROUP, "0640"),
            (HOST_PEM, own.certificate + own.key, "root", "0600"),
        ]
        directories = [("/etc/brume", "root", "0755"), ("/etc/brume/tls", TLS_GROUP, "0750")]
        redactions = {own.key: f"<secret host/{host.name}>\n"}
        identity = piece.plan.cloud.external.identity
        if identity is not None:
            files.append((ENDPOINTS_CA_FILE, own.authorities + identity.ca, "root", "0644"))
        if is_compute:
            # By the unit libvirtd knows those of other compute hosts (roles/libvirt/templates/libvirtd.conf.j2).
            # Whoever shows it is root there, so that its key is root's alone, and not of the services in TLS_GROUP.
            peer = [present[2], present[1]]
            libvirt = self._pair(piece, "ca", f"{host.name}/libvirt", peer, retire=retire, unit="compute")
            qemu = self._pair(piece, "ca/qemu", f"{host.name}/qemu", present[3:], retire=retire)
            files += [
                (LIBVIRT_CERTIFICATE, libvirt.certificate, "root", "0644"),
                (LIBVIRT_KEY, libvirt.key, "root", "0600"),
                (MIGRATION_AUTHORITY, qemu.authorities, "root", "0644"),
                (MIGRATION_CERTIFICATE, qemu.certificate, "root", "0644"),
                ("/etc/pki/qemu/server-key.pem", qemu.key, QEMU_GROUP, "0640"),
            ]
            directories += [("/etc/pki", "root", "0755"), ("/etc/pki/qemu", "root", "0755")]
            directories += [("/etc/pki/libvirt", "root", "0755"), ("/etc/pki/libvirt/private", "root", "0700")]
            redactions[libvirt.key] = f"<secret host/{host.name}/libvirt>\n"
            redactions[qemu.key] = f"<secret host/{host.name}/qemu>\n"
        return {
            "files": [
                *(
                    {"path": path, "content": text, "owner": "root", "group": group, "mode": mode}
                    for path, text, group, mode in files
                ),
                *self._public(piece),
            ],
            "directories": [
                {"path": path, "owner": "root", "group": group, "mode": mode} for path, group, mode in directories
            ],
            "links": [{"path": path, "target": target} for path, target in LINKS.items()] if is_compute else [],
            "trusted": trust_store.LOCAL,
            "redactions": redactions,
        }

    @staticmethod
    def _pair(piece: Slice, authority: str, key_name: str, present: list[str], *, retire: bool, unit: str = "") -> Pair:
        """Return what an authority comes to; `present` are the host's certificate and the authorities it trusts now."""
        vault, host, now = piece.vault, piece.host, datetime.datetime.now(datetime.UTC)
        certificate, trusted = present
        number = vault.generation(authority)
        ca = certificates.authority(vault.master_key, number, authority)
        key = certificates.host_key(vault.master_key, key_name, vault.generation(f"host/{key_name}"))
        names = _names(piece, host)
        former = certificates.former_authority(vault.master_key, number, certificate, authority)
        renewing = former is not None and certificates.is_issued_by(certificate, former)
        if certificates.fault(certificate, ca, key, host.name, names, now, unit):
            certificate = certificates.issue(ca, key, host.name, names, now, unit)
        else:
            certificate = certificate.strip() + "\n"
        return Pair(certificates.bundle(ca, former, trusted, renewing=renewing, retire=retire), certificate, key)

    @staticmethod
    def _public(piece: Slice) -> list[dict[str, str]]:
        """Return the files of the operator's certificate; its key is redacted as any private key, with no name."""
        given, texts = piece.plan.cloud.public_certificate, {}
        if given is not None and "loadbalancer" in piece.host.groups:
            texts[public_certificate.PEM_FILE] = given.chain + public_certificate.key_text(piece.vault.explicit)
            if given.name:
                # The filters keep the host's certificate, which has the name too, for those who ask for none.
                texts[public_certificate.LIST_FILE] = f"{HOST_PEM} !*\n{public_certificate.PEM_FILE} {given.name}\n"
        return [
            {"path": path, **({"content": texts[path], "mode": "0600"} if path in texts else {"state": "absent"})}
            for path in (public_certificate.PEM_FILE, public_certificate.LIST_FILE)
        ]

    def _read(self, *paths: str) -> list[str]:
        """Return the texts of files on the host, empty for those that are not there, with one call."""
        words = "; ".join(f"cat {path} 2>/dev/null; echo {SEPARATOR}" for path in paths)
        # a terminal between may have turned line feeds into CR LF
        text = "\n".join(self._low_level_execute_command(words)["stdout"].split("\r\n"))
        return text.split(f"{SEPARATOR}\n")[: len(paths)]


def _names(piece: Slice, host: Host) -> list[str]:
    """Return the names and addresses by which a host's certificates are looked at."""
    cloud = piece.plan.cloud
    names = [host.name, "localhost", "127.0.0.1", *(str(address) for address in host.addresses.values())]
    if "database" in host.groups:
        names.append(cloud.internal_host)  # the load balancer hands connections on as they are
    if "loadbalancer" in host.groups:
        names += [cloud.internal_host, cloud.public_host]
        names += [str(one.vip) for one in cloud.networks.values() if one.vip is not None]
        names += [one.fqdn for one in cloud.networks.values() if one.fqdn]
    return names
