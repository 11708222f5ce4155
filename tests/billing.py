"""
Short words for what Stripe says, as the SQL functions take it.

A `Stripe` is one story's corner of an account: it draws ids nobody else uses, and sends each fact as a new event unless
told otherwise.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

from tests.factories import Amount, Backend, event_json, new_user

START = datetime(2026, 3, 1, tzinfo=UTC)
MONTH_MINOR = 2900
YEAR_MINOR = 29000

RECORD_INVOICE = "select backend.record_invoice(%s::jsonb, %s::jsonb)"
RECORD_PAYMENT = "select backend.record_invoice_payment(%s::jsonb, %s, %s, %s, %s)"
RECORD_REVERSAL = "select backend.record_reversal(%s::jsonb, %s, %s::jsonb)"
RECORD_SUBSCRIPTION = "select backend.record_subscription(%s::jsonb, %s, %s::jsonb)"


def unix(at: datetime) -> int:
    """Return a time as Stripe writes it."""
    return int(at.timestamp())


class Stripe:
    """Facts about one user's customer, subscription and payments."""

    def __init__(self, backend: Backend, user: UUID | None = None, *, linked: bool = True) -> None:
        self.backend = backend
        self.db = backend.db
        self.ledger = backend.ledger
        self.user = user or new_user()
        self.tag = uuid4().hex[:12]
        self.customer = self.id("cus")
        self.subscription = self.id("sub")
        if linked:
            _, number = self.row("select * from backend.get_customer(%s)", self.user).values()
            self.call("select backend.link_customer(%s, %s, %s)", self.user, number, self.customer)

    def id(self, kind: str, number: object = "") -> str:
        """Return an id of this story."""
        return f"{kind}_{self.tag}{number}"

    def row(self, query: LiteralString, *params: object) -> dict[str, Any]:
        """Run a statement of one row as the backend's role."""
        row = self.ledger.calls.execute(query, params).fetchone()
        assert row
        return row

    def call(self, query: LiteralString, *params: object) -> Any:
        """Run a statement of one value as the backend's role."""
        return self.ledger.call(query, *params)

    def ticket(self) -> int:
        """Take a ticket, as before reading a state."""
        return int(self.call("select backend.take_ticket()"))

    def price(
        self,
        name: object = "pro",
        *,
        credits_: Amount = 30,
        months: int = 1,
        amount_minor: int | None = None,
        ticket: int | None = None,
        event: str | None = None,
        **changes: Any,
    ) -> str:
        """Mirror a price of this story's own and return its id; `changes` replace its fields."""
        terms = {
            name: changes.pop(name)
            for name in ("grace_days", "priority", "yearly", "grants_without_payment")
            if name in changes
        }
        price = self.id("price", name)
        fields = {
            "id": price,
            "product_id": self.id("prod"),
            "lookup_key": f"key_{price}",
            "active": True,
            "deleted": False,
            "currency": "usd",
            "amount_minor": (MONTH_MINOR if months == 1 else YEAR_MINOR)
            if amount_minor is None
            else amount_minor,
            "interval": "month" if months == 1 else "year",
            "kind": "plan",
            "item_id": str(name),
            "credits": str(credits_),
            "months": months,
            "terms": {"grace_days": 3, "priority": 50, "yearly": "drip"} | terms,
        } | changes
        self.recorded_price = self.call(
            "select backend.record_price(%s::jsonb, %s, %s::jsonb)",
            event_json(event),
            self.ticket() if ticket is None else ticket,
            json.dumps(fields),
        )
        return price

    def line(
        self,
        price: str | None,
        amount_minor: int = MONTH_MINOR,
        number: object = 1,
        *,
        start: datetime = START,
        days: int = 31,
        **changes: object,
    ) -> dict[str, object]:
        """Return an invoice line; `changes` replace its fields."""
        return {
            "id": self.id("il", number),
            "price_id": price,
            "amount_minor": amount_minor,
            "discount_minor": 0,
            "quantity": 1,
            "proration": False,
            "period_start": unix(start),
            "period_end": unix(start + timedelta(days=days)),
            "subscription_id": self.subscription,
        } | changes

    def invoice_json(
        self,
        *lines: dict[str, object],
        number: object = 1,
        payments: dict[str, int] | None = None,
        **changes: object,
    ) -> str:
        """Return a paid invoice; without `payments` none is named."""
        return json.dumps(
            {
                "id": self.id("in", number),
                "customer_id": self.customer,
                "subscription_id": self.subscription,
                "user_id": str(self.user),
                "billing_reason": "subscription_cycle",
                "currency": "usd",
                "paid_at": unix(START),
                "lines": lines,
                "payments": [
                    {"payment_intent_id": key, "amount_minor": amount}
                    for key, amount in (payments or {}).items()
                ],
            }
            | changes
        )

    def invoice(
        self,
        *lines: dict[str, object],
        number: object = 1,
        payments: dict[str, int] | None = None,
        event: str | None = None,
        reconciling: bool = False,
        **changes: object,
    ) -> str:
        """Deliver a paid invoice and return the outcome."""
        return str(
            self.call(
                RECORD_INVOICE,
                None if reconciling else event_json(event),
                self.invoice_json(*lines, number=number, payments=payments, **changes),
            )
        )

    def payment(
        self,
        payment_intent: str,
        amount_minor: int = MONTH_MINOR,
        *,
        number: object = 1,
        currency: str = "usd",
        event: str | None = None,
    ) -> str:
        """Deliver an invoice payment and return the outcome."""
        return str(
            self.call(
                RECORD_PAYMENT,
                event_json(event),
                self.id("in", number),
                payment_intent,
                amount_minor,
                currency,
            )
        )

    def reversal(
        self,
        payment_intent: str | None,
        amount_minor: int | None,
        status: str = "succeeded",
        number: object = 1,
        *,
        kind: str = "refund",
        currency: str = "usd",
        counts: bool | None = None,
        ticket: int | None = None,
        event: str | None = None,
    ) -> str:
        """Deliver a refund, or a dispute, as just read and return the outcome."""
        fields = {
            "id": self.id("re" if kind == "refund" else "dp", number),
            "kind": kind,
            "payment_intent_id": payment_intent,
            "amount_minor": amount_minor,
            "currency": currency,
            "status": status,
            "counts": counts,
        }
        return str(
            self.call(
                RECORD_REVERSAL,
                event_json(event),
                self.ticket() if ticket is None else ticket,
                json.dumps(fields),
            )
        )

    def dispute(self, payment_intent: str, amount_minor: int, status: str, **more: Any) -> str:
        """Deliver a dispute as just read and return the outcome."""
        return self.reversal(payment_intent, amount_minor, status, kind="dispute", **more)

    def subscription_json(self, price: str, status: str = "active", **changes: object) -> str:
        """Return a subscription as read from Stripe."""
        return json.dumps(
            {
                "id": self.subscription,
                "customer_id": self.customer,
                "user_id": str(self.user),
                "price_id": price,
                "status": status,
                "current_period_start": unix(START),
                "current_period_end": unix(START + timedelta(days=31)),
                "cancel_at_period_end": False,
                "cancel_at": None,
                "canceled_at": None,
                "ended_at": None,
                "created": unix(START),
            }
            | changes
        )

    def subscribe(
        self,
        price: str,
        status: str = "active",
        *,
        ticket: int | None = None,
        event: str | None = None,
        **changes: object,
    ) -> str:
        """Deliver a subscription as just read and return the outcome."""
        return str(
            self.call(
                RECORD_SUBSCRIPTION,
                event_json(event),
                self.ticket() if ticket is None else ticket,
                self.subscription_json(price, status, **changes),
            )
        )

    def drip(self, limit: int = 100) -> int:
        """Call `backend.drip_due`."""
        return int(self.call("select backend.drip_due(%s)", limit))
