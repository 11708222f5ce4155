"""Each function: its settings, its secrets, its rights, its logs and its limits."""

import re
from typing import Any

import pytest

from holdfast import config
from tests.template.support import (
    EVERYTHING_ON,
    FOLDERS,
    REQUIRED,
    environment,
    of_type,
    resolved,
    statements,
)
from tools.programs import ROOT
from tools.transform import read_template

COMMON = (
    "STAGE POWERTOOLS_SERVICE_NAME POWERTOOLS_METRICS_NAMESPACE POWERTOOLS_LOG_LEVEL"
    " SENTRY_DSN_FROM DATABASE_URL_FROM"
)
USERS = "SUPABASE_URL SUPABASE_JWT_ALGORITHM SUPABASE_JWT_SECRET_FROM"
REDIS = "UPSTASH_REDIS_REST_URL UPSTASH_REDIS_REST_TOKEN_FROM REQUESTS_PER_MINUTE"
OWN = {
    "CreateCheckoutFunction": f"{USERS} {REDIS} FRONTEND_URL STRIPE_API_KEY_FROM STRIPE_API_BASE"
    " CHECKOUTS_PER_HOUR",
    "StripeWebhookFunction": "STRIPE_WEBHOOK_SECRET_FROM STRIPE_LIVEMODE STRIPE_API_KEY_FROM"
    " STRIPE_API_BASE",
    "CreateGenerationFunction": f"{USERS} {REDIS} SUPABASE_SECRET_KEY_FROM BABYSEA_API_KEY_FROM"
    " BABYSEA_BASE_URL MAX_ACTIVE_GENERATIONS GENERATIONS_PER_HOUR SETTLE_QUEUE_URL"
    " DAILY_SPEND_CREDITS PRICE_MARKUP PRICE_MINIMUM_CREDITS",
    "BabyseaCallbackFunction": "BABYSEA_WEBHOOK_SECRET_FROM SETTLE_QUEUE_URL",
    "SettleGenerationFunction": "SUPABASE_URL SUPABASE_SECRET_KEY_FROM OUTPUT_ORIGINS"
    " MAX_OUTPUT_BYTES",
    "GetStatusFunction": f"{USERS} SUPABASE_SECRET_KEY_FROM SIGNED_URL_SECONDS",
    "RecoverySweepFunction": "BABYSEA_API_KEY_FROM BABYSEA_BASE_URL SETTLE_QUEUE_URL"
    " SWEEP_AFTER_SECONDS DEADLINE_IMAGE_SECONDS DEADLINE_VIDEO_SECONDS GIVE_UP_AFTER_SECONDS"
    " EVENT_BUS_NAME STRIPE_API_KEY_FROM STRIPE_API_BASE RECONCILE_EVERY_SECONDS",
    "ManageAccountFunction": f"{USERS} {REDIS} SUPABASE_SECRET_KEY_FROM SIGNED_URL_SECONDS",
    "CleanUpFunction": "SUPABASE_URL SUPABASE_SECRET_KEY_FROM UPLOAD_RETENTION_DAYS"
    " EVENT_RETENTION_DAYS",
}
SETTINGS: dict[str, type[config.Settings]] = {
    "CreateCheckoutFunction": config.CreateCheckoutSettings,
    "StripeWebhookFunction": config.StripeWebhookSettings,
    "CreateGenerationFunction": config.CreateGenerationSettings,
    "BabyseaCallbackFunction": config.BabyseaCallbackSettings,
    "SettleGenerationFunction": config.SettleGenerationSettings,
    "GetStatusFunction": config.GetStatusSettings,
    "RecoverySweepFunction": config.RecoverySweepSettings,
    "ManageAccountFunction": config.ManageAccountSettings,
    "CleanUpFunction": config.CleanUpSettings,
}
SECRET_VALUES = {
    "DATABASE_URL": "postgresql://user@localhost/db",
    "STRIPE_WEBHOOK_SECRET": "whsec_0123456789abcdef",
    "BABYSEA_WEBHOOK_SECRET": "whsec_0123456789abcdef",
    "SUPABASE_JWT_SECRET": "0123456789abcdef0123456789abcdef",
}
SECRET_SHAPES = re.compile(
    r"sk_(live|test)_|rk_(live|test)_|pk_live_|whsec_|bye_|sb_secret_|eyJ[\w-]{10}|AKIA[A-Z0-9]{16}"
    r"|postgres(ql)?://[^/\s]*:[^/\s]*@|https://[0-9a-f]{16,}@"
)
each_function = pytest.mark.parametrize("function", sorted(FOLDERS))


def test_functions_are_all_there(functions: dict[str, dict[str, Any]]) -> None:
    """The template has every function, one folder each."""
    sources = {
        name: resource["Properties"]["CodeUri"]
        for name, resource in read_template()["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert sources == {name: f"functions/{folder}/" for name, folder in FOLDERS.items()}
    assert functions.keys() == FOLDERS.keys()


@each_function
def test_runtime(functions: dict[str, dict[str, Any]], function: str) -> None:
    """A function runs app.handler on Python 3.13 with the one layer, on the processor of the parameter."""
    properties = functions[function]
    assert (properties["Runtime"], properties["Handler"]) == ("python3.13", "app.handler")
    assert properties["Architectures"] == [{"Ref": "Architecture"}]
    assert len(properties["Layers"]) == 1
    assert 512 <= properties["MemorySize"] <= 1024


@each_function
def test_log_group(
    cloudformation: dict[str, Any], functions: dict[str, dict[str, Any]], function: str
) -> None:
    """A function logs to a log group of this stack, which deletes old lines."""
    group = functions[function]["LoggingConfig"]["LogGroup"]["Ref"]
    properties = of_type(cloudformation, "AWS::Logs::LogGroup")[group]
    assert properties["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert cloudformation["Parameters"]["LogRetentionDays"]["Default"] > 0
    name = resolved(cloudformation, properties["LogGroupName"], REQUIRED)
    assert name == f"/aws/lambda/local-{FOLDERS[function].replace('_', '-')}"


def test_log_groups_are_not_shared(functions: dict[str, dict[str, Any]]) -> None:
    """No two functions write to the same log group."""
    groups = [f["LoggingConfig"]["LogGroup"]["Ref"] for f in functions.values()]
    assert len(set(groups)) == len(FOLDERS)


@each_function
def test_environment_names(cloudformation: dict[str, Any], function: str) -> None:
    """A function gets exactly the settings it uses."""
    expected = set(f"{COMMON} {OWN[function]}".split())
    assert set(environment(cloudformation, function)) == expected


@each_function
def test_environment_fits_the_settings_class(cloudformation: dict[str, Any], function: str) -> None:
    """What the template sets is what the function's settings class reads, no more and no less."""
    fields = SETTINGS[function].model_fields
    secrets = {name for name, field in fields.items() if config._is_secret(field)}
    read = {f"{n.upper()}_FROM" if n in secrets else n.upper() for n in fields}
    powertools = {n for n in COMMON.split() if n.startswith("POWERTOOLS_")}
    assert set(environment(cloudformation, function)) == read | powertools


@each_function
@pytest.mark.parametrize("parameters", [REQUIRED, EVERYTHING_ON], ids=["plain", "everything"])
def test_environment_makes_settings(
    cloudformation: dict[str, Any], function: str, parameters: dict[str, str]
) -> None:
    """With its secrets at hand a function accepts the template's values, and defaults agree with its own."""
    values = environment(cloudformation, function, parameters)
    given = {
        name.removesuffix("_FROM"): SECRET_VALUES.get(name.removesuffix("_FROM"), "a-value")
        for name, value in values.items()
        if name.endswith("_FROM") and value
    }
    settings = config.load(SETTINGS[function], values | given)
    chosen = {"supabase_jwt_algorithm", "upstash_redis_rest_url"}  # differ in EVERYTHING_ON
    for name, field in SETTINGS[function].model_fields.items():
        if name.upper() in values and not field.is_required() and name not in chosen:
            assert getattr(settings, name) == field.default, name


@each_function
def test_service_name(cloudformation: dict[str, Any], function: str) -> None:
    """Logs and metrics name the function's folder."""
    assert environment(cloudformation, function)["POWERTOOLS_SERVICE_NAME"] == FOLDERS[function]


def test_no_literal_secret() -> None:
    """Neither the template nor the CLI's settings hold anything that looks like a secret."""
    for name in ("template.yaml", "samconfig.toml"):
        assert not SECRET_SHAPES.search((ROOT / name).read_text()), name


@pytest.mark.parametrize(
    "text",
    ["sk_live_1", "whsec_abc", "bye_abc", "postgresql://u:p@h/db", "eyJhbGciOiJIUzI1NiJ9.x.y"],
)
def test_secret_shapes_are_recognised(text: str) -> None:
    """The search for literal secrets finds each kind that the product has."""
    assert SECRET_SHAPES.search(text)


@each_function
def test_secrets_come_by_name(cloudformation: dict[str, Any], function: str) -> None:
    """Each secret is named by an id under the deployment's prefix, in kebab case."""
    values = environment(cloudformation, function, EVERYTHING_ON)
    ids = {name: value for name, value in values.items() if name.endswith("_FROM")}
    for name, value in ids.items():
        kebab = name.removesuffix("_FROM").lower().replace("_", "-")
        assert value == f"holdfast/dev/{kebab}"
    telling = re.compile(r"(SECRET|TOKEN|KEY|PASSWORD|DSN|DATABASE_URL)$")
    assert not [name for name in values if telling.search(name)]


@each_function
@pytest.mark.parametrize("parameters", [REQUIRED, EVERYTHING_ON], ids=["plain", "everything"])
def test_reads_only_its_own_secrets(
    cloudformation: dict[str, Any], function: str, parameters: dict[str, str]
) -> None:
    """A function may read the secrets that its environment names, and no other."""
    values = environment(cloudformation, function, parameters)
    named = {value for name, value in values.items() if name.endswith("_FROM") and value}
    allowed = {
        resource
        for statement in statements(cloudformation, function, parameters)
        if statement["Action"] == ["secretsmanager:GetSecretValue"]
        for resource in statement["Resource"]
    }
    prefix = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
    assert allowed == {f"{prefix}{secret}-??????" for secret in named}


@each_function
def test_rights_are_no_more_than_needed(cloudformation: dict[str, Any], function: str) -> None:
    """Apart from its secrets a function may only use the settle queue and the event bus, as it needs."""
    rights = {
        (action, resource)
        for statement in statements(cloudformation, function, EVERYTHING_ON)
        for action in statement["Action"]
        for resource in statement["Resource"]
        if action != "secretsmanager:GetSecretValue"
    }
    queue = "arn:aws:sqs:eu-central-1:123456789012:SettleQueue"
    expected = set()
    if "SETTLE_QUEUE_URL" in environment(cloudformation, function):
        expected = {("sqs:SendMessage", queue)}
    if function == "SettleGenerationFunction":
        poll = ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes")
        expected = {(f"sqs:{action}", queue) for action in poll}
    if function == "RecoverySweepFunction":
        bus = "arn:aws:events:eu-central-1:123456789012:event-bus/default"
        expected.add(("events:PutEvents", bus))
    assert rights == expected


def test_no_wildcards_in_policies(cloudformation: dict[str, Any]) -> None:
    """No policy allows `*`, and the only managed policy is the one that lets a function log."""
    for name, role in of_type(cloudformation, "AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                assert "*" not in str(statement["Action"]), name
                assert "*" not in str(statement["Resource"]), name
        managed = resolved(cloudformation, role.get("ManagedPolicyArns", []), REQUIRED)
        assert all(arn.endswith("/AWSLambdaBasicExecutionRole") for arn in managed), name


def test_timeouts_fit_their_callers(functions: dict[str, dict[str, Any]]) -> None:
    """A function gives up before whoever waits for it does."""
    timeout = {name: f["Timeout"] for name, f in functions.items()}
    assert timeout["BabyseaCallbackFunction"] <= 10
    assert timeout["StripeWebhookFunction"] <= 15
    assert timeout["RecoverySweepFunction"] < 60
    assert max(t for name, t in timeout.items() if not re.search("Settle|Sweep|CleanUp", name)) < 30


def test_no_reserved_concurrency(functions: dict[str, dict[str, Any]]) -> None:
    """Nothing is taken from the account's concurrency unless somebody decides so."""
    assert not [n for n, f in functions.items() if "ReservedConcurrentExecutions" in f]
