"""What must hold after a reconciliation: our books say what Stripe's own objects say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, LiteralString

from tests.chaos_stripe.model import Model, at, is_gone
from tests.chaos_stripe.story import Story
from tests.chaos_stripe.world import World, short

_TABLES: tuple[LiteralString, ...] = (
    "select id, user_id, type, available_delta, owed_delta from public.credit_ledger order by id",
    "select id, remaining, expired, reversed, absorbed from public.credit_grants order by id",
    "select user_id, available, owed from public.credit_balances order by user_id",
    "select source_key, granted_months, prorated_minor from public.plan_periods order by source_key",
    "select payment_intent_id, invoice_id, purchase_id, user_id, reversed_minor from backend.payments order by 1",
    "select id, user_id, status, amount_minor, counts from public.payment_reversals order by id",
    "select id, status, price_id, cancel_at_period_end from public.subscriptions order by id",
    "select id, status, stripe_session_id from public.purchases order by id",
)


class Books:
    """Our side, compared with Stripe's."""

    def __init__(self, world: World, story: Story) -> None:
        self._world = world
        self._story = story
        self._database = world.database
        self._state = world.stripe.state

    def snapshot(self) -> list[list[dict[str, Any]]]:
        """Return all that a second reconciliation must leave alone."""
        return [self._database.rows(query) for query in _TABLES]

    def wrong_balances(self) -> int:
        """Count the users whose balance is not what Stripe's objects say."""
        return len({line.split()[2] for line in self._balances()})

    def violations(self) -> list[str]:
        """Return what does not hold."""
        return [
            *self._world.crashes,
            *self._grants(),
            *self._balances(),
            *self._audit(),
            *self._mirrors(),
            *self._plans(),
            *self._parked(),
        ]

    def _name(self, user: object) -> str:
        return self._story.name_of(user)

    def figures(self) -> Counter[str]:
        """Count what there was to be right about."""
        grants = Model(self._state, self._world.terms.catalog).grants().values()
        owing = self._database.value("select count(*) from public.credit_balances where owed > 0")
        return Counter(
            {
                "grants": len(grants),
                "grants taken back": sum(1 for grant in grants if grant.reversed),
                "users in debt": owing,
                "refunds and disputes": len(self._state.newest("refund"))
                + len(self._state.newest("dispute")),
                "subscriptions": len(self._state.newest("subscription")),
            }
        )

    def _grants(self) -> Iterator[str]:
        """Expect each fact to have granted once, and each grant to have given back, and to end, as it should."""
        expected = Model(self._state, self._world.terms.catalog).grants()
        found = {
            row["source_key"]: row
            for row in self._database.rows(
                "select user_id::text, source_key, amount, reversed, expired, expires_at, created_at"
                " from public.credit_grants where source <> 'restored'"
            )
        }
        for key in sorted(expected.keys() - found.keys()):
            yield f"missing grant: {self._name(expected[key].user)} {key}"
        for key in sorted(found.keys() - expected.keys()):
            yield f"grant of nothing: {self._name(found[key]['user_id'])} {key}"
        for key in sorted(expected.keys() & found.keys()):
            grant, row = expected[key], found[key]
            ours = (row["user_id"], row["amount"], row["reversed"])
            theirs = (grant.user, grant.credits, grant.reversed)
            if ours != theirs:
                yield (
                    f"wrong grant: {self._name(grant.user)} {key} has {ours[1]} - {ours[2]},"
                    f" not {theirs[1]} - {theirs[2]}"
                )
            if grant.ends is not None:
                ends = max(grant.ends, row["created_at"]) + grant.grace
                if row["expires_at"] != ends:
                    yield f"wrong end: {key} ends {row['expires_at']}, not {ends}"

    def _balances(self) -> Iterator[str]:
        """Expect what was granted and not reversed, less what was spent and what expired unspent."""
        expected: defaultdict[str, Decimal] = defaultdict(Decimal)
        for grant in Model(self._state, self._world.terms.catalog).grants().values():
            expected[grant.user] += grant.credits - grant.reversed
        # what expired depends on when it was told, which Stripe does not know: of grants that have ended it is the
        # ledger's own word, audited below
        for row in self._database.rows(
            "select user_id::text, sum(expired - absorbed) as lapsed"
            " from public.credit_grants where expires_at <= %s group by user_id",
            self._world.now,
        ):
            expected[row["user_id"]] -= row["lapsed"]
        found = {
            row["user_id"]: (row["available"], row["owed"])
            for row in self._database.rows(
                "select user_id::text, available, owed from public.credit_balances"
            )
        }
        for user in sorted({*expected, *found, *self._story.spent}):
            balance = expected[user] - self._story.spent[user]
            theirs = (max(balance, Decimal(0)), max(-balance, Decimal(0)))
            ours = found.get(user, (Decimal(0), Decimal(0)))
            if ours != theirs:
                yield (
                    f"wrong balance: {self._name(user)} has {ours[0]} and owes {ours[1]},"
                    f" not {theirs[0]} and {theirs[1]}"
                )

    def _audit(self) -> Iterator[str]:
        for row in self._database.rows("select * from ledger.audit()"):
            yield f"audit: {row}"

    def _mirrors(self) -> Iterator[str]:
        """Expect Stripe's states to be shown as they are there."""
        rows = self._database.rows("select * from public.subscriptions")
        subscriptions = {row["id"]: row for row in rows}
        for of in self._state.newest("subscription"):
            item = of["items"]["data"][0]
            theirs = (
                of["status"],
                item["price"]["id"],
                of["cancel_at_period_end"],
                at(item["current_period_end"]),
            )
            row = subscriptions.get(of["id"])
            ours = row and (
                row["status"],
                row["price_id"],
                row["cancel_at_period_end"],
                row["current_period_end"],
            )
            if ours != theirs:
                yield f"wrong subscription: {short(of['id'])} is {ours}, not {theirs}"
        rows = self._database.rows("select * from public.payment_reversals")
        reversals = {row["id"]: (row["status"], row["counts"]) for row in rows}
        for kind in ("refund", "dispute"):
            for each in self._state.newest(kind):
                gone = (each["status"], is_gone(kind, each))
                if reversals.get(each["id"]) != gone:
                    yield f"wrong {kind}: {short(each['id'])} is {reversals.get(each['id'])}, not {gone}"
        rows = self._database.rows("select id::text, status from public.purchases")
        purchases = {row["id"]: row["status"] for row in rows}
        for session in self._state.newest("checkout.session"):
            is_paid = session["payment_status"] in ("paid", "no_payment_required")
            status = purchases.get(session["client_reference_id"])
            if (is_paid and session["status"] == "complete") != (status == "paid"):
                yield f"wrong purchase: {short(session['id'])} is {status}, paid: {is_paid}"

    def _plans(self) -> Iterator[str]:
        """Expect nobody to pay for two plans at once, whatever pages they opened."""
        live = Counter(
            of["metadata"]["user_id"]
            for of in self._state.newest("subscription")
            if of["status"] not in ("canceled", "incomplete_expired")
        )
        for user, plans in live.items():
            if plans > 1:
                yield f"{plans} plans: {self._name(user)}"

    def _parked(self) -> Iterator[str]:
        for row in self._database.rows(
            "select type, object_id from backend.stripe_events where outcome in ('parked', 'received')"
        ):
            yield f"parked: {row['type']} {short(row['object_id'])}"
