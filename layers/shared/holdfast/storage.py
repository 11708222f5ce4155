"""
Supabase Storage: private files, reached by signed URLs.

Only `storage3` is used; the whole `supabase` package would triple the import time. The secret key
passes row level security, so who owns a file is decided in SQL before anything here is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn
from uuid import UUID

import httpx
from pydantic import ValidationError
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError
from storage3.types import CreateSignedURLsOptions
from storage3.utils import StorageException

from holdfast.errors import StoragePermanentError, UnavailableError

OUTPUTS = "outputs"
UPLOADS = "uploads"

_TIMEOUT = httpx.Timeout(15, connect=3)


# What is wrong with one file and stays so. All else (the key, the bucket, the space, the bill) is the operator's to
# mend, and a user's output is not given up for it.
_FILES_OWN = frozenset({"400", "404", "413", "415", "416"})
_NO_BUCKET = frozenset({"Bucket not found", "NoSuchBucket"})


@dataclass(frozen=True)
class FileHead:
    """How a file begins, and how large the whole of it is."""

    data: bytes
    size: int


@dataclass(frozen=True)
class StoredFile:
    """A file in a folder."""

    name: str
    content_type: str
    size: int


@dataclass(frozen=True)
class SignedUpload:
    """Where a browser may put one file, for two hours. The URL holds the token."""

    url: str
    token: str
    path: str


def output_folder(user_id: UUID, generation_id: UUID) -> str:
    """Return where the outputs of a generation lie in the bucket of outputs."""
    return f"{user_id}/{generation_id}"


def output_path(user_id: UUID, generation_id: UUID, number: int, extension: str) -> str:
    """Return where output `number` (from 0) of a generation lies in the bucket of outputs."""
    return f"{output_folder(user_id, generation_id)}/{number}.{extension}"


class StorageSigner:
    """
    Sign, write, read and remove files.

    Every method raises `UnavailableError` when storage is away or busy, and
    `StoragePermanentError` when it refused for good.
    """

    def __init__(
        self, supabase_url: str, secret_key: str, *, http: httpx.Client | None = None
    ) -> None:
        # Both headers, or the gateway does not translate the key for the service behind it.
        self._headers = {"apikey": secret_key, "Authorization": f"Bearer {secret_key}"}
        self._base_url = f"{supabase_url.rstrip('/')}/storage/v1/"
        self._http = http or httpx.Client(timeout=_TIMEOUT)
        self._client = SyncStorageClient(self._base_url, self._headers, http_client=self._http)

    def sign(
        self,
        paths: Sequence[str],
        expires_in: int,
        *,
        bucket: str = OUTPUTS,
        download: str | None = None,
    ) -> dict[str, str | None]:
        """
        Return a URL for each path, valid for `expires_in` seconds; None where there is no file.

        One call for all. With `download` a browser saves the file under that name.
        """
        if not paths:
            return {}
        options: CreateSignedURLsOptions = {"download": download} if download else {}
        with _translated_errors():
            answers = self._client.from_(bucket).create_signed_urls(
                list(paths), expires_in, options
            )
            return {path: answer["signedURL"] for path, answer in zip(paths, answers, strict=True)}

    def create_signed_upload(self, path: str, *, bucket: str = UPLOADS) -> SignedUpload:
        """Return a URL that takes one upload to `path`, which must not exist yet."""
        with _translated_errors():
            answer = self._client.from_(bucket).create_signed_upload_url(path)
            return SignedUpload(answer["signed_url"], answer["token"], path)

    def upload(self, path: str, data: bytes, content_type: str, *, bucket: str = OUTPUTS) -> None:
        """Store `data` at `path`; a file of the same name is replaced, so it can be repeated."""
        with _translated_errors():
            self._client.from_(bucket).upload(
                path,
                data,
                # Strings, both: the client fails on a bool.
                {"content-type": content_type, "upsert": "true"},
            )

    def remove(self, paths: Sequence[str], *, bucket: str = OUTPUTS) -> None:
        """Remove the files; those that are already gone are no error."""
        if paths:
            with _translated_errors():
                self._client.from_(bucket).remove(list(paths))

    def folder(self, path: str, *, bucket: str = OUTPUTS) -> list[StoredFile]:
        """Return the files right under `path`, at most 100."""
        with _translated_errors():
            return [
                StoredFile(
                    str(entry["name"]),
                    str(entry["metadata"]["mimetype"]),
                    int(entry["metadata"]["size"]),
                )
                for entry in self._client.from_(bucket).list(path)
                if entry["id"] is not None  # a folder within has none
            ]

    def head(self, path: str, count: int, *, bucket: str = UPLOADS) -> FileHead:
        """Return the first `count` bytes of a file; more are not read, whatever is sent."""
        headers = {**self._headers, "range": f"bytes=0-{count - 1}"}
        url = f"{self._base_url}object/{bucket}/{path}"
        data = bytearray()
        with _translated_errors(), self._http.stream("GET", url, headers=headers) as response:
            if not response.is_success:
                _raise_refusal(response)
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) >= count:
                    break
            # a server that knows no ranges sends the whole
            whole = response.headers.get("content-range") or response.headers["content-length"]
            return FileHead(bytes(data[:count]), int(whole.rpartition("/")[2]))


def _raise_refusal(response: httpx.Response) -> NoReturn:
    """Raise what `storage3` would."""
    try:
        body = json.loads(response.read())
        raise StorageApiError(body["message"], body["error"], body["statusCode"])
    except (KeyError, TypeError, ValueError):
        raise StorageApiError("", "InternalError", response.status_code) from None


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except StorageApiError as error:
        status = str(error.status)  # "404" from the body, or the HTTP status as a number
        if status not in _FILES_OWN or error.code in _NO_BUCKET:
            raise UnavailableError(reason=f"storage: {status} {error.code}") from error
        raise StoragePermanentError(error.code, reason=f"storage: {status} {error.code}") from error
    except httpx.HTTPError as error:
        raise UnavailableError(reason=f"storage: {type(error).__name__}") from error
    except (StorageException, ValidationError, KeyError, TypeError, ValueError) as error:
        # A success that cannot be read is no success.
        raise UnavailableError(reason=f"storage: unreadable, {type(error).__name__}") from error
