"""MariaDB's databases and accounts: what is wanted against what the server's own tables say, as actions.

`fetch` reads, `compare` is pure but for the callables it hands out. Passwords travel as the hash that the server keeps,
so that no statement, and so no log and no error message of the server, holds one.
Sources: https://mariadb.com/docs/server/ (CREATE USER, GRANT, mysql.global_priv, mysql.db, information_schema).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.convergence import Action, ConvergenceError, duplicates

Run = Callable[[str, Sequence[str]], Sequence[Mapping[str, Any]]]
"""Runs one statement (`%s` for parameters, `%%` for a percent sign) and returns the rows. Raises DatabaseError."""

SECRET = "<secret>"  # noqa: S105 - the words that stand for one
ANOTHER = "<another secret>"
ALL = "ALL"
GRANT_OPTION = "GRANT OPTION"

CREATE_STEP, ACCOUNT_STEP, GRANT_STEP, REVOKE_STEP, DROP_ACCOUNT_STEP, DROP_STEP = range(6)

DATA = "/var/lib/mysql"
"""The server's data directory (Debian)."""

Account = tuple[str, str]
"""Name and host."""

REQUIRE_SSL = 1
"""`ssl_type` of mysql.global_priv for REQUIRE SSL: SSL_TYPE_ANY of the server's enum SSL_type."""


class DatabaseError(Exception):
    """The server refused a statement or could not be reached; the message holds no password hash."""


@dataclass
class Actual:
    """What the server has: databases with character set and collation, accounts, grants on databases."""

    databases: dict[str, dict[str, str]] = field(default_factory=dict)
    accounts: dict[Account, dict[str, Any]] = field(default_factory=dict)
    """Account: the JSON of mysql.global_priv."""
    grants: dict[Account, dict[str, frozenset[str]]] = field(default_factory=dict)
    """Account: database as mysql.db spells it, which is a pattern: privileges."""
    privileges: frozenset[str] = frozenset()
    """What this version knows on databases, GRANT OPTION left out: what `ALL` stands for."""


@dataclass
class Wanted:
    """One account as it is wanted: its hash, whether it must use TLS, and its privileges by database."""

    hash: str
    require_ssl: bool
    grants: dict[str, frozenset[str]] = field(default_factory=dict)


def password_hash(password: str) -> str:
    """Return what mysql_native_password keeps of a password: an asterisk and SHA1(SHA1(password)) in hexadecimal."""
    inner = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


def without_hashes(text: str) -> str:
    """Return a text in which no password hash is left."""
    return re.sub(r"\*[0-9A-Fa-f]{8,40}", SECRET, text)


def identifier(name: str) -> str:
    """Return a name as an identifier in a statement that has parameters."""
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def pattern(database: str) -> str:
    """Return a database's name the way GRANT wants it, where `_` and `%` would stand for any character."""
    return re.sub(r"([\\_%])", r"\\\1", database)


def privilege_of(column: str) -> str:
    """Return the privilege that a column of mysql.db stands for: `Lock_tables_priv` is LOCK TABLES."""
    name = column.removesuffix("_priv").replace("_", " ").upper()
    return {"CREATE TMP TABLE": "CREATE TEMPORARY TABLES", "GRANT": GRANT_OPTION}.get(name, name)


def account_name(account: Account) -> str:
    """Return how an account is named in messages."""
    return f"{account[0]}@{account[1]}"


# --- reading ----------------------------------------------------------------------------------------------------------


def fetch(desired: Iterable[Mapping[str, Any]], run: Run) -> Actual:
    """Read all databases, and the accounts in question with their grants. Raises DatabaseError."""
    accounts = sorted({_account(item) for database in desired for item in database.get("accounts") or ()})
    actual = Actual()
    for row in run(
        "SELECT schema_name AS name, default_character_set_name AS character_set, default_collation_name AS collation"
        " FROM information_schema.schemata", ()
    ):  # fmt: skip
        actual.databases[row["name"]] = {"character_set": row["character_set"], "collation": row["collation"]}
    columns = [row["name"] for row in run(
        "SELECT column_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'mysql' AND table_name = 'db' AND column_name LIKE '%%\\_priv'", ()
    )]  # fmt: skip
    actual.privileges = frozenset(map(privilege_of, columns)) - {GRANT_OPTION}
    if not accounts:
        return actual
    names = sorted({name for name, _host in accounts})
    marks = ", ".join(["%s"] * len(names))
    for row in run(
        f"SELECT User AS name, Host AS host, Priv AS priv FROM mysql.global_priv WHERE User IN ({marks})",  # noqa: S608
        names,
    ):
        actual.accounts[row["name"], row["host"]] = json.loads(row["priv"])
    for row in run(f"SELECT * FROM mysql.db WHERE User IN ({marks})", names):  # noqa: S608 - marks only
        held = frozenset(privilege_of(column) for column in columns if row[column] == "Y")
        actual.grants.setdefault((row["User"], row["Host"]), {})[row["Db"]] = held
    return actual


def _account(item: Mapping[str, Any]) -> Account:
    return str(item["name"]), str(item.get("host") or "%")


def _present(item: Mapping[str, Any]) -> bool:
    return bool(item.get("state", "present") != "absent")


def users(run: Run) -> dict[str, set[str]]:
    """Return account -> addresses from which it is logged in now. Raises DatabaseError."""
    found: dict[str, set[str]] = {}
    for row in run("SELECT user AS name, host FROM information_schema.processlist", ()):
        found.setdefault(row["name"], set()).add(str(row["host"]).rpartition(":")[0] or str(row["host"]))
    return found


def refuse_used(actions: Sequence[Action], used: Mapping[str, set[str]]) -> None:
    """Raise ConvergenceError naming the accounts that are to be dropped while somebody is logged in with them."""
    names = [action.name for action in actions if (action.kind, action.verb) == ("account", "delete")]
    lines = [
        f"account {name}: is still used from {', '.join(sorted(used[name.partition('@')[0]]))}; "
        "roll the new one out there first (playbooks/site.yml), then run again"
        for name in names
        if name.partition("@")[0] in used
    ]
    if lines:
        raise ConvergenceError("\n".join(lines))


# --- comparing --------------------------------------------------------------------------------------------------------


def compare(desired: Sequence[Mapping[str, Any]], actual: Actual, run: Run) -> list[Action]:
    """Return the actions that turn what is there into what is wanted, in the order of their steps.

    An account reaches the databases it is named with and no other: what it may do elsewhere is revoked. It is dropped
    when no database wants it and one names it as absent, or is absent itself.
    Raises ConvergenceError with every mistake of the wanted state.
    """
    wanted, dropped = _wanted_accounts(desired, actual)
    actions: list[Action] = []
    for item in desired:
        actions += _database_actions(item, actual.databases.get(str(item["name"])), run)
    for account, want in wanted.items():
        actions += _account_actions(account, want, actual.accounts.get(account), run)
        actions += _grant_actions(account, want.grants, actual, run)
    for account in dropped:
        if account in actual.accounts:
            change = partial(run, "DROP USER %s@%s", account)
            before = _shown(actual.accounts[account], None)
            actions.append(
                Action("account", "delete", account_name(account), before, {}, change, DROP_ACCOUNT_STEP)
            )
    return sorted(actions, key=lambda action: action.step)


def _wanted_accounts(
    desired: Sequence[Mapping[str, Any]], actual: Actual
) -> tuple[dict[Account, Wanted], list[Account]]:
    """Return the accounts that are to exist, and those that are to go. Raises ConvergenceError."""
    problems = [
        f"database {name}: named more than once; one entry may stay"
        for name in duplicates(str(item["name"]) for item in desired)
    ]
    wanted: dict[Account, Wanted] = {}
    absent: dict[Account, None] = {}
    for database in desired:
        for name in ("character_set", "collation"):
            if not re.fullmatch(r"\w*", str(database.get(name) or "")):
                problems.append(f"database {database['name']}: {name} {database[name]!r} is not a name")
        items = database.get("accounts") or ()
        problems += [
            f"database {database['name']}: account {name} is named more than once; one entry may stay"
            for name in duplicates(account_name(_account(item)) for item in items)
        ]
        for item in items:
            account = _account(item)
            if not (_present(item) and _present(database)):
                absent[account] = None
                continue
            where = f"database {database['name']}: account {account_name(account)}"
            if not item.get("password"):
                problems.append(f"{where}: no password; give one, or `state: absent`")
                continue
            want = Wanted(password_hash(item["password"]), bool(item.get("require_ssl")))
            want = wanted.setdefault(account, want)
            if (want.hash, want.require_ssl) != (password_hash(item["password"]), bool(item.get("require_ssl"))):
                problems.append(f"{where}: password or require_ssl differ from its entry at another database")
            privileges = frozenset(str(name).upper() for name in item.get("privileges") or [ALL])
            # Which ones a server knows that is not there yet, nobody can say.
            unknown = sorted(privileges - actual.privileges - {ALL}) if ALL not in actual.privileges else []
            if unknown:
                problems.append(f"{where}: this server knows no privilege {', '.join(unknown)} on databases")
            want.grants[pattern(str(database["name"]))] = actual.privileges if ALL in privileges else privileges
    if problems:
        raise ConvergenceError("\n".join(problems))
    return wanted, [account for account in absent if account not in wanted]


def _database_actions(item: Mapping[str, Any], found: Mapping[str, str] | None, run: Run) -> Iterator[Action]:
    name = str(item["name"])
    if not _present(item):
        if found is not None:
            change = partial(run, f"DROP DATABASE {identifier(name)}", ())
            yield Action("database", "delete", name, found, {}, change, DROP_STEP)
        return
    want = {option: str(item[option]) for option in ("character_set", "collation") if item.get(option)}
    settings = "".join(
        f" {word} {want[option]}"
        for option, word in (("character_set", "CHARACTER SET"), ("collation", "COLLATE"))
        if option in want
    )
    if found is None:
        change = partial(run, f"CREATE DATABASE {identifier(name)}{settings}", ())
        yield Action("database", "create", name, {}, want, change, CREATE_STEP)


def _shown(record: Mapping[str, Any], want: Wanted | None) -> dict[str, Any]:
    """Return what a diff shows of an account that exists."""
    same = want is not None and record.get("authentication_string") == want.hash
    more = [str(other.get("plugin")) for other in record.get("auth_or") or () if other.get("plugin")]
    return {
        "password": SECRET if same or want is None else ANOTHER,
        "authentication": " or ".join([str(record.get("plugin") or "mysql_native_password"), *more]),
        "require_ssl": record.get("ssl_type", 0) == REQUIRE_SSL
        if record.get("ssl_type", 0) in (0, REQUIRE_SSL)
        else "certificate",
        "locked": bool(record.get("account_locked", False)),
        "global_privileges": bool(record.get("access", 0)),
    }


def _account_actions(account: Account, want: Wanted, record: Mapping[str, Any] | None, run: Run) -> Iterator[Action]:
    after = {
        "password": SECRET,
        "authentication": "mysql_native_password",
        "require_ssl": want.require_ssl,
        "locked": False,
        "global_privileges": False,
    }
    attributes = f"IDENTIFIED VIA mysql_native_password USING %s REQUIRE {'SSL' if want.require_ssl else 'NONE'}"
    name = account_name(account)
    if record is None:
        change = partial(run, f"CREATE USER %s@%s {attributes}", (*account, want.hash))
        yield Action("account", "create", name, {}, after, change, ACCOUNT_STEP)
        return
    before = _shown(record, want)
    if before != after:

        def update() -> None:
            run(f"ALTER USER %s@%s {attributes} ACCOUNT UNLOCK", (*account, want.hash))
            if before["global_privileges"]:
                run("REVOKE ALL PRIVILEGES ON *.* FROM %s@%s", account)
                run("REVOKE GRANT OPTION ON *.* FROM %s@%s", account)

        yield Action("account", "update", name, before, after, update, ACCOUNT_STEP)


def _grant_actions(
    account: Account, want: Mapping[str, frozenset[str]], actual: Actual, run: Run
) -> Iterator[Action]:
    """Yield the changes of what an account may do, one for each database."""
    held = actual.grants.get(account, {}) if account in actual.accounts else {}
    for database in sorted({*want, *held}):
        new, old = want.get(database, frozenset()), held.get(database, frozenset())
        if new == old:
            continue
        before = {"privileges": _privileges_shown(old, actual)} if old else {}
        after = {"privileges": _privileges_shown(new, actual)} if new else {}
        # What is wanted is spelled as the inventory does; what is not, as the table does, since it may be a pattern.
        spelled = re.sub(r"\\(.)", r"\1", database) if database in want else database
        name = f"of {account_name(account)} on {spelled}"
        change = partial(_set_grant, run, account, database, new, old, actual.privileges)
        if new:
            yield Action("grant", "update" if old else "create", name, before, after, change, GRANT_STEP)
        else:
            yield Action("grant", "delete", name, before, {}, change, REVOKE_STEP)


def _privileges_shown(held: frozenset[str], actual: Actual) -> str:
    return ", ".join([ALL, *sorted(held - actual.privileges)] if held >= actual.privileges else sorted(held))


def _set_grant(
    run: Run, account: Account, database: str, new: frozenset[str], old: frozenset[str], known: frozenset[str]
) -> None:
    """Grant what is missing, then revoke what is too much, so that a client never lacks what it keeps."""
    where = f"ON {identifier(database)}.*"
    if new - old:
        names = "ALL PRIVILEGES" if new == known else ", ".join(sorted(new - old))
        run(f"GRANT {names} {where} TO %s@%s", account)
    if old - new:
        run(f"REVOKE {', '.join(sorted(old - new))} {where} FROM %s@%s", account)


# --- talking ----------------------------------------------------------------------------------------------------------


FRESH = Actual(privileges=frozenset({ALL}))
"""What a server that was just installed holds of all this, as far as a dry run has to know."""


def held(desired: Iterable[Mapping[str, Any]], data: str = DATA) -> list[str]:
    """Return which databases a server that does not run holds: each is a directory of its name."""
    return [str(item["name"]) for item in desired if os.path.isdir(os.path.join(data, str(item["name"])))]


def unreachable(statement: str, parameters: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """Refuse a statement: what a server that is not there yet would say is only predicted."""
    raise DatabaseError("there is no server yet")


def connect(unix_socket: str, user: str = "root") -> Run:
    """Log in through a UNIX socket as the operating system's user of that name, and return what runs statements.

    Raises DatabaseError, and ImportError where PyMySQL (Debian: python3-pymysql) is missing.
    """
    import pymysql  # noqa: PLC0415 - of the database host
    import pymysql.cursors  # noqa: PLC0415

    try:
        connection = pymysql.connect(
            unix_socket=unix_socket,
            user=user,
            charset="utf8mb4",
            autocommit=True,
            cursorclass=pymysql.cursors.DictCursor,
        )
    except pymysql.err.Error as error:
        raise DatabaseError(f"cannot log in as {user} at {unix_socket}: {_message(error)}") from error

    def run(statement: str, parameters: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, tuple(parameters))
                return list(cursor.fetchall())
        except pymysql.err.Error as error:
            raise DatabaseError(_message(error)) from error

    return run


def _message(error: Exception) -> str:
    """Return the server's message and error number, without a password hash."""
    number, *text = [*error.args, ""]
    return without_hashes(f"{' '.join(map(str, text)).strip()} (error {number})")
