"""The owner's event bus (Amazon EventBridge): where alerts leave the system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from holdfast.alerts import Alert
from holdfast.errors import UnavailableError

SOURCE = "holdfast"
LOW_BALANCE = "Low balance"
BATCH_MAX = 10
"""Events that PutEvents takes at once (docs.aws.amazon.com, PutEvents)."""


class EventBus:
    """Put events on the bus of this name. AWS_ENDPOINT_URL points it elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name

    def send(self, alerts: Sequence[Alert]) -> list[int]:
        """
        Put up to `BATCH_MAX` alerts and return the ids of those that were taken.

        Raises `UnavailableError` when none was. The bus may be given an alert twice; its `id` is the same then.
        """
        from botocore.exceptions import (  # type: ignore[import-untyped] # noqa: PLC0415
            BotoCoreError,
            ClientError,
        )

        entries = [
            {
                "Source": SOURCE,
                "DetailType": LOW_BALANCE,
                "EventBusName": self._name,
                "Time": alert.created_at,
                "Detail": json.dumps(
                    {
                        "id": alert.id,
                        "user_id": str(alert.user_id),
                        "threshold_credits": f"{alert.threshold:.3f}",
                        "available_credits": f"{alert.available:.3f}",
                    }
                ),
            }
            for alert in alerts
        ]
        try:
            answer = self._client.put_events(Entries=entries)
        except (BotoCoreError, ClientError) as error:
            raise UnavailableError(reason=f"event bus: {type(error).__name__}") from error
        return [
            alert.id
            for alert, entry in zip(alerts, answer["Entries"], strict=True)
            if "ErrorCode" not in entry
        ]

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """Import boto3 on first use: most sweeps have nothing to send."""
        import boto3  # type: ignore[import-untyped] # noqa: PLC0415
        from botocore.config import Config  # type: ignore[import-untyped] # noqa: PLC0415

        return boto3.client(
            "events",
            config=Config(
                connect_timeout=2, read_timeout=4, retries={"mode": "standard", "max_attempts": 2}
            ),
        )
