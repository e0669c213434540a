"""What Nova's scheduler and Placement know of hosts, instances and requests: the model that previews and drains share.

Pure data; `scheduling_filters` judges hosts and `scheduling_weighers` orders them. Attributes bear the names of
nova.scheduler.host_manager.HostState, nova.objects.RequestSpec and of Placement's inventories at 2026.1; sizes are MiB
where a name ends in `_mb`, GiB where it ends in `_gb`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

VCPU, MEMORY_MB, DISK_GB = "VCPU", "MEMORY_MB", "DISK_GB"
ZONE_KEY = "availability_zone"
"""Metadata key by which an aggregate gives its hosts a zone."""

AFFINITY, ANTI_AFFINITY = "affinity", "anti-affinity"
SOFT_AFFINITY, SOFT_ANTI_AFFINITY = "soft-affinity", "soft-anti-affinity"
POLICIES = (AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY, SOFT_ANTI_AFFINITY)

UNLIMITED = 2**31 - 1
"""Placement's largest number, its default for `max_unit`."""


class SchedulingError(ValueError):
    """A request that Nova would refuse before it looks at hosts, or could not answer; the text says why."""


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
    image_id: str = ""
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


MULTIPLIERS: Mapping[str, float] = {
    "ram_weight_multiplier": 1.0,
    "cpu_weight_multiplier": 1.0,
    "disk_weight_multiplier": 1.0,
    "hypervisor_version_weight_multiplier": 1.0,
    "num_instances_weight_multiplier": 0.0,
    "io_ops_weight_multiplier": -1.0,
    "image_props_weight_multiplier": 0.0,
    "pci_weight_multiplier": 1.0,
    "soft_affinity_weight_multiplier": 1.0,
    "soft_anti_affinity_weight_multiplier": 1.0,
    "build_failure_weight_multiplier": 1000000.0,
    "cross_cell_move_weight_multiplier": 1000000.0,
    "metrics_weight_multiplier": 1.0,
}
"""Options of `[filter_scheduler]` with their defaults; an aggregate's metadata of the same name outweighs them.

That of metrics is `[metrics] weight_multiplier`, but bears this name in aggregates (nova.scheduler.weights.metrics).
"""

ALL_WEIGHERS = "nova.scheduler.weights.all_weighers"


@dataclass(frozen=True)
class Settings:
    """Options of the scheduler by their own names, with Nova's defaults at 2026.1 (nova.conf.scheduler)."""

    enabled_filters: tuple[str, ...] = (
        "ComputeFilter",
        "ComputeCapabilitiesFilter",
        "ImagePropertiesFilter",
        "ServerGroupAntiAffinityFilter",
        "ServerGroupAffinityFilter",
    )
    weight_classes: tuple[str, ...] = (ALL_WEIGHERS,)
    multipliers: Mapping[str, float] = field(default_factory=lambda: dict(MULTIPLIERS))
    host_subset_size: int = 1
    shuffle_best_same_weighed_hosts: bool = False
    max_io_ops_per_host: int = 8
    max_instances_per_host: int = 50
    image_properties_default_architecture: str = ""
    isolated_images: tuple[str, ...] = ()
    isolated_hosts: tuple[str, ...] = ()
    restrict_isolated_hosts_to_isolated_images: bool = True
    aggregate_image_properties_isolation_namespace: str = ""
    aggregate_image_properties_isolation_separator: str = "."
    # [scheduler]
    limit_tenants_to_placement_aggregate: bool = False
    placement_aggregate_required_for_tenants: bool = False
    enable_isolated_aggregate_filtering: bool = False
    image_metadata_prefilter: bool = False
    query_placement_for_image_type_support: bool = False
    query_placement_for_routed_network_aggregates: bool = False
    max_placement_results: int = 1000
    # [metrics]
    weight_setting: tuple[str, ...] = ()
    required: bool = True
    weight_of_unavailable: float = -10000.0
    # [DEFAULT]
    default_availability_zone: str = "nova"
    default_schedule_zone: str = ""


SECTIONS = ("filter_scheduler", "scheduler", "metrics", "DEFAULT")
TRUE, FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def settings_of(configuration: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Return the settings that a `nova.conf`, section -> option -> value, makes; values may be texts.

    Raises SchedulingError naming the option whose value is of another type.
    """
    defaults = Settings()
    known = {one.name: getattr(defaults, one.name) for one in fields(Settings)}
    found: dict[str, Any] = {}
    multipliers = dict(MULTIPLIERS)
    for section in SECTIONS:
        for option, value in configuration.get(section, {}).items():
            name = f"metrics_{option}" if section == "metrics" and option == "weight_multiplier" else option
            try:
                if name in MULTIPLIERS:
                    multipliers[name] = float(value)
                elif name in known and name != "multipliers" and value is not None:
                    found[name] = _typed(value, known[name])
            except (TypeError, ValueError):
                raise SchedulingError(f"[{section}] {option}: {value!r} cannot be read") from None
    return Settings(multipliers=multipliers, **found)


def _typed(value: Any, like: Any) -> Any:
    """Return a value with the type of a default. Raises ValueError."""
    if isinstance(like, tuple):
        items = value.split(",") if isinstance(value, str) else list(value)
        return tuple(text for text in (str(one).strip() for one in items) if text)
    if isinstance(like, bool):
        text = str(value).lower()
        if text not in TRUE | FALSE:
            raise ValueError(text)
        return text in TRUE
    return type(like)(value)


def of_scheduling(configuration: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what of a `nova.conf` makes the settings, and nothing else: other options may be secret."""
    known = {*MULTIPLIERS, "weight_multiplier", *(one.name for one in fields(Settings))}
    return {
        section: {name: value for name, value in configuration.get(section, {}).items() if name in known}
        for section in SECTIONS
    }
