"""What two runs said is held against each other, and the edits that the runs are made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import prediction
from tools.prediction import Line, Record

KEY = ("Host", "Write files", "aio")
WHERE = "aio: Host: Write files"


def line(*actions: str, changed: bool = True, diff: str = "") -> Line:
    return Line(changed, actions, diff)


def recorded(**more: Any) -> str:
    item = {"play": "Host", "task": "Write files", "action": "a", "host": "aio", "changed": False, "actions": []}
    return json.dumps({**item, "diff": [], **more})


def test_a_record_is_read_and_several_results_of_one_task_are_joined() -> None:
    text = "\n".join(
        [
            recorded(actions=["create file /a"], changed=True, diff=[{"before": "", "after": "x"}]),
            recorded(actions=["create file /b"]),
            recorded(host="compute1", task="Other"),
        ]
    )
    assert prediction.parse(text + "\n") == {
        KEY: line("create file /a", "create file /b", diff='[{"after": "x", "before": ""}]'),
        ("Host", "Other", "compute1"): line(changed=False),
    }
    assert prediction.parse("") == {}


@pytest.mark.parametrize(
    ("predicted", "done", "lines"),
    [
        ({KEY: line("a", diff="d")}, {KEY: line("a", diff="d")}, []),
        ({KEY: line(changed=False)}, {}, []),
        ({KEY: line("a")}, {}, [f"{WHERE}: predicted, not done: a", f"{WHERE}: predicted a change, done no change"]),
        ({}, {KEY: line("b")}, [f"{WHERE}: done, not predicted: b", f"{WHERE}: predicted no change, done a change"]),
        (
            {KEY: line("a", "b", diff="d")},
            {KEY: line("b", "c", diff="e")},
            [f"{WHERE}: predicted, not done: a", f"{WHERE}: done, not predicted: c"],
        ),
        (
            {KEY: line("a", "b")},
            {KEY: line("b", "a")},
            [f"{WHERE}: the order or the number of the actions differs"],
        ),
        ({KEY: line("a", "a")}, {KEY: line("a")}, [f"{WHERE}: the order or the number of the actions differs"]),
        ({KEY: line(diff="d")}, {KEY: line(diff="e")}, [f"{WHERE}: the differences that are shown are not the same"]),
    ],
)
def test_every_difference_of_two_records_is_named_once(predicted: Record, done: Record, lines: list[str]) -> None:
    assert prediction.differences(predicted, done) == lines


@pytest.mark.parametrize(
    ("predicted", "done", "lines"),
    [
        # A package brought the file, or the user, after the dry run looked.
        ("create file /a (root:root 0640)", "change file /a (mode 0644 -> 0640)", []),
        ("create directory /a", "set directory /a (mode)", []),
        ("create user nova", "", []),
        ("create user nova", "set the shell of user nova to /bin/sh", []),
        ("", "enable a.socket", ["done, not predicted: enable a.socket"]),
        ("create file /a", "create directory /a", ["predicted, not done: write file /a",
                                                   "done, not predicted: write directory /a"]),
        ("create link /a -> /b", "", ["predicted, not done: write link /a"]),
        ("", "remove file /a", ["done, not predicted: remove file /a"]),
        ("create database nova", "create database nova", []),
    ],
)  # fmt: skip
def test_bare_hosts_are_compared_but_for_what_packages_bring(predicted: str, done: str, lines: list[str]) -> None:
    records: list[Record] = [{KEY: line(*([one] if one else []))} for one in (predicted, done)]
    assert prediction.bare_differences(*records) == [f"aio: {one}" for one in lines]


def test_a_unit_that_a_package_brings_may_have_to_be_enabled() -> None:
    start = "start a.socket (does not run)"
    assert prediction.bare_differences({KEY: line(start)}, {KEY: line("enable a.socket", start)}) == []


def test_bare_hosts_are_compared_host_by_host_whatever_task_said_it() -> None:
    predicted: Record = {KEY: line("a"), ("Host", "t", "compute1"): line("b")}
    done: Record = {("Other", "u", "aio"): line("a"), ("Other", "u", "compute1"): line("a", "b")}
    assert prediction.bare_differences(predicted, done) == ["compute1: done, not predicted: a"]


def test_units_that_began_anew_are_told_from_those_that_did_not() -> None:
    before = {"a.service": "1", "b.service": "1", "ended.service": "1", "apt-daily.service": "1"}
    after = {
        "a.service": "1",
        "b.service": "2",
        "new.service": "3",
        "ended.service": "",
        "apt-daily.service": "2",
        "user@0.service": "4",
    }
    assert prediction.restarted(before, after) == {"b.service", "new.service"}


def test_what_is_said_to_start_on_a_host() -> None:
    record: Record = {
        KEY: line("start a.socket (does not run)", "restart b.service (a.socket starts anew)", "reload c.service (x)"),
        ("Host", "Write files", "compute1"): line("start d.service (does not run)", "enable e.service"),
    }
    assert prediction.announced(record, "aio") == {"a.socket", "b.service"}
    assert prediction.announced(record, "compute1") == {"d.service"}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    folder = tmp_path / "aio"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "group_vars/all.yml").write_text("brume_workers: {nova/api: 4}\n")
    (folder / "hosts.yml").write_text("network: {hosts: {one: {}, two: {}}}\n")
    return folder


def test_edits_are_made_in_a_copy(inventory: Path, tmp_path: Path) -> None:
    (tmp_path / "made/aio").mkdir(parents=True)
    (tmp_path / "made/aio/left").touch()
    copy = prediction.edited(inventory, tmp_path / "made", prediction.CASES.values())
    assert copy == tmp_path / "made/aio", "the lab is found by its name"
    assert not (copy / "left").exists()
    assert yaml.safe_load((copy / "group_vars/all.yml").read_text()) == {
        "brume_workers": {"nova/api": 4, "glance/api": 2},
        "brume_config": {"nova": {"nova.conf": {"DEFAULT": {"osapi_max_limit": 500}}}},
        "brume_networks": {"management": {"fqdn": "cloud.example.test"}},
        "brume_secret_generations": {"neutron/database/neutron": 2},
        "host_packages": ["tree"],
    }
    assert yaml.safe_load((copy / "host_vars/one.yml").read_text()) == {
        "brume_config": {"neutron": {"dhcp_agent.ini": {"DEFAULT": {"dhcp_lease_duration": 43200}}}}
    }
    assert (inventory / "group_vars/all.yml").read_text() == "brume_workers: {nova/api: 4}\n"
    assert not (inventory / "host_vars").exists()


def test_an_empty_file_can_be_edited(inventory: Path, tmp_path: Path) -> None:
    (inventory / "group_vars/all.yml").write_text("---\n")
    copy = prediction.edited(inventory, tmp_path / "made", [prediction.CASES["package"]])
    assert yaml.safe_load((copy / "group_vars/all.yml").read_text()) == {"host_packages": ["tree"]}


def test_units_of_timers_and_of_users_who_are_logged_in_are_left_out() -> None:
    text = """aio | CHANGED | rc=0 >>
Id=nova-api.service
InvocationID=a1
TriggeredBy=nova-api.socket

Id=user-runtime-dir@107.service
InvocationID=b2
TriggeredBy=

Id=user@107.service
InvocationID=c3

Id=logrotate.service
InvocationID=d4
TriggeredBy=logrotate.timer
"""
    assert prediction.invocations(text) == {"aio": {"nova-api.service": "a1"}}
