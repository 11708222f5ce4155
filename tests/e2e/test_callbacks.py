from __future__ import annotations

import json
import time
from uuid import uuid4

import pytest

from local.standins.babysea_webhooks import TEST_GENERATION_ID, Delivery
from tests.e2e.people import IMAGE_COST, Json, Person, wait_for
from tests.e2e.world import World

CALLBACK = "BabyseaCallbackFunction"
AFTERWARDS = ("9.995", "0.000", "0.000")


def data(world: World, generation_id: str, status: str, **more: object) -> Json:
    """Return what BabySea says of its job for a generation."""
    return {
        "generation_id": world.job(generation_id).generation_id,
        "generation_status": status,
        **more,
    }


def output_urls(world: World, generation_id: str) -> list[str]:
    """Return where BabySea serves the outputs of a generation."""
    job = world.job(generation_id)
    return [
        f"{world.stack.babysea.url}/out/{job.generation_id}/{n}.{job.file_format}"
        for n in range(job.model.outputs)
    ]


def inbox(world: World, provider_generation_id: str) -> list[tuple[str, str]]:
    """Return the kept callbacks about a job as event and outcome, in the order they came."""
    rows = world.rows(
        "select event, outcome from backend.inbox where provider_generation_id = %s"
        " order by received_at",
        provider_generation_id,
    )
    return [(row["event"], row["outcome"]) for row in rows]


def settled_once(person: Person) -> bool:
    """Say whether the one generation was charged once and nothing else happened."""
    return person.movements() == ["grant", "reserve", "charge"] and person.credits() == AFTERWARDS


def test_a_callback_before_the_answer_is_kept_and_applied(world: World, alice: Person) -> None:
    """The provider finishes before its POST is answered: parked, then applied with the answer."""
    world.stack.babysea.plan(webhook="early", times=1)
    generation = alice.start()

    done = alice.finished(generation)

    assert done["status"] == "succeeded"
    assert world.states(generation) == ["queued", "processing", "storing", "succeeded"]
    events = dict(inbox(world, world.job(generation).generation_id))
    assert events == {"generation.started": "ignored", "generation.completed": "applied"}
    assert settled_once(alice)


@pytest.mark.parametrize("fault", ["duplicate", "replay"])
def test_a_callback_that_comes_twice_settles_once(world: World, alice: Person, fault: str) -> None:
    """The same delivery at the same moment, or the same news under a new id: one charge."""
    world.stack.babysea.plan(webhook=fault, times=1)
    generation = alice.start()

    assert alice.finished(generation)["status"] == "succeeded"
    world.stack.babysea.wait_idle()

    assert {delivery.state for delivery in deliveries(world, generation)} == {"delivered"}
    assert settled_once(alice)


def deliveries(world: World, generation_id: str) -> list[Delivery]:
    """Return the callbacks of a generation's job."""
    job = world.job(generation_id)
    return [d for d in world.stack.babysea.deliveries if d.generation_id == job.generation_id]


def test_started_after_completed_changes_nothing(world: World, alice: Person) -> None:
    """States never run backwards: the late `started` is kept and ignored."""
    world.stack.babysea.plan(webhook="reorder", times=1)
    generation = alice.start()

    assert alice.finished(generation)["status"] == "succeeded"
    world.stack.babysea.wait_idle()

    assert inbox(world, world.job(generation).generation_id) == [
        ("generation.completed", "applied"),
        ("generation.started", "ignored"),
    ]
    assert settled_once(alice)


@pytest.mark.parametrize("event", ["failed", "canceled"])
def test_a_failure_after_success_changes_nothing(world: World, alice: Person, event: str) -> None:
    """What was delivered and charged stays so, whatever is said afterwards."""
    generation = alice.start()
    alice.finished(generation)

    answer = world.callback(f"generation.{event}", data(world, generation, event))

    assert (answer.status_code, answer.json()) == (200, {"outcome": "ignored"})
    assert alice.generation(generation)["status"] == "succeeded"
    assert settled_once(alice)


def test_a_success_after_failure_is_charged_again(world: World, alice: Person) -> None:
    """Refunded too early: charged a second time from the balance, and only then delivered."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()
    world.callback("generation.failed", data(world, generation, "failed"))
    assert alice.generation(generation)["status"] == "failed"
    assert alice.credits() == ("10.000", "0.000", "0.000")

    world.stack.babysea.finish(world.job(generation).generation_id)
    done = alice.reaches(generation, "succeeded")

    assert (done["charged_credits"], done["error"]) == (IMAGE_COST, None)
    assert len(done["outputs"]) == 1
    assert alice.movements() == ["grant", "reserve", "refund", "reserve", "charge"]
    assert alice.credits() == AFTERWARDS


def test_a_late_success_nobody_can_pay_is_withheld(world: World) -> None:
    """When the refunded credits are spent the late output is not given away, nor a debt made."""
    person = world.person(IMAGE_COST)
    world.stack.babysea.plan(outcome="stuck", times=1)
    late = person.start()
    world.callback("generation.failed", data(world, late, "failed"))
    spent = person.start()
    assert person.finished(spent)["status"] == "succeeded"

    world.stack.babysea.finish(world.job(late).generation_id)
    world.stack.babysea.wait_idle()

    assert ("generation.completed", "withheld") in inbox(world, world.job(late).generation_id)
    found = person.generation(late)
    assert (found["status"], found["outputs"]) == ("failed", [])
    assert (found["charged_credits"], world.stored(late)) == ("0.000", [])
    assert person.credits() == ("0.000", "0.000", "0.000")


def test_a_success_after_the_user_removed_it_is_withheld(world: World, alice: Person) -> None:
    """Refunded and removed: the user does not want it any more, so a late success is not charged again."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()
    world.callback("generation.failed", data(world, generation, "failed"))
    assert alice.http.delete(f"/generations/{generation}").status_code == 204
    job = world.job(generation)

    world.stack.babysea.finish(job.generation_id)
    world.stack.babysea.wait_idle()

    assert ("generation.completed", "withheld") in inbox(world, job.generation_id)
    assert alice.movements() == ["grant", "reserve", "refund"]
    assert alice.credits() == ("10.000", "0.000", "0.000")
    assert world.stored(generation) == []


def test_a_withheld_success_stays_withheld(world: World) -> None:
    """Credits that arrive afterwards do not make a repeated callback deliver what was withheld."""
    person = world.person(IMAGE_COST)
    world.stack.babysea.plan(outcome="stuck", times=1)
    late = person.start()
    world.callback("generation.failed", data(world, late, "failed"))
    person.finished(person.start())
    success = data(world, late, "succeeded", generation_output_file=output_urls(world, late))
    assert world.callback("generation.completed", success).json() == {"outcome": "withheld"}
    world.grant(person, "1")

    assert world.callback("generation.completed", success).json() == {"outcome": "duplicate"}

    assert person.generation(late)["status"] == "failed"
    assert person.credits() == ("1.000", "0.000", "0.000")


def test_an_unknown_generation_is_parked(world: World) -> None:
    """It is kept and answered 200: its generation may be known in a moment."""
    unknown = str(uuid4())

    answer = world.callback(
        "generation.completed", {"generation_id": unknown, "generation_status": "succeeded"}
    )

    assert (answer.status_code, answer.json()) == (200, {"outcome": "parked"})
    assert inbox(world, unknown) == [("generation.completed", "parked")]


@pytest.mark.parametrize("fault", ["bad_signature", "stale", "future"])
def test_a_callback_that_is_not_to_be_believed_changes_nothing(
    world: World, alice: Person, fault: str
) -> None:
    """Another secret, or an old or future time: 400 on each attempt, and the sweep asks instead."""
    world.stack.babysea.behaviour.change(webhook_waits=(0, 0.05))
    world.stack.babysea.plan(webhook=fault, times=1)
    generation = alice.start()
    wait_for(lambda: len(deliveries(world, generation)) == 2)
    world.stack.babysea.wait_idle()

    statuses = {
        attempt.status
        for delivery in deliveries(world, generation)
        for attempt in delivery.attempts
    }
    assert statuses == {400}
    assert alice.generation(generation)["status"] == "processing"
    assert inbox(world, world.job(generation).generation_id) == []
    world.age(generation)
    world.sweep()
    assert alice.finished(generation)["status"] == "succeeded"
    assert settled_once(alice)


@pytest.mark.parametrize(
    "signature",
    ["", "t=,v1=", "v1=" + "0" * 64, "t=1767225600", "nonsense", "t=99999999999999,v1=00"],
    ids=["absent", "empty", "no-time", "no-mac", "nonsense", "no-such-time"],
)
def test_a_malformed_signature_is_refused(world: World, signature: str) -> None:
    """400 invalid_signature; nothing is kept, and the log names the reason."""
    unknown = str(uuid4())
    before = len(world.logged(CALLBACK, code="invalid_signature"))

    answer = world.callback(
        "generation.completed",
        {"generation_id": unknown},
        headers={"x-babysea-signature": signature},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_signature")
    assert inbox(world, unknown) == []
    assert len(world.logged(CALLBACK, code="invalid_signature")) == before + 1


@pytest.mark.parametrize(("seconds", "status"), [(-270, 200), (-310, 400), (270, 200), (400, 400)])
def test_a_signature_is_good_for_five_minutes(world: World, seconds: int, status: int) -> None:
    """Inside the tolerance a delivery counts, outside it does not, on either side of now."""
    when = int(time.time()) + seconds

    answer = world.callback("generation.completed", {"generation_id": str(uuid4())}, timestamp=when)

    assert answer.status_code == status


def test_a_body_in_base64_is_verified_as_it_was_sent(world: World, alice: Person) -> None:
    """A content type that the gateway encodes changes nothing: the bytes are what was signed."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()
    failed = data(world, generation, "failed", generation_error="Überlast \u2603")

    answer = world.callback(
        "generation.failed", failed, headers={"content-type": "application/octet-stream"}
    )

    assert answer.json() == {"outcome": "applied"}
    assert alice.generation(generation)["status"] == "failed"
    assert alice.credits() == ("10.000", "0.000", "0.000")


def test_the_providers_test_event_is_only_noted(world: World) -> None:
    """The button in BabySea's dashboard is answered 200 and moves nothing."""
    answer = world.callback("webhook.test", {"generation_id": TEST_GENERATION_ID})

    assert (answer.status_code, answer.json()) == (200, {"outcome": "noted"})


def test_an_event_without_a_generation_is_only_noted(world: World) -> None:
    """News about the operator's account are kept and answered 200."""
    answer = world.callback("credits.low_balance", {"account_id": "acct", "current_balance": 0.4})

    assert (answer.status_code, answer.json()) == (200, {"outcome": "noted"})


@pytest.mark.parametrize(
    "body",
    [b"not json", b"", b"[]", b"null", b'{"webhook_event": 7}', b'{"webhook_data": {}}', b"\xff"],
    ids=repr,
)
def test_a_signed_body_that_is_no_event_is_malformed(world: World, body: bytes) -> None:
    """The signature is right and the content is not: 400 malformed_request, nothing is kept."""
    answer = world.http.post(
        "/webhooks/babysea",
        content=body,
        headers={
            "content-type": "application/octet-stream",  # or the gateway mends what is not UTF-8
            "x-babysea-signature": world.stack.babysea.sign(body),
        },
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_lost_answer_and_lost_callback_are_recovered(world: World, alice: Person) -> None:
    """Every answer to the POST is lost and so is the callback: the sweep repeats the same key."""
    babysea = world.stack.babysea
    babysea.plan(webhook="drop", times=1)
    babysea.faults.add("lose_answer", "POST /v1/generate/.*")
    accepted = alice.ask()
    assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")
    generation = accepted.json()["id"]
    babysea.faults.clear()

    world.age(generation)
    world.sweep()
    wait_for(lambda: world.job(generation).status == "succeeded")
    world.age(generation)
    world.sweep()

    assert alice.finished(generation)["status"] == "succeeded"
    assert babysea.submissions[generation] == 1
    bodies = {
        request.body
        for request in babysea.requests
        if request.headers.get("idempotency-key") == generation
    }
    assert len(bodies) == 1, "the same bytes each time"
    assert settled_once(alice)


def test_a_lost_answer_is_mended_by_the_client_itself(world: World, alice: Person) -> None:
    """One lost answer is asked for again within the request; the user notices nothing."""
    world.stack.babysea.faults.add("lose_answer", "POST /v1/generate/.*", times=1)

    accepted = alice.ask()

    assert accepted.json()["status"] != "queued"
    assert alice.finished(accepted.json()["id"])["status"] == "succeeded"
    assert world.stack.babysea.submissions[accepted.json()["id"]] == 1


def test_the_retry_settles_when_the_queue_was_away(world: World, alice: Person) -> None:
    """A callback whose settlement cannot be queued is not taken; the provider's retry settles."""
    babysea = world.stack.babysea
    with world.queue_away():
        generation = alice.start()
        wait_for(
            lambda: any(
                attempt.status == 503
                for delivery in deliveries(world, generation)
                for attempt in delivery.attempts
            )
        )
        assert alice.generation(generation)["status"] == "storing"

    babysea.wait_idle()
    assert alice.finished(generation)["status"] == "succeeded"
    assert settled_once(alice)


def test_the_retry_settles_when_the_database_was_away(world: World, alice: Person) -> None:
    """A callback that cannot be kept is answered 503 and comes again."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()
    world.stack.babysea.wait_idle()
    failed = data(world, generation, "failed")
    delivery = str(uuid4())

    with world.database_away():
        away = world.callback("generation.failed", failed, delivery_id=delivery)
    again = world.callback("generation.failed", failed, delivery_id=delivery)

    assert (away.status_code, away.json()["code"]) == (503, "unavailable")
    assert again.json() == {"outcome": "applied"}
    assert alice.credits() == ("10.000", "0.000", "0.000")


def test_a_callback_shows_nothing_of_its_generation(world: World, alice: Person) -> None:
    """The answer is a word about the delivery, no data."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()

    answer = world.callback("generation.failed", data(world, generation, "failed"))

    assert json.loads(answer.text).keys() == {"outcome"}
