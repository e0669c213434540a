"""Schema commands run as the service's user, in order, only when needed, and fail without telling a secret."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action.schema_sync import digest
from ansible_collections.brume.cloud.plugins.module_utils import schema


def service(*commands: list[str], **more: Any) -> schema.Service:
    """Return a service whose user is whoever runs the tests."""
    item = {"name": "nova", "user": getpass.getuser(), "environment": "/none", "digest": "2"}
    return schema.parse([{**item, "commands": list(commands), **more}])[0]


@pytest.mark.parametrize(("record", "done"), [({}, False), ({"digest": "1"}, False), ({"digest": "2"}, True)])
def test_only_a_digest_that_differs_makes_work(record: dict[str, str], done: bool) -> None:
    assert schema.is_done(service(["true"]), record, "sync") == done


STAGES: tuple[schema.Stage, ...] = ("sync", "check", "expand", "online", "contract", "served")


def test_a_schema_serves_two_releases_from_expand_to_contract() -> None:
    old, new = service(["c"], digest="old", release="2025.1"), service(["c"], digest="new", release="2026.1")
    record = schema.done(old, {}, "sync")
    assert [stage for stage in STAGES if not schema.is_done(old, record, stage)] == ["check", "served"]
    assert [stage for stage in STAGES if schema.is_done(new, record, stage)] == []
    record = schema.done(new, record, "expand")
    assert (schema.served(record), schema.releases(record)) == (["old", "new"], ["2025.1", "2026.1"])
    assert schema.is_told(new, record, "online")
    record = schema.done(new, record, "online")
    assert not schema.is_done(new, record, "online"), "hosts of the former release may still write"
    assert not schema.is_told(new, record, "online")
    assert schema.is_done(old, record, "sync"), "on the way back nothing is run"
    assert schema.is_done(new, record, "sync")
    schema.refuse_unserved([old, new], {"nova": record})
    assert schema.begun(new, record, "online") is None
    begun = schema.begun(new, record, "contract") or {}
    assert (schema.served(begun), schema.releases(begun)) == (["new"], ["2026.1"]), "it may be killed"
    assert not schema.is_done(new, begun, "contract")
    record = schema.done(new, record, "contract")
    assert (schema.served(record), schema.releases(record)) == (["new"], ["2026.1"])
    assert schema.is_done(new, record, "contract") and schema.is_done(new, record, "online")
    with pytest.raises(schema.SchemaError, match="the schema of nova does not serve the planned release"):
        schema.refuse_unserved([old], {"nova": record})


def test_expanding_again_after_a_way_back_keeps_both() -> None:
    record = schema.done(service(digest="new"), {"digest": "new", "digests": ["old", "new"], "online": "new"}, "expand")
    assert schema.served(record) == ["old", "new"]
    assert "online" not in record, "the former release has written since"


def test_between_two_releases_nothing_is_synced_at_once() -> None:
    record = {"digest": "new", "digests": ["old", "new"], "releases": ["2025.1", "2026.1"]}
    old, new = service(["c"], digest="b", release="2025.1"), service(["c"], digest="c", release="2026.1")
    assert schema.stage_of(new, record, "sync") == "expand"
    assert schema.stage_of(old, record, "sync") == "none", "its programs do not know the schema"
    assert schema.stage_of(new, {"digests": ["new"], "releases": ["2026.1"]}, "sync") == "sync"
    unnoted = schema.done(new, {"digest": "old"}, "expand")
    assert schema.releases(unnoted) == ["2026.1"]
    assert schema.stage_of(new, unnoted, "sync") == "expand", "the former one's release was not noted"
    assert schema.stage_of(old, unnoted, "sync") == "none"
    assert schema.stage_of(new, record, "contract") == "contract"
    assert schema.releases(schema.done(old, record, "none")) == ["2025.1", "2026.1"]


def test_another_lock_of_the_former_release_is_served_too() -> None:
    record = {"digest": "new", "digests": ["old", "new"], "releases": ["2025.1", "2026.1"]}
    schema.refuse_unserved([service(digest="another", release="2025.1")], {"nova": record})


def test_a_sync_that_is_cut_off_serves_nobody() -> None:
    one = service(["c"], digest="2", release="2026.1")
    begun = schema.begun(one, {"digest": "1", "digests": ["1"], "releases": ["2026.1"]}, "sync") or {}
    assert schema.served(begun) == [] and not schema.is_done(one, begun, "sync")
    assert schema.begun(one, {}, "sync") is None


def test_a_schema_that_was_never_made_serves_nothing() -> None:
    with pytest.raises(schema.SchemaError, match="next: restore a backup"):
        schema.refuse_unserved([service()], {})


def test_mistakes_are_reported_at_once() -> None:
    item = {"name": "a", "user": "u", "environment": "/e", "digest": "1", "commands": [[]]}
    with pytest.raises(schema.SchemaError, match="a: given more than once\na: holds an empty command"):
        schema.parse([item, item])


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")


@needs_root
def test_commands_run_in_order_in_the_environment_and_the_root_directory(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/tool"
    tool.write_text(f'#!/bin/sh\necho "$PWD $1 $EXTRA ${{SECRET_OF_THE_RUN:-none}}" >> {tmp_path}/log\n')
    tool.chmod(0o755)
    os.environ["SECRET_OF_THE_RUN"] = "leak"
    try:
        done = schema.run(
            service(["tool", "one"], ["tool", "two"], environment=str(tmp_path), variables={"EXTRA": "x"}), {}
        )
    finally:
        del os.environ["SECRET_OF_THE_RUN"]
    assert (tmp_path / "log").read_text() == "/ one x none\n/ two x none\n"
    assert [one["command"] for one in done] == ["tool one", "tool two"]


@needs_root
def test_a_failure_tells_command_code_and_output_without_secrets(tmp_path: Path) -> None:
    script = "for i in $(seq 40); do echo line $i; done; echo mysql://nova:old@db hidden; exit 3"
    with pytest.raises(schema.SchemaError) as caught:
        schema.run(service(["sh", "-c", script], ["touch", f"{tmp_path}/second"]), {"hidden": "nova/x"})
    text = str(caught.value)
    assert "exits with 3" in text
    assert "line 40\n    mysql://nova:<secret>@db <secret nova/x>" in text
    assert "line 11\n" not in text
    assert not (tmp_path / "second").exists(), "what comes after a failure is not begun"


@needs_root
@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        (["sleep", "9"], {"timeout": 0.2}, "did not end within"),
        (["no-such-program"], {}, "cannot be run"),
        (["true"], {"user": "nobody-of-tomorrow"}, "user nobody-of-tomorrow does not exist"),
    ],
)
def test_other_failures_are_named(command: list[str], more: dict[str, Any], words: str) -> None:
    with pytest.raises(schema.SchemaError, match=words):
        schema.run(service(command, **more), {})


def test_other_commands_of_the_same_environment_are_run() -> None:
    commands = [["glance-manage", "db", "sync"]]
    assert digest("a", commands) == digest("a", [("glance-manage", "db", "sync")])
    others = (digest("b", commands), digest("a", [*commands, ["x"]]), digest("a", [["glance-manage", "db sync"]]))
    assert len({digest("a", commands), *others}) == 4
