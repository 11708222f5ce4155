"""
Delivery of events: signing, attempts with back-off, a delivery log, and the faults of a bad network.

Deliveries run in background threads, never under the state's lock. The signature code is the
stand-in's own, so a mistake in the product's (or the SDK's) cannot hide behind the same one here.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from local.standins.stripe_faults import WebhookFaults, matches
from local.standins.stripe_objects_account import webhook_endpoint
from local.standins.stripe_wire import API_VERSION, Json

STALE_SECONDS = 3600
ANSWER_HEAD_START = 0.02
"""Seconds between a change and its webhooks, in which the answer to whoever made it arrives."""


@dataclass(frozen=True)
class Delivery:
    """One attempt. `status` is None when there was no answer; `fault` says why nothing was sent."""

    event_id: str
    type: str
    attempt: int
    status: int | None
    started: float
    seconds: float
    fault: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it: any 2xx, nothing else, redirects neither."""
        return self.status is not None and 200 <= self.status < 300


class Webhooks:
    """The one webhook endpoint of the account. `url` None: there is none, nothing is sent."""

    def __init__(
        self, url: str | None, secret: str, delivered: Callable[[str], None], seed: int = 0
    ) -> None:
        self.url = url
        self.secret = secret
        self.faults = WebhookFaults()
        self.enabled_events: Collection[str] = ("*",)
        self.endpoint = webhook_endpoint(
            {"api_version": API_VERSION, "enabled_events": ["*"], "url": url}, int(time.time())
        )
        self.backoff: Sequence[float] = (0.2, 0.5, 1.0, 2.0)
        self.timeout = 10.0
        self.log: list[Delivery] = []
        self._delivered = delivered
        self._random = random.Random(seed)
        self._idle = threading.Condition()
        self._active = 0
        self._held: list[Json] = []
        self._closed = threading.Event()

    def wants(self, kind: str) -> bool:
        """Tell whether events of this type have somewhere to go."""
        return self.url is not None and matches(kind, self.enabled_events)

    def send(self, events: Sequence[Json]) -> threading.Event:
        """
        Deliver the events of one change in the background, one after another.

        Changes do not wait for each other. The returned flag is set once each event was tried
        (delayed ones apart); retries go on after it.
        """
        batch = [event for event in events if self.wants(event["type"])]
        if self.faults.shuffle:
            self._random.shuffle(batch)
        plan = [(event, self.faults.fate(event["type"], self._random)) for event in batch]
        tried = threading.Event()
        if not plan:
            tried.set()
            return tried
        self._spawn(self._run_batch, plan, tried)
        return tried

    def release(self) -> int:
        """Send what was held back, in random order, one after another; returns how many."""
        with self._idle:
            batch, self._held = self._held, []
        self._random.shuffle(batch)
        if batch:
            self._spawn(self._run_batch, [(event, "send") for event in batch], threading.Event())
        return len(batch)

    def redeliver(self, event: Json) -> None:
        """Send one event again, as the dashboard's button does: neither dropped nor delayed."""
        self._spawn(self._attempts, event)

    def deliver(self, event: Json) -> int | None:
        """Send `event` once, now, and return the answer's status (None: there was no answer)."""
        return self._attempt(event, 1).status

    def sign(self, body: bytes, secret: str | None = None, timestamp: int | None = None) -> str:
        """Return the `Stripe-Signature` header for `body`."""
        return self._signature(body, [secret or self.secret], timestamp)

    def drain(self, timeout: float) -> None:
        """Wait until no delivery is under way or to be retried; raises `TimeoutError`."""
        with self._idle:
            if not self._idle.wait_for(lambda: self._active == 0, timeout):
                raise TimeoutError(f"{self._active} deliveries unfinished after {timeout} s")

    def close(self) -> None:
        """Give up what is not yet sent."""
        self._closed.set()

    def _spawn(self, work: Callable[..., object], *args: object) -> None:
        def run() -> None:
            try:
                work(*args)
            finally:
                with self._idle:
                    self._active -= 1
                    self._idle.notify_all()

        with self._idle:
            self._active += 1
        threading.Thread(target=run, daemon=True).start()

    def _run_batch(self, plan: Sequence[tuple[Json, str]], tried: threading.Event) -> None:
        try:
            if not self.faults.early:
                self._closed.wait(ANSWER_HEAD_START)
            for event, fate in plan:
                if self._closed.is_set():
                    return
                delay = self.faults.delay_of(event["type"])
                if fate != "send":
                    self._note(event, fate)
                if fate == "swallowed":
                    self._delivered(event["id"])
                elif fate == "held":
                    with self._idle:
                        self._held.append(event)
                elif fate == "send" and delay:
                    self._spawn(self._run_delayed, event, delay)
                elif fate == "send":
                    self._first_attempt(event)
        finally:
            tried.set()

    def _run_delayed(self, event: Json, seconds: float) -> None:
        if not self._closed.wait(seconds):
            self._first_attempt(event)

    def _first_attempt(self, event: Json) -> None:
        """Try once (with the copies that are switched on); what fails is retried apart."""
        copies = 1 + self.faults.duplicates
        outcomes: list[Delivery] = []
        if self.faults.concurrent and copies > 1:
            gate = threading.Barrier(copies)
            threads = [
                threading.Thread(target=lambda: outcomes.append(self._attempt(event, 1, gate)))
                for _ in range(copies)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            outcomes = [self._attempt(event, 1) for _ in range(copies)]
        if not any(outcome.delivered for outcome in outcomes):
            self._spawn(self._attempts, event, 2)

    def _attempts(self, event: Json, first: int = 1) -> None:
        """Try until a 2xx or until the back-off is used up."""
        for attempt in range(first, len(self.backoff) + 2):
            if attempt > 1 and self._closed.wait(self.backoff[attempt - 2]):
                return
            if self._attempt(event, attempt).delivered:
                return

    def _attempt(
        self, event: Json, attempt: int, gate: threading.Barrier | None = None
    ) -> Delivery:
        body = json.dumps(self._malformed(event), indent=2, ensure_ascii=False).encode()
        if gate:
            gate.wait()
        started = time.time()
        try:
            status = self._post(body)
        except (OSError, http.client.HTTPException):
            status = None
        delivery = Delivery(
            event["id"], event["type"], attempt, status, started, time.time() - started
        )
        self.log.append(delivery)
        if delivery.delivered:
            self._delivered(event["id"])
        return delivery

    def _post(self, body: bytes) -> int:
        if self.url is None:
            raise ConnectionRefusedError
        parts = urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        headers = {
            "Accept": "*/*; q=0.5, application/xml",
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": self._delivery_signature(body),
            "User-Agent": "Stripe/1.0 (local stand-in)",
        }
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def _delivery_signature(self, body: bytes) -> str:
        faults = self.faults
        secrets = [f"{self.secret}_wrong" if faults.bad_secret else self.secret]
        if faults.second_secret:
            secrets.insert(0, faults.second_secret)
        stale = int(time.time()) - STALE_SECONDS if faults.stale_timestamp else None
        return self._signature(body, secrets, stale)

    @staticmethod
    def _signature(body: bytes, secrets: Sequence[str], timestamp: int | None) -> str:
        at = int(time.time()) if timestamp is None else timestamp
        signed = str(at).encode() + b"." + body
        hexes = [hmac.new(s.encode(), signed, hashlib.sha256).hexdigest() for s in secrets]
        return ",".join([f"t={at}", *(f"v1={digest}" for digest in hexes)])

    def _malformed(self, event: Json) -> Json:
        wrong: Json = {}
        if self.faults.api_version is not None:
            wrong["api_version"] = self.faults.api_version
        if self.faults.livemode is not None:
            wrong["livemode"] = self.faults.livemode
        return {**event, **wrong}

    def _note(self, event: Json, fault: str) -> None:
        self.log.append(Delivery(event["id"], event["type"], 0, None, time.time(), 0.0, fault))
