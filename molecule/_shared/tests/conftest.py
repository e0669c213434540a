"""Makes the collection importable in the tests of hosts as it is in Ansible, and lets testinfra find Ansible."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / ".collections"))
# testinfra calls `ansible-inventory` by name, and pytest may be started without the environment's bin on the path
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ.setdefault("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
