"""The lab: what it consists of, what the machine hands down, what podman is told, and how its traces are found."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import netaddr
import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import is_trusted_as_template
from ansible_collections.brume.cloud.plugins.inventory import lab as plugin

from tools import check, lab
from tools.lab_parts import containers, image, settings
from tools.lab_parts.layout import Host, HostVariables, Lab, LabError, Network, Port, inventory_name, layout

NETWORKS: dict[str, dict[str, Any]] = {
    "management": {"cidr": "192.0.2.0/24", "interface": "eth0"},
    "external": {"cidr": "198.51.100.0/24", "interface": "eth1", "gateway": "198.51.100.254", "mtu": 1400},
    "tunnel": {"cidr": "2001:db8::/64", "interface": "eth2"},
}


def variables(name: str = "one", **changes: Any) -> HostVariables:
    host = HostVariables(name, frozenset({"all", "control"}), NETWORKS, {"management": "192.0.2.11"})
    return replace(host, **changes)


def problems(*hosts: HostVariables) -> str:
    with pytest.raises(LabError) as caught:
        layout("x", hosts)
    return str(caught.value)


def test_networks_hold_this_machines_address_where_the_gateway_is() -> None:
    found = layout("x", [variables()])
    assert [(one.name, str(one.gateway), one.mtu) for one in found.networks] == [
        ("management", "192.0.2.1", None),
        ("external", "198.51.100.254", 1400),
        ("tunnel", "2001:db8::1", None),
    ]


@pytest.mark.parametrize(
    ("groups", "addresses", "expected"),
    [
        ({"control"}, {"management": "192.0.2.11"}, ["eth0 192.0.2.11"]),
        ({"network"}, {"management": "192.0.2.11"}, ["eth0 192.0.2.11", "eth1 None"]),
        ({"compute"}, {"management": "192.0.2.11", "tunnel": "2001:db8::b"},
         ["eth0 192.0.2.11", "eth1 None", "eth2 2001:db8::b"]),
        ({"control"}, {"management": "192.0.2.11", "external": "198.51.100.9"},
         ["eth0 192.0.2.11", "eth1 198.51.100.9"]),
    ],
)  # fmt: skip
def test_ports_of_a_host(groups: set[str], addresses: dict[str, str], expected: list[str]) -> None:
    host = layout("x", [variables(groups=frozenset(groups), addresses=addresses)]).hosts[0]
    assert [f"{port.interface} {port.address}" for port in host.ports] == expected


def test_a_hosts_own_interface_names_win() -> None:
    host = layout("x", [variables(interfaces={"management": "lan0"})]).hosts[0]
    assert [port.interface for port in host.ports] == ["lan0"]


def test_the_operating_system_chooses_the_image() -> None:
    other = variables("two", system="debian-12", addresses={"management": "192.0.2.12"})
    assert [host.suite for host in layout("x", [variables(), other]).hosts] == ["trixie", "bookworm"]


def test_disks_have_sizes_in_bytes() -> None:
    (host,) = layout("x", [variables(settings={"disks": {"vdb": "512M", "vd-c": "2G"}})]).hosts
    assert host.disks == (("vdb", 512 * 1024**2), ("vd-c", 2 * 1024**3))
    (host,) = layout("x", [variables()]).hosts
    assert host.disks == ()


def test_every_mistake_at_once() -> None:
    text = problems(
        variables(addresses={}),
        variables("two", addresses={"management": "203.0.113.1"}, settings={"cpu": 2, "memory": 8}, system="plan9"),
        variables("three", addresses={"management": "192.0.2.1"}),
        variables("four", addresses={"management": "192.0.2.40"}),
        variables("five", addresses={"management": "192.0.2.40"}),
        variables("six", settings={"disks": {"vdb": "2T", "../x": "1G", "c": "0G"}}),
        variables("seven", settings={"disks": ["vdb"]}),
    )
    for part in (
        "one: needs brume_addresses.management",
        "two: brume_addresses.management: 203.0.113.1 is not in 192.0.2.0/24",
        "two: brume_lab.cpu: unknown",
        "two: brume_lab.memory: 8 is of the wrong type",
        "two: brume_operating_system: plan9",
        "three: 192.0.2.1 is this machine's own address on management",
        "five: 192.0.2.40 is the address of four",
        "six: brume_lab.disks.vdb: '2T'; write a name and a size such as vdb: 2G",
        "six: brume_lab.disks.../x: '1G'; write a name",
        "six: brume_lab.disks.c: '0G'; write a name",
        "seven: brume_lab.disks: ['vdb'] is of the wrong type",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("network", "part"),
    [
        ({"cidr": "no", "interface": "eth1"}, "brume_networks.external: cidr or gateway"),
        ({"interface": "eth1"}, "brume_networks.external: cidr or gateway"),
        ({"cidr": "198.51.100.0/24", "interface": "eth0"}, "eth0 is management's already"),
        ({"cidr": "198.51.100.0/24", "interface": "eth0.7"}, "no VLANs"),
    ],
)
def test_networks_that_a_lab_cannot_have(network: dict[str, str], part: str) -> None:
    assert part in problems(variables(networks={**NETWORKS, "external": network}))


def test_a_network_is_the_same_for_all_hosts() -> None:
    other = {**NETWORKS, "external": {**NETWORKS["external"], "cidr": "203.0.113.0/24"}}
    assert "differs between hosts" in problems(variables(), variables("two", networks=other))


def test_inventories_without_hosts_or_with_unusable_names(tmp_path: Path) -> None:
    assert "no hosts" in problems()
    with pytest.raises(LabError, match="no such inventory"):
        inventory_name(tmp_path / "absent")
    (tmp_path / "a b").mkdir()
    with pytest.raises(LabError, match="'a b'"):
        inventory_name(tmp_path / "a b")
    (tmp_path / "aio").mkdir()
    assert inventory_name(tmp_path / "aio") == "aio"


DEB822 = """# a comment
Types: deb deb-src
# another
URIs: http://archive.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib non-free
Signed-By: /usr/share/keyrings/other.gpg
Trusted: yes

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

Types: deb
URIs:
 http://archive.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://vendor.example/
Suites: bookworm
Components: stable
"""


def test_sources_move_to_the_hosts_release_and_leave_other_archives_behind() -> None:
    found = settings.rewrite_sources(settings.parse_deb822(DEB822), "bookworm", "trixie")
    assert settings.sources_text(found) == (
        "Types: deb\nURIs: http://archive.example/debian\nSuites: trixie trixie-updates\n"
        "Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\nTrusted: yes\n"
        "\n"
        "Types: deb\nURIs: http://archive.example/security\nSuites: trixie-security\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_sources_in_one_line_form() -> None:
    text = (
        "# deb http://no.example/debian bookworm main\n"
        "deb [arch=amd64 trusted=yes] http://archive.example/debian bookworm main non-free-firmware # why\n"
        "deb-src http://archive.example/debian bookworm main\n"
        "deb http://archive.example/security bookworm/updates main\n"
    )
    found = settings.rewrite_sources(settings.parse_list(text), "bookworm", "trixie")
    assert [(one.uris, one.suites, one.components, one.options) for one in found] == [
        (("http://archive.example/debian",), ("trixie",), ("main", "non-free-firmware"), (("trusted", "yes"),)),
        (("http://archive.example/security",), ("trixie-security",), ("main",), ()),
    ]


def test_apt_settings_are_those_of_the_way_to_the_archive() -> None:
    dump = (
        'Acquire "";\nAcquire::http::Proxy "http://proxy.example:3128";\nAcquire::Check-Valid-Until "false";\n'
        'Acquire::https::SslKey "/root/key";\nAcquire::cdrom::mount "/media";\nAPT::Install-Recommends "1";\n'
        'Acquire::Languages:: "none";\nAcquire::Retries "";\n'
    )
    assert settings.apt_settings(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::Check-Valid-Until "false";\n'
        'Acquire::Languages:: "none";\n'
    )


def test_pip_settings_merge_files_and_variables() -> None:
    files = (
        "[install]\ntimeout = 9\n[global]\nindex-url = https://low.example/simple\n",
        "[global]\nindex_url = https://user.example/simple\ntimeout = 5\n"
        "extra-index-url =\n  https://a.example\n  https://b.example\n",
    )
    found = settings.pip_settings(files, {"PIP_TRUSTED_HOST": "a.example", "PIP_CERT": "/x", "PATH": "/bin"})
    assert found == {
        "index-url": ["https://user.example/simple"],
        "extra-index-url": ["https://a.example", "https://b.example"],
        "trusted-host": ["a.example"],
        "timeout": ["9"],
    }
    assert settings.pip_text(found) == (
        "[global]\nindex-url = https://user.example/simple\n"
        "extra-index-url =\n    https://a.example\n    https://b.example\ntrusted-host = a.example\ntimeout = 9\n"
    )


def test_folders_of_this_machine_are_not_handed_down() -> None:
    given = {"find-links": ["/opt/wheels", "https://wheels.example"], "extra-index-url": ["file:///opt/index"]}
    assert settings.reachable(given) == {"find-links": ["https://wheels.example"]}
    assert settings.pip_text({}) == ""


def test_pip_configuration_that_cannot_be_read_is_named() -> None:
    with pytest.raises(LabError, match="pip's configuration"):
        settings.pip_settings(["index-url = x\n"], {})


def test_environment_has_proxies_in_both_cases_and_passes_the_lab_by() -> None:
    given = {"https_proxy": "http://proxy.example", "NO_PROXY": "intra.example", "HOME": "/home/me"}
    given |= {"UV_INDEX_URL": "https://i.example/a b", "UV_CACHE_DIR": "/home/me/.cache"}
    lines = settings.environment_text(given, ["192.0.2.11"]).splitlines()
    assert lines == [
        "HTTPS_PROXY=http://proxy.example",
        "NO_PROXY=intra.example,localhost,127.0.0.1,192.0.2.11",
        "UV_INDEX_URL='https://i.example/a b'",
        "https_proxy=http://proxy.example",
        "no_proxy=intra.example,localhost,127.0.0.1,192.0.2.11",
    ]
    assert settings.environment_text({"no_proxy": "x"}, ["192.0.2.11"]) == ""


def test_hosts_of_a_lab_beside_are_reached_without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Sequence[str]] = []
    monkeypatch.setattr(lab.handed_down, "gather", lambda _suite, addresses, _environment: given.append(addresses))
    lab.gathered(layout("x", [variables(settings={"direct": ["203.0.113.11"]})]))
    assert given == [["192.0.2.11", "203.0.113.11"]]


def test_only_certificates_that_debian_does_not_have_are_handed_down() -> None:
    def pem(content: bytes) -> str:
        return f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(content).decode()}\n-----END CERTIFICATE-----\n"

    bundle = f"# one\n{pem(b'own')}{pem(b'debian')}{pem(b'own')}"
    assert settings.extra_certificates(bundle, [pem(b"debian")]) == [pem(b"own")]


def handed_down(**changes: Any) -> settings.Settings:
    return replace(settings.Settings((("/etc/apt/x", "1"),), (("/etc/pip.conf", "secret"),), ("cert",)), **changes)


def test_an_image_is_named_by_what_goes_into_it() -> None:
    path = image.archive_path("trixie", [], handed_down())
    assert path == image.archive_path("trixie", ["less"], handed_down(private_files=()))
    others = {
        image.archive_path("bookworm", [], handed_down()),
        image.archive_path("trixie", ["vim"], handed_down()),
        image.archive_path("trixie", [], handed_down(files=(("/etc/apt/x", "2"),))),
        image.archive_path("trixie", [], handed_down(certificates=())),
    }
    assert len(others | {path}) == 5


MANAGEMENT = Network("management", "eth0", netaddr.IPNetwork("192.0.2.0/24"), netaddr.IPAddress("192.0.2.1"))
TUNNEL = Network("tunnel", "eth2", netaddr.IPNetwork("2001:db8::/64"), netaddr.IPAddress("2001:db8::1"), 9000)
HOST = Host(
    "one",
    (
        Port("management", "eth0", netaddr.IPAddress("192.0.2.11")),
        Port("external", "eth1", None),
        Port("tunnel", "eth2", netaddr.IPAddress("2001:db8::b")),
    ),
)


def test_podmans_networks() -> None:
    command = containers.network_command("aio", MANAGEMENT, "a1")
    assert command == ["network", "create", "--disable-dns", "--subnet=192.0.2.0/24", "--gateway=192.0.2.1",
                       "aio-management-a1"]  # fmt: skip
    command = containers.network_command("aio", TUNNEL, "a1")
    assert "--ipv6" in command
    assert "--opt=mtu=9000" in command


def test_podmans_container() -> None:
    command = containers.container_command("aio", HOST, ["--ulimit=nofile=9:9"], "a1")
    assert command[:4] == ["run", "--detach", "--name=one", "--hostname=one"]
    assert [word for word in command if word.startswith("--network")] == [
        "--network=aio-management-a1:interface_name=eth0,ip=192.0.2.11",
        "--network=aio-external-a1:interface_name=eth1",
        "--network=aio-tunnel-a1:interface_name=eth2,ip=2001:db8::b",
    ]
    assert command[-3:] == ["--rootfs", "/var/lib/brume-lab/aio/hosts/one/root", "/sbin/init"]
    assert {"--privileged", "--systemd=always", "--no-hosts", "--dns=none", "--ulimit=nofile=9:9"} <= set(command)
    assert not [word for word in command if word.startswith(("--cpus", "--memory"))]
    bounded = containers.container_command("aio", replace(HOST, cpus=2, memory="8g"), [], "a1")
    assert {"--cpus=2", "--memory=8g"} <= set(bounded)


def test_ports_without_an_address_lose_podmans_and_one_default_route_stays() -> None:
    assert containers.link_commands(HOST, ["in"]) == [
        ["in", "ip", "address", "flush", "dev", "eth1", "scope", "global"],
        ["in", "ip", "-6", "route", "flush", "default", "dev", "eth2"],
    ]


def test_what_cannot_change_while_a_host_lives() -> None:
    known = containers.specification(HOST, [MANAGEMENT, TUNNEL])
    moved = replace(MANAGEMENT, cidr=netaddr.IPNetwork("192.0.2.0/25"))
    unused = Network("api", "eth9", netaddr.IPNetwork("203.0.113.0/24"), netaddr.IPAddress("203.0.113.1"))
    assert known == containers.specification(replace(HOST, memory="9g"), [MANAGEMENT, TUNNEL, unused])
    assert known != containers.specification(HOST, [moved, TUNNEL])
    assert known != containers.specification(replace(HOST, suite="bookworm"), [MANAGEMENT, TUNNEL])
    assert known != containers.specification(replace(HOST, ports=HOST.ports[:1]), [MANAGEMENT, TUNNEL])


def test_downloads_are_linked_once_and_never_replaced(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    (source / "partial").mkdir()
    (source / "partial/half").write_text("half")
    (source / "deep/file").write_text("new")
    (source / "lock").write_text("")
    (source / "deep/link").symlink_to("file")
    os.utime(source, (1, 1))
    assert containers.mirror(source, target) == 2
    assert (target / "deep/file").stat().st_ino == (source / "deep/file").stat().st_ino
    assert os.readlink(target / "deep/link") == "file"
    assert sorted(path.name for path in target.iterdir()) == ["deep"]
    assert target.stat().st_mtime == 1
    (target / "deep/file").unlink()
    (target / "deep/file").write_text("kept")
    assert containers.mirror(source, target) == 0
    assert (target / "deep/file").read_text() == "kept"
    assert containers.mirror(tmp_path / "absent", target) == 0


def test_downloads_are_copied_between_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("new")
    assert containers.mirror(tmp_path / "source", tmp_path / "target") == 1
    assert (tmp_path / "target/file").read_text() == "new"


RULES = """-P POSTROUTING ACCEPT
-N NETAVARK-AA
-N NETAVARK-BB
-A POSTROUTING -j NETAVARK-HOSTPORT-MASQ
-A POSTROUTING -s 192.0.2.0/24 -j NETAVARK-AA
-A POSTROUTING -s 198.51.100.0/24 -j NETAVARK-BB
-A POSTROUTING -s 203.0.113.0/24 -j NETAVARK-BB
-A NETAVARK-AA -d 192.0.2.0/24 -j ACCEPT
-A NETAVARK-AA ! -d 224.0.0.0/4 -j MASQUERADE
-A NETAVARK_FORWARD -s 192.0.2.0/24 -m comment --comment "two words" -j ACCEPT
"""


def test_rules_of_a_network_go_with_a_chain_that_is_its_own() -> None:
    assert containers.stale_rules(RULES, "192.0.2.0/24") == [
        ["-D", "POSTROUTING", "-s", "192.0.2.0/24", "-j", "NETAVARK-AA"],
        ["-D", "NETAVARK_FORWARD", "-s", "192.0.2.0/24", "-m", "comment", "--comment", "two words", "-j", "ACCEPT"],
        ["-F", "NETAVARK-AA"],
        ["-X", "NETAVARK-AA"],
    ]


def test_a_chain_that_another_network_uses_stays() -> None:
    assert containers.stale_rules(RULES, "203.0.113.0/24") == [
        ["-D", "POSTROUTING", "-s", "203.0.113.0/24", "-j", "NETAVARK-BB"]
    ]


NFT = """table inet netavark { # handle 1
	chain FORWARD { # handle 2
		type filter hook forward priority filter; policy accept;
		ip daddr 192.0.2.0/24 ct state established,related accept # handle 20
		ip saddr 198.51.100.0/24 accept # handle 21
	}
	chain POSTROUTING { # handle 3
		ip saddr 192.0.2.0/24 jump nv_aa # handle 30
		ip saddr 198.51.100.0/24 jump nv_bb # handle 31
	}
	chain nv_aa { # handle 4
		ip daddr 192.0.2.0/24 accept # handle 40
	}
}
"""


def test_rules_of_a_network_in_nftables() -> None:
    table = ["inet", "netavark"]
    assert containers.stale_nft_rules(NFT, "192.0.2.0/24") == [
        ["delete", "rule", *table, "FORWARD", "handle", "20"],
        ["delete", "rule", *table, "POSTROUTING", "handle", "30"],
        ["flush", "chain", *table, "nv_aa"],
        ["delete", "chain", *table, "nv_aa"],
    ]
    assert containers.stale_nft_rules(NFT, "203.0.113.0/24") == []


def test_processes_are_found_by_their_root() -> None:
    assert os.getpid() in containers.processes(Path("/proc/self/root/"))
    assert containers.processes(Path("/nonexistent")) == []
    assert containers.container_init(Path("/proc")) is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Name:\tsystemd\nNSpid:\t4711\t1\n", True),
        ("Name:\tsshd\nNSpid:\t4712\t77\n", False),
        ("Name:\tinit\nNSpid:\t1\n", False),
        ("Name:\tnested\nNSpid:\t4713\t80\t1\n", False),
        ("Name:\told\n", False),
    ],
)
def test_a_hosts_init_is_number_one_inside(status: str, expected: bool) -> None:
    assert containers.is_init(status) is expected


def test_a_started_host_has_a_new_incarnation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "host_key", lambda lab, host: f"ssh-ed25519 {lab}{host}")
    two = replace(HOST, name="two", ports=(Port("management", "eth0", netaddr.IPAddress("192.0.2.12")),))
    whole = Lab("aio", (MANAGEMENT,), (HOST, two))
    lab.record(whole, tmp_path, ["one", "two"])
    first = json.loads((tmp_path / "hosts.json").read_text())
    lab.record(whole, tmp_path, ["two"])
    second = json.loads((tmp_path / "hosts.json").read_text())
    assert first["one"] == second["one"]
    assert first["two"] != second["two"]
    assert (tmp_path / "known_hosts").read_text() == (
        "192.0.2.11,one ssh-ed25519 aioone\n192.0.2.12,two ssh-ed25519 aiotwo\n"
    )


def test_a_host_more_is_started_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = replace(HOST, name="two", ports=(Port("management", "eth0", netaddr.IPAddress("192.0.2.12")),))
    running: dict[str, int] = {}
    prepared: list[str] = []

    def prepare(_lab: str, host: Host, *_more: Any) -> None:
        prepared.append(host.name)
        containers.root_of("aio", host.name).mkdir(parents=True)

    def podman(_lab: str, *words: str, **_more: Any) -> str:
        if words[0] == "run":
            running[next(word for word in words if word.startswith("--name=")).removeprefix("--name=")] = 1
        return ""

    monkeypatch.setattr(containers, "DATA", tmp_path)
    monkeypatch.setattr(containers, "container_init", lambda root: running.get(root.parent.name))
    monkeypatch.setattr(containers, "prepare_root", prepare)
    monkeypatch.setattr(containers, "podman", podman)
    monkeypatch.setattr(containers, "run_id", lambda _lab: "a1")
    monkeypatch.setattr(containers, "run", lambda *_command: "")
    stopped: list[str] = []
    monkeypatch.setattr(containers, "stop_runtime", stopped.append)
    for name in ("_start_runtime", "_start_networks", "_await_ssh"):
        monkeypatch.setattr(containers, name, lambda *_given: None)

    def start(*hosts: Host) -> list[str]:
        archives = {host.name: tmp_path for host in hosts}
        return containers.start(
            Lab("aio", (MANAGEMENT, TUNNEL), hosts), archives, dict.fromkeys(archives, handed_down()), "key"
        )

    assert start(HOST) == ["one"]
    assert start(HOST, two) == ["two"]
    assert (prepared, stopped) == (["one", "two"], ["aio"]), "nothing that ran is touched"
    assert start(HOST, two) == []
    plugged: list[str] = []
    monkeypatch.setattr(containers, "_plug_disks", lambda _lab, host, _init: plugged.append(host.name))
    running.pop("two")
    assert start(HOST, two) == ["two"]
    assert plugged == ["one", "two"], "loop devices are the machine's, which may have been restarted"


class Loops:
    """Loop devices of the machine; those of a test are devices that are always there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of losetup and mknod."""
        self.free = ["/dev/null", "/dev/zero", "/dev/full"]
        self.used: dict[str, str] = {}
        self.called: list[str] = []
        monkeypatch.setattr(containers, "run", self.run)
        monkeypatch.setattr(containers.os, "mknod", self.mknod)

    def run(self, command: Sequence[str], **_more: Any) -> str:
        """Do what losetup does."""
        if command[0] != "losetup":
            return ""
        self.called.append(command[1])
        if command[1] == "--list":
            file = command[-1].removeprefix("--associated=")
            return "".join(f"{device}\n" for device, found in self.used.items() if found == file)
        if command[1] == "--detach":
            del self.used[command[2]]
            return ""
        device = next(one for one in self.free if one not in self.used)
        self.used[device] = command[-1]
        return f"{device}\n"

    @staticmethod
    def mknod(path: Path, mode: int, device: int) -> None:
        """Make a node of a device; a link to it needs no privilege."""
        assert stat.S_ISBLK(mode) and mode & 0o777 == 0o660
        path.symlink_to(next(one for one in ("/dev/null", "/dev/zero", "/dev/full") if os.stat(one).st_rdev == device))


def test_disks_of_a_host_are_files_that_outlive_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "DATA", tmp_path)
    loops = Loops(monkeypatch)
    dev = tmp_path / "1/root/dev"
    dev.mkdir(parents=True)
    inside: Any = f"..{tmp_path}/1"  # the number of the host's first process, whose root is /proc/<number>/root
    host = replace(HOST, disks=(("vdb", 4096), ("vdc", 8192)))
    containers._plug_disks("aio", host, inside)
    folder = containers.disk_files("aio", "one")
    assert {one.name: one.stat().st_size for one in folder.iterdir()} == {"vdb": 4096, "vdc": 8192}
    assert loops.used == {"/dev/null": str(folder / "vdb"), "/dev/zero": str(folder / "vdc")}
    assert {one.name: str(one.readlink()) for one in dev.iterdir()} == {"vdb": "/dev/null", "vdc": "/dev/zero"}

    (folder / "vdb").write_bytes(b"objects")
    loops.called.clear()
    containers._plug_disks("aio", host, inside)
    assert loops.called == ["--list", "--list"], "what is plugged in stays"

    containers._unplug_disks("aio")
    assert loops.used == {}
    assert (folder / "vdb").read_bytes() == b"objects"
    loops.free.reverse()
    containers._plug_disks("aio", host, inside)
    assert (folder / "vdb").read_bytes() == b"objects"
    assert {one.name: str(one.readlink()) for one in dev.iterdir()} == {"vdb": "/dev/full", "vdc": "/dev/zero"}


def test_private_files_are_private(tmp_path: Path) -> None:
    lab.write_private(tmp_path / "key", "secret")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        ("....\n12 passed in 0.51s\n", 0, (12, 0)),
        ("===== 2 failed, 10 passed, 1 skipped, 1 error in 3.51s =====\n", 1, (10, 3)),
        ("3 passed in 1.0s\nlater\n4 passed, 1 warning in 2.00s (0:01:02)\n", 0, (7, 0)),
        ("12 passed in 0.51s\nsomething else broke\n", 1, (12, 1)),
        ("clean\n", 0, (1, 0)),
        ("3 findings in 2 files\n", 1, (0, 1)),
    ],
)
def test_the_numbers_at_the_end_of_make_test(output: str, code: int, expected: tuple[int, int]) -> None:
    assert check.counts(output, code) == expected


def test_what_failed_is_named_again_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = """
    │ fatal: [aio]: FAILED! => {"msg": "no room"}
    │ FAILED ../_shared/tests/test_ports.py::test_one[aio] - assert {1} == {2}
    │ ERROR test_ports.py::test_two
    FAILED ../_shared/tests/test_ports.py::test_one[aio] - assert {1} == {2}
    ERROR in a log, and a line with FAILED in it
    1 failed, 1 error, 1 passed in 0.10s
    """
    found = check.failures(output)
    assert found == [
        'fatal: [aio]: FAILED! => {"msg": "no room"}',
        "FAILED ../_shared/tests/test_ports.py::test_one[aio] - assert {1} == {2}",
        "ERROR test_ports.py::test_two",
    ]
    assert check.failures("fatal: [aio]: " + "x" * 1000) == [f"fatal: [aio]: {'x' * (check.LONGEST - 14)} ..."]
    monkeypatch.setattr(
        check, "run", lambda name, _command: check.Outcome(name, 1, 12, 2.0, [f"{n}" for n in range(12)])
    )
    assert check.main(["unit"]) == 1
    ends = capsys.readouterr().out.splitlines()
    assert ends[-3:] == ["unit, with Swift: 9", "unit, with Swift: and 2 more, above", "2 passed, 24 failed"]


def test_scenarios_run_one_after_the_other_until_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, dict[str, str]]] = []

    def run(name: str, _command: list[str], **variables: str) -> check.Outcome:
        ran.append((name, variables))
        return check.Outcome(name, 1, int("three" in name), 1.0)

    monkeypatch.setattr(check, "run", run)
    for name in ("BRUME_INVENTORY", "BRUME_LAB"):
        monkeypatch.delenv(name, raising=False)
    assert check.main(["molecule", "--scenario", "default,three_node,ha"]) == 1
    assert ran == [
        ("molecule default", {"BRUME_INVENTORY": "inventories/aio", "BRUME_LAB": "aio"}),
        ("molecule three_node", {"BRUME_INVENTORY": "inventories/three_node", "BRUME_LAB": "three_node"}),
    ]
    assert "molecule ha: not run, because of the failures above" in capsys.readouterr().out


def test_every_scenario_has_an_inventory_and_is_run_by_test_all() -> None:
    scenarios = {path.parent.name for path in (check.ROOT / "molecule").glob("*/molecule.yml")}
    for name in scenarios:
        assert (check.ROOT / "inventories" / check.INVENTORIES.get(name, name) / "hosts.yml").is_file()
    named = re.findall(r"--scenario (\S+,\S+)", (check.ROOT / "Makefile").read_text(encoding="utf-8"))
    assert [set(names.split(",")) for names in named] == [scenarios]


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an inventory folder with our plugin's file, beside a checkout whose labs are all below it."""
    folder = tmp_path / "inventories/aio"
    folder.mkdir(parents=True)
    (folder / "hosts.yml").write_text("control: {hosts: {one: {}}}\n")
    (folder / "lab.yml").write_text("plugin: brume.cloud.lab\n")
    monkeypatch.setattr(plugin, "CHECKOUT", tmp_path)
    # Ansible's loader knows the plugin's options; here there is none
    monkeypatch.setattr(plugin.InventoryModule, "_read_config_data", lambda self, path: None)
    monkeypatch.setattr(plugin.InventoryModule, "get_option", lambda self, name: None)
    return folder


def parsed(folder: Path) -> InventoryManager:
    manager = InventoryManager(loader=DataLoader(), sources=None, parse=False)
    instance = plugin.InventoryModule()
    assert instance.verify_file(str(folder / "lab.yml"))
    assert not instance.verify_file(str(folder / "hosts.yml"))
    instance.parse(manager._inventory, DataLoader(), str(folder / "lab.yml"))
    return manager


def test_an_inventory_without_a_lab_is_left_alone(inventory: Path) -> None:
    assert parsed(inventory)._inventory.hosts == {}


def test_an_inventory_learns_how_to_reach_its_lab(inventory: Path) -> None:
    state = inventory.parents[1] / ".lab/aio"
    state.mkdir(parents=True)
    (state / "hosts.json").write_text('{"one": {"address": "192.0.2.11", "incarnation": "abcd"}}')
    found = parsed(inventory)._inventory
    host, cloud = found.hosts["one"].vars, found.groups["all"].vars
    assert host["ansible_host"] == "192.0.2.11"
    assert host["ansible_ssh_private_key_file"] == str(state / "ssh_key")
    assert f'UserKnownHostsFile="{state}/known_hosts"' in host["ansible_ssh_common_args"]
    assert host["ansible_host_key_checking"] is True
    assert host["ansible_control_path"] == "%(directory)s/lab-aio-one-abcd"
    assert cloud["brume_clouds_file"] == str(state / "clouds.yaml")
    assert cloud["brume_master_key"] == f"{{{{ lookup('ansible.builtin.file', '{state}/master_key') }}}}"
    assert all(is_trusted_as_template(value) for value in (*host.values(), *cloud.values()) if isinstance(value, str))


def test_a_broken_record_of_a_lab_is_named(inventory: Path) -> None:
    state = inventory.parents[1] / ".lab/aio"
    state.mkdir(parents=True)
    (state / "hosts.json").write_text('{"one": {}}')
    with pytest.raises(Exception, match=r"hosts\.json: not what tools/lab\.py writes"):
        parsed(inventory)
