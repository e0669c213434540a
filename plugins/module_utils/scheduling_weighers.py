"""In what order Nova's scheduler prefers hosts: its weighers by their names, multipliers and normalization. Pure.

Rules are those of nova.weights and nova.scheduler.weights.* at 2026.1; the unit tests compare them with those classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.brume.cloud.plugins.module_utils.scheduling import (
    ALL_WEIGHERS,
    SOFT_AFFINITY,
    SOFT_ANTI_AFFINITY,
    Host,
    Request,
    SchedulingError,
    Settings,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_filters import metric_ratios, number_of

Weigh = Callable[[Host, Request, Settings], float]


@dataclass(frozen=True)
class Weigher:
    """How a weigher sees a host; `least` is where its scale begins, the least of all hosts when None."""

    weigh: Weigh
    multiplier: str
    least: float | None = None
    sign: int = 1


@dataclass(frozen=True)
class Weighed:
    """A host with its weight, and what each weigher adds to it."""

    host: Host
    weight: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


def _members(policy: str) -> Weigh:
    def weigh(host: Host, request: Request, settings: Settings) -> float:
        group = request.group
        return len(host.instances & group.members) if group is not None and group.policy == policy else 0

    return weigh


def _metrics(host: Host, request: Request, settings: Settings) -> float:
    value = 0.0
    for name, ratio in metric_ratios(settings):
        if name in host.metrics:
            value += host.metrics[name] * ratio
        elif settings.required:
            raise SchedulingError(f"MetricsWeigher: {host.name} does not report {name}, and [metrics] required is set")
        elif ratio * _multiplier(host, WEIGHERS["MetricsWeigher"], settings):
            return settings.weight_of_unavailable
    return value


def _nothing(host: Host, request: Request, settings: Settings) -> float:
    return 0.0


WEIGHERS: Mapping[str, Weigher] = {
    "BuildFailureWeigher": Weigher(lambda host, *_: host.failed_builds, "build_failure_weight_multiplier", sign=-1),
    "CPUWeigher": Weigher(
        lambda host, *_: host.vcpus_total * host.cpu_allocation_ratio - host.vcpus_used, "cpu_weight_multiplier", 0
    ),
    # Only moves between cells count, which no request here is.
    "CrossCellWeigher": Weigher(_nothing, "cross_cell_move_weight_multiplier"),
    "DiskWeigher": Weigher(lambda host, *_: host.free_disk_mb, "disk_weight_multiplier", 0),
    "HypervisorVersionWeigher": Weigher(
        lambda host, *_: host.hypervisor_version, "hypervisor_version_weight_multiplier"
    ),
    # Off by default; with a multiplier it would want the image properties of every instance.
    "ImagePropertiesWeigher": Weigher(_nothing, "image_props_weight_multiplier"),
    "IoOpsWeigher": Weigher(lambda host, *_: host.num_io_ops, "io_ops_weight_multiplier", 0),
    "MetricsWeigher": Weigher(_metrics, "metrics_weight_multiplier"),
    "NumInstancesWeigher": Weigher(lambda host, *_: host.num_instances, "num_instances_weight_multiplier"),
    # Devices are not in the model: all hosts are alike to it.
    "PCIWeigher": Weigher(_nothing, "pci_weight_multiplier"),
    "RAMWeigher": Weigher(lambda host, *_: host.free_ram_mb, "ram_weight_multiplier", 0),
    "ServerGroupSoftAffinityWeigher": Weigher(_members(SOFT_AFFINITY), "soft_affinity_weight_multiplier"),
    "ServerGroupSoftAntiAffinityWeigher": Weigher(
        lambda *given: -_members(SOFT_ANTI_AFFINITY)(*given), "soft_anti_affinity_weight_multiplier"
    ),
}
"""Every weigher of Nova at 2026.1, by name."""


def enabled(settings: Settings) -> list[str]:
    """Return the names of the weighers that `weight_classes` enables, those that are not Nova's included."""
    if ALL_WEIGHERS in settings.weight_classes:
        own = [one for one in settings.weight_classes if one != ALL_WEIGHERS]
        return [*WEIGHERS, *(one.rpartition(".")[2] for one in own if one.rpartition(".")[2] not in WEIGHERS)]
    return [one.rpartition(".")[2] for one in settings.weight_classes]


def unjudged(settings: Settings) -> list[str]:
    """Return which weighers count for Nova and not here, one sentence each."""
    names = enabled(settings)
    found = [f"{name}: is none of Nova's weighers, and is not judged" for name in names if name not in WEIGHERS]
    if "ImagePropertiesWeigher" in names and settings.multipliers["image_props_weight_multiplier"]:
        found.append("ImagePropertiesWeigher: images of instances on hosts are not judged, its multiplier is not 0")
    return found


def weigh(hosts: Sequence[Host], request: Request, settings: Settings) -> list[Weighed]:
    """Return hosts by descending weight; those of the same weight stay in their order.

    A single host weighs nothing, as in Nova. Raises SchedulingError for a metric that is required and missing.
    """
    if len(hosts) <= 1:
        return [Weighed(host) for host in hosts]
    totals = [0.0] * len(hosts)
    parts: list[dict[str, float]] = [{} for _ in hosts]
    for name in enabled(settings):
        weigher = WEIGHERS.get(name)
        if weigher is None:
            continue
        for index, share in enumerate(
            _normalized([weigher.weigh(host, request, settings) for host in hosts], weigher.least)
        ):
            score = _multiplier(hosts[index], weigher, settings) * share
            totals[index] += score
            if score:
                parts[index][name] = score
    result = [Weighed(host, totals[index], parts[index]) for index, host in enumerate(hosts)]
    return sorted(result, key=lambda one: one.weight, reverse=True)


def _normalized(weights: Sequence[float], least: float | None) -> list[float]:
    """Return weights as shares of their range, 0 to 1; all 0 where they are alike."""
    if least is not None:
        weights = [max(weight, least) for weight in weights]
    low, high = min(weights) if least is None else least, max(weights)
    return [(weight - low) / (high - low) for weight in weights] if high != low else [0.0] * len(weights)


def _multiplier(host: Host, weigher: Weigher, settings: Settings) -> float:
    return weigher.sign * number_of(host, weigher.multiplier, settings.multipliers[weigher.multiplier], float)
