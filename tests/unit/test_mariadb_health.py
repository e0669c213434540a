"""What a member of a database cluster tells load balancers."""

from __future__ import annotations

import http.client
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles/mariadb/templates/mariadb_health.py"
WELL = {
    "wsrep_cluster_status": "Primary",
    "wsrep_ready": "ON",
    "wsrep_local_state": "4",
    "wsrep_local_state_comment": "Synced",
    "wsrep_desync": "OFF",
    "wsrep_reject_queries": "NONE",
    "read_only": "OFF",
}


class NoServerError(Exception):
    """What stands in for all errors of the client library, which the deploy host does not have."""


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    library: Any = ModuleType("pymysql")
    library.Error = NoServerError
    library.connections = library
    library.Connection = object
    monkeypatch.setitem(sys.modules, "pymysql", library)
    specification = importlib.util.spec_from_file_location("mariadb_health", PROGRAM)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        # a donor serves
        ({"wsrep_local_state": "2", "wsrep_local_state_comment": "Donor/Desynced"}, ""),
        ({"wsrep_local_state": "2", "wsrep_desync": "ON"}, "it was taken out of step (wsrep_desync)"),
        ({"wsrep_local_state": "1", "wsrep_local_state_comment": "Joining"}, "its state is Joining"),
        ({"wsrep_local_state": "3", "wsrep_local_state_comment": "Joined"}, "its state is Joined"),
        ({"wsrep_cluster_status": "non-Primary"}, "the component is non-Primary"),
        ({"wsrep_ready": "OFF"}, "it is not ready"),
        ({"wsrep_reject_queries": "ALL"}, "it refuses queries (wsrep_reject_queries=ALL)"),
        ({"read_only": "ON"}, "it is read-only"),
    ],
)
def test_which_members_serve(health: ModuleType, changes: dict[str, str], said: str) -> None:
    assert health.problem(WELL | changes) == said
    assert health.problem({}) == "the component is unknown"


class Cursor:
    """A cursor of a server that says what `answers` holds."""

    answers: dict[str, str]

    def __enter__(self) -> Cursor:
        """Begin."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End."""

    def execute(self, _text: str, names: tuple[tuple[str, ...]]) -> None:
        """Keep what is asked for."""
        self.names = names[0]

    def fetchall(self) -> list[tuple[str, str]]:
        """Answer."""
        return [(name, self.answers[name]) for name in self.names]


@pytest.fixture
def url(health: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    connections: list[Any] = []

    class Connection:
        cursor = Cursor

    def connect(**given: Any) -> Connection:
        connections.append(given)
        if Cursor.answers["wsrep_ready"] == "gone":
            raise NoServerError("no server")
        return Connection()

    monkeypatch.setattr(health.pymysql, "connect", connect, raising=False)
    Cursor.answers = dict(WELL)
    server = health.Server("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(url: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(url, timeout=5)
    connection.request(method, "/")
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_answer_is_the_present_state(url: str) -> None:
    assert ask(url) == (200, "it serves\n")
    assert ask(url, "OPTIONS") == (200, "it serves\n")
    Cursor.answers["wsrep_local_state"] = "1"
    assert ask(url) == (503, "its state is Synced\n")
    Cursor.answers["wsrep_local_state"] = "4"
    assert ask(url, "HEAD") == (200, "")


def test_a_server_that_is_gone_is_asked_again(url: str) -> None:
    Cursor.answers["wsrep_ready"] = "gone"
    status, text = ask(url)
    assert status == 503
    assert "no server" in text
    Cursor.answers["wsrep_ready"] = "ON"
    assert ask(url)[0] == 200
