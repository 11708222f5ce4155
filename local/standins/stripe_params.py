"""
Strict parameter checking: what a call does not name is refused, and the error says where.

A check takes a decoded value and its path (`line_items[0][price]`) and returns the typed value or
raises `StripeError`. Endpoints compose them with `fields`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from local.standins.stripe_wire import Json, Raw, StripeError

Check = Callable[[Raw, str], Any]


def fields(optional: Mapping[str, Check], required: Mapping[str, Check] | None = None) -> Check:
    """Check an object with named members; anything else in it is `parameter_unknown`."""
    needed = required or {}
    known = {**optional, **needed}

    def check(value: Raw, path: str) -> Json:
        if isinstance(value, str):
            raise StripeError("Invalid object", code="parameter_invalid", param=path)
        for name in value:
            if name not in known:
                raise _unknown(_join(path, name))
        for name in needed:
            if name not in value:
                raise missing(_join(path, name))
        return {name: known[name](below, _join(path, name)) for name, below in value.items()}

    return check


def list_of(item: Check, at_most: int = 100) -> Check:
    """Check a list; the indexes on the wire only give its order."""

    def check(value: Raw, path: str) -> list[Any]:
        if isinstance(value, str) or not all(index.isdecimal() for index in value):
            raise StripeError("Invalid array", code="parameter_invalid", param=path)
        if len(value) > at_most:
            raise StripeError(f"{path} may have at most {at_most} elements.", param=path)
        return [item(value[i], f"{path}[{i}]") for i in sorted(value, key=int)]

    return check


def text(at_most: int = 5000, *, clearable: bool = False) -> Check:
    """Check a string. An empty one unsets the field (None) where `clearable`, else is refused."""

    def check(value: Raw, path: str) -> str | None:
        given = _scalar(value, path, "string")
        if not given:
            if clearable:
                return None
            raise StripeError(
                f"You passed an empty string for '{path}', which cannot be unset.",
                code="parameter_invalid_empty",
                param=path,
            )
        if len(given) > at_most:
            raise StripeError(
                f"Invalid string: must be at most {at_most} characters",
                code="parameter_invalid_string",
                param=path,
            )
        return given

    return check


def integer(at_least: int | None = None, at_most: int | None = None) -> Check:
    """Check a whole number, optionally within bounds."""

    def check(value: Raw, path: str) -> int:
        given = _scalar(value, path, "integer")
        if not re.fullmatch(r"-?\d{1,18}", given):
            raise StripeError(
                f"Invalid integer: {given}", code="parameter_invalid_integer", param=path
            )
        number = int(given)
        for bad, words in (
            (at_least is not None and number < at_least, f"greater than or equal to {at_least}"),
            (at_most is not None and number > at_most, f"less than or equal to {at_most}"),
        ):
            if bad:
                raise StripeError(
                    f"This value must be {words}.", code="parameter_invalid_integer", param=path
                )
        return number

    return check


def boolean(value: Raw, path: str) -> bool:
    """Check `true` or `false`."""
    given = _scalar(value, path, "boolean")
    if given not in ("true", "false"):
        raise StripeError(f"Invalid boolean: {given}", code="parameter_invalid", param=path)
    return given == "true"


def one_of(*choices: str) -> Check:
    """Check a string with a fixed set of values."""

    def check(value: Raw, path: str) -> str:
        given = _scalar(value, path, "string")
        if given not in choices:
            raise StripeError(f"Invalid {path}: must be one of {', '.join(choices)}", param=path)
        return given

    return check


def currency(value: Raw, path: str) -> str:
    """Check an ISO currency code; upper case is lowered, as Stripe does."""
    given = _scalar(value, path, "string").lower()
    if not re.fullmatch(r"[a-z]{3}", given):
        raise StripeError(f"Invalid currency: {given}", param=path)
    return given


def url(value: Raw, path: str) -> str:
    """Check an absolute http(s) URL."""
    given = _scalar(value, path, "string")
    parts = urlsplit(given)
    if (
        re.search(r"[\x00-\x20\x7f]", given)
        or parts.scheme not in ("http", "https")
        or not parts.hostname
    ):
        raise StripeError("Not a valid URL", code="url_invalid", param=path)
    return given


def metadata(value: Raw, path: str) -> dict[str, str] | None:
    """Check metadata; None means every key is to be removed, an empty value removes its key."""
    if value == "":
        return None
    if isinstance(value, str) or not all(isinstance(v, str) for v in value.values()):
        raise StripeError("Invalid object", code="parameter_invalid", param=path)
    if len(value) > 50:
        raise StripeError("You may only have up to 50 metadata keys.", param=path)
    for name, entry in value.items():
        if len(name) > 40 or len(entry) > 500:
            raise StripeError(
                "Metadata keys are limited to 40 characters and values to 500.",
                param=_join(path, name),
            )
    return value


def merged_metadata(old: Mapping[str, str], change: Mapping[str, str] | None) -> dict[str, str]:
    """Return metadata after an update."""
    if change is None:
        return {}
    return {name: entry for name, entry in {**old, **change}.items() if entry}


_INSTANT = integer(at_least=0)
_WINDOW = fields(dict.fromkeys(("gt", "gte", "lt", "lte"), _INSTANT))


def window(value: Raw, path: str) -> Callable[[int], bool]:
    """Check a time filter (a second, or `gt`/`gte`/`lt`/`lte`) and return it as a predicate."""
    if isinstance(value, str):
        exact = _INSTANT(value, path)
        return lambda at: bool(at == exact)
    bounds = _WINDOW(value, path)
    return lambda at: (
        at > bounds.get("gt", -1)
        and at >= bounds.get("gte", 0)
        and at < bounds.get("lt", at + 1)
        and at <= bounds.get("lte", at)
    )


LIST: Mapping[str, Check] = {
    "created": window,
    "ending_before": text(),
    "limit": integer(at_least=1, at_most=100),
    "starting_after": text(),
}
"""What every list call takes besides its own filters."""

_EXPAND = list_of(text(500), at_most=20)


def checked(raw: Mapping[str, Raw], schema: Check) -> tuple[Json, list[str]]:
    """Return the call's parameters by `schema`, and its `expand` paths apart."""
    own = dict(raw)
    paths = _EXPAND(own.pop("expand"), "expand") if "expand" in own else []
    return schema(own, ""), paths


def missing(path: str) -> StripeError:
    """Return the error for a required parameter that is not there."""
    return StripeError(f"Missing required param: {path}.", code="parameter_missing", param=path)


def exactly_one(params: Mapping[str, Any], names: Sequence[str], path: str = "") -> str:
    """Return the one of `names` that was given; raises for none and for several."""
    given = [name for name in names if name in params]
    listed = ", ".join(_join(path, name) for name in names)
    if not given:
        raise StripeError(
            f"One of the following params should be provided for this request: {listed}.",
            code="parameter_missing",
            param=_join(path, names[0]),
        )
    if len(given) > 1:
        raise StripeError(f"You may only specify one of these parameters: {listed}.")
    return given[0]


def _scalar(value: Raw, path: str, kind: str) -> str:
    if not isinstance(value, str):
        raise StripeError(f"Invalid {kind}", code="parameter_invalid", param=path)
    return value


def _join(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _unknown(path: str) -> StripeError:
    return StripeError(f"Received unknown parameter: {path}", code="parameter_unknown", param=path)
