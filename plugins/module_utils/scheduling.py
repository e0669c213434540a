"""What Nova's scheduler and Placement know of hosts, instances and requests: the model that previews and drains share.

Pure data. Attributes bear the names of nova.scheduler.host_manager.HostState, nova.objects.RequestSpec and of
Placement's inventories at 2026.1; sizes are MiB where a name ends in `_mb`, GiB where it ends in `_gb`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

VCPU, MEMORY_MB, DISK_GB = "VCPU", "MEMORY_MB", "DISK_GB"
ZONE_KEY = "availability_zone"
"""Metadata key by which an aggregate gives its hosts a zone."""

AFFINITY, ANTI_AFFINITY = "affinity", "anti-affinity"
SOFT_AFFINITY, SOFT_ANTI_AFFINITY = "soft-affinity", "soft-anti-affinity"
POLICIES = (AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY, SOFT_ANTI_AFFINITY)

UNLIMITED = 2**31 - 1
"""Placement's largest number, its default for `max_unit`."""


@dataclass(frozen=True)
class Inventory:
    """How much of a resource class a host's provider has, and how much of it is allocated (Placement)."""

    total: int
    used: int = 0
    reserved: int = 0
    allocation_ratio: float = 1.0
    min_unit: int = 1
    max_unit: int = UNLIMITED
    step_size: int = 1

    @property
    def capacity(self) -> int:
        """Return what may be allocated at most."""
        return int((self.total - self.reserved) * self.allocation_ratio)


@dataclass(frozen=True)
class Aggregate:
    """A host aggregate as far as scheduling is concerned."""

    name: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Flavor:
    """A size: `vcpus`, `ram` and `swap` in MiB, `disk` and `ephemeral` in GiB."""

    name: str
    vcpus: int
    ram: int
    disk: int = 0
    ephemeral: int = 0
    swap: int = 0
    extra_specs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A server group. `members` are ids of instances, `hosts` the names of hosts that have members."""

    uuid: str
    policy: str
    name: str = ""
    max_server_per_host: int = 1
    """The rule of that name; only `anti-affinity` has it."""
    members: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Host:
    """A compute host with one node.

    What Placement holds is in `inventories`, what the scheduler reads beside it are the sums of nova-compute, which may
    differ from Placement's.
    """

    name: str
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    """By resource class; VCPU, MEMORY_MB and DISK_GB at least."""
    traits: frozenset[str] = frozenset()
    aggregates: Sequence[Aggregate] = ()
    """Nova's aggregates that hold the host, which Placement knows too."""
    cell: str = ""

    disabled: bool = False
    disabled_reason: str = ""
    up: bool = True

    vcpus_total: int = 0
    vcpus_used: int = 0
    cpu_allocation_ratio: float = 1.0
    ram_allocation_ratio: float = 1.0
    disk_allocation_ratio: float = 1.0
    total_usable_ram_mb: int = 0
    free_ram_mb: int = 0
    total_usable_disk_gb: int = 0
    disk_mb_used: int = 0
    free_disk_mb: int = 0
    num_instances: int = 0
    num_io_ops: int = 0
    failed_builds: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    instances: frozenset[str] = frozenset()
    """Ids of the instances on the host."""
    hypervisor_hostname: str = ""
    hypervisor_type: str = ""
    hypervisor_version: int = 0
    host_ip: str = ""
    cpu_info: str = ""
    """JSON, as nova-compute reports it."""
    supported_instances: tuple[tuple[str, str, str], ...] | None = None
    """(architecture, hypervisor type, mode) each; None where it is not known: no API of Nova tells it."""
    stats: Mapping[str, str] = field(default_factory=dict)

    @property
    def zone(self) -> str:
        """Return the host's zone by its aggregates; empty for Nova's default zone."""
        return next((one.metadata[ZONE_KEY] for one in self.aggregates if one.metadata.get(ZONE_KEY)), "")


@dataclass(frozen=True)
class Request:
    """What a user asks for, as a RequestSpec."""

    flavor: Flavor
    count: int = 1
    availability_zone: str = ""
    image_properties: Mapping[str, object] = field(default_factory=dict)
    """By Nova's names (`hw_architecture`, `img_hv_type`); `traits_required` is a list."""
    boot_from_volume: bool = False
    """The root disk is a volume, which takes nothing of the host's disk."""
    group: Group | None = None
    project_id: str = ""
    requested_host: str = ""
    """The only host to be judged; it has to pass (`host` of the API, since 2.74)."""
    ignore_hosts: Sequence[str] = ()
    force_hosts: Sequence[str] = ()
    """Taken without filters (`zone:host` of the API); Placement has to agree."""
    same_host: Sequence[str] = ()
    different_host: Sequence[str] = ()
    instance_uuid: str = ""
    """Of an instance that exists already and moves."""


@dataclass(frozen=True)
class Instance:
    """An instance that exists."""

    uuid: str
    host: str
    flavor: Flavor
    name: str = ""
    availability_zone: str = ""
    """The zone it was asked for; empty where none was, so that it may go to any."""
    group: str = ""
    """Its server group's id, empty without one."""
    project_id: str = ""
    image_properties: Mapping[str, object] = field(default_factory=dict)
    boot_from_volume: bool = False
    immovable: str = ""
    """Why it cannot move at all, such as a device of its host's; empty where it can."""
    destinations: frozenset[str] | None = None
    """The only hosts that it may go to; None for all."""
