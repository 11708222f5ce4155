"""Reading the transformed template, and what it is compared with."""

import json
import re
from pathlib import Path
from typing import Any

from local.intrinsics import Resolver
from tools.programs import ROOT

REQUIRED = {"SupabaseUrl": "https://project.invalid", "FrontendUrl": "https://app.invalid"}
EVERYTHING_ON = REQUIRED | {
    "SentryEnabled": "true",
    "SupabaseJwtAlgorithm": "HS256",
    "UpstashRedisRestUrl": "https://redis.invalid",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
}
FOLDERS = {
    "CreateCheckoutFunction": "create_checkout",
    "StripeWebhookFunction": "stripe_webhook",
    "CreateGenerationFunction": "create_generation",
    "BabyseaCallbackFunction": "babysea_callback",
    "SettleGenerationFunction": "settle_generation",
    "GetStatusFunction": "get_status",
    "ManageAccountFunction": "manage_account",
    "RecoverySweepFunction": "recovery_sweep",
    "CleanUpFunction": "clean_up",
}
ROUTES = {
    "CreateCheckoutFunction": {
        "POST /checkout",
        "GET /checkout/{session_id}",
        "GET /catalog",
        "POST /billing-portal",
    },
    "StripeWebhookFunction": {"POST /webhooks/stripe"},
    "CreateGenerationFunction": {
        "POST /generations",
        "GET /models",
        "POST /estimates",
        "POST /generations/{id}/cancel",
        "POST /uploads",
    },
    "BabyseaCallbackFunction": {"POST /webhooks/babysea"},
    "GetStatusFunction": {
        "GET /generations",
        "GET /generations/{id}",
        "GET /generations/{id}/events",
        "GET /account",
        "GET /account/ledger",
    },
    "ManageAccountFunction": {
        "PATCH /account",
        "GET /alerts",
        "GET /uploads",
        "DELETE /uploads/{id}",
        "DELETE /generations/{id}",
        "POST /admin/adjustments",
    },
}


def of_type(cloudformation: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Return the properties of all resources of one type by logical id."""
    return {
        name: resource["Properties"]
        for name, resource in cloudformation["Resources"].items()
        if resource["Type"] == kind
    }


def resolved(cloudformation: dict[str, Any], value: Any, parameters: dict[str, str]) -> Any:
    """Return `value` with its intrinsic functions evaluated; the settle queue has a URL."""
    queue = {"SettleQueue": "https://sqs.invalid/123456789012/SettleQueue"}
    return Resolver(cloudformation, parameters, queue)(value)


def environment(
    cloudformation: dict[str, Any], function: str, parameters: dict[str, str] | None = None
) -> dict[str, str]:
    """Return the environment variables of one function."""
    properties = cloudformation["Resources"][function]["Properties"]
    variables: dict[str, str] = resolved(
        cloudformation, properties["Environment"]["Variables"], parameters or REQUIRED
    )
    return variables


def statements(
    cloudformation: dict[str, Any], function: str, parameters: dict[str, str]
) -> list[dict[str, Any]]:
    """Return the policy statements of one function's role, actions and resources as lists."""
    role = cloudformation["Resources"][function]["Properties"]["Role"]["Fn::GetAtt"][0]
    policies = cloudformation["Resources"][role]["Properties"]["Policies"]
    found = [s for p in policies for s in p["PolicyDocument"]["Statement"]]
    return [
        {
            "Effect": s["Effect"],
            "Action": _as_list(s["Action"]),
            "Resource": _as_list(resolved(cloudformation, s["Resource"], parameters)),
        }
        for s in found
    ]


def routes(cloudformation: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return route key -> (logical id of its function, its integration), from the API's OpenAPI body."""
    body = of_type(cloudformation, "AWS::ApiGatewayV2::Api")["HttpApi"]["Body"]
    found = {}
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            if method == "options":
                continue
            integration = operation["x-amazon-apigateway-integration"]
            target = re.search(r"\$\{(\w+)\.Arn\}", integration["uri"]["Fn::Sub"])
            assert target
            found[f"{method.upper()} {path}"] = (target[1], integration)
    return found


def event_files() -> list[Path]:
    """Return every sample event."""
    return sorted((ROOT / "events").glob("*.json"))


def read_event(path: Path) -> dict[str, Any]:
    """Return one sample event."""
    event: dict[str, Any] = json.loads(path.read_text())
    return event


def _as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
