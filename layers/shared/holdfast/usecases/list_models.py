"""What can be generated, for whom to show it to."""

from __future__ import annotations

from holdfast.babysea import BabySeaClient
from holdfast.babysea_models import CatalogModel
from holdfast.pricing import is_sellable, output_count, prices
from holdfast.views import ModelsView, ModelView
from holdfast.vocabulary import MediaKind


def offered_models(provider: BabySeaClient) -> ModelsView:
    """Return the models that have a price."""
    return ModelsView(models=[_view(model) for model in provider.models() if is_sellable(model)])


def _view(model: CatalogModel) -> ModelView:
    schema = model.model_schema
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
        options=[name.removeprefix("generation_") for name in model.specific_schema],
        price_per="second" if model.model_type is MediaKind.VIDEO else "output",
        prices=prices(model),
    )
