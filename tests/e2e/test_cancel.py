"""Cancel over HTTP, deadlines, silence and the intake: what a user sees, and what is paid."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.e2e.people import FOUR_IMAGES, IMAGE, IMAGE_COST, VIDEO, Person, problem, wait_for
from tests.e2e.world import World
from tools import ops

GENERATE = "POST /v1/generate/.*"
CANCEL = "POST /v1/content/generation/cancel/.*"
BEFORE = ("10.000", "0.000", "0.000")
WHILE = ("9.995", IMAGE_COST, "0.000")
AFTERWARDS = ("9.995", "0.000", "0.000")


def cancel(person: Person, generation: str) -> httpx.Response:
    """Ask to cancel."""
    return person.http.post(f"/generations/{generation}/cancel")


def running(
    world: World, person: Person, wish: dict[str, Any] | None = None, **plan: object
) -> str:
    """Return a generation that the provider never finishes by itself."""
    world.stack.babysea.plan(outcome="stuck", times=1, **plan)
    generation = person.start(wish)
    wait_for(lambda: world.job(generation).status == "processing")
    person.reaches(generation, "processing")
    return generation


def recover(world: World, *generations: str) -> dict[str, int]:
    """Let it be later, and sweep."""
    world.age(*generations)
    return world.sweep()


def overdue(world: World, generation: str, column: str, interval: str) -> None:
    """Let the provider have had it for long."""
    known = {
        "submitted_at": "update backend.dispatches set submitted_at = submitted_at - %s::interval"
        " where generation_id = %s",
        "dispatched_at": "update backend.dispatches set dispatched_at = dispatched_at - %s::interval"
        " where generation_id = %s",
    }
    world.db.execute(known[column].encode(), (interval, generation))


def test_canceled(world: World, alice: Person) -> None:
    """200 canceled: the provider stopped, the credits are back, and a second wish says the same."""
    generation = running(world, alice)

    answer = cancel(alice, generation)

    assert (answer.status_code, answer.json()) == (
        200,
        {"id": generation, "status": "canceled", "outcome": "canceled"},
    )
    assert world.job(generation).status == "canceled"
    assert alice.credits() == BEFORE
    assert cancel(alice, generation).json()["outcome"] == "canceled"
    world.stack.babysea.wait_idle()
    assert alice.movements() == ["grant", "reserve", "refund"]
    assert alice.generation(generation)["error"] is None


def test_somebody_elses(world: World, alice: Person) -> None:
    """Another user's generation does not exist, and is not touched."""
    generation = running(world, alice)
    problem(cancel(world.person(), generation), 404, "not_found")
    problem(cancel(alice, "no-id"), 404, "not_found")
    assert world.job(generation).status == "processing"
    cancel(alice, generation)


def test_too_late(world: World, alice: Person) -> None:
    """409 once there is an output; it stays, and stays charged."""
    generation = alice.start()
    alice.finished(generation)
    found = problem(cancel(alice, generation), 409, "not_cancelable")
    assert found["generation_status"] == "succeeded"
    assert alice.credits() == AFTERWARDS


def test_too_late_at_the_provider(world: World, alice: Person) -> None:
    """Its success has not reached us yet: the cancel learns of it, and the output is delivered and charged."""
    generation = running(world, alice, webhook="drop")
    world.stack.babysea.finish(world.job(generation).generation_id)
    assert alice.generation(generation)["status"] == "processing"

    problem(cancel(alice, generation), 409, "not_cancelable")

    assert alice.finished(generation)["status"] == "succeeded"
    assert alice.credits() == AFTERWARDS


@pytest.mark.parametrize("first", ["success", "cancel", "either"])
def test_while_the_callback_arrives(world: World, alice: Person, first: str) -> None:
    """Success and cancel at once: delivered and charged, or canceled and refunded, as the provider was asked first."""
    babysea = world.stack.babysea
    for _ in range(3):
        before = alice.credits()[0]
        generation = running(world, alice)
        job = world.job(generation)
        with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as until:
            if first == "success":
                # its callback and the cancel wait for the same row
                row = "select from generations where id = %s for update"
                until.enter_context(world.meeting(row, generation, guests=2))
                babysea.finish(job.generation_id)
            wish = pool.submit(cancel, alice, generation)
            if first == "cancel":
                wait_for(lambda job=job: job.status == "canceled")
            if first != "success":
                babysea.finish(job.generation_id)
            until.close()
            answer = wish.result()
        done = alice.finished(generation)
        paid = Decimal(before) - Decimal(alice.credits()[0])
        seen = (done["status"], answer.status_code, paid, world.job(generation).status)
        delivered = [("succeeded", code, Decimal(IMAGE_COST), "succeeded") for code in (202, 409)]
        canceled = ("canceled", 200, Decimal(0), "canceled")
        if first == "success":
            assert seen in delivered
        elif first == "cancel":
            assert seen == canceled
        else:
            assert seen in [*delivered, canceled]
        assert len(world.stored(generation)) == (done["status"] == "succeeded")


def test_what_the_provider_has_forgotten(world: World, alice: Person) -> None:
    """A cancel that learns that nothing can arrive any more refunds, and the operator's alarm hears of it once."""
    create, words = "CreateGenerationFunction", "generation given up"
    before = len(world.logged(create, GivenUp=[1.0]))
    generation = running(world, alice)
    world.stack.babysea.refuse("BSE3001", route=CANCEL, status=404)
    world.stack.babysea.refuse("BSE3001", route="GET /v1/content/.*", status=404)

    cancel(alice, generation)

    assert alice.generation(generation)["status"] == "canceled"
    assert alice.credits() == BEFORE
    assert len(world.logged(create, message=words, generation_id=generation)) == 1
    assert len(world.logged(create, GivenUp=[1.0])) == before + 1
    recover(world, generation)
    assert not world.logged("RecoverySweepFunction", message=words, generation_id=generation)


def test_before_the_id_is_known(world: World, alice: Person) -> None:
    """The answer was lost: 202, and the sweep finds the job by its key, and cancels it."""
    babysea = world.stack.babysea
    babysea.faults.add("lose_answer", GENERATE)
    babysea.plan(outcome="stuck", webhook="drop", times=1)
    generation = alice.start()
    babysea.faults.clear()

    answer = cancel(alice, generation)

    assert (answer.status_code, answer.json()["outcome"]) == (202, "cancel_requested")
    assert alice.credits() == WHILE
    recover(world, generation)
    assert alice.finished(generation)["status"] == "canceled"
    assert (world.job(generation).status, babysea.submissions[generation]) == ("canceled", 1)
    assert alice.credits() == BEFORE


def test_while_it_is_being_sent(world: World, alice: Person) -> None:
    """Wanted during the provider's call: whoever learns the id asks at once, without a sweep."""
    babysea = world.stack.babysea
    babysea.faults.add("delay", GENERATE, seconds=4.0, times=1)
    babysea.plan(outcome="stuck", times=1)
    before = len(babysea.requests)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(alice.start)
        wait_for(lambda: any("/generate/" in r.path for r in babysea.requests[before:]))
        (row,) = world.rows(
            "select id::text from generations where user_id = %s and status = 'queued'", alice.id
        )
        answer = cancel(alice, row["id"])
        generation = starting.result()
    assert generation == row["id"]
    assert answer.status_code in (200, 202), "the id may be known by the time we are asked"
    assert alice.finished(generation)["status"] == "canceled"
    assert world.job(generation).status == "canceled"
    assert alice.credits() == BEFORE


def test_never_sent(world: World, alice: Person) -> None:
    """What a busy provider did not take is canceled at once, without asking anybody."""
    world.stack.babysea.refuse("BSE1009", times=3)
    generation = alice.start()
    before = len(world.stack.babysea.requests)

    assert cancel(alice, generation).status_code == 200

    assert len(world.stack.babysea.requests) == before
    assert alice.credits() == BEFORE


@pytest.mark.parametrize("fault", ["down", "lose_answer"])
@pytest.mark.parametrize("webhook", ["", "drop"], ids=["callback", "no-callback"])
def test_the_provider_does_not_answer(
    world: World, alice: Person, fault: str, webhook: str
) -> None:
    """202 and nothing is refunded on a guess; the sweep asks until there is an answer."""
    generation = running(world, alice, webhook=webhook)
    world.stack.babysea.faults.add(fault, CANCEL, times=1)

    answer = cancel(alice, generation)

    assert (answer.status_code, answer.json()["outcome"]) == (202, "cancel_requested")
    if fault == "down":
        assert alice.credits() == WHILE
    world.stack.babysea.faults.clear()
    recover(world, generation)
    assert alice.finished(generation)["status"] == "canceled"
    assert alice.credits() == BEFORE
    assert alice.movements() == ["grant", "reserve", "refund"]


def test_a_success_after_the_cancel_is_withheld(world: World, alice: Person) -> None:
    """Told that it is canceled, the user is not charged again, and gets no free output either."""
    world.stack.babysea.behaviour.change(result_after_cancel="emit")
    generation = running(world, alice)
    assert cancel(alice, generation).status_code == 200

    world.stack.babysea.finish(world.job(generation).generation_id)
    world.stack.babysea.wait_idle()

    assert alice.generation(generation)["status"] == "canceled"
    assert world.stored(generation) == []
    assert alice.credits() == BEFORE


@pytest.mark.parametrize(
    ("model", "deadline"), [(IMAGE, 210), (VIDEO, 790)], ids=["image", "video"]
)
def test_a_deadline_stops_what_takes_too_long(
    world: World, alice: Person, model: str, deadline: int
) -> None:
    """Past its class's deadline the provider is asked to stop: failed for that reason, and refunded."""
    fields = {"duration": 5, "resolution": "480p", "ratio": "16:9"} if model == VIDEO else {}
    generation = running(world, alice, alice.wish(model=model, **fields))
    overdue(world, generation, "submitted_at", f"{deadline - 60} seconds")
    recover(world, generation)
    assert alice.generation(generation)["status"] == "processing", "in time: left alone"

    overdue(world, generation, "submitted_at", "61 seconds")
    recover(world, generation)

    failed = alice.generation(generation)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "deadline_exceeded")
    assert world.job(generation).status == "canceled"
    assert alice.credits() == BEFORE


def test_a_deadline_that_comes_too_late(world: World, alice: Person) -> None:
    """What has succeeded in the meantime is delivered, however late."""
    generation = running(world, alice, webhook="drop")
    world.stack.babysea.finish(world.job(generation).generation_id)
    overdue(world, generation, "submitted_at", "10 hours")
    recover(world, generation)
    assert alice.finished(generation)["status"] == "succeeded"


def test_silence_ends_at_the_hard_limit(world: World, alice: Person) -> None:
    """Never refunded while the provider may still answer, up to 72 hours; a success after that is charged again."""
    generation = running(world, alice)
    world.stack.babysea.faults.add("down", "GET /v1/content/.*")
    overdue(world, generation, "dispatched_at", "71 hours")
    assert recover(world, generation)["failed"] == 1
    assert alice.credits() == WHILE

    overdue(world, generation, "dispatched_at", "1 hour")
    recover(world, generation)

    failed = alice.generation(generation)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "provider_unreachable")
    assert alice.credits() == BEFORE
    world.stack.babysea.faults.clear()
    world.stack.babysea.finish(world.job(generation).generation_id)
    alice.reaches(generation, "succeeded")
    assert alice.credits() == AFTERWARDS


def test_a_lost_submission_is_found_after_a_day(world: World, alice: Person) -> None:
    """Too old to be replayed, it is looked up by its inputs: no second job, and the user gets the output."""
    babysea = world.stack.babysea
    babysea.faults.add("lose_answer", GENERATE)
    babysea.plan(webhook="drop", times=1)
    generation = alice.start()
    babysea.faults.clear()
    wait_for(lambda: world.job(generation).status == "succeeded")
    overdue(world, generation, "dispatched_at", "23 hours 1 minute")
    posts = babysea.posts[generation]

    recover(world, generation)

    assert alice.finished(generation)["status"] == "succeeded"
    assert babysea.posts[generation] == posts
    assert alice.credits() == AFTERWARDS


def test_a_reused_key_is_our_bug_and_alarms(world: World, alice: Person) -> None:
    """BSE2015 refunds nothing on a guess: it is logged as an error, and the job is looked up."""
    babysea = world.stack.babysea
    babysea.faults.add("lose_answer", GENERATE)
    babysea.plan(webhook="drop", times=1)
    generation = alice.start()
    babysea.faults.clear()
    wait_for(lambda: world.job(generation).status == "succeeded")
    babysea.refuse("BSE2015", route=GENERATE, status=409, times=1)

    recover(world, generation)

    assert world.logged(
        "RecoverySweepFunction",
        level="ERROR",
        message="other bytes were sent under this key",
        generation_id=generation,
    )
    assert alice.finished(generation)["status"] == "succeeded"


def test_a_first_call_still_running_waits(world: World, alice: Person) -> None:
    """BSE2016 is neither a refusal nor an acceptance."""
    world.stack.babysea.refuse("BSE2016", status=409, times=3)
    generation = alice.start()
    assert alice.generation(generation)["status"] == "queued"
    assert alice.credits() == WHILE
    recover(world, generation)
    assert alice.finished(generation)["status"] == "succeeded"


def test_the_intake_closes_for_everybody(world: World, alice: Person) -> None:
    """Without the operator's credits nobody is asked to pay: 503 for all, and open again when BabySea can be paid."""
    babysea, bob = world.stack.babysea, world.person("1")
    babysea.refuse("BSE1004", times=1)
    first = problem(alice.ask(), 503, "unavailable")
    assert "credits were charged" in first["detail"]
    posts = sum(babysea.posts.values())

    answer = bob.ask()

    problem(answer, 503, "unavailable")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert sum(babysea.posts.values()) == posts, "the provider is not even asked"
    assert bob.movements() == ["grant"]
    (failed,) = alice.get("/generations")["generations"]
    assert failed["error"]["code"] == "provider_unavailable"

    world.sweep()
    assert bob.finished(bob.start())["status"] == "succeeded"


def test_the_intake_stays_closed_while_there_is_nothing(world: World, alice: Person) -> None:
    """The sweep asks BabySea what we can pay, and opens nothing on a no."""
    account = world.stack.babysea.account
    before, account.balance = account.balance, Decimal(0)
    try:
        problem(alice.ask(), 503, "unavailable")
        world.sweep()
        problem(alice.ask(), 503, "unavailable")
    finally:
        account.balance = before
    world.sweep()
    assert alice.finished(alice.start())["status"] == "succeeded"


@pytest.mark.alarming
def test_poison_ends_with_the_operator(
    world: World, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What breaks every worker lies in the dead-letter queue, reserved and listed, until `make ops` decides."""
    generation = running(world, alice, webhook="drop")
    world.stack.babysea.finish(world.job(generation).generation_id)
    world.db.execute(
        "update backend.dispatches set output_urls = '5' where generation_id = %s", (generation,)
    )
    world.db.execute("update generations set status = 'storing' where id = %s", (generation,))
    letters: list[str] = []

    def has_died() -> bool:
        letters.extend(world.dead_letters())
        return generation in letters

    for _ in range(2):
        recover(world, generation)
        wait_for(has_died, 30)
        letters.clear()

    swept = recover(world, generation)
    assert (swept["claimed"], swept["poisoned"]) == (0, 1)
    assert alice.credits() == WHILE
    (stuck,) = world.rows("select * from backend.list_stuck(300, 10)")
    assert (stuck["reason"], stuck["last_error"]) == ("poisoned", "TypeError")

    urls = world.stack.babysea.output_urls(world.job(generation).generation_id)
    world.db.execute(
        "update backend.dispatches set output_urls = to_jsonb(%s::text[]) where generation_id = %s",
        (urls, generation),
    )
    monkeypatch.setenv("DATABASE_URL", world.stack.admin_database_url)
    assert ops.main(["--retry", generation, "--yes"]) == 0
    world.sweep()
    assert alice.finished(generation)["status"] == "succeeded"
    assert alice.credits() == AFTERWARDS


@pytest.mark.alarming
def test_poison_that_is_refunded_leaves_no_file(
    world: World, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored before the operator refunded is nobody's: not shown, not to be read, gone with the cleaning."""
    second = "POST /storage/v1/object/outputs/.*/1.png"
    world.stack.supabase.faults.add("status", second, status=503)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))
    wait_for(lambda: len(world.stored(generation)) == 3, 30)
    stored = world.stored(generation)
    # a worker that is at it now takes its own try back
    world.db.execute(
        "update backend.dispatches set failures = 11 where generation_id = %s", (generation,)
    )

    monkeypatch.setenv("DATABASE_URL", world.stack.admin_database_url)
    assert ops.main(["--refund", generation, "--yes"]) == 0

    assert alice.credits() == BEFORE
    assert alice.generation(generation)["outputs"] == []
    for path in stored:
        url = f"{world.stack.supabase.url}/storage/v1/object/authenticated/outputs/{path}"
        headers = {
            "apikey": world.stack.supabase.publishable_key,
            "authorization": f"Bearer {alice.token}",
        }
        assert httpx.get(url, headers=headers).status_code == 400
    world.db.execute(
        "update generations set finished_at = finished_at - interval '1 hour' where id = %s",
        (generation,),
    )
    assert world.clean_up()["removals"] == 1
    assert world.stored(generation) == []
    assert world.clean_up()["removals"] == 0
    assert alice.generation(generation)["status"] == "failed"
