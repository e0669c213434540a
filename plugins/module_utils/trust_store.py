"""The operating system's trust store: whether it holds an authority, and how it is told (update-ca-certificates(8))."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

LOCAL = "/usr/local/share/ca-certificates/brume.crt"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def certificates(pem: str) -> list[str]:
    """Return the bodies of the certificates in a PEM text, without white space."""
    parts = pem.split("-----BEGIN CERTIFICATE-----")[1:]
    return ["".join(part.split("-----END CERTIFICATE-----")[0].split()) for part in parts]


def missing(pem: str, bundle: str) -> bool:
    """Return whether a certificate of `pem` is not in the bundle."""
    return not set(certificates(pem)) <= set(certificates(bundle))


def update(command: Sequence[str] = ("update-ca-certificates",)) -> None:
    """Make the bundle anew. Raises OSError with the command's message when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(f"{command[0]}: {(done.stderr or done.stdout).strip()}")
