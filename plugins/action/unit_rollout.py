"""Starts or restarts a wave's units on this host where what they run on has changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import public_certificate
from ansible_collections.brume.cloud.plugins.module_utils.description import WAVES
from ansible_collections.brume.cloud.plugins.module_utils.plan import bridge, socket_of
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import (
    CA_FILE,
    LIBVIRT_CERTIFICATE,
    TLS_GROUP,
    UnitEntry,
)

TLS_FILES = (CA_FILE, "/etc/brume/tls/host.crt")


class ActionModule(PlanAction):
    """Takes `wave` or `service`, `stage`, `planned_digests` (what a dry run of the configuration would write).

    With `versions`, units that keep others' versions must have been started since all have those of the release.
    `starts` holds, by unit, what its start needs besides: `start_environment`, `waits_for`.
    What only other releases have goes when the wave is well.
    """

    module = "unit_rollout"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the wave's units with their files, probes and order."""
        units = piece.renderer.units(piece.host, piece.services(args.get("wave", ""), args.get("service", "")))
        # Others' units are settled with the infrastructure, before anything could want their ports.
        idle = piece.host.idle if args.get("wave") == "infrastructure" and not args.get("service") else ()
        waves = (args["wave"],) if args.get("wave") else WAVES[1:]
        only = args.get("service", "")
        dropped = [one for one in piece.host.dropped if one.wave in waves and only in ("", one.service)]
        if not units and not idle and not dropped:
            return None
        starts = dict(args.get("starts") or {})
        versions = piece.plan.cloud.release if args.get("versions") else ""
        planned = [{**_unit(piece, one, units), "versions": versions * _keeps_versions(one)} for one in units]
        return {
            "units": [{**one, **(starts.get(one["name"]) or {})} for one in planned]
            + [{"name": name, "state": "idle"} for name in idle]
            + [{"name": one.unit, "state": "absent", "files": list(one.files)} for one in dropped],
            "planned_digests": dict(args.get("planned_digests") or {}),
            "stage": args.get("stage", ""),
        }


def _keeps_versions(one: UnitEntry) -> bool:
    """Return whether a unit's process keeps other services' versions; a socket has none, and is not to be shut."""
    return one.component.keeps_versions and one.instance.unit.endswith(".service")


def _unit(piece: Slice, one: UnitEntry, units: list[UnitEntry]) -> dict[str, Any]:
    component = one.component
    after = [
        other.instance.unit
        for other in units
        if other.instance.service == one.instance.service and other.component.name in component.after
    ]
    if component.kind == "wsgi" and one.instance.unit.endswith(".service"):
        after.append(socket_of(one.instance.unit))
    tls = list(TLS_FILES) if TLS_GROUP in component.unix_groups else []
    tls += [LIBVIRT_CERTIFICATE] if one.instance.service == "libvirt" and tls else []
    shows = one.instance.unit == "haproxy.service" and "loadbalancer" in piece.host.groups
    if shows and piece.plan.cloud.public_certificate is not None:
        tls += [public_certificate.PEM_FILE, public_certificate.LIST_FILE]
    return {
        "name": one.instance.unit,
        "content": one.content,
        "files": [*one.files, *tls],
        "reload_files": tls if component.on_renewal == "reload" else [],
        "revision": one.revision,
        "on_change": component.on_change,
        "after": after,
        "health": _health(piece, one),
        "timeout": component.timeout,
        # Load balancers bind addresses that only the kernel's settings let them bind.
        "first": one.instance.service == "host",
    }


def _sections(piece: Slice, one: UnitEntry) -> list[str]:
    """Return the names of the sections that a variable gives to the files of a component."""
    files = piece.sources.services[one.instance.service].files.values()
    named = [file.sections.variable for file in files if file.sections and one.component.name in file.components]
    return [section for variable in named for section in piece.host.variables[variable]]


def _health(piece: Slice, one: UnitEntry) -> dict[str, Any]:
    probe, listen = one.component.health, one.instance.listen
    if one.component.kind == "wsgi" and one.instance.unit.endswith(".socket"):
        return {"command": ["/bin/true"]}  # a connection would start the API
    if listen is not None and (one.component.kind == "wsgi" or isinstance(probe, str)):
        return {"http": f"http://{bridge(listen.address)}:{listen.port}{probe or '/'}"}
    frontend = piece.renderer.frontends.get(f"{one.instance.service}-{one.component.name}")
    if frontend is not None and frontend.check:
        # Well is what load balancers call so: a member that is in step with the others.
        probe = {"http": f"http://{bridge(str(piece.host.addresses['management']))}:{frontend.check}/"}
    if not isinstance(probe, Mapping):
        return {}
    if "queue" in probe:
        file = next(path for path in one.files if path.endswith(".conf"))
        # Its own queue, `<topic>.<server>` (oslo.messaging's targets): on the topic's, other hosts listen too.
        topic, at, _section = probe["queue"].partition("@")
        server = f"{topic}.{piece.host.name}"
        name = ",".join(f"{server}@{section}" for section in _sections(piece, one)) if at else server
        return {"queue": {"name": name, "config_file": file, "python": f"{one.revision}/bin/python"}}
    if "tcp" in probe:
        said = probe["tcp"] if isinstance(probe["tcp"], Mapping) else {"port": probe["tcp"]}
        own = said.get("host") or str(piece.host.addresses[said.get("network", "management")])
        host, port = (listen.address, listen.port) if listen is not None else (own, said["port"])
        return {"tcp": {"host": host, "port": port}}
    return dict(probe)
