import subprocess
import sys
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws
from pydantic import SecretStr

from holdfast import config
from holdfast.config import (
    BabyseaCallbackSettings,
    CreateCheckoutSettings,
    CreateGenerationSettings,
    GetStatusSettings,
    RecoverySweepSettings,
    Settings,
    SettleGenerationSettings,
    StripeApi,
    StripeWebhookSettings,
    is_loopback,
    known_secrets,
    load,
    origin_of,
)
from holdfast.errors import ConfigurationError

ENVIRONMENT = {
    "STAGE": "test",
    "DATABASE_URL": "postgresql://holdfast_backend:pw-of-the-role@127.0.0.1:5432/app",
    "SUPABASE_URL": "http://127.0.0.1:54321/",
    "SUPABASE_SECRET_KEY": "sb_secret_local_key",
    "FRONTEND_URL": "https://shop.example.com/",
    "STRIPE_API_KEY": "sk_test_local_key",
    "STRIPE_WEBHOOK_SECRET": "whsec_stripe_local",
    "BABYSEA_API_KEY": "bye_local_key",
    "BABYSEA_BASE_URL": "https://api.us.babysea.ai",
    "BABYSEA_WEBHOOK_SECRET": "whsec_babysea_local",
    "SETTLE_QUEUE_URL": "http://127.0.0.1:5000/123456789012/settle",
}
ALL_SETTINGS = [
    CreateCheckoutSettings,
    StripeWebhookSettings,
    CreateGenerationSettings,
    BabyseaCallbackSettings,
    SettleGenerationSettings,
    GetStatusSettings,
    RecoverySweepSettings,
]


def environment(**changes: str) -> Any:
    """Return a complete environment with some variables changed."""
    return {**ENVIRONMENT, **changes}


@pytest.mark.parametrize("settings_class", ALL_SETTINGS)
def test_a_complete_environment_is_accepted(settings_class: Any) -> None:
    """Every function starts with the environment of the template."""
    settings = load(settings_class, environment())

    assert settings.stage == "test"
    assert settings.sentry_dsn is None


def test_defaults_are_those_of_the_template() -> None:
    """What the environment does not say has the value the contract names."""
    checkout = load(
        CreateCheckoutSettings, environment(STRIPE_API_BASE="", UPSTASH_REDIS_REST_URL="")
    )
    generation = load(CreateGenerationSettings, environment())
    settle = load(SettleGenerationSettings, environment())

    assert (checkout.checkouts_per_hour, checkout.requests_per_minute) == (20, 60)
    assert (checkout.stripe_api_base, checkout.upstash_redis_rest_url) == (None, None)
    assert checkout.supabase_jwt_algorithm == "ES256"
    assert (generation.max_active_generations, generation.generations_per_hour) == (5, 60)
    assert generation.daily_spend_credits == 0
    assert (generation.price_markup, generation.price_minimum_credits) == (1, 0)
    assert settle.max_output_bytes == 52428800
    assert len(settle.output_origins) == 4
    assert load(GetStatusSettings, environment()).signed_url_seconds == 600
    assert load(RecoverySweepSettings, environment()).sweep_after_seconds == 120
    assert load(StripeWebhookSettings, environment()).stripe_livemode is False


@pytest.mark.parametrize("settings_class", ALL_SETTINGS)
def test_every_required_variable_is_missed_by_name(settings_class: Any) -> None:
    """Without any one of its required variables a function does not start, and says which."""
    required = [name for name, field in settings_class.model_fields.items() if field.is_required()]

    for name in required:
        for absent in ({}, {name.upper(): ""}, {name.upper(): "  \n"}):
            without = {k: v for k, v in ENVIRONMENT.items() if k != name.upper()}
            with pytest.raises(ConfigurationError, match=rf"^{name.upper()} is missing or empty$"):
                load(settings_class, {**without, **absent})


@pytest.mark.parametrize(
    ("settings_class", "name", "value"),
    [
        (StripeWebhookSettings, "STRIPE_WEBHOOK_SECRET", "whsec_short"),
        (StripeWebhookSettings, "STRIPE_WEBHOOK_SECRET", "a-secret-without-its-prefix"),
        (StripeWebhookSettings, "STRIPE_WEBHOOK_SECRET", "whsec_stripe_local,"),
        (StripeWebhookSettings, "STRIPE_WEBHOOK_SECRET", "whsec_stripe_local,whsec_old"),
        (BabyseaCallbackSettings, "BABYSEA_WEBHOOK_SECRET", "whsec_short"),
        (StripeWebhookSettings, "STRIPE_LIVEMODE", "perhaps"),
        (StripeWebhookSettings, "DATABASE_URL", "mysql://user:hunter2222@host/db"),
        (StripeWebhookSettings, "DATABASE_URL", "postgresql://u:hunter2222@db.example.com/x"),
        (
            StripeWebhookSettings,
            "DATABASE_URL",
            "postgresql://u:hunter2222@db.example.com/x?sslmode=prefer",
        ),
        (CreateCheckoutSettings, "SUPABASE_URL", "http://project.example.com"),
        (CreateCheckoutSettings, "SUPABASE_URL", "project.example.com"),
        (CreateCheckoutSettings, "SUPABASE_URL", "https://user:hunter2222@project.example.com"),
        (CreateCheckoutSettings, "SUPABASE_URL", "ftp://127.0.0.1"),
        (CreateCheckoutSettings, "SUPABASE_URL", "https://project.example.com?x=1"),
        (CreateCheckoutSettings, "FRONTEND_URL", "https://shop.example.com/app"),
        (CreateCheckoutSettings, "STRIPE_API_BASE", "http://stripe.example.com"),
        (CreateCheckoutSettings, "SUPABASE_JWT_ALGORITHM", "none"),
        (CreateCheckoutSettings, "CHECKOUTS_PER_HOUR", "-77"),
        (CreateCheckoutSettings, "CHECKOUTS_PER_HOUR", "many"),
        (CreateCheckoutSettings, "UPSTASH_REDIS_REST_URL", "https://redis.example.com"),
        (CreateCheckoutSettings, "UPSTASH_REDIS_REST_TOKEN", "token-of-redis"),
        (SettleGenerationSettings, "OUTPUT_ORIGINS", "https://a.example.com,http://b.example.com"),
        (SettleGenerationSettings, "OUTPUT_ORIGINS", "https://a.example.com/path"),
        (SettleGenerationSettings, "OUTPUT_ORIGINS", " , ,"),
        (SettleGenerationSettings, "MAX_OUTPUT_BYTES", "-1"),
    ],
)
def test_an_unacceptable_value_is_named_and_not_shown(
    settings_class: Any, name: str, value: str
) -> None:
    """A wrong value stops the start; the message has the variable's name and not its value."""
    with pytest.raises(ConfigurationError) as caught:
        load(settings_class, environment(**{name: value}))

    assert name in str(caught.value)
    assert value not in str(caught.value)
    assert "hunter2222" not in str(caught.value)
    assert caught.value.__context__ is None


def test_hs256_needs_its_secret() -> None:
    """A project on the legacy algorithm must bring a secret of at least 32 characters."""
    for secret in ("", "too-short"):
        with pytest.raises(ConfigurationError, match="SUPABASE_JWT_SECRET"):
            load(
                GetStatusSettings,
                environment(SUPABASE_JWT_ALGORITHM="HS256", SUPABASE_JWT_SECRET=secret),
            )
    load(
        GetStatusSettings,
        environment(SUPABASE_JWT_ALGORITHM="HS256", SUPABASE_JWT_SECRET="s" * 32),
    )


def test_values_are_normalised() -> None:
    """Surrounding blanks, trailing slashes and default ports do not survive."""
    settings = load(
        CreateCheckoutSettings,
        environment(
            STRIPE_API_KEY=" sk_test_local_key\n", FRONTEND_URL="https://Shop.example.com:443"
        ),
    )
    settle = load(
        SettleGenerationSettings,
        environment(OUTPUT_ORIGINS="https://a.example.com, http://127.0.0.1:9000/ ,"),
    )

    assert settings.stripe_api_key.get_secret_value() == "sk_test_local_key"
    assert settings.supabase_url == "http://127.0.0.1:54321"
    assert settings.frontend_url == "https://shop.example.com"
    assert settle.output_origins == ("https://a.example.com", "http://127.0.0.1:9000")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@localhost/app",
        "postgresql://u@/app?host=/tmp/pg",
        "postgres://u:p@db.example.com:6543/postgres?sslmode=verify-full",
        "postgresql://u:p@db.example.com/postgres?sslmode=require",
    ],
)
def test_database_urls_that_are_local_or_encrypted(url: Any) -> None:
    """A local database needs no TLS, a remote one must ask for it."""
    assert load(StripeWebhookSettings, environment(DATABASE_URL=url)).database_url == SecretStr(url)


def test_two_webhook_secrets_during_a_rotation() -> None:
    """The new and the old secret may stand side by side."""
    both = environment(
        STRIPE_WEBHOOK_SECRET="whsec_new_secret_1, whsec_old_secret_1",
        BABYSEA_WEBHOOK_SECRET="whsec_new_secret_2,whsec_old_secret_2",
    )

    assert load(StripeWebhookSettings, both).stripe_webhook_secrets == (
        "whsec_new_secret_1",
        "whsec_old_secret_1",
    )
    assert load(BabyseaCallbackSettings, both).babysea_webhook_secrets == (
        "whsec_new_secret_2",
        "whsec_old_secret_2",
    )
    assert {"whsec_old_secret_1", "whsec_new_secret_2"} <= known_secrets()


def test_loaded_secrets_are_known_to_the_logs_and_absent_from_the_repr() -> None:
    """Every loaded secret can be blanked later, the database's password by itself as well."""
    settings = load(CreateGenerationSettings, environment())

    assert {
        "sb_secret_local_key",
        "bye_local_key",
        "pw-of-the-role",
        ENVIRONMENT["DATABASE_URL"],
    } <= known_secrets()
    assert not any(secret in repr(settings) for secret in known_secrets())


@pytest.fixture
def _aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give boto3 what Lambda gives it, and forget the provider afterwards."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield
    config._secrets_manager.cache_clear()


@pytest.mark.usefixtures("_aws")
def test_secrets_come_from_secrets_manager() -> None:
    """NAME_FROM names the entry; its value is stripped and used."""
    boto3.client("secretsmanager").create_secret(
        Name="holdfast/dev/stripe-webhook-secret", SecretString=" whsec_from_the_manager\n"
    )

    settings = load(
        StripeWebhookSettings,
        environment(
            STRIPE_WEBHOOK_SECRET="",
            STRIPE_WEBHOOK_SECRET_FROM="holdfast/dev/stripe-webhook-secret",
        ),
    )

    assert settings.stripe_webhook_secrets == ("whsec_from_the_manager",)


@pytest.mark.usefixtures("_aws")
def test_a_secret_that_is_not_there_or_blank_stops_the_start() -> None:
    """A missing or blank entry is a configuration error, for optional secrets as well."""
    boto3.client("secretsmanager").create_secret(Name="blank", SecretString="  ")

    with pytest.raises(ConfigurationError, match=r"^STRIPE_WEBHOOK_SECRET cannot be read"):
        load(
            StripeWebhookSettings,
            environment(STRIPE_WEBHOOK_SECRET="", STRIPE_WEBHOOK_SECRET_FROM="absent"),
        )
    with pytest.raises(ConfigurationError, match=r"^SENTRY_DSN is empty in its secret$"):
        load(StripeWebhookSettings, environment(SENTRY_DSN_FROM="blank"))


def test_secrets_manager_away_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers: the environment does not start, and whoever called it tries again with a new one."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
    config._secrets_manager.cache_clear()

    with pytest.raises(ConfigurationError, match=r"^STRIPE_WEBHOOK_SECRET cannot be read"):
        load(
            StripeWebhookSettings,
            environment(STRIPE_WEBHOOK_SECRET="", STRIPE_WEBHOOK_SECRET_FROM="absent"),
        )
    config._secrets_manager.cache_clear()


def test_boto3_is_not_imported_for_secrets_in_the_environment() -> None:
    """A local run that finds its secrets in the environment does not pay for boto3."""
    code = (
        "import sys; from holdfast.config import *; load(StripeWebhookSettings);"
        "raise SystemExit('boto3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), "PYTHONPATH": "layers/shared"},
        check=False,
    )

    assert done.returncode == 0


def test_each_function_names_its_own_settings_only() -> None:
    """BabySea's webhook cannot even hold an API key; Stripe's reads states again and holds that one only."""
    assert set(StripeWebhookSettings.model_fields) == {
        *StripeApi.model_fields,
        "stripe_webhook_secret",
        "stripe_livemode",
    }
    assert set(BabyseaCallbackSettings.model_fields) == {
        *Settings.model_fields,
        "babysea_webhook_secret",
        "settle_queue_url",
    }


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_is_this_machine_only(host: Any, expected: Any) -> None:
    """Only loopback addresses and the name localhost may go without TLS."""
    assert is_loopback(host) is expected


def test_origins_are_compared_in_one_spelling() -> None:
    """Case, default port and path do not make another origin; IPv6 keeps its brackets."""
    assert origin_of("HTTPS://App.Example.com:443/x?y") == "https://app.example.com"
    assert origin_of("http://[::1]:80/x") == "http://[::1]"
    assert origin_of("https://a.example.com:8443") == "https://a.example.com:8443"
