"""The plan: inventory data and service descriptions in, a typed description of every host and of the cloud out.

`plan()` is pure: it reads no file, asks no host and sees no value of a secret. Every mistake it finds is in the
`PlanError` it raises, all at once. Addresses are netaddr objects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import netaddr
from ansible_collections.brume.cloud.plugins.module_utils import (
    ceph_inventory,
    image_inventory,
    inventory_checks,
    nova_inventory,
    operating_system,
    public_certificate,
    swift_inventory,
    volume_inventory,
)
from ansible_collections.brume.cloud.plugins.module_utils import external as external_parts
from ansible_collections.brume.cloud.plugins.module_utils.description import (
    GROUPS,
    NETWORK_FALLBACKS,
    PORT_MAXIMUM,
    REMOVED,
    WAVES,
    Balance,
    Component,
    File,
    Named,
    Problem,
    Service,
    conditions,
    holds,
    settled,
)
from ansible_collections.brume.cloud.plugins.module_utils.external import External
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer
from ansible_collections.brume.cloud.plugins.module_utils.locks import lock_digest, lock_without, normalized
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import Schema, check
from ansible_collections.brume.cloud.plugins.module_utils.public_certificate import PublicCertificate
from ansible_collections.brume.cloud.plugins.module_utils.releases import DEFAULT_RELEASE, can_cross
from ansible_collections.brume.cloud.plugins.module_utils.secrets import generation_of
from ansible_collections.brume.cloud.plugins.module_utils.sources import Sources, Variable

BACKEND_OFFSET = 10000
"""An API process listens on its public port plus this; HAProxy has the public port."""

VARIABLES = {
    variable.name: variable
    for variable in (
        Variable("brume_release", "str", DEFAULT_RELEASE),
        Variable("brume_services", "list", ["keystone", "glance", "placement", "nova", "neutron"]),
        Variable("brume_networks", "dict", {}),
        Variable("brume_addresses", "dict", {}),
        Variable("brume_interfaces", "dict", {}),
        Variable("brume_external", "dict", {}),
        Variable("brume_config", "dict", {}),
        Variable("brume_region", "str", "RegionOne"),
        Variable("brume_cells", "list", ["cell1"]),
        Variable("brume_workers", "dict", {"default": 4}),
        Variable("brume_secret_generations", "dict", {}),
        Variable("brume_kernel_shared", "bool", False),
        Variable("brume_operating_system", "str", "debian-13", tuple(operating_system.SUITES)),
        Variable("brume_wheelhouse", "str", ""),
        Variable("brume_clouds_file", "str", ""),
        Variable("brume_lab", "dict", {}),
    )
}
"""The plan's own variables. brume_master_key and brume_secrets are read only where files are rendered."""

RULES = {
    **inventory_checks.RULES,
    **ceph_inventory.RULES,
    **image_inventory.RULES,
    **nova_inventory.RULES,
    **swift_inventory.RULES,
    **volume_inventory.RULES,
}
"""What values must be beyond their types, by variable."""

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "float": (float, int),
    "path": (str,),
}
_TYPE_REMEDIES = {
    "bool": "write true or false",
    "int": "write a whole number",
    "list": "write [one, other]",
    "dict": "write `key: value` lines below it",
}
LOCK_MISTAKES = 3
"""So many of a lock's mistakes are shown; a lock without hashes has one a line."""

MTU_MAXIMUM = 65535
"""Longest IP packet in bytes (RFC 791)."""


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
    without: tuple[str, ...] = ()
    """Packages of the lock, by their normalized names, that nothing on the host needs."""
    system_modules: tuple[str, ...] = ()
    """Modules of the operating system's Python that it sees."""


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
class Dropped:
    """A unit of Brume's own that the host has with another release, and the files that go with it."""

    unit: str
    service: str
    wave: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class User:
    """A system user of the host."""

    name: str
    groups: tuple[str, ...]
    home: str
    create: bool
    shell: str = ""


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
    idle: tuple[str, ...] = ()
    """Units of packages that are here for their programs, such as HAProxy for Neutron's agents."""
    cell: str = ""
    """The cell of the host's compute service."""
    external_bridge: str = ""
    """Bridge that holds the interface of the external network, on hosts that have one."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Unit -> `variable: value` with which the cloud would have it on this host."""
    release: str = ""
    """The cloud's, or the one before it that the host stays with for now."""
    dropped: tuple[Dropped, ...] = ()
    """What the host's release does not have here and another one does: it may be there from before."""

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
    failover: bool = False
    repeatable: tuple[str, ...] = ()
    check: int = 0
    """Where the servers speak a protocol of their own, the port at which they say by HTTP whether they can serve."""


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
    roles: tuple[str, ...]
    """Roles of Keystone that services give a meaning to, beside those of the logins."""
    generations: Mapping[str, int] = field(default_factory=dict)
    external: External = field(default_factory=External)
    flavors: tuple[Mapping[str, Any], ...] = ()
    """As M(brume.cloud.nova_scheduling) takes them; aggregates too, with the names of hosts in place of groups."""
    aggregates: tuple[Mapping[str, Any], ...] = ()
    images: tuple[Mapping[str, Any], ...] = ()
    """As M(brume.cloud.glance_images) takes them."""
    image_stores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Glance's, by name; empty without Glance."""
    removed: Mapping[str, str] = field(default_factory=dict)
    """Hosts that are to leave the cloud -> their addresses on the management network, as far as the inventory says."""
    ceph_users: tuple[str, ...] = ()
    """Users that the cloud's services log in to Ceph as."""
    public_certificate: PublicCertificate | None = None
    """The operator's own for the public endpoints; None where the cloud's authority makes it."""


@dataclass(frozen=True)
class Plan:
    """The whole plan."""

    cloud: Cloud
    hosts: Mapping[str, Host]
    warnings: tuple[str, ...] = ()
    services: Mapping[str, Service] = field(default_factory=dict)
    """Their descriptions as this cloud has them, without conditions."""
    former: Plan | None = None
    """The plan with the release that some network and compute hosts stay with, whose slices are of that one."""
    newest: Plan | None = None
    """Of a former plan: the cloud's own."""


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
    """Return the plan of a cloud; raises PlanError with every mistake.

    Network and compute hosts may stay with one release from which there is a step to that of the controllers.
    """
    members = {group: inventory.groups.get(group, ()) for group in GROUPS}
    names = list(dict.fromkeys(host for group in GROUPS for host in members[group]))
    said = {name: _said_release(inventory.hosts[name]) for name in names}
    first = {host for group in GROUPS if group not in ("network", "compute") for host in members[group]}
    release = next((said[name] for name in names if name in first), "")
    stays = {name: one for name, one in said.items() if name not in first and can_cross(one, release)}
    former = next(iter(stays.values()), "")
    behind = [name for name, one in stays.items() if one == former]
    if not behind:
        return _plan(inventory, sources)
    found = _plan(_with_release(inventory, behind, release, names[0]), sources, former)
    old = _plan(_with_release(inventory, names, former, behind[0]), sources)
    hosts = {name: old.hosts[name] if name in behind else host for name, host in found.hosts.items()}
    return replace(found, hosts=hosts, former=replace(old, newest=found))


def _with_release(inventory: Inventory, names: Iterable[str], release: str, who: str) -> Inventory:
    """Return the inventory as if it named one release for some hosts, where it does so for another one."""
    place = said_at(inventory.hosts[who], "brume_release").rpartition(":")[0]
    layer = Layer("brume_release", {"brume_release": release}, {"brume_release": place})
    changed = {name: (*inventory.hosts[name], layer) for name in names}
    return replace(inventory, hosts={**inventory.hosts, **changed})


def _plan(inventory: Inventory, sources: Sources, former: str = "") -> Plan:
    """Return the plan of one release, that of the first host; `former` is one that other hosts stay with."""
    problems: list[Problem] = [*sources.problems, *inventory.problems]
    members = {group: inventory.groups.get(group, ()) for group in GROUPS}
    names = list(dict.fromkeys(host for group in GROUPS for host in members[group]))
    if not names:
        raise PlanError(
            [*problems, Problem("inventory", "has no host in any group", "add a host to the group control")]
        )
    problems += inventory_checks.hosts(names, inventory.groups)
    problems += [
        Problem(f"inventory: {name}", f"is in `{REMOVED}` and has no brume_addresses.management", "give it back to it")
        for name, address in _removed(inventory).items()
        if not address
    ]
    project, sources = sources, sources.at(_said_release(inventory.hosts[names[0]]))
    known = {**VARIABLES, **sources.variables}
    resolved = _variables(inventory, names, known, sources.services, problems)
    _one_value(inventory, names, resolved, sources.services, problems)
    first, first_host = resolved[names[0]], names[0]

    def where(key: str, host: str = first_host) -> str:
        return said_at(inventory.hosts[host], key)

    external, mistakes = external_parts.read(first["brume_external"])
    problems += _problems([*mistakes, *external_parts.group_mistakes(external, members)], where("brume_external"))
    problems += _missing_infrastructure(inventory, members, external)
    problems += _beside_external(external, first, inventory.hosts[first_host], where)
    networks = _networks(first["brume_networks"], where("brume_networks"), members, problems)
    addresses = _addresses(inventory, names, resolved, networks, members, problems)
    _external_interfaces(inventory, resolved, networks, members, problems)
    _user_space_tunnels(inventory, resolved, networks, members, problems)
    services = _services(first, where, sources, external, members, problems)
    release = first["brume_release"]
    _locks(services, sources, release, where("brume_release"), problems)
    warnings = [
        *inventory.warnings,
        *_groups_warnings(inventory, names, members),
        *_failover_warnings(services, members),
        *_overrides(inventory, names, services, sources, release, problems),
        *_named_sections(inventory, names, services, sources, release, problems),
    ]
    generations = first["brume_secret_generations"]
    cells = tuple(first["brume_cells"])
    problems += _problems(
        _generations(generations, external, services, cells, names), where("brume_secret_generations")
    )
    problems += _problems(_unknown_accounts(external, services.values(), cells), where("brume_external"))
    problems += _missing_groups(inventory, members, services.values())
    of_group = {group: {name: resolved[name] for name in members[group]} for group in ("object", "ceph_osd")}
    problems += [
        *_image_mistakes(first, services, where, problems),
        *_ceph_mistakes(first, services, external, of_group["ceph_osd"], members, where, problems),
        *_volume_mistakes(first, services, members, where, problems),
        *_storage_mistakes(first, of_group["object"], services, where, problems),
    ]
    aggregates = _aggregates(first, inventory, members["compute"], where("nova_aggregates"), problems)
    cell_of = _cells_of_hosts(resolved, cells, members["compute"], where, problems)
    internal, public = _endpoint_hosts(external, networks, addresses, members["loadbalancer"])
    certificate = _public_certificate(first, external, networks, public, where, problems)
    if problems:
        raise PlanError(problems)

    ordered = sorted(services.values(), key=lambda one: WAVES.index(one.wave))
    runs = {name: [group for group in GROUPS if name in members[group]] for name in names}
    frontends = _frontends(ordered, members, addresses, resolved, cells)
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
        endpoints=(
            *_identity_endpoints(sources.services.get(external_parts.IDENTITY), external),
            *_endpoints(ordered, internal, public),
        ),
        databases=tuple(_accounts(ordered, "database", cells, generations, external.database)),
        vhosts=tuple(_accounts(ordered, "messaging", cells, generations, external.messaging)),
        logins=tuple(_login(one, generations, external, first["brume_region"]) for one in ordered if one.auth),
        roles=tuple(dict.fromkeys(role for one in ordered for role in one.roles)),
        generations=generations,
        external=external,
        flavors=tuple(first.get("nova_flavors") or ()),
        aggregates=aggregates,
        images=tuple(first["cloud_images"]) if "glance" in services else (),
        image_stores=first["glance_stores"] if "glance" in services else {},
        removed=_removed(inventory),
        ceph_users=tuple(ceph_inventory.users(first, services)) if ceph_inventory.RULES.keys() <= first.keys() else (),
        public_certificate=certificate,
    )
    others = _of_other_releases(project, sources, services, first)
    staying = [here for one in project.at(former).services.values() if (here := settled(one, first))] if former else []
    shared = _Shared(ordered, cloud, members, addresses, sources, others, staying)
    hosts = {
        name: _host(
            name, runs[name], resolved[name], inventory.hosts[name], addresses[name], networks, shared, cell_of[name]
        )
        for name in names
    }
    if problems:
        raise PlanError(problems)
    return Plan(cloud, hosts, tuple(warnings), services)


def _said_release(layers: tuple[Layer, ...]) -> str:
    """Return the release that a host's variables name, before they are checked."""
    said = [layer.variables["brume_release"] for layer in layers if "brume_release" in layer.variables]
    return str(said[-1]) if said else DEFAULT_RELEASE


def said_at(layers: tuple[Layer, ...], key: str) -> str:
    """Return where the winning value of a variable was said."""
    for layer in reversed(layers):
        if key in layer.variables:
            return f"{layer.where(key)}: {key}"
    return f"inventory: {key}"


def _problems(mistakes: list[inventory_checks.Mistake], place: str) -> list[Problem]:
    return [Problem(f"{place}{suffix}", message, remedy) for suffix, message, remedy in mistakes]


def _beside_external(
    external: External, first: Mapping[str, Any], layers: tuple[Layer, ...], where: Callable[[str], str]
) -> list[Problem]:
    """Return what other variables say, or do not, that does not go with what is external."""
    said = any("brume_region" in layer.variables for layer in layers)
    networks = external_parts.network_mistakes(external, first["brume_networks"])
    region = external_parts.region_mistakes(external, first["brume_region"], said)
    return _problems(networks, where("brume_networks")) + _problems(region, where("brume_region"))


def _groups_warnings(inventory: Inventory, names: list[str], members: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return what is odd about groups, and allowed."""
    removed = _removed(inventory)
    unplanned = sorted(set(inventory.hosts) - set(names) - set(removed))
    warnings = [inventory_checks.even_database_hosts(members), inventory_checks.even_ceph_monitors(members)]
    if removed:
        warnings.append(
            f"inventory: the group `{REMOVED}` has {', '.join(removed)}; run playbooks/remove.yml, then take them out "
            "of the inventory"
        )
    if unplanned:
        shown = ", ".join(unplanned[:5]) + (f" and {len(unplanned) - 5} more" if unplanned[5:] else "")
        warnings.append(f"inventory: in no group of Brume, so nothing is deployed there: {shown}")
    return [one for one in warnings if one]


def _removed(inventory: Inventory) -> dict[str, str]:
    """Return the hosts that are to leave, with the management address that each has said last."""
    found = {}
    for name in inventory.groups.get(REMOVED, ()):
        said = [layer.variables.get("brume_addresses") for layer in reversed(inventory.hosts[name])]
        addresses = next((one for one in said if isinstance(one, Mapping)), {})
        found[name] = str(addresses.get("management") or "")
    return found


def _failover_warnings(services: Mapping[str, Service], members: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return which services lose something with the first of their hosts, or with half of them."""
    even = inventory_checks.even_ovn_hosts(members) if "ovn" in services else ""
    return [even] * bool(even) + [
        f"{one.name}: {component.name} keeps its data on {members[component.groups[0]][0]} alone, and the other hosts "
        "answer without it while that one is lost"
        for one in services.values()
        for component in one.components.values()
        if component.failover and len(members[component.groups[0]]) > 1
    ]


def _one_value(
    inventory: Inventory,
    names: list[str],
    resolved: Mapping[str, Mapping[str, Any]],
    services: Mapping[str, Service],
    problems: list[Problem],
) -> None:
    """Note variables of the cloud that are not the same for every host: only one value could be used.

    Those that a description's conditions name are among them.
    """
    first = names[0]
    found: dict[str, Problem] = {}
    named = (key for one in services.values() for condition in conditions(one) for key in condition)
    for key in dict.fromkeys((*inventory_checks.CLOUD_VARIABLES, *named)):
        wanted = resolved[first].get(key)
        for name in names[1:]:
            if resolved[name].get(key) is wanted or resolved[name].get(key) == wanted:
                continue
            says = name if any(key in layer.variables for layer in inventory.hosts[name]) else first
            place = said_at(inventory.hosts[says], key)
            message = f"holds for the whole cloud, but {name} and {first} have different values"
            found.setdefault(place, Problem(place, message, "say it once, in group_vars/all.yml"))
    problems.extend(found.values())


def _external_interfaces(
    inventory: Inventory,
    resolved: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Network],
    members: Mapping[str, tuple[str, ...]],
    problems: list[Problem],
) -> None:
    """Note hosts whose external interface has another use: as a port of the bridge it loses its addresses."""
    if "external" not in networks:
        return
    for host in dict.fromkeys((*members["network"], *members["compute"])):
        if not _has_external_bridge([group for group in members if host in members[group]], resolved[host]):
            continue
        own = resolved[host]["brume_interfaces"]
        outer = own.get("external", networks["external"].interface)
        shared = [
            name
            for name in ("management", "tunnel", "api")
            if name in networks and outer and own.get(name, networks[name].interface) == outer
        ]
        if shared:
            key = "brume_interfaces" if "external" in own or shared[0] in own else "brume_networks"
            problems.append(
                Problem(
                    said_at(inventory.hosts[host], key)
                    + (".external" if key == "brume_interfaces" else ".external.interface"),
                    f"{outer} of {host} is the interface of {shared[0]} too, which would be cut off from it",
                    "give the external network an interface, or a VLAN's, of its own",
                )
            )


def _has_external_bridge(groups: Sequence[str], variables: Mapping[str, Any]) -> bool:
    """Return whether floating IPs reach a host's instances by its own interface, or others' by it."""
    return "network" in groups or ("compute" in groups and bool(variables.get("neutron_distributed_routers")))


def _missing_groups(
    inventory: Inventory, members: Mapping[str, tuple[str, ...]], services: Iterable[Service]
) -> list[Problem]:
    """Return the groups that have no hosts, so that a component of a service would run nowhere."""
    components = [part for one in services if one.wave != "infrastructure" for part in one.components.values()]
    homeless = {part.groups for part in components if not any(members.get(group) for group in part.groups)}
    return [
        Problem("inventory", f"the group `{group}` {_state(inventory, group)}", f"add `{group}: {{hosts: {{...}}}}`")
        for group in ("control", "network", "compute", "object")
        if not members[group] and (group == "control" or any(groups[:1] == (group,) for groups in homeless))
    ]


def _user_space_tunnels(
    inventory: Inventory,
    resolved: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Network],
    members: Mapping[str, tuple[str, ...]],
    problems: list[Problem],
) -> None:
    """Note hosts whose user-space switch would need the interface of management for tunnels to other hosts."""
    hosts = dict.fromkeys((*members["network"], *members["compute"]))
    if len(hosts) == 1 or not {"tunnel", "management"} <= set(networks):
        return
    found: dict[str, Problem] = {}
    for host in hosts:
        own = resolved[host]["brume_interfaces"]
        tunnel, management = (own.get(role, networks[role].interface) for role in ("tunnel", "management"))
        if resolved[host].get("openvswitch_datapath_type") == "netdev" and tunnel == management:
            place = said_at(inventory.hosts[host], "openvswitch_datapath_type")
            message = f"is netdev, and {tunnel} of {host} carries tunnels and management"
            remedy = "give the network `tunnel` an interface of its own, which becomes a port of the switch"
            found.setdefault(place, Problem(place, message, remedy))
    problems.extend(found.values())


def _state(inventory: Inventory, group: str) -> str:
    return "has no host" if group in inventory.groups else "is missing"


def _missing_infrastructure(
    inventory: Inventory, members: Mapping[str, tuple[str, ...]], external: External
) -> list[Problem]:
    """Return the groups of infrastructure that have no hosts, without anything external in their place."""
    return [
        Problem(
            "inventory",
            f"the group `{group}` {_state(inventory, group)}",
            f"add `{group}: {{children: {{control: {{}}}}}}`, or name another's in brume_external.{group}",
        )
        for group in external_parts.GROUPS
        if not members[group] and group not in external.groups()
    ]


def _variables(
    inventory: Inventory,
    names: list[str],
    known: Mapping[str, Variable],
    services: Mapping[str, Service],
    problems: list[Problem],
) -> dict[str, dict[str, Any]]:
    """Return each host's variables: defaults, then the layers. Values are checked once per layer, not once per host."""
    checked: dict[int, dict[str, Any]] = {}
    keep: list[Layer] = []
    defaults = {name: variable.default for name, variable in known.items()}

    def accepted(layer: Layer) -> dict[str, Any]:
        if id(layer) not in checked:
            keep.append(layer)
            checked[id(layer)] = _typed(layer, known, services, problems)
        return checked[id(layer)]

    result = {}
    for name in names:
        values = dict(defaults)
        for layer in inventory.hosts[name]:
            values.update(accepted(layer))
        result[name] = values
    return result


def _typed(
    layer: Layer, known: Mapping[str, Variable], services: Mapping[str, Service], problems: list[Problem]
) -> dict[str, Any]:
    """Return a layer's variables that can be used; the others are problems."""
    values = {}
    for key, value in layer.variables.items():
        variable = known.get(key)
        place = f"{layer.where(key)}: {key}"
        if variable is None:
            meant = inventory_checks.near(key, known)
            similar = [name for name in known if name.split("_")[0] == key.split("_")[0]]
            hint = f"is {meant} meant?" if meant else "remove it, or use one of " + ", ".join(sorted(similar or known))
            problems.append(Problem(place, "is not a variable of Brume", hint))
            continue
        mistakes = _value_mistakes(variable, value) or inventory_checks.control_mistake(key, value)
        mistakes = mistakes or list(RULES[key](value, services) if key in RULES else ())
        problems += _problems(mistakes, place)
        if not mistakes:
            values[key] = value
    return values


def _value_mistakes(variable: Variable, value: Any) -> list[inventory_checks.Mistake]:
    """Return what is wrong with a value by its variable's type, elements and choices."""
    text = inventory_checks.shown(value)
    if not _is_of(variable.type, value):
        remedy = _TYPE_REMEDIES.get(variable.type, f"write a value of type {variable.type}")
        if variable.type == "str" and isinstance(value, (int, float)):
            remedy = f'write it in quotes: "{value}"'
        return [("", f"{text} is not of type {variable.type}", remedy)]
    if variable.choices and value not in variable.choices:
        return [("", f"{text} is not allowed", "use one of " + ", ".join(str(one) for one in variable.choices))]
    bad = [item for item in value if not _is_of(variable.elements, item)] if variable.elements else []
    return [
        ("", f"{inventory_checks.shown(item)} is not of type {variable.elements}", "correct the item") for item in bad
    ]


def _is_of(name: str, value: Any) -> bool:
    kinds = _PYTHON_TYPES[name]
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


_NETWORK_KEYS = ("cidr", "vip", "mtu", "interface", "fqdn", "gateway", "allocation_pool")


def _networks(
    data: Mapping[str, Any], where: str, members: Mapping[str, tuple[str, ...]], problems: list[Problem]
) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    problems += _problems(inventory_checks.network_names(map(str, data)), where)
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
    for name in ("management", "external") if members["network"] or members["compute"] else ("management",):
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
        if name not in data and fallback in networks:
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
    wrong = inventory_checks.cidr_mistake(value["cidr"], cidr)
    if wrong:
        problems.append(Problem(f"{place}.cidr", *wrong))
        return None
    if not value.get("interface"):
        problems.append(Problem(f"{place}.interface", "is missing", "name the hosts' network interface, such as eth0"))
    elif inventory_checks.interface_mistake(value["interface"]):
        message = inventory_checks.interface_mistake(value["interface"])
        problems.append(Problem(f"{place}.interface", message, "write the network interface's name, such as eth0"))
    if value.get("fqdn") and inventory_checks.domain_name_mistake(value["fqdn"]):
        message = inventory_checks.domain_name_mistake(value["fqdn"])
        problems.append(Problem(f"{place}.fqdn", message, "write the name that users reach the APIs by"))

    def address(key: str, text: Any) -> netaddr.IPAddress | None:
        found = _address(text, cidr, f"{place}.{key}", f"write an address of {cidr.cidr}", problems)
        return found if found is not None and found in cidr else None

    vip = address("vip", value["vip"]) if value.get("vip") else None
    gateway = address("gateway", value["gateway"]) if value.get("gateway") else None
    if vip is not None and vip == gateway:
        problems.append(Problem(f"{place}.vip", f"{vip} is the gateway too", "give the vip an address that is free"))
    return Network(
        name=name,
        cidr=cidr.cidr,
        interface=str(value.get("interface") or ""),
        vip=vip,
        fqdn=str(value.get("fqdn") or ""),
        mtu=_mtu(value.get("mtu", 1500), cidr, place, problems),
        gateway=gateway,
        allocation_pool=_pool(value.get("allocation_pool"), address, {"vip": vip, "gateway": gateway}, place, problems),
    )


def _host_address(text: Any, network: Network, place: str, problems: list[Problem]) -> netaddr.IPAddress | None:
    """Return an address of a host, None if it is none."""
    address = _address(text, network.cidr, place, f"write an address of {network.cidr}", problems)
    pool = network.allocation_pool
    if address is not None and pool and pool[0] <= address <= pool[1]:
        message = f"{address} is in the allocation pool of {network.name}"
        problems.append(Problem(place, message, "Neutron would give it away; move one of the two"))
    return address


def _address(
    text: Any, cidr: netaddr.IPNetwork, place: str, remedy: str, problems: list[Problem]
) -> netaddr.IPAddress | None:
    """Return a text as an address, None if it is none; what keeps a host of the network from having it is noted."""
    try:
        found = netaddr.IPAddress(str(text))
    except (netaddr.AddrFormatError, ValueError):
        problems.append(Problem(place, f"{inventory_checks.shown(text)} is no address", remedy))
        return None
    if found not in cidr:
        problems.append(Problem(place, f"{found} is not in {cidr.cidr}", remedy))
    elif not inventory_checks.usable(found, cidr):
        problems.append(Problem(place, f"{found} is the address of the network itself or of all its hosts", remedy))
    return found


def _mtu(mtu: Any, cidr: netaddr.IPNetwork, place: str, problems: list[Problem]) -> int:
    minimum = 1280 if cidr.version == 6 else 576  # noqa: PLR2004
    if inventory_checks.is_number(mtu) and minimum <= mtu <= MTU_MAXIMUM:
        return int(mtu)
    remedy = f"write a number of bytes from {minimum} to {MTU_MAXIMUM}"
    problems.append(Problem(f"{place}.mtu", f"{inventory_checks.shown(mtu)} is no MTU", remedy))
    return 1500


def _pool(
    pool: Any,
    address: Callable[[str, Any], netaddr.IPAddress | None],
    others: Mapping[str, netaddr.IPAddress | None],
    place: str,
    problems: list[Problem],
) -> tuple[netaddr.IPAddress, ...]:
    """Return the first and last address that Neutron may give away; `others` must not be among them."""
    if not pool:
        return ()
    place = f"{place}.allocation_pool"
    if not isinstance(pool, list) or len(pool) != 2:  # noqa: PLR2004
        problems.append(Problem(place, "is no pair", "write [first address, last address]"))
        return ()
    ends = [one for one in (address("allocation_pool", item) for item in pool) if one is not None]
    if len(ends) != 2:  # noqa: PLR2004
        return ()
    if ends[0] > ends[1]:
        problems.append(Problem(place, f"{ends[0]} comes after {ends[1]}", "write the lower address first"))
    problems.extend(
        Problem(place, f"holds {one}, the network's {name}", "Neutron would give it away; leave it out of the pool")
        for name, one in others.items()
        if one is not None and ends[0] <= one <= ends[1]
    )
    return tuple(ends)


def _addresses(
    inventory: Inventory,
    names: list[str],
    resolved: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Network],
    members: Mapping[str, tuple[str, ...]],
    problems: list[Problem],
) -> dict[str, dict[str, netaddr.IPAddress]]:
    """Return each host's addresses by network, fall-backs filled in."""
    taken = {
        str(one): f"the {key} of the network {network.name}"
        for network in networks.values()
        for key, one in (("gateway", network.gateway), ("vip", network.vip))
    }
    result: dict[str, dict[str, netaddr.IPAddress]] = {}
    said = resolved[names[0]]["brume_networks"]
    needs_tunnel = {*members["network"], *members["compute"]}
    balancers = set(members["loadbalancer"])
    for host in names:
        where = said_at(inventory.hosts[host], "brume_addresses")
        if not any("brume_addresses" in layer.variables for layer in inventory.hosts[host]):
            where = f"host {host}: brume_addresses"
        own: dict[str, netaddr.IPAddress] = {}
        for name, text in resolved[host]["brume_addresses"].items():
            if name in networks:
                address = _host_address(text, networks[name], f"{where}.{name}", problems)
                if address is not None:
                    own[name] = address
            elif networks and name not in said:  # of the others, what is wrong has been said
                remedy = "use one of " + ", ".join(sorted(networks))
                problems.append(Problem(f"{where}.{name}", "names no network of brume_networks", remedy))
        for name, address in own.items():
            holder = taken.setdefault(str(address), f"an address of {host}")
            if holder != f"an address of {host}":
                problems.append(Problem(f"{where}.{name}", f"{address} is {holder} too", "give each its own"))
        wanted = {
            "management",
            *(["tunnel"] if host in needs_tunnel else []),
            *(["api"] if host in balancers else []),
            *(["storage", "replication"] if host in members["object"] else []),
        }
        for name in ("management", *NETWORK_FALLBACKS):
            fallback = networks[name].name if name in networks else name
            if name not in own and fallback in own:
                own[name] = own[fallback]
            elif name not in own and name in networks and name in wanted:
                message = f"{host} has no address on the network {name}"
                problems.append(Problem(where, message, f"add `{name}: <address of {networks[name].cidr}>`"))
        result[host] = own
    return result


def _services(
    first: Mapping[str, Any],
    where: Any,
    sources: Sources,
    external: External,
    members: Mapping[str, tuple[str, ...]],
    problems: list[Problem],
) -> dict[str, Service]:
    """Return the services of the cloud: infrastructure that has hosts and is not external, others by brume_services."""
    present = {"all", *(group for group in GROUPS if members[group])}
    infrastructure = {name: one for name, one in sources.services.items() if one.wave == "infrastructure"}
    available = sorted(set(sources.services) - set(infrastructure))
    chosen = {
        name: here
        for name, one in infrastructure.items()
        if not one.components or (not _groups(one) <= set(external.groups()) and _groups(one) & present)
        if (here := settled(one, first)) is not None
    }
    for name in first["brume_services"]:
        if name in sources.unread:
            continue  # sources.problems says why
        if name == external_parts.IDENTITY and external.identity is not None:
            message = f"names {name}, which is another cloud's by brume_external.identity"
            problems.append(Problem(where("brume_services"), message, "take one of the two out"))
            continue
        if name not in available:
            described = name in sources.locks and name not in sources.services
            message = f"`{name}` is no service" + (f" of {first['brume_release']}" if described else "")
            problems.append(Problem(where("brume_services"), message, "use one of " + ", ".join(available)))
            continue
        here = settled(sources.services[name], first)
        if here is not None:
            chosen[name] = here
    for one in chosen.values():
        for required in one.requires:
            if required == external_parts.IDENTITY and external.identity is not None:
                continue
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
    _clashes(chosen, tuple(first["brume_cells"]), where("brume_cells"), problems)
    return chosen


def _groups(service: Service) -> set[str]:
    return {group for component in service.components.values() for group in component.groups}


def _clashes(
    services: Mapping[str, Service], cells: tuple[str, ...], where_cells: str, problems: list[Problem]
) -> None:
    """Note ports, databases and vhosts that two things would have."""
    ports: dict[int, str] = {}
    stored: dict[tuple[str, str], str] = {}
    for one in services.values():
        for component in one.components.values():
            place = f"{one.file}: components.{component.name}.port"
            label = f"{one.name} {component.name}"
            if component.port + BACKEND_OFFSET > PORT_MAXIMUM:
                remedy = f"the process itself listens {BACKEND_OFFSET} above it; use a lower port"
                problems.append(Problem(place, f"{component.port} is too high", remedy))
            taken = [number for number in _all_ports(component, len(cells)) if ports.setdefault(number, label) != label]
            if taken:
                message = f"{taken[0]} is a port of {ports[taken[0]]} too"
                problems.append(Problem(place, message, "give one of them another port"))
        for kind, named in (("database", one.databases), ("vhost", one.vhosts)):
            for name in expand(named, cells):
                message = f"{name} is a {kind} of {stored.get((kind, name))} too"
                if stored.get((kind, name)) == one.name:
                    problems.append(Problem(where_cells, message, "give the cell another name"))
                elif (kind, name) in stored:
                    problems.append(Problem(f"{one.file}: {kind}s", message, "give it a name of its own"))
                stored[kind, name] = one.name


def _all_ports(component: Component, cells: int) -> list[int]:
    """Return every port that a component takes on its hosts, the load balancer's included; each cell has its own."""
    found = {entry if isinstance(entry, int) else int(entry["port"]) for entry in component.ports}
    for port in range(component.port, component.port + (cells if component.each else 1)) if component.port else ():
        found |= {port, *(() if component.kind == "system" else (port + BACKEND_OFFSET,))}
    return sorted(found)


def _aggregates(
    first: Mapping[str, Any], inventory: Inventory, compute: tuple[str, ...], where: str, problems: list[Problem]
) -> tuple[Mapping[str, Any], ...]:
    """Return the host aggregates with the names of their hosts."""
    found, mistakes = nova_inventory.expanded(first.get("nova_aggregates") or (), inventory.groups, compute)
    problems += _problems(mistakes, where)
    return tuple(found)


def _generations(
    generations: Mapping[str, int],
    external: External,
    services: Mapping[str, Service],
    cells: tuple[str, ...],
    names: list[str],
) -> list[inventory_checks.Mistake]:
    """Return what is wrong with generations of secrets."""
    secrets = inventory_checks.secret_names(services.values(), cells, names)
    found = inventory_checks.generation_names(generations, secrets)
    return found + external_parts.generation_mistakes(external, generations)


def _told(place: str, problems: Iterable[Problem]) -> bool:
    """Return whether a variable is wrong by itself, and was replaced by its default.

    What would follow from that is no mistake of the operator.
    """
    return any(one.where == place or one.where.startswith((f"{place}.", f"{place}[")) for one in problems)


def _storage_mistakes(
    first: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    services: Collection[str],
    where: Callable[..., str],
    problems: Sequence[Problem],
) -> list[Problem]:
    """Return what does not go together in Swift's variables."""
    if "swift" not in services or any(_told(where(key), problems) for key in swift_inventory.OF_ALL_HOSTS):
        return []
    found = [
        (where(*filter(None, (key, host))), mistake) for host, key, mistake in swift_inventory.mistakes(first, hosts)
    ]
    return [one for place, mistake in found if not _told(place, problems) for one in _problems([mistake], place)]


def _ceph_mistakes(
    first: Mapping[str, Any],
    services: Collection[str],
    external: External,
    hosts: Mapping[str, Mapping[str, Any]],
    members: Mapping[str, tuple[str, ...]],
    where: Callable[..., str],
    problems: Sequence[Problem],
) -> list[Problem]:
    """Return what does not go together in Ceph's variables and those of who uses it."""
    told = (_told(where(*filter(None, (key, host))), problems) for host in ("", *hosts) for key in ceph_inventory.RULES)
    if not ceph_inventory.RULES.keys() <= first.keys() or any(told):  # a project need not have the role
        return []
    found = ceph_inventory.mistakes(
            first, hosts, members, services, external.ceph is not None
        )
    return [
        one
        for host, key, mistake in found
        for one in _problems([mistake], key if key == "inventory" else where(*filter(None, (key, host))))
    ]


def _image_mistakes(
    first: Mapping[str, Any],
    services: Collection[str],
    where: Callable[..., str],
    problems: Sequence[Problem],
) -> list[Problem]:
    """Return what does not go together in Glance's variables."""
    if "glance" not in services or any(_told(where(key), problems) for key in image_inventory.RULES):
        return []
    found = image_inventory.mistakes(first, services)
    return [one for key, mistake in found for one in _problems([mistake], where(key))]


def _volume_mistakes(
    first: Mapping[str, Any],
    services: Collection[str],
    members: Mapping[str, tuple[str, ...]],
    where: Callable[..., str],
    problems: Sequence[Problem],
) -> list[Problem]:
    """Return what does not go together in Cinder's variables."""
    if "cinder" not in services or any(_told(where(key), problems) for key in volume_inventory.OF_ALL_HOSTS):
        return []
    found = volume_inventory.mistakes(first, services, members)
    return [one for key, mistake in found for one in _problems([mistake], where(key))]


def _unknown_accounts(
    external: External, services: Iterable[Service], cells: tuple[str, ...]
) -> list[inventory_checks.Mistake]:
    """Return the accounts of external servers that are for no database or vhost of the cloud."""
    databases = [name for one in services for name in expand(one.databases, cells)]
    vhosts = [name for one in services for name in expand(one.vhosts, cells)]
    return external_parts.unknown_accounts(external, databases, vhosts)


def _cells_of_hosts(
    resolved: Mapping[str, Mapping[str, Any]],
    cells: tuple[str, ...],
    compute: tuple[str, ...],
    where: Callable[[str, str], str],
    problems: list[Problem],
) -> dict[str, str]:
    """Return the cell of each host's compute service; of hosts without one it does not matter."""
    found = {name: variables.get("nova_cell") or cells[0] for name, variables in resolved.items()}
    for name in compute:
        problems += _problems(nova_inventory.cell_mistakes(found[name], cells), where("nova_cell", name))
    return found


def _locks(
    services: Mapping[str, Service], sources: Sources, release: str, where: str, problems: list[Problem]
) -> None:
    python = [one for one in services.values() if one.python_packages]
    for one in python:
        lines = sources.lock_mistakes.get(one.name, {}).get(release, "").splitlines()
        for line in lines[:LOCK_MISTAKES]:
            place, _colon, text = line.partition(": ")
            message, _semicolon, remedy = text.rpartition("; ")
            problems.append(Problem(place, message, remedy))
        if lines[LOCK_MISTAKES:]:
            message = f"has {len(lines) - LOCK_MISTAKES} mistakes more"
            problems.append(Problem(f"roles/{one.name}/files/locks/{release}.txt", message, "make it again"))
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
        if not isinstance(config, Mapping) or inventory_checks.control_mistake("brume_config", config):
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
            for file, tree in files.items():
                place = f"{where}.{service}.{file}"
                wrong = _file_mistake(services[service], file, tree)
                if wrong:
                    problems.append(Problem(place, *wrong))
                    continue
                lines = _line_mistakes(tree)
                problems += _problems(lines, place)
                if service == "nova" and not lines:
                    problems += _problems(nova_inventory.scheduler_mistakes(tree), place)
                schema = sources.schemas.get(service, {}).get(release)
                if schema is not None and services[service].files[file].format == "ini" and not lines:
                    _options(schema, tree, place, problems, warnings)
    return warnings


def _named_sections(
    inventory: Inventory,
    names: list[str],
    services: Mapping[str, Service],
    sources: Sources,
    release: str,
    problems: list[Problem],
) -> list[str]:
    """Check the options of items that become sections, against the release's own; return what is odd but allowed."""
    warnings: list[str] = []
    layers = {id(layer): layer for name in names for layer in inventory.hosts[name]}
    for service in services.values():
        schema = sources.schemas.get(service.name, {}).get(release)
        for said in (file.sections for file in service.files.values() if file.sections and file.sections.schema):
            for layer in layers.values():
                items = layer.variables.get(said.variable)
                for name, item in items.items() if isinstance(items, Mapping) else ():
                    if schema is None or not isinstance(item, Mapping):
                        continue  # the service's own rules say it
                    options = {key: value for key, value in item.items() if key != "type"}
                    place = f"{layer.where(said.variable)}: {said.variable}.{name}"
                    _options(schema, {said.schema: options}, place, problems, warnings, section=False)
    return warnings


def _file_mistake(service: Service, file: Any, tree: Any) -> tuple[str, str] | None:
    """Return why brume_config cannot say something of a file, with the remedy."""
    known = [name for name, one in service.files.items() if one.settings]
    if file in known:
        if isinstance(tree, Mapping) and all(isinstance(keys, Mapping) for keys in tree.values()):
            return None
        return "is no tree", "write sections below it, and `option: value` below those"
    others = f"use one of {', '.join(known)}" if known else "use the variables of the role, named after it"
    if file in service.files:
        return "is made by a template and has no sections", others
    return "is no file of the service", others


def _line_mistakes(tree: Mapping[Any, Mapping[Any, Any]]) -> list[inventory_checks.Mistake]:
    """Return the sections and options whose names would not come out of an INI file as they went in."""
    mistakes: list[inventory_checks.Mistake] = []
    for section, keys in tree.items():
        if not isinstance(section, str) or not section.strip() or any(one in section for one in "[]\n"):
            shown = inventory_checks.shown(section)
            mistakes.append((f".{section}", f"{shown} is no section", "write its name without brackets, in quotes"))
        for key, value in keys.items():
            place = f".{section}.{key}"
            if not isinstance(key, str) or not key.strip() or key[0] in "[#;" or any(one in key for one in "=:\n"):
                shown = inventory_checks.shown(key)
                mistakes.append((place, f"{shown} is no option", "write the option's name, in quotes"))
            nested = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
            if any(isinstance(item, (Mapping, list)) for item in nested):
                remedy = "write a value, a list of values, or a mapping of values"
                mistakes.append((place, "holds lists or mappings inside of others", remedy))
    return mistakes


def _options(
    schema: Schema,
    tree: Mapping[str, Any],
    place: str,
    problems: list[Problem],
    warnings: list[str],
    section: bool = True,
) -> None:
    """Note options that do not fit; `section` tells whether the inventory says their section too."""
    fixed = {
        name: {key: value for key, value in keys.items() if "{{" not in str(value)} for name, keys in tree.items()
    }
    for finding in check(schema, fixed):
        where = f"{place}.{finding.section}.{finding.key}" if section else f"{place}.{finding.key}"
        if finding.level == "error":
            problems.append(Problem(where, f"`{finding.value}` does not fit", finding.expected))
        else:
            warnings.append(f"{where}: {finding.expected}")


def _endpoint_hosts(
    external: External,
    networks: Mapping[str, Network],
    addresses: Mapping[str, Mapping[str, netaddr.IPAddress]],
    balancers: tuple[str, ...],
) -> tuple[str, str]:
    """Return where internal and public endpoints are; nothing where a mistake of the inventory keeps it unknown."""
    if external.loadbalancer is not None:
        return external.loadbalancer.internal, external.loadbalancer.public
    if not balancers or not {"management", "api"} <= set(networks):
        return "", ""
    internal, public = (
        str(networks[role].vip or addresses[balancers[0]].get(role) or "") for role in ("management", "api")
    )
    return internal, networks["api"].fqdn or public


def _public_certificate(
    first: Mapping[str, Any],
    external: External,
    networks: Mapping[str, Network],
    host: str,
    where: Callable[[str], str],
    problems: list[Problem],
) -> PublicCertificate | None:
    """Return the operator's certificate for the public endpoints, None where the cloud's authority makes it."""
    given, mistakes = public_certificate.read(first)
    if given is not None:
        shared = "api" in networks and networks["api"].name != "api"
        given, more = public_certificate.placed(given, host, shared, external)
        mistakes += more
    problems += [Problem(where(variable), message, remedy) for variable, message, remedy in mistakes]
    return given


LOOPBACK = "127.0.0.1"
"""Where a process behind the load balancer listens: the way there from other hosts is the HAProxy of its own host."""


def _frontends(
    services: list[Service],
    members: Mapping[str, tuple[str, ...]],
    addresses: Mapping[str, Mapping[str, netaddr.IPAddress]],
    resolved: Mapping[str, Mapping[str, Any]],
    cells: tuple[str, ...],
) -> tuple[Frontend, ...]:
    result = []
    for one in services:
        for component in one.components.values():
            hosts = list(dict.fromkeys(host for group in component.groups for host in members.get(group, ())))
            if component.balance is not None and len(hosts) > 1:
                result.append(_balanced(one, component, component.balance, hosts, addresses))
            if not component.port or component.kind == "system":
                continue
            result += [
                Frontend(
                    name=frontend_name(one.name, component.name, cell, cells),
                    port=component.port + place,
                    public=component.public,
                    websocket=component.websocket,
                    failover=component.failover,
                    repeatable=component.repeatable,
                    health=component.health if isinstance(component.health, str) else "",
                    servers=tuple(
                        Server(
                            host,
                            str(addresses[host]["management"]),
                            component.port + place + BACKEND_OFFSET,
                            _capacity(one, component, resolved[host]),
                        )
                        for host in hosts
                    ),
                )
                for place, cell in enumerate(cells if component.each else ("",))
            ]
    return tuple(result)


def _balanced(
    service: Service,
    component: Component,
    balance: Balance,
    hosts: list[str],
    addresses: Mapping[str, Mapping[str, netaddr.IPAddress]],
) -> Frontend:
    """Return the frontend of a component that speaks a protocol of its own."""
    return Frontend(
        name=f"{service.name}-{component.name}",
        port=balance.port,
        public=False,
        websocket=False,
        health="",
        servers=tuple(Server(host, str(addresses[host]["management"]), balance.port) for host in hosts),
        check=balance.check,
    )


def frontend_name(service: str, component: str, cell: str, cells: tuple[str, ...]) -> str:
    """Return what the load balancer calls a component of a cell; the first cell's has the component's own name."""
    return f"{service}-{component}" if cell in ("", cells[0]) else f"{service}-{component}-{cell}"


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


def _identity_endpoints(service: Service | None, external: External) -> list[Endpoint]:
    """Return where another cloud's Keystone is: whoever looks for it in a region finds only what the region lists."""
    if service is None or service.catalog is None or external.identity is None:
        return []
    return [
        Endpoint(service.name, service.catalog.type, service.catalog.description, interface, url)
        for interface, url in (("public", external.identity.public), ("internal", external.identity.internal))
    ]


def _login(service: Service, generations: Mapping[str, int], external: External, region: str) -> Login:
    secret = f"{service.name}/keystone"
    number = generation_of(generations, secret)
    names = [
        external_parts.user_name(external, one, region)
        for one in (account_name(service.name, number), *former_names(service.name, number))
    ]
    return Login(names[0], service.name, secret, service.service_roles, tuple(names[1:]))


def expand(named: tuple[Named, ...], cells: tuple[str, ...]) -> list[str]:
    """Return the names of databases or vhosts, one per cell where they are said per cell."""
    return [
        name for one in named for name in ([one.name] if not one.each else [one.name.format(cell=c) for c in cells])
    ]


def _accounts(
    services: Iterable[Service],
    purpose: str,
    cells: tuple[str, ...],
    generations: Mapping[str, int],
    external: external_parts.Server | None,
) -> list[Account]:
    """Return databases or vhosts with their accounts; those of an external server are the operator's."""
    result = []
    for one in services:
        for name in expand(one.databases if purpose == "database" else one.vhosts, cells):
            secret = f"{one.name}/{purpose}/{name}"
            if external is not None:
                result.append(Account(name, one.name, external.accounts.get(name, name), secret))
                continue
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
    others: list[Service]
    """Services as other releases have them, where those are different."""
    former: list[Service]
    """Services as the release has them that some hosts stay with; empty where none does."""


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
    cell: str,
) -> Host:
    instances: list[Instance] = []
    packages: dict[str, None] = {}
    environments: list[Environment] = []
    files: list[FileEntry] = []
    units: list[str] = []
    written: list[str] = []
    directories: list[FileEntry] = []
    users: dict[str, User] = {}
    ports: list[Port] = []
    packages.update(dict.fromkeys(variables.get("host_packages", ())))
    renamed = shared.sources.packages.get(variables["brume_operating_system"], {})
    bridge_name = variables.get("openvswitch_external_bridge", "") if _has_external_bridge(groups, variables) else ""
    for one in shared.services:
        here = {
            component.name: component for component in one.components.values() if _runs(component, groups, shared.cloud)
        }
        if not here:
            continue
        python = bool(one.python_packages)
        for component in here.values():
            found = _instances(one, component, variables, shared, name)
            instances += found
            units += _with_sockets(component, (instance.unit for instance in found))
            written += [uwsgi_path(one, component)] * (component.kind == "wsgi")
            packages.update(dict.fromkeys(package for key in component.packages for package in _real(renamed, key)))
            ports += _ports(component, found, addresses, shared.cloud)
            _user(users, component.user or (one.name if python else ""), one, component)
        if python:
            root = f"/opt/brume/{one.name}"
            without = _unneeded(one, here)
            digest = lock_digest(lock_without(shared.sources.locks[one.name][shared.cloud.release], without))
            path = f"{root}/{shared.cloud.release}-{digest}"
            modules = tuple(sorted({module for component in here.values() for module in component.system_modules}))
            environments.append(Environment(one.name, path, f"{root}/current", digest, without, modules))
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
    ports += [
        Port(str(addresses["management"]), server.port, "haproxy.service")
        for _one, server in receivers(shared.cloud, name)
    ]
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
        cell=cell,
        idle=_idle(shared.services, packages, instances, renamed, name),
        external_bridge=bridge_name,
        excluded=_excluded(shared, name, groups, variables, {one.unit for one in instances}),
        release=shared.cloud.release,
        dropped=_dropped(shared, name, groups, units, {*(one.path for one in files), *written}),
    )


def _of_other_releases(
    project: Sources, sources: Sources, services: Mapping[str, Service], variables: Mapping[str, Any]
) -> list[Service]:
    """Return services as other releases have them where that differs: the cloud's, and those its release lacks."""
    releases = [project.services, *(project.at(release).services for release in project.other_services)]
    return [
        here
        for found in releases
        for name, one in found.items()
        if one != sources.services.get(name) and (name in services or name not in sources.services)
        if (here := settled(one, variables)) is not None
    ]


def _dropped(
    shared: _Shared, host: str, groups: list[str], units: Collection[str], files: Collection[str]
) -> tuple[Dropped, ...]:
    """Return the units that a host has with other releases and not with its own, which are `units` with `files`.

    What a controller has with the release that other hosts stay with is not among them: their agents may speak to it.
    """
    found: dict[str, Dropped] = {}
    needing = [group for group in groups if group not in ("network", "compute")]
    for one in shared.former:
        for component in one.components.values():
            if set(component.groups) & set(needing) and _runs(component, needing, shared.cloud):
                units = [*units, *_with_sockets(component, _unit_names(one, component, shared.cloud.cells, host))]
                files = {*files, *_own_files(one, component, shared.cloud)}
    for one in shared.others:
        for component in one.components.values():
            if component.kind == "system" or not _runs(component, groups, shared.cloud):
                continue
            own = _own_files(one, component, shared.cloud)
            for name in _with_sockets(component, _unit_names(one, component, shared.cloud.cells, host)):
                if name not in units:
                    known = found.get(name, Dropped(name, one.name, one.wave)).files
                    gone = (path for path in (*known, *own) if path not in files)
                    found[name] = Dropped(name, one.name, one.wave, tuple(dict.fromkeys(gone)))
    return tuple(found.values())


def _own_files(service: Service, component: Component, cloud: Cloud) -> list[str]:
    """Return the paths of the files that a component reads."""
    entries = [file for file in service.files.values() if component.name in file.components]
    own = [entry.path for file in entries for entry in _files(service, file, cloud.cells)]
    return own + [uwsgi_path(service, component)] * (component.kind == "wsgi")


def _with_sockets(component: Component, units: Iterable[str]) -> list[str]:
    """Return the units of a component with those of their sockets, which go and come before them."""
    return [name for unit in units for name in ([socket_of(unit)] if component.kind == "wsgi" else []) + [unit]]


def _unneeded(service: Service, here: Collection[str]) -> tuple[str, ...]:
    """Return the packages of a service's lock that only components need which are not among those `here`."""
    owned = {name: set(one.python_packages) for name, one in service.components.items()}
    needed = set().union(*(owned[name] for name in here))
    return tuple(sorted(normalized(name) for name in set().union(*owned.values()) - needed))


def _excluded(
    shared: _Shared, host: str, groups: list[str], variables: Mapping[str, Any], planned: set[str]
) -> dict[str, str]:
    """Return the units that a host would have if the cloud's variables were others, with what they would have to be."""
    found: dict[str, str] = {}
    for one in shared.sources.services.values():
        for component in one.components.values():
            for group in component.groups:
                wanted = {**one.when, **component.when, **component.only_when.get(("group", group), {})}
                if group not in groups or holds(wanted, variables):
                    continue
                text = ", ".join(f"{name}: {_word(value)}" for name, value in wanted.items())
                units = _unit_names(one, component, shared.cloud.cells, host)
                found |= {unit: text for unit in units if unit not in planned}
    return found


def _word(value: Any) -> str:
    """Return a value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _idle(
    services: list[Service],
    packages: Iterable[str],
    instances: list[Instance],
    renamed: Mapping[str, Any],
    host: str,
) -> tuple[str, ...]:
    """Return the units that packages of a host bring although no component of it runs here; the first brings a unit."""
    installed, planned = set(packages), {one.unit for one in instances}
    return tuple(
        component.unit.format(host=host)
        for one in services
        for component in one.components.values()
        if component.kind == "system"
        and component.packages
        and set(_real(renamed, component.packages[0])) <= installed
        and component.unit.format(host=host) not in planned
    )


def _runs(component: Component, groups: list[str], cloud: Cloud) -> bool:
    """Return whether a host in these groups runs a component."""
    if not _wanted(component.only, component, cloud):
        return False
    return "all" in component.groups or bool(set(component.groups) & set(groups))


def _wanted(only: str, component: Component, cloud: Cloud) -> bool:
    """Return whether a cloud is of the kind that something of a component is only for."""
    if only == "vip":
        return any(one.vip is not None for one in cloud.networks.values())
    return only != "cluster" or any(len(cloud.members[group]) > 1 for group in component.groups)


def _real(renamed: Mapping[str, Any], key: str) -> list[str]:
    value = renamed.get(key, key)
    return [value] if isinstance(value, str) else list(value)


def _user(users: dict[str, User], name: str, service: Service, component: Component) -> None:
    if not name or name == "root":
        return
    known = users.get(name)
    groups = dict.fromkeys((*(known.groups if known else ()), *service.groups, *component.unix_groups))
    shell = component.shell or (known.shell if known else "")
    create = component.kind != "system" or (known is not None and known.create)
    users[name] = User(name, tuple(groups), f"/var/lib/{name}", create, shell)


def _instances(
    service: Service, component: Component, variables: Mapping[str, Any], shared: _Shared, host: str
) -> list[Instance]:
    count = workers(variables["brume_workers"], service.name, component.name, component.processes)
    names = _unit_names(service, component, shared.cloud.cells, host)
    if component.kind == "system":
        return [Instance(service.name, component.name, "", names[0], None, 1)]
    return [
        Instance(
            service.name,
            component.name,
            cell,
            names[place],
            Listen(LOOPBACK, component.port + place + BACKEND_OFFSET) if component.port else None,
            count,
        )
        for place, cell in enumerate(shared.cloud.cells if component.each else ("",))
    ]


def _unit_names(service: Service, component: Component, cells: tuple[str, ...], host: str) -> list[str]:
    """Return the units of a component on a host, one per cell where it has cells."""
    if component.kind == "system":
        return [component.unit.format(host=host)]
    base = f"{service.name}-{component.name}"
    return [f"{base}-{cell}.service" if cell else f"{base}.service" for cell in (cells if component.each else ("",))]


def socket_of(unit: str) -> str:
    """Return the socket unit that belongs to an API's service unit."""
    return f"{unit.removesuffix('.service')}.socket"


def uwsgi_path(service: Service, component: Component) -> str:
    """Return the path of a component's uWSGI file."""
    return f"/etc/{service.name}/uwsgi-{component.name}.ini"


def _ports(
    component: Component, instances: list[Instance], addresses: Mapping[str, netaddr.IPAddress], cloud: Cloud
) -> list[Port]:
    result = []
    for instance in instances:
        if instance.listen is not None:
            result.append(Port(instance.listen.address, instance.listen.port, instance.unit))
        for entry in component.ports:
            said: Mapping[str, Any] = {"port": entry} if isinstance(entry, int) else entry
            if not _wanted(said.get("only", ""), component, cloud):
                continue
            place = said.get("address") or str(addresses[said.get("network", "management")])
            result.append(Port(place, said["port"], instance.unit))
    return result


def _frontend_ports(
    cloud: Cloud, addresses: Mapping[str, netaddr.IPAddress], networks: Mapping[str, Network]
) -> list[Port]:
    return [
        Port(address, frontend.port, "haproxy.service")
        for frontend in cloud.frontends
        for address in binds(frontend, addresses, networks)
    ]


def receivers(cloud: Cloud, host: str) -> list[tuple[Frontend, Server]]:
    """Return the API processes of a host to which load balancers on other hosts hand requests on, over TLS."""
    balancers = [name for name, _address in cloud.members["loadbalancer"]]
    if balancers == [host]:
        return []
    return [
        (frontend, server)
        for frontend in cloud.frontends
        for server in frontend.servers
        if server.name == host and not frontend.check
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
