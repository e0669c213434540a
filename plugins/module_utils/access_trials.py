"""Tries every account of the database, the broker and Keystone: what it reaches, and what is refused.

`trial` is sent to a host (see `host_program`) and runs there in the environment of a service, which brings SQLAlchemy,
PyMySQL and amqp; accounts log in as the service does, with the URLs of its files. The judges run where the plan is.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SECONDS = 10
"""How long a connection or an answer may take."""

SYSTEM_DATABASES = ("mysql", "performance_schema", "sys")
"""Databases of the server itself, which no account of a service may enter."""

ALWAYS_SHOWN = frozenset({"information_schema"})
"""What `SHOW DATABASES` shows to everybody: a view of what the account itself may see."""


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(part) for part in error.args) or error}"


def try_database(url: str, databases: Iterable[str], stranger: str) -> dict[str, Any]:
    """Return what the account of a database URL reaches, by the libraries that services use.

    `login`, `plain` and `stranger` are the errors of a login, of one without TLS, and of one that trusts another
    authority (the file `stranger`) instead of the cloud's; empty where it succeeded. `entered` has the error for each
    database; `shown` is the answer to SHOW DATABASES, `everywhere` the privileges on all databases.
    """
    import pymysql  # noqa: PLC0415  # only the host's environment has it
    from sqlalchemy import create_engine, exc, pool  # noqa: PLC0415

    def login(url: str) -> Any:
        return create_engine(url, poolclass=pool.NullPool, connect_args={"connect_timeout": SECONDS}).connect()

    parts = urllib.parse.urlsplit(url)
    result: dict[str, Any] = {"login": "", "plain": "", "stranger": "", "entered": {}, "shown": [], "everywhere": []}
    try:
        pymysql.connect(
            host=parts.hostname,
            port=parts.port or 0,
            user=urllib.parse.unquote(parts.username or ""),
            password=urllib.parse.unquote(parts.password or ""),
            connect_timeout=SECONDS,
            ssl_disabled=True,
        ).close()
    except (pymysql.Error, OSError) as error:
        result["plain"] = _reason(error)
    trusted = dict(urllib.parse.parse_qsl(parts.query)).get("ssl_ca", "")
    try:
        login(url.replace(urllib.parse.quote(trusted, safe="/"), stranger)).close()
    except exc.DBAPIError as error:
        result["stranger"] = _reason(error)
    try:
        connection = login(url)
    except exc.DBAPIError as error:
        return {**result, "login": _reason(error)}
    with connection:
        for name in databases:
            try:
                connection.exec_driver_sql(f"USE `{name}`")
                connection.exec_driver_sql("SHOW TABLES")
                result["entered"][name] = ""
            except exc.DBAPIError as error:
                result["entered"][name] = _reason(error)
        query = "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES"
        result["shown"] = sorted(row[0] for row in connection.exec_driver_sql("SHOW DATABASES"))
        result["everywhere"] = sorted(row[0] for row in connection.exec_driver_sql(query))
    return result


def try_vhosts(url: str, ca_file: str, vhosts: Iterable[str]) -> dict[str, str]:
    """Return the error for each vhost with the account of a transport URL; empty where it was let in.

    Of several brokers the first is asked: they are one cluster.
    """
    import amqp  # noqa: PLC0415  # only the host's environment has it

    scheme, _separator, rest = url.partition("://")
    parts = urllib.parse.urlsplit(f"{scheme}://{rest.partition('/')[0].split(',')[0]}")
    host = parts.hostname or ""
    result = {}
    for vhost in vhosts:
        connection = amqp.Connection(
            f"[{host}]:{parts.port}" if ":" in host else f"{host}:{parts.port}",
            userid=urllib.parse.unquote(parts.username or ""),
            password=urllib.parse.unquote(parts.password or ""),
            virtual_host=vhost,
            ssl={"server_hostname": host, "cert_reqs": ssl.CERT_REQUIRED, "ca_certs": ca_file},
            connect_timeout=SECONDS,
            read_timeout=SECONDS,
            write_timeout=SECONDS,
        )
        try:
            connection.connect()
            connection.channel().close()
            connection.close()
            result[vhost] = ""
        except (OSError, amqp.exceptions.AMQPError) as error:
            result[vhost] = _reason(error)
    return result


def broker_users() -> dict[str, list[str]]:
    """Return the tags of all users of the broker on this host."""
    argv = ["rabbitmqctl", "--quiet", "--formatter", "json", "list_users"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return {one["user"]: list(one["tags"]) for one in json.loads(done.stdout)}


def role_assignments(login: Mapping[str, str]) -> list[list[str]]:
    """Return [user, role, scope] of all role assignments of users; `login` has auth_url, username, password, ca_file.

    The scope is `project NAME`, `domain NAME` or `system` (docs.openstack.org/api-ref/identity: role assignments).
    """
    context = ssl.create_default_context(cafile=login["ca_file"])
    domain = {"name": "Default"}
    user = {"name": login["username"], "domain": domain, "password": login["password"]}
    identity = {"methods": ["password"], "password": {"user": user}}
    body = {"auth": {"identity": identity, "scope": {"project": {"name": "admin", "domain": domain}}}}
    headers = {"Content-Type": "application/json"}
    url = f"{login['auth_url']}/auth/tokens"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310  # the plan's own, https
    with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310
        headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
    request = urllib.request.Request(  # noqa: S310
        f"{login['auth_url']}/role_assignments?include_names=true", headers=headers
    )
    with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310
        found = json.load(answer)["role_assignments"]
    result = []
    for one in found:
        kind = next(iter(one["scope"]))
        scope = kind if kind == "system" else f"{kind} {one['scope'][kind]['name']}"
        result += [[one["user"]["name"], one["role"]["name"], scope]] if "user" in one else []
    return result


def trial(
    databases: Mapping[str, str], vhosts: Mapping[str, str], ca_file: str, login: Mapping[str, str], stranger: str
) -> dict[str, Any]:
    """Try everything: `databases` and `vhosts` are name -> URL, `login` the administrator's, see role_assignments.

    `stranger` is the certificate of an authority that signed nothing here.
    """
    names = [*databases, *SYSTEM_DATABASES]
    with ThreadPoolExecutor(4) as pool, tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(stranger)
        file.flush()
        roles = pool.submit(role_assignments, login)
        tried_databases = {name: pool.submit(try_database, url, names, file.name) for name, url in databases.items()}
        tried_vhosts = {name: pool.submit(try_vhosts, url, ca_file, [*vhosts, "/"]) for name, url in vhosts.items()}
        return {
            "databases": {name: one.result() for name, one in tried_databases.items()},
            "vhosts": {name: one.result() for name, one in tried_vhosts.items()},
            "roles": roles.result(),
        }


def database_problems(own: str, found: Mapping[str, Any]) -> list[str]:
    """Return what an account may do beyond its own database, or cannot do within it; see try_database."""
    problems = [f"cannot log in with TLS: {found['login']}"] if found["login"] else []
    if not found["plain"]:
        problems.append("logs in without TLS")
    elif not any(code in found["plain"] for code in ("1045", "3159")):  # access denied; secure transport is required
        problems.append(f"was not refused without TLS, but failed: {found['plain']}")
    if not found["stranger"]:
        problems.append("does not verify the server's certificate")
    elif "CERTIFICATE_VERIFY_FAILED" not in found["stranger"]:
        problems.append(f"did not refuse the server's certificate, but failed: {found['stranger']}")
    for name, error in found["entered"].items():
        if name == own:
            problems += [f"cannot enter its own database {own}: {error}"] if error else []
        elif not error:
            problems.append(f"enters {name}")
        elif "1044" not in error:  # access denied to the database
            problems.append(f"was not refused {name}, but failed: {error}")
    shown = sorted(set(found["shown"]) - ALWAYS_SHOWN - {own})
    problems += [f"sees {', '.join(shown)}"] if shown else []
    everywhere = sorted(set(found["everywhere"]) - {"USAGE"})
    problems += [f"has privileges on every database: {', '.join(everywhere)}"] if everywhere else []
    return problems


def vhost_problems(own: str, found: Mapping[str, str]) -> list[str]:
    """Return which vhosts an account enters beyond its own, or that it cannot enter its own; see try_vhosts."""
    problems = []
    for name, error in found.items():
        if name == own:
            problems += [f"cannot enter its own vhost {own}: {error}"] if error else []
        elif not error:
            problems.append(f"enters {name}")
        elif "NOT_ALLOWED" not in error and "530" not in error:
            problems.append(f"was not refused {name}, but failed: {error}")
    return problems


def broker_user_problems(accounts: Iterable[str], found: Mapping[str, list[str]]) -> list[str]:
    """Return users of the broker that the plan does not have, and tags, which give power over the broker itself."""
    problems = [f"{name} is in no plan" for name in sorted(set(found) - set(accounts))]
    return problems + [f"{name} has the tags {', '.join(tags)}" for name, tags in sorted(found.items()) if tags]


def role_problems(user: str, roles: Iterable[str], found: Iterable[Iterable[str]]) -> list[str]:
    """Return how the roles of a service's user differ from those of its description, in the project `service` alone."""
    wanted = {(role, "project service") for role in roles}
    actual = {(role, scope) for name, role, scope in found if name == user}
    problems = [f"has the role {role} in {scope}" for role, scope in sorted(actual - wanted)]
    return problems + [f"lacks the role {role} in {scope}" for role, scope in sorted(wanted - actual)]
