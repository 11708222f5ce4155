"""
BabySea's HTTP API: what stands before every route, the routes, and the output files.

The state behind them is in the modules this one brings together; the switches are in `BabySea`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from local.standins import babysea_reports as reports
from local.standins.babysea_account import Account, IdempotencyKeys, RateWindow
from local.standins.babysea_background import Background
from local.standins.babysea_behaviour import Behaviour, Refusal, Rules, Script
from local.standins.babysea_catalog import Model, NoPriceError, catalogue
from local.standins.babysea_errors import Refused, edge_refusal, success
from local.standins.babysea_files import PRIVATE_PATH, missing, output, private
from local.standins.babysea_job import Job
from local.standins.babysea_jobs import Jobs
from local.standins.babysea_requests import EdgeRefusedError, check_generation, number, parsed_body
from local.standins.babysea_webhooks import Webhooks
from local.standins.server import Request, Response, StandIn

ALL_SCOPES = frozenset(
    {
        "generation:write",
        "generation:read",
        "generation:delete",
        "account:read",
        "health:read",
        "library:read",
    }
)
_MAX_BODY_BYTES = 100 * 1024
_API_KEY = re.compile(r"bye_[A-Za-z0-9_-]+")
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9_\-:.]{1,255}")


class BabySeaApi(StandIn):
    """The service itself, with all its state."""

    def __init__(
        self,
        api_key: str,
        webhook_url: str | None,
        webhook_secret: str,
        port: int = 0,
        *,
        balance: Decimal = Decimal("10.000"),
        seed: int = 0,
        behaviour: Behaviour | None = None,
    ) -> None:
        if not _API_KEY.fullmatch(api_key):
            raise ValueError("api_key must be bye_ and then letters, digits, _ or -")
        super().__init__(port, seed)
        self._behaviour = behaviour or Behaviour()
        self.catalog = catalogue()
        self.scopes = ALL_SCOPES
        self.account = Account(balance)
        self.background = Background()
        self.webhooks = Webhooks(webhook_url, webhook_secret, self.behaviour, self.background)
        self._api_key = api_key
        self._keys = IdempotencyKeys(self.behaviour)
        self._jobs = Jobs(self.url, self.account, self.behaviour, self.background, self.webhooks)
        self._plans = Rules(Script, seed)
        self._refusals = Rules(Refusal, seed)
        self._window = RateWindow(self.behaviour)
        self._statuses: list[int] = []
        self._add_routes()

    @property
    def behaviour(self) -> Behaviour:
        """The answers to the open questions; its attributes may be set at any time."""
        return self._behaviour

    def stop(self) -> None:
        """Stop serving, the life cycle and deliveries."""
        super().stop()
        self.background.stop()

    def not_found(self, request: Request) -> Response:
        """Answer as the edge does: 403 and HTML, whatever is wrong with the path or method."""
        return edge_refusal() if request.path.startswith("/v1/") else missing()

    def _add_routes(self) -> None:
        account = self.account
        for path, scope, report in (
            ("status", "account:read", lambda: reports.key(account, self._api_key)),
            ("user/account", "account:read", lambda: reports.person(account)),
            ("user/billing", "account:read", lambda: reports.billing(account)),
            ("library/models", "library:read", lambda: reports.models(self.catalog.values())),
            ("library/providers", "library:read", lambda: reports.providers(self.catalog.values())),
            (
                "health/inference/providers",
                "health:read",
                lambda: reports.provider_health(self.catalog.values()),
            ),
            (
                "health/inference/models",
                "health:read",
                lambda: reports.model_health(self.catalog.values()),
            ),
            ("health/storage", "health:read", lambda: reports.STORAGE_HEALTH),
            ("health/cache", "health:read", lambda: reports.CACHE_HEALTH),
        ):
            show = partial(self._report, report)
            self.route("GET", f"/v1/{path}", partial(self._guarded, scope, show))
        for method, path, scope, handler in (
            ("GET", "usage", "account:read", self._usage),
            ("GET", "estimate/{model+}", "library:read", self._estimate),
            ("POST", "generate/image/{model+}", "generation:write", self._generate_image),
            ("POST", "generate/video/{model+}", "generation:write", self._generate_video),
            ("GET", "content/list", "generation:read", self._list),
            ("GET", "content/{id}", "generation:read", self._content),
            ("DELETE", "content/{id}", "generation:delete", self._delete),
            ("POST", "content/generation/cancel/{id}", "generation:delete", self._cancel),
        ):
            self.route(method, f"/v1/{path}", partial(self._guarded, scope, handler))
        self.route("GET", "/out/{id}/{name}", self._file)
        self.route("GET", PRIVATE_PATH, lambda _: private())

    def _guarded(
        self, scope: str, handler: Callable[[Request], Response], request: Request
    ) -> Response:
        """Run what stands before every API handler, and turn refusals into answers."""
        if "%" in request.raw_path:
            return edge_refusal()  # model ids travel unescaped
        try:
            response = self._refused(request) or self._served(scope, handler, request)
        except Refused as refused:
            response = refused.response()
        except EdgeRefusedError:
            response = edge_refusal()
        response.headers |= self._window.headers()
        self._statuses.append(response.status)
        return response

    def _served(
        self, scope: str, handler: Callable[[Request], Response], request: Request
    ) -> Response:
        if len(request.body) > _MAX_BODY_BYTES:
            raise Refused("BSE2010")
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not key:
            raise Refused("BSE1001")
        if key != self._api_key:
            raise Refused("BSE1002")
        if scope not in self.scopes:
            raise Refused("BSE1003", f"the key lacks the scope {scope}")
        self._window.count()
        return handler(request)

    def _refused(self, request: Request) -> Response | None:
        """Return the answer of a refusal rule that strikes this request."""
        model = self.catalog.get(request.params.get("model", ""))
        try:
            body = parsed_body(request.body)
        except Refused:
            body = {}
        prompt, key = str(body.get("generation_prompt", "")), request.headers.get("idempotency-key")
        settings = self._refusals.draw(
            f"{request.method} {request.path}", model.identifier if model else None, prompt, key
        )
        if not settings:
            return None
        refusal = Refusal(**settings)
        if refusal.provider_errors and model and prompt and self.behaviour.record_of_refused:
            self._jobs.refuse(model, body, key, refusal.message, refusal.code)
        return refusal.response(model.providers if model else ())

    def _answer(self, data: dict[str, Any], message: str = "ok", **options: int) -> Response:
        if self.behaviour.omit_nulls:
            data = {name: value for name, value in data.items() if value is not None}
        if self.behaviour.surprising_fields:
            data = data | {"x_new_field": {"nested": [1, None]}}
        return success(data, message, **options)

    def _report(self, report: Callable[[], dict[str, Any]], _request: Request) -> Response:
        return self._answer(report())

    def _usage(self, request: Request) -> Response:
        days = number(request.query, "days", 30, 1, 90)
        return self._answer(reports.usage(self.account, days, self._jobs.all(), self._statuses))

    def _estimate(self, request: Request) -> Response:
        model = self._model(request)
        if model is None:
            return edge_refusal()
        query = request.query
        count = min(max(number(query, "count", 1, 0, 10**9), 1), 100)
        video = model.kind == "video"
        duration = number(query, "duration", model.durations[0], 1, 3600) if video else None
        resolution = query.get("resolution") or next(iter(model.resolutions), None)
        audio = query.get("audio") == "true"
        rate = _priced(lambda: model.rate(resolution, audio=audio))
        cost = model.cost_per_output(resolution, duration, audio=audio)
        balance = self.account.balance
        data: dict[str, Any] = {
            "model_identifier": model.identifier,
            "model_type": model.kind,
            "assets_count": count,
            "cost_per_generation": float(cost),
            "cost_total_consumed": float(cost * count),
            "credit_balance": float(balance),
            "credit_balance_can_afford": balance >= cost * count,
            "credit_balance_max_affordable": int(balance // cost),
        }
        if video:
            data |= {"cost_per_second": float(rate), "duration_seconds": duration}
        if resolution:
            data["resolution"] = resolution
        return self._answer(data)

    def _generate_image(self, request: Request) -> Response:
        return self._generate(request, "image")

    def _generate_video(self, request: Request) -> Response:
        return self._generate(request, "video")

    def _generate(self, request: Request, kind: str) -> Response:
        model = self._model(request, kind)
        if model is None:
            return edge_refusal()
        body = parsed_body(request.body)
        check_generation(model, body, self.behaviour)
        key = request.headers.get("idempotency-key")
        if key is None:
            return self._accepted(self._submit(model, body, key, request))
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise Refused("BSE2001", "malformed key", details={"field": "Idempotency-Key"})
        scope = (self.account.account_id, kind, model.identifier, key)
        use = self._keys.claim(scope, request.body)
        if use.job is not None:
            return self._accepted(use.job, replayed=True)
        try:
            use.job = self._submit(model, body, key, request)
        finally:
            self._keys.finish(scope, use)
        return self._accepted(use.job)

    def _submit(self, model: Model, body: dict[str, Any], key: str | None, request: Request) -> Job:
        cost = model.outputs * _priced(
            lambda: model.cost_per_output(
                body.get("generation_resolution"),
                body.get("generation_duration"),
                audio=body.get("generation_generate_audio", False),
            )
        )
        line = f"{request.method} {request.path}"
        drawn = self._plans.draw(line, model.identifier, body["generation_prompt"], key)
        job = self._jobs.submit(model, body, key, cost, Script(**drawn))
        time.sleep(job.script.answer_after)
        return job

    def _accepted(self, job: Job, *, replayed: bool = False) -> Response:
        data: dict[str, Any] = {
            "model_identifier": job.model.identifier,
            "generation_provider_order": job.providers,
            "generation_prediction_id": job.prediction_id,
            "generation_id": job.generation_id,
            "generation_initialized": True,
        }
        if job.status == "canceled":
            data = {"generation_id": job.generation_id, "generation_status": "canceled"}
        response = self._answer(
            data, "Generation initialized", status=self.behaviour.accepted_status
        )
        if replayed:
            response.headers["idempotency-replayed"] = "true"
        return response

    def _list(self, request: Request) -> Response:
        limit = number(request.query, "limit", 50, 1, 100)
        offset = number(request.query, "offset", 0, 0, 10**9)
        jobs = self._jobs.listed()
        rows = [self._record(job) for job in jobs[offset : offset + limit]]
        return self._answer({"generations": rows}, total=len(jobs), limit=limit, offset=offset)

    def _content(self, request: Request) -> Response:
        return self._answer(self._record(self._jobs.get(request.params["id"])))

    def _record(self, job: Job) -> dict[str, Any]:
        return job.record(self.behaviour, self._jobs.output_urls(job))

    def _delete(self, request: Request) -> Response:
        generation_id = request.params["id"]
        deleted = self._jobs.delete(generation_id)
        return self._answer({"generation_id": generation_id, "files_deleted": deleted})

    def _cancel(self, request: Request) -> Response:
        return self._answer(self._jobs.cancel(request.params["id"]))

    def _model(self, request: Request, kind: str | None = None) -> Model | None:
        """Return the model of the path; None when the edge is to refuse an unknown one."""
        model = self.catalog.get(request.params["model"])
        if model and kind in (None, model.kind):
            return model
        if self.behaviour.unknown_model == "edge":
            return None
        details = {"field": "model_identifier"}
        code = self.behaviour.unknown_model_code
        raise Refused(code, "no such model", status=404, details=details)

    def _file(self, request: Request) -> Response:
        index, _, extension = request.params["name"].partition(".")
        try:
            job = self._jobs.get(request.params["id"])
        except Refused:
            return missing()
        if not index.isdigit() or extension != job.file_format:
            return missing()
        return output(job, int(index), self.behaviour, self._jobs.foreign_url)


def _priced(price: Callable[[], Decimal]) -> Decimal:
    try:
        return price()
    except NoPriceError as error:
        raise Refused("BSE2001", str(error), details={"field": error.field}) from error
