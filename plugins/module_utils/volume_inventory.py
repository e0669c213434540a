"""What the inventory says about Cinder's back ends, backups, volume types, QoS specs and quotas: what is wrong. Pure.

Limits are those of the Block Storage API's schemas (cinder.api.schemas at 2026.1), needs those of Cinder's drivers.
RULES are the plan's rules for values of variables, see inventory_checks.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import ceph, inventory_items
from ansible_collections.brume.cloud.plugins.module_utils.api_objects import present
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, Rule, is_number, near, shown
from ansible_collections.brume.cloud.plugins.module_utils.volume_types import (
    CONSUMERS,
    MIGRATED_TYPE,
    OF_A_TYPE,
    QUOTAS,
    types_of,
)

TYPES: Mapping[str, tuple[str, ...]] = {"rbd": (), "lvm": ("volume_group",), "nfs": ("nas_host", "nas_share_path")}
"""Types of back ends, and what has to be said of each."""

PLACES: Mapping[str, Mapping[str, str]] = {
    "rbd": {"rbd_ceph_conf": "", "rbd_pool": "volumes"},
    "lvm": {"volume_group": ""},
    "nfs": {"nas_host": "", "nas_share_path": ""},
}
"""Options that say together where volumes are, with what they are unless said: two back ends would count it twice."""

POOLS = ceph.USERS["client.cinder"]["writes"]
"""Pools of the cloud's own Ceph that Cinder's user may write to."""

INSTEAD: Mapping[str, Mapping[str, str]] = {
    "nfs": {
        # The driver puts them after the share's own `-o` as if they were an option's name (os_brick.remotefs.remotefs).
        "nas_mount_options": "say nfs_mount_options here, and [libvirt] nfs_mount_options of Nova",
        "nfs_shares_config": "say nas_host and nas_share_path; each share is a back end",
    }
}
"""Options of a type that do not work, with what does."""

GROUP = "block"
"""Group of the hosts of back ends."""

OF_ALL_HOSTS = ("cinder_backends", "cinder_backup_driver", "cinder_backup_share", "cinder_volume_types")
"""Variables that go together."""

BACKEND_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
"""A section's name, and a part of `host@backend#pool`, by which Cinder knows whose a volume is."""

SECTIONS = frozenset(
    {"DEFAULT", "audit_middleware_notifications", "backend", "backend_defaults", "barbican", "barbican_service_user"}
    | {"brcd_fabric_example", "cache", "cinder_sys_admin", "cisco_fabric_example", "coordination", "cors", "database"}
    | {"fc-zone-manager", "glance", "healthcheck", "identity", "key_manager", "keymgr", "keystone_authtoken", "nova"}
    | {"privsep", "privsep_osbrick", "profiler", "profiler_jaeger", "profiler_otlp", "sample_castellan_source"}
    | {"sample_remote_file_source", "service_user", "ssl", "vault"}
)
"""Sections of cinder-volume.conf that are no back ends; those of Oslo and others begin with OF_OTHERS."""

OF_OTHERS = ("oslo_", "os_")

SHARE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*):/\S*")
"""An NFS share as mount(8) names it."""

COORDINATION = re.compile(r"(file:///|etcd3\+https?://)\S+")
"""Where the lock has a driver of tooz for."""

DESCRIPTION_LENGTH = 255
RESERVED = ("name", "consumer")
"""What QoS specs cannot be called: in the API's documents these stand beside them."""

_pairs = inventory_items.pairs("Cinder", re.compile(r"[A-Za-z0-9_:.-]{1,255}"))


def _qos(value: Any) -> tuple[str, str] | None:
    return None if value == "" else inventory_items.name(value)


def _consumer(value: Any) -> tuple[str, str] | None:
    return None if value in CONSUMERS else ("no consumer", f"use one of {', '.join(CONSUMERS)}")


def _limits(value: Any) -> tuple[str, str] | None:
    for key in RESERVED:
        if isinstance(value, Mapping) and key in value:
            return f"no mapping of QoS specs alone, because it has `{key}`", f"write `{key}` beside `specs`"
    return _pairs(value)


VOLUME_TYPE: Mapping[str, inventory_items.Check] = {
    "name": inventory_items.name,
    "description": inventory_items.description(DESCRIPTION_LENGTH),
    "is_public": inventory_items.truth,
    "projects": inventory_items.texts,
    "extra_specs": _pairs,
    "qos": _qos,
    "state": inventory_items.state,
}
QOS_SPECS: Mapping[str, inventory_items.Check] = {
    "name": inventory_items.name,
    "consumer": _consumer,
    "specs": _limits,
    "state": inventory_items.state,
}


def _types(value: Any, services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, VOLUME_TYPE, ())
    for item in value:
        if item.get("is_public") is True and "projects" in item:
            label = f".{item.get('name')}.projects"
            yield label, "names the projects of a type that all may use", "remove `projects`, or `is_public`"


def _qos_specs(value: Any, services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, QOS_SPECS, ())


def _quotas(value: Any, services: Any) -> Iterator[Mistake]:
    for key, number in value.items():
        of_type = any(str(key).startswith(f"{part}_") and key != f"{part}_" for part in OF_A_TYPE)
        if key not in QUOTAS and not of_type:
            meant = near(str(key), QUOTAS)
            remedy = f"is {meant} meant?" if meant else f"use {', '.join(QUOTAS)}, or {OF_A_TYPE[0]}_TYPE and the like"
            yield f".{key}", "is no resource of a quota", remedy
        if not is_number(number) or not -1 <= number <= inventory_items.MAXIMUM:
            yield f".{key}", f"{shown(number)} is no quota", "write a whole number, or -1 for no limit"


def _backends(value: Any, services: Any) -> Iterator[Mistake]:
    for name, item in value.items():
        if not isinstance(name, str) or not BACKEND_NAME.fullmatch(name):
            yield f".{name}", f"{shown(name)} is no name of a back end", "use at most 63 letters, digits, - and _"
        elif name in SECTIONS or name.startswith(OF_OTHERS):
            yield f".{name}", "is a section of Cinder's file with another meaning", "choose another name"
        if not isinstance(item, Mapping):
            yield f".{name}", f"{shown(item)} is no mapping", "write {type: rbd}"
            continue
        yield from _backend(f".{name}", item)
    for kind, keys in PLACES.items():
        known: dict[tuple[str, ...], Any] = {}
        for name, item in value.items():
            place = tuple(str(item.get(key, usual)) for key, usual in keys.items()) if isinstance(item, Mapping) else ()
            if any(place) and item.get("type") == kind:
                other = known.setdefault(place, name)
                if other != name:
                    last = list(keys)[-1]
                    yield f".{name}.{last}", f"is that of {other} too", "give each back end a place of its own"


def _backend(label: str, item: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what is wrong with one back end."""
    kind = item.get("type")
    if kind is None:
        if not item.get("volume_driver"):
            remedy = f"write `type: {'` or `type: '.join(TYPES)}`, or the driver's class as `volume_driver`"
            yield label, "has neither `type` nor `volume_driver`", remedy
    elif kind not in TYPES:
        meant = near(str(kind), TYPES)
        hint = f"is {meant} meant?" if meant else f"use one of {', '.join(TYPES)}, or `volume_driver` without a type"
        yield f"{label}.type", f"{shown(kind)} is no type of back end", hint
    for key in TYPES.get(str(kind), ()):
        if not item.get(key):
            yield label, f"has no `{key}`", f"add `{key}: ...`"
    if kind == "nfs" and item.get("nas_host") and item.get("nas_share_path"):
        share = f"{item['nas_host']}:{item['nas_share_path']}"
        if not SHARE.fullmatch(share):
            remedy = "write a name or an address, IPv6 in brackets, and a path that begins with /"
            yield f"{label}.nas_share_path", f"{shown(share)} is no share", remedy
    pool = item.get("rbd_pool", POOLS[0])
    if kind == "rbd" and pool not in POOLS and not item.get("rbd_ceph_conf"):
        remedy = f"use {POOLS[0]}, or name another cluster's rbd_ceph_conf"
        yield f"{label}.rbd_pool", f"{shown(pool)} is no pool that Cinder may write to", remedy
    for key, one in item.items():
        if key in INSTEAD.get(str(kind), {}):
            yield f"{label}.{key}", "does not work with this type", INSTEAD[str(kind)][key]
        elif isinstance(one, Mapping):
            yield f"{label}.{key}", "is a mapping, and no value", "write a text, a number or a list"


def _share(value: Any, services: Any) -> Iterator[Mistake]:
    if value and not SHARE.fullmatch(value):
        yield "", f"{shown(value)} is no share", "write host:/path, an IPv6 address in brackets"


def _coordination(value: Any, services: Any) -> Iterator[Mistake]:
    if value and not COORDINATION.fullmatch(value):
        remedy = "write etcd3+https://host:2379 and the like, or leave it out for files of each host"
        yield "", f"{shown(value)} is no place for locks", remedy


def mistakes(
    variables: Mapping[str, Any], services: Container[str], members: Mapping[str, Sequence[str]]
) -> list[tuple[str, Mistake]]:
    """Return what is wrong between variables, as variable and mistake; each alone has been checked by RULES."""
    backends: Mapping[str, Mapping[str, Any]] = variables["cinder_backends"]
    found: list[tuple[str, Mistake]] = []
    if not backends and members.get(GROUP):
        remedy = f"name one such as ceph: {{type: rbd}}, or take the hosts out of the group {GROUP}"
        found.append(("cinder_backends", ("", "is empty, and cinder-volume does not run without one", remedy)))
    driver = variables["cinder_backup_driver"]
    if driver == "swift" and "swift" not in services:
        hint = "add swift to brume_services, or choose another driver"
        found.append(("cinder_backup_driver", ("", "puts backups into Swift, which this cloud does not have", hint)))
    if driver == "nfs" and not variables["cinder_backup_share"]:
        found.append(("cinder_backup_share", ("", "is missing, and backups go to NFS", "write host:/path")))
    chosen = variables["cinder_default_volume_type"]
    known = _type_names(variables)
    wanted = chosen or next(iter(backends), MIGRATED_TYPE)
    if wanted not in known:
        message = f"{shown(wanted)} is no volume type of this cloud"
        if not chosen:
            message = f"is not said, and {message}"
        hint = f"use one of {', '.join(known)}, or declare it in cinder_volume_types"
        found.append(("cinder_default_volume_type", ("", message, hint)))
    return found


def _type_names(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the volume types that a cloud has after a run; Cinder brings one along."""
    items = types_of(variables["cinder_backends"], variables["cinder_volume_types"])
    gone = {one["name"] for one in items if not present(one)}
    return [name for name in dict.fromkeys([*(one["name"] for one in items), MIGRATED_TYPE]) if name not in gone]


RULES: Mapping[str, Rule] = {
    "cinder_backends": _backends,
    "cinder_backup_share": _share,
    "cinder_coordination_url": _coordination,
    "cinder_volume_types": _types,
    "cinder_qos_specs": _qos_specs,
    "cinder_default_quotas": _quotas,
}
