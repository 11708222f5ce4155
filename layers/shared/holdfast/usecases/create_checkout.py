"""Sell a pack: write the purchase, then make the payment session that carries its id."""

from __future__ import annotations

import re
from uuid import UUID

from holdfast.billing import PackPurchase, StripeBilling
from holdfast.catalog import Catalog
from holdfast.errors import FieldError, InvalidRequestError, NotFoundError
from holdfast.observability import count
from holdfast.purchases import PurchaseStore
from holdfast.views import CatalogView, CheckoutStatusView, CheckoutView, PackView

# One leading slash, then nothing that a browser could read as another host, another scheme or a fragment.
_PATH = re.compile(r"/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500}", re.ASCII)


class Checkout:
    """Sell packs to signed-in users; users come back to `frontend_url` only."""

    def __init__(
        self,
        catalog: Catalog,
        purchases: PurchaseStore,
        billing: StripeBilling,
        *,
        frontend_url: str,
        per_hour: int,
    ) -> None:
        self._catalog = catalog
        self._purchases = purchases
        self._billing = billing
        self._frontend_url = frontend_url
        self._per_hour = per_hour

    def offers(self) -> CatalogView:
        """Return what can be bought."""
        return CatalogView(
            packs=[
                PackView.model_validate(pack, from_attributes=True) for pack in self._catalog.packs
            ]
        )

    def start(
        self, user_id: UUID, pack_id: str, success_path: str, cancel_path: str
    ) -> CheckoutView:
        """
        Return the page to pay at.

        Raises `InvalidRequestError` for an unknown pack or a path that is none, `RateLimitedError`, and
        `UnavailableError` or `ProviderError` when Stripe makes no session; the purchase then stays without effect.
        """
        pack = self._catalog.pack(pack_id)
        if pack is None:
            raise InvalidRequestError(
                "There is no such pack.",
                fields=[FieldError("pack_id", "unknown", "See GET /catalog.")],
            )
        success_url = self._url("success_path", success_path)
        cancel_url = self._url("cancel_path", cancel_path)
        joint = "&" if "?" in success_url else "?"
        purchase_id = self._purchases.create(user_id, pack, per_hour=self._per_hour)
        session = self._billing.create_pack_session(
            PackPurchase(
                id=purchase_id,
                user_id=user_id,
                name=f"{pack.name}: {pack.credits:f} credits",
                amount_minor=pack.amount_minor,
                currency=pack.currency,
            ),
            None,
            f"{success_url}{joint}session_id={{CHECKOUT_SESSION_ID}}",
            cancel_url,
        )
        self._purchases.attach_session(purchase_id, session.id)
        count("Checkout.created")
        return CheckoutView(checkout_url=session.url, session_id=session.id)

    def status(self, user_id: UUID, session_id: str) -> CheckoutStatusView:
        """Return what became of the caller's own session; raises `NotFoundError`."""
        found = self._purchases.checkout(user_id, session_id)
        if found is None:
            raise NotFoundError("There is no such session.")
        return CheckoutStatusView(
            session_id=session_id,
            status=found.status,
            pack_id=found.item_id,
            credits=found.credits,
        )

    def _url(self, field: str, path: str) -> str:
        if not _PATH.fullmatch(path):
            raise InvalidRequestError(
                "Only a path of the frontend can be returned to.",
                fields=[
                    FieldError(field, "not_a_path", "Give a path, for example /account?tab=1.")
                ],
            )
        return f"{self._frontend_url}{path}"
