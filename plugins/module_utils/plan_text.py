"""The plan for people and for tests: a summary, an explanation of every setting, JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

import netaddr
from ansible_collections.brume.cloud.plugins.module_utils.plan import Cloud, Host, Plan, bridge
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer


def summary(plan: Plan) -> list[str]:
    """Return lines: per host services, packages, units, ports; per cloud endpoints, databases, vhosts, accounts."""
    cloud = plan.cloud
    lines = [
        f"Cloud: release {cloud.release}, region {cloud.region}, services {', '.join(cloud.services)}",
        "",
        "Endpoints",
    ]
    lines += [f"  {one.service:<12} {one.interface:<9} {one.url}" for one in cloud.endpoints]
    lines += ["", "Databases"] + [f"  {one.name:<14} account {one.account}" for one in cloud.databases]
    lines += ["", "Message vhosts"] + [f"  {one.name:<14} account {one.account}" for one in cloud.vhosts]
    lines += ["", "Keystone users"]
    lines += [f"  {one.name:<14} roles {', '.join(one.roles)} in project service" for one in cloud.logins]
    lines += ["", f"Keystone roles  {', '.join(cloud.roles)}"] if cloud.roles else []
    lines += _external(cloud)
    lines += ["", f"Leaving the cloud  {', '.join(cloud.removed)}"] if cloud.removed else []
    for host in plan.hosts.values():
        behind = f", stays with {host.release}" if host.release != cloud.release else ""
        lines += ["", f"Host {host.name} ({', '.join(host.groups)}){behind}"]
        lines += [f"  addresses  {', '.join(f'{role} {address}' for role, address in host.addresses.items())}"]
        lines += [f"  services   {', '.join(dict.fromkeys(one.service for one in host.instances))}"]
        lines += [f"  packages   {', '.join(host.packages)}"]
        lines += ["  units"] + [f"    {one.unit}" for one in host.instances]
        lines += [f"  idle       {', '.join(host.idle)}"] if host.idle else []
        gone = ", ".join(one.unit for one in host.dropped)
        lines += [f"  not in {host.release}, so removed  {gone}"] if gone else []
        lines += ["  ports"] + [f"    {one.address}:{one.port}  {one.unit}" for one in host.ports]
    return lines


def _external(cloud: Cloud) -> list[str]:
    """Return where external infrastructure is, and what an external load balancer has to forward."""
    external = cloud.external
    lines = ["", "Keystone is another cloud's"] if external.identity else []
    lines += ["", "External infrastructure"] if external.groups() else []
    for group, server in (("database", external.database), ("messaging", external.messaging)):
        if server is not None:
            places = ", ".join(f"{bridge(host)}:{server.port}" for host in server.hosts)
            lines.append(f"  {group:<14} {places}  authorities {server.ca_file}")
    if external.loadbalancer is not None:
        one = external.loadbalancer
        lines.append(f"  loadbalancer   internal {one.internal}, public {one.public}  authorities {one.ca_file}")
        for frontend in cloud.frontends:
            servers = ", ".join(f"{server.name} {bridge(server.host)}:{server.port}" for server in frontend.servers)
            role = "public" if frontend.public else "internal"
            health = f"  health {frontend.health}" if frontend.health else ""
            lines.append(f"    {frontend.port:<5} {role:<8} {frontend.name}: {servers}{health}")
    return lines


def explain(plan: Plan, renderer: Renderer) -> list[str]:
    """Return a line per setting of every file: host, file, section, key, and the layer that set it."""
    lines = []
    for host in plan.hosts.values():
        for entry in host.files:
            rendered = renderer.of(host).file(host, entry)
            if not rendered.layers:
                continue
            lines.append(f"{host.name}: {entry.path}")
            lines += [f"  [{section}] {key}: {layer}" for (section, key), layer in sorted(rendered.layers.items())]
    return lines


def render_all(plan: Plan, renderer: Renderer) -> tuple[int, int]:
    """Render every file and unit of every host; return how many, and their bytes. Nothing is kept."""
    count = size = 0
    for host in plan.hosts.values():
        services = list(dict.fromkeys(one.service for one in host.instances))
        texts = [one.text for one in renderer.of(host).files(host, services)]
        texts += [one.content for one in renderer.of(host).units(host, services) if one.content]
        count += len(texts)
        size += sum(len(text.encode()) for text in texts)
    return count, size


def data(plan: Plan, renderer: Renderer) -> dict[str, Any]:
    """Return the plan as JSON types."""
    cloud = _plain(plan.cloud)
    return {"cloud": cloud, "hosts": {name: _host(host, renderer) for name, host in plan.hosts.items()}}


def _host(host: Host, renderer: Renderer) -> dict[str, Any]:
    keys = ("groups", "addresses", "interfaces", "packages", "environments", "directories", "users", "ports", "idle")
    result: dict[str, Any] = {key: _plain(getattr(host, key)) for key in keys}
    services = list(dict.fromkeys(one.service for one in host.instances))
    result["files"] = [_plain(one.entry) for one in renderer.of(host).files(host, services)]
    result["units"] = [
        {
            "name": one.instance.unit,
            "component": one.instance.component,
            "service": one.instance.service,
            "kind": one.component.kind,
        }
        for one in renderer.of(host).units(host, services)
    ]
    return result


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (netaddr.IPAddress, netaddr.IPNetwork)):
        return str(value)
    return value
