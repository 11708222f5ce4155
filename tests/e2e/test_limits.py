"""What one user may do at most, on a product with tight limits, a markup and a minimum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.people import FOUR_IMAGES, Person, problem
from tests.e2e.world import World

CHEAPEST = "0.020"  # 0.005 times 1.5 is below the minimum
FOUR = "0.180"  # 4 times 0.045


@pytest.fixture(name="strict", scope="module")
def _strict() -> Iterator[World]:
    """Return a product of its own: the other tests' one has no limit that anybody meets."""
    with World(
        MaxActiveGenerations="2",
        GenerationsPerHour="6",
        DailySpendCredits="0.250",
        PriceMarkup="1.5",
        PriceMinimumCredits="0.02",
    ) as world:
        yield world
        assert world.leaks() == []


@pytest.fixture(autouse=True)
def _books(strict: World) -> Iterator[None]:
    """After each test the books of this product are right too."""
    yield
    strict.calm()
    assert strict.audit() == []


@pytest.fixture(name="bob")
def _bob(strict: World) -> Person:
    """Return a fresh user with 10 credits."""
    return strict.person("10")


def test_only_so_many_run_at_once(strict: World, bob: Person) -> None:
    """The third is refused and says when to look again; as soon as one has ended there is room."""
    strict.stack.babysea.plan(outcome="stuck", times=1)
    first = bob.start()
    strict.stack.babysea.plan(outcome="stuck", times=1)
    bob.start()

    refused = bob.ask()

    problem(refused, 429, "too_many_active")
    assert refused.headers["retry-after"] == "10", "nobody knows when one will have ended"
    assert bob.movements() == ["grant", "reserve", "reserve"], "nothing was reserved"
    strict.callback(
        "generation.failed",
        {
            "generation_id": strict.job(first).generation_id,
            "generation_status": "failed",
            "generation_error_code": "BSE4006",
        },
    )
    bob.finished(first)
    assert bob.ask().status_code == 202


def test_only_so_many_in_an_hour(strict: World, bob: Person) -> None:
    """The seventh is refused; Retry-After is the moment at which the first leaves the hour, and then it fits."""
    for _ in range(6):
        bob.finished(bob.start())
    key = str(uuid4())

    refused = bob.ask(key=key)

    problem(refused, 429, "rate_limited")
    wait = int(refused.headers["retry-after"])
    assert 3500 < wait <= 3600
    elapse(strict, bob, wait - 60)
    problem(bob.ask(key=key), 429, "rate_limited")
    elapse(strict, bob, 61)
    assert bob.ask(key=key).status_code == 202


def test_only_so_many_credits_in_a_day(strict: World, bob: Person) -> None:
    """What no longer fits is refused with its price and the time from which it fits; what still fits is taken."""
    wish = bob.wish(model=FOUR_IMAGES)
    bob.finished(bob.start(wish))

    refused = bob.ask(wish)

    found = problem(refused, 429, "daily_limit")
    assert (found["cost_credits"], found["available_credits"]) == (FOUR, "9.820")
    wait = int(refused.headers["retry-after"])
    assert 86_300 < wait <= 86_400
    assert bob.ask().status_code == 202, "a small one still fits"
    elapse(strict, bob, wait - 60)
    problem(bob.ask(wish), 429, "daily_limit")
    elapse(strict, bob, 61)
    assert bob.ask(wish).status_code == 202


def test_a_refund_makes_room_in_the_day(strict: World, bob: Person) -> None:
    """Credits that came back were not spent."""
    wish = bob.wish(model=FOUR_IMAGES)
    strict.stack.babysea.plan(outcome="fail", times=1)
    bob.finished(bob.start(wish))

    assert bob.ask(wish).status_code == 202


def test_what_is_dearer_than_a_day_has_no_time_to_wait(bob: Person) -> None:
    """A film over the limit is refused without a Retry-After, which would not be true."""
    film = bob.wish(model="google/veo-2", duration=5)

    refused = bob.ask(film)

    found = problem(refused, 429, "daily_limit")
    assert found["cost_credits"] == "3.750"
    assert "alone" in found["detail"]
    assert "retry-after" not in refused.headers


def test_limits_do_not_count_for_another_user(strict: World, bob: Person) -> None:
    """Bob's day is full; Carol's is not."""
    bob.finished(bob.start(bob.wish(model=FOUR_IMAGES)))
    carol = strict.person("10")

    problem(bob.ask(bob.wish(model=FOUR_IMAGES)), 429, "daily_limit")
    assert carol.ask(carol.wish(model=FOUR_IMAGES)).status_code == 202


@pytest.mark.parametrize(
    ("fields", "cost"),
    [({}, CHEAPEST), ({"model": FOUR_IMAGES}, FOUR)],
    ids=["the minimum", "four marked up"],
)
def test_markup_and_minimum_are_shown_reserved_and_charged(
    strict: World, bob: Person, fields: dict[str, Any], cost: str
) -> None:
    """The list of models, the estimate, the reservation and the charge say one price."""
    wish = bob.wish(**fields)
    shown = bob.get("/models")
    (row,) = (model for model in shown["models"] if model["id"] == wish["model"])

    assert shown["minimum_credits"] == "0.020"
    assert row["prices"] == {"default": "0.008" if not fields else "0.045"}
    assert bob.http.post("/estimates", json=wish).json()["cost_credits"] == cost
    accepted = bob.ask(wish | {"max_cost_credits": cost})
    assert accepted.json()["cost_credits"] == cost
    done = bob.finished(accepted.json()["id"])
    assert (done["cost_credits"], done["charged_credits"]) == (cost, cost)
    (kept,) = strict.rows(
        "select price from backend.dispatches where generation_id = %s", accepted.json()["id"]
    )
    assert (kept["price"]["markup"], kept["price"]["minimum_credits"]) == ("1.5", "0.02")


def test_a_body_over_the_limit_is_refused_before_anything(bob: Person) -> None:
    """413 for the body, 422 for the field, and none of them counts against a limit."""
    too_large = bob.ask(bob.wish("x" * 102_401))
    too_long = bob.ask(bob.wish("x" * 4_000))

    problem(too_large, 413, "payload_too_large")
    found = problem(too_long, 422, "invalid_request")
    assert [error["field"] for error in found["errors"]] == ["prompt"]
    assert bob.movements() == ["grant"]
    assert bob.ask().status_code == 202


def elapse(world: World, person: Person, seconds: int) -> None:
    """Let it be so much longer ago that this user's generations were started."""
    world.db.execute(
        "update public.generations set created_at = created_at - make_interval(secs => %s)"
        " where user_id = %s",
        (seconds, person.id),
    )
