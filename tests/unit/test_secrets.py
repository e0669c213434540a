"""Secrets are a function of the master key, the name and the generation."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.secrets import (
    SecretError,
    Vault,
    derive,
    is_constant,
    parse_master_key,
    password,
    repository_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY = bytes(range(32))


def test_derivation_is_hkdf_sha256() -> None:
    for length in (16, 32, 48, 100):
        expected = HKDF(SHA256(), length, None, b"brume/nova/database/3").derive(KEY)
        assert derive(KEY, "nova/database", 3, length) == expected


def test_values_differ_by_name_and_generation_and_are_stable() -> None:
    first = Vault(KEY)
    second = Vault(KEY, {}, {"nova": 2})
    assert first.value("nova/keystone") == Vault(KEY).value("nova/keystone")
    assert first.value("nova/keystone") != first.value("glance/keystone")
    assert first.value("nova/keystone") != second.value("nova/keystone")
    assert first.value("glance/keystone") == second.value("glance/keystone")


def test_a_value_needs_no_quoting() -> None:
    assert all(password(bytes([n]) * 48).isalnum() and len(password(bytes([n]) * 48)) == 32 for n in range(256))


@pytest.mark.parametrize(
    ("generations", "expected"),
    [
        ({}, 1),
        ({"default": 4}, 4),
        ({"default": 4, "nova": 2}, 2),
        ({"nova": 2, "nova/database": 3}, 3),
        ({"nova/database/nova_api": 5, "nova/database": 3}, 5),
    ],
)
def test_the_longest_prefix_gives_the_generation(generations: dict[str, int], expected: int) -> None:
    assert Vault(KEY, {}, generations).generation("nova/database/nova_api") == expected


def test_a_constant_is_never_another() -> None:
    """A path's hash prefix of the next generation would be another, empty cluster."""
    name = "swift/constant/hash_path_prefix"
    for generations in ({"default": 4}, {"swift": 2}, {"swift/constant": 3}, {name: 5}):
        vault = Vault(KEY, {}, generations)
        assert vault.generation(name) == 1
        assert vault.value(name) == Vault(KEY).value(name)
        assert vault.former(name) is None
        assert vault.generation("swift/keystone") == generations.get("swift", generations.get("default", 1))
    assert [is_constant(one) for one in (name, "swift/constant", "constant/x", "swift/keystone", "swift")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_keys_of_repositories_never_change() -> None:
    """Another key for an index would make every token and credential of a running cloud worthless."""
    expected = base64.urlsafe_b64encode(derive(KEY, "keystone/fernet-key/1", 1, 32)).decode()
    assert repository_key(KEY, "fernet", 1) == expected
    assert len({repository_key(KEY, name, index) for name in ("fernet", "credential") for index in (1, 2)}) == 4


def test_an_explicit_value_wins() -> None:
    assert Vault(KEY, {"keystone/admin": "given"}).value("keystone/admin") == "given"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "missing"),
        ("  ", "missing"),
        ("not base64!", "not base64"),
        (base64.b64encode(bytes(16)).decode(), "16 bytes"),
    ],
)
def test_a_bad_master_key_is_explained(text: str | None, message: str) -> None:
    with pytest.raises(SecretError, match=message):
        parse_master_key(text)


def test_the_former_value_is_that_of_the_generation_before() -> None:
    def vault(number: int, explicit: dict[str, str] | None = None) -> Vault:
        return Vault(KEY, explicit or {}, {"keystone": number})

    assert vault(3).former("keystone/admin") == vault(2).value("keystone/admin")
    assert vault(2).former("keystone/admin") == Vault(KEY).value("keystone/admin")
    assert vault(1).former("keystone/admin") is None
    assert vault(2, {"keystone/admin": "given"}).former("keystone/admin") is None


def test_a_vault_does_not_print_its_secrets() -> None:
    assert "given" not in repr(Vault(KEY, {"a/b": "given"}))
    assert repr(KEY) not in repr(Vault(KEY))
