from __future__ import annotations

import json

import httpx
import pytest

from tests.e2e.canaries import Exchange, Tape, find_leaks
from tests.e2e.people import Person
from tests.e2e.world import World

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJ1cmwiOiJvdXRwdXRzIn0.c2lnbmF0dXJl"


@pytest.fixture(name="bob")
def _bob() -> Person:
    """Return somebody who is known to the search."""
    http = httpx.Client(headers={"authorization": "Bearer eyJhbGciOi.access-token-of-bob.sig"})
    return Person(http, "0b0b0b0b-0000-4000-8000-000000000000", "bob@example.com", "pass-of-bob")


def answer(request: str, body: object, token: str = "", headers: str = "") -> Exchange:
    """Return an answer as it was kept."""
    return Exchange(request, token, headers, json.dumps(body))


def search(bob: Person, log: str = "", *exchanges: Exchange) -> list[str]:
    """Search for the secret `swordfish` and all that is Bob's."""
    return find_leaks(log, exchanges, {"THE_SECRET": "swordfish"}, [bob])


@pytest.mark.parametrize(
    "text", ["a swordfish b", "pass-of-bob", f"?token={TOKEN}", "mail bob@example.com"]
)
def test_a_secret_in_the_log_is_found(bob: Person, text: str) -> None:
    """Each kind of secret counts wherever in a line it stands, and is not repeated."""
    found = search(bob, f'{{"message": "{text}"}}')

    assert len(found) == 1
    assert "swordfish" not in found[0]
    assert TOKEN not in found[0]


def test_a_prompt_in_the_log_is_found(bob: Person) -> None:
    """What users write is theirs."""
    assert search(bob, f"generating {bob.canary} a boat") == [
        "prompt of bob@example.com in the log"
    ]


def test_a_secret_in_an_answer_is_found(bob: Person) -> None:
    """Body and headers count alike."""
    body = answer("GET /account", {"detail": "the swordfish"})
    header = answer("GET /account", {}, headers="[('x', 'swordfish')]")

    assert len(search(bob, "", body, header)) == 2


def test_a_signed_url_may_stand_where_it_is_handed_out(bob: Person) -> None:
    """In the owner's own answer and place it is right; anywhere else it is a leak."""
    url = f"http://host/outputs/{bob.id}/1/0.png?token={TOKEN}"
    view = {"outputs": [{"url": url}]}
    one = "GET /generations/0b0b0b0b-0000-4000-8000-000000000000"
    right = [
        answer(one, view, bob.token),
        answer("GET /generations", {"generations": [view]}, bob.token),
    ]
    wrong = [
        answer(one, view, "of somebody else"),
        answer(one, {"outputs": [{"note": url}]}, bob.token),
        answer(one, {"outputs": [{"url": url.replace(bob.id, "another")}]}, bob.token),
        answer("GET /account", view, bob.token),
        answer("POST /uploads", {"detail": TOKEN}, bob.token),
        answer("GET /generations", {}, bob.token, headers=f"[('location', '{url}')]"),
    ]

    assert search(bob, "", *right) == []
    assert [len(search(bob, "", exchange)) for exchange in wrong] == [1] * len(wrong)


def test_a_prompt_is_shown_to_its_author_only(bob: Person) -> None:
    """In the author's own library it is right; in an error or to another it is a leak."""
    library = {"generations": [{"prompt": f"{bob.canary} a boat"}]}

    assert search(bob, "", answer("GET /generations", library, bob.token)) == []
    assert len(search(bob, "", answer("GET /generations", library, "of somebody else"))) == 1
    echoed = answer("POST /generations", {"detail": f"not: {bob.canary}"}, bob.token)
    assert len(search(bob, "", echoed)) == 1


def test_the_tape_runs(world: World, alice: Person) -> None:
    """The search has something to search: answers are kept, and the functions' log is not empty."""
    before = len(world.tape.exchanges)
    alice.finished(alice.start())

    kept = world.tape.exchanges[before:]
    assert isinstance(world.tape, Tape)
    assert any(alice.canary in exchange.body for exchange in kept)
    assert all(exchange.token == alice.token for exchange in kept)
    log = world.stack.cloud.logs.text()
    assert all(function in log for function in ("create_generation", "settle_generation"))
    assert '"level": "DEBUG"' in log, "the most talkative level is what is searched"
