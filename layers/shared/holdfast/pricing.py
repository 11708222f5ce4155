"""
What a model takes and what it costs: a user's fields become the provider's request and a price.

The price is computed here from the provider's catalogue, so the price that is shown is the price that is reserved
(babysea.md: BabySea locks no price, and its own estimate is this arithmetic). One credit is one US dollar of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from holdfast.babysea_models import CatalogModel
from holdfast.errors import FieldError, InvalidRequestError
from holdfast.vocabulary import MediaKind

PROMPT_LENGTH_MAX = 4000
INPUT_IMAGES_MAX = 3

_SMALLEST_CREDIT = Decimal("0.001")

Word = Annotated[str, Field(min_length=1, max_length=40)]
Number = Annotated[float, Field(allow_inf_nan=False)]
OptionValue = StrictBool | int | Number | Annotated[str, Field(max_length=200)]


class GenerationRequest(BaseModel):
    """What a client asks for. Which values a model takes is in `GET /models`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=3, max_length=120, description="Id from `GET /models`.")]
    prompt: Annotated[str, Field(min_length=1, max_length=PROMPT_LENGTH_MAX)]
    ratio: Word | None = None
    output_format: Word | None = None
    output_count: Annotated[int | None, Field(description="Fixed by the model.")] = None
    duration: Annotated[int | None, Field(description="Seconds; required for video.")] = None
    resolution: Word | None = None
    audio: StrictBool | None = None
    input_asset_ids: Annotated[
        tuple[UUID, ...],
        Field(max_length=INPUT_IMAGES_MAX, description="Own pictures, see `POST /uploads`."),
    ] = ()
    options: Annotated[
        dict[Word, OptionValue],
        Field(max_length=20, description="The model's own further fields."),
    ] = {}

    def canonical(self) -> str:
        """Return the request as one stable text: equal requests give equal texts."""
        return _canonical(self.model_dump(mode="json", exclude_defaults=True))


@dataclass(frozen=True)
class Quote:
    """A priced request. `body` is what the provider is sent, without input images."""

    kind: MediaKind
    model: str
    output_count: int
    unit_credits: Decimal
    units_per_output: int
    cost: Decimal
    body: dict[str, Any]

    @property
    def price(self) -> dict[str, str | int]:
        """The computation, for the record."""
        return {
            "unit_credits": str(self.unit_credits),
            "units_per_output": self.units_per_output,
            "output_count": self.output_count,
        }

    def provider_request(self, input_urls: list[str]) -> str:
        """Return the canonical request, byte for byte what is sent and, if need be, replayed."""
        inputs = {"generation_input_file": input_urls} if input_urls else {}
        return _canonical(self.body | inputs)


def is_sellable(model: CatalogModel) -> bool:
    """Say whether a model has a price at all."""
    return model.model_pricing is not None


def quote(model: CatalogModel, request: GenerationRequest) -> Quote:
    """Return the price and the provider's request; raises `InvalidRequestError` field by field."""
    problems = list(_problems(model, request))
    unit = None if problems else _unit_price(model, request)
    if unit is None:
        raise InvalidRequestError(
            "The model does not take this request.",
            fields=problems
            or [FieldError("resolution", "no_price", "There is no price for this combination.")],
        )
    count = output_count(model)
    units = (request.duration or 1) if model.model_type is MediaKind.VIDEO else 1
    cost = (unit * units * count).quantize(_SMALLEST_CREDIT, ROUND_CEILING)
    return Quote(
        kind=model.model_type,
        model=model.model_identifier,
        output_count=count,
        unit_credits=unit,
        units_per_output=units,
        cost=cost,
        body=_body(model, request),
    )


def output_count(model: CatalogModel) -> int:
    """Return how many outputs one request of this model makes: the catalogue fixes it."""
    if model.model_type is MediaKind.VIDEO:
        return 1
    return model.model_schema.generation_output_number or 1


def prices(model: CatalogModel) -> dict[str, Decimal]:
    """Return credits per output (image) or per second (video), by variant; `default` for one price."""
    pricing = model.model_pricing
    if pricing is None:
        return {}
    return pricing if isinstance(pricing, dict) else {"default": pricing}


def _unit_price(model: CatalogModel, request: GenerationRequest) -> Decimal | None:
    pricing = model.model_pricing
    if not isinstance(pricing, dict):
        return pricing
    sound = "audio" if request.audio else "noaudio"
    return pricing.get(f"{request.resolution}_{sound}", pricing.get(request.resolution or ""))


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
    if request.input_asset_ids and not schema.generation_input_file:
        problems.append(FieldError("input_asset_ids", "not_allowed", "This model takes no images."))
    known = {name.removeprefix("generation_") for name in model.specific_schema}
    problems += [
        FieldError(f"options.{name}", "not_allowed", _allowed(sorted(known)))
        for name in request.options
        if name not in known
    ]
    return problems


def _allowed(values: list[Any]) -> str:
    return f"Allowed: {', '.join(map(str, values))}." if values else "This model does not take it."


def _body(model: CatalogModel, request: GenerationRequest) -> dict[str, Any]:
    schema = model.model_schema
    optional = {
        "generation_ratio": request.ratio,
        "generation_output_format": request.output_format,
        "generation_resolution": request.resolution,
        "generation_duration": request.duration,
        "generation_generate_audio": request.audio,
        "generation_output_number": schema.generation_output_number
        if model.model_type is MediaKind.IMAGE
        else None,
    }
    return {
        "generation_prompt": request.prompt,
        **{name: value for name, value in optional.items() if value is not None},
        **{f"generation_{name}": value for name, value in request.options.items()},
    }


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
