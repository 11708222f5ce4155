"""Presets: named prompt parts and fields, from `presets.toml` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.errors import FieldError, InvalidRequestError
from holdfast.vocabulary import ItemId

_FILE = Path(__file__).with_name("presets.toml")


class PresetKind(StrEnum):
    """What a preset describes, in the order in which the parts follow the user's words."""

    MODEL = "model"
    POSE = "pose"
    SCENE = "scene"
    STYLE = "style"


class PresetFields(BaseModel):
    """Fields of a request that a preset fills where the request leaves them open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: str | None = None
    resolution: str | None = None
    output_format: str | None = None


class Preset(BaseModel):
    """One prompt part; `model` is who is shown, not the model that draws."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: PresetKind
    id: ItemId
    name: str
    prompt: Annotated[str, Field(min_length=1, max_length=300)]
    fields: PresetFields = PresetFields()


class GenerationType(BaseModel):
    """What a generation is for, and which kinds of presets fit it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ItemId
    name: str
    presets: tuple[PresetKind, ...]


class Presets(BaseModel):
    """All types and presets; the first type is the one of requests that name none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation_types: Annotated[tuple[GenerationType, ...], Field(min_length=1)]
    presets: tuple[Preset, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Presets:
        types = {found.id for found in self.generation_types}
        presets = {(found.kind, found.id) for found in self.presets}
        if len(types) != len(self.generation_types) or len(presets) != len(self.presets):
            raise ValueError("two types, or two presets of a kind, have the same id")
        return self

    @property
    def default_type(self) -> str:
        """The type of requests that name none."""
        return self.generation_types[0].id

    def chosen(self, generation_type: str, wanted: Mapping[PresetKind, str]) -> list[Preset]:
        """Return the wanted presets in prompt order; raises `InvalidRequestError` field by field."""
        fitting = next((t.presets for t in self.generation_types if t.id == generation_type), None)
        if fitting is None:
            allowed = ", ".join(found.id for found in self.generation_types)
            problem = FieldError("generation_type", "unknown", f"Allowed: {allowed}.")
            raise InvalidRequestError("There is no such type.", fields=[problem])
        found = {(preset.kind, preset.id): preset for preset in self.presets}
        problems = [
            FieldError(f"presets.{kind}", "not_allowed", f"{generation_type} takes no {kind}.")
            if kind not in fitting
            else FieldError(f"presets.{kind}", "unknown", "See GET /models.")
            for kind, name in wanted.items()
            if kind not in fitting or (kind, name) not in found
        ]
        if problems:
            raise InvalidRequestError("These presets cannot be used.", fields=problems)
        return [found[kind, wanted[kind]] for kind in PresetKind if kind in wanted]


def composed(prompt: str, chosen: list[Preset]) -> str:
    """Return the user's words followed by the presets' parts."""
    return ", ".join([prompt, *(preset.prompt for preset in chosen)])


@cache
def presets() -> Presets:
    """Return the presets; raises `pydantic.ValidationError` when the file is wrong."""
    return Presets.model_validate(tomllib.loads(_FILE.read_text()))
