"""
The tokens in signed URLs, which have a key of their own.

So rotating the keys of the access tokens leaves signed URLs alone, and a signed URL can only be
revoked by removing or moving its object.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import jwt

from local.standins.server import Request
from local.standins.supabase_errors import StorageError


class UrlTokens:
    """The signing key of one project's URLs."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, key: str, scope: str, seconds: int, **more: Any) -> str:
        """Return a token for `key` ("bucket/path") in that scope: `download` or `upload`."""
        now = int(time.time())
        claims = {"url": key, **more, "scope": scope, "iat": now, "exp": now + seconds}
        return jwt.encode(claims, self._secret, "HS256", headers={"typ": None})

    def verify(self, request: Request, key: str, scope: str) -> dict[str, Any]:
        """Return the claims of a signed URL made for exactly this; raises `StorageError`."""
        token = request.query.get("token")
        if not token:
            raise StorageError.invalid("querystring must have required property 'token'")
        try:
            claims: dict[str, Any] = jwt.decode(token, self._secret, algorithms=["HS256"])
        except jwt.ExpiredSignatureError as error:
            raise StorageError.invalid_jwt('"exp" claim timestamp check failed') from error
        except jwt.InvalidSignatureError as error:
            raise StorageError.invalid_jwt("signature verification failed") from error
        except jwt.PyJWTError as error:
            raise StorageError.invalid_jwt("Invalid Compact JWS") from error
        if claims.get("scope") != scope:
            raise StorageError.invalid_signature(f"Token is not scoped for {scope}")
        if claims["url"] != key:
            raise StorageError.invalid_signature()
        return claims
