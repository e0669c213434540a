#!/usr/bin/env python3
"""Makes and removes labs: one system container per host of an inventory, reached over SSH as bare metal is.

`.lab/<inventory>/` receives the SSH key, the hosts' own keys, the addresses (`hosts.json`, which the inventory plugin
`brume.cloud.lab` reads) and the cloud's master key. Needs root; asks sudo for it where it has to.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from tools.lab_parts import containers, image  # noqa: E402
from tools.lab_parts import settings as handed_down  # noqa: E402
from tools.lab_parts.layout import Lab, LabError, inventory_name, read, state_directory  # noqa: E402

DEFAULT_INVENTORY = "inventories/aio"
MASTER_KEY_BYTES = 32


def as_root(arguments: Sequence[str]) -> None:
    """Start this command again under sudo, with the caller's package and proxy settings, unless it is root's."""
    if os.geteuid() == 0:
        return
    if shutil.which("sudo") is None:
        raise LabError("a lab needs root: run as root, or install sudo")
    kept = [name for name in os.environ if name.startswith(("PIP_", "UV_", "SSL_CERT_", "ANSIBLE_"))]
    kept += [name for name in os.environ if name.lower() in handed_down.PROXIES]
    os.execvp(  # noqa: S606  # this process becomes sudo
        "sudo", ["sudo", f"--preserve-env={','.join(kept)}", sys.executable, str(Path(__file__).resolve()), *arguments]
    )


def give_to_caller(path: Path) -> None:
    """Hand files made under sudo over to who called."""
    if os.environ.get("SUDO_UID"):
        owner, group = int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1"))
        for one in (path.parent, path, *path.rglob("*")):
            os.chown(one, owner, group, follow_symlinks=False)


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, at no moment."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)


def gathered(lab: Lab) -> dict[str, handed_down.Settings]:
    """Return what each host is given by this machine."""
    addresses = [str(port.address) for host in lab.hosts for port in host.ports if port.address]
    addresses += dict.fromkeys(name for host in lab.hosts for name in host.direct)
    by_suite = {suite: handed_down.gather(suite, addresses, os.environ) for suite in {host.suite for host in lab.hosts}}
    return {host.name: by_suite[host.suite] for host in lab.hosts}


def make_images(lab: Lab) -> dict[str, Path]:
    """Make the images that the hosts need; returns host -> tar file."""
    settings = gathered(lab)
    return {host.name: image.build(host.suite, host.packages, settings[host.name], os.environ) for host in lab.hosts}


def create(inventory: Path) -> None:
    """Bring up every host of an inventory, and write how to reach them."""
    begin = time.monotonic()
    lab = read(inventory)
    directory = state_directory(lab.name)
    with containers.exclusive(lab.name):
        containers.claim(lab.name, directory)
        archives = make_images(lab)
        made = time.monotonic()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = directory / "ssh_key"
        if not key.exists() or not key.with_suffix(".pub").exists():
            key.unlink(missing_ok=True)
            containers.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {lab.name}", "-f", str(key)])
        master_key = directory / "master_key"
        if not master_key.exists():
            write_private(master_key, base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode() + "\n")
        started = containers.start(lab, archives, gathered(lab), key.with_suffix(".pub").read_text(encoding="ascii"))
        record(lab, directory, started)
        give_to_caller(directory)
    seconds = time.monotonic() - made
    for host in lab.hosts:
        print(f"{host.name:<20} {host.address:<16} {'started' if host.name in started else 'running'}")
    print(
        f"lab {lab.name}: {len(started)} of {len(lab.hosts)} hosts started in {seconds:.1f} s"
        f" (image: {made - begin:.1f} s); {directory.relative_to(ROOT)} has keys and addresses"
    )


def record(lab: Lab, directory: Path, started: Sequence[str]) -> None:
    """Write addresses and host keys. `incarnation` tells SSH's kept connections to a host's predecessor apart."""
    path = directory / "hosts.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    hosts = {
        host.name: {
            "address": host.address,
            "incarnation": secrets.token_hex(4)
            if host.name in started
            else known.get(host.name, {}).get("incarnation", secrets.token_hex(4)),
        }
        for host in lab.hosts
    }
    path.write_text(json.dumps(hosts, indent=1) + "\n", encoding="utf-8")
    keys = [f"{host.address},{host.name} {containers.host_key(lab.name, host.name)}\n" for host in lab.hosts]
    (directory / "known_hosts").write_text("".join(keys), encoding="ascii")


def destroy(inventory: Path) -> None:
    """Remove every trace of a lab; what it has downloaded stays in `.cache/`."""
    name = inventory_name(inventory)
    with containers.exclusive(name):
        note = containers.data(name) / "checkout"
        owner = note.read_text(encoding="utf-8") if note.exists() else ""
        if owner not in ("", str(state_directory(name))):
            print(f"lab {name}: was made by another checkout, for {owner}; it is removed all the same")
        try:
            containers.keep_caches(read(inventory))
        except LabError as error:
            print(f"nothing is kept in .cache/: {error}", file=sys.stderr)
        containers.dismantle(name)
        directory = state_directory(name)
        if directory.exists():
            shutil.rmtree(directory)
        if directory.parent.is_dir() and not any(directory.parent.iterdir()):
            directory.parent.rmdir()
    (containers.RUNTIME / f"{name}.lock").unlink(missing_ok=True)
    for folder in (containers.DATA, containers.RUNTIME):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    print(f"lab {name}: removed")


def status() -> None:
    """Print every lab of this machine."""
    for folder in sorted(containers.DATA.glob("*")) if containers.DATA.is_dir() else ():
        note = folder / "checkout"
        checkout = note.read_text(encoding="utf-8") if note.exists() else "?"
        for host in sorted((folder / "hosts").glob("*")):
            number = containers.container_init(host / "root")
            state = f"running, pid {number}" if number else "not running"
            print(f"{folder.name:<16} {host.name:<20} {state:<20} {checkout}")


def ssh(inventory: Path, host: str, command: Sequence[str]) -> None:
    """Log in on a host; does not return."""
    directory = state_directory(inventory_name(inventory))
    path = directory / "hosts.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if host not in known:
        raise LabError(f"{host}: no such host in {path}; `tools/lab.py create {inventory}` makes it")
    options = [f"-oUserKnownHostsFile={directory}/known_hosts", "-oGlobalKnownHostsFile=/dev/null"]
    os.execvp(  # noqa: S606  # this process becomes ssh
        "ssh", ["ssh", *options, "-i", str(directory / "ssh_key"), f"root@{known[host]['address']}", *command])


def clean() -> None:
    """Remove what labs left to speed up the next one."""
    if any(containers.DATA.glob("*/hosts/*")):
        raise LabError("there are labs on this machine (`tools/lab.py status`); destroy them first")
    containers.remove_tree(image.CACHE)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("image", "make the root file systems that the inventory's hosts start from"),
        ("create", "bring up every host of the inventory; running ones stay as they are"),
        ("destroy", "remove every trace of the lab"),
        ("keep", "keep what the hosts have downloaded in .cache/, for the next lab"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("inventory", nargs="?", type=Path, default=Path(DEFAULT_INVENTORY))
    commands.add_parser("status", help="show the labs of this machine")
    commands.add_parser("clean", help="remove images and downloads")
    guest = commands.add_parser("guest-image", help="make the small image for instances")
    guest.add_argument("--boot", action="store_true", help="also boot it under emulation and show its console")
    login = commands.add_parser("ssh", help="log in on a host, or run a command there")
    login.add_argument("-i", "--inventory", type=Path, default=Path(DEFAULT_INVENTORY))
    login.add_argument("host")
    login.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        if options.command == "ssh":
            ssh(options.inventory, options.host, options.words)
        if options.command == "guest-image":
            command_line = [sys.executable, str(ROOT / "tools/guest_image.py"), *(["--boot"] if options.boot else [])]
            return subprocess.run(command_line, check=False).returncode
        as_root(arguments)
        if options.command == "image":
            for path in sorted(set(make_images(read(options.inventory)).values())):
                print(path.relative_to(ROOT))
            give_to_caller(image.CACHE)
        elif options.command == "create":
            create(options.inventory)
        elif options.command == "destroy":
            destroy(options.inventory)
        elif options.command == "keep":
            containers.keep_caches(read(options.inventory))
        elif options.command == "clean":
            clean()
        else:
            status()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
