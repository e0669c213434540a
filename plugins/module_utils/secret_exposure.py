"""Every secret of a cloud, and who may read it: what `secret_search` looks for, and what its findings come to.

Who may read a secret follows from the plan: root, and the users of the files that are rendered with it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import certificates, fernet, public_certificate, ssh_keys
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import TLS_GROUP, Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import ADMIN_SECRET, Vault, repository_key
from ansible_collections.brume.cloud.plugins.module_utils.sources import Sources
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

MASTER_KEY = "master-key"
IN_DATABASE = ("nova/database/", "nova/messaging/")
"""Nova keeps the URLs of each cell in its API database (docs.openstack.org/nova: cells v2), which the server reads."""

OTHERS, GROUP = 0o004, 0o040


@dataclass(frozen=True)
class Secret:
    """A secret: its values (all texts and bytes that give it away), and the users and groups that may read it.

    Without `readers` it belongs on no host at all.
    """

    name: str
    values: tuple[bytes, ...] = field(repr=False)
    readers: frozenset[str] = frozenset()


def all_of(plan: Plan, sources: Sources, vault: Vault, primary: int) -> dict[str, Secret]:
    """Return every secret of a cloud by name; `primary` is the index of Keystone's signing Fernet key."""
    readers = _rendered(plan, sources)
    for name in (
        ADMIN_SECRET,
        *(account.secret for account in (*plan.cloud.databases, *plan.cloud.vhosts)),
        *(login.secret for login in plan.cloud.logins),
        *(name for service in plan.cloud.services for name in sources.services[service].secrets),
        *(name for name in vault.explicit if name != public_certificate.KEY_SECRET),
    ):
        readers.setdefault(name, set())
    secrets = [Secret(name, _values(name, vault.value(name)), frozenset(found)) for name, found in readers.items()]
    secrets.append(Secret(MASTER_KEY, (vault.master_key, base64.b64encode(vault.master_key))))
    for name in certificates.AUTHORITIES:
        key = certificates.authority_key(vault.master_key, vault.generation(name), name)
        secrets.append(Secret(name, _private(key)))
    for host in plan.hosts.values():
        groups = {host.name: TLS_GROUP}
        if "compute" in host.groups:
            groups |= {f"{host.name}/libvirt": "root", f"{host.name}/qemu": "libvirt-qemu"}
        for name, group in groups.items():
            key = certificates.host_key(vault.master_key, name, vault.generation(f"host/{name}"))
            secrets.append(Secret(f"host/{name}", _private(key), frozenset({"root", group})))
    if public_certificate.KEY_SECRET in vault.explicit:
        key = public_certificate.key_text(vault.explicit)
        secrets.append(Secret(public_certificate.KEY_SECRET, _private(key), frozenset({"root"})))
    for repository in fernet.REPOSITORIES:
        keys = [repository_key(vault.master_key, repository, index).encode() for index in range(1, primary + 2)]
        secrets.append(Secret(f"keystone/{repository}-keys", tuple(keys), frozenset({"root", "keystone"})))
    return {one.name: one for one in secrets}


def _rendered(plan: Plan, sources: Sources) -> dict[str, set[str]]:
    """Return the users and groups of the files that each secret is rendered into."""
    asked: list[str] = []

    def secret(name: str) -> str:
        asked.append(name)
        return ""

    renderer = Renderer(plan, sources, secret)
    readers: dict[str, set[str]] = {}
    for host in plan.hosts.values():
        for entry in host.files:
            asked.clear()
            renderer.of(host).file(host, entry)
            for name in asked:
                found = readers.setdefault(name, set())
                found.update(("root", entry.owner, entry.group), ("mysql",) * name.startswith(IN_DATABASE))
    return readers


def _values(name: str, value: str) -> tuple[bytes, ...]:
    """Return what gives a secret away: its value, and the SSH key that is made of it, as a number and in its file."""
    if not name.partition("/")[2].startswith("ssh_"):
        return (value.encode(),)
    return value.encode(), ssh_keys.seed(value), ssh_keys.private(value).splitlines()[4].encode()


def _private(pem: str) -> tuple[bytes, ...]:
    """Return what gives a private key away: its number, and a line of its PEM text (PKCS #8) that holds nothing else.

    Of ECDSA the line before begins with the kind of key, and the one after may hold the public key alone. Of RSA the
    first third is the public key, and the last two are private exponents and primes (RFC 8017, A.1.2).
    """
    key = load_pem_private_key(pem.encode(), None)
    lines = pem.splitlines()
    if isinstance(key, rsa.RSAPrivateKey):
        number, line = key.private_numbers().d, lines[len(lines) * 2 // 3]
    else:
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  # nothing makes or takes another
        number, line = key.private_numbers().private_value, lines[2]
    return number.to_bytes(-(-key.key_size // 8), "big"), line.encode()


def payload(secrets: Iterable[Secret]) -> dict[str, list[str]]:
    """Return values in base64 by name, as `secret_search.search` takes them."""
    return {one.name: [base64.b64encode(value).decode() for value in one.values] for one in secrets}


def problem(finding: Mapping[str, Any], secrets: Mapping[str, Secret]) -> str:
    """Return why a secret must not be where it was found on a host, or nothing. Never holds a value.

    In a file it may be where nobody reads it but root and the users of the planned files that hold it.
    """
    if finding["form"] == "compressed":
        return f"{finding['place']}: is compressed and cannot be searched; read it and remove it"
    found = f"{finding['place']}: holds {finding['secret']} ({finding['form']})"
    if finding["kind"] != "file":
        return found
    allowed = secrets[finding["secret"]].readers
    if not allowed:
        return f"{found}, which belongs on no host"
    if finding["mode"] & OTHERS:
        return f"{found}, and everybody may read it (mode {finding['mode']:04o})"
    readers = {finding["owner"], finding["group"]} if finding["mode"] & GROUP else {finding["owner"]}
    extra = sorted(readers - allowed - {"root"})
    return f"{found}, and {' and '.join(extra)} may read it; only {', '.join(sorted(allowed))} may" if extra else ""


def deploy_host_problem(finding: Mapping[str, Any]) -> str:
    """Return why a secret must not be where it was found on the deploy host, or nothing: only its owner may read it."""
    found = f"{finding['place']}: holds {finding['secret']} ({finding['form']})"
    if finding["kind"] != "file":
        return found
    return f"{found}, and others may read it (mode {finding['mode']:04o})" if finding["mode"] & 0o077 else ""
