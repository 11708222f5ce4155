"""The migrations' storage policies, asked through the real client: who may do what with whose."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError

from .conftest import Person

Clients = Callable[..., SyncStorageClient]
PNG: Any = {"content-type": "image/png"}
HIDDEN = "Either the object does not exist or you do not have access to it"


@pytest.fixture(params=["outputs", "uploads"])
def bucket(request: pytest.FixtureRequest) -> str:
    """Name each private bucket of the product."""
    return str(request.param)


def paid_path(admin: psycopg.Connection, alice: Person) -> str:
    """Return where the output of a generation lies that Alice has paid."""
    row = admin.execute(
        "insert into public.generations (user_id, status, kind, model, prompt, idempotency_key,"
        " request_hash, reservation_id, cost_credits, output_count)"
        " values (%s, 'succeeded', 'image', 'm', 'p', gen_random_uuid(), 'h', gen_random_uuid(), 1, 1)"
        " returning id",
        (alice.id,),
    ).fetchone()
    assert row
    return f"{alice.id}/{row[0]}/0.png"


@pytest.fixture
def theirs(new_storage: Clients, admin: psycopg.Connection, alice: Person, bucket: str) -> str:
    """Put an object into Alice's folder, as the backend does."""
    path = paid_path(admin, alice)
    new_storage(secret=True).from_(bucket).upload(path, b"picture", PNG)
    return path


@pytest.fixture(params=["another user", "nobody"])
def stranger(request: pytest.FixtureRequest, new_storage: Clients, bucket: str, bob: Person) -> Any:
    """Return the bucket as somebody sees it who has nothing to do with the object."""
    return new_storage(bob if request.param == "another user" else None).from_(bucket)


def test_owner_reads_own_objects(
    http: httpx.Client, new_storage: Clients, alice: Person, bucket: str, theirs: str
) -> None:
    """The owner downloads, lists and signs what lies in the own folder."""
    own: Any = new_storage(alice).from_(bucket)
    assert own.download(theirs) == b"picture"
    assert own.exists(theirs)
    assert [entry["name"] for entry in own.list(theirs.rpartition("/")[0])] == ["0.png"]
    assert http.get(own.create_signed_url(theirs, 60)["signedURL"]).content == b"picture"


def test_stranger_cannot_tell_that_the_object_exists(stranger: Any, theirs: str) -> None:
    """To anybody else the object looks like one that does not exist."""
    calls: tuple[Callable[[], Any], ...] = (
        lambda: stranger.download(theirs),
        lambda: stranger.info(theirs),
        lambda: stranger.create_signed_url(theirs, 60),
        lambda: stranger.copy(theirs, f"{theirs}.copy"),
        lambda: stranger.move(theirs, f"{theirs}.moved"),
    )
    for call in calls:
        with pytest.raises(StorageApiError) as refusal:
            call()
        assert (refusal.value.status, refusal.value.code) == ("404", "not_found")
    assert stranger.exists(theirs) is False
    assert stranger.list(theirs.rpartition("/")[0]) == []
    assert stranger.list_v2({"prefix": theirs}).objects == []
    signed = stranger.create_signed_urls([theirs], 60)
    assert (signed[0]["error"], signed[0]["signedURL"]) == (HIDDEN, None)


def test_stranger_cannot_write_into_the_folder(
    stranger: Any, theirs: str, admin: psycopg.Connection, bucket: str
) -> None:
    """Nobody else may add, replace, sign or remove in the owner's folder."""
    fresh = f"{theirs}.new"
    calls: tuple[Callable[[], Any], ...] = (
        lambda: stranger.upload(fresh, b"x", PNG),
        lambda: stranger.upload(theirs, b"x", {**PNG, "upsert": "true"}),
        lambda: stranger.create_signed_upload_url(fresh),
    )
    for call in calls:
        with pytest.raises(StorageApiError) as refusal:
            call()
        assert (refusal.value.status, refusal.value.code) == ("403", "Unauthorized")
    with pytest.raises(StorageApiError) as refusal:
        stranger.update(theirs, b"x", PNG)
    assert refusal.value.status == "404"
    assert stranger.remove([theirs]) == []
    rows = admin.execute(
        "select name, metadata ->> 'size' from storage.objects where bucket_id = %s"
        " and starts_with(name, %s)",
        (bucket, theirs),
    ).fetchall()
    assert rows == [(theirs, "7")]


def test_owner_only_reads_outputs(
    new_storage: Clients, admin: psycopg.Connection, alice: Person
) -> None:
    """What was generated can be read by its owner but neither added, replaced nor removed."""
    path = paid_path(admin, alice)
    new_storage(secret=True).from_("outputs").upload(path, b"picture", PNG)
    own: Any = new_storage(alice).from_("outputs")
    calls: tuple[Callable[[], Any], ...] = (
        lambda: own.upload(f"{path}.2", b"x", PNG),
        lambda: own.create_signed_upload_url(f"{path}.2"),
        lambda: own.upload(path, b"x", {**PNG, "upsert": "true"}),
    )
    for call in calls:
        with pytest.raises(StorageApiError) as refusal:
            call()
        assert refusal.value.status == "403"
    assert own.remove([path]) == []
    assert own.download(path) == b"picture"


def test_owner_adds_and_removes_uploads(new_storage: Clients, alice: Person) -> None:
    """Uploads are the user's own: added once, by hand or by signed URL, and removed."""
    path = f"{alice.id}/{uuid.uuid4()}.png"
    own: Any = new_storage(alice).from_("uploads")
    token = own.create_signed_upload_url(path)["token"]
    new_storage().from_("uploads").upload_to_signed_url(path, token, b"picture", PNG)
    own.upload(f"{path}.2", b"picture", PNG)
    with pytest.raises(StorageApiError) as refusal:
        own.upload(path, b"x", {**PNG, "upsert": "true"})
    assert refusal.value.status == "403"
    removed = own.remove([path, f"{path}.2"])
    assert sorted(row["name"] for row in removed) == [path, f"{path}.2"]


@pytest.mark.parametrize("place", ["", "{bob}/"])
def test_owner_stays_in_the_own_folder(
    new_storage: Clients, alice: Person, bob: Person, place: str
) -> None:
    """A user adds nothing at the top of the bucket or in another user's folder."""
    name = f"{place.format(bob=bob.id)}{uuid.uuid4()}.png"
    with pytest.raises(StorageApiError) as refusal:
        new_storage(alice).from_("uploads").upload(name, b"x", PNG)
    assert refusal.value.status == "403"


def test_buckets_take_only_media(new_storage: Clients, bucket: str) -> None:
    """The product's buckets are private and take no other types, not even from the backend."""
    storage = new_storage(secret=True)
    assert storage.get_bucket(bucket).public is False
    with pytest.raises(StorageApiError) as refusal:
        storage.from_(bucket).upload("x/page.html", b"x", {"content-type": "text/html"})
    assert refusal.value.status == "415"
