from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from tests.e2e.people import Person, at_once
from tests.e2e.world import World

BALANCE = "select from credit_balances where user_id = %s for update"


def test_twenty_double_clicks_make_one_generation(world: World, alice: Person) -> None:
    """The same key and request, twenty times at once: one generation, one reservation, one job."""
    wish, key = alice.wish("twenty clicks"), str(uuid4())

    with ThreadPoolExecutor(20) as pool:
        with world.meeting(BALANCE, alice.id, guests=3):
            clicks = [pool.submit(alice.ask, wish, key) for _ in range(20)]
        answers = [click.result() for click in clicks]

    assert {answer.status_code for answer in answers} == {202}
    (generation,) = {answer.json()["id"] for answer in answers}
    done = alice.finished(generation)
    assert done["status"] == "succeeded"
    assert [found["id"] for found in alice.get("/generations")["generations"]] == [generation]
    assert alice.movements() == ["grant", "reserve", "charge"]
    assert world.stack.babysea.submissions[generation] == 1
    assert world.stack.babysea.posts[generation] == 1


def test_credits_for_ten_make_exactly_ten(world: World) -> None:
    """A hundred requests at once on credits for ten: ten are accepted, ninety refused, ten jobs run."""
    person = world.person("0.050")
    wish = person.wish("one of a hundred")
    before = len(world.stack.babysea.jobs)

    answers = at_once(100, lambda _: person.ask(wish))

    odd = [answer.text for answer in answers if answer.status_code not in (202, 402)]
    assert odd == []
    assert Counter(answer.status_code for answer in answers) == {202: 10, 402: 90}
    refused = {answer.json()["code"] for answer in answers if answer.status_code == 402}
    assert refused == {"insufficient_credits"}
    accepted = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(accepted) == 10
    for generation in accepted:
        assert person.finished(generation)["status"] == "succeeded"
    jobs = world.stack.babysea.jobs[before:]
    assert {job.key for job in jobs} == accepted
    assert len(jobs) == 10
    assert [world.stack.babysea.posts[generation] for generation in accepted] == [1] * 10
    assert person.credits() == ("0.000", "0.000", "0.000")


def test_the_same_key_with_another_request_is_a_conflict(world: World, alice: Person) -> None:
    """A key names one request for good; another one under it is refused and starts nothing."""
    key = str(uuid4())
    first = alice.ask(alice.wish("first"), key)
    alice.finished(first.json()["id"])

    other = alice.ask(alice.wish("second"), key)

    assert other.status_code == 409
    assert other.json()["code"] == "idempotency_conflict"
    assert len(alice.get("/generations")["generations"]) == 1
    assert alice.credits() == ("9.995", "0.000", "0.000")


def test_equal_requests_may_be_written_differently(alice: Person) -> None:
    """Order of keys and defaults spelled out do not make it another request."""
    key = str(uuid4())
    wish = alice.wish("the same", ratio="1:1")
    first = alice.ask(wish, key).json()["id"]

    again = alice.ask({**dict(reversed(wish.items())), "input_asset_ids": [], "options": {}}, key)

    assert (again.status_code, again.json()["id"]) == (202, first)
    alice.finished(first)


def test_a_key_belongs_to_its_user(world: World, alice: Person) -> None:
    """Two users may choose the same key; neither sees the other's generation."""
    bob, key = world.person("1"), str(uuid4())

    one = alice.ask(alice.wish(), key).json()["id"]
    two = bob.ask(bob.wish(), key).json()["id"]

    assert one != two
    assert bob.finished(two)["status"] == alice.finished(one)["status"] == "succeeded"


def test_parallel_checkouts_stay_apart(world: World) -> None:
    """Five checkouts at once and all of them paid: five grants, nothing lost and nothing twice."""
    person = world.person()

    sessions = at_once(5, lambda _: person.checkout())
    at_once(5, lambda n: world.stack.stripe.pay(sessions[n]))
    world.stack.stripe.drain()

    assert len(set(sessions)) == 5
    assert {person.get(f"/checkout/{session}")["status"] for session in sessions} == {"paid"}
    assert person.movements() == ["grant"] * 5
    assert person.credits() == ("50.000", "0.000", "0.000")
