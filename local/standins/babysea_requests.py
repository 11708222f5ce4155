"""What the BabySea stand-in accepts: the checks of a generate body and of query parameters."""

from __future__ import annotations

import json
from typing import Any

from local.standins.babysea_behaviour import Behaviour
from local.standins.babysea_catalog import PROVIDER_ORDERS, Model
from local.standins.babysea_errors import Refused

_COMMON = frozenset(
    {
        "generation_prompt",
        "generation_ratio",
        "generation_output_format",
        "generation_output_number",
        "generation_input_file",
        "generation_input_file_last_content",
        "generation_duration",
        "generation_resolution",
        "generation_generate_audio",
        "generation_provider_order",
    }
)


class EdgeRefusedError(ValueError):
    """The edge refuses the request before BabySea sees it: 403 HTML instead of an envelope."""


def parsed_body(body: bytes) -> dict[str, Any]:
    """Return a generate body; raises `Refused` (BSE2001) when it is no JSON object."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused("BSE2001", "the body is not a JSON object")
    return value


def check_generation(model: Model, body: dict[str, Any], behaviour: Behaviour) -> None:
    """Check a generate body against the model's schema; raises `Refused` naming the field."""
    if behaviour.unknown_fields == "refuse":
        for name in body:
            if name not in _COMMON and name not in model.specific:
                raise _invalid(name)
    prompt = body.get("generation_prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise _invalid("generation_prompt")
    _one_of(body, "generation_ratio", model.ratios)
    _one_of(body, "generation_output_format", model.formats)
    _one_of(body, "generation_output_number", (model.outputs,))
    _one_of(body, "generation_provider_order", PROVIDER_ORDERS)
    _check_inputs(model, body.get("generation_input_file"))
    _check_last_frame(model, body)
    if model.kind == "video" and "generation_duration" not in body:
        raise _invalid("generation_duration")
    if model.durations:
        _one_of(body, "generation_duration", model.durations)
    if model.resolutions:
        _one_of(body, "generation_resolution", model.resolutions)
    if body.get("generation_generate_audio", False) not in (
        (False, True) if model.audio else (False,)
    ):
        raise _invalid("generation_generate_audio")
    for name, allowed in model.specific.items():
        if name in body:
            _check_specific(name, body[name], allowed)


def number(query: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return a whole number of the query; raises `EdgeRefusedError` when malformed or out of range."""
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise EdgeRefusedError(name)
    return int(text)


def _check_inputs(model: Model, files: Any) -> None:
    if files is None:
        return
    if (
        not isinstance(files, list)
        or len(files) > model.input_files
        or not all(isinstance(f, str) and f.startswith(("http://", "https://")) for f in files)
    ):
        raise _invalid("generation_input_file")


def _check_last_frame(model: Model, body: dict[str, Any]) -> None:
    name = "generation_input_file_last_content"
    url = body.get(name)
    if url is not None and (
        model.kind != "video"
        or not model.input_files
        or not isinstance(url, str)
        or not url.startswith(("http://", "https://"))
    ):
        raise _invalid(name)


def _check_specific(name: str, value: Any, allowed: Any) -> None:
    if allowed is bool:
        fits = isinstance(value, bool)
    elif isinstance(allowed[0], str):
        fits = value in allowed
    else:
        low, high = allowed
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _invalid(name)
        if not low <= value <= high:
            raise Refused("BSE2008", f"{name} is out of range", details={"field": name})
        return
    if not fits:
        raise _invalid(name)


def _one_of(body: dict[str, Any], name: str, allowed: Any) -> None:
    # True == 1 in Python, and a list cannot be looked up in a set.
    value = body.get(name)
    if name in body and (
        not isinstance(value, str | int) or isinstance(value, bool) or value not in allowed
    ):
        raise _invalid(name)


def _invalid(name: str) -> Refused:
    return Refused("BSE2001", f"{name} is missing or not allowed here", details={"field": name})
