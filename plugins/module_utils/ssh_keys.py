"""SSH keys that follow from a secret: Ed25519 (RFC 8709), in the texts that OpenSSH reads.

The text of a private key is a pure function of the secret, so that a second run finds the file that the first wrote.
(`cryptography` puts random numbers into it, and PKCS #8, which has none, is read from OpenSSH 9.6 on only.)
"""

from __future__ import annotations

import base64
import struct
import textwrap

from ansible_collections.brume.cloud.plugins.module_utils.secrets import derive
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = b"ssh-ed25519"
SEED_BYTES = 32
BLOCK_BYTES = 8
"""Block size of the cipher `none`, to which OpenSSH pads."""


def seed(secret: str) -> bytes:
    """Return the private key of a secret, as RFC 8032 (section 5.1.5) has it: SEED_BYTES bytes."""
    return derive(secret.encode(), "ssh", 1, SEED_BYTES)


def public(secret: str) -> str:
    """Return the public key as it stands in authorized_keys and known_hosts: algorithm and base64, no comment."""
    return f"{ALGORITHM.decode()} {base64.b64encode(_blob(_public(secret))).decode()}"


def private(secret: str) -> str:
    """Return the private key as OpenSSH's own files hold it, without a passphrase (openssh/PROTOCOL.key)."""
    point = _public(secret)
    # The same number twice shows that a passphrase was right; there is none, and any number will do.
    check = struct.pack(">I", 0) * 2
    section = check + _blob(point) + _string(seed(secret) + point) + _string(b"")
    section += bytes(range(1, 1 + -len(section) % BLOCK_BYTES))
    parts = (_string(b"none"), _string(b"none"), _string(b""), struct.pack(">I", 1), _string(_blob(point)))
    data = b"openssh-key-v1\0" + b"".join(parts) + _string(section)
    body = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 70))
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"


def _public(secret: str) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(seed(secret)).public_key()
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _blob(point: bytes) -> bytes:
    return _string(ALGORITHM) + _string(point)


def _string(data: bytes) -> bytes:
    """Return data as SSH's protocols write it: its length, then itself (RFC 4251, section 5)."""
    return struct.pack(">I", len(data)) + data
