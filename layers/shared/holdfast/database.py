"""
One connection to PostgreSQL, kept for the life of an execution environment.

Every call is a single statement and so a single transaction. The SQL functions of this project are
safe to call again, which is why a statement whose connection broke is simply repeated once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, LiteralString

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb, JsonbDumper, set_json_loads
from pydantic import SecretStr

from holdfast.errors import LEDGER_ERRORS, LedgerMisuseError, UnavailableError
from holdfast.observability import logger

Parameters = Mapping[str, Any] | Sequence[Any]
Connection = psycopg.Connection[DictRow]
Connect = Callable[[], Connection]

RETRY_AFTER_SECONDS = 2

_LEDGER_CLASS = "HF"
# Trouble that passes: the same statement is welcome again in a moment.
_PASSING = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available: lock_timeout
        "57014",  # query_canceled: statement_timeout
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
    }
)
_PASSING_CLASSES = ("08", "53")  # connection exceptions, insufficient resources


class Database:
    """
    Run statements on a connection made when it is first needed.

    `url` carries user, host and sslmode. `connect` replaces the driver in tests.
    """

    def __init__(
        self,
        url: SecretStr,
        *,
        application_name: str = "holdfast",
        connect: Connect | None = None,
    ) -> None:
        self._connect = connect or partial(_connect, url, application_name)
        self._connection: Connection | None = None

    def one(self, query: LiteralString, params: Parameters = ()) -> dict[str, Any]:
        """
        Run a statement and return its one row.

        Raises `LookupError` when it returned none, a `LedgerMisuseError` for SQLSTATEs of the class
        HF, `UnavailableError` when the database is away or busy, and `psycopg.Error` otherwise.
        """
        rows = self.all(query, params)
        if not rows:
            raise LookupError("the statement returned no row")
        return rows[0]

    def all(self, query: LiteralString, params: Parameters = ()) -> list[dict[str, Any]]:
        """Run a statement and return its rows; raises as `one` does."""
        try:
            return self._run_twice(query, params)
        except psycopg.Error as error:
            raise _translated(error) from error

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run_twice(self, query: LiteralString, params: Parameters) -> list[dict[str, Any]]:
        """
        Run the statement, on a new connection if the old one turns out to be gone.

        A thawed sandbox cannot see that its peer has left: the first use fails. The statement may
        have been committed before its answer was lost, so this relies on it being repeatable.
        """
        try:
            return self._run(query, params)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if self._connection is None or not self._connection.closed:
                raise  # it could not be opened at all, or it is alive and said no
            logger().warning("database connection lost, repeating", sqlstate=error.sqlstate)
            self._connection = None
        return self._run(query, params)

    def _run(self, query: LiteralString, params: Parameters) -> list[dict[str, Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = None
            self._connection = self._connect()
        with self._connection.cursor() as cursor:
            cursor.execute(query, params)
            return cursor.fetchall()


class ExactJsonDumper(JsonbDumper):
    """Write JSON with amounts and ids as text; `_connect` reads its numbers as `Decimal`."""

    @staticmethod
    def _dumps(value: Any) -> str:  # noqa: ANN401 - JSON is of any shape
        return json.dumps(value, default=str)


def _connect(url: SecretStr, application_name: str) -> Connection:
    connection = psycopg.connect(
        url.get_secret_value(),
        autocommit=True,
        # Behind a transaction pooler a prepared statement belongs to somebody else's session.
        prepare_threshold=None,
        row_factory=dict_row,
        application_name=application_name,
        connect_timeout=5,
        keepalives=1,
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )
    for kind in (dict, Jsonb):
        connection.adapters.register_dumper(kind, ExactJsonDumper)
    set_json_loads(partial(json.loads, parse_float=Decimal), connection)
    return connection


def _translated(error: psycopg.Error) -> Exception:
    """Choose by SQLSTATE, never by message text."""
    state = error.sqlstate
    if state is not None and state.startswith(_LEDGER_CLASS):
        return LEDGER_ERRORS.get(state, LedgerMisuseError)(
            reason=f"{state}: {error.diag.message_primary}"
        )
    lost = state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if lost or state in _PASSING or (state or "").startswith(_PASSING_CLASSES):
        return UnavailableError(
            reason=f"database: {state or type(error).__name__}", retry_after=RETRY_AFTER_SECONDS
        )
    return error
