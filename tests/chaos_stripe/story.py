"""What users, banks, operators and time do, drawn from the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any, LiteralString
from uuid import UUID

from holdfast.errors import HoldfastError
from local.standins.stripe_wire import Json, StripeError
from tests.chaos_stripe import moves
from tests.chaos_stripe.world import World, short

_USERS = (8, 11)
_STEPS = (55, 85)
_TRIES = 8
_THOUSANDTH = Decimal("0.001")


class Story:
    """The users of one run and all that happens to them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stripe = world.stripe
        self._random = world.source("story")
        self.users = [self._uuid() for _ in range(self._random.randint(*_USERS))]
        self.spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._plan_pages: set[str] = set()
        self._reserved: list[tuple[UUID, UUID, Decimal]] = []
        world.disturb = self._disturb
        self._deeds: dict[Callable[[], bool], int] = {
            self._buy_pack: 14,
            self._subscribe: 12,
            self._at_the_page: 10,
            self._bank_answers: 8,
            self._moving("subscription", moves.change_plan, "active", "trialing", "past_due"): 9,
            self._moving("subscription", moves.cancel, *moves.LIVE): 5,
            self._moving("subscription", moves.card, *moves.LIVE): 6,
            self._moving("subscription", moves.coupon, *moves.LIVE): 3,
            self._moving(
                "subscription", moves.end_of_patience, "past_due", "paused", "trialing"
            ): 3,
            self._pay_late: 5,
            self._moving("payment_intent", moves.refund, "succeeded"): 9,
            self._moving("refund", moves.refund_goes_on, "pending", "succeeded"): 6,
            self._moving("payment_intent", moves.dispute, "succeeded"): 7,
            self._moving("dispute", moves.dispute_goes_on): 10,
            self._delete_customer: 2,
            self._spend: 24,
            self._settle: 5,
            world.perhaps_take_database_away: 2,
        }

    def tell(self) -> None:
        """Let it all happen."""
        steps = self._random.randint(*_STEPS)
        pause = self._world.terms.days * 86_400 / steps
        for _ in range(steps):
            for _ in range(_TRIES):
                (deed,) = self._random.choices(list(self._deeds), list(self._deeds.values()))
                if self._do(deed):
                    break
            self._world.pass_time(self._random.expovariate(1 / pause))

    def settle_all(self) -> None:
        """End every reservation."""
        while self._reserved:
            self._settle()

    def name_of(self, user: object) -> str:
        """Return a user's name for people."""
        return f"user{self.users.index(UUID(str(user))) + 1}"

    def _do(self, deed: Callable[[], bool]) -> bool:
        try:
            return deed()
        except StripeError as refusal:
            self._world.note(f"refused: {refusal.message}")
        except HoldfastError as trouble:
            self._world.told(trouble)
        return True

    def _any(self, kind: str, *statuses: str) -> Json | None:
        found = [
            each
            for each in self._stripe.state.newest(kind)
            if not statuses or each["status"] in statuses
        ]
        return self._random.choice(found) if found else None

    def _uuid(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _note(self, *words: object) -> None:
        self._world.note(" ".join(short(word) for word in words))

    # --- buying ---

    def _buy_pack(self) -> bool:
        user = self._random.choice(self.users)
        pack = self._random.choice(("starter", "builder", "production"))
        self._note(self.name_of(user), "wants", pack)
        view = self._world.product.checkout.buy_pack(user, pack, "/", "/")
        return self._perhaps_pay(view.session_id)

    def _subscribe(self) -> bool:
        user = self._random.choice(self.users)
        plan = self._random.choice(("pro", "business"))
        interval = self._random.choice(("month", "month", "year"))
        self._note(self.name_of(user), "wants", plan, interval)
        view = self._world.product.checkout.subscribe(user, plan, interval, "/", "/")
        self._plan_pages.add(view.session_id)
        return self._perhaps_pay(view.session_id)

    def _perhaps_pay(self, session_id: str) -> bool:
        if self._random.random() < 0.85:
            self._pay(session_id)
        return True

    def _at_the_page(self) -> bool:
        session = self._any("checkout.session", "open")
        # a plan's page that was made and not given out is known to nobody; a pack's may be paid all the same
        if session is None or (
            session["mode"] == "subscription" and session["id"] not in self._plan_pages
        ):
            return False
        self._pay(session["id"])
        return True

    def _pay(self, session_id: str) -> None:
        acts = (
            *[(self._stripe.pay, "pays")] * 7,
            *[(self._stripe.pay_delayed, "will pay")] * 2,
            (self._stripe.decline, "is declined"),
            (self._stripe.expire, "leaves"),
        )
        act, name = self._random.choice(acts)
        session = act(session_id)
        self._note(self.name_of(session["metadata"]["user_id"]), name, session_id)

    def _bank_answers(self) -> bool:
        waiting = [
            session
            for session in self._stripe.state.newest("checkout.session")
            if session["status"] == "complete" and session["payment_status"] == "unpaid"
        ]
        if not waiting:
            return False
        session = self._random.choice(waiting)
        is_ok = self._random.random() < 0.7
        self._note("the bank pays" if is_ok else "the bank does not pay", session["id"])
        self._stripe.settle_delayed(session["id"], ok=is_ok)
        return True

    def _pay_late(self) -> bool:
        invoice = self._any("invoice", "open", "draft")
        if invoice:
            self._note(invoice["id"], "is paid late")
            self._stripe.pay_invoice(invoice["id"])
        return invoice is not None

    def _delete_customer(self) -> bool:
        customer = self._any("customer")
        if customer:
            self._note(customer["id"], "is deleted")
            self._stripe.delete_customer(customer["id"])
        return customer is not None

    # --- what happens to one object ---

    def _moving(self, kind: str, move: moves.Move, *statuses: str) -> Callable[[], bool]:
        def deed() -> bool:
            thing = self._any(kind, *statuses)
            return thing is not None and self._move(thing, move, self._random)

        return deed

    def _move(self, thing: Json, move: moves.Move, random: Random) -> bool:
        said = move(self._stripe, thing, random)
        if said:
            self._note(thing["id"], said)
        return bool(said)

    def _disturb(self, path: str, object_id: str) -> None:
        if path in moves.DISTURBING:
            kind, move = moves.DISTURBING[path]
            thing = self._stripe.state.get(kind, object_id)
            self._do(partial(self._move, thing, move, self._world.random))

    # --- spending ---

    def _spend(self) -> bool:
        user = self._random.choice(self.users)
        available = self._ledger(
            "select coalesce((select available from public.credit_balances where user_id = %s), 0)",
            user,
        )
        amount = self._share(available, (50, 100, 100))
        job = self._uuid()
        if not amount or self._ledger("select ledger.reserve(%s, %s, %s)", user, job, amount) != (
            "reserved"
        ):
            return False
        self._note(self.name_of(user), "reserves", amount)
        self._reserved.append((user, job, amount))
        if self._random.random() < 0.6:
            self._settle()
        return True

    def _settle(self) -> bool:
        if not self._reserved:
            return False
        user, job, amount = self._reserved.pop(self._random.randrange(len(self._reserved)))
        charge = self._share(amount, (0, 50, 100, 100, 100, 100))
        self._ledger("select ledger.settle(%s, %s)", job, charge)
        self.spent[str(user)] += charge
        self._note(self.name_of(user), "spends", charge)
        return True

    def _share(self, amount: Decimal, percents: tuple[int, ...]) -> Decimal:
        return (amount * self._random.choice(percents) / 100).quantize(_THOUSANDTH)

    def _ledger(self, query: LiteralString, *params: object) -> Any:
        row = self._world.database.connection("supabase_admin").execute(query, params).fetchone()
        assert row
        return next(iter(row.values()))
