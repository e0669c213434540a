"""What would stop a deployment on a host: `gather` reads it, `judge` compares it with what the plan needs.

`gather` changes nothing and starts no process; `judge` is pure.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import ipaddress
import os
import platform
import re
import socket
import ssl
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ansible_collections.brume.cloud.plugins.module_utils import claims, operating_system
from ansible_collections.brume.cloud.plugins.module_utils.convergence import read_marker
from ansible_collections.brume.cloud.plugins.module_utils.releases import can_cross, release_number

MIB = 1024**2
GIB = 1024**3

MACHINES = frozenset({"x86_64", "aarch64"})
PYTHON_FIRST, PYTHON_LAST = (3, 11), (3, 13)
"""Versions for which the locks hold wheels."""

CLOCK_SECONDS = 30.0
"""Greatest difference of clocks: Fernet tokens, certificates and agents' reports are timed."""

CLOCK_DELAY = 20.0
"""Seconds that may pass between the controller's reading of its clock and the host's."""

MEMORY_TOLERANCE = 0.9
"""Share of the required memory that is enough, because the kernel keeps a part of what a machine has."""

DEPLOYED_DISK = 0.1
"""Share of the required free space that must be left on a host that is deployed already."""

KVM_CREATE_VM = 0xAE01
"""Request that makes an empty guest, which ends with its file descriptor (linux/kvm.h)."""

RECORDS = "/var/lib/brume/units"
DATABASE_UNIT = "mariadb.service"

BUILT = ".brume-environment.json"
"""What a complete environment holds; uv_environments.MARKER, which cannot be imported by an old Python."""

WHEELHOUSE_SECONDS = 15.0
"""Time in which a wheelhouse must answer."""

COMPANIONS = {"rabbitmq-server.service": frozenset({"epmd.service"})}
"""Units that hold ports for a planned one."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as the plan needs it."""

    severity: Literal["error", "warning"]
    subject: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.severity}: {self.subject}: {self.message}; {self.remedy}"


@dataclass(frozen=True)
class Listener:
    """A TCP port that something listens on; `unit` is empty when no unit is known, `pid` 0 when no process is."""

    address: str
    port: int
    pid: int = 0
    process: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Environment:
    """A service's Python environment: where the planned one is, the link to the one in use, and the units it is for."""

    service: str
    path: str
    current: str
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requirements:
    """What the plan needs of the host. An empty value needs nothing."""

    controller_time: float = 0.0
    operating_system: str = ""
    disk_bytes: Mapping[str, int] = field(default_factory=dict)
    memory_mib: int = 0
    interfaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ports: tuple[Listener, ...] = ()
    tun: bool = False
    kvm: bool = False
    mtus: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    """Folder -> the unit whose own data it holds."""
    environments: tuple[Environment, ...] = ()
    release: str = ""
    crossing: Literal["", "upgrade", "rollback"] = ""
    """Which way to another release the run goes; empty for one that stays with the release of the host."""
    wheelhouse: str = ""
    database_hosts: int = 0
    """How many hosts the database has; 0 on hosts that are none of them."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Unit -> the variable and value with which it would be here."""


@dataclass(frozen=True)
class Facts:
    """What the host is."""

    operating_system: str = ""
    machine: str = ""
    python: tuple[int, int] = (0, 0)
    systemd: bool = True
    time: float = 0.0
    disk_bytes: Mapping[str, int] = field(default_factory=dict)
    memory_mib: int = 0
    interfaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    listeners: tuple[Listener, ...] = ()
    tun: bool = True
    kvm: str = ""
    """Why no guest of KVM can be made, empty when one can."""
    recorded: frozenset[str] = frozenset()
    """Units of the project that have run well here before."""
    mtus: Mapping[str, int] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)
    """Path -> why nothing can be installed below it."""
    filled: frozenset[str] = frozenset()
    """Folders of data that hold some."""
    claimed: frozenset[str] = frozenset()
    """Folders of data that the project has made its own."""
    built: frozenset[str] = frozenset()
    """Environments that are complete."""
    releases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Service -> the releases it runs: several after a way to another one that was not finished."""
    wheelhouse: str = ""
    """Why the wheelhouse cannot be used, empty when it can."""

    @property
    def deployed(self) -> bool:
        """Whether units of the project have run well here before."""
        return bool(self.recorded)


def judge(facts: Facts, needs: Requirements) -> list[Finding]:
    """Return everything that is not as it must be, errors first."""
    findings = [
        *_system(facts, needs),
        *_clock(facts, needs),
        *_disk(facts, needs),
        *_memory(facts, needs),
        *_interfaces(facts, needs),
        *_ports(facts, needs),
        *_kernel(facts, needs),
        *_data(facts, needs),
        *_excluded(facts, needs),
        *_environments(facts, needs),
    ]
    return sorted(findings, key=lambda finding: finding.severity)


def _system(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    before = operating_system.FORMER.get(needs.operating_system)
    if needs.operating_system and facts.operating_system != needs.operating_system:
        yield Finding(
            "error",
            "operating system",
            f"is {facts.operating_system or 'unknown'}, planned is {needs.operating_system}",
            "set brume_operating_system of this host to what it runs (debian-12, debian-13), or "
            + ("run operating_system.yml" if facts.operating_system == before else "install that"),
        )
    if facts.machine not in MACHINES:
        yield Finding("error", "architecture", f"is {facts.machine}", f"use one of {', '.join(sorted(MACHINES))}")
    if not PYTHON_FIRST <= facts.python <= PYTHON_LAST:
        wanted = " to ".join(".".join(map(str, version)) for version in (PYTHON_FIRST, PYTHON_LAST))
        yield Finding(
            "error",
            "python3",
            f"is {'.'.join(map(str, facts.python))}, the locks are for {wanted}",
            "let ansible_python_interpreter name the operating system's own python3",
        )
    if not facts.systemd:
        yield Finding("error", "systemd", "is not the init of this host", "boot the host with systemd")


def _clock(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    if not needs.controller_time:
        return
    ahead = facts.time - needs.controller_time
    if -CLOCK_SECONDS <= ahead <= CLOCK_SECONDS + CLOCK_DELAY:
        return
    yield Finding(
        "error",
        "clock",
        f"is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the controller's",
        "let both take the time from the same source (chrony or systemd-timesyncd), then run again",
    )


def _disk(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    for path, reason in sorted(facts.mounts.items()):
        yield Finding("error", path, reason, "mount it otherwise; environments and data are written there")
    for path, needed in sorted(needs.disk_bytes.items()):
        free = facts.disk_bytes.get(path, 0)
        if free >= needed:
            continue
        enough = facts.deployed and free >= needed * DEPLOYED_DISK
        yield Finding(
            "warning" if enough else "error",
            path,
            f"has {free / GIB:.1f} GiB free, planned are {needed / GIB:.1f}",
            "free space or enlarge the file system",
        )


def _memory(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    if facts.memory_mib < needs.memory_mib * MEMORY_TOLERANCE:
        yield Finding(
            "error",
            "memory",
            f"is {facts.memory_mib} MiB, planned are {needs.memory_mib}",
            "give the host more memory, or take it out of some groups",
        )


def _interfaces(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    held = {ipaddress.ip_address(address): name for name, found in facts.interfaces.items() for address in found}
    for name, addresses in sorted(needs.interfaces.items()):
        if name not in facts.interfaces:
            yield Finding(
                "error",
                f"interface {name}",
                f"is not there; the host has {', '.join(sorted(facts.interfaces))}",
                "correct its name in brume_networks (or in the host's own variables)",
            )
            continue
        planned, mtu = needs.mtus.get(name, 0), facts.mtus.get(name, 0)
        if 0 < mtu < planned:
            yield Finding(
                "error",
                f"interface {name}",
                f"has an MTU of {mtu} bytes, planned are {planned}",
                "raise it on the host and on the switch, or correct `mtu` in brume_networks",
            )
        for address in addresses:
            holder = held.get(ipaddress.ip_address(address))
            # A bridge that the interface is a port of holds the address in its place.
            if holder is None:
                yield Finding(
                    "error",
                    f"interface {name}",
                    f"does not hold {address}",
                    "configure the address on the host, or correct brume_addresses",
                )
            elif holder != name and not holder.startswith("br"):
                yield Finding(
                    "error",
                    f"interface {name}",
                    f"does not hold {address}, which {holder} has",
                    "correct the interface in brume_networks, or the address in brume_addresses",
                )


def _ports(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    ours = {port.unit for port in needs.ports}
    ours |= {unit for planned in ours for unit in COMPANIONS.get(planned, ())}
    seen: set[tuple[int, int]] = set()
    for wanted in needs.ports:
        for found in facts.listeners:
            # systemd itself listens for units that start on the first connection, which may well be ours.
            if found.port != wanted.port or found.unit in ours or found.pid == 1 or (found.port, found.pid) in seen:
                continue
            if not overlap(found.address, wanted.address):
                continue
            seen.add((found.port, found.pid))
            holder = f"{found.process or 'a process'} (pid {found.pid}{f', {found.unit}' if found.unit else ''})"
            yield Finding(
                "error",
                f"port {wanted.port}",
                f"is held by {holder} at {found.address}, {wanted.unit} needs it",
                "stop and disable what holds it",
            )


def overlap(one: str, other: str) -> bool:
    """Return whether two listeners of the same port would meet: the same address, or one of them takes all."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped:
        first = first.ipv4_mapped
    if isinstance(second, ipaddress.IPv6Address) and second.ipv4_mapped:
        second = second.ipv4_mapped
    if first == second:
        return True
    for wide, narrow in ((first, second), (second, first)):
        # `::` takes IPv4 too unless the program asks otherwise (net.ipv6.bindv6only).
        if wide.is_unspecified and wide.version in (narrow.version, 6):
            return True
    return False


def _kernel(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    if needs.tun and not facts.tun:
        yield Finding(
            "error", "/dev/net/tun", "is not there", "load the module tun; instances and agents need tap devices"
        )
    if needs.kvm and facts.kvm:
        yield Finding(
            "error",
            "KVM",
            facts.kvm,
            "switch on virtualization in the firmware or in the hypervisor below, or set libvirt_virt_type to qemu "
            "(emulation, ten times slower)",
        )


def _data(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    for path, unit in sorted(needs.data.items()):
        if path in facts.filled and path not in facts.claimed and unit not in facts.recorded:
            yield Finding(
                "error",
                path,
                f"holds data that Brume did not make, and {unit} would take it over",
                "save it if anyone needs it and move it away, or plan another host; nothing here has been touched",
            )
    if needs.database_hosts and needs.database_hosts % 2 == 0 and DATABASE_UNIT not in facts.recorded:
        yield Finding(
            "error",
            "database hosts",
            f"are {needs.database_hosts}, an even number, so neither half has the majority when they lose each other",
            "add one to the group `database` or take one out",
        )


def _excluded(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    """Yield what a choice made here that is another now: networks, routers and ports in use depend on it."""
    for said in sorted(set(needs.excluded.values())):
        units = sorted(unit for unit, one in needs.excluded.items() if one == said and unit in facts.recorded)
        if units:
            yield Finding(
                "error",
                ", ".join(units),
                f"{'are' if units[1:] else 'is'} here by an earlier deployment with `{said}`, which has changed since",
                f"set `{said}` again; a cloud is not moved by a run, see docs/networking-drivers.md",
            )


def _environments(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    yield from _releases(facts, needs)
    if facts.wheelhouse:
        missing = [one.service for one in needs.environments if one.path not in facts.built]
        yield Finding(
            "error" if missing else "warning",
            "brume_wheelhouse",
            f"{needs.wheelhouse} {facts.wheelhouse}",
            "put the wheels that the locks name there, let this host reach it, or correct brume_wheelhouse",
        )


def _releases(facts: Facts, needs: Requirements) -> Iterable[Finding]:
    """Yield services of other releases than the planned one, where the run is not the way from there."""
    planned = release_number(needs.release)
    others: dict[str, list[str]] = {}
    for service, found in sorted(facts.releases.items()):
        for release in sorted({one for one in found if planned and release_number(one)} - {needs.release}):
            others.setdefault(release, []).append(service)
    for release, services in others.items():
        older = release_number(release) < planned
        way, other = ("upgrade", "rollback") if older else ("rollback", "upgrade")
        possible = can_cross(release, needs.release) if older else can_cross(needs.release, release)
        if needs.crossing == way and possible:
            continue
        if not possible:
            remedy = f"set brume_release to {release}, or to one that is a single step from it"
        elif needs.crossing == other:
            remedy = f"run {way}.yml, or set brume_release to what {other}.yml is to end with"
        else:
            remedy = f"run {way}.yml, or set brume_release to {release}"
        yield Finding(
            "error", f"release of {', '.join(services)}", f"is {release} here, planned is {needs.release}", remedy
        )


def gather(needs: Requirements) -> Facts:
    """Read the host. Raises OSError when /proc cannot be read."""
    release = parse_os_release(_read("/etc/os-release"))
    return Facts(
        operating_system=f"{release.get('ID', '')}-{release.get('VERSION_ID', '')}",
        machine=platform.machine(),
        python=sys.version_info[:2],
        systemd=os.path.isdir("/run/systemd/system"),
        time=time.time(),
        disk_bytes={path: free_bytes(path) for path in needs.disk_bytes},
        memory_mib=memory_mib(_read("/proc/meminfo"), _read("/sys/fs/cgroup/memory.max")),
        interfaces=interfaces(),
        listeners=listeners({port.port for port in needs.ports}),
        tun=os.path.exists("/dev/net/tun"),
        kvm=kvm_problem() if needs.kvm else "",
        recorded=frozenset(name.removesuffix(".json") for name in _names(RECORDS)),
        mtus={name: int(_read(f"/sys/class/net/{name}/mtu") or 0) for name in needs.mtus},
        mounts={path: reason for path in needs.disk_bytes if (reason := mount_problem(path))},
        filled=frozenset(path for path in needs.data if set(_names(path)) - {"lost+found"}),
        claimed=claims.claimed(),
        built=frozenset(one.path for one in needs.environments if os.path.exists(f"{one.path}/{BUILT}")),
        releases={one.service: runs for one in needs.environments if (runs := running_releases(one))},
        wheelhouse=wheelhouse_problem(needs.wheelhouse),
    )


def _names(folder: str) -> list[str]:
    """Return what is in a folder, nothing when it is not there."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def running_releases(environment: Environment) -> tuple[str, ...]:
    """Return the releases that a service's units last started well with, by the paths of their environments.

    Those are named `<release>-<digest of the lock>` and stand in the units' records (modules/unit_rollout).
    """
    folder = os.path.dirname(environment.current)
    paths = [str(read_marker(f"{RECORDS}/{unit}.json").get("revision", "")) for unit in environment.units]
    names = [os.path.basename(path) for path in paths if os.path.dirname(path) == folder]
    return tuple(sorted({name.rpartition("-")[0] for name in names}))


def mount_problem(path: str) -> str:
    """Return why nothing can be installed below a path, whose file system is that of the nearest parent, or nothing."""
    flags = os.statvfs(_existing(path)).f_flag
    if flags & os.ST_RDONLY:
        return "is mounted read-only"
    return "is mounted noexec, and programs are to run from there" if flags & os.ST_NOEXEC and path == "/opt" else ""


def wheelhouse_problem(place: str) -> str:
    """Return why a wheelhouse, a folder or an address, cannot be used from this host, or nothing."""
    if not place:
        return ""
    if not place.startswith(("http://", "https://")):
        if not os.path.isdir(place):
            return "is no folder on this host"
        return "" if any(name.endswith(".whl") for name in _names(place)) else "holds no wheel"
    try:
        with _opener(place).open(place, timeout=WHEELHOUSE_SECONDS) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        return f"answers {error.code} {error.reason}"
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        return f"does not answer this host ({getattr(error, 'reason', None) or error})"
    return ""


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Return what opens an address with the proxy and the trust that uv will have."""
    # Imported here, because it needs a Python whose lack is a finding.
    from ansible_collections.brume.cloud.plugins.module_utils import uv_environments  # noqa: PLC0415

    try:
        settings = uv_environments.host_variables(os.environ)
    except uv_environments.BuildError as error:
        raise ValueError(str(error)) from None
    folded = {key.lower(): value for key, value in settings.items()}
    proxies = {
        scheme: proxy
        for scheme in ("http", "https")
        if (proxy := folded.get(f"{scheme}_proxy", folded.get("all_proxy")))
    }
    host = urllib.request.Request(address).host or ""  # noqa: S310  # http and https only, see wheelhouse_problem
    if urllib.request.proxy_bypass_environment(host, {"no": folded.get("no_proxy", "")}):  # type: ignore[attr-defined]
        proxies = {}
    context = ssl.create_default_context(cafile=settings.get("SSL_CERT_FILE"))
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def parse_os_release(text: str) -> dict[str, str]:
    """Return the fields of os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value.strip("\"'") for key, equals, value in pairs if equals}


def memory_mib(meminfo: str, cgroup_limit: str) -> int:
    """Return the memory that may be used, in MiB: what the kernel has, or less where a control group says so."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    total = int(match[1]) // 1024 if match else 0
    limit = cgroup_limit.strip()
    return min(total, int(limit) // MIB) if limit.isdecimal() else total


def free_bytes(path: str) -> int:
    """Return the space that is free for anyone below a path, or below the nearest parent that exists."""
    status = os.statvfs(_existing(path))
    return status.f_bavail * status.f_frsize


def _existing(path: str) -> str:
    """Return the path, or the nearest parent that exists."""
    while not os.path.exists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def kvm_problem() -> str:
    """Return why KVM cannot make a guest, or an empty text."""
    try:
        handle = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/kvm cannot be opened ({error.strerror})"
    try:
        os.close(fcntl.ioctl(handle, KVM_CREATE_VM, 0))
    except OSError as error:
        return f"/dev/kvm makes no guest ({error.strerror})"
    finally:
        os.close(handle)
    return ""


RTM_GETADDR, NLMSG_DONE, NLMSG_ERROR, IFA_ADDRESS, IFA_LOCAL = 22, 3, 2, 1, 2
"""From linux/rtnetlink.h, linux/netlink.h and linux/if_addr.h."""


def interfaces() -> dict[str, tuple[str, ...]]:
    """Return every network interface with its addresses, as the kernel tells them (rtnetlink(7))."""
    found: dict[str, list[str]] = {name: [] for _number, name in socket.if_nameindex()}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.bind((0, 0))
        request = struct.pack("=LHHLL", 24, RTM_GETADDR, 0x301, 1, 0) + struct.pack("=BBBBl", 0, 0, 0, 0, 0)
        link.send(request)
        while True:
            data = link.recv(65536)
            for number, address in parse_addresses(data):
                with contextlib.suppress(OSError):
                    found.setdefault(socket.if_indextoname(number), []).append(address)
            if _is_last(data):
                return {name: tuple(addresses) for name, addresses in found.items()}


def _messages(data: bytes) -> Iterable[tuple[int, bytes]]:
    """Yield type and body of each netlink message."""
    while len(data) >= 16:  # noqa: PLR2004 (size of nlmsghdr)
        length, kind = struct.unpack_from("=LH", data)
        yield kind, data[16:length]
        data = data[max(16, (length + 3) & ~3) :]


def _is_last(data: bytes) -> bool:
    return any(kind in (NLMSG_DONE, NLMSG_ERROR) for kind, _body in _messages(data))


def parse_addresses(data: bytes) -> list[tuple[int, str]]:
    """Return (interface number, address) from netlink's answer; on a point-to-point link the own end."""
    result = []
    for kind, body in _messages(data):
        if kind != 20:  # noqa: PLR2004 (RTM_NEWADDR)
            continue
        family, _prefix, _flags, _scope, number = struct.unpack_from("=BBBBl", body)
        attributes: dict[int, bytes] = {}
        rest = body[8:]
        while len(rest) >= 4:  # noqa: PLR2004 (size of rtattr)
            length, name = struct.unpack_from("=HH", rest)
            attributes[name] = rest[4:length]
            rest = rest[max(4, (length + 3) & ~3) :]
        raw = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
        if raw and family in (socket.AF_INET, socket.AF_INET6):
            result.append((number, socket.inet_ntop(family, raw)))
    return result


def listeners(ports: set[int]) -> tuple[Listener, ...]:
    """Return who listens on any of the ports."""
    table = {}
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        table.update(parse_sockets(_read(f"/proc/net/{name}"), family, ports))
    if not table:
        return ()
    owners = _owners(set(table))
    result = []
    for inode, (address, port) in table.items():
        for pid in owners.get(inode) or [0]:
            process = _read(f"/proc/{pid}/comm").strip() if pid else ""
            unit = unit_of(_read(f"/proc/{pid}/cgroup")) if pid else ""
            result.append(Listener(address, port, pid, process, unit))
    return tuple(result)


def parse_sockets(text: str, family: int, ports: set[int]) -> dict[str, tuple[str, int]]:
    """Return inode -> (address, port) of the listening sockets in /proc/net/tcp or tcp6 (proc_net(5))."""
    found = {}
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != "0A":  # noqa: PLR2004 (0A: TCP_LISTEN)
            continue
        address, _, number = fields[1].partition(":")
        port = int(number, 16)
        if port in ports:
            words = [int(address[place : place + 8], 16) for place in range(0, len(address), 8)]
            raw = struct.pack(f"={len(words)}I", *words)  # each word is in the host's own order
            found[fields[9]] = (socket.inet_ntop(family, raw), port)
    return found


def _owners(inodes: set[str]) -> dict[str, list[int]]:
    """Return the processes that hold sockets, by the sockets' inodes."""
    owners: dict[str, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            handles = os.listdir(f"/proc/{name}/fd")
        except OSError:
            continue  # it has ended
        for handle in handles:
            try:
                target = os.readlink(f"/proc/{name}/fd/{handle}")
            except OSError:
                continue
            if target.startswith("socket:["):
                inode = target[8:-1]
                if inode in inodes and int(name) not in owners.get(inode, []):
                    owners.setdefault(inode, []).append(int(name))
    return owners


def unit_of(cgroup: str) -> str:
    """Return the service whose control group a process belongs to, from /proc/PID/cgroup; empty when there is none."""
    for line in cgroup.splitlines():
        parts = [part for part in line.rpartition(":")[2].split("/") if part.endswith(".service")]
        if parts:
            return parts[-1]
    return ""


def requirements(params: Mapping[str, Any]) -> Requirements:
    """Return the module's arguments as a typed record."""
    ports: Sequence[Mapping[str, Any]] = params["ports"]
    return Requirements(
        controller_time=float(params["controller_time"] or 0),
        operating_system=params["operating_system"] or "",
        disk_bytes={path: int(size) for path, size in params["disk_bytes"].items()},
        memory_mib=int(params["memory_mib"] or 0),
        interfaces={item["name"]: tuple(item["addresses"] or ()) for item in params["interfaces"]},
        ports=tuple(Listener(item["address"] or "0.0.0.0", int(item["port"]), unit=item["unit"]) for item in ports),  # noqa: S104
        tun=bool(params["tun"]),
        kvm=bool(params["kvm"]),
        mtus={item["name"]: item["mtu"] for item in params["interfaces"] if item.get("mtu")},
        data={item["path"]: item["unit"] for item in params["data"]},
        environments=tuple(
            Environment(one["service"], one["path"], one["current"], tuple(one["units"]))
            for one in params["environments"]
        ),
        release=params["release"] or "",
        crossing=params["crossing"],
        wheelhouse=params["wheelhouse"] or "",
        database_hosts=int(params["database_hosts"]),
        excluded=dict(params["excluded"]),
    )
