"""
Who is calling: Supabase access tokens, verified here and not by a round trip.

The algorithm comes from our settings, never from the token. `user_metadata` can be edited by the
user, so nothing of it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import jwt

from holdfast.config import UserTokens
from holdfast.errors import ConfigurationError, UnauthenticatedError, UnavailableError
from holdfast.observability import logger

LEEWAY_SECONDS = 5
JWKS_SECONDS = 600

_AUDIENCE = "authenticated"
_LONGEST_TOKEN = 8_192
_TIMEOUT_SECONDS = 2
_REQUIRED = ["exp", "iat", "sub", "aud", "iss"]


@dataclass(frozen=True)
class AuthenticatedUser:
    """The verified caller."""

    user_id: UUID


class TokenVerifier:
    """
    Verify access tokens of one Supabase project with one algorithm.

    Keep one per execution environment: it caches the project's public keys for ten minutes.
    `jwt_secret` is for projects still on HS256.
    """

    def __init__(
        self,
        supabase_url: str,
        algorithm: str,
        jwt_secret: str | None = None,
        *,
        cooldown_seconds: float = 30,
    ) -> None:
        self._issuer = f"{supabase_url.rstrip('/')}/auth/v1"
        self._algorithm = algorithm
        self._secret = jwt_secret
        if algorithm == "HS256" and not jwt_secret:
            raise ConfigurationError("SUPABASE_JWT_SECRET is missing or empty")
        self._jwks = jwt.PyJWKClient(
            f"{self._issuer}/.well-known/jwks.json",
            lifespan=JWKS_SECONDS,
            timeout=_TIMEOUT_SECONDS,
            cooldown_duration=cooldown_seconds,
        )

    @classmethod
    def from_settings(cls, settings: UserTokens) -> Self:
        """Return the verifier a function's settings describe."""
        secret = settings.supabase_jwt_secret
        return cls(
            settings.supabase_url,
            settings.supabase_jwt_algorithm,
            secret.get_secret_value() if secret else None,
        )

    def verify(self, authorization: str | None) -> AuthenticatedUser:
        """
        Return the user of an `Authorization` header.

        Raises `UnauthenticatedError` for everything that is not a valid token of a signed-in user,
        `UnavailableError` when the project's keys cannot be fetched, `ConfigurationError` when it
        has none.
        """
        token = _bearer_token(authorization)
        try:
            claims = jwt.decode(
                token,
                self._key(token),
                algorithms=[self._algorithm],
                audience=_AUDIENCE,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError as refused:
            raise _refusal(type(refused).__name__) from None
        return _user(claims)

    def _key(self, token: str) -> jwt.PyJWK | str:
        header = jwt.get_unverified_header(token)
        if header.get("alg") != self._algorithm:
            raise jwt.InvalidAlgorithmError
        if self._algorithm == "HS256":
            return self._secret or ""  # the constructor refuses an empty one
        key_id = header.get("kid")
        if not isinstance(key_id, str):
            raise jwt.InvalidKeyError
        self._ensure_keys()
        try:
            return self._jwks.get_signing_key(key_id)
        except (jwt.PyJWKClientConnectionError, OSError, ValueError) as unreachable:
            raise _no_keys(unreachable) from unreachable

    def _ensure_keys(self) -> None:
        """Fetch the keys if none are cached: here every failure is the project's, not the token's."""
        try:
            self._jwks.get_jwk_set()
        except jwt.PyJWKSetError as empty:
            logger().error("the project's JWKS has no usable key; is it an HS256 project?")
            raise ConfigurationError("SUPABASE_JWT_ALGORITHM does not fit the JWKS") from empty
        except (jwt.PyJWKClientError, OSError, ValueError) as unreachable:
            raise _no_keys(unreachable) from unreachable


def _no_keys(cause: Exception) -> UnavailableError:
    return UnavailableError(reason=f"JWKS not readable: {type(cause).__name__}", retry_after=5)


def _bearer_token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.isascii() or not 0 < len(token) <= _LONGEST_TOKEN:
        raise _refusal("no bearer token")
    return token


def _user(claims: dict[str, Any]) -> AuthenticatedUser:
    # The anon and service_role keys of a project are tokens with valid signatures too.
    if claims.get("role") != "authenticated":
        raise _refusal("not a user's token")
    try:
        return AuthenticatedUser(UUID(claims["sub"]))
    except (AttributeError, TypeError, ValueError):
        raise _refusal("sub is no UUID") from None


def _refusal(reason: str) -> UnauthenticatedError:
    return UnauthenticatedError("A valid access token is required.", reason=reason)
