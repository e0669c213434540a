"""Which secrets there are, where they may be, and that a search finds them wherever they are."""

from __future__ import annotations

import base64
import gzip
import importlib
import os
import pkgutil
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins import action as actions
from ansible_collections.brume.cloud.plugins.module_utils import (
    certificates,
    host_program,
    secret_exposure,
    secret_search,
    sources,
    ssh_keys,
)
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secret_exposure import Secret
from ansible_collections.brume.cloud.plugins.module_utils.secret_search import Patterns, forms
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

from .inventories import AIO, committed, inventory

VAULT = Vault(bytes(range(32)), {"operator/own": "given by hand"})
VALUE = "pass word>>>of???nova:keystone"


@pytest.fixture(name="aio", scope="module")
def _aio() -> Plan:
    return plan(inventory(AIO), sources.load())


@pytest.fixture(name="secrets", scope="module")
def _secrets(aio: Plan) -> dict[str, Secret]:
    return secret_exposure.all_of(aio, sources.load(), VAULT, primary=2)


def test_every_secret_that_an_action_asks_for_is_known(aio: Plan, secrets: dict[str, Secret]) -> None:
    asked: set[str] = set()

    def secret(name: str) -> str:
        asked.add(name)
        return name

    project = sources.load()
    tried = []
    for _finder, name, _package in pkgutil.iter_modules(actions.__path__):
        found = importlib.import_module(f"{actions.__name__}.{name}").ActionModule
        # these two ask the host first, and the keys they hand out are those of `all_of` itself; the timer is about this
        # machine, and gets no vault
        if not issubclass(found, PlanAction) or name in ("environments", "host_certificates", "backup_timer"):
            continue
        piece = Slice(aio, aio.hosts["aio"], project, Renderer(aio, project, secret), VAULT)
        if found.arguments is PlanAction.arguments:  # it works on the deploy host, and calls no module
            continue
        given = {"swift_ring_files": {"rings": []}}.get(name, {"hosts": ["aio"]} if name.endswith("_drain") else {})
        found.__new__(found).arguments(piece, given)
        tried.append(name)
    assert {"configuration_files", "keystone_bootstrap", "keystone_catalog", "service_databases"} <= set(tried)
    assert asked and asked <= set(secrets)


def test_readers_are_the_users_of_the_files_with_the_secret(secrets: dict[str, Secret]) -> None:
    assert secrets["glance/keystone"].readers == {"root", "glance"}
    assert secrets["nova/metadata_proxy"].readers == {"root", "nova", "neutron"}
    assert secrets["nova/database/nova_cell1"].readers == {"root", "nova", "mysql"}
    assert secrets["rabbitmq/cookie"].readers == {"root", "rabbitmq"}
    assert secrets["host/aio"].readers == {"root", "brume-tls"}
    assert secrets["host/aio/qemu"].readers == {"root", "libvirt-qemu"}
    assert secrets["nova/ssh_user"].readers == secrets["nova/ssh_host"].readers == {"root", "nova"}
    on_no_host = {name for name, one in secrets.items() if not one.readers}
    assert on_no_host == {"keystone/admin", "operator/own", secret_exposure.MASTER_KEY, "ca", "ca/qemu"}


def test_constants_are_read_by_swift_alone() -> None:
    found = secret_exposure.all_of(plan(committed("object"), sources.load()), sources.load(), VAULT, primary=2)
    for name in ("hash_path_prefix", "hash_path_suffix", "encryption_root_secret"):
        one = found[f"swift/constant/{name}"]
        assert (one.readers, one.values) == ({"root", "swift"}, (VAULT.value(one.name).encode(),))


def test_values_are_those_of_the_vault(secrets: dict[str, Secret]) -> None:
    assert secrets["glance/keystone"].values == (VAULT.value("glance/keystone").encode(),)
    assert secrets["operator/own"].values == (b"given by hand",)
    assert secrets[secret_exposure.MASTER_KEY].values[0] == VAULT.master_key
    assert len(secrets["keystone/fernet-keys"].values) == 3, "the staged key is the one after the primary"
    number, line = secrets["host/aio"].values
    pem = certificates.host_key(VAULT.master_key, "aio")
    assert line.decode() in pem
    assert number in base64.b64decode("".join(pem.splitlines()[1:-1]))
    value, number, line = secrets["nova/ssh_user"].values
    assert value == VAULT.value("nova/ssh_user").encode()
    text = ssh_keys.private(value.decode())
    assert f"\n{line.decode()}\n" in text
    assert number in base64.b64decode("".join(text.splitlines()[1:-1]))
    assert forms(number)["base64, offset 2"] in line, "the line holds all of the number"
    assert VAULT.value("glance/keystone") not in repr(secrets)


def _finding(**other: Any) -> dict[str, Any]:
    return {
        "kind": "file",
        "secret": "nova/keystone",
        "form": "plain",
        "place": "/etc/nova/nova.conf",
        "owner": "root",
        "group": "nova",
        "mode": 0o640,
        **other,
    }


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        ({}, ""),
        ({"mode": 0o644}, "everybody may read it (mode 0644)"),
        ({"mode": 0o604}, "everybody may read it (mode 0604)"),
        ({"group": "adm"}, "adm may read it; only nova, root may"),
        ({"group": "adm", "mode": 0o600}, ""),
        ({"owner": "glance", "mode": 0o600}, "glance may read it; only nova, root may"),
        ({"secret": "ca", "owner": "root", "group": "root", "mode": 0o600}, "which belongs on no host"),
        ({"kind": "journal", "place": "the journal"}, "the journal: holds nova/keystone (plain)"),
        ({"kind": "process", "place": "/proc/1/environ (init)"}, "/proc/1/environ (init): holds nova/keystone (plain)"),
        ({"secret": "", "form": "compressed", "place": "/var/lib/x.zst"}, "/var/lib/x.zst: is compressed"),
    ],
)
def test_where_a_secret_may_be(secrets: dict[str, Secret], finding: dict[str, Any], expected: str) -> None:
    problem = secret_exposure.problem(_finding(**finding), secrets)
    assert expected in problem and bool(expected) == bool(problem)


@pytest.mark.parametrize(
    ("finding", "wrong"),
    [({"mode": 0o600}, False), ({"mode": 0o640}, True), ({"mode": 0o604}, True), ({"kind": "process"}, True)],
)
def test_on_the_deploy_host_only_the_owner_may_read(finding: dict[str, Any], wrong: bool) -> None:
    assert bool(secret_exposure.deploy_host_problem(_finding(**finding))) is wrong


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("after", ["", "z"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_found_at_every_place_of_a_longer_text(before: str, after: str, encode: Any) -> None:
    text = encode(f"{before}{VALUE}{after}".encode())
    assert Patterns({"it": [VALUE.encode()]}).within(text)


def test_other_forms() -> None:
    found = forms(VALUE.encode())
    assert found["plain"] == VALUE.encode()
    assert found["URL-quoted"] == urllib.parse.quote(VALUE, safe="").encode()
    assert found["hexadecimal"] == VALUE.encode().hex().encode()
    assert forms(b"ab\ncdefghijkl\0m")["plain"] == b"cdefghijkl"
    assert "plain" not in forms(b"a\nb\nc" * 9), "what is left is too short to prove anything"
    assert VALUE not in repr(Patterns({"it": [VALUE.encode()]}))


def test_files_are_searched_once_with_owner_and_mode(tmp_path: Path) -> None:
    patterns = Patterns({"it": [VALUE.encode()], "other": [b"another value"]})
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/plain\nname").write_bytes(b"\0\xff" + VALUE.encode() + b"\n")
    (tmp_path / "quoted").write_text(urllib.parse.quote(VALUE, safe=""))
    (tmp_path / "nothing").write_text("nothing")
    (tmp_path / "empty").touch()
    os.link(tmp_path / "quoted", tmp_path / "deep/same")
    (tmp_path / "link").symlink_to(tmp_path / "quoted")
    (tmp_path / "quoted").chmod(0o604)
    found, numbers = secret_search.search_files(patterns, str(tmp_path))
    assert numbers["files"] == 3
    by_form = {one["form"]: one for one in found}
    assert set(by_form) == {"plain", "URL-quoted"}
    assert by_form["plain"]["place"] == str(tmp_path / "deep/plain\nname")
    assert by_form["URL-quoted"]["mode"] == 0o604
    assert {one["secret"] for one in found} == {"it"}


def test_compressed_records_are_read_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_search, "COMPRESSED_BELOW", (f"{tmp_path}/log/",))
    for folder in ("log", "usr"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old.gz").write_bytes(gzip.compress(VALUE.encode()))
        (tmp_path / folder / "core.zst").write_bytes(b"compressed")
    found, _numbers = secret_search.search_files(Patterns({"it": [VALUE.encode()]}), str(tmp_path))
    assert {(one["place"], one["secret"], one["form"]) for one in found} == {
        (f"{tmp_path}/log/old.gz", "it", "plain"),
        (f"{tmp_path}/log/core.zst", "", "compressed"),
    }


def test_arguments_and_environment_of_processes_are_searched() -> None:
    patterns = Patterns({"argument": [b"the argument's value"], "variable": [b"the variable's value"]})
    argv = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "the argument's value"]
    with subprocess.Popen(
        argv, env={"VARIABLE": "the variable's value"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it runs, so its arguments are those of the new program
        found, numbers = secret_search.search_processes(patterns)
        process.communicate()
    assert numbers["processes"] > 1
    places = {(one["secret"], one["place"].split(" ")[0]) for one in found}
    assert places == {
        ("argument", f"/proc/{process.pid}/cmdline"),
        ("variable", f"/proc/{process.pid}/environ"),
    }


def test_the_journal_is_searched_entry_by_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "journalctl"
    entry = "__REALTIME_TIMESTAMP=1790000000123456\n_SYSTEMD_UNIT=nova-api.service\nMESSAGE="
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{entry}nothing\n\n{entry}login with {VALUE}\n\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found, numbers = secret_search.search_journal(Patterns({"it": [VALUE.encode()]}))
    assert [(one["secret"], one["place"]) for one in found] == [("it", "the journal at @1790000000 (nova-api.service)")]
    assert numbers["journal bytes"] > 100
    assert not secret_search.search_journal(Patterns({"it": [b"what is not there"]}))[0]


PROGRAM = """
import sys

def told(value):
    return {"value": value, "arguments": sys.argv}

def fails(value):
    raise ValueError("it cannot")
"""


@pytest.fixture(name="module")
def _module(tmp_path: Path) -> Any:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    module = type(sys)("program")
    module.__file__ = str(path)
    return module


def test_a_program_gets_its_arguments_by_standard_input(module: Any) -> None:
    argv = ["/bin/sh", "-c", host_program.command(sys.executable)]
    found = host_program.call(argv, module, "told", host_program.Arguments(value=VALUE), 30)
    assert found == {"value": VALUE, "arguments": ["-c"]}


@pytest.mark.parametrize(
    ("argv", "function", "timeout", "expected"),
    [
        (["/bin/sh", "-c", host_program.command(sys.executable)], "fails", 30, "fails: ValueError: it cannot"),
        (["/bin/sh", "-c", "sleep 5"], "told", 0.2, "told: no answer within 0 s"),
        (["/bin/sh", "-c", "exit 3"], "told", 30, "told: exit status 3"),
        (["/nowhere/to/be/found"], "told", 30, "No such file"),
    ],
)
def test_a_program_that_fails_tells_no_argument(
    module: Any, argv: list[str], function: str, timeout: float, expected: str
) -> None:
    with pytest.raises(host_program.HostProgramError, match=expected) as caught:
        host_program.call(argv, module, function, host_program.Arguments(value=VALUE), timeout)
    assert caught.value.__context__ is None, "the standard input would be in a report"
    assert VALUE not in repr(host_program.Arguments(value=VALUE))
