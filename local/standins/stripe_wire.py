"""
How Stripe's API looks on the wire: errors, nested form encoding, list pages and `expand`.

Knows nothing of single resources. What a call may carry is checked in `stripe_params`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from local.standins.server import Response, json_response

API_VERSION = "2026-10-28.endive"
MAX_EXPAND_DEPTH = 4

Json = dict[str, Any]
Raw = str | dict[str, Any]
"""A decoded but unchecked parameter: text, or a level of nesting keyed by what stood in brackets."""


class StripeError(Exception):
    """A refusal in Stripe's own shape."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int = 400,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.status = status
        self.kind = kind

    def response(self) -> Response:
        """Return the answer that carries this error."""
        error = {
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "type": self.kind,
        }
        return json_response({"error": {k: v for k, v in error.items() if v}}, self.status)


def no_such(kind: str, object_id: str, param: str | None = "id") -> StripeError:
    """Return the error for an id that names nothing: 404 on the path, 400 in a parameter."""
    status = 404 if param == "id" else 400
    return StripeError(
        f"No such {kind}: '{object_id}'", code="resource_missing", param=param, status=status
    )


_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def decode(encoded: str) -> dict[str, Raw]:
    """
    Return form-encoded parameters as nested dicts: `a[b][0]=c` becomes `{"a": {"b": {"0": "c"}}}`.

    Raises `StripeError` for a key that is malformed, given twice, or both a value and a level.
    """
    root: dict[str, Raw] = {}
    for key, value in parse_qsl(encoded, keep_blank_values=True):
        match = _KEY.fullmatch(key)
        if not match:
            raise StripeError(f"Invalid parameter name: {key}", param=key)
        *levels, last = [match[1], *re.findall(r"\[([^\]]*)\]", match[2])]
        at = root
        for level in levels:
            below = at.setdefault(level or str(len(at)), {})
            if isinstance(below, str):
                raise StripeError(f"Invalid object: {key}", param=key)
            at = below
        last = last or str(len(at))
        if last in at:
            raise StripeError(f"Parameter given twice: {key}", param=key)
        at[last] = value
    return root


@dataclass(frozen=True)
class Listing:
    """What a list call found, newest first, before it is cut into pages."""

    objects: Sequence[Json]
    url: str


def page(listing: Listing, params: Json) -> Json:
    """Return the list object for one page of `listing`; `params` hold the limit and the cursors."""
    objects, limit = list(listing.objects), params.get("limit", 10)
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise StripeError(
            "You may only specify one of these parameters: ending_before, starting_after."
        )
    if before:
        ahead = objects[: _position(objects, before, "ending_before")]
        data, more = ahead[-limit:], len(ahead) > limit
    else:
        rest = objects[_position(objects, after, "starting_after") + 1 :] if after else objects
        data, more = rest[:limit], len(rest) > limit
    return {"object": "list", "data": data, "has_more": more, "url": listing.url}


def _position(objects: Sequence[Json], cursor: str, param: str) -> int:
    for position, candidate in enumerate(objects):
        if candidate["id"] == cursor:
            return position
    raise no_such("object", cursor, param)


EXPANDABLE: Mapping[str, Mapping[str, str]] = {
    "charge": {"customer": "customer", "payment_intent": "payment_intent"},
    "checkout.session": {
        "customer": "customer",
        "line_items": "item",
        "payment_intent": "payment_intent",
    },
    "payment_intent": {"customer": "customer", "latest_charge": "charge"},
    "price": {"product": "product"},
    "product": {"default_price": "price"},
    "refund": {"charge": "charge", "payment_intent": "payment_intent"},
}
"""The fields of each kind of object that `expand` may name, and the kind each leads to."""


def expand(target: Json, paths: Sequence[str], look_up: Callable[[Json, str], Any]) -> None:
    """
    Replace ids by objects in `target`, in place, along `paths` such as `data.customer`.

    `look_up(owner, field)` returns the expanded value. Raises `StripeError` for a path that does
    not exist, which is what makes a misspelt one fail here as it does at Stripe.
    """
    for path in paths:
        steps = path.split(".")
        if len(steps) > MAX_EXPAND_DEPTH + (steps[0] == "data"):
            raise StripeError("You cannot expand more than 4 levels of a property.", param="expand")
        _expand(target, steps, path, look_up)


def _expand(target: Json, steps: list[str], path: str, look_up: Callable[[Json, str], Any]) -> None:
    name, *rest = steps
    if target.get("object") == "list":
        if name != "data":
            raise _not_expandable(path)
        for member in target["data"]:
            if rest:
                _expand(member, rest, path, look_up)
        return
    expandable = name in EXPANDABLE.get(target.get("object", ""), ())
    nested = isinstance(target.get(name), dict)
    if not expandable and not (nested and rest):
        raise _not_expandable(path)
    if not nested:
        target[name] = look_up(target, name)
    if rest and target[name] is not None:
        _expand(target[name], rest, path, look_up)


def _not_expandable(path: str) -> StripeError:
    return StripeError(f"This property cannot be expanded ({path}).", param="expand")
