#!/usr/bin/env python3
"""Calls a cloud's API ten times a second while a command runs, and says which calls failed and how long they took.

Usage: probe.py INVENTORY [--report FILE] -- COMMAND...
The calls go through the public address as a user's do: a token, and lists of images, servers and networks, in turn. The
user is the probe's own, made before and deleted after. Each connection is new and verified with the authorities that
`.lab/<inventory>/clouds.yaml` names, as they are at that moment, or the system's where it names none.
"""

from __future__ import annotations

import argparse
import http.client
import json
import secrets
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openstack
import yaml

ROOT = Path(__file__).resolve().parent.parent
RATE = 10.0
"""Calls a second."""

TIMEOUT = 60.0
"""Seconds after which a call has failed."""

SHOWN = 20
"""How many failures are listed."""

PATHS = {"image": "/v2/images?limit=5", "compute": "/servers?limit=5", "network": "/v2.0/networks?limit=5"}
NAME = "brume-probe"


@dataclass(frozen=True)
class Call:
    """One call: what it asked, when it began (seconds since the probe did), how long it took, and why it failed."""

    kind: str
    began: float
    seconds: float
    problem: str


def summary(calls: Sequence[Call]) -> list[str]:
    """Return the figures for people: calls, failures and the longest time, by kind; then the first failures."""
    lines = [f"{'call':<10} {'number':>7} {'failed':>7} {'longest':>9}"]
    for kind in dict.fromkeys(one.kind for one in calls):
        own = [one for one in calls if one.kind == kind]
        failed = sum(bool(one.problem) for one in own)
        lines.append(f"{kind:<10} {len(own):>7} {failed:>7} {max(one.seconds for one in own):>7.1f} s")
    failures = [one for one in calls if one.problem]
    lines.append(f"probe: {len(calls)} calls, {len(failures)} failed")
    lines += [f"  at {one.began:.1f} s: {one.kind}: {one.problem}" for one in failures[:SHOWN]]
    return [*lines, f"  and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else lines


def settings(state: Path) -> dict[str, Any]:
    """Return what clouds.yaml says of the cloud."""
    found: dict[str, Any] = yaml.safe_load((state / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]["lab"]
    return found


def connect(state: Path) -> tuple[str, Any]:
    """Log in as the administrator of clouds.yaml; return where, and the Identity API."""
    cloud = settings(state)
    connection: Any = openstack.connect(load_yaml_config=False, load_envvars=False, **cloud)
    return cloud["auth"]["auth_url"], connection.identity


def remove(identity: Any) -> None:
    """Delete the user and the project, also those that an earlier probe left."""
    for user in identity.users(name=NAME, domain_id="default"):
        identity.delete_user(user)
    for project in identity.projects(name=NAME, domain_id="default"):
        identity.delete_project(project)


class Probe:
    """A user of its own and the threads that call."""

    def __init__(self, state: Path) -> None:
        """Make the user. Raises openstack.exceptions.SDKException."""
        self.state = state
        self.authority = settings(state).get("cacert")
        self.auth_url, self.identity = connect(state)
        self.password = secrets.token_urlsafe(24)
        remove(self.identity)
        self.project = self.identity.create_project(name=NAME, domain_id="default")
        self.user = self.identity.create_user(name=NAME, domain_id="default", password=self.password)
        role = self.identity.find_role("member", ignore_missing=False)
        self.identity.assign_project_role_to_user(self.project, self.user, role)
        self.token, catalog = self.authenticate()
        self.urls = {
            one["type"]: next(end["url"] for end in one["endpoints"] if end["interface"] == "public")
            for one in catalog
        }
        self.calls: list[Call] = []
        self.begin = time.monotonic()
        self.ended = threading.Event()

    def request(self, method: str, url: str, headers: dict[str, str], body: str | None = None) -> Any:
        """Return the answer's headers and JSON. Raises OSError, HTTPException, or ValueError for a status above 399."""
        parts = urlsplit(url)
        context = ssl.create_default_context(cafile=self.authority)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT, context=context)
        try:
            path = f"{parts.path}{f'?{parts.query}' if parts.query else ''}"
            connection.request(method, path, body, {"Connection": "close", **headers})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= http.client.BAD_REQUEST:
                raise ValueError(f"HTTP {answer.status}")
            return answer.headers, json.loads(text)
        finally:
            connection.close()

    def authenticate(self) -> tuple[str, list[dict[str, Any]]]:
        """Return a token and the catalog. Raises as `request` does."""
        user = {"name": NAME, "domain": {"id": "default"}, "password": self.password}
        scope = {"project": {"name": NAME, "domain": {"id": "default"}}}
        document = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        headers, body = self.request(
            "POST", f"{self.auth_url}/auth/tokens", {"Content-Type": "application/json"}, json.dumps(document)
        )
        return headers["X-Subject-Token"], body["token"]["catalog"]

    def call(self, kind: str) -> None:
        """Make one call and keep what came of it."""
        began, problem = time.monotonic(), ""
        try:
            if kind == "token":
                self.authenticate()
            else:
                self.request("GET", f"{self.urls[kind]}{PATHS[kind]}", {"X-Auth-Token": self.token})
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = str(error) or type(error).__name__
        self.calls.append(Call(kind, round(began - self.begin, 2), round(time.monotonic() - began, 2), problem))

    def run(self) -> None:
        """Call until `ended` is set."""
        kinds = ["token", *PATHS]
        with ThreadPoolExecutor(max_workers=64) as pool:
            number = 0
            while not self.ended.wait(max(0.0, self.begin + number / RATE - time.monotonic())):
                pool.submit(self.call, kinds[number % len(kinds)])
                number += 1


def main(arguments: Sequence[str]) -> int:
    """Probe while the command runs; returns its exit code, or 3 where it succeeded and calls failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("inventory", type=Path)
    parser.add_argument("--report", type=Path, help="write every call to this file as JSON")
    words = list(arguments)
    middle = words.index("--") if "--" in words else len(words)
    options, command = parser.parse_args(words[:middle]), words[middle + 1 :]
    if not command:
        parser.error("give a command after `--`")
    probe = Probe(ROOT / ".lab" / options.inventory.resolve().name)
    thread = threading.Thread(target=probe.run)
    thread.start()
    try:
        code = subprocess.run(command, check=False).returncode
    finally:
        probe.ended.set()
        thread.join()
    remove(connect(probe.state)[1])  # with the administrator's password as it is now
    print("\n".join(summary(probe.calls)))
    if options.report:
        options.report.write_text(json.dumps([asdict(one) for one in probe.calls], indent=1) + "\n", encoding="utf-8")
    return code or (3 if any(one.problem for one in probe.calls) else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
