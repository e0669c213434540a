"""Why a host does not pass: Placement's part of scheduling, then Nova's filters by their names. Pure.

Each filter takes a host, a request and the settings, and returns why the host does not pass, or an empty text.
Rules are those of nova.scheduler.request_filter, nova.scheduler.utils.ResourceRequest, nova.scheduler.filters.* and of
Placement's allocation candidates at 2026.1; the unit tests compare them with Nova's own classes. A host is one provider
here: nested and shared providers are not judged, and `unjudged` names what else is not.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.scheduling import (
    AFFINITY,
    ANTI_AFFINITY,
    DISK_GB,
    MEMORY_MB,
    VCPU,
    ZONE_KEY,
    Aggregate,
    Host,
    Request,
    SchedulingError,
    Settings,
)

Filter = Callable[[Host, Request, Settings], str]

PLACEMENT = "Placement"
"""The name under which Placement's refusals are reported; it answers before the filters."""

DISABLED_TRAIT = "COMPUTE_STATUS_DISABLED"
TENANT_KEY = "filter_tenant_id"
TRAIT_PREFIX = "trait:"
RESOURCE_PREFIX = "resources:"

Version = tuple[int, ...]


# --- Placement --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """What Nova asks Placement for."""

    resources: Mapping[str, int] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    member_of: tuple[tuple[str, frozenset[str]], ...] = ()
    """(Why, names of aggregates) each; a host has to be in one aggregate of every item."""
    not_member_of: frozenset[str] = frozenset()


def query(request: Request, aggregates: Iterable[Aggregate], settings: Settings) -> Query:
    """Return what Nova would ask Placement for; `aggregates` are all of the cloud. Raises SchedulingError."""
    flavor, specs = request.flavor, request.flavor.extra_specs
    required, forbidden, resources = set(_image_traits(request)), {DISABLED_TRAIT}, {}
    for key, value in specs.items():
        if key.startswith(TRAIT_PREFIX):
            {"required": required, "forbidden": forbidden}.get(value, set()).add(key.removeprefix(TRAIT_PREFIX))
        elif key.startswith(RESOURCE_PREFIX) and value.strip().isdigit():
            resources[key.removeprefix(RESOURCE_PREFIX)] = int(value)
    swap = math.ceil(flavor.swap / 1024)
    derived = {
        MEMORY_MB: flavor.ram,
        DISK_GB: flavor.ephemeral + swap + (0 if request.boot_from_volume else flavor.disk),
    }
    if "PCPU" not in resources:
        derived[VCPU] = flavor.vcpus
    resources = {key: amount for key, amount in {**derived, **resources}.items() if amount}

    known = list(aggregates)
    member_of = []
    if settings.limit_tenants_to_placement_aggregate:
        own = _named(
            one for one in known
            if request.project_id in one.metadata.values() and any(key.startswith(TENANT_KEY) for key in one.metadata)
        )  # fmt: skip
        if own:
            member_of.append((f"an aggregate of project {request.project_id}", own))
        elif settings.placement_aggregate_required_for_tenants:
            raise SchedulingError(
                f"project {request.project_id} has no aggregate, and the scheduler's settings want one"
            )
    zone = request.availability_zone or settings.default_schedule_zone
    in_zone = _named(one for one in known if zone and one.metadata.get(ZONE_KEY) == zone)
    if in_zone:  # a zone without aggregates, such as the default one, narrows nothing
        member_of.append((f"zone {zone}", in_zone))
    isolated = frozenset[str]()
    if settings.enable_isolated_aggregate_filtering:
        isolated = _named(one for one in known if _isolates(one, required))
    return Query(resources, frozenset(required), frozenset(forbidden), tuple(member_of), isolated)


def placement_refusal(host: Host, asked: Query) -> str:
    """Return why Placement does not offer a host, with every shortage."""
    reasons = [text for name, amount in asked.resources.items() if (text := _shortage(host, name, amount))]
    lacking, unwanted = asked.required - host.traits, asked.forbidden & host.traits
    if lacking:
        reasons.append(f"lacks the {_plural('trait', lacking)} {', '.join(sorted(lacking))}")
    if DISABLED_TRAIT in unwanted:
        reasons.append(f"its service is disabled (trait {DISABLED_TRAIT})")
    if unwanted - {DISABLED_TRAIT}:
        reasons.append(f"has the forbidden {_plural('trait', unwanted)} {', '.join(sorted(unwanted))}")
    names = _named(host.aggregates)
    reasons += [f"is not in {why}" for why, wanted in asked.member_of if not wanted & names]
    if asked.not_member_of & names:
        reasons.append(f"is in an isolated aggregate ({', '.join(sorted(asked.not_member_of & names))})")
    return "; ".join(reasons)


def _shortage(host: Host, name: str, amount: int) -> str:
    inventory = host.inventories.get(name)
    if inventory is None:
        return f"has no {name}"
    if not inventory.min_unit <= amount <= inventory.max_unit:
        return f"{name}: {amount} asked, an instance may have {inventory.min_unit} to {inventory.max_unit}"
    if amount % inventory.step_size:
        return f"{name}: {amount} asked, which is no multiple of {inventory.step_size}"
    if inventory.used + amount > inventory.capacity:
        free = inventory.capacity - inventory.used
        return f"{name}: {amount} asked, {max(free, 0)} of {inventory.capacity} free"
    return ""


def _named(aggregates: Iterable[Aggregate]) -> frozenset[str]:
    return frozenset(one.name for one in aggregates)


def _isolates(aggregate: Aggregate, required: set[str]) -> bool:
    return any(
        key.startswith(TRAIT_PREFIX) and value == "required" and key.removeprefix(TRAIT_PREFIX) not in required
        for key, value in aggregate.metadata.items()
    )


def _image_traits(request: Request) -> list[str]:
    traits = request.image_properties.get("traits_required") or []
    return [str(one) for one in traits] if isinstance(traits, (list, tuple)) else []


def _plural(word: str, items: Iterable[object]) -> str:
    return word if len(list(items)) == 1 else f"{word}s"


# --- extra specs and metadata -----------------------------------------------------------------------------------------

NUMBERS: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
TEXTS: Mapping[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s<": operator.lt,
    "s<=": operator.le,
    "s>": operator.gt,
    "s>=": operator.ge,
}


def matches(value: str, wanted: str) -> bool:
    """Return whether a host's value is as an extra spec wants (nova.scheduler.filters.extra_specs_ops).

    Raises SchedulingError where a number is asked for and there is none: Nova's scheduler fails then.
    """
    words = wanted.split()
    sign = words[0] if words else ""
    if sign == "<or>":
        if len(words) == 1:
            raise SchedulingError(f"{wanted!r} has nothing after <or>")
        return value in words[1::2]
    if sign not in {*NUMBERS, *TEXTS, "<in>", "<all-in>"}:
        return value == wanted
    if len(words) == 1:
        return False
    if sign in ("<in>", "<all-in>"):
        return all(word in value for word in (words[1:] if sign == "<all-in>" else words[1:2]))
    if sign in TEXTS:
        return TEXTS[sign](value, words[1])
    try:
        return NUMBERS[sign](float(value), float(words[1]))
    except ValueError:
        raise SchedulingError(f"{wanted!r} compares numbers, and a host has {value!r}: Nova fails then") from None


def metadata_of(host: Host) -> dict[str, set[str]]:
    """Return the metadata of a host's aggregates, lists at commas, values of all aggregates together."""
    found: dict[str, set[str]] = {}
    for aggregate in host.aggregates:
        for key, value in aggregate.metadata.items():
            found.setdefault(key, set()).update(one.strip() for one in value.split(","))
    return found


def number_of(host: Host, key: str, default: float, cast: type[int] | type[float]) -> float:
    """Return the least number that the host's aggregates give a key, or the default."""
    values = {one.metadata[key] for one in host.aggregates if key in one.metadata}
    try:
        return min((cast(value) for value in values), default=default)
    except ValueError:
        return default


# --- filters ----------------------------------------------------------------------------------------------------------


def compute(host: Host, request: Request, settings: Settings) -> str:
    """Judge the host's service."""
    if host.disabled:
        return f"its service is disabled{f' ({host.disabled_reason})' if host.disabled_reason else ''}"
    return "" if host.up else "its service has not reported for a while"


ATTRIBUTES: Mapping[str, str] = {
    "host": "name",
    "nodename": "hypervisor_hostname",
    "cell_uuid": "cell",
    **{
        name: name
        for name in (
            "hypervisor_hostname", "hypervisor_type", "hypervisor_version", "host_ip", "cpu_info", "vcpus_total",
            "vcpus_used", "total_usable_ram_mb", "free_ram_mb", "total_usable_disk_gb", "disk_mb_used", "free_disk_mb",
            "num_instances", "num_io_ops", "failed_builds", "cpu_allocation_ratio", "ram_allocation_ratio",
            "disk_allocation_ratio",
        )
    },
}  # fmt: skip
"""Attributes of Nova's HostState that capabilities are asked of -> ours."""

OPAQUE = frozenset({
    "uuid", "pci_stats", "numa_topology", "supported_instances", "limits", "metrics", "aggregates", "instances",
    "updated", "allocation_candidates", "service", "stats",
})  # fmt: skip
"""Attributes that HostState has beside them; what they would answer is not judged."""

MAXPHYSADDR, MAXPHYSADDR_SCOPE = "hw:maxphysaddr_bits", "capabilities:cpu_info:maxphysaddr:bits"


def compute_capabilities(host: Host, request: Request, settings: Settings) -> str:
    """Judge extra specs `capabilities:*`, and those without a colon that name something a host reports."""
    specs = dict(request.flavor.extra_specs)
    if MAXPHYSADDR in specs:
        specs[MAXPHYSADDR_SCOPE] = f">= {specs.pop(MAXPHYSADDR)}"
    for key, wanted in specs.items():
        scope = key.split(":")
        if len(scope) == 1:
            if key not in ATTRIBUTES and key not in host.stats:
                continue
        elif scope.pop(0) != "capabilities":
            continue
        if scope[0] in OPAQUE:
            continue
        value = _capability(host, scope)
        if value is None:
            return f"{key}: reports none"
        if not matches(str(value), wanted):
            return f"{key}: {wanted!r} asked, it has {value}"
    return ""


def _capability(host: Host, scope: Sequence[str]) -> Any:
    """Return what a host reports under nested names, the JSON of `cpu_info` included; None without it."""
    value: Any = None
    if scope[0] in ATTRIBUTES:
        value = getattr(host, ATTRIBUTES[scope[0]])
        value = None if value == "" else value
    if value is None:
        value = host.stats.get(scope[0])
    for name in scope[1:]:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return None
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


ARCHITECTURES = {
    "i386": "i686", "i486": "i686", "i586": "i686", "x86_32": "i686", "x86_32p": "i686", "amd64": "x86_64",
}  # fmt: skip
TYPES = {"xapi": "xen"}
MODES = {"pv": "xen", "hv": "hvm", "baremetal": "hvm"}


def image_properties(host: Host, request: Request, settings: Settings) -> str:
    """Judge architecture, hypervisor type, mode and hypervisor version that the image asks for."""
    properties = request.image_properties
    asked = [
        text
        for text in (
            _canonical(
                properties.get("hw_architecture") or settings.image_properties_default_architecture, ARCHITECTURES
            ),
            _canonical(properties.get("img_hv_type"), TYPES),
            _canonical(properties.get("hw_vm_mode"), MODES),
        )
        if text
    ]
    if not asked or host.supported_instances is None:
        return ""
    if not any(set(asked) <= set(one) for one in host.supported_instances):
        return f"does not run {' '.join(asked)}"
    version = str(properties.get("img_hv_requested_version") or "")
    if version and host.hypervisor_version and not _satisfies(host.hypervisor_version, version):
        return f"hypervisor version {version} asked, it has {'.'.join(map(str, _version(host.hypervisor_version)))}"
    return ""


def _canonical(value: object, names: Mapping[str, str]) -> str:
    text = str(value or "").lower()
    return names.get(text, text)


PREDICATE = re.compile(r"\s*(<=|>=|<|>|!=|==)\s*(\d+(?:\.\d+)*)\s*")
COMPARISONS: Mapping[str, Callable[[Version, Version], bool]] = {
    "<": operator.lt, "<=": operator.le, "==": operator.eq, ">": operator.gt, ">=": operator.ge, "!=": operator.ne,
}  # fmt: skip


def _version(number: int) -> Version:
    """Return 10000013 as 10, 0, 13."""
    parts: list[int] = []
    while number:
        number, part = divmod(number, 1000)
        parts.insert(0, part)
    return tuple(parts)


def _satisfies(number: int, predicate: str) -> bool:
    for text in predicate.split(","):
        found = PREDICATE.fullmatch(text)
        if found is None:
            raise SchedulingError(f"image property img_hv_requested_version: {predicate!r} cannot be read")
        wanted = tuple(int(part) for part in found[2].split("."))
        if not COMPARISONS[found[1]](_stripped(_version(number)), _stripped(wanted)):
            return False
    return True


def _stripped(version: Version) -> Version:
    """Return a version without zeros at its end: 4.0 and 4 are the same."""
    length = len(version)
    while length and not version[length - 1]:
        length -= 1
    return version[:length]


def server_group_anti_affinity(host: Host, request: Request, settings: Settings) -> str:
    """Keep members of a group with this policy apart, `max_server_per_host` of them on a host."""
    group = request.group
    if (
        group is None
        or group.policy != ANTI_AFFINITY
        or (request.instance_uuid and request.instance_uuid in host.instances)
    ):
        return ""
    there = len(host.instances & group.members)
    if there < group.max_server_per_host:
        return ""
    return f"has {there} of group {group.name or group.uuid} (at most {group.max_server_per_host})"


def server_group_affinity(host: Host, request: Request, settings: Settings) -> str:
    """Keep members of a group with this policy on the hosts that have some."""
    group = request.group
    if group is None or group.policy != AFFINITY or not group.hosts or host.name in group.hosts:
        return ""
    return f"group {group.name or group.uuid} is on {', '.join(sorted(group.hosts))}"


AGGREGATE_SCOPE = "aggregate_instance_extra_specs"


def aggregate_instance_extra_specs(host: Host, request: Request, settings: Settings) -> str:
    """Judge extra specs of this scope, and those without a colon, by the metadata of the host's aggregates."""
    metadata = metadata_of(host)
    for spec, wanted in request.flavor.extra_specs.items():
        scope, colon, rest = spec.partition(":")
        if colon and scope != AGGREGATE_SCOPE:
            continue
        key = rest if colon else spec
        values = metadata.get(key)
        if not values:
            return f"{key}: {wanted!r} asked, no aggregate of it says"
        if not any(matches(value, wanted) for value in sorted(values)):
            return f"{key}: {wanted!r} asked, its aggregates say {', '.join(sorted(values))}"
    return ""


IMAGE_PROPERTY = re.compile(r"(hw|img|os)_\w+")
"""Names of image properties that Nova may know; others never count."""


def aggregate_image_properties_isolation(host: Host, request: Request, settings: Settings) -> str:
    """Keep images away from aggregates that give one of their properties another value."""
    namespace = settings.aggregate_image_properties_isolation_namespace
    prefix = namespace + settings.aggregate_image_properties_isolation_separator if namespace else ""
    for key, values in metadata_of(host).items():
        value = request.image_properties.get(key)
        if value and key.startswith(prefix) and IMAGE_PROPERTY.fullmatch(key) and str(value) not in values:
            return f"{key}: the image has {value}, its aggregates want {', '.join(sorted(values))}"
    return ""


def aggregate_multi_tenancy_isolation(host: Host, request: Request, settings: Settings) -> str:
    """Keep other projects away from aggregates that name some."""
    projects = {one for key, values in metadata_of(host).items() if key.startswith(TENANT_KEY) for one in values}
    return (
        f"is kept for projects {', '.join(sorted(projects))}" if projects and request.project_id not in projects else ""
    )


def aggregate_type_affinity(host: Host, request: Request, settings: Settings) -> str:
    """Keep other flavors away from aggregates that name some."""
    texts = [one.metadata["instance_type"] for one in host.aggregates if "instance_type" in one.metadata]
    names = sorted({name.strip() for text in texts for name in text.split(",")})
    return f"is kept for flavors {', '.join(names)}" if texts and request.flavor.name not in names else ""


def num_instances(host: Host, request: Request, settings: Settings) -> str:
    """Judge the number of instances by `max_instances_per_host`."""
    return _at_most("instances", host.num_instances, settings.max_instances_per_host)


def aggregate_num_instances(host: Host, request: Request, settings: Settings) -> str:
    """Do so by the metadata of the host's aggregates, if they say."""
    limit = number_of(host, "max_instances_per_host", settings.max_instances_per_host, int)
    return _at_most("instances", host.num_instances, limit)


def io_ops(host: Host, request: Request, settings: Settings) -> str:
    """Judge builds, resizes, snapshots and the like in progress by `max_io_ops_per_host`."""
    return _at_most("operations in progress", host.num_io_ops, settings.max_io_ops_per_host)


def aggregate_io_ops(host: Host, request: Request, settings: Settings) -> str:
    """Do so by the metadata of the host's aggregates, if they say."""
    limit = number_of(host, "max_io_ops_per_host", settings.max_io_ops_per_host, int)
    return _at_most("operations in progress", host.num_io_ops, limit)


def _at_most(what: str, count: int, limit: float) -> str:
    return "" if count < limit else f"has {count} {what} (fewer than {limit:g} wanted)"


def same_host(host: Host, request: Request, settings: Settings) -> str:
    """Judge the hint `same_host`."""
    wanted = request.same_host
    return "" if not wanted or host.instances & set(wanted) else f"has none of the instances {', '.join(wanted)}"


def different_host(host: Host, request: Request, settings: Settings) -> str:
    """Judge the hint `different_host`."""
    found = host.instances & set(request.different_host)
    return f"has the {_plural('instance', found)} {', '.join(sorted(found))}" if found else ""


def isolated_hosts(host: Host, request: Request, settings: Settings) -> str:
    """Keep isolated images on isolated hosts."""
    image, isolated = request.image_id in settings.isolated_images, host.name in settings.isolated_hosts
    if isolated and not image and settings.restrict_isolated_hosts_to_isolated_images:
        return "is kept for isolated images"
    return "does not take isolated images" if image and not isolated else ""


def metrics(host: Host, request: Request, settings: Settings) -> str:
    """Want the metrics that the weigher reads."""
    lacking = sorted({name for name, _ in metric_ratios(settings)} - set(host.metrics))
    return f"does not report {', '.join(lacking)}" if lacking else ""


def metric_ratios(settings: Settings) -> Iterator[tuple[str, float]]:
    """Yield name and ratio of what `[metrics] weight_setting` says, without what cannot be read."""
    for text in settings.weight_setting:
        name, sign, ratio = text.partition("=")
        try:
            if name and sign:
                yield name, float(ratio)
        except ValueError:
            continue


def passes(host: Host, request: Request, settings: Settings) -> str:
    """Refuse nothing; `unjudged` says so where that may be wrong."""
    return ""


FILTERS: Mapping[str, Filter] = {
    "AggregateImagePropertiesIsolation": aggregate_image_properties_isolation,
    "AggregateInstanceExtraSpecsFilter": aggregate_instance_extra_specs,
    "AggregateIoOpsFilter": aggregate_io_ops,
    "AggregateMultiTenancyIsolation": aggregate_multi_tenancy_isolation,
    "AggregateNumInstancesFilter": aggregate_num_instances,
    "AggregateTypeAffinityFilter": aggregate_type_affinity,
    "AllHostsFilter": passes,
    "ComputeCapabilitiesFilter": compute_capabilities,
    "ComputeFilter": compute,
    "DifferentHostFilter": different_host,
    "ImagePropertiesFilter": image_properties,
    "IoOpsFilter": io_ops,
    "IsolatedHostsFilter": isolated_hosts,
    "JsonFilter": passes,
    "MetricsFilter": metrics,
    "NUMATopologyFilter": passes,
    "NumInstancesFilter": num_instances,
    "PciPassthroughFilter": passes,
    "SameHostFilter": same_host,
    "ServerGroupAffinityFilter": server_group_affinity,
    "ServerGroupAntiAffinityFilter": server_group_anti_affinity,
    "SimpleCIDRAffinityFilter": passes,
}
"""Every filter of Nova at 2026.1."""

EACH_INSTANCE = frozenset({
    "AggregateIoOpsFilter", "AggregateNumInstancesFilter", "IoOpsFilter", "JsonFilter", "MetricsFilter",
    "NUMATopologyFilter", "NumInstancesFilter", "PciPassthroughFilter", "ServerGroupAffinityFilter",
    "ServerGroupAntiAffinityFilter",
})  # fmt: skip
"""Filters that judge every instance of a request; the others judge the first one only."""

SPECS_UNJUDGED = re.compile(
    r"hw:(numa_|cpu_policy|cpu_thread_policy|cpu_dedicated_mask|cpu_realtime|emulator_threads_policy|mem_page_size|"
    r"pci_numa_affinity_policy|pmem|mem_encryption|tpm_|maxphysaddr_mode|virtio_packed_ring|sound_model|"
    r"ephemeral_encryption)|hw:mem_encryption|os:secure_boot|accel:|pci_passthrough:|"
    r"(resources|trait)[A-Za-z0-9_-]+:|group_policy$"
)
PROPERTIES_UNJUDGED = re.compile(
    r"hw_(numa_|cpu_policy|cpu_thread_policy|cpu_realtime|mem_page_size|pci_numa_affinity_policy|mem_encryption|tpm_|"
    r"maxphysaddr_|virtio_packed_ring|firmware_stateless|sound_model|ephemeral_encryption)|os_secure_boot$"
)


def unjudged(request: Request, hosts: Sequence[Host], settings: Settings) -> list[str]:
    """Return what Nova would look at and this model does not, one sentence each."""
    found = [
        f"extra spec {key}: what it asks of hosts is not judged"
        for key in request.flavor.extra_specs
        if SPECS_UNJUDGED.match(key) or _opaque(key)
    ]
    found += [
        f"image property {key}: what it asks of hosts is not judged"
        for key in request.image_properties
        if PROPERTIES_UNJUDGED.match(key)
    ]
    asked = {"hw_architecture", "img_hv_type", "hw_vm_mode"} & set(request.image_properties)
    unknown = [host.name for host in hosts if host.supported_instances is None]
    if unknown and (asked or settings.image_properties_default_architecture):
        found.append(f"ImagePropertiesFilter: what {_hosts(unknown)} can run is not known, so they pass")
    if settings.image_metadata_prefilter and request.image_properties:
        found.append("[scheduler] image_metadata_prefilter: the traits it asks for are not judged")
    if settings.query_placement_for_image_type_support and not request.boot_from_volume:
        found.append("[scheduler] query_placement_for_image_type_support: the image's format is not judged")
    if settings.query_placement_for_routed_network_aggregates:
        found.append("[scheduler] query_placement_for_routed_network_aggregates: networks are not judged")
    found += [
        f"{name}: is none of Nova's filters, and is not judged"
        for name in settings.enabled_filters
        if name not in FILTERS
    ]
    return found


def _opaque(key: str) -> bool:
    scope = key.removeprefix("capabilities:").split(":")[0]
    return scope in OPAQUE and (":" not in key or key.startswith("capabilities:"))


def _hosts(names: Sequence[str]) -> str:
    few = 3
    return ", ".join(names[:few]) + (f" and {len(names) - few} more" if len(names) > few else "")
