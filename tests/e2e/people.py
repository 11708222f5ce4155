"""
What the end-to-end tests share: users, the requests they make, and waiting without blind sleeps.

Everything a user can do goes over HTTP.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from PIL import Image

IMAGE = "bfl/flux-schnell"
IMAGE_COST = "0.005"
FOUR_IMAGES = "bytedance/seedream-4"
FOUR_COST = "0.120"
VIDEO = "bytedance/seedance-1-pro"
FINAL = frozenset({"succeeded", "failed", "canceled"})
PROBLEM_JSON = "application/problem+json"

Json = dict[str, Any]
T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float = 20.0) -> T:
    """Return the first true answer of `condition`; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.03)
    return answer


def at_once(count: int, action: Callable[[int], T]) -> list[T]:
    """Run `action` in `count` threads at the same time and return the answers in order."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(action, range(count)))


def problem(answer: httpx.Response, status: int, code: str) -> Json:
    """Check that an answer is a problem of this status and code, in its one shape, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM_JSON
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    found: Json = answer.json()
    assert (found["status"], found["code"]) == (status, code)
    assert found["type"] == f"urn:holdfast:problem:{code}"
    assert found["request_id"]
    return found


def picture() -> bytes:
    """Return a small PNG of the user's own."""
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 90)).save(data, "PNG")
    return data.getvalue()


class Person:
    """A signed-up user and the requests such a user makes. `canary` is in each of their prompts."""

    def __init__(self, http: httpx.Client, user_id: str, email: str, password: str) -> None:
        self.http = http
        self.id = user_id
        self.email = email
        self.password = password
        self.canary = f"canary-{secrets.token_hex(8)}"

    @property
    def token(self) -> str:
        """The access token."""
        return self.http.headers["authorization"].removeprefix("Bearer ")

    def get(self, path: str, **query: str | int) -> Json:
        """Return the answer of a GET that must succeed."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def wish(self, prompt: str = "a red boat", model: str = IMAGE, **fields: Any) -> Json:
        """Return a request for a generation."""
        return {"model": model, "prompt": f"{self.canary} {prompt}", **fields}

    def ask(self, wish: Json | None = None, key: str | None = None) -> httpx.Response:
        """Ask for a generation."""
        return self.http.post(
            "/generations",
            json=wish or self.wish(),
            headers={"idempotency-key": key or str(uuid4())},
        )

    def start(self, wish: Json | None = None) -> str:
        """Ask for a generation that must be accepted, and return its id."""
        answer = self.ask(wish)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def generation(self, generation_id: str) -> Json:
        """Return a generation as its user sees it."""
        return self.get(f"/generations/{generation_id}")

    def reaches(self, generation_id: str, *statuses: str, seconds: float = 20.0) -> Json:
        """Wait until a generation has one of the statuses, and return it."""

        def look() -> Json | None:
            found = self.generation(generation_id)
            return found if found["status"] in statuses else None

        found = wait_for(look, seconds)
        assert found
        return found

    def finished(self, generation_id: str, seconds: float = 20.0) -> Json:
        """Wait until a generation is in a final state, and return it."""
        return self.reaches(generation_id, *FINAL, seconds=seconds)

    def credits(self) -> tuple[str, str, str]:
        """Return what is available, reserved and owed."""
        account = self.get("/account")
        return account["available"], account["reserved"], account["owed"]

    def movements(self) -> list[str]:
        """Return the types of the ledger entries, oldest first."""
        return [entry["type"] for entry in reversed(self.get("/account/ledger")["entries"])]

    def checkout(self, pack_id: str = "starter") -> str:
        """Start a checkout and return its session id."""
        answer = self.http.post("/checkout", json={"pack_id": pack_id})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["session_id"])
