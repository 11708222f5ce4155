"""
What a model takes and what it costs: a user's fields become the provider's request and a price.

The price is computed here from the provider's catalogue, in one way for the list of models, for estimates and for
reservations: the price that is shown is the price that is reserved (BabySea locks no price, and its own estimate is
this arithmetic). One credit is one US dollar of it, times the operator's markup.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, WithJsonSchema

from holdfast.babysea_models import CatalogModel
from holdfast.errors import FieldError, InvalidRequestError
from holdfast.model_options import PREFIX, input_images_max, options, takes_last_frame
from holdfast.presets import PresetKind, composed, presets
from holdfast.vocabulary import MediaKind

PROMPT_LENGTH_MAX = 4000
INPUT_IMAGES_MAX = 3
UNIT_PRICE_MAX = 10_000

_SMALLEST_CREDIT = Decimal("0.001")
_DIGITS = 60  # of the arithmetic: more than any price times any markup has

Word = Annotated[str, Field(min_length=1, max_length=40)]
_EXACT = 2**53  # beyond it JSON readers disagree
Whole = Annotated[StrictInt, Field(ge=-_EXACT, le=_EXACT)]
Number = Annotated[float, Field(strict=True, ge=-_EXACT, le=_EXACT, allow_inf_nan=False)]
OptionValue = StrictBool | Whole | Number | Annotated[str, Field(max_length=200)]


class GenerationRequest(BaseModel):
    """What a client asks for. Which values a model takes is in `GET /models`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=3, max_length=120, description="Id from `GET /models`.")]
    prompt: Annotated[str, Field(min_length=1, max_length=PROMPT_LENGTH_MAX, pattern=r"\S")]
    ratio: Word | None = None
    output_format: Word | None = None
    output_count: Annotated[int | None, Field(description="Fixed by the model.")] = None
    duration: Annotated[int | None, Field(description="Seconds; required for video.")] = None
    resolution: Word | None = None
    audio: StrictBool | None = None
    input_asset_ids: Annotated[
        tuple[UUID, ...],
        Field(
            max_length=INPUT_IMAGES_MAX,
            description="Own pictures, see `POST /uploads`; for video the first frame.",
        ),
    ] = ()
    last_frame_asset_id: Annotated[
        UUID | None, Field(description="Own picture that a video ends with.")
    ] = None
    options: Annotated[
        dict[Word, OptionValue],
        Field(max_length=20, description="The model's own further fields."),
    ] = {}
    generation_type: Annotated[
        Word | None, Field(description="What it is for, see `GET /models`.")
    ] = None
    presets: Annotated[
        dict[PresetKind, Word],
        Field(description="Named prompt parts that follow the prompt, one of a kind."),
    ] = {}

    def digest(self) -> str:
        """Return a hash of the wish: equal wishes have equal ones, whatever price was agreed to."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """Return the request as one stable text: equal requests give equal texts."""
        return _canonical(
            self.model_dump(mode="json", exclude_defaults=True, exclude={"max_cost_credits"})
        )

    def fields(self) -> dict[str, Any]:
        """Return what was chosen besides model and prompt, for the record."""
        return self.model_dump(
            mode="json", exclude_defaults=True, exclude={"model", "prompt", "max_cost_credits"}
        )


class OrderRequest(GenerationRequest):
    """A request that is meant: what may be reserved for it besides what is wished."""

    max_cost_credits: Annotated[
        Decimal | None,
        Field(
            ge=0,
            max_digits=14,
            decimal_places=3,
            description="The price that was shown; a higher one is refused as `price_changed`.",
        ),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "number", "minimum": 0, "maximum": 99_999_999_999},
                    {"type": "string", "pattern": r"^[0-9]{1,11}(\.[0-9]{1,3})?$"},
                    {"type": "null"},
                ]
            }
        ),
    ] = None


@dataclass(frozen=True)
class PricePolicy:
    """What the operator adds: a factor on the provider's prices, and the least that a request costs."""

    markup: Decimal = Decimal(1)
    minimum: Decimal = Decimal(0)

    def unit(self, provider_price: Decimal) -> Decimal:
        """Return the credits for one unit, rounded up to a thousandth."""
        with localcontext() as context:
            context.prec = _DIGITS
            return (provider_price * self.markup).quantize(_SMALLEST_CREDIT, ROUND_CEILING)

    def total(self, unit: Decimal, units: int) -> Decimal:
        """Return the credits for a request of so many units."""
        return max(unit * units, self.minimum).quantize(_SMALLEST_CREDIT, ROUND_CEILING)


@dataclass(frozen=True)
class Quote:
    """A priced request. `body` is what the provider is sent, without input images."""

    kind: MediaKind
    model: str
    output_count: int
    variant: str
    unit_credits: Decimal
    units_per_output: int
    cost: Decimal
    policy: PricePolicy
    body: dict[str, Any]

    @property
    def price(self) -> dict[str, str | int]:
        """The computation, for the record."""
        return {
            "variant": self.variant,
            "markup": str(self.policy.markup),
            "minimum_credits": str(self.policy.minimum),
            "unit_credits": str(self.unit_credits),
            "units_per_output": self.units_per_output,
            "output_count": self.output_count,
        }

    def provider_request(self, input_urls: Sequence[str], last_frame_url: str | None = None) -> str:
        """Return the canonical request, byte for byte what is sent and, if need be, replayed."""
        inputs: dict[str, Any] = {}
        if input_urls:
            inputs["generation_input_file"] = list(input_urls)
        if last_frame_url:
            inputs["generation_input_file_last_content"] = last_frame_url
        return _canonical(self.body | inputs)


def is_sellable(model: CatalogModel) -> bool:
    """Say whether a model has a price at all, and takes what every request has."""
    return bool(_provider_prices(model)) and model.model_schema.generation_prompt is not False


def quote(model: CatalogModel, request: GenerationRequest, policy: PricePolicy) -> Quote:
    """Return the price and the provider's request; raises `InvalidRequestError` field by field."""
    request = _dressed(model, request)
    problems = list(_problems(model, request))
    unit_prices = prices(model, policy)
    variant = _variant(model, request)
    if not problems and variant not in unit_prices:
        at_fault = "audio" if _sounds(unit_prices, request) else "resolution"
        problems = [FieldError(at_fault, "no_price", "There is no price for this combination.")]
    if problems:
        raise InvalidRequestError("The model does not take this request.", fields=problems)
    count = output_count(model)
    units = (request.duration or 1) if model.model_type is MediaKind.VIDEO else 1
    return Quote(
        kind=model.model_type,
        model=model.model_identifier,
        output_count=count,
        variant=variant,
        unit_credits=unit_prices[variant],
        units_per_output=units,
        cost=policy.total(unit_prices[variant], units * count),
        policy=policy,
        body=_body(model, request),
    )


def _dressed(model: CatalogModel, request: GenerationRequest) -> GenerationRequest:
    """Return the request with its presets written out: their parts after the prompt, their fields where none is set."""
    book = presets()
    chosen = book.chosen(request.generation_type or book.default_type, request.presets)
    prompt = composed(request.prompt, chosen)
    if len(prompt) > PROMPT_LENGTH_MAX:
        problem = FieldError("prompt", "too_long", f"With its presets at most {PROMPT_LENGTH_MAX}.")
        raise InvalidRequestError("The prompt is too long.", fields=[problem])
    schema = model.model_schema
    fields: dict[str, str] = {}
    for preset in chosen:
        for name, value in preset.fields.model_dump(exclude_none=True).items():
            taken: Sequence[str] = getattr(schema, f"{PREFIX}{name}")
            if getattr(request, name) is None and value in taken:
                fields[name] = value
    return request.model_copy(update={"prompt": prompt, **fields})


def output_count(model: CatalogModel) -> int:
    """Return how many outputs one request of this model makes: the catalogue fixes it."""
    if model.model_type is MediaKind.VIDEO:
        return 1
    return model.model_schema.generation_output_number or 1


def prices(model: CatalogModel, policy: PricePolicy) -> dict[str, Decimal]:
    """Return credits per output (image) or per second (video), by variant; `default` for one price."""
    return {name: policy.unit(price) for name, price in _provider_prices(model).items()}


def _provider_prices(model: CatalogModel) -> dict[str, Decimal]:
    """Return the provider's prices without those that cannot be meant."""
    pricing = model.model_pricing
    if pricing is None:
        return {}
    found = pricing if isinstance(pricing, dict) else {"default": pricing}
    return {name: price for name, price in found.items() if 0 < price <= UNIT_PRICE_MAX}


def _variant(model: CatalogModel, request: GenerationRequest) -> str:
    """Return which of the model's prices holds: one for all, by resolution, or by that and sound."""
    if not isinstance(model.model_pricing, dict):
        return "default"
    resolution = request.resolution or ""
    with_sound = f"{resolution}_{'audio' if request.audio else 'noaudio'}"
    return with_sound if with_sound in model.model_pricing else resolution


def _sounds(unit_prices: dict[str, Decimal], request: GenerationRequest) -> bool:
    """Say whether the resolution has a price with, or without, sound."""
    return any(name.startswith(f"{request.resolution}_") for name in unit_prices)


def _problems(model: CatalogModel, request: GenerationRequest) -> list[FieldError]:
    schema = model.model_schema
    choices: list[tuple[str, object, list[Any]]] = [
        ("ratio", request.ratio, schema.generation_ratio),
        ("output_format", request.output_format, schema.generation_output_format),
        ("resolution", request.resolution, schema.generation_resolution),
        ("duration", request.duration, schema.generation_duration),
        ("output_count", request.output_count, [output_count(model)]),
    ]
    problems = [
        FieldError(name, "not_allowed", _allowed(values))
        for name, value, values in choices
        if value is not None and value not in values
    ]
    if model.model_type is MediaKind.VIDEO and request.duration is None:
        problems.append(FieldError("duration", "required", "Video needs a duration."))
    if isinstance(model.model_pricing, dict) and request.resolution is None:
        problems.append(FieldError("resolution", "required", "The price depends on it."))
    if request.audio and not schema.generation_generate_audio:
        problems.append(FieldError("audio", "not_allowed", "This model makes no sound."))
    return problems + list(_input_problems(model, request)) + list(_option_problems(model, request))


def _input_problems(model: CatalogModel, request: GenerationRequest) -> Iterator[FieldError]:
    most = input_images_max(model)
    if len(request.input_asset_ids) > most:
        message = f"This model takes {most}." if most else "This model takes no images."
        yield FieldError("input_asset_ids", "not_allowed", message)
    if request.last_frame_asset_id is not None:
        if not takes_last_frame(model):
            message = "This model takes no last frame."
            yield FieldError("last_frame_asset_id", "not_allowed", message)
        elif not request.input_asset_ids:
            yield FieldError("input_asset_ids", "required", "A last frame needs a first one.")


def _option_problems(model: CatalogModel, request: GenerationRequest) -> Iterator[FieldError]:
    known = options(model)
    for name, value in request.options.items():
        limits = known.get(name)
        if name not in known:
            yield FieldError(f"options.{name}", "not_allowed", _allowed(sorted(known)))
        elif limits is not None and not limits.takes(value):
            yield FieldError(f"options.{name}", "not_allowed", f"Allowed: {limits}.")


def _allowed(values: list[Any]) -> str:
    return f"Allowed: {', '.join(map(str, values))}." if values else "This model does not take it."


def _body(model: CatalogModel, request: GenerationRequest) -> dict[str, Any]:
    schema = model.model_schema
    optional = {
        "generation_ratio": request.ratio,
        "generation_output_format": request.output_format,
        "generation_resolution": request.resolution,
        "generation_duration": request.duration,
        "generation_generate_audio": request.audio if schema.generation_generate_audio else None,
        "generation_output_number": schema.generation_output_number
        if model.model_type is MediaKind.IMAGE
        else None,
    }
    return {
        "generation_prompt": request.prompt,
        **{name: value for name, value in optional.items() if value is not None},
        **{f"{PREFIX}{name}": value for name, value in request.options.items()},
    }


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
