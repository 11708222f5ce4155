import json
from pathlib import Path

import pytest

from local.event_sources import batch_event, failed_ids
from local.invoke import read_env_file, with_local_environment
from local.schedule import ScheduleError, rate_seconds, schedule_event
from local.template import FunctionSpec, Schedule


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(1 minute)", 60),
        ("rate(5 minutes)", 300),
        ("rate(1 hour)", 3600),
        ("rate(2 hours)", 7200),
        ("rate(1 day)", 86400),
    ],
)
def test_rates(expression: str, expected: int) -> None:
    """A rate is a number of seconds."""
    assert expected == rate_seconds(expression)


@pytest.mark.parametrize(
    "expression",
    ["rate(1 minutes)", "rate(5 minute)", "rate(1 minutess)", "rate(0 days)", "cron(0 1 * * ? *)"],
)
def test_other_schedules_are_refused(expression: str) -> None:
    """What EventBridge would refuse at deployment, or has no local counterpart, is an error here."""
    with pytest.raises(ScheduleError):
        rate_seconds(expression)


def test_a_schedules_own_event() -> None:
    """Without an input, a schedule sends the service's event, whose detail is a string."""
    event = schedule_event(Schedule("sweep", "rate(1 minute)", None))

    assert event["source"] == "aws.scheduler"
    assert event["detail"] == "{}"
    assert event["resources"][0].endswith("schedule/default/sweep")


def test_a_schedules_input() -> None:
    """A schedule's input is its event."""
    assert schedule_event(Schedule("s", "rate(1 minute)", '{"a": 1}')) == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        ("null", ""),
        ("{}", ""),
        ('{"batchItemFailures": []}', ""),
        ('{"batchItemFailures": null}', ""),
        ('{"batchItemFailures": [{"itemIdentifier": "b"}]}', "b"),
        ('{"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "x"}]}', "abc"),
        ('{"batchItemFailures": [{"itemIdentifier": ""}]}', "abc"),
        ('{"batchItemFailures": [{"itemIdentifier": null}]}', "abc"),
        ('{"batchItemFailures": [{"id": "b"}]}', "abc"),
        ('{"batchItemFailures": ["b"]}', "abc"),
        ('{"batchItemFailures": [{"itemIdentifier": []}]}', "abc"),
        ('"done"', "abc"),
        ("not json", "abc"),
    ],
)
def test_partial_batch_responses(answer: str, failed: str) -> None:
    """Reported messages fail alone; an answer that Lambda cannot read fails the whole batch."""
    assert set(failed) == failed_ids(answer.encode(), set("abc"))


def test_batch_event() -> None:
    """A message reaches the function in Lambda's spelling."""
    record = batch_event(
        [
            {
                "MessageId": "m",
                "ReceiptHandle": "r",
                "Body": "{}",
                "MD5OfBody": "d",
                "Attributes": {"ApproximateReceiveCount": "1"},
                "MessageAttributes": {"kind": {"StringValue": "x", "DataType": "String"}},
            }
        ],
        "arn:q",
    )["Records"][0]

    assert record["messageAttributes"] == {"kind": {"stringValue": "x", "dataType": "String"}}
    assert (record["messageId"], record["receiptHandle"], record["body"]) == ("m", "r", "{}")
    assert (record["eventSource"], record["eventSourceARN"]) == ("aws:sqs", "arn:q")
    assert json.dumps(record)


def test_env_file(tmp_path: Path) -> None:
    """A `.env` file gives its variables without quotes, comments and empty lines."""
    path = tmp_path / ".env"
    path.write_text(
        "# comment\n\nA=1\nexport B = two words \nC='q=1'\nD=\"\"\nURL=http://x/?a=b\nbroken\n"
    )
    assert read_env_file(path) == {
        "A": "1",
        "B": "two words",
        "C": "q=1",
        "D": "",
        "URL": "http://x/?a=b",
    }
    assert read_env_file(tmp_path / "absent") == {}


def test_local_environment_replaces_secret_references(tmp_path: Path) -> None:
    """A function invoked by hand reads plain variables; it does not look for secrets in AWS."""
    spec = FunctionSpec(
        "F",
        "F",
        tmp_path,
        "app.handler",
        "python3.13",
        3,
        128,
        environment={"A_FROM": "x", "B": "1"},
    )
    assert with_local_environment(spec, {"A": "2", "B": "3"}).environment == {"A": "2", "B": "3"}
