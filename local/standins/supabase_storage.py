"""
Supabase Storage as the clients see it: every row goes through the caller's role, so RLS decides.

Only the use of a signed URL runs with the rights of the table owner: the policies were asked when
it was signed. Signed URLs have a key of their own.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import jwt

from local.standins import supabase_objects as objects
from local.standins.server import Request, Response, StandIn, json_response
from local.standins.supabase_database import STORAGE, Database
from local.standins.supabase_downloads import file_response
from local.standins.supabase_errors import StorageError, guard_storage
from local.standins.supabase_listing import list_all, list_level
from local.standins.supabase_objects import Blobs, Mode
from local.standins.supabase_storage_bodies import (
    expires_in,
    names_in,
    read_body,
    source_and_target,
)
from local.standins.supabase_tokens import Tokens
from local.standins.supabase_uploads import Upload, checked_key, parse_size, read_upload
from local.standins.supabase_url_tokens import UrlTokens

PREFIX = "/storage/v1"
PROJECT_LIMIT_BYTES = 50 * 1024 * 1024
UPLOAD_URL_SECONDS = 7200
_HIDDEN = "Either the object does not exist or you do not have access to it"

Claims = dict[str, Any]


class Storage:
    """The endpoints under `/storage/v1`; `files` is the folder of the bytes."""

    def __init__(self, database: Database, tokens: Tokens, files: Path) -> None:
        self._database = database
        self._tokens = tokens
        self._blobs = Blobs(files)
        self._urls = UrlTokens()

    def add_routes(self, server: StandIn) -> None:
        """Add the endpoints to `server`; the specific ones first."""
        read = ("GET", "HEAD")
        for methods, path, handler in (
            ("POST", "/bucket", self._create_bucket),
            ("GET", "/bucket", self._list_buckets),
            ("GET", "/bucket/{bucket}", self._get_bucket),
            ("POST", "/object/list/{bucket}", self._list),
            ("POST", "/object/list-v2/{bucket}", self._list_v2),
            ("POST", "/object/move", self._move),
            ("POST", "/object/copy", self._copy),
            ("POST", "/object/upload/sign/{bucket}/{name+}", self._sign_upload),
            ("PUT", "/object/upload/sign/{bucket}/{name+}", self._upload_signed),
            ("POST", "/object/sign/{bucket}", self._sign_many),
            ("POST", "/object/sign/{bucket}/{name+}", self._sign),
            (read, "/object/sign/{bucket}/{name+}", self._download_signed),
            (read, "/object/public/{bucket}/{name+}", self._download_public),
            (read, "/object/info/{bucket}/{name+}", self._info),
            (read, "/object/authenticated/{bucket}/{name+}", self._download),
            (read, "/object/{bucket}/{name+}", self._download),
            ("POST", "/object/{bucket}/{name+}", self._upload),
            ("PUT", "/object/{bucket}/{name+}", self._replace),
            ("DELETE", "/object/{bucket}", self._remove),
        ):
            server.route(methods, PREFIX + path, guard_storage(handler))

    # buckets --------------------------------------------------------------------------------------
    def _create_bucket(self, request: Request) -> Response:
        body = read_body(request)
        bucket_id = body.get("id") or body.get("name")
        if not isinstance(bucket_id, str) or not bucket_id:
            raise StorageError.invalid("body must have required property 'name'")
        claims = self._claims(request)
        with self._database.transaction_as(claims) as connection:
            connection.execute(
                "insert into storage.buckets"
                " (id, name, owner_id, public, file_size_limit, allowed_mime_types)"
                " values (%s, %s, %s, %s, %s, %s)",
                (
                    bucket_id,
                    body.get("name") or bucket_id,
                    claims.get("sub"),
                    bool(body.get("public")),
                    parse_size(body.get("file_size_limit")),
                    body.get("allowed_mime_types"),
                ),
            )
        return json_response({"name": bucket_id})

    def _list_buckets(self, request: Request) -> Response:
        with self._database.transaction_as(self._claims(request)) as connection:
            rows = connection.execute("select * from storage.buckets order by name").fetchall()
        return json_response([{**objects.bucket_json(row), "type": "STANDARD"} for row in rows])

    def _get_bucket(self, request: Request) -> Response:
        with self._database.transaction_as(self._claims(request)) as connection:
            row = objects.bucket(connection, request.params["bucket"])
        return json_response(objects.bucket_json(row))

    # uploads --------------------------------------------------------------------------------------
    def _upload(self, request: Request) -> Response:
        upsert = request.headers.get("x-upsert") == "true"
        return self._store(request, "upsert" if upsert else "create")

    def _replace(self, request: Request) -> Response:
        return self._store(request, "replace")

    def _store(self, request: Request, mode: Mode) -> Response:
        claims = self._claims(request)
        key = self._key(request)
        upload = self._checked_upload(request)
        object_id = self._write(request, upload, claims, claims.get("sub"), mode)
        return json_response({"Key": key, "Id": object_id})

    def _sign_upload(self, request: Request) -> Response:
        claims = self._claims(request)
        key = self._key(request)
        upsert = request.headers.get("x-upsert") == "true"
        self._bucket(request.params["bucket"])
        nothing = Upload(b"", "application/octet-stream", "no-cache", None)
        with (
            self._database.transaction_as(claims) as connection,
            connection.transaction(force_rollback=True),  # only asks the policies
        ):
            objects.write(
                connection,
                request.params["bucket"],
                request.params["name"],
                nothing,
                version=str(uuid.uuid4()),
                owner=claims.get("sub"),
                mode="upsert" if upsert else "create",
            )
        owner = {"owner": claims["sub"]} if claims.get("sub") else {}
        token = self._urls.sign(key, "upload", UPLOAD_URL_SECONDS, upsert=upsert, **owner)
        url = f"/object/upload/sign/{key}?token={token}"
        return json_response({"url": url, "token": token})

    def _upload_signed(self, request: Request) -> Response:
        key = self._key(request)
        token = self._urls.verify(request, key, "upload")
        upload = self._checked_upload(request)
        mode: Mode = "upsert" if token["upsert"] else "create"
        self._write(request, upload, None, token.get("owner"), mode)
        return json_response({"Key": key})

    def _checked_upload(self, request: Request) -> Upload:
        upload = read_upload(request)
        upload.check(self._bucket(request.params["bucket"]), PROJECT_LIMIT_BYTES)
        return upload

    def _write(
        self,
        request: Request,
        upload: Upload,
        claims: Claims | None,
        owner: str | None,
        mode: Mode,
    ) -> str:
        """Store bytes and row as the caller, or as the table owner when `claims` is None."""
        database = self._database
        with (
            self._blobs.new(upload.data) as version,
            database.transaction(STORAGE)
            if claims is None
            else database.transaction_as(claims) as connection,
        ):
            object_id, replaced = objects.write(
                connection,
                request.params["bucket"],
                request.params["name"],
                upload,
                version=version,
                owner=owner,
                mode=mode,
            )
        self._blobs.remove(replaced)
        return object_id

    # downloads ------------------------------------------------------------------------------------
    def _download(self, request: Request) -> Response:
        claims = self._claims(request)
        self._bucket(request.params["bucket"])
        row = self._find_as(claims, request)
        return file_response(request, row["metadata"], self._blobs.read(row["version"]))

    def _download_public(self, request: Request) -> Response:
        if not self._bucket(request.params["bucket"])["public"]:
            raise StorageError.no_bucket()
        row = self._find_as_owner(request)
        return file_response(request, row["metadata"], self._blobs.read(row["version"]))

    def _download_signed(self, request: Request) -> Response:
        key = f"{request.params['bucket']}/{request.params['name']}"
        token = self._urls.verify(request, key, "download")
        row = self._find_as_owner(request)
        data = self._blobs.read(row["version"])
        return file_response(request, row["metadata"], data, expires=token["exp"])

    def _sign(self, request: Request) -> Response:
        claims = self._claims(request)
        seconds = expires_in(read_body(request))
        row = self._find_as(claims, request)
        return json_response({"signedURL": self._signed_url(row, seconds)})

    def _sign_many(self, request: Request) -> Response:
        claims = self._claims(request)
        body = read_body(request)
        seconds, paths = expires_in(body), names_in(body, "paths")
        with self._database.transaction_as(claims) as connection:
            rows = connection.execute(
                "select * from storage.objects where bucket_id = %s and name = any(%s)",
                (request.params["bucket"], paths),
            ).fetchall()
        found = {row["name"]: row for row in rows}
        return json_response(
            [
                {
                    "error": None if path in found else _HIDDEN,
                    "path": path,
                    "signedURL": self._signed_url(found[path], seconds) if path in found else None,
                }
                for path in paths
            ]
        )

    def _info(self, request: Request) -> Response:
        row = self._find_as(self._claims(request), request)
        info = objects.info_json(row)
        headers = file_response(request, row["metadata"], b"").headers
        kept = ("etag", "last-modified", "cache-control")
        return json_response(info, headers={name: headers[name] for name in kept})

    # listing and changing -------------------------------------------------------------------------
    def _list(self, request: Request) -> Response:
        body = read_body(request)
        with self._database.transaction_as(self._claims(request)) as connection:
            return json_response(list_level(connection, request.params["bucket"], body))

    def _list_v2(self, request: Request) -> Response:
        body = read_body(request)
        with self._database.transaction_as(self._claims(request)) as connection:
            return json_response(list_all(connection, request.params["bucket"], body))

    def _remove(self, request: Request) -> Response:
        names = names_in(read_body(request), "prefixes")
        with self._database.transaction_as(self._claims(request)) as connection:
            rows = connection.execute(
                "delete from storage.objects where bucket_id = %s and name = any(%s) returning *",
                (request.params["bucket"], names),
            ).fetchall()
        for row in rows:
            self._blobs.remove(row["version"])
        return json_response([objects.row_json(row) for row in rows])

    def _move(self, request: Request) -> Response:
        claims = self._claims(request)
        source, target = source_and_target(read_body(request))
        self._bucket(target[0])
        with self._database.transaction_as(claims) as connection:
            objects.find(connection, *source)
            moved = connection.execute(
                "update storage.objects set bucket_id = %s, name = %s, updated_at = now()"
                " where bucket_id = %s and name = %s returning id",
                (*target, *source),
            ).fetchone()
            if moved is None:
                raise StorageError.no_object()
        return json_response({"message": "Successfully moved"})

    def _copy(self, request: Request) -> Response:
        claims = self._claims(request)
        source, target = source_and_target(read_body(request))
        self._bucket(target[0])
        with self._database.transaction_as(claims) as connection:
            row = objects.find(connection, *source)
            metadata = row["metadata"]
            copied = Upload(
                self._blobs.read(row["version"]),
                metadata["mimetype"],
                metadata["cacheControl"],
                row["user_metadata"],
            )
            with self._blobs.new(copied.data) as version:
                objects.write(
                    connection,
                    *target,
                    copied,
                    version=version,
                    owner=claims.get("sub"),
                    mode="create",
                )
                new = objects.row_json(objects.find(connection, *target))
        return json_response({"Key": "/".join(target), "Id": new["id"], **new})

    # shared ---------------------------------------------------------------------------------------
    def _claims(self, request: Request) -> Claims:
        """Return the claims of the Bearer token; raises `StorageError`."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token.count(".") != 2:
            raise StorageError.denied("Invalid Compact JWS")
        try:
            claims = self._tokens.verify(token)
        except jwt.ExpiredSignatureError as error:
            raise StorageError.denied('"exp" claim timestamp check failed') from error
        except jwt.InvalidSignatureError as error:
            raise StorageError.denied("signature verification failed") from error
        except jwt.DecodeError as error:
            raise StorageError.denied("JWS Protected Header is invalid") from error
        except jwt.PyJWTError as error:
            raise StorageError.denied(str(error)) from error
        return claims

    def _key(self, request: Request) -> str:
        return f"{request.params['bucket']}/{checked_key(request.params['name'])}"

    def _bucket(self, bucket_id: str) -> dict[str, Any]:
        """Return the bucket's row, whatever the caller may see."""
        with self._database.transaction(STORAGE) as connection:
            return objects.bucket(connection, bucket_id)

    def _find_as(self, claims: Claims, request: Request) -> dict[str, Any]:
        with self._database.transaction_as(claims) as connection:
            return objects.find(connection, request.params["bucket"], request.params["name"])

    def _find_as_owner(self, request: Request) -> dict[str, Any]:
        with self._database.transaction(STORAGE) as connection:
            return objects.find(connection, request.params["bucket"], request.params["name"])

    def _signed_url(self, row: dict[str, Any], seconds: int) -> str:
        key = f"{row['bucket_id']}/{row['name']}"
        return f"/object/sign/{key}?token={self._urls.sign(key, 'download', seconds)}"
