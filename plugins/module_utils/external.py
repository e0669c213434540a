"""What somebody else runs, as `brume_external` names it: database, broker, load balancer, Ceph, another Keystone.

Pure. Of infrastructure Brume makes nothing: databases, vhosts and accounts exist before the first deployment, their
passwords are in brume_secrets, and the load balancer forwards what the plan's summary lists. In the Keystone of another
cloud it registers this one as a further region (docs/adr/0007). Every connection is TLS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import netaddr
from ansible_collections.brume.cloud.plugins.module_utils import ceph, certificates, inventory_checks, trust_store
from ansible_collections.brume.cloud.plugins.module_utils.description import PORT_MAXIMUM, Problem
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, shown
from ansible_collections.brume.cloud.plugins.module_utils.secrets import ADMIN_SECRET

KEYS: Mapping[str, tuple[str, ...]] = {
    "database": ("host", "port", "ca_file", "accounts"),
    "messaging": ("hosts", "port", "ca_file", "accounts"),
    "loadbalancer": ("internal", "public", "ca_file"),
    "identity": ("internal", "public", "ca"),
    "ceph": ("fsid", "monitors"),
}
"""What each may say; the first of a part's keys must be there."""

GROUPS = ("database", "messaging", "loadbalancer")
"""Parts that take the place of a group of hosts; `identity` takes that of a service, `ceph` that of its groups."""

IDENTITY = "keystone"
"""The service in whose place `identity` is."""

REGION_LENGTH = 200
"""Longest name of a region that is a part of users' names: Keystone keeps at most 255 characters of those."""

PORTS = {"database": 3306, "messaging": 5671}
STORED = {"database": "database", "messaging": "vhost"}
"""What an account is for."""

_ACCOUNT = re.compile(r"[A-Za-z0-9._~-]{1,80}")
"""RFC 3986's unreserved characters, since it stands in URLs; MariaDB keeps at most 80 characters of a name."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
class Identity:
    """The Keystone of another cloud: URLs that end in /v3, and that cloud's authorities as PEM text."""

    internal: str
    public: str
    ca: str


@dataclass(frozen=True)
class Ceph:
    """A Ceph cluster: its UUID, and names or addresses of its monitors. Keys of its users are secrets."""

    fsid: str
    monitors: tuple[str, ...]


@dataclass(frozen=True)
class External:
    """All of it; what is None belongs to the cloud itself."""

    database: Server | None = None
    messaging: Server | None = None
    loadbalancer: LoadBalancer | None = None
    identity: Identity | None = None
    ceph: Ceph | None = None

    def groups(self) -> tuple[str, ...]:
        """Return the groups that have no host, because what they would run is external."""
        return tuple(group for group in GROUPS if getattr(self, group) is not None)


def read(data: Mapping[str, Any]) -> tuple[External, list[Mistake]]:
    """Return what brume_external says, and its mistakes; a part that has any is taken as external all the same."""
    mistakes: list[Mistake] = []
    found: dict[str, Server | LoadBalancer | Identity | Ceph] = {}
    for group, value in data.items():
        if group not in KEYS:
            mistakes.append((f".{group}", "cannot be external", "use one of " + ", ".join(KEYS)))
            continue
        if not isinstance(value, Mapping):
            mistakes.append((f".{group}", "is no mapping", f"write {', '.join(KEYS[group])} below it"))
            value = {}  # noqa: PLW2901
        else:
            mistakes += _keys(group, value)
        if group == "identity":
            found[group] = _identity(value, mistakes)
            continue
        if group == "ceph":
            found[group] = _ceph(value, mistakes)
            continue
        ca_file = _ca_file(f".{group}", value, mistakes)
        if group == "loadbalancer":
            internal = _host(f".{group}.internal", value.get("internal"), mistakes) if "internal" in value else ""
            public = _host(f".{group}.public", value["public"], mistakes) if "public" in value else internal
            found[group] = LoadBalancer(internal, public, ca_file)
            continue
        hosts = _hosts(group, value, mistakes)
        found[group] = Server(hosts, _port(group, value, mistakes), ca_file, _accounts(group, value, mistakes))
    if "identity" in found and "loadbalancer" in found:
        # Logins verify Keystone and the region's own endpoints by one file, which is the operator's here.
        message = "is external, and so is the load balancer: that is not supported yet"
        mistakes.append((".identity", message, "let hosts of the region be its load balancers"))
    return External(**found), mistakes  # type: ignore[arg-type]  # each part has its own type


def _keys(group: str, value: Mapping[str, Any]) -> Iterable[Mistake]:
    for key in value:
        if group == "identity" and key in ("administrator", "user", "password"):
            message = "is not supported: it is the user admin of that cloud"
            yield f".{group}.{key}", message, f"put its password into brume_secrets as {ADMIN_SECRET}"
        elif key in ("administrator", "user", "password"):
            remedy = "make databases, vhosts and accounts there yourself, and put their passwords into brume_secrets"
            yield f".{group}.{key}", "is not supported: Brume makes no account on external infrastructure", remedy
        elif key not in KEYS[group]:
            yield f".{group}.{key}", "is no key of it", "use one of " + ", ".join(KEYS[group])
    if KEYS[group][0] not in value:
        remedy = _REMEDIES.get(group, "write the name or address that hosts reach it by")
        yield f".{group}.{KEYS[group][0]}", "is missing", remedy


_URL_REMEDY = "write where its Keystone is, such as https://cloud.example.org:5000/v3"
_FSID_REMEDY = "write the UUID that `ceph fsid` shows"
_REMEDIES = {"identity": _URL_REMEDY, "ceph": _FSID_REMEDY}
_CA_REMEDY = "give the PEM text of that cloud's authority, which site.yml writes as ca.crt beside its clouds.yaml"


def _identity(value: Mapping[str, Any], mistakes: list[Mistake]) -> Identity:
    place = ".identity"
    internal = _url(f"{place}.internal", value["internal"], mistakes) if "internal" in value else ""
    public = _url(f"{place}.public", value["public"], mistakes) if "public" in value else internal
    if not value.get("ca"):
        mistakes.append((f"{place}.ca", "is missing", _CA_REMEDY))
        return Identity(internal, public, "")
    try:
        ca = certificates.authorities_in(value["ca"])
    except ValueError as error:
        mistakes.append((f"{place}.ca", str(error), _CA_REMEDY))
        ca = ""
    return Identity(internal, public, ca)


def _ceph(value: Mapping[str, Any], mistakes: list[Mistake]) -> Ceph:
    fsid = str(value.get("fsid", ""))
    if "fsid" in value and not _UUID.fullmatch(fsid):
        mistakes.append((".ceph.fsid", f"{shown(value['fsid'])} is no UUID", _FSID_REMEDY))
    listed = value.get("monitors")
    if not isinstance(listed, list) or not listed:
        mistakes.append((".ceph.monitors", f"{shown(listed)} is no list of hosts", "write [one, other]"))
        return Ceph(fsid, ())
    return Ceph(fsid, tuple(_host(".ceph.monitors", item, mistakes) for item in listed))


def _url(place: str, value: Any, mistakes: list[Mistake]) -> str:
    """Return the URL of a Keystone as its catalog has it."""
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        fits = (parts.scheme, parts.path, parts.query, parts.fragment) == ("https", "/v3", "", "")
        fits = fits and "@" not in parts.netloc and not parts.netloc.endswith(":") and parts.port != 0
        host = parts.hostname or ""
    except ValueError:  # a port or an IPv6 address that is none
        fits, host = False, ""
    if not fits or not host:
        # What stands before an @ may be a password.
        text = "a text with an account" if "@" in str(value) else shown(value)
        mistakes.append((place, f"{text} is no address of a Keystone with TLS", _URL_REMEDY))
        return ""
    _host(place, host, mistakes, _URL_REMEDY)
    return str(value)


def _host(
    place: str,
    value: Any,
    mistakes: list[Mistake],
    remedy: str = "write the name or address that all hosts reach it by",
) -> str:
    """Return a name or address."""
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
    ] + [
        (".ceph", f"is external, and the group `{group}` has hosts: {', '.join(groups[group])}", _EITHER)
        for group in (ceph.MONITORS, ceph.OSDS)
        if external.ceph is not None and groups.get(group)
    ]


_EITHER = "take the hosts out of the group, or remove this"


def region_mistakes(external: External, region: str, said: bool) -> list[Mistake]:
    """Return why a region cannot be registered in another cloud's Keystone under its name (`said` or the default)."""
    if external.identity is None:
        return []
    if not said:
        message = f"is not said, and {region} is probably the name of the region whose Keystone this is"
        return [("", message, "give this region a name of its own")]
    if len(region) > REGION_LENGTH:
        message = f"has {len(region)} characters, and users of services bear it in their names"
        return [("", message, f"use at most {REGION_LENGTH}")]
    return []


def user_name(external: External, account: str, region: str) -> str:
    """Return the name of a service's user in Keystone: of a region that shares another's, the region's is a part of it.

    `@` is in no name of a service or region, so that no two regions can mean the same user.
    """
    return account if external.identity is None else f"{account}@{region}"


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


def missing_keys(external: External, users: Iterable[str], said: Any) -> list[Problem]:
    """Return the keys of an external Ceph cluster's `users` that brume_secrets (`said`) lacks."""
    return [
        Problem(
            f"brume_secrets.{name}",
            "is no key, and Ceph is external" if name in said else "is missing, and Ceph is external",
            f"give what `ceph auth get-key {user}` shows",
        )
        for user in users
        if external.ceph is not None and isinstance(said, Mapping)
        for name in [ceph.secret_name(user)]
        if not isinstance(said.get(name), str) or not ceph.is_key(said[name])
    ]


def missing_administrator(external: External, said: Any) -> list[Problem]:
    """Return whether brume_secrets (`said`) lacks the password with which regions are registered."""
    if external.identity is None or not isinstance(said, Mapping) or ADMIN_SECRET in said:
        return []
    message = "is missing, and Keystone is another cloud's"
    return [Problem(f"brume_secrets.{ADMIN_SECRET}", message, "give the password of its user admin")]
