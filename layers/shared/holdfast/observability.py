"""
The one logger, the one set of metrics, and what must never appear in either.

They are made on first use, so importing this module reads no environment. Every line leaves through
the redaction below: known secret values, anything that looks like a credential, and the contents of
fields that hold prompts, bodies or authorization.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from holdfast.config import Settings, known_secrets

REDACTED = "[redacted]"

Handler = Callable[[dict[str, Any], LambdaContext], Any]

_FLUSH_SECONDS = 2
_SENSITIVE_KEY = re.compile(
    r"(^|[._-])(authorization|apikey|api_key|body|cookies?|data|password|prompt|secret|token)$",
    re.IGNORECASE,
)
_CREDENTIAL = re.compile(
    r"\b(?:eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # a JSON web token, in headers and in signed URLs
    r"|whsec_[\w+/=-]{6,}"
    r"|(?:sk|rk)_(?:live|test)_\w{6,}"
    r"|sb_secret_[\w-]{6,}"
    r"|bye_[\w-]{6,}"
    r"|AKIA[0-9A-Z]{16})"
    r"|(?<=Bearer )[\w.~+/=-]{8,}"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # user and password of a URL
    r"|(?<=input_value=).*?(?=, input_type=)"  # pydantic repeats what it was given
    r"|(?<=DETAIL:)[^\n\\]+",  # PostgreSQL repeats the row that failed
)


def redact_text(text: str) -> str:
    """Return `text` without known secrets and without anything that looks like a credential."""
    for secret in known_secrets():
        if secret in text:
            text = text.replace(secret, REDACTED)
    return _CREDENTIAL.sub(REDACTED, text)


def redact(value: Any) -> Any:  # noqa: ANN401 - log values and Sentry events are of any shape
    """Return a copy of `value` with sensitive fields and secret texts blanked, however deep."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {
            key: REDACTED if _is_sensitive(key) and item is not None else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    return value


def _is_sensitive(key: object) -> bool:
    return isinstance(key, str) and _SENSITIVE_KEY.search(key) is not None


class RedactingFormatter(LambdaPowertoolsFormatter):
    """Powertools' JSON lines, redacted."""

    def serialize(self, log: Any) -> str:  # noqa: ANN401 - Powertools calls its dict a LogRecord
        """Return the line as JSON. Objects that only now become text are covered as well."""
        line = super().serialize(redact(log))
        for secret in known_secrets():
            for spelling in (secret, repr(secret)[1:-1]):
                line = line.replace(json.dumps(spelling)[1:-1], REDACTED)
        return _CREDENTIAL.sub(REDACTED, line)


@cache
def logger() -> Logger:
    """Return the process's logger."""
    # httpx writes every URL at INFO, signed ones included; the others only repeat what we know.
    for library in ("httpx", "stripe", "botocore", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
    return Logger(
        service=os.environ.get("POWERTOOLS_SERVICE_NAME", "holdfast"),
        logger_formatter=RedactingFormatter(),
    )


@cache
def metrics() -> Metrics:
    """Return the process's metrics."""
    return Metrics(
        namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Holdfast"),
        service=os.environ.get("POWERTOOLS_SERVICE_NAME", "holdfast"),
    )


def count(name: str, value: int = 1) -> None:
    """Add `value` to the counter `name`; it leaves with the end of the invocation."""
    metrics().add_metric(name=name, unit=MetricUnit.Count, value=value)


def report(error: BaseException, message: str) -> None:
    """Log an unexpected error with its stack, count it, and tell Sentry if there is one."""
    logger().error(message, exc_info=error)
    count("UnexpectedError")
    if "sentry_sdk" in sys.modules:
        import sentry_sdk  # noqa: PLC0415 - 100 ms that only users of Sentry pay

        sentry_sdk.capture_exception(error)
        # The sandbox is frozen after the answer: what is not sent now may never be.
        sentry_sdk.flush(timeout=_FLUSH_SECONDS)


def init_sentry(settings: Settings) -> None:
    """Start Sentry when a DSN is configured; without one nothing is even imported."""
    if settings.sentry_dsn is None:
        return
    import sentry_sdk  # noqa: PLC0415 - see above

    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        environment=settings.stage,
        default_integrations=False,
        auto_enabling_integrations=False,
        # The successor of send_default_pii=False, every kind switched off by name.
        data_collection={
            "user_info": False,
            "cookies": {"mode": "off"},
            "http_headers": {"request": {"mode": "off"}},
            "http_bodies": [],
            "url_query_params": {"mode": "off"},
            "graphql": {"document": False, "variables": False},
            "gen_ai": {"inputs": False, "outputs": False},
            "database_query_data": False,
            "queues": False,
            "stack_frame_variables": False,
            "frame_context_lines": 0,
        },
        max_breadcrumbs=0,
        before_send=lambda event, _hint: redact(event),
    )


def observed(function: Handler) -> Handler:
    """
    Wrap a Lambda handler: context on every log line, metrics out at the end, surprises reported.

    What `function` raises is reported and raised again, so that the trigger retries.
    """

    @functools.wraps(function)
    def wrapper(event: dict[str, Any], context: LambdaContext) -> Any:  # noqa: ANN401 - as wrapped
        with_context = logger().inject_lambda_context(function, clear_state=True)
        try:
            return with_context(event, context)
        except Exception as error:
            report(error, "the invocation failed")
            raise
        finally:
            if metrics().metric_set:
                metrics().flush_metrics()

    return wrapper
