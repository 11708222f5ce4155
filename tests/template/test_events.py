"""Sample events: the shape AWS really sends, and a function for each."""

import base64
import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.template.support import FOLDERS, event_files, read_event, routes
from tools.programs import ROOT

HTTP = [p for p in event_files() if p.name.split(".")[0] not in ("sqs", "scheduler")]
each_http_event = pytest.mark.parametrize("path", HTTP, ids=lambda p: p.name)


def _table() -> dict[str, str]:
    """Return file -> function of events/README.md."""
    text = (ROOT / "events" / "README.md").read_text()
    rows = re.findall(r"^\| `([\w.-]+\.json)` \| `(\w+)` \|", text, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return dict(rows)


def test_readme_lists_every_event() -> None:
    """events/README.md has one row for each file, and names a function that exists."""
    table = _table()
    assert table.keys() == {p.name for p in event_files()}
    assert set(table.values()) == set(FOLDERS.values())


@pytest.mark.parametrize("path", event_files(), ids=lambda p: p.name)
def test_name(path: Path) -> None:
    """A file is named sender.event[.variant].json."""
    name = r"(http|stripe|babysea|sqs|scheduler)\.[a-z][a-z-]*[a-z](\.[a-z][a-z0-9-]*)?\.json"
    assert re.fullmatch(name, path.name)


@each_http_event
def test_route_exists(cloudformation: dict[str, Any], path: Path) -> None:
    """An HTTP event is for a route of the function that the README names."""
    event = read_event(path)
    function, _ = routes(cloudformation)[event["routeKey"]]
    assert FOLDERS[function] == _table()[path.name]


@each_http_event
def test_payload_format(path: Path) -> None:
    """An HTTP event is payload 2.0 and agrees with itself."""
    event = read_event(path)
    context = event["requestContext"]
    method, template_path = event["routeKey"].split()
    concrete = template_path.format(**event.get("pathParameters", {}))
    assert event["version"] == "2.0"
    assert event["rawPath"] == context["http"]["path"] == concrete
    assert (context["http"]["method"], context["routeKey"]) == (method, event["routeKey"])
    assert context["stage"] == "$default"
    assert all(name == name.lower() for name in event["headers"])
    query = "&".join(f"{k}={v}" for k, v in event.get("queryStringParameters", {}).items())
    assert event["rawQueryString"] == query
    assert "multiValueHeaders" not in event


@each_http_event
def test_body(path: Path) -> None:
    """A body is JSON of the announced length, in base64 exactly when the event says so."""
    event = read_event(path)
    if (
        event["requestContext"]["http"]["method"] in ("GET", "DELETE")
        or "content-type" not in event["headers"]
    ):
        assert "body" not in event
        assert event["isBase64Encoded"] is False
        return
    body = event["body"]
    raw = base64.b64decode(body, validate=True) if event["isBase64Encoded"] else body.encode()
    assert isinstance(json.loads(raw), dict)
    assert event["headers"]["content-length"] == str(len(raw))


@each_http_event
def test_credentials_are_no_real_ones(path: Path) -> None:
    """A sample has the shape of a token or a signature, and opens nothing."""
    headers = read_event(path)["headers"]
    sender = path.name.split(".")[0]
    signature = {"stripe": "stripe-signature", "babysea": "x-babysea-signature"}.get(sender)
    if signature:
        assert re.fullmatch(r"t=1767225600,v1=[0-9a-f]{64}", headers[signature])
        assert "authorization" not in headers
    else:
        assert headers["authorization"] == "Bearer sample.not-a-real-token.signature"


def test_base64_variant_is_the_same_delivery() -> None:
    """The base64 variant of a callback carries the very bytes of the plain one."""
    folder = ROOT / "events"
    plain = read_event(folder / "babysea.generation-completed.json")
    coded = read_event(folder / "babysea.generation-completed.base64.json")
    assert base64.b64decode(coded["body"]).decode() == plain["body"]
    assert coded["headers"] == plain["headers"]


def test_queue_event() -> None:
    """The queue's sample is a batch whose message names a generation."""
    event = read_event(ROOT / "events" / "sqs.settle.json")
    for record in event["Records"]:
        assert record["eventSource"] == "aws:sqs"
        message = json.loads(record["body"])
        assert message.keys() == {"generation_id"}
        UUID(message["generation_id"])


def test_schedule_event() -> None:
    """The schedule's sample is what EventBridge Scheduler sends without an input: its detail is text."""
    event = read_event(ROOT / "events" / "scheduler.sweep.json")
    assert (event["source"], event["detail-type"]) == ("aws.scheduler", "Scheduled Event")
    assert event["detail"] == "{}"
