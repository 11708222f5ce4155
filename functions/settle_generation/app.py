"""The settle queue: copy outputs to private storage, then charge for what arrived."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from holdfast import config
from holdfast.database import Database
from holdfast.errors import HoldfastError
from holdfast.generations import GenerationStore
from holdfast.observability import init_sentry, logger, observed, report
from holdfast.output_copier import OutputCopier
from holdfast.recovery import RecoveryStore
from holdfast.storage import StorageSigner
from holdfast.usecases.lease_settlement import LeasedSettler
from holdfast.usecases.settle_generation import FILE_SECONDS, GenerationSettler

# what is begun must be able to end in time: a file, its upload, the statements after it
STOP_BEFORE_MILLISECONDS = 1000 * (FILE_SECONDS + 5)

settings = config.load(config.SettleGenerationSettings)
database = Database(settings.database_url)
settler = LeasedSettler(
    RecoveryStore(database),
    GenerationSettler(
        GenerationStore(database),
        OutputCopier(settings.output_origins, settings.max_output_bytes),
        StorageSigner(settings.supabase_url, settings.supabase_secret_key.get_secret_value()),
    ),
)
# if every record fails they all come back; that is no reason for the function to fail
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
init_sentry(settings)


def settle(record: SQSRecord, lambda_context: LambdaContext) -> None:
    """Settle the generation of one message; what this raises brings the message back."""
    try:
        message = json.loads(record.body)
        settler.settle(
            UUID(message["generation_id"]),
            record.message_id,
            give_up=message.get("give_up") is True,
            has_time=lambda: (
                lambda_context.get_remaining_time_in_millis() > STOP_BEFORE_MILLISECONDS
            ),
        )
    except HoldfastError as trouble:
        logger().warning("settlement postponed", reason=str(trouble), message_id=record.message_id)
        raise
    except Exception as error:
        report(error, "settlement failed")
        raise


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Answer which messages are to come back."""
    return process_partial_response(event, settle, processor, context)
