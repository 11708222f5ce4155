"""What must hold once everything is back and the sweep has run: the books, the store and the provider's bill agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, LiteralString

import psycopg

from local.standins.babysea_job import Job
from tests.chaos.world import World

_FINAL = ("succeeded", "failed", "canceled")
_STEPS = {
    None: {"queued"},
    "queued": {"queued", "processing", "storing", *_FINAL[1:]},
    "processing": {"processing", "storing", *_FINAL[1:]},
    "storing": {"succeeded", "failed"},
    # docs/architecture.md, "The states": charged again, or withheld
    "failed": {"storing", "failed"},
    "canceled": {"storing", "canceled"},
    "succeeded": set(),
}
_PROVIDER_FILE_FAULTS = frozenset({"missing", "wrong_type", "foreign_host", "too_big"})

Row = dict[str, Any]


@dataclass(frozen=True)
class Billed:
    """What the provider billed, credit by credit: delivered to users, or lost and why."""

    delivered: Decimal
    lost: dict[str, Decimal]


class Books:
    """Reads the end of a run."""

    def __init__(self, admin: psycopg.Connection[Row], world: World) -> None:
        self._admin = admin
        self._world = world
        self.generations = self._rows("select * from public.generations order by created_at, id")
        self._events = self._rows("select * from public.generation_events order by id")
        self._by_id = {str(row["id"]): row for row in self.generations}
        self.lost: Counter[str] = Counter()

    def violations(self) -> list[str]:
        """Return what does not hold, in words with short ids; also counts what was lost to the provider."""
        found = [
            *self._unfinished(),
            *self._reservations(),
            *self._files(),
            *self._bill(),
            *self._history(),
            *self._acknowledged(),
            *self._promises(),
            *self._payments(),
            *(f"audit: {row}" for row in self._rows("select * from ledger.audit()")),
        ]
        return [self._world.scheduler.label(line) for line in found]

    def _unfinished(self) -> Iterator[str]:
        for row in self.generations:
            if row["status"] not in _FINAL or row["finished_at"] is None:
                yield f"not final: generation {row['id']} is {row['status']}"

    def _reservations(self) -> Iterator[str]:
        reservations = {
            str(row["id"]): row for row in self._rows("select * from public.credit_reservations")
        }
        for row in reservations.values():
            if row["settled_at"] is None:
                yield f"not settled: reservation {row['id']}"
        entries = self._rows(
            "select reservation_id, type, sum(-reserved_delta) as amount, count(*) as entries"
            " from public.credit_ledger where type in ('charge', 'refund') group by 1, 2"
        )
        moved: dict[str, Decimal] = {}
        for entry in entries:
            reservation = str(entry["reservation_id"])
            moved[reservation] = moved.get(reservation, Decimal(0)) + entry["amount"]
            if entry["entries"] != 1:
                yield f"settled twice: reservation {reservation} has {entry['entries']} {entry['type']}s"
        for name, row in reservations.items():
            if row["settled_at"] and moved.get(name, 0) != row["amount"]:
                yield f"not settled in full: reservation {name}, {moved.get(name, 0)} of {row['amount']}"
        known = set(self._by_id) | {str(row["reservation_id"]) for row in self.generations}
        for name in reservations.keys() - known:
            yield f"a reservation of nothing: {name}"
        for row in self.generations:
            charged = reservations[str(row["reservation_id"])]["charged"]
            if row["charged_credits"] != charged:
                yield (
                    f"generation {row['id']} says {row['charged_credits']} charged,"
                    f" its reservation {charged}"
                )
            share = row["cost_credits"] * len(row["outputs"]) / row["output_count"]
            if row["status"] == "succeeded" and row["charged_credits"] != round(share, 3):
                yield f"generation {row['id']} has {len(row['outputs'])} files, {charged} charged"
            if row["status"] != "succeeded" and row["charged_credits"]:
                yield f"generation {row['id']} is {row['status']} and charged {charged}"

    def _files(self) -> Iterator[str]:
        stored = {
            row["name"]
            for row in self._rows("select name from storage.objects where bucket_id = 'outputs'")
        }
        charged = {
            output["path"]
            for row in self.generations
            if row["status"] == "succeeded"
            for output in row["outputs"]
        }
        for name in sorted(stored - charged):
            yield f"stored and not charged: {name}"
        for name in sorted(charged - stored):
            yield f"charged and not stored: {name}"

    def _bill(self) -> Iterator[str]:
        jobs: dict[str, list[Job]] = {}
        for job in self._world.jobs:
            jobs.setdefault(job.key or "", []).append(job)
        for key, made in jobs.items():
            row = self._by_id.get(key)
            if row is None:
                yield f"the provider made {key}, which nobody asked for"
                continue
            if len(made) > 1:
                yield f"the provider made {len(made)} jobs for generation {key}"
            for job in made:
                if job.credits == "charged" and row["status"] != "succeeded":
                    why = self._loss(job, row)
                    if why is None:
                        yield (
                            f"billed and not charged: generation {key} is {row['status']}"
                            f" ({row['error_code']}), the provider's job {job.status}"
                        )
                    else:
                        self.lost[why] += 1
                elif job.credits == "reserved":
                    yield f"the provider still works on generation {key}, which is {row['status']}"
        for key, row in self._by_id.items():
            if row["status"] == "succeeded":
                if not any(job.credits == "charged" for job in jobs.get(key, [])):
                    yield f"charged and not billed: generation {key}"
                elif len(row["outputs"]) < row["output_count"]:
                    self.lost["fewer outputs"] += 1

    def _loss(self, job: Job, row: Row) -> str | None:
        """Say by which fault of the provider's its bill could not be passed on; None if by none."""
        if job.status == "canceled":
            return "canceled, billed all the same" if not job.script.credits_refunded else None
        if job.generation_id in self._world.babysea.canceled:
            return "success after a cancel"
        life = self._world.babysea.behaviour.file_life
        if row["error_code"] and row["error_code"].startswith("output_"):
            broken = job.script.file in _PROVIDER_FILE_FAULTS or job.script.deliver == 0
            late = row["finished_at"].timestamp() - job.completed_at.timestamp() >= life  # type: ignore[union-attr]
            if broken or late:
                return "files lost"
        return None

    def _history(self) -> Iterator[str]:
        last: dict[str, str | None] = {}
        for event in self._events:
            name = str(event["generation_id"])
            before = last.get(name)
            if event["from_status"] != before or event["to_status"] not in _STEPS[before]:
                yield f"generation {name} went from {before} to {event['to_status']}: {event['reason']}"
            last[name] = event["to_status"]
        for name, row in self._by_id.items():
            if last.get(name) != row["status"]:
                yield f"generation {name} is {row['status']}, its events end with {last.get(name)}"

    def _acknowledged(self) -> Iterator[str]:
        kept = {row["delivery_id"] for row in self._rows("select delivery_id from backend.inbox")}
        for delivery in self._world.babysea.deliveries:
            accepted = any(attempt.accepted for attempt in delivery.attempts)
            if accepted and delivery.delivery_id not in kept:
                yield f"acknowledged and not kept: {delivery.event} of job {delivery.generation_id}"

    def _promises(self) -> Iterator[str]:
        accepted: dict[str, str] = {}
        keys = {row["idempotency_key"]: row for row in self.generations}
        for promise in self._world.promises:
            row = self._by_id.get(promise.generation_id or "")
            if promise.kind == "nothing charged":
                made = keys.get(promise.key or "")
                if made and made["charged_credits"]:
                    yield f"told that nothing is charged, and charged: {promise.key}"
            elif row is None:
                yield f"told of generation {promise.generation_id}, which is not there"
            elif promise.kind == "accepted":
                if accepted.setdefault(promise.key or "", promise.generation_id or "") != str(
                    row["id"]
                ):
                    yield f"two generations for one key: {promise.key}"
            elif promise.kind == "canceled":
                if row["status"] != "canceled" or row["charged_credits"]:
                    yield f"told that it is canceled: generation {row['id']} is {row['status']}"
            elif row["status"] != "succeeded":
                yield f"seen as succeeded: generation {row['id']} is {row['status']}"

    def _payments(self) -> Iterator[str]:
        for row in self._rows(
            "select p.id, p.credits, count(g.id) as grants, coalesce(sum(g.amount), 0) as granted"
            " from public.purchases p left join public.credit_grants g"
            " on g.user_id = p.user_id and g.source = 'pack' group by p.id"
        ):
            if row["grants"] != 1 or row["granted"] != row["credits"]:
                yield f"payment {row['id']}: {row['grants']} grants, {row['granted']} of {row['credits']}"

    def _rows(self, query: LiteralString) -> list[Row]:
        return self._admin.execute(query).fetchall()
