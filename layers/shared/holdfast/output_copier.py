"""
Fetch one output file of the provider without trusting where its URL leads.

The URL arrives in a callback or a record. It is followed to listed origins only, never through a
redirect, never into a private network, never further than the size and time allowed, and what
arrives is judged by its own bytes.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

import httpx

from holdfast.config import is_loopback, origin_of
from holdfast.media import MediaType, sniff
from holdfast.vocabulary import MediaKind

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_CHUNK_TIMEOUT = httpx.Timeout(10, connect=3)
_PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)

COPY_SECONDS = 60.0
"""How long the bytes of one file may take to arrive."""

PeerAddress = Callable[[httpx.Response], str | None]


class LostReason(StrEnum):
    """Why an output will never be copied."""

    BAD_URL = "bad_url"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    PRIVATE_ADDRESS = "private_address"
    REDIRECT = "redirect"
    GONE = "gone"
    REFUSED = "refused"
    TOO_LARGE = "too_large"
    WRONG_TYPE = "wrong_type"


@dataclass(frozen=True)
class Copied:
    """The file, whole, and what its bytes say it is."""

    data: bytes
    media_type: MediaType


@dataclass(frozen=True)
class Lost:
    """The file cannot be had; trying again would end the same way."""

    reason: LostReason


@dataclass(frozen=True)
class Retry:
    """The file could not be had this time. `reason` is for logs."""

    reason: str


CopyOutcome = Copied | Lost | Retry


class _TooLargeError(Exception):
    """The body passes the size limit."""


class _OutOfTimeError(Exception):
    """The body takes longer than the total time allowed."""


def connected_peer(response: httpx.Response) -> str | None:
    """Return the address the answer really comes from, or None when it is not known."""
    stream = response.extensions.get("network_stream")
    if stream is None:
        return None
    try:
        return str(stream.get_extra_info("server_addr")[0])
    except OSError:  # the peer has hung up in the meantime
        return None


class OutputCopier:
    """
    Fetch files from the listed `origins`, at most `max_bytes` and `COPY_SECONDS` each.

    `http`, `peer_address` and `clock` are replaced in tests.
    """

    def __init__(
        self,
        origins: Iterable[str],
        max_bytes: int,
        *,
        http: httpx.Client | None = None,
        peer_address: PeerAddress = connected_peer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origins = frozenset(origin_of(origin) for origin in origins)
        self._max_bytes = max_bytes
        # No proxy from the environment: the peer's address must be the file server's.
        self._http = http or httpx.Client(timeout=_CHUNK_TIMEOUT, trust_env=False)
        self._peer_address = peer_address
        self._clock = clock

    def copy(self, url: str, kind: MediaKind) -> CopyOutcome:
        """Fetch `url`, which must hold media of `kind`, and say what came of it. Never raises."""
        deadline = self._clock() + COPY_SECONDS
        target = self._checked(url)
        if isinstance(target, Lost):
            return target
        try:
            return self._fetch(target, kind, deadline)
        except _TooLargeError:
            return Lost(LostReason.TOO_LARGE)
        except _OutOfTimeError:
            return Retry("total time exceeded")
        except httpx.HTTPError as error:
            return Retry(type(error).__name__)

    def _checked(self, url: str) -> httpx.URL | Lost:
        """Return the parsed URL. What is compared is what will be requested, not the given text."""
        try:
            target = httpx.URL(url)
            origin = origin_of(str(target))
        except (httpx.InvalidURL, ValueError):
            return Lost(LostReason.BAD_URL)
        if not url.isascii() or "\\" in url:
            return Lost(LostReason.BAD_URL)
        return target if origin in self._origins else Lost(LostReason.ORIGIN_NOT_ALLOWED)

    def _fetch(self, target: httpx.URL, kind: MediaKind, deadline: float) -> CopyOutcome:
        request = self._http.build_request("GET", target, headers={"accept-encoding": "identity"})
        response = self._http.send(request, stream=True, follow_redirects=False)
        try:
            peer = self._peer_address(response)
            if peer is None:
                return Retry("peer unknown")
            # Who answered, not who was asked: a name may resolve to anything.
            if not (is_loopback(peer) if is_loopback(target.host) else _is_public(peer)):
                return Lost(LostReason.PRIVATE_ADDRESS)
            refusal = _judge_status(response.status_code)
            if refusal is not None:
                return refusal
            return _judge_bytes(self._read(response, deadline), kind)
        finally:
            response.close()

    def _read(self, response: httpx.Response, deadline: float) -> bytes:
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            raise _TooLargeError
        data = bytearray()
        # Decoded bytes are counted: a small compressed body may be a large file.
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > self._max_bytes:
                raise _TooLargeError
            if self._clock() > deadline:
                raise _OutOfTimeError
        return bytes(data)


def _judge_status(status: int) -> Lost | Retry | None:
    if status == HTTPStatus.OK:
        return None
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Retry(f"status {status}")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return Lost(LostReason.GONE)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Lost(LostReason.REDIRECT)
    return Lost(LostReason.REFUSED)


def _judge_bytes(data: bytes, kind: MediaKind) -> Copied | Lost:
    media_type = sniff(data)
    if media_type is None or media_type.kind is not kind:
        return Lost(LostReason.WRONG_TYPE)
    return Copied(data, media_type)


def _is_public(address: str) -> bool:
    """Say whether the address is on the public internet, also when IPv6 wraps an IPv4 address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(str(inner))
    return ip.is_global and not ip.is_multicast
