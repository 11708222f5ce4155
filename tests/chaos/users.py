"""What users do, and what they remember of the answers: a promise once made must hold in the end."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.chaos.scheduler import current
from tests.chaos.world import Answer, Promise, World

# (request, how often): one cheap image, four images, two kinds of video
_WISHES: tuple[tuple[dict[str, Any], int], ...] = (
    ({"model": "bfl/flux-schnell"}, 4),
    ({"model": "bytedance/seedream-4"}, 4),
    ({"model": "bytedance/seedance-1-pro"}, 2),
    ({"model": "bytedance/seedance-1.5-pro"}, 1),
)
_PAUSES = (0.0, 0.0, 1.0, 10.0, 60.0, 250.0)
_TRIES = 4
_CANCEL_PERCENT = 35
_DOUBLE_CLICK_PERCENT = 15


class User:
    """A user with a token; `run` is an actor."""

    def __init__(self, world: World, name: str, token: str) -> None:
        self.world = world
        self.name = name
        self._headers = {"authorization": f"Bearer {token}"}

    def run(self) -> None:
        """Ask for a few generations, one after the other, and look at them or cancel them."""
        random = self._random("visit")
        for number in range(1, random.randint(1, 4) + 1):
            self._sleep(random.choice(_PAUSES))
            wish = f"{self.name} wish {number}"
            self.world.scheduler.spawn(wish, lambda wish=wish: self._want(wish))  # type: ignore[misc]
            if self._percent(f"{wish}, clicked twice", _DOUBLE_CLICK_PERCENT):
                self.world.scheduler.spawn(
                    f"{wish} again",
                    lambda wish=wish: self._ask(wish),  # type: ignore[misc]
                )

    def _want(self, wish: str) -> None:
        random = self._random(wish)
        generation_id = self._ask(wish)
        if generation_id is None:
            return
        self._sleep(random.choice(_PAUSES))
        if random.random() * 100 < _CANCEL_PERCENT:
            self._cancel(generation_id)
        self._sleep(random.choice(_PAUSES))
        self._look(generation_id)

    def _ask(self, wish: str) -> str | None:
        """Ask until there is an answer to believe; return the generation's id."""
        random = self._random(f"{wish}, asking")
        models, weights = zip(*_WISHES, strict=True)
        request = self._random(f"{wish}, model").choices(models, weights)[0]
        body = json.dumps({**request, "prompt": wish}).encode()
        for _ in range(_TRIES):
            answer = self._send(
                "POST", "/generations", body, {"idempotency-key": wish.replace(" ", "-")}
            )
            code = answer.body.get("code")
            if answer.status == 202:
                generation_id = str(answer.body["id"])
                self._promise("accepted", generation_id, wish.replace(" ", "-"))
                return generation_id
            if code in ("content_rejected", "invalid_request", "provider_error"):
                self._promise("nothing charged", key=wish.replace(" ", "-"))
            if answer.status in (402, 409, 422, 502):
                return None
            self._sleep(random.choice((1.0, 5.0, 30.0)))
        return None

    def _cancel(self, generation_id: str) -> None:
        for _ in range(_TRIES):
            answer = self._send("POST", f"/generations/{generation_id}/cancel")
            if answer.status == 200:
                self._promise("canceled", generation_id)
            if answer.status in (200, 202, 409):
                return
            self._sleep(5.0)

    def _look(self, generation_id: str) -> None:
        answer = self._send("GET", f"/generations/{generation_id}")
        if answer.status == 200 and answer.body["status"] == "succeeded":
            self._promise("charged", generation_id)

    def _send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        return self.world.http(method, path, body, {**self._headers, **(headers or {})})

    def _promise(self, kind: str, generation_id: str | None = None, key: str | None = None) -> None:
        self.world.promises.append(Promise(kind, generation_id, key))

    def _random(self, name: str) -> Random:
        return self.world.plan.random(f"{self.name}: {name}")

    def _percent(self, name: str, percent: int) -> bool:
        return self._random(name).random() * 100 < percent

    def _sleep(self, seconds: float) -> None:
        actor = current()
        assert actor
        actor.sleep(seconds)
