"""Prices of every form, and a user's own pictures as input, as frames of a film, and as something else."""

from __future__ import annotations

import io
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from tests.e2e.people import IMAGE_COST, VIDEO, Json, Person, problem
from tests.e2e.world import World

SOUND = "bytedance/seedance-1.5-pro"
PICTURE_MODEL = "bfl/flux-1.1-pro"
HTML = b"<!doctype html><script>alert(1)</script>" + b" " * 200


def picture(colour: tuple[int, int, int] = (200, 30, 90), kind: str = "PNG") -> bytes:
    """Return a small picture."""
    data = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(data, kind)
    return data.getvalue()


def uploaded(person: Person, data: bytes, content_type: str = "image/png") -> str:
    """Announce a file, upload it as a browser does, and return the id to use it by."""
    place = person.http.post("/uploads", json={"type": content_type, "size": len(data)}).json()
    answer = httpx.put(
        place["upload_url"], content=data, headers={"content-type": content_type}, timeout=20
    )
    assert answer.status_code == 200, answer.text
    return str(place["asset_id"])


@pytest.mark.parametrize(
    ("fields", "variant", "cost"),
    [
        ({"model": "google/veo-2", "duration": 6}, "default", "3.000"),
        ({"model": "bfl/flux-2-pro", "resolution": "4MP"}, "4MP", "0.075"),
        ({"model": VIDEO, "duration": 5, "resolution": "720p"}, "720p", "0.310"),
        (
            {"model": SOUND, "duration": 8, "resolution": "480p", "audio": True},
            "480p_audio",
            "0.240",
        ),
        ({"model": SOUND, "duration": 8, "resolution": "480p"}, "480p_noaudio", "0.120"),
    ],
    ids=["flat", "by resolution", "by resolution and second", "with sound", "without sound"],
)
def test_every_form_of_pricing(
    world: World, alice: Person, fields: dict[str, Any], variant: str, cost: str
) -> None:
    """What is shown, estimated, reserved, charged, and billed by the provider is one price."""
    wish = alice.wish(**fields)
    (row,) = (m for m in alice.get("/models")["models"] if m["id"] == fields["model"])
    assert row["price_per"] == ("second" if "duration" in fields else "output")
    assert variant in row["prices"]

    estimate = alice.http.post("/estimates", json=wish).json()
    accepted = alice.ask(wish | {"max_cost_credits": estimate["cost_credits"]}).json()
    done = alice.finished(accepted["id"], 60)

    assert done["status"] == "succeeded"
    assert {estimate["cost_credits"], accepted["cost_credits"], done["charged_credits"]} == {cost}
    assert f"{world.job(done['id']).charged:.3f}" == cost
    body = world.job(done["id"]).body
    assert body.get("generation_duration") == fields.get("duration")
    assert body.get("generation_resolution") == fields.get("resolution")
    assert body.get("generation_generate_audio") == fields.get("audio")


def test_a_film_between_two_frames(world: World, alice: Person) -> None:
    """The provider fetches exactly the two pictures, each as the frame it was meant for."""
    first, last = picture((10, 20, 30)), picture((200, 100, 0), "JPEG")
    wish = alice.wish(
        model=VIDEO,
        duration=5,
        resolution="480p",
        input_asset_ids=[uploaded(alice, first)],
        last_frame_asset_id=uploaded(alice, last, "image/jpeg"),
    )

    done = alice.finished(alice.start(wish), 60)

    assert done["status"] == "succeeded"
    assert done["fields"]["last_frame_asset_id"] == wish["last_frame_asset_id"]
    job = world.job(done["id"])
    assert (job.source, job.last_frame) == (first, last)


def test_three_pictures_for_a_model_that_takes_them(world: World, alice: Person) -> None:
    """FLUX-2 takes three, in the order they were given; a fourth is refused."""
    ids = [uploaded(alice, picture((n * 50, 0, 0))) for n in range(3)]
    wish = alice.wish(model="bfl/flux-2-pro", resolution="1MP", input_asset_ids=ids)

    done = alice.finished(alice.start(wish))

    assert done["status"] == "succeeded"
    urls = world.job(done["id"]).body["generation_input_file"]
    assert [asset for asset, url in zip(ids, urls, strict=True) if asset in url] == ids
    one_too_many = alice.ask(alice.wish(model=PICTURE_MODEL, input_asset_ids=ids[:2]))
    assert fields_of(one_too_many) == ["input_asset_ids"]


@pytest.mark.parametrize(
    "data",
    [HTML, picture(kind="GIF"), b"\0\0\0\x20ftypisom" + b"\0" * 60, b"x"],
    ids=["a page", "a GIF", "a film", "one byte"],
)
def test_what_is_no_picture_is_not_lent(world: World, alice: Person, data: bytes) -> None:
    """Whatever it was announced and uploaded as, its own bytes are judged before the provider gets it."""
    asset = uploaded(alice, data)

    answer = alice.ask(alice.wish(model=PICTURE_MODEL, input_asset_ids=[asset]))

    assert fields_of(answer) == ["input_asset_ids.0"]
    assert answer.json()["errors"][0]["code"] == "not_a_picture"
    assert alice.movements() == ["grant"]


def test_each_picture_that_cannot_be_used_is_named(alice: Person) -> None:
    """A page as first frame and somebody else's picture as the last: both fields are named."""
    wish = alice.wish(
        model=VIDEO,
        duration=5,
        resolution="480p",
        input_asset_ids=[uploaded(alice, HTML)],
        last_frame_asset_id=str(uuid4()),
    )

    assert fields_of(alice.ask(wish)) == ["input_asset_ids.0", "last_frame_asset_id"]


def test_somebody_elses_picture_is_not_lent(world: World, alice: Person) -> None:
    """Another user's picture looks like one that does not exist."""
    theirs = uploaded(world.person(), picture())

    answer = alice.ask(alice.wish(model=PICTURE_MODEL, input_asset_ids=[theirs]))

    assert answer.json()["errors"][0]["code"] == "unknown"


def test_only_the_beginning_of_a_picture_is_read(world: World, alice: Person) -> None:
    """A range is asked for, so a large upload costs the function neither time nor memory."""
    asset = uploaded(alice, picture() + b"\0" * 1_000_000)
    wish = alice.wish(model=PICTURE_MODEL, input_asset_ids=[asset])

    alice.start(wish)

    reads = [
        request
        for request in world.stack.supabase.requests
        if request.method == "GET" and asset in request.path and "/sign/" not in request.path
    ]
    assert [request.headers["range"] for request in reads] == ["bytes=0-63"]


def test_storage_away_while_a_picture_is_looked_at(world: World, alice: Person) -> None:
    """Nothing is reserved; the same key works when storage is back."""
    wish = alice.wish(model=PICTURE_MODEL, input_asset_ids=[uploaded(alice, picture())])
    key = str(uuid4())
    world.stack.supabase.faults.add("status", "GET /storage/v1/object/uploads/.*", status=503)

    problem(alice.ask(wish, key), 503, "unavailable")

    assert alice.movements() == ["grant"]
    world.stack.supabase.faults.clear()
    assert alice.ask(wish, key).status_code == 202


def test_a_repetition_does_not_need_the_picture_any_more(world: World, alice: Person) -> None:
    """The key answers with its generation for ever, also when what it was made from is gone."""
    wish = alice.wish(model=PICTURE_MODEL, input_asset_ids=[uploaded(alice, picture())])
    key = str(uuid4())
    first = alice.ask(wish, key).json()
    alice.finished(first["id"])
    world.db.execute("delete from public.assets where user_id = %s", (alice.id,))

    again = alice.ask(wish, key)
    other = alice.ask(wish | {"prompt": "another"}, key)

    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    problem(other, 409, "idempotency_conflict")
    assert fields_of(alice.ask(wish)) == ["input_asset_ids.0"], "a new key needs the picture"


def test_a_price_that_has_risen_is_asked_about(alice: Person) -> None:
    """Dearer than shown: 409 with the new price, nothing reserved, and the same key works when agreed to."""
    key, wish = str(uuid4()), alice.wish()

    found = problem(alice.ask(wish | {"max_cost_credits": "0.004"}, key), 409, "price_changed")

    assert (found["cost_credits"], found["available_credits"]) == (IMAGE_COST, "10.000")
    assert alice.movements() == ["grant"]
    accepted = alice.ask(wish | {"max_cost_credits": found["cost_credits"]}, key)
    assert accepted.status_code == 202
    lower = alice.ask(wish | {"max_cost_credits": "0.001"}, key)
    assert lower.json()["id"] == accepted.json()["id"], "it is reserved: nothing changes any more"


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"guidance_scale": 20.5}, ["options.guidance_scale"]),
        (
            {"num_inference_steps": 0, "moderation": "yes"},
            ["options.moderation", "options.num_inference_steps"],
        ),
        ({"enhance_prompt": "on"}, ["options.enhance_prompt"]),
        ({"duration": 5}, ["options.duration"]),
    ],
    ids="+".join,
)
def test_a_models_own_fields_are_checked_before_the_reservation(
    alice: Person, options: Json, refused: list[str]
) -> None:
    """By type, range and list, field by field, for estimates as for generations."""
    wish = alice.wish(model=PICTURE_MODEL, options=options)

    assert sorted(fields_of(alice.ask(wish))) == refused
    assert sorted(fields_of(alice.http.post("/estimates", json=wish))) == refused


def test_a_models_own_fields_reach_the_provider(world: World, alice: Person) -> None:
    """Under the provider's names, with their JSON types; the list of models says what they take."""
    options = {"guidance_scale": 3.5, "num_inference_steps": 28, "moderation": True}
    (row,) = (m for m in alice.get("/models")["models"] if m["id"] == PICTURE_MODEL)
    assert row["option_limits"]["guidance_scale"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 20,
        "allowed": None,
    }

    done = alice.finished(alice.start(alice.wish(model=PICTURE_MODEL, options=options)))

    assert done["status"] == "succeeded"
    body = world.job(done["id"]).body
    assert {name: body[f"generation_{name}"] for name in options} == options


def fields_of(answer: httpx.Response) -> list[str]:
    """Return the fields that a 422 names."""
    found = problem(answer, 422, "invalid_request")
    return [error["field"] for error in found["errors"]]
