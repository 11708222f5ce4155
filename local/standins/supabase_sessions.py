"""
Auth's sessions: access tokens, and refresh tokens that rotate.

A refresh token works once. Used again it is forgiven when a client merely lost the answer (or two
browser tabs raced); else it was stolen, and the whole session ends.
"""

from __future__ import annotations

import base64
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from local.standins import supabase_users as users
from local.standins.supabase_database import AUTH, Connection, Database, Row, fetch
from local.standins.supabase_errors import AuthError
from local.standins.supabase_tokens import Tokens

_INVALID = "Invalid Refresh Token: "


class Sessions:
    """
    The sessions of one project.

    `reuse_seconds` is the interval in which a used refresh token may be used again.
    """

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens
        self.reuse_seconds = 10.0

    def start(
        self,
        connection: Connection,
        user: Row,
        method: str,
        *,
        agent: str = "",
        expired: bool = False,
    ) -> dict[str, Any]:
        """Open a session (`method`: `password` or `oauth`) and return the session object."""
        if user["banned_until"] and user["banned_until"] > datetime.now(UTC):
            raise AuthError(400, "user_banned", "User is banned")
        session_id = uuid.uuid4()
        connection.execute(
            "insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)"
            " values (%s, %s, now(), now(), 'aal1', %s, '127.0.0.1')",
            (session_id, user["id"], agent),
        )
        connection.execute(
            "insert into auth.mfa_amr_claims"
            " (id, session_id, created_at, updated_at, authentication_method)"
            " values (%s, %s, now(), now(), %s)",
            (uuid.uuid4(), session_id, method),
        )
        user = users.update(connection, user["id"], last_sign_in_at=datetime.now(UTC))
        token = _insert_token(connection, user["id"], session_id, parent=None)
        return self._as_json(connection, user, session_id, token, expired=expired)

    def refresh(self, token: str, *, expired: bool = False) -> dict[str, Any]:
        """Swap a refresh token for a new session object; raises `AuthError`."""
        with self._database.transaction(AUTH) as connection:
            row = fetch(
                connection,
                "select t.*, s.id as live from auth.refresh_tokens t"
                " left join auth.sessions s on s.id = t.session_id"
                " where t.token = %s for update of t",
                token,
            )
            if row is None:
                message = f"{_INVALID}Refresh Token Not Found"
                raise AuthError(400, "refresh_token_not_found", message)
            if row["live"] is None:
                message = f"{_INVALID}No Valid Session Found"
                raise AuthError(400, "session_not_found", message)
            user = users.by_id(connection, row["user_id"])
            if user is None:
                message = f"{_INVALID}Refresh Token Not Found"
                raise AuthError(400, "refresh_token_not_found", message)
            if user["banned_until"] and user["banned_until"] > datetime.now(UTC):
                raise AuthError(400, "user_banned", f"{_INVALID}User Banned")
            new = self._swap(connection, row)
            if new is not None:
                connection.execute(
                    "update auth.sessions set refreshed_at = now() at time zone 'utc',"
                    " updated_at = now() where id = %s",
                    (row["session_id"],),
                )
                return self._as_json(connection, user, row["session_id"], new, expired=expired)
        # the session's end must be committed, so the refusal comes after the transaction
        raise AuthError(400, "refresh_token_already_used", f"{_INVALID}Already Used")

    def end(self, user_id: str, session_id: str, scope: str) -> None:
        """Delete the sessions of `scope`: `global`, `local` or `others`."""
        with self._database.transaction(AUTH) as connection:
            end_sessions(connection, user_id, session_id, scope)

    def _swap(self, connection: Connection, row: Row) -> str | None:
        """Return the token to hand out for `row`, or None when the session had to be ended."""
        if not row["revoked"]:
            connection.execute(
                "update auth.refresh_tokens set revoked = true, updated_at = now() where id = %s",
                (row["id"],),
            )
            return _insert_token(connection, row["user_id"], row["session_id"], parent=row["token"])
        active = fetch(
            connection,
            "select token, parent from auth.refresh_tokens"
            " where session_id = %s and not revoked order by id desc limit 1",
            row["session_id"],
        )
        age = datetime.now(UTC) - row["updated_at"]
        recent = age < timedelta(seconds=self.reuse_seconds)
        if active and (active["parent"] == row["token"] or recent):
            return str(active["token"])
        connection.execute(
            "update auth.refresh_tokens set revoked = true, updated_at = now()"
            " where session_id = %s and not revoked",
            (row["session_id"],),
        )
        return None

    def _as_json(
        self,
        connection: Connection,
        user: Row,
        session_id: uuid.UUID,
        refresh_token: str,
        *,
        expired: bool,
    ) -> dict[str, Any]:
        claims = self._tokens.access_claims(str(user["id"]))
        expires_in, expires_at = claims["exp"] - claims["iat"], claims["exp"]
        if expired:  # the client is not told, or it would refresh at once
            claims["iat"] -= 2 * expires_in
            claims["exp"] -= 2 * expires_in
        methods = connection.execute(
            "select authentication_method as method, extract(epoch from updated_at)::bigint"
            " as timestamp from auth.mfa_amr_claims where session_id = %s order by updated_at desc",
            (session_id,),
        ).fetchall()
        claims |= {
            "aud": user["aud"],
            "role": user["role"],
            "email": user["email"] or "",
            "phone": user["phone"] or "",
            "app_metadata": user["raw_app_meta_data"],
            "user_metadata": user["raw_user_meta_data"],
            "amr": methods,
            "session_id": str(session_id),
            "is_anonymous": user["is_anonymous"],
        }
        return {
            "access_token": self._tokens.sign(claims),
            "token_type": "bearer",
            "expires_in": expires_in,
            "expires_at": expires_at,
            "refresh_token": refresh_token,
            "user": users.as_json(connection, user),
        }


def end_sessions(connection: Connection, user_id: str, session_id: str, scope: str) -> None:
    """Delete the sessions of `scope` seen from `session_id`, with their refresh tokens."""
    connection.execute(
        "delete from auth.sessions where user_id = %(user)s and case %(scope)s"
        " when 'local' then id = %(session)s when 'others' then id <> %(session)s else true end",
        {"user": user_id, "session": session_id, "scope": scope},
    )


def _insert_token(
    connection: Connection, user_id: object, session_id: uuid.UUID, parent: str | None
) -> str:
    token = base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]
    connection.execute(
        "insert into auth.refresh_tokens"
        " (instance_id, token, user_id, revoked, created_at, updated_at, parent, session_id)"
        " values (%s, %s, %s, false, now(), now(), %s, %s)",
        (uuid.UUID(int=0), token, str(user_id), parent, session_id),
    )
    return token
