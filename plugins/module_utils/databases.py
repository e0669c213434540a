"""MariaDB's databases and accounts: what is wanted against what the server's own tables say, as actions.

`fetch` reads, `compare` is pure but for the callables it hands out. Passwords travel as the hash that the server keeps,
so that no statement, and so no log and no error message of the server, holds one.
Sources: https://mariadb.com/docs/server/ (CREATE USER, GRANT, mysql.global_priv, mysql.db, information_schema).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.convergence import Action, ConvergenceError, duplicates

Query = Callable[[str, tuple[Any, ...]], list[dict[str, Any]]]
"""Runs one statement with its parameters and returns the rows."""

SECRET = "<secret>"  # noqa: S105 - the words that stand for one
ANOTHER = "<another secret>"

PRIVILEGES = (
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE TEMPORARY TABLES",
    "LOCK TABLES", "EXECUTE", "CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT", "TRIGGER",
    "DELETE HISTORY", "SHOW CREATE ROUTINE",
)  # fmt: skip
"""Privileges on a database that `ALL` stands for. `SHOW CREATE ROUTINE` came with MariaDB 11.3."""

_COLUMNS = {
    "CREATE TEMPORARY TABLES": "Create_tmp_table_priv",
    "DELETE HISTORY": "Delete_history_priv",
}
_IMPLIED_STEP, _CREATE, _GRANT, _REVOKE, _DROP_USER, _DROP = 0, 1, 2, 3, 4, 5

Account = tuple[str, str]
"""Name and host."""


@dataclass
class Actual:
    """What the server has: databases with character set and collation, accounts, grants on databases."""

    databases: dict[str, tuple[str, str]] = field(default_factory=dict)
    accounts: dict[Account, dict[str, Any]] = field(default_factory=dict)
    """Account: the JSON text of mysql.global_priv as a mapping."""
    grants: dict[tuple[Account, str], frozenset[str]] = field(default_factory=dict)
    """Account and database as the table spells it (a pattern): privileges."""
    known: frozenset[str] = frozenset(PRIVILEGES)
    """Privileges on databases that this version has."""
    collations: dict[str, str] = field(default_factory=dict)
    """Character set: the collation a database gets when it names none."""
