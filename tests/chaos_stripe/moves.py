"""What an operator, a bank or the portal does to one object at Stripe. Each says what it did, or an empty text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from local.standins import stripe_subscriptions
from local.standins.stripe import Stripe
from local.standins.stripe_wire import Json

Move = Callable[[Stripe, Json, Random], str]

LIVE = ("active", "past_due", "unpaid", "trialing", "paused")
_OPEN = {"needs_response", "under_review", "appeal_needs_response", "appeal_under_review"}
_INQUIRY = {"warning_needs_response", "warning_under_review"}
_ENDS = {"won": _OPEN, "lost": _OPEN, "prevented": _OPEN, "warning_closed": _INQUIRY}


def change_plan(stripe: Stripe, of: Json, random: Random) -> str:
    """Change price or quantity of a subscription, prorated in one of Stripe's ways."""
    change: Json = {"id": of["items"]["data"][0]["id"]}
    if random.random() < 0.1:
        change["quantity"] = random.choice((1, 2, 3))
    else:
        prices = [each["id"] for each in stripe.state.newest("price") if each["recurring"]]
        change["price"] = random.choice(prices)
    how = random.choice(("always_invoice", "create_prorations", "create_prorations", "none"))
    _update(stripe, of, {"items": [change], "proration_behavior": how})
    return f"is changed ({how})"


def cancel(stripe: Stripe, of: Json, random: Random) -> str:
    """Cancel a subscription now or at the end of its period, or take the latter back."""
    if random.random() < 0.4:
        stripe.cancel_now(of["id"])
        return "is canceled"
    wanted = not of["cancel_at_period_end"]
    _update(stripe, of, {"cancel_at_period_end": wanted})
    return "is to be canceled" if wanted else "is not to be canceled"


def _update(stripe: Stripe, of: Json, params: Json) -> None:
    stripe.act_on(
        "subscription",
        of["id"],
        lambda state, found: stripe_subscriptions.update(state, params, found["id"]),
    )


def card(stripe: Stripe, of: Json, random: Random) -> str:
    """Break or mend the card that pays a subscription, or renew it before its time."""
    name = random.choice(("break_card", "break_card", "mend_card", "renew", "fail_renewal"))
    getattr(stripe, name)(of["customer" if name.endswith("card") else "id"])
    return name


def end_of_patience(stripe: Stripe, of: Json, random: Random) -> str:
    """Give up collecting, end a trial or resume."""
    if of["status"] == "past_due":
        stripe.mark_unpaid(of["id"])
        return "is given up"
    if of["status"] == "paused":
        stripe.resume(of["id"])
        return "is resumed"
    stripe.end_trial(of["id"], pays=random.random() < 0.6)
    return "has no trial any more"


def coupon(stripe: Stripe, of: Json, random: Random) -> str:
    """Make the next invoice of a subscription, or all of them, cheaper."""
    percent = random.choice((100, 100, 50))
    how_long = random.choice(("once", "once", "forever"))
    stripe.apply_coupon(of["id"], percent, how_long)
    return f"gets {percent} % off {how_long}"


def refund(stripe: Stripe, paid: Json, random: Random) -> str:
    """Refund a payment, wholly or in part."""
    whole = paid["amount"]
    amount = random.choice((None, whole // 2, whole // 3, random.randint(1, whole)))
    made = stripe.refund(paid["id"], amount, random.choice(("succeeded", "succeeded", "pending")))
    return f"is refunded: {made['amount']}, {made['status']}, {made['id']}"


def refund_goes_on(stripe: Stripe, found: Json, random: Random) -> str:
    """Let a refund arrive or fail."""
    name = random.choice(("settle_refund", "fail_refund"))
    getattr(stripe, name)(found["id"])
    return name


def dispute(stripe: Stripe, paid: Json, random: Random) -> str:
    """Dispute a payment, or only ask about it."""
    amount = random.choice((None, None, paid["amount"] // 2))
    made = stripe.open_dispute(paid["id"], amount, inquiry=random.random() < 0.25)
    return f"is disputed: {made['amount']}, {made['status']}, {made['id']}"


def dispute_goes_on(stripe: Stripe, found: Json, random: Random) -> str:
    """Take a dispute one step further."""
    status, name = found["status"], found["id"]
    ways: dict[str, Callable[[], object]] = {
        f"closed as {end}": partial(stripe.close_dispute, name, end)
        for end, before in _ENDS.items()
        if status in before
    }
    if status == "lost":
        ways["appealed"] = partial(stripe.appeal, name)
    if status.endswith("needs_response"):
        ways["answered"] = partial(stripe.answer_dispute, name)
    if status in _INQUIRY:
        ways["escalated"] = partial(stripe.escalate_dispute, name)
    if not ways:
        return ""
    way = random.choice(list(ways))
    ways[way]()
    return way


DISTURBING: dict[str, tuple[str, Move]] = {
    "refunds": ("refund", refund_goes_on),
    "disputes": ("dispute", dispute_goes_on),
    "subscriptions": ("subscription", change_plan),
}
"""What may happen to an object while it is read, by its path in the API."""
