import gzip
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from holdfast.media import MP4, PNG
from holdfast.output_copier import (
    Copied,
    CopyOutcome,
    Lost,
    LostReason,
    OutputCopier,
    Retry,
    _is_public,
)
from holdfast.vocabulary import MediaKind

ORIGIN = "https://app.us.babysea.ai"
URL = f"{ORIGIN}/out/1.png"
PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"p" * 100
FILM = b"\0\0\0\x20ftypisom\0\0\2\0" + b"f" * 100
Answer = Callable[[httpx.Request], httpx.Response]


def copy(
    answer: httpx.Response | Exception | Answer,
    url: str = URL,
    kind: MediaKind = MediaKind.IMAGE,
    *,
    peer: str | None = "93.184.216.34",
    origins: tuple[str, ...] = (ORIGIN,),
    clock: Callable[[], float] = lambda: 0.0,
    max_bytes: int = 1000,
) -> CopyOutcome:
    """Copy from a server that gives one answer."""

    def respond(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    return OutputCopier(
        origins,
        max_bytes,
        http=httpx.Client(transport=httpx.MockTransport(respond)),
        peer_address=lambda _response: peer,
        clock=clock,
    ).copy(url, kind)


def never(request: httpx.Request) -> httpx.Response:
    """Fail the test when a request is made at all."""
    raise AssertionError(request.url)


def test_a_picture_and_a_film_are_copied() -> None:
    """The bytes come back with the type they show, whatever the header claims."""
    lying = {"content-type": "text/html"}

    assert copy(httpx.Response(200, content=PICTURE, headers=lying)) == Copied(PICTURE, PNG)
    assert copy(httpx.Response(200, content=FILM), kind=MediaKind.VIDEO) == Copied(FILM, MP4)


def test_the_request_is_plain() -> None:
    """No compression is asked for and no credential is sent."""
    seen: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=PICTURE)

    copy(respond)

    assert seen[0].headers["accept-encoding"] == "identity"
    assert "authorization" not in seen[0].headers


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", LostReason.BAD_URL),
        ("out/1.png", LostReason.BAD_URL),
        ("https://", LostReason.BAD_URL),
        ("http://app.us.babysea.ai/1.png", LostReason.BAD_URL),
        ("ftp://app.us.babysea.ai/1.png", LostReason.BAD_URL),
        ("file:///etc/passwd", LostReason.BAD_URL),
        ("https://user:pw@app.us.babysea.ai/1.png", LostReason.BAD_URL),
        ("https://app.us.babysea.ai@evil.example.com/1.png", LostReason.BAD_URL),
        ("https://app.us.babysea.ai\\@evil.example.com/1.png", LostReason.BAD_URL),
        ("https://app.us.babysea.ai:99999/1.png", LostReason.BAD_URL),
        ("https://app.us.babysea.ai/\x00", LostReason.BAD_URL),
        ("https://app.us.babysea。ai/1.png", LostReason.BAD_URL),
        ("https://evil.example.com/1.png", LostReason.ORIGIN_NOT_ALLOWED),
        ("https://app.us.babysea.ai.evil.example.com/1.png", LostReason.ORIGIN_NOT_ALLOWED),
        ("https://xapp.us.babysea.ai/1.png", LostReason.ORIGIN_NOT_ALLOWED),
        ("https://app.us.babysea.ai:8443/1.png", LostReason.ORIGIN_NOT_ALLOWED),
        ("https://app.us.babysea.ai./1.png", LostReason.ORIGIN_NOT_ALLOWED),
        ("http://127.0.0.1/1.png", LostReason.ORIGIN_NOT_ALLOWED),
        ("http://169.254.169.254/latest/meta-data/", LostReason.BAD_URL),
        ("https://169.254.169.254/latest/meta-data/", LostReason.ORIGIN_NOT_ALLOWED),
        ("https://[::1]/1.png", LostReason.ORIGIN_NOT_ALLOWED),
    ],
)
def test_urls_that_lead_elsewhere_are_never_requested(url: Any, reason: Any) -> None:
    """A URL of no listed origin is lost without a single packet."""
    assert copy(never, url) == Lost(reason)


@pytest.mark.parametrize("url", ["https://APP.us.babysea.ai/1.png", f"{ORIGIN}:443/out/1.png?a=b"])
def test_other_spellings_of_a_listed_origin_are_followed(url: Any) -> None:
    """Case and default port do not make another origin."""
    assert isinstance(copy(httpx.Response(200, content=PICTURE), url), Copied)


@pytest.mark.parametrize(
    "peer",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff0e::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "not-an-address",
    ],
)
def test_a_name_that_resolves_into_a_private_network_is_lost(peer: Any) -> None:
    """Who answers must be on the public internet, whatever the name was."""
    assert copy(httpx.Response(200, content=PICTURE), peer=peer) == Lost(LostReason.PRIVATE_ADDRESS)


@pytest.mark.parametrize(
    "peer", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_told_from_private_ones(peer: Any) -> None:
    """Public addresses pass, also wrapped in IPv6."""
    assert _is_public(peer)


def test_an_unknown_peer_is_not_trusted() -> None:
    """When nobody can say who answered, the copy is tried again."""
    assert isinstance(copy(httpx.Response(200, content=PICTURE), peer=None), Retry)


def test_a_listed_loopback_origin_must_be_answered_by_loopback() -> None:
    """The local cloud's file server is allowed by name, and only it."""
    local = "http://127.0.0.1:9000"
    answer = httpx.Response(200, content=PICTURE)

    allowed = copy(answer, f"{local}/1.png", origins=(local,), peer="127.0.0.1")
    foreign = copy(never, "http://127.0.0.1:9001/1.png", origins=(local,))

    assert isinstance(allowed, Copied)
    assert foreign == Lost(LostReason.ORIGIN_NOT_ALLOWED)
    assert copy(answer, f"{local}/1.png", origins=(local,)) == Lost(LostReason.PRIVATE_ADDRESS)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (301, Lost(LostReason.REDIRECT)),
        (302, Lost(LostReason.REDIRECT)),
        (307, Lost(LostReason.REDIRECT)),
        (404, Lost(LostReason.GONE)),
        (410, Lost(LostReason.GONE)),
        (401, Lost(LostReason.REFUSED)),
        (403, Lost(LostReason.REFUSED)),
        (204, Lost(LostReason.REFUSED)),
        (206, Lost(LostReason.REFUSED)),
        (408, Retry("status 408")),
        (425, Retry("status 425")),
        (429, Retry("status 429")),
        (500, Retry("status 500")),
        (503, Retry("status 503")),
    ],
)
def test_each_status_is_final_or_passing(status: Any, outcome: Any) -> None:
    """Redirects are not followed; busy servers are asked again; the rest is lost."""
    answer = httpx.Response(status, content=PICTURE, headers={"location": URL})

    assert copy(answer) == outcome


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("x"),
        httpx.ReadError("x"),
        httpx.ReadTimeout("x"),
        httpx.ConnectTimeout("x"),
        httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
    ],
)
def test_broken_connections_are_tried_again(error: Any) -> None:
    """What the network did can pass."""
    assert copy(error) == Retry(type(error).__name__)


class Chunks(httpx.SyncByteStream):
    """A body that arrives piece by piece and counts how many were taken."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.taken += 1
            yield chunk


def test_a_file_over_the_limit_is_dropped_while_it_arrives() -> None:
    """The limit counts what is read, so an endless body ends."""
    body = Chunks(*[PICTURE] * 1000)

    assert copy(httpx.Response(200, stream=body)) == Lost(LostReason.TOO_LARGE)
    assert body.taken < 20


def test_an_announced_size_over_the_limit_is_not_read() -> None:
    """A Content-Length over the limit ends it before the first byte."""
    body = Chunks(PICTURE)
    answer = httpx.Response(200, stream=body, headers={"content-length": "1001"})

    assert copy(answer) == Lost(LostReason.TOO_LARGE)
    assert body.taken == 0


def test_a_file_of_exactly_the_limit_is_taken() -> None:
    """The limit itself is allowed."""
    exact = PICTURE.ljust(1000, b"p")

    assert copy(httpx.Response(200, content=exact)) == Copied(exact, PNG)


def test_a_compressed_bomb_is_counted_unpacked() -> None:
    """The size that counts is the decoded one."""
    packed = gzip.compress(PICTURE + b"\0" * 100_000)
    answer = httpx.Response(200, stream=Chunks(packed), headers={"content-encoding": "gzip"})

    assert len(packed) < 1000
    assert copy(answer) == Lost(LostReason.TOO_LARGE)


def test_a_trickling_file_is_given_up() -> None:
    """A server that keeps sending slowly does not hold the function."""
    times = iter(range(0, 10_000, 7))
    body = Chunks(*[b"\x89"] * 900)

    assert copy(httpx.Response(200, stream=body), clock=lambda: float(next(times))) == Retry(
        "total time exceeded"
    )
    assert body.taken < 20


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", MediaKind.IMAGE),
        (b"<html>login</html>", MediaKind.IMAGE),
        (FILM, MediaKind.IMAGE),
        (PICTURE, MediaKind.VIDEO),
    ],
)
def test_what_is_not_the_media_asked_for_is_lost(data: bytes, kind: Any) -> None:
    """A page, nothing, or the other kind of media is not delivered."""
    answer = httpx.Response(200, content=data, headers={"content-type": "image/png"})

    assert copy(answer, kind=kind) == Lost(LostReason.WRONG_TYPE)
