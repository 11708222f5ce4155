"""
The running product, and what no user can do to it.

Give credits without a payment, let time pass, take the database or the queue away, forge a callback, and read the
books afterwards.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, LiteralString, Self
from uuid import uuid4

import httpx
import psycopg
from psycopg.rows import DictRow, dict_row

from local.stack import Stack
from local.standins.babysea_job import Job
from tests.e2e.canaries import Tape, find_leaks
from tests.e2e.contract import Contract
from tests.e2e.people import Json, Person, wait_for

PARAMETERS = {
    "MaxActiveGenerations": "200",
    "GenerationsPerHour": "10000",
    "CheckoutsPerHour": "1000",
    "RequestsPerMinute": "100000",
    "LogLevel": "DEBUG",  # the search for secrets is to read all that can be logged
    # The sweep sees what a test made old (`World.age`), and nothing that an earlier test left behind.
    "SweepAfterSeconds": "86400",
    "EventBusName": "alerts",
}
PACE: dict[str, Any] = {
    "pending": 0.02,
    "processing": 0.05,
    "webhook_waits": (0, 0.1, 0.2, 0.5, 1),
    "rate_limit": None,
    "in_flight_cap": None,
    "disable_after": None,
    "file_life": 3600,
    "result_after_cancel": "drop",
}


class CanaryStack(Stack):
    """The product with secrets that it could do without here: a database password, a second webhook secret."""

    def _connect(self) -> None:
        super()._connect()
        self.database_password = secrets.token_hex(16)
        address = self.secrets["DATABASE_URL"].replace("@", f":{self.database_password}@", 1)
        self.secrets["DATABASE_URL"] = self.cloud.secrets["DATABASE_URL"] = address
        # as during a rotation: the old one still signs
        self.next_webhook_secret = f"whsec_{secrets.token_hex(16)}"
        old = self.secrets["STRIPE_WEBHOOK_SECRET"]
        self.cloud.secrets["STRIPE_WEBHOOK_SECRET"] = f"{self.next_webhook_secret},{old}"


class World:
    """One running product. Use as a context manager; `parameters` override those of the tests."""

    def __init__(self, *, durable: bool = False, **parameters: str) -> None:
        self.stack = CanaryStack(
            parameters=PARAMETERS | parameters,
            durable=durable,
            run_schedules=False,
            concurrency=6,
            retry_seconds=0,
        )
        self.tape = Tape()
        self.contract = Contract()
        self.people: list[Person] = []
        self._clients: list[httpx.Client] = []
        self._numbers = itertools.count(1)
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            cleanup.enter_context(self.stack)
            self.stack.babysea.behaviour.change(**PACE)
            url = self.stack.admin_database_url
            self.db: psycopg.Connection[DictRow] = psycopg.connect(
                url, autocommit=True, row_factory=dict_row
            )
            cleanup.callback(self._disconnect)
            cleanup.callback(self._hang_up)
            self.events = self.stack.cloud.aws.client("events")
            self.events.create_event_bus(Name="alerts")
            self.set_welcome("0")  # a test counts the credits that it gave
            # there was nothing before: without this the first sweep asks for each day of a month
            self.db.execute(
                "insert into backend.reconciliations (name, since, next_at)"
                " values ('recent', now(), now()), ('late', now(), now())"
            )
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    # --- people ---

    @cached_property
    def http(self) -> httpx.Client:
        """A client of nobody."""
        return self.client()

    def client(self, token: str | None = None) -> httpx.Client:
        """Return an HTTP client of the product whose answers are kept, and are what the document promises."""
        client = httpx.Client(
            base_url=self.stack.url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=60,
            limits=httpx.Limits(max_connections=200),
            event_hooks={"response": [self.tape.record, self.contract.check]},
        )
        self._clients.append(client)
        return client

    def person(self, credit: str | None = None) -> Person:
        """Sign a fresh user up; `credit` is granted without a payment."""
        email = f"user{next(self._numbers)}.{os.getpid()}@example.com"
        password = f"pass-{secrets.token_hex(8)}"
        user_id, token = self.stack.supabase.create_user(email, password)
        person = self.known(Person(self.client(token), user_id, email, password))
        if credit:
            self.grant(person, credit)
        return person

    def known(self, person: Person) -> Person:
        """Remember a person, whose secrets must not be found anywhere either."""
        self.people.append(person)
        return person

    def grant(self, person: Person, amount: str) -> None:
        """Give credits without a payment."""
        self.db.execute(
            "select ledger.grant(%s, 'adjustment', %s, %s)", (person.id, str(uuid4()), amount)
        )

    def set_welcome(self, amount: str) -> None:
        """Set the gift of users who sign up from now on."""
        self.db.execute(
            "select backend.set_welcome('operator:test', %s, %s, true, 'a test')",
            (str(uuid4()), amount),
        )

    def make_admin(self, person: Person) -> None:
        """Make somebody an admin."""
        self.db.execute(
            "select backend.set_role('operator:test', %s, %s, 'admin', 'a test')",
            (str(uuid4()), person.id),
        )

    # --- time, trouble and the sweep ---

    def age(self, *generation_ids: str, hours: int = 48) -> None:
        """Let it be long ago that these generations last moved."""
        self.db.execute(
            "update backend.dispatches set moved_at = moved_at - make_interval(hours => %s),"
            " leased_until = null, wake_at = null where generation_id = any(%s::uuid[])",
            (hours, list(generation_ids)),
        )

    def sweep(self) -> Json:
        """Run the recovery sweep once and return what it says it did."""
        invocation = self.stack.cloud.fire("RecoverySweepFunction")
        assert not invocation.is_error, invocation.log
        swept: Json = invocation.json()
        return swept

    def reconcile(self) -> Json:
        """Run the sweep when its comparison with Stripe is due, and return what it says it did."""
        newest = self.stack.stripe.state.newest("event")[:1]
        if newest and newest[0]["created"] >= int(time.time()):
            time.sleep(1 - time.time() % 1)  # what is of this second belongs to the next comparison
        self.db.execute("update backend.reconciliations set next_at = now(), leased_until = null")
        self.db.execute("update payment_reversals set looked_for_at = null")
        return self._sweep_parked()

    def retry_parked(self) -> Json:
        """Run the sweep when parked events are due and no comparison is."""
        self.db.execute(
            "update backend.reconciliations set next_at = now() + interval '1 h', leased_until = null"
        )
        return self._sweep_parked()

    def _sweep_parked(self) -> Json:
        self.db.execute("update backend.stripe_events set leased_until = null")
        return self.sweep()

    def clean_up(self, *, dry_run: bool = False) -> Json:
        """Run the cleaning once and return what it says it did."""
        invocation = self.stack.cloud.fire("CleanUpFunction", {"dry_run": dry_run})
        assert not invocation.is_error, invocation.log
        cleaned: Json = invocation.json()
        return cleaned

    @contextmanager
    def meeting(self, lock: LiteralString, *params: object, guests: int) -> Iterator[None]:
        """Hold what `lock` locks until so many functions wait, so that they really run at once."""
        with (
            psycopg.connect(self.stack.admin_database_url) as holder,
            holder.transaction(),
        ):
            holder.execute(lock, params)
            yield
            wait_for(lambda: self.waiting() >= guests)

    def waiting(self) -> int:
        """Return how many functions wait for a lock."""
        (row,) = self.rows(
            "select count(*) from pg_stat_activity"
            " where usename = 'holdfast_backend' and wait_event_type = 'Lock'"
        )
        count: int = row["count"]
        return count

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """Cut the functions off from the database: connections break and none is let in."""
        self.db.execute("alter role holdfast_backend connection limit 0")
        self.db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'holdfast_backend'"
        )
        try:
            yield
        finally:
            self.db.execute("alter role holdfast_backend connection limit -1")

    @contextmanager
    def queue_away(self) -> Iterator[None]:
        """Take the settle queue away, with whatever is in it."""
        cloud = self.stack.cloud
        url = cloud.queue_urls["SettleQueue"]
        kept = cloud.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        cloud.sqs.delete_queue(QueueUrl=url)
        try:
            yield
        finally:
            names = ("VisibilityTimeout", "DelaySeconds", "RedrivePolicy")
            made = cloud.sqs.create_queue(
                QueueName=url.rsplit("/", 1)[1], Attributes={name: kept[name] for name in names}
            )
            assert made["QueueUrl"] == url

    @contextmanager
    def event_bus_away(self) -> Iterator[None]:
        """Take the event bus away."""
        self.events.delete_event_bus(Name="alerts")
        try:
            yield
        finally:
            self.events.create_event_bus(Name="alerts")

    def dead_letters(self) -> list[str]:
        """Take what lies in the dead-letter queue: generation ids."""
        sqs, url = self.stack.cloud.sqs, self.stack.cloud.queue_urls["SettleDeadLetterQueue"]
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"])["generation_id"] for message in messages]

    # --- the provider's side ---

    def job(self, generation_id: str) -> Job:
        """Return the provider's one job for a generation."""
        (job,) = (job for job in self.stack.babysea.jobs if job.key == generation_id)
        return job

    def callback(
        self,
        event: str,
        data: Json,
        *,
        secret: str | None = None,
        timestamp: int | None = None,
        headers: dict[str, str] | None = None,
        delivery_id: str | None = None,
    ) -> httpx.Response:
        """Deliver a callback of the test's own making, signed as BabySea would."""
        payload = {
            "webhook_event": event,
            "webhook_timestamp": "2026-01-01T00:00:00.000Z",
            "webhook_delivery_id": delivery_id or str(uuid4()),
            "webhook_data": data,
        }
        body = json.dumps(payload).encode()
        signature = self.stack.babysea.sign(body, secret, timestamp)
        return self.http.post(
            "/webhooks/babysea",
            content=body,
            headers={
                "content-type": "application/json",
                "x-babysea-signature": signature,
                **(headers or {}),
            },
        )

    # --- what was written ---

    def rows(self, query: LiteralString, *params: object) -> list[DictRow]:
        """Read as the superuser."""
        return self.db.execute(query, params).fetchall()

    def stored(self, generation_id: str) -> list[str]:
        """Return the names of a generation's stored outputs."""
        found = self.rows(
            "select name from storage.objects where bucket_id = 'outputs'"
            " and split_part(name, '/', 2) = %s order by name",
            generation_id,
        )
        return [row["name"] for row in found]

    def states(self, generation_id: str) -> list[str]:
        """Return the states a generation went through."""
        found = self.rows(
            "select to_status from generation_events where generation_id = %s order by id",
            generation_id,
        )
        return [row["to_status"] for row in found]

    def logged(self, function: str, **values: Any) -> list[Json]:
        """Return the log lines of a function (by its logical id) that have these values."""
        lines = []
        for text in self.stack.cloud.logs.text(function).splitlines():
            line = json.loads(text) if text.startswith("{") else {}
            if values.items() <= line.items():
                lines.append(line)
        return lines

    def audit(self) -> list[DictRow]:
        """Return what is wrong in the books."""
        return self.rows("select * from ledger.audit()")

    def calm(self) -> None:
        """Switch every fault off, wait until nothing is on its way, and let the users go."""
        stack = self.stack
        for stand_in in (stack.supabase, stack.stripe, stack.upstash):
            stand_in.faults.clear()
        stack.babysea.calm()
        stack.babysea.behaviour.change(**PACE)
        stack.stripe.webhook_faults.reset()
        self.db.execute("select backend.open_intake()")
        stack.babysea.wait_idle(20)
        stack.stripe.drain(20)
        self._let_stripe_age()
        self._hang_up()

    def _let_stripe_age(self) -> None:
        """Let what happened at Stripe be two days old, so that no later test compares it again."""
        state = self.stack.stripe.state
        yesterday = state.now() - 86_400
        kinds = ("checkout.session", "subscription", "invoice", "invoice_payment")
        with state.lock:
            for kind in (*kinds, "refund", "dispute", "event"):
                for thing in state.newest(kind):
                    if thing["created"] > yesterday:
                        thing["created"] -= 2 * 86_400

    def _disconnect(self) -> None:
        self.db.close()

    def reconnect(self) -> None:
        """Open the test's own connection anew: the server it led to may have been killed."""
        self.db.close()
        self.db = psycopg.connect(
            self.stack.admin_database_url, autocommit=True, row_factory=dict_row
        )

    def _hang_up(self) -> None:
        while self._clients:
            self._clients.pop().close()
        self.__dict__.pop("http", None)

    def leaks(self) -> list[str]:
        """Return every place where a secret was found that does not belong there."""
        known = {
            **self.stack.secrets,
            "database password": self.stack.database_password,
            "next webhook secret": self.stack.next_webhook_secret,
            "legacy JWT secret": self.stack.supabase.legacy_jwt_secret,
        }
        return find_leaks(self.stack.cloud.logs.text(), self.tape.exchanges, known, self.people)
