"""Calls a cloud's APIs as a user does, many times a second, and keeps which calls failed and how long each took.

Needs Python's own library and PyYAML, so that it runs wherever Ansible does. The calls go through the public addresses:
a token, and lists of images, servers and networks, in turn. The user is the probe's own, made before and deleted after.
Each connection is new and verified with the authorities that clouds.yaml names, as they are at that moment, or the
system's where it names none.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml
from ansible_collections.brume.cloud.plugins.module_utils.api_session import base_url

RATE = 10.0
"""Calls a second."""

LOGIN_INTERVAL = 10.0
"""Seconds between two log-ins by password; tokens between them are got by a token.

A password costs Keystone a quarter of a second of a core by design (bcrypt). At two or three a second the probe would
be the load that it is to notice.
"""

TIMEOUT = 60.0
"""Seconds after which a call has failed."""

SHOWN = 20
"""How many failures are listed."""

PATHS = {"image": "/v2/images?limit=5", "compute": "/servers?limit=5", "network": "/v2.0/networks?limit=5"}
"""What is asked of each service by its type in the catalog; services that the cloud does not have are left out."""

NAME = "brume-probe"
"""Name of the user and the project of `tools/probe.py`."""

DOMAIN = "default"
"""Id of the domain of users and projects."""

TRIED = 3
"""How many instances of a host are tried for one that answers ping."""

PROBLEMS = (OSError, http.client.HTTPException, ValueError, KeyError)
"""What `request` and what is built on it raise: no answer, a broken one, a status above 399, one without the keys."""


@dataclass(frozen=True)
class Call:
    """One call: what it asked, when it began (seconds since the probe did), how long it took, and why it failed."""

    kind: str
    began: float
    seconds: float
    problem: str


@dataclass(frozen=True)
class Figures:
    """What came of the calls of one API; times in seconds, the gap with its begin and end."""

    calls: int
    failed: int
    longest: float
    gap: tuple[float, float]

    @property
    def gap_seconds(self) -> float:
        """Return the longest time without a successful answer."""
        return self.gap[1] - self.gap[0]


def longest_gap(times: Iterable[float], begin: float, end: float) -> tuple[float, float]:
    """Return the longest time between two moments in which nothing of `times` lies (all in seconds of one clock)."""
    inside = [begin, *(one for one in sorted(times) if begin < one < end), end]
    return max(itertools.pairwise(inside), key=lambda pair: pair[1] - pair[0])


def figures(calls: Sequence[Call]) -> dict[str, Figures]:
    """Return the figures of each API, from its first call to the end of its last one.

    A gap lies between two answers that were no failures, so that an outage is no longer than it; where nothing fails
    or waits it is the time between two calls of that API.
    """
    found = {}
    for kind, own in _by_kind(calls).items():
        answers = [one.began + one.seconds for one in own if not one.problem]
        begin, end = min(one.began for one in own), max(one.began + one.seconds for one in own)
        failed = sum(bool(one.problem) for one in own)
        found[kind] = Figures(len(own), failed, max(one.seconds for one in own), longest_gap(answers, begin, end))
    return found


def summary(calls: Sequence[Call]) -> list[str]:
    """Return the figures for people: calls, failures and the longest time, by kind; then the first failures."""
    lines = [f"{'call':<10} {'number':>7} {'failed':>7} {'longest':>9}"]
    for kind, own in _by_kind(calls).items():
        failed = sum(bool(one.problem) for one in own)
        lines.append(f"{kind:<10} {len(own):>7} {failed:>7} {max(one.seconds for one in own):>7.1f} s")
    failures = [one for one in calls if one.problem]
    lines.append(f"probe: {len(calls)} calls, {len(failures)} failed")
    lines += [f"  at {one.began:.1f} s: {one.kind}: {one.problem}" for one in failures[:SHOWN]]
    return [*lines, f"  and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else lines


def _by_kind(calls: Sequence[Call]) -> dict[str, list[Call]]:
    kinds: dict[str, list[Call]] = {}
    for one in calls:
        kinds.setdefault(one.kind, []).append(one)
    return kinds


@dataclass(frozen=True)
class Login:
    """A token, how many seconds it is good for, and the public address of each service by its type."""

    token: str
    lifetime: float
    urls: Mapping[str, str]


@dataclass(frozen=True)
class Cloud:
    """A cloud and its administrator, as clouds.yaml says."""

    auth: Mapping[str, str]
    authority: str | None
    region: str | None

    def request(self, method: str, url: str, token: str = "", body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer's headers and JSON (None without content).

        Raises OSError, HTTPException, or ValueError for a status above 399 or what is no JSON.
        """
        parts = urlsplit(url)
        if parts.scheme == "http":
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
        else:
            context = ssl.create_default_context(cafile=self.authority)
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=TIMEOUT, context=context
            )
        headers = {"Connection": "close", **({"X-Auth-Token": token} if token else {})}
        try:
            path = f"{parts.path}{f'?{parts.query}' if parts.query else ''}"
            if body is None:
                connection.request(method, path, headers=headers)
            else:
                connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= http.client.BAD_REQUEST:
                raise ValueError(f"HTTP {answer.status}")
            return answer.headers, json.loads(text) if text else None
        finally:
            connection.close()

    def log_in(self, method: str, proof: Mapping[str, Any], project: Mapping[str, Any]) -> Login:
        """Get a token for a project by a method (`password`, `token`) and what proves it, as Keystone's API names them.

        Raises what PROBLEMS names.
        """
        headers, body = self.request(
            "POST",
            f"{base_url(self.auth['auth_url'])}/auth/tokens",
            body={"auth": {"identity": {"methods": [method], method: proof}, "scope": {"project": project}}},
        )
        token = body["token"]
        begin, end = (datetime.fromisoformat(token[key]) for key in ("issued_at", "expires_at"))
        # Regions may share a Keystone, whose catalog then names them all.
        urls = {
            one["type"]: end["url"]
            for one in token["catalog"]
            for end in one["endpoints"]
            if end["interface"] == "public" and self.region in (None, end.get("region_id", end.get("region")))
        }
        return Login(headers["X-Subject-Token"], (end - begin).total_seconds(), urls)

    def administrator(self) -> Login:
        """Log in as the administrator. Raises what PROBLEMS names."""
        user = {
            "name": self.auth["username"],
            "domain": {"name": self.auth["user_domain_name"]},
            "password": self.auth["password"],
        }
        project = {"name": self.auth["project_name"], "domain": {"name": self.auth["project_domain_name"]}}
        return self.log_in("password", {"user": user}, project)

    def make_user(self, name: str, password: str) -> tuple[str, str]:
        """Make a user with a project of the same name, of which it is a member; return the ids of both.

        Raises what PROBLEMS names.
        """
        token = self.administrator().token
        base = base_url(self.auth["auth_url"])
        project = {"name": name, "domain_id": DOMAIN}
        _, made = self.request("POST", f"{base}/projects", token, {"project": project})
        _, found = self.request("GET", f"{base}/roles?name=member", token)
        if not found["roles"]:
            raise ValueError("Keystone has no role `member`")
        _, user = self.request("POST", f"{base}/users", token, {"user": {**project, "password": password}})
        path = f"/projects/{made['project']['id']}/users/{user['user']['id']}/roles/{found['roles'][0]['id']}"
        self.request("PUT", f"{base}{path}", token)
        return user["user"]["id"], made["project"]["id"]

    def remove_user(self, name: str) -> None:
        """Delete that user and its project, also those that an earlier probe left. Raises what PROBLEMS names."""
        token = self.administrator().token
        base = base_url(self.auth["auth_url"])
        for kind in ("users", "projects"):
            _, found = self.request("GET", f"{base}/{kind}?{urlencode({'name': name, 'domain_id': DOMAIN})}", token)
            for one in found[kind]:
                self.request("DELETE", f"{base}/{kind}/{one['id']}", token)

    def servers(self) -> list[dict[str, Any]]:
        """Return all running instances of all projects with their addresses and hosts. Raises what PROBLEMS names."""
        login = self.administrator()
        found: list[dict[str, Any]] = []
        url = f"{login.urls['compute']}/servers/detail?all_tenants=1&status=ACTIVE"
        while url:
            _, page = self.request("GET", url, login.token)
            found += page["servers"]
            url = next((one["href"] for one in page.get("servers_links", ()) if one["rel"] == "next"), "")
        return found


def settings(clouds_file: Path, cloud: str) -> Cloud:
    """Return what clouds.yaml says of a cloud. Raises OSError, or ValueError that names what it does not say."""
    document = yaml.safe_load(clouds_file.read_text(encoding="utf-8"))
    try:
        found = document["clouds"][cloud]
        auth = {
            key: str(found["auth"][key])
            for key in (
                "auth_url",
                "username",
                "password",
                "project_name",
                "user_domain_name",
                "project_domain_name",
            )
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"{clouds_file}: cloud {cloud}: there is no {error}; site.yml writes the file") from None
    return Cloud(auth, found.get("cacert"), found.get("region_name"))


def floating_ips(servers: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the floating IPs (IPv4) of instances by the compute host that runs them.

    Takes what `GET /servers/detail` answers an administrator
    (https://docs.openstack.org/api-ref/compute/#list-servers-detailed).
    """
    found: dict[str, list[str]] = {}
    for server in servers:
        for address in itertools.chain.from_iterable(server["addresses"].values()):
            if address.get("OS-EXT-IPS:type") == "floating":
                found.setdefault(server["OS-EXT-SRV-ATTR:host"], []).append(address["addr"])
    return found


def reachable(found: Mapping[str, Sequence[str]], ping: Callable[[str], bool]) -> dict[str, str]:
    """Return one address of each host that answers `ping`, with the host; of each host TRIED are asked."""

    def first(addresses: Sequence[str]) -> str:
        return next((one for one in addresses[:TRIED] if ping(one)), "")

    with ThreadPoolExecutor(max_workers=32) as pool:
        chosen = pool.map(first, found.values())
        return {address: host for host, address in zip(found, chosen, strict=True) if address}


class Probe:
    """A user of its own and the threads that call."""

    def __init__(self, clouds_file: Path, cloud: str, name: str = NAME) -> None:
        """Make the user. Raises what PROBLEMS names."""
        self.place = clouds_file, cloud
        self.name = name
        self.cloud = settings(clouds_file, cloud)
        self.password = secrets.token_urlsafe(24)
        self.cloud.remove_user(name)
        # By their ids, because Keystone may remember for a minute whose this name was in an earlier probe.
        self.user, self.project = self.cloud.make_user(name, self.password)
        self._use(self.log_in())
        self._next_login = time.monotonic()
        self.calls: list[Call] = []
        self.begin = time.monotonic()
        self.ended = threading.Event()

    def _use(self, login: Login) -> None:
        self.login, self._renew = login, time.monotonic() + login.lifetime / 2

    def log_in(self, token: str = "") -> Login:
        """Log in as the probe's user, with its password unless there is a token. Raises what PROBLEMS names."""
        if token:
            return self.cloud.log_in("token", {"id": token}, {"id": self.project})
        user = {"id": self.user, "password": self.password}
        return self.cloud.log_in("password", {"user": user}, {"id": self.project})

    @property
    def kinds(self) -> list[str]:
        """What is asked in turn."""
        return ["token", *(kind for kind in PATHS if kind in self.login.urls)]

    def call(self, kind: str) -> None:
        """Make one call and keep what came of it."""
        began, problem = time.monotonic(), ""
        try:
            if kind == "token":
                # A token that is got by a token ends with it.
                renew = began > self._renew
                by_password = renew or began >= self._next_login
                if by_password:
                    self._next_login = began + LOGIN_INTERVAL
                login = self.log_in("" if by_password else self.login.token)
                if renew:
                    # Not each time: that a token stays good is a part of what is probed.
                    self._use(login)
            else:
                self.cloud.request("GET", f"{self.login.urls[kind]}{PATHS[kind]}", self.login.token)
        except PROBLEMS as error:
            problem = str(error) or type(error).__name__
        self.keep(Call(kind, round(began - self.begin, 2), round(time.monotonic() - began, 2), problem))

    def keep(self, call: Call) -> None:
        """Keep a call; threads do so at the same time."""
        self.calls.append(call)

    def run(self, rate: float = RATE) -> None:
        """Call so many times a second until `ended` is set, then wait for what is on its way."""
        kinds = self.kinds
        # Enough for all to hang until they time out: else one API that hangs would take the calls of the others.
        pool = ThreadPoolExecutor(max_workers=math.ceil(rate * TIMEOUT) + len(kinds))
        number = 0
        while not self.ended.wait(max(0.0, self.begin + number / rate - time.monotonic())):
            pool.submit(self.call, kinds[number % len(kinds)])
            number += 1
        pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Delete the user with the administrator's password as it is now. Raises what PROBLEMS names."""
        settings(*self.place).remove_user(self.name)
