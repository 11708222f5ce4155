"""
BabySea as far as a reselling backend uses it: the HTTP API, callbacks and output files.

Written from public documents and the official SDK; nothing was compared with the live service.
Where those are silent, `Behaviour` says what was chosen and lets a test choose otherwise. Faults of
one generation are asked for with `plan`, those of a request with `refuse`, those of the connection
with the base class's `faults`. The same switches are HTTP routes under `/_control`, for curl.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Literal

from local.standins.babysea_api import BabySeaApi
from local.standins.babysea_behaviour import Rule
from local.standins.babysea_job import Job
from local.standins.babysea_webhooks import Delivery, sign
from local.standins.server import Request, Response, json_response


class BabySea(BabySeaApi):
    """
    The stand-in. What `behaviour`, `catalog` and `scopes` hold may be changed at any time.

    `api_key` looks like `bye_...`; `webhook_secret` like `whsec_...`; `balance` is the operator's
    own float in credits; `seed` makes the rates of faults repeatable.
    """

    def _add_routes(self) -> None:
        super()._add_routes()
        self.route("POST", "/_control/plan", self._control_plan)
        self.route("DELETE", "/_control/plan", self._control_calm)
        self.route("POST", "/_control/behaviour", self._control_behaviour)
        self.route("POST", "/_control/release", self._control_release)
        self.route("GET", "/_control/jobs", self._control_jobs)
        self.route("GET", "/_control/deliveries", self._control_deliveries)

    # --- what tests and the demo set ---

    @property
    def webhook_url(self) -> str | None:
        """Where callbacks go; None keeps them queued."""
        return self.webhooks.url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self.webhooks.url = url

    @property
    def webhook_secret(self) -> str:
        """The secret callbacks are signed with; a new one acts at once."""
        return self.webhooks.secret

    @webhook_secret.setter
    def webhook_secret(self, secret: str) -> None:
        self.webhooks.secret = secret

    def plan(self, **options: Any) -> Rule:
        """
        Decide what new generations do; see `Script` for the effects and `Rule` for the conditions.

        `plan(prompt_contains="storm", outcome="fail", code="BSE4006")`,
        `plan(webhook="drop", rate=0.1)`, `plan(deliver=3, times=1)`. Raises `ValueError`.
        """
        return self._plans.add(**options)

    def refuse(self, code: str = "BSE5001", **options: Any) -> Rule:
        """
        Refuse requests with an error; see `Refusal` for the effects and `Rule` for the conditions.

        Strikes both generate routes unless `route` names others. Raises `ValueError`.
        """
        return self._refusals.add(code=code, **options)

    def calm(self) -> None:
        """Remove all plans, refusals and faults."""
        self._plans.clear()
        self._refusals.clear()
        self.faults.clear()

    def finish(self, generation_id: str, outcome: Literal["succeed", "fail"] = "succeed") -> None:
        """End a generation now, a stuck one too."""
        self._jobs.finish(generation_id, outcome)

    def output_urls(self, generation_id: str) -> list[str]:
        """Return the public addresses of a generation's files."""
        return self._jobs.output_urls(self._jobs.get(generation_id))

    def wait_idle(self, timeout: float = 20) -> None:
        """Wait until no step and no delivery is due any more; raises `TimeoutError`."""
        self.background.wait_idle(timeout)

    # --- what tests look at ---

    @property
    def jobs(self) -> list[Job]:
        """All generations, oldest first, deleted ones included."""
        return self._jobs.all()

    @property
    def deliveries(self) -> list[Delivery]:
        """All callbacks with their attempts, oldest first."""
        return list(self.webhooks.log)

    @property
    def billed(self) -> Decimal:
        """The credits charged for good."""
        return self.account.billed

    @property
    def submissions(self) -> Counter[str]:
        """The generations accepted under each idempotency key; more than one is a double bill."""
        return Counter(job.key or "" for job in self.jobs if job.accepted)

    @property
    def posts(self) -> Counter[str]:
        """The POSTs to the generate routes under each idempotency key, whatever came of them."""
        return Counter(
            request.headers.get("idempotency-key", "")
            for request in list(self.requests)
            if request.method == "POST" and request.path.startswith("/v1/generate/")
        )

    # --- forged callbacks ---

    def sign(self, body: bytes, secret: str | None = None, timestamp: int | None = None) -> str:
        """Return a signature header for `body`, by default with the right secret and time."""
        moment = int(time.time()) if timestamp is None else timestamp
        return sign(self.webhook_secret if secret is None else secret, body, moment)

    def deliver(self, event: str, data: dict[str, Any], **overrides: Any) -> int:
        """Send one callback of the caller's making and return the status; see `Webhooks`."""
        return self.webhooks.deliver(event, data, **overrides)

    # --- the same by HTTP ---

    def _control_plan(self, request: Request) -> Response:
        """Add a plan; with the key `refuse` (an error code), a refusal instead."""
        return _controlled(
            lambda options: (
                self.refuse(options.pop("refuse"), **options)
                if "refuse" in options
                else self.plan(**options)
            ),
            request,
        )

    def _control_calm(self, _request: Request) -> Response:
        self.calm()
        return Response(204)

    def _control_behaviour(self, request: Request) -> Response:
        return _controlled(lambda settings: self.behaviour.change(**settings), request)

    def _control_release(self, _request: Request) -> Response:
        self.webhooks.release()
        return Response(204)

    def _control_jobs(self, _request: Request) -> Response:
        return json_response(
            [
                {
                    "generation_id": job.generation_id,
                    "key": job.key,
                    "model": job.model.identifier,
                    "prompt": job.body["generation_prompt"],
                    "status": job.status,
                    "cost": str(job.cost),
                    "charged": str(job.charged),
                    "credits": job.credits,
                    "script": asdict(job.script),
                }
                for job in self.jobs
            ]
        )

    def _control_deliveries(self, _request: Request) -> Response:
        return json_response(
            [
                {
                    "event": delivery.event,
                    "delivery_id": delivery.delivery_id,
                    "generation_id": delivery.generation_id,
                    "state": delivery.state,
                    "attempts": [asdict(attempt) for attempt in delivery.attempts],
                }
                for delivery in self.deliveries
            ]
        )


def _controlled(action: Callable[[dict[str, Any]], object], request: Request) -> Response:
    try:
        action(request.json())
    except (TypeError, ValueError, re.error) as error:
        return json_response({"error": str(error)}, 400)
    return Response(204)
