"""
The mail that asks a new user to confirm the address: nobody sends it, whoever looks can read it.

Its link works as in a project of the default settings: once, for an hour, and it comes back with
the session in the fragment. A sign-up with a code challenge (PKCE) gets the same link here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from local.standins import supabase_users as users
from local.standins.server import Request, Response
from local.standins.supabase_database import AUTH, Connection, Database, Row, fetch
from local.standins.supabase_errors import AuthError
from local.standins.supabase_sessions import Sessions

_LIFE = timedelta(hours=1)


@dataclass(frozen=True)
class Mail:
    """A mail of the project: whom it is for, and the link in it."""

    to: str
    link: str


class Confirmation:
    """
    The confirmation mails of one project, newest last in `mails`.

    `url` is where Auth answers; `landing` says where a link may come back to.
    """

    def __init__(
        self, database: Database, sessions: Sessions, url: str, landing: Callable[[str], str]
    ) -> None:
        self.mails: list[Mail] = []
        self._database = database
        self._sessions = sessions
        self._url = url
        self._landing = landing

    def send(self, connection: Connection, user: Row, redirect_to: str) -> Row:
        """Write the user a mail, whose link replaces that of an earlier one; return the row."""
        token = secrets.token_hex(28)
        query = {"token": token, "type": "signup", "redirect_to": self._landing(redirect_to)}
        self.mails.append(Mail(user["email"], f"{self._url}/verify?{urlencode(query)}"))
        now = datetime.now(UTC)
        return users.update(
            connection, user["id"], confirmation_token=token, confirmation_sent_at=now
        )

    def verify(self, request: Request) -> Response:
        """Follow a link: confirm the address, and come back signed in or with the reason."""
        token = request.query.get("token", "")
        if not token:
            raise AuthError(400, "validation_failed", "Verify requires a token or a token hash")
        if request.query.get("type") != "signup":
            raise AuthError(400, "validation_failed", "Verify requires a verification type")
        target = self._landing(request.query.get("redirect_to", ""))
        with self._database.transaction(AUTH) as connection:
            user = fetch(
                connection,
                "select * from auth.users where confirmation_token = %s"
                " and confirmation_sent_at > %s for update",
                token,
                datetime.now(UTC) - _LIFE,
            )
            if user is None:
                return _back(
                    target,
                    error="access_denied",
                    error_code="otp_expired",
                    error_description="Email link is invalid or has expired",
                )
            user = users.confirm(connection, user)
            user = users.update(connection, user["id"], confirmation_token="")
            session = self._sessions.start(connection, user, "otp")
        del session["user"]
        return _back(target, **session, type="signup")


def _back(target: str, **fragment: str) -> Response:
    return Response(303, headers={"location": f"{target}#{urlencode(sorted(fragment.items()))}"})
