"""What is explored: the calls, what happened before them, and which of them meet."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tests.interleavings.schedules import LATER, NOW, Call, Scenario
from tests.ledger_profile import FULL

CALLS = {
    "grant": "ledger.grant(%(user)s, 'pack', %(key)s, 7)",
    "other grant": "ledger.grant(%(user)s, 'pack', %(key2)s, 5)",
    "grant again": "ledger.grant(%(user)s, 'pack', %(g2)s, 4)",
    "grant to other": "ledger.grant(%(other)s, 'pack', %(key)s, 7)",
    "reserve": "ledger.reserve(%(user)s, %(new)s, 6)",
    "other reserve": "ledger.reserve(%(user)s, %(new2)s, 6)",
    "small reserve": "ledger.reserve(%(user)s, %(new2)s, 1)",
    "free reserve": "ledger.reserve(%(user)s, %(new)s, 0)",
    "reserve again": "ledger.reserve(%(user)s, %(r1)s, 12)",
    "reserve by other": "ledger.reserve(%(other)s, %(new)s, 6)",
    "charge": "ledger.settle(%(r1)s, 12)",
    "part": "ledger.settle(%(r1)s, 5)",
    "refund": "ledger.settle(%(r1)s, 0)",
    "other part": "ledger.settle(%(r2)s, 1)",
    "other refund": "ledger.settle(%(r2)s, 0)",
    "refund new": "ledger.settle(%(new)s, 0)",
    "claw back": "ledger.reverse(%(g2)s, %(x1)s, 4)",
    "claw back reserved": "ledger.reverse(%(g1)s, %(x2)s, 10)",
    "claw back less": "ledger.reverse(%(g2)s, %(x2)s, 1)",
    "claw back new": "ledger.reverse(%(key)s, %(x2)s, 7)",
    "key of claw back": "ledger.reverse(%(g2)s, %(x1)s, 2)",
    "restore": "ledger.reverse(%(g3)s, %(x3)s, 0)",
    "restore less": "ledger.reverse(%(g3)s, %(x2)s, 1)",
    "expire": "ledger.expire_due(5)",
    # how many it seals is nobody's outcome: entries of open transactions are left for the next one
    "seal": "case when (ledger.seal()).sealed >= 0 then 'sealed' end",
}
EVERY_FUNCTION = [
    "grant",
    "reserve",
    "charge",
    "part",
    "refund",
    "claw back",
    "restore",
    "expire",
]
PAIRS = [
    *itertools.combinations_with_replacement(EVERY_FUNCTION, 2),  # with itself: a duplicate
    ("grant", "other grant"),
    ("grant", "grant to other"),
    ("grant again", "claw back"),
    ("grant again", "expire"),
    ("grant", "claw back new"),
    ("reserve", "other reserve"),
    ("reserve", "small reserve"),
    ("reserve", "reserve by other"),
    ("reserve", "refund new"),
    ("free reserve", "free reserve"),
    ("free reserve", "reserve by other"),
    ("free reserve", "refund new"),
    *itertools.product(
        ["reserve again"], ["reserve again", "charge", "part", "refund", "claw back", "expire"]
    ),
    ("part", "other part"),
    ("part", "other refund"),
    ("refund", "other refund"),
    ("claw back", "claw back reserved"),
    ("claw back", "claw back less"),
    ("claw back", "key of claw back"),
    ("claw back reserved", "refund"),
    ("claw back reserved", "part"),
    ("claw back reserved", "restore"),
    ("restore", "restore less"),
    *itertools.product(["seal"], ["grant", "reserve", "charge", "part", "claw back", "seal"]),
]
TRIPLES = [
    ("reserve", "claw back", "expire"),
    ("reserve", "claw back reserved", "expire"),
    ("reserve", "other reserve", "refund"),
    ("reserve", "reserve", "refund new"),
    ("reserve", "reserve by other", "refund new"),
    ("free reserve", "free reserve", "refund new"),
    ("reserve again", "refund", "small reserve"),
    ("charge", "claw back reserved", "grant"),
    ("part", "claw back", "grant"),
    ("charge", "part", "refund"),
    ("part", "other refund", "claw back reserved"),
    ("refund", "claw back reserved", "expire"),
    ("refund", "expire", "expire"),
    ("refund", "reserve", "expire"),
    ("grant", "grant", "claw back new"),
    ("grant", "grant to other", "reserve"),
    ("claw back", "claw back less", "restore"),
    ("restore", "reserve", "expire"),
    ("claw back", "claw back", "reserve"),
    ("reserve", "grant to other", "seal"),
]

# r1 holds all of g1 and 2 of g4, r2 3 of g4; 1 of g4, 4 of g2 and 2 of g3 are left, and g1 and g4 are about to expire
WITH_CREDITS = (
    "ledger.grant(%(user)s, 'plan', %(g1)s, 10, %(soon)s)",
    "ledger.grant(%(user)s, 'plan', %(g4)s, 6, %(soon)s)",
    "ledger.grant(%(user)s, 'pack', %(g2)s, 4)",
    "ledger.grant(%(user)s, 'pack', %(g3)s, 6)",
    "ledger.reverse(%(g3)s, %(x0)s, 4)",
    "ledger.reserve(%(user)s, %(r1)s, 12)",
    "ledger.reserve(%(user)s, %(r2)s, 3)",
    "ledger.grant(%(other)s, 'pack', %(g5)s, 6)",
)
# everything is reserved, and 8 of it were clawed back meanwhile
WITH_DEBT = (
    "ledger.grant(%(user)s, 'pack', %(g1)s, 12)",
    "ledger.grant(%(user)s, 'pack', %(g2)s, 4)",
    "ledger.grant(%(user)s, 'pack', %(g3)s, 6)",
    "ledger.reverse(%(g3)s, %(x0)s, 4)",
    "ledger.reserve(%(user)s, %(r1)s, 12)",
    "ledger.reserve(%(user)s, %(r2)s, 6)",
    "ledger.reverse(%(g1)s, 'x:' || %(g1)s, 8)",
    "ledger.grant(%(other)s, 'pack', %(g5)s, 6)",
)


def scenarios(meetings: Sequence[tuple[str, ...]], *, full: bool = FULL) -> list[Scenario]:
    """
    Return each meeting in debt, and at the moment grants expire; if `full`, also before and after that moment.

    At that moment one caller's transaction began before it and the others' after, whoever gets the locks first.
    """
    made = []
    for names in meetings:
        name, calls = " | ".join(names), [CALLS[each] for each in names]
        everyone = frozenset(range(len(calls)))
        # a seal before them notes how far the one among them may reach
        noted = (CALLS["seal"],) if "seal" in names else ()
        with_credits, with_debt = WITH_CREDITS + noted, WITH_DEBT + noted
        made.append(Scenario(f"{name}: in debt", with_debt, _at(calls, frozenset())))
        made += [
            Scenario(f"{name}: no expiry for {n + 1}", with_credits, _at(calls, everyone - {n}))
            for n in (everyone if full else [0])
        ]
        if full:
            made += [
                Scenario(f"{name}: before expiry", with_credits, _at(calls, frozenset())),
                Scenario(f"{name}: after expiry", with_credits, _at(calls, everyone)),
            ]
    return made


def _at(calls: list[str], late: frozenset[int]) -> tuple[Call, ...]:
    return tuple(Call(sql, LATER if n in late else NOW) for n, sql in enumerate(calls))
