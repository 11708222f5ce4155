"""
BabySea, the provider that generates the media.

A POST that ends without a readable answer may have been accepted and billed. So `generate` never
guesses: it says `Unknown`, and whoever asked repeats the same bytes with the same key.
"""

from __future__ import annotations

import json
import platform
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from holdfast.babysea_models import (
    Accepted,
    AcceptedData,
    Busy,
    Canceled,
    CanceledEarlier,
    Cancellation,
    CancelOutcome,
    CatalogModel,
    ErrorDetail,
    Estimate,
    GenerateOutcome,
    GenerationPage,
    GenerationRecord,
    NoSuchGeneration,
    NotCancelable,
    OperatorOutOfCredits,
    Refused,
    Unknown,
)
from holdfast.errors import ProviderError, ProviderUnavailableError
from holdfast.observability import logger
from holdfast.vocabulary import MediaKind, ProviderStatus

CATALOG_SECONDS = 300
CLIENT_VERSION = "1.0.0"

_ATTEMPTS = 3
_BASE_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 8.0
_OUT_OF_CREDITS = "BSE1004"
_STILL_RUNNING = "BSE2016"  # the first call with this key has not ended yet
_BUSY = frozenset({"BSE1005", "BSE1006", "BSE1009"})
_MODEL = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,5}", re.ASCII)
_KEY = re.compile(r"[\w.:-]{1,255}", re.ASCII)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class _Success:
    envelope: dict[str, Any]
    data: dict[str, Any]


@dataclass(frozen=True)
class _Failure:
    status: int
    code: str
    message: str
    retryable: bool
    retry_after: int | None

    @property
    def is_before_lookup(self) -> bool:
        """Say whether the answer is of the edge or the account, and says nothing of what was asked for."""
        return self.code.startswith(("BSE1", "HTTP_"))

    @property
    def is_missing(self) -> bool:
        """Say whether it is certain that the provider does not have what was asked for."""
        return self.status == HTTPStatus.NOT_FOUND and not self.is_before_lookup

    @property
    def is_busy(self) -> bool:
        return self.status == HTTPStatus.TOO_MANY_REQUESTS or self.code in _BUSY

    @property
    def is_definite(self) -> bool:
        """Whether the provider said no. Redirects and unreadable successes say nothing."""
        return (
            self.status >= HTTPStatus.BAD_REQUEST
            and self.status != HTTPStatus.REQUEST_TIMEOUT
            and not self.retryable
            and self.code != _STILL_RUNNING
        )

    def __str__(self) -> str:
        return f"{self.status} {self.code}"


@dataclass(frozen=True)
class _NoAnswer:
    reason: str


_Reply = _Success | _Failure | _NoAnswer


class BabySeaClient:
    """
    Calls of the provider's HTTP API.

    Everything but `generate` and `cancel` raises `ProviderUnavailableError` when the provider is away or
    busy, and `ProviderError` when it refuses or answers nonsense. `read_seconds` bounds one
    attempt, `total_seconds` a call with its repetitions. `http`, `sleep`, `jitter` and `clock` are
    replaced in tests.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str,
        *,
        http: httpx.Client | None = None,
        read_seconds: float = 20,
        total_seconds: float = 24,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._http = http or httpx.Client()
        self._read_seconds = read_seconds
        self._total_seconds = total_seconds
        self._sleep = sleep
        self._jitter = jitter
        self._clock = clock
        self._catalog: tuple[float, tuple[CatalogModel, ...]] | None = None
        runtime = platform.python_version()
        self._headers = {
            "authorization": f"Bearer {api_key}",
            "accept": "application/json",
            "user-agent": f"holdfast/{CLIENT_VERSION} (python/{runtime})",
            "x-babysea-sdk-name": "holdfast",
            "x-babysea-sdk-version": CLIENT_VERSION,
            "x-babysea-sdk-runtime": "unknown",  # the provider's list of runtimes has no Python
            "x-babysea-sdk-runtime-version": runtime,
        }

    def generate(
        self, kind: MediaKind, model: str, body: bytes, idempotency_key: str
    ) -> GenerateOutcome:
        """
        Start a generation with exactly these bytes and say what became of it.

        Safe to repeat with the same body and key for 24 hours; after that the same key would start,
        and bill, another one. Raises `ValueError` for a model or key that cannot be sent.
        """
        if not _KEY.fullmatch(idempotency_key):
            raise ValueError("not an idempotency key")
        path = f"/v1/generate/{kind}/{_model_path(model)}"
        reply, doubt = self._send("POST", path, content=body, key=idempotency_key)
        if isinstance(reply, _NoAnswer):
            return Unknown(reply.reason)
        if isinstance(reply, _Success):
            return _judge_start(reply)
        if doubt:
            # An earlier attempt of this very call may have been accepted.
            return Unknown(f"{reply} after an attempt without an answer")
        return _judge_refusal(reply)

    def cancel(self, generation_id: str) -> CancelOutcome:
        """
        Ask to cancel a generation and say what became of it.

        Not repeated by itself, the call has no idempotency key: after `Unknown` read the generation.
        """
        path = f"/v1/content/generation/cancel/{_id_path(generation_id)}"
        reply, _ = self._send("POST", path)
        if isinstance(reply, _NoAnswer):
            return Unknown(reply.reason)
        if isinstance(reply, _Success):
            result = _parse(Cancellation, reply.data)
            if result.generation_status is not ProviderStatus.CANCELED:
                return NotCancelable(result.generation_status)
            return Canceled(result.credits_refunded)
        if reply.is_missing:
            return NoSuchGeneration()
        if reply.status == HTTPStatus.CONFLICT:
            return NotCancelable(reply.code)
        if reply.is_busy or not reply.is_definite or reply.status == HTTPStatus.NOT_FOUND:
            return Unknown(str(reply))
        raise _error(reply)

    def get_generation(self, generation_id: str) -> GenerationRecord | None:
        """Return the provider's record, or None when it has none."""
        data = self._read(f"/v1/content/{_id_path(generation_id)}")
        return None if data is None else _parse(GenerationRecord, data.data)

    def list_generations(self, *, limit: int = 100, offset: int = 0) -> GenerationPage:
        """Return a page of all generations of the account; there is no filter."""
        answer = self._must("/v1/content/list", {"limit": str(limit), "offset": str(offset)})
        return _parse(GenerationPage, {**answer.envelope, **answer.data})

    def estimate(
        self,
        model: str,
        *,
        count: int = 1,
        duration: int | None = None,
        resolution: str | None = None,
        audio: bool | None = None,
    ) -> Estimate:
        """Return the provider's price for a request, in its credits."""
        query = {"count": str(count)}
        if duration is not None:
            query["duration"] = str(duration)
        if resolution is not None:
            query["resolution"] = resolution
        if audio is not None:
            query["audio"] = "true" if audio else "false"
        return _parse(Estimate, self._must(f"/v1/estimate/{_model_path(model)}", query).data)

    def models(self) -> tuple[CatalogModel, ...]:
        """Return the catalogue, at most 300 seconds old. Rows that cannot be read are left out."""
        if self._catalog is None or self._clock() - self._catalog[0] >= CATALOG_SECONDS:
            rows = self._must("/v1/library/models").data.get("models")
            if not isinstance(rows, list):
                raise ProviderError(reason="catalogue without a list of models")
            models = (_catalog_model(row) for row in rows)
            self._catalog = (self._clock(), tuple(m for m in models if m is not None))
        return self._catalog[1]

    def _must(self, path: str, query: Mapping[str, str] | None = None) -> _Success:
        answer = self._read(path, query)
        if answer is None:
            raise ProviderError(reason=f"404 for {path}", provider_code="HTTP_404")
        return answer

    def _read(self, path: str, query: Mapping[str, str] | None = None) -> _Success | None:
        reply, _ = self._send("GET", path, query=query)
        if isinstance(reply, _Success):
            return reply
        if isinstance(reply, _NoAnswer):
            raise ProviderUnavailableError(reason=f"provider: {reply.reason}")
        if reply.is_missing:
            return None
        if reply.status == HTTPStatus.NOT_FOUND:
            raise ProviderUnavailableError(reason=f"provider: {reply}")
        raise _error(reply)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        key: str | None = None,
    ) -> tuple[_Reply, bool]:
        """
        Send a request, repeated where that is safe.

        Return the last reply, and whether an earlier attempt may have been accepted unheard.
        """
        headers = dict(self._headers)
        if content is not None:
            headers["content-type"] = "application/json"
        if key is not None:
            headers["idempotency-key"] = key
        repeatable = method != "POST" or key is not None
        deadline = self._clock() + self._total_seconds
        doubt = False
        attempt = 1
        while True:
            remaining = max(deadline - self._clock(), 0.1)
            # one after the other, so both have to fit
            connect = min(3, remaining / 4)
            timeout = httpx.Timeout(min(self._read_seconds, remaining - connect), connect=connect)
            reply: _Reply
            try:
                response = self._http.request(
                    method,
                    f"{self._base_url}{path}",
                    params=query,
                    content=content,
                    headers=headers,
                    timeout=timeout,
                    follow_redirects=False,
                )
                reply = _read_response(response)
            except httpx.TimeoutException as late:
                # Never repeated: a slow provider is not helped by being asked again.
                return _NoAnswer(type(late).__name__), doubt
            except httpx.HTTPError as lost:
                reply = _NoAnswer(type(lost).__name__)
            wait = self._wait_before_next(reply, attempt) if repeatable else None
            if wait is None or self._clock() + wait >= deadline:
                return reply, doubt
            doubt = doubt or not (isinstance(reply, _Failure) and reply.is_busy)
            self._sleep(wait)
            attempt += 1

    def _wait_before_next(self, reply: _Reply, attempt: int) -> float | None:
        """Return the seconds to wait, or None when this reply is the last."""
        if isinstance(reply, _Success) or attempt == _ATTEMPTS:
            return None
        if isinstance(reply, _Failure):
            asked = reply.retry_after
            # A 429 in HTML is not marked as retryable; its Retry-After says that it is.
            if not (reply.retryable or reply.code == _STILL_RUNNING or (reply.is_busy and asked)):
                return None
            if asked is not None:
                return asked if asked <= _LONGEST_WAIT_SECONDS else None
            if reply.code == _STILL_RUNNING:
                return _BASE_WAIT_SECONDS * 2.0**attempt
        return self._jitter() * _BASE_WAIT_SECONDS * 2.0 ** (attempt - 1)


def _read_response(response: httpx.Response) -> _Success | _Failure:
    """Tell a success from a failure by the envelope; what has none is judged by its status."""
    status = response.status_code
    retry_after = _whole_seconds(response.headers.get("retry-after"))
    try:
        body = json.loads(response.content, parse_float=Decimal)
    except (ValueError, RecursionError):
        return _Failure(
            status, f"HTTP_{status}", "", status >= HTTPStatus.INTERNAL_SERVER_ERROR, retry_after
        )
    envelope = body if isinstance(body, dict) else {}
    data = envelope.get("data")
    if response.is_success and envelope.get("status") == "success" and isinstance(data, dict):
        return _Success(envelope, data)
    error = envelope.get("error")
    try:
        detail = ErrorDetail.model_validate(error)
    except ValidationError:
        retryable = status >= HTTPStatus.INTERNAL_SERVER_ERROR or (
            status == HTTPStatus.TOO_MANY_REQUESTS
        )
        return _Failure(status, f"HTTP_{status}", "", retryable, retry_after)
    if retry_after is None and isinstance(error, dict) and isinstance(error.get("details"), dict):
        retry_after = _whole_seconds(error["details"].get("retry_after_seconds"))
    return _Failure(status, detail.code, detail.message[:500], detail.retryable, retry_after)


def _whole_seconds(value: object) -> int | None:
    """Read a Retry-After. Zero, dates and nonsense count as absent."""
    text = str(value)
    return int(text) or None if _SECONDS.fullmatch(text) else None


def _judge_start(answer: _Success) -> Accepted | CanceledEarlier | Unknown:
    try:
        data = AcceptedData.model_validate(answer.data)
    except ValidationError:
        return Unknown("success without a generation id")
    if data.generation_status == ProviderStatus.CANCELED:
        return CanceledEarlier(data.generation_id)
    return Accepted(data.generation_id)


def _judge_refusal(failure: _Failure) -> Refused | Unknown | OperatorOutOfCredits | Busy:
    if failure.code == _OUT_OF_CREDITS:
        return OperatorOutOfCredits(failure.code)
    if failure.is_busy:
        return Busy(failure.code, failure.retry_after)
    if not failure.is_definite:
        return Unknown(str(failure))
    return Refused(failure.code, failure.message, before_lookup=failure.is_before_lookup)


def _error(failure: _Failure) -> ProviderError | ProviderUnavailableError:
    if failure.is_busy or not failure.is_definite:
        return ProviderUnavailableError(
            reason=f"provider: {failure}", retry_after=failure.retry_after
        )
    return ProviderError(reason=f"provider: {failure}", provider_code=failure.code)


def _parse(model: type[M], data: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as invalid:
        fields = sorted({str(error["loc"][0]) for error in invalid.errors() if error["loc"]})
        raise ProviderError(reason=f"unreadable {model.__name__}: {', '.join(fields)}") from None


def _catalog_model(row: object) -> CatalogModel | None:
    try:
        return CatalogModel.model_validate(row)
    except ValidationError:
        name = row.get("model_identifier") if isinstance(row, dict) else None
        logger().warning("a model of the catalogue cannot be read", model=str(name)[:100])
        return None


def _model_path(model: str) -> str:
    """Return the model id, slash and all: the provider's routes take it unescaped."""
    if not _MODEL.fullmatch(model) or ".." in model:
        raise ValueError("not a model id")
    return model


def _id_path(generation_id: str) -> str:
    if not _ID.fullmatch(generation_id):
        raise ProviderError(reason="not a generation id of the provider")
    return generation_id
