"""Gives a host the authority's certificate and its own certificate and key."""

from __future__ import annotations

import datetime
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import certificates, trust_store
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import CA_FILE, TLS_GROUP

CERTIFICATE = "/etc/brume/tls/host.crt"


class ActionModule(PlanAction):
    """Takes no arguments of its own. The present certificate is kept while it serves (see certificates.fault)."""

    module = "configuration_files"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the files; the authority's key stays on the deploy host."""
        vault, host, now = piece.vault, piece.host, datetime.datetime.now(datetime.UTC)
        ca = certificates.authority(vault.master_key, vault.generation("ca"))
        key = certificates.host_key(vault.master_key, host.name, vault.generation(f"host/{host.name}"))
        names = self._names(piece)
        # a terminal between may have turned line feeds into CR LF
        answer = self._low_level_execute_command(f"cat {CERTIFICATE} 2>/dev/null || :")["stdout"]
        present = "\n".join(answer.split("\r\n"))
        if certificates.fault(present, ca, key, names, now):
            certificate = certificates.issue(ca, key, host.name, names, now)
        else:
            certificate = present.strip() + "\n"
        files = [
            (CA_FILE, ca.pem, "root", "0644"),
            (trust_store.LOCAL, ca.pem, "root", "0644"),
            (CERTIFICATE, certificate, TLS_GROUP, "0640"),
            ("/etc/brume/tls/host.key", key, TLS_GROUP, "0640"),
            ("/etc/brume/tls/host.pem", certificate + key, "root", "0600"),
        ]
        return {
            "files": [
                {"path": path, "content": text, "owner": "root", "group": group, "mode": mode}
                for path, text, group, mode in files
            ],
            "directories": [
                {"path": "/etc/brume", "owner": "root", "group": "root", "mode": "0755"},
                {"path": "/etc/brume/tls", "owner": "root", "group": TLS_GROUP, "mode": "0750"},
            ],
            "trusted": trust_store.LOCAL,
            "redactions": {key: f"<secret host/{host.name}>\n"},
        }

    @staticmethod
    def _names(piece: Slice) -> list[str]:
        cloud, host = piece.plan.cloud, piece.host
        names = [host.name, "localhost", "127.0.0.1", *(str(address) for address in host.addresses.values())]
        if "loadbalancer" in host.groups:
            names += [cloud.internal_host, cloud.public_host]
            names += [str(one.vip) for one in cloud.networks.values() if one.vip is not None]
            names += [one.fqdn for one in cloud.networks.values() if one.fqdn]
        return names
