"""Shakes hands with every TLS endpoint as `openssl s_client` does, and speaks plain text to each.

`trial` is sent to a host (see `host_program`) and needs the program `openssl` there. The judge runs where the plan is.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible_collections.brume.cloud.plugins.module_utils.plan import Cloud

SECONDS = 10
"""How long a handshake or an answer may take."""

GREETINGS: Mapping[str, bytes] = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "amqp": b"AMQP\x00\x00\x09\x01",
}
"""What a client says first (RFC 9112; AMQP 0-9-1, section 2.2.4); of MariaDB's protocol the server speaks first."""

SYSTEM = "/etc/ssl/certs/ca-certificates.crt"
"""The authorities that the operating system trusts (update-ca-certificates(8))."""

MINIMUM = ("TLSv1.2", "TLSv1.3")


PLAIN_AMQP = 5672
"""The broker's port without TLS, as RabbitMQ opens it unless told otherwise."""


def endpoints(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """Return what a cloud offers with TLS: host, port and protocol by a name that says where.

    Those that show the operator's certificate have its `authorities` as PEM text, empty for the system's.
    """
    given = cloud.public_certificate
    own: dict[str, Any] = {} if given is None else {"authorities": given.ca}
    # A balanced database speaks its own protocol, and says by HTTP elsewhere whether it serves.
    found = {
        f"{one.name}-{role}": {
            "host": host,
            "port": one.port,
            "protocol": "mysql" if one.check else "http",
            **(own if role == "public" else {}),
        }
        for one in cloud.frontends
        for role, host in (("internal", cloud.internal_host), ("public", cloud.public_host))
        if (role == "internal" or one.public) and cloud.external.loadbalancer is None
    }
    for group, port, protocol in (("database", 3306, "mysql"), ("messaging", 5671, "amqp")):
        for name, address in cloud.members[group]:
            found[f"{group}-{name}"] = {"host": address, "port": port, "protocol": protocol}
    return found


def shut(cloud: Cloud) -> list[tuple[str, int]]:
    """Return address and port of what must not accept connections at all."""
    return [(address, PLAIN_AMQP) for _name, address in cloud.members["messaging"]]


def handshake(endpoint: Mapping[str, Any], ca_file: str, *more: str) -> tuple[int, str]:
    """Return the exit code of `openssl s_client` and what it said."""
    host = endpoint["host"]
    try:
        named = ["-verify_ip", str(ipaddress.ip_address(host))]
    except ValueError:
        named = ["-verify_hostname", host, "-servername", host]
    address = f"[{host}]:{endpoint['port']}" if ":" in host else f"{host}:{endpoint['port']}"
    argv = ["openssl", "s_client", "-connect", address, *named, "-brief", "-verify_return_error"]
    argv += ["-CAfile", ca_file, "-no-CApath", "-no-CAstore"]
    argv += ["-starttls", "mysql"] if endpoint["protocol"] == "mysql" else []
    try:
        done = subprocess.run(
            [*argv, *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no answer within {SECONDS} s"
    return done.returncode, done.stdout.decode(errors="replace")


def plain(endpoint: Mapping[str, Any]) -> str:
    """Return the beginning of the answer to plain text; empty for none, as where nobody listens."""
    try:
        with socket.create_connection((endpoint["host"], endpoint["port"]), timeout=SECONDS) as connection:
            connection.sendall(GREETINGS[endpoint["protocol"]])
            return connection.recv(64).decode("latin-1")
    except OSError:
        return ""


def closed(host: str, port: int) -> bool:
    """Tell whether nothing accepts connections at an address."""
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError:
        return True
    return False


def _try(endpoint: Mapping[str, Any], ca_file: str) -> dict[str, Any]:
    if "authorities" not in endpoint:
        return _shake(endpoint, ca_file)
    if not endpoint["authorities"]:
        return _shake(endpoint, SYSTEM)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(endpoint["authorities"])
        file.flush()
        return _shake(endpoint, file.name)


def _shake(endpoint: Mapping[str, Any], ca_file: str) -> dict[str, Any]:
    code, said = handshake(endpoint, ca_file)
    # Security level 0 lets the client itself offer what it would not by default, so that the server is who refuses.
    old_code, old = handshake(endpoint, ca_file, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
    return {
        "code": code,
        "said": said,
        "tls1_2": handshake(endpoint, ca_file, "-tls1_2")[0],
        "tls1_1": old_code,
        "tls1_1_said": old,
        "plain": plain(endpoint) if endpoint["protocol"] in GREETINGS else "",
    }


def trial(
    endpoints: Mapping[str, Mapping[str, Any]], ca_file: str, shut: Sequence[Sequence[Any]]
) -> dict[str, dict[str, Any]]:
    """Try all endpoints: `host`, `port` and `protocol` (http, mysql, amqp) by name; `shut` are (host, port).

    An endpoint's `authorities` (PEM text, empty for the system's) take the place of those in `ca_file`.

    Returns what each came to under `endpoints`, and which of `shut` are open.
    """
    with ThreadPoolExecutor(8) as pool:
        tried = {name: pool.submit(_try, one, ca_file) for name, one in endpoints.items()}
        return {
            "endpoints": {name: one.result() for name, one in tried.items()},
            "open": {f"{host}:{port}": not closed(host, port) for host, port in shut},
        }


def problems(protocol: str, found: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an endpoint's TLS, see `_try`."""
    result = []
    version = re.search(r"Protocol version: (\S+)", found["said"])
    if found["code"] != 0 or "Verification: OK" not in found["said"]:
        result.append(f"its certificate or its handshake is not accepted: {' '.join(found['said'].split())}")
    elif version is None or version[1] not in MINIMUM:
        result.append(f"it agreed on {version[1] if version else 'no version'}")
    elif found["tls1_2"] != 0:
        result.append("it refuses TLS 1.2")
    if found["tls1_1"] == 0:
        result.append("it accepts TLS 1.1")
    elif "alert" not in found["tls1_1_said"]:
        result.append(f"TLS 1.1 failed, but not by its refusal: {' '.join(found['tls1_1_said'].split())}")
    if (protocol == "http" and found["plain"].startswith("HTTP/")) or (
        # A frame of method Connection.Start: the type 1, and the class 10 after channel and size.
        protocol == "amqp" and found["plain"].startswith("\x01")
    ):
        result.append("it answers plain text")
    return result
