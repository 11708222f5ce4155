"""The real supabase-py client, unchanged, signs people up, in and out at the stand-in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import psycopg
import pytest
from supabase import Client
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from local.standins.supabase import Supabase
from local.standins.supabase_oauth import GoogleUser

from .conftest import PASSWORD, Person

RETURN_TO = "http://localhost:3000/welcome?from=google"


def test_sign_up_makes_rows_and_a_session(
    supabase: Supabase,
    admin: psycopg.Connection,
    new_client: Callable[..., Client],
    fresh_email: Callable[[], str],
) -> None:
    """A sign-up gives a session at once and leaves the rows that Supabase Auth leaves."""
    email = fresh_email()
    options: Any = {"data": {"nick": "al"}}

    answer = new_client().auth.sign_up(
        {"email": f" {email.upper()} ", "password": PASSWORD, "options": options}
    )

    assert answer.user is not None
    assert answer.session is not None
    assert answer.user.email == email
    assert answer.user.app_metadata == {"provider": "email", "providers": ["email"]}
    assert answer.user.user_metadata["nick"] == "al"
    assert answer.user.user_metadata["email_verified"] is True
    claims = jwt.decode(
        answer.session.access_token,
        jwt.PyJWK(supabase.jwks["keys"][0]).key,
        algorithms=["ES256"],
        audience="authenticated",
        issuer=f"{supabase.url}/auth/v1",
    )
    assert claims["sub"] == answer.user.id
    assert claims["role"] == "authenticated"
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["amr"][0]["method"] == "password"
    rows = admin.execute(
        "select i.provider, i.provider_id, s.id, r.revoked, left(u.encrypted_password, 7)"
        " from auth.users u join auth.identities i on i.user_id = u.id"
        " join auth.sessions s on s.user_id = u.id"
        " join auth.refresh_tokens r on r.session_id = s.id where u.id = %s",
        (answer.user.id,),
    ).fetchall()
    assert [str(column) for column in rows[0]] == [
        "email",
        answer.user.id,
        claims["session_id"],
        "False",
        "$2b$04$",
    ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b"[]", 400, "bad_json"),
        (b'{"email": 1}', 400, "bad_json"),
        (b"{}", 422, "anonymous_provider_disabled"),
        (b'{"phone": "123", "password": "correct horse"}', 400, "phone_provider_disabled"),
        (b'{"email": "nobody", "password": "correct horse"}', 400, "validation_failed"),
        (b'{"email": "a@example.com"}', 400, "validation_failed"),
        (b'{"email": "a@example.com", "password": "%s"}' % (b"x" * 73), 400, "validation_failed"),
    ],
)
def test_sign_up_refuses_malformed_accounts(
    http: httpx.Client, supabase: Supabase, body: bytes, status: int, code: str
) -> None:
    """A sign-up without a proper e-mail or password is refused with the code Supabase uses."""
    headers = {"apikey": supabase.publishable_key, "x-supabase-api-version": "2024-01-01"}
    answer = http.post(f"{supabase.url}/auth/v1/signup", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["x-sb-error-code"] == code
    assert answer.headers["x-supabase-api-version"] == "2024-01-01"


def test_sign_up_refuses_a_weak_password(new_client: Callable[..., Client]) -> None:
    """A password under six characters is refused and the client is told why."""
    client = new_client()
    with pytest.raises(AuthWeakPasswordError) as refusal:
        client.auth.sign_up({"email": "weak@example.com", "password": "12345"})
    assert refusal.value.reasons == ["length"]


def test_sign_up_twice_is_refused(new_client: Callable[..., Client], alice: Person) -> None:
    """A registered e-mail cannot be signed up again while confirmation is off."""
    client = new_client()
    with pytest.raises(AuthApiError) as refusal:
        client.auth.sign_up({"email": alice.email, "password": PASSWORD})
    assert (refusal.value.status, refusal.value.code) == (422, "user_already_exists")


def test_confirmation_hides_who_is_registered(
    supabase: Supabase,
    new_client: Callable[..., Client],
    alice: Person,
    fresh_email: Callable[[], str],
) -> None:
    """With confirmation on, a sign-up gives no session, and a registered e-mail looks new."""
    supabase.auth.autoconfirm = False
    client, email = new_client(), fresh_email()

    new = client.auth.sign_up({"email": email, "password": PASSWORD})
    known = client.auth.sign_up({"email": alice.email, "password": PASSWORD})

    assert new.session is None
    assert new.user is not None
    assert new.user.identities
    assert known.session is None
    assert known.user is not None
    assert known.user.id != alice.id
    assert known.user.identities == []
    with pytest.raises(AuthApiError) as refusal:
        client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert refusal.value.code == "email_not_confirmed"


def test_broken_trigger_blocks_the_sign_up(
    admin: psycopg.Connection, new_client: Callable[..., Client], fresh_email: Callable[[], str]
) -> None:
    """A trigger that fails on auth.users answers 500 and keeps nothing of the user."""
    email, client = fresh_email(), new_client()
    admin.execute(
        "create function public.broken() returns trigger language plpgsql as"
        " $$ begin if new.email = tg_argv[0] then raise 'no'; end if; return new; end $$"
    )
    admin.execute(
        f"create trigger broken after insert on auth.users"
        f" for each row execute function public.broken('{email}')"
    )
    try:
        with pytest.raises(AuthApiError, match="Database error saving new user") as refusal:
            client.auth.sign_up({"email": email, "password": PASSWORD})
    finally:
        admin.execute("drop function public.broken cascade")
    assert (refusal.value.status, refusal.value.code) == (500, "unexpected_failure")
    assert not admin.execute("select from auth.users where email = %s", (email,)).fetchall()


def test_trigger_runs_with_the_privileges_of_auth(
    admin: psycopg.Connection, new_client: Callable[..., Client], fresh_email: Callable[[], str]
) -> None:
    """A trigger without security definer may not write to public, as on Supabase."""
    client = new_client()
    admin.execute("create table public.sign_ups (id uuid primary key)")
    admin.execute(
        "create function public.profile() returns trigger language plpgsql as"
        " $$ begin insert into public.sign_ups values (new.id); return new; end $$"
    )
    admin.execute(
        "create trigger profile after insert on auth.users"
        " for each row execute function public.profile()"
    )
    try:
        with pytest.raises(AuthApiError, match="Database error saving new user"):
            client.auth.sign_up({"email": fresh_email(), "password": PASSWORD})
        admin.execute("alter function public.profile() security definer")
        client.auth.sign_up({"email": fresh_email(), "password": PASSWORD})
    finally:
        admin.execute("drop function public.profile cascade")
        admin.execute("drop table public.sign_ups")


@pytest.mark.parametrize("change", [{"password": "wrong horse"}, {"email": "nobody@example.com"}])
def test_sign_in_refuses_wrong_credentials(
    new_client: Callable[..., Client], alice: Person, change: dict[str, str]
) -> None:
    """A wrong password and an unknown e-mail are refused alike."""
    client = new_client()
    credentials: Any = {"email": alice.email, "password": PASSWORD, **change}
    with pytest.raises(AuthApiError, match="Invalid login credentials") as refusal:
        client.auth.sign_in_with_password(credentials)
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_credentials")


def test_banned_user_cannot_sign_in(
    admin: psycopg.Connection, new_client: Callable[..., Client], alice: Person
) -> None:
    """A banned user gets neither a new session nor a fresh token for the old one."""
    client = _signed_in(new_client(), alice)
    statement = "update auth.users set banned_until = now() + interval '1 day' where id = %s"
    admin.execute(statement, (alice.id,))
    for attempt in (lambda: _signed_in(new_client(), alice), client.auth.refresh_session):
        with pytest.raises(AuthApiError) as refusal:
            attempt()
        assert refusal.value.code == "user_banned"


def test_claims_cost_one_fetch_of_the_keys(
    supabase: Supabase, new_client: Callable[..., Client], alice: Person
) -> None:
    """The client verifies tokens with the published key and fetches it once."""
    client = _signed_in(new_client(), alice)
    for _ in range(2):
        claims = client.auth.get_claims()
        assert claims is not None
        assert claims["claims"]["sub"] == alice.id
    paths = [request.path for request in supabase.requests]
    assert paths.count("/auth/v1/.well-known/jwks.json") == 1
    assert "/auth/v1/user" not in paths


def test_refresh_rotates(new_client: Callable[..., Client], alice: Person) -> None:
    """A refresh gives new tokens for the same session."""
    client = _signed_in(new_client(), alice)
    before = client.auth.get_session()
    after = client.auth.refresh_session().session
    assert before is not None
    assert after is not None
    assert after.refresh_token != before.refresh_token
    assert (
        _unverified(after.access_token)["session_id"]
        == (_unverified(before.access_token)["session_id"])
    )


def test_lost_refresh_answer_is_forgiven(
    supabase: Supabase, new_client: Callable[..., Client], alice: Person
) -> None:
    """A client that never saw the answer to a refresh may repeat it and gets the active token."""
    supabase.auth.sessions.reuse_seconds = 0
    client = _signed_in(new_client(), alice)
    session = client.auth.get_session()
    assert session is not None
    first = client.auth.refresh_session(session.refresh_token).session
    again = client.auth.refresh_session(session.refresh_token).session
    assert first is not None
    assert again is not None
    assert again.refresh_token == first.refresh_token


def test_tabs_that_refresh_at_once_share_a_token(
    http: httpx.Client, supabase: Supabase, admin: psycopg.Connection, alice: Person
) -> None:
    """Tabs that refresh with the same token at once all get the same new one."""
    url, headers = f"{supabase.url}/auth/v1/token", {"apikey": supabase.publishable_key}
    credentials = {"email": alice.email, "password": PASSWORD}
    query = {"grant_type": "password"}
    old = http.post(url, params=query, json=credentials, headers=headers).json()["refresh_token"]

    def refresh(_: int) -> str:
        query, body = {"grant_type": "refresh_token"}, {"refresh_token": old}
        answer = http.post(url, params=query, json=body, headers=headers)
        return str(answer.json()["refresh_token"])

    with ThreadPoolExecutor(6) as tabs:
        new = set(tabs.map(refresh, range(12)))
    assert len(new) == 1
    statement = "select token from auth.refresh_tokens where parent = %s"
    assert admin.execute(statement, (old,)).fetchall() == [(new.pop(),)]


def test_stolen_refresh_token_ends_the_session(
    supabase: Supabase, new_client: Callable[..., Client], alice: Person
) -> None:
    """A refresh token used again after its successor was used ends the whole session."""
    supabase.auth.sessions.reuse_seconds = 0
    client = _signed_in(new_client(), alice)
    old = client.auth.get_session()
    assert old is not None
    client.auth.refresh_session()
    active = client.auth.refresh_session().session
    assert active is not None
    for token in (old.refresh_token, active.refresh_token):
        with pytest.raises(AuthApiError) as refusal:
            client.auth.refresh_session(token)
        assert (refusal.value.status, refusal.value.code) == (400, "refresh_token_already_used")


def test_unknown_refresh_token_is_refused(new_client: Callable[..., Client]) -> None:
    """A refresh token nobody issued is not found."""
    client = new_client()
    with pytest.raises(AuthApiError) as refusal:
        client.auth.refresh_session("abcdefghijkl")
    assert (refusal.value.status, refusal.value.code) == (400, "refresh_token_not_found")


def test_user_can_be_read_and_changed(new_client: Callable[..., Client], alice: Person) -> None:
    """A signed-in user reads the account, merges metadata, and changes e-mail and password."""
    client = _signed_in(new_client(), alice)
    client.auth.update_user({"data": {"nick": "al", "team": "blue"}})
    client.auth.update_user({"data": {"team": None}})
    client.auth.update_user({"password": "better horse", "email": f"new.{alice.email}"})

    answer = client.auth.get_user()

    assert answer is not None
    assert answer.user.id == alice.id
    assert answer.user.email == f"new.{alice.email}"
    assert answer.user.user_metadata["nick"] == "al"
    assert "team" not in answer.user.user_metadata
    other = new_client()
    other.auth.sign_in_with_password({"email": f"new.{alice.email}", "password": "better horse"})


def test_update_refuses_what_is_taken_or_the_same(
    new_client: Callable[..., Client], alice: Person, bob: Person
) -> None:
    """Another user's e-mail and the old password are refused as changes."""
    client = _signed_in(new_client(), alice)
    changes: list[tuple[Any, str]] = [
        ({"email": bob.email}, "email_exists"),
        ({"password": PASSWORD}, "same_password"),
    ]
    for change, code in changes:
        with pytest.raises(AuthApiError) as refusal:
            client.auth.update_user(change)
        assert (refusal.value.status, refusal.value.code) == (422, code)


def test_sign_out_ends_the_session(new_client: Callable[..., Client], alice: Person) -> None:
    """After signing out the token verifies no more at /user, although its time is not up."""
    client = _signed_in(new_client(), alice)
    session = client.auth.get_session()
    assert session is not None
    client.auth.sign_out()
    with pytest.raises(AuthApiError) as refusal:
        client.auth.get_user(session.access_token)
    assert (refusal.value.status, refusal.value.code) == (403, "session_not_found")


def test_sign_out_scopes(new_client: Callable[..., Client], alice: Person) -> None:
    """Signing out elsewhere keeps this session and ends the others."""
    here, there = _signed_in(new_client(), alice), _signed_in(new_client(), alice)
    here.auth.sign_out({"scope": "others"})
    # supabase-py forgets its session whatever the scope: ask with the tokens themselves
    assert there.auth.get_session() is not None
    with pytest.raises(AuthApiError) as refusal:
        there.auth.get_user()
    assert refusal.value.code == "session_not_found"


def test_deleted_user_is_not_found(
    admin: psycopg.Connection, new_client: Callable[..., Client], alice: Person
) -> None:
    """A valid token of a deleted user is refused."""
    admin.execute("delete from auth.users where id = %s", (alice.id,))
    client = new_client()
    with pytest.raises(AuthApiError) as refusal:
        client.auth.get_user(alice.token)
    assert (refusal.value.status, refusal.value.code) == (403, "user_not_found")


def test_bad_tokens_are_refused(
    supabase: Supabase, new_client: Callable[..., Client], alice: Person
) -> None:
    """Garbage, a forged signature, an expired token and an API key are all bad tokens."""
    client = new_client()
    good = alice.token
    stranger = jwt.encode({"sub": alice.id}, "x" * 32, algorithm="HS256")
    tokens = (
        "garbage",
        good[:-4] + ("AAAA" if not good.endswith("AAAA") else "BBBB"),
        stranger,
        supabase.sign_token(sub=alice.id, exp=int(time.time()) - 10),
        supabase.publishable_key,
    )
    for token in tokens:
        with pytest.raises(AuthApiError) as refusal:
            client.auth.get_user(token)
        assert (refusal.value.status, refusal.value.code) == (403, "bad_jwt")


def test_google_by_pkce(http: httpx.Client, new_client: Callable[..., Client]) -> None:
    """Signing in with Google returns with a code that works once, and only with its verifier."""
    client = new_client()
    url = client.auth.sign_in_with_oauth(
        {"provider": "google", "options": {"redirect_to": RETURN_TO}}
    ).url
    target = http.get(url).headers["location"]
    assert target.startswith(f"{RETURN_TO}&code=")
    code = parse_qs(urlsplit(target).query)["code"][0]

    wrong: Any = {"auth_code": code, "code_verifier": "x" * 56, "redirect_to": RETURN_TO}
    with pytest.raises(AuthApiError) as refusal:
        client.auth.exchange_code_for_session(wrong)
    assert (refusal.value.status, refusal.value.code) == (400, "bad_code_verifier")

    verifier = client.auth._storage.get_item(f"{client.auth._storage_key}-code-verifier")
    right: Any = {"auth_code": code, "code_verifier": verifier, "redirect_to": RETURN_TO}
    answer = client.auth.exchange_code_for_session(right)
    assert answer.session is not None
    assert answer.session.provider_token
    assert answer.session.user.email == "grace@example.com"
    assert answer.session.user.app_metadata["provider"] == "google"
    assert answer.session.user.user_metadata["full_name"] == "Grace Example"
    assert _unverified(answer.session.access_token)["amr"][0]["method"] == "oauth"

    with pytest.raises(AuthApiError) as refusal:
        client.auth.exchange_code_for_session(right)
    assert (refusal.value.status, refusal.value.code) == (404, "flow_state_not_found")


def test_google_by_the_implicit_flow(http: httpx.Client, new_client: Callable[..., Client]) -> None:
    """The implicit flow returns the whole session in the fragment."""
    client = new_client(flow="implicit")
    url = client.auth.sign_in_with_oauth(
        {"provider": "google", "options": {"redirect_to": RETURN_TO}}
    ).url
    target = urlsplit(http.get(url).headers["location"])
    fragment = {name: values[0] for name, values in parse_qs(target.fragment).items()}
    assert fragment["token_type"] == "bearer"
    assert fragment["expires_in"] == "3600"
    answer = client.auth.set_session(fragment["access_token"], fragment["refresh_token"])
    assert answer.user is not None
    assert answer.user.email == "grace@example.com"


def test_google_user_may_have_no_email(
    http: httpx.Client, supabase: Supabase, new_client: Callable[..., Client]
) -> None:
    """A Google user without an e-mail signs in, and again as the same user."""
    supabase.auth.oauth.google_user = GoogleUser(subject="200", name="Nobody", email=None)
    users = [_google_session(http, new_client()).user for _ in range(2)]
    assert users[0].id == users[1].id
    assert not users[0].email


def test_google_joins_the_account_with_its_email(
    http: httpx.Client, supabase: Supabase, new_client: Callable[..., Client], alice: Person
) -> None:
    """A verified Google e-mail signs in to the account that has it, which keeps its password."""
    supabase.auth.oauth.google_user = GoogleUser(subject="201", name="Alice", email=alice.email)
    user = _google_session(http, new_client()).user
    assert user.id == alice.id
    assert user.app_metadata == {"provider": "email", "providers": ["email", "google"]}
    _signed_in(new_client(), alice)


def test_oauth_refusals_return_to_the_product(http: httpx.Client, supabase: Supabase) -> None:
    """A Google user who says no comes back with the error in query and fragment."""
    supabase.faults.add("oauth_denied", times=1)
    query = {"provider": "google", "redirect_to": "http://localhost:3000/"}
    target = urlsplit(_authorize(http, supabase, query).headers["location"])
    assert parse_qs(target.query)["error"] == ["access_denied"]
    assert parse_qs(target.fragment) == parse_qs(target.query)


def test_oauth_never_returns_to_a_stranger(http: httpx.Client, supabase: Supabase) -> None:
    """An address off the allow-list is replaced by the site's own."""
    query = {"provider": "google", "redirect_to": "https://evil.example.com/"}
    location = _authorize(http, supabase, query).headers["location"]
    assert location.startswith(f"{supabase.url}/#access_token=")


def test_unknown_oauth_provider_is_refused(http: httpx.Client, supabase: Supabase) -> None:
    """A provider that is not switched on is refused, in the old error shape without a version."""
    answer = _authorize(http, supabase, {"provider": "facebook"})
    assert answer.status_code == 400
    assert answer.json() == {
        "code": 400,
        "error_code": "validation_failed",
        "msg": "Unsupported provider: provider is not enabled",
    }


def test_expired_token_fault(
    supabase: Supabase, new_client: Callable[..., Client], alice: Person
) -> None:
    """The fault `expired_token` hands out a session whose access token has expired."""
    supabase.faults.add("expired_token", "POST /auth/v1/token", times=1)
    client = _signed_in(new_client(), alice)
    with pytest.raises(AuthApiError, match="token is expired"):
        client.auth.get_user()


def test_empty_jwks_fault(http: httpx.Client, supabase: Supabase) -> None:
    """The fault `empty_jwks` looks like a legacy project: no keys are published."""
    supabase.faults.add("empty_jwks", times=1)
    url = f"{supabase.url}/auth/v1/.well-known/jwks.json"
    assert http.get(url).json() == {"keys": []}
    answer = http.get(url)
    assert answer.headers["cache-control"] == "public, max-age=600"
    assert answer.json() == supabase.jwks
    assert "d" not in supabase.jwks["keys"][0]


def test_legacy_projects_sign_with_the_shared_secret(
    supabase: Supabase, new_client: Callable[..., Client], alice: Person
) -> None:
    """A legacy project publishes no keys and signs with HS256, and its tokens still work."""
    supabase.tokens.algorithm = "HS256"
    client = _signed_in(new_client(), alice)
    session = client.auth.get_session()
    assert supabase.jwks == {"keys": []}
    assert client.auth.get_user() is not None
    assert session is not None
    secret = supabase.legacy_jwt_secret
    claims = jwt.decode(
        session.access_token, secret, algorithms=["HS256"], audience="authenticated"
    )
    assert claims["sub"] == alice.id


def test_auth_survives_a_lost_connection(
    admin: psycopg.Connection, new_client: Callable[..., Client], alice: Person
) -> None:
    """Connections that the database dropped are replaced without the client noticing."""
    client = _signed_in(new_client(), alice)
    admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where backend_type = 'client backend' and pid <> pg_backend_pid()"
    )
    assert client.auth.get_user() is not None


def _signed_in(client: Client, person: Person) -> Client:
    client.auth.sign_in_with_password({"email": person.email, "password": person.password})
    return client


def _google_session(http: httpx.Client, client: Client) -> Any:
    url = client.auth.sign_in_with_oauth(
        {"provider": "google", "options": {"redirect_to": RETURN_TO}}
    ).url
    code = parse_qs(urlsplit(http.get(url).headers["location"]).query)["code"][0]
    parameters: Any = {"auth_code": code, "redirect_to": RETURN_TO}
    return client.auth.exchange_code_for_session(parameters).session


def _authorize(http: httpx.Client, supabase: Supabase, query: dict[str, str]) -> httpx.Response:
    return http.get(f"{supabase.url}/auth/v1/authorize", params=query)


def _unverified(token: str) -> dict[str, Any]:
    with contextlib.suppress(jwt.PyJWTError):
        return jwt.decode(token, options={"verify_signature": False})
    raise AssertionError(f"no token: {token}")
