"""Makes the collection importable in tests as it is in Ansible, and plans inventories without Ansible."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".collections"))


@pytest.fixture(autouse=True)
def own_host_lock(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let modules lock a folder of the test's own instead of this machine."""
    from ansible_collections.brume.cloud.plugins.module_utils import host_lock  # noqa: PLC0415

    monkeypatch.setattr(host_lock, "FOLDER", str(tmp_path_factory.mktemp("locks")))
    yield
    for handle in host_lock.inherited():
        os.close(handle)
    host_lock.release()
