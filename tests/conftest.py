"""Makes the collection importable in tests as it is in Ansible, and plans inventories without Ansible."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".collections"))
