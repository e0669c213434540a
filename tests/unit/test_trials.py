"""What trials of accounts and of TLS come to; handshakes are tried against servers of this machine."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import (
    access_trials,
    certificates,
    host_readings,
    sources,
    tls_trials,
)
from ansible_collections.brume.cloud.plugins.module_utils.description import read_service
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan

from .inventories import AIO, IPV6, committed, inventory
from .test_plan import IPV6_GROUPS, IPV6_HOSTS

DENIED = "OperationalError: (1044, \"Access denied for user 'nova'@'%' to database 'glance'\")"
INSECURE = "OperationalError: 3159 Connections using insecure transport are prohibited"
STRANGER = "OperationalError: (2003, \"Can't connect ([SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed\")"
GOOD = {
    "login": "",
    "plain": INSECURE,
    "stranger": STRANGER,
    "entered": {"nova": "", "glance": DENIED},
    "shown": ["information_schema", "nova"],
    "everywhere": ["USAGE"],
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"login": "refused"}, ["cannot log in with TLS: refused"]),
        ({"plain": ""}, ["logs in without TLS"]),
        ({"plain": "timed out"}, ["was not refused without TLS, but failed: timed out"]),
        ({"stranger": ""}, ["does not verify the server's certificate"]),
        ({"stranger": "timed out"}, ["did not refuse the server's certificate, but failed: timed out"]),
        ({"entered": {"nova": "", "glance": ""}}, ["enters glance"]),
        ({"entered": {"nova": DENIED}}, [f"cannot enter its own database nova: {DENIED}"]),
        ({"entered": {"nova": "", "glance": "gone away"}}, ["was not refused glance, but failed: gone away"]),
        ({"shown": ["glance", "nova"]}, ["sees glance"]),
        ({"everywhere": ["PROCESS", "USAGE"]}, ["has privileges on every database: PROCESS"]),
    ],
)
def test_database_account(change: dict[str, Any], expected: list[str]) -> None:
    assert access_trials.database_problems("nova", {**GOOD, **change}) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"nova": "", "/": "NotAllowed: NOT_ALLOWED - access to vhost refused"}, []),
        ({"nova": "", "neutron": ""}, ["enters neutron"]),
        ({"nova": "timed out"}, ["cannot enter its own vhost nova: timed out"]),
        ({"nova": "", "/": "timed out"}, ["was not refused /, but failed: timed out"]),
    ],
)
def test_vhost_account(found: dict[str, str], expected: list[str]) -> None:
    assert access_trials.vhost_problems("nova", found) == expected


def test_broker_users() -> None:
    found: dict[str, list[str]] = {"nova": [], "neutron": ["management"], "guest": []}
    problems = access_trials.broker_user_problems(["nova", "neutron"], found)
    assert problems == ["guest is in no plan", "neutron has the tags management"]
    assert not access_trials.broker_user_problems(["nova"], {"nova": []})


def test_roles_of_a_service_user() -> None:
    found = [
        ["glance", "service", "project service"],
        ["glance", "admin", "project service"],
        ["glance", "reader", "system"],
        ["nova", "admin", "project service"],
    ]
    assert access_trials.role_problems("glance", ["service"], found) == [
        "has the role admin in project service",
        "has the role reader in system",
    ]
    assert access_trials.role_problems("nova", ["admin"], found) == []
    assert access_trials.role_problems("placement", ["service"], found) == [
        "lacks the role service in project service"
    ]


def test_role_assignments_are_read_with_their_scopes(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [
        {"user": {"name": "nova"}, "role": {"name": "admin"}, "scope": {"project": {"name": "service"}}},
        {"user": {"name": "admin"}, "role": {"name": "admin"}, "scope": {"system": {"all": True}}},
        {"group": {"name": "people"}, "role": {"name": "reader"}, "scope": {"domain": {"name": "Default"}}},
    ]
    asked: list[Any] = []

    class Answer:
        headers: ClassVar = {"X-Subject-Token": "a token"}

        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *_rest: object) -> None:
            pass

        def read(self) -> bytes:
            return json.dumps({"role_assignments": listed}).encode()

    def urlopen(request: Any, **_options: Any) -> Answer:
        asked.append((request.full_url, request.get_header("X-auth-token")))
        return Answer()

    monkeypatch.setattr(access_trials.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(access_trials.ssl, "create_default_context", lambda cafile: cafile)
    login = {"auth_url": "https://192.0.2.11:5000/v3", "username": "admin", "password": "word", "ca_file": "ca"}
    found = access_trials.role_assignments(login)
    assert found == [["nova", "admin", "project service"], ["admin", "admin", "system"]]
    assert asked[1] == ("https://192.0.2.11:5000/v3/role_assignments?include_names=true", "a token")


def test_endpoints_are_those_of_the_plan() -> None:
    cloud = plan(inventory(AIO), sources.load()).cloud
    found = tls_trials.endpoints(cloud)
    assert found["keystone-api-public"] == {"host": "192.0.2.11", "port": 5000, "protocol": "http"}
    assert "nova-metadata-internal" in found and "nova-metadata-public" not in found
    assert found["database-aio"]["protocol"] == "mysql" and found["messaging-aio"]["port"] == 5671
    assert tls_trials.shut(cloud) == [("192.0.2.11", 5672)]
    cloud = plan(inventory(IPV6, hosts=IPV6_HOSTS, groups=IPV6_GROUPS), sources.load()).cloud
    found = tls_trials.endpoints(cloud)
    assert found["keystone-api-public"]["host"] == "cloud.example.org"
    assert found["keystone-api-internal"]["host"] == "2001:db8:1::5"


def test_a_balanced_database_is_tried_with_its_own_protocol() -> None:
    found = tls_trials.endpoints(plan(committed("ha"), sources.load()).cloud)
    assert found["mariadb-server-internal"]["protocol"] == "mysql" and "mariadb-server-public" not in found
    assert found["keystone-api-internal"]["protocol"] == "http"


def test_an_endpoint_that_refuses_tls_1_2_is_found() -> None:
    found = {"code": 0, "said": "Protocol version: TLSv1.3 Verification: OK", "tls1_2": 1, "tls1_1": 1}
    assert tls_trials.problems("mysql", {**found, "tls1_1_said": "alert", "plain": ""}) == ["it refuses TLS 1.2"]


@contextlib.contextmanager
def served(context: ssl.SSLContext | None, answer: bytes = b"") -> Iterator[int]:
    """Serve on a port of loopback, with TLS or in plain text, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                connection.settimeout(10)
                stream = context.wrap_socket(connection, server_side=True) if context else connection
                with stream:
                    stream.recv(1024)
                    stream.sendall(answer)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # else the thread that waits would keep it open


@pytest.fixture(name="authority", scope="module")
def _authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return files: the authority's certificate, a host's certificate with its key, another authority's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    master = bytes(range(32))
    key = certificates.host_key(master, "server")
    now = datetime.datetime.now(datetime.UTC)
    issued = certificates.issue(certificates.authority(master), key, "server", ["127.0.0.1"], now)
    files = folder / "ca.crt", folder / "host.pem", folder / "stranger.crt"
    texts = certificates.authority(master).pem, issued + key, certificates.authority(bytes(32)).pem
    for path, text in zip(files, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return files


def _context(pem: Path, old: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if old:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _problems(port: int, ca_file: Path, host: str = "127.0.0.1") -> list[str]:
    endpoint = {"host": host, "port": port, "protocol": "http"}
    found = tls_trials.trial({"it": endpoint}, str(ca_file), [])
    return tls_trials.problems("http", found["endpoints"]["it"])


def test_a_good_server_has_no_problem(authority: tuple[Path, Path, Path]) -> None:
    with served(_context(authority[1], old=False)) as port:
        assert _problems(port, authority[0]) == []


def test_another_authority_is_refused(authority: tuple[Path, Path, Path]) -> None:
    with served(_context(authority[1], old=False)) as port:
        (problem,) = _problems(port, authority[2])
    assert problem.startswith("its certificate or its handshake is not accepted") and "verif" in problem.lower()


def test_a_name_that_the_certificate_lacks_is_refused(authority: tuple[Path, Path, Path]) -> None:
    with served(_context(authority[1], old=False)) as port:
        (problem,) = _problems(port, authority[0], "localhost")
    assert problem.startswith("its certificate or its handshake is not accepted") and "mismatch" in problem.lower()


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated")
def test_an_old_version_is_found(authority: tuple[Path, Path, Path]) -> None:
    with served(_context(authority[1], old=True)) as port:
        problems = _problems(port, authority[0])
    assert problems[0].startswith("its certificate or its handshake is not accepted")
    assert problems[1:] == ["it accepts TLS 1.1"]


def test_a_server_of_plain_text_is_found(authority: tuple[Path, Path, Path]) -> None:
    with served(None, b"HTTP/1.1 200 OK\r\n\r\n") as port:
        assert "it answers plain text" in _problems(port, authority[0])
        open_port = f"127.0.0.1:{port}"
        assert tls_trials.trial({}, "", [("127.0.0.1", port)])["open"] == {open_port: True}
    assert tls_trials.trial({}, "", [("127.0.0.1", port)])["open"] == {open_port: False}
    assert any("refused" in problem for problem in _problems(port, authority[0])), "nobody listens there any more"


def test_a_broker_that_greets_in_plain_text_is_found() -> None:
    found = {"code": 0, "said": "Protocol version: TLSv1.3 Verification: OK", "tls1_2": 0, "tls1_1": 1}
    found |= {"tls1_1_said": "alert", "plain": "\x15\x03\x03"}
    assert tls_trials.problems("amqp", found) == []
    assert tls_trials.problems("amqp", {**found, "plain": "\x01\x00\x00"}) == ["it answers plain text"]
    assert tls_trials.problems("amqp", {**found, "said": "Protocol version: TLSv1.1 Verification: OK"}) == [
        "it agreed on TLSv1.1"
    ]
    assert tls_trials.problems("amqp", {**found, "tls1_1_said": "no protocols available"}) == [
        "TLS 1.1 failed, but not by its refusal: no protocols available"
    ]


def test_exposure_of_units() -> None:
    shown = [{"unit": "a.service", "exposure": "6.1"}, {"unit": "b.service", "exposure": "6.0"}]
    found = host_readings.exposures(json.dumps(shown))
    assert host_readings.exposure_problem("a.service", 6.0, None, found).startswith("a.service has the exposure 6.1")
    assert host_readings.exposure_problem("a.service", 6.0, 9.0, found) == ""
    assert "needs no reason" in host_readings.exposure_problem("b.service", 6.0, 9.0, found)
    assert host_readings.exposure_problem("b.service", 6.0, None, found) == ""
    assert host_readings.service_of("epmd.socket") == "epmd.service"
    rows = [("aio", "b.service", 6.0, ""), ("aio", "a.service", 6.1, "it must")]
    table = host_readings.exposure_table(rows).splitlines()
    assert [line.split()[1:3] for line in table] == [["a.service", "6.1"], ["b.service", "6.0"]]
    assert table[0].endswith("  it must")


def test_exposure_needs_a_limit_and_a_reason() -> None:
    def problems(exposure: Any) -> list[str]:
        component = {"group": "control", "command": ["program"], "exposure": exposure}
        data = {"name": "demo", "wave": "core", "components": {"api": component}}
        data["python"] = {"packages": ["demo"]}
        return [str(one) for one in read_service(data, "service.yml", "demo")[1]]

    assert problems({"limit": 9.2, "reason": "it is root"}) == []
    where = "service.yml: components.api.exposure"
    assert [one.split(";")[0] for one in problems({"limit": 6, "why": "so"})] == [
        f"{where}.limit: `6.0` is not between 6.0 and 10.0",
        f"{where}.reason: is missing",
        f"{where}.why: is not a key of the description",
    ]
