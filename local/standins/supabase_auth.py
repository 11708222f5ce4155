"""
Supabase Auth as the clients see it: the endpoints a web product uses, answered from real rows.

Covered: e-mail and password, its confirmation, refresh, user, sign-out, Google by PKCE and by the
implicit flow.
Password recovery, one-time passwords, MFA, SAML, phone and the admin API are not: they answer 404.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import jwt
from psycopg.types.json import Jsonb

from local.standins import supabase_users as users
from local.standins.server import Request, Response, StandIn, json_response
from local.standins.supabase_confirmation import Confirmation
from local.standins.supabase_database import AUTH, Connection, Database, Row, fetch
from local.standins.supabase_errors import AuthError, guard_auth
from local.standins.supabase_oauth import OAuth, provider_token
from local.standins.supabase_sessions import Sessions, end_sessions
from local.standins.supabase_tokens import Tokens

PREFIX = "/auth/v1"
MIN_PASSWORD_CHARACTERS = 6
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


class Auth:
    """
    The endpoints under `/auth/v1`.

    `autoconfirm` off asks for a confirmed e-mail before the first session.
    """

    def __init__(self, database: Database, tokens: Tokens, site_url: str) -> None:
        self.autoconfirm = True
        self.sessions = Sessions(database, tokens)
        self.oauth = OAuth(database, self.sessions, site_url)
        self.confirmation = Confirmation(database, self.sessions, tokens.issuer, self.oauth.landing)
        self._database = database
        self._tokens = tokens

    def add_routes(self, server: StandIn) -> None:
        """Add the endpoints to `server`."""
        for method, path, handler in (
            ("POST", "/signup", self._signup),
            ("POST", "/token", self._token),
            ("GET", "/user", self._get_user),
            ("PUT", "/user", self._put_user),
            ("POST", "/logout", self._logout),
            ("GET", "/verify", self.confirmation.verify),
            ("GET", "/authorize", self.oauth.authorize),
            ("GET", "/.well-known/jwks.json", self._jwks),
            ("GET", "/settings", self._settings),
            ("GET", "/health", self._health),
        ):
            server.route(method, PREFIX + path, guard_auth(handler))

    def sign_up(
        self,
        email: str,
        password: str,
        data: dict[str, Any] | None = None,
        *,
        agent: str = "",
        expired: bool = False,
        redirect_to: str = "",
    ) -> dict[str, Any]:
        """Return the new user's session, or the bare user while `autoconfirm` is off: a mail tells the rest."""
        email = _checked_email(email)
        _check_password(password)
        with self._database.transaction(AUTH) as connection:
            if known := users.by_email(connection, email):
                if self.autoconfirm:
                    raise AuthError(422, "user_already_exists", "User already registered")
                if known["email_confirmed_at"]:
                    return users.made_up(email)
                known = self.confirmation.send(connection, known, redirect_to)
                return users.as_json(connection, known)
            user = users.insert(
                connection, provider="email", email=email, password=password, metadata=data or {}
            )
            subject = str(user["id"])
            claims = {
                "sub": subject,
                "email": email,
                "email_verified": False,
                "phone_verified": False,
            }
            user = users.add_identity(connection, user, "email", subject, claims)
            if not self.autoconfirm:
                user = self.confirmation.send(connection, user, redirect_to)
                return users.as_json(connection, user)
            user = users.confirm(connection, user)
            return self.sessions.start(connection, user, "password", agent=agent, expired=expired)

    def _signup(self, request: Request) -> Response:
        body = _body(request)
        email, password = _text(body, "email"), _text(body, "password")
        if _text(body, "phone"):
            raise AuthError(400, "phone_provider_disabled", "Phone signups are disabled")
        if not email:
            message = "Anonymous sign-ins are disabled"
            raise AuthError(422, "anonymous_provider_disabled", message)
        return json_response(
            self.sign_up(
                email,
                password,
                body.get("data"),
                agent=request.headers.get("user-agent", ""),
                expired="expired_token" in request.faults,
                redirect_to=request.query.get("redirect_to", ""),
            )
        )

    def _token(self, request: Request) -> Response:
        body = _body(request)
        expired = "expired_token" in request.faults
        match request.query.get("grant_type"):
            case "password":
                return json_response(self._sign_in(request, body, expired=expired))
            case "refresh_token":
                token = _text(body, "refresh_token")
                return json_response(self.sessions.refresh(token, expired=expired))
            case "pkce":
                return json_response(self._exchange_code(request, body, expired=expired))
        raise AuthError(400, "invalid_credentials", "unsupported_grant_type")

    def _sign_in(self, request: Request, body: dict[str, Any], *, expired: bool) -> dict[str, Any]:
        email = _text(body, "email").strip().lower()
        with self._database.transaction(AUTH) as connection:
            user = users.by_email(connection, email)
            if user is None or not users.password_fits(user, _text(body, "password")):
                raise AuthError(400, "invalid_credentials", "Invalid login credentials")
            if user["email_confirmed_at"] is None:
                raise AuthError(400, "email_not_confirmed", "Email not confirmed")
            agent = request.headers.get("user-agent", "")
            return self.sessions.start(connection, user, "password", agent=agent, expired=expired)

    def _exchange_code(
        self, request: Request, body: dict[str, Any], *, expired: bool
    ) -> dict[str, Any]:
        user_id = self.oauth.redeem(_text(body, "auth_code"), _text(body, "code_verifier"))
        with self._database.transaction(AUTH) as connection:
            user = users.by_id(connection, user_id)
            if user is None:
                raise AuthError(404, "user_not_found", "User not found")
            agent = request.headers.get("user-agent", "")
            session = self.sessions.start(connection, user, "oauth", agent=agent, expired=expired)
        return {**session, "provider_token": provider_token()}

    def _get_user(self, request: Request) -> Response:
        with self._database.transaction(AUTH) as connection:
            user, _ = self._signed_in(connection, request)
            return json_response(users.as_json(connection, user))

    def _put_user(self, request: Request) -> Response:
        body = _body(request)
        with self._database.transaction(AUTH) as connection:
            user, session_id = self._signed_in(connection, request)
            columns: dict[str, Any] = {}
            if password := _text(body, "password"):
                _check_password(password)
                if users.password_fits(user, password):
                    message = "New password should be different from the old password."
                    raise AuthError(422, "same_password", message)
                columns["encrypted_password"] = users.hash_password(password)
                end_sessions(connection, str(user["id"]), session_id, "others")
            data = dict(body.get("data") or {})
            if email := _text(body, "email"):
                email = _checked_email(email)
                other = users.by_email(connection, email)
                if other and other["id"] != user["id"]:
                    message = "A user with this email address has already been registered"
                    raise AuthError(422, "email_exists", message)
                if self.autoconfirm:
                    columns |= {"email": email, "email_confirmed_at": _now()}
                    data["email"] = email
                    connection.execute(
                        "update auth.identities set identity_data = identity_data || %s,"
                        " updated_at = now() where user_id = %s and provider = 'email'",
                        (Jsonb({"email": email}), user["id"]),
                    )
                else:
                    columns |= {"email_change": email, "email_change_sent_at": _now()}
            merged = {**user["raw_user_meta_data"], **data}
            columns["raw_user_meta_data"] = Jsonb(
                {name: value for name, value in merged.items() if value is not None}
            )
            user = users.update(connection, user["id"], **columns)
            return json_response(users.as_json(connection, user))

    def _logout(self, request: Request) -> Response:
        scope = request.query.get("scope", "global")
        if scope not in ("global", "local", "others"):
            raise AuthError(400, "validation_failed", f'Unsupported logout scope "{scope}"')
        with self._database.transaction(AUTH) as connection:
            user, session_id = self._signed_in(connection, request)
            end_sessions(connection, str(user["id"]), session_id, scope)
        return Response(204)

    def _signed_in(self, connection: Connection, request: Request) -> tuple[Row, str]:
        """Return user and session of the Bearer token: the token, the user, then the session."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            message = "This endpoint requires a valid Bearer token"
            raise AuthError(401, "no_authorization", message)
        try:
            claims = self._tokens.verify(token)
            uuid.UUID(claims.get("sub", ""))
        except jwt.ExpiredSignatureError as error:
            detail = "token has invalid claims: token is expired"
            raise _bad_jwt(f"unable to parse or verify signature, {detail}") from error
        except jwt.PyJWTError as error:
            raise _bad_jwt(f"unable to parse or verify signature, {error}") from error
        except ValueError as error:
            raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim") from error
        user = users.by_id(connection, claims["sub"])
        if user is None:
            message = "User from sub claim in JWT does not exist"
            raise AuthError(403, "user_not_found", message)
        session_id = claims.get("session_id")
        if session_id is None or not fetch(
            connection,
            "select id from auth.sessions where id = %s and user_id = %s",
            session_id,
            user["id"],
        ):
            message = "Session from session_id claim in JWT does not exist"
            raise AuthError(403, "session_not_found", message)
        return user, session_id

    def _jwks(self, request: Request) -> Response:
        keys = {"keys": []} if "empty_jwks" in request.faults else self._tokens.jwks
        return json_response(keys, headers={"cache-control": "public, max-age=600"})

    def _settings(self, _request: Request) -> Response:
        external = {"anonymous_users": False, "google": True, "email": True, "phone": False}
        return json_response(
            {
                "external": external,
                "disable_signup": False,
                "mailer_autoconfirm": self.autoconfirm,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
            }
        )

    def _health(self, _request: Request) -> Response:
        return json_response(
            {
                "version": "stand-in",
                "name": "GoTrue",
                "description": "GoTrue is a user registration and authentication API",
            }
        )


def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.body)
    except ValueError as error:
        message = f"Could not parse request body as JSON: {error}"
        raise AuthError(400, "bad_json", message) from error
    if not isinstance(body, dict):
        message = "Could not parse request body as JSON: not an object"
        raise AuthError(400, "bad_json", message)
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name) or ""
    if not isinstance(value, str):
        message = f"Could not parse request body as JSON: {name} is no string"
        raise AuthError(400, "bad_json", message)
    return value


def _checked_email(email: str) -> str:
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email):
        message = "Unable to validate email address: invalid format"
        raise AuthError(400, "validation_failed", message)
    return email


def _check_password(password: str) -> None:
    if not password:
        raise AuthError(400, "validation_failed", "Signup requires a valid password")
    if len(password.encode()) > 72:
        message = "Password cannot be longer than 72 characters"
        raise AuthError(400, "validation_failed", message)
    if len(password) < MIN_PASSWORD_CHARACTERS:
        message = f"Password should be at least {MIN_PASSWORD_CHARACTERS} characters."
        weak = {"reasons": ["length"]}
        raise AuthError(422, "weak_password", message, weak_password=weak)


def _now() -> datetime:
    return datetime.now(UTC)


def _bad_jwt(detail: str) -> AuthError:
    return AuthError(403, "bad_jwt", f"invalid JWT: {detail}")
