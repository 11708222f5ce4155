import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.environment import Sandbox
from local.gateway import MAX_BODY, Gateway
from local.interpreter import source_interpreter
from local.reaper import Reaper
from local.runtime import Function
from local.template import HttpApiSpec, read_template
from tests.integration.local_app import write_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HttpApiSpec, Function]]:
    """Run the tiny application's HTTP function, warm."""
    root: Path = tmp_path_factory.mktemp("gateway")
    template = read_template(write_app(root / "app"))
    (root / "run").mkdir()
    reaper = Reaper(root / "run")
    sandbox = Sandbox(source_interpreter(), root / "run", reaper)
    function = Function(template.functions["HttpFunction"], sandbox, concurrency=4)
    warm_up = {"routeKey": "POST /echo", "isBase64Encoded": False}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(function.invoke, [warm_up] * 4))
    yield template.api, function
    function.close()
    reaper.close()


@contextmanager
def served(
    app: tuple[HttpApiSpec, Function], integration_seconds: float = 30
) -> Iterator[httpx.Client]:
    """Serve the function on a port of its own."""
    gateway = Gateway(integration_seconds=integration_seconds)
    gateway.serve(app[0], {"HttpFunction": app[1]})
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        yield client
    gateway.close()


@pytest.fixture(scope="module")
def api(app: tuple[HttpApiSpec, Function]) -> Iterator[httpx.Client]:
    """Serve the tiny application."""
    with served(app) as client:
        yield client


def test_an_event_as_lambda_gets_it(api: httpx.Client) -> None:
    """A request arrives in payload format 2.0, and the answer with status, headers and cookies."""
    response = api.post(
        "/echo?a=1&a=2", json={"text": "Käse"}, headers={"X-Thing": "1", "Cookie": "s=1; t=2"}
    )
    event = response.json()

    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    assert response.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2"]
    assert response.headers["apigw-requestid"]
    assert event["version"] == "2.0"
    assert event["routeKey"] == "POST /echo"
    assert event["rawQueryString"] == "a=1&a=2"
    assert event["queryStringParameters"] == {"a": "1,2"}
    assert event["headers"]["x-thing"] == "1"
    assert event["headers"]["content-length"] == str(len(response.request.content))
    assert event["cookies"] == ["s=1", "t=2"]
    assert event["body"] == response.request.content.decode()
    assert event["requestContext"]["http"]["method"] == "POST"
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"


def test_path_parameters_arrive_decoded(api: httpx.Client) -> None:
    """Path parameters are decoded and keep an encoded slash."""
    assert api.get("/items/a%2Fb%20%C3%A9").json()["pathParameters"] == {"id": "a/b é"}


def test_bytes_survive_both_ways(api: httpx.Client) -> None:
    """Every byte value reaches the function and comes back."""
    data = bytes(range(256)) * 40
    response = api.put("/bytes", content=data, headers={"content-type": "image/png"})

    assert response.content == data
    assert response.headers["content-type"] == "image/png"


def test_a_chunked_body_is_whole(api: httpx.Client) -> None:
    """A body that comes in pieces is one body."""
    response = api.put("/bytes", content=iter([b"one ", b"two ", b"\xff"]))
    assert response.content == b"one two \xff"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nowhere"), ("GET", "/echo"), ("HEAD", "/items/1"), ("OPTIONS", "/echo")],
)
def test_no_route(api: httpx.Client, method: str, path: str) -> None:
    """An unknown path is 404, and so is a wrong method: an HTTP API knows no 405."""
    response = api.request(method, path)

    assert response.status_code == 404
    if method != "HEAD":
        assert response.json() == {"message": "Not Found"}


def test_head_on_a_route_for_any_method(api: httpx.Client) -> None:
    """HEAD reaches an ANY route, and its answer has a length but no body."""
    response = api.head("/do/calls")

    assert response.status_code == 200
    assert int(response.headers["content-length"]) > 0
    assert response.content == b""


@pytest.mark.parametrize("what", ["raise", "exit", "segfault", "unserialisable"])
def test_a_failing_function_is_500(api: httpx.Client, what: str) -> None:
    """However a function fails, the client learns nothing but that it did."""
    response = api.get(f"/do/{what}")

    assert response.status_code == 500
    assert response.json() == {"message": "Internal Server Error"}


def test_a_slow_function_is_503(app: tuple[HttpApiSpec, Function]) -> None:
    """A function that takes longer than the integration may is given up on."""
    with served(app, integration_seconds=0.3) as impatient:
        response = impatient.get("/slow")

    assert response.status_code == 503
    assert response.json() == {"message": "Service Unavailable"}


def test_body_limits(api: httpx.Client) -> None:
    """A body over 10 MB never reaches the function, nor does one over Lambda's 6 MB; both are 413."""
    for size in (MAX_BODY + 1, 7 * 1024 * 1024):
        response = api.put("/bytes", content=b"x" * size)
        assert response.status_code == 413
        assert response.json() == {"message": "Request Entity Too Large"}
    assert api.get("/items/1").status_code == 201


def test_preflight(api: httpx.Client) -> None:
    """The gateway answers preflights itself, for allowed origins only, on any path."""
    ask = {"Origin": "https://shop.test", "Access-Control-Request-Method": "POST"}
    allowed = api.options("/echo", headers=ask)
    other = api.options("/echo", headers={**ask, "Origin": "https://evil.test"})

    assert allowed.status_code == other.status_code == 204
    assert allowed.content == b""
    assert allowed.headers["access-control-allow-origin"] == "https://shop.test"
    assert allowed.headers["access-control-allow-methods"] == "POST"
    assert allowed.headers["access-control-max-age"] == "60"
    assert "access-control-allow-origin" not in other.headers


def test_cors_headers_are_the_gateways(api: httpx.Client) -> None:
    """The API's CORS configuration replaces what the function says, on errors as well."""
    shop = {"Origin": "https://shop.test"}

    assert (
        api.post("/echo", headers=shop).headers["access-control-allow-origin"]
        == "https://shop.test"
    )
    assert "access-control-allow-origin" in api.get("/nowhere", headers=shop).headers
    assert "access-control-allow-origin" not in api.post("/echo").headers


def test_a_hundred_requests_at_once(api: httpx.Client) -> None:
    """A hundred connections opened in the same moment are all answered, each with its own."""
    gate = threading.Barrier(100)

    def ask(number: int) -> Any:
        host, port = api.base_url.host, api.base_url.port
        gate.wait()
        connection = http.client.HTTPConnection(host, port, timeout=20)
        connection.request("GET", f"/items/{number}")
        answer = connection.getresponse().read()
        connection.close()
        return answer

    with ThreadPoolExecutor(100) as threads:
        answers = list(threads.map(ask, range(100)))
    for number, answer in enumerate(answers):
        assert f'"pathParameters": {{"id": "{number}"}}'.encode() in answer


def test_the_url_is_known_before_it_serves() -> None:
    """A gateway has its port at once, so that others can be told; requests wait until it serves."""
    gateway = Gateway()
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as early:
        early.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.05)
        gateway.serve(gateway._api, {})
        assert early.recv(100).startswith(b"HTTP/1.1 404")
    gateway.close()
