"""
What is known of models beyond the catalogue, which names a model's own fields but says nothing of their values.

A model or field that is not listed here is taken by type and size only; the provider judges the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from holdfast.babysea_models import CatalogModel
from holdfast.vocabulary import MediaKind

PREFIX = "generation_"

# What a request sets by a field of its own, and so never as an option: some of these decide the price.
_RESERVED = frozenset(
    {
        "prompt",
        "ratio",
        "output_format",
        "output_number",
        "input_file",
        "input_file_last_content",
        "duration",
        "resolution",
        "generate_audio",
        "provider_order",
    }
)
_FLUX_2 = "bfl/flux-2-"


@dataclass(frozen=True)
class Numbers:
    """Numbers from `minimum` to `maximum`, both included."""

    minimum: Decimal
    maximum: Decimal
    whole: bool = False

    def takes(self, value: object) -> bool:
        """Say whether a JSON value is acceptable."""
        kinds = int if self.whole else (int, float)
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and self.minimum <= value <= self.maximum
        )

    def __str__(self) -> str:
        return f"{'whole ' if self.whole else ''}numbers from {self.minimum} to {self.maximum}"


@dataclass(frozen=True)
class Words:
    """One of a few words."""

    words: tuple[str, ...]

    def takes(self, value: object) -> bool:
        """Say whether a JSON value is acceptable."""
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        return ", ".join(self.words)


@dataclass(frozen=True)
class Switch:
    """True or false."""

    def takes(self, value: object) -> bool:
        """Say whether a JSON value is acceptable."""
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true, false"


Limits = Numbers | Words | Switch


def _numbers(minimum: int, maximum: int, *, whole: bool = False) -> Numbers:
    return Numbers(Decimal(minimum), Decimal(maximum), whole)


_LIMITS: dict[str, dict[str, Limits]] = {
    "bfl/flux-1.1-pro": {
        "guidance_scale": _numbers(0, 20),
        "num_inference_steps": _numbers(1, 100, whole=True),
        "output_quality": _numbers(0, 100, whole=True),
        "moderation": Switch(),
        "enhance_prompt": Words(("off", "standard")),
    },
}


def options(model: CatalogModel) -> dict[str, Limits | None]:
    """Return the model's own fields and what they take, None where that is not known."""
    known = _LIMITS.get(model.model_identifier, {})
    names = (name.removeprefix(PREFIX) for name in model.specific_schema)
    return {name: known.get(name) for name in names if name not in _RESERVED}


def input_images_max(model: CatalogModel) -> int:
    """Return how many input pictures the model takes; for video it is the first frame."""
    if not model.model_schema.generation_input_file:
        return 0
    return 3 if model.model_identifier.startswith(_FLUX_2) else 1


def takes_last_frame(model: CatalogModel) -> bool:
    """Say whether the model takes a picture to end a video with."""
    return model.model_type is MediaKind.VIDEO and input_images_max(model) > 0
