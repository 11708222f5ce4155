"""
Write docs/openapi.json: what the functions themselves say of their routes, merged into one document.

    python -m tools.openapi           # write
    python -m tools.openapi --check   # fail when the file is out of date
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "openapi.json"
FUNCTIONS = ("create_checkout", "create_generation", "get_status", "manage_account")
"""Those with routes for clients. The webhooks' formats are Stripe's and BabySea's to document."""

PUBLIC = {("/catalog", "get"), ("/models", "get")}

# Enough for the settings to be accepted; nothing is called.
ENVIRONMENT = {
    "STAGE": "docs",
    "DATABASE_URL": "postgresql://docs@127.0.0.1/docs",
    "SUPABASE_URL": "http://127.0.0.1:1",
    "SUPABASE_SECRET_KEY": "docs",
    "FRONTEND_URL": "http://127.0.0.1:1",
    "STRIPE_API_KEY": "docs",
    "BABYSEA_API_KEY": "docs",
    "BABYSEA_BASE_URL": "http://127.0.0.1:1",
    "SETTLE_QUEUE_URL": "http://127.0.0.1:1",
    "POWERTOOLS_METRICS_NAMESPACE": "docs",
}

_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `code` is stable, `request_id` is what to ask us about.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "cost_credits": {"type": "string"},
        "available_credits": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "message"],
                "properties": {
                    "field": {"type": "string"},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
    },
}


def document() -> dict[str, Any]:
    """Return the merged OpenAPI document."""
    merged: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast",
            "version": "1",
            "description": "Generated media on prepaid credits. Amounts of credits are text with three decimals.",
        },
        "paths": {},
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {
                "user": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The user's Supabase access token.",
                }
            },
        },
    }
    for name in FUNCTIONS:
        part = _schema_of(name)
        for path, methods in part["paths"].items():
            merged["paths"].setdefault(path, {}).update(methods)
        merged["components"]["schemas"] |= part.get("components", {}).get("schemas", {})
    for path, methods in merged["paths"].items():
        for method, operation in methods.items():
            _complete(operation, is_public=(path, method) in PUBLIC)
    for unused in ("HTTPValidationError", "ValidationError", "ResponseValidationError"):
        merged["components"]["schemas"].pop(unused, None)
    return merged


def _complete(operation: dict[str, Any], *, is_public: bool) -> None:
    """Replace Powertools' own error answers by ours."""
    if not is_public:
        operation["security"] = [{"user": []}]
    answers = {code: answer for code, answer in operation["responses"].items() if code < "400"}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers["default"] = {"description": "Refused or failed", "content": problem}
    operation["responses"] = answers


def _schema_of(name: str) -> dict[str, Any]:
    os.environ.update(ENVIRONMENT | {"POWERTOOLS_SERVICE_NAME": name})
    path = ROOT / "functions" / name / "app.py"
    spec = importlib.util.spec_from_file_location(f"functions.{name}.app", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks a route's annotations up there
    spec.loader.exec_module(module)
    schema: dict[str, Any] = json.loads(module.app.get_openapi_json_schema())
    for methods in schema["paths"].values():
        for operation in methods.values():
            function = re.sub("([A-Z])", r"_\1", operation["operationId"]).lower()
            operation["summary"] = getattr(module, function).__doc__
    return schema


def main() -> int:
    """Write the document, or compare it."""
    text = json.dumps(document(), indent=2, sort_keys=True) + "\n"
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            print("docs/openapi.json is out of date: run `make openapi`", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
