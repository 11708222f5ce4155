"""
The settings of each function, read once from its environment and checked before it serves anything.

A function names exactly what it needs (`load(CreateCheckoutSettings)`). A secret `NAME` comes from
the variable `NAME`, or from the Secrets Manager entry whose id is in `NAME_FROM`. Messages name the
setting and never show its value.
"""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

SECRET_CACHE_SECONDS = 300
"""Powertools' cache. Settings are read once per execution environment: new ones notice a rotation."""

_SHORTEST_REDACTED = 8  # blanking shorter texts would make logs unreadable and hide nothing
_SHORTEST_WEBHOOK_SECRET = 16
_SHORTEST_JWT_SECRET = 32

_known_secrets: set[str] = set()


def known_secrets() -> frozenset[str]:
    """Return every secret value loaded so far: the logs blank them."""
    return frozenset(_known_secrets)


def is_loopback(host: str | None) -> bool:
    """Say whether `host` is this machine, by name or by address."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def origin_of(url: str) -> str:
    """
    Return scheme, host and port of `url` as one text, the default port left out.

    Raises `ValueError` unless it is https (http on loopback) without user information.
    """
    parts = urlsplit(url)
    host = parts.hostname
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("must be an https URL")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must be https (http only on loopback)")
    if "@" in parts.netloc:
        raise ValueError("must not contain user information")
    port = parts.port
    shown = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, default) else "")


def _base_url(url: str) -> str:
    origin_of(url)
    if urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError("must have no query and no fragment")
    return url.rstrip("/")


def _origin(url: str) -> str:
    if urlsplit(url).path not in ("", "/") or urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError("must be an origin: scheme, host and port only")
    return origin_of(url)


def _database_url(secret: SecretStr) -> SecretStr:
    parts = urlsplit(secret.get_secret_value())
    query = parse_qs(parts.query)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("must be a postgresql:// URL")
    local = parts.hostname is None or is_loopback(parts.hostname)
    encrypted = {"require", "verify-ca", "verify-full"}
    if not local and query.get("sslmode", [""])[-1] not in encrypted:
        raise ValueError("must set sslmode=verify-full (or require) for a remote database")
    _remember(unquote(parts.password or ""))
    return secret


def _webhook_secrets(secret: SecretStr) -> SecretStr:
    for one in split_secrets(secret):
        if not one.startswith("whsec_") or len(one) < _SHORTEST_WEBHOOK_SECRET:
            raise ValueError(
                f"must start with whsec_ and have at least {_SHORTEST_WEBHOOK_SECRET} characters"
            )
        _remember(one)
    return secret


def _jwt_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < _SHORTEST_JWT_SECRET:
        raise ValueError(f"must have at least {_SHORTEST_JWT_SECRET} characters")
    return secret


def split_secrets(secret: SecretStr) -> tuple[str, ...]:
    """Return the one secret, or the new and the old one written with a comma in between."""
    return tuple(part.strip() for part in secret.get_secret_value().split(","))


def _split_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


BaseUrl = Annotated[str, AfterValidator(_base_url)]
Origin = Annotated[str, AfterValidator(_origin)]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(_split_commas), Field(min_length=1)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
WebhookSecrets = Annotated[SecretStr, AfterValidator(_webhook_secrets)]
JwtSecret = Annotated[SecretStr, AfterValidator(_jwt_secret)]
PositiveInt = Annotated[int, Field(gt=0)]
Credits = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=3)]


class Settings(BaseModel):
    """What every function has. The names are those of the environment, in lower case."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    stage: str
    database_url: DatabaseUrl
    sentry_dsn: SecretStr | None = None


S = TypeVar("S", bound=Settings)


class UserTokens(Settings):
    """What it takes to verify a user's access token."""

    supabase_url: BaseUrl
    supabase_jwt_algorithm: Literal["ES256", "RS256", "HS256"] = "ES256"
    supabase_jwt_secret: JwtSecret | None = None

    @model_validator(mode="after")
    def _shared_secret_needed(self) -> Self:
        if self.supabase_jwt_algorithm == "HS256" and self.supabase_jwt_secret is None:
            raise ValueError("SUPABASE_JWT_SECRET is needed with SUPABASE_JWT_ALGORITHM=HS256")
        return self


class Storage(Settings):
    """What it takes to sign, read and write stored files."""

    supabase_url: BaseUrl
    supabase_secret_key: SecretStr


class StripeApi(Settings):
    """What it takes to call Stripe; no base means Stripe itself."""

    stripe_api_key: SecretStr
    stripe_api_base: BaseUrl | None = None


class BabySeaApi(Settings):
    """What it takes to call BabySea."""

    babysea_api_key: SecretStr
    babysea_base_url: BaseUrl


class RateLimit(Settings):
    """The per-user limit; without Redis it is off and the database's hourly count remains."""

    upstash_redis_rest_url: BaseUrl | None = None
    upstash_redis_rest_token: SecretStr | None = None
    requests_per_minute: PositiveInt = 60

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.upstash_redis_rest_url is None) != (self.upstash_redis_rest_token is None):
            raise ValueError("UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN go together")
        return self


class SettleQueueAccess(Settings):
    """Where settlements are queued."""

    settle_queue_url: BaseUrl


class CreateCheckoutSettings(UserTokens, StripeApi, RateLimit):
    """Settings of `create_checkout`."""

    frontend_url: Origin
    checkouts_per_hour: PositiveInt = 20


class StripeWebhookSettings(StripeApi):
    """Settings of `stripe_webhook`."""

    stripe_webhook_secret: WebhookSecrets
    stripe_livemode: bool = False

    @property
    def stripe_webhook_secrets(self) -> tuple[str, ...]:
        """The secret, or both during a rotation."""
        return split_secrets(self.stripe_webhook_secret)


class CreateGenerationSettings(UserTokens, Storage, BabySeaApi, RateLimit, SettleQueueAccess):
    """Settings of `create_generation`."""

    max_active_generations: PositiveInt = 5
    generations_per_hour: PositiveInt = 60
    daily_spend_credits: Credits = Decimal(0)
    price_markup: Annotated[Decimal, Field(gt=0, le=100, decimal_places=4)] = Decimal(1)
    price_minimum_credits: Credits = Decimal(0)


class BabyseaCallbackSettings(SettleQueueAccess):
    """Settings of `babysea_callback`."""

    babysea_webhook_secret: WebhookSecrets

    @property
    def babysea_webhook_secrets(self) -> tuple[str, ...]:
        """The secret, or both during a rotation."""
        return split_secrets(self.babysea_webhook_secret)


class SettleGenerationSettings(Storage):
    """Settings of `settle_generation`."""

    output_origins: Origins = (
        "https://app.us.babysea.ai",
        "https://app.eu.babysea.ai",
        "https://app.jp.babysea.ai",
        "https://app.babysea.ai",
    )
    max_output_bytes: PositiveInt = 52_428_800


class SignedUrls(Storage):
    """How long a signed URL works."""

    signed_url_seconds: Annotated[int, Field(gt=0, le=3600)] = 600


class GetStatusSettings(UserTokens, SignedUrls):
    """Settings of `get_status`."""


class ManageAccountSettings(UserTokens, SignedUrls, RateLimit):
    """Settings of `manage_account`."""


class RecoverySweepSettings(BabySeaApi, SettleQueueAccess, StripeApi):
    """Settings of `recovery_sweep`."""

    reconcile_every_seconds: PositiveInt = 900
    sweep_after_seconds: PositiveInt = 120
    deadline_image_seconds: PositiveInt = 210
    deadline_video_seconds: PositiveInt = 790
    give_up_after_seconds: PositiveInt = 259_200
    event_bus_name: str = "default"


class CleanUpSettings(Storage):
    """Settings of `clean_up`."""

    upload_retention_days: PositiveInt = 30
    event_retention_days: Annotated[int, Field(ge=31)] = 90
    """Stripe may repeat an event for 30 days: it must be known as seen until then."""


def load(settings_class: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """
    Return the settings of one function, read from `environment`.

    Raises `ConfigurationError` naming every missing or unacceptable variable.
    """
    values: dict[str, Any] = {}
    for name, field in settings_class.model_fields.items():
        read = _read_secret if _is_secret(field) else _read_plain
        value = read(name.upper(), environment)
        if value is not None:
            values[name] = value
        elif field.is_required():
            raise ConfigurationError(f"{name.upper()} is missing or empty")
    try:
        return settings_class(**values)
    except ValidationError as invalid:
        problems = "; ".join(_explain(error) for error in invalid.errors(include_input=False))
    # Outside the handler: pydantic's own error is not kept as a context, it may hold values.
    raise ConfigurationError(problems)


def _explain(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    return " ".join([*(str(part).upper() for part in error["loc"][:1]), message])


def _is_secret(field: FieldInfo) -> bool:
    return _mentions_secret(field.annotation)


def _mentions_secret(annotation: object) -> bool:
    """Say whether a type is a secret, also inside `Annotated` and `| None`."""
    return annotation is SecretStr or any(_mentions_secret(part) for part in get_args(annotation))


def _read_plain(name: str, environment: Mapping[str, str]) -> str | None:
    return environment.get(name, "").strip() or None


def _read_secret(name: str, environment: Mapping[str, str]) -> str | None:
    value = environment.get(name, "").strip()
    if not value and (secret_id := environment.get(f"{name}_FROM", "").strip()):
        value = _fetch(name, secret_id)
        if not value:
            raise ConfigurationError(f"{name} is empty in its secret")
    if not value:
        return None
    _remember(value)
    return value


def _remember(value: str) -> None:
    if len(value) >= _SHORTEST_REDACTED:
        _known_secrets.add(value)


def _fetch(name: str, secret_id: str) -> str:
    from aws_lambda_powertools.utilities.parameters.exceptions import (  # noqa: PLC0415 - see below
        GetParameterError,
    )

    try:
        value = _secrets_manager().get(secret_id, max_age=SECRET_CACHE_SECONDS)
    except GetParameterError as failed:
        raise ConfigurationError(f"{name} cannot be read from its secret") from failed
    return value.strip() if isinstance(value, str) else ""


@cache
def _secrets_manager() -> SecretsProvider:
    """Import boto3 here: runs that find their secrets in the environment do not pay for it."""
    from aws_lambda_powertools.utilities.parameters import (  # noqa: PLC0415
        SecretsProvider,
    )
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415

    # At DEBUG, which the stage's log level may be, it writes out every answer, secrets and all.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    return SecretsProvider(
        boto_config=Config(
            connect_timeout=2, read_timeout=3, retries={"mode": "standard", "max_attempts": 3}
        )
    )
