"""
The product as one process of it: its own connections to Stripe and to the database, both of which may break.

Its parts are put together as in `functions/`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
import stripe
from pydantic import SecretStr

import holdfast.database
from holdfast.billing import BillingStore
from holdfast.catalog import Catalog
from holdfast.customers import CustomerStore
from holdfast.database import Database
from holdfast.frontend import Frontend
from holdfast.purchases import PurchaseStore
from holdfast.reconciliation import ReconciliationStore
from holdfast.stripe_client import StripeBilling, connect
from holdfast.stripe_reader import StripeReader
from holdfast.usecases.apply_stripe import StripeApplier
from holdfast.usecases.create_checkout import Checkout
from holdfast.usecases.receive_stripe_event import StripeReceiver
from holdfast.usecases.reconcile import Reconciler
from tests.chaos_stripe.standin import API_KEY, WEBHOOK_SECRET

SWEEP_SECONDS = 900

Answered = Callable[[str, str, str], None]
"""Is told the method, URL and body of an answer."""


class Http(stripe.RequestsClient):
    """The SDK's own client, which does not sleep; `answered` is told of each answer before the product sees it."""

    def __init__(self, answered: Answered) -> None:
        super().__init__(timeout=(2, 6))
        self._answered = answered

    def _sleep_time_seconds(self, num_retries: int) -> float:
        return 0.0

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> Any:
        """Send a request."""
        answer = super().request(method, url, headers, post_data)
        self._answered(method, url, answer[0])
        return answer


class Line:
    """A connection to the database. `draw` says at each statement whether it breaks: before it, after it, or not."""

    def __init__(self, connection: psycopg.Connection[Any], draw: Callable[[], str]) -> None:
        self._connection = connection
        self._draw = draw

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._connection.closed

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    @contextlib.contextmanager
    def cursor(self) -> Iterator[_Cursor]:
        """Return a cursor."""
        with self._connection.cursor() as cursor:
            yield _Cursor(self, cursor, self._draw)


class _Cursor:
    def __init__(self, line: Line, cursor: psycopg.Cursor[Any], draw: Callable[[], str]) -> None:
        self._line = line
        self._cursor = cursor
        self._draw = draw
        self.fetchall = cursor.fetchall

    def execute(self, query: Any, params: Any = ()) -> None:
        fault = self._draw()
        if fault != "before":
            self._cursor.execute(query, params)
        if fault:
            self._line.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")


class Product:
    """One process. Without `answered` and `draw` nothing goes wrong on its side."""

    def __init__(
        self,
        database_url: str,
        stripe_url: str,
        catalog: Catalog,
        now: Callable[[], datetime],
        *,
        answered: Answered = lambda *_: None,
        draw: Callable[[], str] = str,
    ) -> None:
        url = SecretStr(database_url)
        open_line = partial(holdfast.database._connect, url, "chaos")
        self.database = Database(url, connect=lambda: Line(open_line(), draw))  # type: ignore[arg-type,return-value]
        self._http = Http(answered)
        self.client = connect(API_KEY, stripe_url, http=self._http)
        reader = StripeReader(self.client)
        billing = BillingStore(self.database, catalog)
        applier = StripeApplier(billing, reader)
        self.receiver = StripeReceiver(applier, (WEBHOOK_SECRET,), livemode=False)
        self.store = ReconciliationStore(self.database)
        self.reconciler = Reconciler(
            self.store, reader, applier, every_seconds=SWEEP_SECONDS, now=now
        )
        self.checkout = Checkout(
            catalog,
            PurchaseStore(self.database),
            CustomerStore(self.database),
            billing,
            StripeBilling(self.client),
            reader,
            Frontend("https://app.example"),
            per_hour=1000,
        )

    def close(self) -> None:
        """Hang up everywhere."""
        self.database.close()
        self._http.close()
