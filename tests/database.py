"""A migrated test database and ways to talk to it, each as one of the roles that exist in production."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, LiteralString, Self
from uuid import UUID

import psycopg
from psycopg.abc import Buffer
from psycopg.rows import DictRow, dict_row
from psycopg.types.datetime import TimestamptzLoader

from local.postgres import PostgresServer

Connection = psycopg.Connection[DictRow]
NEVER = datetime.max.replace(tzinfo=UTC)
"""What an expiry of `infinity` is read as."""


class _Loader(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        return NEVER if bytes(data) == b"infinity" else super().load(data)


class TestDatabase:
    """One database of the test server. Connections are in autocommit, so that a statement is a transaction."""

    __test__ = False  # the name is not a test's

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self._connections: dict[str, Connection] = {}

    def url(self, role: str) -> str:
        """Return the URL of this database for `role`."""
        return self.server.url(role, self.name)

    def connect(self, role: str) -> Connection:
        """Open a connection as a login role; the caller closes it."""
        connection = psycopg.connect(self.url(role), autocommit=True, row_factory=dict_row)
        connection.adapters.register_loader("timestamptz", _Loader)
        return connection

    def connection(self, role: str) -> Connection:
        """Return the one connection of `role` that is kept for this database."""
        kept = self._connections.get(role)
        if kept is None or kept.closed:
            kept = self._connections[role] = self.connect(role)
        return kept

    @contextlib.contextmanager
    def acting_as(
        self, role: str, user: UUID | str | None = None, claims: Mapping[str, Any] | None = None
    ) -> Iterator[Connection]:
        """
        Open a transaction as an API role, the way the Data API does; it is rolled back.

        `user` becomes the `sub` of the verified claims.
        """
        connection = self.connection("authenticator")
        everything = {"role": role, **({"sub": str(user)} if user else {}), **(claims or {})}
        with connection.transaction(force_rollback=True):
            connection.execute(
                "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                (role, json.dumps(everything)),
            )
            yield connection

    def rows(self, query: LiteralString, *params: object) -> list[dict[str, Any]]:
        """Read as the owner, past row level security."""
        return self.connection("postgres").execute(query, params).fetchall()

    def row(self, query: LiteralString, *params: object) -> dict[str, Any]:
        """Read exactly one row as the owner."""
        (row,) = self.rows(query, *params)
        return row

    def value(self, query: LiteralString, *params: object) -> Any:
        """Read exactly one value as the owner."""
        (value,) = self.row(query, *params).values()
        return value

    def close(self) -> None:
        """Close the kept connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
