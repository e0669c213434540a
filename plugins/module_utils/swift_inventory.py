"""What the inventory says about Swift's storage policies, rings and devices: what is wrong, and the rings it comes to.

Pure. Rules of policies are those of swift.conf (docs.openstack.org/swift: storage policies, erasure code), those of
rings and devices are RingBuilder's (swift.common.ring.builder).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.convergence import duplicates
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, Rule, is_number, near, shown

GROUP = "object"
"""Group of the storage hosts."""

ACCOUNT, CONTAINER, OBJECT = "account", "container", "object"
PORTS = {ACCOUNT: 6202, CONTAINER: 6201, OBJECT: 6200}
"""TCP port of the server of each kind of ring (docs.openstack.org/swift: deployment guide)."""

PART_POWER_MAXIMUM = 32
"""swift-ring-builder's limit."""

DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
POLICY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
"""swift.common.storage_policy: letters, digits and dashes, and no number."""

RING_KEYS = ("part_power", "replicas", "min_part_hours", "overload")
ERASURE_KEYS = ("ec_type", "ec_num_data_fragments", "ec_num_parity_fragments")
ERASURE_NUMBERS = (*ERASURE_KEYS[1:], "ec_object_segment_size", "ec_duplication_factor")
POLICY_KEYS = (
    "index",
    "name",
    "aliases",
    "default",
    "deprecated",
    "policy_type",
    "ec_type",
    *ERASURE_NUMBERS,
)
DEVICE_KEYS = ("name", "path", "weight", "rings", "lost")


OF_ALL_HOSTS = ("swift_part_power", "swift_replicas", "swift_min_part_hours", "swift_rings", "swift_storage_policies")
"""Variables that say what rings are, whatever their devices."""

RESERVED_NAME = "policy-0"
"""swift.common.storage_policy: what the policy of objects from before there were policies is called."""


def _is_amount(value: Any, least: float) -> bool:
    """Say whether a value is a number that is not below another; YAML has `.inf` and `.nan` too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf


def _part_power(value: Any) -> tuple[str, str] | None:
    if is_number(value) and 1 <= value <= PART_POWER_MAXIMUM:
        return None
    return "no part power", f"write a whole number from 1 to {PART_POWER_MAXIMUM}"


def _replicas(value: Any) -> tuple[str, str] | None:
    return None if _is_amount(value, 1) else ("no number of replicas", "write a number, at least 1")


def _hours(value: Any) -> tuple[str, str] | None:
    fits = is_number(value) and value >= 0
    return None if fits else ("no number of hours", "write a whole number, at least 0")


def _share(value: Any) -> tuple[str, str] | None:
    return None if _is_amount(value, 0) else ("no share", "write a number, such as 0.1 for a tenth")


_CHECKS: Mapping[str, Callable[[Any], tuple[str, str] | None]] = {
    "part_power": _part_power,
    "replicas": _replicas,
    "min_part_hours": _hours,
    "overload": _share,
}


def _checked(check: Callable[[Any], tuple[str, str] | None]) -> Rule:
    def rule(value: Any, _services: Any) -> Iterable[Mistake]:
        found = check(value)
        return [("", f"{shown(value)} is {found[0]}", found[1])] if found else []

    return rule


def _rings(value: Any, _services: Any) -> Iterable[Mistake]:
    for name, keys in value.items():
        if not isinstance(keys, Mapping):
            yield f".{name}", f"{shown(keys)} is no mapping", f"write {', '.join(RING_KEYS)} below it"
            continue
        for key, item in keys.items():
            if key not in RING_KEYS:
                yield f".{name}.{key}", "is not a key of a ring", "use one of " + ", ".join(RING_KEYS)
            elif found := _CHECKS[key](item):
                yield f".{name}.{key}", f"{shown(item)} is {found[0]}", found[1]


def _unknown(place: str, item: Mapping[Any, Any], keys: Sequence[str]) -> Iterable[Mistake]:
    for key in item:
        if key not in keys:
            meant = near(str(key), keys)
            remedy = f"is {meant} meant?" if meant else "use one of " + ", ".join(keys)
            yield f"{place}.{key}", "is not a key here", remedy


def _policies(value: Any, _services: Any) -> Iterable[Mistake]:
    if not value:
        return [("", "is empty", "describe the policy with index 0 at least")]
    single = [one for place, item in enumerate(value) for one in _policy(f"[{place}]", item)]
    return single or _together(value)


def _together(value: Sequence[Mapping[str, Any]]) -> Iterable[Mistake]:
    names = [name for item in value for name in (item["name"], *item.get("aliases", ()))]
    for what, said in (("index", [item["index"] for item in value]), ("name", names)):
        twice = duplicates(str(one).lower() for one in said)
        if twice:
            yield "", f"has the {what} {', '.join(twice)} twice", "give each policy its own"
    if 0 not in [item["index"] for item in value]:
        yield "", "has no policy with the index 0, which old containers have", "add one"
    chosen = [item["name"] for item in value if item.get("default")]
    if len(chosen) != 1:
        yield "", f"has {len(chosen)} policies with `default: true`", "say it of one"
    if any(item.get("default") and item.get("deprecated") for item in value):
        yield "", "has a default policy that is deprecated", "choose another default"


def _policy(where: str, item: Mapping[str, Any]) -> Iterable[Mistake]:
    yield from _unknown(where, item, POLICY_KEYS)
    if not is_number(item.get("index")) or item["index"] < 0:
        yield f"{where}.index", f"{shown(item.get('index'))} is no index", "write a whole number, at least 0"
    aliases = item.get("aliases", [])
    if not isinstance(aliases, list):
        yield f"{where}.aliases", f"{shown(aliases)} is no list", "write [other-name]"
        aliases = []
    for key, name in (("name", item.get("name")), *(("aliases", alias) for alias in aliases)):
        if not isinstance(name, str) or not POLICY_NAME.fullmatch(name) or name.isdecimal():
            remedy = "write letters, digits and dashes, and no number"
            yield f"{where}.{key}", f"{shown(name)} is no name", remedy
        elif name.lower() == RESERVED_NAME and item.get("index"):
            yield f"{where}.{key}", f"{name} is reserved for the policy with the index 0", "choose another"
    for key in ("default", "deprecated"):
        if not isinstance(item.get(key, False), bool):
            yield f"{where}.{key}", f"{shown(item[key])} is neither true nor false", "write true or false"
    yield from _erasure(where, item)


def _erasure(where: str, item: Mapping[str, Any]) -> Iterable[Mistake]:
    kind = item.get("policy_type", "replication")
    if kind not in ("replication", "erasure_coding"):
        yield f"{where}.policy_type", f"{shown(kind)} is no type", "write replication or erasure_coding"
        return
    said = [key for key in item if str(key).startswith("ec_")]
    if kind == "replication" and said:
        yield f"{where}.{said[0]}", "is only for erasure_coding", "remove it, or say policy_type: erasure_coding"
    if kind == "erasure_coding":
        for key in ERASURE_KEYS:
            if key not in item:
                yield f"{where}.{key}", "is missing", "an erasure-coded policy needs it"
        if not isinstance(item.get("ec_type", ""), str):
            yield f"{where}.ec_type", f"{shown(item['ec_type'])} is no type", "write one such as liberasurecode_rs_vand"
        for key in said:
            if key in ERASURE_NUMBERS and (not is_number(item[key]) or item[key] < 1):
                yield f"{where}.{key}", f"{shown(item[key])} is no number", "write a whole number, at least 1"


def _devices(value: Any, _services: Any) -> Iterable[Mistake]:
    for place, item in enumerate(value):
        where = f"[{place}]"
        yield from _unknown(where, item, DEVICE_KEYS)
        name, path, weight = item.get("name"), item.get("path"), item.get("weight", 100)
        if not isinstance(name, str) or not DEVICE_NAME.fullmatch(name):
            yield f"{where}.name", f"{shown(name)} is no name of a device", "write one for /srv/node, such as sdb"
            return
        if not isinstance(path, str) or not path.startswith("/dev/"):
            yield f"{where}.path", f"{shown(path)} is no device", "write its path, such as /dev/disk/by-path/..."
        if not _is_amount(weight, 0):
            remedy = "write a number, at least 0; 0 takes all partitions off the device"
            yield f"{where}.weight", f"{shown(weight)} is no weight", remedy
        if not isinstance(item.get("lost", False), bool):
            yield f"{where}.lost", f"{shown(item['lost'])} is neither true nor false", "write true or false"
        rings = item.get("rings", [])
        if not isinstance(rings, list) or not all(isinstance(one, str) for one in rings):
            yield f"{where}.rings", f"{shown(rings)} is no list of rings", "write [account, container, object]"
    for key in ("name", "path"):
        twice = duplicates(str(item.get(key)) for item in value)
        if twice:
            yield "", f"{', '.join(twice)} is the {key} of two devices", "give each its own"


RULES: Mapping[str, Rule] = {
    "swift_part_power": _checked(_part_power),
    "swift_replicas": _checked(_replicas),
    "swift_min_part_hours": _checked(_hours),
    "swift_rings": _rings,
    "swift_storage_policies": _policies,
    "swift_devices": _devices,
}


def ring_name(policy: Mapping[str, Any]) -> str:
    """Return how the ring of a storage policy is called."""
    return f"{OBJECT}-{policy['index']}" if policy["index"] else OBJECT


def ring_of_folder(name: str) -> str:
    """Return the ring whose partitions lie in a folder of a device, such as `objects-1`."""
    kind, dash, index = name.partition("-")
    return f"{kind.removesuffix('s')}{dash}{index}"


def _fragments(policy: Mapping[str, Any]) -> int | None:
    """Return how many fragments an object has, None where it has replicas."""
    if policy.get("policy_type") != "erasure_coding":
        return None
    pieces = int(policy["ec_num_data_fragments"]) + int(policy["ec_num_parity_fragments"])
    return pieces * int(policy.get("ec_duplication_factor", 1))


def kinds(variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what each ring has to be, without devices, by its name: the cloud's values, then the ring's own."""
    common = {
        "part_power": variables["swift_part_power"],
        "replicas": variables["swift_replicas"],
        "min_part_hours": variables["swift_min_part_hours"],
        "overload": 0.0,
    }
    fragments: dict[str, int | None] = {ACCOUNT: None, CONTAINER: None}
    fragments |= {ring_name(policy): _fragments(policy) for policy in variables["swift_storage_policies"]}
    return {
        name: common | ({"replicas": count} if count else {}) | dict(variables["swift_rings"].get(name, {}))
        for name, count in fragments.items()
    }


def rings(
    cloud: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rings as M(brume.cloud.swift_ring) takes them.

    `cloud` are variables that hold for all; `hosts` are those of the storage hosts, `addresses` theirs by network.
    """
    found = []
    for name, kind in kinds(cloud).items():
        port = PORTS[name.partition("-")[0]]
        devices = [
            {
                "region": variables["swift_region"],
                "zone": variables["swift_zone"],
                "ip": str(addresses[host]["storage"]),
                "port": port,
                "replication_ip": str(addresses[host]["replication"]),
                "replication_port": port,
                "device": device["name"],
                "weight": float(device.get("weight", 100)),
                "meta": host,
            }
            for host, variables in hosts.items()
            for device in variables["swift_devices"]
            if name in device.get("rings", [name]) and not device.get("lost")
        ]
        found.append({"name": name, **kind, "devices": devices})
    return found


def lost(hosts: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the devices that are gone for good, as M(brume.cloud.swift_ring) takes them."""
    return [
        f"{addresses[host]['storage']}/{device['name']}"
        for host, variables in hosts.items()
        for device in variables["swift_devices"]
        if device.get("lost")
    ]


def mistakes(cloud: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Mistake]]:
    """Return what is wrong between variables, as host, variable and mistake; the host is empty for the cloud's.

    Each variable alone has been checked by RULES.
    """
    found: list[tuple[str, str, Mistake]] = []
    known = kinds(cloud)
    for name in cloud["swift_rings"]:
        if name not in known:
            found.append(("", "swift_rings", (f".{name}", "is no ring", "use one of " + ", ".join(known))))
    for policy in cloud["swift_storage_policies"]:
        pieces, name = _fragments(policy), ring_name(policy)
        if pieces and known[name]["replicas"] != pieces:
            message = f"{known[name]['replicas']} is not the number of the policy's fragments, {pieces}"
            found.append(("", "swift_rings", (f".{name}.replicas", message, "leave it out")))
    for host, variables in hosts.items():
        found += _host_mistakes(host, variables, known)
    usable = [
        name
        for variables in hosts.values()
        for device in variables["swift_devices"]
        for name in device.get("rings", known)
        if not device.get("lost") and device.get("weight", 100) > 0
    ]
    for name, kind in known.items():
        count = usable.count(name)
        if hosts and count < kind["replicas"] and all(variables["swift_devices"] for variables in hosts.values()):
            copies = f"{kind['replicas']:g} replicas"
            message = f"leave {count} devices with a weight for the ring {name}, which has {copies}"
            found.append((next(iter(hosts)), "swift_devices", ("", message, "add devices, or lower swift_replicas")))
    return found


def _host_mistakes(
    host: str, variables: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterable[tuple[str, str, Mistake]]:
    """Yield what is wrong with a storage host."""
    if not variables["swift_devices"]:
        yield host, "swift_devices", ("", f"says no device of {host}", "write [{name: sdb, path: /dev/sdb}]")
    for key in ("swift_region", "swift_zone"):
        if variables[key] < 1:
            message = f"{variables[key]} of {host} is no {key.partition('_')[2]}"
            yield host, key, ("", message, "write a whole number, at least 1, of what fails together")
    for place, device in enumerate(variables["swift_devices"]):
        for name in device.get("rings", ()):
            if name not in known:
                remedy = "use one of " + ", ".join(known)
                yield host, "swift_devices", (f"[{place}].rings", f"`{name}` is no ring", remedy)
    names = [device["name"] for device in variables["swift_devices"]]
    for place, name in enumerate(variables["swift_format"]):
        if name not in names:
            remedy = f"use one of {', '.join(names)}, or remove it"
            yield host, "swift_format", (f"[{place}]", f"{name} is no device of {host}", remedy)
