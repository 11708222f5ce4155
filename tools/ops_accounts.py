"""
Changes of accounts by an operator: credits, a role, the welcome gift.

What a change will do is found by doing it in a transaction that is rolled back. So the rules stay in SQL alone, and
before and after are what will be there, with debts paid, expired credits gone and a waiting gift given.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import DictRow
from rich.console import Console

from tools.asking import is_agreed
from tools.ops_text import Database, RefusedError, ago, cell, table

_AMOUNT = re.compile(r"[+-]?\d{1,11}(\.\d{1,3})?", re.ASCII)

_ACCOUNT: LiteralString = (
    'select p.role, p.welcome as "welcome gift", a.available, a.reserved, a.owed'
    " from auth.users u left join public.profiles p on p.user_id = u.id, backend.get_account(u.id) a"
    " where u.id = %(user)s"
)
_SETTINGS: LiteralString = (
    'select welcome_credits as "welcome gift",'
    " case when welcome_needs_verified_email then 'needed' else 'not needed' end"
    ' as "verified e-mail" from backend.account_settings'
)

_REFUSALS = {
    "unknown_user": "Auth has no such user",
    "insufficient_credits": "so many credits are not available",
    "conflict": "this key was used for something else",
}
_VIOLATIONS = {
    "reason_is_given": "REASON= says why, in 3 to 500 characters",
    "role_is_known": "no such role: ROLE= is user or admin",
    "welcome_is_an_amount": "WELCOME= is 0 or more, and less than 100000 credits",
}


@dataclass(frozen=True)
class Change:
    """One thing to do to an account, or to all that will be opened."""

    name: str
    sentence: str
    call: LiteralString
    state: LiteralString
    action: str
    values: Mapping[str, UUID | Decimal | str]
    """What is passed on, by the names of `backend.admin_actions`; the same under one key is a repeat."""


@dataclass(frozen=True)
class Entry:
    """What is recorded with a change: who, why, and the key under which it happens once."""

    key: str
    reason: str
    actor: str


def adjustment(user: str, credits_: str) -> Change:
    """Return the change that gives credits, or takes them below zero. Raises RefusedError."""
    user_id, amount = _user(user), _amount("CREDITS", credits_)
    verb = "give" if amount > 0 else "take"
    return Change(
        "adjust",
        f"{user_id}: {verb} {abs(amount):.3f} credits",
        "select backend.adjust_credits(%(actor)s, %(key)s, %(user_id)s, %(amount)s, %(reason)s) as outcome",
        _ACCOUNT,
        "adjust",
        {"user_id": user_id, "amount": amount},
    )


def role(role_: str, user: str) -> Change:
    """Return the change that gives a user a role. Raises RefusedError."""
    user_id = _user(user)
    return Change(
        "role",
        f"{user_id}: give the role {role_}",
        "select backend.set_role(%(actor)s, %(key)s, %(user_id)s, %(detail)s, %(reason)s) as outcome",
        _ACCOUNT,
        "set_role",
        {"user_id": user_id, "detail": role_},
    )


def welcome(credits_: str) -> Change:
    """Return the change of the gift of accounts that are opened from now on. Raises RefusedError."""
    amount = _amount("WELCOME", credits_)
    return Change(
        "welcome",
        f"accounts opened from now on: a welcome gift of {amount:.3f} credits",
        "select backend.set_welcome(%(actor)s, %(key)s, %(amount)s,"
        " (select welcome_needs_verified_email from backend.account_settings), %(reason)s) as outcome",
        _SETTINGS,
        "set_welcome",
        {"amount": amount},
    )


def entry(key: str | None, reason: str | None) -> Entry:
    """Return what is recorded, with a fresh key when none is given."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = f"uid-{os.getuid()}"
    return Entry(key or str(uuid4()), reason or "", f"operator:{name}")


def apply(database: Database, console: Console, change: Change, entry_: Entry, *, yes: bool) -> int:
    """Say what will be, ask, do it, and return the exit status. Raises RefusedError with nothing done."""
    before, after, outcome = _run(database, change, entry_, is_rehearsal=True)
    console.print(change.sentence, markup=False)
    if outcome == "duplicate":
        return _tell_repeat(database, console, change, entry_)
    console.print(table(("", "before", "after"), [(n, before[n], after[n]) for n in after]))
    console.print(f"by {entry_.actor}: {entry_.reason}", markup=False)
    console.print(
        f"key: {entry_.key} (the same again with KEY={entry_.key} changes nothing more)",
        markup=False,
    )
    if not yes and not is_agreed(console):
        raise RefusedError
    _, after, outcome = _run(database, change, entry_, is_rehearsal=False)
    console.print(f"{change.name}: {outcome}")
    console.print(", ".join(f"{name} {cell(value)}" for name, value in after.items()), markup=False)
    return 0


def _run(
    database: Database, change: Change, entry_: Entry, *, is_rehearsal: bool
) -> tuple[DictRow, DictRow, str]:
    """Return the state before and after, and the outcome. Raises RefusedError with nothing done."""
    state = {"user": change.values.get("user_id")}
    parameters = {
        **change.values,
        "key": entry_.key,
        "actor": entry_.actor,
        "reason": entry_.reason,
    }
    try:
        with database.transaction(force_rollback=is_rehearsal):
            before = database.execute(change.state, state).fetchone()
            (row,) = database.execute(change.call, parameters).fetchall()
            after = database.execute(change.state, state).fetchone()
            if before is None or after is None or row["outcome"] in _REFUSALS:
                raise RefusedError(_REFUSALS[row["outcome"]])
    except psycopg.errors.CheckViolation as error:
        if error.diag.constraint_name not in _VIOLATIONS:
            raise
        raise RefusedError(_VIOLATIONS[error.diag.constraint_name]) from None
    except psycopg.errors.NumericValueOutOfRange:
        raise RefusedError("that is more than an account can hold") from None
    except psycopg.errors.InsufficientPrivilege:
        raise RefusedError("DATABASE_URL is not the owner's: only the owner may do this") from None
    return before, after, row["outcome"]


def _tell_repeat(database: Database, console: Console, change: Change, entry_: Entry) -> int:
    (found,) = database.execute(
        "select * from backend.admin_actions where key = %s", (entry_.key,)
    ).fetchall()
    wanted = {"action": change.action, **change.values}
    if any(found[name] != value for name, value in wanted.items()):
        raise RefusedError(_REFUSALS["conflict"])
    console.print(
        f"{change.name}: duplicate, done {ago(found['created_at'])} by {found['actor']}: {found['reason']}",
        markup=False,
    )
    return 0


def _user(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise RefusedError(f"{text or 'nothing'} is no user's id") from None


def _amount(name: str, text: str) -> Decimal:
    if not _AMOUNT.fullmatch(text):
        raise RefusedError(f"{name}= is a number of credits with at most 3 decimals, as -5 or 2.5")
    amount = Decimal(text)
    if name == "CREDITS" and not amount:
        raise RefusedError("CREDITS= is above zero to give, below zero to take")
    return amount
