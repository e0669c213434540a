#!/usr/bin/env python3
"""Makes the schemas of services from their locks: `roles/<service>/files/schemas/<release>.json`.

A schema has the options that a service of a release knows, its programs and WSGI applications, and the checks of its
status command. Each lock is installed into an environment that is thrown away afterwards; `tools/service_options.py`
asks it. A schema names the digest of the lock it was made from, so that a test can tell when one was forgotten.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.brume.cloud.plugins.module_utils.locks import (  # noqa: E402
    LockError,
    lock_digest,
    parse_lock,
)
from ansible_collections.brume.cloud.plugins.module_utils.uv_environments import (  # noqa: E402
    BuildError,
    host_variables,
)

from tools.locks import SOURCE_ONLY, UV, ToolError, described  # noqa: E402


def installable(lock: str, file: str) -> str:
    """Return a lock without the packages that need a compiler; no option is defined in them. Raises LockError."""
    lines = []
    for one in parse_lock(lock, file):
        if one.name not in SOURCE_ONLY:
            marker = f" ; {one.marker}" if one.marker else ""
            lines.append(
                " ".join([f"{one.name}=={one.version}{marker}", *(f"--hash={digest}" for digest in one.hashes)])
            )
    return "\n".join(lines) + "\n"


def run(command: Sequence[str], variables: Mapping[str, str], service: str) -> str:
    """Return what a command prints. Raises ToolError with its errors."""
    done = subprocess.run(
        list(command), env=dict(variables), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ToolError(f"{service}: {' '.join(command[:3])} exits with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def install(environment: str, service: str, lock: str, file: str, python: str, variables: Mapping[str, str]) -> None:
    """Build an environment from a lock, without what needs a compiler. Raises ToolError, LockError."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = f"{folder}/lock.txt"
        Path(requirements).write_text(installable(lock, file), "utf-8")
        run(
            [str(UV), "venv", "--quiet", "--no-project", "--clear", "--python", python, environment], variables, service
        )
        run(
            [
                str(UV), "pip", "install", "--quiet", "--system-certs", "--python", f"{environment}/bin/python",
                "--require-hashes", "--no-deps", "--requirements", requirements,
            ],
            variables,
            service,
        )  # fmt: skip


def options_of(
    service: str, release: str, lock: str, file: str, python: str, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Return what `tools/service_options.py` says of an environment made from a lock. Raises ToolError, LockError."""
    with tempfile.TemporaryDirectory() as folder:
        environment = f"{folder}/environment"
        install(environment, service, lock, file, python, variables)
        package = described(service, release)["packages"][0]
        asked = [f"{environment}/bin/python", "-I", str(ROOT / "tools/service_options.py"), package]
        result: dict[str, Any] = json.loads(run(asked, variables, service))
        return result


def dumped(release: str, digest: str, found: Mapping[str, Any]) -> str:
    """Return a schema's JSON with one option a line, sorted, so that a difference between releases can be read."""
    lists = "".join(
        f' "{key}": [\n' + ",\n".join(f"  {json.dumps(one)}" for one in found[key]) + "\n ],\n"
        for key in ("programs", "applications", "checks")
    )
    sections = []
    for section, options in sorted(found["options"].items(), key=lambda item: (item[0] != "DEFAULT", item[0])):
        lines = [f"   {json.dumps(name)}: {json.dumps(schema)}" for name, schema in sorted(options.items())]
        sections.append(f"  {json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n  }")
    return (
        f'{{\n "release": {json.dumps(release)},\n "lock": {json.dumps(digest)},\n'
        f' "named_sections": {json.dumps(found["named_sections"])},\n{lists}'
        ' "options": {\n' + ",\n".join(sections) + "\n }\n}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Make the schemas; return 0, or 1 after printing every error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", help="OpenStack release, such as 2026.1")
    parser.add_argument("service", nargs="*", help="services; all that have a lock of the release when none is named")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environments")
    options = parser.parse_intermixed_args(argv)
    release = options.release
    names = options.service or sorted(
        path.parts[-4]
        for path in ROOT.glob(f"roles/*/files/locks/{release}.txt")
        if (path.parents[2] / "meta/service.yml").exists()  # other environments render no files of services
    )
    try:
        variables = {**os.environ, **host_variables(os.environ)}
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1

    def made(service: str) -> str | Exception:
        file = f"roles/{service}/files/locks/{release}.txt"
        try:
            lock = (ROOT / file).read_text("utf-8")
            return dumped(
                release, lock_digest(lock), options_of(service, release, lock, file, options.python, variables)
            )
        except FileNotFoundError:
            return ToolError(f"{file}: is missing; make it with tools/locks.py")
        except (ToolError, LockError) as error:
            return error

    failed = False
    with ThreadPoolExecutor() as pool:
        for service, text in zip(names, pool.map(made, names), strict=True):
            if isinstance(text, Exception):
                print(text, file=sys.stderr)
                failed = True
                continue
            path = ROOT / f"roles/{service}/files/schemas/{release}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            sections = json.loads(text)["options"]
            print(f"{service} {release}: {len(sections)} sections, {sum(map(len, sections.values()))} options")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
