from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from local.standins.babysea import BabySea
from local.standins.babysea_errors import ERRORS
from tests.contract.babysea_support import API_KEY, FLUX, SECRET, SEEDANCE, SEEDREAM, Api

pytest_plugins = ["tests.contract.babysea_fixtures"]


def _error(answer: httpx.Response) -> dict[str, Any]:
    body = answer.json()
    assert body["status"] == "error"
    error: dict[str, Any] = body["error"]
    assert {type(error[name]) for name in ("code", "type", "message")} == {str}
    assert isinstance(error["retryable"], bool)
    return error


class TestEnvelope:
    """Every answer's outer shape, and who gets one."""

    def test_success(self, api: Api) -> None:
        """A success has the five fields of the envelope, and a time in milliseconds and Z."""
        body = api.http.get("/v1/status").json()

        assert set(body) == {"status", "request_id", "message", "timestamp", "data"}
        assert body["status"] == "success"
        assert body["request_id"].startswith("req_")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
        assert body["data"]["apikey_prefix"] == API_KEY[:9]

    def test_list_counts_beside_data(self, babysea: BabySea, api: Api) -> None:
        """The list carries its counts beside `data` and shows the newest first."""
        ids = [api.create(prompt=f"{n}") for n in range(3)]
        body = api.http.get("/v1/content/list", params={"limit": 2, "offset": 0}).json()

        assert (body["total"], body["limit"], body["offset"]) == (3, 2, 0)
        rows = body["data"]["generations"]
        assert [row["generation_id"] for row in rows] == [ids[2], ids[1]]
        babysea.wait_idle()

    @pytest.mark.parametrize(
        ("header", "code"),
        [(None, "BSE1001"), ("Basic x", "BSE1001"), ("Bearer bye_other", "BSE1002")],
    )
    def test_authentication(self, babysea: BabySea, header: str | None, code: str) -> None:
        """No key and a wrong key are told apart; both are 401."""
        headers = {"authorization": header} if header else {}
        answer = httpx.get(f"{babysea.url}/v1/status", headers=headers, trust_env=False)

        assert answer.status_code == 401
        assert _error(answer)["code"] == code

    def test_scope(self, babysea: BabySea, api: Api) -> None:
        """A key that may not delete may not cancel either."""
        babysea.scopes = babysea.scopes - {"generation:delete"}
        generation_id = api.create()

        assert _error(api.cancel(generation_id))["code"] == "BSE1003"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/nothing"),
            ("PUT", "/v1/status"),
            ("GET", "/v1/content/list?limit=0"),
            ("GET", "/v1/usage?days=x"),
            ("POST", "/v1/generate/image/bfl%2Fflux-schnell"),
        ],
    )
    def test_edge(self, api: Api, method: str, path: str) -> None:
        """Unknown paths, wrong methods and malformed parameters get the edge's HTML."""
        answer = api.http.request(method, path)

        assert answer.status_code == 403
        assert answer.headers["content-type"] == "text/html"

    def test_every_reading_route_answers(self, api: Api) -> None:
        """Each reading route answers a success."""
        for path in (
            "status",
            "usage",
            "user/account",
            "user/billing",
            "library/models",
            "library/providers",
            "health/inference/providers",
            "health/inference/models",
            "health/storage",
            "health/cache",
        ):
            assert api.get(path)

    def test_rate_limit(self, babysea: BabySea, api: Api) -> None:
        """The request beyond the limit gets 429 with Retry-After; all answers carry the limit."""
        babysea.behaviour.rate_limit = 2
        answers = [api.http.get("/v1/status") for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [a.headers["x-ratelimit-remaining"] for a in answers] == ["1", "0", "0"]
        assert int(answers[2].headers["retry-after"]) >= 1
        assert _error(answers[2])["details"]["limit"] == 2

    def test_malformed_api_key(self) -> None:
        """A key that is not bye_... is refused at construction."""
        with pytest.raises(ValueError, match="bye_"):
            BabySea("sk_1", None, SECRET)


class TestEstimate:
    """Prices before anything is bought."""

    @pytest.mark.parametrize(
        ("balance", "model", "query", "expected"),
        [
            ("10.000", FLUX, {"count": 5}, (0.005, 0.025, 2000)),
            ("12.480", "bfl/flux-1.1-pro", {}, (0.052, 0.052, 240)),
            ("10", FLUX, {"count": 1000}, (0.005, 0.5, 2000)),
            ("10", FLUX, {"count": 0}, (0.005, 0.005, 2000)),
            ("10", SEEDANCE, {"duration": 5, "resolution": "720p"}, (0.31, 0.31, 32)),
            ("10", "bfl/flux-2-pro", {"resolution": "4MP"}, (0.075, 0.075, 133)),
            (
                "10",
                "bytedance/seedance-1.5-pro",
                {"duration": 4, "resolution": "720p", "audio": "true"},
                (0.256, 0.256, 39),
            ),
            ("10", "google/veo-2", {"duration": 8}, (4.0, 4.0, 2)),
        ],
    )
    def test_maths(
        self,
        babysea: BabySea,
        api: Api,
        balance: str,
        model: str,
        query: dict[str, Any],
        expected: tuple[float, float, int],
    ) -> None:
        """Price, total and affordable number follow from the catalogue, count clamped to 1-100."""
        babysea.account.balance = Decimal(balance)
        data = api.get(f"estimate/{model}", **query)

        assert expected == (
            data["cost_per_generation"],
            data["cost_total_consumed"],
            data["credit_balance_max_affordable"],
        )

    def test_without_a_price(self, api: Api) -> None:
        """A model without a price can neither be estimated nor bought."""
        assert _error(api.http.get("/v1/estimate/qwen/image"))["details"] == {"field": "model"}
        assert _error(api.post("qwen/image"))["details"] == {"field": "model"}

    def test_price_change(self, babysea: BabySea, api: Api) -> None:
        """A changed price holds for the next answer."""
        babysea.catalog[FLUX] = replace(babysea.catalog[FLUX], pricing=Decimal("0.5"))

        assert api.get(f"estimate/{FLUX}")["cost_per_generation"] == 0.5


class TestCreate:
    """The two generate routes."""

    def test_life_of_an_image(self, babysea: BabySea, api: Api) -> None:
        """An accepted image becomes a succeeded record with its inputs and a file."""
        data = api.post(prompt="a lamp", output_format="webp").json()["data"]
        assert data["generation_initialized"] is True
        assert data["generation_provider_order"] == ["bfl", "replicate", "fal"]
        babysea.wait_idle()
        record = api.record(data["generation_id"])

        assert record["generation_status"] == "succeeded"
        assert record["generation_prompt"] == "a lamp"
        assert record["generation_provider_used"] == "bfl"
        assert record["generation_prediction_id"] == data["generation_prediction_id"]
        [url] = record["generation_output_file"]
        assert url.startswith(babysea.url)
        assert url.endswith(".webp")

    @pytest.mark.parametrize(
        ("model", "body", "field"),
        [
            (FLUX, {"prompt": ""}, "prompt"),
            (FLUX, {"ratio": "2:1"}, "ratio"),
            (FLUX, {"output_format": "jpeg"}, "output_format"),
            (FLUX, {"output_number": 2}, "output_number"),
            (FLUX, {"provider_order": "fal"}, "provider_order"),
            (FLUX, {"input_file": ["http://127.0.0.1/a.png"]}, "input_file"),
            (SEEDANCE, {"duration": 7}, "duration"),
            (SEEDANCE, {"duration": 5, "resolution": "4k"}, "resolution"),
            (SEEDANCE, {"duration": 5, "generate_audio": True}, "generate_audio"),
            ("bfl/flux-1.1-pro", {"guidance_scale": "much"}, "guidance_scale"),
        ],
    )
    def test_invalid(self, api: Api, model: str, body: dict[str, Any], field: str) -> None:
        """A body outside the model's schema is BSE2001 and names the field."""
        error = _error(api.post(model, **body))

        assert error["code"] == "BSE2001"
        assert error["details"] == {"field": f"generation_{field}"}

    def test_unknown_model(self, babysea: BabySea, api: Api) -> None:
        """An unknown model is 404 in BabySea's shape, or the edge's 403 if so set."""
        assert api.post("bfl/none").status_code == 404
        babysea.behaviour.unknown_model = "edge"
        assert api.post("bfl/none").status_code == 403

    def test_unknown_body_keys(self, babysea: BabySea, api: Api) -> None:
        """Unknown keys are ignored, or refused if so set."""
        api.create(surprise=1)
        babysea.behaviour.unknown_fields = "refuse"
        assert _error(api.post(surprise=1))["code"] == "BSE2001"

    def test_too_large(self, api: Api) -> None:
        """A body beyond 100 KB is 413."""
        assert _error(api.post(prompt="x" * 103_000))["code"] == "BSE2010"

    def test_in_flight_cap(self, babysea: BabySea, api: Api) -> None:
        """One running generation too many is BSE1009, which is retryable."""
        babysea.behaviour.in_flight_cap = 1
        babysea.plan(outcome="stuck", times=1)
        api.create()

        error = _error(api.post())
        assert (error["code"], error["retryable"]) == ("BSE1009", True)

    def test_settings_of_leniency(self, babysea: BabySea, api: Api) -> None:
        """Answers gain unknown keys and lose null ones if so set."""
        babysea.behaviour.change(surprising_fields=True, omit_nulls=True, accepted_status=202)
        answer = api.post()
        assert answer.status_code == 202

        record = api.record(answer.json()["data"]["generation_id"])
        assert "x_new_field" in record
        assert None not in record.values()


class TestIdempotency:
    """What a repeated key gives."""

    def test_replay(self, babysea: BabySea, api: Api) -> None:
        """The same key and body again give the first answer, marked, and one generation."""
        first, again = api.post(key="k1"), api.post(key="k1")

        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["data"] == first.json()["data"]
        assert babysea.submissions == {"k1": 1}
        assert babysea.posts == {"k1": 2}

    def test_equality_of_bodies(self, babysea: BabySea, api: Api) -> None:
        """Bodies compare as JSON, or as bytes if so set."""
        url, headers = f"/v1/generate/image/{FLUX}", {"idempotency-key": "k1"}
        api.create(key="k1")
        spaced = json.dumps({"generation_prompt": "a lamp"}, indent=1)
        assert api.http.post(url, content=spaced, headers=headers).is_success

        babysea.behaviour.same_body = "bytes"
        headers["idempotency-key"] = "k2"
        api.create(key="k2")
        conflict = api.http.post(url, content=spaced, headers=headers)
        assert _error(conflict)["code"] == "BSE2015"

    def test_other_body(self, api: Api) -> None:
        """The same key with another body is a permanent conflict."""
        api.create(key="k1")
        answer = api.post(key="k1", prompt="another lamp")

        assert answer.status_code == 409
        assert (_error(answer)["code"], _error(answer)["retryable"]) == ("BSE2015", False)

    def test_still_running(self, babysea: BabySea, api: Api) -> None:
        """While the first call runs the same key is BSE2016; afterwards it is a replay."""
        babysea.plan(answer_after=0.4, times=1)
        first = threading.Thread(target=api.create, kwargs={"key": "k1"})
        first.start()
        while not babysea.jobs:
            pass
        during = api.post(key="k1")
        first.join()

        assert during.status_code == 409
        assert _error(during)["code"] == "BSE2016"
        assert api.post(key="k1").headers["idempotency-replayed"] == "true"
        assert babysea.submissions["k1"] == 1

    def test_canceled(self, babysea: BabySea, api: Api) -> None:
        """The replay of a canceled generation has the canceled shape only."""
        babysea.plan(outcome="stuck", times=1)
        generation_id = api.create(key="k1")
        api.cancel(generation_id)

        data = api.post(key="k1").json()["data"]
        assert data == {"generation_id": generation_id, "generation_status": "canceled"}

    def test_old_key(self, babysea: BabySea, api: Api) -> None:
        """A key past its life starts a new, billed generation."""
        api.create(key="k1")
        babysea.behaviour.key_life = 0
        api.create(key="k1")
        babysea.wait_idle()

        assert babysea.submissions["k1"] == 2
        assert babysea.billed == Decimal("0.010")

    def test_error_is_not_kept(self, babysea: BabySea, api: Api) -> None:
        """A refused call leaves its key free."""
        babysea.account.balance = Decimal(0)
        assert _error(api.post(key="k1"))["code"] == "BSE1004"
        babysea.account.add(Decimal(1))

        assert api.post(key="k1").is_success

    def test_lost_answer(self, babysea: BabySea, api: Api) -> None:
        """A lost answer leaves a running generation that a replay finds."""
        babysea.faults.add("lose_answer", match="POST /v1/generate/.*", times=1)
        with pytest.raises(httpx.TransportError):
            api.post(key="k1")

        assert api.create(key="k1") == babysea.jobs[0].generation_id
        assert babysea.submissions == {"k1": 1}

    def test_malformed_key(self, api: Api) -> None:
        """A key with other characters or too long is refused."""
        assert _error(api.post(key="a b"))["code"] == "BSE2001"
        assert _error(api.post(key="x" * 256))["code"] == "BSE2001"


class TestRefusal:
    """Requests that are answered with an error on demand."""

    def test_every_code(self, babysea: BabySea, api: Api) -> None:
        """Each known code can be forced, with its status and flag; nothing is accepted."""
        for code, (kind, status, retryable) in ERRORS.items():
            babysea.refuse(code, times=1)
            answer = api.post()

            error = _error(answer)
            assert answer.status_code == status
            assert (error["code"], error["type"], error["retryable"]) == (code, kind, retryable)
        assert babysea.jobs == []
        assert api.post().is_success

    def test_conditions(self, babysea: BabySea, api: Api) -> None:
        """Refusals can be aimed at prompts, keys, routes and the n-th call."""
        babysea.refuse("BSE2006", prompt_contains="forbidden")
        babysea.refuse("BSE2016", key="k9")
        babysea.refuse("BSE1005", route="GET /v1/content/.*", after=1, retry_after=7)

        assert api.post(prompt="a forbidden thing").status_code == 422
        assert _error(api.post(key="k9"))["code"] == "BSE2016"
        generation_id = api.create()
        api.record(generation_id)
        assert api.http.get(f"/v1/content/{generation_id}").headers["retry-after"] == "7"

    def test_shapes(self, babysea: BabySea, api: Api) -> None:
        """A refusal can be HTML, empty or an envelope of wrong types."""
        for shape in ("html", "empty", "mistyped"):
            babysea.refuse("BSE1005", shape=shape, times=1)
        html, empty, mistyped = api.post(), api.post(), api.post()

        assert html.headers["content-type"] == "text/html"
        assert empty.content == b""
        assert mistyped.json()["error"]["code"] == 4

    def test_provider_chain(self, babysea: BabySea, api: Api) -> None:
        """A failed chain names each provider; a record and event appear if so set."""
        babysea.behaviour.record_of_refused = True
        babysea.refuse("BSE4006", provider_errors=True, times=1)
        error = _error(api.post())
        babysea.wait_idle()

        assert [e["provider"] for e in error["provider_errors"]] == ["bfl", "replicate", "fal"]
        assert [job.status for job in babysea.jobs] == ["failed"]
        assert babysea.submissions == {}
        assert [delivery.event for delivery in babysea.deliveries] == ["generation.failed"]


class TestBilling:
    """The operator's own credits, exactly."""

    def test_success(self, babysea: BabySea, api: Api) -> None:
        """A price is reserved at once, kept on success, and exact."""
        api.create(SEEDREAM)
        assert api.get("user/billing")["billing_credit_balance"] == 9.88
        babysea.wait_idle()

        assert babysea.account.balance == Decimal("9.880")
        assert babysea.billed == Decimal("0.120")
        assert [entry.kind for entry in babysea.account.ledger] == ["reserve", "charge"]

    def test_failure(self, babysea: BabySea, api: Api) -> None:
        """A failed generation costs nothing and shows its error."""
        babysea.plan(outcome="fail", code="BSE4006", error="no luck")
        generation_id = api.create()
        babysea.wait_idle()
        record = api.record(generation_id)

        assert (record["generation_error_code"], record["generation_error"]) == (
            "BSE4006",
            "no luck",
        )
        assert record["generation_output_file"] is None
        assert babysea.account.balance == Decimal("10.000")
        assert babysea.billed == 0

    def test_partial_delivery(self, babysea: BabySea, api: Api) -> None:
        """Fewer outputs cost the full price, or what was delivered if so set."""
        babysea.plan(deliver=3)
        urls = []
        for per_output in (False, True):
            babysea.behaviour.charge_per_output = per_output
            generation_id = api.create(SEEDREAM)
            babysea.wait_idle()
            urls += api.record(generation_id)["generation_output_file"]

        assert len(urls) == 6
        assert [job.charged for job in babysea.jobs] == [Decimal("0.120"), Decimal("0.090")]
        assert babysea.account.balance == Decimal("9.790")

    def test_insufficient(self, babysea: BabySea, api: Api) -> None:
        """Too little is 402 and changes nothing; exactly enough is enough."""
        babysea.account.balance = Decimal("0.0049")
        answer = api.post()
        assert (answer.status_code, _error(answer)["code"]) == (402, "BSE1004")

        babysea.account.balance = Decimal("0.005")
        api.create()
        assert babysea.account.balance == 0

    def test_low_balance(self, babysea: BabySea, api: Api) -> None:
        """The warning comes once for each descent below the threshold."""
        babysea.account.balance = Decimal("0.506")
        for _ in range(3):
            api.create()
        babysea.wait_idle()
        warnings = [d for d in babysea.deliveries if d.event == "credits.low_balance"]

        assert [w.data["thresholds_crossed"] for w in warnings] == [
            [{"threshold": 0.5, "balance_at": 0.496}]
        ]

    def test_many_at_once(self, babysea: BabySea, api: Api) -> None:
        """Generations accepted at the same moment never spend more than there is."""
        babysea.account.balance = Decimal("0.020")
        babysea.behaviour.in_flight_cap = None
        threads = [threading.Thread(target=api.post) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        babysea.wait_idle()

        assert len(babysea.jobs) == 4
        assert babysea.billed == Decimal("0.020")
        assert babysea.account.balance == 0


class TestCancelAndDelete:
    """Ending a generation and removing it."""

    @pytest.mark.parametrize("outcome", ["stuck", "stuck_pending"])
    def test_cancel(self, babysea: BabySea, api: Api, outcome: str) -> None:
        """A running generation is canceled and refunded."""
        babysea.plan(outcome=outcome)
        generation_id = api.create()
        data = api.cancel(generation_id).json()["data"]

        assert data == {
            "generation_id": generation_id,
            "generation_status": "canceled",
            "provider_cancel_sent": True,
            "credits_refunded": True,
        }
        assert api.record(generation_id)["generation_status"] == "canceled"
        assert babysea.account.balance == Decimal("10.000")

    def test_not_refunded(self, babysea: BabySea, api: Api) -> None:
        """A cancel that refunds nothing says so and bills the price."""
        babysea.plan(outcome="stuck", credits_refunded=False, provider_cancel_sent=False)
        data = api.cancel(api.create()).json()["data"]

        assert (data["credits_refunded"], data["provider_cancel_sent"]) == (False, False)
        assert babysea.billed == Decimal("0.005")

    def test_terminal(self, babysea: BabySea, api: Api) -> None:
        """Canceling what has ended is 409, or repeats the state if so set."""
        generation_id = api.create()
        babysea.wait_idle()
        assert api.cancel(generation_id).status_code == 409

        babysea.behaviour.cancel_of_terminal = "ok"
        data = api.cancel(generation_id).json()["data"]
        assert data["generation_status"] == "succeeded"

    @pytest.mark.parametrize(
        ("after_cancel", "status", "billed"),
        [("drop", "canceled", "0"), ("emit", "succeeded", "0.005")],
    )
    def test_late_result(
        self, babysea: BabySea, api: Api, after_cancel: Any, status: str, billed: str
    ) -> None:
        """A result after the cancel is thrown away, or delivered and billed if so set."""
        babysea.behaviour.result_after_cancel = after_cancel
        babysea.plan(outcome="stuck")
        generation_id = api.create()
        while api.record(generation_id)["generation_status"] != "processing":
            pass
        api.cancel(generation_id)
        babysea.finish(generation_id)
        babysea.wait_idle()

        assert api.record(generation_id)["generation_status"] == status
        assert babysea.billed == Decimal(billed)
        assert babysea.account.balance == Decimal(10) - Decimal(billed)
        assert babysea.jobs[0].discarded is (after_cancel == "drop")

    def test_unknown(self, api: Api) -> None:
        """An unknown id is 404 for reading, canceling and deleting alike."""
        for method, path in (
            ("GET", "/v1/content/x"),
            ("DELETE", "/v1/content/x"),
            ("POST", "/v1/content/generation/cancel/x"),
        ):
            assert api.http.request(method, path).status_code == 404

    def test_delete(self, babysea: BabySea, api: Api) -> None:
        """Deleting takes record and files; a running generation cannot be deleted."""
        generation_id = api.create(SEEDREAM)
        assert api.http.delete(f"/v1/content/{generation_id}").status_code == 409
        babysea.wait_idle()
        [url, *_] = api.record(generation_id)["generation_output_file"]
        answer = api.http.delete(f"/v1/content/{generation_id}")

        assert answer.json()["data"] == {"generation_id": generation_id, "files_deleted": 4}
        assert api.http.get(f"/v1/content/{generation_id}").status_code == 404
        assert api.http.get(url).status_code == 404

    def test_canceled_at_post(self, babysea: BabySea, api: Api) -> None:
        """POST itself can answer the canceled shape."""
        babysea.plan(outcome="canceled")
        data = api.post().json()["data"]

        assert set(data) == {"generation_id", "generation_status"}
        assert babysea.account.balance == Decimal("10.000")


class TestControl:
    """Plans and settings, in Python and by HTTP."""

    def test_plan_and_calm(self, babysea: BabySea, api: Api) -> None:
        """Plans and refusals can be set and removed by HTTP."""
        for plan in (
            {"prompt_contains": "storm", "outcome": "fail", "code": "BSE4001"},
            {"refuse": "BSE1004", "prompt_contains": "broke"},
        ):
            assert api.http.post("/_control/plan", json=plan).status_code == 204
        api.create(prompt="a storm")
        assert api.post(prompt="broke").status_code == 402
        api.http.delete("/_control/plan")
        api.create(prompt="broke")
        babysea.wait_idle()

        rows = api.http.get("/_control/jobs").json()
        assert [row["status"] for row in rows] == ["failed", "succeeded"]
        assert len(api.http.get("/_control/deliveries").json()) == 4

    def test_behaviour(self, babysea: BabySea, api: Api) -> None:
        """Settings can be changed by HTTP; unknown names and values are refused."""
        assert api.http.post("/_control/behaviour", json={"in_flight_cap": 9}).is_success
        assert babysea.behaviour.in_flight_cap == 9

        for path, wrong in (
            ("behaviour", {"speed": 1}),
            ("behaviour", {"unknown_model": "perhaps"}),
            ("plan", {"outcome": "explode"}),
            ("plan", {"weather": "fine"}),
            ("plan", [1]),
        ):
            assert api.http.post(f"/_control/{path}", json=wrong).status_code == 400

    def test_queue_of_plans(self, babysea: BabySea, api: Api) -> None:
        """Equal plans of one use each are taken in order; other settings are independent."""
        babysea.plan(outcome="fail", times=1)
        babysea.plan(outcome="stuck", times=1)
        babysea.plan(deliver=0)
        for _ in range(3):
            api.create()
        babysea.wait_idle()

        assert [job.status for job in babysea.jobs] == ["failed", "processing", "succeeded"]
        assert [job.script.deliver for job in babysea.jobs] == [0, 0, 0]

    def test_rates_are_seeded(self) -> None:
        """The same seed strikes the same generations."""
        runs = []
        for _ in range(2):
            standin = BabySea(API_KEY, None, SECRET, seed=7)
            standin.plan(webhook="drop", rate=0.5)
            runs.append(
                [standin._plans.draw("POST /v1/generate/x", None, "", None) for _ in range(40)]
            )
            standin.stop()

        assert runs[0] == runs[1]
        assert 5 < sum(map(bool, runs[0])) < 35
