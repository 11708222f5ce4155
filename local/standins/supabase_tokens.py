"""
Access tokens as Supabase Auth signs them: an ES256 key pair made for this run, and its JWKS.

A project that still has its legacy HS256 secret publishes no keys at all; `algorithm` switches to
that, so that both configurations of the backend can be tested.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

AUDIENCE = "authenticated"
_GATEWAY_TOKEN_SECONDS = 60


class Tokens:
    """
    The signing keys of one project.

    `algorithm` is what new access tokens are signed with: `ES256` (default) or `HS256` (legacy).
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.algorithm = "ES256"
        self.access_token_seconds = 3600
        self.legacy_jwt_secret = secrets.token_urlsafe(48)
        self._kid = str(uuid.uuid4())
        self._private_key = ec.generate_private_key(ec.SECP256R1())

    @property
    def jwks(self) -> dict[str, Any]:
        """The public keys, as the JWKS endpoint answers; HMAC keys are never listed."""
        if self.algorithm != "ES256":
            return {"keys": []}
        key = ECAlgorithm.to_jwk(self._private_key.public_key(), as_dict=True)
        extra = {"kid": self._kid, "alg": "ES256", "use": "sig", "key_ops": ["verify"]}
        return {"keys": [{**key, **extra}]}

    def sign(
        self,
        claims: Mapping[str, Any],
        *,
        algorithm: str | None = None,
        key: Any = None,
        headers: Mapping[str, Any] | None = None,
    ) -> str:
        """Sign `claims` as they are; a test may forge with another algorithm, key or header."""
        algorithm = algorithm or self.algorithm
        header = {"kid": self._kid} if algorithm == "ES256" else {}
        if key is None:
            key = self._private_key if algorithm == "ES256" else self.legacy_jwt_secret
        return jwt.encode(
            dict(claims), key, algorithm=algorithm, headers={**header, **(headers or {})}
        )

    def access_claims(self, subject: str) -> dict[str, Any]:
        """Return the claims every user token has."""
        now = int(time.time())
        return {
            "iss": self.issuer,
            "sub": subject,
            "aud": AUDIENCE,
            "exp": now + self.access_token_seconds,
            "iat": now,
            "email": "",
            "phone": "",
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {},
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": str(uuid.uuid4()),
            "is_anonymous": False,
        }

    def sign_role(self, role: str) -> str:
        """Return the short-lived token the gateway puts in the place of an API key."""
        now = int(time.time())
        return self.sign({"role": role, "iat": now, "exp": now + _GATEWAY_TOKEN_SECONDS})

    def verify(self, token: str) -> dict[str, Any]:
        """
        Return the claims of a token this project signed, with either of its keys.

        Only signature and times are checked, which is all that Auth and Storage check. Raises
        `jwt.PyJWTError`.
        """
        header = jwt.get_unverified_header(token)
        if header.get("alg") == "HS256":
            key: Any = self.legacy_jwt_secret
        elif header.get("alg") == "ES256" and header.get("kid") == self._kid:
            key = self._private_key.public_key()
        else:
            raise jwt.InvalidKeyError("no applicable key found in the JSON Web Key Set")
        return jwt.decode(
            token,
            key,
            algorithms=[header["alg"]],
            options={"verify_aud": False, "verify_sub": False},
        )
