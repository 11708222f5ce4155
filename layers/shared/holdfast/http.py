"""
How every HTTP function answers: one resolver, one shape of error, one set of headers.

Errors are problem details (RFC 9457) with a stable `code` and the `request_id` to ask about. What a
client may know is in a `HoldfastError`; everything else is logged and answered without detail.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import UUID

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError as RouteNotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
    ResponseValidationError,
)
from aws_lambda_powertools.event_handler.openapi.params import Header
from aws_lambda_powertools.utilities.typing import LambdaContext

from holdfast.config import Settings
from holdfast.errors import (
    ConfigurationError,
    FieldError,
    HoldfastError,
    InvalidRequestError,
    MalformedRequestError,
    NotFoundError,
    PayloadTooLargeError,
    UnavailableError,
)
from holdfast.observability import Handler, count, init_sentry, logger, observed, report

if TYPE_CHECKING:  # the webhooks have no users and need not import cryptography for them
    from holdfast.auth import AuthenticatedUser, TokenVerifier

BODY_BYTES_MAX = 102_400
INVALID_FIELDS = "Some fields are not acceptable."
PROBLEM_JSON = "application/problem+json"

IdempotencyKey = Annotated[str, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
"""What names a wish of the caller's. The parameter is to be called `idempotency_key`, the header's name."""

# Powertools would read these, and fails at a multipart one without a boundary.
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")

# Powertools runs no middleware on the way back of an error, so these are set around it.
_ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def raw_body(event: Mapping[str, Any]) -> bytes:
    """
    Return the bytes that were sent, the only thing a signature can be checked on.

    Raises `MalformedRequestError` when the gateway's base64 cannot be decoded.
    """
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedRequestError("The body cannot be decoded.") from None


def header(event: Mapping[str, Any], name: str) -> str | None:
    """Return a request header, whatever the case of its name."""
    headers = event.get("headers") or {}
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)


def request_id(event: Mapping[str, Any]) -> str | None:
    """Return the gateway's id of the request, which access log and answers share."""
    found = (event.get("requestContext") or {}).get("requestId")
    return found if isinstance(found, str) else None


def create_app(*, validation: bool = True) -> APIGatewayHttpResolver:
    """
    Return a resolver that validates requests and answers every error as a problem.

    A webhook needs no validation, it reads the raw body; without it the cold start is shorter.
    """
    app = APIGatewayHttpResolver(
        enable_validation=validation,
        response_validation_error_http_code=(
            HTTPStatus.INTERNAL_SERVER_ERROR if validation else None
        ),
        json_body_deserializer=_parse_json,
    )

    # One entry for each: a handler for Exception alone would swallow unmatched routes as well.
    for kind, convert in _CONVERSIONS.items():
        app.exception_handler(kind)(partial(_respond, app, convert))
    return app


def handler(
    app: APIGatewayHttpResolver,
    settings: Settings,
    *,
    verifier: TokenVerifier | None = None,
    public: frozenset[str] = frozenset(),
) -> Handler:
    """
    Return the Lambda handler that answers with `app`, observed and never without a body.

    With a `verifier` every route needs a user's token, checked before anything else is looked at; `public` names the
    exceptions by their route key.
    """
    init_sentry(settings)

    @observed
    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        logger().append_keys(request_id=request_id(event), route=event.get("routeKey"))
        # A request that was refused before `resolve` has left its user behind.
        app.context.clear()
        try:
            if verifier is not None and event.get("routeKey") not in public:
                _authenticate(app, verifier, event)
            _check_readable(event)
            answer = app.resolve(event, context)
        except HoldfastError as error:
            answer = _answer(_expected(error), event)
        except Exception as error:  # noqa: BLE001 - the gateway's own 500 has no code and no id
            answer = _answer(_unexpected(error), event)
        answer["headers"] = {**answer.get("headers", {}), **_ALWAYS}
        return answer

    return handle


def current_user(app: APIGatewayHttpResolver) -> AuthenticatedUser:
    """Return the caller of the present request."""
    user: AuthenticatedUser = app.context["user"]
    return user


def id_or_not_found(text: str) -> UUID:
    """Return the id in a path; what is no id names nothing, so it raises `NotFoundError`."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFoundError from None


def _authenticate(
    app: APIGatewayHttpResolver, verifier: TokenVerifier, event: Mapping[str, Any]
) -> None:
    user = verifier.verify(header(event, "authorization"))
    app.context["user"] = user
    logger().append_keys(user_id=str(user.user_id))


def _check_readable(event: Mapping[str, Any]) -> None:
    """Refuse what no route could read: too large, no text, a form, or with a NUL, which SQL cannot hold."""
    body = raw_body(event)
    if len(body) > BODY_BYTES_MAX:
        raise PayloadTooLargeError(f"The body may have {BODY_BYTES_MAX} bytes.")
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequestError("The body is not UTF-8.") from None
    if body and (header(event, "content-type") or "").strip().lower().startswith(_FORMS):
        raise MalformedRequestError("The body must be application/json.")
    if "%00" in event.get("rawQueryString", "") or "\0" in event.get("rawPath", ""):
        raise MalformedRequestError("The URL contains a NUL character.")


def _parse_json(text: str) -> Any:  # noqa: ANN401 - JSON is of any shape
    """Parse strictly. Powertools turns exactly `JSONDecodeError` into an answer."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        _refuse_unstorable(value)
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError("not acceptable JSON", "", 0) from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and the infinities are Python's, not JSON's


def _refuse_unstorable(value: Any) -> None:  # noqa: ANN401 - JSON is of any shape
    """PostgreSQL's text holds neither NUL nor lone surrogates."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("NUL")
        value.encode("utf-8")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key)
            _refuse_unstorable(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable(item)


def _explain(errors: Sequence[Mapping[str, Any]]) -> HoldfastError:
    """Turn validation errors into field errors, or into a 400 when nothing could be read."""
    if any(error["type"] == "json_invalid" for error in errors):
        return MalformedRequestError("The body is not valid JSON.")
    fields = [
        FieldError(
            field=".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0]),
            code=str(error["type"]),
            message=str(error.get("msg", "")).removeprefix("Value error, ")[:200],
        )
        for error in errors
    ]
    return InvalidRequestError(INVALID_FIELDS, fields=fields)


def _expected(error: HoldfastError) -> HoldfastError:
    """Log a refusal quietly, passing trouble as a warning, our own faults with their stack."""
    known = {"code": error.code, "status": error.status, "reason": error.reason}
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        logger().info("request refused", extra=known)
    elif isinstance(error, UnavailableError) and not isinstance(error, ConfigurationError):
        logger().warning("request not served", extra=known)
    else:
        logger().error("request failed", exc_info=error, extra=known)
    return error


def _invalid_answer(error: ResponseValidationError) -> HoldfastError:
    # The values are the user's data: only where and what is logged.
    places = [{"loc": item["loc"], "type": item["type"]} for item in error.errors()]
    logger().error("the answer does not fit its declared type", errors=places)
    count("UnexpectedError")
    return HoldfastError()


def _unexpected(error: Exception) -> HoldfastError:
    report(error, "unexpected error")
    return HoldfastError()


_CONVERSIONS: dict[type[Exception], Callable[[Any], HoldfastError]] = {
    HoldfastError: _expected,
    RouteNotFoundError: lambda _: NotFoundError(),
    RequestValidationError: lambda error: _explain(error.errors()),
    RequestUnsupportedContentType: lambda _: MalformedRequestError(
        "The body must be application/json."
    ),
    ResponseValidationError: _invalid_answer,
    Exception: _unexpected,
}


def _respond(
    app: APIGatewayHttpResolver, convert: Callable[[Any], HoldfastError], error: Exception
) -> Response[str]:
    answer = _answer(convert(error), app.current_event.raw_event)
    headers = {key: value for key, value in answer["headers"].items() if key != "content-type"}
    return Response(answer["statusCode"], PROBLEM_JSON, answer["body"], headers)


def _answer(error: HoldfastError, event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one shape of an error."""
    problem = {
        "type": f"urn:holdfast:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id(event),
        **error.members,
        "errors": [
            {"field": item.field, "code": item.code, "message": item.message}
            for item in error.fields
        ],
    }
    headers = {"content-type": PROBLEM_JSON}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return {
        "statusCode": int(error.status),
        "headers": headers,
        "body": json.dumps(
            {key: value for key, value in problem.items() if value not in (None, [])}
        ),
        "isBase64Encoded": False,
        "cookies": [],
    }
