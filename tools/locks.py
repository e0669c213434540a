#!/usr/bin/env python3
"""Makes the hash locks of services: `roles/<service>/files/locks/<release>.txt`.

What a service needs stands in `python.packages` of its `meta/service.yml`, the service's own package first; a role
that is no service but has an environment says the same in `meta/python.yml`. Which major version of that package
belongs to a release stands in `files/locks/series.yml` beside the locks: upper constraints do not list the services,
and the newest wheel of a service often resolves with an older release's list.
An existing lock is the starting point, so that making it again changes nothing that need not change.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".collections"))

import yaml  # noqa: E402
from ansible_collections.brume.cloud.plugins.module_utils.locks import (  # noqa: E402
    LockError,
    lock_digest,
    normalized,
    parse_lock,
)
from ansible_collections.brume.cloud.plugins.module_utils.releases import of_release  # noqa: E402
from ansible_collections.brume.cloud.plugins.module_utils.uv_environments import (  # noqa: E402
    BuildError,
    host_variables,
)

DESCRIPTIONS = ("service.yml", "python.yml")
"""Files of a role's `meta` that may say its packages: a service's description, or that of an environment alone."""

UV = Path(sys.executable).with_name("uv")
OLDEST_PYTHON = "3.11"
"""The lowest Python that a lock serves; markers in it cover the newer ones."""
DOWNLOAD_TIMEOUT = 60
"""Seconds that the constraints' server may stay silent."""

SOURCE_ONLY: dict[str, tuple[str, ...]] = {"libvirt-python": ()}
"""Packages without wheels and what they require: resolving would need their build, thus libvirt's headers."""


class ToolError(RuntimeError):
    """A lock cannot be made; the text names file or service and the remedy."""


@dataclass(frozen=True)
class Wanted:
    """What a lock is made from; the first requirement is the service's own package, bounded to the release."""

    service: str
    release: str
    requirements: tuple[str, ...]
    pinned: tuple[str, ...] = ()
    """Packages with versions that the description gives them, whatever upper constraints say."""

    @property
    def path(self) -> Path:
        """Return the lock's file."""
        return ROOT / f"roles/{self.service}/files/locks/{self.release}.txt"


def requirements(packages: list[str], series: dict[str, Any], release: str, file: str) -> tuple[str, ...]:
    """Return a service's requirements for a release. `file` is where the series stand, for the error.

    Raises ToolError when the series does not say how the versions of the release begin: a number, or a text such as
    `2.37` of a service that counts by its second one.
    """
    begin = series.get(release)
    if not re.fullmatch(r"\d+(\.\d+)*", str(begin)) or isinstance(begin, float):
        raise ToolError(
            f'{file}: says no version for {release}; add `"{release}": <number>` '
            f"(releases.openstack.org/{release} lists the versions of {packages[0]})"
        )
    *first, last = str(begin).split(".")
    return (f"{packages[0]}>={begin},<{'.'.join([*first, str(int(last) + 1)])}", *packages[1:])


def described(service: str, release: str) -> dict[str, Any]:
    """Return what a role says for a release about Python: `packages`, its own first, `pinned`. Raises ToolError."""
    places = [ROOT / f"roles/{service}/meta/{name}" for name in DESCRIPTIONS]
    description = next((path for path in places if path.exists()), None)
    if description is None:
        raise ToolError(f"{places[0].relative_to(ROOT)}: is missing; describe the service first")
    data = of_release(yaml.safe_load(description.read_text("utf-8")) or {}, release) or {}
    return dict(data.get("python") or {})


def wanted(service: str, release: str) -> Wanted | None:
    """Return what a service's lock is made from, None for a role without Python packages. Raises ToolError."""
    python = described(service, release)
    packages = list(python.get("packages") or [])
    if not packages:
        return None
    pinned = python.get("pinned") or {}
    file = ROOT / f"roles/{service}/files/locks/series.yml"
    series = yaml.safe_load(file.read_text("utf-8")) if file.exists() else {}
    found = requirements(packages, series, release, str(file.relative_to(ROOT)))
    versions = tuple(f"{name}=={pinned[name]}" if name in pinned else name for name in found)
    return Wanted(service, release, versions, tuple(pinned))


def read_constraints(source: str) -> str:
    """Return the text of upper constraints from a path or an HTTP address. Raises ToolError."""
    try:
        if re.match(r"https?://", source):
            with urllib.request.urlopen(source, timeout=DOWNLOAD_TIMEOUT) as answer:  # noqa: S310  # scheme is checked
                return str(answer.read().decode())
        return Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError, urllib.error.URLError) as error:
        raise ToolError(f"--constraints: {source}: {error}; name a readable file or address") from None


def without(constraints: str, package: str) -> str:
    """Return constraints without the lines on one package: a list that pins the service itself pins an older one."""
    name = normalized(package)
    kept = []
    for line in constraints.splitlines():
        match = re.match(r"[A-Za-z0-9._-]+", line)
        if match is None or normalized(match[0]) != name:
            kept.append(line)
    return "\n".join(kept) + "\n"


def header(item: Wanted, constraints: str) -> str:
    """Return the comment that begins a lock."""
    digest = hashlib.sha256(constraints.encode()).hexdigest()
    return (
        f"# {item.service}, OpenStack {item.release}, Python {OLDEST_PYTHON} and newer. Made by tools/locks.py from\n"
        f"# {' '.join(item.requirements)}\n"
        f"# and the release's upper constraints, SHA-256 {digest}.\n"
    )


def compile_lock(item: Wanted, constraints: str, variables: dict[str, str], upgrade: bool) -> str:
    """Return a lock's text, checked. Raises ToolError with what uv says."""
    own = re.split(r"[<>=!~\[; ]", item.requirements[0], maxsplit=1)[0]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        left = constraints
        for name in (own, *item.pinned):
            left = without(left, name)
        (place / "constraints.txt").write_text(left, "utf-8")
        (place / "requirements.in").write_text("\n".join(item.requirements) + "\n", "utf-8")
        known = ", ".join(
            f'{{name = "{name}", requires-dist = {list(required)}}}' for name, required in SOURCE_ONLY.items()
        )
        (place / "uv.toml").write_text(f"dependency-metadata = [{known}]\n", "utf-8")
        output = place / "lock.txt"
        if item.path.exists() and not upgrade:
            output.write_text(item.path.read_text("utf-8"), "utf-8")
        done = subprocess.run(
            [
                str(UV), "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON,
                "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
                "--system-certs", "--constraints", "constraints.txt", "--output-file", "lock.txt", "requirements.in",
            ],
            cwd=place, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ToolError(f"{item.service} {item.release}: does not resolve:\n{done.stderr.strip()}")
        text = header(item, constraints) + output.read_text("utf-8")
    try:
        parse_lock(text, str(item.path.relative_to(ROOT)))
    except LockError as error:
        raise ToolError(str(error)) from None
    return text


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", help="OpenStack release, such as 2026.1")
    parser.add_argument("service", nargs="*", help="services; all that have Python packages when none is named")
    parser.add_argument("--constraints", required=True, help="path or HTTP address of the release's upper constraints")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions allowed, not the old lock's")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Make the locks; return 0, or 1 after printing every error."""
    options = arguments(argv)
    roles = {path.parent.parent.name for name in DESCRIPTIONS for path in ROOT.glob(f"roles/*/meta/{name}")}
    names = options.service or sorted(roles)
    try:
        constraints = read_constraints(options.constraints)
        variables = {**os.environ, **host_variables(os.environ)}
        items = [found for found in (wanted(name, options.release) for name in names) if found]
    except (ToolError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1

    def made(item: Wanted) -> str | ToolError:
        try:
            return compile_lock(item, constraints, variables, options.upgrade)
        except ToolError as error:
            return error

    failed = False
    with ThreadPoolExecutor() as pool:
        for item, text in zip(items, pool.map(made, items), strict=True):
            if isinstance(text, ToolError):
                print(text, file=sys.stderr)
                failed = True
                continue
            changed = not item.path.exists() or item.path.read_text("utf-8") != text
            if changed:
                item.path.parent.mkdir(parents=True, exist_ok=True)
                item.path.write_text(text, "utf-8")
            count = len(parse_lock(text, item.service))
            print(f"{item.service} {item.release}: {count} packages, {lock_digest(text)}{'' if changed else ', same'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
