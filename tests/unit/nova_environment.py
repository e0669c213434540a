"""Nova itself, for tests that compare with it: environments of pinned releases, built once into `.cache`."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from ansible_collections.brume.cloud.plugins.module_utils.locks import lock_digest
from ansible_collections.brume.cloud.plugins.module_utils.uv_environments import host_variables

from tools.schemas import install

ROOT = Path(__file__).resolve().parents[2]


def nova_python(release: str = "2026.1") -> str:
    """Return the interpreter of a release's environment. Raises ToolError with uv's output when it cannot be built.

    Its digest names it; the marker is written last. Test processes side by side wait for the one that builds.
    """
    file = f"roles/nova/files/locks/{release}.txt"
    lock = (ROOT / file).read_text("utf-8")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = ROOT / ".cache/environments" / f"nova-{lock_digest(lock)[:12]}-{version}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        marker = place / ".complete"
        if not marker.exists():
            install(str(place), "nova", lock, file, sys.executable, {**os.environ, **host_variables(os.environ)})
            marker.touch()
    return str(place / "bin/python")
