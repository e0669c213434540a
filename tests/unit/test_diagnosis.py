"""A diagnosis holds what helps, and no secret."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action.diagnosis_archive import CHECKOUT, default_path
from ansible_collections.brume.cloud.plugins.action.host_diagnosis import wanted
from ansible_collections.brume.cloud.plugins.module_utils import diagnosis, sources
from ansible_collections.brume.cloud.plugins.module_utils.diagnosis import Collected, HostReader, Wanted
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.rollout import State
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

from .inventories import AIO, inventory

KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOhost\n-----END PRIVATE KEY-----"
TOKEN = "gAAAAABnQ0Zx" + "a" * 40


class MadeUp:
    """A host whose files hold the secrets of the cloud, and whose journals and commands print them."""

    def __init__(self, files: Mapping[str, str], said: str) -> None:
        """Take the files, and what every journal and command prints."""
        self.files, self.said = files, said

    def text(self, path: str) -> str:
        """Return a file's content."""
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def target(self, path: str) -> str:
        """Return where a symbolic link leads to."""
        return f"{path}-2026.1"

    def run(self, argv: Sequence[str]) -> str | None:
        """Return a command's output."""
        if argv[0] == "virsh":
            return None
        if argv[0] == "rabbitmqctl":
            raise OSError(f"exits with 69: {self.said}")
        return self.said

    def ask(self, path: str, command: str) -> str:
        """Return what a Unix socket answers to a line."""
        return f"{path} {command}\n{self.said}"

    def states(self, units: Sequence[str]) -> Mapping[str, State]:
        """Return the units' states."""
        states = {unit: "failed" if unit == "nova-api.service" else "active" for unit in units}
        return {unit: State("loaded", state, "x", "enabled") for unit, state in states.items()}


@pytest.fixture(scope="module")
def piece() -> Slice:
    """Return the slice of the one host, with a real vault."""
    found = plan(inventory(AIO), sources.load())
    vault = Vault(bytes(range(32)), {"of/no/file": "explicit-value"}, found.cloud.generations)
    revealed: dict[str, str] = {}

    def secret(name: str) -> str:
        value = vault.value(name)
        revealed[value] = f"<secret {name}>"
        return value

    return Slice(
        found, found.hosts["aio"], sources.load(), Renderer(found, sources.load(), secret), vault, revealed
    )


def collected(piece: Slice) -> tuple[Collected, list[str]]:
    """Return what is collected of a host that shows every secret, and the secrets' values."""
    arguments = wanted(piece, 100)
    host = piece.host
    services = list(dict.fromkeys(one.service for one in host.instances))
    files = {one.entry.path: one.text for one in piece.renderer.files(host, services)}
    files["/etc/systemd/system/nova-api.service"] = "[Service]\n"
    # A file of before the last rotation: its secrets are none of the plan's any more.
    former = {value: f"former{index}" for index, value in enumerate(piece.revealed)}
    old = files["/etc/nova/nova.conf"]
    for value, other in former.items():
        old = old.replace(value, other)
    files["/etc/nova/nova.conf"] = old + f"\n[extra]\n{KEY}\n"
    del files["/etc/placement/placement.conf"]
    said = "\n".join(
        [
            *piece.revealed,
            KEY,
            f"X-Auth-Token {TOKEN}",
            "connecting to rabbit://nova:former1@192.0.2.11:5671/nova",
            "login with {'password': 'former2', 'admin_password=former3'}",
            "2026-01-01 ERROR nova.api [-] broken",
            "2026-01-01 ERROR nova.api Traceback (most recent call last):",
        ]
    )
    values = [*piece.revealed, *former.values(), "MC4CAQ", TOKEN]
    given = Wanted(
        files={one["path"]: one["planned"] for one in arguments["files"]},
        units=tuple(arguments["units"]),
        links=tuple(arguments["links"]),
        commands=tuple(tuple(argv) for argv in arguments["commands"]),
        sockets=tuple((one["path"], one["command"]) for one in arguments["sockets"]),
        journal_lines=arguments["journal_lines"],
        redactions=arguments["redactions"],
    )
    return diagnosis.collect(given, MadeUp(files, said)), values


def test_no_secret_is_collected(piece: Slice) -> None:
    found, values = collected(piece)
    assert len(values) > 40
    text = "\n".join([*found.parts.values(), *found.problems])
    assert [value for value in values if value in text] == []
    assert "explicit-value" in values
    assert "<secret nova/keystone>" in found.parts["configuration/etc/nova/nova-compute.conf"]
    assert "password = <secret>" in found.parts["configuration/etc/nova/nova.conf"]


def test_no_file_with_a_key_is_asked_for(piece: Slice) -> None:
    paths = [one["path"] for one in wanted(piece, 1)["files"]]
    assert [path for path in paths if path.endswith((".key", ".pem")) or "-keys/" in path] == []
    assert [one["path"] for one in wanted(piece, 1)["files"] if any(v in one["planned"] for v in piece.revealed)] == []


def test_everything_else_is_collected(piece: Slice) -> None:
    found, _values = collected(piece)
    names = set(found.parts)
    assert {
        "configuration/etc/keystone/keystone.conf",
        "configuration/etc/systemd/system/nova-api.service",
        "journal/nova-api.service.txt",
        "state/units.txt",
        "state/environments.txt",
        "state/show_stat.txt",
        "state/uname_-a.txt",
        "state/mariadb_--batch_--execute_SHOW_GLOBAL_STATUS_LIKE_wsrep.txt",
        "state/ovs-vsctl_--timeout=5_show.txt",
        "missing.txt",
    } <= names
    assert found.inactive == ["nova-api.service"]
    assert found.errors["nova-api.service"] == 1
    assert "/opt/brume/nova/current -> /opt/brume/nova/current-2026.1" in found.parts["state/environments.txt"]
    missing = found.parts["missing.txt"]
    assert "configuration/etc/placement/placement.conf" in missing
    assert "virsh" in missing
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "state/rabbitmqctl_cluster_status.txt",
        "state/rabbitmqctl_list_vhosts_name_cluster_state.txt",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("send_service_user_token = true", "send_service_user_token = true"),
        ("nova ALL = (root) NOPASSWD: /opt/x", "nova ALL = (root) NOPASSWD: /opt/x"),
        ("cookie: abc, next", "cookie: <secret>, next"),
        ('{"adminPassword": "a b"}', '{"adminPassword": <secret>}'),
        ("Bearer abcdefghijklmnopqrst", "Bearer <secret>"),
        ("secret: <secret a/b>", "secret: <secret a/b>"),
        ("restart secret-service", "restart secret-service"),
    ],
)
def test_free_text_is_redacted(text: str, shown: str) -> None:
    assert diagnosis.redact_text(text, {}) == shown


def test_units_are_a_table() -> None:
    states = {"a.service": State("loaded", "failed", "failed", "enabled", 3, result="exit-code"), "bb": State()}
    assert diagnosis.units_table(states) == (
        "a.service  failed     failed     enabled      restarts 3, result exit-code\n"
        "bb         inactive   dead       no unit file restarts 0\n"
    )


def test_a_host_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = HostReader()
    assert reader.run(["sh", "-c", "echo out; echo err >&2"]) == "out\nerr\n"
    assert reader.run(["no-such-program"]) is None
    with pytest.raises(OSError, match="exits with 3: last"):
        reader.run(["sh", "-c", "echo first; echo last; exit 3"])
    monkeypatch.setattr(diagnosis, "SECONDS", 0.1)
    with pytest.raises(OSError, match="did not end within 0 s"):
        reader.run(["sleep", "5"])
    (tmp_path / "link").symlink_to("target")
    assert reader.target(str(tmp_path / "link")) == "target"


def test_a_socket_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with diagnosis.socket.socket(diagnosis.socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            connection, _address = server.accept()
            with connection:
                asked = connection.recv(100)
                connection.sendall(b"you asked " + asked)

        thread = threading.Thread(target=answer)
        thread.start()
        assert HostReader().ask(str(path), "show stat") == "you asked show stat\n"
        thread.join()


def test_parts_become_an_archive_for_its_owner_alone(tmp_path: Path) -> None:
    diagnosis.store(tmp_path / "aio", {"state/a.txt": "text\n"})
    assert stat.S_IMODE((tmp_path / "aio/state/a.txt").stat().st_mode) == 0o600
    with tarfile.open(fileobj=io.BytesIO(diagnosis.pack(tmp_path, "diagnosis"))) as archive:
        found = {one.name: (one.mode, one.uid, one.uname) for one in archive.getmembers()}
    assert found["diagnosis/aio/state/a.txt"] == (0o600, 0, "")
    assert found["diagnosis/aio"] == (0o700, 0, "")


def test_the_size_of_what_would_be_collected() -> None:
    parts = {"state/a.txt": "a" * 1024**2, "state/b.txt": "", "journal/c.txt": "", "missing.txt": ""}
    assert diagnosis.size(parts) == "journal 1, state 2, 1.0 MiB"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
def test_a_part_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="which is no name in an archive"):
        diagnosis.store(tmp_path, {name: "text"})


def test_only_a_folder_made_for_the_archive_may_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "a.tar.gz"
    own, other = tmp_path / f"{diagnosis.folder_prefix(archive)}x1", tmp_path / "other"
    link = tmp_path / f"{diagnosis.folder_prefix(archive)}link"
    own.mkdir()
    other.mkdir()
    (other / own.name).mkdir()
    link.symlink_to(other)
    assert diagnosis.is_own_folder(own, archive)
    absent = own.with_name(f"{own.name}2")
    strangers = [Path(), Path("/"), tmp_path, other, other / own.name, link, Path(own.name), absent]
    assert [path for path in strangers if diagnosis.is_own_folder(path, archive)] == []


def test_the_table_names_every_host() -> None:
    found = {
        "control1": Collected(inactive=["a.service"], errors={"a.service": 3, "b.service": 9, "c.service": 1}),
        "compute1": Collected(problems=["state/x.txt: exits with 1: broken"]),
    }
    assert diagnosis.table(["control1", "compute1", "compute2"], found) == [
        "host      errors  units that are not active",
        "control1      13  a.service  (errors mostly of b.service, a.service)",
        "compute1       0  none",
        "compute2       -  not read",
        "",
        "Not read:",
        "  compute1: state/x.txt: exits with 1: broken",
        "  compute2: could not be read, see above",
    ]


def test_the_archive_lies_beside_the_inventorys_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "production"
    folder.mkdir()
    expected = CHECKOUT / ".lab/production/diagnosis-1970-01-01T00-00-10Z.tar.gz"
    assert default_path([str(folder)], 10) == expected
    assert default_path([str(folder / "hosts.yml")], 10) == expected


def test_the_playbook_collects_what_answers_and_names_what_does_not(tmp_path: Path) -> None:
    connections: dict[str, dict[str, Any]] = {
        "bare": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        "lost": {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "root"},
    }
    hosts = {
        name: {**own, "brume_addresses": {"management": f"192.0.2.{number}"}}
        for number, (name, own) in enumerate(connections.items(), 11)
    }
    groups = {name: {"hosts": {"bare": {}}} for name in ("control", "loadbalancer", "database", "messaging")}
    groups |= {name: {"hosts": {"lost": {}}} for name in ("network", "compute")}
    key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    top = {"hosts": hosts, "vars": {**AIO, "brume_master_key": key}, "children": groups}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": top}))
    archive = tmp_path / "archive.tar.gz"

    def play(*arguments: str) -> str:
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *("-i", str(tmp_path / "hosts.json"), str(CHECKOUT / "playbooks/diagnose.yml")),
            *("-e", f"diagnosis_file={archive}", *arguments),
        ]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".collections"),
        }
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    dry = play("--check")
    assert "bare: configuration " in dry
    assert not archive.exists()
    output = play()
    assert "lost  " in output
    assert "lost: could not be read, see above" in output
    # Why is ssh's to say, which sometimes ends before Ansible has read its last words.
    assert "lost unreachable" in output
    assert f"Archive: {archive}" in output
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(archive) as found:
        names = found.getnames()
        summary = found.extractfile("archive/summary.txt")
        assert summary is not None
        assert "lost: could not be read" in summary.read().decode()
    assert "archive/bare/state/uname_-a.txt" in names
    assert sorted(tmp_path.iterdir()) == [archive, tmp_path / "hosts.json"]
