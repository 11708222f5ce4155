"""Whatever order Stripe's news come in, however often, the balance ends as the plain model says."""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.billing import START, Stripe
from tests.factories import RECORD_CHECKOUT, Backend, Balance, Checkout, event_json, new_key
from tests.sql.billing_model import NEXT, Account, Line, Reversal

FULL_LENGTH = os.environ.get("LEDGER_PROFILE") == "full"
PRO, BUSINESS = 3000, 6000  # prices that divide by thirty days
CENTS = st.sampled_from([1, 99, 500, 1000, 1450, 2900, 9999])


class BillingStory(RuleBasedStateMachine):
    """
    One user, packs and a subscription, refunds and disputes.

    What happens at Stripe and what is heard of it are apart: an object changes, a handler takes a ticket and reads it,
    and writes what it read any time later, if at all.
    """

    backend: Backend

    @initialize()
    def begin(self) -> None:
        """Begin with a fresh user and mirrored prices."""
        self.stripe = Stripe(self.backend)
        self.account = Account()
        self.price = {
            PRO: self.stripe.price("pro", amount_minor=PRO),
            BUSINESS: self.stripe.price("biz", credits_=60, amount_minor=BUSINESS),
        }
        self.news: list[Callable[[str | None], object]] = []
        """Facts that do not change; each may be delivered under any event, or none."""
        self.read: list[tuple[str, int, Reversal]] = []
        """Readings not yet written."""
        self.payments: list[tuple[str, int]] = []
        self.invoices = 0
        self.plan = PRO
        self.month = self.day = 0
        self.current: str | None = None
        """The line the subscription runs on."""

    @rule(credits_=st.sampled_from(["10", "25", "0.007", "33.333"]), amount=CENTS)
    def buy_pack(self, credits_: str, amount: int) -> None:
        """Pay a pack; nobody has heard of it yet."""
        checkout = self.backend.open_purchase(self.stripe.user, credits_, amount)
        paid = json.dumps(checkout.state("paid"))
        self.news.append(lambda event: self._call(RECORD_CHECKOUT, event, paid))
        self.payments.append((checkout.payment_intent, amount))
        self.account.lines[f"cs:{checkout.session}"] = Line(
            Decimal(credits_), {checkout.payment_intent: amount}
        )

    @rule(charged=st.lists(CENTS | st.just(0), max_size=2), listed=st.booleans())
    def renew(self, charged: list[int], *, listed: bool) -> None:
        """Pay the next period, by one payment or two, which the invoice lists or not."""
        self.month, self.day = self.month + 1, 0
        line = self._line(self.price[self.plan], self.plan, start=0, days=30)
        self.current = self._bill([(line, Decimal(30 * self.plan // PRO))], charged, listed=listed)

    @precondition(lambda self: self.current is not None and self.day < 20)
    @rule(charged=st.lists(CENTS, max_size=1))
    def change_plan(self, charged: list[int]) -> None:
        """Change to the other plan ten days later: the rest is credited and paid anew."""
        self.day += 10
        days = 30 - self.day
        assert self.current
        old, new = self.plan, BUSINESS if self.plan == PRO else PRO
        credited, paid = old * days // 30, new * days // 30
        self.account.lines[self.current].credited += credited
        minus = self._line(self.price[old], -credited, start=self.day, days=days)
        plus = self._line(self.price[new], paid, start=self.day, days=days)
        # 30 credits for 3000, 60 for 6000: a cent is a hundredth
        lines = [(minus | {"proration": True}, None),
                 (plus | {"proration": True}, Decimal(paid) / 100)]  # fmt: skip
        self.current = self._bill(lines, charged, listed=True)
        self.plan = new

    @precondition(lambda self: self.payments)
    @rule(data=st.data(), amount=CENTS, dispute=st.booleans())
    def take_back(self, data: st.DataObject, amount: int, *, dispute: bool) -> None:
        """Refund part of a payment, or dispute it."""
        payment, _ = data.draw(st.sampled_from(self.payments))
        first = (
            ("warning_needs_response", "needs_response") if dispute else ("pending", "succeeded")
        )
        key = self.stripe.id("dp" if dispute else "re", len(self.account.reversals))
        self.account.reversals[key] = Reversal(payment, amount, data.draw(st.sampled_from(first)))

    @precondition(lambda self: self.account.reversals)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """Let a refund or dispute change."""
        reversal = self.account.reversals[self._draw(data, self.account.reversals)]
        if NEXT[reversal.status]:
            reversal.status = data.draw(st.sampled_from(NEXT[reversal.status]))

    @precondition(lambda self: self.account.reversals)
    @rule(data=st.data())
    def begin_reading(self, data: st.DataObject) -> None:
        """Take a ticket, then read."""
        self._read(self._draw(data, self.account.reversals))

    @precondition(lambda self: self.read)
    @rule(data=st.data(), again=st.booleans())
    def write(self, data: st.DataObject, *, again: bool) -> None:
        """Write what was read, early or late, perhaps twice."""
        reading = data.draw(st.sampled_from(self.read))
        self._write(reading)
        if not again:
            self.read.remove(reading)

    @precondition(lambda self: self.news)
    @rule(data=st.data(), way=st.sampled_from(["event", "twice", "reconciling"]))
    def hear(self, data: st.DataObject, way: str) -> None:
        """Hear of a fact, perhaps not for the first time."""
        fact = data.draw(st.sampled_from(self.news))
        event = None if way == "reconciling" else event_json()
        fact(event)
        if way == "twice":
            assert fact(event) == "duplicate"

    @rule(share=st.sampled_from([Decimal("0.3"), Decimal(1)]), used=st.sampled_from([0, 1]))
    def spend(self, share: Decimal, used: int) -> None:
        """Spend what is there; who owes has nothing to spend."""
        ledger, user = self.stripe.ledger, self.stripe.user
        balance = ledger.balance(user)
        amount = round(balance.available * share, 3)
        if balance.owed:
            assert ledger.try_reserve(user, "0.001") == "insufficient_credits"
        elif amount:
            ledger.settle(ledger.reserve(user, amount), amount * used)
            self.account.spent += amount * used

    @invariant()
    def books_are_right(self) -> None:
        """At every step the ledger's own audit finds nothing."""
        if hasattr(self, "stripe"):
            assert self.stripe.ledger.audit(self.stripe.user) == []

    def teardown(self) -> None:
        """After everything was heard at least once, and each state read after its last change, the model is right."""
        if not hasattr(self, "stripe"):
            return
        for key in self.account.reversals:
            self._read(key)
        last: list[Callable[[], object]] = [functools.partial(self._write, r) for r in self.read]
        last += [functools.partial(fact, None) for fact in self.news]
        random.Random(len(last)).shuffle(last)
        for step in last:
            step()
        net = self.account.balance()
        found = self.stripe.ledger.balance(self.stripe.user)
        assert found == Balance(max(net, Decimal(0)), Decimal(0), max(-net, Decimal(0)))
        assert self.stripe.ledger.audit(self.stripe.user) == []

    def _line(self, price: str, amount: int, *, start: int, days: int) -> dict[str, object]:
        begin = START + timedelta(days=30 * self.month + start)
        return self.stripe.line(price, amount, new_key("il"), start=begin, days=days)

    def _bill(
        self,
        lines: list[tuple[dict[str, object], Decimal | None]],
        charged: list[int],
        *,
        listed: bool,
    ) -> str:
        """Pay an invoice of lines with what each grants, and return the key of the last that does."""
        self.invoices += 1
        number = self.invoices
        paid = {self.stripe.id("pi", f"{number}.{n}"): cents for n, cents in enumerate(charged)}
        self.payments += paid.items()
        invoice = self.stripe.invoice_json(
            *(line for line, _ in lines), number=number, payments=paid if listed else None
        )
        query = "select backend.record_invoice(%s::jsonb, %s::jsonb)"
        self.news.append(lambda event: self._call(query, event, invoice))
        for key, cents in paid.items():
            self.news.append(functools.partial(self._pay, number, key, cents))
        for line, credits_ in lines:
            if credits_:
                last = f"in:{self.stripe.id('in', number)}:{line['id']}"
                self.account.lines[last] = Line(credits_, paid, int(str(line["amount_minor"])))
        return last

    def _pay(self, number: int, key: str, cents: int, event: str | None) -> object:
        query = "select backend.record_invoice_payment(%s::jsonb, %s, %s, %s, 'usd')"
        return self._call(query, event, self.stripe.id("in", number), key, cents)

    def _call(self, query: Any, event: str | None, *params: object) -> object:
        return self.stripe.call(query, event, *params)

    def _read(self, key: str) -> None:
        ticket, now = self.stripe.ticket(), self.account.reversals[key]
        self.read.append((key, ticket, Reversal(now.payment, now.amount, now.status)))

    def _write(self, reading: tuple[str, int, Reversal]) -> None:
        key, ticket, state = reading
        fields = {
            "id": key,
            "kind": "dispute" if key.startswith("dp") else "refund",
            "payment_intent_id": state.payment,
            "amount_minor": state.amount,
            "currency": "usd",
            "status": state.status,
        }
        query = "select backend.record_reversal(%s::jsonb, %s, %s::jsonb)"
        self._call(query, event_json(), ticket, json.dumps(fields))

    @staticmethod
    def _draw(data: st.DataObject, keys: dict[str, Any]) -> str:
        return data.draw(st.sampled_from(sorted(keys)))


@pytest.mark.timeout(3600 if FULL_LENGTH else 300)
def test_every_story_ends_as_the_model(backend: Backend) -> None:
    """Random stories of payments, refunds and disputes, heard in any order and number, with credits spent between."""
    BillingStory.backend = backend
    run_state_machine_as_test(
        BillingStory,
        settings=settings(
            max_examples=1500 if FULL_LENGTH else 60,
            stateful_step_count=40 if FULL_LENGTH else 30,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


STATES = {
    "refund": ("pending", "succeeded"),
    "failed refund": ("pending", "failed"),
    "dispute": ("needs_response", "lost"),
    "appeal": ("lost", "won"),
}


@pytest.mark.parametrize("kind", ["pack", "invoice"])
@pytest.mark.parametrize("spend_at", [None, 2, 4], ids=str)
def test_every_permutation(backend: Backend, kind: str, spend_at: int | None) -> None:
    """Payment, refunds and disputes in all orders, each also heard again: one end, and debt for what was spent."""
    events = ["payment", *STATES] if kind == "pack" else ["payment", "link", *list(STATES)[1:]]
    shuffled = random.Random(1)
    for order in itertools.permutations(events):
        stripe, account, deliver = _story(backend, kind)
        # each again at a place of its own, with the state it had at first: an older reading
        late = [(each, True) for each in order]
        shuffled.shuffle(late)
        for number, (name, old) in enumerate([*((each, False) for each in order), *late]):
            if number == spend_at:
                account.spent = _spend_all(stripe)
            deliver(name, old)
        net = account.balance()
        assert stripe.ledger.balance(stripe.user) == Balance(
            max(net, Decimal(0)), Decimal(0), max(-net, Decimal(0))
        ), order
    assert backend.ledger.audit() == []


def _spend_all(stripe: Stripe) -> Decimal:
    there = stripe.ledger.balance(stripe.user).available
    if there:
        stripe.ledger.settle(stripe.ledger.reserve(stripe.user, there), there)
    return there


def _story(backend: Backend, kind: str) -> tuple[Stripe, Account, Callable[[str, bool], None]]:
    stripe = Stripe(backend)
    amounts = {"refund": 300, "failed refund": 400, "dispute": 200, "appeal": 999}
    if kind == "pack":
        checkout = backend.open_purchase(stripe.user, 100, 999)
        pi = checkout.payment_intent
    else:
        checkout, pi = None, stripe.id("pi")
        line = stripe.line(stripe.price(credits_=100))
    tickets = {name: (stripe.ticket(), stripe.ticket()) for name in STATES}

    def deliver(name: str, old: bool) -> None:  # noqa: FBT001
        if name == "link":
            stripe.payment(pi, 999)
        elif name == "payment":
            _pay(checkout) if checkout else stripe.invoice(line)
        else:
            status = STATES[name][0 if old else 1]
            what = "refund" if "refund" in name else "dispute"
            ticket = tickets[name][0 if old else 1]
            stripe.reversal(pi, amounts[name], status, name, kind=what, ticket=ticket)

    def _pay(checkout: Checkout) -> None:
        backend.checkout_event(checkout)

    account = Account({"x": Line(Decimal(100), {pi: 999})})
    names = STATES if kind == "pack" else list(STATES)[1:]
    for name in names:
        account.reversals[name] = Reversal(pi, amounts[name], STATES[name][1])
    return stripe, account, deliver
