"""
The AWS services the functions use, on this machine: SQS and Secrets Manager through moto's server.

Clients made here, and functions given `environment`, can reach nothing else: the endpoint is fixed, the keys are
dummies, and the developer's own AWS configuration is out of sight.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import boto3  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from local.reaper import Reaper
from local.template import ACCOUNT, REGION, QueueSpec

_ROOT = Path(__file__).resolve().parent.parent


class LocalAws:
    """
    One moto server in a process of its own.

    `start` returns before the server is ready (it takes two seconds to import); whatever needs it waits for it.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._endpoint = ""

    def start(self, reaper: Reaper | None = None) -> Self:
        """Start the server; `reaper` ends it with this process."""
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-m", "local.aws_server"],
            cwd=_ROOT,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "PYTHONPATH": str(_ROOT),
                "MOTO_ACCOUNT_ID": ACCOUNT,
                **_IDENTITY,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        if reaper:
            reaper.watch(self._process.pid)
        return self

    def stop(self) -> None:
        """End the server; its queues and secrets are gone."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @property
    def endpoint(self) -> str:
        """The server's URL, without a trailing slash. Raises `RuntimeError` when it did not start."""
        if not self._endpoint:
            process = self._process
            port = process.stdout.readline().strip() if process and process.stdout else ""
            if not port:
                raise RuntimeError("moto's server did not start")
            self._endpoint = f"http://127.0.0.1:{port}"
        return self._endpoint

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point a function's AWS clients here."""
        return {"AWS_ENDPOINT_URL": self.endpoint, **_IDENTITY}

    def client(self, service: str) -> Any:
        """Return a boto3 client of `service` (`sqs`, `secretsmanager` or `events`)."""
        return _session().client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(proxies={}, retries={"total_max_attempts": 1}),  # {}: no proxy, None: any
        )

    def create_queues(self, queues: Mapping[str, QueueSpec]) -> dict[str, str]:
        """Create the template's queues with their dead-letter queues; return their URLs by logical id."""
        client = self.client("sqs")
        urls: dict[str, str] = {}
        # A queue's dead-letter queue has to be there first.
        for logical_id, queue in sorted(
            queues.items(), key=lambda item: item[1].dead_letter_queue is not None
        ):
            attributes = {
                "VisibilityTimeout": str(queue.visibility_timeout),
                "DelaySeconds": str(queue.delay),
            }
            if queue.dead_letter_queue:
                attributes["RedrivePolicy"] = json.dumps(
                    {
                        "deadLetterTargetArn": queues[queue.dead_letter_queue].arn,
                        "maxReceiveCount": queue.max_receive_count,
                    }
                )
            answer = client.create_queue(QueueName=queue.name, Attributes=attributes)
            urls[logical_id] = answer["QueueUrl"]
        return urls

    def put_secrets(self, secrets: Mapping[str, str]) -> None:
        """Store secrets, id to value."""
        client = self.client("secretsmanager")
        for secret_id, value in secrets.items():
            client.create_secret(Name=secret_id, SecretString=value)


_IDENTITY = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def _session() -> Any:
    """Return a boto3 session that reads no profile and no configuration file of the developer."""
    nothing = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    return boto3.Session(botocore_session=botocore.session.Session(session_vars=nothing))
