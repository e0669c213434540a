"""Keys of age (https://age-encryption.org/v1) that follow from a secret: X25519, in Bech32 (BIP 173).

Who makes a backup needs the recipient alone, which is public; the identity, which opens it, is on a host only while
something is restored there.
"""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.brume.cloud.plugins.module_utils.secrets import derive
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY_BYTES = 32
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def identity(secret: str) -> str:
    """Return the private key of a secret as `age --identity` reads it."""
    return bech32("age-secret-key-", _scalar(secret)).upper()


def recipient(secret: str) -> str:
    """Return the public key of a secret as `age --recipient` takes it."""
    return bech32("age", X25519PrivateKey.from_private_bytes(_scalar(secret)).public_key().public_bytes_raw())


def bech32(prefix: str, data: bytes) -> str:
    """Return bytes in Bech32 (BIP 173), without its limit of 90 characters, as age has it."""
    number, bits = int.from_bytes(data, "big"), len(data) * 8
    padding = -bits % 5
    number <<= padding
    words = [number >> shift & 31 for shift in range(bits + padding - 5, -1, -5)]
    expanded = [ord(one) >> 5 for one in prefix] + [0] + [ord(one) & 31 for one in prefix]
    check = _polymod([*expanded, *words, 0, 0, 0, 0, 0, 0]) ^ 1
    words += [check >> 5 * (5 - place) & 31 for place in range(6)]
    return prefix + "1" + "".join(_ALPHABET[word] for word in words)


def _scalar(secret: str) -> bytes:
    return derive(secret.encode(), "age", 1, KEY_BYTES)


def _polymod(words: Iterable[int]) -> int:
    check = 1
    for word in words:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ word
        for place, value in enumerate(_GENERATOR):
            check ^= value if top >> place & 1 else 0
    return check
