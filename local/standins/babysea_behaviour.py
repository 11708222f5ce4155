"""
Everything about the BabySea stand-in that can be switched.

`Behaviour` holds one setting for each question BabySea's documents leave open, at the answer we
chose; a client must work under every setting. `Script` says what one generation does, `Refusal`
what one request is answered instead; both are faults, drawn by `Faults`-like rules.
"""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, get_args, get_type_hints

from local.standins.babysea_errors import ERRORS, UNLISTED, Refused, edge_refusal
from local.standins.server import Response, json_response


@dataclass
class Behaviour:
    """The open questions and the pace of the stand-in. All times are seconds of real time."""

    # Pace: BabySea's own steps and waits, shortened.
    pending: float = 0.2
    processing: float = 0.5
    webhook_waits: tuple[float, ...] = (0, 0.2, 0.5, 1, 2)
    """Before each attempt; the real ones are believed to be 0, 1, 4, 16 and 60 s."""
    webhook_timeout: float = 10
    webhook_late: float = 3
    """How long the fault `late` holds a callback back."""
    file_slow: float = 3
    """How long the fault `slow` holds a file back."""

    # HTTP
    accepted_status: int = 200
    unknown_model: Literal["envelope", "edge"] = "envelope"
    """404 in BabySea's shape, or the edge's 403 HTML."""
    unknown_model_code: str = "BSE2001"
    unknown_generation_code: str = "BSE3001"
    rate_limit: int | None = 60
    """Requests per account and window; None: no limit and no headers."""
    rate_window: float = 60
    in_flight_cap: int | None = 5
    unknown_fields: Literal["ignore", "refuse"] = "ignore"
    """Body keys the model does not name."""
    surprising_fields: bool = False
    """Answers carry keys no document names."""
    omit_nulls: bool = False
    """Answers leave out what is null."""

    # Idempotency
    same_body: Literal["json", "bytes"] = "json"
    in_progress_retryable: bool = False
    """The flag of BSE2016."""
    key_life: float = 24 * 3600
    """After that the same key starts, and bills, a new generation."""

    # Life cycle and money
    cancel_of_terminal: Literal["conflict", "ok"] = "conflict"
    result_after_cancel: Literal["drop", "emit"] = "drop"
    """`emit`: the record becomes succeeded, is billed, and `generation.completed` is sent."""
    callback_before_answer: Literal["off", "started", "completed"] = "off"
    record_of_refused: bool = False
    """A POST that all providers refuse leaves a failed record and sends `generation.failed`."""
    charge_per_output: bool = False
    """A partial delivery costs what was delivered, not the whole price."""
    low_balance_thresholds: tuple[Decimal, ...] = (Decimal("0.50"),)
    metrics_unit: Literal["s", "ms"] = "s"
    file_life: float = 3600
    """After that a file answers 404 and the record says generation_removed."""

    # Webhooks
    resign_attempts: bool = False
    """Each attempt gets a new timestamp and signature; the delivery id stays."""
    disable_after: int | None = 15
    """Failures in a row that disable the endpoint; then events queue until released."""

    def change(self, **settings: Any) -> None:
        """Set attributes by name; raises `ValueError` for an unknown name or value."""
        _check(type(self), settings)
        for name, value in settings.items():
            setattr(self, name, value)


@dataclass(frozen=True)
class Script:
    """
    What one generation does.

    `outcome`: `fail` ends with `code` and `error`; `stuck` never leaves processing, `stuck_pending`
    never reaches it; `canceled` is canceled before POST answers. `deliver` caps the outputs.
    `webhook` strikes every callback of the generation, `file` its files (`file_index`: only that
    one; `file_times`: only so many downloads of each). `answer_after` holds the POST answer back
    while the job runs. `credits_refunded` and `provider_cancel_sent` are what a cancel reports.
    """

    outcome: Literal["succeed", "fail", "stuck", "stuck_pending", "canceled"] = "succeed"
    code: str = "BSE4006"
    error: str = "The provider could not finish this generation"
    deliver: int | None = None
    webhook: Literal[
        "",
        "drop",
        "duplicate",
        "replay",
        "early",
        "reorder",
        "late",
        "bad_signature",
        "stale",
        "future",
    ] = ""
    file: Literal[
        "", "missing", "foreign_host", "redirect_private", "too_big", "wrong_type", "slow", "cut"
    ] = ""
    file_index: int | None = None
    file_times: int | None = None
    answer_after: float = 0
    credits_refunded: bool = True
    provider_cancel_sent: bool = True


@dataclass(frozen=True)
class Refusal:
    """
    What a request is answered instead of being served.

    `code` gives type, status and `retryable` of the error table; each can be set apart.
    `provider_errors` adds the report of a failed provider chain. `shape`: an `envelope`, an `html`
    page, an `empty` body, or a `mistyped` envelope whose fields have wrong types.
    """

    code: str = "BSE5001"
    message: str = "the request was refused"
    kind: str | None = None
    status: int | None = None
    retryable: bool | None = None
    retry_after: int | None = None
    provider_errors: bool = False
    shape: Literal["envelope", "html", "empty", "mistyped"] = "envelope"

    def response(self, providers: tuple[str, ...]) -> Response:
        """Return the answer; `providers` are those that are said to have been tried."""
        kind, _, retryable = ERRORS.get(self.code, UNLISTED)
        report = [
            {
                "provider": provider,
                "code": self.code,
                "type": self.kind or kind,
                "message": self.message,
                "retryable": retryable if self.retryable is None else self.retryable,
            }
            for provider in providers
        ]
        response = Refused(
            self.code,
            self.message,
            kind=self.kind,
            status=self.status,
            retryable=self.retryable,
            details={"retry_after_seconds": self.retry_after} if self.retry_after else None,
            provider_errors=report if self.provider_errors else None,
        ).response()
        if self.shape == "html":
            response.body = edge_refusal().body
            response.headers["content-type"] = "text/html"
        elif self.shape == "empty":
            response.body = b""
        elif self.shape == "mistyped":
            error = {"code": 4, "message": None, "retryable": "yes"}
            response.body = json_response({"status": "error", "error": error}).body
        return response


@dataclass
class Rule:
    """
    Which requests or generations an effect strikes.

    All given conditions must hold. `route` is a regular expression over "METHOD /path". `after`
    lets the first n that fit pass, `rate` strikes each with that probability, `times` ends the
    rule after n strikes (None: until cleared).
    """

    effect: dict[str, Any]
    prompt_contains: str = ""
    model: str | None = None
    key: str | None = None
    route: str = "POST /v1/generate/.*"
    times: int | None = None
    after: int = 0
    rate: float = 1.0
    struck: int = field(default=0, init=False)

    def fits(self, line: str, model: str | None, prompt: str, key: str | None) -> bool:
        """Tell whether the conditions hold for one request."""
        return (
            self.times != self.struck
            and re.fullmatch(self.route, line) is not None
            and self.prompt_contains in prompt
            and self.model in (None, model)
            and self.key in (None, key)
        )


CONDITIONS = frozenset(f.name for f in fields(Rule)) - {"effect", "struck"}


class Rules:
    """
    Rules of one kind, tried in order. Thread-safe; the random source is seeded.

    A request takes every rule that fits and whose settings no earlier rule has taken: so equal
    rules with `times=1` are a queue, and rules of different settings are independent of each other.
    """

    def __init__(self, kind: type[Script | Refusal], seed: int) -> None:
        self._kind = kind
        self._rules: list[Rule] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def add(self, **options: Any) -> Rule:
        """Add a rule of conditions and effects; raises `ValueError` for unknown names or values."""
        effect = {name: value for name, value in options.items() if name not in CONDITIONS}
        _check(self._kind, effect)
        rule = Rule(effect, **{n: v for n, v in options.items() if n in CONDITIONS})
        re.compile(rule.route)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()

    def draw(self, line: str, model: str | None, prompt: str, key: str | None) -> dict[str, Any]:
        """Return the settings the rules give one request; empty when none strikes."""
        taken: dict[str, Any] = {}
        with self._lock:
            for rule in self._rules:
                if not rule.fits(line, model, prompt, key) or taken.keys() & rule.effect.keys():
                    continue
                if rule.after > 0:
                    rule.after -= 1
                    continue
                if self._random.random() >= rule.rate:
                    continue
                rule.struck += 1
                taken |= rule.effect
        return taken


def _check(kind: type[Any], settings: dict[str, Any]) -> None:
    hints = get_type_hints(kind)
    for name, value in settings.items():
        if name not in hints:
            raise ValueError(f"{kind.__name__} has no setting {name!r}")
        allowed = get_args(hints[name])
        if allowed and all(isinstance(choice, str) for choice in allowed) and value not in allowed:
            raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, not {value!r}")
