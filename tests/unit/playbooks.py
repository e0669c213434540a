"""Runs playbooks as a person does."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
KEY = base64.b64encode(bytes(range(32))).decode()
"""A master key."""


def one_host(folder: Path) -> Path:
    """Write the inventory of a host that is in all groups and does not answer; return its folder."""
    (folder / "group_vars").mkdir(parents=True)
    one = {"hosts": {"one": {"brume_addresses": {"management": "192.0.2.11"}, "ansible_port": 1}}}
    groups = dict.fromkeys(("control", "network", "compute", "loadbalancer", "database", "messaging"), one)
    (folder / "hosts.yml").write_text(yaml.safe_dump(groups))
    networks = {"management": {"cidr": "192.0.2.0/24", "interface": "nowhere1"}}
    networks["external"] = {"cidr": "198.51.100.0/24", "interface": "nowhere0"}
    variables = {"ansible_host": "127.0.0.1", "brume_networks": networks, "brume_master_key": KEY}
    variables["brume_clouds_file"] = str(folder.parent / "clouds.yaml")
    (folder / "group_vars/all.yml").write_text(yaml.safe_dump(variables))
    return folder


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
