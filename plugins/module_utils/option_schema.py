"""Option schemas."""

from __future__ import annotations

from typing import Any


def load(path: str) -> Any:
    """Return nothing."""
    return None


def is_multi(schema: Any, section: str, key: str) -> bool:
    """Return whether an option is a MultiOpt."""
    return False
