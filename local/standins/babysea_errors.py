"""
BabySea's envelopes and error table, as its clients see them.

The service documents codes up to BSE2010 and a few more in passing. Codes marked "placeholder" had
to be chosen; a client that decides by them instead of by `retryable` is wrong.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from local.standins.server import Response, json_response

# code: (type, HTTP status, retryable)
ERRORS: dict[str, tuple[str, int, bool]] = {
    "BSE1001": ("authentication_required", 401, False),
    "BSE1002": ("authentication_failed", 401, False),
    "BSE1003": ("insufficient_permissions", 403, False),
    "BSE1004": ("insufficient_credits", 402, False),
    "BSE1005": ("rate_limit_exceeded", 429, True),
    "BSE1006": ("auth_rate_limited", 429, True),
    "BSE1007": ("ip_not_allowed", 403, False),
    "BSE1008": ("account_not_found", 404, False),
    "BSE1009": ("concurrency_limit_exceeded", 429, True),
    "BSE2001": ("invalid_input", 400, False),
    "BSE2002": ("file_too_large", 422, False),
    "BSE2003": ("file_too_small", 422, False),
    "BSE2004": ("unsupported_file_format", 422, False),
    "BSE2005": ("file_load_error", 422, False),
    "BSE2006": ("content_policy_violation", 422, False),
    "BSE2007": ("file_size_exceeded", 422, False),
    "BSE2008": ("parameter_out_of_range", 422, False),
    "BSE2009": ("file_download_error", 422, False),
    "BSE2010": ("payload_too_large", 413, False),
    "BSE2015": ("idempotency_conflict", 409, False),  # placeholder type
    "BSE2016": ("idempotency_in_progress", 409, False),  # placeholder type
    "BSE3001": ("generation_not_found", 404, False),  # placeholder
    "BSE3002": ("generation_not_cancelable", 409, False),  # placeholder
    "BSE4001": ("provider_error", 502, True),  # placeholder
    "BSE4002": ("provider_credits_exhausted", 503, False),  # placeholder code
    "BSE4006": ("provider_error", 502, False),
    "BSE5001": ("internal_error", 500, True),  # placeholder
}
UNLISTED = ("api_error", 500, False)


class Refused(Exception):  # noqa: N818 (an answer of the service, not an error of the stand-in)
    """The request is answered with an error envelope."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        kind: str | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        details: dict[str, Any] | None = None,
        provider_errors: list[dict[str, Any]] | None = None,
    ) -> None:
        known = ERRORS.get(code, UNLISTED)
        self.code = code
        self.status = known[1] if status is None else status
        self.error: dict[str, Any] = {
            "code": code,
            "type": kind or known[0],
            "message": message or known[0].replace("_", " "),
            "retryable": known[2] if retryable is None else retryable,
        }
        if details:
            self.error["details"] = details
        if provider_errors:
            self.error["provider_errors"] = provider_errors
        super().__init__(f"{code}: {self.error['message']}")

    def response(self) -> Response:
        """Return the error envelope; 429 carries `Retry-After`."""
        headers = {}
        if self.status == 429:
            seconds = self.error.get("details", {}).get("retry_after_seconds", 1)
            headers["retry-after"] = str(seconds)
        body = {"status": "error", "request_id": request_id(), "error": self.error}
        return json_response(body, self.status, headers)


def success(
    data: dict[str, Any], message: str = "ok", status: int = 200, **beside: int
) -> Response:
    """Return the success envelope; `beside` is placed next to `data`, as the list route does."""
    envelope = {
        "status": "success",
        "request_id": request_id(),
        "message": message,
        "timestamp": iso(datetime.now(UTC)),
        "data": data,
        **beside,
    }
    return json_response(envelope, status)


def edge_refusal() -> Response:
    """Return what the edge in front of BabySea answers: HTML, no envelope."""
    page = b"<html><head><title>403 Forbidden</title></head><body>Forbidden</body></html>"
    return Response(403, page, {"content-type": "text/html"})


def request_id() -> str:
    """Return a new request id."""
    return f"req_{uuid.uuid4().hex[:16]}"


def iso(moment: datetime) -> str:
    """Return a time as BabySea writes it: UTC, milliseconds, `Z`."""
    return (
        moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
    )
