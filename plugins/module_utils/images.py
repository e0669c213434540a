"""Glance's images: what is wanted against what the Image API lists, as actions.

`fetch` reads, `compare` is pure but for the callables it hands out. Paths, attributes and rules are those of the Image
API (https://docs.openstack.org/api-ref/image/v2/) and of glance.api.v2.images at 2026.1. An image's data never changes
in Glance: other data are another image of that name, and the one before is hidden (`os_hidden`), as
https://docs.openstack.org/glance/latest/user/os_hidden.html has it, so that instances can still be rebuilt from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.brume.cloud.plugins.module_utils.api_objects import delete, named_twice, present, texts
from ansible_collections.brume.cloud.plugins.module_utils.api_session import CONFLICT, ApiError, Record, Request
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    Action,
    ConvergenceError,
    describe,
    side_by_side,
    values,
)

CHECKSUM = "brume_checksum"
"""Property of an image whose data were verified: the declared `checksum`. Glance's own hash has one algorithm."""

UPLOAD = "brume_upload"
"""Property of an image whose data are on their way: what bears it at the begin of a run was cut off."""

UNSUPPORTED = 415
"""HTTP status of an upload whose content is not what `disk_format` says."""

GLANCE_ALGORITHM = "sha512"
"""`os_hash_algo` that Glance gives to what it takes in unless its option hashing_algorithm says another one."""

ATTRIBUTES = ("visibility", "min_disk", "min_ram", "protected", "architecture", "os_distro", "os_version")
"""Options that are attributes of the API by the same name."""

REFERENCES: Mapping[str, str] = {"kernel": "kernel_id", "ramdisk": "ramdisk_id"}
"""Options that name other images, and the property that has the id of each."""

FORMATS = ("disk_format", "container_format")

BASE = frozenset(
    {"id", "name", "status", "visibility", "protected", "os_hidden", "checksum", "os_hash_algo", "os_hash_value"}
    | {"owner", "size", "virtual_size", "created_at", "updated_at", "tags", "direct_url", "min_ram", "min_disk", "self"}
    | {"file", "schema", "locations", "stores", *FORMATS}
)
"""Attributes that are no properties (glance.api.v2.images.get_base_properties), with those of responses."""

CLEAN, MAKE, MAKE_REFERRING, RETIRE = 1000, 2000, 3000, 4000
"""Steps. An image that names others is made after them."""

PATCH_TYPE = "application/openstack-images-v2.1-json-patch"
"""Of this version `add` sets a property whether it is there or not."""

COPY_SECONDS, COPY_PAUSE = 3600, 2.0
"""Longest wait for copies to other stores, as long as Glance holds a dead one's lock; seconds between looks."""

Desired = Mapping[str, Any]
"""The module's option `images`."""

Obtain = Callable[[Mapping[str, Any]], AbstractContextManager["Data"]]
"""Brings an image's data to this host and verifies them; they are gone when the context ends. Raises OSError."""


@dataclass(frozen=True)
class Data:
    """An image's data in a file, and their sha512 as hexadecimal digits."""

    path: str
    sha512: str


@dataclass(frozen=True)
class Glance:
    """What sends requests. `upload` takes an image's name, a path of the API, a file, and a store or nothing."""

    request: Request
    patch: Callable[[str, Sequence[Record]], Record]
    upload: Callable[[str, str, str, str], None]


@dataclass
class Actual:
    """What the APIs list; empty before there is a Glance."""

    images: dict[str, list[Record]] = field(default_factory=dict)
    """The project's own by name, hidden ones too."""
    used: set[str] = field(default_factory=set)
    """Ids of those images, of the ones that may be deleted, that instances were made from."""


# --- reading ----------------------------------------------------------------------------------------------------------


def fetch(items: Iterable[Desired], glance: Request, project: str, compute: Request | None = None) -> Actual:
    """Read what `compare` needs; `project` is the id of the one that owns the images.

    Other projects may have images of the same names, and Nova's snapshots inherit properties: neither is looked at.
    Raises ConvergenceError naming what could not be read.
    """
    lists = {
        f"list of {kind} images": partial(_listed, glance, owner=project, visibility="all", os_hidden=hidden)
        for kind, hidden in (("visible", "false"), ("hidden", "true"))
    }
    actual = Actual()
    for found in values(side_by_side(lists)).values():
        for one in found:
            if one.get("image_type") != "snapshot":
                actual.images.setdefault(one["name"], []).append(one)
    if compute is not None:
        questions = {
            one["id"]: partial(_any_server, compute, one["id"])
            for item in items
            if not present(item) or item.get("replace") == "delete"
            for one in _former(item, actual)
        }
        actual.used = {number for number, answer in values(side_by_side(questions)).items() if answer}
    return actual


def _listed(glance: Request, **filters: str) -> list[Record]:
    """Return every image of a list; the next page is a path without the address's own part."""
    path, found = f"/v2/images?{urlencode({**filters, 'limit': '500'})}", list[Record]()
    while path:
        body = glance("GET", path)
        found += body["images"]
        path = body.get("next") or ""
    return found


def _any_server(compute: Request, image: str) -> bool:
    query = urlencode({"all_tenants": "true", "limit": "1", "image": image})
    return bool(compute("GET", f"/servers?{query}")["servers"])


# --- comparing --------------------------------------------------------------------------------------------------------


def compare(items: Sequence[Desired], actual: Actual, glance: Glance, obtain: Obtain) -> list[Action]:
    """Return the actions that turn what is there into what is wanted, in the order of their steps.

    Raises ConvergenceError with everything that cannot be: one line per image, with the remedy.
    """
    problems = named_twice("image", items)
    names = _Names(items, actual)
    actions: list[Action] = []
    for item in items:
        for key in REFERENCES:
            if present(item) and item.get(key) and item[key] not in names.known:
                problems.append(f"image {item['name']}: its {key} {item[key]} is no image of the list; declare it too")
        if not present(item) and item.get("protected") is not False:
            problems += [
                f"image {item['name']}: {one['id']} is protected; say `protected: false` beside `state: absent`"
                for one in _former(item, actual)
                if one.get("protected")
            ]
        actions += _cleaning(item, actual, glance)
        if present(item):
            actions += _image(item, actual, names, glance, obtain)
        else:
            actions += _retirement(item, _former(item, actual), actual, glance, erase=True)
    if problems:
        raise ConvergenceError("\n".join(problems))
    return sorted(actions, key=lambda action: action.step)


def needed(items: Iterable[Desired], actual: Actual) -> list[str]:
    """Return the names of the images whose data have to be uploaded."""
    return [item["name"] for item in items if present(item) and _current(item, actual) is None]


class _Names:
    """Which image each name of the list stands for: ids are known in advance unless an image is made in this run."""

    def __init__(self, items: Sequence[Desired], actual: Actual) -> None:
        self.known = {item["name"] for item in items if present(item)}
        current = {item["name"]: _current(item, actual) for item in items if present(item)}
        self.ids: dict[str, str] = {name: one["id"] for name, one in current.items() if one is not None}
        """Filled by those that are made."""
        self.before: dict[str, str] = {one["id"]: name for name, found in actual.images.items() for one in found}
        self.now: dict[str, str] = {number: name for name, number in self.ids.items()}

    def label(self, number: str | None) -> str:
        """Return how a reference to an image reads: its name, with a part of the id where another one has the name."""
        if not number:
            return ""
        if number in self.now:
            return str(self.now[number])
        return f"{self.before[number]} ({number})" if number in self.before else str(number)


def container_format(item: Desired) -> str:
    """Return the container format, which follows from the disk format unless it is said (Glance, formats.rst)."""
    said, disk = str(item.get("container_format") or ""), str(item["disk_format"])
    return said or (disk if disk in ("ami", "aki", "ari") else "bare")


def _complete(item: Desired, actual: Actual) -> list[Record]:
    """Return the images of a name with all their data, the newest first."""
    found = [
        one
        for one in actual.images.get(item["name"], ())
        if UPLOAD not in one and one["status"] in ("active", "deactivated")
    ]
    return sorted(found, key=lambda one: (one["created_at"], one["id"]), reverse=True)


def _current(item: Desired, actual: Actual) -> Record | None:
    """Return the image that has the wanted data and formats; a visible one before hidden ones."""
    algorithm, _colon, digest = item["checksum"].partition(":")
    formats = [item["disk_format"], container_format(item)]
    fits = [
        one
        for one in _complete(item, actual)
        if [one[key] for key in FORMATS] == formats
        and (
            one.get(CHECKSUM) == item["checksum"]
            or (one.get("os_hash_algo") == algorithm and one.get("os_hash_value") == digest)
        )
    ]
    return min(fits, key=lambda one: bool(one.get("os_hidden")), default=None)


def _former(item: Desired, actual: Actual) -> list[Record]:
    """Return the images of a name that are not the wanted one."""
    current = _current(item, actual) if present(item) else None
    return [one for one in _complete(item, actual) if current is None or one["id"] != current["id"]]


def _cleaning(item: Desired, actual: Actual, glance: Glance) -> Iterator[Action]:
    """Yield the deletion of what an interrupted run has left."""
    for one in actual.images.get(item["name"], ()):
        if UPLOAD in one:
            before = {"status": one["status"], "checksum": one[UPLOAD]}
            apply = partial(_remove, glance, one)
            yield Action("interrupted image", "delete", f"{item['name']} ({one['id']})", before, {}, apply, CLEAN)


def _image(item: Desired, actual: Actual, names: _Names, glance: Glance, obtain: Obtain) -> Iterator[Action]:
    """Yield what makes an image, or changes it, and what becomes of others of its name."""
    name, record = item["name"], _current(item, actual)
    step = MAKE_REFERRING if any(item.get(key) for key in REFERENCES) else MAKE
    retirement = list(_retirement(item, _former(item, actual), actual, glance, erase=item.get("replace") == "delete"))
    if record is None:
        # Former ones go by the same action, so that nobody finds two of the name for long, whatever fails elsewhere.
        shown = {key: item[key] for key in ("name", "checksum", "disk_format")}
        shown |= {"container_format": container_format(item), **_shown(_wanted(item), item, names)}
        shown |= {"stores": item["stores"]} if item.get("stores") else {}
        make = partial(_make, item, names, glance, obtain, [one.apply for one in retirement])
        yield Action("image", "create", name, {}, shown, make, step)
        yield from (replace(one, apply=lambda: None) for one in retirement)
        return
    yield from retirement
    wanted = {**_wanted(item), "os_hidden": False}
    before = {key: _value(record, key) for key in wanted}
    stores = [one for one in str(record.get("stores") or "").split(",") if one]
    if item.get("stores"):
        before["stores"], wanted["stores"] = sorted(stores), sorted(item["stores"])
    shown = _shown(wanted, item, names)
    before |= {key: names.label(record.get(number)) for key, number in REFERENCES.items() if item.get(key)}
    if before != shown:
        update = partial(_update, item, record, names, glance, stores)
        yield Action("image", "update", name, before, shown, update, step)


def _wanted(item: Desired) -> dict[str, Any]:
    """Return what is said of an image, by names of options, as the API has the values."""
    found = {key: item[key] for key in ATTRIBUTES if item.get(key) is not None}
    if item.get("tags") is not None:
        found["tags"] = sorted(set(item["tags"]))
    if item.get("properties") is not None:
        found["properties"] = texts(item["properties"])
    return found


def _shown(wanted: Mapping[str, Any], item: Desired, names: _Names) -> dict[str, Any]:
    """Return wanted values with the names of other images; one that is made in this run has no id yet."""
    return {**wanted, **{key: item[key] for key in REFERENCES if item.get(key)}}


def _value(record: Record, key: str) -> Any:
    """Return an existing image's value of an option."""
    if key == "properties":
        return _properties(record)
    if key == "tags":
        return sorted(record.get("tags") or ())
    return record.get(key)


def _properties(record: Record) -> dict[str, Any]:
    """Return the properties that are neither options of their own nor Glance's, a client's or the upload's marks."""
    own = {*BASE, *ATTRIBUTES, *REFERENCES.values(), CHECKSUM, UPLOAD}
    foreign = ("os_glance_", "owner_specified.")
    return {key: value for key, value in record.items() if key not in own and not key.startswith(foreign)}


def _retirement(
    item: Desired, former: Iterable[Record], actual: Actual, glance: Glance, *, erase: bool
) -> Iterator[Action]:
    """Yield what becomes of images that have lost their name.

    They are hidden; with `erase` deleted, while no instance was made from them: it could not be rebuilt, nor moved to
    a host that has not fetched the image yet. Of a name that stays, only what Brume has uploaded is deleted.
    """
    for one in former:
        label = f"{item['name']} ({one['id']})"
        if erase and one["id"] not in actual.used and (not present(item) or CHECKSUM in one):
            before = {key: one.get(key) for key in ("status", "size", "created_at", *FORMATS)}
            yield Action("image", "delete", label, before, {}, partial(_remove, glance, one), RETIRE)
        elif not one.get("os_hidden"):
            hide = partial(_patch, glance, one["id"], [_set("os_hidden", True)])
            yield Action("image", "update", label, {"os_hidden": False}, {"os_hidden": True}, hide, RETIRE)


# --- changing ---------------------------------------------------------------------------------------------------------


def _path(number: str, *more: str) -> str:
    return "/".join(["/v2/images", *(quote(part, safe="") for part in (number, *more))])


def _set(key: str, value: Any) -> Record:
    """Return an operation of a JSON patch (RFC 6902); its path is a JSON pointer (RFC 6901)."""
    return {"op": "add", "path": "/" + key.replace("~", "~0").replace("/", "~1"), "value": value}


def _unset(key: str) -> Record:
    return {"op": "remove", "path": _set(key, None)["path"]}


def _patch(glance: Glance, number: str, operations: Sequence[Record]) -> None:
    if operations:
        glance.patch(_path(number), operations)


def _remove(glance: Glance, record: Record) -> None:
    """Delete an image; its protection is against others."""
    if record.get("protected"):
        _patch(glance, record["id"], [_set("protected", False)])
    delete(glance.request, _path(record["id"]))


def _attributes(item: Desired, names: _Names) -> dict[str, Any]:
    """Return what is said of an image by the API's names; images that it names are there by now."""
    found = _wanted(item)
    return {
        **(found.pop("properties", None) or {}),
        **found,
        **{number: names.ids[item[key]] for key, number in REFERENCES.items() if item.get(key)},
    }


def _make(
    item: Desired, names: _Names, glance: Glance, obtain: Obtain, retire: Sequence[Callable[[], object]]
) -> None:
    """Make an image: hidden and marked until its data are complete, so that nobody uses it and a next run knows it."""
    with obtain(item) as data:
        stores = item.get("stores") or [""]
        body = _attributes(item, names)
        protected = body.pop("protected", None)
        body |= {"name": item["name"], "disk_format": item["disk_format"], "container_format": container_format(item)}
        number = glance.request("POST", "/v2/images", {**body, "os_hidden": True, UPLOAD: item["checksum"]})["id"]
        try:
            _upload(item, number, glance, data, stores[0])
            record = glance.request("GET", _path(number))
            _verify(record, data)
        except Exception as error:
            raise ConvergenceError(f"{describe(error)}{_discarded(glance, number)}") from error
    _patch(glance, number, [_unset(UPLOAD), _set(CHECKSUM, item["checksum"])])
    if stores[1:]:
        _copy(glance, number, stores[1:])
    published = [_set("os_hidden", False)]
    _patch(glance, number, [*published, *([] if protected is None else [_set("protected", protected)])])
    names.ids[item["name"]] = number
    for one in retire:
        one()


def _upload(item: Desired, number: str, glance: Glance, data: Data, store: str) -> None:
    """Send an image's data. Raises ConvergenceError where Glance finds them to be of another format.

    It says so by HTTP 415, and nothing more before 2026.2.
    """
    try:
        glance.upload(item["name"], _path(number, "file"), data.path, store)
    except ApiError as error:
        if error.status != UNSUPPORTED:
            raise
        message = f"Glance finds that the data are no {item['disk_format']}, or of a kind that it does not take"
        raise ConvergenceError(f"{message}; correct `disk_format`, or the source") from error


def _discarded(glance: Glance, number: str) -> str:
    """Delete what an upload has left; return what to say where that fails."""
    try:
        delete(glance.request, _path(number))
    except (ApiError, ConvergenceError) as error:
        return f"; image {number} is left for the next run to delete: {describe(error)}"
    return ""


def _verify(record: Record, data: Data) -> None:
    """Refuse an image whose data are not those that were sent."""
    if record["status"] != "active":
        raise ConvergenceError(f"Glance has the image as {record['status']} after its upload")
    if record.get("os_hash_algo") == GLANCE_ALGORITHM and record.get("os_hash_value") != data.sha512:
        raise ConvergenceError("Glance has other data than were sent; run again")


def _update(item: Desired, record: Record, names: _Names, glance: Glance, stores: Sequence[str]) -> None:
    """Change what may change of an image, and where its data lie; what is not said stays."""
    number = record["id"]
    wanted = {**_attributes(item, names), "os_hidden": False}
    there = {**record, "tags": sorted(record.get("tags") or ())}
    operations = [_set(key, value) for key, value in wanted.items() if there.get(key) != value or key not in there]
    if item.get("properties") is not None:
        operations += [_unset(key) for key in _properties(record) if key not in wanted]
    _patch(glance, number, operations)
    if not item.get("stores"):
        return
    missing = [one for one in item["stores"] if one not in stores]
    if missing:
        _copy(glance, number, missing)
    for one in stores:
        if one not in item["stores"]:
            delete(glance.request, f"/v2/stores/{quote(one, safe='')}/{quote(number, safe='')}")


def _copy(glance: Glance, number: str, stores: Sequence[str]) -> None:
    """Copy an active image's data to more stores by Glance's import method copy-image, and wait for it."""
    body = {"method": {"name": "copy-image"}, "stores": list(stores), "all_stores_must_succeed": True}
    try:
        glance.request("POST", _path(number, "import"), body)
    except ApiError as error:
        if error.status != CONFLICT:
            raise
        message = f"{error}; another copy is on its way or was cut off, which Glance gives up after an hour"
        raise ConvergenceError(message) from error
    for _look in range(int(COPY_SECONDS / COPY_PAUSE)):
        record = glance.request("GET", _path(number))
        missing = set(stores) - set(str(record.get("stores") or "").split(","))
        if not missing:
            return
        if "os_glance_import_task" not in record:  # its lock, which goes with it
            break
        time.sleep(COPY_PAUSE)
    raise ConvergenceError(f"image {number} was not copied to {', '.join(sorted(missing))}; Glance's journal says why")
