"""Paid invoices: what each line grants, and when it goes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.billing import START, Stripe, unix
from tests.clock import NOON, Clock
from tests.factories import Backend, Balance, new_key, new_user, sign_up
from tests.raising import raises_sqlstate


@pytest.fixture(name="stripe")
def _stripe(backend: Backend) -> Stripe:
    return Stripe(backend)


def _available(stripe: Stripe) -> Decimal:
    return stripe.ledger.balance(stripe.user).available


class TestRegular:
    """A period of a monthly plan."""

    @pytest.mark.own_database
    def test_granted(self, stripe: Stripe, clock: Clock) -> None:
        """A paid line grants the plan's credits until the period's end and grace."""
        price = stripe.price(grace_days=5, priority=40)

        outcome = stripe.invoice(stripe.line(price, start=clock.now()))

        assert outcome == "granted"
        (key, grant) = next(iter(stripe.ledger.grants(stripe.user).items()))
        assert key == f"in:{stripe.id('in', 1)}:{stripe.id('il', 1)}"
        assert (grant["amount"], grant["source"], grant["priority"]) == (30, "plan", 40)
        assert grant["expires_at"] == clock.now() + timedelta(days=31 + 5)
        assert grant["description"] == "plan pro"

    def test_once(self, stripe: Stripe) -> None:
        """The same event, another event and reconciliation of one invoice grant once."""
        line, event = stripe.line(stripe.price()), new_key("evt")

        found = [
            stripe.invoice(line, event=event),
            stripe.invoice(line, event=event),
            stripe.invoice(line),
            stripe.invoice(line, reconciling=True),
        ]

        assert found == ["granted", "duplicate", "already_granted", "already_granted"]
        assert stripe.ledger.kinds(stripe.user) == ["grant"]

    def test_renewal(self, stripe: Stripe) -> None:
        """A renewal is another invoice and grants again; packs are not touched."""
        price = stripe.price()
        pack = stripe.ledger.grant(stripe.user, 7)
        stripe.invoice(stripe.line(price))
        stripe.invoice(stripe.line(price, number=2, start=START + timedelta(days=31)), number=2)

        assert _available(stripe) == 67
        assert stripe.ledger.remaining(pack) == 7

    def test_quantity(self, stripe: Stripe) -> None:
        """Three seats are three times the credits; no quantity is one."""
        price = stripe.price()
        stripe.invoice(stripe.line(price, 3 * 2900, quantity=3))
        stripe.invoice(stripe.line(price, number=2, quantity=None), number=2)

        assert _available(stripe) == 120

    @pytest.mark.parametrize(
        ("amount", "discount", "free", "credits_"),
        [
            (2900, 0, False, 30),
            (2900, 2899, False, 30),
            (2900, 2900, False, 0),
            (0, 0, False, 0),
            (2900, 2900, True, 30),
            (0, 0, True, 30),
        ],
        ids=["paid", "discounted", "coupon", "trial", "coupon allowed", "trial allowed"],
    )
    def test_costs_nothing(
        self, stripe: Stripe, amount: int, discount: int, free: Any, credits_: int
    ) -> None:
        """What costs nothing grants nothing unless the plan says so; a discount takes no credits."""
        price = stripe.price(grants_without_payment=free)

        outcome = stripe.invoice(stripe.line(price, amount, discount_minor=discount))

        assert outcome == ("granted" if credits_ else "nothing_to_grant")
        assert _available(stripe) == credits_

    @pytest.mark.own_database
    def test_paid_late(self, stripe: Stripe, clock: Clock) -> None:
        """A period paid for after its end is not lost: its credits live through the grace from now."""
        price = stripe.price()

        stripe.invoice(stripe.line(price, start=clock.now() - timedelta(days=60)))

        (grant,) = stripe.ledger.grants(stripe.user).values()
        assert grant["expires_at"] == clock.now() + timedelta(days=3)

    def test_amount_and_metadata_do_not_matter(self, stripe: Stripe) -> None:
        """What a period grants is the mirrored catalogue's word, whatever was charged."""
        stripe.invoice(stripe.line(stripe.price(), 999_999))

        assert _available(stripe) == 30

    def test_absurd_quantity(self, stripe: Stripe) -> None:
        """More credits than the ledger can hold are refused, and the event stays open."""
        event, price = new_key("evt"), stripe.price()
        with raises_sqlstate("22003"):
            stripe.invoice(stripe.line(price, quantity=10**12), event=event)

        assert stripe.db.rows("select from backend.stripe_events where id = %s", event) == []
        assert stripe.invoice(stripe.line(price), event=event) == "granted"

    def test_negative_quantity(self, stripe: Stripe) -> None:
        """A negative quantity grants nothing."""
        assert stripe.invoice(stripe.line(stripe.price(), quantity=-1)) == "nothing_to_grant"


class TestWhose:
    """The user comes from our own rows."""

    def test_unknown_customer_with_our_price(self, backend: Backend) -> None:
        """An invoice of our price for nobody we know waits, and takes effect when the customer is known."""
        stripe = Stripe(backend, linked=False)
        line, event = stripe.line(stripe.price()), new_key("evt")
        assert stripe.invoice(line, event=event, user_id=None) == "parked"
        assert stripe.invoice(line, event=event, user_id=None) == "parked"

        stripe.row("select * from backend.get_customer(%s)", stripe.user)
        stripe.call("select backend.link_customer(%s, 1, %s)", stripe.user, stripe.customer)

        assert stripe.invoice(line, event=event) == "granted"
        assert stripe.invoice(line, event=event) == "duplicate"
        assert _available(stripe) == 30

    def test_claim_is_not_believed(self, backend: Backend) -> None:
        """Metadata that names a user grants that user nothing."""
        stripe, victim = Stripe(backend, linked=False), new_user()

        assert stripe.invoice(stripe.line(stripe.price()), user_id=str(victim)) == "parked"
        assert backend.ledger.balance(victim).available == 0

    def test_by_the_purchase(self, backend: Backend) -> None:
        """The session that made the subscription says whose it is."""
        checkout = backend.open_purchase(interval="month")
        stripe = Stripe(backend, checkout.user, linked=False)
        stripe.subscription = checkout.subscription
        assert backend.checkout_event(checkout) == "subscribed"

        assert stripe.invoice(stripe.line(stripe.price()), customer_id="cus_other") == "granted"

    def test_by_the_subscription(self, stripe: Stripe) -> None:
        """A subscription that is known says whose it is, also when its customer was deleted."""
        price = stripe.price()
        stripe.subscribe(price)
        stripe.call("select backend.forget_customer(%s, null)", stripe.customer)

        assert stripe.invoice(stripe.line(price)) == "granted"
        assert stripe.invoice(stripe.line(price, number=2), number=2, customer_id="c") == "granted"

    def test_deleted_customer(self, stripe: Stripe) -> None:
        """A deleted customer's late invoice still is its user's."""
        stripe.call("select backend.forget_customer(%s, null)", stripe.customer)

        assert stripe.invoice(stripe.line(stripe.price())) == "granted"

    def test_deleted_user(self, backend: Backend) -> None:
        """A plan that outlives its user in Auth goes on granting to the old id, and to nobody who comes back."""
        address = f"{new_key('somebody')}@example.com"
        stripe = Stripe(backend, sign_up(backend.db, address))
        price = stripe.price()
        stripe.invoice(stripe.line(price))
        backend.db.connection("supabase_auth_admin").execute(
            "delete from auth.users where id = %s", (stripe.user,)
        )
        again = sign_up(backend.db, address)

        assert stripe.invoice(stripe.line(price, number=2), number=2) == "granted"

        assert _available(stripe) == 10 + 30 + 30  # with the welcome gift
        assert backend.ledger.balance(again).available == 0

    def test_foreign(self, backend: Backend) -> None:
        """An invoice of a customer and a price we do not know, without our metadata, is ignored."""
        stripe = Stripe(backend, linked=False)

        assert stripe.invoice(stripe.line("price_strange"), user_id=None) == "ignored"
        assert stripe.invoice(stripe.line("price_strange"), user_id="x") == "parked"

    def test_unknown_price(self, stripe: Stripe) -> None:
        """An unknown price of a known user waits, and nothing of the invoice is applied meanwhile."""
        known = stripe.price("pro")
        lines = (stripe.line(known), stripe.line(stripe.id("price", "new"), number=2))
        event = new_key("evt")
        assert stripe.invoice(*lines, event=event) == "parked"
        assert _available(stripe) == 0

        stripe.price("new", credits_=60)

        assert stripe.invoice(*lines, event=event) == "granted"
        assert _available(stripe) == 90

    def test_price_that_is_not_ours(self, stripe: Stripe) -> None:
        """A mirrored price that grants nothing is ignored; once the catalogue knows it, it grants."""
        price = stripe.price("odd", kind=None, item_id=None, credits=None)
        assert stripe.invoice(stripe.line(price)) == "ignored"

        stripe.price("odd")

        assert stripe.invoice(stripe.line(price), reconciling=True) == "granted"

    def test_plan_at_a_price_that_is_not_ours(self, stripe: Stripe) -> None:
        """Money for a plan that was moved off the catalogue brings no credits, and somebody is told."""
        stripe.subscribe(stripe.price())
        odd = stripe.price("odd", kind=None, item_id=None, credits=None)

        assert stripe.invoice(stripe.line(odd)) == "off_catalog"
        assert stripe.invoice(stripe.line(odd, 0), number=2) == "ignored"

    def test_line_without_a_price(self, stripe: Stripe) -> None:
        """A line without a price does not keep the others from granting."""
        lines = (stripe.line(None, 500, number=2), stripe.line(stripe.price()))

        assert stripe.invoice(*lines) == "granted"

    def test_invoice_of_a_session(self, stripe: Stripe) -> None:
        """A one-off invoice, as of a pack's session, grants nothing here."""
        line = stripe.line("price_pack", 1000, subscription_id=None)

        assert stripe.invoice(line, subscription_id=None) == "ignored"


class TestYearly:
    """Twelve months paid at once."""

    @pytest.mark.own_database
    def test_drip(self, stripe: Stripe, clock: Clock) -> None:
        """The first month comes at once, each other when it begins; each dies with its month."""
        clock.set(datetime(2030, 1, 31, 12, tzinfo=UTC))
        price = stripe.price(months=12)
        stripe.invoice(stripe.line(price, 29000, start=clock.now(), days=365))
        assert stripe.drip() == 0
        months = []
        for _ in range(12):
            grants = stripe.ledger.grants(stripe.user)
            key, last = list(grants.items())[-1]
            months.append((key.rpartition(":")[2], last["expires_at"] - timedelta(days=3)))
            due = stripe.db.value("select next_month_at from plan_periods")
            if due is None:
                break
            clock.set(due - timedelta(seconds=1))
            assert stripe.drip() == 0
            clock.set(due)
            assert stripe.drip() == 1
            assert stripe.drip() == 0

        ends = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1]
        assert [key for key, _ in months] == [f"m{n}" for n in range(1, 13)]
        assert [end.month for _, end in months] == ends
        assert [end.day for _, end in months][:4] == [28, 31, 30, 31]
        assert months[-1][1] == datetime(2031, 1, 31, 12, tzinfo=UTC)
        assert sum(g["amount"] for g in stripe.ledger.grants(stripe.user).values()) == 360
        assert stripe.ledger.audit() == []

    @pytest.mark.own_database
    def test_one_that_cannot_be_granted(self, backend: Backend, clock: Clock) -> None:
        """A period whose key granted something else does not hold up the others, and stays due."""
        broken, whole = Stripe(backend), Stripe(backend)
        for stripe in (broken, whole):
            stripe.invoice(stripe.line(stripe.price(months=12), 29000, start=clock.now(), days=365))
        (period,) = broken.ledger.grants(broken.user)
        broken.ledger.grant(broken.user, 7, key=period.replace(":m1", ":m2"))
        clock.advance(days=31)

        assert broken.drip() == 1
        assert [g["amount"] for g in whole.ledger.grants(whole.user).values()] == [30, 30]
        due = "select count(*) from plan_periods where next_month_at <= ledger.clock()"
        assert broken.db.value(due) == 1

    @pytest.mark.own_database
    def test_drip_that_comes_late(self, stripe: Stripe, clock: Clock) -> None:
        """After an outage all months that have begun come, and live through the grace at least."""
        price = stripe.price(months=12)
        stripe.invoice(stripe.line(price, 29000, start=clock.now(), days=365))
        clock.advance(days=100)

        assert stripe.drip() == 3

        late = list(stripe.ledger.grants(stripe.user).values())[1:]
        assert [g["expires_at"] >= clock.now() + timedelta(days=3) for g in late] == [True] * 3

    @pytest.mark.own_database
    def test_session_time_zone(self, stripe: Stripe, clock: Clock) -> None:
        """Months are counted in UTC, whatever the session's time zone."""
        stripe.ledger.calls.execute("set time zone 'Pacific/Auckland'")
        stripe.invoice(stripe.line(stripe.price(months=12), 29000, start=clock.now(), days=365))
        stripe.ledger.calls.execute("reset time zone")

        due = stripe.db.value("select next_month_at from plan_periods")

        assert due == datetime(2030, 2, 1, 12, tzinfo=UTC)

    @pytest.mark.own_database
    def test_at_once(self, stripe: Stripe, clock: Clock) -> None:
        """Or the whole year comes at once and lives to its end."""
        price = stripe.price(months=12, yearly="at_once")

        stripe.invoice(stripe.line(price, 29000, start=clock.now(), days=365))

        (grant,) = stripe.ledger.grants(stripe.user).values()
        assert grant["amount"] == 360
        assert grant["expires_at"] == NOON + timedelta(days=368)
        clock.advance(days=100)
        assert stripe.drip() == 0

    @pytest.mark.own_database
    def test_canceled(self, stripe: Stripe, clock: Clock) -> None:
        """A canceled subscription keeps dripping what is paid for."""
        price = stripe.price(months=12)
        stripe.invoice(stripe.line(price, 29000, start=clock.now(), days=365))
        stripe.subscribe(price, "canceled", ended_at=unix(clock.now()))
        clock.advance(days=35)

        assert stripe.drip() == 1

    @pytest.mark.own_database
    def test_refunded(self, stripe: Stripe, clock: Clock) -> None:
        """A month after a refund of half is granted in full and half of it taken, in one transaction."""
        pi = stripe.id("pi")
        stripe.invoice(
            stripe.line(stripe.price(months=12), 29000, start=clock.now(), days=365),
            payments={pi: 29000},
        )
        stripe.reversal(pi, 14500)
        clock.advance(days=31)
        stripe.drip()

        amounts = [(g["amount"], g["reversed"]) for g in stripe.ledger.grants(stripe.user).values()]
        assert amounts == [(30, 15), (30, 15)]
        stripe.reversal(pi, 14500, "failed")
        amounts = [(g["amount"], g["reversed"]) for g in stripe.ledger.grants(stripe.user).values()]
        assert amounts == [(30, 0), (30, 0)]
        assert stripe.ledger.audit() == []


class TestProration:
    """Up, down and back within a period."""

    def test_upgrade(self, stripe: Stripe) -> None:
        """Half way through, an upgrade takes half of the old credits and gives half of the new."""
        pro, business = stripe.price("pro"), stripe.price("biz", credits_=60, amount_minor=5900)
        stripe.invoice(stripe.line(pro, days=30))
        half = START + timedelta(days=15)

        outcome = stripe.invoice(
            stripe.line(pro, -1450, 2, start=half, days=15, proration=True),
            stripe.line(business, 2950, 3, start=half, days=15, proration=True),
            number=2,
        )

        assert outcome == "granted"
        assert _available(stripe) == 45
        grants = stripe.ledger.grants(stripe.user).values()
        assert [(g["amount"], g["reversed"]) for g in grants] == [(30, 15), (30, 0)]

    def test_up_and_down_in_one_day(self, stripe: Stripe) -> None:
        """Going up and down again at once ends where it began."""
        pro, business = stripe.price("pro"), stripe.price("biz", credits_=60, amount_minor=5900)
        stripe.invoice(stripe.line(pro, days=30))
        upgrade = (
            stripe.line(pro, -2900, 2, days=30, proration=True),
            stripe.line(business, 5900, 3, days=30, proration=True),
        )
        downgrade = (
            stripe.line(business, -5900, 4, days=30, proration=True),
            stripe.line(pro, 2900, 5, days=30, proration=True),
        )
        found = []
        for number, lines in enumerate((upgrade, downgrade), 2):
            stripe.invoice(*lines, number=number)
            found.append(_available(stripe))

        assert found == [60, 30]
        assert stripe.ledger.audit(stripe.user) == []

    def test_up_and_down_in_one_invoice(self, stripe: Stripe) -> None:
        """Three times there and back, all at one moment and charged with the next period, gains nothing."""
        pro, business = stripe.price("pro"), stripe.price("biz", credits_=60, amount_minor=5900)
        stripe.invoice(stripe.line(pro, days=30))
        changed: Any = {"days": 30, "proration": True}
        there_and_back = [
            line
            for n in range(2, 14, 4)
            for line in (
                stripe.line(pro, -2900, n, **changed),
                stripe.line(business, 5900, n + 1, **changed),
                stripe.line(business, -5900, n + 2, **changed),
                stripe.line(pro, 2900, n + 3, **changed),
            )
        ]
        renewal = stripe.line(pro, number=14, start=START + timedelta(days=30), days=30)

        stripe.invoice(*there_and_back, renewal, number=2)

        assert _available(stripe) == 60
        assert stripe.ledger.audit(stripe.user) == []

    def test_every_order(self, backend: Backend) -> None:
        """Invoices of a subscription that come in any order end alike: credited time waits for its period."""
        for order in itertools.permutations(range(4)):
            stripe = Stripe(backend)
            pro, business = stripe.price("pro"), stripe.price("biz", credits_=60, amount_minor=5900)
            third = [START + timedelta(days=10 * n) for n in range(3)]
            changed = {"proration": True}
            invoices = [
                (stripe.line(pro, 3000, 1, days=30),),
                (
                    stripe.line(pro, -2000, 2, start=third[1], days=20, **changed),
                    stripe.line(business, 4000, 3, start=third[1], days=20, **changed),
                ),
                (
                    stripe.line(business, -2000, 4, start=third[2], days=10, **changed),
                    stripe.line(pro, 1000, 5, start=third[2], days=10, **changed),
                ),
                (stripe.line(pro, -500, 6, start=third[2], days=5, **changed),),
            ]
            for number in order:
                stripe.invoice(*invoices[number], number=number)
            grants = {
                key.rpartition("il_")[2].removeprefix(stripe.tag): (g["amount"], g["reversed"])
                for key, g in stripe.ledger.grants(stripe.user).items()
            }
            assert grants == {
                "1": (30, 20),
                "3": (Decimal("40.677"), Decimal("20.338")),
                # the last credit falls in the period bought last, which is the narrowest
                "5": (Decimal("10.344"), Decimal("5.172")),
            }, order
            assert stripe.ledger.audit(stripe.user) == []

    def test_rounding_and_cap(self, stripe: Stripe) -> None:
        """Shares are rounded down to the thousandth, and more than all is all."""
        price = stripe.price()
        stripe.invoice(stripe.line(price, days=30))
        stripe.invoice(stripe.line(price, -1, 2, days=30, proration=True), number=2)
        assert _available(stripe) == Decimal("29.990")

        assert (
            stripe.invoice(stripe.line(price, -99999, 3, days=30, proration=True), number=3)
            == "taken_back"
        )
        assert _available(stripe) == 0

    def test_nothing_to_take_back(self, stripe: Stripe) -> None:
        """Credited time of a trial, which granted nothing, takes nothing."""
        price = stripe.price()
        stripe.invoice(stripe.line(price, 0))

        stripe.invoice(stripe.line(price, -2900, 2, proration=True), number=2)

        assert stripe.ledger.balance(stripe.user) == Balance(Decimal(0), Decimal(0), Decimal(0))

    def test_once(self, stripe: Stripe) -> None:
        """A credited line counts once, however often its invoice comes."""
        price = stripe.price()
        stripe.invoice(stripe.line(price, days=30))
        credit = stripe.line(price, -1450, 2, days=30, proration=True)

        found = [stripe.invoice(credit, number=2) for _ in range(3)]

        assert found == ["taken_back", "already_granted", "already_granted"]
        assert _available(stripe) == 15

    def test_refund_after_proration(self, stripe: Stripe) -> None:
        """A payment's share and the credited share add up, to everything at most."""
        price, pi = stripe.price(), stripe.id("pi")
        stripe.invoice(stripe.line(price, days=30), payments={pi: 2900})
        stripe.invoice(stripe.line(price, -1450, 2, days=30, proration=True), number=2)

        stripe.reversal(pi, 725)
        assert _available(stripe) == Decimal("7.500")
        stripe.reversal(pi, 2900, number=2)
        assert _available(stripe) == 0
        stripe.reversal(pi, 2900, "failed", number=2)
        assert _available(stripe) == Decimal("7.500")

    def test_more_seats(self, stripe: Stripe) -> None:
        """A second seat half way adds half a seat's credits."""
        price = stripe.price()
        stripe.invoice(stripe.line(price, days=30))
        half = START + timedelta(days=15)
        stripe.invoice(
            stripe.line(price, -1450, 2, start=half, days=15, proration=True),
            stripe.line(price, 2900, 3, start=half, days=15, proration=True, quantity=2),
            number=2,
        )

        assert _available(stripe) == 45

    def test_discounted_away(self, stripe: Stripe) -> None:
        """An upgrade that costs nothing grants nothing."""
        line = stripe.line(stripe.price(), 1450, proration=True, discount_minor=1450)

        assert stripe.invoice(line) == "nothing_to_grant"


class TestPayments:
    """Which payment paid the invoice."""

    def test_refunded(self, stripe: Stripe) -> None:
        """A refund of an invoice takes its share of the period."""
        stripe.invoice(stripe.line(stripe.price()), payments={stripe.id("pi"): 2900})

        assert stripe.reversal(stripe.id("pi"), 1450) == "clawed_back"
        assert _available(stripe) == 15

    def test_discounted_invoice(self, stripe: Stripe) -> None:
        """Shares are of what was charged: the whole of a discounted payment is the whole period."""
        stripe.invoice(stripe.line(stripe.price()), payments={stripe.id("pi"): 100})

        stripe.reversal(stripe.id("pi"), 50)
        assert _available(stripe) == 15
        stripe.reversal(stripe.id("pi"), 50, number=2)
        assert _available(stripe) == 0

    def test_two_payments(self, stripe: Stripe) -> None:
        """Two payments of one invoice weigh by their amounts."""
        first, second = stripe.id("pi", 1), stripe.id("pi", 2)
        stripe.invoice(stripe.line(stripe.price()), payments={first: 1450, second: 1450})

        stripe.reversal(first, 1450)
        assert _available(stripe) == 15
        stripe.dispute(second, 9999, "lost")
        assert _available(stripe) == 0

    def test_payment_of_nothing(self, stripe: Stripe) -> None:
        """A payment of nothing has nothing to reverse."""
        stripe.invoice(stripe.line(stripe.price()), payments={stripe.id("pi"): 0})

        assert stripe.reversal(stripe.id("pi"), 100) == "unchanged"
        assert _available(stripe) == 30

    @pytest.mark.parametrize(
        "order", list(itertools.permutations(["invoice", "payment", "refund"]))
    )
    def test_every_order(self, stripe: Stripe, order: tuple[str, ...]) -> None:
        """Invoice, its payment and a refund of it end alike in every order, each row naming its user."""
        price, pi = stripe.price(), stripe.id("pi")
        steps = {
            "invoice": lambda: stripe.invoice(stripe.line(price)),
            "payment": lambda: stripe.payment(pi),
            "refund": lambda: stripe.reversal(pi, 1450),
        }
        for name in order:
            steps[name]()

        assert _available(stripe) == 15
        owners = "select user_id from payment_reversals where payment_intent_id = %s"
        assert stripe.db.value(owners, pi) == stripe.user
        assert stripe.ledger.audit(stripe.user) == []

    def test_linked_once(self, stripe: Stripe) -> None:
        """A payment that is known, of this or another invoice, is a duplicate."""
        pi, event = stripe.id("pi"), new_key("evt")

        assert stripe.payment(pi, event=event) == "linked"
        assert stripe.payment(pi, event=event) == "duplicate"
        assert stripe.payment(pi) == "duplicate"
        assert stripe.payment(pi, number=2) == "duplicate"

    def test_invoice_of_a_pack(self, stripe: Stripe) -> None:
        """When a session also made an invoice, its payment still is the purchase's."""
        checkout = stripe.backend.open_purchase(stripe.user)
        assert stripe.payment(checkout.payment_intent, 1000) == "linked"
        stripe.backend.checkout_event(checkout)
        assert stripe.payment(checkout.payment_intent, 1000) == "duplicate"

        assert stripe.reversal(checkout.payment_intent, 1000) == "clawed_back"

    @pytest.mark.parametrize("amount", [-1, 10**14 + 1])
    def test_absurd_amount(self, stripe: Stripe, amount: int) -> None:
        """What cannot have been paid is refused."""
        with raises_sqlstate("HF001"):
            stripe.payment(stripe.id("pi"), amount)
        with raises_sqlstate("HF001"):
            stripe.invoice(stripe.line(stripe.price()), payments={stripe.id("pi"): amount})
        assert _available(stripe) == 0
