"""
The stand-in's connections: Auth and Storage each log in as their own role, as on Supabase.

That is what makes local results worth something: triggers on `auth.users` run with Auth's
privileges, and Storage acts under the caller's claims, so the policies decide.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

Row = dict[str, Any]
Connection = psycopg.Connection[Row]

AUTH = "supabase_auth_admin"
STORAGE = "supabase_storage_admin"
API = "authenticator"

_MAX_CONNECTIONS = 12
_MAX_IDLE = 4


class Database:
    """
    A small pool for each role.

    A connection is pinged before use, so the database may be restarted in between.
    """

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        self._lock = threading.Lock()
        self._idle: dict[str, list[Connection]] = defaultdict(list)
        self._slots: dict[str, threading.BoundedSemaphore] = defaultdict(
            lambda: threading.BoundedSemaphore(_MAX_CONNECTIONS)
        )

    @contextlib.contextmanager
    def transaction(self, role: str) -> Iterator[Connection]:
        """Run the block in one transaction of `role`; raises `psycopg.Error`."""
        with self._lock:
            slots = self._slots[role]
        with slots:
            connection = self._take(role)
            try:
                with connection.transaction():
                    yield connection
            finally:
                self._give_back(role, connection)

    @contextlib.contextmanager
    def transaction_as(self, claims: Mapping[str, Any]) -> Iterator[Connection]:
        """Run the block with the role and the claims of a caller; raises `psycopg.Error`."""
        with self.transaction(API) as connection:
            connection.execute(
                "select set_config('role', %s, true),"
                " set_config('request.jwt.claims', %s, true),"
                " set_config('storage.allow_delete_query', 'true', true)",
                (claims.get("role", "anon"), json.dumps(dict(claims))),
            )
            yield connection

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle = [connection for pool in self._idle.values() for connection in pool]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _take(self, role: str) -> Connection:
        while True:
            with self._lock:
                connection = self._idle[role].pop() if self._idle[role] else None
            if connection is None:
                return psycopg.connect(
                    make_conninfo(self._admin_url, user=role),
                    autocommit=True,
                    prepare_threshold=None,
                    connect_timeout=5,
                    row_factory=dict_row,
                )
            try:
                connection.execute("")
            except psycopg.Error:
                connection.close()
            else:
                return connection

    def _give_back(self, role: str, connection: Connection) -> None:
        with self._lock:
            if not connection.closed and len(self._idle[role]) < _MAX_IDLE:
                self._idle[role].append(connection)
                return
        connection.close()


def fetch(connection: Connection, statement: LiteralString, *arguments: Any) -> Row | None:
    """Return the first row of `statement`, or None."""
    return connection.execute(statement, arguments).fetchone()
