"""
A user's client: what a frontend does over HTTP, for the demo and for `make dev`.

It knows the public API, Supabase's sign-up and the pay page, and nothing of what is behind them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx

POLL_SECONDS = 0.15
FINAL = ("succeeded", "failed", "canceled")

Json = dict[str, Any]


class UserClient:
    """One signed-in user of the product at `api_url`. Every unexpected answer raises `httpx.HTTPStatusError`."""

    def __init__(self, api_url: str, supabase_url: str, publishable_key: str) -> None:
        self._auth = httpx.Client(
            base_url=supabase_url, headers={"apikey": publishable_key}, timeout=30
        )
        self._api = httpx.Client(base_url=api_url, timeout=30)
        self._plain = httpx.Client(timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self._auth, self._api, self._plain):
            client.close()

    def sign_up(self, email: str, password: str) -> str:
        """Make a Supabase account, use its token from now on, and return the token."""
        answer = self._auth.post("/auth/v1/signup", json={"email": email, "password": password})
        token: str = _json(answer)["access_token"]
        self._api.headers["authorization"] = f"Bearer {token}"
        return token

    def get(self, path: str, **query: Any) -> Json:
        """Read one resource of the API."""
        return _json(self._api.get(path, params=query))

    def buy(self, **what: str) -> str:
        """
        Check out, pay on the hosted page as a person would, and return the session's id.

        `what` is `pack_id="starter"`, or `plan_id="pro", interval="month"`.
        """
        session = _json(self._api.post("/checkout", json={**what, "success_path": "/thanks"}))
        page = self._plain.get(session["checkout_url"]).raise_for_status()
        if 'value="pay"' not in page.text:
            raise RuntimeError("the pay page has no pay button")
        paid = self._plain.post(session["checkout_url"], data={"action": "pay"})
        if not paid.is_redirect:
            raise RuntimeError(f"the pay page answered {paid.status_code}")
        session_id: str = session["session_id"]
        return session_id

    def upload(self, picture: Path, content_type: str) -> str:
        """Upload an own picture and return its asset id."""
        data = picture.read_bytes()
        place = _json(self._api.post("/uploads", json={"type": content_type, "size": len(data)}))
        self._plain.put(
            place["upload_url"], files={"file": (picture.name, data, content_type)}
        ).raise_for_status()
        asset_id: str = place["asset_id"]
        return asset_id

    def generate(self, request: Json) -> Json:
        """Ask for a generation under a key of its own."""
        key = {"idempotency-key": str(uuid.uuid4())}
        return _json(self._api.post("/generations", json=request, headers=key))

    def follow(self, generation_id: str, seconds: float, tell: Callable[[str], None]) -> Json:
        """Tell each state of a generation as it is reached; return it when final, or raise `TimeoutError`."""
        told = ""
        for generation in self._poll(generation_id, seconds):
            if generation["status"] != told:
                told = generation["status"]
                tell(told)
            if told in FINAL:
                return generation
        raise TimeoutError(f"generation {generation_id} is still {told} after {seconds:.0f} s")

    def download(self, url: str) -> bytes:
        """Fetch a file by its signed URL, without any other credential."""
        return self._plain.get(url).raise_for_status().content

    def _poll(self, generation_id: str, seconds: float) -> Iterator[Json]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            yield self.get(f"/generations/{generation_id}")
            time.sleep(POLL_SECONDS)


def _json(answer: httpx.Response) -> Json:
    if answer.is_error:
        raise httpx.HTTPStatusError(
            f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}",
            request=answer.request,
            response=answer,
        )
    data: Json = answer.json()
    return data
