"""
Every way out of a function, caught where it leaves the process: psycopg, httpx, requests and boto3.

Before each call the actor lets others run. Then the seed decides whether the function is killed before or after it, the
answer is lost, or the other side is not there.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Protocol
from unittest.mock import patch
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import UUID

import boto3
import httpx
import psycopg
import requests
from botocore.exceptions import (  # type: ignore[import-untyped]
    EndpointConnectionError,
    ReadTimeoutError,
)

import holdfast.database
from local.standins.server import Request, Response, StandIn
from tests.chaos import faults
from tests.chaos.functions import Invocation, KilledError
from tests.chaos.scheduler import Actor, current
from tests.chaos.virtual_time import GUC

_HOLD_PERCENT = 25


class Outside(Protocol):
    """What is behind the boundary: the world of one run."""

    def is_away(self, service: str) -> bool:
        """Say whether a service cannot be reached now."""

    def server(self, host: str | None, port: int | None) -> tuple[str, StandIn]:
        """Return who answers at an address, and what the service is called."""

    def enqueue(self, body: str, seconds: float = 0) -> None:
        """Put a message into the settle queue."""


class Call:
    """One outgoing call of a function, from the moment before it to the moment after."""

    def __init__(self, label: str, percents: dict[str, float]) -> None:
        actor = current()
        assert actor
        self.actor: Actor = actor
        self.invocation: Invocation = actor.invocations[-1]
        self.plan = actor.scheduler.plan
        self.label = label
        self.key = actor.next_point()
        self._check_alive()
        actor.pause()
        self._check_alive()
        self.fault = self.plan.draw(self.key, percents)
        if self.fault == "killed before":
            self.kill("before")

    def note(self, text: str = "") -> None:
        """Write the call into the trail, with its fault."""
        said = f"  *** {self.fault}" if self.fault else ""
        name = self.invocation.function_name
        self.actor.scheduler.note(f"{name}: {self.label}{text}{said}  [{self.key}]")

    def kill(self, when: str) -> NoReturn:
        """End the function here."""
        self.note(f" (killed {when})")
        self.invocation.is_killed = True
        raise KilledError

    def _check_alive(self) -> None:
        """Let nothing out of a function that is dead, also not from a `finally`; or that took too long."""
        if self.invocation.is_killed:
            raise KilledError
        if self.actor.scheduler.now > self.invocation.ends_at:
            self.actor.scheduler.note(f"{self.invocation.function_name}: timed out")
            self.invocation.is_killed = True
            raise KilledError


class Line:
    """A function's connection to the database: a session of PostgreSQL, borrowed until it is closed."""

    def __init__(self, boundary: Boundary, session: psycopg.Connection[Any]) -> None:
        self._boundary = boundary
        self._session = session
        self.closed = False

    def close(self) -> None:
        """Hang up."""
        if not self.closed:
            self.closed = True
            self._boundary.give_back(self._session)

    @contextlib.contextmanager
    def cursor(self) -> Iterator[Any]:
        """Return a cursor whose statements are points of the run."""
        with psycopg.Cursor(self._session) as cursor:
            yield _Statements(self, self._session, cursor)


class _Statements:
    def __init__(
        self, line: Line, session: psycopg.Connection[Any], cursor: psycopg.Cursor[Any]
    ) -> None:
        self._line = line
        self._session = session
        self._cursor = cursor
        self.fetchall = cursor.fetchall

    def execute(self, query: Any, params: Any = ()) -> None:
        """Run one statement as the one transaction that it is, with what may happen before and after."""
        call = Call(_name(query, params), faults.DATABASE)
        if self._line.closed or call.actor.scheduler.world.is_away("database"):
            self._break(call, "the server is gone")
        if call.fault == "connection broken before":
            self._break(call, "")
        plain = psycopg.Cursor(self._session)
        plain.execute(f"begin; select set_config('{GUC}', '{call.actor.scheduler.now:.3f}', true)")
        try:
            call.actor.perform(
                self._session.info.backend_pid, lambda: self._cursor.execute(query, params)
            )
        except BaseException as error:
            plain.execute("rollback")
            call.note(f" -> {type(error).__name__} {getattr(error, 'sqlstate', '')}")
            raise
        if call.fault == "killed before the commit":
            self._linger(call)
            plain.execute("rollback")
            call.kill("before the commit")
        # sometimes the transaction stays open while others run, so that they meet its locks
        if call.plan.random(f"{call.key}, held").random() * 100 < _HOLD_PERCENT:
            self._linger(call)
        plain.execute("commit")
        if call.fault == "killed after the commit":
            call.kill("after the commit")
        if call.fault == "answer lost":
            self._break(call, "")
        call.note(_shown(self._cursor))

    def _linger(self, call: Call) -> None:
        call.actor.pause()

    def _break(self, call: Call, why: str) -> NoReturn:
        call.note(f" -> connection lost {why}")
        self._line.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")


class Boundary:
    """Put in place for a campaign: `with Boundary(url).installed(): ...`."""

    def __init__(self) -> None:
        self._idle: list[psycopg.Connection[Any]] = []
        self._connect = holdfast.database._connect

    def give_back(self, session: psycopg.Connection[Any]) -> None:
        """Keep a session for the next one who connects."""
        self._idle.append(session)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Catch what leaves the process; threads that are no actors are let through."""
        context = functools.cache(ssl.create_default_context)
        original = httpx.HTTPTransport.handle_request

        def handle_request(transport: httpx.HTTPTransport, request: httpx.Request) -> Any:
            actor = current()
            if actor is None or not actor.invocations:
                return original(transport, request)
            return _http(request)

        with contextlib.ExitStack() as stack:
            stack.enter_context(patch("holdfast.database._connect", self._line))
            stack.enter_context(patch("httpx.HTTPTransport.handle_request", handle_request))
            stack.enter_context(patch("requests.adapters.HTTPAdapter.send", _sending()))
            stack.enter_context(
                patch("httpx._transports.default.create_ssl_context", lambda **_: context())
            )
            stack.enter_context(patch("boto3.client", _client(boto3.client)))
            stack.callback(self._close)
            yield

    def _line(self, url: Any, application_name: str) -> Any:
        actor = current()
        assert actor
        if actor.scheduler.world.is_away("database"):
            actor.scheduler.note("the database cannot be reached")
            raise psycopg.OperationalError("connection refused")
        session = self._idle.pop() if self._idle else self._connect(url, application_name)
        line = Line(self, session)
        actor.invocations[-1].environment.lines.append(line)
        return line

    def _close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class _NoAnswerError(Exception):
    """What a client of HTTP has to make an error of its own of."""


class _UnreachableError(_NoAnswerError):
    pass


class _LostError(_NoAnswerError):
    pass


class _LateError(_NoAnswerError):
    pass


def _exchange(
    method: str, url: str, headers: Mapping[str, str], body: bytes, patience: float
) -> Response:
    """Send a request to who is at its address; `patience` is how long the client waits for the answer, in seconds."""
    actor = current()
    assert actor
    world = actor.scheduler.world
    parts = urlsplit(url)
    service, stand_in = world.server(parts.hostname, parts.port)
    if service == "provider" and parts.path.startswith("/out/"):
        service = "files"
    known = {name.lower(): value for name, value in headers.items()}
    key = known.get("idempotency-key", "")
    call = Call(f"{service} {method} {unquote(parts.path)} {key}".rstrip(), faults.HTTP)
    if call.fault == "unreachable" or world.is_away(service):
        call.note(" -> unreachable")
        raise _UnreachableError
    if call.fault == "answered 503":
        call.note()
        return Response(503, b"<html>busy</html>")
    answer: Response = stand_in.handle(
        Request(
            method=method,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={"host": parts.netloc, **known},
            body=body,
            raw_path=parts.path,
            raw_query=parts.query,
        )
    )
    answer.headers.setdefault("content-length", str(len(answer.body)))
    if call.fault == "killed after":
        call.kill("after")
    if call.fault == "answer lost":
        call.note()
        raise _LostError
    if call.fault == "answer too late":
        call.note()
        actor.sleep(patience)
        raise _LateError
    call.note(f" -> {answer.status}")
    return answer


def _http(request: httpx.Request) -> httpx.Response:
    patience = request.extensions["timeout"]["read"]
    try:
        answer = _exchange(
            request.method, str(request.url), request.headers, request.read(), patience
        )
    except _UnreachableError:
        raise httpx.ConnectError("unreachable", request=request) from None
    except _LostError:
        raise httpx.ReadError("the answer was lost", request=request) from None
    except _LateError:
        raise httpx.ReadTimeout("the answer is too late", request=request) from None
    return httpx.Response(
        answer.status,
        headers=answer.headers,
        stream=_Body(answer),
        extensions={"network_stream": _Peer()},
    )


def _sending() -> Any:
    """Return what stands for `requests.adapters.HTTPAdapter.send`, which Stripe's client uses."""
    original = requests.adapters.HTTPAdapter.send

    def send(
        adapter: Any,
        request: requests.PreparedRequest,
        *args: Any,
        timeout: Any = None,
        **options: Any,
    ) -> requests.Response:
        actor = current()
        if actor is None or not actor.invocations:
            return original(adapter, request, *args, timeout=timeout, **options)
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        try:
            found = _exchange(
                request.method or "", request.url or "", request.headers, body, timeout[1]
            )
        except _UnreachableError:
            raise requests.ConnectionError("unreachable") from None
        except _LostError:
            raise requests.ConnectionError("the answer was lost") from None
        except _LateError:
            raise requests.ReadTimeout("the answer is too late") from None
        answer = requests.Response()
        answer.status_code, answer._content = found.status, found.body
        answer.headers.update(found.headers)
        return answer

    return send


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield self._answer.body
        if len(self._answer.body) < int(self._answer.headers["content-length"]):
            raise httpx.RemoteProtocolError("the peer closed the connection too early")


class _Peer:
    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 443) if name == "server_addr" else None


def _client(original: Any) -> Any:
    def client(service: str, *args: Any, **options: Any) -> Any:
        return _Sqs() if current() else original(service, *args, **options)

    return client


class _Sqs:
    """boto3's client of the queue."""

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> dict[str, str]:
        call = Call(f"queue send {MessageBody}", faults.QUEUE)
        world = call.actor.scheduler.world
        if call.fault == "unreachable" or world.is_away("queue"):
            call.note(" -> unreachable")
            raise EndpointConnectionError(endpoint_url=QueueUrl)
        if call.fault != "message lost":
            world.enqueue(MessageBody, 90 if call.fault == "delayed" else 0)
        if call.fault == "sent twice":
            world.enqueue(MessageBody)
        if call.fault == "killed after":
            call.kill("after")
        call.note()
        if call.fault == "answer lost":
            raise ReadTimeoutError(endpoint_url=QueueUrl)
        return {"MessageId": "sent"}


def _name(query: str, params: Any) -> str:
    """Return the function that a statement calls, and the generation that it is about."""
    words = str(query).split()
    name = next((word.partition("(")[0] for word in words if "." in word), words[0])
    about = [str(value) for value in params if isinstance(value, UUID)][-1:]
    return " ".join([name, *about])


def _shown(cursor: Any) -> str:
    """Return what a statement returned, short."""
    result = cursor.pgresult
    if result is None or result.ntuples != 1:
        return f" -> {result.ntuples if result else 0} rows"
    names = [column.name for column in cursor.description]
    shown = {
        name: value.decode()
        for name, index in zip(names, range(len(names)), strict=True)
        if name in ("outcome", "status") and (value := result.get_value(0, index)) is not None
    }
    return f" -> {', '.join(shown.values())}" if shown else ""
