"""
Every refusal of the Supabase stand-in, in the words and shapes of the real services.

Auth and Storage differ: Auth answers with a real HTTP status and a code; Storage answers 400 for
nearly everything and puts the real status, as a string, in the body.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.errors import (
    ForeignKeyViolation,
    InsufficientPrivilege,
    TooManyConnections,
    UniqueViolation,
)

from local.standins.server import Handler, Request, Response, json_response

API_VERSION = "2024-01-01"
_VERSION_HEADER = "x-supabase-api-version"


class AuthError(Exception):
    """A refusal of Auth: HTTP status, code, message and further members of the body."""

    def __init__(self, status: int, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.extra = extra

    def response(self, request: Request) -> Response:
        """Return the answer, in the shape the request's API version asks for."""
        headers = {"x-sb-error-code": self.code}
        body: dict[str, Any]
        if request.headers.get(_VERSION_HEADER, "") >= API_VERSION:
            headers[_VERSION_HEADER] = API_VERSION
            body = {"code": self.code, "message": self.message}
        else:
            body = {"code": self.status, "error_code": self.code, "msg": self.message}
        return json_response({**body, **self.extra}, self.status, headers)


class StorageError(Exception):
    """A refusal of Storage; the class methods are the catalogue."""

    def __init__(
        self, status: int, error: str, message: str, code: str, *, http_status: int = 400
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.code = code
        self.http_status = http_status
        self.headers: dict[str, str] = {}

    def response(self) -> Response:
        """Return the answer."""
        body = {
            "statusCode": str(self.status),
            "error": self.error,
            "message": self.message,
            "code": self.code,
        }
        return json_response(body, self.http_status, self.headers)

    @classmethod
    def no_bucket(cls) -> StorageError:
        """Answer for a bucket that is missing, hidden, or not public where it must be."""
        return cls(404, "Bucket not found", "Bucket not found", "NoSuchBucket")

    @classmethod
    def no_object(cls) -> StorageError:
        """Answer for an object that is missing or hidden by a policy: nobody can tell which."""
        return cls(404, "not_found", "Object not found", "NoSuchKey")

    @classmethod
    def no_bytes(cls) -> StorageError:
        """Answer for a row whose bytes are gone."""
        error = cls(404, "Not found", "The resource was not found", "NoSuchKey")
        error.headers["cache-control"] = "no-store"
        return error

    @classmethod
    def duplicate(cls, what: str) -> StorageError:
        """Answer for a bucket or object ("Bucket", "Key") that is there already."""
        return cls(409, "Duplicate", "The resource already exists", f"{what}AlreadyExists")

    @classmethod
    def denied(cls, message: str) -> StorageError:
        """Answer for a policy or a token that does not allow it."""
        return cls(403, "Unauthorized", message, "AccessDenied")

    @classmethod
    def invalid(cls, message: str) -> StorageError:
        """Answer for a request that does not fit the schema."""
        return cls(400, "Error", message, "InvalidRequest")

    @classmethod
    def invalid_key(cls, name: str) -> StorageError:
        """Answer for an object name with characters that are not allowed."""
        return cls(400, "InvalidKey", f"Invalid key: {name}", "InvalidKey")

    @classmethod
    def invalid_type(cls, mime: str) -> StorageError:
        """Answer for a content type the bucket does not take."""
        message = f"mime type {mime} is not supported"
        return cls(415, "invalid_mime_type", message, "InvalidMimeType")

    @classmethod
    def too_large(cls) -> StorageError:
        """Answer for a file over the limit of the bucket or the project."""
        message = "The object exceeded the maximum allowed size"
        return cls(413, "Payload too large", message, "EntityTooLarge")

    @classmethod
    def invalid_jwt(cls, message: str) -> StorageError:
        """Answer for a signed URL whose token is forged or expired."""
        return cls(400, "InvalidJWT", message, "InvalidJWT")

    @classmethod
    def invalid_signature(cls, message: str = "Invalid signature") -> StorageError:
        """Answer for a signed URL whose token was made for something else."""
        return cls(400, "InvalidSignature", message, "InvalidSignature")

    @classmethod
    def invalid_range(cls) -> StorageError:
        """Answer for a byte range outside the file."""
        return cls(416, "InvalidRange", "The requested range is not satisfiable", "InvalidRange")

    @classmethod
    def from_database(cls, error: psycopg.Error) -> StorageError:
        """Return what Storage makes of a refusal or a failure of the database."""
        if isinstance(error, InsufficientPrivilege):
            # privileges missing inside a policy show here too: say which, RLS has fixed words
            message = error.diag.message_primary or ""
            if "row-level security" in message:
                message = "new row violates row-level security policy"
            return cls.denied(message)
        if isinstance(error, UniqueViolation):
            return cls.duplicate("Bucket" if error.diag.table_name == "buckets" else "Key")
        if isinstance(error, ForeignKeyViolation):
            return cls.no_bucket()
        if isinstance(error, TooManyConnections):
            message = "Too many connections issued to the database"
            return cls(429, "too_many_connections", message, "SlowDown", http_status=429)
        message = "Internal Server Error"
        return cls(500, "Internal", message, "InternalError", http_status=500)


def guard_auth(handler: Handler) -> Handler:
    """Answer in Auth's shape what `handler` raises."""

    def guarded(request: Request) -> Response:
        try:
            return handler(request)
        except AuthError as error:
            return error.response(request)
        except psycopg.Error:
            message = "Unexpected failure, please check server logs for more information"
            return AuthError(500, "unexpected_failure", message).response(request)

    return guarded


def guard_storage(handler: Handler) -> Handler:
    """Answer in Storage's shape what `handler` raises."""

    def guarded(request: Request) -> Response:
        try:
            return handler(request)
        except StorageError as error:
            return error.response()
        except psycopg.Error as error:
            return StorageError.from_database(error).response()

    return guarded
