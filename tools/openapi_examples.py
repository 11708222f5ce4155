"""
Examples for docs/openapi.json: bodies from the sample events, answers made by the words below.

A schema that says `examples` itself is believed. A field that nobody named here gets what its type allows.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).resolve().parent.parent / "events"

JOB = "0b8f5c1e-0d5a-4f5e-9a57-1f0a3c2b9d10"
PICTURE = "5f0c3a52-7a0e-4d5e-8b7c-2f6f2c9f4e11"
USER = "9d3f1c77-52c4-4d55-8f6b-6f3f6f0d2a01"
SESSION = "cs_test_sample"
SIGNED = "https://project.example.com/storage/v1/object"

# by schema and field where a word alone would mislead, else by field
WORDS: dict[str, Any] = {
    "AcceptedView.status": "processing",
    "AccountView.plan": None,
    "AccountView.role": "user",
    "AccountView.welcome": "paid",
    "AdjustmentView.amount": "5.000",
    "AdjustmentView.outcome": "adjusted",
    "AlertView.available": "0.480",
    "AlertView.id": 7,
    "AlertView.type": "low_balance",
    "AssetView.url": f"{SIGNED}/sign/uploads/{USER}/{PICTURE}?token=…",
    "CancelView.outcome": "canceled",
    "CancelView.status": "canceled",
    "CheckoutStatusView.interval": None,
    "CheckoutStatusView.status": "paid",
    "EntryView.available_delta": "-0.005",
    "EntryView.id": 42,
    "EntryView.reserved_delta": "0.005",
    "EntryView.type": "reserve",
    "EventView.from_status": "queued",
    "EventView.to_status": "processing",
    "GenerationTypeView.id": "photo",
    "GenerationTypeView.name": "Photo",
    "GenerationView.error": None,
    "GenerationView.fields": {"ratio": "1:1", "output_format": "png"},
    "GenerationView.status": "succeeded",
    "GrantView.amount": "10.000",
    "InsufficientCreditsProblem.available_credits": "0.001",
    "ModelView.id": "bfl/flux-schnell",
    "ModelView.prices": {"default": "0.005"},
    "OptionLimitsView.allowed": None,
    "OptionLimitsView.type": "integer",
    "PackView.id": "starter",
    "PackView.name": "Starter",
    "PlanOfferView.id": "pro",
    "PlanOfferView.name": "Pro",
    "PlanView.status": "active",
    "PortalView.url": "https://billing.example.com/p/session/sample",
    "PresetView.id": "studio",
    "PresetView.kind": "scene",
    "PresetView.name": "Studio",
    "UploadView.path": f"{USER}/{PICTURE}.png",
    "amount_minor": 1000,
    "asset_id": PICTURE,
    "available": "9.995",
    "available_after": "9.995",
    "available_credits": "9.995",
    "bytes": 204_800,
    "can_afford": True,
    "charged_credits": "0.005",
    "checkout_url": f"https://checkout.example.com/c/pay/{SESSION}",
    "content_type": "image/png",
    "cost_credits": "0.005",
    "credits": "10.000",
    "currency": "usd",
    "cursor": None,
    "daily_credits": "100.000",
    "description": None,
    "download_url": f"{SIGNED}/sign/outputs/{USER}/{JOB}/0.png?token=…&download=lighthouse.png",
    "durations": [],
    "expires_at": None,
    "finished_at": "2026-01-01T12:00:04Z",
    "generation_id": JOB,
    "generation_status": "succeeded",
    "generation_type": "photo",
    "has_billing": True,
    "id": JOB,
    "input_images_max": 0,
    "interval": "month",
    "item_id": "starter",
    "low_balance_credits": "0.500",
    "maximum": 100,
    "minimum": 1,
    "minimum_credits": "0.000",
    "model": "bfl/flux-schnell",
    "n": 0,
    "next_cursor": None,
    "options": ["seed"],
    "output_count": 1,
    "output_formats": ["png", "jpg"],
    "owed": "0.000",
    "owed_delta": "0.000",
    "pack_id": "starter",
    "plan_id": "pro",
    "price_per": "output",
    "prompt": "A lighthouse at dawn, oil on canvas",
    "ratios": ["1:1", "16:9"],
    "reason": None,
    "refunded_credits": "0.000",
    "remaining": "9.995",
    "reserved": "0.000",
    "resolutions": [],
    "session_id": SESSION,
    "source": "pack",
    "threshold": "0.500",
    "token": "…",
    "upload_url": f"{SIGNED}/upload/sign/uploads/{USER}/{PICTURE}.png?token=…",
    "url": f"{SIGNED}/sign/outputs/{USER}/{JOB}/0.png?token=…",
    "url_expires_at": "2026-01-01T12:10:05Z",
    "user_id": USER,
}
PARAMETERS: dict[str, Any] = {
    "asset_id": PICTURE,
    "generation_id": JOB,
    "idempotency_key": "b1f5d1f2-7a39-4a0e-9a2f-1f9d1c6f1d70",
    "kind": "image",
    "limit": 20,
    "session_id": SESSION,
    "status": "succeeded",
}
_BY_FORMAT = {"uuid": JOB, "date-time": "2026-01-01T12:00:00Z", "uri": "https://example.com/"}
_PLAIN: dict[str, Any] = {"integer": 1, "number": 1, "boolean": False, "null": None}
_PLACEHOLDER = re.compile(r"\{(.*?)\}")


def sample_request(method: str, path: str) -> Any | None:  # noqa: ANN401 - JSON is of any shape
    """Return the body of the sample event of a route, if it has one."""
    route = f"{method.upper()} {path}"
    for file in sorted(EVENTS.glob("http.*.json")):
        event = json.loads(file.read_text())
        if _anonymous(event["routeKey"]) == _anonymous(route) and event.get("body"):
            return json.loads(event["body"])
    return None


def example(
    schema: dict[str, Any], schemas: dict[str, Any], name: str = "", owner: str = ""
) -> Any:  # noqa: ANN401
    """Return a value of a schema; `name` is the field it is for, `owner` the schema that has the field."""
    if schema.get("examples"):
        return schema["examples"][0]
    for known in (f"{owner}.{name}", name):
        if known in WORDS:
            return WORDS[known]
    if "$ref" in schema:
        target = schema["$ref"].rsplit("/", 1)[1]
        return example(schemas[target], schemas, owner=target)
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return example(choices[0], schemas, name, owner)
    return _plain(schema, schemas, name, owner)


def _plain(schema: dict[str, Any], schemas: dict[str, Any], name: str, owner: str) -> Any:  # noqa: ANN401
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            required = schema.get("required", fields)
            return {
                field: example(part, schemas, field, owner)
                for field, part in fields.items()
                if field in required
            }
        case "array":
            return [example(schema["items"], schemas, owner=owner)]
        case "string":
            return _BY_FORMAT.get(schema.get("format", ""), name.replace("_", " ") or "text")
        case kind:
            return schema.get("minimum", schema.get("default", _PLAIN.get(str(kind))))


def word(name: str, owner: str) -> Any | None:  # noqa: ANN401 - JSON is of any shape
    """Return the word for a field of a schema, or None."""
    return WORDS.get(f"{owner}.{name}", WORDS.get(name))


def filled(text: str, owner: str) -> str | None:
    """Return a text with its placeholders as the examples of `owner` have them, or None when one is unknown."""
    if any(word(name, owner) is None for name in _PLACEHOLDER.findall(text)):
        return None
    return _PLACEHOLDER.sub(lambda match: str(word(match[1], owner)), text)


def _anonymous(route: str) -> str:
    return re.sub(r"\{.*?\}", "{}", route)
