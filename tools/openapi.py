"""
Write docs/openapi.json: what the functions themselves say of their routes, merged into one document.

    python -m tools.openapi
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import sys
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

from holdfast.errors import PayloadTooLargeError
from tools.openapi_examples import PARAMETERS, example, sample_request
from tools.openapi_problems import answers, shared
from tools.openapi_problems import schemas as problem_schemas
from tools.refusals import Refusal, Refusals, refusals

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

# In the order that a reader needs them; a route's tag is the first part of its path.
TAGS = {
    "models": "What can be generated, and for which price.",
    "estimates": "The price of a request.",
    "generations": "Generate, watch, cancel, keep.",
    "uploads": "Own pictures.",
    "account": "Balance, grants, ledger entries, settings.",
    "alerts": "Balances that fell below their threshold.",
    "catalog": "What can be bought.",
    "checkout": "Buy a pack or a plan.",
    "billing-portal": "Manage plan, cards and invoices.",
    "admin": "For users with the role `admin`.",
}

_INFO = {
    "title": "Holdfast",
    "version": "1",
    "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
    "description": (
        "Generated media on prepaid credits. Amounts of credits are text with three decimals.\n\n"
        "Every error is a problem (RFC 9457) with a stable `code`; clients must bear codes and fields they do not"
        ' know. The gateway in front answers errors of its own as `{"message": "…"}`: 404 for a route that'
        " does not exist, 413 for more than 10 MB, 429 for floods, 500 and 503 when a function does not start or"
        " answer in time."
    ),
}
_SERVER = {
    "url": "{api}",
    "variables": {
        "api": {
            "default": "https://api.example.com",
            "description": "`ApiUrl` of the stack's outputs; `make dev` prints the one of this machine.",
        }
    },
}
_USER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The user's Supabase access token.",
}


def document() -> dict[str, Any]:
    """Return the merged OpenAPI document."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    errors: set[Refusal] = set()
    for name in FUNCTIONS:
        module = _load(name)
        part: dict[str, Any] = json.loads(module.app.get_openapi_json_schema())
        schemas |= part.get("components", {}).get("schemas", {})
        for path, methods in part["paths"].items():
            for method, operation in methods.items():
                errors |= _complete(operation, module, path, method, schemas)
                paths.setdefault(path, {})[method] = operation
    for unused in ("HTTPValidationError", "ValidationError", "ResponseValidationError"):
        schemas.pop(unused, None)
    for schema in schemas.values():
        for part in schema.get("properties", {}).values():
            part.pop("title", None)  # the field's own name in capitals
    responses = shared(paths)
    tags = dict.fromkeys(_tag(path) for path in paths)
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [_SERVER],
        "tags": [
            {"name": tag, **({"description": TAGS[tag]} if tag in TAGS else {})}
            for tag in sorted(tags, key=[*TAGS, *tags].index)
        ],
        "paths": paths,
        "components": {
            "responses": responses,
            "schemas": schemas | problem_schemas(errors),
            "securitySchemes": {"user": _USER},
        },
    }


def _complete(
    operation: dict[str, Any], module: ModuleType, path: str, method: str, schemas: dict[str, Any]
) -> Refusals:
    """Add what Powertools does not know: the errors, the examples, who may call. Return the errors."""
    route = getattr(module, re.sub("([A-Z])", r"_\1", operation["operationId"]).lower())
    is_public = (path, method) in PUBLIC
    found = refusals(route, module, is_public=is_public, is_validated=_is_validated(operation))
    if "requestBody" not in operation:  # browsers send none, and nothing would read it
        found = frozenset(one for one in found if one.error is not PayloadTooLargeError)
    summary, _, more = inspect.cleandoc(route.__doc__ or "").partition("\n")
    operation["summary"] = summary
    operation.pop("description", None)
    if more:
        operation["description"] = more.strip()
    operation["tags"] = [_tag(path)]
    operation["security"] = [] if is_public else [{"user": []}]
    for parameter in operation.get("parameters", []):
        _complete_parameter(parameter)
        if parameter["in"] == "path" and "id_or_not_found" in route.__code__.co_names:
            parameter["schema"]["format"] = "uuid"
    field = _complete_body(operation, path, method, schemas)
    for status, answer in operation["responses"].items():
        _complete_answer(status, answer, schemas)
    operation["responses"] = {
        **{status: one for status, one in operation["responses"].items() if status < "400"},
        **answers(found, field),
    }
    return found


def _is_validated(operation: dict[str, Any]) -> bool:
    """Say whether Powertools can find anything wrong: any text will do for a plain part of the path."""
    return "requestBody" in operation or any(
        parameter["schema"].keys() - {"title", "type"}
        for parameter in operation.get("parameters", [])
    )


def _tag(path: str) -> str:
    return path.split("/")[1]


def _complete_parameter(parameter: dict[str, Any]) -> None:
    schema = parameter["schema"]
    schema.pop("title", None)
    if "anyOf" in schema:  # a query has no null: what may be left out is just not required
        (kind,) = (part for part in schema.pop("anyOf") if part != {"type": "null"})
        schema |= kind
    name = parameter["name"].replace("-", "_")
    if (known := PARAMETERS.get(name)) is not None:
        parameter["example"] = known


def _complete_body(
    operation: dict[str, Any], path: str, method: str, schemas: dict[str, Any]
) -> dict[str, str]:
    """Give the body its example; return what can be wrong with a field of the request."""
    if "requestBody" not in operation:
        return _out_of_bounds(operation.get("parameters", []))
    (content,) = operation["requestBody"]["content"].values()
    sample = sample_request(method, path)
    content["example"] = example(content["schema"], schemas) if sample is None else sample
    body = schemas[content["schema"]["$ref"].rsplit("/", 1)[1]]
    first = next(iter(body.get("required", body["properties"])))
    return {"field": first, "code": "missing", "message": "Field required"}


def _out_of_bounds(parameters: list[dict[str, Any]]) -> dict[str, str]:
    for parameter in parameters:
        name, schema = parameter["name"], parameter["schema"]
        if "maximum" in schema:
            message = f"Input should be less than or equal to {schema['maximum']:.0f}"
            return {"field": name, "code": "less_than_equal", "message": message}
        if "maxLength" in schema and parameter["in"] == "path":
            message = f"String should have at most {schema['maxLength']} characters"
            return {"field": name, "code": "string_too_long", "message": message}
    return {}


def _complete_answer(status: str, answer: dict[str, Any], schemas: dict[str, Any]) -> None:
    answer["description"] = HTTPStatus(int(status)).phrase
    if int(status) == HTTPStatus.NO_CONTENT:
        del answer["content"]
        return
    for content in answer["content"].values():
        content["example"] = example(content["schema"], schemas)


def _load(name: str) -> ModuleType:
    """Load a function as Lambda would, with settings that lead nowhere."""
    os.environ.update(ENVIRONMENT | {"POWERTOOLS_SERVICE_NAME": name})
    path = ROOT / "functions" / name / "app.py"
    spec = importlib.util.spec_from_file_location(f"functions.{name}.app", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks a route's annotations up there
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    TARGET.write_text(json.dumps(document(), indent=2, sort_keys=True) + "\n")
