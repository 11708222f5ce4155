"""The server under every stand-in: routes, keep-alive and fault switches."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from local.standins.server import Request, Response, StandIn, json_response


class Echo(StandIn):
    """Answers with what it was asked."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.handled = 0
        self.route(("GET", "POST"), "/things/{id}", self._echo)
        self.route("GET", "/files/{path+}", self._echo)
        self.route("GET", "/broken", self._broken)

    def _echo(self, request: Request) -> Response:
        self.handled += 1
        return json_response({"params": request.params, "faults": sorted(request.faults)})

    def _broken(self, _request: Request) -> Response:
        raise ZeroDivisionError("oh")


@pytest.fixture
def echo() -> Iterator[Echo]:
    """Serve."""
    with Echo() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """Keep connections alive, as the clients under test do."""
    with httpx.Client() as client:
        yield client


def test_routes_decode_their_parameters(echo: Echo, http: httpx.Client) -> None:
    """A parameter is one decoded segment, a `+` parameter the rest of the path."""
    assert http.get(f"{echo.url}/things/a%20b").json()["params"] == {"id": "a b"}
    assert http.get(f"{echo.url}/files/x/y%2Fz").json()["params"] == {"path": "x/y/z"}
    for method, path in (("GET", "/things"), ("PUT", "/things/1"), ("GET", "/things/1/2")):
        assert http.request(method, echo.url + path).status_code == 404


def test_bodies_are_read_in_full(echo: Echo, http: httpx.Client) -> None:
    """Plain and chunked bodies are read to the end, refused ones too, so keep-alive works."""
    http.put(f"{echo.url}/unknown", content=b"x" * 100_000)
    http.post(f"{echo.url}/things/1", content=iter([b"abc", b"def"]))
    assert [len(request.body) for request in echo.requests] == [100_000, 6]
    assert echo.requests[1].body == b"abcdef"


def test_handler_that_fails_answers_500(echo: Echo, http: httpx.Client) -> None:
    """A stand-in's own fault is an answer, not the end of it."""
    answer = http.get(f"{echo.url}/broken")
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["error"]


def test_down_never_reaches_the_handler(echo: Echo, http: httpx.Client) -> None:
    """A service that is down cuts the connection before anything happens."""
    echo.faults.add("down", times=1)
    with pytest.raises(httpx.TransportError):
        http.get(f"{echo.url}/things/1")
    assert echo.handled == 0
    assert http.get(f"{echo.url}/things/1").status_code == 200


def test_lost_answer_was_handled(echo: Echo, http: httpx.Client) -> None:
    """A lost answer looks like an outage to the caller, but the work was done."""
    echo.faults.add("lose_answer", times=1)
    with pytest.raises(httpx.TransportError):
        http.post(f"{echo.url}/things/1")
    assert echo.handled == 1


def test_forced_status_answers_without_the_handler(echo: Echo, http: httpx.Client) -> None:
    """A forced status carries its own body and headers."""
    echo.faults.add("status", status=429, body=b"slow", headers={"retry-after": "1"})
    answer = http.get(f"{echo.url}/things/1")
    assert (answer.status_code, answer.text) == (429, "slow")
    assert answer.headers["retry-after"] == "1"
    assert echo.handled == 0


def test_delay_comes_before_the_handler(echo: Echo, http: httpx.Client) -> None:
    """A delayed request is answered late, and as usual."""
    echo.faults.add("delay", seconds=0.1)
    started = time.monotonic()
    assert http.get(f"{echo.url}/things/1").status_code == 200
    assert time.monotonic() - started >= 0.1


def test_own_faults_reach_the_handler(echo: Echo, http: httpx.Client) -> None:
    """A kind the transport does not know is the handler's to act on."""
    echo.faults.add("strange", "GET /things/.*")
    assert http.get(f"{echo.url}/things/1").json()["faults"] == ["strange"]
    assert http.post(f"{echo.url}/things/1").json()["faults"] == []


def test_faults_count_and_repeat(echo: Echo) -> None:
    """`after` lets requests pass, `times` ends a fault, and a rate gives the same run each time."""
    echo.faults.add("a", after=1, times=2)
    assert [len(echo.faults.hits("GET /")) for _ in range(5)] == [0, 1, 1, 0, 0]
    runs = []
    for _ in range(2):
        with Echo() as other:
            other.faults.add("b", rate=0.5)
            runs.append([bool(other.faults.hits("GET /")) for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {True, False}


def test_faults_can_be_switched_over_http(echo: Echo, http: httpx.Client) -> None:
    """Another process switches faults on and off, and no fault strikes that."""
    control = f"{echo.url}/_control/faults"
    fault = {"kind": "status", "status": 503, "body": "gone"}
    assert http.post(control, json=fault).status_code == 204
    assert http.get(f"{echo.url}/things/1").text == "gone"
    assert http.delete(control).status_code == 204
    assert http.get(f"{echo.url}/things/1").status_code == 200


def test_stopped_service_answers_nobody(http: httpx.Client) -> None:
    """Stopping cuts connections that clients keep alive, and the port can be served again."""
    with Echo() as first:
        url, port = first.url, int(first.url.rpartition(":")[2])
        http.get(f"{url}/things/1")
    with pytest.raises(httpx.TransportError):
        http.get(f"{url}/things/1")
    with Echo(port) as second:
        assert http.get(f"{url}/things/1").status_code == 200
        assert second.handled == 1
