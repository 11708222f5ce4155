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
        "invoice": "invoice",
        "line_items": "item",
        "payment_intent": "payment_intent",
        "subscription": "subscription",
    },
    "discount": {"customer": "customer", "source.coupon": "coupon"},
    "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
    "invoice": {
        "customer": "customer",
        "discounts": "discount",
        "parent.subscription_details.subscription": "subscription",
        "payments": "invoice_payment",
    },
    "invoice_payment": {"invoice": "invoice", "payment.payment_intent": "payment_intent"},
    "line_item": {
        "discounts": "discount",
        "pricing.price_details.price": "price",
        "subscription": "subscription",
    },
    "payment_intent": {"customer": "customer", "latest_charge": "charge"},
    "price": {"product": "product"},
    "product": {"default_price": "price"},
    "refund": {"charge": "charge", "payment_intent": "payment_intent"},
    "subscription": {
        "customer": "customer",
        "discounts": "discount",
        "latest_invoice": "invoice",
    },
}
"""The fields of each kind of object that `expand` may name, and the kind each leads to."""
INCLUDED_LISTS = frozenset({"line_items", "payments"})
"""Expandable lists that are not there at all until they are asked for."""

LookUp = Callable[[Json, str, Any], Any]


def expand(target: Json, paths: Sequence[str], look_up: LookUp) -> None:
    """
    Replace ids by objects in `target`, in place, along `paths` such as `data.customer`.

    `look_up(owner, field, id)` returns the object, or the list an `INCLUDED_LISTS` field stands
    for. Raises `StripeError` for a path that does not exist, which is what makes a misspelt one
    fail here as it does at Stripe.
    """
    for path in paths:
        steps = path.split(".")
        if len(steps) > MAX_EXPAND_DEPTH + (steps[0] == "data"):
            raise StripeError("You cannot expand more than 4 levels of a property.", param="expand")
        _Expansion(path, look_up).walk(target, steps)


class _Expansion:
    """One path: `owner` is the object it is in, `within` the plain levels below that object."""

    def __init__(self, path: str, look_up: LookUp) -> None:
        self._path = path
        self._look_up = look_up

    def walk(self, target: Json, steps: Sequence[str]) -> None:
        if target.get("object") == "list":
            self._walk_list(target, steps)
        else:
            self._walk_object(target, target, steps, ())

    def _walk_list(self, target: Json, steps: Sequence[str]) -> None:
        if steps[0] != "data":
            raise self._refusal()
        for member in target["data"]:
            if steps[1:]:
                self.walk(member, steps[1:])

    def _walk_object(
        self, owner: Json, target: Json, steps: Sequence[str], within: tuple[str, ...]
    ) -> None:
        name, *rest = steps
        field = ".".join((*within, name))
        if field in EXPANDABLE.get(owner.get("object", ""), ()):
            self._replace(owner, target, field, rest)
            return
        below = target.get(name)
        if not isinstance(below, dict) or not rest:
            raise self._refusal()
        if "object" in below:
            self.walk(below, rest)
        else:
            self._walk_object(owner, below, rest, (*within, name))

    def _replace(self, owner: Json, target: Json, field: str, rest: Sequence[str]) -> None:
        name = field.rpartition(".")[2]
        present = target.get(name)
        if present is None and name not in INCLUDED_LISTS:
            return
        if isinstance(present, list):
            target[name] = [self._found(owner, field, each) for each in present]
        else:
            target[name] = self._found(owner, field, present)
        for each in target[name] if isinstance(present, list) else [target[name]]:
            if rest:
                self.walk(each, rest)

    def _found(self, owner: Json, field: str, present: Any) -> Any:
        return present if isinstance(present, dict) else self._look_up(owner, field, present)

    def _refusal(self) -> StripeError:
        return StripeError(f"This property cannot be expanded ({self._path}).", param="expand")
