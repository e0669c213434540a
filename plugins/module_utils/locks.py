"""Locks: requirements files with hashes."""

from __future__ import annotations

import hashlib


def lock_digest(text: str) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of a lock's lines, comments left out."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
