"""Hosts that cannot be deployed on, each with the whole message that preflight gives."""

from __future__ import annotations

import base64
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.action import preflight as action_preflight
from ansible_collections.brume.cloud.plugins.module_utils import claims, preflight, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.convergence import write_marker
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.preflight import (
    GIB,
    Environment,
    Facts,
    Listener,
    Requirements,
)
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.modules import preflight as module_preflight

from .goldens import golden_section, sections
from .inventories import AIO, inventory
from .playbooks import playbook

FILE = "bad-hosts.txt"
ALL = "0.0.0.0"  # noqa: S104 (the address of a listener, nothing is opened)
PLANNED = ("2026.1",)
NOVA = Environment("nova", "/opt/brume/nova/2026.1-0123456789ab", "/opt/brume/nova/current")

GOOD = Facts(
    operating_system="debian-13",
    machine="x86_64",
    python=(3, 13),
    time=1000.0,
    disk_bytes={"/opt": 20 * GIB, "/var/lib": 20 * GIB},
    memory_mib=8000,
    interfaces={"eth0": ("192.0.2.11",), "eth1": (), "lo": ("127.0.0.1",)},
    mtus={"eth0": 1500, "eth1": 9000},
)
NEEDS = Requirements(
    controller_time=1000.0,
    operating_system="debian-13",
    disk_bytes={"/opt": 10 * GIB, "/var/lib": 10 * GIB},
    memory_mib=4096,
    interfaces={"eth0": ("192.0.2.11",), "eth1": ()},
    ports=(Listener("192.0.2.11", 3306, unit="mariadb.service"), Listener("192.0.2.11", 5000, unit="haproxy.service")),
    tun=True,
    mtus={"eth0": 1500, "eth1": 1500},
    data={"/var/lib/mysql": "mariadb.service"},
    environments=(NOVA,),
    release="2026.1",
    database_hosts=1,
)

Kind = tuple[dict[str, Any], dict[str, Any]]
"""What is different in the facts and in the requirements."""

KINDS: dict[str, Kind] = {
    "wrong operating system": ({"operating_system": "debian-12"}, {}),
    "unknown operating system": ({"operating_system": ""}, {}),
    "wrong architecture": ({"machine": "i686"}, {}),
    "old Python": ({"python": (3, 9)}, {}),
    "no systemd": ({"systemd": False}, {}),
    "clock behind": ({"time": 400.0}, {}),
    "clock ahead": ({"time": 4600.0}, {}),
    "too little disk": ({"disk_bytes": {"/opt": 2 * GIB, "/var/lib": 20 * GIB}}, {}),
    "too little disk on a deployed host": (
        {"disk_bytes": {"/opt": 2 * GIB, "/var/lib": 20 * GIB}, "recorded": frozenset({"mariadb.service"})},
        {},
    ),
    "read-only file system": ({"mounts": {"/var/lib": "is mounted read-only"}}, {}),
    "too little memory": ({"memory_mib": 1900}, {}),
    "missing interface": ({}, {"interfaces": {"eth9": ("192.0.2.11",)}}),
    "interface without its address": ({}, {"interfaces": {"eth0": ("192.0.2.12",)}}),
    "address on another interface": ({}, {"interfaces": {"eth1": ("192.0.2.11",)}}),
    "interface with a small MTU": ({"mtus": {"eth0": 1500, "eth1": 1500}}, {"mtus": {"eth1": 9000}}),
    "used port": ({"listeners": (Listener(ALL, 5000, 4711, "registry", "docker.service"),)}, {}),
    "port of a process without a unit": ({"listeners": (Listener("::", 3306, 4712, "mysqld"),)}, {}),
    "no tap devices": ({"tun": False}, {}),
    "no KVM": ({"kvm": "/dev/kvm cannot be opened (No such file or directory)"}, {"kvm": True}),
    "foreign database in place": ({"filled": frozenset({"/var/lib/mysql"})}, {}),
    "even number of database hosts": ({}, {"database_hosts": 2}),
    "hosts of a newer release": ({"releases": {"nova": ("2026.2",)}}, {}),
    "hosts of several releases": ({"releases": {"nova": ("2026.2",), "glance": ("2027.1",), "keystone": PLANNED}}, {}),
    "hosts of an older release": ({"releases": {"nova": ("2025.2",), "glance": ("2025.2",)}}, {}),
    "upgrade that was not finished": ({"releases": {"nova": ("2025.1", "2026.1")}}, {}),
    "upgrade over too many releases": ({"releases": {"nova": ("2024.1",)}}, {"crossing": "upgrade"}),
    "upgrade to an older release": ({"releases": {"nova": ("2027.1",)}}, {"crossing": "upgrade"}),
    "rollback to a newer release": ({"releases": {"nova": ("2025.1",)}}, {"crossing": "rollback"}),
    "unreachable wheelhouse": (
        {"wheelhouse": "does not answer this host ([Errno 111] Connection refused)"},
        {"wheelhouse": "https://wheels.example.org/brume/"},
    ),
    "wheelhouse that is not there": ({"wheelhouse": "is no folder on this host"}, {"wheelhouse": "/srv/wheels"}),
    "unreachable wheelhouse, and nothing to fetch": (
        {"wheelhouse": "answers 503 Service Unavailable", "built": frozenset({NOVA.path})},
        {"wheelhouse": "https://wheels.example.org/brume/"},
    ),
    "several at once": (
        {
            "operating_system": "debian-12",
            "memory_mib": 1900,
            "filled": frozenset({"/var/lib/mysql"}),
            "tun": False,
            "time": 0.0,
        },
        {"interfaces": {"eth9": ()}},
    ),
}


def judged(kind: Kind) -> list[preflight.Finding]:
    facts, needs = kind
    return preflight.judge(Facts(**{**vars(GOOD), **facts}), Requirements(**{**vars(NEEDS), **needs}))


def test_a_good_host_has_no_finding() -> None:
    assert judged(({}, {})) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_finding_is_explained(kind: str) -> None:
    golden_section(FILE, kind, "\n".join(map(str, judged(KINDS[kind]))), KINDS)


def test_no_kind_is_left_over() -> None:
    assert list(sections(FILE)) == list(KINDS)


FINE: dict[str, Kind] = {
    "a data folder after a first run that was killed": (
        {"filled": frozenset({"/var/lib/mysql"}), "claimed": frozenset({"/var/lib/mysql"})},
        {},
    ),
    "a data folder of a unit that ran well": (
        {"filled": frozenset({"/var/lib/mysql"}), "recorded": frozenset({"mariadb.service"})},
        {},
    ),
    "an even number of database hosts afterwards": (
        {"recorded": frozenset({"mariadb.service"})},
        {"database_hosts": 2},
    ),
    "an even number of database hosts, seen from another host": ({}, {"database_hosts": 0}),
    "the same release": ({"releases": {"nova": PLANNED}}, {}),
    "an upgrade": ({"releases": {"nova": ("2025.2",)}}, {"crossing": "upgrade"}),
    "an upgrade from SLURP to SLURP": ({"releases": {"nova": ("2025.1", "2026.1")}}, {"crossing": "upgrade"}),
    "a rollback": ({"releases": {"nova": ("2026.2",)}}, {"crossing": "rollback"}),
    "a development branch": ({"releases": {"nova": ("master",)}}, {}),
    "a larger MTU": ({"mtus": {"eth0": 9000}}, {}),
    "an interface whose MTU cannot be read": ({"mtus": {"eth0": 0}}, {}),
}


@pytest.mark.parametrize("kind", FINE)
def test_what_is_no_mistake(kind: str) -> None:
    assert judged(FINE[kind]) == []


def test_another_units_record_does_not_make_a_database_ours() -> None:
    found = judged(({"filled": frozenset({"/var/lib/mysql"}), "recorded": frozenset({"haproxy.service"})}, {}))
    assert [one.subject for one in found] == ["/var/lib/mysql"]


def test_a_claim_is_kept_and_added_to(tmp_path: Path) -> None:
    file = str(tmp_path / "brume/data.json")
    assert claims.claimed(file) == frozenset()
    claims.claim(["/var/lib/mysql"], file)
    claims.claim(["/var/lib/rabbitmq/mnesia"], file)
    assert claims.claimed(file) == {"/var/lib/mysql", "/var/lib/rabbitmq/mnesia"}
    Path(file).write_text('{"paths": 7}')
    assert claims.claimed(file) == frozenset()


def test_data_environments_and_mounts_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "RECORDS", str(tmp_path / "records"))
    for unit, path in (("a", "nova/2025.2-0123456789ab"), ("b", "nova/2025.1-ba9876543210"), ("c", "glance/2026.1-x")):
        write_marker(f"{tmp_path}/records/{unit}.json", {"revision": f"{tmp_path}/{path}"})
    (tmp_path / "mysql/lost+found").mkdir(parents=True)
    (tmp_path / "mnesia").mkdir()
    (tmp_path / "mnesia/node").touch()
    (tmp_path / "nova/2025.2-0123456789ab").mkdir(parents=True)
    (tmp_path / "nova/current").symlink_to(tmp_path / "nova/2025.2-0123456789ab")
    (tmp_path / f"nova/2025.2-0123456789ab/{preflight.BUILT}").touch()
    needs = Requirements(
        data={str(tmp_path / name): "x.service" for name in ("mysql", "mnesia", "nowhere")},
        environments=(
            Environment(
                "nova", str(tmp_path / "nova/2025.2-0123456789ab"), str(tmp_path / "nova/current"), ("a", "b", "c", "d")
            ),
            Environment("glance", str(tmp_path / "glance/2026.1-x"), str(tmp_path / "glance/current")),
        ),
        disk_bytes={str(tmp_path): 1},
        mtus={"lo": 1500, "nowhere": 1500},
    )
    facts = preflight.gather(needs)
    assert facts.filled == {str(tmp_path / "mnesia")}
    assert facts.releases == {"nova": ("2025.1", "2025.2")}
    assert facts.built == {str(tmp_path / "nova/2025.2-0123456789ab")}
    assert facts.mounts == {}
    assert facts.mtus == {"lo": int(Path("/sys/class/net/lo/mtu").read_text()), "nowhere": 0}


def test_the_marker_is_that_of_environments() -> None:
    from ansible_collections.brume.cloud.plugins.module_utils import uv_environments  # noqa: PLC0415

    assert preflight.BUILT == uv_environments.MARKER


def test_a_file_system_that_nobody_can_write_to_is_found() -> None:
    assert preflight.mount_problem("/proc/nowhere") == ""
    readable = [
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if ",ro," in f",{line.split()[3]},"
    ]
    assert all(preflight.mount_problem(path) == "is mounted read-only" for path in readable if Path(path).is_dir())


def test_the_plan_says_what_preflight_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(inventory({**AIO, "brume_wheelhouse": "/srv/wheels"}), sources.load())
    vault = run.placeholder_vault()
    piece = Slice(found, found.hosts["aio"], sources.load(), Renderer(found, sources.load(), vault.value), vault)
    action: Any = action_preflight.ActionModule.__new__(action_preflight.ActionModule)
    arguments = action.arguments(piece, {})
    with patch_module_args(arguments):
        needs = preflight.requirements(AnsibleModule(argument_spec=module_preflight.SPEC).params)
    assert needs.data == {"/var/lib/mysql": "mariadb.service", "/var/lib/rabbitmq/mnesia": "rabbitmq-server.service"}
    assert [one.service for one in needs.environments] == ["keystone", "glance", "placement", "nova", "neutron"]
    assert needs.environments[0].current == "/opt/brume/keystone/current"
    assert needs.interfaces == {"eth0": ("192.0.2.11",), "eth1": ()}
    assert needs.mtus == {"eth0": 1500, "eth1": 1500}
    assert (needs.release, needs.wheelhouse, needs.database_hosts) == ("2026.1", "/srv/wheels", 1)


INVENTORY = """
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: {python}
    brume_master_key: {key}
    brume_networks:
      management: {{cidr: 192.0.2.0/24, interface: nowhere0, vip: 192.0.2.5}}
      external: {{cidr: 198.51.100.0/24, interface: nowhere1}}
  children:
    control:
      hosts:
        one: {{brume_addresses: {{management: 192.0.2.11}}}}
        two: {{brume_addresses: {{management: 192.0.2.12}}}}
    network: {{children: {{control: {{}}}}}}
    compute: {{children: {{control: {{}}}}}}
    loadbalancer: {{children: {{control: {{}}}}}}
    database: {{children: {{control: {{}}}}}}
    messaging: {{children: {{control: {{}}}}}}
"""


def test_all_hosts_tell_all_they_found_in_one_run(tmp_path: Path) -> None:
    """Both hosts are this one, which preflight only reads; no play but plan and preflight has the tag."""
    key = base64.b64encode(bytes(range(32))).decode()
    (tmp_path / "hosts.yml").write_text(INVENTORY.format(python=sys.executable, key=key))
    done = playbook(tmp_path, "site.yml", "--tags", "always")
    shown = done.stdout + done.stderr
    assert done.returncode == 2, shown
    assert "Traceback" not in shown
    for host in ("one", "two"):
        failed = next(line for line in done.stdout.splitlines() if line.startswith(f"fatal: [{host}]: FAILED!"))
        for subject in (
            "interface nowhere0: is not there",
            "interface nowhere1: is not there",
            "database hosts: are 2",
        ):
            assert subject in failed
    assert "changed=0" in shown and "changed=1" not in shown
    limited = playbook(tmp_path, "site.yml", "--tags", "always", "--limit", "localhost,two")
    assert "fatal: [two]" in limited.stdout
    assert "[one]" not in limited.stdout


class Wheels(http.server.BaseHTTPRequestHandler):
    """A wheelhouse with one page."""

    def do_GET(self) -> None:
        """Answer for one path."""
        self.send_response(200 if self.path == "/wheels/" else 404)
        self.end_headers()
        self.wfile.write(b"wheels")

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wheels) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_wheelhouse_is_asked(address: str) -> None:
    assert preflight.wheelhouse_problem(f"{address}/wheels/") == ""
    assert preflight.wheelhouse_problem(f"{address}/other/") == "answers 404 Not Found"
    assert preflight.wheelhouse_problem(address.replace("http:", "https:")).startswith("does not answer this host (")


def test_nobody_at_a_wheelhouses_address(address: str) -> None:
    other = address.rpartition(":")[0] + ":1/"
    assert preflight.wheelhouse_problem(other) == "does not answer this host ([Errno 111] Connection refused)"
    assert preflight.wheelhouse_problem("http://127.0.0.1:no/").startswith("does not answer this host (")


def test_a_wheelhouse_that_is_a_folder(tmp_path: Path) -> None:
    assert preflight.wheelhouse_problem("") == ""
    assert preflight.wheelhouse_problem(str(tmp_path / "nowhere")) == "is no folder on this host"
    assert preflight.wheelhouse_problem(str(tmp_path)) == "holds no wheel"
    (tmp_path / "one-1.0-py3-none-any.whl").touch()
    assert preflight.wheelhouse_problem(str(tmp_path)) == ""
