"""Servers behind HAProxy, out of use and back."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.module_utils import haproxy, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.modules import loadbalancer_servers

from .inventories import committed


class Balancer:
    """A HAProxy that answers at a socket; sessions end one a look."""

    def __init__(self, path: Path) -> None:
        """Listen."""
        self.servers = {
            f"{backend}/c{number}": ["UP", 2] for backend in ("keystone-api", "nova-api") for number in (1, 2)
        }
        self.orders: list[str] = []
        self.recovers = True
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        """Answer until the socket is shut."""
        while True:
            try:
                connection, _peer = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self.answer(connection.recv(4096).decode().strip()).encode())

    def answer(self, command: str) -> str:
        """Do what a command says."""
        if command == "show stat":
            lines = ["# pxname,svname,status,scur,"]
            for name, server in self.servers.items():
                backend, _slash, host = name.partition("/")
                lines += [f"{backend},FRONTEND,OPEN,3,", f"{backend},{host},{server[0]},{server[1]},"]
                if server[0] == "DRAIN":
                    server[1] = max(0, int(server[1]) - 1)
                elif server[0] == "DOWN" and self.recovers:
                    server[0] = "UP 1/2"
            return "\n".join([*lines, ""])
        self.orders.append(command)
        _set, _server, name, _state, state = command.split()
        self.servers[name][0] = "DRAIN" if state == "drain" else "DOWN"
        return ""


@pytest.fixture
def balancer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Balancer]:
    monkeypatch.setattr(haproxy.call, "__defaults__", (str(tmp_path / "s"), 5.0))
    monkeypatch.setattr(haproxy, "POLL", 0.01)
    monkeypatch.setattr(haproxy.wait, "__defaults__", (haproxy.call, 0.01))
    one = Balancer(tmp_path / "s")
    yield one
    one.listener.shutdown(socket.SHUT_RDWR)
    one.listener.close()
    one.thread.join()


def run(capsys: pytest.CaptureFixture[str], check: bool = False, **arguments: Any) -> dict[str, Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        loadbalancer_servers.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_server_leaves_in_order_and_comes_back(balancer: Balancer, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["keystone-api/c1", "nova-api/c1", "unknown/c1"]
    drain = {"servers": names, "state": "drain"}
    dry = run(capsys, check=True, **drain)
    assert balancer.orders == []
    done = run(capsys, **drain)
    assert done["actions"] == dry["actions"] == ["drain keystone-api/c1", "drain nova-api/c1"]
    assert (done["busy"], done["drained"]) == ([], names[:2])
    assert [balancer.servers[name][1] for name in names[:2]] == [0, 0], "what was in progress has ended"
    assert not run(capsys, **drain)["changed"]
    ready = {"servers": names, "state": "ready", "drained": names[:2]}
    dry = run(capsys, check=True, **ready)
    done = run(capsys, **ready)
    assert done["actions"] == dry["actions"] == ["ready keystone-api/c1", "ready nova-api/c1"]
    assert not run(capsys, **ready)["changed"]


def test_a_dry_run_gives_back_what_it_would_have_taken(balancer: Balancer, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["keystone-api/c1"]
    assert run(capsys, check=True, servers=names, state="ready", drained=names)["actions"] == ["ready keystone-api/c1"]
    assert balancer.orders == []


def test_the_last_server_stays(balancer: Balancer, capsys: pytest.CaptureFixture[str]) -> None:
    balancer.servers["keystone-api/c2"][0] = "DOWN"
    balancer.recovers = False
    done = run(capsys, servers=["keystone-api/c1", "nova-api/c1"], state="drain")
    assert done["drained"] == ["nova-api/c1"]


def test_long_requests_are_not_waited_for_for_ever(balancer: Balancer, capsys: pytest.CaptureFixture[str]) -> None:
    balancer.servers["nova-api/c1"][1] = 10**6
    assert run(capsys, servers=["nova-api/c1"], state="drain", seconds=0.1)["busy"] == ["nova-api/c1"]


def test_a_server_that_does_not_come_back_is_named(balancer: Balancer, capsys: pytest.CaptureFixture[str]) -> None:
    balancer.recovers = False
    run(capsys, servers=["nova-api/c1"], state="drain")
    failed = run(capsys, servers=["nova-api/c1"], state="ready", seconds=0.1)
    assert failed["failed"]
    assert failed["msg"].startswith("nova-api/c1: not well for the load balancer after 0 s\n  next: ")


def test_a_load_balancer_that_does_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(haproxy.HaproxyError, match="does HAProxy run"):
        haproxy.call("show stat", str(tmp_path / "none"))


def test_a_dry_run_before_there_is_a_load_balancer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(haproxy.call, "__defaults__", (str(tmp_path / "none"), 5.0))
    wanted = {"servers": ["nova-api/c1"], "state": "ready"}
    assert not run(capsys, check=True, **wanted)["changed"]
    assert "does HAProxy run" in run(capsys, **wanted)["msg"]


@pytest.mark.parametrize("socket_stays", [False, True])
def test_a_load_balancer_that_was_stopped_has_nothing_to_drain(
    socket_stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(haproxy.call, "__defaults__", (str(tmp_path / "s"), 5.0))
    if socket_stays:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
    wanted = {"servers": ["nova-api/c1"], "state": "drain"}
    assert not run(capsys, may_be_down=True, **wanted)["changed"]
    assert "does HAProxy run" in run(capsys, **wanted)["msg"], "that of another host is wrong"
    assert "does HAProxy run" in run(capsys, **{**wanted, "state": "ready", "may_be_down": True})["msg"]


def state(name: str, status: str, check: str) -> str:
    """Return a line of `show stat`: 18th and 37th column (management guide of HAProxy, 9.1)."""
    columns = ["mariadb-server", name, *[""] * 15, status, *[""] * 18, check, "", ""]
    return ",".join(columns)


@pytest.mark.parametrize(
    ("checks", "backend", "well"),
    [
        (("L7OK", "L7OK", "L7OK"), "UP", True),
        (("L7OK", "L7OK", "L4TOUT"), "UP", True),
        (("L7OK", "L4CON", "L4TOUT"), "UP", True),
        (("L7OK", "L4CON", "L4CON"), "UP", True),
        (("L7STS", "L7OK", "L7OK"), "DOWN", False),
        (("L7OK", "L4TOUT", "L4TOUT"), "UP", False),
        (("L7OK", "* L4TOUT", "L4TOUT"), "UP", False),
        (("L7OK", "L4TOUT"), "UP", True),
    ],
)
def test_a_load_balancer_that_is_cut_off_gives_the_addresses_away(
    checks: tuple[str, ...], backend: str, well: bool, tmp_path: Path
) -> None:
    found = plan(committed("ha"), sources.load())
    host = found.hosts["controller1"]
    renderer = Renderer(found, sources.load(), lambda _name: "")
    files = {one.entry.path: one.text for one in renderer.files(host, ["loadbalancer"])}
    servers = [state(f"controller{number}", "UP", check) for number, check in enumerate(checks, 1)]
    lines = ["# pxname,svname", state("FRONTEND", "OPEN", ""), *servers, state("BACKEND", backend, "")]
    (tmp_path / "stat").write_text("".join(f"{line}\n" for line in lines))
    script = files["/usr/local/lib/brume/loadbalancer_health"]
    socket_of = "/usr/bin/socat - UNIX-CONNECT:/run/haproxy/admin.sock"
    assert socket_of in script
    done = subprocess.run(["sh", "-c", script.replace(socket_of, f"cat {tmp_path}/stat")], check=False)
    assert (done.returncode == 0) == well
