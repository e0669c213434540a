"""Nova's flavors and host aggregates: what is wanted against what the Compute API lists, as actions.

`fetch` reads, `compare` is pure but for the callables it hands out. Paths, attributes and rules are those of the
Compute API (https://docs.openstack.org/api-ref/compute/) and of nova.compute.api.AggregateAPI at 2026.1. What Nova
would refuse is refused here before anything changes, so that a dry run and a run end alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.brume.cloud.plugins.module_utils.api_objects import (
    delete,
    named_twice,
    present,
    project_ids,
    readable,
    texts,
)
from ansible_collections.brume.cloud.plugins.module_utils.api_session import Record, Request, pages
from ansible_collections.brume.cloud.plugins.module_utils.catalog import list_all
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    Action,
    ConvergenceError,
    side_by_side,
    values,
)

MICROVERSION = "2.86"
"""Extra specs come with the list (2.61) and are checked when they are written (2.86); 2.102 takes rxtx_factor away."""

FIXED: Mapping[str, str] = {
    "vcpus": "vcpus",
    "ram": "ram",
    "disk": "disk",
    "swap": "swap",
    "ephemeral": "OS-FLV-EXT-DATA:ephemeral",
    "rxtx_factor": "rxtx_factor",
    "is_public": "os-flavor-access:is_public",
}
"""Options of a flavor that Nova never changes, and the attribute of each."""

ZONE = "availability_zone"

DELETE_FLAVOR, MAKE_FLAVOR = 1000, 2000
CREATE, JOIN, LEAVE, UPDATE, ENTER, DELETE = 1000, 2000, 3000, 4000, 5000, 6000
"""Steps of aggregates. A host joins before it leaves where its zone stays, else Nova would see it change in between."""

Desired = Mapping[str, Any]
"""The module's options `flavors`, `aggregates`, `optional_hosts`, `limit` and `leaving`."""

AS_IT_IS: Mapping[str, Any] = {ZONE: None, "metadata": None}
"""Options of an aggregate that is not to change but for its hosts."""


@dataclass
class Actual:
    """What the APIs list; empty before there is a Nova."""

    flavors: dict[str, Record] = field(default_factory=dict)
    """By name; aggregates too."""
    aggregates: dict[str, Record] = field(default_factory=dict)
    access: dict[str, set[str]] = field(default_factory=dict)
    """By name of a private flavor: ids of the projects that may use it."""
    projects: list[Record] | None = None
    """None where they could not be asked."""
    used: set[str] = field(default_factory=set)
    """Names of the flavors, of those to be replaced, that instances use."""
    known: set[str] = field(default_factory=set)
    """Hosts with a compute service, where there are optional ones."""
    occupied: set[str] = field(default_factory=set)
    """Hosts, of those whose zone would change, that have instances."""
    leaving: set[str] = field(default_factory=set)
    """Hosts that stay in their aggregates, because their compute services take these along when they are deleted."""


# --- reading ----------------------------------------------------------------------------------------------------------


def fetch(desired: Desired, compute: Request, identity: Request) -> Actual:
    """Read what `compare` needs, lists side by side. Raises ConvergenceError naming what could not be read."""
    actual = Actual(leaving=set(desired.get("leaving") or ()))
    flavors, aggregates = desired.get("flavors") or (), desired.get("aggregates") or ()
    lists: dict[str, Callable[[], Any]] = {}
    if flavors:
        lists["list of flavors"] = lambda: pages(compute, "/flavors/detail", "flavors", is_public="None")
    if aggregates:
        lists["list of aggregates"] = lambda: compute("GET", "/os-aggregates")["aggregates"]
        if any(set(item.get("hosts") or ()) & set(desired.get("optional_hosts") or ()) for item in aggregates):
            lists["list of compute services"] = lambda: compute("GET", "/os-services?binary=nova-compute")["services"]
    if any(present(item) and item.get("projects") for item in flavors):
        lists["list of projects"] = lambda: list_all(identity, "projects")
    found = values(side_by_side(lists))
    actual.flavors = {one["name"]: one for one in found.get("list of flavors", ())}
    actual.aggregates = {one["name"]: one for one in found.get("list of aggregates", ())}
    actual.projects = found.get("list of projects")
    actual.known = {one["host"] for one in found.get("list of compute services", ())}

    questions: dict[str, tuple[set[str], str]] = {}
    more: dict[str, Callable[[], Any]] = {}
    for item in flavors:
        record = actual.flavors.get(item["name"])
        if record is None or not present(item):
            continue
        if (item.get("projects") is not None or item.get("replace")) and not record[FIXED["is_public"]]:
            more[f"access to flavor {item['name']}"] = partial(_access, compute, record["id"])
        if item.get("replace") and _fixed(item, record):
            name = f"instances of flavor {item['name']}"
            questions[name] = (actual.used, item["name"])
            more[name] = partial(_any_server, compute, flavor=record["id"])
    for host in sorted(_asked(_within_reach(desired, actual), actual)):
        questions[f"instances of host {host}"] = (actual.occupied, host)
        more[f"instances of host {host}"] = partial(_any_server, compute, host=host)
    for name, answer in values(side_by_side(more)).items():
        if name not in questions:
            actual.access[name.removeprefix("access to flavor ")] = answer
        elif answer:
            answers, subject = questions[name]
            answers.add(subject)
    return actual


def _access(compute: Request, number: str) -> set[str]:
    body = compute("GET", f"/flavors/{quote(number, safe='')}/os-flavor-access")
    return {one["tenant_id"] for one in body["flavor_access"]}


def _any_server(compute: Request, **filters: str) -> bool:
    query = urlencode({"all_tenants": "true", "limit": "1", **filters})
    return bool(compute("GET", f"/servers?{query}")["servers"])


# --- comparing --------------------------------------------------------------------------------------------------------


def compare(desired: Desired, actual: Actual, compute: Request) -> list[Action]:
    """Return the actions that turn what is there into what is wanted, in the order of their steps.

    Raises ConvergenceError with everything that cannot be: one line per object, with the remedy.
    """
    flavors, aggregates = desired.get("flavors") or (), desired.get("aggregates") or ()
    problems = [*named_twice("flavor", flavors), *named_twice("aggregate", aggregates)]
    actions: list[Action] = []
    for item in flavors:
        try:
            actions += _flavor(item, actual, compute)
        except ConvergenceError as error:
            problems.append(str(error))
    if not problems:
        reached = _within_reach(desired, actual)
        moves = _moves(reached, actual)
        problems += _refusals(moves, actual, lambda host: host in actual.occupied)
        actions += _aggregates(reached, moves, actual, compute)
    if problems:
        raise ConvergenceError("\n".join(problems))
    return sorted(actions, key=lambda action: action.step)


def _fixed(item: Mapping[str, Any], record: Record) -> dict[str, tuple[Any, Any]]:
    """Return what would have to change of what a flavor never changes: name -> (there, wanted)."""
    wanted = {name: item[name] for name in FIXED if item.get(name) is not None}
    if item.get("projects") is not None:
        wanted["is_public"] = False
    there = {name: record.get(attribute) for name, attribute in FIXED.items()}
    return {name: (there[name], value) for name, value in wanted.items() if there[name] != value}


def _flavor(item: Mapping[str, Any], actual: Actual, compute: Request) -> list[Action]:
    """Return the actions for one flavor. Raises ConvergenceError when it cannot become what is wanted."""
    name, record = item["name"], actual.flavors.get(item["name"])
    if not present(item):
        return [_flavor_deletion(record, compute)] if record else []
    if item.get("is_public") and item.get("projects") is not None:
        raise ConvergenceError(f"flavor {name}: is public, thus no project's own; remove `projects` or `is_public`")
    projects = project_ids("flavor", item, actual.projects)
    if record is None:
        return [_flavor_creation(item, projects, compute, None)]
    fixed = _fixed(item, record)
    if not fixed:
        return list(_flavor_update(item, record, projects, actual, compute))
    differing = ", ".join(f"{key} from {readable(old)} to {readable(new)}" for key, (old, new) in fixed.items())
    if not item.get("replace"):
        raise ConvergenceError(
            f"flavor {name}: cannot change {differing}, because Nova's flavors do not; give the new sizes a new name "
            "and retire this one with `state: absent`, or say `replace: true` to delete it and make it anew, which is "
            "done while no instance uses it"
        )
    if name in actual.used:
        raise ConvergenceError(
            f"flavor {name}: is to be replaced to change {differing}, and instances use it, which would keep the old "
            "sizes under the same name; resize or delete them first, or give the new sizes a new name"
        )
    whole = {**_options(record), **{key: value for key, value in item.items() if value is not None}}
    if projects is None and not whole["is_public"]:
        projects = {number: number for number in actual.access.get(name, ())}
    return [_flavor_deletion(record, compute), _flavor_creation(whole, projects, compute, record["id"])]


def _options(record: Record) -> dict[str, Any]:
    """Return an existing flavor as options, so that a replacement keeps what is not said."""
    return {
        "name": record["name"],
        "description": record.get("description"),
        "extra_specs": record.get("extra_specs") or {},
        **{name: record.get(attribute) for name, attribute in FIXED.items()},
    }


def _flavor_path(number: str, *more: str) -> str:
    return "/".join(["/flavors", *(quote(part, safe="") for part in (number, *more))])


def _flavor_deletion(record: Record, compute: Request) -> Action:
    before = {name: record[attribute] for name, attribute in FIXED.items() if record.get(attribute) is not None}
    apply = partial(delete, compute, _flavor_path(record["id"]))
    return Action("flavor", "delete", record["name"], before, {}, apply, DELETE_FLAVOR)


def _flavor_creation(
    item: Mapping[str, Any], projects: Mapping[str, str] | None, compute: Request, number: str | None
) -> Action:
    """Return the creation of a flavor with all that belongs to it; `number` is the id of the one it replaces."""
    body = {attribute: item[name] for name, attribute in FIXED.items() if item.get(name) is not None}
    body["name"] = item["name"]
    if projects is not None:
        body[FIXED["is_public"]] = False
    if item.get("description"):
        body["description"] = item["description"]
    if number is not None:
        body["id"] = number
    specs = texts(item.get("extra_specs")) or {}
    shown: dict[str, Any] = {name: body[attribute] for name, attribute in FIXED.items() if attribute in body}
    shown |= {key: body[key] for key in ("name", "description") if key in body}
    shown |= {"extra_specs": specs} if specs else {}
    shown |= {"projects": sorted(projects.values())} if projects else {}

    def create() -> None:
        made = compute("POST", "/flavors", {"flavor": body})["flavor"]["id"]
        _change_flavor(compute, made, specs, (), projects or (), ())

    return Action("flavor", "create", item["name"], {}, shown, create, MAKE_FLAVOR)


def _flavor_update(
    item: Mapping[str, Any],
    record: Record,
    projects: Mapping[str, str] | None,
    actual: Actual,
    compute: Request,
) -> Iterator[Action]:
    """Yield the update of what may change of a flavor: its description, its extra specs, who may use it."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if item.get("description") is not None:
        before["description"], after["description"] = record.get("description") or "", item["description"]
    specs, there = texts(item.get("extra_specs")), dict(record.get("extra_specs") or {})
    if specs is not None:
        before["extra_specs"], after["extra_specs"] = there, specs
    allowed = actual.access.get(item["name"], set())
    wanted = allowed if projects is None else set(projects)
    if projects is not None:
        known = {one["id"]: one["name"] for one in actual.projects or ()}
        before["projects"] = sorted(projects.get(number) or known.get(number, number) for number in allowed)
        after["projects"] = sorted(projects.values())
    if before == after and wanted == allowed:
        return
    written = {key: value for key, value in (specs or {}).items() if there.get(key) != value}
    surplus = [key for key in there if specs is not None and key not in specs]

    def update() -> None:
        number = record["id"]
        if before.get("description") != after.get("description"):
            compute("PUT", _flavor_path(number), {"flavor": {"description": after["description"] or None}})
        _change_flavor(compute, number, written, surplus, sorted(wanted - allowed), sorted(allowed - wanted))

    yield Action("flavor", "update", item["name"], before, after, update, MAKE_FLAVOR)


def _change_flavor(
    compute: Request,
    number: str,
    specs: Mapping[str, str],
    surplus: Iterable[str],
    given: Iterable[str],
    taken: Iterable[str],
) -> None:
    """Write extra specs, delete the `surplus` ones, give projects access and take it from others."""
    if specs:
        compute("POST", _flavor_path(number, "os-extra_specs"), {"extra_specs": dict(specs)})
    for key in surplus:
        delete(compute, _flavor_path(number, "os-extra_specs", key))
    for project in given:
        compute("POST", _flavor_path(number, "action"), {"addTenantAccess": {"tenant": project}})
    for project in taken:
        compute("POST", _flavor_path(number, "action"), {"removeTenantAccess": {"tenant": project}})


# --- aggregates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    """A change that Nova holds against zones: `create`, `join`, `leave`, `zone` or `delete`."""

    step: int
    verb: str
    aggregate: str
    host: str = ""
    zone: str = ""


@dataclass
class Zoned:
    """An aggregate as far as zones are concerned; an empty zone is none."""

    zone: str
    hosts: set[str]


def _zoned(actual: Actual) -> dict[str, Zoned]:
    return {
        name: Zoned(record.get(ZONE) or "", set(record.get("hosts") or ()))
        for name, record in actual.aggregates.items()
    }


def _zone_of(host: str, aggregates: Mapping[str, Zoned], but: str = "") -> str:
    """Return a host's zone by its aggregates, one of them left out if wanted; empty for Nova's default zone."""
    return next((one.zone for name, one in aggregates.items() if name != but and one.zone and host in one.hosts), "")


def _within_reach(desired: Desired, actual: Actual) -> list[Mapping[str, Any]]:
    """Return the aggregates as far as the run may change them.

    With `limit`, they are those that one of these hosts joins or leaves, and nothing else of them changes. Otherwise
    all, without the hosts of `optional_hosts` that Nova does not know.
    """
    limit = desired.get("limit")
    missing = set(desired.get("optional_hosts") or ()) - actual.known
    reached: list[Mapping[str, Any]] = []
    for item in desired.get("aggregates") or ():
        found = actual.aggregates.get(item["name"])
        wanted, there = set(item.get("hosts") or ()), set(found["hosts"] if found else ())
        if limit is None:
            reached.append({**item, "hosts": sorted(wanted - (missing - there))})
        elif present(item) and (wanted ^ there) & set(limit):
            hosts = sorted((wanted & set(limit)) | (there - set(limit)))
            reached.append({**item, "hosts": hosts, **(AS_IT_IS if found else {})})
    return reached


def _moves(items: Iterable[Mapping[str, Any]], actual: Actual) -> list[Move]:
    """Return what has to happen to aggregates, their zones and hosts, in the order of steps."""
    return sorted(_unordered_moves(items, actual), key=lambda move: move.step)


def _unordered_moves(items: Iterable[Mapping[str, Any]], actual: Actual) -> Iterator[Move]:
    there = _zoned(actual)
    memberships: dict[tuple[int, str], int] = {}

    def step(base: int, host: str) -> int:
        """Return the host's next step: two of its aggregates at once would compete for its resource provider."""
        memberships[base, host] = memberships.get((base, host), -1) + 1
        return base + memberships[base, host]

    for item in items:
        name = item["name"]
        found = there.get(name)
        if not present(item):
            if found is not None:
                for host in sorted(found.hosts):
                    yield Move(step(LEAVE, host), "leave", name, host)
                yield Move(DELETE, "delete", name)
            continue
        zone = item.get(ZONE) or (found.zone if found else "")
        wanted, hosts = set(item.get("hosts") or ()), found.hosts if found else set()
        if found is None:
            yield Move(CREATE, "create", name, zone=zone)
        elif found.zone != zone:
            yield Move(UPDATE, "zone", name, zone=zone)
        for host in sorted(hosts - wanted - actual.leaving):
            yield Move(step(LEAVE, host), "leave", name, host)
        settled = found is None or found.zone == zone
        for host in sorted(wanted - hosts):
            early = settled and (not zone or _zone_of(host, there) == zone)
            yield Move(step(JOIN if early else ENTER, host), "join", name, host)


def _asked(items: Iterable[Mapping[str, Any]], actual: Actual) -> set[str]:
    """Return the hosts of which Nova will want to know whether they have instances."""
    asked: set[str] = set()

    def note(host: str) -> bool:
        asked.add(host)
        return False

    _refusals(_moves(items, actual), actual, note)
    return asked


def _refusals(moves: Iterable[Move], actual: Actual, occupied: Callable[[str], bool]) -> list[str]:
    """Return which moves Nova would refuse, and why: a host is in one zone, and the zone of an instance stays."""
    now = _zoned(actual)
    problems = []
    for move in moves:
        one = now.setdefault(move.aggregate, Zoned(move.zone, set()))
        if move.verb == "delete":
            del now[move.aggregate]
            continue
        zone = move.zone if move.verb == "zone" else one.zone
        for host in sorted(one.hosts) if move.verb == "zone" else [move.host] if move.host else []:
            others = _zone_of(host, now, move.aggregate)
            before = _zone_of(host, now)
            after = others if move.verb == "leave" else zone or others
            place = f"aggregate {move.aggregate}: host {host}"
            if move.verb != "leave" and zone and others and others != zone:
                holder = next(
                    name for name, other in now.items() if name != move.aggregate and host in other.hosts and other.zone
                )
                problems.append(
                    f"{place} is in the zone {others} by the aggregate {holder}, and a host has one zone; take it out "
                    f"of {holder} first: by declaring that aggregate without it, or by hand"
                )
            elif (before != after or move.verb == "zone") and occupied(host):
                problems.append(
                    f"{place} has instances, whose zone would change from {before or 'the default'} to "
                    f"{after or 'the default'}; move them to other hosts of their zone first (live migration), or "
                    "between zones by shelve and unshelve"
                )
        if move.verb == "join":
            one.hosts.add(move.host)
        elif move.verb == "leave":
            one.hosts.discard(move.host)
        one.zone = zone
    return problems


def _aggregates(
    items: Iterable[Mapping[str, Any]], moves: Iterable[Move], actual: Actual, compute: Request
) -> Iterator[Action]:
    """Yield the actions of aggregates: their moves, and what changes of their zones and metadata."""
    ids: dict[str, int] = {name: record["id"] for name, record in actual.aggregates.items()}
    wanted = {item["name"]: item for item in items}
    for move in moves:
        name = move.aggregate
        member = {"aggregate": name, "host": move.host}
        label = f"{move.host} of aggregate {name}"
        if move.verb == "join":
            apply = partial(_member, compute, ids, name, "add_host", move.host)
            yield Action("member", "create", label, {}, member, apply, move.step)
        elif move.verb == "leave":
            apply = partial(_member, compute, ids, name, "remove_host", move.host)
            yield Action("member", "delete", label, member, {}, apply, move.step)
        elif move.verb == "create":
            yield _aggregate_creation(wanted[name], ids, compute)
        elif move.verb == "delete":
            remove = partial(delete, compute, f"/os-aggregates/{ids[name]}")
            yield Action("aggregate", "delete", name, _described(actual.aggregates[name]), {}, remove, DELETE)
    for name, item in wanted.items():
        if name in actual.aggregates and present(item):
            yield from _aggregate_update(item, actual.aggregates[name], compute)


def _described(record: Record) -> dict[str, Any]:
    metadata = {key: value for key, value in (record.get("metadata") or {}).items() if key != ZONE}
    return {ZONE: record.get(ZONE) or "", "metadata": metadata}


def _aggregate_creation(item: Mapping[str, Any], ids: dict[str, int], compute: Request) -> Action:
    metadata = texts(item.get("metadata")) or {}
    body = {"name": item["name"], **({ZONE: item[ZONE]} if item.get(ZONE) else {})}

    def create() -> None:
        ids[item["name"]] = compute("POST", "/os-aggregates", {"aggregate": body})["aggregate"]["id"]
        if metadata:
            _set_metadata(compute, ids[item["name"]], metadata)

    shown = {ZONE: item.get(ZONE) or "", "metadata": metadata}
    return Action("aggregate", "create", item["name"], {}, shown, create, CREATE)


def _aggregate_update(item: Mapping[str, Any], record: Record, compute: Request) -> Iterator[Action]:
    before = _described(record)
    after = dict(before)
    if item.get(ZONE):
        after[ZONE] = item[ZONE]
    if item.get("metadata") is not None:
        after["metadata"] = texts(item["metadata"])
    if before == after:
        return

    def update() -> None:
        if before[ZONE] != after[ZONE]:
            compute("PUT", f"/os-aggregates/{record['id']}", {"aggregate": {ZONE: after[ZONE]}})
        changed = {key: value for key, value in after["metadata"].items() if before["metadata"].get(key) != value}
        removed = {key: None for key in before["metadata"] if key not in after["metadata"]}
        if changed or removed:
            _set_metadata(compute, record["id"], {**changed, **removed})

    yield Action("aggregate", "update", item["name"], before, after, update, UPDATE)


def _set_metadata(compute: Request, number: int, metadata: Mapping[str, str | None]) -> None:
    """Set keys; a null removes one, and keys that are not named stay."""
    compute("POST", f"/os-aggregates/{number}/action", {"set_metadata": {"metadata": dict(metadata)}})


def _member(compute: Request, ids: Mapping[str, int], name: str, action: str, host: str) -> None:
    compute("POST", f"/os-aggregates/{ids[name]}/action", {action: {"host": host}})
