"""On a schedule: finish or refund what got stuck, expire what is due, compare with Stripe, send alerts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from holdfast import config
from holdfast.alerts import AlertStore
from holdfast.babysea import BabySeaClient
from holdfast.billing import BillingStore
from holdfast.catalog import catalog
from holdfast.database import Database
from holdfast.event_bus import EventBus
from holdfast.generations import GenerationStore
from holdfast.intake import Intake
from holdfast.ledger import LedgerClient
from holdfast.observability import init_sentry, logger, observed
from holdfast.reconciliation import ReconciliationStore
from holdfast.recovery import RecoveryStore
from holdfast.settle_queue import SettleQueue
from holdfast.stripe_client import CONNECT_SECONDS, connect
from holdfast.stripe_reader import StripeReader
from holdfast.usecases.apply_stripe import StripeApplier
from holdfast.usecases.ask_provider import SEARCH_SECONDS, ProviderInquiry
from holdfast.usecases.dispatch import Dispatcher
from holdfast.usecases.reconcile import Reconciler
from holdfast.usecases.recover import Patience, RecoverySweep
from holdfast.usecases.send_alerts import AlertSender

# What is begun must be able to end in time. The longest that one generation asks the provider: send it again, search
# the list (its last page begins when the search's time ends), look. One object of Stripe's: its page, itself, its
# price, its product; no call is repeated here, the next sweep does that.
PROVIDER_SECONDS = 8
STRIPE_READ_SECONDS = 4
_LONGEST_STEP_SECONDS = max(
    3 * PROVIDER_SECONDS + SEARCH_SECONDS, 4 * (CONNECT_SECONDS + STRIPE_READ_SECONDS)
)
_QUERIES_AND_QUEUE_SECONDS = 3
STOP_BEFORE_MILLISECONDS = 1000 * (_LONGEST_STEP_SECONDS + _QUERIES_AND_QUEUE_SECONDS)

settings = config.load(config.RecoverySweepSettings)
database = Database(settings.database_url)
generations = GenerationStore(database)
provider = BabySeaClient(
    settings.babysea_api_key.get_secret_value(),
    settings.babysea_base_url,
    read_seconds=PROVIDER_SECONDS,
    total_seconds=PROVIDER_SECONDS,
)
queue = SettleQueue(settings.settle_queue_url)
recovery = RecoveryStore(database)
intake = Intake(database)
inquiry = ProviderInquiry(generations, recovery, provider, queue)
sweep = RecoverySweep(
    generations,
    recovery,
    intake,
    LedgerClient(database),
    provider,
    Dispatcher(generations, recovery, intake, provider, queue, inquiry),
    inquiry,
    queue,
    Patience(
        idle=settings.sweep_after_seconds,
        image=settings.deadline_image_seconds,
        video=settings.deadline_video_seconds,
        give_up=settings.give_up_after_seconds,
    ),
)
reader = StripeReader(
    connect(
        settings.stripe_api_key.get_secret_value(),
        settings.stripe_api_base,
        read_seconds=STRIPE_READ_SECONDS,
        retries=0,
    )
)
reconciler = Reconciler(
    ReconciliationStore(database),
    reader,
    StripeApplier(BillingStore(database, catalog()), reader),
    every_seconds=settings.reconcile_every_seconds,
)
alerts = AlertSender(AlertStore(database), EventBus(settings.event_bus_name))
init_sentry(settings)


@observed
def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Sweep once and say what was done."""

    def has_time() -> bool:
        return context.get_remaining_time_in_millis() > STOP_BEFORE_MILLISECONDS

    swept = sweep.run(has_time)
    reconciled = reconciler.run(has_time)
    done = asdict(swept) | asdict(reconciled) | {"alerts_sent": alerts.run()}
    logger().info("swept", **done)
    return done
