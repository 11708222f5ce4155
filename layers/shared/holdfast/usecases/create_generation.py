"""From a client's request to a dispatched generation: price, reserve, hand over."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import assert_never
from uuid import UUID

from holdfast.assets import AssetStore
from holdfast.babysea import BabySeaClient
from holdfast.babysea_models import CatalogModel
from holdfast.errors import (
    FieldError,
    IdempotencyConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    RateLimitedError,
    TooManyActiveError,
)
from holdfast.generations import Created, CreateOutcome, GenerationStore, NewGeneration
from holdfast.observability import count
from holdfast.pricing import GenerationRequest, Quote, is_sellable, quote
from holdfast.storage import UPLOADS, StorageSigner
from holdfast.usecases.dispatch import Dispatcher
from holdfast.views import AcceptedView
from holdfast.vocabulary import GenerationStatus

INPUT_URL_SECONDS = 3600
"""How long the provider may fetch an input picture."""


class GenerationCreator:
    """Create generations for signed-in users."""

    def __init__(
        self,
        generations: GenerationStore,
        assets: AssetStore,
        storage: StorageSigner,
        provider: BabySeaClient,
        dispatcher: Dispatcher,
        *,
        max_active: int,
        per_hour: int,
    ) -> None:
        self._generations = generations
        self._assets = assets
        self._storage = storage
        self._provider = provider
        self._dispatcher = dispatcher
        self._max_active = max_active
        self._per_hour = per_hour

    def price(self, request: GenerationRequest) -> Quote:
        """Return the price of a request; raises `InvalidRequestError`."""
        return quote(self._model(request.model), request)

    def create(
        self, user_id: UUID, idempotency_key: str, request: GenerationRequest
    ) -> AcceptedView:
        """
        Reserve, queue and dispatch a request, once per key; the same key answers with the same generation.

        Raises the refusals of design §5: `InvalidRequestError`, `InsufficientCreditsError`, `IdempotencyConflictError`,
        `RateLimitedError`, `TooManyActiveError`, and what the provider refused at once, already refunded.
        """
        priced = self.price(request)
        new = NewGeneration(
            user_id=user_id,
            idempotency_key=idempotency_key,
            request_hash=hashlib.sha256(request.canonical().encode()).hexdigest(),
            kind=priced.kind,
            model=priced.model,
            prompt=request.prompt,
            fields=request.model_dump(
                mode="json", exclude_defaults=True, exclude={"model", "prompt"}
            ),
            provider_request=priced.provider_request(self._lend(user_id, request.input_asset_ids)),
            price=dict(priced.price),
            cost=priced.cost,
            output_count=priced.output_count,
        )
        created = self._generations.create(
            new, max_active=self._max_active, per_hour=self._per_hour
        )
        count(f"Create.{created.outcome}")
        generation_id, status = _accepted_or_raise(created)
        if created.outcome is CreateOutcome.CREATED:
            dispatched = self._dispatcher.dispatch(
                generation_id, new.kind, new.model, new.provider_request
            )
            if dispatched.refusal:
                raise dispatched.refusal
            status = dispatched.status
        return AcceptedView(
            id=generation_id,
            status=status,
            cost_credits=created.cost_credits or priced.cost,
            available_credits=created.available_credits,
        )

    def _model(self, model_id: str) -> CatalogModel:
        for model in self._provider.models():
            if model.model_identifier == model_id and is_sellable(model):
                return model
        problem = FieldError("model", "unknown", "See GET /models.")
        raise InvalidRequestError("There is no such model.", fields=[problem])

    def _lend(self, user_id: UUID, asset_ids: Sequence[UUID]) -> list[str]:
        """Return URLs by which the provider can fetch the user's own pictures for a while."""
        if not asset_ids:
            return []
        paths = self._assets.lend(user_id, asset_ids)
        urls = self._storage.sign(list(paths.values()), INPUT_URL_SECONDS, bucket=UPLOADS)
        lent = [urls.get(paths.get(asset_id, "")) for asset_id in asset_ids]
        missing = [
            FieldError(f"input_asset_ids.{n}", "unknown", "No such picture, or not uploaded yet.")
            for n, url in enumerate(lent)
            if url is None
        ]
        if missing:
            raise InvalidRequestError("An input picture is missing.", fields=missing)
        return [url for url in lent if url is not None]


def _accepted_or_raise(created: Created) -> tuple[UUID, GenerationStatus]:
    match created.outcome:
        case CreateOutcome.CREATED | CreateOutcome.EXISTING:
            if created.generation_id is None or created.status is None:
                raise LookupError("a created generation has an id and a state")
            return created.generation_id, created.status
        case CreateOutcome.IDEMPOTENCY_CONFLICT:
            raise IdempotencyConflictError("This Idempotency-Key was used with another request.")
        case CreateOutcome.INSUFFICIENT_CREDITS:
            raise InsufficientCreditsError(
                f"This costs {created.cost_credits:.3f} credits,"
                f" {created.available_credits:.3f} are available."
            )
        case CreateOutcome.TOO_MANY_ACTIVE:
            raise TooManyActiveError(
                "Wait until a running generation has finished.",
                retry_after=created.retry_after_seconds,
            )
        case CreateOutcome.RATE_LIMITED:
            raise RateLimitedError(
                "Too many generations in the last hour.", retry_after=created.retry_after_seconds
            )
        case _:
            assert_never(created.outcome)
