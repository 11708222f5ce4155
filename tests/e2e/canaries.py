"""
The search for secrets in everything the product said: its logs and its answers.

What is looked for are the values themselves, so no pattern has to guess how a secret looks. The one pattern is that of
a JSON web token: signed URLs carry them, and each may stand in exactly the answers that exist to hand it out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

_JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
_CANARY = re.compile(r"canary-[0-9a-f]{16}")
_ID = r"[0-9a-f-]{36}"
# Where a signed URL is handed out: the request, and the place in the answer.
_HANDED_OUT = (
    (re.compile(rf"GET /generations/{_ID}"), re.compile(r"outputs\.\d+\.(download_)?url")),
    (
        re.compile(r"GET /generations"),
        re.compile(r"generations\.\d+\.outputs\.\d+\.(download_)?url"),
    ),
    (re.compile(r"GET /uploads"), re.compile(r"uploads\.\d+\.url")),
    (re.compile(r"POST /uploads"), re.compile(r"upload_url|token")),
)
_SHOWS_PROMPTS = re.compile(rf"GET /generations(/{_ID})?")


class Owner(Protocol):
    """Whose password, token and prompts are looked for."""

    id: str
    email: str
    password: str
    canary: str

    @property
    def token(self) -> str:
        """The access token."""


@dataclass(frozen=True)
class Exchange:
    """One answer and who got it."""

    request: str
    token: str
    headers: str
    body: str


@dataclass
class Tape:
    """Keeps every answer of the product; `record` is an event hook of httpx."""

    exchanges: list[Exchange] = field(default_factory=list)

    def record(self, response: httpx.Response) -> None:
        """Keep one answer."""
        body = response.read().decode("utf-8", "replace")
        request = response.request
        self.exchanges.append(
            Exchange(
                f"{request.method} {request.url.path}",
                request.headers.get("authorization", "").removeprefix("Bearer "),
                repr(response.headers.multi_items()),
                body,
            )
        )


def find_leaks(
    log: str, exchanges: Iterable[Exchange], secrets: Mapping[str, str], people: Iterable[Owner]
) -> list[str]:
    """Return a line for each secret that stands where it must not; never the secret itself."""
    owners = list(people)
    never = dict(secrets)
    for person in owners:
        never[f"password of {person.email}"] = person.password
        never[f"access token of {person.email}"] = person.token
    private = {f"prompt of {person.email}": person.canary for person in owners}
    private |= {f"address of {person.email}": person.email for person in owners}
    found = [f"{name} in the log" for name, value in (never | private).items() if value in log]
    found += [f"token in the log: ...{_around(log, match)}" for match in _JWT.finditer(log)]
    by_token = {person.token: person for person in owners}
    for exchange in exchanges:
        everything = exchange.headers + exchange.body
        found += [
            f"{name} in an answer to {exchange.request}"
            for name, value in never.items()
            if value in everything
        ]
        found += _misplaced(exchange, by_token.get(exchange.token))
    return found


def _misplaced(exchange: Exchange, caller: Owner | None) -> Iterator[str]:
    """Yield what is secret to others, or stands in another answer than the one that hands it out."""
    if _JWT.search(exchange.headers):
        yield f"token in the headers of an answer to {exchange.request}"
    for place, text in _texts(exchange.body):
        if _JWT.search(text) and not (caller and _is_handed_out(exchange, place, text, caller)):
            yield f"token at {place} in an answer to {exchange.request}"
        for canary in _CANARY.findall(text):
            is_own = caller is not None and caller.canary == canary
            if not (is_own and place.endswith("prompt") and _shows_prompts(exchange)):
                yield f"prompt at {place} in an answer to {exchange.request}"


def _is_handed_out(exchange: Exchange, place: str, text: str, caller: Owner) -> bool:
    """Say whether this is the answer and the place for a signed URL, into the caller's own folder."""
    is_the_place = any(
        request.fullmatch(exchange.request) and field.fullmatch(place)
        for request, field in _HANDED_OUT
    )
    return is_the_place and (place == "token" or f"/{caller.id}/" in text)


def _shows_prompts(exchange: Exchange) -> bool:
    return _SHOWS_PROMPTS.fullmatch(exchange.request) is not None


def _texts(body: str) -> Iterator[tuple[str, str]]:
    """Yield each text of a JSON body with its place, dotted; a body that is none is one text."""
    try:
        yield from _walk("", json.loads(body))
    except ValueError:
        yield "", body


def _walk(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield place, str(name)
            yield from _walk(f"{place}.{name}".lstrip("."), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(f"{place}.{index}".lstrip("."), item)
    elif isinstance(value, str):
        yield place, value


def _around(log: str, match: re.Match[str]) -> str:
    return repr(log[max(0, match.start() - 60) : match.start()])
