"""The plan: inventory data and service descriptions in, a typed description of every host and of the cloud out.

`plan()` is pure: it reads no file, asks no host and sees no value of a secret. Every mistake it finds is in the
`PlanError` it raises, all at once. Addresses are netaddr objects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import netaddr
from ansible_collections.brume.cloud.plugins.module_utils.description import (
    GROUPS,
    WAVES,
    Component,
    File,
    Named,
    Problem,
    Service,
)
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import Schema, check
from ansible_collections.brume.cloud.plugins.module_utils.secrets import generation_of
from ansible_collections.brume.cloud.plugins.module_utils.sources import Sources, Variable

NETWORK_FALLBACKS = {"tunnel": "management", "api": "management", "storage": "management", "replication": "management"}
BACKEND_OFFSET = 10000
"""An API process listens on its public port plus this; HAProxy has the public port."""

VARIABLES = {
    variable.name: variable
    for variable in (
        Variable("brume_release", "str", "2026.1"),
        Variable("brume_services", "list", ["keystone", "glance", "placement", "nova", "neutron"]),
        Variable("brume_networks", "dict", {}),
        Variable("brume_addresses", "dict", {}),
        Variable("brume_interfaces", "dict", {}),
        Variable("brume_config", "dict", {}),
        Variable("brume_region", "str", "RegionOne"),
        Variable("brume_cells", "list", ["cell1"]),
        Variable("brume_workers", "dict", {"default": 4}),
        Variable("brume_secret_generations", "dict", {}),
        Variable("brume_kernel_shared", "bool", False),
        Variable("brume_operating_system", "str", "debian-13", ("debian-12", "debian-13")),
        Variable("brume_wheelhouse", "str", ""),
        Variable("brume_clouds_file", "str", ""),
        Variable("brume_lab", "dict", {}),
    )
}
"""The plan's own variables. brume_master_key and brume_secrets are read only where files are rendered."""

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "float": (float, int),
    "path": (str,),
}
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
HOST_NAME_LENGTH = 64
"""Linux's HOST_NAME_MAX; agents report the name as their host."""

_PORT_MAXIMUM = 65535


class PlanError(ValueError):
    """The inventory or a description cannot be planned; `problems` has every mistake."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems, and make one message of them."""
        self.problems = problems
        count = f"{len(problems)} mistakes" if len(problems) > 1 else "1 mistake"
        super().__init__("\n".join([f"the inventory cannot be deployed: {count}", *(f"  {one}" for one in problems)]))


@dataclass(frozen=True)
class Network:
    """One role of network; `mtu` in bytes."""

    name: str
    cidr: netaddr.IPNetwork
    interface: str
    vip: netaddr.IPAddress | None = None
    fqdn: str = ""
    mtu: int = 1500
    gateway: netaddr.IPAddress | None = None
    allocation_pool: tuple[netaddr.IPAddress, ...] = ()


@dataclass(frozen=True)
class Listen:
    """Where a process accepts connections."""

    address: str
    port: int


@dataclass(frozen=True)
class Instance:
    """A component on a host (per cell where it has cells)."""

    service: str
    component: str
    cell: str
    unit: str
    listen: Listen | None
    processes: int


@dataclass(frozen=True)
class Port:
    """A TCP port that a unit of the plan holds on a host."""

    address: str
    port: int
    unit: str


@dataclass(frozen=True)
class Environment:
    """A service's Python environment on a host."""

    service: str
    path: str
    current: str
    digest: str


@dataclass(frozen=True)
class FileEntry:
    """A configuration file on a host; its content comes from `rendering`."""

    path: str
    service: str
    name: str
    cell: str
    owner: str
    group: str
    mode: str


@dataclass(frozen=True)
class User:
    """A system user of the host."""

    name: str
    groups: tuple[str, ...]
    home: str
    create: bool


@dataclass(frozen=True)
class Host:
    """One host's slice of the plan; work on a host depends on nothing else."""

    name: str
    groups: tuple[str, ...]
    addresses: Mapping[str, netaddr.IPAddress]
    interfaces: Mapping[str, str]
    variables: Mapping[str, Any]
    layers: tuple[Layer, ...]
    instances: tuple[Instance, ...]
    packages: tuple[str, ...]
    environments: tuple[Environment, ...]
    files: tuple[FileEntry, ...]
    directories: tuple[FileEntry, ...]
    users: tuple[User, ...]
    ports: tuple[Port, ...]

    def services(self, wave: str, services: Mapping[str, Service]) -> list[str]:
        """Return the host's services of a wave, in order."""
        return [
            name
            for name in dict.fromkeys(instance.service for instance in self.instances)
            if services[name].wave == wave
        ]


@dataclass(frozen=True)
class Server:
    """A process behind the load balancer."""

    name: str
    host: str
    port: int
    capacity: int = 0
    """Requests that it works on at a time; 0 where that has no bound."""


@dataclass(frozen=True)
class Frontend:
    """What the load balancer offers on one port."""

    name: str
    port: int
    public: bool
    websocket: bool
    health: str
    servers: tuple[Server, ...]


@dataclass(frozen=True)
class Endpoint:
    """An entry of Keystone's catalog."""

    service: str
    type: str
    description: str
    interface: str
    url: str


@dataclass(frozen=True)
class Account:
    """A database with its account, or a vhost with its account."""

    name: str
    service: str
    account: str
    secret: str
    former: tuple[str, ...] = ()
    """Accounts of earlier generations, which `rotate.yml` drops."""


@dataclass(frozen=True)
class Login:
    """A service's user in Keystone."""

    name: str
    service: str
    secret: str
    roles: tuple[str, ...]
    former: tuple[str, ...] = ()
    """Users of earlier generations, which `rotate.yml` deletes."""


@dataclass(frozen=True)
class Cloud:
    """What exists once per cloud."""

    release: str
    region: str
    services: tuple[str, ...]
    cells: tuple[str, ...]
    networks: Mapping[str, Network]
    members: Mapping[str, tuple[tuple[str, str], ...]]
    internal_host: str
    public_host: str
    frontends: tuple[Frontend, ...]
    endpoints: tuple[Endpoint, ...]
    databases: tuple[Account, ...]
    vhosts: tuple[Account, ...]
    logins: tuple[Login, ...]
    generations: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The whole plan."""

    cloud: Cloud
    hosts: Mapping[str, Host]
    warnings: tuple[str, ...] = ()


def account_name(base: str, generation: int) -> str:
    """Return the account of a generation, so that a rotation never locks a live client out."""
    return base if generation == 1 else f"{base}_{generation}"


def former_names(base: str, generation: int) -> tuple[str, ...]:
    """Return the accounts of all generations before one."""
    return tuple(account_name(base, number) for number in range(1, generation))


def bridge(address: str) -> str:
    """Return an address as URLs want it: IPv6 in brackets (RFC 3986, section 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def plan(inventory: Inventory, sources: Sources) -> Plan:
    """Return the plan of a cloud; raises PlanError with every mistake."""
    problems: list[Problem] = list(sources.problems)
    members = _members(inventory, problems)
    names = list(dict.fromkeys(host for group in GROUPS for host in members[group]))
    if not names:
        raise PlanError(
            [*problems, Problem("inventory", "has no host in any group", "add a host to the group control")]
        )
    known = {**VARIABLES, **sources.variables}
    resolved = _variables(inventory, names, known, problems)
    first, first_host = resolved[names[0]], names[0]

    def where(key: str, host: str = first_host) -> str:
        return _where(inventory.hosts[host], key)

    networks = _networks(first["brume_networks"], where("brume_networks"), members, problems)
    addresses = _addresses(inventory, names, resolved, networks, members, problems)
    services = _services(first, where, sources, problems)
    release = first["brume_release"]
    _locks(services, sources, release, where("brume_release"), problems)
    warnings = _overrides(inventory, names, services, sources, release, problems)
    if problems:
        raise PlanError(problems)

    generations = first["brume_secret_generations"]
    cells = tuple(first["brume_cells"])
    balancers = members["loadbalancer"]
    internal = _endpoint_host(networks["management"], addresses, balancers)
    public = networks["api"].fqdn or _endpoint_host(networks["api"], addresses, balancers)
    ordered = sorted(services.values(), key=lambda one: WAVES.index(one.wave))
    runs = {name: [group for group in GROUPS if name in members[group]] for name in names}
    frontends = _frontends(ordered, members, addresses, resolved)
    cloud = Cloud(
        release=release,
        region=first["brume_region"],
        services=tuple(one.name for one in ordered),
        cells=cells,
        networks=networks,
        members={
            group: tuple((host, str(addresses[host]["management"])) for host in hosts)
            for group, hosts in members.items()
        },
        internal_host=internal,
        public_host=public,
        frontends=frontends,
        endpoints=tuple(_endpoints(ordered, internal, public)),
        databases=tuple(_accounts(ordered, "database", cells, generations)),
        vhosts=tuple(_accounts(ordered, "messaging", cells, generations)),
        logins=tuple(
            Login(
                account_name(one.name, generation_of(generations, f"{one.name}/keystone")),
                one.name,
                f"{one.name}/keystone",
                one.service_roles,
                former_names(one.name, generation_of(generations, f"{one.name}/keystone")),
            )
            for one in ordered
            if one.auth
        ),
        generations=generations,
    )
    shared = _Shared(ordered, cloud, members, addresses, sources)
    hosts = {
        name: _host(
            name, runs[name], resolved[name], inventory.hosts[name], addresses[name], networks, shared, problems
        )
        for name in names
    }
    if problems:
        raise PlanError(problems)
    return Plan(cloud, hosts, tuple(warnings))


def _where(layers: tuple[Layer, ...], key: str) -> str:
    """Return where the winning value of a variable was said."""
    for layer in reversed(layers):
        if key in layer.variables:
            return f"{layer.where(key)}: {key}"
    return key


def _members(inventory: Inventory, problems: list[Problem]) -> dict[str, tuple[str, ...]]:
    members = {}
    for group in GROUPS:
        members[group] = inventory.groups.get(group, ())
        needed = group not in ("block", "object")
        if needed and not members[group]:
            inside = (
                f"`{group}: {{children: {{control: {{}}}}}}`"
                if group not in ("control", "network", "compute")
                else (f"`{group}: {{hosts: {{...}}}}`")
            )
            state = "has no host" if group in inventory.groups else "is missing"
            problems.append(Problem("inventory", f"the group `{group}` {state}", f"add {inside}"))
    return members


def _variables(
    inventory: Inventory, names: list[str], known: Mapping[str, Variable], problems: list[Problem]
) -> dict[str, dict[str, Any]]:
    """Return each host's variables: defaults, then the layers. Types are checked once per layer, not once per host."""
    checked: dict[int, dict[str, Any]] = {}
    keep: list[Layer] = []
    defaults = {name: variable.default for name, variable in known.items()}

    def accepted(layer: Layer) -> dict[str, Any]:
        if id(layer) not in checked:
            keep.append(layer)
            checked[id(layer)] = _typed(layer, known, problems)
        return checked[id(layer)]

    result = {}
    for name in names:
        if not _HOST_NAME.fullmatch(name) or len(name) > HOST_NAME_LENGTH:
            problems.append(
                Problem(
                    "inventory",
                    f"`{name}` is no host name",
                    f"use at most {HOST_NAME_LENGTH} lower-case letters, digits, hyphens and dots",
                )
            )
        values = dict(defaults)
        for layer in inventory.hosts[name]:
            values.update(accepted(layer))
        result[name] = values
    return result


def _typed(layer: Layer, known: Mapping[str, Variable], problems: list[Problem]) -> dict[str, Any]:
    values = {}
    for key, value in layer.variables.items():
        variable = known.get(key)
        place = f"{layer.where(key)}: {key}"
        if variable is None:
            similar = [name for name in known if name.split("_")[0] == key.split("_")[0]]
            problems.append(
                Problem(place, "is not a variable of Brume", "remove it, or use one of " + ", ".join(sorted(similar)))
            )
            continue
        kinds = _PYTHON_TYPES[variable.type]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            problems.append(
                Problem(place, f"`{value}` is not of type {variable.type}", f"write a value of type {variable.type}")
            )
            continue
        if variable.choices and value not in variable.choices:
            choices = ", ".join(str(one) for one in variable.choices)
            problems.append(Problem(place, f"`{value}` is not allowed", f"use one of {choices}"))
            continue
        values[key] = value
    return values


_NETWORK_KEYS = ("cidr", "vip", "mtu", "interface", "fqdn", "gateway", "allocation_pool")


def _networks(
    data: Mapping[str, Any], where: str, members: Mapping[str, tuple[str, ...]], problems: list[Problem]
) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    for name, value in data.items():
        place = f"{where}.{name}"
        if not isinstance(value, Mapping):
            problems.append(Problem(place, "is no mapping", "write cidr, interface, ... below it"))
            continue
        problems.extend(
            Problem(f"{place}.{key}", "is not a key of a network", "use one of " + ", ".join(_NETWORK_KEYS))
            for key in value
            if key not in _NETWORK_KEYS
        )
        network = _network(str(name), value, place, problems)
        if network is not None:
            networks[str(name)] = network
    for name in ("management", "external"):
        if name not in data:
            problems.append(Problem(where, f"has no network `{name}`", f"add `{name}: {{cidr: ..., interface: ...}}`"))
    listed = list(networks.values())
    for index, one in enumerate(listed):
        for other in listed[index + 1 :]:
            if one.cidr in other.cidr or other.cidr in one.cidr:
                problems.append(
                    Problem(
                        f"{where}.{other.name}.cidr",
                        f"{other.cidr} overlaps {one.cidr} of the network {one.name}",
                        "give each network addresses of its own, or leave the network out to use its fall-back",
                    )
                )
    for name, fallback in NETWORK_FALLBACKS.items():
        if name not in networks and fallback in networks:
            networks[name] = networks[fallback]
    if len(members["loadbalancer"]) > 1:
        problems.extend(
            Problem(f"{where}.{name}.vip", "is missing, and there are several load balancers", "give the network a vip")
            for name in ("management", "api")
            if name in networks and networks[name].vip is None and name in data
        )
    return networks


def _network(name: str, value: Mapping[str, Any], place: str, problems: list[Problem]) -> Network | None:
    try:
        cidr = netaddr.IPNetwork(str(value["cidr"]))
    except KeyError:
        problems.append(Problem(f"{place}.cidr", "is missing", "write the network's address and prefix length"))
        return None
    except (netaddr.AddrFormatError, ValueError):
        problems.append(
            Problem(
                f"{place}.cidr", f"`{value['cidr']}` is no network", "write for example 192.0.2.0/24 or 2001:db8::/64"
            )
        )
        return None
    if cidr.ip != cidr.network:
        problems.append(Problem(f"{place}.cidr", f"`{value['cidr']}` has bits of a host set", f"write {cidr.cidr}"))
    if not value.get("interface"):
        problems.append(Problem(f"{place}.interface", "is missing", "name the hosts' network interface, such as eth0"))

    def address(key: str, text: Any) -> netaddr.IPAddress | None:
        try:
            found = netaddr.IPAddress(str(text))
        except (netaddr.AddrFormatError, ValueError):
            problems.append(Problem(f"{place}.{key}", f"`{text}` is no address", f"write an address of {cidr.cidr}"))
            return None
        if found not in cidr:
            problems.append(
                Problem(f"{place}.{key}", f"{found} is not in {cidr.cidr}", f"write an address of {cidr.cidr}")
            )
        return found

    pool = value.get("allocation_pool") or []
    if pool and (not isinstance(pool, list) or len(pool) != 2):  # noqa: PLR2004
        problems.append(Problem(f"{place}.allocation_pool", "is no pair", "write [first address, last address]"))
        pool = []
    mtu = value.get("mtu", 1500)
    minimum = 1280 if cidr.version == 6 else 576  # noqa: PLR2004
    if not isinstance(mtu, int) or isinstance(mtu, bool) or mtu < minimum:
        problems.append(Problem(f"{place}.mtu", f"`{mtu}` is no MTU", f"write a number of bytes, at least {minimum}"))
        mtu = 1500
    return Network(
        name=name,
        cidr=cidr.cidr,
        interface=str(value.get("interface", "")),
        vip=address("vip", value["vip"]) if value.get("vip") else None,
        fqdn=str(value.get("fqdn", "")),
        mtu=mtu,
        gateway=address("gateway", value["gateway"]) if value.get("gateway") else None,
        allocation_pool=tuple(one for one in (address("allocation_pool", item) for item in pool) if one is not None),
    )


def _addresses(
    inventory: Inventory,
    names: list[str],
    resolved: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Network],
    members: Mapping[str, tuple[str, ...]],
    problems: list[Problem],
) -> dict[str, dict[str, netaddr.IPAddress]]:
    """Return each host's addresses by network, fall-backs filled in."""
    taken: dict[str, str] = {}
    vips = {str(network.vip): network.name for network in networks.values() if network.vip is not None}
    result: dict[str, dict[str, netaddr.IPAddress]] = {}
    needs_tunnel = {*members["network"], *members["compute"]}
    balancers = set(members["loadbalancer"])
    for host in names:
        where = _where(inventory.hosts[host], "brume_addresses")
        own: dict[str, netaddr.IPAddress] = {}
        for name, text in resolved[host]["brume_addresses"].items():
            place = f"{where}.{name}"
            if name not in networks:
                problems.append(
                    Problem(place, "names no network of brume_networks", "use one of " + ", ".join(sorted(networks)))
                )
                continue
            try:
                address = netaddr.IPAddress(str(text))
            except (netaddr.AddrFormatError, ValueError):
                problems.append(Problem(place, f"`{text}` is no address", f"write an address of {networks[name].cidr}"))
                continue
            if address not in networks[name].cidr:
                problems.append(
                    Problem(
                        place, f"{address} is not in {networks[name].cidr}", f"write an address of the network {name}"
                    )
                )
            if taken.get(str(address), host) != host:
                problems.append(
                    Problem(place, f"{address} is the address of {taken[str(address)]} too", "give each host its own")
                )
            if str(address) in vips:
                problems.append(
                    Problem(
                        place, f"{address} is the vip of the network {vips[str(address)]}", "give one of them another"
                    )
                )
            taken[str(address)] = host
            own[name] = address
        for name in ("management", *NETWORK_FALLBACKS):
            if name in own or name not in networks:
                continue
            fallback = networks[name].name
            if fallback in own:
                own[name] = own[fallback]
                continue
            wanted = {"management": True, "tunnel": host in needs_tunnel, "api": host in balancers}.get(name, False)
            if wanted:
                problems.append(
                    Problem(
                        where if "brume_addresses" in where else f"host {host}: brume_addresses",
                        f"{host} has no address on the network {name}",
                        f"add `{name}: <address of {networks[name].cidr}>`",
                    )
                )
        result[host] = own
    return result


def _services(first: Mapping[str, Any], where: Any, sources: Sources, problems: list[Problem]) -> dict[str, Service]:
    """Return the services of the cloud: infrastructure always, others by brume_services."""
    chosen = {name: one for name, one in sources.services.items() if one.wave == "infrastructure"}
    available = sorted(set(sources.services) - set(chosen))
    for name in first["brume_services"]:
        if name not in available:
            problems.append(
                Problem(where("brume_services"), f"`{name}` is no service", "use one of " + ", ".join(available))
            )
            continue
        chosen[name] = sources.services[name]
    for one in chosen.values():
        for required in one.requires:
            if required not in chosen:
                problems.append(
                    Problem(
                        where("brume_services"), f"{one.name} requires {required}", f"add {required} to brume_services"
                    )
                )
            elif WAVES.index(chosen[required].wave) > WAVES.index(one.wave):
                problems.append(
                    Problem(
                        f"{one.file}: requires",
                        f"{required} starts in the wave {chosen[required].wave}, after {one.wave}",
                        "correct `wave`",
                    )
                )
    _clashes(chosen, problems)
    return chosen


def _clashes(services: Mapping[str, Service], problems: list[Problem]) -> None:
    ports: dict[int, str] = {}
    databases: dict[str, str] = {}
    for one in services.values():
        for component in one.components.values():
            label = f"{one.name} {component.name}"
            if component.port and component.port in ports:
                problems.append(
                    Problem(
                        f"{one.file}: components.{component.name}.port",
                        f"{component.port} is the port of {ports[component.port]} too",
                        "give one of them another port",
                    )
                )
            if component.port + BACKEND_OFFSET > _PORT_MAXIMUM:
                problems.append(
                    Problem(
                        f"{one.file}: components.{component.name}.port",
                        f"{component.port} is too high",
                        f"the process itself listens {BACKEND_OFFSET} above it; use a lower port",
                    )
                )
            if component.port:
                ports[component.port] = label
        for database in one.databases:
            if database.name in databases:
                problems.append(
                    Problem(
                        f"{one.file}: databases",
                        f"{database.name} is a database of {databases[database.name]} too",
                        "give it a name of its own",
                    )
                )
            databases[database.name] = one.name


def _locks(
    services: Mapping[str, Service], sources: Sources, release: str, where: str, problems: list[Problem]
) -> None:
    python = [one for one in services.values() if one.python_packages]
    releases = sorted({name for one in python for name in sources.locks.get(one.name, {})})
    if python and release not in releases:
        problems.append(
            Problem(where, f"`{release}` is no release that is known here", "use one of " + ", ".join(releases))
        )
        return
    problems.extend(
        Problem(
            f"roles/{one.name}/files/locks/{release}.txt",
            "is missing",
            f"make it with `make lock RELEASE={release}`",
        )
        for one in python
        if release not in sources.locks.get(one.name, {})
    )


def _overrides(
    inventory: Inventory,
    names: list[str],
    services: Mapping[str, Service],
    sources: Sources,
    release: str,
    problems: list[Problem],
) -> list[str]:
    """Check every brume_config once, against the release's own options; return what is odd but allowed."""
    warnings: list[str] = []
    layers = {
        id(layer): layer for name in names for layer in inventory.hosts[name] if "brume_config" in layer.variables
    }
    for layer in layers.values():
        where = f"{layer.where('brume_config')}: brume_config"
        config = layer.variables["brume_config"]
        if not isinstance(config, Mapping):
            continue  # _variables has said it
        for service, files in config.items():
            if service not in services:
                problems.append(
                    Problem(
                        f"{where}.{service}", "is no service of this cloud", "use one of " + ", ".join(sorted(services))
                    )
                )
                continue
            if not isinstance(files, Mapping):
                problems.append(Problem(f"{where}.{service}", "is no mapping", "write file names below it"))
                continue
            known = [name for name, file in services[service].files.items() if file.settings]
            schema = sources.schemas.get(service, {}).get(release)
            for file, tree in files.items():
                place = f"{where}.{service}.{file}"
                if file not in known:
                    problems.append(Problem(place, "is no file of the service", "use one of " + ", ".join(known)))
                elif not isinstance(tree, Mapping) or not all(isinstance(keys, Mapping) for keys in tree.values()):
                    problems.append(
                        Problem(place, "is no tree", "write sections below it, and `option: value` below those")
                    )
                elif schema is not None:
                    _options(schema, tree, place, problems, warnings)
    return warnings


def _options(schema: Schema, tree: Mapping[str, Any], place: str, problems: list[Problem], warnings: list[str]) -> None:
    fixed = {
        section: {key: value for key, value in keys.items() if "{{" not in str(value)} for section, keys in tree.items()
    }
    for finding in check(schema, fixed):
        if finding.level == "error":
            shown = f"`{finding.value}` does not fit"
            problems.append(Problem(f"{place}.{finding.section}.{finding.key}", shown, finding.expected))
        else:
            warnings.append(f"{place}.{finding.section}.{finding.key}: {finding.expected}")


def _endpoint_host(
    network: Network, addresses: Mapping[str, Mapping[str, netaddr.IPAddress]], balancers: tuple[str, ...]
) -> str:
    role = "management" if network.name == "management" else "api"
    return str(network.vip if network.vip is not None else addresses[balancers[0]][role])


def _listen_address(
    component: Component,
    members: Mapping[str, tuple[str, ...]],
    addresses: Mapping[str, Mapping[str, netaddr.IPAddress]],
    host: str,
) -> str:
    """Return where a process behind the load balancer listens: loopback if that is on its own host alone."""
    runs = {name for group in component.groups for name in members[group]}
    return "127.0.0.1" if runs == set(members["loadbalancer"]) == {host} else str(addresses[host]["management"])


def _frontends(
    services: list[Service],
    members: Mapping[str, tuple[str, ...]],
    addresses: Mapping[str, Mapping[str, netaddr.IPAddress]],
    resolved: Mapping[str, Mapping[str, Any]],
) -> tuple[Frontend, ...]:
    result = []
    for one in services:
        for component in one.components.values():
            if not component.port or component.kind == "system":
                continue
            hosts = list(dict.fromkeys(host for group in component.groups for host in members[group]))
            result.append(
                Frontend(
                    name=f"{one.name}-{component.name}",
                    port=component.port,
                    public=component.public,
                    websocket=component.websocket,
                    health=component.health if isinstance(component.health, str) else "",
                    servers=tuple(
                        Server(
                            host,
                            _listen_address(component, members, addresses, host),
                            component.port + BACKEND_OFFSET,
                            _capacity(one, component, resolved[host]),
                        )
                        for host in hosts
                    ),
                )
            )
    return tuple(result)


def _capacity(service: Service, component: Component, variables: Mapping[str, Any]) -> int:
    if component.kind != "wsgi":
        return 0
    count = workers(variables["brume_workers"], service.name, component.name, component.processes)
    return count * component.threads


def _endpoints(services: list[Service], internal: str, public: str) -> list[Endpoint]:
    result = []
    for one in services:
        if one.catalog is None:
            continue
        port = one.components[one.catalog.component].port
        for interface, host in (("public", public), ("internal", internal)):
            url = f"https://{bridge(host)}:{port}{one.catalog.path}"
            result.append(Endpoint(one.name, one.catalog.type, one.catalog.description, interface, url))
    return result


def expand(named: tuple[Named, ...], cells: tuple[str, ...]) -> list[str]:
    """Return the names of databases or vhosts, one per cell where they are said per cell."""
    return [
        name for one in named for name in ([one.name] if not one.each else [one.name.format(cell=c) for c in cells])
    ]


def _accounts(
    services: list[Service], purpose: str, cells: tuple[str, ...], generations: Mapping[str, int]
) -> list[Account]:
    result = []
    for one in services:
        for name in expand(one.databases if purpose == "database" else one.vhosts, cells):
            secret = f"{one.name}/{purpose}/{name}"
            number = generation_of(generations, secret)
            former = former_names(name, number)
            result.append(Account(name, one.name, account_name(name, number), secret, former))
    return result


@dataclass(frozen=True)
class _Shared:
    """What all hosts' slices have in common."""

    services: list[Service]
    cloud: Cloud
    members: Mapping[str, tuple[str, ...]]
    addresses: Mapping[str, Mapping[str, netaddr.IPAddress]]
    sources: Sources


def workers(settings: Mapping[str, Any], service: str, component: str, fixed: int) -> int:
    """Return the number of processes: the description's, else brume_workers by `nova/api`, `nova`, `default`."""
    for key in (f"{service}/{component}", service, "default"):
        if fixed == 0 and key in settings:
            return int(settings[key])
    return fixed or 1


def _host(
    name: str,
    groups: list[str],
    variables: Mapping[str, Any],
    layers: tuple[Layer, ...],
    addresses: Mapping[str, netaddr.IPAddress],
    networks: Mapping[str, Network],
    shared: _Shared,
    problems: list[Problem],
) -> Host:
    instances: list[Instance] = []
    packages: dict[str, None] = {}
    environments: list[Environment] = []
    files: list[FileEntry] = []
    directories: list[FileEntry] = []
    users: dict[str, User] = {}
    ports: list[Port] = []
    packages.update(dict.fromkeys(variables.get("host_packages", ())))
    renamed = shared.sources.packages.get(variables["brume_operating_system"], {})
    for one in shared.services:
        here = {
            component.name: component
            for component in one.components.values()
            if "all" in component.groups or set(component.groups) & set(groups)
        }
        if not here:
            continue
        python = bool(one.python_packages)
        for component in here.values():
            found = _instances(one, component, variables, shared, name)
            instances += found
            packages.update(dict.fromkeys(package for key in component.packages for package in _real(renamed, key)))
            ports += _ports(component, found, addresses)
            _user(users, component.user or (one.name if python else ""), one, component)
        if python:
            digest = shared.sources.locks[one.name][shared.cloud.release]
            root = f"/opt/brume/{one.name}"
            environments.append(
                Environment(one.name, f"{root}/{shared.cloud.release}-{digest}", f"{root}/current", digest)
            )
            directories += [
                FileEntry(f"/etc/{one.name}", one.name, "", "", "root", one.name, "0750"),
                FileEntry(f"/var/lib/{one.name}", one.name, "", "", one.name, one.name, "0755"),
            ]
        directories += [
            FileEntry(entry.path, one.name, "", "", entry.owner or one.name, entry.group or one.name, entry.mode)
            for entry in one.directories
            if not entry.components or set(entry.components) & set(here)
        ]
        for file in one.files.values():
            if set(file.components) & set(here):
                files += _files(one, file, shared.cloud.cells)
    if "loadbalancer" in groups:
        ports += _frontend_ports(shared.cloud, addresses, networks)
    return Host(
        name=name,
        groups=tuple(groups),
        addresses=addresses,
        interfaces={
            role: variables["brume_interfaces"].get(role, network.interface) for role, network in networks.items()
        },
        variables=variables,
        layers=layers,
        instances=tuple(instances),
        packages=tuple(sorted(packages)),
        environments=tuple(environments),
        files=tuple(files),
        directories=tuple(directories),
        users=tuple(users.values()),
        ports=tuple(ports),
    )


def _real(renamed: Mapping[str, Any], key: str) -> list[str]:
    value = renamed.get(key, key)
    return [value] if isinstance(value, str) else list(value)


def _user(users: dict[str, User], name: str, service: Service, component: Component) -> None:
    if not name or name == "root":
        return
    known = users.get(name)
    groups = dict.fromkeys((*(known.groups if known else ()), *service.groups, *component.unix_groups))
    users[name] = User(name, tuple(groups), f"/var/lib/{name}", component.kind != "system")


def _instances(
    service: Service, component: Component, variables: Mapping[str, Any], shared: _Shared, host: str
) -> list[Instance]:
    count = workers(variables["brume_workers"], service.name, component.name, component.processes)
    listen = None
    if component.port and component.kind != "system":
        address = _listen_address(component, shared.members, shared.addresses, host)
        listen = Listen(address, component.port + BACKEND_OFFSET)
    if component.kind == "system":
        return [Instance(service.name, component.name, "", component.unit, None, 1)]
    cells = shared.cloud.cells if component.each else ("",)
    base = f"{service.name}-{component.name}"
    return [
        Instance(
            service.name, component.name, cell, f"{base}-{cell}.service" if cell else f"{base}.service", listen, count
        )
        for cell in cells
    ]


def _ports(component: Component, instances: list[Instance], addresses: Mapping[str, netaddr.IPAddress]) -> list[Port]:
    result = []
    for instance in instances:
        if instance.listen is not None:
            result.append(Port(instance.listen.address, instance.listen.port, instance.unit))
        for entry in component.ports:
            number, place = (entry, "") if isinstance(entry, int) else (entry["port"], entry.get("address", ""))
            result.append(Port(place or str(addresses["management"]), number, instance.unit))
    return result


def _frontend_ports(
    cloud: Cloud, addresses: Mapping[str, netaddr.IPAddress], networks: Mapping[str, Network]
) -> list[Port]:
    return [
        Port(address, frontend.port, "haproxy.service")
        for frontend in cloud.frontends
        for address in binds(frontend, addresses, networks)
    ]


def binds(frontend: Frontend, addresses: Mapping[str, netaddr.IPAddress], networks: Mapping[str, Network]) -> list[str]:
    """Return the addresses on which a load balancer offers a frontend: internal always, public where it is public."""
    roles = ("management", "api") if frontend.public else ("management",)
    return list(dict.fromkeys(str(networks[role].vip or addresses[role]) for role in roles))


def _files(service: Service, file: File, cells: tuple[str, ...]) -> list[FileEntry]:
    default_group = service.name if service.python_packages else "root"
    result = []
    for cell in cells if file.each else ("",):
        name = file.name.format(cell=cell) if file.each else file.name
        path = name if name.startswith("/") else f"/etc/{service.name}/{name}"
        result.append(
            FileEntry(path, service.name, file.name, cell, file.owner, file.group or default_group, file.mode)
        )
    return result
