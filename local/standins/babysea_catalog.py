"""
The models the BabySea stand-in sells, and what they cost.

The rows have the shapes of the real catalogue. Prices of bfl/flux-schnell, bfl/flux-1.1-pro and
bytedance/seedance-1-pro are published ones, the others are made up. seedream-4 makes four images a
call here, so that a delivery can be partial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Pricing = Decimal | Mapping[str, Decimal] | None
Specific = Mapping[str, tuple[float, float] | tuple[str, ...] | type]

_SQUARE_TO_WIDE = ("1:1", "16:9", "9:16", "4:3", "3:4")
_IMAGE_FORMATS = ("png", "jpg", "webp")
PROVIDER_ORDERS = frozenset(
    {
        "fastest",
        "replicate",
        "bfl, replicate",
        "openai, replicate",
        "runway, replicate",
        "replicate, fal",
        "alibabacloud, replicate, fal",
        "bfl, replicate, cloudflare",
        "bfl, replicate, fal",
        "byteplus, replicate, fal",
        "openai, replicate, fal",
        "replicate, fal, cloudflare",
    }
)


class NoPriceError(ValueError):
    """The model has no price for these options; `field` names the one at fault."""

    def __init__(self, field_name: str) -> None:
        self.field = field_name
        super().__init__(f"no price for this {field_name}")


@dataclass(frozen=True)
class Model:
    """One catalogue row. `input_files` is the number of input images it takes."""

    identifier: str
    kind: str
    pricing: Pricing
    providers: tuple[str, ...]
    ratios: tuple[str, ...] = _SQUARE_TO_WIDE
    formats: tuple[str, ...] = _IMAGE_FORMATS
    outputs: int = 1
    input_files: int = 0
    durations: tuple[int, ...] = ()
    resolutions: tuple[str, ...] = ()
    audio: bool = False
    specific: Specific = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the row as the library route shows it; a model without a price lacks the key."""
        schema: dict[str, Any] = {
            "generation_prompt": True,
            "generation_ratio": list(self.ratios),
            "generation_output_format": list(self.formats),
            "generation_output_number": self.outputs,
            "generation_input_file": self.input_files > 0,
        }
        if self.durations:
            schema["generation_duration"] = list(self.durations)
        if self.resolutions:
            schema["generation_resolution"] = list(self.resolutions)
        if self.audio:
            schema["generation_generate_audio"] = True
        row: dict[str, Any] = {"model_type": self.kind, "model_identifier": self.identifier}
        if isinstance(self.pricing, Decimal):
            row["model_pricing"] = float(self.pricing)
        elif self.pricing is not None:
            row["model_pricing"] = {name: float(rate) for name, rate in self.pricing.items()}
        return row | {
            "model_supported_provider": list(self.providers),
            "schema": schema,
            "specific_schema": list(self.specific),
        }

    def rate(self, resolution: str | None = None, *, audio: bool = False) -> Decimal:
        """Return credits per image or per second of video; raises `NoPriceError`."""
        if self.pricing is None:
            raise NoPriceError("model")
        if isinstance(self.pricing, Decimal):
            return self.pricing
        name = resolution or self.resolutions[0]
        if name not in self.pricing:
            name = f"{name}_{'audio' if audio else 'noaudio'}"
        if name not in self.pricing:
            raise NoPriceError("resolution")
        return self.pricing[name]

    def cost_per_output(
        self, resolution: str | None = None, duration: int | None = None, *, audio: bool = False
    ) -> Decimal:
        """Return the exact credits one output costs; `duration` is in seconds."""
        rate = self.rate(resolution, audio=audio)
        return rate * (duration or self.durations[0]) if self.kind == "video" else rate


def _prices(**rates: str) -> dict[str, Decimal]:
    return {name.lstrip("_"): Decimal(rate) for name, rate in rates.items()}


_MODELS = (
    Model("bfl/flux-schnell", "image", Decimal("0.005"), ("bfl", "replicate", "fal")),
    Model(
        "bfl/flux-1.1-pro",
        "image",
        Decimal("0.052"),
        ("bfl", "replicate", "fal"),
        input_files=1,
        specific={
            "generation_guidance_scale": (0, 20),
            "generation_num_inference_steps": (1, 100),
            "generation_output_quality": (0, 100),
            "generation_moderation": bool,
            "generation_enhance_prompt": ("off", "standard"),
        },
    ),
    Model(
        "bfl/flux-2-pro",
        "image",
        _prices(_1MP="0.030", _2MP="0.045", _4MP="0.075"),
        ("bfl", "replicate"),
        input_files=3,
        resolutions=("1MP", "2MP", "4MP"),
        specific={"generation_seed": (0, 2**31 - 1)},
    ),
    Model(
        "bytedance/seedream-4",
        "image",
        Decimal("0.030"),
        ("byteplus", "replicate", "fal"),
        outputs=4,
        input_files=1,
    ),
    Model("qwen/image", "image", None, ("alibabacloud", "replicate", "fal")),
    Model(
        "bytedance/seedance-1-pro",
        "video",
        _prices(_480p="0.030", _720p="0.062", _1080p="0.166"),
        ("byteplus", "replicate", "fal"),
        ratios=("16:9", "9:16", "1:1"),
        formats=("mp4",),
        input_files=1,
        durations=(5, 10),
        resolutions=("480p", "720p", "1080p"),
    ),
    Model(
        "bytedance/seedance-1.5-pro",
        "video",
        _prices(
            _480p_noaudio="0.015", _480p_audio="0.030", _720p_noaudio="0.032", _720p_audio="0.064"
        ),
        ("byteplus", "replicate", "fal"),
        ratios=("16:9", "9:16", "1:1"),
        formats=("mp4",),
        input_files=1,
        durations=(4, 8, 12),
        resolutions=("480p", "720p"),
        audio=True,
    ),
    Model(
        "google/veo-2",
        "video",
        Decimal("0.500"),
        ("replicate", "fal"),
        ratios=("16:9", "9:16"),
        formats=("mp4",),
        durations=(5, 6, 7, 8),
    ),
)


def catalogue() -> dict[str, Model]:
    """Return a fresh catalogue by model identifier; a test may change prices or remove models."""
    return {model.identifier: model for model in _MODELS}
