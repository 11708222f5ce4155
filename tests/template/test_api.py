"""The HTTP API: its routes, CORS, limits and access log."""

import json
import re
from typing import Any

from tests.template.support import REQUIRED, ROUTES, of_type, resolved, routes


def test_routes(cloudformation: dict[str, Any]) -> None:
    """Every route of the design leads to its function, and there is no other route."""
    found = routes(cloudformation)
    assert {key: function for key, (function, _) in found.items()} == {
        key: function for function, keys in ROUTES.items() for key in keys
    }


def test_payload_format(cloudformation: dict[str, Any]) -> None:
    """Every route sends payload format 2.0 to its function."""
    for key, (_, integration) in routes(cloudformation).items():
        assert integration["payloadFormatVersion"] == "2.0", key
        assert integration["type"] == "aws_proxy", key


def test_default_stage(cloudformation: dict[str, Any]) -> None:
    """The stage is $default, so that no path starts with a stage's name."""
    (stage,) = of_type(cloudformation, "AWS::ApiGatewayV2::Stage").values()
    assert stage["StageName"] == "$default"
    assert stage["AutoDeploy"] is True


def test_cors(cloudformation: dict[str, Any]) -> None:
    """Only the frontend's origin may call from a browser, with a token and an idempotency key."""
    api = of_type(cloudformation, "AWS::ApiGatewayV2::Api")["HttpApi"]
    cors = api["Body"]["x-amazon-apigateway-cors"]
    assert resolved(cloudformation, cors["allowOrigins"], REQUIRED) == [REQUIRED["FrontendUrl"]]
    assert {"authorization", "content-type", "idempotency-key"} <= set(cors["allowHeaders"])
    assert set(cors["allowMethods"]) == {key.split()[0] for key in routes(cloudformation)}
    assert not cors.get("allowCredentials")


def test_throttling(cloudformation: dict[str, Any]) -> None:
    """All routes are throttled, and webhooks do not share the users' bucket."""
    (stage,) = of_type(cloudformation, "AWS::ApiGatewayV2::Stage").values()
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] > 0
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] > 0
    webhooks = {key for key in routes(cloudformation) if "/webhooks/" in key}
    assert stage["RouteSettings"].keys() == webhooks


def test_access_log(cloudformation: dict[str, Any]) -> None:
    """The access log is JSON on one line, in a group with retention, and holds no path, query or token."""
    (stage,) = of_type(cloudformation, "AWS::ApiGatewayV2::Stage").values()
    settings = stage["AccessLogSettings"]
    group = of_type(cloudformation, "AWS::Logs::LogGroup")[
        settings["DestinationArn"]["Fn::GetAtt"][0]
    ]
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    fields = json.loads(settings["Format"])
    assert "\n" not in settings["Format"]
    assert fields["requestId"] == "$context.requestId"
    assert not re.search(r"path|query|authorizer|header", " ".join(fields.values()), re.IGNORECASE)


def test_outputs(cloudformation: dict[str, Any]) -> None:
    """The stack tells the API's URL, the two webhook URLs and the queues' names."""
    outputs = cloudformation["Outputs"]
    assert outputs.keys() == {
        "ApiUrl",
        "StripeWebhookUrl",
        "BabyseaWebhookUrl",
        "SettleQueueName",
        "SettleDeadLetterQueueName",
    }
    for sender in ("Stripe", "Babysea"):
        url = resolved(cloudformation, outputs[f"{sender}WebhookUrl"]["Value"], REQUIRED)
        assert url == (
            "https://HttpApi.execute-api.eu-central-1.amazonaws.com/webhooks/" + sender.lower()
        )
