"""What a value of the inventory must be beyond its type, and what hosts and groups must be. Pure, one rule a function.

A rule returns its mistakes; the plan calls it once for each place in which a value was said.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import netaddr
from ansible_collections.brume.cloud.plugins.module_utils import ceph
from ansible_collections.brume.cloud.plugins.module_utils.convergence import duplicates
from ansible_collections.brume.cloud.plugins.module_utils.description import (
    GROUPS,
    REMOVED,
    Problem,
    Service,
    control_character,
)
from ansible_collections.brume.cloud.plugins.module_utils.secrets import is_constant

HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
HOST_NAME_LENGTH = 64
"""Linux's HOST_NAME_MAX; agents report the name as their host."""

DOMAIN_NAME_LENGTH = 253
"""Longest name in DNS (RFC 1035, section 2.3.4, without the root's dot and length octets)."""

INTERFACE_LENGTH = 15
"""Longest name of an interface in bytes: Linux's IFNAMSIZ without the final zero."""

CELL = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""It is a part of names of databases (at most 64 characters in MariaDB), accounts, vhosts and units."""

REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""Keystone stores at most 255 characters; the rest keeps it free of quoting in URLs and files."""

SECRET = re.compile(r"[A-Za-z0-9._~-]{8,}")
"""RFC 3986's unreserved characters: a secret stands in URLs of databases and brokers and in INI files, unquoted."""

NETWORKS = ("management", "tunnel", "api", "external", "storage", "replication")
"""Roles of networks that services use; others may be there, for a service of the operator's own."""

CLOUD_VARIABLES = (
    "brume_release",
    "brume_services",
    "brume_networks",
    "brume_external",
    "brume_region",
    "brume_cells",
    "brume_secret_generations",
    "nova_flavors",
    "nova_aggregates",
    "cinder_volume_types",
    "cinder_qos_specs",
    "cinder_default_quotas",
    "swift_part_power",
    "swift_replicas",
    "swift_min_part_hours",
    "swift_rings",
    "swift_storage_policies",
    "swift_encryption",
    "ceph_pools",
    "ceph_pool_size",
    "ceph_failure_domain",
    "glance_stores",
    "glance_default_store",
    "glance_image_cache",
    "glance_image_cache_max_size",
    "cloud_images",
    "loadbalancer_public_certificate",
    "loadbalancer_public_ca",
)
"""What holds for the cloud, so that two hosts cannot have different values."""

STATE_GROUPS = ("database", "messaging", "loadbalancer")

Mistake = tuple[str, str, str]
"""What follows the variable's name in the place (`.nova/api`), what is wrong, the remedy."""

Rule = Callable[[Any, Mapping[str, Service]], Iterable[Mistake]]


def is_number(value: Any) -> bool:
    """Return whether a value is a whole number; YAML's booleans are numbers to Python."""
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """Return a value as a message shows it: one line, not endless, and no private key."""
    if "PRIVATE KEY" in str(value):
        return "a private key"
    text = " ".join(str(value).encode("utf-8", "backslashreplace").decode().split())
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"  # noqa: PLR2004  # about a line


def near(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant, or nothing."""
    found = difflib.get_close_matches(name, list(known), 1, 0.75)
    return found[0] if found else ""


def _services(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    if not value:
        yield "", "is empty", "name the services to deploy, keystone at least"
    for item in value:
        if not isinstance(item, str):
            yield "", f"{shown(item)} is no service", "write names of services"
    for name in duplicates(str(item) for item in value):
        yield "", f"names {name} twice", "remove one of the two"


def _cells(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    if not value:
        yield "", "is empty", "name one cell at least, such as cell1"
    for item in value:
        if not isinstance(item, str) or not CELL.fullmatch(item):
            remedy = "use at most 32 lower-case letters, digits and underscores, a letter first"
            yield "", f"{shown(item)} is no name of a cell", remedy
        elif item == "cell0":
            yield "", "`cell0` is the cell of instances that no host took; it is always there", "remove it"
    for name in duplicates(str(item) for item in value):
        yield "", f"names {name} twice", "remove one of the two"


def _region(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    if not REGION.fullmatch(value):
        yield "", f"{shown(value)} is no name of a region", "use letters, digits, dots, hyphens and underscores"


def _workers(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    known = {"default"}
    for one in services.values():
        if one.python_packages:
            known |= {one.name, *(f"{one.name}/{name}" for name in one.components)}
    for key, number in value.items():
        if key not in known:
            meant = near(str(key), known)
            hint = f"is {meant} meant?" if meant else "use default, a service, or service/component"
            yield f".{key}", "names no service or component", hint
        if not is_number(number) or number < 1:
            yield f".{key}", f"{shown(number)} is no number of processes", "write a whole number, at least 1"


def _generations(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    for key, number in value.items():
        if not is_number(number) or number < 1:
            yield f".{key}", f"{shown(number)} is no generation", "write a whole number, at least 1"


def _interfaces(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    for role, name in value.items():
        wrong = interface_mistake(name)
        if wrong:
            yield f".{role}", wrong, "write the network interface's name, such as eth0"


def _wheelhouse(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    if value and not re.fullmatch(r"/\S*|https?://[^\s/]+\S*", value):
        remedy = "write a folder with its whole path, or an address with http:// or https://"
        yield "", f"{shown(value)} is no wheelhouse", remedy


def _names(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    for name, address in value.items():
        if domain_name_mistake(name):
            yield f".{name}", domain_name_mistake(name), "write a name on the left, and its address on the right"
        if not isinstance(address, str) or not (netaddr.valid_ipv4(address) or netaddr.valid_ipv6(address)):
            yield f".{name}", f"{shown(address)} is no address", "write the address that the name leads to"


CLEANUP_KINDS = ("allocations", "agents", "records", "environments", "journals")


def _cleanup_kinds(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    for item in value:
        if item not in CLEANUP_KINDS:
            yield "", f"{shown(item)} is nothing that cleanup.yml looks for", "use " + ", ".join(CLEANUP_KINDS)


def _age(value: Any, services: Mapping[str, Service]) -> Iterable[Mistake]:
    if value < 1:  # what is going on now would be old
        yield "", f"{shown(value)} is no age", "write a whole number, at least 1"


RULES: Mapping[str, Rule] = {
    "cleanup_kinds": _cleanup_kinds,
    "cleanup_agent_hours": _age,
    "cleanup_record_days": _age,
    "cleanup_journal_days": _age,
    "brume_services": _services,
    "brume_cells": _cells,
    "brume_region": _region,
    "brume_workers": _workers,
    "brume_secret_generations": _generations,
    "brume_interfaces": _interfaces,
    "brume_wheelhouse": _wheelhouse,
    "host_names": _names,
}
"""By variable; the value has the variable's type already."""


def control_mistake(key: str, value: Any) -> list[Mistake]:
    """Return the mistake of a value that would not come out of a file as it went in; some may have several lines."""
    if key.startswith("loadbalancer_public_"):
        return []  # PEM text, of which the certificates alone are used
    found = control_character(value, breaks=key in ("brume_config", "brume_external"))  # the latter holds certificates
    return [("", f"{found!a} holds a line break or control character", "write it without")] if found else []


def interface_mistake(name: Any) -> str:
    """Return why a value is no name of a network interface, or nothing (dev_valid_name in Linux's net/core/dev.c)."""
    if not isinstance(name, str) or not name:
        return f"{shown(name)} is no interface"
    if len(name.encode("utf-8", "surrogatepass")) > INTERFACE_LENGTH:
        return f"{shown(name)} is longer than {INTERFACE_LENGTH} bytes"
    if name in (".", "..") or re.search(r"[\s/:]", name) or not name.isprintable():
        return f"{shown(name)} has characters that an interface cannot have"
    return ""


def domain_name_mistake(name: Any) -> str:
    """Return why a value is no name that DNS can hold, or nothing."""
    if not isinstance(name, str) or not HOST_NAME.fullmatch(name.lower()) or len(name) > DOMAIN_NAME_LENGTH:
        return f"{shown(name)} is no host name"
    # No top-level domain is a number (RFC 3696, section 2), so this is an address or a part of one.
    return f"{shown(name)} is an address" if name.rpartition(".")[2].isdecimal() else ""


def hosts(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Return what is wrong with the names of hosts and with the groups they are in."""
    problems = []

    def problem(message: str, remedy: str) -> None:
        problems.append(Problem("inventory", message, remedy))

    for name in names:
        if not HOST_NAME.fullmatch(name) or len(name) > HOST_NAME_LENGTH:
            remedy = f"use at most {HOST_NAME_LENGTH} lower-case letters, digits, hyphens and dots"
            problem(f"{shown(name)} is no host name", remedy)
        elif name == "localhost" or name.startswith("localhost."):
            problem(f"`{name}` is every host's name for itself", "give the host a name that others can call it by")
        elif name.rpartition(".")[2].isdecimal():
            problem(f"`{name}` is an address or a number", "give the host a name, and the address in ansible_host")
        elif name in groups:
            problem(f"`{name}` is a host and a group", "give one of them another name")
    # Erlang's nodes are known by the name up to the first dot, and a cluster has each once.
    short: dict[str, str] = {}
    for name in groups.get("messaging", ()):
        first = name.partition(".")[0]
        if first in short:
            problem(f"the brokers {short[first]} and {name} are both `{first}` to each other", "rename one of them")
        short[first] = name
    for name in groups.get(REMOVED, ()):
        both = [group for group in GROUPS if name in groups.get(group, ())]
        if both:
            remedy = (
                f"take it out of {'that' if not both[1:] else 'those'} to remove it, or out of `{REMOVED}` to keep it"
            )
            problem(f"{name} is in `{REMOVED}` and in `{'`, `'.join(both)}`", remedy)
    return [*problems, *exclusive_groups(names, groups)]


def exclusive_groups(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Return the hosts that run instances and, without being controllers, hold the cloud's own state.

    Databases, brokers and load balancers get hosts of their own so that nothing takes their memory; Nova gives a
    compute host's memory to instances as if nothing else were there, and whoever breaks out of an instance has the
    database. A controller that is a compute host too is a small cloud that shares its hosts on purpose, and allowed.
    """
    members = {group: set(groups.get(group, ())) for group in GROUPS}
    problems = []
    for name in names:
        both = [group for group in STATE_GROUPS if name in members[group]]
        if both and name in members["compute"] and name not in members["control"]:
            problems.append(
                Problem(
                    "inventory",
                    f"{name} is in `compute` and in `{'`, `'.join(both)}`, which exclude each other",
                    "take it out of one of them; hosts that are to be both are in `control` too",
                )
            )
    return problems


def even_database_hosts(groups: Mapping[str, Sequence[str]]) -> str:
    """Return the warning of a number of database hosts that has no majority when it is cut in halves, or nothing."""
    text = _even("database hosts", "database", groups)
    return f"{text} (a first deployment is refused)" if text else ""


def even_ceph_monitors(groups: Mapping[str, Sequence[str]]) -> str:
    """Return the same warning for the monitors of Ceph."""
    return _even("hosts of Ceph's monitors", ceph.MONITORS, groups)


def even_ovn_hosts(groups: Mapping[str, Sequence[str]]) -> str:
    """Return the same warning for the hosts of OVN's databases, which are the controllers."""
    return _even("hosts of OVN's databases", "control", groups)


def _even(what: str, group: str, groups: Mapping[str, Sequence[str]]) -> str:
    count = len(groups.get(group, ()))
    if count % 2 or not count:
        return ""
    return (
        f"inventory: even number of {what}: the group `{group}` has {count}, and neither half has the "
        "majority when the network between them breaks; add one or take one out"
    )


def network_names(names: Iterable[str]) -> list[Mistake]:
    """Return the networks that are probably one that services use, misspelled: it would fall back in silence."""
    return [
        (f".{name}", "is no network that services use", f"is {near(name, NETWORKS)} meant?")
        for name in names
        if name not in NETWORKS and near(name, NETWORKS)
    ]


def usable(address: netaddr.IPAddress, cidr: netaddr.IPNetwork) -> bool:
    """Return whether a host can have an address: neither the network's own nor, in IPv4, its broadcast address."""
    return bool(address != cidr.network and (cidr.version == 6 or address != cidr.broadcast))  # noqa: PLR2004


def cidr_mistake(text: Any, cidr: netaddr.IPNetwork) -> tuple[str, str] | None:
    """Return why hosts cannot live in a network, with the remedy."""
    if "/" not in str(text):
        return f"{shown(text)} has no prefix length", f"write for example {text}/{24 if cidr.version == 4 else 64}"  # noqa: PLR2004
    if cidr.ip != cidr.network:
        return f"{shown(text)} has bits of a host set", f"write {cidr.cidr}"
    if cidr.size < 4:  # noqa: PLR2004  # the network's address, a router, a host, the broadcast address
        return f"{cidr} has no room for hosts", "write a larger network, a /30 at least"
    if cidr.ip.is_multicast() or cidr.ip.is_loopback() or cidr.ip.is_link_local() or cidr.prefixlen == 0:
        return f"{cidr} is no network for hosts", "write a private or public network of your own"
    return None


def secret_names(services: Iterable[Service], cells: Iterable[str], hosts: Iterable[str]) -> list[str]:
    """Return the names of all secrets of a cloud."""
    names = {"ca", *(f"host/{host}" for host in hosts)}
    for one in services:
        names |= {*one.secrets, *((f"{one.name}/keystone", f"{one.name}/memcache") if one.auth else ())}
        for kind, stored in (("database", one.databases), ("messaging", one.vhosts)):
            for named in stored:
                plain = [named.name.format(cell=cell) for cell in cells] if named.each else [named.name]
                names |= {f"{one.name}/{kind}/{name}" for name in plain}
    return sorted(names)


def generation_names(said: Iterable[Any], names: Iterable[str]) -> list[Mistake]:
    """Return the keys of brume_secret_generations that are neither a secret's name nor the beginning of one.

    Constants have no generations.
    """
    known, constant = {"default"}, set[str]()
    for name in names:
        parts = name.split("/")
        beginnings = {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
        (constant if is_constant(name) else known).update(beginnings)
    return [
        (f".{key}", "is of a constant: what is stored can only be found and read with it", "leave it out")
        if key in constant
        else (f".{key}", "is no secret of this cloud", _meant(key, known))
        for key in said
        if key not in known
    ]


def explicit_secrets(said: Any, names: Iterable[str]) -> list[Problem]:
    """Return what is wrong with brume_secrets; no message holds a value."""
    if not isinstance(said, Mapping):
        return [Problem("brume_secrets", "is no mapping", "write `nova/keystone: <value>` lines below it")]
    known = [name for name in names if name != "ca" and not name.startswith("host/")]  # those are keys, always derived
    problems = []
    for key, value in said.items():
        place = f"brume_secrets.{key}"
        if key not in known:
            problems.append(Problem(place, "is no secret of this cloud", _meant(key, known)))
        if not isinstance(value, str):
            problems.append(Problem(place, "is no string", "write the value in quotes"))
        elif key == "keystone/admin" and value.isprintable() and value.strip():
            continue  # sent as JSON and shown in YAML: any password that a person can type
        elif not SECRET.fullmatch(value) and not ceph.is_key(value):
            remedy = "use letters, digits, and - . _ ~, 8 at least, because it stands in addresses and files unquoted"
            problems.append(Problem(place, "is too short or has characters that need quoting", remedy))
    return problems


def _meant(key: Any, known: Iterable[str]) -> str:
    meant = near(str(key), known)
    return f"is {meant} meant?" if meant else "secrets are named like nova/keystone and nova/database/nova_api"
