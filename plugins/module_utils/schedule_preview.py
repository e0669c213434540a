"""Which hosts would take the instances of a request, in what order, and why the others would not. Pure.

Follows nova.scheduler.manager.SchedulerManager._schedule at 2026.1: for every instance of the request the hosts that
are left are filtered and weighed, the best one that Placement lets have it is taken, and the next finds it fuller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.scheduling import (
    Aggregate,
    Host,
    Request,
    SchedulingError,
    Settings,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_filters import (
    EACH_INSTANCE,
    FILTERS,
    PLACEMENT,
    Query,
    placement_refusal,
    query,
    unjudged,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_weighers import Weighed, weigh
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_weighers import unjudged as unjudged_weighers

TOLERANCE = 1e-9
"""Weights that differ by less are the same but for rounding."""


@dataclass(frozen=True)
class Refusal:
    """A step that does not let a host pass: Placement, a filter, or what the request says of hosts."""

    filter: str
    reason: str


@dataclass(frozen=True)
class Placing:
    """One instance of the request: the host it gets (empty for none), and how that came."""

    instance: str
    host: str
    order: tuple[Weighed, ...] = ()
    """Hosts that pass, best first, before this instance takes its place."""
    refused: Mapping[str, tuple[Refusal, ...]] = field(default_factory=dict)
    """Host -> why it does not pass. The first one is Nova's; the rest would refuse it too."""
    tied: tuple[str, ...] = ()
    """Hosts of which Nova may take any: those of the best weight, or the best `host_subset_size`."""


@dataclass(frozen=True)
class Preview:
    """The answer; `unjudged` says what it does not know of."""

    placings: tuple[Placing, ...]
    unjudged: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Return whether every instance gets a host; else Nova makes none of them."""
        return all(one.host for one in self.placings)


def schedule(
    hosts: Sequence[Host],
    request: Request,
    settings: Settings,
    aggregates: Iterable[Aggregate] | None = None,
    unknown: Iterable[str] = (),
) -> Preview:
    """Return what Nova's scheduler would do; `aggregates` are all of the cloud, those of the hosts unless given.

    `unknown` says what is not known of the hosts. Raises SchedulingError where Nova would look at no host.
    """
    known = {one.name: one for host in hosts for one in host.aggregates} if aggregates is None else {}
    asked = query(request, known.values() if aggregates is None else aggregates, settings)
    for name in [*request.force_hosts[:1], *([request.requested_host] if request.requested_host else [])]:
        if name not in {host.name for host in hosts}:
            raise SchedulingError(f"there is no host {name}")
    names = [request.instance_uuid or f"instance-{number}" for number in range(1, request.count + 1)]
    if request.group is not None:  # new instances are members before they are scheduled
        request = replace(request, group=replace(request.group, members=request.group.members | set(names)))
    left = list(hosts)
    placings = []
    for index, name in enumerate(names):
        placing, left = _place(left, replace(request, instance_uuid=name), settings, asked, index)
        placings.append(placing)
        if not placing.host:
            placings += [Placing(later, "") for later in names[index + 1 :]]
            break
        left = [_consumed(host, request, asked, name) if host.name == placing.host else host for host in left]
        if request.group is not None:
            request = replace(request, group=replace(request.group, hosts=request.group.hosts | {placing.host}))
    silent = [*unknown, *unjudged(request, hosts, settings), *unjudged_weighers(settings)]
    if len(hosts) > settings.max_placement_results and request.group is None:
        silent.append(
            f"[scheduler] max_placement_results: Placement offers {settings.max_placement_results} hosts at most, and "
            "which ones is not known"
        )
    return Preview(tuple(placings), tuple(silent))


def _place(
    hosts: Sequence[Host], request: Request, settings: Settings, asked: Query, index: int
) -> tuple[Placing, list[Host]]:
    """Return where the instance with this index goes, and the hosts that pass."""
    refused = {host.name: found for host in hosts if (found := refusals(host, request, settings, asked, index))}
    order = weigh([host for host in hosts if host.name not in refused], request, settings)
    passing = [one.host for one in order]
    chosen = ""
    for one in order:
        # Filters do not look at Placement again, but it refuses to let a later instance have what is not there.
        reason = placement_refusal(one.host, asked) if index else ""
        if not reason:
            chosen = one.host.name
            break
        refused[one.host.name] = (Refusal(PLACEMENT, reason),)
    order = [one for one in order if one.host.name not in refused]
    tied = [one.host.name for one in order if abs(one.weight - order[0].weight) <= TOLERANCE]
    if settings.host_subset_size > 1:
        tied = [one.host.name for one in order[: max(settings.host_subset_size, len(tied))]]
    return Placing(request.instance_uuid, chosen, tuple(order), refused, tuple(tied)), passing


def refusals(host: Host, request: Request, settings: Settings, asked: Query, index: int = 0) -> tuple[Refusal, ...]:
    """Return what does not let a host pass, in Nova's order; with an `index` above 0 only what is asked again.

    Raises SchedulingError where Nova would fail on this host.
    """
    found: list[Refusal] = []
    forced = request.force_hosts[:1]

    def note(name: str, reason: str) -> None:
        if reason:
            found.append(Refusal(name, reason))

    if not index:
        note(PLACEMENT, placement_refusal(host, asked))
    if request.requested_host and host.name != request.requested_host:
        note("requested_destination", f"another host is requested ({request.requested_host})")
    if host.name.lower() in {name.lower() for name in request.ignore_hosts}:
        note("ignore_hosts", "is to be ignored")
    if forced:
        note("force_hosts", "" if host.name.lower() == forced[0].lower() else f"another host is forced ({forced[0]})")
        return tuple(found)
    for name in settings.enabled_filters:
        if name not in FILTERS or (index and name not in EACH_INSTANCE):
            continue
        try:
            note(name, FILTERS[name](host, request, settings))
        except SchedulingError:
            if not found:  # Nova does not get here with a host that something before refused
                raise
    return tuple(found)


def _consumed(host: Host, request: Request, asked: Query, instance: str) -> Host:
    """Return a host after it took an instance (HostState.consume_from_request, and Placement's allocation)."""
    flavor = request.flavor
    inventories = {
        name: replace(one, used=one.used + asked.resources.get(name, 0)) for name, one in host.inventories.items()
    }
    return replace(
        host,
        inventories=inventories,
        free_ram_mb=host.free_ram_mb - flavor.ram,
        free_disk_mb=host.free_disk_mb - (flavor.disk + flavor.ephemeral) * 1024,
        vcpus_used=host.vcpus_used + flavor.vcpus,
        num_instances=host.num_instances + 1,
        num_io_ops=host.num_io_ops + 1,
        instances=host.instances | {instance} if request.group is not None else host.instances,
    )


# --- telling ----------------------------------------------------------------------------------------------------------


def as_data(preview: Preview) -> dict[str, Any]:
    """Return a preview as a module returns it."""
    return {
        "fits": preview.fits,
        "placings": [
            {
                "instance": placing.instance,
                "host": placing.host,
                "order": [
                    {"host": one.host.name, "weight": one.weight, "parts": dict(one.parts)} for one in placing.order
                ],
                "tied": list(placing.tied),
                "refused": [
                    {"host": name, "filters": [{"filter": one.filter, "reason": one.reason} for one in found]}
                    for name, found in placing.refused.items()
                ],
            }
            for placing in preview.placings
        ],
        "unjudged": list(preview.unjudged),
    }


def table(preview: Preview) -> list[str]:
    """Return a preview as lines that a person reads: hosts in order, then the others, each with its first refusal."""
    lines = []
    for number, placing in enumerate(preview.placings, 1):
        title = f"instance {number} of {len(preview.placings)}"
        if not placing.order and not placing.refused:
            lines += [f"{title}: not tried, since an instance before it gets no host"]
            continue
        lines.append(f"{title}: {placing.host or 'no host; Nova makes none of the instances'}")
        if placing.host and len(placing.tied) > 1:
            lines.append(f"  Nova may take any of {', '.join(placing.tied)}")
        rows = [
            (f"{place}.", one.host.name, f"weight {one.weight:.4g}", _parts(one.parts))
            for place, one in enumerate(placing.order, 1)
        ]
        rows += [
            ("-", name, found[0].filter, found[0].reason + _also(found[1:])) for name, found in placing.refused.items()
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines += ["  " + "  ".join([*map(str.ljust, row, widths), row[3]]).rstrip() for row in rows]
    return lines + [f"not judged: {one}" for one in preview.unjudged]


def _parts(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name.removesuffix('Weigher')} {score:+.3g}" for name, score in parts.items())


def _also(found: Sequence[Refusal]) -> str:
    return f" (also {', '.join(one.filter for one in found)})" if found else ""
