"""The confirmation mail of the stand-in, followed as a browser does, and read by the real client."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
from supabase import Client

from local.standins.supabase import Supabase

from .conftest import PASSWORD

RETURN_TO = "http://localhost:3000/welcome"


@pytest.fixture(name="email")
def _email(
    supabase: Supabase, new_client: Callable[..., Client], fresh_email: Callable[[], str]
) -> str:
    """Return the address of somebody who signed up and has not confirmed it."""
    supabase.auth.autoconfirm = False
    email = fresh_email()
    sign_up(new_client(), email)
    return email


def sign_up(client: Client, email: str) -> None:
    """Sign up as a page does that wants to be come back to."""
    client.auth.sign_up(
        {"email": email, "password": PASSWORD, "options": {"email_redirect_to": RETURN_TO}}
    )


def links(supabase: Supabase, email: str) -> list[str]:
    """Return the links that were sent to an address."""
    return [mail.link for mail in supabase.auth.confirmation.mails if mail.to == email]


def follow(http: httpx.Client, link: str) -> dict[str, str]:
    """Follow a link and return what the fragment tells the page it comes back to."""
    answer = http.get(link)
    assert answer.status_code == 303
    target = urlsplit(answer.headers["location"])
    assert target._replace(fragment="").geturl() == RETURN_TO
    return {name: values[0] for name, values in parse_qs(target.fragment).items()}


def test_the_link_confirms_and_signs_in(
    supabase: Supabase, http: httpx.Client, new_client: Callable[..., Client], email: str
) -> None:
    """The link comes back with a session that the client takes; from then on the password works."""
    (link,) = links(supabase, email)

    told = follow(http, link)

    assert (told["type"], told["token_type"]) == ("signup", "bearer")
    client = new_client(flow="implicit")
    answer = client.auth.set_session(told["access_token"], told["refresh_token"])
    assert answer.user is not None
    assert (answer.user.email, answer.user.email_confirmed_at is not None) == (email, True)
    assert new_client().auth.sign_in_with_password({"email": email, "password": PASSWORD}).session


def test_the_link_works_once(supabase: Supabase, http: httpx.Client, email: str) -> None:
    """Followed again it comes back with a reason, and without a session."""
    (link,) = links(supabase, email)
    follow(http, link)

    told = follow(http, link)

    assert (told["error"], told["error_code"]) == ("access_denied", "otp_expired")
    assert "access_token" not in told


def test_the_link_works_for_an_hour(
    supabase: Supabase, http: httpx.Client, admin: psycopg.Connection, email: str
) -> None:
    """A link that is older confirms nothing."""
    (link,) = links(supabase, email)
    admin.execute(
        "update auth.users set confirmation_sent_at = now() - interval '61 minutes' where email = %s",
        (email,),
    )

    assert follow(http, link)["error_code"] == "otp_expired"


def test_signing_up_again_sends_another_link(
    supabase: Supabase, http: httpx.Client, new_client: Callable[..., Client], email: str
) -> None:
    """Who lost the mail signs up again: the new link works, the old one does not any more."""
    sign_up(new_client(), email)

    old, new = links(supabase, email)

    assert follow(http, old)["error_code"] == "otp_expired"
    assert follow(http, new)["type"] == "signup"


def test_a_confirmed_address_gets_no_link(
    supabase: Supabase, http: httpx.Client, new_client: Callable[..., Client], email: str
) -> None:
    """Signing up with an address that is confirmed sends nothing."""
    follow(http, links(supabase, email)[0])

    sign_up(new_client(), email)

    assert len(links(supabase, email)) == 1


@pytest.mark.parametrize("query", ["", "?token=x", "?type=signup", "?token=x&type=magiclink"])
def test_a_link_that_says_too_little_is_refused(
    supabase: Supabase, http: httpx.Client, query: str
) -> None:
    """Without a token, or for a purpose that is not covered, nothing is looked up."""
    answer = http.get(f"{supabase.url}/auth/v1/verify{query}")

    assert (answer.status_code, answer.headers["x-sb-error-code"]) == (400, "validation_failed")
