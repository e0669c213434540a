"""A cloud for the probe: a Keystone that keeps users and projects, and services that list nothing."""

from __future__ import annotations

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

ADMIN = "of-the-administrator"
MEMBER = "of-the-probe"


class Server(ThreadingHTTPServer):
    """A server that lets many wait."""

    request_queue_size = 512


class FakeCloud:
    """Answers on a port of its own until it is closed. `broken` services answer 503."""

    def __init__(self, token_seconds: int = 3600) -> None:
        """Begin to answer."""
        self.kept: dict[str, dict[str, dict[str, Any]]] = {"users": {}, "projects": {}}
        self.roles: list[tuple[str, str, str]] = []
        self.servers: list[dict[str, Any]] = []
        self.broken: set[str] = set()
        self.seen: list[str] = []
        self.methods: list[str] = []
        self.tokens = itertools.count()
        self.lifetime = f"2026-01-01T{token_seconds // 3600:02}:{token_seconds % 3600 // 60:02}:00.000000Z"
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else {}
                status, document = cloud.answer(self.command, self.path, self.headers.get("X-Auth-Token", ""), body)
                data = b"" if document is None else json.dumps(document).encode()
                self.send_response(status)
                if self.path.endswith("/auth/tokens"):
                    proof = body["auth"]["identity"].get("password", {"user": {}})
                    admin = proof["user"].get("name") == "admin"
                    self.send_header("X-Subject-Token", ADMIN if admin else f"{MEMBER}-{next(cloud.tokens)}")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and document."""
        parts = urlsplit(target)
        words = parts.path.strip("/").split("/")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.seen.append(f"{method} {parts.path} {token}")
        if words[0] in self.broken:
            return 503, None
        if words == ["identity", "v3", "auth", "tokens"]:
            return self.log_in(body)
        if words[0] != "identity":
            links = [{"rel": "next", "href": f"{self.url}/compute/servers/detail?marker=1"}]
            page = self.servers[1:] if "marker" in query else self.servers[:1]
            more = {} if "marker" in query or len(self.servers) < 2 else {"servers_links": links}
            return 200, {"servers": page, **more}
        return self.identity(method, words, query, body) if token == ADMIN else (403, None)

    def identity(
        self, method: str, words: list[str], query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, Any] | None]:
        """Answer the administrator."""
        kind = words[2]
        if kind == "roles":
            return 200, {"roles": [{"id": "role", "name": "member"}]}
        if method == "POST":
            number = f"{kind}-{len(self.kept[kind])}"
            self.kept[kind][number] = {"id": number, **body[kind[:-1]]}
            return 201, {kind[:-1]: self.kept[kind][number]}
        if method == "PUT":
            self.roles.append((words[3], words[5], words[7]))
            return 204, None
        if method == "DELETE":
            del self.kept[kind][words[3]]
            return 204, None
        return 200, {kind: [one for one in self.kept[kind].values() if query.items() <= one.items()]}

    def log_in(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer who wants a token."""
        identity = body["auth"]["identity"]
        self.methods += identity["methods"]
        if identity["methods"] == ["token"]:
            if not identity["token"]["id"].startswith(MEMBER):
                return 401, None
        else:
            user = identity["password"]["user"]
            known = {number: one["password"] for number, one in self.kept["users"].items()}
            if {**known, "admin": "secret-of-admin"}.get(user.get("id") or user["name"]) != user["password"]:
                return 401, None
        catalog = [
            {
                "type": kind,
                "endpoints": [
                    {"interface": "internal", "region_id": "RegionOne", "url": f"{self.url}/nowhere"},
                    {"interface": "public", "region_id": "RegionOne", "url": f"{self.url}/{kind}"},
                    {"interface": "public", "region_id": "Other", "url": f"{self.url}/nowhere"},
                ],
            }
            for kind in ("image", "compute", "network", "dns")
        ]
        times = {"issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": self.lifetime}
        return 201, {"token": {"catalog": catalog, **times}}

    def clouds_file(self, folder: Path) -> Path:
        """Write clouds.yaml into a folder."""
        auth = {
            "auth_url": f"{self.url}/identity/v3",
            "username": "admin",
            "password": "secret-of-admin",
            "project_name": "admin",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        path = folder / "clouds.yaml"
        path.write_text(yaml.safe_dump({"clouds": {"lab": {"auth": auth, "region_name": "RegionOne"}}}))
        return path
