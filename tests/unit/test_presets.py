"""Presets: the reviewed file, and what a request makes of it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from holdfast.errors import InvalidRequestError
from holdfast.presets import Preset, PresetKind, Presets, composed, presets

STYLE = {"kind": "style", "id": "film", "name": "Film", "prompt": "on film"}
SCENE = {"kind": "scene", "id": "beach", "name": "Beach", "prompt": "on a beach"}
TYPES = [{"id": "free", "name": "Free", "presets": ["scene", "style"]}]


def book(*found: dict[str, object]) -> Presets:
    """Return presets of the test's own."""
    return Presets.model_validate({"generation_types": TYPES, "presets": found})


def test_the_file_is_right() -> None:
    """The shipped file is valid, has each kind of preset, and every type takes some."""
    shipped = presets()

    assert {preset.kind for preset in shipped.presets} == set(PresetKind)
    assert all(found.presets for found in shipped.generation_types)
    assert shipped.default_type == "freestyle"


def test_parts_follow_the_users_words() -> None:
    """The prompt comes first, then the parts in one order, however they were asked for."""
    chosen = book(SCENE, STYLE).chosen(
        "free", {PresetKind.STYLE: "film", PresetKind.SCENE: "beach"}
    )

    assert composed("a dog", chosen) == "a dog, on a beach, on film"
    assert composed("a dog", []) == "a dog"


@pytest.mark.parametrize(
    ("generation_type", "wanted", "field"),
    [
        ("nonsense", {}, "generation_type"),
        ("free", {PresetKind.POSE: "walking"}, "presets.pose"),
        ("free", {PresetKind.STYLE: "nonsense"}, "presets.style"),
    ],
)
def test_what_does_not_fit(generation_type: str, wanted: dict[PresetKind, str], field: str) -> None:
    """A type, a kind or a preset that is not there is named by its field."""
    with pytest.raises(InvalidRequestError) as refused:
        book(SCENE, STYLE).chosen(generation_type, wanted)

    assert [problem.field for problem in refused.value.fields] == [field]


@pytest.mark.parametrize(
    "change", [{"id": "No Id"}, {"kind": "mood"}, {"prompt": ""}, {"fields": {"seed": 1}}]
)
def test_mistakes_in_the_file(change: dict[str, object]) -> None:
    """A mistake in the file is found when it is read, not by a user."""
    with pytest.raises(ValidationError):
        Preset.model_validate(STYLE | change)
    with pytest.raises(ValidationError):
        book(STYLE, STYLE)
