import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.environment import Sandbox
from local.interpreter import Client, artifact_interpreter, link_runtime, source_interpreter
from local.reaper import Reaper
from local.runtime import Function, FunctionClosedError, PayloadTooLargeError, ThrottledError
from local.template import FunctionSpec, read_template
from tests.integration.local_app import is_alive, wait_until, write_app

CLIENTS: list[Client] = ["bootstrap"]
if sys.platform == "linux":
    CLIENTS.append("awslambdaric")

MakeFunction = Callable[..., Function]


@pytest.fixture
def spec(tmp_path: Path) -> FunctionSpec:
    """Write the tiny application and return one function of it."""
    return read_template(write_app(tmp_path / "app")).functions["PlainFunction"]


@pytest.fixture
def make_function(tmp_path: Path, spec: FunctionSpec) -> Iterator[MakeFunction]:
    """Make functions of the tiny application; everything is ended afterwards."""
    directory = tmp_path / "run"
    directory.mkdir()
    reaper = Reaper(directory)
    made: list[Function] = []

    def make(client: Client | None = None, *, init_limit: float = 10.0, **options: Any) -> Function:
        changes = {
            key: options.pop(key)
            for key in ("environment", "timeout", "log_format")
            if key in options
        }
        sandbox = Sandbox(source_interpreter(client), directory, reaper, init_limit)
        made.append(Function(replace(spec, **changes), sandbox, **options))
        return made[-1]

    yield make
    for function in made:
        function.close()
    reaper.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_events_and_answers_survive(make_function: MakeFunction, client: Client) -> None:
    """What is sent comes back: unicode, nesting, numbers, null."""
    function = make_function(client)
    event = {"text": "Käse → 🐌", "list": [1, 2.5, None, True], "deep": {"": {}}}

    first, second = function.invoke(event), function.invoke("just text")

    assert event == first.json()
    assert second.json() == "just text"
    assert (first.is_cold, second.is_cold) == (True, False)
    assert first.init_ms > 0
    assert second.init_ms == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_context(make_function: MakeFunction, client: Client) -> None:
    """The handler knows its request, its name, its memory and the time it has left."""
    invocation = make_function(client).invoke({"do": "context"})
    context = invocation.json()

    assert context["id"] == invocation.request_id
    assert (context["name"], context["memory"]) == ("PlainFunction", "256")
    assert context["arn"].endswith(":function:PlainFunction")
    assert (context["version"], context["trace"]) == ("$LATEST", True)
    assert 3000 < context["left"] <= 5000


@pytest.mark.parametrize("client", CLIENTS)
def test_an_exception_is_an_error_answer(make_function: MakeFunction, client: Client) -> None:
    """An exception reaches the caller with its type and the function's own frames; the process goes on."""
    function = make_function(client)
    invocation = function.invoke({"do": "raise"})
    error = invocation.json()

    assert invocation.is_error
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "bad, Käse")
    assert error["requestId"] == invocation.request_id
    assert len(error["stackTrace"]) == 1
    assert 'raise ValueError("bad, Käse")' in error["stackTrace"][0]
    assert "[ERROR] ValueError: bad, Käse" in invocation.log
    assert not function.invoke({"do": "calls"}).is_cold


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"do": "exit"}, "Runtime exited without providing a reason"),
        ({"do": "exit", "code": 7}, "Runtime exited with error: exit status 7"),
        ({"do": "segfault"}, "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_process_that_ends_is_replaced(
    make_function: MakeFunction, client: Client, event: dict[str, Any], message: str
) -> None:
    """A handler that ends its process fails at once with Lambda's words; the next call starts cold."""
    function = make_function(client)
    begun = time.monotonic()
    invocation = function.invoke(event)

    assert invocation.is_error
    assert invocation.json()["errorType"] == "Runtime.ExitError"
    assert message in invocation.json()["errorMessage"]
    assert message in invocation.log
    assert time.monotonic() - begun < 4
    assert function.invoke({"do": "calls"}).is_cold


@pytest.mark.parametrize("client", CLIENTS)
def test_timeout(make_function: MakeFunction, client: Client) -> None:
    """A handler that takes too long is killed, and the log says so."""
    function = make_function(client, timeout=0.5)
    pid = function.invoke({"do": "calls"}).json()["pid"]
    invocation = function.invoke({"do": "sleep", "seconds": 30})

    assert invocation.json()["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 0.50 seconds" in invocation.log
    assert not is_alive(pid)
    assert function.invoke({"do": "calls"}).is_cold


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("variables", "kind", "message"),
    [
        ({"INIT": "raise"}, "RuntimeError", "no start"),
        ({"INIT": "exit"}, "Runtime.ExitError", "exit status 3"),
        ({"INIT": "hang"}, "Sandbox.Timedout", "Init timed out after 0.60 seconds"),
    ],
)
def test_a_function_that_does_not_start(
    make_function: MakeFunction, client: Client, variables: dict[str, str], kind: str, message: str
) -> None:
    """An error, an exit and a hang while loading are each answered, and tried again with the next call."""
    limit = 0.6 if variables["INIT"] == "hang" else 10
    function = make_function(client, environment=variables, init_limit=limit)
    for _ in range(2):
        invocation = function.invoke({})
        assert (kind, True) == (invocation.json()["errorType"], invocation.is_cold)
        assert message in invocation.json()["errorMessage"]
        assert function.idle == function.busy == 0


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("nowhere.handler", "Runtime.ImportModuleError"),
        ("app.nothing", "Runtime.HandlerNotFound"),
        ("app", "Runtime.MalformedHandlerName"),
        ("broken.handler", "Runtime.UserCodeSyntaxError"),
    ],
)
def test_a_handler_that_is_not_there(
    make_function: MakeFunction, spec: FunctionSpec, client: Client, handler: str, kind: str
) -> None:
    """A wrong handler name and broken code have Lambda's names."""
    (spec.code / "broken.py").write_text("def handler(:\n")
    function = make_function(client)
    function.spec = replace(spec, handler=handler)

    assert kind == function.invoke({}).json()["errorType"]


@pytest.mark.parametrize("client", CLIENTS)
def test_payload_limits(make_function: MakeFunction, client: Client) -> None:
    """Six megabytes pass each way and not a byte more; after a refused answer the process is replaced."""
    function = make_function(client)
    limit = 6 * 1024 * 1024

    assert len(function.invoke({"do": "large", "size": limit - 2}).payload) == limit
    too_large = function.invoke({"do": "large", "size": limit - 1})
    assert too_large.json()["errorType"] == "Function.ResponseSizeTooLarge"
    assert function.invoke("x" * (limit - 2)).is_cold
    with pytest.raises(PayloadTooLargeError):
        function.invoke("x" * (limit - 1))


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_that_is_no_json(make_function: MakeFunction, client: Client) -> None:
    """An answer that cannot be written as JSON is the function's error."""
    invocation = make_function(client).invoke({"do": "unserialisable"})
    assert invocation.json()["errorType"] == "Runtime.MarshalError"


@pytest.mark.parametrize("client", CLIENTS)
def test_logs(make_function: MakeFunction, client: Client) -> None:
    """Each invocation's log is handed over once, whole and between Lambda's own lines."""
    logs: list[tuple[str, str]] = []
    function = make_function(client, on_log=lambda name, text: logs.append((name, text)))
    first = function.invoke({"do": "log"})
    second = function.invoke({})

    assert logs == [("PlainFunction", first.log), ("PlainFunction", second.log)]
    assert first.log.startswith(f"START RequestId: {first.request_id} Version: $LATEST\nloading\n")
    assert "printed →\n" in first.log
    assert re.search(rf"\[WARNING\]\t\S+Z\t{first.request_id}\tlogged ä\n", first.log)
    assert "to stderr\n" in first.log
    assert f"END RequestId: {first.request_id}\nREPORT" in first.log
    assert "Init Duration" in first.log
    assert "loading" not in second.log
    assert "Init Duration" not in second.log


@pytest.mark.parametrize("client", CLIENTS)
def test_json_logs(make_function: MakeFunction, client: Client) -> None:
    """With the JSON log format, what goes through `logging` is one JSON object a line."""
    log = make_function(client, log_format="JSON").invoke({"do": "log"}).log
    line = next(line for line in log.splitlines() if "logged" in line)

    assert '"level": "WARNING"' in line
    assert '"message": "logged ä"' in line


@pytest.mark.parametrize("client", CLIENTS)
def test_nothing_of_the_owner_leaks_in(
    make_function: MakeFunction, spec: FunctionSpec, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function sees Lambda's variables and its own, and of the owner's only where programs are."""
    monkeypatch.setenv("STRIPE_API_KEY", "a real one")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/cert.pem")
    environ = make_function(client, environment={"STAGE": "dev"}).invoke({"do": "environ"}).json()

    assert not {"STRIPE_API_KEY", "AWS_PROFILE", "HOME", "VIRTUAL_ENV"} & environ.keys()
    assert environ["PATH"] == os.environ["PATH"]
    assert environ["SSL_CERT_FILE"] == "/etc/ssl/cert.pem"
    assert environ["STAGE"] == "dev"
    assert environ["AWS_LAMBDA_FUNCTION_NAME"] == "PlainFunction"
    assert environ["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert environ["LAMBDA_TASK_ROOT"] == str(spec.code)


@pytest.mark.parametrize("client", CLIENTS)
def test_code_paths_from_source(
    make_function: MakeFunction, spec: FunctionSpec, client: Client
) -> None:
    """From source, a function runs in its folder and imports its own code, then the layer, then the virtualenv."""
    function = make_function(client)
    facts = function.invoke({"do": "path"}).json()
    own = [entry for entry in facts["path"] if str(spec.code.parent.parent) in entry]

    assert facts["cwd"] == str(spec.code)
    assert list(dict.fromkeys(own)) == [str(spec.code), str(spec.layers[0])]
    assert facts["prefix"] == sys.prefix
    assert function.invoke({"do": "import", "module": "shared_code"}).json() == "shared_code"
    assert "missing" in function.invoke({"do": "import", "module": "local"}).json()


@pytest.mark.parametrize("client", CLIENTS)
def test_an_artifact_sees_nothing_of_the_virtualenv(
    tmp_path: Path, spec: FunctionSpec, client: Client
) -> None:
    """A built function has its own code, the layer's `python/` and Lambda's runtime, and no package of ours."""
    packages = spec.layers[0] / "python"
    packages.mkdir()
    (packages / "from_layer.py").write_text("")
    directory = tmp_path / "run"
    reaper = Reaper(directory)
    interpreter = artifact_interpreter(link_runtime(directory / "runtime"), client)
    function = Function(spec, Sandbox(interpreter, directory, reaper))
    try:
        assert function.invoke({"do": "import", "module": "from_layer"}).json() == "from_layer"
        for module in ("shared_code", "pytest", "yaml", "boto3", "pip", "local", "site_packages"):
            assert "missing" in function.invoke({"do": "import", "module": module}).json()
        facts = function.invoke({"do": "path"}).json()
        assert facts["prefix"] == sys.base_prefix
        assert not [entry for entry in facts["path"] if "site-packages" in entry]
    finally:
        function.close()
        reaper.close()
    assert not list(spec.code.rglob("*.pyc"))


def test_warm_processes_are_used_again(make_function: MakeFunction) -> None:
    """Calls one after the other share a process, and recycling it makes the next call start cold."""
    function = make_function()
    pids = {function.invoke({"do": "calls"}).json()["pid"] for _ in range(3)}
    function.recycle()
    after = function.invoke({"do": "calls"})

    assert len(pids) == 1
    assert after.is_cold
    assert after.json()["calls"] == 1


def test_recycling_lets_work_finish(make_function: MakeFunction) -> None:
    """A call in progress is answered by the old process, which is not used again."""
    function = make_function()
    function.invoke({})
    with ThreadPoolExecutor() as threads:
        running = threads.submit(function.invoke, {"do": "sleep", "seconds": 0.3})
        wait_until(lambda: function.busy)
        function.recycle()
        old = running.result().json()
    new = function.invoke({"do": "calls"})

    assert old["slept"] == 0.3
    assert new.is_cold
    assert not is_alive(old["pid"])


def test_killing_work_in_progress(make_function: MakeFunction) -> None:
    """A SIGKILL in the middle of a call is a crash at once, not a timeout."""
    function = make_function()
    function.invoke({})
    with ThreadPoolExecutor() as threads:
        running = threads.submit(function.invoke, {"do": "sleep", "seconds": 30})
        wait_until(lambda: function.busy)
        assert function.kill_busy() == 1
        error = running.result(timeout=3).json()

    assert error["errorType"] == "Runtime.ExitError"
    assert "signal: killed" in error["errorMessage"]
    assert function.kill_busy() == 0


def test_concurrency_limit(make_function: MakeFunction) -> None:
    """No more processes than the limit work at a time; further calls wait in line."""
    function = make_function(concurrency=2)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(function.invoke, [{"do": "sleep", "seconds": 0.1}] * 6))

    assert not any(answer.is_error for answer in answers)
    assert len({answer.json()["pid"] for answer in answers}) == 2
    assert function.idle == 2


def test_the_line_is_not_endless(make_function: MakeFunction) -> None:
    """A call that finds no free process for too long is refused."""
    function = make_function(concurrency=1, line_seconds=0.1)
    function.invoke({})
    with ThreadPoolExecutor() as threads:
        running = threads.submit(function.invoke, {"do": "sleep", "seconds": 0.5})
        wait_until(lambda: function.busy)
        with pytest.raises(ThrottledError):
            function.invoke({})
        assert not running.result().is_error


def test_closing_ends_everything(make_function: MakeFunction) -> None:
    """Closing a function ends its processes, at work or not, and what they started."""
    function = make_function()
    child = function.invoke({"do": "spawn"}).json()["child"]
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(function.invoke({"do": "sleep", "seconds": 30}))
    )
    thread.start()
    wait_until(lambda: function.busy)
    assert is_alive(child)
    function.close()
    thread.join(3)

    assert answers[0].is_error
    wait_until(lambda: not is_alive(child))
    with pytest.raises(FunctionClosedError):
        function.invoke({})


def test_scratch_files_go_with_their_process(make_function: MakeFunction) -> None:
    """What a function writes to its temporary folder is there for warm calls and gone with the process."""
    function = make_function()
    path = Path(function.invoke({"do": "write"}).json())
    assert path.exists()
    function.recycle()
    assert not path.exists()
