"""What the inventory says about Ceph's hosts, devices and pools: what is wrong with it. Pure.

RULES are the plan's rules for values of variables, see inventory_checks.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import ceph, inventory_items
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, Rule, is_number, near, shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
DOMAINS = ("osd", "host", "chassis", "rack", "row", "room", "datacenter")
"""What a rule may keep copies apart by (docs.ceph.com: CRUSH maps, types and buckets)."""

PLACES = tuple(domain for domain in DOMAINS if domain not in ("osd", "host"))
SIZE_MAXIMUM = 10
"""Most copies that a pool may have (OSDMonitor::prepare_command_pool_set)."""

USERS = (("glance", "glance_stores", "rbd_store", "images"), ("cinder", "cinder_backends", "rbd", "volumes"))
"""Service, variable with items of the type rbd, how their options begin, and the pool that they use unless said."""

LOGINS = {
    "glance_stores": "client.glance",
    "cinder_backends": "client.cinder",
    "nova_images_type": "client.nova",
    "cinder_backup_driver": "client.cinder-backup",
}
"""User of Ceph by the variable that wants one."""

Wanted = tuple[str, str, Mistake]
"""Host (nothing for the cloud), variable, mistake."""


def _name(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, str) and NAME.fullmatch(value)
    return None if fits else ("no name", "use letters, digits and - _ .")


def _path(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, str) and value.startswith("/dev/")
    return None if fits else ("no device", "write its path, such as /dev/disk/by-path/...")


def _pool_name(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, str) and POOL_NAME.fullmatch(value)
    return None if fits else ("no name of a pool", "use letters, digits and - _ .")


def _size(value: Any) -> tuple[str, str] | None:
    fits = is_number(value) and 2 <= value <= SIZE_MAXIMUM  # noqa: PLR2004  # one copy is none when its disk is gone
    return None if fits else ("no number of copies", f"write a whole number from 2 to {SIZE_MAXIMUM}")


def _ratio(value: Any) -> tuple[str, str] | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    return None if fits else ("no share", "write a number from 0 to 1")


def _one_of(values: Sequence[str], what: str) -> inventory_items.Check:
    return lambda value: None if value in values else (f"no {what}", f"use one of {', '.join(values)}")


DEVICE: Mapping[str, inventory_items.Check] = {"name": _name, "path": _path, "lost": inventory_items.truth}
POOL: Mapping[str, inventory_items.Check] = {
    "name": _pool_name,
    "size": _size,
    "min_size": inventory_items.count(1, "copies"),
    "pg_autoscale_mode": _one_of(("on", "off", "warn"), "mode"),
    "target_size_ratio": _ratio,
    "application": _name,
    "failure_domain": _one_of(DOMAINS, "failure domain"),
}


def _devices(value: Any, _services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, DEVICE, ("path",))


def _pools(value: Any, _services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, POOL, ())
    for item in value:
        size, least = item.get("size"), item.get("min_size")
        if is_number(size) and is_number(least) and least > size:
            yield f".{item.get('name')}.min_size", f"{least} is more than the {size} copies", "write at most as many"


def _pool_size(value: Any, _services: Any) -> Iterable[Mistake]:
    wrong = _size(value)
    return [("", f"{shown(value)} is {wrong[0]}", wrong[1])] if wrong else []


def _location(value: Any, _services: Any) -> Iterator[Mistake]:
    for kind, place in value.items():
        if kind not in PLACES:
            meant = near(str(kind), PLACES)
            yield f".{kind}", "is no kind of place", f"is {meant} meant?" if meant else f"use {', '.join(PLACES)}"
        elif _name(place):
            yield f".{kind}", f"{shown(place)} is no name", "use letters, digits and - _ ."


RULES: Mapping[str, Rule] = {
    "ceph_devices": _devices,
    "ceph_pools": _pools,
    "ceph_pool_size": _pool_size,
    "ceph_crush_location": _location,
}


def mistakes(
    first: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    members: Mapping[str, Sequence[str]],
    services: Container[str],
    external: bool = False,
) -> Iterator[Wanted]:
    """Yield what does not go together; `hosts` are the variables of those with OSDs, `first` those of the cloud.

    Of a cluster that is `external` nobody knows the pools before a host asks it.
    """
    monitors = members[ceph.MONITORS]
    if not monitors and hosts:
        message = f"the group `{ceph.OSDS}` has hosts, and `{ceph.MONITORS}` has none"
        yield "", "inventory", ("", message, f"add one host or three to {ceph.MONITORS}")
    for host, variables in hosts.items():
        devices = variables["ceph_devices"]
        if not devices:
            yield host, "ceph_devices", ("", f"is empty for {host}", f"name its disks, or take it out of {ceph.OSDS}")
        known = [one["name"] for one in devices]
        for key in ("ceph_format", "ceph_replace"):
            for name in variables[key]:
                if name not in known:
                    message = f"names {shown(name)}, which is no device of {host}"
                    yield host, key, ("", message, f"use {', '.join(known)}")
    if hosts:
        yield from _too_few(first, hosts)
    if not external:
        yield from _no_pools(first, services, bool(monitors))


def _too_few(first: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[Wanted]:
    """Yield the pools with more copies than there are places for them."""
    for pool in first["ceph_pools"]:
        domain = pool.get("failure_domain", first["ceph_failure_domain"])
        size = pool.get("size", first["ceph_pool_size"])
        count = len(_places(domain, hosts))
        if count < size:
            message = f"{size} copies of {pool['name']} do not share a {domain}, and there are {count}"
            remedy = "add hosts, say in ceph_crush_location where they stand, or choose fewer copies or another domain"
            yield "", "ceph_pools" if "size" in pool else "ceph_pool_size", ("", message, remedy)
            return


def _places(domain: str, hosts: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the places of a kind in which there are OSDs."""
    if domain == "osd":
        return {f"{host}/{one['name']}" for host, said in hosts.items() for one in said["ceph_devices"]}
    if domain == "host":
        return set(hosts)
    return {said["ceph_crush_location"][domain] for said in hosts.values() if domain in said["ceph_crush_location"]}


def _no_pools(first: Mapping[str, Any], services: Container[str], there: bool) -> Iterator[Wanted]:
    """Yield what would use a cluster or a pool that is not there."""
    pools = [one["name"] for one in first["ceph_pools"]]
    for variable, place, pool in _users(first, services):
        if not there:
            message, remedy = "lies in Ceph, which this cloud does not have", f"add hosts to the group {ceph.MONITORS}"
            yield "", variable, (f"{place}.type" if place else "", message, remedy)
        elif pool not in pools:
            meant = near(pool, pools)
            remedy = f"is {meant} meant?" if meant else "add it to ceph_pools"
            yield "", variable, (place, f"uses the pool {pool}, which is not in ceph_pools", remedy)


def users(first: Mapping[str, Any], services: Container[str]) -> list[str]:
    """Return the users of Ceph that a cloud's services log in as."""
    return sorted({LOGINS[variable] for variable, _place, _pool in _users(first, services)})


def _users(first: Mapping[str, Any], services: Container[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the variable, the place in it and the pool of whatever uses the cloud's cluster."""
    for service, variable, option, pool in USERS:
        items = first[variable].items() if service in services else ()
        for name, one in items:
            if isinstance(one, Mapping) and one.get("type") == "rbd" and not one.get(f"{option}_ceph_conf"):
                yield variable, f".{name}", str(one.get(f"{option}_pool", pool))
    if "nova" in services and first["nova_images_type"] == "rbd":
        yield "nova_images_type", "", "vms"
    if "cinder" in services and first["cinder_backup_driver"] == "ceph":
        yield "cinder_backup_driver", "", "backups"
