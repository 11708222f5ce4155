"""
A runtime interface client for machines on which AWS's own (`awslambdaric`) cannot be installed, such as macOS.

Speaks the same Runtime API and treats a handler the same way; tests run both clients against the same handlers. It is
started as a file, `python bootstrap.py app.handler`, in a process that has the standard library and the function's code
only, so it imports nothing else. The one known difference: a `Decimal` in an answer is an error here, not a number.
"""

from __future__ import annotations

import http.client
import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any, NoReturn

_PREFIX = "/2018-06-01/runtime"

Handler = Callable[[Any, Any], Any]


class ContractError(Exception):
    """An error of the contract between a function and Lambda; `kind` is Lambda's name for it."""

    def __init__(self, kind: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.trace = trace or []


class RuntimeClient:
    """The Runtime API, over one connection that is kept."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address)

    def next(self) -> tuple[http.client.HTTPMessage, bytes]:
        """Wait for the next event; return its headers and payload. Ends the process when the platform is gone."""
        try:
            self._connection.request("GET", f"{_PREFIX}/invocation/next")
            response = self._connection.getresponse()
            return response.headers, response.read()
        except (OSError, http.client.HTTPException):
            sys.exit(1)

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Post an answer or an error. Ends the process when it is not taken, as AWS's client does."""
        self._connection.request("POST", f"{_PREFIX}/{path}", body, headers or {})
        response = self._connection.getresponse()
        response.read()
        if response.status != 202:
            sys.exit(1)


class Context:
    """The context object a handler is given."""

    def __init__(self, headers: http.client.HTTPMessage) -> None:
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.client_context = None
        self.tenant_id = None
        self.identity = SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the invocation may still take, in milliseconds."""
        return max(0, self._deadline_ms - int(time.time() * 1000))


class RequestIdFilter(logging.Filter):
    """Gives each log record the id of the event it belongs to."""

    request_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, with the id in it."""
        record.aws_request_id = self.request_id
        return True


class JsonFormatter(logging.Formatter):
    """Lambda's JSON log format."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": getattr(record, "aws_request_id", ""),
        }
        if record.exc_info:
            line["stackTrace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def find_handler(name: str) -> Handler:
    """Import the handler `module.function`; raises `ContractError`."""
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise ContractError("Runtime.MalformedHandlerName", f"Bad handler '{name}'")
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise ContractError("Runtime.ImportModuleError", message) from error
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        message = f"Syntax error in module '{module_name}': {error}"
        raise ContractError("Runtime.UserCodeSyntaxError", message, trace) from error
    try:
        handler: Handler = getattr(module, function_name)
    except AttributeError as error:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise ContractError("Runtime.HandlerNotFound", message) from error
    return handler


def describe(error: Exception, request_id: str = "") -> dict[str, Any]:
    """Return an exception in Lambda's shape, with the frames of the function's own code."""
    if isinstance(error, ContractError):
        kind, trace = error.kind, error.trace
    else:
        kind, trace = type(error).__name__, traceback.format_list(_own_frames(error.__traceback__))
    return {
        "errorMessage": str(error),
        "errorType": kind,
        "requestId": request_id,
        "stackTrace": trace,
    }


def _own_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    frames = list(traceback.extract_tb(trace))
    own = [index for index, frame in enumerate(frames) if frame.filename != __file__]
    return frames[own[0] :] if own else frames


def log_error(error: dict[str, Any]) -> None:
    """Write an error to the log in the format the function is configured for."""
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"timestamp": stamp, "level": "ERROR", **error}, ensure_ascii=False)
    else:
        head = f"[ERROR] {error['errorType']}: {error['errorMessage']}"
        line = "\r".join([head, "Traceback (most recent call last):", *error["stackTrace"]])
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def handle(handler: Handler, headers: http.client.HTTPMessage, payload: bytes) -> bytes:
    """Return the handler's answer as JSON; raises what the handler raises, and `ContractError`."""
    context = Context(headers)
    try:
        event = json.loads(payload)
    except ValueError as error:
        raise ContractError(
            "Runtime.UnmarshalError", f"Unable to unmarshal input: {error}"
        ) from error
    answer = handler(event, context)
    if isinstance(answer, bytes):
        return answer
    try:
        return json.dumps(answer, ensure_ascii=False).encode()
    except Exception as error:
        message = f"Unable to marshal response: {error}"
        raise ContractError("Runtime.MarshalError", message) from error


def set_up_logging() -> RequestIdFilter:
    """Send the standard library's logging to standard output, as Lambda does."""
    is_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"
    handler = logging.StreamHandler(sys.stdout)
    text = logging.Formatter(
        "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s",
        "%Y-%m-%dT%H:%M:%S",
    )
    text.converter = time.gmtime
    handler.setFormatter(JsonFormatter() if is_json else text)
    request_ids = RequestIdFilter()
    handler.addFilter(request_ids)
    logging.getLogger().addHandler(handler)
    if level := os.environ.get("AWS_LAMBDA_LOG_LEVEL"):
        logging.getLogger().setLevel(level)
    return request_ids


def main(handler_name: str) -> NoReturn:
    """Load the handler, then serve events until the platform ends this process."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
    client = RuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"])
    request_ids = set_up_logging()
    try:
        handler = find_handler(handler_name)
    except Exception as error:
        problem = describe(error)
        log_error(problem)
        kind = {"Lambda-Runtime-Function-Error-Type": problem["errorType"]}
        client.post("init/error", json.dumps(problem).encode(), kind)
        sys.exit(1)
    while True:
        headers, payload = client.next()
        request_id = request_ids.request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        os.environ["_X_AMZN_TRACE_ID"] = headers["Lambda-Runtime-Trace-Id"]
        try:
            answer = handle(handler, headers, payload)
        except Exception as error:
            problem = describe(error, request_id)
            log_error(problem)
            client.post(f"invocation/{request_id}/error", json.dumps(problem).encode())
        else:
            client.post(f"invocation/{request_id}/response", answer)


if __name__ == "__main__":
    main(sys.argv[1])
