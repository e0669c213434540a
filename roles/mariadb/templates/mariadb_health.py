#!/usr/bin/python3
"""Tells load balancers by HTTP whether this member of the cluster can serve: 200, or 503 with the reason.

A member serves when it is in the primary component and in step. A donor is in step too, since mariadb-backup does not
hold it up; one that was taken out of step on purpose (wsrep_desync, for a backup), or that refuses queries, is not.
States by number: mariadb.com, Galera Cluster Status Variables.
"""

from __future__ import annotations

import http.server
import socket
import sys

import pymysql

SOCKET = "/run/mysqld/mysqld.sock"
DONOR, SYNCED = "2", "4"
STATUS = ("wsrep_cluster_status", "wsrep_ready", "wsrep_local_state", "wsrep_local_state_comment")
VARIABLES = ("wsrep_desync", "wsrep_reject_queries", "read_only")


def problem(found: dict[str, str]) -> str:
    """Return why a member with this status cannot serve, or nothing."""
    if found.get("wsrep_cluster_status") != "Primary":
        return f"the component is {found.get('wsrep_cluster_status', 'unknown')}"
    if found.get("wsrep_local_state") not in (DONOR, SYNCED):
        return f"its state is {found.get('wsrep_local_state_comment', 'unknown')}"
    if found.get("wsrep_ready") != "ON":
        return "it is not ready"
    if found.get("wsrep_desync", "OFF") != "OFF":
        return "it was taken out of step (wsrep_desync)"
    if found.get("wsrep_reject_queries", "NONE") != "NONE":
        return f"it refuses queries (wsrep_reject_queries={found['wsrep_reject_queries']})"
    return "it is read-only" if found.get("read_only", "OFF") != "OFF" else ""


class Member:
    """The server on this host, by one connection that is kept."""

    def __init__(self) -> None:
        """Connect when first asked."""
        self.connection: pymysql.connections.Connection | None = None

    def ask(self) -> dict[str, str]:
        """Return the server's status. Raises OSError or pymysql's errors."""
        try:
            if self.connection is None:
                self.connection = pymysql.connect(unix_socket=SOCKET, user="mysql", connect_timeout=2, read_timeout=2)
            with self.connection.cursor() as cursor:
                found: dict[str, str] = {}
                for kind, names in (("STATUS", STATUS), ("VARIABLES", VARIABLES)):
                    cursor.execute(f"SHOW GLOBAL {kind} WHERE Variable_name IN %s", (names,))
                    found.update(cursor.fetchall())
                return found
        except BaseException:
            self.connection = None
            raise


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers any GET, HEAD or OPTIONS."""

    member = Member()

    def do_GET(self) -> None:
        """Answer with what the server says now."""
        try:
            text = problem(self.member.ask())
        except (OSError, pymysql.Error) as error:
            text = f"the server does not answer: {error}"
        body = f"{text or 'it serves'}\n".encode()
        self.send_response(503 if text else 200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_OPTIONS = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of checks that come every second."""


class Server(http.server.HTTPServer):
    """One request at a time: there is one connection."""

    def __init__(self, address: str, port: int) -> None:
        """Listen."""
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Handler)


if __name__ == "__main__":
    Server(sys.argv[1], int(sys.argv[2])).serve_forever()
