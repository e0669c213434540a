"""What the inventory says about Glance's stores and images: what is wrong with it. Pure.

Limits are those of the Image API's schemas (glance.api.v2.images at 2026.1) and of glance_store's drivers. RULES are
the plan's rules for values of variables, see inventory_checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import images, inventory_items
from ansible_collections.brume.cloud.plugins.module_utils.api_objects import present
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, Rule, is_number, near, shown

TYPES: Mapping[str, str] = {"file": "filesystem_", "rbd": "rbd_", "swift": "swift_", "s3": "s3_", "http": "http"}
"""Types of stores, and how the options of each begin; `weight` and `store_description` are of all."""

COMMON = ("type", "weight", "store_description")
NEEDED: Mapping[str, tuple[str, ...]] = {"s3": ("s3_store_host", "s3_store_bucket")}
READ_ONLY = ("http",)
"""Types whose images somebody else keeps: nothing can be put there."""

KEYS: Mapping[str, tuple[str, ...]] = {"s3": ("access_key", "secret_key")}
"""Secrets that somebody else has given, by type of store."""

SECRETS = ("_access_key", "_secret_key", "_store_key", "_store_user", "_credential_id", "_credential_secret")
"""Ends of options that hold a secret, or what goes with one."""

STORE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
SECTIONS = frozenset(
    {"database", "glance_store", "image_format", "paste_deploy", "keystone_authtoken", "task", "wsgi", "cache", "cors"}
    | {"healthcheck", "profiler", "ssl", "vault", "barbican", "identity", "key_manager", "taskflow_executor"}
)
"""Sections of glance-api.conf that are no stores; those of Oslo and of Glance's own stores begin with `os`."""

KEY = re.compile(r"[A-Za-z0-9+/=._~-]{3,}")
"""A key of S3: none of the characters that a configuration file means something by."""

CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
PROPERTY = re.compile(r"[^\x00-\x20/~]{1,255}")
PROPERTY_LENGTH = 65535
REPLACE = ("hide", "delete")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
DISK_FORMATS = ("ami", "ari", "aki", "iso", "qcow2", "raw", "vmdk")
"""As `disk_formats` of roles/glance/settings/glance-api.yml."""

VISIBILITIES = ("public", "private", "shared", "community")
REFERRED: Mapping[str, str] = {"kernel": "aki", "ramdisk": "ari"}
"""Disk format of the images that these options name."""


def _choice(values: Sequence[str], what: str) -> inventory_items.Check:
    remedy = f"use one of {', '.join(values)}"
    return lambda value: None if value in values else (f"no {what}", remedy)


def _checksum(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str) and CHECKSUM.fullmatch(value):
        return None
    return "no checksum", "write sha256: or sha512: and the publisher's hexadecimal digits in small letters"


def _url(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str) and re.fullmatch(r"https?://[^\s/]+/\S+", value):
        return None
    return "no address", "write one that begins with https:// or http://, or give a file by `path`"


def _file(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, str) and value.startswith("/")
    return None if fits else ("no whole path", "write where the file lies on the deploy host, from / on")


def _text(value: Any) -> tuple[str, str] | None:
    return None if isinstance(value, str) and value else ("no text", "write a text, numbers in quotes")


def _tags(value: Any) -> tuple[str, str] | None:
    longest = max((len(str(one)) for one in value), default=0) if isinstance(value, list) else 0
    if longest > inventory_items.NAME_LENGTH:
        return "no list of tags", f"write at most {inventory_items.NAME_LENGTH} characters for each"
    return inventory_items.texts(value)


def _stores_of_image(value: Any) -> tuple[str, str] | None:
    return inventory_items.texts(value) if value != [] else ("no place", "name one store at least, or leave it out")


def _properties(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, Mapping):
        return "no mapping", "write `key: value` lines below it"
    return next((found for key, item in value.items() if (found := _property(key, item))), None)


def _property(key: Any, value: Any) -> tuple[str, str] | None:
    references = {number: name for name, number in images.REFERENCES.items()}
    wrong: tuple[str, str] | None = None
    if not isinstance(key, str) or not PROPERTY.fullmatch(key):
        wrong = f"no mapping of properties, because of {shown(key)}", "use letters, digits and - _ : ."
    elif key in references:
        wrong = f"no mapping of properties alone, because of {key}", f"write `{references[key]}: <name>` beside it"
    elif key in {*images.BASE, *images.ATTRIBUTES}:
        wrong = f"no mapping of properties alone, because it has `{key}`", f"write `{key}` beside `properties`"
    elif key.startswith("os_glance_") or key in (images.CHECKSUM, images.UPLOAD):
        wrong = f"no mapping of properties of yours, because of {key}", "leave it out: it is reserved"
    elif not isinstance(value, (str, int, float)) or len(str(value)) > PROPERTY_LENGTH:
        wrong = f"no mapping of texts, because of {key}", "write a text, a number, true or false"
    return wrong


IMAGE: Mapping[str, inventory_items.Check] = {
    "name": inventory_items.name,
    "url": _url,
    "path": _file,
    "checksum": _checksum,
    "disk_format": _choice(DISK_FORMATS, "disk format"),
    "container_format": _choice(CONTAINER_FORMATS, "container format"),
    "visibility": _choice(VISIBILITIES, "visibility"),
    "architecture": _text,
    "os_distro": _text,
    "os_version": _text,
    "min_disk": inventory_items.count(0, "GiB"),
    "min_ram": inventory_items.count(0, "MiB"),
    "properties": _properties,
    "kernel": inventory_items.name,
    "ramdisk": inventory_items.name,
    "stores": _stores_of_image,
    "protected": inventory_items.truth,
    "tags": _tags,
    "replace": _choice(REPLACE, "way"),
    "state": inventory_items.state,
}


def _images(value: Any, _services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, IMAGE, ("checksum", "disk_format"))
    known = {item["name"]: item for item in value if present(item) and isinstance(item.get("name"), str)}
    for place, item in enumerate(value):
        label = f".{item['name']}" if item.get("name") in known else f"[{place}]"
        if not present(item):
            continue
        sources = [key for key in ("url", "path") if key in item]
        if len(sources) != 1:
            yield label, f"has {'`url` and `path`' if sources else 'neither `url` nor `path`'}", "give one of the two"
        disk, container = item.get("disk_format"), item.get("container_format")
        if disk in ("ami", "ari", "aki") and container not in (None, disk):
            yield f"{label}.container_format", f"{shown(container)} does not go with {disk}", "leave it out"
        for key, wanted in REFERRED.items():
            name = item.get(key)
            if name is None:
                continue
            if disk in REFERRED.values():
                yield f"{label}.{key}", f"is of an image that is one itself ({disk})", "remove it"
            elif name not in known:
                meant = near(str(name), known)
                hint = f"is {meant} meant?" if meant else "declare it in cloud_images too"
                yield f"{label}.{key}", f"{shown(name)} is no image of the list", hint
            elif known[name].get("disk_format") != wanted:
                yield f"{label}.{key}", f"{name} has not the disk format {wanted}", "name another one, or correct it"


def _stores(value: Any, _services: Any) -> Iterator[Mistake]:
    if not value:
        yield "", "is empty", "name one store at least, such as file: {type: file}"
    for name, item in value.items():
        if not isinstance(name, str) or not STORE_NAME.fullmatch(name):
            yield f".{name}", f"{shown(name)} is no name of a store", "use lower-case letters, digits, - and _"
        elif name in SECTIONS or name.startswith(("os_", "oslo_")):
            yield f".{name}", "is a section of Glance's file with another meaning", "choose another name"
        if not isinstance(item, Mapping):
            yield f".{name}", f"{shown(item)} is no mapping", "write {type: file}"
            continue
        kind = str(item.get("type", ""))
        if kind not in TYPES:
            meant = near(kind, TYPES)
            hint = f"is {meant} meant?" if meant else f"use one of {', '.join(TYPES)}"
            yield f".{name}", f"has the type {shown(kind)}, which is none", hint
            continue
        for key, one in item.items():
            yield from _option(name, kind, key, one)
        for key in NEEDED.get(kind, ()):
            if not item.get(key):
                yield f".{name}", f"has no `{key}`", f"add `{key}: ...`"


def _option(store: Any, kind: str, key: Any, value: Any) -> Iterator[Mistake]:
    """Yield what is wrong with a further option of a store."""
    place = f".{store}.{key}"
    if key in COMMON:
        return
    if not isinstance(key, str) or not key.startswith(TYPES[kind]):
        yield place, f"is no option of {kind}", f"options of it begin with {TYPES[kind]}"
    elif key.endswith(SECRETS):
        purpose = next((one for one in KEYS.get(kind, ()) if key.endswith(one)), "")
        remedy = f"give it in brume_secrets as {secret_name(store, purpose)}" if purpose else "leave it out"
        yield place, "is a secret, which stands in no such place", remedy
    elif isinstance(value, (Mapping, list)):
        yield place, f"{shown(value)} is no value", "write a text or a number"


def _size(value: Any, _services: Any) -> Iterator[Mistake]:
    if not is_number(value) or value < 1:
        yield "", f"{shown(value)} is no size", "write a number of bytes, at least 1"


RULES: Mapping[str, Rule] = {
    "cloud_images": _images,
    "glance_stores": _stores,
    "glance_image_cache_max_size": _size,
}


def mistakes(variables: Mapping[str, Any], services: Iterable[str]) -> list[tuple[str, Mistake]]:
    """Return what is wrong between variables, as variable and mistake; each alone has been checked by RULES.

    What lies in Ceph is ceph_inventory's.
    """
    stores: Mapping[str, Mapping[str, Any]] = variables["glance_stores"]
    found: list[tuple[str, Mistake]] = []
    default, writable = variables["glance_default_store"], [
        name for name, one in stores.items() if one["type"] not in READ_ONLY
    ]  # fmt: skip
    remedy = f"use one of {', '.join(writable)}" if writable else "add a store that takes images"
    if default not in writable:
        why = "takes no images" if default in stores else "is no store"
        found.append(("glance_default_store", ("", f"{shown(default)} {why}", remedy)))
    for name, one in stores.items():
        if one["type"] == "swift" and "swift" not in services:
            message, hint = "lies in Swift, which this cloud does not have", "add swift to brume_services"
            found.append(("glance_stores", (f".{name}.type", message, hint)))
    for item in variables["cloud_images"]:
        for name in item.get("stores") or ():
            if name not in writable:
                why = "takes no images" if name in stores else "is no store of glance_stores"
                found.append(("cloud_images", (f".{item['name']}.stores", f"{shown(name)} {why}", remedy)))
    return found


def secret_name(store: str, purpose: str) -> str:
    """Return the name of a store's secret, which somebody else has given."""
    return f"glance/s3/{store}/{purpose}"


def secret_names(stores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of all secrets of stores that somebody else has given."""
    return [secret_name(name, purpose) for name, one in stores.items() for purpose in KEYS.get(one["type"], ())]


def secret_problems(stores: Mapping[str, Mapping[str, Any]], said: Any) -> list[Problem]:
    """Return what is wrong with the keys of stores in brume_secrets (`said`); no message holds a value."""
    problems = []
    for name in secret_names(stores):
        place, value = f"brume_secrets.{name}", said.get(name) if isinstance(said, Mapping) else None
        store = name.split("/")[2]
        if value is None:
            remedy = "give the one that the object storage has given, from a vault file"
            problems.append(Problem(place, f"is missing, and the store {store} cannot be opened without", remedy))
        elif not isinstance(value, str) or not KEY.fullmatch(value):
            problems.append(Problem(place, "is no key of S3", "write it in quotes, without spaces around it"))
    return problems
