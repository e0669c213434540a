"""Virtual environments that `uv` builds from hash locks, and the settings of the host's package index for it.

An environment is complete when its marker is there, which is written last; without it the directory is built anew.
It is built in its final place, because the scripts of an environment hold its path.
"""

from __future__ import annotations

import configparser
import glob
import json
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write, read_marker, write_marker
from ansible_collections.brume.cloud.plugins.module_utils.locks import lock_digest

MARKER = ".brume-environment.json"
LOCK = "requirements.lock"
OUTPUT_LINES = 20
"""Last lines of uv's output that an error shows."""


class BuildError(RuntimeError):
    """An environment cannot be built; the text names it and the next step."""


@dataclass(frozen=True)
class Environment:
    """An environment as it is planned."""

    name: str
    path: str
    lock: str
    python: str
    current: str = ""
    modules: tuple[str, ...] = ()
    """Modules of the operating system's Python that it sees."""

    @property
    def digest(self) -> str:
        """Return the digest of the lock's text."""
        return lock_digest(self.lock)


@dataclass(frozen=True)
class Plan:
    """What one environment needs."""

    environment: Environment
    build: bool
    link: bool
    old_target: str = ""
    again: str = ""
    """Why one that is there is built anew."""
    modules: tuple[str, ...] = ()
    """Modules of the operating system that it does not see yet, or has no use for any more."""

    @property
    def actions(self) -> list[str]:
        """Return what a person is told; the same in check mode and in a run."""
        item = self.environment
        again = f" again, because {self.again}" if self.again else ""
        lines = [f"build environment {item.path}{again}"] if self.build else []
        if self.link:
            was = f" (was {self.old_target})" if self.old_target else ""
            lines.append(f"link {item.current} -> {item.path}{was}")
        shown = ", ".join(item.modules) or "none"
        return lines + ([f"let {item.path} see the system's modules: {shown}"] if self.modules else [])


def decide(
    environment: Environment,
    marker: Mapping[str, Any],
    exists: bool,
    link_target: str,
    seen: Collection[str] = (),
) -> Plan:
    """Return what an environment needs. `python` in the marker is the resolved path of the interpreter.

    `seen` are the system's modules that it sees.

    Raises BuildError when the path holds a complete environment of another lock: services may be running from it.
    """
    python = os.path.realpath(environment.python)
    complete = bool(marker) and marker.get("python") == python
    if complete and marker.get("digest") != environment.digest:
        raise BuildError(
            f"{environment.name}: {environment.path} was built from another lock; the lock's digest belongs in the path"
        )
    return Plan(
        environment,
        build=not complete,
        link=bool(environment.current) and link_target != environment.path,
        old_target=link_target,
        again=_reason(marker, python) if exists and not complete else "",
        modules=tuple(sorted(set(environment.modules) ^ set(seen if complete else ()))),
    )


def _reason(marker: Mapping[str, Any], python: str) -> str:
    former = os.path.basename(str(marker.get("python", "")))
    if not former:
        return "an earlier build was not finished"
    return f"it was built for {former}, and the host's interpreter is {os.path.basename(python)}"


def link_target(path: str) -> str:
    """Return where a link points to, an empty text when there is none. Raises BuildError for anything else."""
    if not path or not os.path.lexists(path):
        return ""
    if not os.path.islink(path):
        raise BuildError(f"{path}: is not a link; move it away, then run again")
    return os.readlink(path)


def parse_environment_file(text: str) -> dict[str, str]:
    """Return the variables of `/etc/environment`: KEY=VALUE lines, quotes removed (pam_env(8))."""
    variables = {}
    for line in text.splitlines():
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not key.startswith("#"):
            variables[key.strip()] = value.strip().strip("\"'")
    return variables


def uv_variables(pip_conf: str, environment_file: str, uv_toml: str, process: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables with which uv uses the index, proxy and trust that the host is set up for.

    uv reads `/etc/uv/uv.toml` itself, but neither pip's configuration nor, under sudo or SSH without PAM,
    `/etc/environment`. Lowest first: `pip.conf` ([global], then [install]), PIP_* variables, UV_* variables. Where
    `uv.toml` names an index, pip's is left out, because variables would outweigh that file
    (docs.astral.sh/uv: Configuration files; pip.pypa.io: Configuration).
    """
    given = {**parse_environment_file(environment_file), **process}
    pip: dict[str, str] = {}
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(pip_conf)
    for section in ("global", "install"):
        if parser.has_section(section):
            pip.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    pip.update({key[4:].lower().replace("_", "-"): value for key, value in given.items() if key.startswith("PIP_")})
    settings = tomllib.loads(uv_toml)
    names_index = {"index", "index-url", "extra-index-url", "find-links", "no-index"}
    own_index = bool(names_index & {*settings, *settings.get("pip", {})})
    result = {}
    words = {key: value.split() for key, value in pip.items()}
    if not own_index:
        if words.get("index-url"):
            result["UV_DEFAULT_INDEX"] = words["index-url"][0]
        if words.get("extra-index-url"):
            result["UV_INDEX"] = " ".join(words["extra-index-url"])
        if words.get("find-links"):
            result["UV_FIND_LINKS"] = ",".join(words["find-links"])
        if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
            result["UV_NO_INDEX"] = "1"
    if words.get("trusted-host"):
        result["UV_INSECURE_HOST"] = " ".join(words["trusted-host"])
    if pip.get("cert"):
        result["SSL_CERT_FILE"] = pip["cert"]
    if pip.get("proxy"):
        result["ALL_PROXY"] = pip["proxy"]
    passed = ("UV_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    result.update({key: value for key, value in given.items() if key.upper().startswith(passed)})
    return result


def host_variables(process: Mapping[str, str]) -> dict[str, str]:
    """Return `uv_variables` of this host. Raises BuildError when one of the files cannot be parsed."""
    texts = []
    for path in ("/etc/pip.conf", "/etc/environment", "/etc/uv/uv.toml"):
        try:
            with open(path, encoding="utf-8") as stream:
                texts.append(stream.read())
        except FileNotFoundError:
            texts.append("")
    try:
        return uv_variables(texts[0], texts[1], texts[2], process)
    except (configparser.Error, tomllib.TOMLDecodeError) as error:
        raise BuildError(f"settings of the package index: {error}") from None


def build(plan: Plan, uv: str, variables: Mapping[str, str], options: Sequence[str], umask: int = 0o022) -> None:
    """Build one environment; its marker is not written yet. Raises BuildError with the end of uv's output."""
    item = plan.environment
    if os.path.lexists(item.path):
        shutil.rmtree(item.path)
    os.makedirs(os.path.dirname(item.path), exist_ok=True)
    lock = os.path.join(item.path, LOCK)
    venv = [uv, "venv", "--no-project", "--no-progress", "--python", item.python, item.path]
    install = [uv, "pip", "install", "--python", f"{item.path}/bin/python", "--require-hashes", "--no-deps"]
    _uv(item, venv, variables, umask)
    atomic_write(lock, item.lock, mode=0o644)
    _uv(item, [*install, "--no-progress", "--system-certs", *options, "-r", lock], variables, umask)


def _uv(item: Environment, command: Sequence[str], variables: Mapping[str, str], umask: int) -> None:
    base = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
    try:
        done = subprocess.run(
            list(command),
            env={**base, **variables, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            errors="replace",
            umask=umask,
            pass_fds=host_lock.inherited(),
        )
    except OSError as error:
        raise BuildError(f"{item.name}: {command[0]}: {error}; the host phase puts uv there") from None
    if done.returncode:
        tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-OUTPUT_LINES:])
        raise BuildError(
            f"{item.name}: `{' '.join(command[1:3])}` for {item.path} exits with {done.returncode}:\n{tail}\n"
            f"  next: {advice(done.stdout)}"
        )


def advice(output: str) -> str:
    """Return the next step for what uv complains about."""
    text = output.lower()
    rules = (
        (("certificate", "tls", "ssl"), "put the index's CA into the host's trust store (`update-ca-certificates`)"),
        (
            ("gcc", "pkg-config", "python.h", "failed to build", "build backend"),
            "a package is built from its source: gcc, python3-dev and its headers must be on the host",
        ),
        (("no python", "interpreter"), "install the interpreter that the plan names (python3 and python3-venv)"),
        (("hash",), "the index serves another file than the lock names; correct the mirror or make a new lock"),
        (("no space left",), "free space below /opt and in uv's cache"),
        (
            ("dns", "connect", "timed out", "network", "failed to fetch", "not found in the package registry"),
            "check the host's index, proxy and wheelhouse settings (/etc/uv/uv.toml, /etc/pip.conf, /etc/environment)",
        ),
    )
    for words, text_of_rule in rules:
        if any(word in text for word in words):
            return text_of_rule + "; then run again: what is built stays"
    return "correct the cause and run again: what is built stays"


SYSTEM_MODULES = ("/usr/lib/python3/dist-packages", "/usr/local/lib/python3/dist-packages")
"""Where Debian's packages put modules (Debian Python Policy, module path)."""


def _site_packages(path: str) -> str:
    """Return the folder of an environment's own modules, nothing while there is none."""
    found = sorted(glob.glob(f"{glob.escape(path)}/lib/python3*/site-packages"))
    return found[-1] if found else ""


def seen_modules(path: str) -> list[str]:
    """Return the system's modules that an environment sees: links that lead to them."""
    site = _site_packages(path)
    links = [one.path for one in os.scandir(site) if one.is_symlink()] if site else []
    return sorted({_module_name(one) for one in links if os.path.dirname(os.readlink(one)) in SYSTEM_MODULES})


def _module_name(path: str) -> str:
    return os.path.basename(path).partition(".")[0]


def link_modules(item: Environment) -> None:
    """Let an environment see the modules of the operating system that it names, and no others.

    Bindings such as those of librbd are built for the system's interpreter and are on no index; an environment that saw
    all of the system's modules would lose the versions of its lock. Raises BuildError for a module that is not there.
    """
    site = _site_packages(item.path)
    wanted: dict[str, str] = {}
    for name in item.modules:
        found = [
            path
            for folder in SYSTEM_MODULES
            for pattern in (f"{name}.*", name)
            for path in sorted(glob.glob(f"{folder}/{pattern}"))
            if not path.endswith((".dist-info", ".egg-info"))
        ]
        if not found:
            raise BuildError(
                f"{item.name}: the system's Python has no module {name}; install the package that the description names"
            )
        wanted |= {f"{site}/{os.path.basename(path)}": path for path in found}
    for entry in list(os.scandir(site)):
        if entry.is_symlink() and os.path.dirname(os.readlink(entry.path)) in SYSTEM_MODULES:
            if wanted.get(entry.path) == os.readlink(entry.path):
                del wanted[entry.path]
            else:
                os.unlink(entry.path)
    for place, path in wanted.items():
        os.symlink(path, place)


COMPILE = r"""
import importlib.util, json, multiprocessing, os, py_compile, sys

def one(group):
    leader, others = group
    try:
        compiled = py_compile.compile(leader, doraise=True, quiet=2)
        for other in others:
            place = importlib.util.cache_from_source(other)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.link(compiled, place)
    except (OSError, py_compile.PyCompileError, UnicodeError, ValueError):
        pass  # a template, or a module for another Python version: it fails when somebody imports it, not before

os.umask(0o022)
with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
    for done in pool.imap_unordered(one, json.load(sys.stdin).items(), chunksize=32):
        pass
"""
"""Compiles the first file of each group and links the result to the others; runs in the environment's interpreter."""


def sources(path: str) -> list[str]:
    """Return the Python files of an environment that services may import: without the packages' own tests."""
    found = []
    for folder, names, files in os.walk(path):
        names[:] = [name for name in names if name not in ("tests", "test", "__pycache__", "bin")]
        found += [os.path.join(folder, name) for name in files if name.endswith(".py")]
    return found


def share_out(paths: Iterable[str], identity: Callable[[str], Any] | None = None) -> dict[str, list[str]]:
    """Return, for the first path of each file, the other paths of the same file.

    uv links a package's files from its cache into every environment, so that one file serves them all; its bytecode
    (which holds the source's time and size, and takes over the path at import) may serve them all too.
    """

    def inode(path: str) -> tuple[int, int]:
        status = os.stat(path)
        return status.st_dev, status.st_ino

    key = identity or inode
    first: dict[Any, str] = {}
    groups: dict[str, list[str]] = {}
    for path in paths:
        leader = first.setdefault(key(path), path)
        others = groups.setdefault(leader, [])
        if leader != path:
            others.append(path)
    return groups


def compile_all(built: Sequence[Environment]) -> None:
    """Write the bytecode of environments that were just built, each file once per interpreter.

    Services cannot write it, since they do not own their environment: without it every process would compile what it
    imports at every start. Raises BuildError when the interpreter cannot be run.
    """
    for python in sorted({os.path.realpath(item.python) for item in built}):
        items = [item for item in built if os.path.realpath(item.python) == python]
        groups = share_out(path for item in items for path in sources(item.path))
        done = subprocess.run(
            [f"{items[0].path}/bin/python", "-I", "-c", COMPILE],
            input=json.dumps(groups),
            text=True,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
        )
        if done.returncode:
            raise BuildError(f"bytecode of {items[0].path}: {''.join(done.stderr.splitlines()[-1:])}")


def finish(item: Environment, seconds: float) -> None:
    """Write the marker that makes an environment complete."""
    write_marker(
        os.path.join(item.path, MARKER),
        {
            "name": item.name,
            "digest": item.digest,
            "python": os.path.realpath(item.python),
            "seconds": round(seconds, 1),
            "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )


def marker_of(item: Environment) -> dict[str, Any]:
    """Return an environment's marker, empty when it is not complete or its interpreter is gone."""
    return read_marker(os.path.join(item.path, MARKER)) if os.path.exists(f"{item.path}/bin/python") else {}
