"""Empties compute hosts: disables their services, moves every instance away, and gives the hosts back. One session.

What is under way is read from Nova at every pass, never remembered, so that a run goes on where a killed one ended.
`compare` is pure: wanted and actual state become services to change and flights, and `advance` starts and watches
these. Rules are those of nova.compute.api.API at 2026.1 (`check_instance_state` of live_migrate, resize and
shelve_offload) and of nova.conductor.tasks; paths are those of the Compute API
(https://docs.openstack.org/api-ref/compute/).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal
from urllib.parse import quote, urlencode

from ansible_collections.brume.cloud.plugins.module_utils import scheduling_state
from ansible_collections.brume.cloud.plugins.module_utils.api_session import NOT_FOUND, ApiError, Record, Request, pages
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    Action,
    ConvergenceError,
    apply_actions,
    report,
    side_by_side,
    text_diff,
    to_text,
    values,
)
from ansible_collections.brume.cloud.plugins.module_utils.drain_waves import Waves, drain_waves
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import TRUE, Host, Instance, Settings

MARK = "brume: drained"
"""How the reason begins with which a drain disables a service; one that an operator gave is left alone."""
MARKED = re.compile(rf"{re.escape(MARK)}(?: \(migrations after (\d+)\))?")

POLL = 3.0
"""Seconds between two looks at what moves."""
SETTLE = 20
"""Looks at a host whose last move has ended until Placement has to show it empty."""
TRIES = 2
"""How often an instance is sent on its way before it is given up."""
PASSES = 20

HOST, TASK, STATE = "OS-EXT-SRV-ATTR:host", "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state"
MIGRATING = "migrating"
"""Task of an instance that migrates live."""
OVER = frozenset({"completed", "confirmed", "reverted", "failed", "error", "cancelled", "done"})
"""Status of migrations that are not under way; `finished` waits to be confirmed (nova.objects.migration)."""

How = Literal["live migration", "cold migration", "offload", "arrival"]
WAYS: Mapping[str, How] = {
    "active": "live migration",
    "paused": "live migration",
    "building": "live migration",  # it is waited for until it is active
    "stopped": "cold migration",
    "shelved": "offload",
}
"""State of an instance -> how Nova lets it leave."""
STAY: Mapping[str, tuple[str, str]] = {
    "suspended": ("is suspended", "openstack server resume {0} (or shelve)"),
    "rescued": ("is in rescue mode", "openstack server unrescue {0}"),
    "error": ("is in error", "see its fault (openstack server show {0}); set its state to active, or delete it"),
    "soft-delete": ("is deleted, and may still be restored", "openstack server restore {0}, or delete it for good"),
    "resized": ("has a resize that waits for its user", "openstack server resize confirm {0} (or revert)"),
}
"""State of an instance that cannot leave -> why, and what to do."""


@dataclass(frozen=True)
class Wish:
    """What is wanted, as the module's options."""

    hosts: tuple[str, ...]
    enabled: bool = False
    """Give the hosts back."""
    accept_stuck: bool = False
    cells: Mapping[str, str] = field(default_factory=dict)
    """Cells of compute hosts; instances never leave theirs."""
    per_host: int = 2
    """Instances of one host on their way at once. Nova queues what is above its max_concurrent_live_migrations."""
    patience: float = 1800.0
    """Seconds without any progress of a host's migrations after which they are given up."""
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class Apis:
    """Where requests go: `compute` with the version of hypervisors, `servers` with that of everything else."""

    compute: Request
    servers: Request
    placement: Request


@dataclass
class Flight:
    """An instance on its way, or about to leave. Handed to the next call of the module as a mapping."""

    instance: str
    name: str
    source: str
    destination: str
    how: How
    begun: bool = False
    confirmed: bool = False
    confirm_only: bool = False
    """A killed run has moved it; only its confirmation is missing."""
    seen: str = ""
    """What Nova last told of its progress."""

    def __str__(self) -> str:
        """Return what happens to it as a sentence."""
        label = f"instance {self.name} ({self.instance})"
        if self.confirm_only:
            return f"confirm cold migration of {label} from {self.source} to {self.destination}"
        if self.how == "offload":
            return f"offload shelved {label} from {self.source}"
        return f"move {label} from {self.source} to {self.destination or 'another host'} by {self.how}"


@dataclass
class Work:
    """What a call of the module leaves to the next one of the same run."""

    flights: list[Flight] = field(default_factory=list)
    progress: dict[str, float] = field(default_factory=dict)
    """By host: when one of its flights made progress, by the host's monotonic clock."""
    failed: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By instance: destination and reason of each failure."""
    broken: list[str] = field(default_factory=list)
    """What went wrong with instances that have left."""
    begun: bool = False
    passes: int = 0

    @classmethod
    def of(cls, data: Mapping[str, Any] | None) -> Work:
        """Return what `as_data` made."""
        if not data:
            return cls()
        failed = {uuid: [(one[0], one[1]) for one in found] for uuid, found in data["failed"].items()}
        flights = [Flight(**one) for one in data["flights"]]
        return cls(flights, dict(data["progress"]), failed, list(data["broken"]), data["begun"], data["passes"])

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON can carry it."""
        return {**vars(self), "flights": [vars(one) for one in self.flights]}


@dataclass(frozen=True)
class Stuck:
    """An instance that cannot leave, and what would let it."""

    instance: str
    name: str
    host: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        """Return two lines."""
        return f"instance {self.name} ({self.instance}) on {self.host}: {self.reason}\n  next: {self.remedy}"


@dataclass
class Actual:
    """What the APIs tell."""

    state: scheduling_state.State = field(default_factory=scheduling_state.State)
    services: dict[str, Record] = field(default_factory=dict)
    """Compute services by host; the others by host of the drained ones alone."""
    servers: dict[str, list[Record]] = field(default_factory=dict)
    migrations: dict[str, list[Record]] = field(default_factory=dict)
    """All that ever concerned the host, newest first."""
    moved: dict[str, Record] = field(default_factory=dict)
    """By id: servers that a migration took away from a drained host and that are on another one."""


@dataclass
class Plan:
    """What a pass comes to."""

    services: list[Action] = field(default_factory=list)
    flights: list[Flight] = field(default_factory=list)
    stuck: list[Stuck] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# --- reading ----------------------------------------------------------------------------------------------------------


def fetch_services(wish: Wish, apis: Apis, elsewhere: Collection[str]) -> dict[str, Record]:
    """Return Nova's compute services by host. Raises ConvergenceError for hosts that neither it nor `elsewhere` has."""
    found = apis.servers("GET", "/os-services?binary=nova-compute")["services"]
    services = {one["host"]: one for one in found}
    lost = sorted(name for name in wish.hosts if name in services and "id" not in services[name])
    if lost:
        raise ConvergenceError(
            f"drain_hosts: the cell of {', '.join(lost)} does not answer Nova\n"
            "  next: see the cell's database and broker, `openstack compute service list`, and run again"
        )
    unknown = sorted(set(wish.hosts) - services.keys() - set(elsewhere))
    if unknown:
        known = ", ".join(sorted(services.keys() | set(elsewhere))) or "none"
        raise ConvergenceError(
            f"drain_hosts: neither Nova nor Neutron knows {', '.join(unknown)}; they know {known}\n"
            "  next: write the names as `openstack compute service list` and `openstack network agent list` do"
        )
    return services


def fetch(wish: Wish, apis: Apis, services: dict[str, Record], *, everything: bool = False) -> Actual:
    """Read what `compare` needs; with `everything` other hosts also where the drained ones are empty.

    Raises ConvergenceError naming what could not be read.
    """
    hosts = [name for name in wish.hosts if name in services]
    reads: dict[str, Callable[[], Any]] = {}
    for name in hosts:
        reads[f"servers on {name}"] = partial(scheduling_state.servers_on, apis.servers, name)
        reads[f"migrations of {name}"] = partial(_migrations, apis.servers, name)
    found = values(side_by_side(reads))
    actual = Actual(services=services)
    actual.servers = {name: found[f"servers on {name}"] for name in hosts}
    actual.migrations = {name: found[f"migrations of {name}"] for name in hosts}
    there = {one["id"] for name in hosts for one in actual.servers[name]}
    away = {
        one["instance_uuid"]
        for name in hosts
        for one in actual.migrations[name]
        if one["status"] not in OVER and one["instance_uuid"] not in there
    }
    servers = values(side_by_side({uuid: partial(_server, apis.servers, uuid) for uuid in sorted(away)}))
    actual.moved = {uuid: one for uuid, one in servers.items() if one is not None}
    if not wish.enabled and (everything or any(actual.servers.values())):
        actual.state = scheduling_state.fetch(apis.compute, apis.placement)
    return actual


def _migrations(servers: Request, host: str) -> list[Record]:
    return pages(servers, "/os-migrations", "migrations", host=host)


def _server(servers: Request, uuid: str) -> Record | None:
    """Return a server, or None when it is gone."""
    try:
        return dict(servers("GET", f"/servers/{quote(uuid, safe='')}")["server"])
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return None


# --- comparing --------------------------------------------------------------------------------------------------------


def compare(wish: Wish, actual: Actual, servers: Request, failed: Mapping[str, Sequence[tuple[str, str]]]) -> Plan:
    """Return what is left to do. `failed` are the failures of this run by instance, see Work."""
    plan = Plan()
    movable: list[Instance] = []
    for name in (one for one in wish.hosts if one in actual.services):
        service = actual.services[name]
        newest = max((one["id"] for one in actual.migrations[name]), default=0)
        plan.services += _service_changes(wish, service, newest, servers, plan.notes)
        under_way = _under_way(name, service, actual)
        if wish.enabled:  # what is still to be confirmed is known by the mark, which goes
            plan.flights += [one for one in under_way.values() if one.how == "cold migration"]
            continue
        plan.flights += under_way.values()
        for record in actual.servers[name]:
            if record["id"] in under_way or (record[TASK] == MIGRATING and record[HOST] == name):
                if record["id"] not in under_way:  # it has just been accepted, and has no record yet
                    plan.flights.append(_flight(record, name, "", "live migration", begun=True))
                continue
            why = next(_obstacles(record, service, failed.get(record["id"], ())), None)
            if why:
                plan.stuck.append(Stuck(record["id"], record["name"], name, *why))
            elif WAYS[record[STATE]] == "offload":
                plan.flights.append(_flight(record, name, "", "offload"))
            else:
                movable.append(scheduling_state.instance(record, "", _destinations(wish, actual, record, failed)))
        plan.stuck += _left_behind(name, service, actual, under_way)
    if movable:
        _place(wish, actual, plan, movable)
    return plan


def _service_changes(wish: Wish, service: Record, newest: int, servers: Request, notes: list[str]) -> Iterator[Action]:
    """Yield the change of a compute service; what an operator disabled for a reason of his own is left and told."""
    name, reason = service["host"], service.get("disabled_reason") or ""
    before = {"status": service["status"], "disabled_reason": reason}
    if wish.enabled:
        after = {"status": "enabled", "disabled_reason": ""}
        body: dict[str, Any] = {"status": "enabled"}
    else:  # a cold migration that this drain began has a higher number, see _ours
        after = {"status": "disabled", "disabled_reason": f"{MARK} (migrations after {newest})"}
        body = dict(after)
    own = bool(MARKED.match(reason))
    if service["status"] == "disabled" and not own:
        kept = "stays disabled" if wish.enabled else "was disabled before, and will not be enabled by undrain.yml"
        notes.append(f"compute service of {name}: {kept}; the reason given is: {reason or 'none'}")
    elif (service["status"] == "enabled") != wish.enabled:
        apply = partial(servers, "PUT", f"/os-services/{quote(service['id'], safe='')}", body)
        yield Action("compute service", "update", name, before, after, apply)


def _ours(service: Record, migration: Record) -> bool:
    """Return whether a drain began a cold migration: it is no user's (type `resize`), and younger than the drain.

    Numbers count up in a cell, and those of a host's instances are all of its cell.
    """
    mark = MARKED.match(service.get("disabled_reason") or "")
    if not mark or service["status"] != "disabled" or migration["migration_type"] != "migration":
        return False
    return bool(migration["source_compute"] == service["host"] and migration["id"] > int(mark[1] or 0))


def _under_way(name: str, service: Record, actual: Actual) -> dict[str, Flight]:
    """Return by id the instances that are leaving the host, and those that are coming to it."""
    found: dict[str, Flight] = {}
    there = {one["id"]: one for one in actual.servers[name]}
    for migration in actual.migrations[name]:
        uuid = migration["instance_uuid"]
        record = there.get(uuid) or actual.moved.get(uuid)
        if migration["status"] in OVER or record is None or uuid in found:
            continue
        leaving, live = migration["source_compute"] == name, migration["migration_type"] == "live-migration"
        to = migration["dest_compute"] or ""
        if leaving and live and record[TASK] == MIGRATING:
            found[uuid] = _flight(record, name, to, "live migration", begun=True)
        elif leaving and _ours(service, migration) and (record[TASK] or record[STATE] == "resized"):
            flight = _flight(record, name, to, "cold migration", begun=True)
            flight.confirmed = migration["status"] == "confirming"
            flight.confirm_only = not flight.confirmed
            found[uuid] = flight
        elif not leaving and record[TASK]:
            found[uuid] = _flight(record, name, name, "arrival", begun=True)
    return found


def _flight(record: Record, source: str, destination: str, how: How, *, begun: bool = False) -> Flight:
    return Flight(record["id"], record["name"], source, destination, how, begun)


def _left_behind(name: str, service: Record, actual: Actual, under_way: Collection[str]) -> Iterator[Stuck]:
    """Yield instances that are on other hosts, while what a user may want back is still on this one."""
    for migration in actual.migrations[name]:
        record = actual.moved.get(migration["instance_uuid"])
        if record is None or record["id"] in under_way or migration["source_compute"] != name:
            continue
        pending = record[STATE] == "resized" or (record[TASK] or "").startswith("resize_")  # read after the migration
        if pending and migration["status"] not in OVER:
            kind = "resize" if migration["migration_type"] == "resize" else "migration"
            reason = f"is on {record[HOST]} by a {kind} that was not confirmed, and may come back"
            yield Stuck(record["id"], record["name"], name, reason, f"openstack server {kind} confirm {record['id']}")


def _obstacles(record: Record, service: Record, failures: Sequence[tuple[str, str]] = ()) -> Iterator[tuple[str, str]]:
    """Yield why an instance cannot leave, each time with the remedy; the first one is told."""
    state, specs, uuid = record[STATE], record["flavor"].get("extra_specs") or {}, record["id"]
    properties = (record.get("image") or {}).get("properties") or {}
    if len(failures) >= TRIES:
        tried = "; ".join(f"to {to or 'another host'}: {reason}" for to, reason in failures)
        yield (
            f"could not be moved, {tried}",
            "mend what Nova says (journal of nova-compute on both hosts), and run again",
        )
    if state in STAY:
        reason, remedy = STAY[state]
        yield reason, remedy.format(uuid)
    if state not in WAYS:
        yield f"is {state}, from which no way leads to another host", "wait until it is active or stopped"
    if (record[TASK] or "").startswith("resize_"):
        yield "is being resized", f"wait, then openstack server resize confirm {uuid} (or revert)"
    if service["state"] != "up":
        yield "its host's nova-compute does not answer", "start it, or evacuate its instances if the host is lost"
    if specs.get("accel:device_profile"):
        yield "has an accelerator, which does not move", f"openstack server shelve {uuid}, or delete it"
    if WAYS.get(state) == "live migration":
        encrypted = specs.get("hw:mem_encryption") or properties.get("hw_mem_encryption")
        if str(encrypted).lower() in TRUE:
            yield "has encrypted memory, which does not migrate live", f"openstack server stop {uuid}"
        tpm = specs.get("hw:tpm_version") or properties.get("hw_tpm_version")
        if tpm and specs.get("hw:tpm_secret_security", "user") != "host":
            yield "has a TPM with its user's secret, which does not migrate live", f"openstack server stop {uuid}"


def _destinations(
    wish: Wish, actual: Actual, record: Record, failed: Mapping[str, Sequence[tuple[str, str]]]
) -> frozenset[str] | None:
    """Return the only hosts that an instance may go to: those of its cell, and none that has just failed it."""
    hosts = {one.name for one in actual.state.hosts}
    tried = {to for to, _reason in failed.get(record["id"], ())}
    cell = wish.cells.get(record[HOST])
    own = {one for one in hosts if cell is None or wish.cells.get(one, cell) == cell}
    left = {one for one in own - tried if one != record[HOST]}
    if tried and not left - set(wish.hosts):
        left = own  # there is no other than the one that failed
    return None if left | {record[HOST]} == hosts else frozenset(left)


def _place(wish: Wish, actual: Actual, plan: Plan, movable: list[Instance]) -> None:
    """Choose destinations, which are never hosts that are drained too; add flights and what has no place."""
    known = {one.name for one in actual.state.hosts}
    for one in [one for one in movable if one.host not in known]:
        movable.remove(one)
        plan.stuck.append(
            Stuck(one.uuid, one.name, one.host, "Nova has no hypervisor of its host", "start nova-compute there")
        )
    hosts = [replace(one, disabled=True) if one.name in wish.hosts else one for one in actual.state.hosts]
    drained = [one for one in wish.hosts if one in known]
    by_id = {one.uuid: one for one in movable}
    others = scheduling_state.staying(hosts, {*by_id, *(one.instance for one in plan.flights)})
    others += [
        replace(one, uuid=flight.instance, host=flight.destination)
        for flight in plan.flights
        if flight.destination in known
        for one in scheduling_state.staying([Host(flight.destination, instances=frozenset({flight.instance}))])
    ]
    others = [one for one in others if one.host not in drained]
    while by_id:
        waves = drain_waves(
            hosts, [*by_id.values(), *others], actual.state.groups, drained, len(drained), settings=wish.settings
        )
        if not waves.stuck:
            break
        for stuck in waves.stuck:  # the others may go without it
            instance = by_id.pop(stuck.instance)
            remedy = "add hosts that would take it, drain fewer hosts at once, or shelve or delete it"
            plan.stuck.append(Stuck(stuck.instance, instance.name, stuck.host, stuck.reason, remedy))
    if by_id:
        states = {one["id"]: one for name in drained for one in actual.servers[name]}
        for wave in waves.waves:
            for move in wave.moves:
                record = states[move.instance]
                plan.flights.append(_flight(record, move.source, move.destination, WAYS[record[STATE]]))


def nothing_left(wish: Wish, actual: Actual) -> str:
    """Return why the hosts may not all be drained: no other one would take instances."""
    hosts = [name for name in wish.hosts if name in actual.services]
    left = [
        name
        for name, one in actual.services.items()
        if name not in wish.hosts and one["status"] == "enabled" and one.get("state") == "up"
    ]
    if wish.enabled or left or not any(actual.services[name]["status"] == "enabled" for name in hosts):
        return ""
    return (
        f"drain_hosts: without {', '.join(hosts)} no compute host is left that takes instances\n"
        """  next: enable another one, drain fewer at once, or insist with -e '{"drain_accept_stuck": true}'"""
    )


def rolling(wish: Wish, apis: Apis, at_once: int, elsewhere: Collection[str] = ()) -> list[str]:
    """Return as lines in which waves the hosts can be emptied, maintained and given back, `at_once` at a time.

    Raises ConvergenceError and SchedulingError.
    """
    actual = fetch(wish, apis, fetch_services(wish, apis, elsewhere), everything=True)
    known = {one.name for one in actual.state.hosts}
    named = [name for name in wish.hosts if name in known]
    hosts = [
        _given_back(one) if one.name in named and MARKED.match(one.disabled_reason) else one
        for one in actual.state.hosts
    ]
    instances = []
    for name in named:
        for record in actual.servers[name]:
            why = next(_obstacles(record, actual.services[name]), None)
            if WAYS.get(record[STATE]) != "offload":
                reason = f"{why[0]} (next: {why[1]})" if why else ""
                instances.append(scheduling_state.instance(record, reason, _destinations(wish, actual, record, {})))
    instances += scheduling_state.staying([one for one in hosts if one.name not in named])
    return _table(drain_waves(hosts, instances, actual.state.groups, named, at_once, settings=wish.settings), actual)


def _given_back(host: Host) -> Host:
    return replace(host, disabled=False, traits=host.traits - {"COMPUTE_STATUS_DISABLED"})


def _table(waves: Waves, actual: Actual) -> list[str]:
    """Return waves as lines to read."""
    names = {one["id"]: one["name"] for found in actual.servers.values() for one in found}
    lines = []
    for number, wave in enumerate(waves.waves, 1):
        lines.append(f"wave {number} of {len(waves.waves)}: {', '.join(wave.hosts)}")
        lines += [f"  {names[one.instance]} ({one.instance})  {one.source} -> {one.destination}" for one in wave.moves]
    lines += [f"not emptied: {name}" for name in waves.left]
    lines += [f"  {names.get(one.instance, '')} ({one.instance}) on {one.host}: {one.reason}" for one in waves.stuck]
    return lines


# --- doing ------------------------------------------------------------------------------------------------------------


def told(plan: Plan) -> dict[str, Any]:
    """Return what a module says about a plan, computed before any of it is done."""
    result = report(plan.services)
    changes = [one for one in plan.flights if one.confirm_only or not one.begun]
    result["changed"] = result["changed"] or bool(changes)
    result["actions"] += [str(one) for one in changes]
    result["diff"] += [
        text_diff(
            f"instance {one.name} ({one.instance})",
            to_text({"host": one.source}),
            to_text({"host": one.destination, "by": one.how}),
        )
        for one in changes
    ]
    return result


def refusal(stuck: Iterable[Stuck]) -> str:
    """Return why a drain does not begin."""
    lines = [str(one) for one in stuck]
    count = f"{len(lines)} instance{'' if len(lines) == 1 else 's'}"
    return "\n".join([
        f"{count} cannot leave; nothing was changed",
        *lines,
        """next: see to each of them and run again, or move the others with -e '{"drain_accept_stuck": true}'""",
    ])  # fmt: skip


def step(
    wish: Wish,
    apis: Apis,
    work: Work,
    lines: list[str],
    *,
    check_mode: bool,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    elsewhere: Collection[str] = (),
) -> dict[str, Any]:
    """Do as much as there is time for `until` (of `clock`), and return what to say: `done`, `lines`, `resume`.

    What happens is added to `lines`, so that it can be told when the end is an error too.

    The first call of a run also returns `changed`, `actions` and `diff` for all of it, and changes nothing when an
    instance cannot leave. Raises ConvergenceError for that and for what is left at the end, and ApiError.
    """
    result: dict[str, Any] = {"changed": False}
    while True:
        if work.flights:
            advance(wish, apis, work, lines, until, clock, sleep)
            if work.flights:
                return {**result, "done": False, "lines": lines, "resume": work.as_data()}
        services = fetch_services(wish, apis, elsewhere)
        actual = fetch(wish, apis, services)
        plan = compare(wish, actual, apis.servers, work.failed)
        first = not work.begun
        if first:
            work.begun = True
            result = {**told(plan), "stuck": [str(one) for one in plan.stuck]}
            lines += plan.notes
            if not wish.accept_stuck:
                empty = nothing_left(wish, actual)
                if plan.stuck or empty:
                    raise ConvergenceError("\n".join([empty] * bool(empty) + [refusal(plan.stuck)] * bool(plan.stuck)))
            if check_mode:
                lines += [f"wait for: {one}" for one in plan.flights if one.begun and not one.confirm_only]
                return {**result, "done": True, "lines": lines}
        work.passes += 1
        if not wish.enabled:
            apply_actions(plan.services)
        work.flights, work.progress = plan.flights, {}
        if work.passes > PASSES:
            raise ConvergenceError(
                f"instances came to the hosts {PASSES} times\n  next: see who sends them, and run again"
            )
        if plan.flights or (plan.services and not wish.enabled):  # what came before the service was disabled
            continue
        if wish.enabled:
            apply_actions(plan.services)
        else:
            _verify(wish, apis, actual, plan.stuck, work, sleep)
        return {**result, "done": True, "lines": lines}


def advance(
    wish: Wish,
    apis: Apis,
    work: Work,
    lines: list[str],
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Start flights, so many of a host at once, and watch them until all have ended or time is up."""
    while work.flights:
        for flight in list(work.flights):
            busy = Counter(one.source for one in work.flights if one.begun)
            try:
                if not flight.begun and busy[flight.source] >= wish.per_host:
                    continue
                ended = _look(apis.servers, flight, work, clock)
            except _Failed as error:
                lines.append(f"{flight}: failed: {error}")
                if error.left:
                    work.broken.append(lines[-1])
                else:
                    work.failed.setdefault(flight.instance, []).append((flight.destination, str(error)))
                work.flights.remove(flight)
                continue
            if ended:
                lines.append(f"{flight}: {ended}")
                work.flights.remove(flight)
            elif clock() - work.progress[flight.source] > wish.patience:
                raise ConvergenceError(_hangs(flight, wish.patience))
        if not work.flights or clock() >= until:
            return
        sleep(POLL)


class _Failed(Exception):
    """A flight did not end well; the message is Nova's reason, `left` says that the instance is on another host."""

    def __init__(self, message: str, *, left: bool = False) -> None:
        """Keep it."""
        super().__init__(message)
        self.left = left


def _hangs(flight: Flight, patience: float) -> str:
    return (
        f"{flight}: nothing of {flight.source} has made progress for {patience:.0f} s\n"
        f"  next: see `openstack server migration list --server {flight.instance}` and nova-compute's journal on both "
        "hosts; abort the migration if it hangs (openstack server migration abort), and run again"
    )


def _look(servers: Request, flight: Flight, work: Work, clock: Callable[[], float]) -> str:
    """Start a flight or see how far it is. Return how it ended, or nothing. Raises _Failed."""
    work.progress.setdefault(flight.source, clock())
    record = _server(servers, flight.instance)
    if record is None:
        return "the instance was deleted"
    task, state, host = record[TASK], record[STATE], record[HOST]
    seen = f"{flight.begun} {task} {state} {host} {record.get('progress')}"
    if flight.begun and flight.how == "live migration" and task == MIGRATING:
        seen += _progress(servers, flight.instance)
    if seen != flight.seen:
        flight.seen = seen
        work.progress[flight.source] = clock()
    if state == "resized" and not task and host != flight.source and flight.how == "cold migration" and flight.begun:
        if not flight.confirmed:
            _act(servers, flight, {"confirmResize": None})
            flight.confirmed = True
        return ""
    if task:
        return ""  # on its way, or busy with what was asked of it before
    if flight.begun and flight.how != "arrival" and (host == flight.source or state == "error"):
        raise _Failed(_reason(servers, flight, record), left=host != flight.source)
    if host != flight.source or flight.how == "arrival":
        return "done"
    return _depart(servers, flight, state)


def _depart(servers: Request, flight: Flight, state: str) -> str:
    """Send an instance on its way. Return why it is not sent, or nothing. Raises _Failed."""
    if WAYS.get(state) != flight.how:
        return f"not begun, since it is {state} by now"  # the next pass looks at it anew
    body: dict[How, Record] = {
        "live migration": {"os-migrateLive": {"host": flight.destination, "block_migration": "auto"}},
        "cold migration": {"migrate": {"host": flight.destination}},
        "offload": {"shelveOffload": None},
    }
    flight.begun = True
    _act(servers, flight, body[flight.how])
    return ""


def _act(servers: Request, flight: Flight, body: Record) -> None:
    """Ask Nova for an action on an instance. Raises _Failed for a refusal, and ApiError where nothing answered."""
    try:
        servers("POST", f"/servers/{quote(flight.instance, safe='')}/action", body)
    except ApiError as error:
        if not error.status or error.transient:
            raise
        raise _Failed(str(error)) from error


def _progress(servers: Request, uuid: str) -> str:
    """Return what changes while a live migration makes progress.

    Nova itself gives one up that never ends (live_migration_completion_timeout).
    """
    try:
        found = servers("GET", f"/servers/{quote(uuid, safe='')}/migrations")["migrations"]
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return ""
    keys = ("id", "status", "memory_processed_bytes", "memory_remaining_bytes", "disk_processed_bytes")
    return " ".join(str(one.get(key)) for one in found for key in keys)


def _reason(servers: Request, flight: Flight, record: Record) -> str:
    """Return Nova's own words for a failure: the server's fault, else the event of its last action that failed."""
    fault = (record.get("fault") or {}).get("message")
    if fault:
        return str(fault)
    path = f"/servers/{quote(flight.instance, safe='')}/os-instance-actions"
    try:
        actions = servers("GET", f"{path}?{urlencode({'limit': 1})}")["instanceActions"]
        if not actions:
            return f"it is still on {flight.source}"
        events = servers("GET", f"{path}/{quote(actions[0]['request_id'], safe='')}")["instanceAction"]["events"]
    except ApiError as error:
        return f"it is still on {flight.source} (its actions cannot be read: {error})"
    for event in events:
        if event.get("result") == "Error":
            trace = (event.get("traceback") or "").strip().splitlines()
            return f"{event['event']}: {trace[-1].strip() if trace else event.get('details') or 'failed'}"
    return f"it is still on {flight.source}"


# --- the end ----------------------------------------------------------------------------------------------------------


def _verify(
    wish: Wish, apis: Apis, actual: Actual, stuck: Sequence[Stuck], work: Work, sleep: Callable[[float], None]
) -> None:
    """See that nothing is left on the hosts but what was accepted to stay. Raises ConvergenceError with what is."""
    problems = [str(one) for one in stuck if not wish.accept_stuck or one.instance in work.failed]
    problems += [f"{one}\n  next: openstack server show and event list tell more of it" for one in work.broken]
    if problems:
        raise ConvergenceError("\n".join(problems))
    own = [name for name in wish.hosts if name in actual.services]
    kept = {one.instance for one in stuck}
    kept |= {one["uuid"] for name in own for one in actual.migrations[name] if one["instance_uuid"] in kept}
    nodes = pages(apis.compute, "/os-hypervisors/detail", "hypervisors")
    reads = {one["service"]["host"]: partial(_consumers, apis, one["id"]) for one in nodes}
    reads = {name: read for name, read in reads.items() if name in own}
    left: dict[str, list[str]] = {}
    for attempt in range(SETTLE):  # a source frees its allocation after the instance has arrived
        if attempt:
            sleep(POLL)
        found = values(side_by_side(reads))
        left = {name: sorted(consumers - kept) for name, consumers in found.items() if consumers - kept}
        if not left:
            return
    raise ConvergenceError("\n".join(
        f"{name}: Placement has allocations there, of {', '.join(consumers)}, and Nova no instance\n"
        "  next: nova-manage placement audit --verbose" for name, consumers in left.items()
    ))  # fmt: skip


def _consumers(apis: Apis, provider: str) -> set[str]:
    """Return the consumers of a resource provider."""
    try:
        return set(apis.placement("GET", f"/resource_providers/{provider}/allocations")["allocations"])
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return set()
