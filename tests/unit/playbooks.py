"""Runs playbooks as a person does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def playbook(folder: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the checkout with the inventory in a folder, and return what came of it."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(folder),
        str(ROOT / "playbooks" / name),
        *options,
    ]
    # without what other tests of this process have set for Ansible
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(folder.parent / "ansible")}
    environment["ANSIBLE_STDOUT_CALLBACK"] = "ansible.builtin.default"  # one line with the whole result
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
