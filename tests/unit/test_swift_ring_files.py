"""Rings on hosts: each is the old one or the new one, and never another."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.action import swift_ring_files as handing_out
from ansible_collections.brume.cloud.plugins.action import swift_rings as declaring
from ansible_collections.brume.cloud.plugins.module_utils import convergence, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import swift_ring_files

from .inventories import committed

Run = Callable[..., dict[str, Any]]


def ring(data: bytes, name: str = "account", **changes: str) -> dict[str, str]:
    """Return a ring as the module takes it."""
    digest = hashlib.sha256(data).hexdigest()
    return {"name": name, "sha256": digest, "content": base64.b64encode(data).decode(), **changes}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*rings: dict[str, str], check: bool = False) -> dict[str, Any]:
        given = {"folder": str(tmp_path), "rings": list(rings), "_ansible_check_mode": check}
        with patch_module_args(given), pytest.raises(SystemExit):
            swift_ring_files.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert not result.get("invocation"), "rings are large"
        return result

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir()}


def test_rings_are_put_in_place_and_replaced(run: Run, tmp_path: Path) -> None:
    first = [ring(b"one"), ring(b"two", "object-1")]
    dry = run(*first, check=True)
    assert files(tmp_path) == {}
    done = run(*first)
    assert done["actions"] == [f"create {tmp_path}/account.ring.gz", f"create {tmp_path}/object-1.ring.gz"]
    assert [dry[key] for key in ("changed", "actions", "diff")] == [done[key] for key in ("changed", "actions", "diff")]
    assert files(tmp_path) == {"account.ring.gz": b"one", "object-1.ring.gz": b"two"}
    again = run(*first)
    assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])

    inode = (tmp_path / "account.ring.gz").stat().st_ino
    with (tmp_path / "account.ring.gz").open("rb") as reader:
        done = run(ring(b"new"), first[1])
        assert reader.read() == b"one", "who has it open reads the old one to its end"
    assert done["actions"] == [f"replace {tmp_path}/account.ring.gz"]
    assert (done["diff"][0]["before"], done["diff"][0]["after"]) == (
        f"sha256 {hashlib.sha256(b'one').hexdigest()}\n", f"sha256 {hashlib.sha256(b'new').hexdigest()}\n",
    )  # fmt: skip
    assert files(tmp_path) == {"account.ring.gz": b"new", "object-1.ring.gz": b"two"}
    assert (tmp_path / "account.ring.gz").stat().st_ino != inode
    assert (tmp_path / "account.ring.gz").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ring(b"new", sha256="0" * 64), "content does not have the digest 000"),
        (ring(b"new", content=base64.b64encode(b"ne").decode()), "build the rings again"),
        (ring(b"new", content=""), "does not have the digest"),
        (ring(b"new", content=base64.b64encode(b"new").decode() + "!"), "content is no base64"),
    ],
)
def test_a_ring_that_is_not_what_its_digest_says_is_refused(
    broken: dict[str, str], message: str, run: Run, tmp_path: Path
) -> None:
    run(ring(b"one"))
    result = run(broken)
    assert result["failed"]
    assert message in result["msg"] and f"{tmp_path}/account.ring.gz" in result["msg"]
    assert files(tmp_path) == {"account.ring.gz": b"one"}


def test_what_lies_on_the_disk_is_looked_at(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift_ring_files, "atomic_write", lambda path, content, _mode: Path(path).write_bytes(b"rot"))
    assert "reads back as something else; look at the disk" in run(ring(b"one"))["msg"]


def test_a_run_that_is_killed_leaves_the_old_ring(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ring(b"one"))

    def die(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(convergence.os, "fsync", die)
        run(ring(b"new"))
    assert files(tmp_path) == {"account.ring.gz": b"one"}
    run(ring(b"new"))
    assert files(tmp_path) == {"account.ring.gz": b"new"}


def test_a_folder_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    os.rmdir(tmp_path)
    assert run(ring(b"one"), check=True)["actions"] == [f"create {tmp_path}/account.ring.gz"]
    assert "No such file or directory" in run(ring(b"one"))["msg"]


# the actions


def slice_of(name: str) -> Slice:
    found, project = plan(committed("object"), sources.load()), sources.load()
    vault = Vault(bytes(range(32)))
    return Slice(found, found.hosts[name], project, Renderer(found, project, vault.value), vault)


def test_a_dry_run_of_a_bare_cloud_hands_out_rings_that_are_not_built(run: Run, tmp_path: Path) -> None:
    action = handing_out.ActionModule.__new__(handing_out.ActionModule)
    built = {"name": "object", "sha256": "ab", "content": "cd", "version": 3}
    arguments = action.arguments(slice_of("object1"), {"rings": [{"name": "account"}, built]})
    assert arguments == {
        "rings": [
            {"name": "account", "sha256": handing_out.UNKNOWN, "content": ""},
            {"name": "object", "sha256": "ab", "content": "cd"},
        ]
    }
    dry = run(*arguments["rings"], check=True)
    assert dry["actions"] == [f"create {tmp_path}/account.ring.gz", f"create {tmp_path}/object.ring.gz"]
    assert dry["diff"][0]["after"] == "sha256 not known before the run\n"


@pytest.mark.parametrize("host", ["controller1", "object2"])
def test_rings_are_declared_alike_whichever_host_asks(host: str) -> None:
    action = declaring.ActionModule.__new__(declaring.ActionModule)
    said = {"rings": [], "held": {}}
    first = {"rings": ["account"], "held": {"vdb": {"accounts": 3, "objects-1": 4}}}
    stranger = {"held": {"vdb": {"a": 9}}}
    hosts: dict[str, Any] = {"object1": {"__swift_devices": first}, "stranger": {"__swift_devices": stranger}}
    action._asked = frozenset({"controller1", "object1", "object2", "object3"})
    hosts |= {f"object{number}": {"__swift_devices": said} for number in (2, 3)}
    action._said = hosts
    arguments = action.arguments(slice_of(host), {"maximum_share": 0, "allow": ["x"]})
    assert arguments is not None
    rings = arguments.pop("rings")
    assert [(one["name"], one["part_power"], one["replicas"]) for one in rings] == [
        ("account", 10, 3), ("container", 10, 3), ("object", 10, 3),
    ]  # fmt: skip
    assert [f"{one['ip']}/{one['device']} z{one['zone']}" for one in rings[0]["devices"]] == [
        f"10.126.40.4{number}/{disk} z{number}" for number in (1, 2, 3) for disk in ("vdb", "vdc")
    ]
    assert arguments == {
        "folder": "/var/lib/brume/swift", "lost": [], "maximum_share": 0.0, "allow": ["x"], "content": True,
        "held": {"10.126.40.41/vdb": {"account": 3, "object-1": 4}}, "elsewhere": {"account": "object1 has that ring"},
        "frozen": False,
    }  # fmt: skip
    del hosts["object3"]  # a limit leaves it out
    action._asked -= {"object3"}
    arguments = action.arguments(slice_of(host), {})
    assert arguments is not None and arguments["frozen"] is True
    unknown = "object3 was not asked whether it has that ring"
    assert arguments["elsewhere"] == {
        "account": "object1 has that ring", "container": unknown, "object": unknown,
    }  # fmt: skip
    task: Any = SimpleNamespace(check_mode=False)
    action._task = task
    variables = action.task_variables(slice_of(host))
    assert variables["ansible_python_interpreter"].startswith("/opt/brume/swift/")
