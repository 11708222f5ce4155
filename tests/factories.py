"""
Short words for the SQL functions, so that a test reads as a story.

Every call goes out as `holdfast_backend`, the role of the Lambda functions: a test that passes also proves the rights.
What a test looks at afterwards is read as the owner. Amounts may be written as text or numbers and come back exact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID, uuid4

from holdfast.usecases.lease_settlement import LEASE_SECONDS
from tests.database import TestDatabase

Amount = Decimal | int | str
ONE_OUTPUT = [{"n": 0, "path": "a.png", "content_type": "image/png", "bytes": 1}]


def new_user() -> UUID:
    """Return a user nobody else uses; the ledger needs no row in auth.users."""
    return uuid4()


def sign_up(
    db: TestDatabase, email: str | None = "", *, verified: bool = True, user: UUID | None = None
) -> UUID:
    """Write a user as Supabase Auth does; by default with an address of their own."""
    user = user or uuid4()
    email = f"{user}@example.com" if email == "" else email
    auth = db.connection("supabase_auth_admin")
    auth.execute(
        "insert into auth.users (id, aud, role, email, email_confirmed_at)"
        " values (%s, 'authenticated', 'authenticated', %s, case when %s then now() end)",
        (user, email, verified),
    )
    return user


def new_key(prefix: str = "cs") -> str:
    """Return an unused business key."""
    return f"{prefix}:{uuid4()}"


def outputs(count: int) -> list[dict[str, Any]]:
    """Return the description of `count` stored files."""
    return [ONE_OUTPUT[0] | {"n": n} for n in range(count)]


@dataclass(frozen=True)
class Balance:
    """A user's balance as `GET /account` shows it."""

    available: Decimal
    reserved: Decimal
    owed: Decimal


class Ledger:
    """The functions of the schema `ledger`, and what they leave behind."""

    def __init__(self, db: TestDatabase) -> None:
        self.db = db
        self.calls = db.connection("holdfast_backend")

    def call(self, query: LiteralString, *params: object) -> Any:
        """Run a statement of one value as the backend's role."""
        row = self.calls.execute(query, params).fetchone()
        assert row
        (value,) = row.values()
        return value

    def grant(
        self,
        user: UUID,
        amount: Amount = 10,
        *,
        key: str | None = None,
        source: str = "pack",
        expires_at: datetime | None = None,
        priority: int = 100,
    ) -> str:
        """Grant credits and return the source key; the outcome must be `granted`."""
        key = key or new_key()
        granted = self.try_grant(
            user, amount, key=key, source=source, expires_at=expires_at, priority=priority
        )
        assert granted == "granted"
        return key

    def try_grant(
        self,
        user: UUID,
        amount: Amount,
        *,
        key: str,
        source: str = "pack",
        expires_at: datetime | None = None,
        priority: int = 100,
    ) -> str:
        """Grant credits and return the outcome."""
        return str(
            self.call(
                "select ledger.grant(%s, %s, %s, %s::numeric, %s::timestamptz, %s)",
                user,
                source,
                key,
                amount,
                expires_at,
                priority,
            )
        )

    def reserve(self, user: UUID, amount: Amount, reservation: UUID | None = None) -> UUID:
        """Reserve credits and return the reservation's id; the outcome must be `reserved`."""
        reservation = reservation or uuid4()
        assert self.try_reserve(user, amount, reservation) == "reserved"
        return reservation

    def try_reserve(self, user: UUID, amount: Amount, reservation: UUID | None = None) -> str:
        """Reserve credits and return the outcome."""
        return str(
            self.call(
                "select ledger.reserve(%s, %s, %s::numeric)", user, reservation or uuid4(), amount
            )
        )

    def settle(self, reservation: UUID, charge: Amount) -> str:
        """Settle a reservation and return the outcome."""
        return str(self.call("select ledger.settle(%s, %s::numeric)", reservation, charge))

    def reverse(self, source_key: str, total: Amount, *, key: str | None = None) -> str:
        """Set how much of a grant is reversed in total and return the outcome."""
        return str(
            self.call(
                "select ledger.reverse(%s, %s, %s::numeric)",
                source_key,
                key or new_key("re"),
                total,
            )
        )

    def expire_due(self, limit: int = 1000) -> int:
        """Expire due grants of up to `limit` users and return how many grants expired."""
        return int(self.call("select ledger.expire_due(%s)", limit))

    def audit(self, user: UUID | None = None) -> list[dict[str, Any]]:
        """Return the violated invariants."""
        return self.calls.execute("select * from ledger.audit(%s)", (user,)).fetchall()

    def balance(self, user: UUID) -> Balance:
        """Return a user's balance."""
        row = self.calls.execute(
            "select available, reserved, owed from backend.get_account(%s)", (user,)
        ).fetchone()
        assert row
        return Balance(**row)

    def entries(self, user: UUID) -> list[dict[str, Any]]:
        """Return a user's ledger entries, oldest first."""
        return self.db.rows(
            "select * from public.credit_ledger where user_id = %s order by id", user
        )

    def kinds(self, user: UUID) -> list[str]:
        """Return the types of a user's ledger entries, oldest first."""
        return [entry["type"] for entry in self.entries(user)]

    def grants(self, user: UUID) -> dict[str, dict[str, Any]]:
        """Return a user's grants by source key, oldest first."""
        found = self.db.rows(
            "select * from public.credit_grants where user_id = %s order by id", user
        )
        return {row["source_key"]: row for row in found}

    def remaining(self, source_key: str) -> Decimal:
        """Return what a grant has left."""
        left = self.db.value(
            "select remaining from public.credit_grants where source_key = %s", source_key
        )
        return Decimal(left)

    def reservation(self, reservation: UUID) -> dict[str, Any]:
        """Return a reservation's row."""
        return self.db.row("select * from public.credit_reservations where id = %s", reservation)

    def books(self, user: UUID) -> dict[str, list[dict[str, Any]]]:
        """Return everything the ledger knows of a user, to compare before and after."""
        return {
            "balances": self.db.rows("select * from credit_balances where user_id = %s", user),
            "grants": self.db.rows(
                "select * from credit_grants where user_id = %s order by id", user
            ),
            "reservations": self.db.rows(
                "select * from credit_reservations where user_id = %s order by id", user
            ),
            "entries": self.entries(user),
            "reversals": self.db.rows(
                "select r.* from credit_reversals r join credit_grants g on g.id = r.grant_id"
                " where g.user_id = %s order by r.reversal_key",
                user,
            ),
        }


@dataclass
class Order:
    """What a client asks for, as `backend.create_generation` takes it."""

    user: UUID
    cost: Amount = 3
    output_count: int = 1
    key: str = field(default_factory=lambda: str(uuid4()))
    request_hash: str = "hash"
    kind: str = "image"
    model: str = "baby/one"
    prompt: str = "a red fox"
    fields: dict[str, Any] = field(default_factory=dict)
    request: str = '{"prompt":"a red fox"}'
    max_active: int = 100
    per_hour: int = 1000
    daily_credits: Amount = 0
    max_cost: Amount | None = None

    def params(self) -> tuple[object, ...]:
        """Return the parameters in the function's order."""
        price = json.dumps({"credits": str(self.cost)})
        return (
            self.user,
            self.key,
            self.request_hash,
            self.kind,
            self.model,
            self.prompt,
            json.dumps(self.fields),
            self.request,
            price,
            self.cost,
            self.output_count,
            self.max_active,
            self.per_hour,
            self.daily_credits,
            self.max_cost,
        )


CREATE_GENERATION = (
    "select * from backend.create_generation("
    "%s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s::jsonb, %s::numeric, %s, %s, %s,"
    " %s::numeric, %s::numeric)"
)


class Backend:
    """The functions of the schema `backend`, and shortcuts to each state of a generation."""

    def __init__(self, db: TestDatabase) -> None:
        self.db = db
        self.ledger = Ledger(db)
        self.calls = db.connection("holdfast_backend")

    def create(self, order: Order) -> dict[str, Any]:
        """Create a generation and return the function's answer."""
        return self._row(CREATE_GENERATION, *order.params())

    def find(self, user: UUID, key: str) -> dict[str, Any]:
        """Call `backend.find_generation`."""
        return self._row("select * from backend.find_generation(%s, %s)", user, key)

    def queued(self, user: UUID | None = None, cost: Amount = 3, output_count: int = 1) -> UUID:
        """Return a queued generation; its user gets the credits first."""
        user = user or new_user()
        if Decimal(cost) > 0:
            self.ledger.grant(user, cost)
        created = self.create(Order(user, cost, output_count))
        assert created["outcome"] == "created"
        generation: UUID = created["generation_id"]
        return generation

    def processing(
        self,
        user: UUID | None = None,
        cost: Amount = 3,
        output_count: int = 1,
        provider_id: str | None = None,
    ) -> tuple[UUID, str]:
        """Return a generation the provider works on, and the provider's id of it."""
        generation = self.queued(user, cost, output_count)
        provider_id = provider_id or new_key("gen")
        assert self.submit(generation, provider_id)["outcome"] == "submitted"
        return generation, provider_id

    def storing(
        self, user: UUID | None = None, cost: Amount = 3, output_count: int = 1
    ) -> tuple[UUID, str]:
        """Return a generation whose outputs are to be stored, and the provider's id of it."""
        generation, provider_id = self.processing(user, cost, output_count)
        assert self.callback(provider_id, "succeeded")["outcome"] == "applied"
        return generation, provider_id

    def submit(self, generation: UUID, provider_id: str) -> dict[str, Any]:
        """Call `backend.mark_submitted`."""
        return self._row("select * from backend.mark_submitted(%s, %s)", generation, provider_id)

    def refuse(self, generation: UUID, code: str = "invalid_request") -> str:
        """Call `backend.mark_refused`."""
        return str(self._value("select backend.mark_refused(%s, %s, %s)", generation, code, "no"))

    def callback(
        self,
        provider_id: str | None,
        status: str | None,
        *,
        delivery: str | None = None,
        urls: list[str] | None = None,
        error_code: str | None = None,
    ) -> dict[str, Any]:
        """Call `backend.record_callback`; a success names one output unless `urls` says otherwise."""
        if status == "succeeded" and urls is None:
            urls = ["https://media.test/0.png"]
        payload = {"status": status, "output_urls": urls, "error_code": error_code}
        return self._row(
            "select * from backend.record_callback(%s, %s, %s, %s::jsonb)",
            delivery or new_key("msg"),
            f"generation.{status}",
            provider_id,
            json.dumps({name: value for name, value in payload.items() if value is not None}),
        )

    def provider_state(
        self, generation: UUID, status: str, urls: list[str] | None = None
    ) -> dict[str, Any]:
        """Call `backend.record_provider_state`."""
        return self._row(
            "select * from backend.record_provider_state(%s, %s, %s::jsonb, %s, %s)",
            generation,
            status,
            json.dumps(urls or ["https://media.test/0.png"]) if status == "succeeded" else None,
            "provider_failed" if status == "failed" else None,
            None,
        )

    def complete(self, generation: UUID, delivered: int, code: str | None = None) -> str:
        """Call `backend.complete_generation` with so many stored outputs."""
        return str(
            self._value(
                "select backend.complete_generation(%s, %s::jsonb, %s)",
                generation,
                json.dumps(outputs(delivered)),
                code,
            )
        )

    def begin_dispatch(self, generation: UUID) -> dict[str, Any]:
        """Call `backend.begin_dispatch`."""
        return self._row("select * from backend.begin_dispatch(%s)", generation)

    def unsent(self, generation: UUID, seconds: int = 15) -> str:
        """Call `backend.mark_unsent`: the provider was busy."""
        return str(
            self._value("select backend.mark_unsent(%s, %s, 'BSE1009')", generation, seconds)
        )

    def cancel(self, user: UUID, generation: UUID) -> dict[str, Any]:
        """Call `backend.request_cancel`."""
        return self._row("select * from backend.request_cancel(%s, %s)", user, generation)

    def stop(self, generation: UUID, reason: str = "deadline") -> None:
        """Call `backend.request_stop`."""
        self.calls.execute("select backend.request_stop(%s, %s)", (generation, reason))

    def lease(self, generation: UUID, owner: str = "message", seconds: int = LEASE_SECONDS) -> str:
        """Call `backend.begin_settlement`."""
        return str(
            self._value("select backend.begin_settlement(%s, %s, %s)", generation, owner, seconds)
        )

    def give_back(
        self, generation: UUID, owner: str = "message", *, is_failure: bool = True
    ) -> None:
        """Call `backend.end_settlement`."""
        self.calls.execute(
            "select backend.end_settlement(%s, %s, 'trouble', %s)", (generation, owner, is_failure)
        )

    def close_intake(self, generation: UUID) -> dict[str, Any]:
        """Call `backend.close_intake`."""
        return self._row("select * from backend.close_intake(%s)", generation)

    def intake(self) -> dict[str, Any]:
        """Call `backend.get_intake`."""
        return self._row("select * from backend.get_intake()")

    def dispatch(self, generation: UUID) -> dict[str, Any]:
        """Return the provider's side of a generation."""
        return self.db.row("select * from backend.dispatches where generation_id = %s", generation)

    def abandon(self, generation: UUID, code: str = "provider_lost") -> str:
        """Call `backend.abandon`."""
        return str(self._value("select backend.abandon(%s, %s)", generation, code))

    def claim(self, limit: int = 10, idle: int = 120, lease: int = 60) -> list[dict[str, Any]]:
        """Call `backend.claim_stuck`."""
        return self.calls.execute(
            "select * from backend.claim_stuck(%s, %s, %s)", (limit, idle, lease)
        ).fetchall()

    def remove(self, user: UUID, generation: UUID) -> dict[str, Any]:
        """Call `backend.remove_generation`."""
        return self._row("select * from backend.remove_generation(%s, %s)", user, generation)

    def postpone(self, generation: UUID, seconds: int, *, is_failure: bool = False) -> None:
        """Call `backend.postpone`."""
        self.calls.execute(
            "select backend.postpone(%s, %s, 'trouble', %s)", (generation, seconds, is_failure)
        )

    def purchase(
        self,
        user: UUID,
        credits_: Amount = 10,
        amount_minor: int = 1000,
        per_hour: int = 1000,
        *,
        interval: str | None = None,
    ) -> dict[str, Any]:
        """Call `backend.create_purchase` for a pack priced in dollars; with an interval, for a plan."""
        return self._row(
            "select * from backend.create_purchase(%s, %s, %s, %s, %s::numeric, %s, %s, %s)",
            user,
            "plan" if interval else "pack",
            "pro" if interval else "starter",
            interval,
            credits_,
            amount_minor,
            "usd",
            per_hour,
        )

    def attach(self, purchase: UUID, session: str) -> str:
        """Call `backend.attach_checkout_session` and return its outcome."""
        return str(self.attached(purchase, session)["outcome"])

    def attached(self, purchase: UUID, session: str) -> dict[str, Any]:
        """Call `backend.attach_checkout_session`."""
        return self._row("select * from backend.attach_checkout_session(%s, %s)", purchase, session)

    def open_purchase(
        self,
        user: UUID | None = None,
        credits_: Amount = 10,
        amount_minor: int = 1000,
        *,
        interval: str | None = None,
    ) -> Checkout:
        """Return a purchase whose user is at the payment page."""
        user = user or new_user()
        purchase = self.purchase(user, credits_, amount_minor, interval=interval)["purchase_id"]
        session = new_key("cs_test")
        assert self.attach(purchase, session) == "attached"
        return Checkout(
            user, purchase, session, amount_minor, "subscription" if interval else "payment"
        )

    def checkout_event(
        self,
        checkout: Checkout,
        state: str = "paid",
        *,
        event: str | None = None,
        **changes: object,
    ) -> str:
        """Deliver an event about a checkout; `changes` replace fields of the session by name."""
        return str(self._value(RECORD_CHECKOUT, *checkout.event(state, event, **changes)))

    def generation(self, generation: UUID) -> dict[str, Any]:
        """Return a generation's row."""
        return self.db.row("select * from public.generations where id = %s", generation)

    def status(self, generation: UUID) -> str:
        """Return a generation's state."""
        return str(self.generation(generation)["status"])

    def states(self, generation: UUID) -> list[str]:
        """Return the states of a generation's events, oldest first."""
        found = self.db.rows(
            "select to_status from public.generation_events where generation_id = %s order by id",
            generation,
        )
        return [row["to_status"] for row in found]

    def _row(self, query: LiteralString, *params: object) -> dict[str, Any]:
        row = self.calls.execute(query, params).fetchone()
        assert row
        return row

    def _value(self, query: LiteralString, *params: object) -> object:
        (value,) = self._row(query, *params).values()
        return value


RECORD_CHECKOUT = "select backend.record_checkout(%s::jsonb, %s::jsonb)"


def event_json(event: str | None = None, type: str = "test.event") -> str:  # noqa: A002 - Stripe's word
    """Return an event as the functions take it; a new one unless named."""
    return json.dumps(
        {"id": event or new_key("evt"), "type": type, "created": 1767225600, "object_id": "obj"}
    )


@dataclass(frozen=True)
class Checkout:
    """A purchase with its payment session."""

    user: UUID
    purchase: UUID
    session: str
    amount_minor: int
    mode: str = "payment"

    @property
    def payment_intent(self) -> str:
        """Return the payment its paid session names."""
        return f"pi_{self.session}"

    @property
    def subscription(self) -> str:
        """Return the subscription a paid session of a plan names."""
        return f"sub_{self.session}"

    def state(self, state: str, **changes: object) -> dict[str, object]:
        """Return what an event says of the session; `changes` replace fields by name."""
        plan = self.mode == "subscription"
        fields: dict[str, object] = {
            "id": self.session,
            "mode": self.mode,
            "state": state,
            "purchase_id": str(self.purchase),
            "user_id": str(self.user),
            "amount_minor": self.amount_minor,
            "currency": "usd",
            "payment_intent_id": None if plan else self.payment_intent,
            "customer_id": None,
            "subscription_id": self.subscription if plan else None,
        }
        assert changes.keys() <= fields.keys()
        return fields | changes

    def event(self, state: str, event: str | None = None, **changes: object) -> tuple[str, str]:
        """Return the parameters of `backend.record_checkout` for an event about it."""
        kind = "checkout.session.completed"
        return event_json(event, kind), json.dumps(self.state(state, **changes))
