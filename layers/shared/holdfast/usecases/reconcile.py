"""
Ask Stripe what we were not told, so that no lost message loses money.

Everything goes the way a webhook goes (`StripeApplier`), so it does not matter which of the two comes first, and
nothing is found here as long as webhooks arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from holdfast.billing import Outcome
from holdfast.errors import ProviderError, UnavailableError
from holdfast.observability import count, logger, report
from holdfast.reconciliation import ParkedEvent, ReconciliationStore
from holdfast.stripe_objects import PriceState, Reversal, SubscriptionState
from holdfast.stripe_reader import StripeReader, Window
from holdfast.usecases.apply_stripe import StripeApplier

BATCH = 20
LEASE_SECONDS = 120
OVERLAP = timedelta(hours=1)
"""Looked at twice: what was made before a pass, but paid or visible only after it."""
LATE = timedelta(days=14)
"""The age at which everything is looked at once more: by then delayed methods of payment are through."""

_GIVE_UP = timedelta(days=30)
"""How far back Stripe tells of an event."""
_FIRST_STEP = timedelta(minutes=30)
"""More than lies between two passes, so that one that has nothing to catch up with asks for each list once."""
_BEHIND = timedelta(hours=6)
"""A pass that begins so far back has something to catch up with; an hour of such passes is alarming."""
_ALARM_SECONDS = 3600
_REREAD_SECONDS = 86_400
_DRIP_BATCH = 200

HasTime = Callable[[], bool]
T = TypeVar("T")


@dataclass(frozen=True)
class Reconciled:
    """What one run did: parked events tried again, balances repaired, months granted, and whether it got through."""

    retried: int
    repaired: int
    months_granted: int
    is_complete: bool


class _OutOfTimeError(Exception):
    """The time ran out in the middle."""


class Reconciler:
    """Compare with Stripe. Several may run at once: each claims its own work."""

    def __init__(
        self,
        store: ReconciliationStore,
        reader: StripeReader,
        applier: StripeApplier,
        *,
        every_seconds: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._reader = reader
        self._applier = applier
        self._every_seconds = every_seconds
        self._now = now
        self._retried = 0
        self._repaired = 0

    def run(self, has_time: HasTime) -> Reconciled:
        """Take every step that is due, until `has_time` says no. A step that Stripe does not answer is taken later."""
        self._retried = self._repaired = 0
        is_complete = True
        for step in (
            self._retry_parked,
            self._match_payments,
            self._reread_unfinished,
            partial(self._pass, "recent", timedelta(0)),
            partial(self._pass, "late", LATE),
        ):
            try:
                step(has_time)
            except ProviderError as refused:
                is_complete = False
                report(refused, "Stripe refuses to be compared with")
            except (UnavailableError, _OutOfTimeError) as trouble:
                # for the other steps it would be the same
                is_complete = False
                logger().warning("reconciliation goes on in the next run", reason=str(trouble))
                break
        months = self._store.drip_due(limit=_DRIP_BATCH)
        parked = self._store.count_parked(older_than_seconds=_ALARM_SECONDS)
        count("Reconcile.Repaired", self._repaired)
        count("Reconcile.ParkedTooLong", parked)
        return Reconciled(self._retried, self._repaired, months, is_complete)

    def compare(self, window: Window, has_time: HasTime = lambda: True) -> int:
        """
        Compare all that was made at Stripe in a window, and return how many balances that changed.

        Raises `UnavailableError` when Stripe or the database is away; what was compared by then stays.
        """
        before = self._repaired
        reader, applier = self._reader, self._applier
        self._each(reader.prices(), self._listed(), has_time)
        self._each(reader.undelivered_events(window), applier.event, has_time)
        self._each(reader.sessions(window), applier.session, has_time)
        self._each(reader.subscriptions(window), self._listed(), has_time)
        self._each(reader.paid_invoices(window), applier.invoice, has_time)
        self._each(reader.invoice_payments(window), applier.invoice_payment, has_time)
        self._each(reader.refunds(window), self._listed(), has_time)
        self._each(reader.disputes(window), self._listed(), has_time)
        return self._repaired - before

    def _retry_parked(self, has_time: HasTime) -> None:
        parked = self._store.claim_parked(limit=BATCH, lease_seconds=LEASE_SECONDS)
        self._each(parked, self._retry, has_time)

    def _retry(self, parked: ParkedEvent) -> Outcome:
        self._retried += 1
        is_old = self._now() - parked.parked_at > _GIVE_UP
        try:
            outcome = self._applier.event(parked.event)
        except ProviderError:
            if is_old:
                self._give_up(parked)
            raise
        if outcome is Outcome.PARKED and is_old:
            self._give_up(parked)
        return outcome

    def _give_up(self, parked: ParkedEvent) -> None:
        logger().error("an event was given up", event_id=parked.event_id)
        self._store.give_up(parked.event_id)

    def _match_payments(self, has_time: HasTime) -> None:
        """Find out what was paid by payments that went back before we knew them."""
        for payment_intent_id in self._store.unmatched_payments(limit=BATCH):
            sessions = self._reader.sessions_of(payment_intent_id)
            self._each(sessions, self._applier.session, has_time)
            payments = self._reader.invoice_payments_of(payment_intent_id)
            self._each(payments, self._applier.invoice_payment, has_time)

    def _reread_unfinished(self, has_time: HasTime) -> None:
        """Read again, once a day, what can still change and may have done so unheard."""
        unfinished = self._store.unfinished(limit=BATCH, idle_seconds=_REREAD_SECONDS)
        self._each(unfinished, lambda found: self._applier.state(*found), has_time)

    def _pass(self, name: str, lag: timedelta, has_time: HasTime) -> None:
        """
        Compare, a step at a time, what was made between the last pass and `lag` ago.

        The first step is short and each is twice the one before, so that a run that cannot get through has come further
        all the same.
        """
        until = self._now()
        since = self._store.claim(
            name, every_seconds=self._every_seconds, lease_seconds=LEASE_SECONDS
        )
        if since is None:
            return
        count("Reconcile.Behind", int(until - since > _BEHIND))
        start, step = since - OVERLAP, _FIRST_STEP
        while since < until:
            since = min(since + step, until)
            self.compare(Window(start - lag, since - lag), has_time)
            self._store.advance(name, since)
            start, step = since, 2 * step
        self._store.finish(name, until)

    def _listed(self) -> Callable[[PriceState | SubscriptionState | Reversal], Outcome]:
        return partial(self._applier.listed, self._applier.ticket())

    def _each(self, found: Iterable[T], apply: Callable[[T], Outcome], has_time: HasTime) -> None:
        """Apply each; one that cannot be applied is reported and must not hold up all that come after it."""
        _check(has_time)
        for each in found:
            _check(has_time)
            try:
                outcome = apply(each)
            except UnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - see above
                report(error, "an object of Stripe's cannot be applied")
            else:
                self._repaired += outcome.moves_credits


def _check(has_time: HasTime) -> None:
    if not has_time():
        raise _OutOfTimeError("out of time")
