import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from holdfast.errors import StoragePermanentError, UnavailableError
from holdfast.storage import (
    UPLOADS,
    FileHead,
    SignedUpload,
    StorageSigner,
    StoredFile,
    output_path,
)

USER = UUID("33333333-3333-4333-8333-333333333333")
GENERATION = UUID("22222222-2222-4222-8222-222222222222")
PATH = f"{USER}/{GENERATION}/1.png"
KEY = "sb_secret_test_key"


class Bucket:
    """A storage service that gives one answer and keeps the requests."""

    def __init__(self, answer: httpx.Response | Exception) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []
        self.signer = StorageSigner(
            "https://p.example.com",
            KEY,
            http=httpx.Client(transport=httpx.MockTransport(self._answer)),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def refused(status_code: str, error: str, http_status: int = 400) -> httpx.Response:
    """Return an error as storage writes it: the real status is text in the body."""
    body = {"statusCode": status_code, "error": error, "message": "words", "code": "X"}
    return httpx.Response(http_status, json=body)


def test_an_output_lies_under_its_user_and_generation() -> None:
    """The first folder is the user's: row level security reads it."""
    assert output_path(USER, GENERATION, 1, "png") == PATH


def test_all_outputs_are_signed_in_one_call() -> None:
    """Each path gets its URL, or None when there is no such file; both key headers are sent."""
    gone = f"{USER}/{GENERATION}/2.png"
    bucket = Bucket(
        httpx.Response(
            200,
            json=[
                {
                    "error": None,
                    "path": PATH,
                    "signedURL": f"/object/sign/outputs/{PATH}?token=a.b.c",
                },
                {"error": "Either the object does not exist", "path": gone, "signedURL": None},
            ],
        )
    )

    urls = bucket.signer.sign([PATH, gone], 600, download="lamp.png")

    assert urls == {
        PATH: f"https://p.example.com/storage/v1/object/sign/outputs/{PATH}"
        "?token=a.b.c&download=lamp.png",
        gone: None,
    }
    [request] = bucket.requests
    assert str(request.url) == "https://p.example.com/storage/v1/object/sign/outputs"
    assert request.headers["apikey"] == KEY
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(request.content)["paths"] == [PATH, gone]


def test_nothing_to_sign_or_remove_is_no_call() -> None:
    """An empty list asks nobody."""
    bucket = Bucket(httpx.ConnectError("x"))

    assert bucket.signer.sign([], 600) == {}
    bucket.signer.remove([])
    assert bucket.requests == []


def test_an_upload_replaces_and_names_its_type() -> None:
    """The content type is the sniffed one, and a repeated upload is no conflict."""
    bucket = Bucket(httpx.Response(200, json={"Key": f"outputs/{PATH}", "Id": str(USER)}))

    bucket.signer.upload(PATH, b"\x89PNG", "image/png")

    [request] = bucket.requests
    assert request.method == "POST"
    assert request.url.path == f"/storage/v1/object/outputs/{PATH}"
    assert request.headers["x-upsert"] == "true"
    assert b"Content-Type: image/png" in request.content


def test_a_signed_upload_goes_to_the_bucket_of_uploads() -> None:
    """A browser gets the whole URL and its token."""
    bucket = Bucket(
        httpx.Response(
            200, json={"url": f"/object/upload/sign/uploads/{PATH}?token=a.b.c", "token": "a.b.c"}
        )
    )

    assert bucket.signer.create_signed_upload(PATH) == SignedUpload(
        f"https://p.example.com/storage/v1/object/upload/sign/uploads/{PATH}?token=a.b.c",
        "a.b.c",
        PATH,
    )


def test_files_are_removed_by_their_exact_names() -> None:
    """The names travel in the body; what is already gone is no error."""
    bucket = Bucket(httpx.Response(200, json=[]))

    bucket.signer.remove([PATH])

    [request] = bucket.requests
    assert (request.method, json.loads(request.content)) == ("DELETE", {"prefixes": [PATH]})


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        (httpx.Response(206, content=b"head", headers={"content-range": "bytes 0-3/9000"}), 9000),
        (httpx.Response(200, content=b"headless"), 8),
        (httpx.Response(200, content=b"he"), 2),
    ],
)
def test_the_beginning_of_a_file_is_read(answer: httpx.Response, size: int) -> None:
    """A range is asked for; a server that sends the whole is cut short; the size is the whole file's."""
    bucket = Bucket(answer)

    head = bucket.signer.head(PATH, 4)

    assert head == FileHead(b"head"[: min(size, 4)], size)
    [request] = bucket.requests
    assert request.url.path == f"/storage/v1/object/{UPLOADS}/{PATH}"
    assert request.headers["range"] == "bytes=0-3"
    assert request.headers["apikey"] == KEY


def test_no_more_than_asked_is_read() -> None:
    """However much a server sends, reading ends with the chunk that suffices."""
    sent = []

    def flood() -> Iterator[bytes]:
        while True:
            sent.append(1)
            yield b"x" * 10

    bucket = Bucket(httpx.Response(200, content=flood(), headers={"content-length": "99999"}))

    assert bucket.signer.head(PATH, 64).data == b"x" * 64
    assert len(sent) <= 8


def test_a_folder_lists_its_files() -> None:
    """Names, types and sizes; what is a folder within is left out."""
    file = {"mimetype": "image/png", "size": 7}
    bucket = Bucket(
        httpx.Response(
            200,
            json=[
                {"name": "0.png", "id": "x", "metadata": file},
                {"name": "inner", "id": None, "metadata": None},
            ],
        )
    )

    assert bucket.signer.folder("a/b") == [StoredFile("0.png", "image/png", 7)]
    [request] = bucket.requests
    assert request.url.path == "/storage/v1/object/list/outputs"
    assert json.loads(request.content)["prefix"] == "a/b"


CALLS: dict[str, Callable[[StorageSigner], Any]] = {
    "sign": lambda signer: signer.sign([PATH], 600),
    "create_signed_upload": lambda signer: signer.create_signed_upload(PATH),
    "upload": lambda signer: signer.upload(PATH, b"x", "image/png"),
    "remove": lambda signer: signer.remove([PATH]),
    "head": lambda signer: signer.head(PATH, 64),
    "folder": lambda signer: signer.folder("a/b"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        refused("429", "too_many_connections", 429),
        refused("500", "internal", 500),
        refused("503", "unavailable"),
        httpx.Response(502, html="<h1>bad gateway</h1>"),
        refused("507", "insufficient_storage"),
        refused("402", "exceed_storage_size_quota", 402),
        refused("403", "Unauthorized"),
        refused("404", "Bucket not found"),
        httpx.Response(401, json={"message": "no key"}),
        httpx.Response(302, headers={"location": "https://evil.example.com"}),
    ],
)
def test_a_storage_that_is_away_is_unavailability(call: Any, answer: Any) -> None:
    """What passes, and what the operator has to mend, is told as such, for every call."""
    with pytest.raises(UnavailableError):
        call(Bucket(answer).signer)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refused("404", "not_found"), "not_found"),
        (refused("415", "invalid_mime_type"), "invalid_mime_type"),
        (refused("413", "Payload too large"), "Payload too large"),
        (refused("400", "InvalidKey"), "InvalidKey"),
        (httpx.Response(404, json={"message": "no words"}), "InternalError"),
    ],
)
def test_a_refusal_for_good_keeps_its_code(call: Any, answer: Any, code: Any) -> None:
    """What would be refused again is told as such, and shows no key."""
    with pytest.raises(StoragePermanentError) as caught:
        call(Bucket(answer).signer)

    assert caught.value.storage_code == code
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("call", [CALLS["sign"], CALLS["create_signed_upload"], CALLS["upload"]])
@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<h1>hello</h1>"),
        httpx.Response(200, json={}),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"url": "/x", "token": ""}),
    ],
)
def test_a_success_that_cannot_be_read_is_no_success(call: Any, answer: Any) -> None:
    """An answer without what was asked for counts as away."""
    with pytest.raises(UnavailableError):
        call(Bucket(answer).signer)


def test_redirects_are_not_followed() -> None:
    """The key goes to the configured project only."""
    bucket = Bucket(httpx.Response(302, headers={"location": "https://evil.example.com"}))

    with pytest.raises(UnavailableError):
        bucket.signer.head(PATH, 4)
    assert len(bucket.requests) == 1
