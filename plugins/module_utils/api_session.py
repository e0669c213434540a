"""One session with OpenStack's APIs: logs in once, sends requests to any service, repeats what may be repeated.

Needs keystoneauth1, which every service's environment has; openstacksdk sits on the same session, and its import alone
takes 0.7 s more. Error documents are those of https://docs.openstack.org/api-guide/compute/faults.html and of Keystone.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from ansible_collections.brume.cloud.plugins.module_utils.convergence import retry

Record = dict[str, Any]

REFUSED = "connection refused"
RESET = "connection reset"
TRANSIENT_STATUS = {502: "HTTP 502 Bad Gateway", 503: "HTTP 503 Service Unavailable", 504: "HTTP 504 Gateway Timeout"}
"""What a load balancer answers while a back end starts or leaves."""

NEVER_ARRIVED = frozenset({REFUSED, TRANSIENT_STATUS[503]})
"""Transient errors after which a request certainly changed nothing, so that even a creation may be sent again."""

AUTH: dict[str, Any] = {
    "type": "dict",
    "required": True,
    "options": {
        "auth_url": {"type": "str", "required": True},
        "username": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "former_password": {"type": "str", "no_log": True},
        "user_domain_name": {"type": "str", "default": "Default"},
        "project_name": {"type": "str"},
        "project_domain_name": {"type": "str", "default": "Default"},
        "system_scope": {"type": "str", "choices": ["all"]},
        "ca_file": {"type": "path"},
        "timeout": {"type": "int", "default": 60},
    },
    "required_one_of": [("project_name", "system_scope")],
    "mutually_exclusive": [("project_name", "system_scope")],
}
"""The option `auth` of modules that log in."""

UNAUTHORIZED = 401
NOT_FOUND = 404
CONFLICT = 409
FIRST_ERROR = 400
"""From this HTTP status on an answer is an error."""

ONCE = {"attempts": 1}
"""How often an API is asked that probably is not there yet."""


class ApiError(Exception):
    """The API refused a request, or could not be reached. `transient` names the error if another attempt may help."""

    def __init__(self, message: str, status: int = 0, transient: str | None = None) -> None:
        """Keep the API's message, the HTTP status (0 without one) and the name of a transient error."""
        super().__init__(message)
        self.status = status
        self.transient = transient


class Request(Protocol):
    """Sends a request to a path below a service's address and returns the answer's body. Raises ApiError."""

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Record:
        """Send it."""


@dataclass(frozen=True)
class Session:
    """Who is logged in. `send` takes method, address and body, and raises ApiError for what is no answer at all."""

    send: Callable[..., Any]
    issued: datetime
    expires: datetime
    attempts: int
    pause: float
    project: str = ""
    """Id of the project that the session is for, if it is for one."""


def transient(error: Exception) -> str | None:
    """Return the name of an error that may pass."""
    return error.transient if isinstance(error, ApiError) else None


def base_url(auth_url: str) -> str:
    """Return the address of the Identity API v3 from an `auth_url` with or without the version."""
    address = auth_url.rstrip("/")
    return address if address.endswith("/v3") else f"{address}/v3"


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """Make a package look as if it were not installed, for what imports it only where it is there."""
    kept = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None  # type: ignore[assignment]  # what Python itself takes for `not there`
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(kept)


def log_in(auth: Mapping[str, Any], attempts: int = 5, pause: float = 1.0) -> Session:
    """Log in as `auth` says, see AUTH.

    `pause` is in seconds before the second of `attempts`, and doubles. Raises ApiError.
    """
    with hidden("osprofiler"):  # for traces, which nobody reads here; it brings eventlet, most of this module's start
        # of a service's environment, not of the deploy host
        from keystoneauth1 import exceptions, session  # noqa: PLC0415
        from keystoneauth1.identity import v3  # noqa: PLC0415

    base = base_url(auth["auth_url"])
    scope = (
        {"system_scope": auth["system_scope"]}
        if auth.get("system_scope")
        else {"project_name": auth["project_name"], "project_domain_name": auth["project_domain_name"]}
    )
    plugin = v3.Password(
        base,
        username=auth["username"],
        password=auth["password"],
        user_domain_name=auth["user_domain_name"],
        include_catalog=False,
        **scope,
    )
    client = session.Session(auth=plugin, verify=auth.get("ca_file") or True, timeout=auth.get("timeout") or 60)

    def send(method: str, address: str, body: Mapping[str, Any] | None, **arguments: Any) -> Any:
        try:
            answer = client.request(address, method, json=body, raise_exc=False, log=False, **arguments)
        except exceptions.HttpError as error:
            name = TRANSIENT_STATUS.get(error.http_status)
            raise ApiError(f"cannot log in at {base}: {error}", error.http_status, name) from error
        except exceptions.ConnectFailure as error:
            raise ApiError(str(error), 0, connection_error(error)) from error
        except exceptions.ClientException as error:
            raise ApiError(str(error)) from error
        if answer.status_code in TRANSIENT_STATUS:
            name = TRANSIENT_STATUS[answer.status_code]
            raise ApiError(f"{method} {address}: {name}", answer.status_code, name)
        return answer

    retry(lambda: _get_token(client, exceptions, base), transient, attempts, pause)
    access = plugin.get_access(client)
    if access.issued is None or access.expires is None:
        raise ApiError(f"the token that {base} gave does not say when it was made and when it expires")
    return Session(send, access.issued, access.expires, attempts, pause, access.project_id or "")


def requests_to(session: Session, address: str, headers: Mapping[str, str] | None = None) -> Request:
    """Return what sends requests to paths below a service's `address`, the errors named in `transient` repeated."""
    base = address.rstrip("/")
    more = {"headers": dict(headers)} if headers else {}

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Record:
        def once() -> Record:
            try:
                answer = session.send(method, f"{base}{path}", body, **more)
            except ApiError as error:
                if method == "POST" and error.transient not in NEVER_ARRIVED:
                    # It may have been made: a second attempt could make it twice.
                    raise ApiError(f"{error}; run again to see whether it arrived", error.status) from error
                raise
            if answer.status_code >= FIRST_ERROR:
                raise ApiError(error_message(answer), answer.status_code)
            return dict(answer.json() or {}) if answer.content else {}  # Neutron answers `null` to some requests

        return retry(once, transient, session.attempts, session.pause)

    return request


def unreachable(service: str) -> Request:
    """Return what refuses every request: what a service that is not there yet would answer is only predicted."""

    def refuse(method: str, path: str, body: Mapping[str, Any] | None = None) -> Record:
        raise ApiError(f"{method} {path}: there is no {service} yet")

    return refuse


def pages(send: Request, path: str, plural: str, **filters: str) -> list[Record]:
    """Return every record of a list; APIs end a page at their limit, and say so with a link.

    Cinder calls that of its types `volume_type_links` (cinder.api.v3.views.types).
    """
    query, records = urlencode(filters), []
    while True:
        body = send("GET", f"{path}?{query}")
        records += body[plural]
        links = body.get(f"{plural}_links") or body.get(f"{plural.removesuffix('s')}_links") or ()
        following = [one["href"] for one in links if one["rel"] == "next"]
        if not following or not body[plural]:
            return records
        query = urlsplit(following[0]).query


def log_in_or_before(auth: Mapping[str, Any], check_mode: bool, **more: Any) -> Session:
    """Log in; a dry run may need the `former_password`, since nothing has set the new one yet. Raises ApiError."""
    try:
        return log_in(auth, **more)
    except ApiError as error:
        if error.status != UNAUTHORIZED or not check_mode or not auth.get("former_password"):
            raise
        return log_in({**auth, "password": auth["former_password"]}, **more)


def _get_token(client: Any, exceptions: Any, base: str) -> None:
    """Get the token that all requests use. Raises ApiError."""
    try:
        client.get_token()
    except exceptions.HttpError as error:
        name = TRANSIENT_STATUS.get(error.http_status)
        raise ApiError(f"cannot log in at {base}: {error}", error.http_status, name) from error
    except exceptions.ConnectFailure as error:
        raise ApiError(str(error), 0, connection_error(error)) from error
    except exceptions.ClientException as error:
        raise ApiError(f"cannot log in at {base}: {error}") from error


def connection_error(error: BaseException) -> str | None:
    """Return the name of a transient connection error, looked for in everything an exception was raised from."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        item = todo.pop()
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, ConnectionRefusedError):
            return REFUSED
        if isinstance(item, (ConnectionResetError, BrokenPipeError)):  # RemoteDisconnected is a ConnectionResetError
            return RESET
        todo += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    return None


def error_message(answer: Any) -> str:
    """Return what an answer of an API says is wrong: its message and the HTTP status.

    Keystone writes `{"error": {"message": ...}}`, Nova the name of the fault in place of `error`, Glance an HTML page.
    """
    try:
        message = next(one["message"] for one in answer.json().values() if isinstance(one, Mapping))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        page = re.sub(r"(?s)<head>.*?</head>|<[^<>]*>", " ", answer.text)
        message = " ".join(page.split())[:200] or answer.reason
    return f"{message} (HTTP {answer.status_code})"
