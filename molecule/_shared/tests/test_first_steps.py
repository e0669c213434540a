"""The page docs/first-steps.md, command by command as a new user types them."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tools import first_steps  # noqa: E402


def test_first_steps(where: str) -> None:
    assert first_steps.main([where]) == 0
