from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.e2e.people import Person, problem
from tests.e2e.world import World

SOMEBODY = "7f0c1f6e-3f43-4a9b-9d0e-0d2a3c1b5e6f"
ROUTES = [
    ("POST", "/checkout"),
    ("GET", "/checkout/cs_test_1"),
    ("POST", "/generations"),
    ("POST", "/estimates"),
    ("POST", "/uploads"),
    ("GET", "/generations"),
    ("GET", f"/generations/{SOMEBODY}"),
    ("GET", f"/generations/{SOMEBODY}/events"),
    ("DELETE", f"/generations/{SOMEBODY}"),
    ("GET", "/uploads"),
    ("DELETE", f"/uploads/{SOMEBODY}"),
    ("GET", "/alerts"),
    ("PATCH", "/account"),
    ("POST", "/admin/adjustments"),
    ("GET", "/account"),
    ("GET", "/account/ledger"),
]


# --- who is asking ---


def encoded(part: dict[str, Any]) -> str:
    """Return one part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def public_pem(world: World) -> bytes:
    """Return the project's public key as everybody can have it."""
    key = ECAlgorithm.from_jwk(world.stack.supabase.jwks["keys"][0])
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def signed_with_public_key(world: World) -> str:
    """Return a token signed by HMAC with the public key for a secret (libraries refuse to make it)."""
    claims = world.stack.supabase.tokens.access_claims(SOMEBODY)
    head = {"alg": "HS256", "typ": "JWT", "kid": world.stack.supabase.jwks["keys"][0]["kid"]}
    signed = f"{encoded(head)}.{encoded(claims)}"
    mac = hmac.new(public_pem(world), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def unsigned(world: World, algorithm: str) -> str:
    """Return a token without a signature."""
    claims = world.stack.supabase.tokens.access_claims(SOMEBODY)
    return f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(claims)}."


def tampered(world: World) -> str:
    """Return a token of one user, its subject replaced by another's."""
    head, _, signature = world.stack.supabase.sign_token(sub=SOMEBODY).split(".")
    claims = world.stack.supabase.tokens.access_claims(str(uuid4()))
    return f"{head}.{encoded(claims)}.{signature}"


def make(**options: Any) -> Callable[[World], str]:
    """Return what signs a token as the project does, with these claims, key or headers instead."""
    return lambda world: world.stack.supabase.sign_token(**{"sub": SOMEBODY, **options})


def foreign_key(world: World) -> str:
    """Return a token with the right kid and somebody else's signature."""
    key = ec.generate_private_key(ec.SECP256R1())
    return world.stack.supabase.sign_token(sub=SOMEBODY, key=key)


def brought_along(world: World) -> str:
    """Return a token that names its own key and where to get it."""
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    headers = {"jwk": jwk, "jku": "http://127.0.0.1:1/jwks.json", "kid": "mine"}
    claims = world.stack.supabase.tokens.access_claims(SOMEBODY)
    return jwt.encode(claims, key, algorithm="ES256", headers=headers)


TOKENS: dict[str, Callable[[World], str]] = {
    "garbage": lambda _: "not.a.token",
    "two-parts": lambda _: "eyJhbGciOiJFUzI1NiJ9.e30",
    "huge": lambda _: "x" * 9000,
    "expired": make(exp=int(time.time()) - 60),
    "not-yet": make(nbf=int(time.time()) + 600),
    "no-expiry": make(exp=None),
    "no-subject": make(sub=None),
    "subject-is-no-id": make(sub="root"),
    "no-audience": make(aud=None),
    "other-audience": make(aud="anon"),
    "no-issuer": make(iss=None),
    "other-issuer": make(iss="https://evil.example/auth/v1"),
    "anonymous": make(role="anon"),
    "service-role": make(role="service_role"),
    "service-key": lambda w: w.stack.supabase.tokens.sign_role("service_role"),
    "publishable-key": lambda w: w.stack.supabase.publishable_key,
    "secret-key": lambda w: w.stack.supabase.secret_key,
    "no-algorithm": lambda w: unsigned(w, "none"),
    "no-algorithm-odd": lambda w: unsigned(w, "NonE"),
    "no-signature": lambda w: unsigned(w, "ES256"),
    "shared-secret": make(algorithm="HS256"),
    "public-key-as-secret": signed_with_public_key,
    "unknown-key-id": make(headers={"kid": "unknown"}),
    "path-as-key-id": make(headers={"kid": "../../../../dev/null"}),
    "other-key": foreign_key,
    "tampered": tampered,
    "key-brought-along": brought_along,
}
"""Tokens that are none, by what is wrong with them."""


def refused_everywhere(world: World, header: str | None) -> None:
    """Check that this authorization gets the same 401 on every route that needs a user."""
    headers = {} if header is None else {"authorization": header}
    for method, path in ROUTES:
        answer = world.http.request(method, path, headers=headers, json={})
        found = problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert found["detail"] == "A valid access token is required."


@pytest.mark.parametrize("name", TOKENS)
def test_a_wrong_token_is_nobody(world: World, name: str) -> None:
    """On every route that needs a user the answer is 401, and the same whatever is wrong."""
    refused_everywhere(world, f"Bearer {TOKENS[name](world)}")


def test_a_right_token_in_the_wrong_place_is_nobody(world: World) -> None:
    """No header, no scheme, another scheme: 401 as well."""
    token = world.stack.supabase.sign_token(sub=SOMEBODY)

    for header in (None, "Bearer", token, f"Basic {token}", f"Bearer {token} {token}"):
        refused_everywhere(world, header)


def test_a_right_token_is_somebody(world: World) -> None:
    """The control: the same way of signing, unforged, opens the door."""
    token = world.stack.supabase.sign_token(sub=SOMEBODY)

    answer = world.http.get("/account", headers={"authorization": f"bearer {token}"})

    assert answer.status_code == 200


def test_what_is_public_needs_no_token(world: World) -> None:
    """Catalogue and models are there for everybody."""
    assert world.http.get("/catalog").status_code == 200
    assert world.http.get("/models").status_code == 200


def test_keys_that_cannot_be_fetched_let_nobody_in(world: World) -> None:
    """A token under an unknown key while the project is away is refused, not trusted."""
    world.stack.supabase.faults.add("down", "GET /auth/v1/.well-known/jwks.json")
    token = world.stack.supabase.sign_token(sub=SOMEBODY, headers={"kid": "new"})

    answer = world.http.get("/account", headers={"authorization": f"Bearer {token}"})

    assert answer.status_code in (401, 503)
    assert answer.json()["code"] in ("unauthenticated", "unavailable")


# --- what belongs to others ---


def anonymised(answer: httpx.Response) -> dict[str, Any]:
    """Return a 404 without what differs from request to request."""
    found = problem(answer, 404, "not_found")
    del found["request_id"]
    return found


def test_others_ids_answer_like_ids_that_do_not_exist(world: World, alice: Person) -> None:
    """Of another user's generation nobody learns even that it exists."""
    bob = world.person()
    generation = alice.start()
    alice.finished(generation)

    answers = [
        anonymised(bob.http.get(f"/generations/{id_}"))
        for id_ in (generation, generation.upper(), str(uuid4()), str(uuid4()))
    ]

    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    "id_",
    ["1", "null", "%20", "..%2faccount", "{id}", "x" * 300, "%00", "%27%20or%201=1", "%F0%9F"],
)
def test_malformed_ids_name_nothing(alice: Person, id_: str) -> None:
    """What is no id at all is not found, or not readable, and never an error of ours."""
    answer = alice.http.get(f"/generations/{id_}")

    assert answer.status_code in (400, 404)
    problem(answer, answer.status_code, answer.json()["code"])


def test_others_checkouts_answer_like_none(world: World, alice: Person) -> None:
    """A session id opens nothing to whom it does not belong."""
    bob = world.person()
    session = alice.checkout()

    foreign = anonymised(bob.http.get(f"/checkout/{session}"))

    assert foreign == anonymised(bob.http.get("/checkout/cs_test_none"))
    assert alice.get(f"/checkout/{session}")["status"] == "open"


def test_others_pictures_cannot_be_used(world: World, alice: Person) -> None:
    """Another user's asset is refused in the same words as one that does not exist."""
    bob = world.person("1")
    asset = alice.http.post("/uploads", json={"type": "image/png", "size": 100}).json()["asset_id"]

    answers = []
    for id_ in (asset, str(uuid4())):
        wish = bob.wish(model="bfl/flux-1.1-pro", input_asset_ids=[id_])
        answers.append(problem(bob.ask(wish), 422, "invalid_request"))

    assert answers[0]["errors"] == answers[1]["errors"]
    assert bob.credits() == ("1.000", "0.000", "0.000")


def test_lists_hold_only_ones_own(world: World, alice: Person) -> None:
    """A newcomer's library and ledger are empty, whatever others have, and with others' cursors."""
    for _ in range(2):
        alice.finished(alice.start())
    library = alice.get("/generations", limit=1)["next_cursor"]
    ledger = alice.get("/account/ledger", limit=1)["next_cursor"]
    bob = world.person()

    assert bob.get("/generations")["generations"] == []
    assert bob.get("/account/ledger")["entries"] == []
    assert bob.get("/generations", cursor=library)["generations"] == []
    assert bob.get("/account/ledger", cursor=ledger)["entries"] == []
