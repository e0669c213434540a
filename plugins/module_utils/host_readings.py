"""What a host says about itself, next to what the plan says: the logic of the tests in `molecule/_shared/tests`.

Each `*_command` reads all items of a kind at once; its parser returns them by name, and a judge returns what is wrong
with one item, or nothing.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WILDCARDS = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104  # compared with, never bound


@dataclass(frozen=True)
class Listener:
    """A socket that accepts connections or datagrams in the host's own network namespace."""

    protocol: str
    address: str
    port: int
    process: str

    def __str__(self) -> str:
        """Return `tcp 192.0.2.1:80 (haproxy)`."""
        return f"{self.protocol} {self.address}:{self.port} ({self.process or 'process not shown'})"


@dataclass(frozen=True)
class Allowed:
    """Listeners that no plan names, and why they may be there. `process`: a pattern; `loopback`: only there."""

    protocol: str
    ports: range
    process: str
    reason: str
    loopback: bool = False


def _one(port: int) -> range:
    return range(port, port + 1)


ALLOWED = (
    Allowed("tcp", _one(22), r"sshd.*|systemd", "the host is reached over it"),
    Allowed("tcp", _one(53), r"systemd-resolve.*", "name resolution of the host", loopback=True),
    Allowed("udp", _one(53), r"systemd-resolve.*", "name resolution of the host", loopback=True),
    Allowed("tcp", _one(5355), r"systemd-resolve.*", "name resolution of the host (LLMNR)"),
    Allowed("udp", _one(5355), r"systemd-resolve.*", "name resolution of the host (LLMNR)"),
    Allowed("udp", _one(68), r"dhclient|systemd-network.*|NetworkManager", "the host's own lease"),
    Allowed("udp", _one(546), r"dhclient|systemd-network.*|NetworkManager", "the host's own lease"),
    Allowed("udp", _one(323), r"chronyd", "chronyc speaks to chronyd", loopback=True),
    Allowed("tcp", _one(4369), r"epmd|systemd", "Erlang's port mapper, which RabbitMQ starts"),
    Allowed("tcp", _one(6633), r"neutron-openvsw.*|python.*", "the agent controls the switch", loopback=True),
    Allowed("tcp", _one(6640), r"ovsdb-server", "the agents speak to the switch's database", loopback=True),
    Allowed("udp", _one(4789), r"ovs-vswitchd|", "VXLAN; the kernel's own socket shows no process"),
    Allowed("udp", _one(6081), r"ovs-vswitchd|", "Geneve; the kernel's own socket shows no process"),
    Allowed("tcp", range(6800, 7569), r"ceph-(osd|mgr|mds).*", "daemons of Ceph take the first ports that are free"),
    Allowed("tcp", range(5900, 6900), r"qemu.*", "consoles of instances, reached by the noVNC proxy"),
)
"""Sockets in other namespaces (dnsmasq and HAProxy of tenants' networks) are not seen at all."""


def units_command(names: Iterable[str]) -> str:
    """Return the command that reads all units."""
    properties = "--property=Id,Names,ActiveState,SubState,UnitFileState,NRestarts"
    return shlex.join(["systemctl", "show", properties, "--", *names])


def units(text: str) -> dict[str, dict[str, str]]:
    """Return properties by unit name, aliases included."""
    found: dict[str, dict[str, str]] = {}
    for block in text.strip().split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for name in {properties.get("Id", ""), *properties.get("Names", "").split()} - {""}:
            found[name] = properties
    return found


def unit_problem(name: str, found: Mapping[str, Mapping[str, str]]) -> str:
    """Return why a unit is not active and enabled, or nothing.

    A static one counts as enabled, as for `systemctl is-enabled`: it has no [Install], other units start it.
    """
    if name not in found:
        return f"{name} is unknown to systemd"
    unit = found[name]
    state, enabled = unit.get("ActiveState", ""), unit.get("UnitFileState", "")
    problems = [] if state == "active" else [f"{state} ({unit.get('SubState')}), restarts: {unit.get('NRestarts')}"]
    problems += [] if enabled in ("enabled", "static") else [enabled or "no unit file"]
    return f"{name} is {' and '.join(problems)}" if problems else ""


LISTENERS_COMMAND = "ss -lntuH -p"


def listeners(text: str) -> list[Listener]:
    """Return what `ss -lntuH -p` shows, without the interface that follows a `%` in an address."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 6 or words[0] not in ("tcp", "udp"):  # noqa: PLR2004  # protocol, state, 2 queues, 2 addresses
            continue
        address, _colon, port = words[4].rpartition(":")
        process = re.search(r'"([^"]*)"', line)
        address = address.strip("[]").split("%", maxsplit=1)[0].strip("[]")
        found.append(Listener(words[0], address, int(port), process[1] if process else ""))
    return list(dict.fromkeys(found))


def is_open(address: str, port: int, found: Iterable[Listener]) -> bool:
    """Tell whether something accepts connections at a planned address, be it by listening everywhere."""
    return any(
        one.protocol == "tcp" and one.port == port and (one.address == address or one.address in WILDCARDS)
        for one in found
    )


def unplanned(
    found: Iterable[Listener], planned: Iterable[tuple[str, int]], allowed: Sequence[Allowed] = ALLOWED
) -> list[Listener]:
    """Return the listeners that neither the plan (address, port) names nor `allowed` excuses.

    Listening everywhere is not planned when the plan names one address: it would open the port to other networks.
    """
    wanted = {("*" if address in WILDCARDS else address, port) for address, port in planned}
    result = []
    for one in found:
        address = "*" if one.address in WILDCARDS else one.address
        if one.protocol == "tcp" and (address, one.port) in wanted:
            continue
        if not any(_excuses(entry, one) for entry in allowed):
            result.append(one)
    return result


def _excuses(entry: Allowed, one: Listener) -> bool:
    local = one.address.startswith("127.") or one.address == "::1" or one.address.startswith("::ffff:127.")
    return (
        entry.protocol == one.protocol
        and one.port in entry.ports
        and re.fullmatch(entry.process, one.process) is not None
        and (local or not entry.loopback)
    )


def files_command(paths: Iterable[str]) -> str:
    """Return the command that reads owner, group and mode of all paths; missing ones are left out of its output."""
    return shlex.join(["stat", "--printf", r"%n\t%U\t%G\t%a\t%F\n", "--", *paths])


def files(text: str) -> dict[str, tuple[str, str, int, str]]:
    """Return owner, group, mode and kind by path."""
    found = {}
    for line in text.splitlines():
        path, owner, group, mode, kind = line.split("\t")
        found[path] = (owner, group, int(mode, 8), kind)
    return found


def file_problem(
    path: str, owner: str, group: str, mode: str, kind: str, found: Mapping[str, tuple[str, str, int, str]]
) -> str:
    """Return how a file or directory (`kind`) differs from the plan, or nothing."""
    if path not in found:
        return f"{path} is missing"
    actual_owner, actual_group, actual_mode, actual_kind = found[path]
    problems = [] if actual_kind.endswith(kind) else [f"is a {actual_kind}"]
    problems += [] if (actual_owner, actual_group) == (owner, group) else [
        f"belongs to {actual_owner}:{actual_group}, not to {owner}:{group}"
    ]
    problems += [] if actual_mode == int(mode, 8) else [f"has mode {actual_mode:04o}, not {mode}"]
    return f"{path} {' and '.join(problems)}" if problems else ""


def links_command(links: Iterable[str]) -> str:
    """Return the command that reads where links lead to."""
    return f"for link in {shlex.join(links)}; do printf '%s\\t%s\\n' \"$link\" \"$(readlink -- \"$link\")\"; done"


def links(text: str) -> dict[str, str]:
    """Return targets by link; the target of what is no link is empty."""
    return dict(line.split("\t", 1) for line in text.splitlines())


def packages_command(names: Iterable[str]) -> str:
    """Return the command that reads the state of all packages; unknown ones are left out of its output."""
    return shlex.join(["dpkg-query", "--show", "--showformat", r"${Package}\t${db:Status-Status}\n", *names])


def packages(text: str) -> dict[str, str]:
    """Return states by package."""
    return dict(line.split("\t", 1) for line in text.splitlines())


EXPOSURE_COMMAND = "systemd-analyze security --no-pager --json=short"
"""It leaves out units that start, do one thing and end (Type=oneshot): nothing of them runs on."""


def exposures(text: str) -> dict[str, float]:
    """Return the exposure of each running service, 0 to 10 (systemd-analyze(1), security)."""
    return {one["unit"]: float(one["exposure"]) for one in json.loads(text)}


def service_of(unit: str) -> str:
    """Return the unit whose process runs; a socket starts the service of its name (systemd.socket(5))."""
    return f"{unit.removesuffix('.socket')}.service" if unit.endswith(".socket") else unit


def exposure_problem(unit: str, limit: float, accepted: float | None, found: Mapping[str, float]) -> str:
    """Return why a unit's exposure is not as it should be, or nothing; `accepted` is the limit that has a reason."""
    exposure = found[unit]
    if exposure > (accepted or limit):
        return f"{unit} has the exposure {exposure}, above {accepted or limit}: harden it, or give `exposure` a reason"
    if accepted is not None and exposure <= limit:
        return f"{unit} has the exposure {exposure}: it needs no reason any more, remove `exposure`"
    return ""


def exposure_table(rows: Iterable[tuple[str, str, float, str]]) -> str:
    """Return host, unit, exposure and reason as lines for people, the most exposed first."""
    ordered = sorted(rows, key=lambda row: (-row[2], row[0], row[1]))
    lines = [f"{host:<16} {unit:<36} {exposure:>4.1f}  {reason}".rstrip() for host, unit, exposure, reason in ordered]
    return "\n".join(lines) + "\n"
