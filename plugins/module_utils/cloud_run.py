"""What checks of a deployed cloud have in common: what the plan says, what the caller chose, what was made so far."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netaddr
from ansible_collections.brume.cloud.plugins.module_utils import probes
from ansible_collections.brume.cloud.plugins.module_utils.verification import CheckFailed, Clock, NotYet, wait

PREFIX = "brume-verify"
"""Every object that a run makes has a name (a floating IP: a description) with this prefix, and no other object has."""


@dataclass(frozen=True)
class Expected:
    """What the plan says the cloud has: its region, public URLs by catalog type, and hosts."""

    region: str
    endpoints: Mapping[str, str]
    compute_hosts: tuple[str, ...]
    agents: tuple[tuple[str, str], ...]
    """Binary and host of each network agent."""
    cidr: netaddr.IPNetwork | None
    """Of the external network; None in a cloud without networks."""
    gateway: netaddr.IPAddress | None = None
    allocation_pool: tuple[netaddr.IPAddress, ...] = ()
    hosts: tuple[str, ...] = ()
    """The hosts whose services and agents are judged; all where it is empty."""
    volume_services: tuple[tuple[str, str], ...] = ()
    """Binary and host of each service of Cinder that has no back ends."""
    volume_backends: tuple[str, ...] = ()
    volume_types: Mapping[str, str] = field(default_factory=dict)
    """Types that all projects may use, with the `volume_backend_name` that each asks for."""
    multiattach_type: str = ""
    features: frozenset[str] = frozenset()
    """What of Cinder the cloud has that others may lack, see volume_checks."""

    def judges(self, host: str) -> bool:
        """Return whether a host's services and agents are judged."""
        return not self.hosts or host in self.hosts


@dataclass(frozen=True)
class Settings:
    """What the caller chooses. `timeouts` in seconds by name; `flavor`: vcpus, ram in MiB, disk in GiB."""

    image_name: str
    image_path: Path
    flavor: Mapping[str, int]
    external_network: str
    physical_network: str
    tenant_cidr: netaddr.IPNetwork
    ssh_user: str
    timeouts: Mapping[str, float]
    keep: bool = False


@dataclass(frozen=True)
class Probes:
    """What is tried from outside; tests give their own."""

    ping: Callable[[str], bool] = probes.ping
    connects: Callable[[str, int], bool] = probes.connects
    ssh: Callable[[str, str, Path, str], str] = probes.ssh
    make_key: Callable[[Path, str], tuple[Path, str]] = probes.make_key
    vnc_greeting: Callable[[str, bool | str], str] = probes.vnc_greeting


@dataclass
class Run:
    """One run: the connection (an openstack.connection.Connection, or a fake), and what has been made so far."""

    cloud: Any
    settings: Settings
    expected: Expected
    directory: Path
    probes: Probes = field(default_factory=Probes)
    clock: Clock = field(default_factory=Clock)
    marker: str = field(default_factory=lambda: secrets.token_hex(8))
    lasting: list[str] = field(default_factory=list)
    """What was made to stay, for the report of changes."""
    image: Any = None
    flavor: Any = None
    external: Any = None
    network: Any = None
    subnet: Any = None
    router: Any = None
    router_address: str = ""
    group: Any = None
    key_path: Path = Path()
    public_key: str = ""
    server: Any = None
    address: str = ""
    floating: Any = None
    boot_id: str = ""
    content: bytes = b""
    volumes: dict[str, Any] = field(default_factory=dict)
    """By what they are called behind the prefix."""
    begun: dict[str, Any] = field(default_factory=dict)
    """What an earlier check has begun for a later one, by that check's name; the exception where it could not."""
    digest: str = ""
    """SHA-256 of what the guest wrote to a volume."""
    second: Any = None
    """The instance that boots from a volume, and its floating IP."""
    second_floating: Any = None

    def seconds(self, name: str) -> float:
        """Return a timeout in seconds."""
        return float(self.settings.timeouts[name])


def on_server(run: Run, command: str, address: str = "") -> str:
    """Return what a command printed on the instance, or on the one at another floating IP. Raises ProbeError."""
    target = address or run.floating.floating_ip_address
    return run.probes.ssh(target, run.settings.ssh_user, run.key_path, command)


def until_status(run: Run, server: Any, what: str, status: str, seconds: float) -> Any:
    """Wait until an instance has a status and no task; its fault ends the wait at once."""

    def probe() -> Any:
        found = run.cloud.compute.get_server(server.id)
        if found.status == "ERROR" and status != "ERROR":
            raise CheckFailed(f"{what}: the instance is in ERROR: {fault(found)}")
        if found.status != status or found.task_state:
            raise NotYet(f"status {found.status}, task {found.task_state}")
        return found

    return wait(what, seconds, probe, run.clock)


def fault(server: Any) -> str:
    """Return the fault that Nova recorded for an instance, without its trace."""
    recorded = getattr(server, "fault", None) or {}
    return str(recorded.get("message") or "no fault recorded")


def give_floating_ip(run: Run, server: Any) -> Any:
    """Return a new floating IP on an instance's port, once it is ACTIVE."""
    ports = list(run.cloud.network.ports(device_id=server.id, network_id=run.network.id))
    if len(ports) != 1:
        raise CheckFailed(f"the instance has {len(ports)} ports on its network")
    made = run.cloud.network.create_ip(floating_network_id=run.external.id, port_id=ports[0].id, description=PREFIX)

    def probe() -> Any:
        found = run.cloud.network.get_ip(made.id)
        if found.status != "ACTIVE":
            raise NotYet(f"status {found.status}")
        return found

    return wait("the floating IP is ACTIVE", run.seconds("router"), probe, run.clock)


def down_and_absent(down: list[str], absent: list[str]) -> str:
    """Return services that are down and that are not there, as a failure says it."""
    parts = [f"{label}: {', '.join(names)}" for label, names in (("down", down), ("absent", absent)) if names]
    return "; ".join(parts)


Gone = Callable[[str, Callable[[], object]], None]
"""Deletes something, which is named, and waits until it may be deleted."""


def ours(objects: Iterable[Any]) -> list[Any]:
    """Return what checks have made."""
    return [one for one in objects if (one.name or "").startswith(PREFIX)]
