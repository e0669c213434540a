"""Keystone and one other API on loopback, for modules that are tried over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError

PASSWORD = "hunter2"


def keystone(method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Answer the list of projects."""
    assert (method, path) == ("GET", "/projects")
    records = [("p1", "databases", "default"), ("p2", "web", "default"), ("p3", "twice", "a"), ("p4", "twice", "b")]
    return {"projects": [{"id": number, "name": name, "domain_id": domain} for number, name, domain in records]}


@contextmanager
def served(request: Callable[..., dict[str, Any]], prefix: str, version: str) -> Iterator[str]:
    """Serve both and yield their address; `request` answers below `prefix`, to who wants the API's `version`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {}
            status, result = 200, {}
            if self.path.startswith("/v3/auth/tokens"):
                wanted = body["auth"]["identity"]["password"]["user"]["password"] if body else ""
                status = 201 if wanted == PASSWORD else 401
                times = {"issued_at": "2026-05-04T12:00:00.000000Z", "expires_at": "2036-05-04T13:00:00.000000Z"}
                result = {"token": {**times, "methods": ["password"], "user": {"id": "u", "name": "admin"}}}
                headers = {"X-Subject-Token": "token"}
            elif self.path.startswith("/v3"):
                result = keystone(self.command, self.path.removeprefix("/v3"))
            else:
                assert self.headers["OpenStack-API-Version"] == version
                assert self.headers["X-Auth-Token"] == "token"
                try:
                    result = request(self.command, self.path.removeprefix(prefix), body)
                except ApiError as error:
                    status, result = error.status, {"conflictingRequest": {"message": str(error), "code": error.status}}
            data = json.dumps(result).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": len(data)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
