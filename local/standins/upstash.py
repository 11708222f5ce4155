"""
The stand-in for Upstash Redis: its REST interface over an in-memory Redis with Lua.

One lock around one connection makes every request atomic, which is more than a pipeline promises
and just what a transaction and a script do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from typing import Any

import fakeredis
from redis.exceptions import RedisError

from local.standins.server import Request, Response, StandIn, json_response

# commands that need a connection of one's own, which REST has not
_CONNECTION_COMMANDS = {
    *("MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "WAIT", "SELECT", "AUTH", "HELLO", "CLIENT"),
    *("BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BZMPOP"),
    *("SUBSCRIBE", "PSUBSCRIBE", "MONITOR", "SYNC", "PSYNC", "QUIT", "RESET", "SHUTDOWN"),
}


class _RefusedError(Exception):
    """A command that Redis or Upstash refuses; the message is Upstash's `error`."""


class Upstash(StandIn):
    """One database, which the Bearer `token` opens."""

    def __init__(self, token: str, port: int = 0) -> None:
        super().__init__(port)
        self._token = token
        self._lock = threading.Lock()
        self._scripts: dict[str, str] = {}
        self._redis = fakeredis.FakeStrictRedis(
            server=fakeredis.FakeServer(), single_connection_client=True, protocol=2
        )
        self._redis.response_callbacks.clear()  # replies as they are on the wire
        self.route("POST", "/", self._single)
        self.route("POST", "/pipeline", self._pipeline)
        self.route("POST", "/multi-exec", self._transaction)

    def flush(self) -> None:
        """Forget every key and script."""
        with self._lock:
            self._execute("FLUSHALL")
            self._scripts.clear()

    def stop(self) -> None:
        """Stop serving and close the database."""
        super().stop()
        self._redis.close()

    def handle(self, request: Request) -> Response:
        """Answer whoever has the token."""
        if request.path.startswith("/_control/"):
            return super().handle(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(token.encode(), self._token.encode())
        if scheme.lower() != "bearer" or not known:
            return json_response({"error": "WRONGPASS invalid or missing auth token"}, 401)
        return super().handle(request)

    def _single(self, request: Request) -> Response:
        try:
            command = _command(_json(request))
            with self._lock:
                reply = self._run(command)
        except _RefusedError as error:
            return json_response({"error": str(error)}, 400)
        return json_response(_item(request, reply))

    def _pipeline(self, request: Request) -> Response:
        try:
            commands = _commands(_json(request))
        except _RefusedError as error:
            return json_response({"error": str(error)}, 400)
        replies: list[Any] = []
        with self._lock:
            for command in commands:
                try:
                    replies.append(self._run(command))
                except _RefusedError as error:
                    replies.append(error)
        return json_response([_item(request, reply) for reply in replies])

    def _transaction(self, request: Request) -> Response:
        """Run all commands or, when one cannot even be queued, none."""
        try:
            commands = _commands(_json(request))
            with self._lock:
                self._execute("MULTI")
                try:
                    for command in commands:
                        self._run(command)
                except _RefusedError:
                    self._execute("DISCARD")
                    message = "EXECABORT Transaction discarded because of previous errors."
                    raise _RefusedError(message) from None
                replies = self._execute("EXEC")
        except _RefusedError as error:
            return json_response({"error": str(error)}, 400)
        return json_response([_item(request, reply) for reply in replies])

    def _run(self, command: list[str]) -> Any:
        name = command[0].upper()
        if name in _CONNECTION_COMMANDS:
            raise _RefusedError(f"ERR Command is not available: '{name}'")
        if name == "EVAL" and len(command) > 1:
            self._keep(command[1])
            return self._execute("EVAL", _readable(command[1]), *command[2:])
        if name == "EVALSHA" and len(command) > 1:
            script = self._scripts.get(command[1].lower())
            if script is None:
                raise _RefusedError("NOSCRIPT No matching script. Please use EVAL.")
            return self._execute("EVAL", _readable(script), *command[2:])
        if name == "SCRIPT":
            return self._script(command)
        return self._execute(*command)

    def _script(self, command: list[str]) -> Any:
        match [word.upper() for word in command[1:2]], command[2:]:
            case ["LOAD"], [script]:
                return self._keep(script)
            case ["EXISTS"], [_, *_]:
                return [int(sha.lower() in self._scripts) for sha in command[2:]]
            case ["FLUSH"], _:
                self._scripts.clear()
                return b"OK"
        raise _RefusedError("ERR unknown subcommand or wrong number of arguments for 'SCRIPT'")

    def _keep(self, script: str) -> bytes:
        """Remember the script under the hash of its own text, as Redis does."""
        sha = hashlib.sha1(script.encode()).hexdigest()
        self._scripts[sha] = script
        return sha.encode()

    def _execute(self, *command: str) -> Any:
        try:
            return self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
        except RedisError as error:
            raise _RefusedError(_error_text(error)) from error


def _readable(script: str) -> str:
    """Return `script` with a shebang line made a comment: the Lua here does not know shebangs."""
    return f"--{script}" if script.startswith("#!") else script


def _error_text(error: Exception) -> str:
    """Return Redis's words; the client library has cut the code `ERR` off."""
    text = str(error)
    return text if text.partition(" ")[0].isupper() else f"ERR {text}"


def _json(request: Request) -> Any:
    try:
        return request.json()
    except ValueError:
        raise _RefusedError("ERR failed to parse command") from None


def _commands(value: Any) -> list[list[str]]:
    if not isinstance(value, list) or not value:
        raise _RefusedError("ERR empty pipeline request")
    return [_command(command) for command in value]


def _command(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise _RefusedError("ERR empty command")
    if not all(isinstance(word, str | int | float) for word in value):
        raise _RefusedError("ERR a command has strings and numbers only")
    return [str(word).lower() if isinstance(word, bool) else str(word) for word in value]


def _item(request: Request, reply: Any) -> dict[str, Any]:
    if isinstance(reply, Exception):
        return {"error": _error_text(reply)}
    return {"result": _encoded(reply, request.headers.get("upstash-encoding") == "base64")}


def _encoded(reply: Any, as_base64: bool) -> Any:  # noqa: FBT001 - one of two encodings
    if isinstance(reply, list):
        return [_encoded(element, as_base64) for element in reply]
    if isinstance(reply, bytes):
        if as_base64 and reply != b"OK":  # both SDKs take OK as it is
            return base64.b64encode(reply).decode()
        return reply.decode(errors="replace")
    return reply
