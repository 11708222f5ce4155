"""
Auth's users and identities: the rows, and the JSON objects the clients get.

Every function works in the caller's transaction as the role `supabase_auth_admin`, so a trigger on
`auth.users` runs with the privileges it has on Supabase.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bcrypt
import psycopg
from psycopg.types.json import Jsonb

from local.standins.supabase_database import Connection, Row, fetch
from local.standins.supabase_errors import AuthError
from local.standins.supabase_tokens import AUDIENCE

BCRYPT_COST = 4
"""The lowest: these passwords protect nothing, and tests sign in often."""

_NO_INSTANCE = uuid.UUID(int=0)


def timestamp(moment: datetime | None) -> str | None:
    """Return `moment` as Auth writes times: microseconds and a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None


def hash_password(password: str) -> str:
    """Return the bcrypt hash of `password`."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(BCRYPT_COST)).decode()


def password_fits(user: Row, password: str) -> bool:
    """Say whether `password` is the user's; a user of Google has none."""
    stored = user["encrypted_password"] or ""
    if not stored or len(password.encode()) > 72:
        return False
    return bcrypt.checkpw(password.encode(), stored.encode())


def by_id(connection: Connection, user_id: str) -> Row | None:
    """Return the user's row, locked against concurrent changes."""
    return fetch(connection, "select * from auth.users where id = %s for update", user_id)


def by_email(connection: Connection, email: str) -> Row | None:
    """Return the row of the user with that (normalised) e-mail."""
    return fetch(
        connection,
        "select * from auth.users where email = %s and not is_sso_user for update",
        email,
    )


def by_identity(connection: Connection, provider: str, provider_id: str) -> Row | None:
    """Return the row of the user who signs in with that provider's account."""
    return fetch(
        connection,
        "select u.* from auth.users u join auth.identities i on i.user_id = u.id"
        " where i.provider = %s and i.provider_id = %s",
        provider,
        provider_id,
    )


def insert(
    connection: Connection,
    *,
    provider: str,
    email: str | None,
    password: str | None,
    metadata: Mapping[str, Any],
) -> Row:
    """
    Insert the user and return the row.

    Any error of the database, such as a trigger that fails, is the famous 500 and undoes it all.
    """
    try:
        user = fetch(
            connection,
            "insert into auth.users (instance_id, id, aud, role, email, encrypted_password,"
            " confirmation_token, recovery_token, email_change_token_new, email_change,"
            " raw_app_meta_data, raw_user_meta_data, created_at, updated_at)"
            " values (%s, %s, %s, 'authenticated', %s, %s, '', '', '', '', %s, %s, now(), now())"
            " returning *",
            _NO_INSTANCE,
            uuid.uuid4(),
            AUDIENCE,
            email,
            hash_password(password) if password else "",
            Jsonb({"provider": provider, "providers": [provider]}),
            Jsonb(dict(metadata)),
        )
    except psycopg.Error as error:
        raise AuthError(500, "unexpected_failure", "Database error saving new user") from error
    return user or {}


def add_identity(
    connection: Connection, user: Row, provider: str, provider_id: str, data: Mapping[str, Any]
) -> Row:
    """Add a way to sign in, merge what the provider tells into the user, and return the row."""
    connection.execute(
        "insert into auth.identities (provider_id, user_id, identity_data, provider,"
        " last_sign_in_at, created_at, updated_at) values (%s, %s, %s, %s, now(), now(), now())",
        (provider_id, user["id"], Jsonb(dict(data)), provider),
    )
    app = user["raw_app_meta_data"]
    providers = sorted({*app["providers"], provider})
    return update(
        connection,
        user["id"],
        raw_app_meta_data=Jsonb({**app, "providers": providers}),
        raw_user_meta_data=Jsonb({**user["raw_user_meta_data"], **data}),
    )


def update(connection: Connection, user_id: uuid.UUID, **columns: Any) -> Row:
    """Set columns of the user and return the row."""
    names = psycopg.sql.SQL(", ").join(
        psycopg.sql.SQL("{} = %s").format(psycopg.sql.Identifier(name)) for name in columns
    )
    statement = psycopg.sql.SQL(
        "update auth.users set {}, updated_at = now() where id = %s returning *"
    ).format(names)
    return connection.execute(statement, [*columns.values(), user_id]).fetchone() or {}


def confirm(connection: Connection, user: Row) -> Row:
    """Mark the user's e-mail as confirmed and return the row."""
    metadata = Jsonb({**user["raw_user_meta_data"], "email_verified": True})
    now = datetime.now(UTC)
    return update(connection, user["id"], email_confirmed_at=now, raw_user_meta_data=metadata)


def as_json(connection: Connection, user: Row) -> dict[str, Any]:
    """Return the user object of the API; members that are null are left out as Auth does."""
    identities = connection.execute(
        "select * from auth.identities where user_id = %s order by created_at, provider",
        (user["id"],),
    ).fetchall()
    optional = {
        name: timestamp(user[name])
        for name in (
            "email_confirmed_at",
            "confirmation_sent_at",
            "confirmed_at",
            "email_change_sent_at",
            "last_sign_in_at",
            "banned_until",
        )
        if user[name]
    }
    return {
        "id": str(user["id"]),
        "aud": user["aud"],
        "role": user["role"],
        "email": user["email"] or "",
        "phone": user["phone"] or "",
        **optional,
        **({"new_email": user["email_change"]} if user["email_change"] else {}),
        "app_metadata": user["raw_app_meta_data"],
        "user_metadata": user["raw_user_meta_data"],
        "identities": [_identity(row) for row in identities],
        "created_at": timestamp(user["created_at"]),
        "updated_at": timestamp(user["updated_at"]),
        "is_anonymous": user["is_anonymous"],
    }


def made_up(email: str) -> dict[str, Any]:
    """Return the user object that hides from a stranger that `email` is registered already."""
    now = timestamp(datetime.now(UTC))
    return {
        "id": str(uuid.uuid4()),
        "aud": AUDIENCE,
        "role": "",
        "email": email,
        "phone": "",
        "confirmation_sent_at": now,
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {},
        "identities": [],
        "created_at": now,
        "updated_at": now,
        "is_anonymous": False,
    }


def _identity(row: Row) -> dict[str, Any]:
    return {
        "identity_id": str(row["id"]),
        "id": row["provider_id"],
        "user_id": str(row["user_id"]),
        "identity_data": row["identity_data"],
        "provider": row["provider"],
        "last_sign_in_at": timestamp(row["last_sign_in_at"]),
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
        "email": row["email"],
    }
