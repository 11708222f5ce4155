from __future__ import annotations

import io
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from PIL import Image
from supabase import Client, ClientOptions, create_client

from tests.e2e.people import (
    FOUR_COST,
    FOUR_IMAGES,
    IMAGE,
    IMAGE_COST,
    VIDEO,
    Person,
    picture,
    wait_for,
)
from tests.e2e.world import World

ORDER = ["queued", "processing", "storing", "succeeded"]


@pytest.fixture(name="supabase")
def _supabase(world: World) -> Iterator[Client]:
    """Return the real client, as a frontend has it; it must not leave a timer thread behind."""
    stand_in = world.stack.supabase
    with httpx.Client() as http:
        options = ClientOptions(auto_refresh_token=False, httpx_client=http)
        yield create_client(stand_in.url, stand_in.publishable_key, options)


@pytest.fixture(name="newcomer")
def _newcomer(world: World, supabase: Client) -> Person:
    """Return somebody who signed up through the real client."""
    email, password = f"{uuid4().hex}@example.com", f"pass-{uuid4().hex}"
    answer = supabase.auth.sign_up({"email": email, "password": password})
    assert answer.user
    assert answer.session
    http = world.client(answer.session.access_token)
    return world.known(Person(http, answer.user.id, email, password))


def pay_by_form(checkout_url: str) -> str:
    """Pay as a browser does: look at the page, press the button; return where it leads."""
    page = httpx.get(checkout_url)
    assert 'name="action" value="pay"' in page.text
    answer = httpx.post(checkout_url, data={"action": "pay"})
    assert answer.status_code == 303
    return answer.headers["location"]


def test_a_newcomer_buys_generates_and_downloads(world: World, newcomer: Person) -> None:
    """From signing up to the picture in hand: each step says what the next one needs."""
    assert newcomer.credits() == ("0.000", "0.000", "0.000")
    (starter,) = (p for p in newcomer.get("/catalog")["packs"] if p["id"] == "starter")
    assert (starter["credits"], starter["amount_minor"]) == ("10.000", 1000)
    models = {model["id"]: model for model in newcomer.get("/models")["models"]}
    assert models[IMAGE]["prices"] == {"default": IMAGE_COST}
    assert "qwen/image" not in models, "what has no price is not sold"

    bought = newcomer.http.post(
        "/checkout", json={"pack_id": "starter", "success_path": "/thanks?tab=1"}
    )
    assert bought.status_code == 201
    session = bought.json()["session_id"]
    assert newcomer.get(f"/checkout/{session}")["status"] == "open"
    back = urlsplit(pay_by_form(bought.json()["checkout_url"]))
    assert (back.netloc, back.path) == ("localhost:8000", "/thanks")
    assert parse_qs(back.query) == {"tab": ["1"], "session_id": [session]}
    world.stack.stripe.drain()
    assert newcomer.get(f"/checkout/{session}")["status"] == "paid"
    assert newcomer.credits() == ("10.000", "0.000", "0.000")

    wish = newcomer.wish("a lighthouse", ratio="16:9", output_format="webp")
    estimate = newcomer.http.post("/estimates", json=wish).json()
    assert estimate == {
        "cost_credits": IMAGE_COST,
        "available_credits": "10.000",
        "can_afford": True,
    }
    accepted = newcomer.ask(wish)
    assert accepted.status_code == 202
    assert accepted.json()["cost_credits"] == IMAGE_COST
    assert accepted.json()["available_credits"] == "9.995"

    done = newcomer.finished(accepted.json()["id"])
    assert done["status"] == "succeeded"
    assert done["prompt"] == wish["prompt"]
    assert done["fields"] == {"ratio": "16:9", "output_format": "webp"}
    assert (done["charged_credits"], done["refunded_credits"]) == (IMAGE_COST, "0.000")
    (output,) = done["outputs"]
    downloaded = httpx.get(output["url"])
    assert downloaded.status_code == 200
    assert downloaded.headers["content-type"] == output["content_type"] == "image/webp"
    assert len(downloaded.content) == output["bytes"]
    assert downloaded.content == world.job(done["id"]).file(0)
    assert Image.open(io.BytesIO(downloaded.content)).format == "WEBP"

    assert newcomer.credits() == ("9.995", "0.000", "0.000")
    assert newcomer.movements() == ["grant", "reserve", "charge"]
    (grant,) = newcomer.get("/account")["grants"]
    assert (grant["source"], grant["remaining"]) == ("pack", "9.995")


def test_states_are_seen_in_their_order(world: World, alice: Person) -> None:
    """A user who keeps looking sees the states forwards only; the record holds each of them once."""
    world.stack.babysea.behaviour.change(pending=0.3, processing=0.3)
    generation = alice.start()
    seen: list[str] = []

    def look() -> bool:
        status = str(alice.generation(generation)["status"])
        if status not in seen:
            seen.append(status)
        return status == "succeeded"

    wait_for(look)

    assert seen == [status for status in ORDER if status in seen]
    assert "processing" in seen
    assert world.states(generation) == ORDER


def test_a_video_is_generated_and_priced_by_the_second(world: World, alice: Person) -> None:
    """A video of five seconds costs five times the price of a second and arrives as it was made."""
    wish = alice.wish("waves", VIDEO, duration=5, resolution="480p", ratio="16:9")
    generation = alice.start(wish)

    done = alice.finished(generation)

    assert (done["status"], done["kind"], done["charged_credits"]) == (
        "succeeded",
        "video",
        "0.150",
    )
    (output,) = done["outputs"]
    data = httpx.get(output["url"]).content
    assert output["content_type"] == "video/mp4"
    assert data == world.job(generation).file(0)
    assert data[4:8] == b"ftyp"


def test_an_own_picture_is_uploaded_and_used(
    world: World, newcomer: Person, supabase: Client
) -> None:
    """The picture goes straight to storage by the signed upload, and the provider gets exactly it."""
    world.grant(newcomer, "1")
    data = picture()
    upload = newcomer.http.post("/uploads", json={"type": "image/png", "size": len(data)})
    assert upload.status_code == 201
    place = upload.json()
    assert place["path"].startswith(f"{newcomer.id}/")
    supabase.storage.from_("uploads").upload_to_signed_url(
        place["path"], place["token"], data, {"content-type": "image/png"}
    )

    generation = newcomer.start(
        newcomer.wish("like this", "bfl/flux-1.1-pro", input_asset_ids=[place["asset_id"]])
    )

    assert newcomer.finished(generation)["status"] == "succeeded"
    assert world.job(generation).source == data


def test_a_picture_that_was_never_uploaded_is_refused(alice: Person) -> None:
    """An announced picture without a file names the field, and nothing is reserved."""
    asset = alice.http.post("/uploads", json={"type": "image/png", "size": 100}).json()["asset_id"]

    answer = alice.ask(alice.wish(model="bfl/flux-1.1-pro", input_asset_ids=[asset]))

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["input_asset_ids.0"]
    assert alice.credits() == ("10.000", "0.000", "0.000")


def test_the_library_is_paged_and_filtered(world: World, alice: Person) -> None:
    """Pages follow each other without gap or repetition, newest first; a filter names one state."""
    world.stack.babysea.plan(prompt_contains="storm", outcome="fail")
    prompts = ["one", "a storm", "two", "three", "another storm"]
    made = [alice.start(alice.wish(prompt)) for prompt in prompts]
    for generation in made:
        alice.finished(generation)

    pages, cursor = [], None
    while True:
        page = alice.get("/generations", limit=2, **({"cursor": cursor} if cursor else {}))
        pages.append([found["id"] for found in page["generations"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    failed = alice.get("/generations", status="failed")["generations"]

    assert pages == [[made[4], made[3]], [made[2], made[1]], [made[0]]]
    assert [found["id"] for found in failed] == [made[4], made[1]]
    assert [found["refunded_credits"] for found in failed] == [IMAGE_COST, IMAGE_COST]


def test_the_ledger_is_paged(alice: Person) -> None:
    """The pages of the ledger are its entries, each once, newest first, and sum up to the balance."""
    for _ in range(2):
        alice.finished(alice.start())

    entries, cursor = [], None
    while True:
        page = alice.get("/account/ledger", limit=2, **({"cursor": cursor} if cursor else {}))
        assert len(page["entries"]) <= 2
        entries += page["entries"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    ids = [entry["id"] for entry in entries]
    assert ids == sorted(set(ids), reverse=True)
    assert alice.movements() == ["grant", "reserve", "charge", "reserve", "charge"]
    total = sum(Decimal(entry["available_delta"]) for entry in entries)
    assert (f"{total:.3f}", "0.000", "0.000") == alice.credits()


def test_a_failure_of_the_provider_is_refunded(world: World, alice: Person) -> None:
    """What the provider could not make costs nothing, and the code says why."""
    world.stack.babysea.plan(outcome="fail", code="BSE4006", times=1)

    failed = alice.finished(alice.start())

    assert failed["status"] == "failed"
    assert failed["error"]["code"] == "BSE4006"
    assert (failed["charged_credits"], failed["refunded_credits"]) == ("0.000", IMAGE_COST)
    assert failed["outputs"] == []
    assert alice.credits() == ("10.000", "0.000", "0.000")
    assert alice.movements() == ["grant", "reserve", "refund"]


def test_a_lost_callback_is_made_good_by_the_sweep(world: World, alice: Person) -> None:
    """When the provider's word never arrives the sweep asks for it, and the result is the same."""
    world.stack.babysea.plan(webhook="drop", times=1)
    generation = alice.start()
    wait_for(lambda: world.job(generation).status == "succeeded")
    assert alice.generation(generation)["status"] == "processing"
    assert alice.credits() == ("9.995", IMAGE_COST, "0.000")

    world.age(generation)
    world.sweep()

    assert alice.finished(generation)["status"] == "succeeded"
    assert alice.credits() == ("9.995", "0.000", "0.000")


def test_a_partial_delivery_is_charged_in_part(world: World, alice: Person) -> None:
    """Three pictures of four cost three quarters; the rest is refunded in the same settlement."""
    world.stack.babysea.plan(deliver=3, times=1)
    generation = alice.start(alice.wish(model=FOUR_IMAGES))

    done = alice.finished(generation)

    assert (done["status"], done["cost_credits"]) == ("succeeded", FOUR_COST)
    assert (done["charged_credits"], done["refunded_credits"]) == ("0.090", "0.030")
    assert [output["n"] for output in done["outputs"]] == [0, 1, 2]
    assert alice.credits() == ("9.910", "0.000", "0.000")


def test_the_same_key_works_after_a_top_up(world: World) -> None:
    """A request refused for credits leaves nothing behind: paid for, the same key is accepted."""
    person, key = world.person(), str(uuid4())
    wish = person.wish()
    refused = person.ask(wish, key)
    assert refused.status_code == 402
    assert refused.json()["code"] == "insufficient_credits"
    assert person.get("/generations")["generations"] == []

    world.stack.stripe.pay(person.checkout())
    world.stack.stripe.drain()
    accepted = person.ask(wish, key)

    assert accepted.status_code == 202
    assert person.finished(accepted.json()["id"])["status"] == "succeeded"
    assert person.ask(wish, key).json()["id"] == accepted.json()["id"]
