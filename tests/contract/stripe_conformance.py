"""Compare JSON with the SDK's own classes: the nearest thing to Stripe's schema on this machine."""

from __future__ import annotations

import types
import typing
from decimal import Decimal
from typing import Any

import stripe

CLASSES: dict[str, type[stripe.StripeObject]] = {
    "charge": stripe.Charge,
    "checkout.session": stripe.checkout.Session,
    "customer": stripe.Customer,
    "event": stripe.Event,
    "item": stripe.LineItem,
    "payment_intent": stripe.PaymentIntent,
    "price": stripe.Price,
    "product": stripe.Product,
    "refund": stripe.Refund,
}
ON_DEMAND: dict[str, set[str]] = {
    "charge": {"level3", "refunds", "transfer"},
    "checkout.session": {"line_items"},
    "customer": {
        *("cash_balance", "deleted", "invoice_credit_balance", "sources"),
        *("subscriptions", "tax", "tax_ids"),
    },
    "event": {"account", "context"},
    "item": {"discounts", "taxes"},
    "payment_intent": set(),
    "price": {"currency_options", "deleted", "tiers"},
    "product": {"deleted"},
    "refund": {
        *("description", "failure_balance_transaction", "failure_reason"),
        *("instructions_email", "next_action"),
    },
}
"""Fields Stripe sends only when asked to expand them, or in states such an object is not in."""


def problems(data: dict[str, Any]) -> list[str]:
    """Return what is wrong with an API object: missing, unknown and ill-typed fields."""
    kind = data["object"]
    if kind == "list":
        return [found for member in data["data"] for found in problems(member)]
    absent = set(_fields(CLASSES[kind])) - set(data) - ON_DEMAND[kind]
    return [f"{kind}.{name}: absent" for name in sorted(absent)] + _object(
        data, CLASSES[kind], kind
    )


def _fields(cls: type) -> dict[str, Any]:
    return {
        name: hint
        for name, hint in cls.__annotations__.items()
        if not str(hint).startswith("typing.ClassVar") and not name.startswith("_")
    }


def _object(data: Any, cls: type, path: str) -> list[str]:
    if not isinstance(data, dict):
        return [f"{path}: {data!r} is no object"]
    hints = _fields(cls)
    found = [f"{path}.{name}: unknown" for name in sorted(set(data) - set(hints))]
    for name, hint in hints.items():
        if name in data:
            found += _value(data[name], hint, f"{path}.{name}")
        elif type(None) not in typing.get_args(hint):
            found.append(f"{path}.{name}: required")
    return found


def _value(value: Any, hint: Any, path: str) -> list[str]:  # noqa: PLR0911 - one return a kind
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, typing.ForwardRef):
        return _value(value, getattr(stripe, hint.__forward_arg__, Any), path)
    if hint is Any:
        return []
    if origin in (typing.Union, types.UnionType):
        return _union(value, args, path)
    if origin is typing.Literal:
        return [] if value in args else [f"{path}: {value!r} is none of {args}"]
    if hint is Decimal:
        return [] if isinstance(value, str) and Decimal(value) is not None else [f"{path}: text"]
    if hint in (str, int, float, bool, type(None)):
        fits = type(value) is (hint if hint is not float else type(value))
        return [] if fits else [f"{path}: {value!r} is no {hint.__name__}"]
    if origin is list:
        members = value if isinstance(value, list) else [None]
        return [f for i, v in enumerate(members) for f in _value(v, args[0], f"{path}[{i}]")]
    if origin is stripe.ListObject:
        return [f for v in value["data"] for f in _value(v, args[0], path)]
    if origin is not None:  # metadata-like: any key, values of one type
        return [f for k, v in value.items() for f in _value(v, args[0], f"{path}.{k}")]
    return _object(value, hint, path)


def _union(value: Any, members: tuple[Any, ...], path: str) -> list[str]:
    if value is None and type(None) in members:
        return []
    closed = [m for m in members if typing.get_origin(m) is typing.Literal]
    if closed and isinstance(value, str):
        return _value(value, closed[0], path)  # the `| str` beside it only allows future values
    tried = [_value(value, m, path) for m in members if m is not type(None)]
    return min(tried, key=len)
