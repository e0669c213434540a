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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
IMAGE = CACHE / "brume-test.qcow2"

KERNEL = "linux-image-cloud-amd64"
"""A package without files that depends on the newest kernel for virtual machines."""

PROGRAMS = ("busybox-static", "dropbear-bin")
LOADER = ("syslinux", "syslinux-common")
MODULES = ("virtio_pci", "virtio_net", "virtio_blk", "virtio_rng", "button", "evdev")
"""Kernel modules by name; what they depend on is read from them, and goes first (virtio_ring before virtio)."""

SECTOR = 512
PARTITION_START = 2048
"""First sector of the partition, where partitioning tools put it."""

FAT16_LBA = 0x0E
SLACK = 2 << 20
"""Free bytes of the partition beyond its files, for the file system's own structures."""

COMMAND_LINE = "console=tty0 console=ttyS0,115200 loglevel=4 panic=10 no_timer_check net.ifnames=0"
APPLETS = (
    "acpid awk cat chmod cp cut date df dmesg echo env false free grep halt head hostname id ifconfig init insmod ip kill "
    "ls mkdir mktemp mount mv nc nslookup ping poweroff printf ps pwd readlink reboot rm route sed seq setsid sh sleep "
    "sort stty sync tail tar tee test timeout top touch tr traceroute true udhcpc umount uname uptime vi wc wget xargs"
).split()
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
fetch() { timeout 20 wget -q -O - "$url/$1" 2>/dev/null; }
tries=0
until id=$(fetch meta-data/instance-id) && [ -n "$id" ]; do
    tries=$((tries + 1))
    if [ $tries -ge 60 ]; then
        echo "brume-test: no metadata" >/dev/console
        exit 1
    fi
    sleep 1
done
name=$(fetch meta-data/hostname)
[ -n "$name" ] && hostname "${name%%.*}"
key=$(fetch meta-data/public-keys/0/openssh-key)
if [ -n "$key" ]; then
    echo "$key" >/root/.ssh/authorized_keys.new
    mv /root/.ssh/authorized_keys.new /root/.ssh/authorized_keys
fi
echo "brume-test: instance $id, host $(hostname), key ${key:+installed}" >/dev/console
if fetch user-data >/run/user-data && [ -s /run/user-data ]; then
    if [ "$(head -c 2 /run/user-data)" = "#!" ]; then
        chmod 700 /run/user-data
        /run/user-data >/dev/console 2>&1 </dev/null
    else
        echo "brume-test: user data" >/dev/console
        cat /run/user-data >/dev/console
    fi
fi
echo "brume-test: ready" >/dev/console
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
    return Entry(path, 0o040000 | mode)


def plain(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """Return a file."""
    return Entry(path, 0o100000 | mode, content)


def link(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path, 0o120777, target.encode())


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return an initramfs archive (newc, see the kernel's early-userspace/buffer-format.rst); all is root's, dated 0."""
    blocks = []
    trailer = Entry("TRAILER!!!", 0)
    for number, entry in enumerate([*entries, trailer], 1):
        name = entry.path.encode() + b"\0"
        links = 2 if entry.mode & 0o170000 == 0o040000 else 1
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


def load_order(wanted: Iterable[str], modules: dict[str, bytes]) -> list[str]:
    """Return modules with all they need, each after what it needs; names of built-in ones are left out."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name not in modules:
            return
        for needed in dependencies(modules[name]):
            visit(needed)
        order.append(name)

    for name in wanted:
        visit(name)
    return order


def libraries(program: bytes, known: dict[str, Path]) -> dict[str, Path]:
    """Return the shared libraries that a program names, and those that they name, out of the known ones."""
    found: dict[str, Path] = {}
    todo = [program]
    while todo:
        for name in {match.decode() for match in re.findall(rb"lib[\w.+-]+\.so[.\d]*(?=\0)", todo.pop())}:
            if name in known and name not in found:
                found[name] = known[name]
                todo.append(known[name].read_bytes())
    return found


def partition_table(sectors: int, code: bytes) -> bytes:
    """Return a boot sector with one active FAT16 partition of so many sectors; `code` is the loader's 440 bytes."""
    chs = b"\xfe\xff\xff"  # beyond what cylinders, heads and sectors can say: use the sector numbers
    entry = b"\x80" + chs + bytes([FAT16_LBA]) + chs + struct.pack("<II", PARTITION_START, sectors)
    return code[:440].ljust(440, b"\0") + b"BRUM" + b"\0\0" + entry + bytes(48) + b"\x55\xaa"


def run(command: Sequence[str], directory: Path | None = None) -> str:
    """Run a command and return its output; raises ImageError with its last lines."""
    try:
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
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
    options = ("--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces")
    needed = re.findall(r"^(z?lib[\w.+-]+)$", run(["apt-cache", "depends", *options, "--no-enhances", *PROGRAMS]), re.MULTILINE)
    return sorted({kernels[0], *PROGRAMS, *LOADER, *needed})


def digest(names: Sequence[str]) -> str:
    """Return a digest of the packages' versions and of this file."""
    text = run(["apt-get", "--print-uris", "download", *names]) + Path(__file__).read_text(encoding="utf-8")
    # addresses differ between mirrors, what they serve does not
    return hashlib.sha256(re.sub(r"(?m)^'[^']*' ", "", text).encode()).hexdigest()


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
    modules = {name: module_content(path) for name, path in files.items() if re.match(r"virtio|.*failover|button|evdev", name)}
    order = load_order(MODULES, modules)
    missing = set(MODULES) - set(order)
    if missing - {"button", "evdev", "virtio_rng"}:
        raise ImageError(f"kernel modules {', '.join(sorted(missing))} are not in the package")
    dropbear = one_file(root, "usr/sbin/dropbear").read_bytes()
    known = {path.name: path.resolve() for path in root.glob("**/x86_64-linux-gnu/lib*.so*") if path.is_file()}
    shared = libraries(dropbear, known)
    loader = one_file(root, "**/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    return [
        *(folder(name) for name in ("bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "etc/dropbear", "lib", "lib64")),
        *(folder(name) for name in ("modules", "proc", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "var", "var/log", "run")),
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


def build(target: Path = IMAGE) -> bool:
    """Make the image unless it is there, made from the same packages; tells whether it was made, raises ImageError."""
    names = packages()
    wanted = digest(names)
    note = target.with_suffix(".digest")
    if target.exists() and note.exists() and note.read_text(encoding="ascii") == wanted:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="brume-guest-") as name:
        work = Path(name)
        root = download(names, work)
        initrd, configuration, disk = work / "initrd", work / "syslinux.cfg", work / "disk"
        initrd.write_bytes(gzip.compress(cpio(initramfs(root)), mtime=0))
        configuration.write_text(
            f"DEFAULT brume\nPROMPT 0\nLABEL brume\nKERNEL vmlinuz\nINITRD initrd\nAPPEND {COMMAND_LINE}\n", encoding="ascii"
        )
        kernel = one_file(root, "boot/vmlinuz-*")
        contents = {"vmlinuz": kernel, "initrd": initrd, "syslinux.cfg": configuration}
        sectors = (sum(path.stat().st_size for path in contents.values()) + SLACK) // SECTOR
        with disk.open("wb") as handle:
            handle.write(partition_table(sectors, one_file(root, "usr/lib/syslinux/mbr/mbr.bin", "usr/lib/SYSLINUX/mbr.bin").read_bytes()))
            handle.truncate((PARTITION_START + sectors) * SECTOR)
        place = f"{disk}@@{PARTITION_START * SECTOR}"
        run(["mformat", "-i", place, "-v", "BRUME", "-T", str(sectors), "-h", "255", "-s", "63", "-H", str(PARTITION_START), "::"])
        for file, path in contents.items():
            run(["mcopy", "-i", place, str(path), f"::{file}"])
        run(["syslinux", "--install", "--offset", str(PARTITION_START * SECTOR), str(disk)])
        unfinished = work / "image.qcow2"
        run(["qemu-img", "convert", "-c", "-O", "qcow2", str(disk), str(unfinished)])
        shutil.move(unfinished, target)
    note.write_text(wanted, encoding="ascii")
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
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
            )
        except FileNotFoundError:
            raise ImageError("qemu-system-x86_64 is missing; install qemu-system-x86 to boot the image here") from None
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
    return run(["ssh", *options, "-i", str(key), "-p", str(port), "root@127.0.0.1", "echo logged in on $(hostname) as $(id -u)"])


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
    options = parser.parse_args(arguments)
    try:
        begin = time.monotonic()
        made = build()
        size = IMAGE.stat().st_size / (1 << 20)
        print(f"{IMAGE.relative_to(ROOT)}: {size:.1f} MiB, {f'made in {time.monotonic() - begin:.1f} s' if made else 'up to date'}")
        if options.boot:
            boot(IMAGE)
    except ImageError as error:
        print(f"guest image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
