"""What a model takes and what it costs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.babysea_models import CatalogModel
from holdfast.errors import InvalidRequestError
from holdfast.pricing import GenerationRequest, is_sellable, quote


def image_model(**schema: Any) -> CatalogModel:
    """Return an image model at 0.005, changed as asked."""
    pricing = schema.pop("pricing", Decimal("0.005"))
    return CatalogModel.model_validate(
        {
            "model_identifier": "bfl/flux-schnell",
            "model_type": "image",
            "model_pricing": pricing,
            "schema": {
                "generation_ratio": ["1:1", "16:9"],
                "generation_output_format": ["png", "jpg"],
                "generation_output_number": 1,
                **schema,
            },
            "specific_schema": ["generation_seed"],
        }
    )


def video_model(pricing: Any) -> CatalogModel:
    """Return a video model with durations of 5 and 10 seconds, two resolutions and sound."""
    return CatalogModel.model_validate(
        {
            "model_identifier": "bytedance/seedance",
            "model_type": "video",
            "model_pricing": pricing,
            "schema": {
                "generation_output_format": ["mp4"],
                "generation_duration": [5, 10],
                "generation_resolution": ["480p", "720p"],
                "generation_generate_audio": True,
            },
        }
    )


def request(**fields: Any) -> GenerationRequest:
    """Return a request with a model and a prompt, and whatever else is given."""
    return GenerationRequest.model_validate(
        {"model": "bfl/flux-schnell", "prompt": "a lamp", **fields}
    )


def problems(model: CatalogModel, **fields: Any) -> list[str]:
    """Return the names of the fields that are refused."""
    with pytest.raises(InvalidRequestError) as refused:
        quote(model, request(**fields))
    return [problem.field for problem in refused.value.fields]


def test_an_image_costs_its_price_times_its_outputs() -> None:
    """The catalogue's own arithmetic: 0.005 for one, four times that for four."""
    assert quote(image_model(), request()).cost == Decimal("0.005")
    assert quote(image_model(generation_output_number=4), request()).cost == Decimal("0.020")


@pytest.mark.parametrize(
    ("pricing", "fields", "cost"),
    [
        (Decimal("0.5"), {"duration": 5}, "2.500"),
        ({"480p": Decimal("0.03")}, {"duration": 10, "resolution": "480p"}, "0.300"),
        (
            {"720p_audio": Decimal("0.064"), "720p_noaudio": Decimal("0.032")},
            {"duration": 5, "resolution": "720p", "audio": True},
            "0.320",
        ),
        (
            {"720p_audio": Decimal("0.064"), "720p_noaudio": Decimal("0.032")},
            {"duration": 5, "resolution": "720p"},
            "0.160",
        ),
    ],
)
def test_video_is_priced_by_the_second(pricing: Any, fields: dict[str, Any], cost: str) -> None:
    """All three pricing forms, flat, by resolution, by resolution and sound, times the seconds."""
    assert quote(video_model(pricing), request(**fields)).cost == Decimal(cost)


@given(st.decimals("0.0001", "9", places=5), st.integers(1, 10))
def test_a_price_is_never_rounded_below_the_providers(unit: Decimal, outputs: int) -> None:
    """What is reserved covers the provider's price, by less than a thousandth."""
    model = image_model(pricing=unit, generation_output_number=outputs)

    over = quote(model, request()).cost - unit * outputs

    assert 0 <= over < Decimal("0.001")


def test_a_model_without_a_price_is_not_for_sale() -> None:
    """No pricing means nobody can be charged, so nobody can order."""
    assert not is_sellable(image_model(pricing=None))
    assert problems(image_model(pricing=None)) == ["resolution"]


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"ratio": "2:1"}, ["ratio"]),
        ({"output_format": "jpeg"}, ["output_format"]),
        ({"output_count": 2}, ["output_count"]),
        ({"duration": 5}, ["duration"]),
        ({"resolution": "1MP"}, ["resolution"]),
        ({"audio": True}, ["audio"]),
        ({"input_asset_ids": ["22222222-2222-4222-8222-222222222222"]}, ["input_asset_ids"]),
        ({"options": {"steps": 3}}, ["options.steps"]),
        ({"ratio": "2:1", "output_count": 9}, ["ratio", "output_count"]),
    ],
)
def test_what_the_model_does_not_take_is_named(fields: dict[str, Any], refused: list[str]) -> None:
    """Every unacceptable field is named, all at once."""
    assert problems(image_model(), **fields) == refused


def test_video_needs_a_duration_and_a_priced_resolution() -> None:
    """Without them there is no price, so there is no reservation."""
    model = video_model({"480p": Decimal("0.03"), "720p": Decimal("0.06")})

    assert problems(model) == ["duration", "resolution"]
    assert problems(model, duration=5, resolution="1080p") == ["resolution"]


def test_the_providers_request_holds_the_fields_under_its_own_names() -> None:
    """Normalized fields become generation_*; what was not chosen is not sent."""
    sent = quote(image_model(), request(ratio="1:1", options={"seed": 7})).provider_request(
        ["https://files.example/1.png"]
    )

    assert json.loads(sent) == {
        "generation_prompt": "a lamp",
        "generation_ratio": "1:1",
        "generation_output_number": 1,
        "generation_seed": 7,
        "generation_input_file": ["https://files.example/1.png"],
    }


def test_equal_requests_have_equal_bytes() -> None:
    """Order of fields and defaults spelled out make no difference: the bytes are compared by hash."""
    assert (
        request(ratio="1:1", output_format="png").canonical()
        == request(output_format="png", ratio="1:1", options={}).canonical()
    )
    assert request(ratio="1:1").canonical() != request(ratio="16:9").canonical()


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": "x" * 4001},
        {"surprise": 1},
        {"audio": "yes"},
        {"options": {"seed": float("nan")}},
        {"options": {"seed": [1]}},
        {"input_asset_ids": ["not-an-id"]},
    ],
)
def test_a_request_out_of_shape_is_refused(fields: dict[str, Any]) -> None:
    """Unknown fields and values of the wrong type never reach the pricing."""
    with pytest.raises(ValidationError):
        request(**fields)
