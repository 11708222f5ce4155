"""
The queue of generations whose outputs are to be stored and settled.

A message is a hint, not the truth: the database knows what is due, and the sweep finds what a lost
message forgot.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any
from uuid import UUID

from holdfast.errors import UnavailableError


class SettleQueue:
    """Send generation ids to the queue at `url`. AWS_ENDPOINT_URL points it elsewhere."""

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, generation_id: UUID, *, give_up: bool = False) -> None:
        """
        Queue one settlement; raises `UnavailableError` when the queue did not take it.

        `give_up` settles what is stored by then: what cannot be had counts as lost.
        """
        from botocore.exceptions import (  # type: ignore[import-untyped] # noqa: PLC0415
            BotoCoreError,
            ClientError,
        )

        message: dict[str, Any] = {"generation_id": str(generation_id)}
        if give_up:
            message["give_up"] = True
        try:
            self._client.send_message(QueueUrl=self._url, MessageBody=json.dumps(message))
        except (BotoCoreError, ClientError) as error:
            raise UnavailableError(reason=f"settle queue: {type(error).__name__}") from error

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """Import boto3 on first use: most invocations queue nothing."""
        import boto3  # type: ignore[import-untyped] # noqa: PLC0415
        from botocore.config import Config  # type: ignore[import-untyped] # noqa: PLC0415

        return boto3.client(
            "sqs",
            config=Config(
                connect_timeout=2, read_timeout=4, retries={"mode": "standard", "max_attempts": 2}
            ),
        )
