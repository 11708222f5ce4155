"""Compare JSON with the SDK's own classes: the nearest thing to Stripe's schema on this machine."""

from __future__ import annotations

import types
import typing
from decimal import Decimal
from typing import Any

import stripe

CLASSES: dict[str, type[stripe.StripeObject]] = {
    "balance_transaction": stripe.BalanceTransaction,
    "billing_portal.session": stripe.billing_portal.Session,
    "charge": stripe.Charge,
    "checkout.session": stripe.checkout.Session,
    "coupon": stripe.Coupon,
    "customer": stripe.Customer,
    "discount": stripe.Discount,
    "dispute": stripe.Dispute,
    "event": stripe.Event,
    "invoice": stripe.Invoice,
    "invoice_payment": stripe.InvoicePayment,
    "item": stripe.LineItem,
    "line_item": stripe.InvoiceLineItem,
    "payment_intent": stripe.PaymentIntent,
    "plan": stripe.Plan,
    "price": stripe.Price,
    "product": stripe.Product,
    "refund": stripe.Refund,
    "subscription": stripe.Subscription,
    "subscription_item": stripe.SubscriptionItem,
    "webhook_endpoint": stripe.WebhookEndpoint,
}
ON_DEMAND: dict[str, set[str]] = {
    "charge": {"level3", "refunds", "transfer"},
    "checkout.session": {"line_items"},
    "coupon": {"applies_to", "currency_options", "deleted"},
    "customer": {
        *("cash_balance", "deleted", "invoice_credit_balance", "sources"),
        *("subscriptions", "tax", "tax_ids"),
    },
    "discount": {"deleted"},
    "dispute": {"intended_submission_method"},
    "event": {"account", "context"},
    "invoice": {"amount_paid_off_stripe", "confirmation_secret", "deleted", "payments"},
    "item": {"discounts", "taxes"},
    "plan": {"deleted", "tiers"},
    "price": {"currency_options", "deleted", "tiers"},
    "product": {"deleted"},
    "refund": {
        *("description", "failure_balance_transaction", "failure_reason"),
        *("instructions_email", "next_action"),
    },
    "subscription_item": {"deleted"},
    "webhook_endpoint": {"deleted", "secret"},
}
"""Fields Stripe sends only when asked to expand them, or in states such an object is not in."""


def problems(data: dict[str, Any]) -> list[str]:
    """Return what is wrong with an API object: missing, unknown and ill-typed fields."""
    kind = data["object"]
    if kind == "list":
        return [found for member in data["data"] for found in problems(member)]
    return _object(data, CLASSES[kind], kind)


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
    kind = str(data.get("object"))
    whole = set(hints) if kind in CLASSES else set()  # embedded ones too
    absent = whole - set(data) - ON_DEMAND.get(kind, set())
    found = [f"{path}.{name}: absent" for name in sorted(absent)]
    found += [f"{path}.{name}: unknown" for name in sorted(set(data) - set(hints))]
    for name, hint in hints.items():
        if name in data:
            found += _value(data[name], hint, f"{path}.{name}")
        elif name not in absent and type(None) not in typing.get_args(hint):
            found.append(f"{path}.{name}: required")
    return found


def _value(value: Any, hint: Any, path: str) -> list[str]:  # noqa: PLR0911 - one return a kind
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, (typing.ForwardRef, str)):
        name = hint if isinstance(hint, str) else hint.__forward_arg__
        return _value(value, getattr(stripe, name, Any), path)
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
