"""The modules that work on hosts: a dry run says what the run does, and a second run has nothing to do."""

from __future__ import annotations

import getpass
import grp
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.module_utils import (
    apt,
    claims,
    databases,
    galera,
    keystone_bootstrap,
    messaging,
    rollout,
    schema,
    system_users,
    trust_store,
)

PACKAGE = "ansible_collections.brume.cloud.plugins.modules"
ME = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}

Call = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the modules change owners and users")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(name: str, arguments: dict[str, Any], check: bool = False) -> dict[str, Any]:
        module = importlib.import_module(f"{PACKAGE}.{name}")
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert not result.get("invocation"), "arguments may hold secrets"  # ansible-core 2.21 leaves an empty one out
        return result

    return run


def converges(call: Call, name: str, arguments: dict[str, Any]) -> list[str]:
    """Return the actions after seeing that a dry run, the run and the next run agree."""
    dry = call(name, arguments, check=True)
    run = call(name, arguments)
    assert not run.get("failed"), run
    assert (dry["changed"], dry["actions"], dry["diff"]) == (run["changed"], run["actions"], run["diff"])
    after = call(name, arguments)
    assert (after["changed"], after["actions"], after["diff"]) == (False, [], [])
    actions: list[str] = run["actions"]
    return actions


def program(path: Path, text: str) -> None:
    """Write a shell script that stands in for a program of the host."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


def test_configuration_files(call: Call, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("password = former\n")
    arguments = {
        "files": [
            {"path": f"{tmp_path}/d/f", "content": "password = hunter2\n", **ME},
            {"path": f"{tmp_path}/old", "state": "absent"},
        ],
        "directories": [{"path": f"{tmp_path}/d", "mode": "0750", **ME}],
        "links": [{"path": f"{tmp_path}/l", "target": f"{tmp_path}/d"}],
        "redactions": {"hunter2": "nova/keystone"},
    }
    dry = call("configuration_files", arguments, check=True)
    assert not (tmp_path / "d").exists()
    assert list(dry["planned_digests"]) == [f"{tmp_path}/d/f", f"{tmp_path}/l", f"{tmp_path}/old"]
    assert dry["planned_digests"][f"{tmp_path}/old"] == "absent"
    assert "hunter2" not in json.dumps(dry)
    assert "former" not in json.dumps(dry)
    assert len(converges(call, "configuration_files", arguments)) == 4


def test_configuration_files_that_the_host_trusts(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin/update-ca-certificates", f"echo ran >> {tmp_path}/log; cat {tmp_path}/ca > {tmp_path}/all")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(trust_store, "BUNDLE", f"{tmp_path}/all")
    one, two = (f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n" for body in ("AAAA", "BBBB"))
    path = f"{tmp_path}/ca"
    trust = f"trust {path} on this host"

    def arguments(text: str) -> dict[str, Any]:
        return {"files": [{"path": path, "content": text, **ME}], "trusted": path}

    assert len(converges(call, "configuration_files", arguments(one + two))) == 2
    assert (tmp_path / "all").read_text() == one + two
    (tmp_path / "all").write_text(one)
    assert converges(call, "configuration_files", arguments(one + two)) == [trust]
    # What is no longer trusted has to leave the bundle.
    assert converges(call, "configuration_files", arguments(two)) == [f"change file {path}", trust]
    assert (tmp_path / "all").read_text() == two
    assert (tmp_path / "log").read_text() == "ran\n" * 3
    wrong = call("configuration_files", {**arguments(two), "trusted": f"{path}.crt"})
    assert wrong["msg"] == f"{path}.crt: is named by `trusted`, but not planned; give it in `files` too"
    program(tmp_path / "bin/update-ca-certificates", "echo no room >&2; exit 1")
    assert call("configuration_files", arguments(one))["msg"] == "update-ca-certificates: no room"


SYSUSERS = """
[ "$1" = {root}/d/brume.conf ] || {{ echo "$1: no such file" >&2; exit 1; }}
[ -f {root}/broken ] && {{ echo "no free number" >&2; exit 1; }}
grep -v '^#' "$1" > {root}/made
"""


def test_system_users(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin/systemd-sysusers", SYSUSERS.format(root=tmp_path))
    (tmp_path / "d").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(system_users, "PATH", f"{tmp_path}/d/brume.conf")

    def present() -> system_users.Present:
        """Return what the program that stands in has made."""
        made = tmp_path / "made"
        lines = [line.split() for line in made.read_text().splitlines()] if made.exists() else []
        groups: dict[str, set[str]] = {words[1]: set() for words in lines if words[0] == "g"}
        for _m, user, group in (words for words in lines if words[0] == "m"):
            groups.setdefault(group, set()).add(user)
        users = {words[1]: "/usr/sbin/nologin" for words in lines if words[0] == "u"}
        users |= {name.name: name.read_text().strip() for name in tmp_path.glob("shells/*") if name.name in users}
        return system_users.Present(users, groups)

    monkeypatch.setattr(system_users, "present", present)
    arguments = {"header": "# x", "groups": ["brume-tls"], "users": [{"name": "nova", "home": "/x", "groups": ["kvm"]}]}
    missing = ["create group brume-tls", "create user nova", "add user nova to group kvm"]
    predicted = call("system_users", arguments, check=True)
    assert predicted["actions"] == [f"create file {tmp_path}/d/brume.conf (root:root 0644)", *missing]
    assert os.listdir(tmp_path / "d") == []
    (tmp_path / "broken").touch()
    assert call("system_users", arguments)["msg"] == "systemd-sysusers: no free number; correct the cause and run again"
    (tmp_path / "broken").unlink()
    assert converges(call, "system_users", arguments) == missing, "what failed is made up for"
    (tmp_path / "made").write_text("g brume-tls -\nu nova - nova /x\n")
    assert converges(call, "system_users", arguments) == ["add user nova to group kvm"]

    (tmp_path / "shells").mkdir()
    program(tmp_path / "bin/usermod", f'[ "$1 $2" = "--shell /bin/sh" ] && echo $2 > {tmp_path}/shells/$3')
    users = [{**arguments["users"][0], "shell": "/bin/sh"}]
    assert converges(call, "system_users", {**arguments, "users": users}) == [
        f"change file {tmp_path}/d/brume.conf",
        "set the shell of user nova to /bin/sh",
    ]
    (tmp_path / "shells/nova").unlink()
    program(tmp_path / "bin/usermod", "echo no such shell >&2; exit 1")
    assert call("system_users", {**arguments, "users": users})["msg"] == (
        "usermod: no such shell; correct the cause and run again"
    )


def test_configuration_files_on_a_host_without_users(call: Call, tmp_path: Path) -> None:
    first = {"path": f"{tmp_path}/a", "content": ""}
    arguments = {"files": [first, {"path": f"{tmp_path}/f", "content": "", "group": "nova-of-tomorrow"}]}
    assert call("configuration_files", arguments, check=True)["changed"]
    run = call("configuration_files", arguments)
    assert run["failed"]
    assert "group nova-of-tomorrow does not exist" in run["msg"]
    assert list(tmp_path.iterdir()) == [], "nothing is written before everything was found possible"


SYSTEMCTL = """
state={root}/state; touch $state.log; echo "$*" >> $state.log
case "$1" in
    show)
        shift 3
        for unit; do
            active=inactive; load=not-found; file=
            [ -f {root}/units/$unit ] && load=loaded
            [ -f $state.active.$unit ] && active=active
            [ -f $state.enabled.$unit ] && file=enabled
            printf 'LoadState=%s\\nActiveState=%s\\nSubState=x\\n' $load $active
            printf 'UnitFileState=%s\\nNRestarts=0\\n' "$file"
            printf 'Triggers=%s\\n\\n' "$(cat {root}/units/$unit.triggers 2>/dev/null)"
        done ;;
    enable) shift 3; for unit; do touch $state.enabled.$unit; done ;;
    disable) shift 4; for unit; do rm -f $state.enabled.$unit $state.active.$unit; done ;;
    start|restart|reload)
        case "$3" in bad*) echo "Job for $3 failed." >&2; exit 1 ;; esac
        socket=${{3%.socket}}
        service=$(cat {root}/units/$3.triggers 2>/dev/null || echo $socket.service)
        if [ $socket != $3 ] && [ -f $state.active.$service ]; then echo "$3: its service runs" >&2; exit 1; fi
        touch $state.active.$3 ;;
    stop) shift 2; for unit; do rm -f $state.active.$unit; done ;;
esac
"""


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a service manager that only remembers in the place of the host's."""
    program(tmp_path / "bin/systemctl", SYSTEMCTL.format(root=tmp_path))
    program(tmp_path / "bin/journalctl", "echo the last line\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(rollout, "UNIT_DIRECTORY", f"{tmp_path}/units")
    monkeypatch.setattr(rollout, "RECORDS", f"{tmp_path}/records")
    monkeypatch.setattr(rollout, "SETTLED", 0.0)
    monkeypatch.setattr(rollout, "SETTLED_PYTHON", 0.0)
    return tmp_path


def test_unit_rollout(call: Call, systemd: Path) -> None:
    (systemd / "f").write_text("one")
    arguments: dict[str, Any] = {
        "units": [
            {"name": "a.service", "content": "[Service]\n", "files": [f"{systemd}/f"], "health": {}},
            {"name": "b.service", "content": "[Service]\n", "after": ["a.service"], "on_change": "none"},
        ]
    }
    actions = converges(call, "unit_rollout", arguments)
    assert actions[:3] == [f"write {systemd}/units/a.service", "enable a.service", "start a.service (does not run)"]
    log = (systemd / "state.log").read_text().splitlines()
    assert log.count("daemon-reload") == 1
    assert log[-1].startswith("show "), "without a change one process is enough"
    assert (systemd / "records/a.service.json").stat().st_mode & 0o777 == 0o600
    assert (systemd / "records").stat().st_mode & 0o777 == 0o700

    predicted = call("unit_rollout", {**arguments, "planned_digests": {f"{systemd}/f": "0" * 64}}, check=True)
    assert predicted["actions"] == [f"restart a.service ({systemd}/f changed)"]
    # A file that was changed by hand, and that the run will change back to what the unit runs on, needs no restart.
    recorded = json.loads((systemd / "records/a.service.json").read_text())["files"][f"{systemd}/f"]
    content = (systemd / "f").read_text()
    (systemd / "f").write_text("by hand")
    assert call("unit_rollout", arguments, check=True)["actions"] == [f"restart a.service ({systemd}/f changed)"]
    back = {**arguments, "planned_digests": {f"{systemd}/f": recorded}}
    assert call("unit_rollout", back, check=True)["actions"] == []
    (systemd / "f").write_text(content)
    (systemd / "f").write_text("two")
    assert converges(call, "unit_rollout", arguments) == [f"restart a.service ({systemd}/f changed)"]
    gone = {"units": [{"name": "a.service", "state": "absent"}]}
    assert converges(call, "unit_rollout", gone) == ["stop, disable and remove a.service (nothing here plans it)"]
    assert not (systemd / "units/a.service").exists()
    assert not (systemd / "records/a.service.json").exists()


def test_unit_rollout_removes_what_a_release_dropped_when_the_rest_is_well(call: Call, systemd: Path) -> None:
    (systemd / "f").write_text("one")
    (systemd / "shared").write_text("both read it")
    old = {"name": "old.service", "content": "# Written by Brume\n", "files": [f"{systemd}/f", f"{systemd}/shared"]}
    new = {"name": "new.service", "content": "[Service]\n", "files": [f"{systemd}/shared"]}
    converges(call, "unit_rollout", {"units": [old]})
    (systemd / "units/others.service").write_text("[Service]\n")
    for state in ("active", "enabled"):
        (systemd / f"state.{state}.others.service").touch()
    (systemd / "units/dead.service").write_text("# Written by Brume; it never became well.\n")
    names = ("old.service", "others.service", "dead.service")
    dropped = [{"name": name, "state": "absent", "files": [f"{systemd}/f"]} for name in names]
    ends = ["stop, disable and remove old.service (nothing here plans it)", f"remove {systemd}/f"]
    ends += ["stop, disable and remove dead.service (nothing here plans it)"]
    starts = [f"write {systemd}/units/new.service", "enable new.service", "start new.service (does not run)"]
    upgrade = {"units": [new, *dropped]}

    bad = {**new, "name": "bad.service"}
    failed = call("unit_rollout", {"units": [bad, *dropped]})
    assert failed["failed"], failed
    assert (systemd / "state.active.old.service").exists() and (systemd / "f").exists(), "there is no successor yet"

    dry = call("unit_rollout", {**upgrade, "stage": "start"}, check=True)
    assert (dry["actions"], dry["pending"]) == (starts, True)
    assert call("unit_rollout", {**upgrade, "stage": "change"}, check=True)["actions"] == ends
    begun = call("unit_rollout", {**upgrade, "stage": "start"})
    assert (begun["actions"], begun["pending"]) == (starts, True)
    assert (systemd / "state.active.old.service").exists(), "it goes by its host's turn"
    before = len((systemd / "state.log").read_text().splitlines())
    assert converges(call, "unit_rollout", {**upgrade, "stage": "change"}) == ends
    log = (systemd / "state.log").read_text().splitlines()[before:]
    assert "disable --now --no-reload -- old.service" in log and "daemon-reload" in log
    gone = ("units/old.service", "records/old.service.json", "state.active.old.service", "state.enabled.old.service")
    assert not [path for path in (*gone, "f") if (systemd / path).exists()]
    assert (systemd / "shared").exists()
    assert (systemd / "state.active.others.service").exists(), "it is not Brume's"

    (systemd / "f").write_text("one")
    back = {"units": [old, {"name": "new.service", "state": "absent"}]}
    assert converges(call, "unit_rollout", back) == [
        f"write {systemd}/units/old.service",
        "enable old.service",
        "start old.service (does not run)",
        "stop, disable and remove new.service (nothing here plans it)",
    ]
    assert (systemd / "state.active.old.service").exists()


def test_unit_rollout_remembers_since_when_a_unit_knows_versions(call: Call, systemd: Path) -> None:
    arguments: dict[str, Any] = {"units": [{"name": "a.service", "content": "x"}]}
    converges(call, "unit_rollout", arguments)
    renewed = {"units": [{**arguments["units"][0], "versions": "2026.1"}]}
    told = ["restart a.service (it keeps the versions that other services had)"]
    assert converges(call, "unit_rollout", renewed) == told
    other = {"units": [{"name": "a.service", "content": "y"}]}
    assert len(converges(call, "unit_rollout", other)) == 2, "who starts later knows as much"
    assert call("unit_rollout", {"units": [{**other["units"][0], "versions": "2026.1"}]})["actions"] == []


def test_unit_rollout_starts_anew_what_a_former_broker_has_told(call: Call, systemd: Path) -> None:
    (systemd / "f").write_text("one")

    def wish(broker: str, **more: Any) -> dict[str, Any]:
        unit = {"content": "x", "files": [f"{systemd}/f"], "broker": broker}
        units = [{"name": name, **unit} for name in ("a.service", "b.service")]
        return {"units": [{"name": "c.service", "content": "x"}, *units], **more}

    converges(call, "unit_rollout", wish("first"))
    (systemd / "f").write_text("two")
    assert converges(call, "unit_rollout", wish("second", stage="reconnect")) == [
        f"restart {name}.service (its broker was made anew)" for name in ("a", "b")
    ]
    assert call("unit_rollout", wish("second"), check=True)["actions"] == [
        f"restart {name}.service ({systemd}/f changed)" for name in ("a", "b")
    ], "what was not looked at is still known as it was"
    converges(call, "unit_rollout", wish("second"))
    (systemd / "f").write_text("three")
    converges(call, "unit_rollout", wish(""))
    assert call("unit_rollout", wish("second"))["actions"] == [], "where nobody was asked, what is known stays"


def test_unit_rollout_reconnects_what_a_cut_off_run_has_left(call: Call, systemd: Path) -> None:
    """One that did not become well is not recorded, so that the next run comes back to it."""
    units = [{"name": name, "content": "x"} for name in ("a.service", "bad.service")]
    for name in ("a.service", "bad.service"):
        (systemd / f"state.active.{name}").touch()
        (systemd / "records").mkdir(exist_ok=True)
        (systemd / f"records/{name}.json").write_text(json.dumps({"broker": "first"}))
    wish = {"units": [{**one, "broker": "second"} for one in units], "stage": "reconnect"}
    assert call("unit_rollout", wish)["failed"]
    assert call("unit_rollout", wish, check=True)["actions"] == ["restart bad.service (its broker was made anew)"]


def test_unit_rollout_of_a_service_that_gets_a_socket(call: Call, systemd: Path) -> None:
    new = [{"name": "b.service", "content": "[Service]\n", "after": ["b.socket"]}, {"name": "b.socket", "content": "x"}]
    converges(call, "unit_rollout", {"units": new})
    assert "stop" not in (systemd / "state.log").read_text(), "what does not run is not stopped"
    service = {"name": "a.service", "content": "[Service]\n"}
    converges(call, "unit_rollout", {"units": [service]})
    both = {"units": [{**service, "after": ["a.socket"]}, {"name": "a.socket", "content": "[Socket]\n"}]}
    assert converges(call, "unit_rollout", both) == [
        "restart a.service (a.socket starts anew)",
        f"write {systemd}/units/a.socket",
        "enable a.socket",
        "start a.socket (does not run)",
    ]
    log = [line for line in (systemd / "state.log").read_text().splitlines() if not line.startswith("show")]
    assert log[-5:] == [
        "enable --no-reload -- a.socket",
        "daemon-reload",
        "stop -- a.service",
        "start -- a.socket",
        "restart -- a.service",
    ]
    (systemd / "state.active.a.socket").unlink()
    assert converges(call, "unit_rollout", both) == [
        "restart a.service (a.socket starts anew)",
        "start a.socket (does not run)",
    ]


def test_unit_rollout_of_a_further_socket_of_a_service_that_runs(call: Call, systemd: Path) -> None:
    (systemd / "units").mkdir()
    for name in ("a.service", "a-tls.socket"):
        (systemd / "units" / name).touch()
    (systemd / "units/a-tls.socket.triggers").write_text("a.service")
    call("unit_rollout", {"units": [{"name": "a.service"}]})
    both = {"units": [{"name": "a.service", "after": ["a-tls.socket"]}, {"name": "a-tls.socket"}]}
    start, change = {**both, "stage": "start"}, {**both, "stage": "change"}
    for check in (True, False):
        started = call("unit_rollout", start, check=check)
        assert not started["actions"] and started["pending"], "the service has to stop for it, so it waits for its turn"
    predicted = call("unit_rollout", change, check=True)["actions"]
    assert converges(call, "unit_rollout", change) == predicted
    assert predicted == [
        "restart a.service (a-tls.socket starts anew)",
        "enable a-tls.socket",
        "start a-tls.socket (does not run)",
    ]


def test_unit_rollout_in_two_stages(call: Call, systemd: Path) -> None:
    (systemd / "f").write_text("one")
    runs = {"name": "a.service", "content": "x", "files": [f"{systemd}/f"]}
    call("unit_rollout", {"units": [runs]})
    (systemd / "f").write_text("two")
    both = {"units": [runs, {"name": "b.service", "content": "y", "start_environment": {"FIRST": "--first"}}]}
    start, change = {**both, "stage": "start"}, {**both, "stage": "change"}
    restart = [f"restart a.service ({systemd}/f changed)"]
    assert call("unit_rollout", change, check=True)["actions"] == restart, "a dry run has told of the start already"
    assert converges(call, "unit_rollout", start) == [
        f"write {systemd}/units/b.service",
        "enable b.service",
        "start b.service (does not run; with FIRST)",
    ]
    log = [line for line in (systemd / "state.log").read_text().splitlines() if not line.startswith("show")]
    assert log[-3:] == ["set-environment FIRST=--first", "start -- b.service", "unset-environment FIRST"]
    assert converges(call, "unit_rollout", change) == restart
    (systemd / "state.active.b.service").unlink()
    assert converges(call, "unit_rollout", change | {"stage": ""})[0].startswith("start b.service")
    (systemd / "state.active.b.service").unlink()
    assert call("unit_rollout", change)["actions"][0].startswith("start b.service"), "what has ended meanwhile"


def test_unit_rollout_says_whether_the_other_stage_has_something_to_do(call: Call, systemd: Path) -> None:
    (systemd / "f").write_text("one")
    runs = {"name": "a.service", "content": "x", "files": [f"{systemd}/f"]}
    start = {"units": [runs, {"name": "b.service", "content": "y"}], "stage": "start"}
    assert not call("unit_rollout", start, check=True)["pending"]
    assert not call("unit_rollout", start)["pending"]
    (systemd / "f").write_text("two")
    for check in (True, False):
        done = call("unit_rollout", start, check=check)
        assert done["pending"]
        assert not done["changed"]
    assert not call("unit_rollout", {**start, "stage": "change"})["pending"]
    assert not call("unit_rollout", start)["pending"]


def test_unit_rollout_settles_what_comes_first_in_the_first_stage(call: Call, systemd: Path) -> None:
    (systemd / "f").write_text("one")
    first = {"name": "z.service", "content": "x", "files": [f"{systemd}/f"], "first": True}
    units = {"units": [{"name": "a.service", "content": "y"}, first]}
    call("unit_rollout", {**units, "stage": "start"})
    log = [line for line in (systemd / "state.log").read_text().splitlines() if line.startswith("start")]
    assert log == ["start -- z.service", "start -- a.service"]
    (systemd / "f").write_text("two")
    change = {**units, "stage": "change"}
    assert not call("unit_rollout", change, check=True)["changed"], "the stage before has told of it"
    assert converges(call, "unit_rollout", {**units, "stage": "start"}) == [f"restart z.service ({systemd}/f changed)"]
    assert not call("unit_rollout", change)["changed"]


def test_unit_rollout_reloads_for_a_certificate(call: Call, systemd: Path) -> None:
    for name in ("conf", "crt"):
        (systemd / name).write_text("one")
    unit = {"name": "a.service", "content": "x", "files": [f"{systemd}/conf", f"{systemd}/crt"]}
    arguments = {"units": [{**unit, "reload_files": [f"{systemd}/crt"]}]}
    converges(call, "unit_rollout", arguments)
    (systemd / "crt").write_text("two")
    assert converges(call, "unit_rollout", arguments) == [f"reload a.service ({systemd}/crt changed)"]
    (systemd / "conf").write_text("two")
    assert converges(call, "unit_rollout", arguments) == [f"restart a.service ({systemd}/conf changed)"]


def test_unit_rollout_records_what_is_well_when_another_fails(call: Call, systemd: Path) -> None:
    arguments = {"units": [{"name": "bad.service", "content": "x"}, {"name": "good.service", "content": "x"}]}
    run = call("unit_rollout", arguments)
    assert run["failed"]
    assert "bad.service: systemctl start: Job for bad.service failed." in run["msg"]
    assert "    the last line" in run["msg"]
    assert sorted(os.listdir(systemd / "records")) == ["good.service.json"]
    assert call("unit_rollout", arguments, check=True)["actions"] == ["start bad.service (does not run)"]


def test_schema_sync(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "RECORDS", f"{tmp_path}/records")
    item = {"name": "a", "user": "root", "environment": "/none", "digest": "1"}
    good = {**item, "commands": [["sh", "-c", f"echo x >> {tmp_path}/log"]]}
    assert len(converges(call, "schema_sync", {"services": [good]})) == 1
    assert (tmp_path / "log").read_text() == "x\n"
    run = call("schema_sync", {"services": [{**good, "digest": "2"}, {**item, "name": "b", "commands": [["false"]]}]})
    assert "b: `false` (as root) exits with 1" in run["msg"]
    assert (tmp_path / "log").read_text() == "x\nx\n"
    assert os.listdir(tmp_path / "records") == ["a.json"]
    assert converges(call, "schema_sync", {"services": [{"name": "a", "state": "absent"}]})


def test_schema_sync_goes_through_the_stages(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "RECORDS", f"{tmp_path}/records")
    old = {"name": "a", "user": "root", "environment": str(tmp_path), "digest": "1", "commands": [["true"]]}
    empty = {**old, "name": "b", "commands": []}
    converges(call, "schema_sync", {"services": [old, empty]})
    new = {**old, "digest": "2"}
    for stage in ("expand", "online", "contract"):
        told = converges(call, "schema_sync", {"stage": stage, "services": [new, {**empty, "digest": "2"}]})
        assert told == [f"run the {stage} commands of a: true"], "b has none"
        served = call("schema_sync", {"stage": "served", "services": [old]})
        assert bool(served.get("failed")) == (stage == "contract")
    assert call("schema_sync", {"stage": "served", "services": [{**empty, "digest": "1"}]})["failed"]


def test_schema_sync_checks_each_time_and_in_a_dry_run(call: Call, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    line = f"echo Upgrade Check Results; echo x >> {tmp_path}/log; exit "
    item = {"name": "a", "user": "root", "environment": str(tmp_path), "digest": "1"}

    def ask(code: int, check: bool = False, environment: Path = tmp_path) -> dict[str, Any]:
        service = {**item, "environment": str(environment), "commands": [["sh", "-c", f"{line}{code}"]]}
        return call("schema_sync", {"stage": "check", "services": [service]}, check=check)

    assert not ask(0)["changed"]
    assert ask(1, check=True)["services"][0]["commands"][0]["output"] == ["Upgrade Check Results"]
    assert ask(2)["failed"]
    assert ask(255)["failed"]
    crashed = {**item, "commands": [["sh", "-c", "echo Traceback of mysql://secret@; exit 1"]]}
    said = call("schema_sync", {"stage": "check", "services": [crashed], "redactions": {"secret": "nova/x"}})
    assert "exits with 1" in said["msg"] and "mysql://<secret nova/x>@" in said["msg"]
    assert (tmp_path / "log").read_text() == "x\n" * 4
    assert ask(2, check=True, environment=tmp_path / "not yet")["services"] == []


def test_environments(call: Call, tmp_path: Path) -> None:
    program(
        tmp_path / "uv",
        f"""
        [ "$1" = venv ] && mkdir -p "$6/bin" && ln -s {sys.executable} "$6/bin/python"
        case "$*" in *bad*) echo "error: no space left on device"; exit 2 ;; esac
        exit 0
        """,
    )
    item = {"service": "nova", "lock": "a==1\n", "python": sys.executable}
    one = {**item, "path": f"{tmp_path}/nova/1", "current": f"{tmp_path}/nova/current"}
    two = {**one, "path": f"{tmp_path}/nova/2"}
    uv = f"{tmp_path}/uv"
    assert len(converges(call, "environments", {"uv": uv, "environments": [one]})) == 2
    assert os.readlink(tmp_path / "nova/current") == f"{tmp_path}/nova/1"
    assert converges(call, "environments", {"uv": uv, "environments": [two]})[1].endswith(f"(was {tmp_path}/nova/1)")
    kept = call("environments", {"uv": uv, "environments": [{**two, "state": "absent"}]})
    assert "link another release first" in kept["msg"]
    assert converges(call, "environments", {"uv": uv, "environments": [{**one, "state": "absent"}]})
    bad = {**item, "service": "bad", "path": f"{tmp_path}/bad/1", "current": f"{tmp_path}/bad/current"}
    new = {**one, "path": f"{tmp_path}/nova/3"}
    run = call("environments", {"uv": uv, "environments": [bad, new]})
    assert "bad: `venv --no-project`" in run["msg"]
    assert "free space" in run["msg"]
    assert not (tmp_path / "bad/current").exists()
    assert os.readlink(tmp_path / "nova/current") == f"{tmp_path}/nova/2", "no link moves when a build fails"
    again = call("environments", {"uv": uv, "environments": [new]}, check=True)
    assert not any(action.startswith("build") for action in again["actions"]), "what was built stays"


def test_keystone_keys(call: Call, tmp_path: Path) -> None:
    keys = {"0": "A" * 43 + "=", "1": "B" * 43 + "="}
    item = {"path": f"{tmp_path}/keys", **ME}
    arguments = {"repositories": [{**item, "primary": 1, "keys": keys, "prune": True}]}
    dry = call("keystone_keys", arguments, check=True)
    assert keys["1"] not in json.dumps(dry)
    assert not (tmp_path / "keys").exists()
    assert len(converges(call, "keystone_keys", arguments)) == 3
    read = call("keystone_keys", {"repositories": [item], "read": True})
    assert read["repositories"] == [{"path": f"{tmp_path}/keys", "primary": 1, "indexes": [0, 1]}]
    assert converges(call, "keystone_keys", {"repositories": [{**item, "state": "absent"}]})


def test_keystone_bootstrap(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[keystone_bootstrap.Bootstrap] = []
    monkeypatch.setattr(keystone_bootstrap, "RECORD", f"{tmp_path}/record.json")
    monkeypatch.setattr(keystone_bootstrap, "ITERATIONS", 1)
    monkeypatch.setattr(keystone_bootstrap, "run", lambda wanted, *_rest: ran.append(wanted))
    arguments = {
        "environment": "/env",
        "admin_password": "hunter2",
        "region": "R",
        "public_url": "https://p",
        "internal_url": "https://i",
    }
    assert len(converges(call, "keystone_bootstrap", arguments)) == 1
    assert [one.admin_password for one in ran] == ["hunter2"]
    assert "hunter2" not in (tmp_path / "record.json").read_text()
    assert converges(call, "keystone_bootstrap", {**arguments, "admin_password": "hunter3"})
    assert converges(call, "keystone_bootstrap", {"state": "absent"})


def test_keystone_catalog_of_a_host_without_an_environment(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def log_in(*_arguments: Any, **_more: Any) -> None:
        raise ImportError("No module named 'keystoneauth1'")

    # Where the controller's part of Ansible is loaded too, warnings are shown and not in the result.
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, text: warnings.append(text))
    monkeypatch.setattr(f"{PACKAGE}.keystone_catalog.log_in_or_before", log_in)
    auth = {"auth_url": "https://one:5000/v3", "username": "admin", "password": "hunter2", "project_name": "admin"}
    endpoint = {"service": "nova", "interface": "public", "region": "RegionTwo", "url": "https://two:8774"}
    arguments = {
        "auth": auth,
        "shared": True,
        "regions": [{"id": "RegionTwo"}],
        "services": [{"name": "nova", "type": "compute"}],
        "endpoints": [endpoint],
    }
    dry = call("keystone_catalog", arguments, check=True)
    assert dry["actions"] == ["create region RegionTwo", "create endpoint nova public RegionTwo"]
    assert len(warnings) == 1 and "was not asked" in warnings[0]
    for wrong in ({"shared": False}, {"endpoints": [{**endpoint, "state": "absent"}]}):
        assert "keystoneauth1" in call("keystone_catalog", {**arguments, **wrong}, check=True)["msg"]
    assert "keystoneauth1" in call("keystone_catalog", arguments)["msg"]


APT = """
echo "${{0##*/}} $1" >> {root}/log
case "$0 $*" in
    *dpkg-query*) [ -f {root}/installed ] && printf 'haproxy\\tinstalled\\n'; printf 'nano\\tinstalled\\n' ;;
    *dpkg*--audit*) ;;
    *apt-get*-s*) echo "Inst haproxy (3.0 x)" ;;
    *apt-get*install*) {policy} haproxy start; [ $? = 101 ] && touch {root}/installed ;;
esac
"""


def test_host_packages(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    for name in ("dpkg-query", "dpkg", "apt-get"):
        program(tmp_path / f"bin/{name}", APT.format(root=tmp_path, policy=policy))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    held_back = apt.held_back
    monkeypatch.setattr(apt, "held_back", lambda units: held_back(units, str(policy), str(tmp_path / "saved")))
    monkeypatch.setattr(apt, "cache_age", lambda: 0.0)
    arguments = {"packages": ["haproxy", "nano"], "hold_units": ["haproxy.service"]}
    assert converges(call, "host_packages", arguments) == ["install package haproxy 3.0"]
    assert not policy.exists()
    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("dpkg-query"), "one process"
    both = call("host_packages", {"packages": ["nano"], "absent": ["nano"]})
    assert "both planned and to be removed" in both["msg"]


def test_a_dry_run_knows_the_versions_that_lists_read_anew_have(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""
lists={tmp_path}/lists
for word in "$@"; do case "$word" in Dir::State::lists=*) lists=${{word#*=}} ;; esac; done
case "$*" in
    *update*) [ -f {tmp_path}/unreachable ] && echo "Err:1 not there"; echo 3.1 > $lists/new_Packages ;;
    *-s*) echo "Inst haproxy ($(cat $lists/new_Packages || cat $lists/old_Packages) x)" ;;
esac
"""
    program(tmp_path / "bin/apt-get", script)
    program(tmp_path / "bin/dpkg-query", "exit 0\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/old_Packages").write_text("3.0")
    monkeypatch.setattr(apt.lists_read_aside.__wrapped__, "__defaults__", (str(tmp_path / "lists"),))
    monkeypatch.setattr(apt, "cache_age", lambda: float("inf"))
    assert call("host_packages", {"packages": ["haproxy"]}, check=True)["actions"] == ["install package haproxy 3.1"]
    assert [one.name for one in (tmp_path / "lists").iterdir()] == ["old_Packages"], "the host's own are as they were"
    assert list(Path("/var/tmp").glob("brume-lists-*")) == []
    (tmp_path / "unreachable").touch()
    assert "could not read every index" in call("host_packages", {"packages": ["haproxy"]}, check=True)["msg"]


def test_host_packages_claim_data_before_they_make_it(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dpkg-query", "dpkg", "apt-get"):
        program(tmp_path / f"bin/{name}", APT.format(root=tmp_path, policy=tmp_path / "policy-rc.d"))
    program(tmp_path / "bin/apt-get", "exit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    held_back = apt.held_back
    monkeypatch.setattr(
        apt, "held_back", lambda units: held_back(units, str(tmp_path / "policy-rc.d"), str(tmp_path / "saved"))
    )
    monkeypatch.setattr(apt, "cache_age", lambda: 0.0)
    monkeypatch.setattr(claims, "CLAIMS", str(tmp_path / "data.json"))
    arguments = {"packages": ["haproxy", "nano"], "claims": ["/var/lib/mysql"]}
    assert call("host_packages", arguments, check=True).get("failed")
    assert claims.claimed() == frozenset(), "a dry run claims nothing"
    assert call("host_packages", arguments)["failed"], "the packages could not be installed"
    assert claims.claimed() == {"/var/lib/mysql"}, "and what they left behind is known all the same"


def test_a_claim_alone_is_a_change(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin/dpkg-query", "exit 0\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(claims, "CLAIMS", str(tmp_path / "data.json"))
    assert converges(call, "host_packages", {"claims": ["/var/lib/mysql"]}) == ["claim /var/lib/mysql"]


NEWER = """
echo "${{0##*/}} $*" >> {root}/log
case "${{0##*/}} $*" in
    "dpkg --audit") echo "nano  missing md5sums" ;;
    "dpkg --configure"*) [ -f {root}/knotted ] && exit 1; [ -f {root}/half-installed ] || rm -f {root}/half ;;
    "dpkg-query -W -f"*Eflag*) printf 'installed\\tok\\nconfig-files\\tok\\n'; cat {root}/half 2>/dev/null ;;
    "dpkg-query -W -f"*Want*)
        printf 'nginx\\thold\\n'; [ -f {root}/held ] && printf 'haproxy\\thold\\n' || printf 'haproxy\\tinstall\\n' ;;
    "dpkg-query -W -f"*source*) printf 'openvswitch\\topenvswitch-%s\\t1\\tinstalled\\n' switch common
        printf 'haproxy\\thaproxy\\t1\\tinstalled\\n' ;;
    "dpkg-query -W"*) printf 'haproxy\\tinstalled\\nnginx\\tconfig-files\\n' ;;
    "dpkg-query -S"*) printf 'libssl3:amd64: /usr/lib/libssl.so.3\\n' ;;
    "apt-get "*fix-broken*) rm -f {root}/half ;;
    "apt-get "*update*) ;;
    "apt-get "*-s*)
        [ -f {root}/new ] && exit 0
        [ -f {root}/removes ] && echo "Remv nginx [1]"
        [ -f {root}/broker ] && echo "Inst rabbitmq-server [3.12.1-1] (4.0.5-6 x)"
        [ -f {root}/database ] && echo "Inst mariadb-server [1:10.11.18-0] (1:11.8.9-0 x)"
        [ -f {root}/library ] && echo "Inst libssl3 [1] (2 x)"
        case "$*" in *nano*) exit 0 ;; esac
        echo "Inst haproxy [1] (2 x)"
        for word in "$@"; do case "$word" in
            *Preferences=*) grep -A1 switch "${{word#*=}}" | grep -q "version 1" && exit 0 ;;
        esac; done
        case "$*" in *--only-upgrade*) ;; *) echo "Inst openvswitch-switch [1] (2 x)" ;; esac ;;
    "apt-get "*--download-only*) ;;
    "apt-get "*)
        [ -f {root}/on/haproxy.service ] && exit 7
        {policy} haproxy start; [ $? = 101 ] && touch {root}/new ;;
    "systemctl show "*ControlGroup*)
        for unit in "$@"; do case "$unit" in *.service|*.socket)
            echo "ControlGroup=/$unit"; echo "TriggeredBy="; echo ;; esac; done ;;
    "systemctl show "*)
        for unit in "$@"; do case "$unit" in *.service|*.socket)
            if [ -f {root}/on/$unit ]; then echo ActiveState=active; else echo ActiveState=inactive; fi; echo ;;
        esac; done ;;
    "systemctl stop "*) for unit in "$@"; do rm -f {root}/on/$unit; done ;;
    ovs-vsctl*) cat {root}/ports ;;
esac
"""


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a host with two packages that have newer versions, and three units that run."""
    module = importlib.import_module(f"{PACKAGE}.host_updates")
    policy, held_back = tmp_path / "policy-rc.d", apt.held_back
    for name in ("dpkg-query", "dpkg", "apt-get", "systemctl", "ovs-vsctl"):
        program(tmp_path / f"bin/{name}", NEWER.format(root=tmp_path, policy=policy))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(apt, "held_back", lambda units: held_back(units, str(policy), str(tmp_path / "saved")))
    restore = apt.restore_policy
    monkeypatch.setattr(apt, "restore_policy", lambda *at: restore(*(at or (str(policy), str(tmp_path / "saved")))))
    for name, value in (("NOTE", "note"), ("CGROUPS", "cgroup"), ("PROCESSES", "proc"), ("REBOOT", "reboot")):
        monkeypatch.setattr(module, name, str(tmp_path / value))
    monkeypatch.setattr(module, "KERNEL", str(tmp_path / "vmlinuz"))
    monkeypatch.setattr(module, "VACANT_SECONDS", 0.0)
    for folder in ("on", "proc/7", "cgroup/nova-api.service"):
        (tmp_path / folder).mkdir(parents=True)
    for unit in ("haproxy.service", "ovs-vswitchd.service", "nova-api.service"):
        (tmp_path / "on" / unit).touch()
    (tmp_path / "cgroup/nova-api.service/cgroup.procs").write_text("7\n8\n")
    (tmp_path / "proc/7/maps").write_text("1-2 r-xp 0 08:01 1 /usr/lib/libssl.so.3\n")
    (tmp_path / "ports").touch()
    return tmp_path


UPDATES: dict[str, Any] = {
    "units": {
        "haproxy.service": {"packages": ["haproxy"], "after": []},
        "ovs-vswitchd.service": {"packages": ["openvswitch-switch"], "after": []},
        "nova-api.service": {"packages": [], "after": []},
    },
    "hold_units": ["haproxy.service"],
}


def test_host_updates(call: Call, newer: Path) -> None:
    """Each call goes on where a run that was cut off has ended."""
    found = call("host_updates", {**UPDATES, "refresh": True})
    assert (found["changed"], found["units"]) == (False, ["haproxy.service", "ovs-vswitchd.service"])
    assert found["updates"] == {"haproxy": ["1", "2"], "openvswitch-switch": ["1", "2"]}
    assert "-q" in next(line for line in (newer / "log").read_text().splitlines() if " update" in line)
    assert not call("host_updates", {**UPDATES, "state": "begun", "empties": True}, check=True)["begun"]
    assert not (newer / "note").exists()
    call("host_updates", {**UPDATES, "state": "begun", "empties": True})
    assert "--download-only dist-upgrade" in (newer / "log").read_text()
    begun = call("host_updates", UPDATES)
    assert (begun["begun"], begun["out"]) == ({"empties": True}, False)
    assert call("host_updates", UPDATES, check=True)["actions"] == converges(
        call, "host_updates", {**UPDATES, "state": "updated"}
    )
    assert [path.name for path in (newer / "on").iterdir()] == ["nova-api.service"]
    taken = next(line for line in (newer / "log").read_text().splitlines() if "--no-remove" in line)
    assert "--force-confold" in taken
    after = call("host_updates", UPDATES)
    assert (after["updates"], after["out"], after["begun"]["empties"]) == ({}, True, True)
    (newer / "on/haproxy.service").touch()
    assert not call("host_updates", UPDATES)["out"], "somebody has started it again, so it may have work again"
    call("host_updates", {**UPDATES, "state": "ended"})
    assert call("host_updates", UPDATES)["begun"] == {}


@pytest.mark.parametrize("emptied", [False, True])
def test_the_note_says_whether_the_host_was_empty_when_units_stopped(call: Call, newer: Path, emptied: bool) -> None:
    call("host_updates", {**UPDATES, "state": "begun", "empties": True})
    assert "emptied" not in call("host_updates", UPDATES)["begun"], "a run that is cut off here has moved nothing"
    call("host_updates", {**UPDATES, "state": "updated", "empties": emptied})
    assert call("host_updates", UPDATES)["begun"]["emptied"] is emptied


def test_units_stop_for_libraries_that_they_have_loaded(call: Call, newer: Path) -> None:
    (newer / "library").touch()
    assert "nova-api.service" in call("host_updates", UPDATES)["units"]


def test_the_switch_is_left_alone_where_its_host_is_not_empty(call: Call, newer: Path) -> None:
    stays = {"keep_units": ["ovs-vswitchd.service"], "keep_packages": ["openvswitch-switch"]}
    found = call("host_updates", {**UPDATES, **stays})
    assert (list(found["updates"]), found["units"]) == (["haproxy"], ["haproxy.service"])
    assert found["kept"] == ["openvswitch-switch"]
    vacant = {**UPDATES, "state": "updated", "vacant_units": ["ovs-vswitchd.service"]}
    (newer / "ports").write_text("tapa1b2\n")
    assert "tapa1b2: still on this host's switch" in call("host_updates", vacant)["msg"]
    assert (newer / "on/haproxy.service").exists(), "nothing was stopped"
    (newer / "ports").write_text("")
    assert call("host_updates", vacant)["changed"]


def test_no_package_is_removed(call: Call, newer: Path) -> None:
    (newer / "removes").touch()
    assert call("host_updates", UPDATES)["removed"] == ["nginx"]
    for state in ("begun", "updated"):
        assert "apt would remove nginx\n  next: " in call("host_updates", {**UPDATES, "state": state})["msg"]
    assert len(list((newer / "on").iterdir())) == 3, "nothing was stopped"


def test_only_the_packages_that_are_asked_for(call: Call, newer: Path) -> None:
    one = call("host_updates", {**UPDATES, "packages": ["haproxy", "nginx", "nano"]})
    assert (list(one["updates"]), one["here"], one["units"]) == (["haproxy"], ["haproxy"], ["haproxy.service"])
    assert "--only-upgrade install haproxy" in (newer / "log").read_text()
    assert call("host_updates", {**UPDATES, "packages": ["nano"]})["updates"] == {}


def test_held_packages_stay_and_are_told(call: Call, newer: Path) -> None:
    assert call("host_updates", {**UPDATES, "packages": ["haproxy"]})["held"] == []
    (newer / "held").touch()
    alone = call("host_updates", {**UPDATES, "packages": ["haproxy"]})
    assert (alone["updates"], alone["held"], alone["here"]) == ({}, ["haproxy"], ["haproxy"])
    (newer / "log").unlink()
    call("host_updates", {**UPDATES, "packages": ["haproxy", "nginx"], "state": "begun"})
    assert "apt-get" not in (newer / "log").read_text(), "it fails for those that it is asked for by name"


@pytest.mark.parametrize("state", ["begun", "ended"])
def test_what_holds_starts_back_goes_though_an_operator_has_ended_the_transaction(
    call: Call, newer: Path, state: str
) -> None:
    (newer / "policy-rc.d").write_text(apt.policy_text(["haproxy.service"]))
    (newer / "saved").write_text("own")
    for given, check in (("read", False), (state, True)):
        call("host_updates", {**UPDATES, "state": given}, check=check)
        assert apt.POLICY_MARK in (newer / "policy-rc.d").read_text()
    call("host_updates", {**UPDATES, "state": state})
    assert (newer / "policy-rc.d").read_text() == "own"


@pytest.mark.parametrize(
    ("state", "knot"),
    [
        ("half-configured\tok", ""),
        ("triggers-pending\tok", ""),
        ("unpacked\tok", "knotted"),
        ("half-installed\treinstreq", "half-installed"),
        ("installed\treinstreq", "half-installed"),
    ],
)
def test_an_interrupted_transaction_is_finished_first(call: Call, newer: Path, state: str, knot: str) -> None:
    assert not call("host_updates", UPDATES)["interrupted"], "a package without checksums is well"
    (newer / "half").write_text(f"{state}\n")
    if knot:
        (newer / knot).touch()
    found = call("host_updates", UPDATES)
    assert (found["interrupted"], found["updates"]) == (True, {}), "apt can tell nothing"
    (newer / "proc/7/maps").write_text("1-2 r-xp 0 08:01 1 /usr/lib/libssl.so.3 (deleted)\n")
    done = call("host_updates", {**UPDATES, "state": "updated"})
    assert done["actions"][0] == "finish the interrupted transaction"
    assert "stop nova-api.service" in done["actions"], "it runs what is not there any more"
    assert ("fix-broken" in (newer / "log").read_text()) is bool(knot)


@pytest.mark.parametrize(
    ("package", "members", "words"),
    [
        ("broker", 3, "RabbitMQ 3.12.1 -> 4.0.5: no series may be skipped\n  next: "),
        ("database", 3, "MariaDB 10.11.18 -> 11.8.9: a cluster"),
        ("database", 1, ""),
        ("removes", 1, "apt would remove nginx\n  next: "),
    ],
)
def test_versions_are_judged_again_when_an_interruption_hid_them(
    call: Call, newer: Path, package: str, members: int, words: str
) -> None:
    (newer / "half").write_text("half-configured\tok\n")
    (newer / package).touch()
    assert call("host_updates", UPDATES)["updates"] == {}, "nothing is known before it is finished"
    done = call("host_updates", {**UPDATES, "state": "updated", "database_members": members})
    assert not (newer / "half").exists()
    assert words in done.get("msg", "")
    assert bool(done.get("failed")) is bool(words)
    assert (newer / "on/haproxy.service").exists() is bool(words), "nothing was stopped"


def test_a_host_says_why_it_wants_to_start_anew(call: Call, newer: Path) -> None:
    assert call("host_updates", UPDATES)["reboot"] == []
    (newer / "reboot").touch()
    (newer / "vmlinuz").symlink_to("boot/vmlinuz-9.9.9-amd64")
    (newer / "cgroup/ovs-vswitchd.service").mkdir()
    (newer / "cgroup/ovs-vswitchd.service/cgroup.procs").write_text("7\n")
    (newer / "proc/7/maps").write_text("1-2 r-xp 0 08:01 1 /usr/lib/libc.so.6 (deleted)\n")
    assert call("host_updates", {**UPDATES, "keep_units": ["ovs-vswitchd.service"]})["reboot"] == [
        "a package asks for it",
        f"kernel 9.9.9-amd64 instead of {os.uname().release}",
        "ovs-vswitchd.service runs files that were replaced",
    ]


class Nova:
    """Nova's Python with a schema and no cell."""

    orders: ClassVar[list[str]] = []
    hosts: ClassVar[dict[str, str]] = {}

    def __init__(self, *_arguments: str) -> None:
        """Start."""

    def order(self, **document: Any) -> dict[str, Any]:
        """Answer one order."""
        self.orders.append(document["do"])
        return {"cells": [], "hosts": self.hosts, "unmapped": {}}

    def close(self) -> None:
        """End."""


def test_nova_cells_before_there_is_a_schema(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"{PACKAGE}.nova_cells")
    monkeypatch.setattr(module, "SCHEMA_RECORD", f"{tmp_path}/nova.json")
    monkeypatch.setattr(module, "START_RECORD", f"{tmp_path}/nova-api.service.json")
    monkeypatch.setattr(module, "NovaProcess", Nova)
    urls = {"transport_url": "rabbit://u:hunter2@h", "database_connection": "mysql://u:hunter2@h"}
    common = {"environment": "/none", "config_file": "/none"}
    hosts = {"hosts": {"compute2": "cell2", "compute1": "cell1"}}
    discovery = {**hosts, "discover": True, "wait_for": ["compute1", "compute2"]}
    for more in ({"cells": {"cell0": urls, "cell1": urls}, **hosts}, discovery):
        before = call("nova_cells", {**common, **more}, check=True)
        assert Nova.orders == [], "there is nothing to ask"
        (tmp_path / "nova.json").touch()
        assert call("nova_cells", {**common, **more}, check=True) == before
        run = call("nova_cells", {**common, **more})
        assert (run["changed"], run["actions"], run["diff"]) == (before["changed"], before["actions"], before["diff"])
        assert "hunter2" not in json.dumps(before)
        (tmp_path / "nova.json").unlink()
        Nova.orders.clear()
    assert before["actions"] == ["map compute host compute1 to cell1", "map compute host compute2 to cell2"]
    (tmp_path / "nova-api.service.json").touch()
    call("nova_cells", {**common, **hosts}, check=True)
    assert Nova.orders == ["read"], "a controller that has become the first one can ask"
    Nova.orders.clear()


@pytest.mark.parametrize("check", [True, False])
def test_a_host_in_another_cell_stops_the_run_before_anything_changes(
    check: bool, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"{PACKAGE}.nova_cells")
    (tmp_path / "nova.json").touch()
    monkeypatch.setattr(module, "SCHEMA_RECORD", f"{tmp_path}/nova.json")
    monkeypatch.setattr(module, "NovaProcess", Nova)
    monkeypatch.setattr(Nova, "hosts", {"compute1": "cell1", "compute2": "cell1"})
    monkeypatch.setattr(Nova, "orders", [])
    urls = {"transport_url": "rabbit://u:hunter2@h", "database_connection": "mysql://u:hunter2@h"}
    wanted = {"cells": {"cell1": urls, "cell2": urls}, "hosts": {"compute1": "cell1", "compute2": "cell2"}}
    failed = call("nova_cells", {"environment": "/none", "config_file": "/none", **wanted}, check=check)
    assert failed["msg"].startswith("compute host compute2 is mapped to cell1, and its nova_cell is cell2\n  next: ")
    assert Nova.orders == ["read"]


def test_galera_member(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, history = tmp_path / "mysql", "aaaaaaaa-0000-4000-8000-00000000000a"
    (data / "keystone").mkdir(parents=True)
    program(tmp_path / "bin/systemctl", f"test -e {tmp_path}/active")
    program(
        tmp_path / "bin/mariadb",
        f"""
echo "$*" >> {tmp_path}/log
case "$*" in
    *pc.bootstrap*) echo Primary > {tmp_path}/status ;;
    *) printf 'wsrep_cluster_status\\t%s\\nwsrep_last_committed\\t8\\n' "$(cat {tmp_path}/status)"
       printf 'wsrep_cluster_state_uuid\\t{history}\\nwsrep_cluster_size\\t3\\n' ;;
esac
""",
    )
    program(
        tmp_path / "bin/mariadbd",
        f"""for word in "$@"; do case "$word" in --log-error=*) log="${{word#*=}}" ;; esac; done
echo "WSREP: Recovered position: {history}:7" > "$log"
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    arguments = {"data": str(data)}
    new = {"active": False, "cluster_status": "", "uuid": galera.NOBODY, "seqno": -1, "safe_to_bootstrap": False}
    new |= {"size": 0, "connections": 0}
    assert call("galera_member", arguments)["member"] == {**new, "has_data": True}
    (data / "grastate.dat").write_text(f"uuid: {history}\nseqno: -1\nsafe_to_bootstrap: 0\n")
    assert call("galera_member", arguments, check=True)["member"]["seqno"] == -1, "a dry run repairs nothing"
    assert call("galera_member", arguments)["member"]["seqno"] == 7
    (data / "grastate.dat").write_text(f"uuid: {history}\nseqno: 9\nsafe_to_bootstrap: 1\n")
    assert call("galera_member", arguments)["member"] == {
        **new, "uuid": history, "seqno": 9, "safe_to_bootstrap": True, "has_data": True
    }  # fmt: skip
    (tmp_path / "active").touch()
    (tmp_path / "status").write_text("non-Primary")
    found = call("galera_member", arguments)
    assert (found["changed"], found["member"]["cluster_status"], found["member"]["seqno"]) == (False, "non-Primary", 8)
    assert found["member"]["size"] == 3
    promote = {**arguments, "state": "primary"}
    assert call("galera_member", promote, check=True)["changed"]
    assert (tmp_path / "status").read_text() == "non-Primary"
    assert call("galera_member", promote)["actions"] == ["make the component of this member the primary one"]
    assert not call("galera_member", promote)["changed"]
    program(tmp_path / "bin/mariadb-upgrade", f"""
test -e {tmp_path}/broken && {{ echo "Version mismatch (12.3 -> 11.8)" >&2; exit 1; }}
test -e {tmp_path}/locked && {{
    rm {tmp_path}/locked; echo "FATAL ERROR: Could not exclusively lock on file 'x'. Error 11: y" >&2; exit 1; }}
test -e {tmp_path}/upgraded && echo 'This installation of MariaDB is already upgraded to 11.8.9-MariaDB.'
touch {tmp_path}/upgraded
""")
    upgraded = {**arguments, "state": "upgraded"}
    # subprocess sleeps too, for less than a second.
    monkeypatch.setattr(time, "sleep", lambda seconds: (tmp_path / "waited").touch() if seconds > 1 else None)
    (tmp_path / "locked").touch()
    assert not call("galera_member", upgraded, check=True)["changed"]
    assert call("galera_member", upgraded)["actions"] == ["upgrade the system tables"]
    assert (tmp_path / "waited").exists(), "the distribution's own upgrade has the lock"
    assert not call("galera_member", upgraded)["changed"]
    (tmp_path / "waited").unlink()
    (tmp_path / "broken").touch()
    assert "Version mismatch" in call("galera_member", upgraded)["msg"]
    assert not (tmp_path / "waited").exists(), "waiting mends nothing else"


def test_rabbitmq_member(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin/systemctl", f"test -e {tmp_path}/active")
    nodes = {"disk_nodes": ["rabbit@a", "rabbit@b", "rabbit@c"], "running_nodes": ["rabbit@a", "rabbit@c"]}
    (tmp_path / "status").write_text(json.dumps(nodes))
    left = json.dumps({**nodes, "disk_nodes": ["rabbit@a", "rabbit@c"]})
    program(
        tmp_path / "bin/rabbitmqctl",
        f"""
echo "$*" >> {tmp_path}/log
case "$*" in
    *cluster_status*) cat {tmp_path}/status ;;
    *forget*) echo '{left}' > {tmp_path}/status ;;
esac
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    arguments = {"data": f"{tmp_path}/mnesia", "forget": ["rabbit@b", "rabbit@c", "rabbit@x"]}
    assert call("rabbitmq_member", arguments)["member"] == {"active": False, "empty": True}
    assert not (tmp_path / "log").exists(), "a broker that does not run is not asked"
    (tmp_path / "active").touch()
    (tmp_path / "mnesia").mkdir()
    (tmp_path / "mnesia/schema.DAT").touch()
    assert call("rabbitmq_member", {"data": f"{tmp_path}/mnesia"})["member"] == {"active": True, "empty": False}
    assert not (tmp_path / "log").exists(), "without a cause the broker is not asked"
    assert converges(call, "rabbitmq_member", arguments) == ["forget rabbit@b"]
    told = call("rabbitmq_member", {"data": f"{tmp_path}/mnesia", "cluster": True})["member"]
    assert (told["nodes"], told["running"]) == (["rabbit@a", "rabbit@c"], ["rabbit@a", "rabbit@c"])
    program(tmp_path / "bin/rabbitmqctl", "echo no such node >&2; exit 69")
    assert "no such node" in call("rabbitmq_member", arguments)["msg"]


def test_feature_flags_are_enabled_while_all_brokers_are_one_version(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin/systemctl", "true")
    flags = [
        {"name": "old", "state": "enabled", "stability": "stable"},
        {"name": "new", "state": "disabled", "stability": "stable"},
        {"name": "unsure", "state": "disabled", "stability": "experimental"},
        {"name": "foreign", "state": "unavailable", "stability": "stable"},
    ]
    program(
        tmp_path / "bin/rabbitmqctl",
        f"""case "$*" in
    *cluster_status*) cat {tmp_path}/status ;;
    *list_feature_flags*) test -e {tmp_path}/on && echo '{json.dumps(flags[:1])}' || echo '{json.dumps(flags)}' ;;
    *"enable_feature_flag new") touch {tmp_path}/on ;;
    *) exit 1 ;;
esac
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    arguments = {"data": f"{tmp_path}/mnesia", "features": True}

    def cluster(*versions: str) -> None:
        members = {f"rabbit@{number}": {"rabbitmq_version": one} for number, one in enumerate(versions)}
        (tmp_path / "status").write_text(json.dumps({"disk_nodes": ["rabbit@0", "rabbit@1"], "versions": members}))

    for versions in (("4.0.5", "4.1.0"), ("4.0.5",)):
        cluster(*versions)
        assert not call("rabbitmq_member", arguments)["changed"]
    cluster("4.0.5", "4.0.5")
    dry = call("rabbitmq_member", arguments, check=True)
    assert (dry["actions"], (tmp_path / "on").exists()) == (["enable feature flag new"], False)
    assert call("rabbitmq_member", arguments)["actions"] == dry["actions"]
    assert not call("rabbitmq_member", arguments)["changed"]


def test_queues_that_need_a_broker_are_waited_for(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin/systemctl", "true")
    program(tmp_path / "bin/rabbitmq-upgrade", f'echo "$*" >> {tmp_path}/log; echo timed out >&2; exit 75')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    arguments = {"data": f"{tmp_path}/mnesia", "quorum": True}
    assert not call("rabbitmq_member", arguments, check=True).get("failed")
    assert not (tmp_path / "log").exists()
    assert "timed out\n  next: `rabbitmq-queues check_if" in call("rabbitmq_member", arguments)["msg"]
    program(tmp_path / "bin/rabbitmq-upgrade", "true")
    assert not call("rabbitmq_member", arguments)["changed"]


def test_rabbitmq_member_that_leaves(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is forgotten as soon as it does not run any more, and not before."""
    module = importlib.import_module(f"{PACKAGE}.rabbitmq_member")
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.0)
    program(tmp_path / "bin/systemctl", "true")
    both, one = ["rabbit@a", "rabbit@b"], ["rabbit@a"]
    (tmp_path / "status").write_text(json.dumps({"disk_nodes": both, "running_nodes": both}))
    left = json.dumps({"disk_nodes": one, "running_nodes": one})
    program(
        tmp_path / "bin/rabbitmqctl",
        f"""case "$*" in *forget*) echo '{left}' > {tmp_path}/status ;; *) cat {tmp_path}/status ;; esac""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    arguments = {"data": f"{tmp_path}/mnesia", "leaving": ["rabbit@b", "rabbit@never"]}
    assert call("rabbitmq_member", arguments, check=True)["actions"] == ["forget rabbit@b"], "a dry run stopped nothing"
    assert "rabbit@b is to leave and still runs\n  next: " in call("rabbitmq_member", arguments)["msg"]
    (tmp_path / "status").write_text(json.dumps({"disk_nodes": both, "running_nodes": one}))
    assert converges(call, "rabbitmq_member", arguments) == ["forget rabbit@b"]


def test_host_units(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Brume runs here stops, but for what every host has; data's own servers last."""
    records, folder = tmp_path / "records", tmp_path / "system"
    monkeypatch.setattr(rollout, "RECORDS", str(records))
    monkeypatch.setattr(rollout, "UNIT_DIRECTORY", str(folder))
    for name in ("mariadb.service", "nova-api.socket", "nova-api.service", "chrony.service", "gone.service"):
        records.mkdir(exist_ok=True)
        (records / f"{name}.json").write_text("{}")
        (tmp_path / "on" / name).mkdir(parents=True)
    for name, text in (("never-well.service", "# Written by Brume; ...\n"), ("foreign.service", "[Unit]\n")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        (tmp_path / "on" / name).mkdir()
    (tmp_path / "on/gone.service").rmdir()
    (tmp_path / "on/keepalived.service").mkdir()
    (folder / "keepalived.service.d").mkdir()
    (folder / "keepalived.service.d/brume.conf").touch()
    program(
        tmp_path / "bin/systemctl",
        f"""echo "$*" >> {tmp_path}/log
verb=$1; shift
for unit in "$@"; do
    case "$unit" in --*) continue ;; esac
    case "$verb" in
        show) if test -d {tmp_path}/on/$unit; then echo ActiveState=active; echo UnitFileState=enabled
              else echo ActiveState=inactive; echo UnitFileState=disabled; fi; echo ;;
        disable) rmdir {tmp_path}/on/$unit ;;
    esac
done
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert "mariadb.service" in call("host_units", {})["recorded"]
    stop = {"state": "stopped", "keep": ["chrony.service"], "last": ["mariadb.service"]}
    assert converges(call, "host_units", {**stop, "units": ["keepalived.service"]}) == [
        "stop and disable keepalived.service"
    ]
    (tmp_path / "log").unlink()
    assert converges(call, "host_units", stop) == [
        f"stop and disable {name}"
        for name in ("mariadb.service", "nova-api.service", "nova-api.socket", "never-well.service")
    ]
    log = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    stops = [line for line in log if line.startswith("stop")]
    assert stops == ["stop -- nova-api.service nova-api.socket never-well.service", "stop -- mariadb.service"]
    assert sorted(path.name for path in (tmp_path / "on").iterdir()) == ["chrony.service", "foreign.service"]
    (tmp_path / "on/mariadb.service").mkdir()
    program(tmp_path / "bin/systemctl", "test $1 = show || { echo no such bus >&2; exit 1; }; echo ActiveState=active")
    assert "systemctl stop: no such bus\n  next: " in call("host_units", stop)["msg"]


def test_host_units_that_start_again_with_their_host(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that is enabled and does not run is left alone; what holds addresses stops first."""
    module = importlib.import_module(f"{PACKAGE}.host_units")
    records = tmp_path / "records"
    records.mkdir()
    monkeypatch.setattr(rollout, "RECORDS", str(records))
    monkeypatch.setattr(rollout, "UNIT_DIRECTORY", str(tmp_path / "none"))
    for name in ("haproxy.service", "keepalived.service", "mariadb.service", "ended.service"):
        (records / f"{name}.json").write_text("{}")
        (tmp_path / "on" / name).mkdir(parents=True)
    (tmp_path / "on/ended.service").rmdir()
    program(
        tmp_path / "bin/systemctl",
        f"""echo "$*" >> {tmp_path}/log
verb=$1; shift
for unit in "$@"; do
    case "$unit" in --*) continue ;; esac
    case "$verb" in
        show) test -d {tmp_path}/on/$unit && echo ActiveState=active || echo ActiveState=inactive
              echo UnitFileState=enabled; echo ;;
        stop) rmdir {tmp_path}/on/$unit ;;
    esac
done
""",
    )
    program(tmp_path / "bin/systemd-run", f'echo "systemd-run $*" >> {tmp_path}/log')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    stop = {"state": "stopped", "disable": False, "first": ["keepalived.service"], "last": ["mariadb.service"]}
    assert converges(call, "host_units", stop) == [
        f"stop {name}" for name in ("haproxy.service", "keepalived.service", "mariadb.service")
    ]
    log = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert [line for line in log if not line.startswith("show")] == [
        "stop -- keepalived.service",
        "stop -- haproxy.service",
        "stop -- mariadb.service",
    ]
    (tmp_path / "log").unlink()
    off = {**stop, "power_off": True}
    dry = call("host_units", off, check=True)
    assert (dry["changed"], dry["actions"]) == (True, ["power off this machine"])
    assert "systemd-run" not in (tmp_path / "log").read_text(encoding="utf-8"), "a dry run switches nothing off"
    assert call("host_units", off)["actions"] == dry["actions"]
    assert (tmp_path / "log").read_text(encoding="utf-8").splitlines()[-1].endswith("-- systemctl poweroff")
    assert module.POWER_OFF[0] == "systemd-run"


def test_host_units_tells_of_guests(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of libvirt's own files, since libvirtd may have stopped; a file without its process is a guest that has ended."""
    module = importlib.import_module(f"{PACKAGE}.host_units")
    monkeypatch.setattr(rollout, "RECORDS", str(tmp_path / "none"))
    monkeypatch.setattr(rollout, "UNIT_DIRECTORY", str(tmp_path / "none"))
    monkeypatch.setattr(module, "GUESTS", str(tmp_path))
    assert call("host_units", {})["guests"] == []
    for name in ("driver", "instance-00000001"):
        (tmp_path / f"{name}.pid").write_text(f"{os.getpid()}")
    for name in ("instance-00000001", "instance-00000002"):
        (tmp_path / f"{name}.xml").touch()
    (tmp_path / "instance-00000002.pid").write_text("4194305")  # beyond what the kernel gives (proc(5), pid_max)
    (tmp_path / "instance-00000003.xml").touch()
    assert call("host_units", {})["guests"] == ["instance-00000001"]


def test_preflight(call: Call) -> None:
    run = call("preflight", {"interfaces": [{"name": "no-such-one"}], "disk_bytes": {"/": 1}})
    assert run["failed"]
    assert [one["subject"] for one in run["findings"] if "no-such-one" in one["subject"]] == ["interface no-such-one"]
    assert "brume_networks" in run["msg"]


def test_message_vhosts_before_there_is_a_broker(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin/rabbitmqctl", "echo no broker >&2; exit 69\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    fresh = messaging.is_fresh
    monkeypatch.setattr(messaging, "is_fresh", lambda: fresh(f"{tmp_path}/mnesia"))
    vhost = {"name": "nova", "accounts": [{"name": "nova", "password": "hunter2"}]}
    arguments = {"vhosts": [vhost], "absent_accounts": ["guest"], "spare_used": True}
    dry = call("message_vhosts", arguments, check=True)
    assert dry["actions"][0] == "create vhost nova"
    assert dry["actions"][-1] == "delete account guest"
    assert "hunter2" not in json.dumps(dry)
    assert (dry["broker"], dry["anew"]) == (messaging.UNBORN, True), "so that others are known to start anew"
    (tmp_path / "mnesia/rabbit@one").mkdir(parents=True)
    assert "no broker" in call("message_vhosts", arguments, check=True)["msg"]


def test_message_broker(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = f"[ -f {tmp_path}/said ] && exec cat {tmp_path}/said; echo down >&2; exit 69\n"
    program(tmp_path / "bin/rabbitmqctl", answer)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(messaging, "is_fresh", lambda: not (tmp_path / "mnesia").exists())
    assert call("message_broker", {}, check=True)["broker"] == messaging.UNBORN
    assert call("message_broker", {})["broker"] == ""
    refused = call("message_broker", {"required": True})
    assert refused["failed"] and "down" in refused["msg"] and "\n  next: " in refused["msg"]
    (tmp_path / "mnesia").touch()
    said = {"users": [], "global_parameters": [{"name": messaging.CLUSTER_ID, "value": "x"}]}
    (tmp_path / "said").write_text(json.dumps(said))
    for check in (True, False):
        found = call("message_broker", {"required": True}, check=check)
        assert (found["broker"], found["changed"]) == ("x", False)


def test_service_databases_before_there_is_a_server(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, text: warnings.append(text))
    held = databases.held
    monkeypatch.setattr(databases, "held", lambda desired: held(desired, str(tmp_path)))
    item = {"name": "nova", "accounts": [{"name": "nova", "password": "hunter2"}]}
    arguments = {"databases": [item], "spare_used": True, "login_unix_socket": f"{tmp_path}/none.sock"}
    dry = call("service_databases", arguments, check=True)
    assert dry["actions"] == ["create database nova", "create account nova@%", "create grant of nova@% on nova"]
    assert "hunter2" not in json.dumps(dry)
    (tmp_path / "nova").mkdir()
    assert warnings == []
    assert call("service_databases", arguments, check=True)["actions"] == []
    assert warnings == ["MariaDB does not run, so its accounts are not known; it holds nova"]
