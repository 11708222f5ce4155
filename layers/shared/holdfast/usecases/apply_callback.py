"""Take a callback of the provider: believe only the signature, keep it, apply it, queue settlement."""

from __future__ import annotations

import json
from typing import Any

from holdfast.errors import MalformedRequestError
from holdfast.generations import GenerationStore, ProviderResult, Recorded
from holdfast.observability import count, logger
from holdfast.settle_queue import SettleQueue
from holdfast.signatures import verify_babysea
from holdfast.vocabulary import ProviderStatus

_STATUS_OF_EVENT = {
    "generation.started": ProviderStatus.PROCESSING,
    "generation.completed": ProviderStatus.SUCCEEDED,
    "generation.failed": ProviderStatus.FAILED,
    "generation.canceled": ProviderStatus.CANCELED,
}


class CallbackReceiver:
    """Receive callbacks. When `receive` returns, the delivery is durable and may be answered 2xx."""

    def __init__(
        self, generations: GenerationStore, queue: SettleQueue, secrets: tuple[str, ...]
    ) -> None:
        self._generations = generations
        self._queue = queue
        self._secrets = secrets

    def receive(self, body: bytes, signature: str | None) -> Recorded:
        """
        Verify, keep and apply one delivery.

        Raises `InvalidSignatureError`, `MalformedRequestError` for a signed body that is no event,
        and `UnavailableError` when it could not be kept or queued: the sender then tries again.
        """
        verify_babysea(body, signature, self._secrets)
        delivery_id, event, data = _parse(body)
        status = _STATUS_OF_EVENT.get(event)
        provider_generation_id = _text(data.get("generation_id"))
        result = None if status is None else _result(status, data)
        recorded = self._generations.record_callback(
            delivery_id, event, provider_generation_id, result
        )
        if recorded.is_to_settle and recorded.generation_id:
            # after the commit, and again for a repeated delivery: a lost message is sent again
            self._queue.send(recorded.generation_id)
        logger().info(
            "callback received",
            delivery_id=delivery_id,
            event_type=event,
            provider_generation_id=provider_generation_id,
            generation_id=recorded.generation_id,
            outcome=recorded.outcome,
        )
        count(f"Callback.{recorded.outcome}")
        return recorded


def _parse(body: bytes) -> tuple[str, str, dict[str, Any]]:
    try:
        payload = json.loads(body)
        delivery_id = _text(payload["webhook_delivery_id"])
        event = _text(payload["webhook_event"])
        data = payload["webhook_data"]
    except (ValueError, KeyError, TypeError):
        raise MalformedRequestError("The body is not a webhook event.") from None
    if not delivery_id or not event or not isinstance(data, dict):
        raise MalformedRequestError("The body is not a webhook event.")
    return delivery_id, event, data


def _result(status: ProviderStatus, data: dict[str, Any]) -> ProviderResult:
    urls = data.get("generation_output_file")
    return ProviderResult(
        status=status,
        output_urls=tuple(url for url in urls if isinstance(url, str))
        if isinstance(urls, list)
        else (),
        error_code=_text(data.get("generation_error_code")),
        error_message=_text(data.get("generation_error")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
