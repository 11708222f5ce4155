"""Generate: POST /generations, POST /generations/{id}/cancel, GET /models, POST /estimates, POST /uploads."""

from __future__ import annotations

from http import HTTPStatus

from aws_lambda_powertools.event_handler import Response

from holdfast import config, http
from holdfast.accounts import AccountReader
from holdfast.assets import AssetStore
from holdfast.auth import TokenVerifier
from holdfast.babysea import BabySeaClient
from holdfast.database import Database
from holdfast.generations import GenerationStore, UserLimits
from holdfast.intake import Intake
from holdfast.pricing import GenerationRequest, OrderRequest, PricePolicy
from holdfast.rate_limit import rate_limiter
from holdfast.recovery import RecoveryStore
from holdfast.settle_queue import SettleQueue
from holdfast.storage import StorageSigner
from holdfast.usecases.ask_provider import ProviderInquiry
from holdfast.usecases.cancel import Canceler
from holdfast.usecases.create_generation import GenerationCreator
from holdfast.usecases.create_upload import UploadCreator, UploadRequest
from holdfast.usecases.dispatch import Dispatcher
from holdfast.usecases.list_models import offered_models
from holdfast.views import AcceptedView, CancelView, EstimateView, ModelsView, UploadView

settings = config.load(config.CreateGenerationSettings)
verifier = TokenVerifier.from_settings(settings)
limiter = rate_limiter(settings)
database = Database(settings.database_url)
generations = GenerationStore(database)
accounts = AccountReader(database)
assets = AssetStore(database)
storage = StorageSigner(settings.supabase_url, settings.supabase_secret_key.get_secret_value())
provider = BabySeaClient(settings.babysea_api_key.get_secret_value(), settings.babysea_base_url)
policy = PricePolicy(settings.price_markup, settings.price_minimum_credits)
queue = SettleQueue(settings.settle_queue_url)
recovery = RecoveryStore(database)
inquiry = ProviderInquiry(generations, recovery, provider, queue)
canceler = Canceler(recovery, inquiry)
creator = GenerationCreator(
    generations,
    assets,
    storage,
    provider,
    Dispatcher(generations, recovery, Intake(database), provider, queue, inquiry),
    policy,
    UserLimits(
        active=settings.max_active_generations,
        per_hour=settings.generations_per_hour,
        daily_credits=settings.daily_spend_credits,
    ),
)
uploads = UploadCreator(assets, storage)
app = http.create_app()


@app.get("/models", operation_id="listModels")
def list_models() -> ModelsView:
    """Return the models that can be used, with their fields and prices."""
    return offered_models(provider, policy)


@app.post("/estimates", operation_id="createEstimate")
def create_estimate(request: GenerationRequest) -> EstimateView:
    """Return the price of a request. Nothing is reserved."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    cost = creator.price(request).cost
    available = accounts.account(user.user_id).available
    return EstimateView(
        cost_credits=cost, available_credits=available, can_afford=available >= cost
    )


@app.post("/generations", status_code=HTTPStatus.ACCEPTED, operation_id="createGeneration")
def create_generation(
    request: OrderRequest, idempotency_key: http.IdempotencyKey
) -> Response[AcceptedView]:
    """Reserve and start a generation. The same key and request answer with the same generation."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    view = creator.create(user.user_id, idempotency_key, request)
    return Response(HTTPStatus.ACCEPTED, "application/json", view)


@app.post(
    "/generations/<generation_id>/cancel",
    operation_id="cancelGeneration",
    responses={
        status: {
            "description": status.phrase,
            "content": {"application/json": {"model": CancelView}},
        }
        for status in (HTTPStatus.OK, HTTPStatus.ACCEPTED)
    },
)
def cancel_generation(generation_id: str) -> Response[CancelView]:
    """Cancel, if it is not too late. 202 while the provider has not answered."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    view = canceler.cancel(user.user_id, http.id_or_not_found(generation_id))
    status = HTTPStatus.OK if view.outcome == "canceled" else HTTPStatus.ACCEPTED
    return Response(status, "application/json", view)


@app.post("/uploads", status_code=HTTPStatus.CREATED, operation_id="createUpload")
def create_upload(request: UploadRequest) -> Response[UploadView]:
    """Return where to upload one picture, and the id to use it by."""
    user = http.current_user(app)
    limiter.check(user.user_id)
    return Response(HTTPStatus.CREATED, "application/json", uploads.create(user.user_id, request))


handler = http.handler(app, settings, verifier=verifier, public=frozenset({"GET /models"}))
