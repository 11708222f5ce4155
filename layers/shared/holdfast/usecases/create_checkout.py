"""Sell packs and plans: write the purchase, then make the payment session that carries its id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from holdfast.billing import BillingStore, SellablePrice
from holdfast.catalog import Catalog, Plan
from holdfast.customers import CustomerStore
from holdfast.errors import (
    AlreadySubscribedError,
    ConfigurationError,
    FieldError,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    UnavailableError,
)
from holdfast.frontend import Frontend
from holdfast.observability import count
from holdfast.purchases import Offer, PurchaseStore
from holdfast.stripe_client import CheckoutOrder, CustomerGoneError, StripeBilling
from holdfast.stripe_objects import CheckoutState
from holdfast.stripe_reader import StripeReader
from holdfast.views import (
    CatalogView,
    CheckoutStatusView,
    CheckoutView,
    PackView,
    PlanOfferView,
    PlanPriceView,
    PortalView,
)

_CUSTOMER_TRIES = 3

T = TypeVar("T")


class Checkout:
    """Sell to signed-in users, who come back to the frontend's own pages only."""

    def __init__(
        self,
        catalog: Catalog,
        purchases: PurchaseStore,
        customers: CustomerStore,
        billing: BillingStore,
        stripe: StripeBilling,
        reader: StripeReader,
        frontend: Frontend,
        *,
        per_hour: int,
    ) -> None:
        self._catalog = catalog
        self._purchases = purchases
        self._customers = customers
        self._billing = billing
        self._stripe = stripe
        self._reader = reader
        self._frontend = frontend
        self._per_hour = per_hour

    def offers(self) -> CatalogView:
        """Return what can really be bought: entries of the catalogue whose price is active at Stripe."""
        prices = self._billing.sellable_prices()
        packs = ((pack, prices.get(pack.lookup_key)) for pack in self._catalog.packs)
        plans = ((plan, _plan_prices(plan, prices)) for plan in self._catalog.plans)
        return CatalogView(
            packs=[
                PackView(
                    id=pack.id,
                    name=pack.name,
                    credits=price.credits,
                    amount_minor=price.amount_minor,
                    currency=price.currency,
                )
                for pack, price in packs
                if price is not None
            ],
            plans=[
                PlanOfferView(id=plan.id, name=plan.name, credits=plan.credits, prices=offered)
                for plan, offered in plans
                if offered or not plan.prices
            ],
        )

    def buy_pack(
        self, user_id: UUID, pack_id: str, success_path: str, cancel_path: str
    ) -> CheckoutView:
        """
        Return the page to pay a pack at.

        Raises `InvalidRequestError` for an unknown pack or a path that is none, `RateLimitedError`, and
        `UnavailableError` or `ProviderError` when Stripe makes no session; the purchase then stays without effect.
        """
        pack = self._catalog.pack(pack_id)
        if pack is None:
            raise _unknown("pack_id", "There is no such pack.")
        urls = self._frontend.checkout_urls(success_path, cancel_path)
        price = self._price(pack.lookup_key)
        offer = Offer(
            kind="pack",
            item_id=pack.id,
            interval=None,
            credits=price.credits,
            amount_minor=price.amount_minor,
            currency=price.currency,
            priority=pack.priority,
            expires_days=pack.expires_days,
        )
        return self._start(user_id, offer, price, urls)

    def subscribe(
        self, user_id: UUID, plan_id: str, interval: str, success_path: str, cancel_path: str
    ) -> CheckoutView:
        """Return the page to subscribe at; raises as `buy_pack` does, and `AlreadySubscribedError`."""
        plan = self._catalog.plan(plan_id)
        if plan is None:
            raise _unknown("plan_id", "There is no such plan.")
        if plan.price(interval) is None:
            raise _unknown("interval", "The plan is not sold for such a period.")
        urls = self._frontend.checkout_urls(success_path, cancel_path)
        price = self._price(plan.lookup_key(interval))
        offer = Offer(
            kind="plan",
            item_id=plan.id,
            interval=interval,
            credits=price.credits,
            amount_minor=price.amount_minor,
            currency=price.currency,
            priority=plan.priority,
            expires_days=None,
        )
        return self._start(user_id, offer, price, urls, trial_days=plan.trial_days)

    def status(self, user_id: UUID, session_id: str) -> CheckoutStatusView:
        """Return what became of the caller's own session; raises `NotFoundError`."""
        found = self._purchases.checkout(user_id, session_id)
        if found is None:
            raise NotFoundError("There is no such session.")
        return CheckoutStatusView(
            session_id=session_id,
            status=found.status,
            kind=found.kind,
            item_id=found.item_id,
            interval=found.interval,
            credits=found.credits,
        )

    def portal(self, user_id: UUID, return_path: str) -> PortalView:
        """
        Return the page on which the caller manages plan, cards and invoices.

        Raises `NotFoundError` for a user who never bought anything.
        """
        return_url = self._frontend.url("return_path", return_path)
        customer_id = self._customers.get(user_id).stripe_customer_id
        if customer_id is None:
            raise NotFoundError("There is nothing to manage yet.")
        try:
            return PortalView(url=self._stripe.create_portal_session(customer_id, return_url))
        except CustomerGoneError:
            self._customers.forget(customer_id)
            raise NotFoundError("There is nothing to manage yet.") from None

    def _start(
        self,
        user_id: UUID,
        offer: Offer,
        price: SellablePrice,
        urls: tuple[str, str],
        *,
        trial_days: int = 0,
    ) -> CheckoutView:
        purchase = self._purchases.create(user_id, offer, per_hour=self._per_hour)
        order = CheckoutOrder(
            purchase.id,
            user_id,
            price.price_id,
            is_plan=offer.kind == "plan",
            # one trial a user: a canceled one must not begin again
            trial_days=trial_days if purchase.is_first_plan else 0,
        )
        session = self._with_customer(
            user_id, lambda customer_id: self._stripe.create_session(order, customer_id, *urls)
        )
        try:
            for rival in self._purchases.attach_session(purchase.id, session.id):
                self._close(rival)
        except AlreadySubscribedError:
            self._close(session.id)
            raise
        count("Checkout.created")
        return CheckoutView(checkout_url=session.url, session_id=session.id)

    def _close(self, session_id: str) -> None:
        """
        Close a plan's page, so that nobody pays a second subscription there.

        Raises `AlreadySubscribedError` when it was paid already and its subscription has not ended.
        """
        try:
            self._stripe.expire_session(session_id)
        except ProviderError:
            session = self._reader.session(session_id)
            if session is None or session.state is CheckoutState.EXPIRED:
                return
            if session.subscription_id is None:
                raise  # still open
            subscription = self._reader.subscription(session.subscription_id)
            if subscription is not None and not subscription.is_over:
                raise AlreadySubscribedError from None

    def _with_customer(self, user_id: UUID, call: Callable[[str], T]) -> T:
        """
        Call with the user's one customer, made if there is none yet, and made anew if Stripe has it no more.

        Two calls at once make the same customer: the idempotency key is the user's. The first that notes it wins.
        """
        for _ in range(_CUSTOMER_TRIES):
            known = self._customers.get(user_id)
            customer_id = known.stripe_customer_id
            if customer_id is None:
                made = self._stripe.create_customer(user_id, known.number)
                customer_id = self._customers.link(user_id, known.number, made)
            if customer_id is not None:
                try:
                    return call(customer_id)
                except CustomerGoneError:
                    self._customers.forget(customer_id)
        raise UnavailableError(reason="stripe: each new customer is deleted at once", retry_after=5)

    def _price(self, lookup_key: str) -> SellablePrice:
        """Return the price to sell, asked of Stripe when it is not mirrored."""
        found = self._billing.sellable_price(lookup_key)
        if found is None:
            ticket = self._billing.take_ticket()
            price = self._reader.price_of(lookup_key)
            if price is not None:
                self._billing.record_price(None, ticket, price)
                found = self._billing.sellable_price(lookup_key)
        if found is None:
            count("NotForSale")
            raise ConfigurationError(
                f"Stripe has no active price {lookup_key}: make stripe-catalog"
            )
        return found


def _plan_prices(plan: Plan, prices: dict[str, SellablePrice]) -> list[PlanPriceView]:
    found = ((each.interval, prices.get(plan.lookup_key(each.interval))) for each in plan.prices)
    return [
        PlanPriceView(interval=interval, amount_minor=price.amount_minor, currency=price.currency)
        for interval, price in found
        if price is not None
    ]


def _unknown(field: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError(detail, fields=[FieldError(field, "unknown", "See GET /catalog.")])
