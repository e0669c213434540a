"""Devices of storage hosts: nothing is formatted that holds anything, and what a killed run began the next one ends."""

from __future__ import annotations

import dataclasses
import errno
import getpass
import itertools
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.action import swift_devices as action
from ansible_collections.brume.cloud.plugins.module_utils import block_devices, sources
from ansible_collections.brume.cloud.plugins.module_utils.block_devices import DeviceError, Mounted, Reading, decide
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import swift_devices

from .inventories import committed

XFS = (("LABEL", "swift"), ("UUID", "1111"), ("TYPE", "xfs"))
KNOWN = Mounted("sdb", "1111")


def sdb(**values: Any) -> Reading:
    return Reading("sdb", "/dev/sdb", **values)


MOUNTED = {"signature": XFS, "zeroed": False, "mounted_at": ("/srv/node/sdb",)}

USABLE: dict[str, tuple[Reading, tuple[Mounted, ...], list[str], list[str]]] = {
    "empty": (sdb(), (), [], ["format /dev/sdb with XFS", "mount /dev/sdb at /srv/node/sdb"]),
    "ours, mounted": (sdb(**MOUNTED), (KNOWN,), [], []),
    "ours, mounted, of root": (sdb(**MOUNTED, owned=False), (KNOWN,), [], ["give /srv/node/sdb to Swift's user"]),
    "ours, not mounted": (
        sdb(signature=XFS, zeroed=False, owned=False), (KNOWN,), [], ["mount /dev/sdb at /srv/node/sdb"],
    ),
    "ours, of a host that was installed anew": (
        sdb(signature=XFS, zeroed=False), (), [], ["mount /dev/sdb at /srv/node/sdb"],
    ),
    "ours, named in swift_format": (sdb(**MOUNTED), (KNOWN,), ["sdb"], []),
    "replaced by an empty disk": (
        sdb(), (KNOWN,), [], ["format /dev/sdb with XFS", "mount /dev/sdb at /srv/node/sdb"],
    ),
    "another file system, given up": (
        sdb(signature=(("TYPE", "ext4"),), zeroed=False), (), ["sdb"],
        ["format /dev/sdb with XFS", "mount /dev/sdb at /srv/node/sdb"],
    ),
    "unknown data, given up": (
        sdb(zeroed=False), (), ["sdb"], ["format /dev/sdb with XFS", "mount /dev/sdb at /srv/node/sdb"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", USABLE)
def test_what_is_done_to_a_device(kind: str) -> None:
    reading, known, expendable, expected = USABLE[kind]
    steps, warnings = decide([reading], known, {}, expendable)
    assert ([str(one) for one in steps], warnings) == (expected, [])


GIVE_UP = "name it in swift_format if that may be lost"
REFUSED: dict[str, tuple[Reading, tuple[Mounted, ...], list[str], str]] = {
    "another file system": (sdb(signature=(("TYPE", "ext4"),)), (), [], f"holds ext4; {GIVE_UP}"),
    "another file system with a label": (
        sdb(signature=(("LABEL", "home"), ("TYPE", "xfs"))), (), ["sdc"], f"holds xfs labeled home; {GIVE_UP}",
    ),
    "another kind with our label": (
        sdb(signature=(("LABEL", "swift"), ("TYPE", "ext4"))), (), [], f"holds ext4 labeled swift; {GIVE_UP}",
    ),
    "an empty table of partitions": (sdb(signature=(("PTTYPE", "gpt"),)), (), [], f"holds gpt; {GIVE_UP}"),
    "unknown data": (sdb(zeroed=False), (), [], f"holds data of an unknown kind; {GIVE_UP}"),
    "partitions": (
        sdb(signature=(("PTTYPE", "gpt"),), users=("sdb1", "sdb2")), (), [],
        "is in use by sdb1, sdb2; remove what is on it, or take another device",
    ),
    "partitions, though given up": (
        sdb(signature=(("PTTYPE", "gpt"),), users=("sdb1",)), (), ["sdb"],
        "is in use by sdb1; remove what is on it, or take another device",
    ),
    "a volume group on an empty beginning": (
        sdb(users=("dm-0",)), (), ["sdb"], "is in use by dm-0; remove what is on it, or take another device",
    ),
    "mounted elsewhere": (
        sdb(signature=(("TYPE", "ext4"),), mounted_at=("/home",)), (), ["sdb"],
        "is mounted at /home; unmount it, or take another device",
    ),
    "ours, mounted elsewhere too": (
        sdb(signature=XFS, mounted_at=("/srv/node/sdb", "/mnt")), (KNOWN,), ["sdb"],
        "is mounted at /mnt; unmount it, or take another device",
    ),
    "another is mounted at its place": (
        sdb(beneath=True), (KNOWN,), ["sdb"], "another device is mounted at /srv/node/sdb; unmount that first",
    ),
    "ours of another name": (
        sdb(signature=XFS), (Mounted("sdc", "1111"),), [],
        "holds the file system of sdc; correct the path, or the name",
    ),
    "never there": (sdb(exists=False), (), ["sdb"], "there is no block device to be read; correct swift_devices"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_device_that_cannot_be_used_is_named_with_a_remedy(kind: str) -> None:
    reading, known, expendable, expected = REFUSED[kind]
    with pytest.raises(DeviceError) as caught:
        decide([reading], known, {}, expendable)
    text = str(caught.value).removeprefix("/dev/sdb (sdb)").removeprefix(":").strip()
    assert text == expected


def test_all_devices_that_cannot_be_used_are_named_at_once() -> None:
    readings = [sdb(zeroed=False), Reading("sdc", "/dev/sdc"), Reading("sdd", "/dev/sdd", exists=False)]
    with pytest.raises(DeviceError) as caught:
        decide(readings, [], {}, [])
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == ["/dev/sdb", "/dev/sdd"]


def test_two_paths_of_one_device_are_refused() -> None:
    twin, other = Reading("x", "/dev/disk/by-id/x", number="8:16"), Reading("y", "/dev/y", number="1:1")
    readings = [sdb(number="8:16"), twin, other]
    with pytest.raises(DeviceError, match=r"^/dev/disk/by-id/x \(x\): is /dev/sdb \(sdb\); name it once$"):
        decide(readings, [], {}, [])


def test_a_disk_that_has_broken_is_a_warning() -> None:
    steps, warnings = decide([sdb(exists=False)], [KNOWN], {}, [])
    assert steps == []
    assert warnings == ["/dev/sdb (sdb) cannot be read; replace the disk, or say `lost: true` of it"]


@pytest.mark.parametrize(("held", "verbs"), [(0, ["unmount"]), (3, [])])
def test_a_device_that_is_not_declared_any_more_goes_once_it_is_empty(held: int, verbs: list[str]) -> None:
    steps, warnings = decide([], [KNOWN], {"sdb": held}, [])
    assert [one.verb for one in steps] == verbs
    assert warnings == (["/srv/node/sdb is declared no more, and holds 3 partitions still"] if held else [])


def test_the_table_is_read_as_it_is_written() -> None:
    entries = [Mounted("sdc", "2222"), KNOWN]
    text = block_devices.table(entries)
    assert text.splitlines()[1:] == [
        "UUID=1111 /srv/node/sdb xfs noatime 0 0",
        "UUID=2222 /srv/node/sdc xfs noatime 0 0",
    ]
    assert block_devices.parse_table(text) == sorted(entries, key=lambda one: one.name)
    assert block_devices.parse_table("# UUID=1 /srv/node/x\nUUID=2 /home ext4\n/dev/sdb /srv/node/sdb xfs\n\n") == []


def test_the_action_leaves_out_what_is_lost_and_hosts_without_disks() -> None:
    found = plan(committed("object"), sources.load())
    host = found.hosts["object1"]
    lost = {"name": "vdd", "path": "/dev/vdd", "lost": True}
    own = {**host.variables, "swift_devices": [*host.variables["swift_devices"], lost], "swift_format": ["vdc"]}
    host = dataclasses.replace(host, variables=own)
    found = dataclasses.replace(found, hosts={**found.hosts, "object1": host})
    project = sources.load()

    def arguments(name: str) -> dict[str, Any] | None:
        vault = Vault(bytes(range(32)))
        piece = Slice(found, found.hosts[name], project, Renderer(found, project, vault.value), vault)
        return action.ActionModule.__new__(action.ActionModule).arguments(piece, {})

    assert arguments("object1") == {
        "devices": [{"name": "vdb", "path": "/dev/vdb"}, {"name": "vdc", "path": "/dev/vdc"}],
        "format": ["vdc"],
    }
    assert arguments("controller1") is None


# the module, on disks that are files


@dataclass
class Disk:
    """What blkid says of a disk, and a file with its beginning."""

    file: Path
    number: int
    signature: dict[str, str] = field(default_factory=dict)
    broken: bool = False


class Host:
    """Block devices, mounts and the programs that change them, in place of the machine's."""

    MAJOR = 4000
    """No driver has it, so that /sys says nothing of it."""

    def __init__(self, folder: Path) -> None:
        """Have no disk."""
        self.folder = folder
        self.root = folder / "node"
        self.disks: dict[str, Disk] = {}
        self.mounted: list[tuple[str, str]] = []
        self.called: list[str] = []
        self.uuids = itertools.count(1)
        self.fails: set[str] = set()
        self.dies: set[str] = set()

    def add(self, name: str, content: bytes = b"", **signature: str) -> str:
        """Plug a disk in, and return its path."""
        path = self.folder / "dev" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content or bytes(4096))
        self.disks[str(path)] = Disk(path, len(self.disks) + 1, signature)
        return str(path)

    def disk(self, name: str) -> Disk:
        """Return a disk by its name."""
        return self.disks[f"{self.folder}/dev/{name}"]

    def stat(self, path: str) -> Any:
        """Say that disks are block devices."""
        found = os.stat(path)
        if path not in self.disks:
            return found
        if self.disks[path].broken:
            raise OSError(errno.EIO, "Input/output error", path)
        return SimpleNamespace(st_mode=stat.S_IFBLK | 0o660, st_rdev=os.makedev(self.MAJOR, self.disks[path].number))

    def call(self, *words: str, accepted: tuple[int, ...] = (0,)) -> str:
        """Do what a program does. One that `dies` takes the module with it, before it has done anything."""
        if words[0] in self.dies:
            raise KeyboardInterrupt
        if words[0] in self.fails:
            raise DeviceError(f"`{' '.join(words)}` ends with 32: no medium")
        return str(getattr(self, words[0].replace(".", "_"))(*words[1:]))

    def blkid(self, *words: str) -> str:
        """Give the signature, or one of its values."""
        assert words[0] == "--probe", "a cache may be old"
        if self.disks[words[-1]].broken:
            raise DeviceError("Input/output error")
        found = self.disks[words[-1]].signature
        if "--match-tag" in words:
            return f"{found[words[words.index('--match-tag') + 1]]}\n"
        return "".join(f"{key}={value}\n" for key, value in {"DEVNAME": words[-1], **found}.items()) if found else ""

    def mkfs_xfs(self, *words: str) -> str:
        """Make a file system."""
        self.called.append(f"mkfs.xfs {Path(words[-1]).name}")
        disk = self.disks[words[-1]]
        assert all(number != f"{self.MAJOR}:{disk.number}" for number, _place in self.mounted), "it is in use"
        uuid = f"uuid-{next(self.uuids)}"
        disk.signature = {"LABEL": words[words.index("-L") + 1], "UUID": uuid, "TYPE": "xfs"}
        disk.file.write_bytes(b"XFSB" + bytes(4092))
        return ""

    def mount(self, *words: str) -> str:
        """Mount, as root's."""
        path, place = words[-2:]
        assert self.disks[path].signature["TYPE"] == "xfs"
        self.called.append(f"mount {Path(path).name} {Path(place).name}")
        self.mounted.append((f"{self.MAJOR}:{self.disks[path].number}", place))
        os.chown(place, 12345, 12345)
        return ""

    def umount(self, place: str) -> str:
        """Unmount."""
        self.called.append(f"umount {Path(place).name}")
        self.mounted = [one for one in self.mounted if one[1] != place]
        return ""

    def module_os(self) -> Any:
        """Return the module os as the module sees it."""
        path = SimpleNamespace(
            isdir=os.path.isdir, exists=os.path.exists,
            ismount=lambda place: any(where == str(place) for _number, where in self.mounted),
        )  # fmt: skip
        known = {name: getattr(os, name) for name in ("listdir", "scandir", "makedirs", "major", "minor")}
        return SimpleNamespace(stat=self.stat, path=path, **known)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path)
    monkeypatch.setattr(block_devices, "ROOT", str(found.root))
    monkeypatch.setattr(swift_devices, "call", found.call)
    monkeypatch.setattr(swift_devices, "mounts", lambda: found.mounted)
    monkeypatch.setattr(swift_devices, "os", found.module_os())
    return found


Run = Callable[..., dict[str, Any]]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="the module changes owners")


@pytest.fixture
def run(host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs the module with names of devices of the host."""
    # Where the controller's part of Ansible is loaded too, warnings are shown and not in the result.
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, text: warnings.append(text))

    def call(*names: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {
            "devices": [{"name": name, "path": f"{host.folder}/dev/{name}"} for name in names],
            "table": f"{host.folder}/fstab", "owner": getpass.getuser(), "_ansible_check_mode": check, **arguments,
        }  # fmt: skip
        warnings.clear()
        with patch_module_args(given), pytest.raises(SystemExit):
            swift_devices.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return {**result, "warnings": list(warnings)}

    return call


def settle(run: Run, *names: str, **arguments: Any) -> None:
    """See that a dry run, the run and the next run agree."""
    dry, done = run(*names, check=True, **arguments), run(*names, **arguments)
    assert not done.get("failed"), done
    assert (dry["changed"], dry["actions"]) == (done["changed"], done["actions"])
    after = run(*names, **arguments)
    assert (after["changed"], after["actions"], after["diff"]) == (False, [], [])


@root_only
def test_empty_disks_are_formatted_mounted_and_written_down(host: Host, run: Run) -> None:
    host.add("sdb")
    host.add("sdc")
    dry = run("sdb", "sdc", check=True)
    assert host.called == [] and not (host.folder / "fstab").exists() and not host.root.exists()
    done = run("sdb", "sdc")
    assert (dry["changed"], dry["actions"]) == (True, done["actions"])
    assert dry["diff"][0]["after"].replace(swift_devices.NEW, "*") == (
        done["diff"][0]["after"].replace("uuid-1", "*").replace("uuid-2", "*")
    ), "the UUID is all that a dry run does not know"
    assert host.called == ["mkfs.xfs sdb", "mount sdb sdb", "mkfs.xfs sdc", "mount sdc sdc"]
    assert (host.folder / "fstab").read_text() == done["diff"][0]["after"]
    assert f"UUID=uuid-1 {host.root}/sdb xfs noatime 0 0\n" in done["diff"][0]["after"]
    assert {(host.root / name).stat().st_uid for name in ("sdb", "sdc")} == {os.getuid()}
    again = run("sdb", "sdc")
    assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])
    assert again["held"] == {"sdb": {}, "sdc": {}}


@root_only
def test_one_bad_disk_keeps_all_as_they_are(host: Host, run: Run) -> None:
    host.add("sdb")
    host.add("sdc", content=b"\0" * 512 + b"photos")
    host.add("sdd", TYPE="ext4", LABEL="home")
    for check in (True, False):
        result = run("sdb", "sdc", "sdd", check=check)
        assert result["failed"]
        assert [line.partition(": ")[2] for line in result["msg"].splitlines()] == [
            f"holds data of an unknown kind; {GIVE_UP}", f"holds ext4 labeled home; {GIVE_UP}",
        ]  # fmt: skip
    assert host.called == []
    settle(run, "sdb", "sdc", "sdd", format=["sdc", "sdd"])
    assert [one for one in host.called if "mkfs" in one] == ["mkfs.xfs sdb", "mkfs.xfs sdc", "mkfs.xfs sdd"]


@root_only
@pytest.mark.parametrize("moment", ["mkfs.xfs", "mount", "chown", "table"])
def test_what_a_killed_run_began_the_next_one_ends(
    moment: str, host: Host, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.add("sdb")

    def die(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    host.dies = {moment}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if moment == "chown":
            patched.setattr(swift_devices.shutil, "chown", die)
        if moment == "table":
            patched.setattr(swift_devices, "atomic_write", die)
        run("sdb")
    assert not (host.folder / "fstab").exists()
    host.dies = set()
    actions = [f"format {host.folder}/dev/sdb with XFS", f"mount {host.folder}/dev/sdb at {host.root}/sdb"]
    left = {"mkfs.xfs": actions, "mount": actions[1:], "chown": [f"give {host.root}/sdb to Swift's user"], "table": []}
    dry, done = run("sdb", check=True), run("sdb")
    assert dry["actions"] == done["actions"] == [*left[moment], f"write {host.folder}/fstab"]
    assert host.called == ["mkfs.xfs sdb", "mount sdb sdb"], "nothing is done twice"
    assert (host.root / "sdb").stat().st_uid == os.getuid()
    assert f"UUID=uuid-1 {host.root}/sdb " in (host.folder / "fstab").read_text()
    assert not run("sdb")["changed"]


@root_only
def test_disks_of_a_host_that_was_installed_anew_keep_their_objects(host: Host, run: Run) -> None:
    host.add("sdb", content=b"XFSB", LABEL="swift", UUID="old", TYPE="xfs")
    settle(run, "sdb", format=["sdb"])
    assert host.called == ["mount sdb sdb"]
    assert "UUID=old " in (host.folder / "fstab").read_text()


def partitions(host: Host, name: str, **kinds: int) -> None:
    """Put partitions on a mounted device."""
    for kind, count in kinds.items():
        for number in range(count):
            (host.root / name / kind.replace("_", "-") / str(number)).mkdir(parents=True)


@root_only
def test_a_disk_is_unmounted_once_it_is_empty(host: Host, run: Run) -> None:
    host.add("sdb")
    host.add("sdc")
    run("sdb", "sdc")
    partitions(host, "sdc", accounts=1, objects_1=2)
    for other in ("tmp", "quarantined", "async_pending"):
        (host.root / "sdc" / other / "5").mkdir(parents=True)
    (host.root / "sdc/objects-1/auditor_status_ALL.json").touch()
    result = run("sdb")
    assert (result["changed"], result["held"]) == (False, {"sdb": {}, "sdc": {"accounts": 1, "objects-1": 2}})
    assert result["warnings"] == [f"{host.root}/sdc is declared no more, and holds 3 partitions still"]
    for place in ("accounts/0", "objects-1/0", "objects-1/1"):
        (host.root / "sdc" / place).rmdir()
    host.called.clear()
    dry, done = run("sdb", check=True), run("sdb")
    assert dry["actions"] == done["actions"]
    assert done["actions"] == [
        f"unmount {host.root}/sdc, which is not declared any more", f"write {host.folder}/fstab",
    ]  # fmt: skip
    assert dry["diff"] == done["diff"]
    assert host.called == ["umount sdc"]
    assert block_devices.parse_table((host.folder / "fstab").read_text()) == [Mounted("sdb", "uuid-1")]
    assert not run("sdb")["changed"]


@root_only
def test_a_broken_disk_stops_nobody_and_is_replaced(host: Host, run: Run) -> None:
    host.add("sdb")
    host.add("sdc")
    run("sdb", "sdc")
    table = (host.folder / "fstab").read_text()
    host.disk("sdc").broken = True
    result = run("sdb", "sdc")
    assert not result["changed"]
    assert result["warnings"] == [
        f"{host.folder}/dev/sdc (sdc) cannot be read; replace the disk, or say `lost: true` of it"
    ]
    assert (host.folder / "fstab").read_text() == table, "it may come back"
    host.add("sdc")
    host.disk("sdc").number = 77
    assert "another device is mounted" in run("sdb", "sdc")["msg"]
    host.umount(f"{host.root}/sdc")
    host.called.clear()
    settle(run, "sdb", "sdc")
    assert host.called == ["mkfs.xfs sdc", "mount sdc sdc"]
    assert "uuid-1" in (host.folder / "fstab").read_text().split("sdc")[0]


@root_only
def test_what_is_on_a_broken_disk_is_not_asked(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is lost, and mounted still, reading gives an error; that must not keep it where it is."""
    host.add("sdb")
    host.add("sdc")
    run("sdb", "sdc")
    real = swift_devices.os.listdir

    def listdir(place: str) -> list[str]:
        if place.endswith("/sdc"):
            raise OSError(errno.EIO, "Input/output error", place)
        return list(real(place))

    monkeypatch.setattr(swift_devices.os, "listdir", listdir)
    assert run("sdb")["actions"][0] == f"unmount {host.root}/sdc, which is not declared any more"


@root_only
def test_a_program_that_fails_is_told_and_the_table_stays(host: Host, run: Run) -> None:
    host.add("sdb")
    host.fails = {"mount"}
    result = run("sdb")
    assert result["failed"]
    assert "`mount -t xfs -o noatime" in result["msg"] and "no medium" in result["msg"]
    assert not (host.folder / "fstab").exists()


def test_a_file_is_no_device(host: Host, run: Run) -> None:
    (host.folder / "dev").mkdir()
    (host.folder / "dev/sdb").write_text("x")
    assert "there is no block device to be read" in run("sdb")["msg"]


def test_programs_of_the_host_are_called_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("good", "echo out"), ("bad", "echo what >&2; exit 3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert swift_devices.call("good") == "out\n"
    assert swift_devices.call("bad", accepted=(0, 3)) == ""
    with pytest.raises(DeviceError, match=r"^`bad x` ends with 3: what$"):
        swift_devices.call("bad", "x")


def test_mounts_are_those_of_this_process() -> None:
    found = swift_devices.mounts()
    assert "/proc" in [place for _number, place in found]
    assert all(len(number.split(":")) == 2 for number, _place in found)
