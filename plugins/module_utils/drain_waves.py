"""In which waves compute hosts can be emptied and maintained, so that their instances always have a place. Pure.

A wave empties its hosts, they are maintained, and come back empty before the next wave begins. Where an instance may
go is judged by Placement's rules and Nova's filters (`scheduling_filters`), because Nova's scheduler checks a live
migration even where its destination is given (nova.compute.api.API.live_migrate at 2026.1). The search is greedy,
largest instances first, and moves nothing that is not on a host of the wave: a host that it leaves may have a way that
takes more moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.brume.cloud.plugins.module_utils.scheduling import (
    AFFINITY,
    ANTI_AFFINITY,
    MEMORY_MB,
    SOFT_AFFINITY,
    SOFT_ANTI_AFFINITY,
    UNLIMITED,
    Group,
    Host,
    Instance,
    Request,
    SchedulingError,
    Settings,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_filters import (
    FILTERS,
    PLACEMENT,
    compute,
    number_of,
    placement_refusal,
    query,
)

COUNTING = {"NumInstancesFilter": False, "AggregateNumInstancesFilter": True}
"""Filters that limit a host's instances, and whether its aggregates have a say."""

DYNAMIC = frozenset({
    *COUNTING, "ServerGroupAntiAffinityFilter", "ServerGroupAffinityFilter", "IoOpsFilter", "AggregateIoOpsFilter",
})  # fmt: skip
"""Filters whose answer changes while instances move. Operations in progress pass: whoever moves instances waits."""

PATIENCE = 12
"""How many hosts that do not fit into a wave, which has some, end it."""

TRIES = 4
"""How often a host that cannot be emptied even alone is tried again after others moved."""


@dataclass(frozen=True)
class Move:
    """One instance's way to another host. The moves of a wave may be made one after the other in their order."""

    instance: str
    """Its id."""
    source: str
    destination: str


@dataclass(frozen=True)
class Wave:
    """The hosts that are empty at the same time, and the moves that empty them."""

    hosts: tuple[str, ...]
    moves: tuple[Move, ...]


@dataclass(frozen=True)
class Stuck:
    """An instance that cannot leave its host."""

    instance: str
    host: str
    reason: str
    """A sentence."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Filter -> number of hosts that it refused; the first filter that refuses a host counts."""


@dataclass(frozen=True)
class Waves:
    """The plan. Hosts with stuck instances are in no wave: they are in `left`, and none of their instances moves."""

    waves: tuple[Wave, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Kind:
    """What instances of one sort need, and which hosts never take them: index of a host -> filter."""

    needs: tuple[tuple[int, int], ...]
    """(Index of a resource class, amount) each."""
    open_to: tuple[int, ...]
    refused: Mapping[int, str]


def drain_waves(
    hosts: Sequence[Host],
    instances: Sequence[Instance],
    groups: Sequence[Group],
    drained: Sequence[str],
    at_once: int,
    *,
    at_once_per_zone: int = 0,
    settings: Settings | None = None,
) -> Waves:
    """Return in which waves `drained` can be emptied, at most `at_once` hosts in a wave and so many of a zone.

    `hosts` are all compute hosts, `instances` all instances on them; 0 limits no zone. A drained host is a destination
    after its wave as it is described: who disabled it for the drain describes it as enabled, without the trait
    COMPUTE_STATUS_DISABLED. Raises ValueError for a host in `drained` or of an instance that is not in `hosts`, for one
    named twice, and for `at_once` below 1.
    """
    known = {host.name for host in hosts}
    unknown = sorted({name for name in drained if name not in known})
    if unknown:
        raise ValueError(f"not among the compute hosts: {', '.join(unknown)}")
    astray = sorted({one.host for one in instances if one.host not in known})
    if astray:
        raise ValueError(f"instances are on hosts that are not among the compute hosts: {', '.join(astray)}")
    if len(set(drained)) < len(drained) or len(known) < len(hosts):
        raise ValueError("a host is named twice")
    if at_once < 1:
        raise ValueError("at_once: at least one host has to be in a wave")
    model = _Model(hosts, instances, groups, settings or Settings())
    limit = at_once_per_zone or len(hosts)
    plans: list[Waves] = []
    for pack in (False, True):  # spread as Nova does; where that leaves hosts, fill some up to keep room in others
        plans.append(_Search(model, drained, pack).waves(at_once, limit))
        if not plans[-1].left:
            break
    return min(plans, key=lambda one: (len(one.left), len(one.waves)))


class _Model:
    """What does not change while instances move. Hosts, resource classes and kinds are numbers here."""

    def __init__(
        self, hosts: Sequence[Host], instances: Sequence[Instance], groups: Sequence[Group], settings: Settings
    ) -> None:
        self.hosts = hosts
        self.settings = settings
        self.number = {host.name: index for index, host in enumerate(hosts)}
        self.classes = {name: index for index, name in enumerate(sorted({n for h in hosts for n in h.inventories}))}
        self.memory = self.classes.get(MEMORY_MB, 0)
        self.instances = {one.uuid: one for one in instances}
        self.aggregates = list({one.name: one for host in hosts for one in host.aggregates}.values())
        self.groups = {one.uuid: one for one in groups}
        named = {member: one.uuid for one in groups for member in one.members}
        self.group = {
            one.uuid: group for one in instances if (group := one.group or named.get(one.uuid, "")) in self.groups
        }
        # Capacity without what is used: the part of Placement's answer that stays.
        self.empty = [
            replace(host, inventories={name: replace(one, used=0) for name, one in host.inventories.items()})
            for host in hosts
        ]
        self.kinds: dict[object, _Kind | str] = {}
        self.most = [self._most(host) for host in hosts]
        self.filters = [(name, FILTERS[name]) for name in settings.enabled_filters if name in {*FILTERS} - DYNAMIC]

    def _most(self, host: Host) -> int:
        """Return how many instances a host may have."""
        limit = self.settings.max_instances_per_host
        limits = [
            int(number_of(host, "max_instances_per_host", limit, int)) if aggregates else limit
            for name, aggregates in COUNTING.items()
            if name in self.settings.enabled_filters
        ]
        return min(limits, default=UNLIMITED)

    def kind(self, uuid: str) -> _Kind | str:
        """Return an instance's kind, or why the scheduler would fail on it."""
        one = self.instances[uuid]
        flavor = one.flavor
        key = (
            flavor.name, flavor.vcpus, flavor.ram, flavor.disk, flavor.ephemeral, flavor.swap,
            tuple(sorted(flavor.extra_specs.items())), one.availability_zone, one.project_id, one.boot_from_volume,
            one.destinations, repr(sorted(one.image_properties.items())),
        )  # fmt: skip
        if key not in self.kinds:
            try:
                self.kinds[key] = self._judged(one)
            except SchedulingError as error:
                self.kinds[key] = str(error)
        return self.kinds[key]

    def _judged(self, one: Instance) -> _Kind:
        request = Request(
            one.flavor,
            availability_zone=one.availability_zone,
            image_properties=one.image_properties,
            boot_from_volume=one.boot_from_volume,
            project_id=one.project_id,
        )
        asked = query(request, self.aggregates, self.settings)
        refused: dict[int, str] = {}
        for index, host in enumerate(self.empty):
            if one.destinations is not None and host.name not in one.destinations:
                refused[index] = "destinations"
            elif compute(host, request, self.settings):
                refused[index] = "ComputeFilter"
            elif placement_refusal(host, asked):
                refused[index] = PLACEMENT
            else:
                name = next((name for name, judge in self.filters if judge(host, request, self.settings)), "")
                if name:
                    refused[index] = name
        needs = tuple((self.classes[name], amount) for name, amount in asked.resources.items() if name in self.classes)
        return _Kind(needs, tuple(index for index in range(len(self.hosts)) if index not in refused), refused)


class _Search:
    """Where instances are while the waves are made."""

    def __init__(self, model: _Model, drained: Sequence[str], pack: bool) -> None:
        self.model = model
        self.pack = pack
        size = len(model.hosts)
        self.free = [
            [one.capacity - one.used if (one := host.inventories.get(name)) else 0 for name in model.classes]
            for host in model.hosts
        ]
        self.count = [host.num_instances for host in model.hosts]
        self.on: list[dict[str, None]] = [{} for _ in range(size)]
        self.members: dict[str, dict[int, int]] = {uuid: {} for uuid in model.groups}
        for uuid, instance in model.instances.items():
            index = model.number[instance.host]
            self.on[index][uuid] = None
            self._enlist(uuid, index, 1)
        self.remaining = [model.number[name] for name in drained]
        self.pending = [False] * size
        for index in self.remaining:
            self.pending[index] = True
        self.closed = [False] * size
        self.moves: list[tuple[str, int, int]] = []
        self.failures: dict[int, int] = {}

    def _enlist(self, uuid: str, index: int, by: int) -> None:
        group = self.model.group.get(uuid)
        if group is not None:
            self.members[group][index] = self.members[group].get(index, 0) + by

    def _move(self, uuid: str, kind: _Kind, source: int, target: int) -> None:
        for resource, amount in kind.needs:
            self.free[source][resource] += amount
            self.free[target][resource] -= amount
        self.count[source] -= 1
        self.count[target] += 1
        del self.on[source][uuid]
        self.on[target][uuid] = None
        self._enlist(uuid, source, -1)
        self._enlist(uuid, target, 1)

    def waves(self, at_once: int, per_zone: int) -> Waves:
        """Make all waves that can be made."""
        stuck = list(self._hopeless())
        lost = {self.model.number[one.host] for one in stuck}
        left = [index for index in self.remaining if index in lost]
        self.remaining = [index for index in self.remaining if index not in lost]
        given_up: list[int] = []
        found: list[Wave] = []
        while self.remaining:
            wave = self._wave(at_once, per_zone)
            if not wave:
                break
            names = [host.name for host in self.model.hosts]
            moves = tuple(Move(uuid, names[source], names[target]) for uuid, source, target in self.moves)
            found.append(Wave(tuple(names[index] for index in wave), moves))
            for index in wave:
                self.closed[index] = self.pending[index] = False
            taken = set(wave)
            given_up += [index for index in self.remaining if self.failures.get(index, 0) >= TRIES]
            taken.update(given_up)
            self.remaining = [index for index in self.remaining if index not in taken]
        left += [*self.remaining, *given_up]
        for index in [*self.remaining, *given_up]:
            stuck += self._cramped(index)
        return Waves(tuple(found), tuple(stuck), tuple(self.model.hosts[index].name for index in sorted(left)))

    def _wave(self, at_once: int, per_zone: int) -> list[int]:
        """Empty as many hosts as a wave may have; hosts that do not fit into it are tried last the next time."""
        self.moves = []
        wave: list[int] = []
        zones: dict[str, int] = {}
        failed: list[int] = []
        targets: set[int] = set()
        for index in list(self.remaining):
            zone = self.model.hosts[index].zone
            if len(wave) == at_once or (wave and len(failed) >= PATIENCE):
                break
            if index in targets or zones.get(zone, 0) >= per_zone:
                continue  # what came in this wave would move twice
            if not self._empty(index):
                failed.append(index)
                self.failures[index] = self.failures.get(index, 0) + (not wave)
                continue
            wave.append(index)
            zones[zone] = zones.get(zone, 0) + 1
            targets.update(target for _, _, target in self.moves)
        later = set(failed)
        self.remaining = [one for one in self.remaining if one not in later] + failed
        return wave

    def _empty(self, source: int) -> bool:
        """Move all instances away from a host, and close it; where one has no place, undo it all."""
        begin = len(self.moves)
        self.closed[source] = True
        kinds = {uuid: kind for uuid in self.on[source] if isinstance(kind := self.model.kind(uuid), _Kind)}
        ordered = sorted(
            kinds, key=lambda uuid: (len(kinds[uuid].open_to), *(-amount for _, amount in kinds[uuid].needs))
        )
        for uuid in ordered:
            target = self._target(uuid, kinds[uuid])
            if target is None:
                for moved, origin, at in reversed(self.moves[begin:]):
                    self._move(moved, kinds[moved], at, origin)
                del self.moves[begin:]
                self.closed[source] = False
                return False
            self._move(uuid, kinds[uuid], source, target)
            self.moves.append((uuid, source, target))
        return True

    def _target(self, uuid: str, kind: _Kind) -> int | None:
        """Return the best host for an instance: one that stays full of what it gets, then by soft rules, then room."""
        group = self.model.groups.get(self.model.group.get(uuid, ""))
        members = self.members[group.uuid] if group is not None else {}
        best: tuple[bool, int, int] | None = None
        found = None
        closed, free, count, most, pending = self.closed, self.free, self.count, self.model.most, self.pending
        memory, sign = self.model.memory, 1 if self.pack else -1
        needs = kind.needs
        for index in kind.open_to:
            if closed[index] or count[index] >= most[index]:
                continue
            room = free[index]
            for resource, amount in needs:
                if room[resource] < amount:
                    break
            else:
                soft = 0
                if group is not None:
                    if _breaks(group, members.get(index, 0)):
                        continue
                    soft = _dislike(group, members.get(index, 0))
                rank = (pending[index], soft, sign * room[memory])
                if best is None or rank < best:
                    best, found = rank, index
        return found

    # --- what cannot move ---------------------------------------------------------------------------------------------

    def _hopeless(self) -> Iterator[Stuck]:
        """Yield the instances of drained hosts that no state of the others would let go."""
        for source in self.remaining:
            for uuid in self.on[source]:
                one, kind = self.model.instances[uuid], self.model.kind(uuid)
                if one.immovable or isinstance(kind, str):
                    yield Stuck(uuid, one.host, one.immovable or str(kind))
                    continue
                group = self.model.groups.get(self.model.group.get(uuid, ""))
                tied = group is not None and group.policy == AFFINITY and not self._elsewhere(group, source)
                if tied or not set(kind.open_to) - {source}:
                    refused = self._refused(uuid, kind, source, room=False)
                    yield Stuck(uuid, one.host, _sentence(refused), refused)

    def _elsewhere(self, group: Group, source: int) -> bool:
        return any(count for index, count in self.members[group.uuid].items() if index != source)

    def _cramped(self, source: int) -> Iterator[Stuck]:
        """Yield the instances of a host that have no place now, or one where all have a place but not together."""
        found = False
        for uuid in self.on[source]:
            kind = self.model.kind(uuid)
            if isinstance(kind, _Kind):
                refused = self._refused(uuid, kind, source, room=True)
                if sum(refused.values()) == len(self.model.hosts) - 1:
                    found = True
                    yield Stuck(uuid, self.model.hosts[source].name, _sentence(refused), refused)
        if not found:
            uuid = max(self.on[source], key=lambda one: self.model.instances[one].flavor.ram)
            reason = "there is room for each instance of its host, but not for all of them together"
            yield Stuck(uuid, self.model.hosts[source].name, reason)

    def _refused(self, uuid: str, kind: _Kind, source: int, room: bool) -> dict[str, int]:
        """Return filter -> number of other hosts that it refuses; with `room` what they have free counts too."""
        group = self.model.groups.get(self.model.group.get(uuid, ""))
        counts: dict[str, int] = {}
        for index in range(len(self.model.hosts)):
            if index == source:
                continue
            members = self.members[group.uuid].get(index, 0) if group is not None else 0
            name = kind.refused.get(index, "")
            if not name and room and any(self.free[index][resource] < amount for resource, amount in kind.needs):
                name = PLACEMENT
            if not name and room and self.count[index] >= self.model.most[index]:
                name = next(one for one in COUNTING if one in self.model.settings.enabled_filters)
            if not name and group is not None and _breaks(group, members):
                name = "ServerGroupAffinityFilter" if group.policy == AFFINITY else "ServerGroupAntiAffinityFilter"
            if name:
                counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _breaks(group: Group, members: int) -> bool:
    """Return whether one member more on a host that has some would break the group's rule."""
    if group.policy == AFFINITY:
        return not members
    return group.policy == ANTI_AFFINITY and members >= group.max_server_per_host


def _dislike(group: Group, members: int) -> int:
    return {SOFT_ANTI_AFFINITY: members, SOFT_AFFINITY: -members}.get(group.policy, 0)


def _sentence(refused: Mapping[str, int]) -> str:
    if not refused:
        return "there is no other host"
    parts = [f"{name} refuses {count} {'host' if count == 1 else 'hosts'}" for name, count in refused.items()]
    return "no host takes it: " + ", ".join(parts)
