"""What a lab consists of, read from an inventory: hosts, and the networks between them and this machine."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import netaddr

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

# Whatever imports Ansible next reads its settings then.
os.environ.setdefault("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".collections"))

SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
"""Values of `brume_operating_system`, and the releases as Debian's archive calls them."""

DEFAULT_SYSTEM = "debian-13"
MANAGEMENT = "management"
EXTERNAL = "external"
LAYER2_GROUPS = frozenset({"network", "compute"})
"""Groups whose hosts have a port in the external network, with or without an address there."""

SETTINGS = {"cpus": (int, float), "memory": str, "packages": list, "direct": list, "disks": dict}
"""Keys of `brume_lab` and their types."""


class LabError(RuntimeError):
    """A lab cannot be made, reached or removed; the text names what, why and the remedy."""


@dataclass(frozen=True)
class Network:
    """One network of the inventory as a bridge on this machine, which holds the gateway's address there."""

    name: str
    interface: str
    cidr: netaddr.IPNetwork
    gateway: netaddr.IPAddress
    mtu: int | None = None


@dataclass(frozen=True)
class Port:
    """A host's interface in a network; without an address it is only plugged in."""

    network: str
    interface: str
    address: netaddr.IPAddress | None


@dataclass(frozen=True)
class Host:
    """One container. `address` is the one that SSH uses; `memory` as podman writes it (`8g`), `cpus` a number.

    `direct` are hosts outside of the lab that are reached without a proxy, such as those of a lab beside it. `disks`
    are block devices by their names below /dev, with their sizes in bytes.
    """

    name: str
    ports: tuple[Port, ...]
    suite: str = SUITES[DEFAULT_SYSTEM]
    cpus: float | None = None
    memory: str | None = None
    packages: tuple[str, ...] = ()
    direct: tuple[str, ...] = ()
    disks: tuple[tuple[str, int], ...] = ()

    @property
    def address(self) -> str:
        """Return the management address."""
        return next(str(port.address) for port in self.ports if port.network == MANAGEMENT)


@dataclass(frozen=True)
class Lab:
    """All of it. `name` is the inventory folder's."""

    name: str
    networks: tuple[Network, ...]
    hosts: tuple[Host, ...]


@dataclass(frozen=True)
class HostVariables:
    """A host's variables that matter here, resolved; `groups` are the names of all it is in."""

    name: str
    groups: frozenset[str]
    networks: Mapping[str, Mapping[str, Any]]
    addresses: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    interfaces: Mapping[str, str] = field(default_factory=dict)
    system: str = DEFAULT_SYSTEM


def state_directory(name: str) -> Path:
    """Return where a lab's key, addresses and credentials are kept."""
    return ROOT / ".lab" / name


def inventory_name(inventory: Path) -> str:
    """Return the lab's name for an inventory folder (or file); raises LabError where it is unusable."""
    folder = inventory if inventory.is_dir() else inventory.parent
    if not inventory.exists():
        raise LabError(f"{inventory}: there is no such inventory; give INVENTORY=inventories/<name>")
    name = folder.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", name):
        raise LabError(f"{inventory}: {name!r} names containers and folders; use letters, digits, dots and dashes")
    return name


@functools.cache
def know_plugins() -> None:
    """Let Ansible find the collection's plugins, which inventories name.

    Has to come before Python finds the collection by itself, and warns when it comes twice.
    """
    from ansible.plugins.loader import init_plugin_loader  # noqa: PLC0415  # reads its settings when imported

    init_plugin_loader()


def read(inventory: Path) -> Lab:
    """Read an inventory through Ansible; raises LabError with every mistake in it."""
    name = inventory_name(inventory)
    from ansible.inventory.manager import InventoryManager  # noqa: PLC0415  # reads its settings when imported
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.template import Templar  # noqa: PLC0415
    from ansible.vars.manager import VariableManager  # noqa: PLC0415

    know_plugins()
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(inventory)])
    variables = VariableManager(loader=loader, inventory=manager)
    hosts = []
    for host in manager.get_hosts("all"):
        known = variables.get_vars(host=host)
        if "brume_addresses" not in known and not {group.name for group in host.get_groups()} - {"all", "ungrouped"}:
            continue  # the lab remembers it (plugins/inventory/lab.py), and the inventory has it no more
        templar = Templar(loader=loader, variables=known)
        networks, addresses, chosen, interfaces = (
            templar.template(known.get(key) or {})
            for key in ("brume_networks", "brume_addresses", "brume_lab", "brume_interfaces")
        )
        groups = frozenset(group.name for group in host.get_groups())
        system = str(known.get("brume_operating_system", DEFAULT_SYSTEM))
        hosts.append(HostVariables(host.name, groups, networks, addresses, chosen, interfaces, system))
    return layout(name, hosts)


def layout(name: str, hosts: Sequence[HostVariables]) -> Lab:
    """Return the lab of an inventory; raises LabError with every mistake in it."""
    problems: list[str] = []
    if not hosts:
        raise LabError(f"{name}: the inventory has no hosts")
    networks: dict[str, Network] = {}
    containers = []
    for host in hosts:
        for key, found in _networks(host, problems).items():
            if networks.setdefault(key, found) != found:
                problems.append(f"brume_networks.{key}: differs between hosts; a lab has one bridge for each")
        containers.append(_host(host, networks, problems))
    by_interface: dict[str, str] = {}
    for network in networks.values():
        other = by_interface.setdefault(network.interface, network.name)
        if other != network.name:
            problems.append(
                f"brume_networks.{network.name}.interface: {network.interface} is {other}'s already; "
                f"leave {network.name} out to let it fall back to {MANAGEMENT}, or give it an interface of its own"
            )
    taken: dict[str, str] = {}
    for container in containers:
        for port in container.ports:
            if port.address is not None and taken.setdefault(str(port.address), container.name) != container.name:
                problems.append(f"{container.name}: {port.address} is the address of {taken[str(port.address)]}")
            if port.address is not None and port.address == networks[port.network].gateway:
                problems.append(f"{container.name}: {port.address} is this machine's own address on {port.network}")
    if problems:
        raise LabError("\n".join(dict.fromkeys(problems)))
    return Lab(name, tuple(networks.values()), tuple(containers))


def _networks(host: HostVariables, problems: list[str]) -> dict[str, Network]:
    found = {}
    for name, one in host.networks.items():
        if not one.get("interface"):
            continue
        place = f"brume_networks.{name}"
        try:
            cidr = netaddr.IPNetwork(str(one["cidr"]))
            gateway = netaddr.IPAddress(str(one.get("gateway") or cidr[1]))
        except (KeyError, ValueError, netaddr.AddrFormatError) as error:
            problems.append(f"{place}: cidr or gateway is missing or no address: {error}")
            continue
        interface = str(one["interface"])
        if not re.fullmatch(r"[a-z][a-z0-9]{0,14}", interface):
            problems.append(f"{place}.interface: {interface} is no plain network card; a lab has no VLANs or bonds")
        found[name] = Network(name, interface, cidr, gateway, int(one["mtu"]) if one.get("mtu") else None)
    return found


def _host(host: HostVariables, networks: Mapping[str, Network], problems: list[str]) -> Host:
    ports = []
    for name, network in networks.items():
        given = host.addresses.get(name)
        interface = host.interfaces.get(name, network.interface)
        if given is None:
            if name == EXTERNAL and host.groups & LAYER2_GROUPS:
                ports.append(Port(name, interface, None))
            continue
        try:
            address = netaddr.IPAddress(str(given))
        except (ValueError, netaddr.AddrFormatError):
            problems.append(f"{host.name}: brume_addresses.{name}: {given} is no address")
            continue
        if address not in network.cidr:
            problems.append(f"{host.name}: brume_addresses.{name}: {address} is not in {network.cidr}")
        ports.append(Port(name, interface, address))
    if not any(port.network == MANAGEMENT and port.address for port in ports):
        problems.append(
            f"{host.name}: needs brume_addresses.{MANAGEMENT}, and brume_networks.{MANAGEMENT} cidr and interface"
        )
    for key, value in host.settings.items():
        if key not in SETTINGS:
            problems.append(f"{host.name}: brume_lab.{key}: unknown; known: {', '.join(SETTINGS)}")
        elif not isinstance(value, SETTINGS[key]):  # type: ignore[arg-type]  # a mapping of types loses theirs
            problems.append(f"{host.name}: brume_lab.{key}: {value!r} is of the wrong type")
    disks = host.settings.get("disks")
    for disk, size in disks.items() if isinstance(disks, Mapping) else ():
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", str(disk)) or _size(size) < 1:
            problems.append(f"{host.name}: brume_lab.disks.{disk}: {size!r}; write a name and a size such as vdb: 2G")
    if host.system not in SUITES:
        problems.append(f"{host.name}: brume_operating_system: {host.system}; choose from {', '.join(SUITES)}")
    return Host(
        host.name,
        tuple(ports),
        SUITES.get(host.system, ""),
        host.settings.get("cpus"),
        host.settings.get("memory"),
        tuple(host.settings.get("packages", ())),
        tuple(host.settings.get("direct", ())),
        tuple((str(disk), _size(size)) for disk, size in disks.items()) if isinstance(disks, Mapping) else (),
    )


def _size(text: Any) -> int:
    """Return a size such as 512M or 2G in bytes, 0 where it is none."""
    match = re.fullmatch(r"(\d+)([MG])", str(text))
    return int(match[1]) * 1024 ** (2 if match[2] == "M" else 3) if match else 0


def digest(*parts: Any) -> str:
    """Return 12 hexadecimal digits that change with any of the parts (dataclasses, containers, text)."""
    text = json.dumps([_plain(part) for part in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(part: Any) -> Any:
    return asdict(part) if hasattr(part, "__dataclass_fields__") else part
