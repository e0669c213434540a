"""Databases and accounts: a fake server's tables in, actions and statements out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import databases
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, converge

HASH = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"  # of `password`, from MariaDB's manual
KNOWN = frozenset({"SELECT", "INSERT", "DROP", "CREATE TEMPORARY TABLES"})
COLUMNS = ("Select_priv", "Insert_priv", "Drop_priv", "Create_tmp_table_priv", "Grant_priv")


class Server:
    """Answers what `fetch` asks, and keeps the statements that change something."""

    def __init__(
        self,
        names: Mapping[str, tuple[str, str]] | None = None,
        accounts: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
        grants: Mapping[tuple[str, str, str], Sequence[str]] | None = None,
    ) -> None:
        """Take what the server's tables hold."""
        self.names, self.accounts, self.grants = names or {}, accounts or {}, grants or {}
        self.statements: list[tuple[str, tuple[str, ...]]] = []

    def __call__(self, statement: str, parameters: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Answer one statement."""
        if "information_schema.schemata" in statement:
            return [{"name": n, "character_set": c, "collation": o} for n, (c, o) in self.names.items()]
        if "information_schema.columns" in statement:
            return [{"name": column} for column in COLUMNS]
        if "mysql.global_priv" in statement:
            return [{"name": n, "host": h, "priv": json.dumps(p)} for (n, h), p in self.accounts.items()]
        if "mysql.db" in statement:
            return [
                {"User": n, "Host": h, "Db": d} | {column: "Y" if column in held else "N" for column in COLUMNS}
                for (n, h, d), held in self.grants.items()
            ]
        self.statements.append((statement, tuple(parameters)))
        return []


def account(**more: Any) -> dict[str, Any]:
    return {"plugin": "mysql_native_password", "authentication_string": HASH, "access": 0, "ssl_type": 0} | more


def database(name: str = "nova_api", **more: Any) -> dict[str, Any]:
    accounts = [{"name": "nova_api", "password": "password"}]
    return {"name": name, "character_set": "utf8mb4", "accounts": accounts} | more


def existing(**more: Any) -> Server:
    everything = [column for column in COLUMNS if column != "Grant_priv"]
    return Server(
        {"nova_api": ("utf8mb4", "utf8mb4_uca1400_ai_ci")},
        {("nova_api", "%"): account(**more)},
        {("nova_api", "%", r"nova\_api"): everything},
    )


def run(server: Server, *wanted: Mapping[str, Any]) -> dict[str, Any]:
    actual = databases.fetch(wanted, server)
    return converge(databases.compare(wanted, actual, server), check_mode=False)


def test_the_hash_is_the_servers() -> None:
    assert databases.password_hash("password") == HASH


def test_everything_is_made_without_a_password_in_a_statement() -> None:
    server = Server()
    result = run(server, database())
    assert result["actions"] == [
        "create database nova_api", "create account nova_api@%", "create grant of nova_api@% on nova_api",
    ]  # fmt: skip
    assert server.statements == [
        ("CREATE DATABASE `nova_api` CHARACTER SET utf8mb4", ()),
        ("CREATE USER %s@%s IDENTIFIED VIA mysql_native_password USING %s REQUIRE NONE", ("nova_api", "%", HASH)),
        (r"GRANT ALL PRIVILEGES ON `nova\_api`.* TO %s@%s", ("nova_api", "%")),
    ]


def test_what_is_as_wanted_stays() -> None:
    server = existing()
    assert run(server, database())["changed"] is False
    assert server.statements == []


@pytest.mark.parametrize(
    ("record", "wanted", "named"),
    [
        ({"authentication_string": "*OLD"}, {}, "password"),
        ({"plugin": "unix_socket", "authentication_string": HASH}, {}, "authentication"),
        ({"auth_or": [{}, {"plugin": "unix_socket"}]}, {}, "authentication"),
        ({"ssl_type": 1}, {}, "require_ssl"),
        ({}, {"require_ssl": True}, "require_ssl"),
        ({"ssl_type": 2}, {"require_ssl": True}, "require_ssl"),
        ({"account_locked": True}, {}, "locked"),
        ({"access": 1}, {}, "global_privileges"),
    ],
)
def test_what_differs_of_an_account_is_named_and_set(record: Any, wanted: Any, named: str) -> None:
    server = existing(**record)
    item = {"name": "nova_api", "password": "password"} | wanted
    result = run(server, database(accounts=[item]))
    assert result["actions"] == [f"update account nova_api@% ({named})"]
    assert server.statements[0][0].startswith("ALTER USER %s@%s IDENTIFIED VIA mysql_native_password USING %s REQUIRE ")
    revoked = [statement for statement, _parameters in server.statements if statement.startswith("REVOKE ALL")]
    assert bool(revoked) == (named == "global_privileges")
    assert HASH not in str(result) and "*OLD" not in str(result)


@pytest.mark.parametrize(
    ("grants", "privileges", "statements"),
    [
        # An unescaped underscore reaches other databases too: the grant is made anew, then the old one revoked.
        ({"nova_api": ["Select_priv"]}, ["SELECT"],
         [r"GRANT SELECT ON `nova\_api`.*", "REVOKE SELECT ON `nova_api`.*"]),
        ({"other": ["Drop_priv"], r"nova\_api": ["Select_priv"]}, ["select"], ["REVOKE DROP ON `other`.*"]),
        ({r"nova\_api": ["Select_priv", "Grant_priv"]}, ["SELECT"], [r"REVOKE GRANT OPTION ON `nova\_api`.*"]),
        ({r"nova\_api": ["Select_priv", "Drop_priv"]}, ["SELECT", "INSERT"],
         [r"GRANT INSERT ON `nova\_api`.*", r"REVOKE DROP ON `nova\_api`.*"]),
        ({r"nova\_api": ["Create_tmp_table_priv"]}, ["CREATE TEMPORARY TABLES"], []),
    ],
)  # fmt: skip
def test_an_account_reaches_its_own_databases_only(grants: Any, privileges: list[str], statements: list[str]) -> None:
    server = existing()
    server.grants = {("nova_api", "%", name): held for name, held in grants.items()}
    run(server, database(accounts=[{"name": "nova_api", "password": "password", "privileges": privileges}]))
    assert [text.partition(" TO ")[0].partition(" FROM ")[0] for text, _parameters in server.statements] == statements


def test_character_set_and_collation_are_set_when_the_database_is_made() -> None:
    server = existing()
    run(server, database("glance", collation="utf8mb4_bin", accounts=[]))
    assert server.statements == [("CREATE DATABASE `glance` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", ())]


def test_what_a_migration_made_of_the_character_set_stays() -> None:
    server = existing()
    assert run(server, database(character_set="utf8mb3", collation="utf8mb3_bin"))["actions"] == []


def test_nothing_is_dropped_unless_it_says_so() -> None:
    server = existing()
    assert run(server, database("glance", accounts=[]))["actions"] == ["create database glance"]
    server = existing()
    assert run(server, database(state="absent"))["actions"] == ["delete account nova_api@%", "delete database nova_api"]
    assert [text for text, _parameters in server.statements] == ["DROP USER %s@%s", "DROP DATABASE `nova_api`"]
    assert run(Server(), database(state="absent"))["changed"] is False


def test_an_account_that_another_database_wants_stays() -> None:
    server = existing()
    server.names = {"nova_api": ("utf8mb4", "x"), "cell": ("utf8mb4", "x")}
    gone = database("cell", accounts=[{"name": "nova_api", "state": "absent"}])
    assert run(server, database(), gone)["changed"] is False


def test_a_server_that_is_not_there_yet_is_predicted(tmp_path: Path) -> None:
    wanted = [database("nova"), database("glance", accounts=[])]
    wanted[0]["accounts"] += [{"name": "reader", "password": "x", "privileges": ["SELECT"]}]
    predicted = databases.compare(wanted, databases.FRESH, databases.unreachable)
    dry, server = converge(predicted, check_mode=True), Server()
    assert dry == run(server, *wanted)
    assert len(dry["actions"]) == 6
    with pytest.raises(ConvergenceError, match="create database nova: there is no server yet"):
        converge(predicted, check_mode=False)
    (tmp_path / "nova").mkdir()
    (tmp_path / "glance").touch()
    assert databases.held(wanted, str(tmp_path)) == ["nova"]


def test_an_account_that_goes_must_not_be_in_use() -> None:
    rows = [("nova_api", "192.0.2.11:4711"), ("nova_api", "2001:db8::5:4711"), ("root", "localhost"), ("x", "")]

    def processes(statement: str, parameters: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        assert "processlist" in statement
        return [{"name": name, "host": host} for name, host in rows]

    used = databases.users(processes)
    assert used == {"nova_api": {"192.0.2.11", "2001:db8::5"}, "root": {"localhost"}, "x": {""}}
    gone = [{"name": "nova_api", "state": "absent"}, {"name": "nova_api_2", "password": "password"}]
    server = existing()
    actions = databases.compare([database(accounts=gone)], databases.fetch([database(accounts=gone)], server), server)
    databases.refuse_used(actions, {"nova_api_2": {"192.0.2.11"}})
    with pytest.raises(ConvergenceError) as caught:
        databases.refuse_used(actions, used)
    assert str(caught.value) == (
        "account nova_api@%: is still used from 192.0.2.11, 2001:db8::5; "
        "roll the new one out there first (playbooks/site.yml), then run again"
    )


def test_names_are_quoted() -> None:
    assert databases.identifier("a`b%") == "`a``b%%`"
    assert databases.pattern("a_b%c\\") == "a\\_b\\%c\\\\"


def test_messages_hold_no_hash() -> None:
    assert databases.without_hashes(f"near '{HASH}' at line 1") == "near '<secret>' at line 1"


def test_every_mistake_is_reported_at_once() -> None:
    wanted = [
        database("a", accounts=[{"name": "x"}, {"name": "y", "password": "p", "privileges": ["FLY"]}]),
        database("a", accounts=[]),
        database("b", character_set="utf8; DROP", accounts=[{"name": "z", "password": "1"}]),
        database("c", accounts=[{"name": "z", "password": "2"}]),
    ]
    with pytest.raises(ConvergenceError) as caught:
        databases.compare(wanted, databases.Actual(privileges=KNOWN), Server())
    assert str(caught.value).splitlines() == [
        "database a: named more than once; one entry may stay",
        "database a: account x@%: no password; give one, or `state: absent`",
        "database a: account y@%: this server knows no privilege FLY on databases",
        "database b: character_set 'utf8; DROP' is not a name",
        "database c: account z@%: password or require_ssl differ from its entry at another database",
    ]
