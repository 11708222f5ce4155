"""
The stand-in for a Supabase project: its gateway in front of Auth and Storage.

The database behind it is a real one. The gateway alone knows the API keys: it turns a key into a
short-lived token for the key's role, and the services see tokens only, as on Supabase.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from local.standins import supabase_auth, supabase_storage
from local.standins.server import Request, Response, StandIn, json_response
from local.standins.supabase_auth import Auth
from local.standins.supabase_database import Database
from local.standins.supabase_storage import Storage
from local.standins.supabase_tokens import Tokens

PUBLISHABLE_KEY = "sb_publishable_holdfast_local"
SECRET_KEY = "sb_secret_holdfast_local"
"""Both are fixed: they open nothing but this stand-in."""

_KEYLESS = re.compile(
    r"GET /auth/v1/(authorize|verify|\.well-known/jwks\.json)"
    r"|(GET|HEAD) /storage/v1/object/(sign|public)/.+"
    r"|PUT /storage/v1/object/upload/sign/.+"
)
_CORS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "X-Supabase-Api-Version, X-Total-Count, Link",
}
_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
    "access-control-allow-headers": (
        "authorization, apikey, content-type, x-client-info, x-supabase-api-version,"
        " x-upsert, cache-control, x-metadata, range"
    ),
    "access-control-max-age": "3600",
}


class Supabase(StandIn):
    """
    Auth and Storage of one project, over the database at `admin_url` and the folder `files`.

    Besides the faults of the base class it knows `empty_jwks` (the JWKS endpoint lists no keys),
    `expired_token` (a new session's access token has expired already) and `oauth_denied` (the
    Google user says no).
    """

    def __init__(self, admin_url: str, files: Path, port: int = 0) -> None:
        super().__init__(port)
        self.publishable_key = PUBLISHABLE_KEY
        self.secret_key = SECRET_KEY
        self.tokens = Tokens(issuer=f"{self.url}{supabase_auth.PREFIX}")
        self._database = Database(admin_url)
        self.auth = Auth(self._database, self.tokens, site_url=f"{self.url}/")
        self.auth.add_routes(self)
        Storage(self._database, self.tokens, files).add_routes(self)

    @property
    def jwks(self) -> dict[str, Any]:
        """The public keys of the access tokens."""
        return self.tokens.jwks

    @property
    def legacy_jwt_secret(self) -> str:
        """The HS256 secret of the legacy configuration."""
        return self.tokens.legacy_jwt_secret

    def create_user(self, email: str, password: str) -> tuple[str, str]:
        """Sign a user up as a client would, and return the user's id and access token."""
        session = self.auth.sign_up(email, password)
        return session["user"]["id"], session["access_token"]

    def sign_token(
        self,
        *,
        algorithm: str | None = None,
        key: Any = None,
        headers: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """
        Sign an access token with claims of the test's choice; None leaves a claim out.

        `algorithm`, `key` and `headers` forge what the project would never sign.
        """
        merged = {**self.tokens.access_claims("00000000-0000-4000-8000-000000000000"), **claims}
        return self.tokens.sign(
            {name: value for name, value in merged.items() if value is not None},
            algorithm=algorithm,
            key=key,
            headers=headers,
        )

    def handle(self, request: Request) -> Response:
        """Answer as the gateway: preflights, keys, then the services."""
        if request.path.startswith("/_control/"):
            return super().handle(request)
        if request.method == "OPTIONS":
            return Response(204, headers={**_CORS, **_PREFLIGHT})
        response = self._refuse(request) or super().handle(self._translate(request))
        response.headers.update(_CORS)
        return response

    def not_found(self, request: Request) -> Response:
        """Answer a path that is unknown, each service in its own way."""
        if request.path.startswith(f"{supabase_auth.PREFIX}/"):
            return Response(404, b"404 page not found\n", {"content-type": "text/plain"})
        if request.path.startswith(f"{supabase_storage.PREFIX}/"):
            message = f"Route {request.method}:{request.path} not found"
            return json_response({"message": message, "error": "Not Found", "statusCode": 404}, 404)
        return json_response({"message": "no Route matched with those values"}, 404)

    def stop(self) -> None:
        """Stop serving and disconnect from the database."""
        super().stop()
        self._database.close()

    def _refuse(self, request: Request) -> Response | None:
        """Return the gateway's refusal of a missing, unknown or exposed key."""
        if _KEYLESS.fullmatch(f"{request.method} {request.path}"):
            return None
        key = request.headers.get("apikey")
        if not key:
            return json_response({"message": "No API key found in request"}, 401)
        if key not in (self.publishable_key, self.secret_key):
            return json_response({"message": "Invalid API key"}, 401)
        if key == self.secret_key and "Mozilla/" in request.headers.get("user-agent", ""):
            return json_response({"message": "Forbidden use of secret API key in browser"}, 401)
        return None

    def _translate(self, request: Request) -> Request:
        """Put a token for the key's role in the place of the key."""
        key = request.headers.get("apikey")
        authorization = request.headers.get("authorization")
        if authorization is None and request.path.startswith(f"{supabase_auth.PREFIX}/"):
            return request  # Auth tells "no token" from "not a user's token"
        if key is None or authorization not in (None, f"Bearer {key}"):
            return request
        role = "service_role" if key == self.secret_key else "anon"
        token = f"Bearer {self.tokens.sign_role(role)}"
        return replace(request, headers={**request.headers, "authorization": token})
