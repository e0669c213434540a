"""Timers that make backups: their units, what changes on the deploy host, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import backup_timer as action
from ansible_collections.brume.cloud.plugins.module_utils import backup_timer, rollout
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError

from .playbooks import one_host, playbook

CALENDARS = {"full": "Sun 02:00", "incremental": "Mon..Sat 02:00"}
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="lacks systemd-analyze")


def job(folder: Path, **changes: Any) -> backup_timer.Job:
    inventory = folder / "east"
    inventory.mkdir(exist_ok=True)
    given = {
        "checkout": str(folder), "user": "root", "program": shutil.which("true"), "inventories": [str(inventory)],
        "options": {"backup_path": "/srv/100% $HOME \"it's\"", "backup_keep_count": 3}, "configuration": "/srv/a b.cfg",
        **changes,
    }  # fmt: skip
    return backup_timer.Job(**given)


def test_units_are_what_systemd_takes(tmp_path: Path) -> None:
    made = backup_timer.render(job(tmp_path, program="/bin/ansible-playbook"), CALENDARS)
    assert list(made) == backup_timer.names("brume-backup-east")
    service = made["brume-backup-east-incremental.service"].splitlines()
    assert "Type=oneshot" in service and "User=root" in service and f"WorkingDirectory={tmp_path}" in service
    assert 'Environment="ANSIBLE_CONFIG=/srv/a b.cfg"' in service
    first, second = (line.removeprefix("ExecStart=") for line in service if line.startswith("ExecStart="))
    assert second == f"{first} --tags test"
    assert first == (
        f"/usr/bin/flock --close {tmp_path}/east /bin/ansible-playbook --inventory {tmp_path}/east --extra-vars "
        r'"{\"backup_path\": \"/srv/100%% $$HOME \\\"it' "'" r's\\\"\", \"backup_keep_count\": 3, '
        rf'\"backup_kind\": \"incremental\"}}" {tmp_path}/playbooks/backup.yml'
    )
    timer = made["brume-backup-east-full.timer"].splitlines()
    assert timer[-6:-3] == ["[Timer]", "OnCalendar=Sun 02:00", "Persistent=true"]
    assert timer[-2:] == ["[Install]", "WantedBy=timers.target"]


def test_a_calendar_that_is_empty_makes_no_timer_and_tests_can_be_left_out(tmp_path: Path) -> None:
    made = backup_timer.render(job(tmp_path, test=False), {**CALENDARS, "full": ""})
    assert sorted(made) == ["brume-backup-east-incremental.service", "brume-backup-east-incremental.timer"]
    assert made["brume-backup-east-incremental.service"].count("ExecStart=") == 1


@analyze
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    made = backup_timer.render(job(tmp_path), CALENDARS)
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    argv = ["systemd-analyze", "verify", *(str(tmp_path / name) for name in made)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "brume-backup" in line or str(tmp_path) in line]
    assert said == [], done.stderr


@pytest.mark.parametrize(
    ("inventory", "expected"), [("inventories/ha", "ha"), ("a/b c/hosts.yml", "b-c"), ("inventories/aio/", "aio")]
)
def test_units_are_named_as_the_inventory_s_folder(tmp_path: Path, inventory: str, expected: str) -> None:
    place = tmp_path / inventory
    place.parent.mkdir(parents=True)
    if inventory.endswith(".yml"):
        place.touch()
    assert backup_timer.family(f"{tmp_path}/{inventory}") == f"brume-backup-{expected}"


class Systemd(rollout.Systemd):
    """Remembers what it was asked, and which timers run."""

    def __init__(self) -> None:
        """Run nothing."""
        self.asked: list[str] = []
        self.enabled: set[str] = set()
        self.fails = ""

    def run(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Do it."""
        self.asked.append(" ".join(arguments))
        some = {word for word in arguments if word.endswith(".timer")}
        if arguments[0] == "enable":
            self.enabled |= some
        if arguments[0] == "disable":
            self.enabled -= some
        code = int(arguments[0] == self.fails)
        return subprocess.CompletedProcess(arguments, code, "", "it is broken")

    def states(self, names: Any) -> dict[str, rollout.State]:
        """Return states as systemctl shows them."""
        text = "\n\n".join(
            f"Id={name}\nLoadState=loaded\nActiveState={state}\nSubState=waiting\nUnitFileState={file}\nNRestarts=0"
            for name in names
            for state, file in [("active", "enabled") if name in self.enabled else ("inactive", "disabled")]
        )
        return rollout.parse_show(text, names)


def converge(folder: Path, units: dict[str, str], systemd: Systemd, check: bool = False) -> dict[str, Any]:
    owner = backup_timer.mark("/c", f"{folder.parent}/east")
    found = backup_timer.changes(str(folder), "brume-backup-east", units, owner, systemd)
    if not check:
        backup_timer.apply(str(folder), found, systemd)
    return found.report()


def test_units_are_put_changed_and_removed_and_a_dry_run_says_the_same(tmp_path: Path) -> None:
    systemd, folder = Systemd(), tmp_path / "units"
    folder.mkdir()
    made = backup_timer.render(job(tmp_path, checkout="/c"), CALENDARS)
    dry = converge(folder, made, systemd, check=True)
    assert list(folder.iterdir()) == [] and systemd.asked == [], "a dry run has changed something"
    assert converge(folder, made, systemd) == dry and len(dry["diff"]) == 4
    assert systemd.asked[0] == "daemon-reload" and len(systemd.enabled) == 2
    assert (folder / "brume-backup-east-full.service").stat().st_mode & 0o777 == 0o644
    systemd.asked.clear()
    assert converge(folder, made, systemd) == {"changed": False, "actions": [], "diff": []} and systemd.asked == []
    systemd.enabled.discard("brume-backup-east-full.timer")
    assert converge(folder, made, systemd)["actions"] == ["enable and start brume-backup-east-full.timer"]
    less = backup_timer.render(job(tmp_path, checkout="/c"), {"full": "Sat 03:00"})
    systemd.asked.clear()
    assert converge(folder, less, systemd)["actions"] == [
        "remove brume-backup-east-incremental.service", "remove brume-backup-east-incremental.timer",
        "write brume-backup-east-full.timer", "enable and start brume-backup-east-full.timer",
    ]  # fmt: skip
    assert systemd.asked == [
        "disable --now -- brume-backup-east-incremental.timer", "daemon-reload",
        "enable -- brume-backup-east-full.timer", "restart -- brume-backup-east-full.timer",
    ]  # fmt: skip
    (folder / "brume-backup-east-two-full.timer").touch()
    assert converge(folder, {}, systemd)["changed"]
    assert [one.name for one in folder.iterdir()] == ["brume-backup-east-two-full.timer"] and systemd.enabled == set()


def test_units_of_another_checkout_or_inventory_stay_and_what_systemd_says_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    made = backup_timer.render(job(tmp_path, checkout="/c"), CALENDARS)
    for checkout, inventory in (("/other", f"{tmp_path}/east"), ("/c", "/srv/two/east")):
        text = backup_timer.mark(checkout, inventory) + "\n"
        (folder / "brume-backup-east-full.timer").write_text(text)
        for units in ({}, made):
            said = rf"checkout and inventory; .* in {checkout} for {inventory}; .*\n  next: "
            with pytest.raises(OSError, match=said):
                converge(folder, units, Systemd())
        assert (folder / "brume-backup-east-full.timer").read_text() == text
    (folder / "brume-backup-east-full.timer").unlink()
    systemd = Systemd()
    systemd.fails = "enable"
    with pytest.raises(OSError, match="systemctl enable: it is broken"):
        converge(folder, made, systemd)


def test_an_inventory_is_the_same_by_folder_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "east").mkdir()
    (tmp_path / "east/hosts.yml").touch()
    monkeypatch.chdir(tmp_path)
    ways = [f"{tmp_path}/east", f"{tmp_path}/east/", f"{tmp_path}/east/hosts.yml", "east", "east/hosts.yml"]
    assert {(backup_timer.family(one), backup_timer.mark("/c", one)) for one in ways} == {
        ("brume-backup-east", backup_timer.mark("/c", f"{tmp_path}/east"))
    }


def test_names_of_files_are_passed_on_and_values_are_not() -> None:
    given = {
        "vault_ids": ["east@/keys/east"], "vault_password_files": ["/keys/all"],
        "extra_vars": ["@/srv/more.yml", "brume_master_key=abc", "backup_path=/srv"], "ask_vault_pass": False,
    }  # fmt: skip
    assert action.from_command_line(given) == [
        "--vault-id", "east@/keys/east", "--vault-password-file", "/keys/all", "--extra-vars", "@/srv/more.yml",
    ]  # fmt: skip
    assert action.absolute("@more.yml") == f"@{Path.cwd()}/more.yml" and action.absolute("key") == f"{Path.cwd()}/key"
    for typed in ({"ask_vault_pass": True}, {"vault_ids": ["east@prompt"]}):
        with pytest.raises(PlanError, match="a timer cannot type a password"):
            action.from_command_line(typed)


@analyze
def test_what_systemd_does_not_know_is_refused() -> None:
    action.mistakes("present", CALENDARS)
    for state, calendars, expected in (
        ("gone", CALENDARS, "backup_timer_state: gone is neither"),
        ("present", {"full": "", "incremental": ""}, "backup_timer_full: no timer is left"),
        ("present", {**CALENDARS, "full": "sometimes"}, "backup_timer_full: .*sometimes"),
        ("present", {**CALENDARS, "incremental": "daily\nUser=root"}, "backup_timer_incremental: "),
    ):
        with pytest.raises(PlanError, match=expected):
            action.mistakes(state, calendars)


@pytest.mark.skipif(Path(action.SYSTEMD).exists(), reason="systemd is process 1 here")
def test_a_deploy_host_without_systemd_is_told(tmp_path: Path) -> None:
    done = playbook(one_host(tmp_path / "east"), "backup_timer.yml", "--check", "-e", f"backup_path={tmp_path}")
    assert "localhost: systemd is not its first process" in done.stdout, done.stdout + done.stderr


def test_the_action_renders_what_this_run_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action, "SYSTEMD", str(tmp_path))
    monkeypatch.setattr(action, "mistakes", lambda *_args: None)
    monkeypatch.setattr(action.context, "CLIARGS", {"vault_password_files": ["/keys/all"]})
    one: Any = action.ActionModule.__new__(action.ActionModule)
    (tmp_path / "east").mkdir()
    one.known = {"playbook_dir": f"{tmp_path}/playbooks", "ansible_inventory_sources": [f"{tmp_path}/east"],
                 "backup_path": "s3://b/a", "backup_kind": "full", "brume_master_key": "abc"}  # fmt: skip
    one._templar = type("Templar", (), {"template": staticmethod(lambda value: value)})
    given = one.arguments(None, {"state": "present", **CALENDARS, "test": True})
    assert given["prefix"] == "brume-backup-east" and given["owner"] == backup_timer.mark(
        str(tmp_path), f"{tmp_path}/east"
    )
    text = given["units"]["brume-backup-east-full.service"]
    program = Path(sys.executable).with_name("ansible-playbook")
    assert f" {program} --inventory {tmp_path}/east --vault-password-file /keys/all --extra-vars " in text
    assert r"\"backup_path\": \"s3://b/a\", \"backup_kind\": \"full\"" in text and "abc" not in text
    assert one.arguments(None, {"state": "absent", **CALENDARS, "test": True})["units"] == {}
