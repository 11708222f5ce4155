"""
BabySea's webhook signatures.

A delivery moves money, so its signature is checked on the raw bytes before anything parses them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Sequence

from holdfast.errors import ConfigurationError, InvalidSignatureError

TOLERANCE_SECONDS = 300

_PREFIX = "whsec_"
_SHORTEST_SECRET = 12  # the provider's published test secrets; settings demand more (config)
_UNIX_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


def verify_babysea(
    body: bytes,
    signature_header: str | None,
    secrets: Sequence[str],
    *,
    now: float | None = None,
) -> None:
    """
    Return if `body` was signed with one of `secrets` at most 300 seconds before or after `now`.

    `signature_header` is `X-BabySea-Signature`, `t=<unix seconds>,v1=<hex>`; the first `t` and the
    first `v1` count. Two secrets let a rotation overlap. Raises `InvalidSignatureError`, or
    `ConfigurationError` when there is no usable secret.
    """
    _refuse_weak(secrets)
    timestamp, signature = _parse(signature_header)
    message = timestamp.encode() + b"." + body
    given = signature.encode()
    # Every secret is tried, so the time taken does not tell which one matched.
    matches = [
        hmac.compare_digest(
            hmac.new(secret.encode(), message, hashlib.sha256).hexdigest().encode(), given
        )
        for secret in secrets
    ]
    if not any(matches):
        raise InvalidSignatureError("The signature does not match the body.")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_SECONDS:
        raise InvalidSignatureError("The signature's timestamp is outside the tolerance.")


def _parse(signature_header: str | None) -> tuple[str, str]:
    """Return timestamp and signature as sent; no part is trimmed."""
    parts = (signature_header or "").split(",")
    timestamp = next((part[2:] for part in parts if part.startswith("t=")), "")
    signature = next((part[3:] for part in parts if part.startswith("v1=")), "")
    # Stricter than the provider's SDK, which reads `1767225600x` as a number.
    if not _UNIX_SECONDS.fullmatch(timestamp) or not signature.isascii() or not signature:
        raise InvalidSignatureError("The signature header is missing or malformed.")
    return timestamp, signature


def _refuse_weak(secrets: Sequence[str]) -> None:
    """Fail closed: anybody can sign with an empty secret."""
    if not secrets or any(
        not secret.startswith(_PREFIX) or len(secret) < _SHORTEST_SECRET for secret in secrets
    ):
        raise ConfigurationError("a BabySea webhook secret is empty, too short or no whsec_ secret")
