"""The rest of the cloud in one run: HTTP API, settle queue, schedule, provider, storage, payments."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, cast
from unittest.mock import patch
from urllib.parse import urlencode

from local.event_sources import batch_event, failed_ids
from local.payload import HttpRequest, build_event, match_path
from local.standins import babysea_api
from local.standins.babysea import BabySea
from local.standins.babysea_behaviour import Behaviour
from local.standins.babysea_job import Job
from local.standins.babysea_webhooks import Delivery
from local.standins.server import Request, StandIn
from local.standins.stripe import Stripe
from local.standins.supabase import Supabase
from tests.chaos import faults
from tests.chaos.faults import Plan
from tests.chaos.functions import PARAMETERS, Crash, Functions
from tests.chaos.scheduler import START, Action, Scheduler, current

FACES = {
    "provider": PARAMETERS["BabyseaBaseUrl"],
    "storage": PARAMETERS["SupabaseUrl"],
    "stripe": PARAMETERS["StripeApiBase"],
}
CHAOS_SECONDS = 600.0
_QUEUE_MEAN_SECONDS = 0.3
_SCRIPTS: dict[str, dict[str, Any]] = {
    "": {},
    "fails": {"outcome": "fail"},
    "stuck": {"outcome": "stuck"},
    "stuck pending": {"outcome": "stuck_pending"},
    "canceled by the provider": {"outcome": "canceled"},
    "fewer files": {"deliver": 1},
    "file missing": {"file": "missing", "file_index": 0},
    "file of a wrong type": {"file": "wrong_type", "file_index": 0},
    "file cut once": {"file": "cut", "file_times": 1},
    "callbacks dropped": {"webhook": "drop"},
    "callbacks reordered": {"webhook": "reorder"},
    "callbacks duplicated": {"webhook": "duplicate"},
    "callback before the answer": {"webhook": "early"},
    "cancel is billed": {"credits_refunded": False},
}
_REFUSALS: dict[str, dict[str, Any]] = {
    "content policy": {"code": "BSE2006"},
    "bad input": {"code": "BSE2004"},
    "overloaded": {"code": "BSE1006"},
    "internal error": {"code": "BSE5001"},
    "rate limited": {"code": "BSE1005", "retry_after": 30},
    "no such provider": {"code": "BSE4006"},
}


@dataclass(frozen=True)
class Answer:
    """What a client got; no status when the connection broke."""

    status: int | None
    body: dict[str, Any]


@dataclass(frozen=True)
class Promise:
    """What a user was told: `accepted` (with the key), `canceled`, `charged` or `nothing charged` (with the key)."""

    kind: str
    generation_id: str | None = None
    key: str | None = None


class Background:
    """The provider's clockwork, in virtual time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._numbers = itertools.count(1)

    def after(self, seconds: float, action: Action) -> None:
        """Run `action` as an actor of its own once `seconds` have passed."""
        self._scheduler.after(seconds, f"babysea{next(self._numbers)}", action)

    def stop(self) -> None:
        """Have nothing to stop."""


class _Scripts:
    """What happens to a job, or to the request for it: drawn for each idempotency key, from the seed."""

    def __init__(self, draw: Callable[[str], dict[str, Any]]) -> None:
        self._draw = draw

    def draw(self, line: str, model: str | None, prompt: str, key: str | None) -> dict[str, Any]:
        return self._draw(prompt) if line.startswith("POST /v1/generate/") else {}


class ChaosBabySea(BabySea):
    """The provider at an address that does not change, with its callbacks delivered by the world."""

    url = FACES["provider"]  # type: ignore[assignment]

    def note_cancels(self) -> None:
        """Remember from now on which jobs were canceled, whatever becomes of them later."""
        self.canceled: set[str] = set()
        cancel = self._jobs.cancel

        def noting(generation_id: str) -> dict[str, Any]:
            answer = cancel(generation_id)
            if answer["generation_status"] == "canceled":
                self.canceled.add(generation_id)
            return answer

        self._jobs.cancel = noting  # type: ignore[method-assign]


class ChaosStripe(Stripe):
    """Stripe at an address that does not change, with its events delivered by the world."""

    url = FACES["stripe"]  # type: ignore[assignment]

    def __init__(self, api_key: str, webhook_secret: str) -> None:
        super().__init__(api_key, "http://127.0.0.1:1/webhooks/stripe", webhook_secret)
        self._key = api_key

    def sell(self, user_id: str, purchase_id: str) -> str:
        """Open a page on which a purchase of ten dollars is paid; return its session."""
        order = {
            "mode": "payment",
            "client_reference_id": purchase_id,
            "metadata[user_id]": user_id,
            "success_url": "http://localhost:8000/",
            "line_items[0][quantity]": "1",
            "line_items[0][price_data][currency]": "usd",
            "line_items[0][price_data][unit_amount]": "1000",
            "line_items[0][price_data][product_data][name]": "starter",
        }
        answer = self.handle(
            Request(
                "POST",
                "/v1/checkout/sessions",
                {},
                {"host": "127.0.0.1", "authorization": f"Bearer {self._key}"},
                urlencode(order).encode(),
            )
        )
        assert answer.status == 200, answer.body
        return str(json.loads(answer.body)["id"])

    def mark_delivered(self, event_id: str) -> None:
        """Note that the webhook took an event."""
        self._mark_delivered(event_id)


class World:
    """One run's surroundings. Everything that happens in it is an actor of `scheduler`."""

    def __init__(
        self,
        plan: Plan,
        scheduler: Scheduler,
        functions: Functions,
        supabase: Supabase,
        secrets: dict[str, str],
    ) -> None:
        self.plan = plan
        self.scheduler = scheduler
        scheduler.world = self
        self.functions = functions
        self.supabase = supabase
        self.secrets = secrets
        self.outages = plan.outages()
        self.dead_letters: list[str] = []
        self.promises: list[Promise] = []
        self._requests: dict[str, int] = {}
        self._messages: Counter[str] = Counter()
        spec = functions.template.queues["SettleQueue"]
        self._visibility = float(spec.visibility_timeout)
        self._receives = spec.max_receive_count or 1
        self._arn = spec.arn
        self._names: dict[str, str] = {}
        self.babysea = self._provider()
        self.stripe = ChaosStripe(secrets["STRIPE_API_KEY"], secrets["STRIPE_WEBHOOK_SECRET"])
        self.stripe.webhooks.send = self._send_payments  # type: ignore[method-assign]

    def close(self) -> None:
        """Free the ports, which nobody used."""
        self.babysea._server.server_close()
        self.stripe._server.server_close()

    # --- the provider ---

    def _provider(self) -> ChaosBabySea:
        random = self.plan.random("provider")
        behaviour = Behaviour(
            pending=random.choice((0.2, 2.0, 20.0)),
            processing=random.choice((0.5, 5.0, 30.0, 100.0, 400.0)),
            webhook_waits=(0, 1, 4, 16, 60),
            rate_limit=None,
            in_flight_cap=random.choice((None, None, 3)),
            unknown_fields="ignore",
            cancel_of_terminal=random.choice(("conflict", "conflict", "ok")),
            result_after_cancel=random.choice(("drop", "drop", "emit")),
            record_of_refused=random.random() < 0.2,
            file_life=random.choice((3600.0, 3600.0, 3600.0, 300.0)),
            disable_after=None,
        )
        with patch.object(babysea_api, "Background", partial(Background, self.scheduler)):
            provider = ChaosBabySea(
                self.secrets["BABYSEA_API_KEY"],
                "http://127.0.0.1:1/webhooks/babysea",
                self.secrets["BABYSEA_WEBHOOK_SECRET"],
                balance=random.choice((Decimal(100), Decimal(100), Decimal("0.4"))),
                behaviour=behaviour,
            )
        provider._plans = cast("Any", _Scripts(self._script))
        provider._refusals = cast("Any", _Scripts(self._refusal))
        provider.note_cancels()
        provider.webhooks._post = self._deliver  # type: ignore[method-assign]
        return provider

    def _script(self, prompt: str) -> dict[str, Any]:
        return _SCRIPTS[self.plan.draw(f"job of {prompt}", faults.JOB)]

    def _refusal(self, prompt: str) -> dict[str, Any]:
        number = self._requests[prompt] = self._requests.get(prompt, 0) + 1
        # a key that made a job answers with the job: only what stands before the keys can refuse then
        is_known = any(job.body["generation_prompt"] == prompt for job in self.jobs)
        percents = faults.BUSY if is_known else faults.BUSY | faults.REFUSAL
        kind = self.plan.draw(f"request {number} of {prompt}", percents)
        return _REFUSALS[kind] if kind else {}

    def _deliver(self, delivery: Delivery) -> int:
        actor = current()
        assert actor
        name = f"{delivery.event} of {self._wish_of_job(delivery.generation_id)}"
        key = f"{name}, attempt {len(delivery.attempts) + 1}"
        if not actor.invocations:
            actor.rename(key)
        fault = self.plan.draw(key, faults.CALLBACK)
        self.scheduler.note(f"callback {key}{f'  *** {fault}' if fault else ''}")
        if fault == "lost":
            raise ConnectionError("lost on the way")
        if fault == "late":
            actor.sleep(45)
        if fault == "twice":
            self.scheduler.spawn(f"{actor.name}-again", lambda: self._hand_over_again(delivery))
        return self._hand_over(delivery)

    def _hand_over_again(self, delivery: Delivery) -> None:
        with contextlib.suppress(ConnectionError):  # nobody waits for this one's answer
            self._hand_over(delivery)

    def _hand_over(self, delivery: Delivery) -> int:
        headers = {name.lower(): value for name, value in delivery.headers.items()}
        answer = self.http("POST", "/webhooks/babysea", delivery.body, headers)
        if answer.status is None:
            raise ConnectionError("the answer was lost")
        return answer.status

    def _wish_of_job(self, job_id: str | None) -> str:
        return next(
            (
                job.body["generation_prompt"]
                for job in self.babysea.jobs
                if job.generation_id == job_id
            ),
            "nothing",
        )

    def _wish_of(self, generation_id: str) -> str:
        return next(
            (
                job.body["generation_prompt"]
                for job in self.babysea.jobs
                if job.key == generation_id
            ),
            "nothing",
        )

    @property
    def jobs(self) -> list[Job]:
        """All jobs the provider accepted."""
        return [job for job in self.babysea.jobs if job.accepted]

    # --- what a function can reach ---

    def is_away(self, service: str) -> bool:
        """Say whether a service cannot be reached now; some stay away for a day after the rest is back."""
        since = self.scheduler.now - START
        return any(
            outage.start <= since < outage.start + outage.seconds
            for outage in self.outages
            if outage.service == service
        )

    def server(self, host: str | None, port: int | None) -> tuple[str, StandIn]:
        """Return who answers at an address, and what the service is called."""
        everybody = (
            ("provider", self.babysea),
            ("storage", self.supabase),
            ("stripe", self.stripe),
        )
        for service, stand_in in everybody:
            if FACES[service].endswith(f":{port}"):
                return service, stand_in
        raise AssertionError(f"nobody is at {host}:{port}")

    def enqueue(self, body: str, seconds: float = 0) -> None:
        """Put a message into the settle queue."""
        wish = self._wish_of(json.loads(body)["generation_id"])
        self._messages[wish] += 1
        self._receive_later(f"settle {wish}, {self._messages[wish]}", body, 1, seconds)

    def _receive_later(self, name: str, body: str, receive: int, seconds: float) -> None:
        wait = self.plan.random(f"{name}.{receive}").expovariate(1 / _QUEUE_MEAN_SECONDS)
        self.scheduler.after(
            seconds + wait, f"{name}.{receive}", lambda: self._receive(name, body, receive)
        )

    def _receive(self, name: str, body: str, receive: int) -> None:
        actor = current()
        assert actor
        if receive > self._receives:
            self.scheduler.note(f"dead letter: {body}")
            self.dead_letters.append(body)
            return
        message_id = name
        message = {
            "MessageId": message_id,
            "ReceiptHandle": f"{name}.{receive}",
            "Body": body,
            "MD5OfBody": "",
            "Attributes": {"ApproximateReceiveCount": str(receive)},
        }
        answer = self.functions.invoke(
            actor, "settle_generation", batch_event([message], self._arn)
        )
        is_failed = isinstance(answer, Crash) or failed_ids(
            json.dumps(answer).encode(), {message_id}
        )
        if is_failed or self.plan.draw(f"{actor.name} deleted", faults.ANSWER):
            self.scheduler.note(f"the message comes back ({answer})")
            self._receive_later(name, body, receive + 1, self._visibility)

    # --- what calls the functions ---

    def http(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request to the HTTP API."""
        actor = current()
        assert actor
        name, route, parameters = self._route(method, path)
        request = HttpRequest(
            method,
            path,
            [*{"content-type": "application/json", **(headers or {})}.items()],
            body,
        )
        event = build_event(request, f"{method} {route}", parameters, "chaos")
        answer = self.functions.invoke(actor, name, event)
        if isinstance(answer, Crash):
            self.scheduler.note(f"{method} {path} -> 500, {answer.reason}")
            return Answer(500, {})
        status = int(answer["statusCode"])
        found = json.loads(answer["body"]) if answer.get("body") else {}
        fault = self.plan.draw(f"answer to {actor.next_point()}", faults.ANSWER)
        said = {k: found[k] for k in ("code", "id", "status", "outcome") if k in found}
        self.scheduler.note(f"{method} {path} -> {status} {said}{'  *** lost' if fault else ''}")
        return Answer(None, {}) if fault else Answer(status, found)

    def _route(self, method: str, path: str) -> tuple[str, str, dict[str, str]]:
        bare = path.partition("?")[0]
        for spec in self.functions.template.functions.values():
            for route in spec.routes:
                parameters = match_path(route.path, bare)
                if route.method == method and parameters is not None:
                    return spec.code.name, route.path, parameters
        raise AssertionError(f"no route {method} {path}")

    def sweep(self, number: int) -> None:
        """Run the sweep as its schedule does."""
        fault = self.plan.draw(f"sweep {number}", faults.SWEEP)
        if fault == "missed":
            self.scheduler.note(f"sweep {number} *** missed")
            return
        for copy in ("", "-again") if fault == "twice" else ("",):
            self.scheduler.spawn(f"sweep{number}{copy}", self._sweep)

    def _sweep(self) -> None:
        actor = current()
        assert actor
        answer = self.functions.invoke(actor, "recovery_sweep", {})
        if isinstance(answer, Crash):
            self.scheduler.note(f"sweep ended: {answer.reason}")
        elif answer.get("claimed") or answer.get("failed"):
            self.scheduler.note(f"swept: {answer}")

    def pay(self, name: str, user_id: str, purchase_id: str) -> None:
        """Let a user pay a purchase on Stripe's page; its event is delivered as the seed wants."""
        session = self.stripe.sell(user_id, purchase_id)
        self._names[session] = name
        self.scheduler.note("paid")
        self.stripe.pay(session)

    def _send_payments(self, events: Sequence[dict[str, Any]]) -> threading.Event:
        """Deliver events until they are accepted, as Stripe does; now and then more than once, or never."""
        for event in events:
            if event["type"] != "checkout.session.completed":
                continue
            name = f"payment of {self._names[event['data']['object']['id']]}"
            fault = self.plan.draw(name, faults.PAYMENT)
            if fault == "lost":
                self.scheduler.note(f"{name} *** lost")
                continue
            for copy in ("", "-again") if fault == "twice" else ("",):
                self.scheduler.after(
                    60 if fault == "late" else 0,
                    f"{name}{copy}",
                    lambda event=event: self._deliver_payment(event),  # type: ignore[misc]
                )
        return threading.Event()

    def _deliver_payment(self, event: dict[str, Any]) -> None:
        actor = current()
        assert actor
        body = json.dumps(event).encode()
        secret = self.secrets["STRIPE_WEBHOOK_SECRET"].encode()
        for wait in itertools.chain((5, 30, 120, 300), itertools.repeat(900)):
            moment = int(time.time())  # the SDK that verifies it knows no other time
            signed = hmac.new(secret, f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
            header = {"stripe-signature": f"t={moment},v1={signed}"}
            if self.http("POST", "/webhooks/stripe", body, header).status == 200:
                self.stripe.mark_delivered(event["id"])
                return
            actor.sleep(wait)
