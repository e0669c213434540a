"""How an action calls its module."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import configuration_files, service_databases
from ansible_collections.brume.cloud.plugins.module_utils import run, sources
from ansible_collections.brume.cloud.plugins.module_utils.convergence import redact
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import ActionBase

from .inventories import AIO, committed, inventory


def test_modules_do_not_log_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, Any] = {}

    class Task:
        args: dict[str, Any]
        delegate_to = None

    def execute(_self: Any, **given: Any) -> dict[str, Any]:
        called.update(given)
        return {"changed": False, "invocation": {"module_args": given["module_args"]}}

    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setattr(ActionBase, "_execute_module", execute)
    monkeypatch.setitem(run._state, "plan", plan(inventory(AIO), sources.load()))
    action = service_databases.ActionModule.__new__(service_databases.ActionModule)
    action._task, action._templar = Task(), Task()
    action._task.args = {}
    action._templar.template = lambda value: value
    key = base64.b64encode(bytes(range(32))).decode()
    result = action.run(None, {"inventory_hostname": "aio", "brume_master_key": key})
    assert called["module_args"]["databases"][0]["accounts"][0]["password"]
    assert called["task_vars"]["ansible_no_target_syslog"] is True
    assert result == {"changed": False}


def test_where_a_task_is_delegated_the_module_runs_as_it_would_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible looks for the interpreter among the variables of the host that the task is delegated to."""
    called: dict[str, Any] = {}
    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setattr(ActionBase, "_execute_module", lambda _self, **given: called.update(given) or {})
    action = service_databases.ActionModule.__new__(service_databases.ActionModule)
    monkeypatch.setattr(action, "slice", lambda _variables: None, raising=False)
    monkeypatch.setattr(action, "arguments", lambda _piece, _args: {}, raising=False)
    interpreter = {"ansible_python_interpreter": "/opt/x"}
    monkeypatch.setattr(action, "task_variables", lambda _piece: interpreter, raising=False)
    monkeypatch.setattr(action, "_task", type("Task", (), {"args": {}}), raising=False)
    known = {"other": {"ansible_host": "192.0.2.1", "ansible_python_interpreter": "/usr/bin/python3"}}
    action.run(None, {"inventory_hostname": "aio", "ansible_delegated_vars": known})
    taken = called["task_vars"]
    assert taken["ansible_delegated_vars"]["other"] == {
        "ansible_host": "192.0.2.1",
        "ansible_python_interpreter": "/opt/x",
        "ansible_no_target_syslog": True,
    }
    assert known["other"]["ansible_python_interpreter"] == "/usr/bin/python3"
    action.run(None, {"inventory_hostname": "aio"})
    assert "ansible_delegated_vars" not in called["task_vars"]


def test_a_diff_shows_no_secret_whichever_way_a_file_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", plan(committed("object", swift_encryption=True), sources.load()))
    action = configuration_files.ActionModule.__new__(configuration_files.ActionModule)
    action._templar = type("Templar", (), {"template": staticmethod(lambda value: value)})()
    key = base64.b64encode(bytes(range(32))).decode()
    piece = action.slice({"inventory_hostname": "controller1", "brume_master_key": key})
    arguments = action.arguments(piece, {})
    assert arguments is not None
    (text,) = [one["content"] for one in arguments["files"] if one["path"] == "/etc/swift/proxy-server.conf"]
    value = piece.vault.value("swift/constant/encryption_root_secret")
    encoded = base64.b64encode(value.encode()).decode()
    assert f"encryption_root_secret = {encoded}\n" in text
    shown = redact(text, arguments["redactions"])
    assert "encryption_root_secret = <secret swift/constant/encryption_root_secret in base64>\n" in shown
    for name in ("swift/keystone", "swift/memcache"):
        assert piece.vault.value(name) in text and piece.vault.value(name) not in shown
