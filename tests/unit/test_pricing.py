"""What a model takes and what it costs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.babysea_models import CatalogModel
from holdfast.errors import InsufficientCreditsError, InvalidRequestError
from holdfast.generations import Created, CreateOutcome, NewGeneration, UserLimits
from holdfast.pricing import (
    GenerationRequest,
    OrderRequest,
    PricePolicy,
    is_sellable,
    prices,
    quote,
)
from holdfast.usecases.create_generation import GenerationCreator
from holdfast.usecases.list_models import offered_models


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


def video_model(pricing: Any, **schema: Any) -> CatalogModel:
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
                **schema,
            },
        }
    )


@st.composite
def _choices(draw: st.DrawFn) -> tuple[CatalogModel, dict[str, Any]]:
    """Draw a model with one of the three forms of pricing, and fields it takes."""
    price = st.decimals("0.0001", "20", places=4)
    if draw(st.booleans()):
        resolutions = draw(st.booleans())
        return (
            image_model(
                pricing={"1MP": draw(price), "2MP": draw(price)} if resolutions else draw(price),
                generation_output_number=draw(st.integers(1, 10)),
                generation_resolution=["1MP", "2MP"] if resolutions else [],
            ),
            {"resolution": draw(st.sampled_from(["1MP", "2MP"]))} if resolutions else {},
        )
    names = draw(
        st.sampled_from(
            [(), ("480p", "720p"), ("480p_audio", "480p_noaudio", "720p_audio", "720p_noaudio")]
        )
    )
    fields: dict[str, Any] = {
        "duration": draw(st.sampled_from([5, 10])),
        "resolution": draw(st.sampled_from(["480p", "720p"])),
        "audio": draw(st.booleans()),
    }
    return video_model({name: draw(price) for name in names} or draw(price)), fields


class OneModel:
    """A provider with one model."""

    def __init__(self, model: CatalogModel) -> None:
        self.model = model.model_copy(update={"model_identifier": "x/y"})

    def models(self) -> tuple[CatalogModel, ...]:
        """Return the catalogue."""
        return (self.model,)


class Reservations:
    """Keeps what would be reserved and refuses it, so that nothing is dispatched."""

    cost: Decimal

    def create(self, new: NewGeneration, _limits: UserLimits) -> Created:
        """Answer that the credits do not suffice."""
        self.cost = new.cost
        return Created(CreateOutcome.INSUFFICIENT_CREDITS, None, None, new.cost, Decimal(0), None)


class Creator(GenerationCreator):
    """A creator with nothing behind it but a catalogue."""

    def __init__(self, model: CatalogModel, policy: PricePolicy) -> None:
        self.provider: Any = OneModel(model)
        self.reservations: Any = Reservations()
        nothing: Any = None
        limits = UserLimits(5, 60, Decimal(0))
        super().__init__(
            self.reservations, nothing, nothing, self.provider, nothing, policy, limits
        )

    def reserved(self, order: OrderRequest) -> Decimal:
        """Return what is reserved for an order."""
        with pytest.raises(InsufficientCreditsError):
            self.create(UUID(ASSET), "key", order)
        cost: Decimal = self.reservations.cost
        return cost


AT_COST = PricePolicy()
ASSET = "22222222-2222-4222-8222-222222222222"
MARKUPS = st.decimals("0.1", "10", places=4)
POLICIES = st.builds(PricePolicy, MARKUPS, st.decimals("0", "3", places=3))
CATALOGUE = _choices()


def request(**fields: Any) -> GenerationRequest:
    """Return a request with a model and a prompt, and whatever else is given."""
    return GenerationRequest.model_validate(
        {"model": "bfl/flux-schnell", "prompt": "a lamp", **fields}
    )


def problems(model: CatalogModel, **fields: Any) -> list[str]:
    """Return the names of the fields that are refused."""
    with pytest.raises(InvalidRequestError) as refused:
        quote(model, request(**fields), AT_COST)
    return [problem.field for problem in refused.value.fields]


def test_an_image_costs_its_price_times_its_outputs() -> None:
    """The catalogue's own arithmetic: 0.005 for one, four times that for four."""
    assert quote(image_model(), request(), AT_COST).cost == Decimal("0.005")
    assert quote(image_model(generation_output_number=4), request(), AT_COST).cost == Decimal(
        "0.020"
    )


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
    assert quote(video_model(pricing), request(**fields), AT_COST).cost == Decimal(cost)


@given(st.decimals("0.0001", "9", places=5), st.integers(1, 10), MARKUPS)
def test_a_price_is_never_rounded_below_the_providers(
    unit: Decimal, outputs: int, markup: Decimal
) -> None:
    """What is reserved covers the provider's price times the markup, by less than a thousandth a unit."""
    model = image_model(pricing=unit, generation_output_number=outputs)

    over = quote(model, request(), PricePolicy(markup)).cost - unit * markup * outputs

    assert 0 <= over < Decimal("0.001") * outputs


@given(CATALOGUE, POLICIES)
def test_the_price_is_one_and_the_same_everywhere(
    choice: tuple[CatalogModel, dict[str, Any]], policy: PricePolicy
) -> None:
    """A client that multiplies what `GET /models` shows comes to the estimate and to the reservation."""
    model, fields = choice
    creator = Creator(model, policy)
    shown = json.loads(offered_models(creator.provider, policy).model_dump_json())
    (row,) = shown["models"]

    variant = next(
        name
        for name in (
            f"{fields.get('resolution')}_{'audio' if fields.get('audio') else 'noaudio'}",
            fields.get("resolution"),
            "default",
        )
        if name in row["prices"]
    )
    units = fields.get("duration", 1) * row["output_count"]
    computed = max(Decimal(row["prices"][variant]) * units, Decimal(shown["minimum_credits"]))
    estimated = creator.price(GenerationRequest(model="x/y", prompt="p", **fields)).cost
    reserved = creator.reserved(OrderRequest(model="x/y", prompt="p", **fields))

    assert computed == estimated == reserved


@given(CATALOGUE, POLICIES)
def test_no_price_is_below_the_minimum_and_all_are_exact(
    choice: tuple[CatalogModel, dict[str, Any]], policy: PricePolicy
) -> None:
    """Every price is at least the minimum, and is a number of thousandths without any remainder."""
    model, fields = choice

    priced = quote(model, request(**fields), policy)

    assert priced.cost >= policy.minimum
    assert priced.cost * 1000 == int(priced.cost * 1000)
    assert priced.cost.as_tuple().exponent == -3
    assert priced.unit_credits * 1000 == int(priced.unit_credits * 1000)


@given(CATALOGUE, POLICIES)
def test_a_higher_markup_and_minimum_cost_more(
    choice: tuple[CatalogModel, dict[str, Any]], policy: PricePolicy
) -> None:
    """Twice the markup and a higher minimum are felt in every price."""
    model, fields = choice
    dearer = PricePolicy(policy.markup * 2, policy.minimum + 1)

    assert (
        quote(model, request(**fields), dearer).cost > quote(model, request(**fields), policy).cost
    )


def test_binary_fractions_are_no_danger() -> None:
    """A price written as 0.1 is a tenth: three of it, marked up by 1.1, are 0.330 and no more."""
    model = image_model(pricing=Decimal("0.1"), generation_output_number=3)

    assert quote(model, request(), PricePolicy(Decimal("1.1"))).cost == Decimal("0.330")


@pytest.mark.parametrize("price", ["0", "-1", "10001"])
def test_a_price_that_cannot_be_meant_is_none(price: str) -> None:
    """Free, negative or absurdly dear: such a model, or variant, is not for sale."""
    assert not is_sellable(image_model(pricing=Decimal(price)))
    model = video_model({"480p": Decimal(price), "720p": Decimal("0.06")})
    assert list(prices(model, AT_COST)) == ["720p"]
    assert problems(model, duration=5, resolution="480p") == ["resolution"]


def test_a_sound_without_a_price_is_named() -> None:
    """Where only the silent variant has a price it is the sound that cannot be had."""
    model = video_model({"720p_noaudio": Decimal("0.032")})

    assert problems(model, duration=5, resolution="720p", audio=True) == ["audio"]


def test_a_model_without_a_prompt_is_not_offered() -> None:
    """Every request has a prompt, so a model whose schema says it takes none cannot be used."""
    assert not is_sellable(image_model(generation_prompt=False))
    assert is_sellable(image_model(generation_prompt=True))


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
    sent = quote(
        image_model(), request(ratio="1:1", options={"seed": 7}), AT_COST
    ).provider_request(["https://files.example/1.png"])

    assert json.loads(sent) == {
        "generation_prompt": "a lamp",
        "generation_ratio": "1:1",
        "generation_output_number": 1,
        "generation_seed": 7,
        "generation_input_file": ["https://files.example/1.png"],
    }


def test_a_videos_frames_are_sent_apart() -> None:
    """The first frame is the input picture, the last one has a field of its own."""
    model = video_model(Decimal("0.5"), generation_input_file=True)
    wish = request(duration=5, input_asset_ids=[ASSET], last_frame_asset_id=ASSET, audio=True)

    sent = quote(model, wish, AT_COST).provider_request(
        ["https://files.example/1"], "https://files.example/2"
    )

    assert json.loads(sent) == {
        "generation_prompt": "a lamp",
        "generation_duration": 5,
        "generation_generate_audio": True,
        "generation_input_file": ["https://files.example/1"],
        "generation_input_file_last_content": "https://files.example/2",
    }


@pytest.mark.parametrize(
    ("model", "most"), [("bfl/flux-schnell", 0), ("bfl/flux-1.1-pro", 1), ("bfl/flux-2-pro", 3)]
)
def test_only_so_many_pictures_are_taken(model: str, most: int) -> None:
    """One for most models, three for FLUX-2, none where the schema says so."""
    row = image_model(generation_input_file=most > 0).model_copy(update={"model_identifier": model})

    if most:
        quote(row, request(input_asset_ids=[ASSET] * most), AT_COST)
    if most < 3:
        assert problems(row, input_asset_ids=[ASSET] * (most + 1)) == ["input_asset_ids"]


def test_a_last_frame_needs_a_first_one_and_a_film() -> None:
    """Pictures end with nothing; a film that ends somewhere begins somewhere."""
    film = video_model(Decimal("0.5"), generation_input_file=True)

    assert problems(film, duration=5, last_frame_asset_id=ASSET) == ["input_asset_ids"]
    assert problems(video_model(Decimal("0.5")), duration=5, last_frame_asset_id=ASSET) == [
        "last_frame_asset_id"
    ]
    picture = image_model(generation_input_file=True)
    assert problems(picture, input_asset_ids=[ASSET], last_frame_asset_id=ASSET) == [
        "last_frame_asset_id"
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("guidance_scale", [0, 3.5, 20], [-0.1, 20.5, True, "3"]),
        ("num_inference_steps", [1, 28, 100], [0, 101, 2.5, False]),
        ("output_quality", [0, 100], [-1, 101]),
        ("moderation", [True, False], [1, "true"]),
        ("enhance_prompt", ["off", "standard"], ["on", "", 0]),
    ],
)
def test_a_models_own_fields_are_checked(name: str, good: list[Any], bad: list[Any]) -> None:
    """By type, range or list, where the provider documents them."""
    model = image_model().model_copy(
        update={
            "model_identifier": "bfl/flux-1.1-pro",
            "specific_schema": [f"generation_{name}"],
        }
    )

    for value in good:
        assert (
            quote(model, request(options={name: value}), AT_COST).body[f"generation_{name}"]
            == value
        )
    for value in bad:
        assert problems(model, options={name: value}) == [f"options.{name}"]


@pytest.mark.parametrize(
    "name",
    ["duration", "resolution", "generate_audio", "output_number", "input_file", "provider_order"],
)
def test_no_option_changes_what_has_a_price_or_a_field(name: str) -> None:
    """Even if a catalogue lists a common field as a model's own, it cannot be smuggled past the price."""
    model = image_model().model_copy(update={"specific_schema": [f"generation_{name}"]})

    assert problems(model, options={name: 1}) == [f"options.{name}"]


def test_an_agreed_price_is_no_part_of_the_wish() -> None:
    """The same key may be repeated with another agreed price: it is the same wish."""
    wish = {"model": "x/y", "prompt": "p"}

    assert (
        OrderRequest(**wish, max_cost_credits="1.5").digest()  # type: ignore[arg-type]
        == OrderRequest(**wish).digest()  # type: ignore[arg-type]
    )
    assert OrderRequest(**wish, max_cost_credits="1.5").fields() == {}  # type: ignore[arg-type]
    for text in ("-1", "0.0001", "NaN", "1e99"):
        with pytest.raises(ValidationError):
            OrderRequest(**wish, max_cost_credits=text)  # type: ignore[arg-type]


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
        {"prompt": " \n\t"},
        {"surprise": 1},
        {"audio": "yes"},
        {"options": {"seed": float("nan")}},
        {"options": {"seed": [1]}},
        {"options": {"seed": 2**54}},
        {"options": {"seed": "7" * 201}},
        {"last_frame_asset_id": "not-an-id"},
        {"max_cost_credits": "1"},
        {"input_asset_ids": ["not-an-id"]},
    ],
)
def test_a_request_out_of_shape_is_refused(fields: dict[str, Any]) -> None:
    """Unknown fields and values of the wrong type never reach the pricing."""
    with pytest.raises(ValidationError):
        request(**fields)


def dressed(**changes: Any) -> dict[str, Any]:
    """Return what the provider is sent for a portrait with presets."""
    request = GenerationRequest.model_validate(
        {
            "model": "bfl/flux-schnell",
            "prompt": "in a red coat",
            "generation_type": "portrait",
            "presets": {"style": "film", "model": "mara"},
            **changes,
        }
    )
    return quote(image_model(), request, PricePolicy()).body


def test_presets_follow_the_prompt() -> None:
    """The provider gets the user's words and then the parts; the record keeps the user's words alone."""
    prompt = dressed()["generation_prompt"]

    assert prompt.startswith("in a red coat, a woman in her thirties")
    assert prompt.endswith("35 mm film photograph, soft grain, natural colours")


def test_a_presets_fields_hold_where_none_is_set() -> None:
    """A preset sets a field that the request leaves open, if the model takes the value; the user's own choice wins."""
    assert dressed(presets={"pose": "close-up"})["generation_ratio"] == "1:1"
    assert dressed(presets={"pose": "close-up"}, ratio="16:9")["generation_ratio"] == "16:9"
    assert "generation_ratio" not in dressed(presets={"pose": "walking"})  # 3:4 is not this model's


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"generation_type": "nonsense"}, "generation_type"),
        ({"generation_type": None}, "presets.model"),
        ({"presets": {"style": "nonsense"}}, "presets.style"),
        ({"prompt": "x" * 3999}, "prompt"),
    ],
)
def test_presets_that_do_not_fit(changes: Any, field: str) -> None:
    """An unknown type or preset, one that the type does not take, or too long a whole is named by its field."""
    with pytest.raises(InvalidRequestError) as refused:
        dressed(**changes)

    assert field in [problem.field for problem in refused.value.fields]


def test_presets_make_another_request() -> None:
    """The same key with other presets is another wish."""
    plain = GenerationRequest(model="bfl/flux-schnell", prompt="a fox")

    assert plain.digest() != plain.model_copy(update={"generation_type": "product"}).digest()
