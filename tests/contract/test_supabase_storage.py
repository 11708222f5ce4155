"""The real storage3 client, unchanged, as user A, user B, nobody and the secret key."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError

from local.standins.supabase import Supabase

from .conftest import Person

Clients = Callable[..., SyncStorageClient]
TEXT: Any = {"content-type": "text/plain"}


@pytest.fixture
def mine(new_storage: Clients, alice: Person) -> Any:
    """Return the bucket `mixes` as Alice sees it."""
    return new_storage(alice).from_("mixes")


@pytest.fixture
def path(alice: Person) -> str:
    """Make a fresh name in Alice's folder."""
    return f"{alice.id}/{uuid.uuid4()}/a b (1).txt"


def refused(call: Callable[[], object]) -> tuple[str, str, str]:
    """Return status, error and message of the refusal of `call`."""
    with pytest.raises(StorageApiError) as refusal:
        call()
    return str(refusal.value.status), str(refusal.value.code), refusal.value.message


HIDDEN = ("404", "not_found", "Object not found")
DENIED = ("403", "Unauthorized", "new row violates row-level security policy")
DUPLICATE = ("409", "Duplicate", "The resource already exists")


# buckets ------------------------------------------------------------------------------------------
def test_secret_key_makes_and_reads_buckets(new_storage: Clients) -> None:
    """The secret key makes a bucket once and reads it back."""
    storage, name = new_storage(secret=True), f"bucket-{uuid.uuid4()}"
    options: Any = {"file_size_limit": "5MB", "allowed_mime_types": ["audio/*"]}
    assert storage.create_bucket(name, options=options) == {"name": name}
    assert refused(lambda: storage.create_bucket(name)) == DUPLICATE
    bucket = storage.get_bucket(name)
    assert (bucket.name, bucket.public, bucket.file_size_limit) == (name, False, 5_000_000)
    assert bucket.allowed_mime_types == ["audio/*"]
    assert name in {found.name for found in storage.list_buckets()}


def test_users_neither_make_nor_see_buckets(new_storage: Clients, alice: Person) -> None:
    """Without a policy on storage.buckets a user sees none and makes none."""
    storage = new_storage(alice)
    assert storage.list_buckets() == []
    assert refused(lambda: storage.get_bucket("mixes"))[:2] == ("404", "Bucket not found")
    assert refused(lambda: storage.create_bucket("mine")) == DENIED


# uploads ------------------------------------------------------------------------------------------
def test_upload_writes_row_and_bytes(
    mine: Any, path: str, alice: Person, admin: psycopg.Connection, files: Path
) -> None:
    """An upload leaves a row with its owner and the bytes under the row's version."""
    answer = mine.upload(path, b"hello", {**TEXT, "metadata": {"take": 1}})
    assert answer.full_path == f"mixes/{path}"
    row = admin.execute(
        "select owner_id, owner::text, version, metadata, user_metadata from storage.objects"
        " where bucket_id = 'mixes' and name = %s",
        (path,),
    ).fetchone()
    assert row is not None
    assert row[:2] == (alice.id, alice.id)
    assert row[3].pop("lastModified").endswith("Z")
    assert row[3] == {
        "eTag": '"5d41402abc4b2a76b9719d911017c592"',
        "size": 5,
        "mimetype": "text/plain",
        "cacheControl": "max-age=3600",
        "contentLength": 5,
        "httpStatusCode": 200,
    }
    assert row[4] == {"take": 1}
    assert (files / row[2]).read_bytes() == b"hello"


def test_upload_again_needs_upsert(mine: Any, path: str, files: Path) -> None:
    """A second upload is refused, unless upsert asks for it: then the id stays."""
    mine.upload(path, b"one", TEXT)
    assert refused(lambda: mine.upload(path, b"two", TEXT)) == DUPLICATE
    assert mine.download(path) == b"one"
    before, kept = mine.info(path), len(list(files.iterdir()))
    mine.upload(path, b"three", {**TEXT, "upsert": "true"})
    after = mine.info(path)
    assert mine.download(path) == b"three"
    assert after["id"] == before["id"]
    assert after["version"] != before["version"]
    assert len(list(files.iterdir())) == kept


def test_update_replaces_what_exists(mine: Any, path: str) -> None:
    """An update replaces an object and finds none to replace otherwise."""
    assert refused(lambda: mine.update(path, b"x", TEXT)) == HIDDEN
    mine.upload(path, b"one", TEXT)
    mine.update(path, b"two", TEXT)
    assert mine.download(path) == b"two"


@pytest.mark.parametrize(
    ("name", "data", "kind", "expected"),
    [
        ("a.bin", b"x", "image/png", ("415", "invalid_mime_type")),
        ("a.txt", b"x" * 1001, "text/plain", ("413", "Payload too large")),
        ("ä.txt", b"x", "text/plain", ("400", "InvalidKey")),
        ("a#.txt", b"x", "text/plain", ("400", "InvalidKey")),
    ],
)
def test_upload_refuses_what_the_bucket_does_not_take(
    mine: Any, alice: Person, name: str, data: bytes, kind: str, expected: tuple[str, str]
) -> None:
    """Type, size and name are checked before anything is stored."""
    refusal = refused(lambda: mine.upload(f"{alice.id}/{name}", data, {"content-type": kind}))
    assert refusal[:2] == expected


def test_wildcard_type_and_zero_bytes_are_taken(mine: Any, alice: Person) -> None:
    """A bucket that takes audio/* takes any audio, and an empty file is a file."""
    mine.upload(f"{alice.id}/empty.mp3", b"", {"content-type": "audio/mpeg"})
    assert mine.download(f"{alice.id}/empty.mp3") == b""


def test_upload_to_a_missing_bucket(new_storage: Clients, alice: Person) -> None:
    """A bucket that does not exist is said to be missing, whoever asks."""
    bucket = new_storage(alice).from_("nowhere")
    for call in (
        lambda: bucket.upload("a.txt", b"x", TEXT),
        lambda: bucket.download("a.txt"),
        lambda: bucket.create_signed_upload_url("a.txt"),
    ):
        assert refused(call)[:2] == ("404", "Bucket not found")


def test_raw_upload_keeps_its_headers(
    http: httpx.Client, supabase: Supabase, alice: Person, mine: Any, path: str
) -> None:
    """A raw body, as supabase-js sends in Node, takes type, caching and metadata from headers."""
    headers = {
        **_headers(supabase, alice.token),
        "content-type": "text/plain",
        "x-metadata": base64.b64encode(json.dumps({"k": "v"}).encode()).decode(),
    }
    body = b"\r\n--binary\r\n" + bytes(range(256))
    url = f"{supabase.url}/storage/v1/object/mixes/{path}"
    answer = http.post(url, content=body, headers=headers)
    assert answer.json()["Key"] == f"mixes/{path}"
    assert mine.download(path) == body
    info = mine.info(path)
    assert info["metadata"] == {"k": "v"}
    assert info["cache_control"] == "no-cache"


# reading ------------------------------------------------------------------------------------------
def test_download_has_the_headers_of_the_real_one(
    http: httpx.Client, supabase: Supabase, mine: Any, alice: Person, path: str
) -> None:
    """A download carries the object's own caching, its ETag, and answers ranges and conditions."""
    mine.upload(path, b"0123456789", TEXT)
    url = f"{supabase.url}/storage/v1/object/mixes/{path}"
    headers = _headers(supabase, alice.token)
    answer = http.get(url, headers=headers)
    assert answer.content == b"0123456789"
    assert answer.headers["cache-control"] == "max-age=3600"
    assert "expires" not in answer.headers
    assert answer.headers["x-robots-tag"] == "none"
    ranges = {"bytes=2-4": b"234", "bytes=7-": b"789", "bytes=-2": b"89", "bytes=8-99": b"89"}
    for wanted, part in ranges.items():
        partial = http.get(url, headers={**headers, "range": wanted})
        assert (partial.status_code, partial.content) == (206, part)
    outside = http.get(url, headers={**headers, "range": "bytes=10-"})
    assert (outside.status_code, outside.json()["statusCode"]) == (400, "416")
    conditions = {
        "if-none-match": answer.headers["etag"],
        "if-modified-since": answer.headers["last-modified"],
    }
    for name, value in conditions.items():
        assert http.get(url, headers={**headers, name: value}).status_code == 304
    head = http.head(url, headers=headers)
    assert (head.content, head.headers["content-length"]) == (b"", "10")


def test_public_bucket_needs_no_key(
    http: httpx.Client, supabase: Supabase, new_storage: Clients, mine: Any, path: str
) -> None:
    """Only a public bucket is readable without a key; a private one looks missing."""
    new_storage(secret=True).from_("open").upload(path, b"hi", TEXT)
    public = new_storage().from_("open").get_public_url(path, {"download": "my file.txt"})
    answer = http.get(public)
    assert answer.content == b"hi"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=my%20file.txt; filename*=UTF-8''my%20file.txt"
    )
    mine.upload(path, b"hi", TEXT)
    private = http.get(mine.get_public_url(path))
    assert (private.status_code, private.json()["code"]) == (400, "NoSuchBucket")


def test_lost_bytes_are_told_from_lost_rows(
    http: httpx.Client, mine: Any, path: str, supabase: Supabase, alice: Person, files: Path
) -> None:
    """A row whose bytes are gone answers 404 and must not be cached."""
    mine.upload(path, b"x", TEXT)
    (files / mine.info(path)["version"]).unlink()
    url = f"{supabase.url}/storage/v1/object/mixes/{path}"
    answer = http.get(url, headers=_headers(supabase, alice.token))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "statusCode": "404",
        "error": "Not found",
        "message": "The resource was not found",
        "code": "NoSuchKey",
    }


def test_info_and_exists(mine: Any, path: str) -> None:
    """Info tells about an object what the real one tells, exists says whether it is there."""
    assert mine.exists(path) is False
    mine.upload(path, b"hello", TEXT)
    assert mine.exists(path) is True
    info = mine.info(path)
    assert info["name"] == path
    assert info["size"] == 5
    assert info["etag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert info["content_type"] == "text/plain"
    assert info["metadata"] == {}


# signed URLs --------------------------------------------------------------------------------------
def test_signed_url_opens_the_file_to_anybody(http: httpx.Client, mine: Any, path: str) -> None:
    """A signed URL needs no key, expires with its token, and names the download."""
    mine.upload(path, b"hello", TEXT)
    plain = mine.create_signed_url(path, 60)["signedURL"]
    answer = http.get(plain)
    assert answer.content == b"hello"
    assert "cache-control" not in answer.headers
    assert answer.headers["expires"].endswith("GMT")
    assert "content-disposition" not in answer.headers
    assert http.head(plain).headers["content-length"] == "5"
    named = mine.create_signed_url(path, 60, {"download": "my file.mp3"})["signedURL"]
    assert http.get(named).headers["content-disposition"] == (
        "attachment; filename=my%20file.mp3; filename*=UTF-8''my%20file.mp3"
    )
    unnamed = mine.create_signed_url(path, 60, {"download": True})["signedURL"]
    assert http.get(unnamed).headers["content-disposition"] == "attachment;"


def test_signed_url_token_is_as_documented(mine: Any, path: str) -> None:
    """The token names path, scope and times, in a header with nothing but the algorithm."""
    mine.upload(path, b"hello", TEXT)
    token = httpx.URL(mine.create_signed_url(path, 90)["signedURL"]).params["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert jwt.get_unverified_header(token) == {"alg": "HS256"}
    assert claims["exp"] - claims["iat"] == 90
    assert (claims["url"], claims["scope"]) == (f"mixes/{path}", "download")


def test_many_urls_are_signed_in_order(http: httpx.Client, mine: Any, path: str) -> None:
    """Signing many keeps the order and tells per path what is missing or hidden."""
    mine.upload(path, b"hello", TEXT)
    found = mine.create_signed_urls([f"{path}.no", path], 60)
    assert found[0]["signedURL"] is None
    assert found[0]["error"] == ("Either the object does not exist or you do not have access to it")
    assert found[1]["error"] is None
    assert http.get(found[1]["signedURL"]).content == b"hello"


def test_signed_urls_cannot_be_bent(
    http: httpx.Client, supabase: Supabase, mine: Any, path: str, alice: Person
) -> None:
    """A signed URL opens its own path only, in its own way, while it lasts."""
    other = f"{alice.id}/{uuid.uuid4()}.txt"
    mine.upload(path, b"hello", TEXT)
    mine.upload(other, b"other", TEXT)
    url = mine.create_signed_url(path, 60)["signedURL"]
    upload = mine.create_signed_upload_url(f"{path}.new")["token"]
    base = f"{supabase.url}/storage/v1/object/sign/mixes"
    token = httpx.URL(url).params["token"]
    bent = {
        f"{base}/{other}?token={token}": ("InvalidSignature", "Invalid signature"),
        f"{base}/{path}?token={token[:-4]}AAAA": ("InvalidJWT", "signature verification failed"),
        f"{base}/{path}?token=x": ("InvalidJWT", "Invalid Compact JWS"),
        f"{base}/{path}": ("InvalidRequest", "querystring must have required property 'token'"),
        f"{base}/{path}.new?token={upload}": (
            "InvalidSignature",
            "Token is not scoped for download",
        ),
    }
    for target, expected in bent.items():
        answer = http.get(target)
        assert answer.status_code == 400
        assert (answer.json()["code"], answer.json()["message"]) == expected
    short = mine.create_signed_url(path, 1)["signedURL"]
    time.sleep(1.1)
    late = http.get(short).json()
    assert (late["code"], late["message"]) == ("InvalidJWT", '"exp" claim timestamp check failed')


def test_signing_needs_a_lifetime(mine: Any, path: str) -> None:
    """A lifetime of nothing is refused."""
    mine.upload(path, b"hello", TEXT)
    refusal = refused(lambda: mine.create_signed_url(path, 0))
    assert refusal == ("400", "Error", "body/expiresIn must be >= 1")


def test_signed_url_ends_with_its_object(http: httpx.Client, mine: Any, path: str) -> None:
    """A signed URL cannot be revoked but by removing the object."""
    mine.upload(path, b"hello", TEXT)
    url = mine.create_signed_url(path, 60)["signedURL"]
    mine.remove([path])
    assert http.get(url).json()["code"] == "NoSuchKey"


def test_signed_upload_writes_for_its_signer(mine: Any, path: str, alice: Person) -> None:
    """A signed upload needs no key, writes for who signed it, and only once."""
    signed = mine.create_signed_upload_url(path)
    claims = jwt.decode(signed["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 7200
    assert (claims["owner"], claims["upsert"]) == (alice.id, False)
    mine.upload_to_signed_url(path, signed["token"], b"hello", TEXT)
    assert mine.download(path) == b"hello"
    again = refused(lambda: mine.upload_to_signed_url(path, signed["token"], b"x", TEXT))
    assert again == DUPLICATE
    assert refused(lambda: mine.create_signed_upload_url(path)) == DUPLICATE


def test_signed_upload_keeps_the_bucket_limits(
    http: httpx.Client, mine: Any, path: str, supabase: Supabase
) -> None:
    """A signed upload is still bound by the bucket's types and size, and sends no key."""
    token = mine.create_signed_upload_url(path)["token"]
    picture: Any = {"content-type": "image/png"}
    big = b"x" * 1001
    assert refused(lambda: mine.upload_to_signed_url(path, token, b"x", picture))[0] == "415"
    assert refused(lambda: mine.upload_to_signed_url(path, token, big, TEXT))[0] == "413"
    url = f"{supabase.url}/storage/v1/object/upload/sign/mixes/{path}?token={token}"
    answer = http.put(url, content=b"hello", headers={"content-type": "text/plain"})
    assert answer.json() == {"Key": f"mixes/{path}"}


def test_signed_upsert_comes_from_the_token(mine: Any, path: str) -> None:
    """Whether a signed upload may overwrite was decided when it was signed."""
    mine.upload(path, b"one", TEXT)
    options: Any = type("Options", (), {"upsert": "true"})()  # storage3 wants an attribute
    signed = mine.create_signed_upload_url(path, options)
    mine.upload_to_signed_url(path, signed["token"], b"two", TEXT)
    assert mine.download(path) == b"two"


# listing and changing -----------------------------------------------------------------------------
def test_list_is_one_level_deep(mine: Any, alice: Person) -> None:
    """A list shows files and folders of one level, sorted and paged."""
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        mine.upload(f"{alice.id}/{name}", b"x", TEXT)
    entries = mine.list(alice.id)
    assert [entry["name"] for entry in entries] == ["a.txt", "b.txt", "sub"]
    assert entries[0]["metadata"]["size"] == 1
    folder = entries[2]
    assert {key for key, value in folder.items() if value is not None} == {"name"}
    order: Any = {"sortBy": {"column": "name", "order": "desc"}, "limit": 2}
    assert [e["name"] for e in mine.list(alice.id, order)] == ["sub", "b.txt"]
    paged: Any = {"limit": 1, "offset": 1}
    assert [e["name"] for e in mine.list(alice.id, paged)] == ["b.txt"]
    by_time: Any = {"sortBy": {"column": "created_at", "order": "desc"}}
    assert [e["name"] for e in mine.list(alice.id, by_time)] == ["sub", "a.txt", "b.txt"]
    assert [e["name"] for e in mine.list(f"{alice.id}/sub/")] == ["c.txt"]
    assert [e["name"] for e in mine.list(alice.id, {"search": "A"})] == ["a.txt"]


def test_list_v2_pages_through_everything(mine: Any, alice: Person) -> None:
    """The second list gives full names, page by page, and folds folders when asked."""
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        mine.upload(f"{alice.id}/{name}", b"x", TEXT)
    options: Any = {"prefix": f"{alice.id}/", "limit": 2}
    first = mine.list_v2(options)
    assert first.hasNext is True
    assert [entry.name for entry in first.objects] == [f"{alice.id}/a.txt", f"{alice.id}/b.txt"]
    second = mine.list_v2({**options, "cursor": first.nextCursor})
    assert second.hasNext is False
    assert [entry.name for entry in second.objects] == [f"{alice.id}/sub/c.txt"]
    folded = mine.list_v2({"prefix": f"{alice.id}/", "with_delimiter": True})
    assert [entry.name for entry in folded.folders] == [f"{alice.id}/sub/"]


def test_remove_tells_what_is_gone(mine: Any, path: str, alice: Person, files: Path) -> None:
    """Removing takes exact names, tells the rows it removed, and leaves no bytes behind."""
    mine.upload(path, b"x", TEXT)
    version = mine.info(path)["version"]
    rows = mine.remove([path, f"{path}.no"])
    assert [row["name"] for row in rows] == [path]
    assert (rows[0]["owner"], rows[0]["owner_id"]) == (alice.id, alice.id)
    assert rows[0]["created_at"].endswith("Z")
    assert not (files / version).exists()
    assert mine.remove([path]) == []


def test_move_and_copy(mine: Any, path: str) -> None:
    """A moved object keeps its id, a copy gets its own; neither overwrites."""
    mine.upload(path, b"hello", TEXT)
    before = mine.info(path)
    assert mine.move(path, f"{path}.2") == {"message": "Successfully moved"}
    assert mine.info(f"{path}.2")["id"] == before["id"]
    assert refused(lambda: mine.move(path, f"{path}.3")) == HIDDEN
    copied = mine.copy(f"{path}.2", path)
    assert copied["Key"] == f"mixes/{path}"
    assert copied["Id"] not in ("", before["id"])
    assert refused(lambda: mine.copy(f"{path}.2", path)) == DUPLICATE
    assert refused(lambda: mine.move(f"{path}.2", path)) == DUPLICATE
    mine.remove([f"{path}.2"])
    assert mine.download(path) == b"hello"


# keys and tokens ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "No API key found in request"),
        ({"apikey": "sb_publishable_wrong"}, "Invalid API key"),
        (
            {"apikey": "SECRET", "user-agent": "Mozilla/5.0 (X11; Linux x86_64)"},
            "Forbidden use of secret API key in browser",
        ),
    ],
)
def test_gateway_wants_a_key(
    http: httpx.Client, supabase: Supabase, headers: dict[str, str], message: str
) -> None:
    """Without a known key nobody gets past the gateway, and a browser not with the secret one."""
    headers = {k: v.replace("SECRET", supabase.secret_key) for k, v in headers.items()}
    for path in ("storage/v1/bucket", "auth/v1/settings", "auth/v1/user", "rest/v1/generations"):
        answer = http.get(f"{supabase.url}/{path}", headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"message": message})


def test_key_alone_is_enough(http: httpx.Client, supabase: Supabase, new_storage: Clients) -> None:
    """An API key without Authorization acts as the key's role."""
    headers = {"apikey": supabase.secret_key}
    buckets = http.get(f"{supabase.url}/storage/v1/bucket", headers=headers).json()
    assert {bucket["name"] for bucket in buckets} >= {"mixes", "open"}


def test_keys_that_differ_are_not_translated(http: httpx.Client, supabase: Supabase) -> None:
    """An opaque key in Authorization that is not the apikey reaches the service as it is."""
    headers = {
        "apikey": supabase.publishable_key,
        "authorization": f"Bearer {supabase.secret_key}",
    }
    answer = http.get(f"{supabase.url}/storage/v1/bucket", headers=headers)
    assert answer.status_code == 400
    assert answer.json() == {
        "statusCode": "403",
        "error": "Unauthorized",
        "message": "Invalid Compact JWS",
        "code": "AccessDenied",
    }


def test_bad_tokens_are_denied(supabase: Supabase, new_storage: Clients, alice: Person) -> None:
    """Storage refuses forged, malformed and expired tokens with the words of the real one."""
    expired = supabase.sign_token(sub=alice.id, exp=int(time.time()) - 10)
    forged = jwt.encode({"role": "service_role"}, "x" * 32, algorithm="HS256")
    tokens = {
        expired: '"exp" claim timestamp check failed',
        forged: "signature verification failed",
        "a.b.c": "JWS Protected Header is invalid",
        "abc": "Invalid Compact JWS",
    }
    for token, message in tokens.items():
        person = Person(alice.id, alice.email, token)
        storage = new_storage(person)
        refusal = refused(lambda storage=storage: storage.list_buckets())  # type: ignore[misc]
        assert refusal == ("403", "Unauthorized", message)


def test_browsers_are_let_in(http: httpx.Client, supabase: Supabase) -> None:
    """A preflight is answered, and every answer lets a page read the headers the clients need."""
    preflight = http.options(f"{supabase.url}/auth/v1/token")
    assert preflight.status_code == 204
    allowed = preflight.headers["access-control-allow-headers"]
    for name in ("authorization", "apikey", "content-type", "x-client-info", "x-upsert"):
        assert name in allowed
    refusal = http.get(f"{supabase.url}/auth/v1/user")
    assert refusal.headers["access-control-allow-origin"] == "*"
    exposed = refusal.headers["access-control-expose-headers"]
    assert "X-Supabase-Api-Version" in exposed


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "auth/v1/recover"),
        ("POST", "auth/v1/otp"),
        ("GET", "auth/v1/admin/users"),
        ("GET", "storage/v1/render/image/authenticated/mixes/a.png"),
        ("DELETE", "storage/v1/bucket/mixes"),
        ("GET", "rest/v1/generations"),
    ],
)
def test_unknown_paths_are_not_found(
    http: httpx.Client, supabase: Supabase, method: str, path: str
) -> None:
    """What the stand-in does not cover answers 404 and changes nothing."""
    headers = {"apikey": supabase.secret_key}
    answer = http.request(method, f"{supabase.url}/{path}", headers=headers)
    assert answer.status_code == 404


def _headers(supabase: Supabase, token: str) -> dict[str, str]:
    return {"apikey": supabase.publishable_key, "authorization": f"Bearer {token}"}
