from __future__ import annotations

import httpx
import pytest

from local.standins.babysea_files import PRIVATE_PATH
from tests.e2e.people import FOUR_COST, FOUR_IMAGES, IMAGE_COST, Json, Person, wait_for
from tests.e2e.world import World

BEFORE = ("10.000", "0.000", "0.000")
SETTLE = "SettleGenerationFunction"
UPLOAD = "POST /storage/v1/object/outputs/.*"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("foreign_host", "output_origin_not_allowed"),
        ("redirect_private", "output_redirect"),
        ("too_big", "output_too_large"),
        ("wrong_type", "output_wrong_type"),
        ("missing", "output_gone"),
    ],
)
def test_an_output_that_must_not_be_stored_is_not(
    world: World, alice: Person, fault: str, code: str
) -> None:
    """It ends as failed with a code that says why, all credits are back, and nothing is stored."""
    world.stack.babysea.plan(file=fault, times=1)
    generation = alice.start()

    failed = alice.finished(generation)

    assert failed["status"] == "failed"
    assert failed["error"] == {"code": code, "message": None}
    assert (failed["charged_credits"], failed["refunded_credits"]) == ("0.000", IMAGE_COST)
    assert failed["outputs"] == []
    assert world.stored(generation) == []
    assert alice.credits() == BEFORE
    assert alice.movements() == ["grant", "reserve", "refund"]
    (line,) = world.logged(SETTLE, generation_id=generation, message="output lost")
    assert line["problem"] == code.removeprefix("output_")


def test_no_redirect_is_followed(world: World, alice: Person) -> None:
    """What lies behind a redirect is never even asked for."""
    world.stack.babysea.plan(file="redirect_private", times=1)
    alice.finished(alice.start())

    assert [r for r in world.stack.babysea.requests if r.path == PRIVATE_PATH] == []


def test_a_host_that_is_not_listed_is_never_asked(world: World, alice: Person) -> None:
    """The file is there, under another name of the same machine, and is not fetched."""
    world.stack.babysea.plan(file="foreign_host", times=1)
    generation = alice.start()
    alice.finished(generation)

    assert sum(world.job(generation).downloads.values()) == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:1/0.png",
        "file:///etc/passwd",
        "http://[::ffff:127.0.0.1]/0.png",
        "{origin}@169.254.169.254/0.png",
        "{origin}\\@169.254.169.254/0.png",
        "//169.254.169.254/0.png",
        "",
    ],
)
def test_a_callback_cannot_point_the_copier_elsewhere(
    world: World, alice: Person, url: str
) -> None:
    """Even in a signed callback an address off the list is an output lost: failed and refunded."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()
    world.callback(
        "generation.completed",
        {
            "generation_id": world.job(generation).generation_id,
            "generation_status": "succeeded",
            "generation_output_file": [url.format(origin=world.stack.babysea.url)],
        },
    )

    failed = alice.finished(generation)

    assert failed["status"] == "failed"
    assert failed["error"]["code"] in ("output_origin_not_allowed", "output_bad_url")
    assert world.stored(generation) == []
    assert alice.credits() == BEFORE


def test_a_success_without_outputs_is_refunded(world: World, alice: Person) -> None:
    """The provider says done and names no file: nothing was delivered, nothing is charged."""
    world.stack.babysea.plan(deliver=0, times=1)

    failed = alice.finished(alice.start())

    assert (failed["status"], failed["error"]["code"]) == ("failed", "output_lost")
    assert alice.credits() == BEFORE


@pytest.mark.parametrize(
    ("fault", "index", "code"),
    [
        ("wrong_type", 0, "output_wrong_type"),
        ("too_big", 1, "output_too_large"),
        ("missing", 3, "output_gone"),
    ],
)
def test_one_lost_output_of_four_is_refunded(
    world: World, alice: Person, fault: str, index: int, code: str
) -> None:
    """The others are stored under their own numbers and charged; the code says what is missing."""
    world.stack.babysea.plan(file=fault, file_index=index, times=1)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))

    done = alice.finished(generation)

    kept = [n for n in range(4) if n != index]
    assert done["status"] == "succeeded"
    assert done["error"]["code"] == code
    assert (done["cost_credits"], done["charged_credits"]) == (FOUR_COST, "0.090")
    assert [output["n"] for output in done["outputs"]] == kept
    folder = f"{alice.id}/{generation}"
    assert world.stored(generation) == [f"{folder}/{n}.png" for n in kept]
    for output in done["outputs"]:
        assert httpx.get(output["url"]).content == world.job(generation).file(output["n"])


def test_more_outputs_than_were_paid_for_are_not_stored(world: World, alice: Person) -> None:
    """Only as many as the request asked for are copied."""
    world.stack.babysea.plan(outcome="stuck", times=1)
    generation = alice.start()
    world.stack.babysea.wait_idle()
    job = world.job(generation)
    job.outputs = 3
    urls = [f"{world.stack.babysea.url}/out/{job.generation_id}/{n}.png" for n in range(3)]
    world.callback(
        "generation.completed",
        {"generation_id": job.generation_id, "generation_output_file": urls},
    )

    done = alice.finished(generation)

    assert (done["status"], done["charged_credits"]) == ("succeeded", IMAGE_COST)
    assert world.stored(generation) == [f"{alice.id}/{generation}/0.png"]


@pytest.mark.parametrize("fault", ["cut", "slow"])
def test_a_bad_line_is_only_a_delay(world: World, alice: Person, fault: str) -> None:
    """A file that breaks off or dawdles is had in the end, whole, and charged once."""
    world.stack.babysea.behaviour.change(file_slow=0.5)
    world.stack.babysea.plan(file=fault, file_times=2, times=1)
    generation = alice.start()

    done = alice.finished(generation)

    assert done["status"] == "succeeded"
    (output,) = done["outputs"]
    assert httpx.get(output["url"]).content == world.job(generation).file(0)
    assert world.job(generation).downloads[0] == (3 if fault == "cut" else 1)
    assert alice.movements() == ["grant", "reserve", "charge"]


@pytest.mark.parametrize(("kind", "status"), [("status", 503), ("status", 429), ("down", 0)])
def test_storage_away_for_a_while_is_only_a_delay(
    world: World, alice: Person, kind: str, status: int
) -> None:
    """The message comes back until the file can be stored."""
    world.stack.supabase.faults.add(kind, UPLOAD, times=2, status=status)
    generation = alice.start()

    assert alice.finished(generation)["status"] == "succeeded"

    assert len(world.stored(generation)) == 1
    assert alice.movements() == ["grant", "reserve", "charge"]


def test_an_upload_whose_answer_is_lost_is_repeated(world: World, alice: Person) -> None:
    """The file is there already; storing it again under the same name is no error."""
    world.stack.supabase.faults.add("lose_answer", UPLOAD, times=1)
    generation = alice.start()

    assert alice.finished(generation)["status"] == "succeeded"

    assert len(world.stored(generation)) == 1
    assert alice.movements() == ["grant", "reserve", "charge"]


def test_storage_that_refuses_for_good_ends_in_a_refund(world: World, alice: Person) -> None:
    """A refusal that repeating cannot mend is an output lost, with storage's own word for it."""
    body = b'{"statusCode": "400", "error": "InvalidMimeType", "message": "no", "code": "InvalidMimeType"}'
    world.stack.supabase.faults.add(
        "status", UPLOAD, status=400, body=body, headers={"content-type": "application/json"}
    )

    failed = alice.finished(alice.start())

    assert failed["status"] == "failed"
    assert failed["error"]["code"].startswith("output_not_stored_")
    assert alice.credits() == BEFORE


def test_one_output_that_storage_refuses_is_refunded(world: World, alice: Person) -> None:
    """Too large for the bucket, say: the other three are delivered and charged."""
    body = b'{"statusCode": "413", "error": "Payload too large", "message": "no", "code": "EntityTooLarge"}'
    headers = {"content-type": "application/json"}
    world.stack.supabase.faults.add(
        "status", f"{UPLOAD}/2.png", status=400, body=body, headers=headers
    )
    generation = alice.start(alice.wish(model=FOUR_IMAGES))

    done = alice.finished(generation)

    assert (done["status"], done["charged_credits"]) == ("succeeded", "0.090")
    assert done["error"]["code"].startswith("output_not_stored_")
    assert [output["n"] for output in done["outputs"]] == [0, 1, 3]
    assert openable(done) == 3
    assert alice.credits() == ("9.910", "0.000", "0.000")


def test_files_that_expired_before_the_copy_are_refunded(world: World, alice: Person) -> None:
    """The provider's retention was over before anybody came: nothing is there, nothing is charged."""
    world.stack.babysea.behaviour.change(file_life=0)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))

    failed = alice.finished(generation)

    assert (failed["status"], failed["error"]["code"]) == ("failed", "output_gone")
    assert (failed["charged_credits"], failed["refunded_credits"]) == ("0.000", FOUR_COST)
    assert alice.credits() == BEFORE


@pytest.mark.parametrize(
    ("status", "statuscode", "error"),
    [
        (507, "507", "insufficient_storage"),
        (402, "402", "exceed_storage_size_quota"),
        (400, "403", "Unauthorized"),
        (400, "404", "Bucket not found"),
    ],
    ids=["full", "over quota", "key refused", "no bucket"],
)
def test_storage_that_is_full_is_only_a_delay(
    world: World, alice: Person, status: int, statuscode: str, error: str
) -> None:
    """What the operator can mend costs no user an output: it waits, reserved, and is then delivered."""
    body = f'{{"statusCode": "{statuscode}", "error": "{error}", "message": "no", "code": "X"}}'
    headers = {"content-type": "application/json"}
    fault = world.stack.supabase.faults.add(
        "status", UPLOAD, status=status, body=body.encode(), headers=headers, times=3
    )
    generation = alice.start()
    wait_for(lambda: fault.times != 3)
    assert alice.generation(generation)["status"] in ("storing", "succeeded")

    done = alice.finished(generation)

    assert (done["status"], done["charged_credits"], openable(done)) == ("succeeded", IMAGE_COST, 1)
    assert alice.movements() == ["grant", "reserve", "charge"]


def test_what_was_stored_before_the_files_expired_is_charged(world: World, alice: Person) -> None:
    """Storage is full after two of four until the provider's files are gone: two are charged."""
    world.stack.supabase.faults.add("status", f"{UPLOAD}/[23].png", status=507)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))
    wait_for(lambda: len(world.stored(generation)) == 2)

    world.stack.babysea.behaviour.change(file_life=0)
    # still full: a file that was fetched before has to meet that
    done = rescued(world, alice, generation)

    assert (done["status"], done["error"]["code"]) == ("succeeded", "output_gone")
    assert (done["charged_credits"], done["refunded_credits"]) == ("0.060", "0.060")
    assert [output["n"] for output in done["outputs"]] == [0, 1]
    assert openable(done) == 2
    assert alice.credits() == ("9.940", "0.000", "0.000")


def test_a_worker_killed_between_files_loses_nothing(world: World, alice: Person) -> None:
    """Its successor takes over what was stored and copies the rest; each file is fetched no more than twice."""
    world.stack.supabase.faults.add("delay", f"{UPLOAD}/2.png", times=1, seconds=20)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))
    job = world.job(generation)
    third = f"/{generation}/2.png"
    wait_for(lambda: any(r.path.endswith(third) for r in world.stack.supabase.requests))
    stored = world.stored(generation)

    assert world.stack.cloud.functions[SETTLE].kill_busy() >= 1
    # the same message comes back and takes the dead worker's lease over; the sweep would break it
    done = alice.finished(generation, 60)

    assert [name[-5:] for name in stored] == ["0.png", "1.png"]
    assert (done["status"], done["charged_credits"], done["error"]) == (
        "succeeded",
        FOUR_COST,
        None,
    )
    assert openable(done) == 4
    assert [job.downloads[n] for n in range(4)] == [1, 1, 2, 1], (
        "what was stored is not fetched again"
    )
    assert alice.movements() == ["grant", "reserve", "charge"]


def test_a_slow_file_does_not_hold_up_the_others(world: World, alice: Person) -> None:
    """One file breaks off at first: the others are stored meanwhile, and in the end all four are there."""
    world.stack.babysea.plan(file="cut", file_index=0, file_times=1, times=1)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))

    done = alice.finished(generation)

    assert (done["status"], done["charged_credits"], openable(done)) == ("succeeded", FOUR_COST, 4)
    downloads = world.job(generation).downloads
    assert [downloads[n] for n in range(4)] == [2, 1, 1, 1]


def openable(generation: Json) -> int:
    """Return how many of a generation's outputs its user can really open."""
    return sum(httpx.get(output["url"]).status_code == 200 for output in generation["outputs"])


def rescued(world: World, person: Person, generation: str) -> Json:
    """Wait for the end of a generation whose message may be worn out, with the sweep's help."""

    def look() -> Json | None:
        found = person.generation(generation)
        if found["finished_at"]:
            return found
        world.age(generation)
        world.sweep()
        return None

    found = wait_for(look)
    assert found
    return found


def test_an_output_is_private(world: World, alice: Person) -> None:
    """Without the signature, or with one for another file, the picture cannot be fetched."""
    one, two = (alice.finished(alice.start())["outputs"][0]["url"] for _ in range(2))
    path, _, token = one.partition("?")
    key = {"apikey": world.stack.supabase.publishable_key}

    assert httpx.get(one).status_code == 200
    assert httpx.get(path).status_code >= 400
    assert httpx.get(f"{two.partition('?')[0]}?{token}").status_code >= 400
    for way in ("public/", "authenticated/", ""):
        assert httpx.get(path.replace("/sign/", f"/{way}"), headers=key).status_code >= 400


def test_another_user_cannot_read_the_file(world: World, alice: Person) -> None:
    """Another signed-in user's token opens nothing of it, by any route of storage."""
    bob = world.person()
    url = alice.finished(alice.start())["outputs"][0]["url"].partition("?")[0]
    headers = {
        "apikey": world.stack.supabase.publishable_key,
        "authorization": f"Bearer {bob.token}",
    }

    for way in ("authenticated/", "", "info/"):
        assert httpx.get(url.replace("/sign/", f"/{way}"), headers=headers).status_code >= 400
    signing = httpx.post(url, headers=headers, json={"expiresIn": 60})
    assert signing.status_code >= 400


def test_a_library_survives_storage_being_away(world: World, alice: Person) -> None:
    """Signing is impossible for the moment: 503, and afterwards everything is there."""
    generation = alice.start()
    alice.finished(generation)
    world.stack.supabase.faults.add("status", "POST /storage/v1/object/sign/.*", status=503)

    answer = alice.http.get("/generations")

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    world.stack.supabase.faults.clear()
    wait_for(lambda: alice.get("/generations")["generations"])
