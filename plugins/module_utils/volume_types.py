"""Cinder's volume types, QoS specs and default quotas: what is wanted against what the Block Storage API lists.

`fetch` reads, `compare` is pure but for the callables it hands out. Paths, attributes and rules are those of the
Block Storage API v3 (https://docs.openstack.org/api-ref/block-storage/v3/) and of cinder.api.contrib.types_extra_specs,
cinder.volume.volume_types and cinder.volume.qos_specs at 2026.1. What Cinder would refuse is refused here before
anything changes, so that a dry run and a run end alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.brume.cloud.plugins.module_utils.api_objects import (
    delete,
    named_twice,
    present,
    project_ids,
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

CATALOG_TYPE = "block-storage"
"""Cinder's type in the catalog (https://service-types.openstack.org/)."""

MICROVERSION = "3.62"
"""Default types of projects can be listed since then (Victoria)."""

PUBLIC = "os-volume-type-access:is_public"
"""The attribute as a creation takes it; lists and updates call it `is_public`."""

MIGRATED_TYPE = "__DEFAULT__"
"""The type that Cinder's schema brings along (cinder.volume.volume_types.DEFAULT_VOLUME_TYPE)."""

MIGRATED: Mapping[str, Any] = {
    "id": "",
    "name": MIGRATED_TYPE,
    "description": "Default Volume Type",
    "is_public": True,
    "extra_specs": {},
}

QUOTAS: Mapping[str, int] = {
    "volumes": 10,
    "snapshots": 10,
    "gigabytes": 1000,
    "per_volume_gigabytes": -1,
    "backups": 10,
    "backup_gigabytes": 1000,
    "groups": 10,
}
"""Resources of a quota and what Cinder allows of each unless its options say otherwise; gigabytes are GiB, -1 is no
limit. Each type has `volumes_NAME`, `gigabytes_NAME` and `snapshots_NAME` too, without a limit (cinder.quota)."""

OF_A_TYPE = ("volumes", "gigabytes", "snapshots")
QUOTA_CLASS = "default"
"""The one quota class that Cinder heeds: the quotas of projects that have none of their own."""

CONSUMERS = ("front-end", "back-end", "both")
TRUE_SPEC = "<is> True"

MAKE_QOS, MAKE_TYPE, DELETE_TYPE, DELETE_QOS, SET_QUOTAS = 1000, 2000, 3000, 4000, 5000

Desired = Mapping[str, Any]
"""The module's options `volume_types`, `qos_specs`, `default_quotas` and `default_volume_type`."""


@dataclass
class Actual:
    """What the APIs list. Without arguments it is a Cinder that has just been started for the first time."""

    types: dict[str, Record] = field(default_factory=lambda: {MIGRATED_TYPE: dict(MIGRATED)})
    """By name; QoS specs too."""
    qos_specs: dict[str, Record] = field(default_factory=dict)
    quotas: dict[str, int] = field(
        default_factory=lambda: {**QUOTAS, **{f"{part}_{MIGRATED_TYPE}": -1 for part in OF_A_TYPE}}
    )
    """Of the default class, by resource."""
    access: dict[str, set[str]] = field(default_factory=dict)
    """By name of a private type: ids of the projects that may use it."""
    projects: list[Record] | None = None
    """None where they could not be asked."""
    used: set[str] = field(default_factory=set)
    """Names of the types, of those that Cinder changes or deletes only without volumes, that volumes have."""
    project_defaults: set[str] = field(default_factory=set)
    """Ids of the types that are the default of a project."""


def types_of(backends: Mapping[str, Mapping[str, Any]], declared: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the volume types of a cloud: the declared ones, or one for each back end where none is declared to be.

    A derived one has the back end's name, and finds it by `volume_backend_name`, which is the same unless the back end
    says otherwise. Two back ends of one `volume_backend_name` share what the scheduler hands out, under both names.
    """
    items = [dict(one) for one in declared]
    if any(present(one) for one in items):
        return items
    gone = {one["name"] for one in items}
    return items + [
        {"name": name, "extra_specs": {"volume_backend_name": str((backend or {}).get("volume_backend_name", name))}}
        for name, backend in backends.items()
        if name not in gone
    ]


def default_type(chosen: str, backends: Iterable[str]) -> str:
    """Return the type that a volume gets which names none, as roles/cinder/settings/common.yml says it."""
    return chosen or next(iter(backends), MIGRATED_TYPE)


# --- reading ----------------------------------------------------------------------------------------------------------


def fetch(desired: Desired, volume: Request, identity: Request) -> Actual:
    """Read what `compare` needs, lists side by side. Raises ConvergenceError naming what could not be read."""
    types, specs = desired.get("volume_types") or (), desired.get("qos_specs") or ()
    lists: dict[str, Callable[[], Any]] = {
        "list of volume types": lambda: pages(volume, "/types", "volume_types", is_public="None")
    }
    if specs or any(one.get("qos") is not None for one in types):
        lists["list of QoS specs"] = lambda: pages(volume, "/qos-specs", "qos_specs")
    if desired.get("default_quotas"):
        lists["default quotas"] = lambda: volume("GET", f"/os-quota-class-sets/{QUOTA_CLASS}")["quota_class_set"]
    if not all(present(one) for one in types):
        lists["list of default types"] = lambda: volume("GET", "/default-types")["default_types"]
    if any(present(one) and one.get("projects") for one in types):
        lists["list of projects"] = lambda: list_all(identity, "projects")
    found = values(side_by_side(lists))
    actual = Actual(
        types={one["name"]: one for one in found["list of volume types"]},
        qos_specs={one["name"]: one for one in found.get("list of QoS specs", ())},
        quotas={key: value for key, value in found.get("default quotas", {}).items() if key != "id"},
        projects=found.get("list of projects"),
        project_defaults={one["volume_type_id"] for one in found.get("list of default types", ())},
    )

    access, volumes = "access to volume type ", "volumes of type "
    more: dict[str, Callable[[], Any]] = {}
    for item in types:
        name, record = item["name"], actual.types.get(item["name"])
        if record is None:
            continue
        if present(item) and item.get("projects") is not None and not record["is_public"]:
            more[f"{access}{name}"] = partial(_access, volume, record["id"])
        if not present(item) or _specs(item, record) != _specs(record, record):
            more[f"{volumes}{name}"] = partial(_any_volume, volume, record["id"])
    for label, answer in values(side_by_side(more)).items():
        if label.startswith(access):
            actual.access[label.removeprefix(access)] = answer
        elif answer:
            actual.used.add(label.removeprefix(volumes))
    return actual


def _access(volume: Request, number: str) -> set[str]:
    body = volume("GET", _path("types", number, "os-volume-type-access"))
    return {one["project_id"] for one in body["volume_type_access"]}


def _any_volume(volume: Request, number: str) -> bool:
    query = urlencode({"all_tenants": "1", "limit": "1", "volume_type_id": number})
    return bool(volume("GET", f"/volumes?{query}")["volumes"])


def _path(*parts: str) -> str:
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _specs(item: Mapping[str, Any], record: Record) -> dict[str, str]:
    """Return the extra specs that an item wants, those that are there where it wants none."""
    wanted = texts(item.get("extra_specs"))
    return dict(record.get("extra_specs") or {}) if wanted is None else wanted


# --- comparing --------------------------------------------------------------------------------------------------------


def compare(desired: Desired, actual: Actual, volume: Request) -> list[Action]:
    """Return the actions that turn what is there into what is wanted, in the order of their steps.

    Raises ConvergenceError with everything that cannot be: one line per object, with the remedy.
    """
    types, specs = desired.get("volume_types") or (), desired.get("qos_specs") or ()
    problems = [*named_twice("volume type", types), *named_twice("QoS specs", specs)]
    actions: list[Action] = []
    ids: dict[str, str] = {name: record["id"] for name, record in actual.qos_specs.items()}
    known = {*actual.qos_specs, *(one["name"] for one in specs if present(one))} - {
        one["name"] for one in specs if not present(one)
    }
    parts: list[Callable[[], Iterable[Action]]] = [
        *(partial(_qos, item, types, actual, ids, volume) for item in specs),
        *(partial(_type, item, desired.get("default_volume_type"), known, actual, ids, volume) for item in types),
        partial(_quotas, desired, actual, volume),
    ]
    for part in parts:
        try:
            actions += part()
        except ConvergenceError as error:
            problems.append(str(error))
    problems += _default_problem(desired, actual)
    if problems:
        raise ConvergenceError("\n".join(problems))
    return sorted(actions, key=lambda action: action.step)


def _default_problem(desired: Desired, actual: Actual) -> list[str]:
    """Return that the default type would not be there: nobody could make a volume without naming a type."""
    wanted, types = desired.get("default_volume_type"), desired.get("volume_types") or ()
    there = {*actual.types, *(one["name"] for one in types if present(one))}
    if not wanted or wanted in there:
        return []
    return [f"volume type {wanted}: is the default type, and there is none of that name; declare it, or name another"]


def _qos(
    item: Mapping[str, Any],
    types: Iterable[Mapping[str, Any]],
    actual: Actual,
    ids: dict[str, str],
    volume: Request,
) -> Iterator[Action]:
    """Yield the action for QoS specs. Raises ConvergenceError when they are to go and a type keeps them."""
    name, record = item["name"], actual.qos_specs.get(item["name"])
    specs = texts(item.get("specs"))
    if not present(item):
        if record is None:
            return
        settled = {one["name"]: one for one in types}
        holders = [
            one
            for one, there in actual.types.items()
            if there.get("qos_specs_id") == record["id"]
            and present(settled.get(one, {}))
            and settled.get(one, {}).get("qos") is None
        ]
        if holders:
            raise ConvergenceError(
                f"QoS specs {name}: are those of the volume type {', '.join(sorted(holders))}; give it others, or none "
                "with `qos: ''`"
            )
        apply = partial(delete, volume, _path("qos-specs", record["id"]))
        yield Action("QoS specs", "delete", name, _described(record), {}, apply, DELETE_QOS)
        return
    if record is None:
        body = {**(specs or {}), **({"consumer": item["consumer"]} if item.get("consumer") else {})}

        def create() -> None:
            ids[name] = volume("POST", "/qos-specs", {"qos_specs": {"name": name, **body}})["qos_specs"]["id"]

        shown = {"consumer": item.get("consumer") or "back-end", "specs": specs or {}}
        yield Action("QoS specs", "create", name, {}, shown, create, MAKE_QOS)
        return
    before = _described(record)
    after = {
        "consumer": item.get("consumer") or before["consumer"],
        "specs": before["specs"] if specs is None else specs,
    }
    if before == after:
        return

    def update() -> None:
        changed = {key: value for key, value in after["specs"].items() if before["specs"].get(key) != value}
        changed |= {"consumer": after["consumer"]} if before["consumer"] != after["consumer"] else {}
        surplus = sorted(set(before["specs"]) - set(after["specs"]))
        if changed:
            volume("PUT", _path("qos-specs", record["id"]), {"qos_specs": changed})
        if surplus:
            volume("PUT", _path("qos-specs", record["id"], "delete_keys"), {"keys": surplus})

    yield Action("QoS specs", "update", name, before, after, update, MAKE_QOS)


def _described(record: Record) -> dict[str, Any]:
    return {"consumer": record["consumer"], "specs": dict(record.get("specs") or {})}


def _type(
    item: Mapping[str, Any],
    default: str | None,
    known: Iterable[str],
    actual: Actual,
    ids: Mapping[str, str],
    volume: Request,
) -> Iterator[Action]:
    """Yield the action for one volume type. Raises ConvergenceError when it cannot become what is wanted."""
    name, record = item["name"], actual.types.get(item["name"])
    if not present(item):
        if record is not None:
            yield _type_deletion(record, default, actual, volume)
        return
    if item.get("is_public") and item.get("projects") is not None:
        raise ConvergenceError(f"volume type {name}: is public, thus no project's; remove `projects` or `is_public`")
    if item.get("qos") and item["qos"] not in known:
        raise ConvergenceError(f"volume type {name}: there are no QoS specs {item['qos']}; declare them")
    specs = texts(item.get("extra_specs")) or {}
    if specs.get("multiattach") == specs.get("cacheable") == TRUE_SPEC:
        raise ConvergenceError(f"volume type {name}: cannot be both `multiattach` and `cacheable`; leave one out")
    projects = project_ids("volume type", item, actual.projects)
    if record is None:
        yield _type_creation(item, specs, projects, ids, volume)
    else:
        yield from _type_update(item, record, projects, actual, ids, volume)


def _type_deletion(record: Record, default: str | None, actual: Actual, volume: Request) -> Action:
    name = record["name"]
    if name == default:
        raise ConvergenceError(f"volume type {name}: is to go and is the default type; name another default first")
    if record["id"] in actual.project_defaults:
        raise ConvergenceError(
            f"volume type {name}: is to go and is the default type of a project; take that away first "
            "(`openstack volume type list --default`, `openstack --os-volume-api-version 3.62 volume type set`)"
        )
    if name in actual.used:
        raise ConvergenceError(
            f"volume type {name}: is to go and volumes have it; retype them (`openstack volume set --type`) or delete "
            "them first"
        )
    before = {"is_public": record["is_public"], "extra_specs": dict(record.get("extra_specs") or {})}
    apply = partial(delete, volume, _path("types", record["id"]))
    return Action("volume type", "delete", name, before, {}, apply, DELETE_TYPE)


def _type_creation(
    item: Mapping[str, Any],
    specs: Mapping[str, str],
    projects: Mapping[str, str] | None,
    ids: Mapping[str, str],
    volume: Request,
) -> Action:
    """Return the creation of a type with all that belongs to it."""
    public = item["is_public"] if item.get("is_public") is not None else projects is None
    body: dict[str, Any] = {"name": item["name"], PUBLIC: public, "extra_specs": dict(specs)}
    body |= {"description": item["description"]} if item.get("description") else {}

    def create() -> None:
        made = volume("POST", "/types", {"volume_type": body})["volume_type"]["id"]
        _give(volume, made, projects or (), ())
        if item.get("qos"):
            _associate(volume, ids[item["qos"]], made, "associate")

    shown = {"is_public": public, "extra_specs": dict(specs)}
    shown |= {key: item[key] for key in ("description", "qos") if item.get(key)}
    shown |= {"projects": sorted(projects.values())} if projects else {}
    return Action("volume type", "create", item["name"], {}, shown, create, MAKE_TYPE)


def _type_update(
    item: Mapping[str, Any],
    record: Record,
    projects: Mapping[str, str] | None,
    actual: Actual,
    ids: Mapping[str, str],
    volume: Request,
) -> Iterator[Action]:
    """Yield the update of a type that is there."""
    name, number = item["name"], record["id"]
    before: dict[str, Any] = {"is_public": record["is_public"]}
    after: dict[str, Any] = {"is_public": before["is_public"]}
    if item.get("is_public") is not None or projects is not None:
        after["is_public"] = bool(item.get("is_public")) if projects is None else False
    if item.get("description") is not None:
        before["description"], after["description"] = record.get("description") or "", item["description"]
    there, specs = _specs(record, record), _specs(item, record)
    if item.get("extra_specs") is not None:
        before["extra_specs"], after["extra_specs"] = there, specs
    if there != specs and name in actual.used:
        differing = ", ".join(sorted(key for key in {*there, *specs} if there.get(key) != specs.get(key)))
        raise ConvergenceError(
            f"volume type {name}: cannot change {differing} of its extra specs, because volumes have it; give the new "
            "ones to a type of another name and retype the volumes (`openstack volume set --type`)"
        )
    allowed = actual.access.get(name, set())
    if projects is not None:
        known = {one["id"]: one["name"] for one in actual.projects or ()}
        before["projects"] = sorted(projects.get(one) or known.get(one, one) for one in allowed)
        after["projects"] = sorted(projects.values())
    names = {one["id"]: one["name"] for one in actual.qos_specs.values()}
    if item.get("qos") is not None:
        before["qos"], after["qos"] = names.get(record.get("qos_specs_id") or "", ""), item["qos"]
    if before == after and (projects is None or set(projects) == allowed):
        return
    written = {key: value for key, value in specs.items() if there.get(key) != value}
    surplus = [key for key in there if key not in specs]

    def update() -> None:
        attributes = {
            key: after[key] for key in ("description", "is_public") if key in after and before[key] != after[key]
        }
        if attributes:
            volume("PUT", _path("types", number), {"volume_type": attributes})
        if written:
            volume("POST", _path("types", number, "extra_specs"), {"extra_specs": written})
        for key in surplus:
            delete(volume, _path("types", number, "extra_specs", key))
        if projects is not None:
            # a type that was public may have been private before, and then it has projects that no list showed
            now = _access(volume, number) if before["is_public"] else allowed
            _give(volume, number, sorted(set(projects) - now), sorted(now - set(projects)))
        if before.get("qos") != after.get("qos"):
            if before["qos"]:
                _associate(volume, ids[before["qos"]], number, "disassociate")
            if after["qos"]:
                _associate(volume, ids[after["qos"]], number, "associate")

    yield Action("volume type", "update", name, before, after, update, MAKE_TYPE)


def _give(volume: Request, number: str, given: Iterable[str], taken: Iterable[str]) -> None:
    """Give projects access to a private type, and take it from others."""
    for verb, projects in (("addProjectAccess", given), ("removeProjectAccess", taken)):
        for project in projects:
            volume("POST", _path("types", number, "action"), {verb: {"project": project}})


def _associate(volume: Request, qos: str, number: str, verb: str) -> None:
    """Associate QoS specs with a type, or disassociate them; the API changes both by GET."""
    volume("GET", f"{_path('qos-specs', qos, verb)}?{urlencode({'vol_type_id': number})}")


def _quotas(desired: Desired, actual: Actual, volume: Request) -> Iterator[Action]:
    """Yield the update of the default quotas. Raises ConvergenceError for one that Cinder has not, and would keep."""
    wanted: Mapping[str, int] = desired.get("default_quotas") or {}
    made = [one["name"] for one in desired.get("volume_types") or () if present(one)]
    there = {**{f"{part}_{name}": -1 for name in made for part in OF_A_TYPE}, **actual.quotas}
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise ConvergenceError(
            f"default quotas: there is no {', '.join(unknown)}; use {', '.join(QUOTAS)}, or one of "
            f"{', '.join(OF_A_TYPE)} followed by _ and a type's name"
        )
    changed = {name: value for name, value in wanted.items() if there[name] != value}
    if changed:
        path = _path("os-quota-class-sets", QUOTA_CLASS)
        apply = partial(volume, "PUT", path, {"quota_class_set": changed})
        before = {name: there[name] for name in changed}
        yield Action("quotas", "update", QUOTA_CLASS, before, changed, apply, SET_QUOTAS)
