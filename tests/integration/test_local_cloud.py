import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local.cloud import Cloud
from local.invoke import main as invoke_main
from local.template import TemplateError
from local.watch import Watcher
from tests.integration.local_app import is_alive, wait_until, write_app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def template_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the tiny application."""
    return write_app(tmp_path_factory.mktemp("cloud"))


@pytest.fixture(scope="module")
def cloud(template_path: Path) -> Iterator[Cloud]:
    """Start one cloud for this module; failed messages come back at once."""
    settings = Cloud(
        template_path,
        secrets={"API_KEY": "sk_local"},
        environment={"EXTRA": "1"},
        retry_seconds=0,
        run_schedules=False,
    )
    with settings as cloud:
        yield cloud


def send(cloud: Cloud, *actions: str, note: str = "") -> None:
    """Put messages into the queue in one go, so that they can be one batch."""
    cloud.sqs.send_message_batch(
        QueueUrl=cloud.queue_urls["Jobs"],
        Entries=[
            {"Id": str(index), "MessageBody": json.dumps({"do": action, "note": note})}
            for index, action in enumerate(actions)
        ],
    )


def dead_letters(cloud: Cloud, note: str) -> list[str]:
    """Take what is in the dead-letter queue, as the actions of the messages with `note`."""
    answer = cloud.sqs.receive_message(
        QueueUrl=cloud.queue_urls["DeadJobs"], MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    bodies = [json.loads(message["Body"]) for message in answer.get("Messages", [])]
    return sorted(body["do"] for body in bodies if body["note"] == note)


def test_everything_is_wired(cloud: Cloud) -> None:
    """A function started by hand or by its schedule finds its secret, its layer, its queue and the queue's consumer."""
    invocation = cloud.fire("SweepFunction")

    assert invocation.json() == {"secret": "sk_local", "shared": 1}
    assert "swept aws.scheduler" in cloud.logs
    wait_until(lambda: 'record {"do": "ok"} 1' in cloud.logs.text("QueueFunction"))
    assert "swept" not in cloud.logs.text("QueueFunction")


def test_http_reaches_the_function(cloud: Cloud) -> None:
    """The HTTP API answers under the cloud's URL."""
    assert httpx.post(f"{cloud.url}/echo", json={}).status_code == 201


def test_functions_see_the_template_and_extra_variables(cloud: Cloud) -> None:
    """Variables given to the cloud are added; AWS's clients are pointed at the local services."""
    environ = cloud.invoke("PlainFunction", {"do": "environ"}).json()

    assert environ["EXTRA"] == "1"
    assert environ["AWS_ENDPOINT_URL"] == cloud.aws.endpoint
    assert environ["AWS_CONFIG_FILE"] == os.devnull


def test_a_partial_batch_failure_comes_back_alone(cloud: Cloud) -> None:
    """Of a batch, only what failed is delivered again, and after the last try it is a dead letter."""
    send(cloud, "ok", "fail", "ok", note="partial")
    wait_until(lambda: dead_letters(cloud, "partial") == ["fail"])
    log = cloud.logs.text("QueueFunction")

    assert log.count('record {"do": "ok", "note": "partial"} 1') == 2
    assert 'record {"do": "ok", "note": "partial"} 2' not in log
    assert log.count('record {"do": "fail", "note": "partial"}') == 2


@pytest.mark.parametrize("action", ["nonsense", "crash"])
def test_a_batch_that_cannot_be_understood_fails_whole(cloud: Cloud, action: str) -> None:
    """A crash, and an answer naming a message that was not in the batch, fail each message of the batch."""
    cloud.functions["QueueFunction"].invoke({"Records": []})
    poller = cloud.pollers["QueueFunction"]
    send(cloud, action, note=action)
    wait_until(lambda: dead_letters(cloud, action) == [action])
    assert poller.poll_once() == 0


def test_clouds_do_not_share_queues(cloud: Cloud, template_path: Path) -> None:
    """Two clouds on one machine have different ports and queues; a schedule can run at a demo's pace."""
    other = Cloud(template_path, secrets={"API_KEY": "other"}, schedule_every=0.1)
    steps: list[str] = []
    try:
        other.start(steps.append)
        assert other.url != cloud.url
        assert other.aws.endpoint != cloud.aws.endpoint
        wait_until(lambda: 'record {"do": "ok"} 1' in other.logs.text("QueueFunction"))
        assert other.invoke("SweepFunction", {"source": "hand"}).json()["secret"] == "other"
        assert "functions" in steps
    finally:
        other.stop()


def test_wrong_settings_leave_nothing_running(template_path: Path) -> None:
    """A secret nobody reads and a parameter nobody declared are errors, and the start is undone."""
    with pytest.raises(ValueError, match="UNKNOWN_FROM"):
        Cloud(template_path, secrets={"UNKNOWN": "x"}).start()
    with pytest.raises(TemplateError, match="Unknown"):
        Cloud(template_path, parameters={"Unknown": "x"}).start()


def test_reload(cloud: Cloud, template_path: Path) -> None:
    """A changed function gets a fresh process, a changed layer gives every function one."""
    changes: list[list[str]] = []
    watcher = Watcher(cloud.functions, changes.append, seconds=0.05)
    watcher.start()
    try:
        cloud.invoke("PlainFunction", {})
        (template_path.parent / "functions/plain/new.py").write_text("")
        wait_until(lambda: changes == [["PlainFunction"]])
        assert cloud.invoke("PlainFunction", {}).is_cold
        assert not cloud.invoke("PlainFunction", {}).is_cold
        (template_path.parent / "layers/shared/shared_code.py").write_text("VALUE = 23\n")
        wait_until(lambda: len(changes) == 2)
        assert sorted(changes[1]) == sorted(cloud.functions)
        assert cloud.fire("SweepFunction").json()["shared"] == 23
    finally:
        watcher.stop()


def test_invoking_one_function_by_hand(
    template_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints the answer to one stream, the log to the other, and says by its code how it went."""
    (tmp_path / "event.json").write_text('{"do": "environ"}')
    (tmp_path / "error.json").write_text('{"do": "raise"}')
    (tmp_path / ".env").write_text("API_KEY=sk_test\n")
    options = ["--template", str(template_path), "--env-file", str(tmp_path / ".env")]

    assert invoke_main(["plain", str(tmp_path / "event.json"), *options]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["API_KEY"] == "sk_test"
    assert output.err.startswith("START RequestId")
    assert invoke_main(["PlainFunction", str(tmp_path / "error.json"), *options]) == 1
    assert json.loads(capsys.readouterr().out)["errorType"] == "ValueError"
    assert invoke_main(["nothing", str(tmp_path / "event.json"), *options]) == 2
    assert "there are plain, http" in capsys.readouterr().err


OWNER = """
import sys, threading
from pathlib import Path
from local.cloud import Cloud

cloud = Cloud(Path(sys.argv[1]), secrets={"API_KEY": "x"})
cloud.start()
cloud.invoke("HttpFunction", {"routeKey": "POST /echo", "isBase64Encoded": False})
event = {"do": "spawn", "seconds": 60, "note": sys.argv[2]}
threading.Thread(target=cloud.invoke, args=("PlainFunction", event), daemon=True).start()
print(cloud.directory, flush=True)
threading.Event().wait()
"""


def test_nothing_outlives_a_killed_owner(template_path: Path, tmp_path: Path) -> None:
    """After kill -9 of the owner, idle and working functions, their children, the services and the files are gone."""
    note = tmp_path / "note"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(template_path), str(note)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout
    try:
        directory = Path(owner.stdout.readline().strip())
        wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
        inside = [int(pid) for pid in note.read_text().split()]
        started = {*inside, *descendants(owner.pid)}
        assert directory.is_dir()
        assert len(started) >= 5  # two functions, a child, moto, the reaper
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        wait_until(lambda: not [pid for pid in started if is_alive(pid)], seconds=2)
        wait_until(lambda: not directory.exists(), seconds=1)
    finally:
        owner.kill()
        owner.communicate()


def descendants(pid: int) -> set[int]:
    """Return the process ids below `pid`."""
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True
    )
    parents = [tuple(map(int, line.split())) for line in table.stdout.splitlines()]
    found: set[int] = set()
    frontier = {pid}
    while frontier := {child for child, parent in parents if parent in frontier} - found:
        found |= frontier
    return found
