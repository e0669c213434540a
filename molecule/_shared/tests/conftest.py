"""Makes the collection importable in the tests of hosts as Ansible does it, and lets testinfra find Ansible."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# testinfra calls `ansible-inventory` by name, and pytest may be started without the environment's bin on the path
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".collections")

import pytest  # noqa: E402
from ansible.plugins.loader import init_plugin_loader  # noqa: E402  # Ansible reads its configuration when imported

init_plugin_loader()


@pytest.fixture(scope="session")
def where(request: pytest.FixtureRequest) -> str:
    """Return the inventory's path."""
    from cloud import inventory  # noqa: PLC0415  # it imports the collection

    return inventory(request.config)
