import json
import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from holdfast import config
from holdfast.config import Settings
from holdfast.observability import (
    REDACTED,
    RedactingFormatter,
    count,
    init_sentry,
    logger,
    metrics,
    observed,
    redact,
)

SECRET = 'plain"secret\\value'
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl"
CONTEXT: Any = SimpleNamespace(
    function_name="f",
    memory_limit_in_mb=128,
    invoked_function_arn="arn:aws:lambda:eu-central-1:123456789012:function:f",
    aws_request_id="11111111-1111-4111-8111-111111111111",
    tenant_id=None,
)


@pytest.fixture(autouse=True)
def _known_secret() -> Any:
    """Make one secret known as loading settings does."""
    config._remember(SECRET)
    yield
    config._known_secrets.discard(SECRET)


def line_of(message: Any, *, error: BaseException | None = None, **extra: Any) -> Any:
    """Format one record the way the logger does."""
    record = logging.LogRecord("t", logging.INFO, "f.py", 1, message, (), None)
    if error is not None:
        record.exc_info = (type(error), error, error.__traceback__)
    record.__dict__.update(extra)
    return RedactingFormatter().format(record)


def raised(error: Any) -> Any:
    """Return the error with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    "line",
    [
        lambda: line_of(f"the value is {SECRET}."),
        lambda: line_of("m", detail={"deep": [{"er": f"x{SECRET}x"}]}),
        lambda: line_of("m", error=raised(ValueError(f"bad {SECRET}"))),
        lambda: line_of("m", path=SimpleNamespace(shown=SECRET)),
    ],
)
def test_known_secrets_never_leave(line: Any) -> None:
    """A loaded secret is blanked in messages, extras, exceptions and objects shown by repr."""
    text = line()

    assert SECRET not in text
    assert json.dumps(SECRET)[1:-1] not in text
    assert REDACTED in text
    json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        "Bearer opaque-token-123456",
        f"https://x.supabase.co/storage/v1/object/sign/outputs/a?token={TOKEN}",
        "whsec_abcdefgh",
        "sk_live_abcdefgh",
        "rk_test_abcdefgh",
        "sb_secret_abcdefgh",
        "bye_abcdefgh",
        "AKIAABCDEFGHIJKLMNOP",
        "postgresql://user:hunter22@db/app",
        "1 validation error\n  [type=x, input_value='hunter22', input_type=str]",
        'null value in column "x"\nDETAIL:  Failing row contains (hunter22, abcdefgh).',
    ],
)
def test_what_looks_like_a_credential_is_blanked(text: Any) -> None:
    """A credential nobody registered is blanked by its looks."""
    line = line_of(text)

    assert REDACTED in line
    assert not any(part in line for part in ("abcdefgh", "hunter22", "opaque", TOKEN, "ABCDEFGH"))


@pytest.mark.parametrize(
    "key",
    [
        "authorization",
        "Authorization",
        "prompt",
        "generation_prompt",
        "body",
        "x-api_key",
        "cookie",
    ],
)
def test_sensitive_fields_are_blanked_whatever_they_hold(key: Any) -> None:
    """Prompts, bodies and authorization are not logged, however deep they are."""
    line = line_of("m", detail={"a": [{key: "a lighthouse at dusk"}]})

    assert "lighthouse" not in line
    assert REDACTED in line


def test_ordinary_values_are_kept() -> None:
    """Ids, codes and numbers stay readable."""
    generation = UUID("22222222-2222-4222-8222-222222222222")
    line = json.loads(line_of("done", generation_id=generation, code="BSE2006", seconds=1.5))

    assert line["generation_id"] == str(generation)
    assert (line["code"], line["seconds"], line["message"]) == ("BSE2006", 1.5, "done")


def test_a_validation_error_does_not_repeat_its_input() -> None:
    """The stack of a pydantic error in the log has no input values."""

    class Model(BaseModel):
        number: int

    given = json.loads('{"number": "a light\\u0068ouse"}')
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(given)

    assert "lighthouse" not in line_of("m", error=caught.value)


def test_redaction_copies_and_keeps_shapes() -> None:
    """The original is untouched; None in a sensitive field stays None."""
    event: Any = {"request": {"headers": {"Authorization": "x"}, "cookies": None}, "n": (1, "a")}

    assert redact(event) == {
        "request": {"headers": {"Authorization": REDACTED}, "cookies": None},
        "n": [1, "a"],
    }
    assert event["request"]["headers"]["Authorization"] == "x"


def test_there_is_one_logger_and_one_set_of_metrics() -> None:
    """Every module gets the same objects."""
    assert logger() is logger()
    assert metrics() is metrics()


def test_counters_leave_with_the_invocation(capsys: pytest.CaptureFixture[str]) -> None:
    """A counted event is printed as one EMF line at the end, with nothing left for the next."""

    @observed
    def function(event: Any, context: Any) -> Any:
        count("Thing")
        count("Thing")
        return event

    assert function({"a": 1}, CONTEXT) == {"a": 1}

    [line] = [json.loads(x) for x in capsys.readouterr().out.splitlines() if '"_aws"' in x]
    assert line["Thing"] == [1.0, 1.0]
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Holdfast"
    assert not metrics().metric_set


def test_a_failed_invocation_is_counted_and_still_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """What a handler raises is reported and raised again, so the trigger sees it."""

    @observed
    def function(event: Any, context: Any) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        function({}, CONTEXT)
    assert "UnexpectedError" in capsys.readouterr().out


def test_sentry_is_not_imported_without_a_dsn() -> None:
    """Only users of Sentry pay for it."""
    code = (
        "import sys; from holdfast.observability import *;"
        "s = Settings(stage='t', database_url='postgresql://u@localhost/x');"
        "init_sentry(s); raise SystemExit('sentry_sdk' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": "layers/shared"}, check=False
    )

    assert done.returncode == 0


def test_sentry_gets_scrubbed_events_only() -> None:
    """What would be sent has no secret, no prompt, no local variables and no integrations."""
    import sentry_sdk

    sent: list[Any] = []
    init_sentry(
        Settings(
            stage="test",
            database_url=SecretStr("postgresql://u@localhost/x"),
            sentry_dsn=SecretStr("http://public@127.0.0.1:9/1"),
        )
    )
    client = sentry_sdk.get_client()
    try:
        client.transport = SimpleNamespace(  # type: ignore[assignment]
            capture_envelope=sent.append,
            flush=lambda **_: None,
            kill=lambda: None,
            record_lost_event=lambda *_, **__: None,
            is_healthy=lambda: True,
            parsed_dsn=None,
        )
        prompt = "a lighthouse"
        sentry_sdk.capture_exception(raised(ValueError(f"no {SECRET}")))
        sentry_sdk.capture_message("m", extras={"prompt": prompt})
    finally:
        sentry_sdk.init()

    text = "".join(json.dumps(item.payload.json) for envelope in sent for item in envelope.items)
    assert REDACTED in text
    assert SECRET not in text
    assert "lighthouse" not in text
    assert client.integrations == {}
    assert client.options["data_collection"]["user_info"] is False
