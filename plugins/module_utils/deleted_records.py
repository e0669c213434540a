"""Rows that services mark as deleted and keep: how many there are that are old enough, and the commands that end them.

The columns `deleted_at` and, where there is one, `deleted` are those of oslo.db's SoftDeleteMixin. Counting is what a
dry run can do; what goes is the commands' own matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import schema
from ansible_collections.brume.cloud.plugins.module_utils.databases import DatabaseError, Run, identifier

Count = Callable[[], Mapping[str, int]]
"""Returns table, with its database -> rows that are marked and old enough; tables without one are left out."""


@dataclass
class Records:
    """The rows of one service; `commands` are words and the exit codes of a success."""

    service: schema.Service
    commands: Sequence[tuple[Sequence[str], Sequence[int]]]
    count: Count
    found: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    stuck: bool = False
    """The last pass changed nothing."""

    @property
    def done(self) -> bool:
        """Whether another pass would be of no use."""
        return self.stuck or not self.left


def count(run: Run, database: str, keeps: Iterable[str], before: datetime) -> dict[str, int]:
    """Return the rows of a database that were deleted before a moment, by table. Raises DatabaseError."""
    columns: dict[str, set[str]] = {}
    for row in run(
        "SELECT table_name AS name, column_name AS part FROM information_schema.columns"
        " WHERE table_schema = %s AND column_name IN ('deleted', 'deleted_at') ORDER BY table_name",
        (database,),
    ):
        columns.setdefault(row["name"], set()).add(row["part"])
    found = {}
    for table, parts in columns.items():
        if "deleted_at" not in parts or table in keeps:
            continue
        # A number where rows have one, else a truth value: what is not deleted has 0 in both.
        marked = " AND deleted <> '0'" if "deleted" in parts else ""
        statement = f"SELECT COUNT(*) AS many FROM {identifier(table)} WHERE deleted_at < %s{marked}"  # noqa: S608
        (row,) = run(statement, (before.strftime("%Y-%m-%d %H:%M:%S"),))
        if row["many"]:
            found[f"{database}.{table}"] = int(row["many"])
    return found


def look(records: Iterable[Records]) -> None:
    """Count what there is."""
    for one in records:
        one.found = one.left = one.count()


def remove(
    records: Sequence[Records],
    redactions: Mapping[str, str],
    within: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run the commands of those that have rows, again while there are fewer then, for about `within` seconds.

    Raises SchemaError at the first command that fails; what has gone is gone, and the next run goes on.
    """
    end = clock() + within
    while True:
        todo = [one for one in records if not one.done]
        for one in todo:
            for words, success in one.commands:
                schema.execute(one.service, words, redactions, success)
            before, one.left = sum(one.left.values()), one.count()
            one.stuck = sum(one.left.values()) >= before
        if not todo or clock() > end:
            return


def connect(url: str) -> Run:
    """Return what runs statements in the database of a SQLAlchemy URL. Raises ImportError."""
    import sqlalchemy  # noqa: PLC0415 - of a service's environment
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    engine = sqlalchemy.create_engine(url, poolclass=NullPool)

    def run(statement: str, parameters: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        try:
            with engine.connect() as connection:
                return [dict(row) for row in connection.exec_driver_sql(statement, tuple(parameters)).mappings()]
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise DatabaseError(f"{engine.url.database}: {getattr(error, 'orig', None) or error}") from error

    return run
