"""
What each user should have, computed from Stripe's own objects alone: no events, no order, no rows of ours.

The rules are those of docs/billing.md, written down once more and plainly. Whose an object is, the product wrote
on it at Stripe (`metadata.user_id`); what a price grants, `make stripe-catalog` did.
"""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import floor

from holdfast.catalog import Catalog, Plan
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json

GONE = {
    "refund": {"pending", "requires_action", "succeeded"},
    "dispute": {
        *("needs_response", "under_review", "lost"),
        *("appeal_needs_response", "appeal_under_review"),
    },
}
"""The states in which the money is not ours. Of a prevented dispute its balance transactions say it."""

_MONTHS = {"month": 1, "year": 12}


@dataclass(frozen=True)
class Grant:
    """What one fact grants and what of it is taken back; of a plan it lives until `ends` plus `grace` at least."""

    user: str
    credits: Decimal
    reversed: Decimal
    ends: datetime | None = None
    grace: timedelta = timedelta(0)


@dataclass
class Period:
    """
    What a line of a paid invoice bought: `months` times `each` credits.

    `credited` is how much of its amount later lines credited.
    """

    key: str
    line: Json
    invoice: Json
    user: str
    plan: Plan
    each: Decimal
    months: int
    credited: int = 0

    @property
    def start(self) -> int:
        """When it begins."""
        return int(self.line["period"]["start"])

    @property
    def end(self) -> int:
        """When it ends."""
        return int(self.line["period"]["end"])

    @property
    def credited_share(self) -> Fraction:
        """What part of it was not used and is paid back."""
        amount = self.line["amount"]
        return Fraction(min(self.credited, amount), amount) if amount else Fraction(0)


class Model:
    """Reads a state of Stripe's."""

    def __init__(self, state: State, catalog: Catalog) -> None:
        self._state = state
        self._catalog = catalog
        self._prices = {price["id"]: price for price in state.newest("price")}
        self._lost: defaultdict[str, int] = defaultdict(int)
        for kind in ("refund", "dispute"):
            for each in state.newest(kind):
                if is_gone(kind, each):
                    self._lost[each["payment_intent"]] += each["amount"]

    def grants(self) -> dict[str, Grant]:
        """Return every grant there should be, by its key."""
        return dict([*self._packs(), *self._plans()])

    def _packs(self) -> Iterator[tuple[str, Grant]]:
        for session in self._state.newest("checkout.session"):
            if session["mode"] == "payment" and session["payment_status"] == "paid":
                (item,) = self._state.line_items[session["id"]]
                credits_ = Decimal(item["price"]["metadata"]["holdfast_credits"])
                paid = session["amount_total"]
                share = Fraction(min(self._lost[session["payment_intent"]], paid), paid)
                user = session["metadata"]["user_id"]
                yield f"cs:{session['id']}", Grant(user, credits_, part(credits_, share))

    def _plans(self) -> Iterator[tuple[str, Grant]]:
        periods = [found for line in self._lines() if (found := self._bought(*line))]
        self._credit(periods)
        for period in periods:
            share = self._lost_share(period.invoice) + period.credited_share
            reversed_ = part(period.each, min(share, Fraction(1)))
            grace = timedelta(days=period.plan.grace_days)
            paid_at = at(period.invoice["status_transitions"]["paid_at"])
            for month in range(1, period.months + 1):
                if month > 1 and months_after(period.start, month - 1) > at(self._state.now()):
                    break
                is_last = month == period.months
                ends = at(period.end) if is_last else months_after(period.start, month)
                key = period.key if period.months == 1 else f"{period.key}:m{month}"
                yield key, Grant(period.user, period.each, reversed_, max(ends, paid_at), grace)

    def _lines(self) -> Iterator[tuple[Json, Json, str]]:
        """Yield the lines of paid invoices, each with the user whose subscription it is for."""
        for invoice in self._state.newest("invoice"):
            for line in self._state.invoice_lines[invoice["id"]]:
                of = self._state.get("subscription", line["subscription"])
                if invoice["status"] == "paid":
                    yield invoice, line, of["metadata"]["user_id"]

    def _bought(self, invoice: Json, line: Json, user: str) -> Period | None:
        price = self._prices[price_of(line)]
        name = price["metadata"]["holdfast_item"].split(":")[1]
        plan = self._catalog.plan(name)
        assert plan
        each = Decimal(price["metadata"]["holdfast_credits"])
        months = _MONTHS[price["recurring"]["interval"]]
        is_given = plan.grants_without_payment and not is_part(line) and line["amount"] >= 0
        costs = line["amount"] - sum(off["amount"] for off in line["discount_amounts"])
        if costs <= 0 and not is_given:
            return None
        if is_part(line):
            each = part(each * months * line["amount"], Fraction(1, price["unit_amount"]))
            months = 1
        else:
            each *= line["quantity"]
            if plan.yearly == "at_once":
                each, months = each * months, 1
        key = f"in:{invoice['id']}:{line['id']}"
        return Period(key, line, invoice, user, plan, each, months) if each else None

    def _credit(self, periods: list[Period]) -> None:
        """Let each line that credits time not used fall on the periods of its price that cover it, the latest first."""
        credited = [
            (line["period"]["start"], f"in:{invoice['id']}:{line['id']}", line, invoice["id"])
            for invoice, line, _ in self._lines()
            if line["amount"] < 0 and is_part(line)
        ]
        for start, _, line, invoice_id in sorted(credited, key=lambda one: one[:2]):
            covering = [
                period
                for period in periods
                if period.line["subscription"] == line["subscription"]
                and price_of(period.line) == price_of(line)
                and period.start <= start
                and period.end >= line["period"]["end"]
            ]
            covering.sort(key=lambda period: (period.start, period.key), reverse=True)
            # what replaces the credited time comes last; the sort is stable
            covering.sort(key=lambda p: (p.invoice["id"], p.start) == (invoice_id, start))
            left = -line["amount"]
            for period in covering:
                taken = min(left, period.line["amount"] - period.credited)
                period.credited += taken
                left -= taken

    def _lost_share(self, invoice: Json) -> Fraction:
        paid = {
            payment["payment"]["payment_intent"]: payment["amount_paid"]
            for payment in self._state.payments_of(invoice).objects
            if payment["status"] == "paid"
        }
        lost = sum(min(self._lost[name], amount) for name, amount in paid.items())
        return Fraction(lost, sum(paid.values())) if lost else Fraction(0)


def is_gone(kind: str, each: Json) -> bool:
    """Say whether the money of a refund or dispute is not with us."""
    if each["status"] == "prevented":
        return sum(moved["amount"] for moved in each["balance_transactions"]) < 0
    return each["status"] in GONE[kind]


def is_part(line: Json) -> bool:
    """Say whether a line is for a part of a period, after a change of plan."""
    return bool(line["parent"]["subscription_item_details"]["proration"])


def price_of(line: Json) -> str:
    """Return the price a line is at."""
    return str(line["pricing"]["price_details"]["price"])


def part(credits_: Decimal, share: Fraction) -> Decimal:
    """Return a share of credits, or all of them, rounded down to the thousandth."""
    return Decimal(floor(Fraction(credits_) * share * 1000)) / 1000


def at(unix: int) -> datetime:
    """Return the time Stripe means by a number of seconds."""
    return datetime.fromtimestamp(unix, UTC)


def months_after(unix: int, months: int) -> datetime:
    """Return the same day so many months later, or the last one of a shorter month."""
    start = at(unix)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day)
