"""From a client's request to a dispatched generation: price, reserve, hand over."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import assert_never
from uuid import UUID

from holdfast.assets import AssetStore
from holdfast.babysea import BabySeaClient
from holdfast.babysea_models import CatalogModel
from holdfast.errors import (
    DailyLimitError,
    FieldError,
    HoldfastError,
    IdempotencyConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    PriceChangedError,
    RateLimitedError,
    StoragePermanentError,
    TooManyActiveError,
    UnavailableError,
)
from holdfast.generations import (
    Created,
    CreateOutcome,
    GenerationStore,
    NewGeneration,
    UserLimits,
)
from holdfast.media import SNIFFED_BYTES, sniff
from holdfast.observability import count
from holdfast.pricing import GenerationRequest, OrderRequest, PricePolicy, Quote, is_sellable, quote
from holdfast.storage import UPLOADS, StorageSigner
from holdfast.usecases.create_upload import UPLOAD_BYTES_MAX, PictureType
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
        policy: PricePolicy,
        limits: UserLimits,
    ) -> None:
        self._generations = generations
        self._assets = assets
        self._storage = storage
        self._provider = provider
        self._dispatcher = dispatcher
        self._policy = policy
        self._limits = limits

    def price(self, request: GenerationRequest) -> Quote:
        """Return the price of a request; raises `InvalidRequestError`."""
        return quote(self._model(request.model), request, self._policy)

    def create(self, user_id: UUID, idempotency_key: str, request: OrderRequest) -> AcceptedView:
        """
        Reserve, queue and dispatch a request, once per key; the same key answers with the same generation.

        Raises `InvalidRequestError`, `PriceChangedError`, `InsufficientCreditsError`, `IdempotencyConflictError`,
        `RateLimitedError`, `TooManyActiveError`, `DailyLimitError`, and what the provider refused at once, already
        refunded.
        """
        try:
            new = self._prepare(user_id, idempotency_key, request)
        except HoldfastError:
            # a taken key answers with its generation for ever: also when its model or picture has gone since
            created = self._generations.made_before(user_id, idempotency_key, request.digest())
            if created is None:
                raise
        else:
            created = self._generations.create(new, self._limits)
        count(f"Create.{created.outcome}")
        generation_id, status = _accepted_or_raise(created, self._limits)
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
            cost_credits=created.cost_credits or Decimal(0),
            available_credits=created.available_credits,
        )

    def _prepare(self, user_id: UUID, idempotency_key: str, request: OrderRequest) -> NewGeneration:
        priced = self.price(request)
        urls = self._lend(user_id, request)
        return NewGeneration(
            user_id=user_id,
            idempotency_key=idempotency_key,
            request_hash=request.digest(),
            kind=priced.kind,
            model=priced.model,
            prompt=request.prompt,
            fields=request.fields(),
            provider_request=priced.provider_request(
                [urls[asset_id] for asset_id in request.input_asset_ids],
                urls.get(request.last_frame_asset_id) if request.last_frame_asset_id else None,
            ),
            price=dict(priced.price),
            cost=priced.cost,
            output_count=priced.output_count,
            max_cost=request.max_cost_credits,
        )

    def _model(self, model_id: str) -> CatalogModel:
        for model in self._provider.models():
            if model.model_identifier == model_id and is_sellable(model):
                return model
        problem = FieldError("model", "unknown", "See GET /models.")
        raise InvalidRequestError("There is no such model.", fields=[problem])

    def _lend(self, user_id: UUID, request: OrderRequest) -> dict[UUID, str]:
        """Return URLs by which the provider can fetch the user's own pictures for a while."""
        lent = dict(_lent_fields(request))
        if not lent:
            return {}
        paths = self._assets.lend(user_id, list(lent.values()))
        signed = self._storage.sign(list(paths.values()), INPUT_URL_SECONDS, bucket=UPLOADS)
        urls = {asset_id: url for asset_id, path in paths.items() if (url := signed.get(path))}
        unfit = {asset_id: self._unfit(paths[asset_id]) for asset_id in urls}
        problems = [
            FieldError(field, "unknown", "No such picture, or not uploaded yet.")
            if asset_id not in urls
            else FieldError(field, "not_a_picture", unfit[asset_id] or "")
            for field, asset_id in lent.items()
            if asset_id not in urls or unfit[asset_id]
        ]
        if problems:
            raise InvalidRequestError("An input picture cannot be used.", fields=problems)
        return urls

    def _unfit(self, path: str) -> str | None:
        """
        Say why an uploaded file is no picture the provider takes, judged by its own first bytes.

        What the user announced and what the browser called it are not believed.
        """
        try:
            head = self._storage.head(path, SNIFFED_BYTES)
        except StoragePermanentError:
            return "It cannot be read, or is empty."
        media_type = sniff(head.data)
        if media_type is None or media_type.content_type not in set(PictureType):
            return f"Allowed: {', '.join(PictureType)}."
        if head.size > UPLOAD_BYTES_MAX:
            return f"A picture may have {UPLOAD_BYTES_MAX} bytes."
        return None


def _lent_fields(request: OrderRequest) -> Iterator[tuple[str, UUID]]:
    for n, asset_id in enumerate(request.input_asset_ids):
        yield f"input_asset_ids.{n}", asset_id
    if request.last_frame_asset_id is not None:
        yield "last_frame_asset_id", request.last_frame_asset_id


def _accepted_or_raise(created: Created, limits: UserLimits) -> tuple[UUID, GenerationStatus]:
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
                f" {created.available_credits:.3f} are available.",
                members=_amounts(created),
            )
        case CreateOutcome.PRICE_CHANGED:
            raise PriceChangedError(
                f"This costs {created.cost_credits:.3f} credits now.", members=_amounts(created)
            )
        case CreateOutcome.TOO_MANY_ACTIVE:
            raise TooManyActiveError(
                "Wait until a running generation has finished.",
                retry_after=created.retry_after_seconds,
            )
        case CreateOutcome.INTAKE_CLOSED:
            raise UnavailableError(
                "Generation is not available now. No credits were charged.",
                retry_after=created.retry_after_seconds,
            )
        case CreateOutcome.RATE_LIMITED:
            raise RateLimitedError(
                "Too many generations in the last hour.", retry_after=created.retry_after_seconds
            )
        case CreateOutcome.DAILY_LIMIT:
            alone = created.retry_after_seconds is None
            raise DailyLimitError(
                f"{'This alone' if alone else 'This'} would be over the {limits.daily_credits:.3f}"
                " credits that may be spent in 24 hours.",
                retry_after=created.retry_after_seconds,
                members=_amounts(created),
            )
        case _:
            assert_never(created.outcome)


def _amounts(created: Created) -> dict[str, str]:
    return {
        "cost_credits": f"{created.cost_credits:.3f}",
        "available_credits": f"{created.available_credits:.3f}",
    }
