"""
Sign-in with Google, by PKCE and by the implicit flow, without Google.

The person at the other end is fixed and says yes at once, so the browser comes straight back.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from local.standins import supabase_users as users
from local.standins.server import Request, Response
from local.standins.supabase_database import AUTH, Connection, Database, Row
from local.standins.supabase_errors import AuthError
from local.standins.supabase_sessions import Sessions

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class GoogleUser:
    """The person at the other end of every Google sign-in; Google may tell no e-mail."""

    subject: str = "100000000000000000001"
    name: str = "Grace Example"
    email: str | None = "grace@example.com"

    def claims(self) -> dict[str, Any]:
        """Return what Google tells about the person."""
        mail = {"email": self.email, "email_verified": True} if self.email else {}
        return {
            "iss": "https://accounts.google.com",
            "sub": self.subject,
            "name": self.name,
            "full_name": self.name,
            "avatar_url": "https://lh3.example.com/grace.png",
            "phone_verified": False,
            **mail,
        }


@dataclass(frozen=True)
class _Code:
    """A PKCE code that waits to be exchanged."""

    user_id: str
    challenge: str
    method: str


class OAuth:
    """
    The sign-in with Google of one project.

    `google_user` may be replaced by a test. `site_url` is where a sign-in returns to when it asks
    for an address that is not on the allow-list (this machine).
    """

    def __init__(self, database: Database, sessions: Sessions, site_url: str) -> None:
        self.google_user = GoogleUser()
        self.site_url = site_url
        self._database = database
        self._sessions = sessions
        self._codes: dict[str, _Code] = {}
        self._lock = threading.Lock()

    def authorize(self, request: Request) -> Response:
        """Skip the provider: return at once as the fixed Google user."""
        provider = request.query.get("provider", "")
        if provider != "google":
            detail = "provider is not enabled" if provider else "Provider  could not be found"
            raise AuthError(400, "validation_failed", f"Unsupported provider: {detail}")
        challenge = request.query.get("code_challenge", "")
        method = request.query.get("code_challenge_method", "").lower()
        if bool(challenge) != bool(method) or method not in ("", "s256", "plain"):
            message = "PKCE flow requires code_challenge_method and code_challenge"
            raise AuthError(400, "validation_failed", message)
        target = self.landing(request.query.get("redirect_to", ""))
        if "oauth_denied" in request.faults:
            return _back_with_error(target, "access_denied", "access_denied", "User said no")
        try:
            with self._database.transaction(AUTH) as connection:
                user = self._google_sign_in(connection)
                if not challenge:
                    session = self._sessions.start(connection, user, "oauth")
        except AuthError as error:
            return _back_with_error(target, "server_error", error.code, error.message)
        if not challenge:
            del session["user"]
            fragment = {**session, "provider_token": provider_token(), "sb": ""}
            return _redirect(f"{target}#{urlencode(sorted(fragment.items()))}")
        code = str(uuid.uuid4())
        with self._lock:
            self._codes[code] = _Code(str(user["id"]), challenge, method)
        return _redirect(_with_query(target, {"code": code}))

    def landing(self, target: str) -> str:
        """Return where to go back to: `target` if it is on the allow-list."""
        return target if urlsplit(target).hostname in _LOOPBACK else self.site_url

    def redeem(self, auth_code: str, verifier: str) -> str:
        """Return the id of the user a PKCE code stands for, once; raises `AuthError`."""
        if not auth_code or not verifier:
            message = "invalid request: both auth code and code verifier should be non-empty"
            raise AuthError(400, "validation_failed", message)
        with self._lock:
            code = self._codes.get(auth_code)
            if code is None:
                message = "invalid flow state, no valid flow state found"
                raise AuthError(404, "flow_state_not_found", message)
            if _challenge(verifier, code.method) != code.challenge:
                message = "code challenge does not match previously saved code verifier"
                raise AuthError(400, "bad_code_verifier", message)
            del self._codes[auth_code]
        return code.user_id

    def _google_sign_in(self, connection: Connection) -> Row:
        """Return the Google user's row: known, linked by the verified e-mail, or new."""
        person = self.google_user
        claims = person.claims()
        user = users.by_identity(connection, "google", person.subject)
        if user is None:
            user = users.by_email(connection, person.email) if person.email else None
            if user is None:
                user = users.insert(
                    connection,
                    provider="google",
                    email=person.email,
                    password=None,
                    metadata=claims,
                )
            user = users.add_identity(connection, user, "google", person.subject, claims)
        if person.email and user["email_confirmed_at"] is None:
            user = users.confirm(connection, user)
        return user


def _challenge(verifier: str, method: str) -> str:
    if method == "plain":
        return verifier
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def provider_token() -> str:
    """Return what stands for Google's own token, which products pass on to Google's APIs."""
    return f"google-{uuid.uuid4()}"


def _redirect(location: str) -> Response:
    return Response(302, headers={"location": location})


def _with_query(target: str, query: dict[str, str]) -> str:
    return f"{target}{'&' if urlsplit(target).query else '?'}{urlencode(query)}"


def _back_with_error(target: str, error: str, code: str, description: str) -> Response:
    told = {"error": error, "error_code": code, "error_description": description}
    return _redirect(f"{_with_query(target, told)}#{urlencode(told)}")
