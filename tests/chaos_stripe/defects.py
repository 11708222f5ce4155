"""Mistakes to make on purpose, to see that the campaign finds them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from holdfast.stripe_reader import StripeReader
from holdfast.usecases.create_checkout import Checkout
from tests.chaos.defects import _function


@dataclass(frozen=True)
class Defect:
    """A mistake: SQL that replaces a function, or a part of the product that is replaced."""

    sql: Callable[[], str] = str
    part: tuple[type, str, Any] | None = None


def _nothing(*_: object) -> Iterator[Any]:
    return iter(())


DEFECTS: dict[str, Defect] = {
    "refunds are not reconciled": Defect(part=(StripeReader, "refunds", _nothing)),
    "paid invoices are not reconciled": Defect(part=(StripeReader, "paid_invoices", _nothing)),
    "sessions are not reconciled": Defect(part=(StripeReader, "sessions", _nothing)),
    "an earlier page of a plan stays open": Defect(part=(Checkout, "_close", _nothing)),
    "an older reading undoes a newer one": Defect(
        sql=lambda: _function("backend.record_reversal", ("excluded.ticket > r.ticket and ", ""))
    ),
    "one grant an invoice, not a line": Defect(
        sql=lambda: _function("backend.invoice_lines", (" || ':' || l.id", ""))
    ),
    "time not used is not credited": Defect(
        sql=lambda: _function(
            "backend.count_prorations",
            ("where subscription_id = any (p_subscriptions)\n     order", "where false order"),
        )
    ),
    "a failed refund stays taken back": Defect(
        sql=lambda: _function(
            "backend.counts", ("p_status in ('failed', 'canceled') then false", "true then true")
        )
    ),
}


@contextlib.contextmanager
def defective(name: str | None) -> Iterator[str]:
    """Put a defect in place and return the SQL that belongs to it; None is no defect."""
    with contextlib.ExitStack() as stack:
        defect = Defect() if name is None else DEFECTS[name]
        if defect.part:
            stack.enter_context(patch.object(*defect.part))
        yield defect.sql()
