"""The account around the credits: gift, alerts, own pictures, removing things, adjustments by an admin."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest

from tests.e2e.people import Person, picture, problem, wait_for
from tests.e2e.world import World

PNG = picture()
SOMEBODY = "7f0c1f6e-3f43-4a9b-9d0e-0d2a3c1b5e6f"


def adjust(
    admin: Person, user_id: str, amount: str, key: str | None = None, reason: str = "a test"
) -> httpx.Response:
    """Ask for an adjustment as this user."""
    return admin.http.post(
        "/admin/adjustments",
        json={"user_id": user_id, "amount": amount, "reason": reason},
        headers={"idempotency-key": key or str(uuid4())},
    )


def upload(person: Person) -> str:
    """Upload a small picture and return its id."""
    picture = PNG
    place = person.http.post("/uploads", json={"type": "image/png", "size": len(picture)}).json()
    stored = httpx.put(
        place["upload_url"], content=picture, headers={"content-type": "image/png"}, timeout=20
    )
    assert stored.status_code == 200, stored.text
    return str(place["asset_id"])


class TestWelcome:
    """Credits for who signs up."""

    def test_gift(self, world: World) -> None:
        """A new user finds 10 credits and reads where they came from."""
        world.set_welcome("10")
        try:
            user = world.person()
        finally:
            world.set_welcome("0")

        account = user.get("/account")

        assert (account["available"], account["welcome"]) == ("10.000", "paid")
        assert [grant["source"] for grant in account["grants"]] == ["welcome"]

    def test_sign_up_without_the_trigger(self, world: World) -> None:
        """A user whose account the sign-up did not open has it opened by the first look."""
        user = world.person()
        world.db.execute("delete from profiles where user_id = %s", (user.id,))
        world.set_welcome("10")
        try:
            account = user.get("/account")
        finally:
            world.set_welcome("0")

        assert (account["available"], account["welcome"], account["role"]) == (
            "10.000",
            "paid",
            "user",
        )


class TestAlerts:
    """A balance that gets low."""

    def test_threshold_crossed(self, world: World, alice: Person) -> None:
        """A reserve that crosses the user's own threshold shows as one alert, and reaches the event bus once."""
        answer = alice.http.patch("/account", json={"low_balance_credits": "9.999"})
        assert answer.status_code == 204, answer.text
        assert alice.get("/account")["low_balance_credits"] == "9.999"

        alice.finished(alice.start())
        alice.finished(alice.start())

        (alert,) = alice.get("/alerts")["alerts"]
        assert (alert["type"], alert["threshold"], alert["available"]) == (
            "low_balance",
            "9.999",
            "9.995",
        )
        assert world.sweep()["alerts_sent"] >= 1
        assert world.sweep()["alerts_sent"] == 0

    def test_bus_away(self, world: World, alice: Person) -> None:
        """While the event bus is away the alert waits, and the next sweep sends it."""
        world.sweep()
        alice.http.patch("/account", json={"low_balance_credits": "10"})
        alice.start()
        wait_for(lambda: alice.get("/alerts")["alerts"])
        with world.event_bus_away():
            assert world.sweep()["alerts_sent"] == 0
        world.db.execute("update backend.alert_outbox set leased_until = '-infinity'")

        assert world.sweep()["alerts_sent"] == 1

    @pytest.mark.parametrize("threshold", ["-1", "0.0001", "NaN", 0.5, None, "1e9"])
    def test_no_threshold(self, alice: Person, threshold: object) -> None:
        """What is no amount of credits is refused, and nothing changes."""
        answer = alice.http.patch("/account", json={"low_balance_credits": threshold})

        problem(answer, 422, "invalid_request")
        assert alice.get("/account")["low_balance_credits"] == "0.500"


class TestRemoval:
    """What a user removes is gone: from the library, from storage, and not from the books."""

    def test_generation(self, world: World, alice: Person) -> None:
        """A removed generation answers 404 everywhere, its file is gone, the ledger is as before."""
        generation = alice.start()
        url = alice.finished(generation)["outputs"][0]["url"]
        movements = alice.movements()

        for _ in range(2):
            answer = alice.http.delete(f"/generations/{generation}")
            assert answer.status_code == 204, answer.text

        problem(alice.http.get(f"/generations/{generation}"), 404, "not_found")
        problem(alice.http.get(f"/generations/{generation}/events"), 404, "not_found")
        assert alice.get("/generations")["generations"] == []
        assert world.stored(generation) == []
        assert httpx.get(url, timeout=20).status_code == 400
        assert alice.movements() == movements

    def test_unfinished(self, world: World, alice: Person) -> None:
        """A generation that is under way is not removed, and goes on."""
        world.stack.babysea.behaviour.change(processing=1)
        generation = alice.start()

        problem(alice.http.delete(f"/generations/{generation}"), 409, "not_finished")

        assert alice.finished(generation)["status"] == "succeeded"

    @pytest.mark.parametrize("name", [SOMEBODY, "no-uuid"])
    def test_not_there(self, alice: Person, name: str) -> None:
        """An id that does not exist answers like one of somebody else."""
        problem(alice.http.delete(f"/generations/{name}"), 404, "not_found")
        problem(alice.http.delete(f"/uploads/{name}"), 404, "not_found")

    def test_somebody_elses(self, world: World, alice: Person) -> None:
        """Nobody removes what is another's."""
        bob = world.person("1")
        generation, picture = bob.start(), upload(bob)
        bob.finished(generation)

        problem(alice.http.delete(f"/generations/{generation}"), 404, "not_found")
        problem(alice.http.delete(f"/uploads/{picture}"), 404, "not_found")

        assert bob.generation(generation)["status"] == "succeeded"
        assert [found["asset_id"] for found in bob.get("/uploads")["uploads"]] == [picture]

    def test_picture(self, alice: Person) -> None:
        """An own picture is listed with a URL that works, until it is removed; then it is lent no more."""
        picture = upload(alice)
        (listed,) = alice.get("/uploads")["uploads"]
        assert listed["asset_id"] == picture
        assert httpx.get(listed["url"], timeout=20).status_code == 200

        assert alice.http.delete(f"/uploads/{picture}").status_code == 204

        assert alice.get("/uploads")["uploads"] == []
        assert httpx.get(listed["url"], timeout=20).status_code == 400

    def test_storage_away(self, world: World, alice: Person) -> None:
        """When storage is away the picture is out of sight at once, and its file goes with the next cleaning."""
        picture = upload(alice)
        world.stack.supabase.faults.add("status", r"DELETE /storage/v1/.*", status=503)
        problem(alice.http.delete(f"/uploads/{picture}"), 503, "unavailable")
        world.stack.supabase.faults.clear()
        assert alice.get("/uploads")["uploads"] == []
        world.db.execute(
            "update assets set removed_at = removed_at - interval '1 hour' where id = %s",
            (picture,),
        )

        assert world.clean_up()["removals"] == 1

        assert world.rows("select from assets where id = %s", picture) == []
        assert world.rows("select from storage.objects where name like %s", f"%{picture}%") == []

    def test_dry_run(self, world: World, alice: Person) -> None:
        """A dry run of the cleaning counts an unused picture; a real one removes it, file and all."""
        picture = upload(alice)
        world.db.execute(
            "update assets set created_at = created_at - interval '31 days' where id = %s",
            (picture,),
        )

        counted = world.clean_up(dry_run=True)
        assert counted["unused_assets"] == 1
        assert alice.get("/uploads")["uploads"]

        assert world.clean_up()["unused_assets"] == 1
        assert alice.get("/uploads")["uploads"] == []


class TestLibrary:
    """Looking at jobs."""

    def test_events(self, alice: Person) -> None:
        """A job's events tell its story in order."""
        generation = alice.start()
        alice.finished(generation)

        events = alice.get(f"/generations/{generation}/events")["events"]

        assert [event["to_status"] for event in events] == [
            "queued",
            "processing",
            "storing",
            "succeeded",
        ]
        assert events[0]["from_status"] is None

    def test_presets(self, world: World, alice: Person) -> None:
        """Presets that `GET /models` lists are accepted: the provider gets their parts, the library the type."""
        models = alice.get("/models")
        style = next(preset for preset in models["presets"] if preset["kind"] == "style")
        assert "portrait" in [found["id"] for found in models["generation_types"]]

        generation = alice.start(
            alice.wish("a sailor", generation_type="portrait", presets={"style": style["id"]})
        )

        found = alice.finished(generation)
        assert found["generation_type"] == "portrait"
        assert found["prompt"].endswith("a sailor")
        assert world.job(generation).body["generation_prompt"].startswith(f"{found['prompt']}, ")

    def test_kind(self, alice: Person) -> None:
        """The library can be asked for one kind."""
        generation = alice.start()

        assert alice.get("/generations", kind="video")["generations"] == []
        (found,) = alice.get("/generations", kind="image")["generations"]
        assert found["id"] == generation

    def test_download(self, alice: Person) -> None:
        """The download URL makes a browser save the file under the model's name."""
        (output,) = alice.finished(alice.start())["outputs"]

        saved = httpx.get(output["download_url"], timeout=20)

        assert saved.status_code == 200
        assert "flux-schnell-" in saved.headers["content-disposition"]
        assert httpx.get(output["url"], timeout=20).content == saved.content


class TestAdjustments:
    """Credits given and taken by an admin."""

    def test_admin(self, world: World, alice: Person) -> None:
        """An admin's adjustment takes effect once a key, and the user reads why."""
        admin = world.person()
        world.make_admin(admin)

        answers = [adjust(admin, alice.id, "2.5", "ticket-1", "sorry") for _ in range(2)]

        assert [a.json()["outcome"] for a in answers] == ["adjusted", "duplicate"], answers[0].text
        assert alice.credits()[0] == "12.500"
        assert alice.get("/account/ledger")["entries"][0]["description"] == "sorry"
        problem(adjust(admin, alice.id, "3", "ticket-1"), 409, "idempotency_conflict")

    def test_too_much(self, world: World, alice: Person) -> None:
        """More than a user has is not taken."""
        admin = world.person()
        world.make_admin(admin)

        problem(adjust(admin, alice.id, "-10.001"), 402, "insufficient_credits")
        assert adjust(admin, alice.id, "-10").status_code == 200

        assert alice.credits() == ("0.000", "0.000", "0.000")

    def test_user(self, alice: Person) -> None:
        """Who is no admin gives nothing, least of all to themselves."""
        problem(adjust(alice, alice.id, "5"), 403, "forbidden")

        assert alice.credits()[0] == "10.000"

    def test_admin_no_more(self, world: World, alice: Person) -> None:
        """A role that was taken away counts no longer, although the token is the same."""
        admin = world.person()
        world.make_admin(admin)
        assert adjust(admin, alice.id, "1").status_code == 200
        world.db.execute("update profiles set role = 'user' where user_id = %s", (admin.id,))

        problem(adjust(admin, alice.id, "1"), 403, "forbidden")

    @pytest.mark.parametrize(
        "change",
        [
            {"amount": "0"},
            {"amount": "1.0001"},
            {"amount": 1.5},
            {"reason": "  "},
            {"user_id": "x"},
        ],
    )
    def test_nonsense(self, world: World, alice: Person, change: dict[str, object]) -> None:
        """A wish that cannot be is refused field by field."""
        admin = world.person()
        world.make_admin(admin)
        body = {"user_id": alice.id, "amount": "1", "reason": "a test"} | change

        answer = admin.http.post("/admin/adjustments", json=body, headers={"idempotency-key": "k"})

        problem(answer, 422, "invalid_request")

    def test_nobody(self, world: World) -> None:
        """An id that is nobody's gets no credits."""
        admin = world.person()
        world.make_admin(admin)

        problem(adjust(admin, SOMEBODY, "1"), 422, "invalid_request")
