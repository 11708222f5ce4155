"""
The generations of the BabySea stand-in: their records, life cycle and billing.

A generation goes pending -> processing -> succeeded, failed or canceled, one step at a time under
one lock. What its `Script` says is decided when it is accepted; a replay decides nothing.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Literal

from local.standins.babysea_account import Account
from local.standins.babysea_background import Background
from local.standins.babysea_behaviour import Behaviour, Script
from local.standins.babysea_catalog import Model
from local.standins.babysea_errors import Refused
from local.standins.babysea_job import TERMINAL, Job
from local.standins.babysea_media import readable
from local.standins.babysea_webhooks import Webhooks

_STATUS = {
    "generation.started": "processing",
    "generation.completed": "succeeded",
    "generation.failed": "failed",
    "generation.canceled": "canceled",
}
_SOURCE_TIMEOUT = 10
_SOURCE_LIMIT = 30 * 1024 * 1024


class Jobs:
    """All generations of the account. Thread-safe."""

    def __init__(
        self,
        base_url: str,
        account: Account,
        behaviour: Behaviour,
        background: Background,
        webhooks: Webhooks,
    ) -> None:
        self.account = account
        self._base_url = base_url
        self._behaviour = behaviour
        self._background = background
        self._webhooks = webhooks
        self._jobs: dict[str, Job] = {}
        self._deleted: list[Job] = []
        self._lock = threading.RLock()

    def all(self) -> list[Job]:
        """Return all generations, oldest first, deleted ones and refused ones included."""
        with self._lock:
            return sorted([*self._deleted, *self._jobs.values()], key=lambda job: job.created_at)

    def listed(self) -> list[Job]:
        """Return the generations the account can see, newest first."""
        with self._lock:
            return list(self._jobs.values())[::-1]

    def get(self, generation_id: str) -> Job:
        """Return one generation; raises `Refused` when the account has none of this id."""
        with self._lock:
            if generation_id not in self._jobs:
                raise Refused(
                    self._behaviour.unknown_generation_code, "no such generation", status=404
                )
            return self._jobs[generation_id]

    def output_urls(self, job: Job) -> list[str]:
        """Return the public addresses of its output files."""
        urls = []
        for index in range(job.outputs):
            foreign = job.file_fault(index) == "foreign_host"
            base = self.foreign_url if foreign else self._base_url
            urls.append(f"{base}/out/{job.generation_id}/{index}.{job.file_format}")
        return urls

    @property
    def foreign_url(self) -> str:
        """The stand-in under another origin than its own: reachable, and not to be trusted."""
        return self._base_url.replace("127.0.0.1", "localhost")

    def submit(
        self, model: Model, body: dict[str, Any], key: str | None, cost: Decimal, script: Script
    ) -> Job:
        """Accept a generation and reserve its price; raises `Refused` (BSE1009, BSE1004)."""
        job = Job(self.account.account_id, model, body, script, key, cost)
        cap = self._behaviour.in_flight_cap
        with self._lock:
            running = sum(other.status not in TERMINAL for other in self._jobs.values())
            if cap is not None and running >= cap:
                raise Refused("BSE1009", "too many running jobs", details={"limit": cap})
            before = self.account.balance
            self.account.reserve(job.generation_id, cost)
            self._jobs[job.generation_id] = job
            self._warn_of_low_balance(before)
        early = self._behaviour.callback_before_answer
        early = "completed" if script.webhook == "early" else early
        if script.outcome == "canceled":
            self.cancel(job.generation_id)
        elif script.outcome == "stuck_pending":
            pass
        elif early == "off":
            self._background.after(self._behaviour.pending, partial(self._start, job))
        else:
            self._start(job, now=True, finish=early == "completed")
        return job

    def refuse(
        self, model: Model, body: dict[str, Any], key: str | None, error: str, code: str
    ) -> None:
        """Keep a failed record of a POST that all providers refused, and send its event."""
        job = Job(self.account.account_id, model, body, Script(), key, Decimal(0))
        job.accepted, job.credits = False, "none"
        with self._lock:
            self._jobs[job.generation_id] = job
        self._fail(job, error, code)

    def cancel(self, generation_id: str) -> dict[str, Any]:
        """Cancel a running generation; returns the answer's data, raises `Refused` (409)."""
        with self._lock:
            job = self.get(generation_id)
            done = {"generation_id": generation_id, "generation_status": "canceled"}
            if job.status in TERMINAL:
                if self._behaviour.cancel_of_terminal == "conflict":
                    raise Refused("BSE3002", f"the generation is {job.status}")
                returned = job.credits == "refunded"
                return done | {
                    "generation_status": job.status,
                    "provider_cancel_sent": False,
                    "credits_refunded": returned,
                }
            job.status, job.completed_at = "canceled", datetime.now(UTC)
            if job.script.credits_refunded:
                self._give_back(job)
            else:
                self._charge(job, job.cost)
            refunded = {"credits_refunded": job.script.credits_refunded}
            data = refunded | {"generation_prediction_id": job.prediction_id}
            self._send(job, "generation.canceled", data)
            return done | refunded | {"provider_cancel_sent": job.script.provider_cancel_sent}

    def delete(self, generation_id: str) -> int:
        """Remove record and files; returns the number of files, raises `Refused` while it runs."""
        with self._lock:
            job = self.get(generation_id)
            if job.status not in TERMINAL:
                raise Refused("BSE3002", "the generation is still running")
            self._deleted.append(self._jobs.pop(generation_id))
            return job.outputs

    def finish(self, generation_id: str, outcome: Literal["succeed", "fail"] = "succeed") -> None:
        """End a generation now, a stuck one too."""
        job = self.get(generation_id)
        job.script = replace(job.script, outcome=outcome)
        self._start(job, finish=False, follow=False)
        self._finish(job)

    def _start(
        self, job: Job, *, now: bool = False, finish: bool = False, follow: bool = True
    ) -> None:
        with self._lock:
            if job.status == "pending":
                job.status, job.started_at = "processing", datetime.now(UTC)
                started = True
            else:
                started = False
        if started:
            data = {
                "generation_provider_initialize": job.providers[0],
                "generation_prediction_id": job.prediction_id,
            }
            self._send(job, "generation.started", data, now=now)
        if job.script.outcome == "stuck" or not follow:
            return
        if finish:
            self._finish(job, now=now)
        elif started:
            self._background.after(self._behaviour.processing, partial(self._finish, job))

    def _finish(self, job: Job, *, now: bool = False) -> None:
        if self._is_dropped(job):
            return
        if job.script.outcome == "fail":
            self._fail(job, job.script.error, job.script.code, now=now)
            return
        unreadable = self._read_sources(job)
        if unreadable:
            self._fail(job, unreadable, "BSE2009", now=now)
        else:
            self._succeed(job, now=now)

    def _read_sources(self, job: Job) -> str:
        """Fetch the input images, keep the first and the last frame; returns what is wrong with them."""
        urls = list(job.body.get("generation_input_file") or [])
        last = job.body.get("generation_input_file_last_content")
        for n, url in enumerate([*urls, last] if last else urls):
            try:
                with urllib.request.urlopen(url, timeout=_SOURCE_TIMEOUT) as answer:
                    file = answer.read(_SOURCE_LIMIT)
            except urllib.error.HTTPError as error:
                error.close()
                return f"an input file could not be downloaded (HTTP {error.code})"
            except (OSError, ValueError) as error:
                return f"an input file could not be downloaded ({type(error).__name__})"
            if not readable(file):
                return "an input file is not a JPEG, PNG or WebP image"
            if n == len(urls):
                job.last_frame = file
            else:
                job.source = job.source or file
        return ""

    def _succeed(self, job: Job, *, now: bool) -> None:
        with self._lock:
            if self._is_dropped(job):
                return
            if job.status == "canceled" and job.credits == "refunded":
                self.account.take_again(job.generation_id, job.cost)
                job.credits = "reserved"
            elif job.status in TERMINAL and job.status != "canceled":
                return
            asked = job.model.outputs
            job.outputs = asked if job.script.deliver is None else min(asked, job.script.deliver)
            job.status, job.completed_at = "succeeded", datetime.now(UTC)
            share = job.outputs if self._behaviour.charge_per_output else asked
            if job.credits == "reserved":
                self._charge(job, job.cost * share / asked)
        data = {
            "generation_provider_used": job.providers[0],
            "generation_prediction_id": job.prediction_id,
            "generation_output_file": self.output_urls(job),
        }
        self._send(job, "generation.completed", data, now=now)

    def _is_dropped(self, job: Job) -> bool:
        """Tell whether a provider's result is thrown away because of a cancel, and note it."""
        with self._lock:
            if job.status != "canceled" or self._behaviour.result_after_cancel == "emit":
                return False
            job.discarded = True
            return True

    def _fail(self, job: Job, error: str, code: str, *, now: bool = False) -> None:
        with self._lock:
            if job.status in TERMINAL:
                return
            job.status, job.completed_at = "failed", datetime.now(UTC)
            job.error, job.error_code = error, code
            self._give_back(job)
        data = {"generation_error": error, "generation_error_code": code}
        self._send(job, "generation.failed", data, now=now)

    def _charge(self, job: Job, amount: Decimal) -> None:
        self.account.charge(job.generation_id, amount)
        self.account.give_back(job.generation_id, job.cost - amount)
        job.credits, job.charged = "charged", amount

    def _give_back(self, job: Job) -> None:
        if job.credits == "reserved":
            self.account.give_back(job.generation_id, job.cost)
            job.credits = "refunded"

    def _send(self, job: Job, event: str, data: dict[str, Any], *, now: bool = False) -> None:
        data = {
            "account_id": job.account_id,
            "model_identifier": job.model.identifier,
            "generation_id": job.generation_id,
            "generation_status": _STATUS[event],
            **data,
        }
        if now:
            self._webhooks.send_now(event, data)
        else:
            self._webhooks.send(event, data, job.script.webhook)

    def _warn_of_low_balance(self, before: Decimal) -> None:
        balance = self.account.balance
        crossed = [
            {"threshold": float(threshold), "balance_at": float(balance)}
            for threshold in self._behaviour.low_balance_thresholds
            if balance <= threshold < before
        ]
        if crossed:
            data = {
                "account_id": self.account.account_id,
                "current_balance": float(balance),
                "thresholds_crossed": crossed,
            }
            self._webhooks.send("credits.low_balance", data)
