"""
What HTTP answers look like. Amounts are text with three decimals, so that no client rounds them.

Kept apart from the domain's own classes: an answer may stay as it is when those change.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema

from holdfast.presets import PresetKind
from holdfast.vocabulary import EntryType, GenerationStatus, MediaKind

Credits = Annotated[
    Decimal,
    PlainSerializer(lambda amount: f"{amount:.3f}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{3}$"}, mode="serialization"),
]


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True)


class PackView(View):
    """A pack that can be bought."""

    id: str
    name: str
    credits: Credits
    amount_minor: int
    currency: str


class PlanPriceView(View):
    """What a plan costs for one period."""

    interval: str
    amount_minor: int
    currency: str


class PlanOfferView(View):
    """A plan, its credits a month, and what it costs; one without prices is what everybody has."""

    id: str
    name: str
    credits: Credits
    prices: list[PlanPriceView]


class CatalogView(View):
    """Everything that can be bought."""

    packs: list[PackView]
    plans: list[PlanOfferView]


class CheckoutView(View):
    """Where to pay."""

    checkout_url: str
    session_id: str


class CheckoutStatusView(View):
    """What became of the caller's own session. `credits` are those of a pack, or of one month of a plan."""

    session_id: str
    status: str
    kind: Literal["pack", "plan"]
    item_id: str
    interval: str | None
    credits: Credits


class PortalView(View):
    """Where to manage plan, cards and invoices. The URL lets in whoever has it."""

    url: str


class OptionLimitsView(View):
    """What an option takes: numbers between two bounds, or one of `allowed`."""

    type: str
    minimum: float | None = None
    maximum: float | None = None
    allowed: list[str] | None = None


class ModelView(View):
    """
    A model and what it takes; an empty list means it does not take that field.

    The price of a request is `prices[variant]` times its outputs (or seconds), and at least the `minimum_credits` of
    the list. The variant is `default`, the resolution, or the resolution with `_audio` or `_noaudio`.
    """

    id: str
    kind: MediaKind
    ratios: list[str]
    output_formats: list[str]
    output_count: int
    durations: list[int]
    resolutions: list[str]
    audio: bool
    input_images: bool
    input_images_max: int
    last_frame: bool
    options: list[str]
    option_limits: dict[str, OptionLimitsView]
    price_per: str
    prices: dict[str, Credits]


class PresetView(View):
    """A named prompt part; `kind` is the key to name it by in `presets`."""

    kind: PresetKind
    id: str
    name: str


class GenerationTypeView(View):
    """What a generation can be for, and the kinds of presets that fit; the first one is the default."""

    id: str
    name: str
    presets: list[PresetKind]


class ModelsView(View):
    """The models that can be used, and the least that any request costs."""

    models: list[ModelView]
    generation_types: list[GenerationTypeView]
    presets: list[PresetView]
    minimum_credits: Credits


class EstimateView(View):
    """The price of a request, and whether the caller can pay it now."""

    cost_credits: Credits
    available_credits: Credits
    can_afford: bool


class AcceptedView(View):
    """A generation that was accepted. `available_credits` is what is left."""

    id: UUID
    status: GenerationStatus
    cost_credits: Credits
    available_credits: Credits


class CancelView(View):
    """What the wish to cancel did: `cancel_requested` means that the provider has not answered yet."""

    id: UUID
    status: GenerationStatus
    outcome: Literal["canceled", "cancel_requested"]


class UploadView(View):
    """Where to upload one picture, and the id to use it by."""

    asset_id: UUID
    upload_url: str
    token: str
    path: str


class OutputView(View):
    """
    A stored file. `url` works until `url_expires_at`; it is null when the file was removed.

    `download_url` makes a browser save the file under a name of its own.
    """

    n: int
    content_type: str
    bytes: int
    url: str | None
    download_url: str | None
    url_expires_at: datetime


class ErrorView(View):
    """Why a generation did not deliver everything."""

    code: str
    message: str | None


class GenerationView(View):
    """A generation. `charged_credits` and `refunded_credits` are null until it is settled."""

    id: UUID
    status: GenerationStatus
    kind: MediaKind
    generation_type: str
    model: str
    prompt: str
    fields: dict[str, Any]
    cost_credits: Credits
    charged_credits: Credits | None
    refunded_credits: Credits | None
    error: ErrorView | None
    output_count: int
    outputs: list[OutputView]
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class LibraryView(View):
    """A page of generations; `next_cursor` is null on the last one."""

    generations: list[GenerationView]
    next_cursor: str | None


class EventView(View):
    """One change of a generation's state; `from_status` is null for the first."""

    from_status: GenerationStatus | None
    to_status: GenerationStatus
    reason: str | None
    created_at: datetime


class EventsView(View):
    """What happened to a generation, oldest first."""

    events: list[EventView]


class AssetView(View):
    """A picture of the user's own; `url` is null when nothing was uploaded yet."""

    asset_id: UUID
    content_type: str
    bytes: int
    created_at: datetime
    url: str | None


class AssetsView(View):
    """The user's newest pictures."""

    uploads: list[AssetView]


class AlertView(View):
    """A balance that fell below its threshold."""

    id: int
    type: str
    threshold: Credits
    available: Credits
    created_at: datetime


class AlertsView(View):
    """The user's newest alerts."""

    alerts: list[AlertView]


class AdjustmentView(View):
    """Credits given or taken by an admin. `outcome` is `adjusted`, or `duplicate` for a repeated key."""

    outcome: str
    user_id: UUID
    amount: Credits


class GrantView(View):
    """Credits that came in and are not used up."""

    source: str
    amount: Credits
    remaining: Credits
    expires_at: datetime | None
    description: str | None
    created_at: datetime


class PlanView(View):
    """The subscription that has not ended; what it grants comes with its paid invoices."""

    plan_id: str
    interval: str
    status: str
    current_period_end: datetime | None
    cancel_at_period_end: bool


class AccountView(View):
    """
    A user's credits; `grants` in the order they are spent, `plan` null without one.

    `has_billing` says whether POST /billing-portal has a page for them.
    """

    available: Credits
    reserved: Credits
    owed: Credits
    low_balance_credits: Credits
    role: str
    welcome: str
    grants: list[GrantView]
    plan: PlanView | None
    has_billing: bool


class EntryView(View):
    """One ledger entry. `available_after` is null on a charge, which moves nothing available."""

    id: int
    type: EntryType
    available_delta: Credits
    reserved_delta: Credits
    owed_delta: Credits
    available_after: Credits | None
    generation_id: UUID | None
    description: str | None
    created_at: datetime


class LedgerView(View):
    """A page of ledger entries, newest first; `next_cursor` is null on the last one."""

    entries: list[EntryView]
    next_cursor: str | None
