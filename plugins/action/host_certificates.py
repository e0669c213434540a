"""Gives a host the authority's certificate, its own certificate and key, and load balancers the operator's."""

from __future__ import annotations

import datetime
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import certificates, public_certificate, trust_store
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import (
    CA_FILE,
    ENDPOINTS_CA_FILE,
    HOST_PEM,
    TLS_GROUP,
)

SEPARATOR = "-----brume-----"
CERTIFICATE = "/etc/brume/tls/host.crt"


class ActionModule(PlanAction):
    """Takes `retire`: trust the current authority only, once no certificate of the former one is left.

    The present certificate is kept while it serves (see certificates.fault).
    """

    module = "configuration_files"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the files; the authority's key stays on the deploy host."""
        vault, host, now = piece.vault, piece.host, datetime.datetime.now(datetime.UTC)
        number = vault.generation("ca")
        ca = certificates.authority(vault.master_key, number)
        key = certificates.host_key(vault.master_key, host.name, vault.generation(f"host/{host.name}"))
        names = self._names(piece)
        present, trusted = self._read(CERTIFICATE, CA_FILE)
        former = certificates.former_authority(vault.master_key, number, present)
        renewing = former is not None and certificates.is_issued_by(present, former)
        if certificates.fault(present, ca, key, names, now):
            certificate = certificates.issue(ca, key, host.name, names, now)
        else:
            certificate = present.strip() + "\n"
        authorities = certificates.bundle(ca, former, trusted, renewing=renewing, retire=bool(args.get("retire")))
        files = [
            (CA_FILE, authorities, "root", "0644"),
            (trust_store.LOCAL, authorities, "root", "0644"),
            (CERTIFICATE, certificate, TLS_GROUP, "0640"),
            ("/etc/brume/tls/host.key", key, TLS_GROUP, "0640"),
            (HOST_PEM, certificate + key, "root", "0600"),
        ]
        identity = piece.plan.cloud.external.identity
        if identity is not None:
            files.append((ENDPOINTS_CA_FILE, authorities + identity.ca, "root", "0644"))
        return {
            "files": [
                *(
                    {"path": path, "content": text, "owner": "root", "group": group, "mode": mode}
                    for path, text, group, mode in files
                ),
                *self._public(piece),
            ],
            "directories": [
                {"path": "/etc/brume", "owner": "root", "group": "root", "mode": "0755"},
                {"path": "/etc/brume/tls", "owner": "root", "group": TLS_GROUP, "mode": "0750"},
            ],
            "trusted": trust_store.LOCAL,
            "redactions": {key: f"<secret host/{host.name}>\n"},
        }

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

    @staticmethod
    def _names(piece: Slice) -> list[str]:
        cloud, host = piece.plan.cloud, piece.host
        names = [host.name, "localhost", "127.0.0.1", *(str(address) for address in host.addresses.values())]
        if "database" in host.groups:
            names.append(cloud.internal_host)  # the load balancer hands connections on as they are
        if "loadbalancer" in host.groups:
            names += [cloud.internal_host, cloud.public_host]
            names += [str(one.vip) for one in cloud.networks.values() if one.vip is not None]
            names += [one.fqdn for one in cloud.networks.values() if one.fqdn]
        return names
