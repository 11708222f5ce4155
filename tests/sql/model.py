"""
The ledger in plain Python: what the SQL must agree with, written without looking at its ways.

There are no locks, no stored balances and no hints here: available is what the living grants hold. Expiry happens the
moment time passes it, while the SQL may apply it later; so the two are compared by what a user can spend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

GRACE = timedelta(days=30)
ZERO = Decimal(0)


class MisuseError(Exception):
    """A call no correct caller makes; `sqlstate` says which."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@dataclass
class Grant:
    """Credits that came in."""

    user: UUID
    source: str
    amount: Decimal
    remaining: Decimal
    expires_at: datetime
    priority: int = 100
    age: int = 0
    lost: Decimal = ZERO
    """What was left when it expired."""
    reversed: Decimal = ZERO
    forgiven: Decimal = ZERO
    """The part of `reversed` that met lost credits, for which nothing was taken."""


@dataclass
class Reservation:
    """Credits set aside, and from which grants."""

    user: UUID
    amount: Decimal
    taken: list[tuple[Grant, Decimal]]
    charged: Decimal | None = None


@dataclass
class Model:
    """All users' books."""

    now: datetime
    grants: dict[str, Grant] = field(default_factory=dict)
    reservations: dict[UUID, Reservation] = field(default_factory=dict)
    reversals: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    debts: dict[UUID, Decimal] = field(default_factory=dict)

    def available(self, user: UUID) -> Decimal:
        """Return what a user can reserve now."""
        return sum((grant.remaining for grant in self._spendable(user)), ZERO)

    def reserved(self, user: UUID) -> Decimal:
        """Return what a user's open reservations hold."""
        return sum(
            (
                each.amount
                for each in self.reservations.values()
                if each.user == user and each.charged is None
            ),
            ZERO,
        )

    def open_reservations(self) -> list[UUID]:
        """Return the ids of all open reservations that hold something, oldest first."""
        return [
            name for name, each in self.reservations.items() if each.charged is None and each.amount
        ]

    def owed(self, user: UUID) -> Decimal:
        """Return a user's debt."""
        return self.debts.get(user, ZERO)

    def advance(self, now: datetime) -> None:
        """Let time pass; what is due expires."""
        self.now = now
        for grant in self.grants.values():
            if grant.expires_at <= now:
                grant.lost += grant.remaining
                grant.remaining = ZERO

    def grant(
        self,
        user: UUID,
        source: str,
        key: str,
        amount: Decimal,
        expires_at: datetime,
        priority: int,
    ) -> str:
        """Do as `ledger.grant`."""
        if not _is_amount(amount) or amount == 0:
            raise MisuseError("HF001")
        if known := self.grants.get(key):
            if (known.user, known.source, known.amount) != (user, source, amount):
                raise MisuseError("HF002")
            return "duplicate"
        self._add(
            key, Grant(user, source, amount, amount - self._pay(user, amount), expires_at, priority)
        )
        return "granted"

    def reserve(self, user: UUID, reservation: UUID, amount: Decimal) -> str:
        """Do as `ledger.reserve`."""
        if not _is_amount(amount):
            raise MisuseError("HF001")
        if known := self.reservations.get(reservation):
            if (known.user, known.amount) != (user, amount):
                raise MisuseError("HF003")
            return "duplicate" if known.charged is None else "already_settled"
        if self.available(user) < amount:
            return "insufficient_credits"
        self.reservations[reservation] = Reservation(user, amount, self._take(user, amount))
        return "reserved"

    def settle(self, reservation: UUID, charge: Decimal) -> str:
        """Do as `ledger.settle`."""
        if not _is_amount(charge):
            raise MisuseError("HF001")
        known = self.reservations.get(reservation)
        if known is None:
            return "not_found"
        if known.charged is not None:
            return "already_settled"
        if charge > known.amount:
            raise MisuseError("HF004")
        known.charged = charge
        used = charge + self._pay(known.user, known.amount - charge)
        orphaned = ZERO
        for grant, part in known.taken:
            kept = min(part, used)
            used -= kept
            if grant.expires_at > self.now:
                grant.remaining += part - kept
            else:
                orphaned += part - kept
        if orphaned:
            self._restore(known.user, f"restored:{reservation}", orphaned)
        return "settled"

    def reverse(self, key: str, reversal: str, total: Decimal) -> str:
        """Do as `ledger.reverse`."""
        if not _is_amount(total):
            raise MisuseError("HF001")
        grant = self.grants.get(key)
        if grant is None:
            return "not_found"
        if total > grant.amount:
            raise MisuseError("HF006")
        if known := self.reversals.get(reversal):
            if known != (key, total):
                raise MisuseError("HF005")
            return "duplicate"
        self.reversals[reversal] = (key, total)
        change, grant.reversed = total - grant.reversed, total
        if change == 0:
            return "unchanged"
        if change > 0:
            self._claw_back(grant, change)
            return "clawed_back"
        self._give_back(grant, -change, reversal)
        return "restored"

    def _claw_back(self, grant: Grant, left: Decimal) -> None:
        own = min(left, grant.remaining)
        grant.remaining -= own
        left -= own
        forgiven = min(left, grant.lost - grant.forgiven)
        grant.forgiven += forgiven
        left -= forgiven
        others = min(left, self.available(grant.user))
        self._take(grant.user, others)
        self.debts[grant.user] = self.owed(grant.user) + left - others

    def _give_back(self, grant: Grant, left: Decimal, reversal: str) -> None:
        # what was taken comes back first; what was forgiven is worth nothing either way
        taken = grant.reversed + left - grant.forgiven
        worthless = max(left - taken, ZERO)
        grant.forgiven -= worthless
        left -= worthless
        left -= self._pay(grant.user, left)
        if grant.expires_at > self.now:
            grant.remaining += left
        elif left:
            self._restore(grant.user, f"restored:{reversal}", left)

    def _restore(self, user: UUID, key: str, amount: Decimal) -> None:
        self._add(key, Grant(user, "restored", amount, amount, self.now + GRACE))

    def _add(self, key: str, grant: Grant) -> None:
        grant.age = len(self.grants)
        self.grants[key] = grant
        self.advance(self.now)  # it may be over already

    def _pay(self, user: UUID, amount: Decimal) -> Decimal:
        """Pay debt out of `amount` and return how much it took."""
        paid = min(self.owed(user), amount)
        self.debts[user] = self.owed(user) - paid
        return paid

    def _take(self, user: UUID, amount: Decimal) -> list[tuple[Grant, Decimal]]:
        taken = []
        for grant in self._spendable(user):
            part = min(grant.remaining, amount)
            if part:
                grant.remaining -= part
                amount -= part
                taken.append((grant, part))
        return taken

    def _spendable(self, user: UUID) -> list[Grant]:
        """Return a user's grants that have something left, in spending order."""
        return sorted(
            (each for each in self.grants.values() if each.user == user and each.remaining),
            key=lambda each: (each.expires_at, each.priority, each.age),
        )


def _is_amount(value: Decimal) -> bool:
    return value.is_finite() and 0 <= value < 10**11 and value == round(value, 3)
