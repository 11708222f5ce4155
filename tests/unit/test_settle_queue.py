import json
from typing import Any
from uuid import UUID

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws

from holdfast.errors import UnavailableError
from holdfast.settle_queue import SettleQueue

GENERATION = UUID("22222222-2222-4222-8222-222222222222")


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give boto3 what Lambda gives it."""
    for name, value in {
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)


def test_a_settlement_is_queued_with_its_generation() -> None:
    """The message is the generation's id as JSON."""
    with mock_aws():
        client = boto3.client("sqs")
        url = client.create_queue(QueueName="settle")["QueueUrl"]

        SettleQueue(url).send(GENERATION)

        [message] = client.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"]) == {"generation_id": str(GENERATION)}


def test_a_missing_queue_is_unavailability() -> None:
    """What AWS refuses is reported as unavailable, so the caller's trigger tries again."""
    with mock_aws():
        queue = SettleQueue("https://sqs.eu-central-1.amazonaws.com/123456789012/gone")

        with pytest.raises(UnavailableError):
            queue.send(GENERATION)


def test_an_unreachable_queue_is_unavailability(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard endpoint variable is honoured, and nobody listening there is unavailability."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(UnavailableError):
        SettleQueue("http://127.0.0.1:9/123456789012/settle").send(GENERATION)
