"""On a schedule: remove unused pictures, old events, and files that a removal left behind."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from holdfast import config
from holdfast.database import Database
from holdfast.observability import init_sentry, logger, observed
from holdfast.removals import RemovalStore
from holdfast.storage import StorageSigner
from holdfast.usecases.clean_up import Cleaner

# one call of storage may take 15 seconds, then the events are left to remove
STOP_BEFORE_MILLISECONDS = 30_000

settings = config.load(config.CleanUpSettings)
cleaner = Cleaner(
    RemovalStore(Database(settings.database_url)),
    StorageSigner(settings.supabase_url, settings.supabase_secret_key.get_secret_value()),
    asset_days=settings.upload_retention_days,
    event_days=settings.event_retention_days,
)
init_sentry(settings)


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Clean up once and say what was done; `{"dry_run": true}` only counts."""
    cleaned = cleaner.run(
        lambda: context.get_remaining_time_in_millis() > STOP_BEFORE_MILLISECONDS,
        dry_run=event.get("dry_run") is True,
    )
    logger().info("cleaned", **asdict(cleaned))
    return asdict(cleaned)
