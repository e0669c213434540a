"""A server on loopback that speaks as much of Keystone's v3 API and of Swift's as backups use.

docs.openstack.org/api-ref: identity/v3 (versions, tokens), object-store (containers, objects).
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 3
"""Entries of a listing; a client has to ask for the rest."""


class FakeSwift(ThreadingHTTPServer):
    """Containers with objects, one user, and what can be wrong with them."""

    daemon_threads = True

    def __init__(self, pair: Path) -> None:
        """Listen on a free port; `pair` is certificate and key."""
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.containers: dict[str, dict[str, bytes]] = {}
        self.user, self.password = "brume", "correct-horse"
        self.catalog, self.forbidden = True, False
        self.unlisted: set[str] = set()
        """Endings of keys that listings do not show yet."""
        self.unread: set[str] = set()
        """Endings of keys that it says not to have."""
        self.newest: list[str] = []
        """Keys that were asked for of all replicas (X-Newest)."""
        self.tokens: set[str] = set()
        self.issued = 0

    @property
    def url(self) -> str:
        """Return its address."""
        return f"https://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that do not trust it."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: FakeSwift

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Give a token."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["auth"]
        user = asked["identity"]["password"]["user"]
        known = {"name": self.server.user, "password": self.server.password}
        if self.path != "/v3/auth/tokens" or {one: user[one] for one in known} != known:
            message = "The request you have made requires authentication."
            self.answer(401, json.dumps({"error": {"message": message}}).encode())
            return
        assert asked["scope"]["project"]["name"] == "backups"
        self.server.issued += 1
        token = f"token-{self.server.issued}"
        self.server.tokens.add(token)
        endpoint = {"interface": "public", "region": "east", "region_id": "east", "id": "e"}
        endpoint["url"] = f"{self.server.url}/v1/AUTH_1"
        catalog = [{"type": "object-store", "name": "swift", "id": "s", "endpoints": [endpoint]}]
        body = {
            "token": {
                "methods": ["password"], "roles": [],
                "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2099-01-01T00:00:00.000000Z",
                "user": {"id": "u", "name": user["name"], "domain": {"id": "default", "name": "Default"}},
                "project": {"id": "1", "name": "backups", "domain": {"id": "default", "name": "Default"}},
                "catalog": catalog if self.server.catalog else [],
            }
        }  # fmt: skip
        self.answer(201, json.dumps(body).encode(), X_Subject_Token=token, Content_Type="application/json")

    def do_GET(self) -> None:
        """Tell versions of Keystone, list a container, or return an object."""
        if self.path.rstrip("/") == "/v3":
            link = {"rel": "self", "href": f"{self.server.url}/v3/"}
            version = {"id": "v3.14", "status": "stable", "links": [link], "media-types": []}
            self.answer(200, json.dumps({"version": version}).encode(), Content_Type="application/json")
            return
        found = self.place()
        if found is None:
            return
        objects, key, asked = found
        if key:
            if self.headers["X-Newest"] == "true":
                self.server.newest.append(key)
            there = key in objects and not any(key.endswith(one) for one in self.server.unread)
            self.answer(200, objects[key]) if there else self.answer(404)
            return
        page = list(self.listing(objects, asked))[:PAGE]
        self.answer(200, json.dumps(page).encode(), Content_Type="application/json")

    def listing(self, objects: dict[str, bytes], asked: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Yield what a listing shows after its marker."""
        seen, prefix, delimiter = set(), asked.get("prefix", ""), asked.get("delimiter", "")
        for key in sorted(objects):
            if not key.startswith(prefix) or any(key.endswith(one) for one in self.server.unlisted):
                continue
            head, cut, _rest = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            entry = {"subdir": prefix + head + cut} if cut else {"name": key}
            (shown,) = entry.values()
            if shown not in seen and shown > asked.get("marker", ""):
                seen.add(shown)
                yield entry

    def do_PUT(self) -> None:
        """Write an object."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        found = self.place()
        if found is None:
            return
        if self.headers["ETag"] != hashlib.md5(data, usedforsecurity=False).hexdigest():
            self.answer(422)
        elif self.server.forbidden:
            self.answer(403)
        else:
            found[0][found[1]] = data
            self.answer(201)

    def do_DELETE(self) -> None:
        """Delete an object."""
        found = self.place()
        if found is not None:
            self.answer(204 if found[0].pop(found[1], None) is not None else 404)

    def place(self) -> tuple[dict[str, bytes], str, dict[str, str]] | None:
        """Return container, key and query; None when the answer was given: no token, or no container."""
        parts = urlsplit(self.path)
        container, _slash, key = unquote(parts.path).removeprefix("/v1/AUTH_1/").partition("/")
        if self.headers["X-Auth-Token"] not in self.server.tokens:
            self.answer(401)
        elif container not in self.server.containers:
            self.answer(404)
        else:
            return self.server.containers[container], key, {name: one[0] for name, one in parse_qs(parts.query).items()}
        return None


@contextmanager
def running(pair: Path) -> Iterator[FakeSwift]:
    """Yield a server that answers."""
    server = FakeSwift(pair)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
