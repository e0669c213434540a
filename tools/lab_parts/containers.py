"""Hosts of a lab as system containers: podman on a root file system of their own, one bridge per network.

Every lab has podman's store, its runtime folder and (where needed) a mount namespace to itself, so that nothing of
the machine's own containers is touched, and whatever a killed run left can be removed without asking podman. Whether
a host runs is read from the kernel (a process that has its root file system as `/`), never from podman's records,
which outlive the processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import secrets
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.lab_parts.image import CACHE
from tools.lab_parts.layout import MANAGEMENT, Host, Lab, LabError, Network, digest
from tools.lab_parts.settings import Settings

DATA = Path("/var/lib/brume-lab")
RUNTIME = Path("/run/brume-lab")
PODMAN_TIMEOUT = 60
"""Seconds after which a podman command counts as stuck; whole creations take two."""

START_TIMEOUT = 60
"""Seconds until a host must answer on port 22; it takes two."""

CAP_SYS_RESOURCE = 24
"""Number of the capability to raise limits (linux/capability.h)."""

OPEN_FILES = 524288
"""Hard limit of open files as systemd sets it on bare metal (systemd-system.conf(5))."""

PODMAN_TASKS = 32768
"""Limit of processes that podman gives itself."""

KEPT = (("uv", "root/.cache/uv"), ("apt", "var/cache/apt/archives"), ("apt-lists", "var/lib/apt/lists"))
"""Folders in `.cache/` and on hosts: what was downloaded once is there when the next host starts."""

SHARED = "/etc/systemd/system/lab-shared-mounts.service"
SHARED_TEXT = """[Unit]
Description=Mounts are seen by services that have a mount namespace of their own, as on bare metal
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/mount --make-rshared /
"""
"""systemd makes mounts shared (mount_namespaces(7)) at its start, but not in a container."""

SKIPPED = frozenset({"lock", "partial", ".lock"})


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    timeout: float | None = PODMAN_TIMEOUT,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return its output; raises LabError with its last lines."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=environment and dict(environment)
        )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is missing; `make venv` installs what the machine needs") from None
    except subprocess.TimeoutExpired:
        if not check:
            return ""
        raise LabError(f"`{' '.join(command)}` did not end within {timeout:g} s") from None
    if check and result.returncode:
        tail = "\n".join((result.stderr or result.stdout).splitlines()[-10:])
        raise LabError(f"`{' '.join(command)}` ended with {result.returncode}:\n{tail}")
    return result.stdout


def data(lab: str) -> Path:
    """Return the folder with a lab's root file systems and podman's store."""
    return DATA / lab


def runtime(lab: str) -> Path:
    """Return the folder of what lives no longer than the machine is up."""
    return RUNTIME / lab


def root_of(lab: str, host: str) -> Path:
    """Return a host's root file system."""
    return data(lab) / "hosts" / host / "root"


def needs_namespace() -> bool:
    """Tell whether cgroups are version 1 or hybrid here, which crun refuses for a container with systemd."""
    return run(["stat", "-f", "-c", "%T", "/sys/fs/cgroup"]).strip() != "cgroup2fs"


def mounts_below(place: Path) -> list[str]:
    """Return the mount points at or below a folder, deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), line.split()[4])
        if point == str(place) or point.startswith(f"{place}/"):
            found.append(point)
    return sorted(found, key=len, reverse=True)


def _namespace(lab: str) -> Path:
    return runtime(lab) / "mount" / "namespace"


def enter(lab: str) -> list[str]:
    """Return the command prefix that enters the lab's mount namespace, where it has one."""
    place = _namespace(lab)
    return ["nsenter", f"--mount={place}", "--wd=/"] if str(place) in mounts_below(place) else []


def podman(lab: str, *words: str, check: bool = True, timeout: float = PODMAN_TIMEOUT) -> str:
    """Run podman on the lab's own store."""
    environment = {
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "CONTAINERS_CONF": str(data(lab) / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(data(lab) / "storage.conf"),
    }
    return run([*enter(lab), "podman", *words], check=check, timeout=timeout, environment=environment)


def podman_files(lab: str) -> dict[str, str]:
    """Return podman's configuration files for a lab: name -> text (containers.conf(5), containers-storage.conf(5))."""
    store, live = data(lab) / "podman", runtime(lab)
    return {
        "containers.conf": f"""[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "crun"
static_dir = "{store}/libpod"
tmp_dir = "{live}/libpod"
volume_path = "{store}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{store}/networks"
""",
        "storage.conf": f"""[storage]
driver = "vfs"
graphroot = "{store}/storage"
runroot = "{live}/storage"
""",
    }


def processes(root: Path) -> list[int]:
    """Return the processes that have a folder as their `/`, the container's init first."""
    try:
        wanted = root.stat()
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                seen = (entry / "root/").stat()
                if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append(int(entry.name))
    return sorted(found)


def is_init(status: str) -> bool:
    """Tell from `/proc/<pid>/status` whether a process is number 1 of a PID namespace right below this one."""
    inner = re.search(r"^NSpid:\s*(.*)$", status, re.MULTILINE)
    return bool(inner) and inner[1].split()[1:] == ["1"]  # type: ignore[index]


def container_init(root: Path) -> int | None:
    """Return the process that is number 1 inside a host, or None when the host does not run."""
    for number in processes(root):
        with contextlib.suppress(OSError):
            if is_init(Path(f"/proc/{number}/status").read_text(encoding="utf-8")):
                return number
    return None


def limits() -> list[str]:
    """Return podman's options for resource limits: what bare metal has, or the most that may be set here."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    effective = int(re.search(r"^CapEff:\s*(\w+)", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    files, tasks = resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_NPROC)[1]
    # podman lowers its own limit to this before it starts anything
    tasks = min(tasks, PODMAN_TASKS) if tasks != resource.RLIM_INFINITY else PODMAN_TASKS
    if effective >> CAP_SYS_RESOURCE & 1:
        return [f"--ulimit=nofile={OPEN_FILES}:{OPEN_FILES}", "--ulimit=nproc=-1:-1"]
    return [f"--ulimit=nofile={files}:{files}", f"--ulimit=nproc={tasks}:{tasks}"]


def network_name(lab: str, network: str, run_id: str) -> str:
    """Return podman's name of a network, which no other lab has and no earlier run of this one had.

    netavark names its firewall chains after it, and would flush another lab's with its own. podman keeps the
    addresses given away by it, in one place for all its stores, where a killed run's would stay taken.
    """
    return f"{lab}-{network}-{run_id}"


def network_command(lab: str, network: Network, run_id: str) -> list[str]:
    """Return podman's command that makes a network."""
    return [
        "network",
        "create",
        "--disable-dns",
        *(["--ipv6"] if network.cidr.version == 6 else []),  # noqa: PLR2004
        f"--subnet={network.cidr.cidr}",
        f"--gateway={network.gateway}",
        *([f"--opt=mtu={network.mtu}"] if network.mtu else []),
        network_name(lab, network.name, run_id),
    ]


def container_command(lab: str, host: Host, ulimits: Sequence[str], run_id: str) -> list[str]:
    """Return podman's command that starts a host."""
    networks = [
        f"--network={network_name(lab, port.network, run_id)}:interface_name={port.interface}"
        + (f",ip={port.address}" if port.address else "")
        for port in host.ports
    ]
    return [
        "run",
        "--detach",
        f"--name={host.name}",
        f"--hostname={host.name}",
        "--privileged",
        "--systemd=always",
        *ulimits,
        "--pids-limit=0",
        # as on bare metal the host owns these files: podman's own would be mounts that cannot be replaced
        "--no-hosts",
        "--dns=none",
        *([f"--cpus={host.cpus}"] if host.cpus else []),
        *([f"--memory={host.memory}"] if host.memory else []),
        *networks,
        "--rootfs",
        str(root_of(lab, host.name)),
        "/sbin/init",
    ]


def link_commands(host: Host, prefix: Sequence[str]) -> list[list[str]]:
    """Return what must follow podman's wiring: ports without an address lose podman's, one default route stays."""
    commands = []
    for port in host.ports:
        if port.address is None:
            commands.append([*prefix, "ip", "address", "flush", "dev", port.interface, "scope", "global"])
        elif port.network != MANAGEMENT:
            version = "-6" if port.address.version == 6 else "-4"  # noqa: PLR2004
            commands.append([*prefix, "ip", version, "route", "flush", "default", "dev", port.interface])
    return commands


def specification(host: Host, networks: Sequence[Network]) -> str:
    """Return a digest of what cannot change while a host lives."""
    used = {port.network for port in host.ports}
    wires = [[one.name, one.interface, str(one.cidr), str(one.gateway)] for one in networks if one.name in used]
    ports = [[port.network, port.interface, str(port.address)] for port in host.ports]
    return digest(host.name, ports, host.suite, wires)


def mirror(source: Path, target: Path) -> int:
    """Give `target` every file of `source` that it lacks, by hard links where both are in one file system.

    uv links files from its cache into environments, which fails across mounts: so its cache is no mount of the
    host but files in the host's own tree. All files concerned are replaced when they change, never written into.
    """
    if not source.is_dir():
        return 0
    count = 0
    linked = True
    for folder, names, files in os.walk(source):
        names[:] = [name for name in names if name not in SKIPPED]
        here = target / Path(folder).relative_to(source)
        if not here.is_dir():
            here.mkdir(parents=True)
            shutil.copystat(folder, here)
            owner = os.stat(folder)
            os.chown(here, owner.st_uid, owner.st_gid)
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for name in (*links, *(name for name in files if name not in SKIPPED)):
            old, new = os.path.join(folder, name), os.path.join(here, name)
            if os.path.lexists(new):
                continue
            if linked:
                try:
                    os.link(old, new, follow_symlinks=False)
                except OSError:
                    linked = False
            if not linked:
                shutil.copy2(old, new, follow_symlinks=False)
            count += 1
    # apt and Brume judge the age of package lists by the folder
    shutil.copystat(source, target)
    return count


def _cache_folder(name: str, suite: str) -> Path:
    """Return a cache; uv's is one for all suites, because it tells interpreters apart itself."""
    return CACHE / (name if name == "uv" else f"{name}-{suite}")


def keep_caches(lab: Lab) -> None:
    """Keep what hosts have downloaded."""
    for host in lab.hosts:
        for name, place in KEPT:
            mirror(root_of(lab.name, host.name) / place, _cache_folder(name, host.suite))


def _resolvers() -> str:
    """Return the machine's name servers as hosts can reach them; a resolver on loopback is of this machine only."""
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        with contextlib.suppress(OSError):
            text = Path(path).read_text(encoding="utf-8")
            if re.search(r"^nameserver (?!127\.|::1)", text, re.MULTILINE):
                return text
    return ""


def prepare_root(lab: str, host: Host, archive: Path, settings: Settings, public_key: str) -> None:
    """Unpack a host's root file system and write what makes it this host; complete once `specification` lies there."""
    root = root_of(lab, host.name)
    remove_tree(root.parent)
    root.mkdir(parents=True)
    run(["tar", "--extract", f"--file={archive}", f"--directory={root}", "--numeric-owner", "--xattrs"], timeout=300)
    files: dict[str, tuple[str, int]] = {path: (text, 0o644) for path, text in settings.files}
    files |= {path: (text, 0o644 if path == "/etc/environment" else 0o600) for path, text in settings.private_files}
    files |= {
        "/etc/hostname": (f"{host.name}\n", 0o644),
        "/etc/hosts": (f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{host.address} {host.name}\n", 0o644),
        "/etc/resolv.conf": (_resolvers(), 0o644),
        "/root/.ssh/authorized_keys": (public_key, 0o600),
    }
    if host.disks:
        files[SHARED] = (SHARED_TEXT, 0o644)
    for path, (text, mode) in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)
    if host.disks:
        wants = root / "etc/systemd/system/sysinit.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / Path(SHARED).name).symlink_to(SHARED)
    (root / "root/.ssh").chmod(0o700)
    key = root / "etc/ssh/ssh_host_ed25519_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key)])
    for name, place in KEPT:
        mirror(_cache_folder(name, host.suite), root / place)


def host_key(lab: str, host: str) -> str:
    """Return a host's public SSH key (`ssh-ed25519 AAAA...`)."""
    text = (root_of(lab, host) / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="ascii")
    return " ".join(text.split()[:2])


def remove_tree(path: Path) -> None:
    """Remove a folder, but nothing that is mounted below it."""
    if path.exists():
        run(["rm", "-rf", "--one-file-system", str(path)], timeout=300)


@contextlib.contextmanager
def exclusive(lab: str) -> Iterator[None]:
    """Hold the lab for one command; the kernel releases it however the command ends."""
    import fcntl  # noqa: PLC0415  # only Linux has it, and only this needs it

    RUNTIME.mkdir(mode=0o700, exist_ok=True)
    with (RUNTIME / f"{lab}.lock").open("w", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"lab {lab}: another command is at work on it; wait until it has ended") from None
        yield


def claim(lab: str, directory: Path) -> None:
    """Note which checkout a lab belongs to; raises LabError where another's lab of that name is running."""
    note = data(lab) / "checkout"
    if note.exists():
        other = Path(note.read_text(encoding="utf-8"))
        running = any(container_init(root) for root in (data(lab) / "hosts").glob("*/root"))
        if other != directory and other.exists() and running:
            raise LabError(f"lab {lab}: hosts of this name run for {other}; `make destroy` there first")
        if other != directory:
            dismantle(lab)
    DATA.mkdir(mode=0o700, exist_ok=True)
    data(lab).mkdir(mode=0o700, exist_ok=True)
    note.write_text(str(directory), encoding="utf-8")


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def run_id(lab: str) -> str:
    """Return what tells this run of a lab's hosts from earlier ones, which may have been killed."""
    return (runtime(lab) / "run").read_text(encoding="ascii")


def _start_runtime(lab: str) -> None:
    """Make podman's configuration and, where needed, the mount namespace in which it works."""
    for name, text in podman_files(lab).items():
        (data(lab) / name).write_text(text, encoding="utf-8")
    runtime(lab).mkdir(mode=0o700, parents=True, exist_ok=True)
    (runtime(lab) / "boot").write_text(_boot(), encoding="ascii")
    if not (runtime(lab) / "run").exists():
        (runtime(lab) / "run").write_text(secrets.token_hex(3), encoding="ascii")
    if needs_namespace() and not enter(lab):
        place = _namespace(lab)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        if str(place.parent) not in mounts_below(place.parent):
            run(["mount", "--bind", str(place.parent), str(place.parent)])
        # a namespace can only be kept below a mount that passes nothing on
        run(["mount", "--make-private", str(place.parent)])
        place.touch()
        script = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        run(["unshare", f"--mount={place}", "--propagation", "private", "sh", "-c", script])


def start(lab: Lab, archives: Mapping[str, Path], settings: Mapping[str, Settings], public_key: str) -> list[str]:
    """Bring all hosts up; returns the names of those that were started, raises LabError.

    A running host stays as it is. A host whose processes are gone (the machine was restarted, a run was killed)
    starts again on its own files.
    """
    wanted = {host.name: specification(host, lab.networks) for host in lab.hosts}
    _remove_others(lab.name, wanted)
    inits = {host: container_init(root_of(lab.name, host.name)) for host in lab.hosts}
    for host, number in inits.items():
        if number is not None:
            _plug_disks(lab.name, host, number)
    missing = [host for host, number in inits.items() if number is None]
    if not missing:
        return []
    if len(missing) == len(lab.hosts):
        stop_runtime(lab.name)
    _start_runtime(lab.name)
    with ThreadPoolExecutor() as pool:
        fresh = [host for host in missing if not (root_of(lab.name, host.name).parent / "specification").exists()]
        jobs = [
            pool.submit(prepare_root, lab.name, host, archives[host.name], settings[host.name], public_key)
            for host in fresh
        ]
        for job in jobs:
            job.result()
    for host in fresh:
        note = root_of(lab.name, host.name).parent / "specification"
        note.write_text(wanted[host.name], encoding="ascii")
    _start_networks(lab)
    for host in missing:
        podman(lab.name, "rm", "--force", "--time=0", host.name, check=False)
        podman(lab.name, *container_command(lab.name, host, limits(), run_id(lab.name)))
        sandbox = podman(lab.name, "inspect", "--format={{.NetworkSettings.SandboxKey}}", host.name).strip()
        with (data(lab.name) / "sandboxes").open("a", encoding="utf-8") as notes:
            notes.write(f"{sandbox}\n")
        number = container_init(root_of(lab.name, host.name))
        if number is None:
            raise LabError(
                f"{host.name}: its init ended at once: {podman(lab.name, 'logs', host.name, check=False)[-500:]}"
            )
        for command in link_commands(host, ["nsenter", f"--target={number}", "--net"]):
            run(command)
        _plug_disks(lab.name, host, number)
    for host in missing:
        _await_ssh(host)
    return [host.name for host in missing]


def _remove_others(lab: str, wanted: Mapping[str, str]) -> None:
    """Remove hosts that are not as the inventory has them. Raises LabError where one runs."""
    state = data(lab) / "hosts"
    for folder in state.iterdir() if state.is_dir() else ():
        note = folder / "specification"
        running = container_init(folder / "root")
        if folder.name not in wanted and running:
            raise LabError(f"{folder.name}: runs, but is no longer in the inventory; `make destroy` first")
        if note.exists() and note.read_text(encoding="ascii") != wanted.get(folder.name):
            if running:
                raise LabError(
                    f"{folder.name}: its networks or suite differ from the inventory's; `make destroy` first"
                )
            remove_tree(folder)


def disk_files(lab: str, host: str) -> Path:
    """Return the folder with the files behind a host's disks, which outlive its container."""
    return data(lab) / "disks" / host


def _plug_disks(lab: str, host: Host, init: int) -> None:
    """Give a running host its disks: loop devices under names of their own in its /dev."""
    for name, size in host.disks:
        file = disk_files(lab, host.name) / name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as handle:
                handle.truncate(size)
        device = (_loops(file) or [run(["losetup", "--find", "--show", str(file)]).strip()])[0]
        node = Path(f"/proc/{init}/root/dev/{name}")
        if node.exists() and node.stat().st_rdev == os.stat(device).st_rdev:
            continue
        node.unlink(missing_ok=True)
        os.mknod(node, stat.S_IFBLK | 0o660, os.stat(device).st_rdev)


def _loops(file: Path) -> list[str]:
    """Return the loop devices of a file."""
    found = run(["losetup", "--list", "--noheadings", "--output=NAME", f"--associated={file}"])
    return found.split()


def _unplug_disks(lab: str) -> None:
    """Give loop devices back to the machine; the files stay."""
    for file in (data(lab) / "disks").glob("*/*"):
        for device in _loops(file):
            run(["losetup", "--detach", device], check=False)


def _start_networks(lab: Lab) -> None:
    known = {one["name"]: one for one in json.loads(podman(lab.name, "network", "ls", "--format=json") or "[]")}
    for network in lab.networks:
        if network_name(lab.name, network.name, run_id(lab.name)) not in known:
            podman(lab.name, *network_command(lab.name, network, run_id(lab.name)))
    notes = [[str(network.cidr.cidr), str(network.gateway)] for network in lab.networks]
    (data(lab.name) / "networks.json").write_text(json.dumps(notes), encoding="utf-8")


def _await_ssh(host: Host) -> None:
    end = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with socket.create_connection((host.address, 22), timeout=2) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError as error:
            if time.monotonic() > end:
                raise LabError(f"{host.name}: {host.address} port 22 does not answer: {error}") from None
        time.sleep(0.05)


def _usable(lab: str) -> bool:
    """Tell whether podman's records are of this boot and of the namespace that is still there."""
    boot = runtime(lab) / "boot"
    known = boot.exists() and (data(lab) / "containers.conf").exists() and boot.read_text(encoding="ascii") == _boot()
    return known and (bool(enter(lab)) or not needs_namespace())


def stop_runtime(lab: str) -> None:
    """End whatever of a lab is alive and remove everything that lives no longer than it, by podman or without."""
    if _usable(lab):
        podman(lab, "rm", "--all", "--force", "--time=0", check=False)
        podman(lab, "network", "prune", "--force", check=False)
    _kill(lab)
    _unplug_disks(lab)
    _remove_links(lab)
    for place in (runtime(lab), data(lab)):
        for point in mounts_below(place):
            run(["umount", "--lazy", point], check=False)
    note = data(lab) / "sandboxes"
    for path in note.read_text(encoding="utf-8").splitlines() if note.exists() else ():
        run(["umount", "--lazy", path], check=False)
        Path(path).unlink(missing_ok=True)
    note.unlink(missing_ok=True)
    remove_tree(runtime(lab))
    remove_tree(data(lab) / "podman")


def _kill(lab: str) -> None:
    """Kill every process of the lab's hosts, and the monitors that watched them."""

    def numbers() -> list[int]:
        inside = [number for root in (data(lab) / "hosts").glob("*/root") for number in processes(root)]
        return inside + _monitors(lab)

    end = time.monotonic() + PODMAN_TIMEOUT
    while found := numbers():
        for number in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        if time.monotonic() > end:
            raise LabError(f"lab {lab}: processes {found} cannot be ended")
        time.sleep(0.05)


def _monitors(lab: str) -> list[int]:
    mark = f"{data(lab)}/podman/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if Path(words[0].decode(errors="replace")).name == "conmon" and any(mark in word for word in words):
                    found.append(int(entry.name))
    return found


def _remove_links(lab: str) -> None:
    """Remove bridges and packet filter rules that podman did not."""
    note = data(lab) / "networks.json"
    for cidr, gateway in json.loads(note.read_text(encoding="utf-8")) if note.exists() else ():
        links = json.loads(run(["ip", "-json", "address", "show", "type", "bridge"]) or "[]")
        for link in links:
            if any(one.get("local") == gateway for one in link.get("addr_info", [])):
                run(["ip", "link", "delete", link["ifname"]], check=False)
        _remove_rules(cidr)


def _remove_rules(cidr: str) -> None:
    """Remove netavark's rules for a network, whichever of the two tools it used."""
    tool = "ip6tables" if ":" in cidr else "iptables"
    for table in ("nat", "filter") if shutil.which(tool) else ():
        for command in stale_rules(run([tool, "-t", table, "-S"], check=False), cidr):
            run([tool, "-t", table, *command], check=False)
    if shutil.which("nft"):
        for command in stale_nft_rules(
            run(["nft", "--handle", "list", "table", "inet", "netavark"], check=False), cidr
        ):
            run(["nft", *command], check=False)


def stale_rules(listing: str, cidr: str) -> list[list[str]]:
    """Return the arguments to iptables that remove a network's rules, and chains to which no other rule leads."""
    rules = [shlex.split(line) for line in listing.splitlines() if line.startswith("-A ")]
    mine = [words for words in rules if cidr in words and words[1] in ("POSTROUTING", "NETAVARK_FORWARD")]
    chains = {word for words in mine for word in words if re.fullmatch(r"NETAVARK-[0-9A-F]+", word)}
    shared = {word for words in rules if words not in mine for word in words[2:]}
    commands = [["-D", *words[1:]] for words in mine]
    for chain in sorted(chains - shared):
        commands += [["-F", chain], ["-X", chain]]
    return commands


def stale_nft_rules(listing: str, cidr: str) -> list[list[str]]:
    """Return the arguments to nft that remove a network's rules, and chains to which no other rule leads."""
    chain, commands = "", []
    mine: set[str] = set()
    shared: set[str] = set()
    for line in listing.splitlines():
        begin = re.match(r"\s*chain (\S+) \{", line)
        chain = begin[1] if begin else chain
        handle, target = re.search(r"# handle (\d+)", line), re.search(r"jump (nv_\S+)", line)
        if begin or not handle:
            continue
        ours = cidr in line.split() and not chain.startswith("nv_")
        if target:
            (mine if ours else shared).add(target[1])
        if ours:
            commands.append(["delete", "rule", "inet", "netavark", chain, "handle", handle[1]])
    for name in sorted(mine - shared):
        commands += [["flush", "chain", "inet", "netavark", name], ["delete", "chain", "inet", "netavark", name]]
    return commands


def dismantle(lab: str) -> None:
    """Remove every trace of a lab from this machine, whatever state it is in."""
    stop_runtime(lab)
    remove_tree(data(lab))
    for folder in (DATA, RUNTIME):
        with contextlib.suppress(OSError):
            folder.rmdir()
