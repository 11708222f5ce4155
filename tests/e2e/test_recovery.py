from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from holdfast.usecases.recover import BATCH
from tests.e2e.people import FOUR_IMAGES, IMAGE_COST, Person, at_once, wait_for
from tests.e2e.world import World

GENERATE = "POST /v1/generate/.*"
SETTLE = "SettleGenerationFunction"
BEFORE = ("10.000", "0.000", "0.000")
WHILE = ("9.995", IMAGE_COST, "0.000")
AFTERWARDS = ("9.995", "0.000", "0.000")


def recover(world: World, *generations: str) -> dict[str, int]:
    """Let it be later, and sweep."""
    world.age(*generations)
    return world.sweep()


def queued(person: Person) -> str:
    """Ask for a generation that is accepted and stays queued."""
    accepted = person.ask()
    assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")
    return str(accepted.json()["id"])


def test_a_provider_that_was_down_is_asked_again(world: World, alice: Person) -> None:
    """Unknown is not refused: the user's request stays queued and reserved until the sweep can."""
    world.stack.babysea.faults.add("down", GENERATE)
    generation = queued(alice)
    assert alice.credits() == WHILE
    recover(world, generation)
    assert alice.generation(generation)["status"] == "queued", "still down: nothing on a guess"
    assert alice.credits() == WHILE

    world.stack.babysea.faults.clear()
    recover(world, generation)

    assert alice.finished(generation)["status"] == "succeeded"
    assert world.stack.babysea.submissions[generation] == 1
    assert alice.credits() == AFTERWARDS


@pytest.mark.parametrize(
    "refusal",
    [{"code": "BSE5001"}, {"code": "BSE5001", "shape": "html"}, {"code": "BSE1009"}],
    ids=["error-500", "html-500", "busy"],
)
def test_a_refusal_that_may_pass_is_no_refusal(
    world: World, alice: Person, refusal: dict[str, str]
) -> None:
    """Errors that a repetition may mend leave the generation queued; the sweep finishes it."""
    world.stack.babysea.refuse(**refusal, retry_after=1, times=3)
    generation = queued(alice)

    recover(world, generation)

    assert alice.finished(generation)["status"] == "succeeded"
    assert alice.movements() == ["grant", "reserve", "charge"]


def test_an_overloaded_provider_refunds_at_the_deadline(world: World, alice: Person) -> None:
    """Busy is waited for as long as its work might have taken; then the credits are back, and nothing ever started."""
    world.stack.babysea.refuse("BSE1009", retry_after=1, times=100)
    generation = queued(alice)
    recover(world, generation)
    assert alice.credits() == WHILE, "it may still be taken"
    world.db.execute(
        "update backend.dispatches set dispatched_at = dispatched_at - interval '210 seconds'"
        " where generation_id = %s",
        (generation,),
    )

    recover(world, generation)

    failed = alice.generation(generation)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "provider_overloaded")
    assert alice.credits() == BEFORE
    assert alice.movements() == ["grant", "reserve", "refund"]
    assert world.stack.babysea.submissions[generation] == 0


def test_files_that_can_never_be_had_end_at_the_hard_limit(world: World, alice: Person) -> None:
    """Outputs that cannot be copied are waited for up to 72 hours; then they count as lost and are refunded."""
    world.stack.babysea.plan(file="cut", times=1)
    generation = alice.start()
    alice.reaches(generation, "storing")
    world.age(generation)
    world.sweep()
    assert alice.credits() == WHILE, "not on a guess"
    world.db.execute(
        "update backend.dispatches set dispatched_at = dispatched_at - interval '72 hours'"
        " where generation_id = %s",
        (generation,),
    )

    def swept() -> bool:
        recover(world, generation)  # again and again: the first message's worker may be at it
        return alice.generation(generation)["status"] != "storing"

    wait_for(swept, 30)
    failed = alice.generation(generation)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "output_given_up")
    assert alice.credits() == BEFORE


def test_rejected_content_is_told_and_refunded(world: World, alice: Person) -> None:
    """422 content_rejected at once, in our words; the credits are back before the answer is."""
    message = "alice's secret wish is against the rules"
    world.stack.babysea.refuse("BSE2006", message=message, times=1)

    answer = alice.ask()

    assert (answer.status_code, answer.json()["code"]) == (422, "content_rejected")
    assert message not in answer.text
    assert alice.credits() == BEFORE
    (failed,) = alice.get("/generations")["generations"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "BSE2006")
    assert failed["refunded_credits"] == IMAGE_COST


def test_an_invalid_request_is_told_and_refunded(world: World, alice: Person) -> None:
    """What the provider finds wrong with the input is a 422 with its code."""
    world.stack.babysea.refuse("BSE2008", times=1)

    answer = alice.ask()

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "BSE2008" in answer.json()["detail"]
    assert alice.credits() == BEFORE


def test_an_empty_account_at_the_provider_is_our_trouble(world: World, alice: Person) -> None:
    """The operator's own credits are used up: 503 for the user, a refund, and an error in the log."""
    words = "the operator's account at the provider is out of credits"
    before = len(world.logged("CreateGenerationFunction", message=words))
    world.stack.babysea.refuse("BSE1004", times=1)

    answer = alice.ask()

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert alice.credits() == BEFORE
    assert alice.movements() == ["grant", "reserve", "refund"]
    lines = world.logged("CreateGenerationFunction", message=words)
    assert (len(lines), lines[-1]["level"]) == (before + 1, "ERROR")


def test_a_wrong_key_at_the_provider_refunds_at_once(world: World, alice: Person) -> None:
    """A first call that authentication refuses cannot have started anything: 502 and refund."""
    world.stack.babysea.refuse("BSE1002", times=1)

    answer = alice.ask()

    assert (answer.status_code, answer.json()["code"]) == (502, "provider_error")
    assert alice.credits() == BEFORE


def test_a_wrong_key_in_a_repetition_proves_nothing(world: World, alice: Person) -> None:
    """The first call may have been accepted: refused before the key was looked up is no refund."""
    babysea = world.stack.babysea
    babysea.faults.add("lose_answer", GENERATE)
    babysea.plan(webhook="drop", times=1)
    generation = queued(alice)
    babysea.faults.clear()
    babysea.refuse("BSE1002")
    recover(world, generation)
    assert alice.generation(generation)["status"] == "queued"
    assert alice.credits() == WHILE

    babysea.calm()
    recover(world, generation)
    wait_for(lambda: world.job(generation).status == "succeeded")
    recover(world, generation)

    assert alice.finished(generation)["status"] == "succeeded"
    assert babysea.submissions[generation] == 1
    assert alice.credits() == AFTERWARDS


def test_a_refusal_after_a_lost_answer_proves_nothing(world: World, alice: Person) -> None:
    """Within one request, too: the attempt before the refused one may have been accepted."""
    babysea = world.stack.babysea
    babysea.faults.add("lose_answer", GENERATE, times=1)
    babysea.refuse("BSE1002", after=1, times=1)
    babysea.plan(webhook="drop", times=1)
    generation = queued(alice)
    assert alice.credits() == WHILE

    recover(world, generation)
    wait_for(lambda: world.job(generation).status == "succeeded")
    recover(world, generation)

    assert alice.finished(generation)["status"] == "succeeded"
    assert babysea.submissions[generation] == 1
    assert alice.credits() == AFTERWARDS


def test_the_sweep_takes_the_providers_no(world: World, alice: Person) -> None:
    """A failure whose callback was lost is refunded when the sweep asks."""
    world.stack.babysea.plan(outcome="fail", code="BSE4006", webhook="drop", times=1)
    generation = alice.start()
    wait_for(lambda: world.job(generation).status == "failed")

    recover(world, generation)

    failed = alice.generation(generation)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "BSE4006")
    assert alice.credits() == BEFORE


def test_the_sweep_leaves_what_still_runs(world: World, alice: Person) -> None:
    """However old: what the provider works on stays reserved, and ends when the provider ends it."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()
    world.stack.babysea.wait_idle()

    for _ in range(3):
        swept = recover(world, generation)
        assert (swept["claimed"], swept["failed"]) == (1, 0)
    assert alice.generation(generation)["status"] == "processing"
    assert alice.credits() == WHILE

    world.stack.babysea.finish(world.job(generation).generation_id)
    assert alice.finished(generation)["status"] == "succeeded"


def test_what_the_provider_has_forgotten_is_refunded(world: World, alice: Person) -> None:
    """Asked by its id the provider knows nothing of it: nothing can arrive any more."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()
    world.stack.babysea.wait_idle()
    world.stack.babysea.refuse("BSE3001", route="GET /v1/content/.*", status=404)

    recover(world, generation)

    failed = alice.generation(generation)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "unknown_to_provider")
    assert alice.credits() == BEFORE


def test_after_a_day_nothing_is_submitted_twice(world: World, alice: Person) -> None:
    """Beyond the provider's 24 hours the same key would bill a second job: refunded instead."""
    world.stack.babysea.faults.add("down", GENERATE)
    generation = queued(alice)
    world.stack.babysea.faults.clear()
    world.db.execute(
        "update backend.dispatches set dispatched_at = dispatched_at - interval '23 hours 1 minute'"
        " where generation_id = %s",
        (generation,),
    )
    posts = world.stack.babysea.posts[generation]

    recover(world, generation)

    failed = alice.generation(generation)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "never_submitted")
    assert world.stack.babysea.posts[generation] == posts
    assert alice.credits() == BEFORE


def test_a_provider_away_does_not_stop_the_sweep(world: World, alice: Person) -> None:
    """Neither does one generation's trouble stop the others, nor is any of them given up."""
    bob = world.person("1")
    world.stack.babysea.plan(webhook="drop")
    first, second = alice.start(), bob.start()
    wait_for(lambda: {world.job(g).status for g in (first, second)} == {"succeeded"})
    lost = world.job(first).generation_id
    world.stack.babysea.faults.add("down", f"GET /v1/content/{lost}")

    swept = recover(world, first, second)

    assert (swept["claimed"], swept["failed"]) == (2, 1)
    assert bob.finished(second)["status"] == "succeeded"
    assert alice.generation(first)["status"] == "processing"
    world.stack.babysea.faults.clear()
    recover(world, first)
    assert alice.finished(first)["status"] == "succeeded"


def test_overlapping_sweeps_share_the_work(world: World, alice: Person) -> None:
    """Two sweeps at once, more work than one takes: each stuck generation is claimed and asked for by exactly one."""
    babysea = world.stack.babysea
    babysea.plan(webhook="drop")
    stuck = at_once(24, lambda _: alice.start())
    wait_for(lambda: {world.job(generation).status for generation in stuck} == {"succeeded"})
    babysea.faults.add("delay", "GET /v1/content/.*", seconds=0.1)
    asked = len(babysea.requests)
    world.age(*stuck)

    with ThreadPoolExecutor(2) as pool:
        with world.meeting("lock table backend.dispatches in exclusive mode", guests=2):
            runs = [pool.submit(world.sweep) for _ in range(2)]
        swept = [run.result() for run in runs]

    paths = [r.path for r in babysea.requests[asked:] if r.path.startswith("/v1/content/")]
    assert sum(each["claimed"] for each in swept) == len(stuck)
    assert all(0 < each["claimed"] <= BATCH for each in swept)
    assert sorted(paths) == sorted(f"/v1/content/{world.job(g).generation_id}" for g in stuck)
    for generation in stuck:
        assert alice.finished(generation)["status"] == "succeeded"
    assert alice.credits() == ("9.880", "0.000", "0.000")


def test_a_settle_worker_killed_in_the_middle_settles_once(world: World, alice: Person) -> None:
    """Kill -9 while a file is being stored: the message comes back and one charge is the end of it."""
    supabase, settle = world.stack.supabase, world.stack.cloud.functions[SETTLE]
    upload = "POST /storage/v1/object/outputs/.*/2.png"
    supabase.faults.add("delay", upload, seconds=3, times=1)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))
    third = f"/{generation}/2.png"
    wait_for(lambda: any(r.path.endswith(third) for r in supabase.requests))
    assert len(world.stored(generation)) == 2

    assert settle.kill_busy() >= 1
    done = alice.finished(generation)

    assert (done["status"], done["charged_credits"]) == ("succeeded", "0.120")
    assert len(world.stored(generation)) == 4
    assert alice.movements() == ["grant", "reserve", "charge"]
    assert world.states(generation).count("succeeded") == 1


@pytest.mark.parametrize("is_committed", [False, True], ids=["before", "after"])
def test_a_settle_worker_killed_at_its_commit_settles_once(
    world: World, alice: Person, *, is_committed: bool
) -> None:
    """All files are stored. With its commit or without: the message comes back, nothing is copied again, one charge."""
    supabase, settle = world.stack.supabase, world.stack.cloud.functions[SETTLE]
    last = "3.png"
    supabase.faults.add("delay", f"POST /storage/v1/object/outputs/.*/{last}", seconds=2, times=1)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))
    wait_for(lambda: any(r.path.endswith(f"/{generation}/{last}") for r in supabase.requests))
    with psycopg.connect(world.stack.admin_database_url) as holder:
        holder.execute("select from generations where id = %s for update", (generation,))
        wait_for(lambda: world.waiting() == 1)
        assert settle.kill_busy() >= 1
        if not is_committed:
            # a session outlives its client: without this, PostgreSQL would commit for the dead
            world.db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where usename = 'holdfast_backend' and wait_event_type = 'Lock'"
            )

    done = alice.finished(generation, 60)

    assert (done["status"], done["charged_credits"]) == ("succeeded", "0.120")
    assert len(world.stored(generation)) == 4
    assert [world.job(generation).downloads[n] for n in range(4)] == [1, 1, 1, 1]
    assert alice.movements() == ["grant", "reserve", "charge"]
    assert world.states(generation).count("succeeded") == 1


def test_a_request_killed_in_the_middle_is_finished(world: World, alice: Person) -> None:
    """Kill -9 while the provider is being called: the user sees a 500, the sweep one generation."""
    babysea, create = world.stack.babysea, world.stack.cloud.functions["CreateGenerationFunction"]
    babysea.faults.add("delay", GENERATE, seconds=1.5, times=1)
    before = len(babysea.requests)
    wish, key = alice.wish(), "killed-in-the-middle"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(alice.ask, wish, key)
        wait_for(lambda: any("/generate/" in r.path for r in babysea.requests[before:]))
        assert create.kill_busy() == 1
        assert answer.result().status_code == 500
    assert alice.credits() == WHILE

    again = alice.ask(wish, key)
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    generation = again.json()["id"]
    recover(world, generation)

    assert alice.finished(generation)["status"] == "succeeded"
    assert babysea.submissions[generation] == 1
    assert alice.movements() == ["grant", "reserve", "charge"]


def test_a_sweep_killed_in_the_middle_passes_its_work_on(world: World, alice: Person) -> None:
    """The lease of a dead sweep runs out, and the next one finishes what it held."""
    babysea, sweep = world.stack.babysea, world.stack.cloud.functions["RecoverySweepFunction"]
    babysea.plan(webhook="drop", times=1)
    generation = alice.start()
    wait_for(lambda: world.job(generation).status == "succeeded")
    babysea.faults.add("delay", "GET /v1/content/.*", seconds=1.5, times=1)
    world.age(generation)
    before = len(babysea.requests)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(world.stack.cloud.fire, "RecoverySweepFunction")
        wait_for(lambda: any("/content/" in r.path for r in babysea.requests[before:]))
        assert sweep.kill_busy() == 1
        assert run.result().is_error
    assert world.sweep()["claimed"] == 0, "the lease still holds"

    recover(world, generation)

    assert alice.finished(generation)["status"] == "succeeded"


def test_a_dead_letter_leaves_the_reservation_open(world: World, alice: Person) -> None:
    """Given up by the queue is not settled: the credits stay reserved until a later sweep can."""
    world.stack.supabase.faults.add("status", "POST /storage/v1/object/outputs/.*", status=503)
    generation = alice.start()
    letters: list[str] = []

    def has_died() -> bool:
        letters.extend(world.dead_letters())
        return generation in letters

    wait_for(has_died)

    assert alice.generation(generation)["status"] == "storing"
    assert alice.credits() == WHILE
    uploads = [
        r for r in world.stack.supabase.requests if r.method == "POST" and generation in r.path
    ]
    assert len(uploads) == 5
    world.stack.supabase.faults.clear()
    recover(world, generation)
    assert alice.finished(generation)["status"] == "succeeded"
    assert alice.credits() == AFTERWARDS


def test_a_message_about_nothing_is_dropped(world: World) -> None:
    """A settlement of a generation that does not exist is no reason to keep a message alive."""
    cloud = world.stack.cloud
    unknown = "00000000-0000-4000-8000-000000000000"

    invocation = cloud.invoke(
        SETTLE,
        {
            "Records": [
                {
                    "messageId": "m1",
                    "receiptHandle": "h1",
                    "body": f'{{"generation_id": "{unknown}"}}',
                    "attributes": {},
                    "messageAttributes": {},
                    "md5OfBody": "",
                    "eventSource": "aws:sqs",
                    "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:settle",
                    "awsRegion": "eu-central-1",
                }
            ]
        },
    )

    assert invocation.json() == {"batchItemFailures": []}


@pytest.mark.alarming
def test_the_database_away_during_a_sweep_is_made_good_by_the_next(
    world: World, alice: Person
) -> None:
    """A sweep without a database fails loudly and harms nothing; the next one does its work."""
    world.stack.babysea.plan(webhook="drop", times=1)
    generation = alice.start()
    wait_for(lambda: world.job(generation).status == "succeeded")
    world.age(generation)

    with world.database_away():
        assert world.stack.cloud.fire("RecoverySweepFunction").is_error
    recover(world, generation)

    assert alice.finished(generation)["status"] == "succeeded"
