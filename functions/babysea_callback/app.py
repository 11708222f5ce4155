"""BabySea's callbacks: POST /webhooks/babysea."""

from __future__ import annotations

from holdfast import config, http
from holdfast.database import Database
from holdfast.generations import GenerationStore
from holdfast.settle_queue import SettleQueue
from holdfast.usecases.apply_callback import CallbackReceiver

settings = config.load(config.BabyseaCallbackSettings)
receiver = CallbackReceiver(
    GenerationStore(Database(settings.database_url)),
    SettleQueue(settings.settle_queue_url),
    settings.babysea_webhook_secrets,
)
app = http.create_app(validation=False)


@app.post("/webhooks/babysea")
def receive() -> dict[str, str]:
    """Answer 200 only when the delivery is kept and its settlement queued."""
    event = app.current_event.raw_event
    recorded = receiver.receive(http.raw_body(event), http.header(event, "x-babysea-signature"))
    return {"outcome": recorded.outcome}


handler = http.handler(app, settings)
