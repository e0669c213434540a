"""Secrets: every one derived from the master key by its name and generation, or given explicitly.

The plan holds names only; `Vault.value` turns a name into a value at the last moment, on the deploy host.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.description import Problem

MASTER_KEY_BYTES = 32
"""Shortest accepted master key, in bytes: the output size of the HMAC that HKDF is built on (RFC 5869, section 4)."""

ADMIN_SECRET = "keystone/admin"  # noqa: S105  # a name
"""The password of the cloud's administrator."""

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


class SecretError(ValueError):
    """The master key or an explicit secret cannot be used; `problem` says which, why and what to do."""

    def __init__(self, variable: str, message: str, remedy: str) -> None:
        """Keep the problem; its line is the message."""
        self.problem = Problem(variable, message, remedy)
        super().__init__(str(self.problem))


def parse_master_key(text: Any) -> bytes:
    """Return the key's bytes from its base64 text.

    Raises SecretError when it is missing, no base64, or shorter than MASTER_KEY_BYTES.
    """
    remedy = "make one with `openssl rand -base64 32`"
    if text is None or text == "" or (isinstance(text, str) and not text.strip()):
        where = "keep it in an Ansible Vault file of group_vars/all or behind a lookup, and set brume_master_key to it"
        raise SecretError("brume_master_key", "is missing", f"{remedy}, {where}")
    if not isinstance(text, str):
        raise SecretError("brume_master_key", "is no text", f"{remedy}, and write it in quotes")
    try:
        key = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError("brume_master_key", "is not base64", remedy) from None
    if len(key) < MASTER_KEY_BYTES:
        message = f"has {len(key)} bytes, and at least {MASTER_KEY_BYTES} are needed"
        raise SecretError("brume_master_key", message, remedy)
    if len(set(key)) < MASTER_KEY_BYTES // 4:
        raise SecretError("brume_master_key", "is not random: it repeats a few bytes", remedy)
    return key


def derive(master_key: bytes, name: str, generation: int = 1, length: int = 32) -> bytes:
    """Return `length` bytes (at most 8160) for a name and generation: HKDF with SHA-256 (RFC 5869), no salt.

    The name and the generation are the `info` of the expand step, so one secret tells nothing of another.
    """
    pseudo_random_key = hmac.new(b"\0" * hashlib.sha256().digest_size, master_key, hashlib.sha256).digest()
    info = f"brume/{name}/{generation}".encode()
    block, result = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(pseudo_random_key, block + info + bytes([counter]), hashlib.sha256).digest()
        result += block
    return result[:length]


def password(material: bytes) -> str:
    """Return a password of 32 characters (186 bits) that needs no quoting in URLs, INI files or shells."""
    number = int.from_bytes(material, "big")
    characters = []
    for _position in range(32):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return "".join(characters)


def repository_key(master_key: bytes, repository: str, index: int) -> str:
    """Return the key of an index of one of Keystone's repositories (see `fernet.REPOSITORIES`)."""
    return base64.urlsafe_b64encode(derive(master_key, f"keystone/{repository}-key/{index}", 1, 32)).decode()


@dataclass(frozen=True)
class Vault:
    """Values of secrets by name, for one cloud."""

    master_key: bytes = field(repr=False)
    explicit: Mapping[str, str] = field(default_factory=dict, repr=False)
    generations: Mapping[str, int] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """Return the value of a secret such as `nova/database/nova_api`."""
        given = self.explicit.get(name)
        return given if given is not None else password(derive(self.master_key, name, self.generation(name), 48))

    def former(self, name: str) -> str | None:
        """Return the value of the generation before, None for the first one and for values that were given."""
        number = self.generation(name)
        if name in self.explicit or number == 1:
            return None
        return password(derive(self.master_key, name, number - 1, 48))

    def generation(self, name: str) -> int:
        """Return the generation of a secret: its own, that of the longest prefix (`nova`), `default`, or 1.

        A constant has one only.
        """
        if is_constant(name):
            return 1
        parts = name.split("/")
        for length in range(len(parts), 0, -1):
            found = self.generations.get("/".join(parts[:length]))
            if found is not None:
                return found
        return self.generations.get("default", 1)


def is_constant(name: str) -> bool:
    """Say whether a secret may never be another: data that is stored can only be found or read with it."""
    return name.split("/")[1:2] == ["constant"]


def generation_of(generations: Mapping[str, int], name: str) -> int:
    """Return the generation of a secret from the inventory's mapping, see Vault.generation."""
    return Vault(b"", {}, generations).generation(name)
