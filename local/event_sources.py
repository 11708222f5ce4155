"""
Lambda's SQS event source mapping: batches from a queue to a function, and the fate of each message afterwards.

The rules are Lambda's: what succeeded is deleted; what failed comes back and, after its last chance, moves to the
dead-letter queue (the queue's own doing); an answer that is not understood fails the whole batch. One thing differs:
what failed comes back after `retry_seconds` instead of the queue's visibility timeout, for nobody watches a demo for
minutes.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.environment import Invocation
from local.runtime import Function, FunctionClosedError, ThrottledError
from local.template import REGION, QueueSource, QueueSpec

POLL_SECONDS = 0.1
RETRY_SECONDS = 1
MAX_RECEIVE = 10  # messages, SQS's own limit for one call


def batch_event(messages: list[dict[str, Any]], queue_arn: str) -> dict[str, Any]:
    """Return the event for messages as SQS's `receive_message` gives them."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": {
                    name: {key[0].lower() + key[1:]: part for key, part in value.items()}
                    for name, value in message.get("MessageAttributes", {}).items()
                },
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": queue_arn,
                "awsRegion": REGION,
            }
            for message in messages
        ]
    }


def failed_ids(payload: bytes, sent: set[str]) -> set[str]:
    """
    Return which of the `sent` message ids a function's partial batch response reports as failed.

    Nothing (null, `{}`, an empty list) means that all succeeded. What Lambda cannot make sense of means that all
    failed: no JSON object, an entry without an `itemIdentifier`, an empty one, one that was not in the batch.
    """
    try:
        answer = json.loads(payload or b"null")
        reported = [
            item["itemIdentifier"] for item in (answer or {}).get("batchItemFailures") or []
        ]
        unknown = set(reported) - sent
    except (ValueError, AttributeError, KeyError, TypeError):
        return sent
    return sent if unknown else set(reported)


class QueuePoller:
    """
    Feeds one queue to one function. `start` does so in the background; `poll_once` one batch at a time, for tests.

    `client` is a boto3 SQS client; boto3 clients may be shared by threads.
    """

    def __init__(
        self,
        function: Function,
        source: QueueSource,
        queue: QueueSpec,
        url: str,
        client: Any,
        retry_seconds: int = RETRY_SECONDS,
    ) -> None:
        self._function = function
        self._source = source
        self._arn = queue.arn
        self._url = url
        self._client = client
        self._retry_seconds = retry_seconds
        self._stopping = threading.Event()
        workers = min(source.max_concurrency, function.concurrency)
        self._free = threading.Semaphore(workers)
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix=f"poll-{queue.name}")
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Poll in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling. Batches in progress end with their function; their messages come back."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def poll_once(self) -> int:
        """Take one batch through the function; return how many messages were received."""
        messages = self._receive()
        if messages:
            self._process(messages)
        return len(messages)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._free.acquire(timeout=POLL_SECONDS):
                continue
            try:
                messages = self._receive()
            except Exception:
                messages = []  # the queue is away for a moment, or for good: then stop() is near
            if messages:
                self._workers.submit(self._process_and_free, messages)
            else:
                self._free.release()
                self._stopping.wait(POLL_SECONDS)

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=min(self._source.batch_size, MAX_RECEIVE),
            WaitTimeSeconds=0,  # the server does one thing at a time: waiting in it would stop everybody
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _process_and_free(self, messages: list[dict[str, Any]]) -> None:
        try:
            self._process(messages)
        finally:
            self._free.release()

    def _process(self, messages: list[dict[str, Any]]) -> None:
        handles = {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        try:
            invocation = self._function.invoke(batch_event(messages, self._arn))
        except FunctionClosedError:
            return
        except ThrottledError:
            failed = set(handles)
        else:
            failed = self._failed(invocation, set(handles))
        for message_id, handle in handles.items():
            if message_id in failed:
                self._client.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=handle, VisibilityTimeout=self._retry_seconds
                )
            else:
                self._client.delete_message(QueueUrl=self._url, ReceiptHandle=handle)

    def _failed(self, invocation: Invocation, sent: set[str]) -> set[str]:
        if invocation.is_error:
            return sent
        return failed_ids(invocation.payload, sent) if self._source.reports_failures else set()
