"""What can be generated, for whom to show it to."""

from __future__ import annotations

from holdfast.babysea import BabySeaClient
from holdfast.babysea_models import CatalogModel
from holdfast.model_options import (
    Limits,
    Numbers,
    Switch,
    input_images_max,
    options,
    takes_last_frame,
)
from holdfast.presets import presets
from holdfast.pricing import PricePolicy, is_sellable, output_count, prices
from holdfast.views import (
    GenerationTypeView,
    ModelsView,
    ModelView,
    OptionLimitsView,
    PresetView,
)
from holdfast.vocabulary import MediaKind


def offered_models(provider: BabySeaClient, policy: PricePolicy) -> ModelsView:
    """Return the models that have a price."""
    return ModelsView(
        models=[_view(model, policy) for model in provider.models() if is_sellable(model)],
        minimum_credits=policy.minimum,
        generation_types=[
            GenerationTypeView.model_validate(found, from_attributes=True)
            for found in presets().generation_types
        ],
        presets=[
            PresetView.model_validate(found, from_attributes=True) for found in presets().presets
        ],
    )


def _view(model: CatalogModel, policy: PricePolicy) -> ModelView:
    schema = model.model_schema
    own = options(model)
    return ModelView(
        id=model.model_identifier,
        kind=model.model_type,
        ratios=schema.generation_ratio,
        output_formats=schema.generation_output_format,
        output_count=output_count(model),
        durations=schema.generation_duration,
        resolutions=schema.generation_resolution,
        audio=bool(schema.generation_generate_audio),
        input_images=bool(schema.generation_input_file),
        input_images_max=input_images_max(model),
        last_frame=takes_last_frame(model),
        options=list(own),
        option_limits={name: _limits(limits) for name, limits in own.items() if limits is not None},
        price_per="second" if model.model_type is MediaKind.VIDEO else "output",
        prices=prices(model, policy),
    )


def _limits(limits: Limits) -> OptionLimitsView:
    match limits:
        case Numbers():
            return OptionLimitsView(
                type="integer" if limits.whole else "number",
                minimum=float(limits.minimum),
                maximum=float(limits.maximum),
            )
        case Switch():
            return OptionLimitsView(type="boolean")
        case _:
            return OptionLimitsView(type="string", allowed=list(limits.words))
