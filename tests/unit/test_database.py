from decimal import Decimal
from typing import Any, Self, cast
from uuid import UUID

import psycopg
import pytest
from psycopg import errors as pg
from pydantic import SecretStr

from holdfast.database import Connection, Database, ExactJsonDumper
from holdfast.errors import LEDGER_ERRORS, LedgerMisuseError, UnavailableError

URL = SecretStr("postgresql://u:hunter22@127.0.0.1/app")
ROWS = [{"outcome": "reserved"}]


class FakeConnection:
    """A connection that answers each statement with rows, or fails with an error."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.statements: list[tuple[str, Any]] = []
        self.closed = False

    def cursor(self) -> Self:
        """Return itself: it is its own cursor."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, query: str, params: Any) -> None:
        """Note the statement and fail if the script says so; a lost connection is closed."""
        self.statements.append((query, params))
        if isinstance(self.script[0], Exception):
            error = self.script.pop(0)
            self.closed = getattr(error, "closes", False)
            raise error

    def fetchall(self) -> Any:
        """Return the rows the script has next."""
        return self.script.pop(0)

    def close(self) -> None:
        """Close it."""
        self.closed = True


def lost(error: psycopg.Error) -> psycopg.Error:
    """Mark an error as one that ends its connection."""
    error.closes = True  # type: ignore[attr-defined]
    return error


def database_with(*connections: Any) -> tuple[Database, list[Any]]:
    """Return a database that gets these connections in turn, and what is left of them."""
    waiting = list(connections)

    def connect() -> Connection:
        connection = waiting.pop(0)
        if isinstance(connection, Exception):
            raise connection
        return cast("Connection", connection)

    return Database(URL, connect=connect), waiting


def state(code: str) -> psycopg.Error:
    """Return the error psycopg raises for an SQLSTATE."""
    try:
        return pg.lookup(code)("words")
    except KeyError:
        error = psycopg.DatabaseError("words")
        error.sqlstate = code
        return error


def test_one_connection_serves_every_statement() -> None:
    """It is opened when first needed and kept."""
    connection = FakeConnection(ROWS, ROWS)
    database, waiting = database_with(connection)

    assert connection.statements == []
    assert database.one("select %s", (1,)) == ROWS[0]
    assert database.all("select %s", (2,)) == ROWS
    assert connection.statements == [("select %s", (1,)), ("select %s", (2,))]
    assert waiting == []


def test_a_statement_without_a_row_is_a_bug() -> None:
    """`one` promises a row; none is an error of ours."""
    database, _ = database_with(FakeConnection([]))

    with pytest.raises(LookupError):
        database.one("select 1 where false")


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("server closed the connection unexpectedly"),
        psycopg.InterfaceError("the connection is lost"),
        pg.AdminShutdown("terminating connection due to administrator command"),
    ],
)
def test_a_lost_connection_is_replaced_and_the_statement_repeated(error: Any) -> None:
    """After a freeze the first use fails; the caller does not notice."""
    second = FakeConnection(ROWS)
    database, _ = database_with(FakeConnection(lost(error)), second)

    assert database.one("select 1") == ROWS[0]
    assert second.statements == [("select 1", ())]


def test_a_connection_closed_meanwhile_is_replaced() -> None:
    """One that is already known to be closed costs no failed try."""
    first = FakeConnection(ROWS)
    database, _ = database_with(first, FakeConnection(ROWS))
    database.one("select 1")
    first.closed = True

    assert database.one("select 1") == ROWS[0]
    assert len(first.statements) == 1


def test_a_statement_is_repeated_once_only() -> None:
    """A second loss is unavailability, not a third try."""
    gone = [
        FakeConnection(lost(psycopg.OperationalError("gone"))),
        FakeConnection(lost(psycopg.OperationalError("gone"))),
        FakeConnection(ROWS),
    ]
    database, waiting = database_with(*gone)

    with pytest.raises(UnavailableError) as caught:
        database.one("select 1")
    assert len(waiting) == 1
    assert caught.value.retry_after


def test_a_database_that_cannot_be_reached_is_unavailable_and_may_come_back() -> None:
    """A failed connect is asked once a call and leaves nothing broken behind."""
    database, waiting = database_with(psycopg.OperationalError("refused"), FakeConnection(ROWS))

    with pytest.raises(UnavailableError) as caught:
        database.one("select 1")
    assert "hunter22" not in str(caught.value)
    assert len(waiting) == 1
    assert database.one("select 1") == ROWS[0]


@pytest.mark.parametrize(
    "code",
    [
        *("40001", "40P01", "55P03", "57014", "57P03", "53300", "53400", "53200", "08006", "08P01"),
    ],
)
def test_passing_trouble_is_unavailability_and_not_repeated(code: Any) -> None:
    """Locks, timeouts and full servers ask the caller to come back; the connection is kept."""
    connection = FakeConnection(state(code), ROWS)
    database, _ = database_with(connection)

    with pytest.raises(UnavailableError) as caught:
        database.one("select 1")
    assert caught.value.retry_after
    assert len(connection.statements) == 1
    assert database.one("select 1") == ROWS[0]


@pytest.mark.parametrize(("code", "error_class"), LEDGER_ERRORS.items())
def test_ledger_misuse_is_told_by_its_sqlstate(code: Any, error_class: Any) -> None:
    """Each private SQLSTATE raises its own class, whatever the message says."""
    database, _ = database_with(FakeConnection(state(code)))

    with pytest.raises(LedgerMisuseError) as caught:
        database.one("select 1")
    assert type(caught.value) is error_class


def test_an_unknown_private_sqlstate_is_still_misuse() -> None:
    """A newer SQL than this code is not mistaken for unavailability."""
    database, _ = database_with(FakeConnection(state("HF999")))

    with pytest.raises(LedgerMisuseError):
        database.one("select 1")


@pytest.mark.parametrize("code", ["42883", "23505", "22P02", "42501"])
def test_other_errors_are_bugs_and_stay_what_they_are(code: Any) -> None:
    """A missing function or right is not hidden behind another error."""
    database, _ = database_with(FakeConnection(state(code)))

    with pytest.raises(psycopg.Error) as caught:
        database.one("select 1")
    assert caught.value.sqlstate == code


def test_closing_makes_the_next_statement_connect_again() -> None:
    """After `close` the database can still be used."""
    first = FakeConnection(ROWS)
    database, _ = database_with(first, FakeConnection(ROWS))
    database.one("select 1")
    database.close()

    assert first.closed
    assert database.one("select 1") == ROWS[0]


def test_amounts_inside_json_are_written_as_text() -> None:
    """A Decimal or an id in JSON never becomes a float or an error."""
    dumper = ExactJsonDumper(dict)

    assert dumper.dump({"cost": Decimal("1.10"), "id": UUID(int=1)}) == (
        b'{"cost": "1.10", "id": "00000000-0000-0000-0000-000000000001"}'
    )


def test_connecting_asks_for_what_a_pooler_and_a_freeze_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver is called with the parameters of transaction mode and with keepalives."""
    seen: dict[str, Any] = {}

    def connect(url: str, **options: Any) -> Any:
        seen.update(options, url=url)
        raise psycopg.OperationalError("enough")

    monkeypatch.setattr(psycopg, "connect", connect)
    with pytest.raises(UnavailableError):
        Database(URL, application_name="holdfast-test").one("select 1")

    assert seen["url"] == URL.get_secret_value()
    assert seen["prepare_threshold"] is None
    assert seen["autocommit"] is True
    assert seen["application_name"] == "holdfast-test"
    assert (seen["connect_timeout"], seen["keepalives"], seen["tcp_user_timeout"]) == (5, 1, 10000)
    assert "sslmode" not in seen
    assert "options" not in seen
