"""The root file system that hosts of a lab start from: a bare Debian server, made once and kept in `.cache/`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.lab_parts.layout import ROOT, LabError, digest
from tools.lab_parts.settings import Settings

CACHE = ROOT / ".cache"
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tzdata",
)
"""What every Debian server has; nothing that a playbook is to bring."""

RECIPE = 2
"""Raised when the commands below change, so that images of an older recipe are made anew."""

TRUST = "/usr/local/share/ca-certificates"


def archive_path(suite: str, packages: Sequence[str], settings: Settings) -> Path:
    """Return where the image of a suite lies, by everything that goes into it."""
    parts = (RECIPE, suite, sorted({*PACKAGES, *packages}), settings.files, settings.certificates)
    return CACHE / f"lab-{suite}-{digest(*parts)}.tar"


def build(suite: str, packages: Sequence[str], settings: Settings, environment: Mapping[str, str]) -> Path:
    """Make the image unless it is there (17 s on two cores); returns the tar file, raises LabError."""
    target = archive_path(suite, packages, settings)
    if target.exists():
        return target
    if shutil.which("mmdebstrap") is None:
        raise LabError("mmdebstrap is missing; `make venv` installs what the machine needs")
    CACHE.mkdir(exist_ok=True)
    files = dict(settings.files)
    with tempfile.TemporaryDirectory(prefix="brume-lab-") as name:
        work = Path(name)
        work.chmod(0o755)  # apt's own user reads the sources
        sources, options = work / "debian.sources", work / "apt.conf"
        sources.write_text(files["/etc/apt/sources.list.d/debian.sources"], encoding="utf-8")
        options.write_text(files.get("/etc/apt/apt.conf.d/90handed-down", ""), encoding="utf-8")
        certificates = []
        for number, text in enumerate(settings.certificates):
            path = work / f"handed-down-{number}.crt"
            path.write_text(text, encoding="ascii")
            certificates.append(path)
        unfinished = target.with_suffix(".unfinished.tar")
        command = [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            f"--include={','.join(sorted({*PACKAGES, *packages}))}",
            f"--aptopt={options}",
            *((f"--customize-hook=copy-in {' '.join(map(str, certificates))} {TRUST}",) if certificates else ()),
            '--customize-hook=chroot "$1" update-ca-certificates >/dev/null',
            # every host has its own: an image's machine-id would give all hosts the same MAC addresses
            '--customize-hook=: >"$1/etc/machine-id"',
            '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf',
            '--customize-hook=rm -f "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap',
            suite,
            str(unfinished),
            str(sources),
        ]
        result = subprocess.run(command, capture_output=True, text=True, env=dict(environment), check=False)
        if result.returncode:
            unfinished.unlink(missing_ok=True)
            tail = "\n".join(result.stderr.splitlines()[-15:])
            raise LabError(f"image of {suite}: mmdebstrap ended with {result.returncode}:\n{tail}")
        for old in CACHE.glob(f"lab-{suite}-*.tar"):
            if old != unfinished:
                old.unlink()
        unfinished.rename(target)
    return target
