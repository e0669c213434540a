"""Infrastructure that somebody else runs, as `brume_external` names it: a database, a broker, a load balancer. Pure.

Brume makes nothing there. Databases, vhosts and accounts exist before the first deployment, their passwords are in
brume_secrets, and the load balancer forwards what the plan's summary lists. Every connection is TLS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import netaddr
from ansible_collections.brume.cloud.plugins.module_utils import inventory_checks, trust_store
from ansible_collections.brume.cloud.plugins.module_utils.description import PORT_MAXIMUM, Problem
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, shown

KEYS: Mapping[str, tuple[str, ...]] = {
    "database": ("host", "port", "ca_file", "accounts"),
    "messaging": ("hosts", "port", "ca_file", "accounts"),
    "loadbalancer": ("internal", "public", "ca_file"),
}
"""What each may say; the first of a group's keys must be there."""

PORTS = {"database": 3306, "messaging": 5671}
STORED = {"database": "database", "messaging": "vhost"}
"""What an account is for."""

_ACCOUNT = re.compile(r"[A-Za-z0-9._~-]{1,80}")
"""RFC 3986's unreserved characters, since it stands in URLs; MariaDB keeps at most 80 characters of a name."""

_PATH = re.compile(r"(/[A-Za-z0-9._~+-]+)+")


@dataclass(frozen=True)
class Server:
    """A database, or the members of a broker's cluster. `accounts` are by database or vhost."""

    hosts: tuple[str, ...]
    port: int
    ca_file: str
    accounts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadBalancer:
    """Where endpoints are: `internal` for services, `public` for users."""

    internal: str
    public: str
    ca_file: str


@dataclass(frozen=True)
class External:
    """All of it; what is None belongs to the cloud itself."""

    database: Server | None = None
    messaging: Server | None = None
    loadbalancer: LoadBalancer | None = None

    def groups(self) -> tuple[str, ...]:
        """Return the groups that have no host, because what they would run is external."""
        return tuple(group for group in KEYS if getattr(self, group) is not None)


def read(data: Mapping[str, Any]) -> tuple[External, list[Mistake]]:
    """Return what brume_external says, and its mistakes; a part that has any is taken as external all the same."""
    mistakes: list[Mistake] = []
    found: dict[str, Server | LoadBalancer] = {}
    for group, value in data.items():
        if group not in KEYS:
            mistakes.append((f".{group}", "cannot be external", "use one of " + ", ".join(KEYS)))
            continue
        if not isinstance(value, Mapping):
            mistakes.append((f".{group}", "is no mapping", f"write {', '.join(KEYS[group])} below it"))
            value = {}  # noqa: PLW2901
        else:
            mistakes += _keys(group, value)
        ca_file = _ca_file(f".{group}", value, mistakes)
        if group == "loadbalancer":
            internal = _host(f".{group}.internal", value.get("internal"), mistakes) if "internal" in value else ""
            public = _host(f".{group}.public", value["public"], mistakes) if "public" in value else internal
            found[group] = LoadBalancer(internal, public, ca_file)
            continue
        hosts = _hosts(group, value, mistakes)
        found[group] = Server(hosts, _port(group, value, mistakes), ca_file, _accounts(group, value, mistakes))
    return External(**found), mistakes  # type: ignore[arg-type]  # each group has its own type


def _keys(group: str, value: Mapping[str, Any]) -> Iterable[Mistake]:
    for key in value:
        if key in ("administrator", "user", "password"):
            remedy = "make databases, vhosts and accounts there yourself, and put their passwords into brume_secrets"
            yield f".{group}.{key}", "is not supported: Brume makes no account on external infrastructure", remedy
        elif key not in KEYS[group]:
            yield f".{group}.{key}", "is no key of it", "use one of " + ", ".join(KEYS[group])
    if KEYS[group][0] not in value:
        yield f".{group}.{KEYS[group][0]}", "is missing", "write the name or address that hosts reach it by"


def _host(place: str, value: Any, mistakes: list[Mistake]) -> str:
    """Return a name or address."""
    remedy = "write the name or address that all hosts reach it by"
    if isinstance(value, str) and (netaddr.valid_ipv4(value, netaddr.INET_PTON) or netaddr.valid_ipv6(value)):
        address = netaddr.IPAddress(value)
        if address.is_loopback() or address.is_multicast() or not int(address):
            mistakes.append((place, f"{address} is no address of one host for all", remedy))
        return str(address)
    wrong = inventory_checks.domain_name_mistake(value)
    if not wrong and str(value).lower().split(".")[0] == "localhost":
        wrong = f"{shown(value)} is every host's name for itself"
    if wrong:
        mistakes.append((place, wrong, remedy))
    return str(value)


def _hosts(group: str, value: Mapping[str, Any], mistakes: list[Mistake]) -> tuple[str, ...]:
    if KEYS[group][0] not in value:
        return ()
    if group == "database":
        return (_host(f".{group}.host", value["host"], mistakes),)
    listed = value["hosts"]
    if not isinstance(listed, list) or not listed:
        mistakes.append((f".{group}.hosts", f"{shown(listed)} is no list of hosts", "write [one, other]"))
        return ()
    hosts = tuple(_host(f".{group}.hosts", item, mistakes) for item in listed)
    for name in dict.fromkeys(one for one in hosts if hosts.count(one) > 1):
        mistakes.append((f".{group}.hosts", f"names {name} twice", "remove one of the two"))
    return hosts


def _port(group: str, value: Mapping[str, Any], mistakes: list[Mistake]) -> int:
    port = value.get("port", PORTS[group])
    if inventory_checks.is_number(port) and 0 < port <= PORT_MAXIMUM:
        return int(port)
    mistakes.append((f".{group}.port", f"{shown(port)} is no port", f"write a number from 1 to {PORT_MAXIMUM}"))
    return PORTS[group]


def _ca_file(place: str, value: Mapping[str, Any], mistakes: list[Mistake]) -> str:
    path = value.get("ca_file", trust_store.BUNDLE)
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        remedy = "write the whole path of a PEM file on the hosts, of letters, digits, and . _ ~ + -"
        mistakes.append((f"{place}.ca_file", f"{shown(path)} is no path that URLs can hold", remedy))
    return str(path)


def _accounts(group: str, value: Mapping[str, Any], mistakes: list[Mistake]) -> Mapping[str, str]:
    accounts = value.get("accounts", {})
    if not isinstance(accounts, Mapping):
        remedy = f"write `{STORED[group]}: account` lines below it"
        mistakes.append((f".{group}.accounts", "is no mapping", remedy))
        return {}
    for name, account in accounts.items():
        if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
            message = f"{shown(account)} is no account that URLs can hold"
            mistakes.append((f".{group}.accounts.{name}", message, "use letters, digits, and - . _ ~"))
    return accounts


def unknown_accounts(external: External, databases: Iterable[str], vhosts: Iterable[str]) -> list[Mistake]:
    """Return the keys of `accounts` that are no database or vhost of the cloud."""
    mistakes = []
    for group, server, names in (
        ("database", external.database, list(databases)),
        ("messaging", external.messaging, list(vhosts)),
    ):
        for name in server.accounts if server else ():
            if name not in names:
                meant = inventory_checks.near(str(name), names)
                remedy = f"is {meant} meant?" if meant else "use one of " + ", ".join(names)
                mistakes.append((f".{group}.accounts.{name}", f"is no {STORED[group]} of this cloud", remedy))
    return mistakes


def group_mistakes(external: External, groups: Mapping[str, Iterable[str]]) -> list[Mistake]:
    """Return the groups that have hosts although what they would run is external."""
    return [
        (f".{group}", f"is external, and the group `{group}` has hosts: {', '.join(groups[group])}", _EITHER)
        for group in external.groups()
        if groups.get(group)
    ]


_EITHER = "take the hosts out of the group, or remove this"


def network_mistakes(external: External, networks: Mapping[str, Any]) -> list[Mistake]:
    """Return what brume_networks says that an external load balancer says already."""
    if external.loadbalancer is None:
        return []
    return [
        (f".{name}.{key}", "is the load balancer's, which is external", f"say it as brume_external.loadbalancer.{part}")
        for name, part in (("management", "internal"), ("api", "public"))
        for key in ("vip", "fqdn")
        if isinstance(networks.get(name), Mapping) and networks[name].get(key)
    ]


def generation_mistakes(external: External, said: Iterable[Any]) -> list[Mistake]:
    """Return the generations that would be of secrets which others keep."""
    outside = {group for group in ("database", "messaging") if getattr(external, group) is not None}
    return [
        (f".{key}", "is of accounts that Brume does not make", "give new ones in brume_external and brume_secrets")
        for key in said
        if len(parts := str(key).split("/")) > 1 and parts[1] in outside
    ]


def missing_secrets(external: External, databases: Iterable[Any], vhosts: Iterable[Any], said: Any) -> list[Problem]:
    """Return the passwords of external accounts that brume_secrets (`said`) lacks: derived ones would fit nowhere.

    `databases` and `vhosts` are the plan's accounts.
    """
    accounts = [
        *((one, "database") for one in databases if external.database is not None),
        *((one, "broker") for one in vhosts if external.messaging is not None),
    ]
    return [
        Problem(
            f"brume_secrets.{one.secret}",
            f"is missing, and the {server} is external",
            f"give the password of its account {one.account}",
        )
        for one, server in accounts
        if isinstance(said, Mapping) and one.secret not in said
    ]
