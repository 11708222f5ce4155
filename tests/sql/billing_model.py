"""
What a user should have, computed from Stripe's objects alone: no events, no order, no keys.

An account is what was paid (packs and invoice lines), what of each payment went back, and what was spent. Everything
the SQL does with tickets, gates and parked rows must end here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import floor

GONE = {
    "pending",
    "requires_action",
    "succeeded",
    "needs_response",
    "under_review",
    "lost",
    "appeal_needs_response",
    "appeal_under_review",
}
"""The states of refunds and disputes in which the money is not ours."""

NEXT = {
    "pending": ("requires_action", "succeeded", "failed", "canceled"),
    "requires_action": ("succeeded", "failed", "canceled"),
    "succeeded": ("failed",),
    "failed": (),
    "canceled": (),
    "warning_needs_response": ("warning_under_review", "needs_response"),
    "warning_under_review": ("warning_closed", "needs_response"),
    "warning_closed": (),
    "needs_response": ("under_review", "won", "lost"),
    "under_review": ("won", "lost"),
    "won": (),
    "lost": ("won", "appeal_needs_response"),
    "appeal_needs_response": ("appeal_under_review",),
    "appeal_under_review": ("won", "lost"),
}
"""Which state may follow which."""


@dataclass
class Reversal:
    """A refund or a dispute."""

    payment: str
    amount: int
    status: str


@dataclass
class Line:
    """What one payment session or invoice line bought."""

    credits: Decimal
    payments: dict[str, int]
    """What was charged for it, by payment."""
    amount: int = 1
    credited: int = 0
    """How much of `amount` later invoices credited for time not used."""


@dataclass
class Account:
    """One user's money and credits."""

    lines: dict[str, Line] = field(default_factory=dict)
    reversals: dict[str, Reversal] = field(default_factory=dict)
    spent: Decimal = Decimal(0)

    def taken_back(self, line: Line) -> Decimal:
        """Return how many of a line's credits went back, rounded down to the thousandth."""
        charged = sum(line.payments.values())
        back = sum(min(self.gone(key), amount) for key, amount in line.payments.items())
        share = Fraction(back, charged) if charged else Fraction(0)
        share += Fraction(min(line.credited, line.amount), line.amount)
        exact = Fraction(line.credits) * min(share, Fraction(1))
        return Decimal(floor(exact * 1000)) / 1000

    def gone(self, payment: str) -> int:
        """Return how much of a payment refunds and disputes took, in minor units."""
        return sum(
            each.amount
            for each in self.reversals.values()
            if each.payment == payment and each.status in GONE
        )

    def balance(self) -> Decimal:
        """Return what is available, or, below zero, owed."""
        kept = sum(
            (line.credits - self.taken_back(line) for line in self.lines.values()), Decimal(0)
        )
        return kept - self.spent
