#!/usr/bin/env python3
"""Makes `brume-test`, the small image that instances boot in tests: `.cache/brume-test.qcow2`.

Debian's cloud kernel and an initramfs with busybox and dropbear, on a FAT partition that syslinux starts. Everything
lives in memory, so each boot is a first boot. The packages come from this machine's own sources and are unpacked,
never installed; nothing of them is run; nothing is mounted and no root is needed.

What the guest does: DHCP on eth0, prints `brume-test: address A.B.C.D` on the console, takes key pair, host name and
user data from the metadata service (runs a user data script and shows its output), lets root in by key, and powers
off when the button is pressed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / ".cache/brume-test.qcow2"

KERNEL = "linux-image-cloud-amd64"
"""A package without files that depends on the newest kernel for virtual machines."""

PROGRAMS = ("busybox-static", "dropbear-bin")
LOADER = ("syslinux", "syslinux-common")
MODULES = ("virtio_pci", "virtio_net", "virtio_blk", "virtio_rng", "button", "evdev", "ata_piix", "sr_mod", "isofs")
"""Kernel modules by name; what they depend on is read from them, and goes first (virtio_ring before virtio)."""

SECTOR = 512
PARTITION_START = 2048
"""First sector of the partition, where partitioning tools put it."""

FAT16_LBA = 0x0E
DIRECTORY = 0o040000
SHT_DYNAMIC = 6
DT_NEEDED = 1
APT_LISTS = Path("/var/lib/apt/lists")
"""What apt knows of packages: while nothing in it has changed, no package can be newer."""

TOOLS = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "dpkg": "dpkg",
    "mcopy": "mtools",
    "mformat": "mtools",
    "qemu-img": "qemu-utils",
    "syslinux": "syslinux",
}
"""Programs that the build runs, with the packages that have them."""

SLACK = 2 << 20
"""Free bytes of the partition beyond its files, for the file system's own structures."""

COMMAND_LINE = "console=tty0 console=ttyS0,115200 edd=off loglevel=4 panic=10 no_timer_check net.ifnames=0"
APPLETS = (
    "acpid", "awk", "blockdev", "cat", "chmod", "cp", "cut", "date", "dd", "df", "dmesg", "echo", "env", "false",
    "free", "grep", "halt", "head", "hostname", "id", "ifconfig", "init", "insmod", "ip", "kill", "ls", "lsmod",
    "md5sum", "mkdir", "mktemp", "mount", "mv", "nc", "nslookup", "od", "pidof", "ping", "poweroff", "printf", "ps",
    "pwd", "readlink", "reboot", "rm", "route", "sed", "seq", "setsid", "sh", "sha256sum", "sleep", "sort", "stty",
    "sync", "tail", "tar", "tee", "test", "timeout", "top", "touch", "tr", "traceroute", "true", "udhcpc", "umount",
    "uname", "uptime", "vi", "wc", "wget", "which", "xargs",
)  # fmt: skip
"""busybox's commands that the guest has; links, because busybox is never run here to install its own."""

RC = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run /var/run
mount -t devpts devpts /dev/pts
while read -r module; do insmod "/modules/$module" || echo "brume-test: $module was not loaded"; done </modules/order
acpid -l /dev/null
ip link set lo up
ip link set eth0 up
dropbear -R -s
udhcpc -i eth0 -s /etc/udhcpc -t 5 -T 2 -b -S -O staticroutes -O mtu -O hostname >/dev/null 2>&1
/etc/metadata &
"""

UDHCPC = r"""#!/bin/sh
# DHCP of eth0, called by udhcpc(8) with what the server said in variables
case $1 in
deconfig)
    ip -4 address flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    [ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
    if ! ip -4 address show dev "$interface" | grep -q " $ip/$mask "; then
        ip -4 address flush dev "$interface"
        ip address add "$ip/$mask" dev "$interface"
        echo "brume-test: address $ip" >/dev/console
    fi
    # classless routes replace the router option (RFC 3442)
    set -- $staticroutes
    if [ $# -gt 1 ]; then
        while [ $# -gt 1 ]; do
            if [ "$2" = 0.0.0.0 ]; then
                ip route replace "$1" dev "$interface"
            else
                ip route replace "$1" via "$2" dev "$interface"
            fi
            shift 2
        done
    elif [ -n "$router" ]; then
        ip route replace default via "${router%% *}" dev "$interface"
    fi
    : >/etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
    ;;
esac
"""

METADATA = r"""#!/bin/sh
# Key pair, host name and user data. `timeout` in place of `wget -T`, on which busybox 1.35 crashes.
url=http://169.254.169.254/latest
fetch() { timeout 20 wget -q -O "/run/$2" "$url/$1" 2>/run/wget.log; }
# What the instance does not have is answered with 404; anything else may be a service that is still starting.
insist() {
    for try in 1 2 3 4 5; do
        fetch "$1" "$2" && return 0
        grep -q " 404 " /run/wget.log && break
        sleep 2
    done
    rm -f "/run/$2"
    return 1
}
tries=0
until fetch meta-data/instance-id instance-id && [ -s /run/instance-id ]; do
    tries=$((tries + 1))
    if [ $tries -ge 60 ]; then
        echo "brume-test: no metadata" >/dev/console
        echo "brume-test: ready" >/dev/console
        exit 1
    fi
    sleep 1
done
if insist meta-data/hostname hostname; then
    name=$(cat /run/hostname)
    hostname "${name%%.*}"
fi
key=none
if insist meta-data/public-keys/0/openssh-key key; then
    chmod 600 /run/key
    mv /run/key /root/.ssh/authorized_keys
    key=installed
fi
echo "brume-test: instance $(cat /run/instance-id), host $(hostname), key $key" >/dev/console
if insist user-data user-data && [ "$(head -c 2 /run/user-data)" = "#!" ]; then
    chmod 700 /run/user-data
    echo "brume-test: user data" >/dev/console
    /run/user-data >/dev/console 2>&1 </dev/null
fi
echo "brume-test: ready" >/dev/console
"""

SUDO = """#!/bin/sh
# Tests call it everywhere; root is all there is.
exec "$@"
"""

CURL = r"""#!/bin/sh
# What tests ask curl for, done by wget: is it there, fetch an address, POST data to it.
[ "$1" = -V ] && exec echo "curl, by wget"
data=
while [ $# -gt 1 ]; do
    case $1 in
    -X) shift ;;
    -d)
        data=$2
        shift
        ;;
    esac
    shift
done
exec wget -q -O - ${data:+--post-data="$data"} "$1"
"""

BLKID = r"""#!/bin/sh
# `blkid -L label` of util-linux for a configuration drive: busybox has none here. The name of an ISO 9660 volume stands
# at byte 32,808 (ECMA-119).
for disk in /dev/vd? /dev/sd? /dev/sr?; do
    label=$(dd if="$disk" bs=1 skip=32808 count=32 2>/dev/null | sed 's/ *$//')
    [ "$label" = "$2" ] && exec echo "$disk"
done
exit 2
"""

LSBLK = r"""#!/bin/sh
# The disks as `lsblk -lb --nodeps` of util-linux shows them; busybox has none.
row() { printf '%-6s %7s %2s %14s %2s %s\n' "$@"; }
row NAME MAJ:MIN RM SIZE RO TYPE
for disk in /sys/block/[sv]d?; do
    [ -e "$disk" ] || continue
    size=$(($(cat "$disk/size") * 512))
    row "${disk##*/}" "$(cat "$disk/dev")" "$(cat "$disk/removable")" "$size" "$(cat "$disk/ro")" disk
done
"""

INITTAB = """::sysinit:/etc/rc
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/sync
"""

POWER_BUTTON = """#!/bin/sh
echo "brume-test: power button" >/dev/console
sync
poweroff -f
"""


class ImageError(RuntimeError):
    """The image cannot be made or does not boot; the text names cause and remedy."""


@dataclass(frozen=True)
class Entry:
    """One entry of the initramfs: `mode` with its type bits; `content` is a link's target in a link."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str, mode: int = 0o755) -> Entry:
    """Return a directory."""
    return Entry(path, DIRECTORY | mode)


def plain(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """Return a file."""
    return Entry(path, 0o100000 | mode, content)


def link(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path, 0o120777, target.encode())


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return an initramfs archive (newc, see the kernel's early-userspace/buffer-format.rst); all is root's."""
    blocks = []
    trailer = Entry("TRAILER!!!", 0)
    for number, entry in enumerate([*entries, trailer], 1):
        name = entry.path.encode() + b"\0"
        links = 2 if entry.mode & 0o170000 == DIRECTORY else 1
        inode = 0 if entry is trailer else number
        fields = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % value for value in fields) + name
        blocks.append(header + bytes(-len(header) % 4) + entry.content + bytes(-len(entry.content) % 4))
    return b"".join(blocks)


def module_name(path: Path) -> str:
    """Return a module's name as modules name each other."""
    return path.name.split(".ko", maxsplit=1)[0].replace("-", "_")


def module_content(path: Path) -> bytes:
    """Return a module as the kernel's plain `init_module` takes it; Debian 13 compresses them."""
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def dependencies(module: bytes) -> list[str]:
    """Return what a module needs, from its own `depends=` (kernel: include/linux/module.h, .modinfo)."""
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []


def load_order(wanted: Iterable[str], modules: Mapping[str, bytes], builtin: Container[str]) -> list[str]:
    """Return modules with all they need, each after what it needs, without built-in ones; raises ImageError."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name in builtin:
            return
        if name not in modules:
            raise ImageError(f"the kernel module {name} is not in the package")
        for needed in dependencies(modules[name]):
            visit(needed)
        order.append(name)

    for name in wanted:
        visit(name)
    return order


def needed_libraries(content: bytes) -> list[str]:
    """Return the names of the shared libraries that a 64-bit ELF file asks for (its DT_NEEDED entries)."""
    (offset,), (size, count) = struct.unpack_from("<Q", content, 0x28), struct.unpack_from("<HH", content, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, offset + size * number) for number in range(count)]
    found = []
    for _name, kind, _flags, _address, start, length, link_number, *_rest in sections:
        if kind != SHT_DYNAMIC:
            continue
        strings = sections[link_number][4]
        for tag, value in struct.iter_unpack("<QQ", content[start : start + length]):
            if tag == DT_NEEDED:
                found.append(content[strings + value : content.index(b"\0", strings + value)].decode("ascii"))
    return found


def libraries(program: bytes, known: Mapping[str, Path]) -> dict[str, Path]:
    """Return the shared libraries that a program needs, and those that they need; raises ImageError for an unknown."""
    found: dict[str, Path] = {}
    todo = needed_libraries(program)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        if name not in known:
            raise ImageError(f"the library {name} is not in the packages")
        found[name] = known[name]
        todo += needed_libraries(known[name].read_bytes())
    return found


def partition_table(sectors: int, code: bytes) -> bytes:
    """Return a boot sector with one active FAT16 partition of so many sectors; `code` is the loader's 440 bytes."""
    chs = b"\xfe\xff\xff"  # beyond what cylinders, heads and sectors can say: use the sector numbers
    entry = b"\x80" + chs + bytes([FAT16_LBA]) + chs + struct.pack("<II", PARTITION_START, sectors)
    return code[:440].ljust(440, b"\0") + b"BRUM" + b"\0\0" + entry + bytes(48) + b"\x55\xaa"


def require(tools: Mapping[str, str], which: Callable[[str], str | None] = shutil.which) -> None:
    """Raise ImageError naming every missing program and the packages that have them."""
    missing = [name for name in sorted(tools) if which(name) is None]
    if missing:
        wanted = " ".join(sorted({tools[name] for name in missing}))
        raise ImageError(
            f"{', '.join(missing)} missing; `make venv` or `apt-get install {wanted}` installs what is needed"
        )


def run(command: Sequence[str], directory: Path | None = None) -> str:
    """Run a command and return its output; raises ImageError with its last lines."""
    # mtools refuses a size that is no multiple of a track; what apt says is read below, so it must not be translated
    variables = {**os.environ, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    try:
        result = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ImageError(f"{command[0]} is missing; `make venv` installs what the machine needs") from None
    if result.returncode:
        tail = "\n".join((result.stderr or result.stdout).splitlines()[-8:])
        raise ImageError(f"`{' '.join(command)}` ended with {result.returncode}:\n{tail}")
    return result.stdout


def packages() -> list[str]:
    """Return all packages whose files are needed, in this machine's versions; raises ImageError without sources."""
    kernels = re.findall(r"^\s*Depends: (linux-image-\S+)", run(["apt-cache", "depends", KERNEL]), re.MULTILINE)
    if not kernels:
        raise ImageError(f"{KERNEL}: not in this machine's package lists; run apt-get update (amd64 only)")
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    command = ["apt-cache", "depends", "--recurse", "--important", *(f"--no-{kind}" for kind in kinds), *PROGRAMS]
    needed = re.findall(r"^[a-z0-9][a-z0-9.+-]*$", run(command), re.MULTILINE)
    return sorted({KERNEL, kernels[0], *PROGRAMS, *LOADER, *needed})


def versions(text: str) -> dict[str, str]:
    """Return hashes by file name (which has the version) of what `apt-get --print-uris download` printed."""
    # addresses differ between mirrors, what they serve does not
    return dict(re.findall(r"(?m)^'[^']*' (\S+\.deb) \d+ (\S+)$", text))


def candidates(names: Iterable[str]) -> dict[str, str]:
    """Return the versions that apt would fetch now; reads its lists only. Raises ImageError."""
    with tempfile.TemporaryDirectory(prefix="brume-guest-") as name:  # apt leaves out files that lie there already
        return versions(run(["apt-get", "--quiet=2", "--print-uris", "download", *sorted(names)], Path(name)))


def file_digest(path: Path) -> str:
    """Return the digest of a file, empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def read_note(path: Path) -> dict[str, Any]:
    """Return what an image was made from, nothing where that is not known."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def usable(note: Mapping[str, Any], recipe: str, image: str) -> bool:
    """Tell whether the image of this digest is the one that this recipe made, be its packages the newest or not."""
    return bool(image) and (note.get("recipe"), note.get("image")) == (recipe, image)


def current(note: Mapping[str, Any], note_path: Path) -> bool:
    """Tell whether apt has nothing newer than a usable image; true where apt cannot be asked."""
    try:
        if APT_LISTS.stat().st_mtime < note_path.stat().st_mtime:  # asking apt takes half a second
            return True
        same = bool(candidates(note["names"]) == note["packages"])
        if same:
            note_path.touch()
        return same
    except (ImageError, OSError):
        return True


def download(names: Sequence[str], directory: Path) -> Path:
    """Fetch and unpack packages below a directory; returns where."""
    root = directory / "root"
    root.mkdir()
    try:
        run(["apt-get", "--quiet", "download", *names], directory)
    except ImageError:
        if os.geteuid():
            raise
        run(["apt-get", "--quiet", "update"])  # the lists may name versions that the archive no longer has
        run(["apt-get", "--quiet", "download", *names], directory)
    for path in sorted(directory.glob("*.deb")):
        run(["dpkg", "--extract", str(path), str(root)])
    return root


def one_file(root: Path, *patterns: str) -> Path:
    """Return the first file that matches; raises ImageError naming the patterns."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                return path
    raise ImageError(f"none of {', '.join(patterns)} is in the packages; has Debian renamed them?")


def initramfs(root: Path) -> list[Entry]:
    """Return everything that the guest has in memory."""
    files = {module_name(path): path for path in root.glob("**/lib/modules/**/*.ko*")}
    kept = re.compile(r"virtio|.*failover|button|evdev|ata_piix|libata|scsi_|sr_mod|cdrom|isofs")
    modules = {name: module_content(path) for name, path in files.items() if kept.match(name)}
    # Debian 13 has virtio_pci in the kernel itself
    builtin = one_file(root, "**/lib/modules/*/modules.builtin").read_text("ascii").splitlines()
    order = load_order(MODULES, modules, {module_name(Path(line)) for line in builtin})
    dropbear = one_file(root, "usr/sbin/dropbear").read_bytes()
    known = {path.name: path.resolve() for path in root.glob("**/x86_64-linux-gnu/*.so*") if path.is_file()}
    shared = libraries(dropbear, known)
    loader = one_file(root, "**/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    return [
        *(folder(name) for name in ("bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "etc/dropbear", "lib", "lib64")),
        *(
            folder(name)
            for name in ("modules", "proc", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "var", "var/log", "run")
        ),
        folder("mnt"),
        folder("tmp", 0o1777),
        folder("root", 0o700),
        folder("root/.ssh", 0o700),
        # the kernel opens it for init before anything is mounted
        Entry("dev/console", 0o020600, b"", (5, 1)),
        plain("bin/busybox", one_file(root, "bin/busybox", "usr/bin/busybox").read_bytes(), 0o755),
        *(link(f"bin/{name}", "busybox") for name in APPLETS),
        *(link(f"sbin/{name}", "../bin/busybox") for name in ("init", "poweroff", "reboot", "halt")),
        link("init", "bin/busybox"),
        plain("usr/sbin/dropbear", dropbear, 0o755),
        link("sbin/dropbear", "../usr/sbin/dropbear"),
        *(plain(f"lib/{name}", path.read_bytes(), 0o755) for name, path in sorted(shared.items())),
        plain("lib64/ld-linux-x86-64.so.2", loader.resolve().read_bytes(), 0o755),
        *(plain(f"modules/{name}.ko", modules[name]) for name in order),
        plain("modules/order", "".join(f"{name}.ko\n" for name in order).encode()),
        *(
            plain(f"usr/bin/{name}", script.encode(), 0o755)
            for name, script in (("blkid", BLKID), ("curl", CURL), ("lsblk", LSBLK), ("sudo", SUDO))
        ),
        plain("etc/inittab", INITTAB.encode()),
        plain("etc/rc", RC.encode(), 0o755),
        plain("etc/udhcpc", UDHCPC.encode(), 0o755),
        plain("etc/metadata", METADATA.encode(), 0o755),
        plain("etc/acpi/PWRF/00000080", POWER_BUTTON.encode(), 0o755),
        plain("etc/passwd", b"root:*:0:0:root:/root:/bin/sh\n"),
        plain("etc/group", b"root:x:0:\n"),
        plain("etc/hosts", b"127.0.0.1 localhost\n"),
        plain("etc/hostname", b"brume-test\n"),
    ]


def disk_image(root: Path, work: Path) -> Path:
    """Return a qcow2 disk of the guest, made from unpacked packages; raises ImageError."""
    initrd, configuration, disk = work / "initrd", work / "syslinux.cfg", work / "disk"
    initrd.write_bytes(gzip.compress(cpio(initramfs(root)), mtime=0))
    lines = (
        "DEFAULT brume",
        "PROMPT 0",
        "LABEL brume",
        "KERNEL vmlinuz",
        "INITRD initrd",
        f"APPEND {COMMAND_LINE}",
        "",
    )
    configuration.write_text("\n".join(lines), encoding="ascii")
    contents = {"vmlinuz": one_file(root, "boot/vmlinuz-*"), "initrd": initrd, "syslinux.cfg": configuration}
    sectors = (sum(path.stat().st_size for path in contents.values()) + SLACK) // SECTOR
    code = one_file(root, "usr/lib/syslinux/mbr/mbr.bin", "usr/lib/SYSLINUX/mbr.bin").read_bytes()
    start = str(PARTITION_START)
    with disk.open("wb") as handle:
        handle.write(partition_table(sectors, code))
        handle.truncate((PARTITION_START + sectors) * SECTOR)
    place = f"{disk}@@{PARTITION_START * SECTOR}"
    run(["mformat", "-i", place, "-v", "BRUME", "-T", str(sectors), "-h", "255", "-s", "63", "-H", start, "::"])
    for file, path in contents.items():
        run(["mcopy", "-i", place, str(path), f"::{file}"])
    run(["syslinux", "--install", "--offset", str(PARTITION_START * SECTOR), str(disk)])
    image = work / "image.qcow2"
    run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(disk), str(image)])
    return image


def build(target: Path = IMAGE) -> bool:
    """Make the image unless it is there, made from the same packages; tells whether it was made, raises ImageError."""
    note_path = target.with_suffix(".digest")
    note, recipe = read_note(note_path), file_digest(Path(__file__))
    old = usable(note, recipe, file_digest(target))
    if old and current(note, note_path):
        return False
    require(TOOLS)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".brume-guest-", dir=target.parent) as name:
            work = Path(name)
            names = packages()
            image = disk_image(download(names, work), work)
            note = {"recipe": recipe, "image": file_digest(image), "names": names, "packages": candidates(names)}
            image.replace(target)
    except ImageError as error:
        if not old:
            raise
        print(f"guest image: stays as it is, newer packages cannot be used: {error}", file=sys.stderr)
        return False
    note_path.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    return True


METADATA_SERVER = """import sys
answers = {key}
path = sys.stdin.readline().split()[1].removeprefix("/latest/")
while sys.stdin.readline().strip():
    pass
text = answers.get(path)
print("HTTP/1.0", "404 Not Found" if text is None else "200 OK", end="\\r\\n\\r\\n")
print(text or "", end="")
"""
"""A metadata service of one answer, which QEMU starts for each connection."""


def boot(image: Path, seconds: float = 60) -> None:
    """Boot the image under emulation and go through all that it does; prints its console, raises ImageError.

    QEMU's own network serves DHCP, in the metadata service's subnet, so that the guest reaches that address.
    """
    require({"qemu-system-x86_64": "qemu-system-x86", "ssh": "openssh-client", "ssh-keygen": "openssh-client"})
    with tempfile.TemporaryDirectory(prefix="brume-guest-") as name:
        work = Path(name)
        key, monitor, server = work / "key", work / "monitor", work / "metadata.py"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
        answers = {
            "meta-data/instance-id": "i-1",
            "meta-data/hostname": "guest.example.org",
            "meta-data/public-keys/0/openssh-key": key.with_suffix(".pub").read_text(encoding="ascii"),
            "user-data": "#!/bin/sh\necho user data of $(hostname)\n",
        }
        server.write_text(METADATA_SERVER.format(key=repr(answers)), encoding="ascii")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            *("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "192", "-display", "none", "-snapshot"),
            *("-drive", f"file={image},if=virtio", "-serial", "stdio", "-monitor", f"unix:{monitor},server,nowait"),
            "-nic",
            "user,model=virtio-net-pci,net=169.254.169.0/24,dhcpstart=169.254.169.15,"
            f"hostfwd=tcp:127.0.0.1:{port}-:22,guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {server}",
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        begin = time.monotonic()
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        text = ""
        try:
            for line in process.stdout or ():
                text += line
                print(f"{time.monotonic() - begin:6.1f} {line}", end="", flush=True)
                if "brume-test: ready" in line:
                    text += _log_in(key, port)
                    _press_power_button(monitor)
        finally:
            timer.cancel()
            process.kill()
            process.wait()
    for mark in (
        "brume-test: address 169.254.169.15",
        "key installed",
        "user data of guest",
        "logged in on guest as 0",
        "brume-test: power button",
    ):
        if mark not in text:
            raise ImageError(f"within {seconds:g} s the guest did not get as far as {mark!r}")
    if process.returncode:
        raise ImageError("the guest did not power off when its button was pressed")


def _log_in(key: Path, port: int) -> str:
    options = ("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oBatchMode=yes", "-oLogLevel=ERROR")
    command = "echo logged in on $(hostname) as $(id -u)"
    return run(["ssh", *options, "-i", str(key), "-p", str(port), "root@127.0.0.1", command])


def _press_power_button(monitor: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(monitor))
        for command in (b"", b"system_powerdown\n"):
            connection.sendall(command)
            answer = b""
            while b"(qemu) " not in answer:  # a monitor that is left before it has answered does nothing
                answer += connection.recv(4096)


def main(arguments: Sequence[str]) -> int:
    """Make the image, and boot it where asked to; returns the exit code."""
    parser = argparse.ArgumentParser(description="Makes the small image that instances boot in tests.")
    parser.add_argument("--boot", action="store_true", help="also boot it under emulation and show its console")
    parser.add_argument("--output", type=Path, default=IMAGE, help="the qcow2 file (default: .cache/brume-test.qcow2)")
    options = parser.parse_args(arguments)
    try:
        begin = time.monotonic()
        made = build(options.output)
        size = options.output.stat().st_size / (1 << 20)
        how = f"made in {time.monotonic() - begin:.1f} s" if made else "up to date"
        print(f"{options.output.name}: {size:.1f} MiB, {how}")
        if options.boot:
            boot(options.output)
    except (ImageError, OSError) as error:
        print(f"guest image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
