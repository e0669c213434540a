"""Keystone's bootstrap: once, again when something changes, and never with the password where others can read it."""

from __future__ import annotations

import getpass
import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import keystone_bootstrap as keystone

WANTED = keystone.Bootstrap(
    config_file="/etc/keystone/keystone.conf",
    admin_username="admin",
    admin_password="hunter2",
    project_name="admin",
    admin_role_name="admin",
    service_name="keystone",
    region_id="R",
    public_url="https://p",
    internal_url="https://i",
)
SALT = "00" * 16


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystone, "ITERATIONS", 1)


@pytest.mark.parametrize(
    ("change", "done"),
    [
        ({}, True),
        ({"admin_password": "x"}, False),
        ({"region_id": "S"}, False),
        # The catalog keeps the URLs once there is one.
        ({"public_url": "https://q", "internal_url": "https://r", "admin_url": "https://a"}, True),
    ],
)
def test_it_is_done_until_something_changes(change: dict[str, str], done: bool) -> None:
    record = {"salt": SALT, "digest": keystone.digest(WANTED, SALT)}
    assert keystone.is_done(replace(WANTED, **change), record) is done


@pytest.mark.parametrize("record", [{}, {"digest": "x"}, {"digest": "x", "salt": "no hexadecimal"}])
def test_a_record_that_cannot_be_read_means_again(record: dict[str, str]) -> None:
    assert not keystone.is_done(WANTED, record)


def test_a_record_depends_on_its_salt() -> None:
    assert keystone.digest(WANTED, SALT) != keystone.digest(WANTED, "11" * 16)


def test_the_password_goes_by_standard_input_only() -> None:
    seen: dict[str, Any] = {}

    def execute(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.update(options, command=command)
        return subprocess.CompletedProcess(command, 0, "")

    keystone.run(WANTED, "/env", getpass.getuser(), execute)
    assert json.loads(seen.pop("input"))["admin_password"] == "hunter2"
    assert "hunter2" not in repr(seen)
    assert seen["command"][0] == "/env/bin/python"


def test_a_failure_tells_what_keystone_said_without_the_password() -> None:
    def execute(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "cannot connect with hunter2\n")

    with pytest.raises(keystone.BootstrapError) as caught:
        keystone.run(WANTED, "/env", getpass.getuser(), execute)
    assert "cannot connect with <secret admin password>" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_program_gives_the_bootstrapper_every_option() -> None:
    stub = """
import sys, types
class Bootstrapper:
    def bootstrap(self):
        import json
        print(json.dumps(vars(self), sort_keys=True))
class Conf:
    def __call__(self, args, **options):
        print(args)
for part in ["", ".cmd", ".cmd.bootstrap", ".common", ".common.sql", ".conf"]:
    name = "keystone" + part
    sys.modules[name] = types.ModuleType(name)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, sys.modules[name])
sys.modules["keystone.cmd.bootstrap"].Bootstrapper = Bootstrapper
sys.modules["keystone.common.sql"].initialize = lambda: None
conf = sys.modules["keystone.conf"]
conf.CONF, conf.configure, conf.setup_logging = Conf(), lambda: None, lambda: None
conf.set_default_for_default_log_levels = lambda: None
"""
    done = subprocess.run(
        ["python3", "-I", "-c", stub + keystone.PROGRAM],
        input=WANTED.document(),
        text=True,
        capture_output=True,
        check=True,
    )
    arguments, attributes = done.stdout.splitlines()
    assert arguments == "['--config-file', '/etc/keystone/keystone.conf']"
    wanted = json.loads(WANTED.document())
    del wanted["config_file"]
    assert json.loads(attributes) == {**wanted, "service_id": None, "immutable_roles": True}
