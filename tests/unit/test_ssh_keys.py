"""SSH keys follow from a secret, and OpenSSH's own tools read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import ssh_keys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET = "2345678923456789abcdefghijkmnopq"


def test_the_same_text_for_the_same_secret() -> None:
    assert ssh_keys.private(SECRET) == ssh_keys.private(SECRET)
    assert ssh_keys.public(SECRET) == ssh_keys.public(SECRET)
    assert ssh_keys.private(SECRET) != ssh_keys.private(SECRET + "2")
    assert len(ssh_keys.seed(SECRET)) == ssh_keys.SEED_BYTES
    assert SECRET not in ssh_keys.private(SECRET)


@pytest.mark.parametrize("secret", [SECRET, "another one", ""])
def test_cryptography_reads_both(secret: str) -> None:
    key = serialization.load_ssh_private_key(ssh_keys.private(secret).encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.private_bytes_raw() == ssh_keys.seed(secret)
    text = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert ssh_keys.public(secret) == text.decode()


def test_openssh_reads_both(tmp_path: Path) -> None:
    file = tmp_path / "id_ed25519"
    file.write_text(ssh_keys.private(SECRET))
    file.chmod(0o600)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", str(file)], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ssh_keys.public(SECRET)
    assert all(len(line) <= 70 for line in file.read_text().splitlines())
