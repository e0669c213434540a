"""Tells Ansible how to reach the hosts of a lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.template import trust_as_template

DOCUMENTATION = r"""
name: lab
short_description: How to reach the hosts of a lab
description:
  - Reads what C(tools/lab.py create) wrote to C(.lab/<inventory>/) of the checkout, and sets the connection variables
    of its hosts, C(brume_master_key) (as a lookup of the lab's key file, never as a value) and C(brume_clouds_file).
  - Adds nothing where there is no lab, so that plans can be made without one. Groups and all other variables come
    from the other files of the inventory.
options:
  plugin:
    description: Must be C(brume.cloud.lab).
    type: str
    required: true
    choices: [brume.cloud.lab]
  directory:
    description: Folder of the lab; C(.lab/) in the checkout with the name of the inventory's folder if left out.
    type: path
"""

EXAMPLES = r"""
# inventories/aio/lab.yml
plugin: brume.cloud.lab
"""

CHECKOUT = Path(__file__).resolve().parents[2]


class InventoryModule(BaseInventoryPlugin):
    """See DOCUMENTATION."""

    NAME = "brume.cloud.lab"

    def verify_file(self, path: str) -> bool:
        """Accept `lab.yml` alone: every other file of an inventory is another plugin's."""
        accepted = super().verify_file(path)  # type: ignore[no-untyped-call]
        return bool(accepted) and Path(path).name in ("lab.yml", "lab.yaml")

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the hosts of the lab; raises AnsibleParserError when its files cannot be read."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        name = Path(path).resolve().parent.name
        given = self.get_option("directory")
        directory = Path(given) if given else CHECKOUT / ".lab" / name
        hosts_file = directory / "hosts.json"
        if not hosts_file.exists():
            return
        try:
            hosts = json.loads(hosts_file.read_text(encoding="utf-8"))
            variables = {host: connection(directory, name, host, one) for host, one in hosts.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AnsibleParserError(f"{hosts_file}: not what tools/lab.py writes: {error!r}") from error
        for host, values in variables.items():
            inventory.add_host(host)
            for key, value in values.items():
                inventory.set_variable(host, key, trusted(value))
        for key, value in cloud(directory).items():
            inventory.set_variable("all", key, trusted(value))


def trusted(value: Any) -> Any:
    """Return a value as if it stood in an inventory file: others are exported as `{"__ansible_unsafe": ...}`."""
    return trust_as_template(value) if isinstance(value, str) else value


def connection(directory: Path, name: str, host: str, record: dict[str, str]) -> dict[str, Any]:
    """Return a host's connection variables.

    The control path holds the host's incarnation, because a connection that OpenSSH keeps open to a host of an
    earlier lab at the same address would hang.
    """
    known = f'-o UserKnownHostsFile="{directory}/known_hosts" -o GlobalKnownHostsFile=/dev/null'
    return {
        "ansible_host": record["address"],
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(directory / "ssh_key"),
        "ansible_ssh_common_args": f"{known} -o IdentitiesOnly=yes",
        "ansible_host_key_checking": True,
        "ansible_control_path": f"%(directory)s/lab-{name[:12]}-{host[:12]}-{record['incarnation']}",
    }


def cloud(directory: Path) -> dict[str, Any]:
    """Return the variables of the whole cloud."""
    path = str(directory / "master_key").replace("'", "''")
    return {
        "brume_master_key": "{{ lookup('ansible.builtin.file', '" + path + "') }}",
        "brume_clouds_file": str(directory / "clouds.yaml"),
    }
