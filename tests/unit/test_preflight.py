"""Preflight: what a host must be, and what is read of it."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import preflight
from ansible_collections.brume.cloud.plugins.module_utils.preflight import GIB, Facts, Listener, Requirements

ALL = "0.0.0.0"  # noqa: S104 (the address of a listener, nothing is opened)

GOOD = Facts(
    operating_system="debian-13",
    machine="x86_64",
    python=(3, 13),
    time=1000.0,
    disk_bytes={"/opt": 10 * GIB},
    memory_mib=4000,
    interfaces={"eth0": ("192.0.2.1",), "lo": ("127.0.0.1",), "br-phy": ("198.51.100.1",), "eth1": ()},
)
NEEDS = Requirements(
    controller_time=1000.0,
    operating_system="debian-13",
    disk_bytes={"/opt": 5 * GIB},
    memory_mib=4096,
    interfaces={"eth0": ("192.0.2.1",)},
    ports=(Listener("192.0.2.1", 80, unit="web.service"),),
    tun=True,
)


def held(address: str, **more: Any) -> Listener:
    """Return a listener of another program on the planned port."""
    return Listener(address, 80, **{"pid": 7, "process": "apache2", "unit": "apache2.service", **more})


@pytest.mark.parametrize(
    ("facts", "needs", "found"),
    [
        ({}, {}, []),
        ({"operating_system": "debian-12"}, {}, [("error", "operating system")]),
        ({"machine": "i686"}, {}, [("error", "architecture")]),
        ({"python": (3, 10)}, {}, [("error", "python3")]),
        ({"python": (3, 14)}, {}, [("error", "python3")]),
        ({"systemd": False}, {}, [("error", "systemd")]),
        ({"time": 1049.0}, {}, []),
        ({"time": 1051.0}, {}, [("error", "clock")]),
        ({"time": 969.0}, {}, [("error", "clock")]),
        ({"time": 971.0}, {}, []),
        ({"time": 0.0}, {"controller_time": 0.0}, []),
        ({"disk_bytes": {"/opt": 4 * GIB}}, {}, [("error", "/opt")]),
        ({"disk_bytes": {"/opt": 4 * GIB}, "recorded": frozenset({"x.service"})}, {}, [("warning", "/opt")]),
        ({"disk_bytes": {"/opt": GIB // 4}, "recorded": frozenset({"x.service"})}, {}, [("error", "/opt")]),
        ({"memory_mib": 3600}, {}, [("error", "memory")]),
        ({}, {"interfaces": {"eth9": ()}}, [("error", "interface eth9")]),
        ({}, {"interfaces": {"eth0": ("192.0.2.9",)}}, [("error", "interface eth0")]),
        ({}, {"interfaces": {"eth0": ("127.0.0.1",)}}, [("error", "interface eth0")]),
        ({}, {"interfaces": {"eth1": ("198.51.100.1",)}}, []),
        ({"listeners": (held(ALL),)}, {}, [("error", "port 80")]),
        ({"listeners": (held("::"),)}, {}, [("error", "port 80")]),
        ({"listeners": (held("192.0.2.1"),)}, {}, [("error", "port 80")]),
        ({"listeners": (held("::ffff:192.0.2.1"),)}, {}, [("error", "port 80")]),
        ({"listeners": (held("127.0.0.1"),)}, {}, []),
        ({"listeners": (held(ALL, unit="web.service"),)}, {}, []),
        ({"listeners": (held(ALL, pid=1, unit=""),)}, {}, []),
        ({"listeners": (held(ALL, unit="epmd.service"),)}, {}, [("error", "port 80")]),
        (
            {"listeners": (held(ALL, unit="epmd.service"),)},
            {"ports": (Listener(ALL, 80, unit="rabbitmq-server.service"),)},
            [],
        ),
        ({"tun": False}, {}, [("error", "/dev/net/tun")]),
        ({"tun": False}, {"tun": False}, []),
        ({"kvm": "no"}, {"kvm": True}, [("error", "KVM")]),
        ({"kvm": "no"}, {}, []),
        ({"recorded": frozenset({"a.service"})}, {"excluded": {"b.service": "driver: new"}}, []),
        ({"recorded": frozenset({"a.service"})}, {"excluded": {"a.service": "driver: new"}}, [("error", "a.service")]),
        (
            {"machine": "i686", "disk_bytes": {"/opt": 4 * GIB}, "recorded": frozenset({"x.service"}), "tun": False},
            {},
            [("error", "architecture"), ("error", "/dev/net/tun"), ("warning", "/opt")],
        ),
    ],
)
def test_every_finding_has_its_cause(
    facts: dict[str, Any], needs: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    findings = preflight.judge(Facts(**{**vars(GOOD), **facts}), Requirements(**{**vars(NEEDS), **needs}))
    assert [(one.severity, one.subject) for one in findings] == found
    assert all(one.message and one.remedy for one in findings)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (ALL, "10.0.0.1", True),
        ("10.0.0.1", ALL, True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        (ALL, "2001:db8::1", False),
        ("::", "10.0.0.1", True),
        ("2001:db8::1", "::", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_listeners_meet_at_the_same_or_at_every_address(one: str, other: str, meet: bool) -> None:
    assert preflight.overlap(one, other) is meet


def test_sockets_are_read_as_the_kernel_writes_them() -> None:
    line = "   0: {} 00000000:0000 {} 00000000:00000000 00:00000000 00000000     0        0 4711 1 x"
    other = line.format("0100007F:1F90", "01").replace("4711", "1")
    text = "\n".join(["head", line.format("0100007F:1F90", "0A"), other])
    assert preflight.parse_sockets(text, socket.AF_INET, {8080}) == {"4711": ("127.0.0.1", 8080)}
    assert preflight.parse_sockets(text, socket.AF_INET, {80}) == {}
    wide = "head\n" + line.format("00000000000000000000000001000000:0050", "0A")
    assert preflight.parse_sockets(wide, socket.AF_INET6, {80}) == {"4711": ("::1", 80)}


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/haproxy.service\n", "haproxy.service"),
        ("1:name=systemd:/\n0::/machine/x.scope/system.slice/nova-api.service/worker\n", "nova-api.service"),
        ("0::/user.slice/session-1.scope\n", ""),
        ("0::/user@0.service/app.slice/dbus.service\n", "dbus.service"),
    ],
)
def test_a_process_belongs_to_the_unit_of_its_control_group(text: str, unit: str) -> None:
    assert preflight.unit_of(text) == unit


@pytest.mark.parametrize(
    ("limit", "mebibytes"), [("", 2048), ("max\n", 2048), ("1073741824\n", 1024), ("99999999999999\n", 2048)]
)
def test_memory_is_what_may_be_used(limit: str, mebibytes: int) -> None:
    assert preflight.memory_mib("MemTotal:        2097152 kB\nMemFree: 1 kB\n", limit) == mebibytes


def test_the_host_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        needs = Requirements(disk_bytes={"/opt/not/there": 1}, ports=(Listener("127.0.0.1", port, unit="x.service"),))
        facts = preflight.gather(needs)
    assert "127.0.0.1" in facts.interfaces["lo"]
    assert facts.disk_bytes["/opt/not/there"] > 0
    assert facts.memory_mib > 0
    assert [(one.address, one.port, one.pid) for one in facts.listeners] == [("127.0.0.1", port, os.getpid())]
