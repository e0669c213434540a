"""From a host's slice of the plan to the text of its files and units.

Settings are section -> key trees. Order, lowest first: what the plan derives (credentials), the trees that the
description names, brume_config of `all`, groups, host. `explain` keeps which layer said each key.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2
from ansible_collections.brume.cloud.plugins.module_utils import ceph, option_schema, ovn, public_certificate, ssh_keys
from ansible_collections.brume.cloud.plugins.module_utils.description import Component, File, Problem, Service
from ansible_collections.brume.cloud.plugins.module_utils.plan import (
    Cloud,
    FileEntry,
    Frontend,
    Host,
    Instance,
    Listen,
    Plan,
    PlanError,
    binds,
    bridge,
    frontend_name,
    receivers,
    said_at,
    socket_of,
    uwsgi_path,
)
from ansible_collections.brume.cloud.plugins.module_utils.service_units import (
    socket_text,
    unit_text,
    uwsgi_text,
)
from ansible_collections.brume.cloud.plugins.module_utils.sources import Sources, settings_key

CA_FILE = "/etc/brume/ca.crt"
HOST_PEM = "/etc/brume/tls/host.pem"
"""The host's certificate and its key."""

ENDPOINTS_CA_FILE = "/etc/brume/endpoints.crt"
"""The cloud's authority and that of the cloud whose Keystone it shares: for what talks to APIs, and for nothing else.

By CA_FILE the members of clusters know each other, where a certificate of another cloud must not count.
"""

LIBVIRT_CERTIFICATE = "/etc/pki/libvirt/servercert.pem"
TLS_GROUP = "brume-tls"
"""System group of who reads the host's certificate and key."""

TRANSPORT = "transport_url"

HEADER = "# Written by Brume; a change here is overwritten. Options are set in the inventory's brume_config."

_environment = jinja2.Environment(  # configuration is no HTML
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701  # configuration is no HTML
)


@functools.lru_cache(maxsize=4096)
def _template(text: str) -> jinja2.Template:
    return _environment.from_string(text)


@dataclass(frozen=True)
class Rendered:
    """A file's text and, for trees, the layer that set each key."""

    entry: FileEntry
    text: str
    layers: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitEntry:
    """A unit of a host as the roll-out takes it; `content` is None for a package's own unit."""

    instance: Instance
    component: Component
    content: str | None
    files: tuple[str, ...]
    revision: str
    messaging: bool = False
    """Whether it speaks to a broker."""


SecretValue = Callable[[str], str]


class Renderer:
    """Renders files and units of one plan. `secret` gives the value of a secret by its name."""

    def __init__(self, plan: Plan, sources: Sources, secret: SecretValue) -> None:
        """Prepare what all hosts share."""
        self.plan, self.secret = plan, secret
        self.sources = dataclasses.replace(sources.at(plan.cloud.release), services=plan.services)
        self.urls = {(one.service, one.interface): one.url for one in plan.cloud.endpoints}
        self.frontends = {one.name: one for one in plan.cloud.frontends}
        self.databases = {one.name: one for one in plan.cloud.databases}
        self.vhosts = {one.name: one for one in plan.cloud.vhosts}
        self.logins = {one.service: one for one in plan.cloud.logins}
        self.shared = self._shared_names()
        self.former = Renderer(plan.former, sources, secret) if plan.former is not None else None

    def of(self, host: Host) -> Renderer:
        """Return the renderer of a host's release."""
        behind = host.release != self.plan.cloud.release
        return self.former if behind and self.former is not None else self

    def _shared_names(self) -> dict[str, Any]:
        cloud = self.plan.cloud
        return {
            "release": cloud.release,
            "region": cloud.region,
            "cells": list(cloud.cells),
            "ca_file": CA_FILE,
            "endpoint_ca_file": endpoint_ca_file(cloud),
            "messaging_ca_file": cloud.external.messaging.ca_file if cloud.external.messaging else CA_FILE,
            "secret": self.secret,
            "ssh_private_key": lambda name: ssh_keys.private(self.secret(name)),
            "ssh_public_key": lambda name: ssh_keys.public(self.secret(name)),
            # Functions, so that clouds without Ceph ask for no secret.
            "ceph_fsid": self.ceph_fsid,
            "ceph_monitors": self._ceph_monitors,
            "ceph_keyring": lambda *users: "".join(self.ceph_user(user).keyring for user in users),
            "ceph_key": lambda user: self.ceph_user(user).key,
            "ceph_users": self.ceph_users,
            "ceph_secret_uuid": ceph.secret_uuid,
            "bridge": bridge,
            "endpoint_host_internal": bridge(cloud.internal_host),
            "endpoint_host_public": bridge(cloud.public_host),
            "internal_url": lambda service: self._url(service, "internal"),
            "public_url": lambda service: self._url(service, "public"),
            "component_url": self._component_url,
            "database_url": self.database_url,
            "transport_url": self.transport_url,
            "memcached_servers": [
                f"{_inet6(address)}{bridge(address)}:11211" for _name, address in cloud.members["control"]
            ],
            "memcached_addresses": [f"{bridge(address)}:11211" for _name, address in cloud.members["control"]],
            "base64": lambda text: base64.b64encode(text.encode()).decode(),
            "ovn_remote": lambda name: ovn.remotes(
                (address for _name, address in cloud.members[ovn.GROUP]), ovn.DATABASES[name].port
            ),
            # Made once: every host asks for groups that may be large.
            "group": {name: self._group(name) for name in cloud.members}.__getitem__,
            # A network that falls back to another one is the same network.
            "vip_networks": [
                role
                for role, network in cloud.networks.items()
                if role in ("management", "api") and network.vip is not None and network.name == role
            ],
            "networks": {
                role: {
                    "cidr": str(network.cidr),
                    "vip": str(network.vip or ""),
                    "mtu": network.mtu,
                    "interface": network.interface,
                    "fqdn": network.fqdn,
                    "gateway": str(network.gateway or ""),
                    "version": network.cidr.version,
                }
                for role, network in cloud.networks.items()
            },
        }

    def _group(self, name: str) -> list[dict[str, Any]]:
        return [
            {
                "name": host,
                "address": address,
                "addresses": {role: str(one) for role, one in self.plan.hosts[host].addresses.items()},
            }
            for host, address in self.plan.cloud.members[name]
        ]

    def _url(self, service: str, interface: str) -> str:
        try:
            return self.urls[service, interface]
        except KeyError:
            message = f"the service {service} has no {interface} endpoint in this cloud"
            remedy = "add it to brume_services, and `catalog` to its description"
            raise PlanError([Problem(f"roles/{service}/meta/service.yml", message, remedy)]) from None

    def _component_url(self, service: str, component: str, public: bool = False, cell: str = "") -> str:
        frontend = self.frontends[frontend_name(service, component, cell, self.plan.cloud.cells)]
        host = self.plan.cloud.public_host if public else self.plan.cloud.internal_host
        return f"https://{bridge(host)}:{frontend.port}"

    def ceph_fsid(self) -> str:
        """Return the identity of the Ceph cluster."""
        external = self.plan.cloud.external.ceph
        return external.fsid if external is not None else ceph.identity(self.secret(ceph.FSID_SECRET))

    def _ceph_monitors(self) -> str:
        """Return where the monitors are, as `mon_host` has them."""
        if self.plan.cloud.external.ceph is not None:
            return ",".join(bridge(one) for one in self.plan.cloud.external.ceph.monitors)
        hosts = [name for name, _address in self.plan.cloud.members[ceph.MONITORS]]
        return ",".join(ceph.monitor(str(self.plan.hosts[name].addresses[ceph.NETWORK])) for name in hosts)

    def ceph_user(self, name: str) -> ceph.User:
        """Return an entity of the Ceph cluster with its key."""
        return ceph.User(name, ceph.key(self.secret(ceph.secret_name(name))), ceph.caps(name))

    def ceph_users(self) -> list[ceph.User]:
        """Return all entities of the Ceph cluster."""
        members = self.plan.cloud.members
        hosts = {group: [name for name, _address in members[group]] for group in members}
        return [self.ceph_user(name) for name in ceph.entities(hosts)]

    def database_url(self, name: str) -> str:
        """Return where a database is reached, as SQLAlchemy writes it, with its account's password."""
        one = self.databases[name]
        cloud = self.plan.cloud
        external = cloud.external.database
        hosts = cloud.members["database"]
        if external is not None:
            address, port, authority = external.hosts[0], external.port, external.ca_file
        else:
            address, port, authority = hosts[0][1] if len(hosts) == 1 else cloud.internal_host, 3306, CA_FILE
        # SQLAlchemy's own names: with PyMySQL's ssl_verify_identity beside it, ssl_ca is lost and nothing is verified.
        return (
            f"mysql+pymysql://{one.account}:{self.secret(one.secret)}@{bridge(address)}:{port}/{name}"
            f"?charset=utf8mb4&ssl_ca={authority}&ssl_check_hostname=true"
        )

    def transport_url(self, name: str) -> str:
        """Return where a vhost is reached, as oslo.messaging writes it, with its account's password."""
        one = self.vhosts[name]
        login = f"{one.account}:{self.secret(one.secret)}"
        external = self.plan.cloud.external.messaging
        if external is not None:
            places = [f"{bridge(host)}:{external.port}" for host in external.hosts]
        else:
            places = [f"{bridge(address)}:5671" for _host, address in self.plan.cloud.members["messaging"]]
        return f"rabbit://{','.join(f'{login}@{place}' for place in places)}/{name}"

    def names(self, host: Host, service: Service, cell: str = "") -> dict[str, Any]:
        """Return the names that settings and templates of a service may use on a host."""
        environment = next((one.path for one in host.environments if one.service == service.name), "")
        instances = {
            one.component: one
            for one in host.instances
            if one.service == service.name and one.cell in ("", cell or self.plan.cloud.cells[0])
        }
        return {
            **self.shared,
            "host": host.name,
            "service": service.name,
            "address": str(host.addresses["management"]),
            "addresses": {role: str(address) for role, address in host.addresses.items()},
            "interfaces": dict(host.interfaces),
            "variables": host.variables,
            "groups": host.groups,
            "external_bridge": host.external_bridge,
            "env": environment,
            "state": f"/var/lib/{service.name}",
            "config": f"/etc/{service.name}",
            "cell": cell,
            "host_cell": host.cell,
            "workers": lambda component: instances[component].processes if component in instances else 1,
            "listen": lambda component: dataclasses.asdict(_listen(instances[component])),
            "login": lambda: self.login(service, "service_user"),
            "frontends": [
                {
                    "name": one.name,
                    "port": one.port,
                    "binds": _binds(self.plan.cloud, one, host),
                    "servers": [dataclasses.asdict(server) for server in one.servers],
                    "health": one.health or None,
                    "public": one.public,
                    "websocket": one.websocket,
                    "check": one.check,
                    "failover": one.failover,
                    "repeatable": one.repeatable,
                }
                for one in (self.plan.cloud.frontends if "loadbalancer" in host.groups else ())
            ],
            "receivers": [
                {**dataclasses.asdict(server), "name": frontend.name, "websocket": frontend.websocket}
                for frontend, server in receivers(self.plan.cloud, host.name)
            ],
        }

    def login(self, service: Service, section: str) -> dict[str, Any]:
        """Return the options with which a section of a file logs in to Keystone as the service's user."""
        cloud, login = self.plan.cloud, self.logins[service.name]
        options: dict[str, Any] = {
            "auth_type": "password",
            "auth_url": self._url("keystone", "internal"),
            "username": login.name,
            "password": self.secret(login.secret),
            "user_domain_name": "Default",
            "project_name": "service",
            "project_domain_name": "Default",
            "region_name": cloud.region,
            "cafile": endpoint_ca_file(cloud),
        }
        if section == "service_user":
            del options["region_name"]  # it only makes tokens, so it chooses no endpoint
        if section in ("keystone_authtoken", "filter:authtoken"):
            options |= {
                "www_authenticate_uri": self._url("keystone", "public"),
                "memcached_servers": ",".join(self.shared["memcached_servers"]),
                "memcache_security_strategy": "ENCRYPT",
                "memcache_secret_key": self.secret(f"{service.name}/memcache"),
                "service_token_roles": "service",
                "service_token_roles_required": True,
                "service_type": service.catalog.type if service.catalog else None,
                "interface": "internal",
            }
        return {key: value for key, value in options.items() if value is not None}

    def tree(
        self, host: Host, service: Service, file: File, cell: str
    ) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str], str]]:
        """Return a file's sections and keys, values resolved, and the layer of each key."""
        names = self.names(host, service, cell)
        merged: dict[str, dict[str, Any]] = {}
        layers: dict[tuple[str, str], str] = {}

        def add(tree: Mapping[str, Any], layer: str) -> None:
            for section, keys in tree.items():
                place = merged.setdefault(section, {})
                for key, value in (keys or {}).items():
                    layers[section, key] = layer
                    place[key] = value

        for section in file.auth_sections:
            add({section: self.login(service, section)}, "the plan")
        for tree, layer in self._trees(host, service, file):
            add(tree, layer)
        items = host.variables[file.sections.variable] if file.sections else {}
        named = {section: {**names, "name": section, "item": item} for section, item in items.items()}
        resolved = {
            section: {
                key: self._resolve(value, named.get(section, names), f"{service.name} {file.name} [{section}] {key}")
                for key, value in keys.items()
                if value is not None
            }
            for section, keys in merged.items()
        }
        return {section: keys for section, keys in resolved.items() if keys}, layers

    def _trees(self, host: Host, service: Service, file: File) -> Iterator[tuple[Mapping[str, Any], str]]:
        """Yield the trees that a file is merged from, lowest first, each with its layer; values as they are written."""
        for name in file.settings:
            key = settings_key(service.name, name)
            yield self.sources.settings[key], f"settings {key}"
        if file.sections:
            key = settings_key(service.name, file.sections.settings)
            for section, item in host.variables[file.sections.variable].items():
                options = {name: value for name, value in item.items() if name != "type"}
                yield {section: self.sources.settings[key].get(item.get("type", ""), {})}, f"settings {key}"
                yield {section: options}, said_at(host.layers, file.sections.variable)
        for one in host.layers:
            override = one.variables.get("brume_config", {}).get(service.name, {})
            yield override.get(file.name, {}), one.where("brume_config")

    def _names_broker(self, host: Host, entry: FileEntry) -> bool:
        """Return whether a file says where a broker is: oslo.messaging's `transport_url`, in whatever section."""
        service = self.sources.services[entry.service]
        said: dict[str, Any] = {}
        for tree, _layer in self._trees(host, service, service.files[entry.name]):
            said |= {section: keys[TRANSPORT] for section, keys in tree.items() if TRANSPORT in (keys or {})}
        return any(value is not None for value in said.values())

    def _read(self, host: Host, instance: Instance) -> list[FileEntry]:
        """Return the files that a unit of a host reads."""
        files = self.sources.services[instance.service].files
        return [
            entry
            for entry in host.files
            if entry.service == instance.service
            and instance.component in files[entry.name].components
            and entry.cell in ("", instance.cell)
        ]

    def _speaks(self, host: Host, instance: Instance) -> bool:
        return any(self._names_broker(host, entry) for entry in self._read(host, instance))

    def speakers(self) -> dict[str, list[str]]:
        """Return host -> those of its units that speak to a broker; without hosts that have none."""
        found = {
            name: [one.unit for one in host.instances if self.of(host)._speaks(host, one)]
            for name, host in self.plan.hosts.items()
        }
        return {name: units for name, units in found.items() if units}

    def _resolve(self, value: Any, names: Mapping[str, Any], place: str) -> Any:
        if isinstance(value, list):
            return [self._resolve(item, names, place) for item in value]
        if isinstance(value, Mapping):
            return {key: self._resolve(item, names, place) for key, item in value.items()}
        if not isinstance(value, str) or "{" not in value:
            return value
        return self._text(value, names, place)

    @staticmethod
    def _text(text: str, names: Mapping[str, Any], place: str) -> str:
        try:
            return _template(text).render(names)
        except PlanError:
            raise
        except Exception as error:  # an expression of the operator's can raise anything, such as ZeroDivisionError
            raise PlanError(
                [Problem(place, f"cannot be rendered: {error}", "correct the value or template")]
            ) from error

    def file(self, host: Host, entry: FileEntry) -> Rendered:
        """Return a configuration file's text."""
        service = self.sources.services[entry.service]
        file = service.files[entry.name]
        if file.template:
            text = self._text(
                self.sources.templates[settings_key(service.name, file.template)],
                self.names(host, service, entry.cell) | {"path": entry.path},
                entry.path,
            )
            return Rendered(entry, text)
        tree, layers = self.tree(host, service, file, entry.cell)
        schema = self.sources.schemas.get(service.name, {}).get(self.plan.cloud.release)
        return Rendered(entry, ini(tree, schema), layers)

    def files(self, host: Host, services: list[str]) -> list[Rendered]:
        """Return all files of some services on a host, uWSGI's and units included."""
        result = [self.file(host, entry) for entry in host.files if entry.service in services]
        for unit in self.units(host, services):
            service = self.sources.services[unit.instance.service]
            if unit.component.kind == "wsgi" and unit.instance.unit.endswith(".service"):
                text = uwsgi_text(unit.component, unit.instance, _path(host, service.name))
                path = uwsgi_path(service, unit.component)
                result.append(Rendered(FileEntry(path, service.name, "", "", "root", service.name, "0640"), text))
        return result

    def units(self, host: Host, services: list[str]) -> list[UnitEntry]:
        """Return the units of some services on a host, each with the files that it reads."""
        result = []
        for instance in host.instances:
            if instance.service not in services:
                continue
            service = self.sources.services[instance.service]
            component = service.components[instance.component]
            read = self._read(host, instance)
            if component.kind == "system":
                result.append(UnitEntry(instance, component, None, tuple(one.path for one in read), ""))
                continue
            environment = _path(host, service.name)
            options = [one.path for one in read if service.files[one.name].settings]
            content = self._text(
                unit_text(service, component, environment, options),
                self.names(host, service, instance.cell),
                instance.unit,
            )
            paths = [one.path for one in read]
            if component.kind == "wsgi":
                paths.append(uwsgi_path(service, component))
                socket = dataclasses.replace(instance, unit=socket_of(instance.unit))
                result.append(UnitEntry(socket, component, socket_text(service, component, instance), (), ""))
            speaks = self._speaks(host, instance)
            result.append(UnitEntry(instance, component, content, tuple(paths), environment, speaks))
        return result


def endpoint_ca_file(cloud: Cloud) -> str:
    """Return the file of authorities by which hosts verify endpoints, Keystone's among them."""
    if cloud.external.identity is not None:
        return ENDPOINTS_CA_FILE
    return cloud.external.loadbalancer.ca_file if cloud.external.loadbalancer else CA_FILE


def _binds(cloud: Cloud, frontend: Frontend, host: Host) -> list[dict[str, str]]:
    """Return the addresses of a frontend on a load balancer, and which certificates HAProxy shows at each."""
    internal, *public = binds(frontend, host.addresses, cloud.networks)
    shown = {internal: f"crt {HOST_PEM}", **dict.fromkeys(public, f"crt {HOST_PEM}")}
    if cloud.public_certificate is not None:
        shown |= dict.fromkeys(public, f"crt {public_certificate.PEM_FILE}")
        if cloud.public_certificate.name and frontend.public:
            shown[internal] = f"crt-list {public_certificate.LIST_FILE}"
    return [{"address": address, "certificates": option} for address, option in shown.items()]


def _listen(instance: Instance) -> Listen:
    if instance.listen is None:
        raise KeyError(f"{instance.unit} listens nowhere")
    return instance.listen


def _path(host: Host, service: str) -> str:
    return next(one.path for one in host.environments if one.service == service)


def _inet6(address: str) -> str:
    return "inet6:" if ":" in address else ""


def ini(tree: Mapping[str, Mapping[str, Any]], schema: option_schema.Schema | None = None) -> str:
    """Return a tree as oslo.config reads it: [DEFAULT] first, lists repeated for MultiOpt and joined otherwise."""
    lines = [HEADER]
    for section in sorted(tree, key=lambda name: (name != "DEFAULT", name)):
        lines += ["", f"[{section}]"]
        for key, value in tree[section].items():
            if isinstance(value, list) and schema is not None and option_schema.is_multi(schema, section, key):
                lines += [f"{key} = {_scalar(item)}" for item in value]
            elif isinstance(value, list):
                lines.append(f"{key} = {','.join(_scalar(item) for item in value)}")
            else:
                lines.append(f"{key} = {_scalar(value)}".rstrip())
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{_scalar(item)}" for key, item in value.items())
    return re.sub(r"\s*\n\s*", " ", str(value))
