"""The guest's image: the order of its modules, what its scripts say, and when it is made again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools_guest_image", ROOT / "tools/guest_image.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["tools_guest_image"] = module
    spec.loader.exec_module(module)
    return module


tool = _tool()
SCRIPTS = {
    "rc": tool.RC,
    "udhcpc": tool.UDHCPC,
    "metadata": tool.METADATA,
    "power": tool.POWER_BUTTON,
    "sudo": tool.SUDO,
    "curl": tool.CURL,
    "blkid": tool.BLKID,
    "lsblk": tool.LSBLK,
}


def module(*needed: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(needed).encode() + b"\0retpoline=Y\0"


def elf(*needed: str) -> bytes:
    """Return the smallest file that has sections for dynamic linking."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    dynamic = b"".join(struct.pack("<QQ", 1, strings.index(name.encode())) for name in needed) + bytes(16)
    where = 64 + len(strings)
    sections = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64, len(strings), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 0, 6, 0, 0, where, len(dynamic), 0, 0, 8, 16)
    head = bytearray(64)
    struct.pack_into("<Q", head, 0x28, where + len(dynamic))
    struct.pack_into("<HH", head, 0x3A, 64, 2)
    return bytes(head) + strings + dynamic + sections


def test_modules_come_after_what_they_need() -> None:
    modules = {
        "virtio": module("virtio_ring"),
        "virtio_ring": module(),
        "virtio_pci": module("virtio", "virtio_ring", "virtio-pci-modern-dev"),
        "virtio_pci_modern_dev": module(),
        "virtio_net": module("virtio", "net_failover"),
        "net_failover": module("failover"),
        "failover": module(),
    }
    order = tool.load_order(("virtio_net", "button", "virtio_pci"), modules, {"button"})
    assert order == [
        "virtio_ring", "virtio", "failover", "net_failover", "virtio_net", "virtio_pci_modern_dev", "virtio_pci",
    ]  # fmt: skip


def test_a_needed_module_may_be_built_in() -> None:
    assert tool.load_order(("virtio_net",), {"virtio_net": module("virtio")}, {"virtio"}) == ["virtio_net"]


def test_a_module_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(tool.ImageError, match="virtio_ring"):
        tool.load_order(("virtio",), {"virtio": module("virtio_ring")}, set())


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_have_valid_syntax(name: str) -> None:
    done = subprocess.run(["sh", "-n"], input=SCRIPTS[name], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-V"], "curl, by wget"),
        (["http://192.0.2.1/a"], "<-q><-O><-><http://192.0.2.1/a>"),
        (["-X", "POST", "-d", "some words", "http://192.0.2.1/a"], "<-q><-O><-><--post-data=some words><http://192.0.2.1/a>"),
    ],
)
def test_curl_is_done_by_wget(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "wget").write_text('#!/bin/sh\nprintf "<%s>" "$@"\n', encoding="ascii")
    (tmp_path / "wget").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = ["sh", "-c", tool.CURL, "curl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=path, check=True)
    assert done.stdout.strip() == said


def test_blkid_finds_a_volume_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "vda").write_bytes(bytes(40000))
    (tmp_path / "vdb").write_bytes(bytes(32808) + b"config-2".ljust(32) + bytes(100))
    script = tool.BLKID.replace("/dev/", f"{tmp_path}/")

    def blkid(name: str) -> tuple[int, str]:
        done = subprocess.run(["sh", "-c", script, "blkid", "-L", name], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    assert blkid("config-2") == (0, f"{tmp_path}/vdb")
    assert blkid("config") == (2, "")


def test_lsblk_shows_disks_in_columns(tmp_path: Path) -> None:
    for disk, size in (("vda", "2048"), ("vdb", "4")):
        (tmp_path / disk).mkdir()
        for name, value in (("size", size), ("dev", "254:0"), ("removable", "0"), ("ro", "0")):
            (tmp_path / disk / name).write_text(f"{value}\n", encoding="ascii")
    script = tool.LSBLK.replace("/sys/block/", f"{tmp_path}/")
    lines = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "MAJ:MIN", "RM", "SIZE", "RO", "TYPE"],
        ["vda", "254:0", "0", "1048576", "0", "disk"],
        ["vdb", "254:0", "0", "2048", "0", "disk"],
    ]
    assert {line.find("disk") for line in lines[1:]} == {lines[0].find("TYPE")}


def test_scripts_say_what_the_verification_reads() -> None:
    assert 'echo "brume-test: address $ip" >/dev/console' in tool.UDHCPC
    assert tool.METADATA.rstrip().endswith('echo "brume-test: ready" >/dev/console')
    assert 'hostname "${name%%.*}"' in tool.METADATA
    lines = [line for script in SCRIPTS.values() for line in script.splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in lines if "wget" in line and " -T" in line]  # crashes busybox 1.35
    assert "poweroff -f" in tool.POWER_BUTTON
    assert "dropbear -R -s" in tool.RC


def test_every_command_of_the_scripts_is_linked() -> None:
    commands = {"acpid", "cat", "chmod", "grep", "head", "hostname", "insmod", "ip", "mkdir", "mount", "mv", "poweroff"}
    verification = {"cat", "dd", "grep", "head", "sed", "sha256sum", "true", "uname", "wget"}
    assert commands | verification | {"sleep", "sync", "timeout", "udhcpc"} <= set(tool.APPLETS)


def test_libraries_of_libraries_are_found(tmp_path: Path) -> None:
    known = {}
    for name, content in {"libz.so.1": elf("libc.so.6"), "libc.so.6": elf(), "libother.so.1": elf()}.items():
        known[name] = tmp_path / name
        known[name].write_bytes(content)
    assert sorted(tool.libraries(elf("libz.so.1"), known)) == ["libc.so.6", "libz.so.1"]


def test_a_library_in_no_package_is_an_error() -> None:
    with pytest.raises(tool.ImageError, match=r"libz\.so\.1"):
        tool.libraries(elf("libz.so.1"), {})


@pytest.mark.skipif(shutil.which("cpio") is None, reason="needs the program cpio")
def test_the_archive_is_one_that_cpio_reads() -> None:
    entries = [tool.folder("root", 0o700), tool.plain("root/a", b"12345", 0o600), tool.link("init", "root/a")]
    done = subprocess.run(["cpio", "-itv", "--quiet"], input=tool.cpio(entries), capture_output=True, check=True)
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert [(line[0], line[4], " ".join(line[8:])) for line in lines] == [
        ("drwx------", "0", "root"),
        ("-rw-------", "5", "root/a"),
        ("lrwxrwxrwx", "6", "init -> root/a"),
    ]


def test_versions_do_not_depend_on_the_mirror() -> None:
    line = "'http://{}/pool/b/busybox.deb' busybox-static_1%3a1.35_amd64.deb 928188 SHA256:{}\n"
    one = tool.versions(line.format("a.example.org", "aa"))
    assert one == {"busybox-static_1%3a1.35_amd64.deb": "SHA256:aa"}
    assert tool.versions(line.format("b.example.org/debian", "aa")) == one
    assert tool.versions(line.format("a.example.org", "bb")) != one


def test_missing_programs_are_all_named_with_their_packages() -> None:
    with pytest.raises(tool.ImageError, match=r"mcopy, syslinux missing.*apt-get install mtools syslinux"):
        tool.require(tool.TOOLS, lambda name: None if name in ("mcopy", "syslinux") else f"/bin/{name}")
    tool.require(tool.TOOLS, lambda name: f"/bin/{name}")


class Cache:
    """A made image with its note, where building and asking apt are recorded in place of done."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the image once."""
        self.target, self.lists = folder / "o/guest.qcow2", folder / "lists"
        self.lists.mkdir()
        os.utime(self.lists, (1, 1))
        self.packages = {"busybox_1.deb": "SHA256:aa"}
        self.asked = self.made = 0
        self.apt_works = True
        monkeypatch.setattr(tool, "APT_LISTS", self.lists)
        monkeypatch.setattr(tool, "require", lambda tools: None)
        monkeypatch.setattr(tool, "packages", lambda: ["busybox"])
        monkeypatch.setattr(tool, "candidates", self._candidates)
        monkeypatch.setattr(tool, "download", lambda names, work: work)
        monkeypatch.setattr(tool, "disk_image", self._disk_image)
        assert tool.build(self.target)
        self.asked = 0

    def _candidates(self, names: list[str]) -> dict[str, str]:
        self.asked += 1
        if not self.apt_works:
            raise tool.ImageError("no apt")
        return dict(self.packages)

    def _disk_image(self, root: Path, work: Path) -> Path:
        if not self.apt_works:
            raise tool.ImageError("no apt")
        self.made += 1
        path = work / "image"
        path.write_text(f"image {self.made}")
        return path

    def lists_changed(self) -> None:
        """Let apt's lists be newer than the image."""
        note = self.target.with_suffix(".digest").stat().st_mtime
        os.utime(self.lists, (note + 5, note + 5))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    return Cache(tmp_path, monkeypatch)


def test_a_second_call_does_nothing_and_does_not_ask_apt(cache: Cache) -> None:
    assert not tool.build(cache.target)
    assert (cache.made, cache.asked) == (1, 0)


def test_new_lists_with_the_same_versions_do_not_make_it_again(cache: Cache) -> None:
    cache.lists_changed()
    assert not tool.build(cache.target)
    assert (cache.made, cache.asked) == (1, 1)


def test_newer_packages_make_it_again(cache: Cache) -> None:
    cache.lists_changed()
    cache.packages = {"busybox_2.deb": "SHA256:bb"}
    assert tool.build(cache.target)
    assert cache.target.read_text() == "image 2"


def test_without_apt_the_image_is_kept(cache: Cache) -> None:
    cache.lists_changed()
    cache.apt_works = False
    assert not tool.build(cache.target)
    cache.lists.rmdir()
    assert not tool.build(cache.target)
    assert cache.target.read_text() == "image 1"


@pytest.mark.parametrize("text", ["", "image", None])
def test_a_damaged_image_is_made_again(cache: Cache, text: str | None) -> None:
    cache.target.unlink()
    if text is not None:
        cache.target.write_text(text)
    assert tool.build(cache.target)
    assert not tool.build(cache.target)


@pytest.mark.parametrize("note", ["", "[]", "{}", "0" * 64])
def test_an_image_without_a_note_of_ours_is_made_again(cache: Cache, note: str) -> None:
    cache.target.with_suffix(".digest").write_text(note)
    assert tool.build(cache.target)


def test_another_recipe_makes_it_again(cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("another recipe")
    monkeypatch.setattr(tool, "__file__", str(other))
    assert tool.build(cache.target)
    assert not tool.build(cache.target)
