import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from holdfast.babysea import CATALOG_SECONDS, BabySeaClient
from holdfast.babysea_models import (
    Accepted,
    Busy,
    Canceled,
    CanceledEarlier,
    GenerateOutcome,
    NoSuchGeneration,
    NotCancelable,
    OperatorOutOfCredits,
    Refused,
    Unknown,
)
from holdfast.errors import ProviderError, ProviderUnavailableError, UnavailableError
from holdfast.vocabulary import MediaKind, ProviderStatus

ID = "22222222-2222-4222-8222-222222222222"
BODY = b'{"generation_prompt":"a lamp"}'
ACCEPTED = {"generation_id": ID, "generation_initialized": True, "model_identifier": "bfl/x"}


def success(data: Any, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """Return a success envelope."""
    envelope = {"status": "success", "request_id": "req_1", "data": data, **more}
    return httpx.Response(200, json=envelope, headers=headers)


def failure(
    status: int,
    code: str,
    *,
    retryable: bool = False,
    details: Any = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Return an error envelope."""
    error = {"code": code, "type": "t", "message": "words", "retryable": retryable}
    if details is not None:
        error["details"] = details
    return httpx.Response(status, json={"status": "error", "error": error}, headers=headers)


def html(status: int, headers: dict[str, str] | None = None) -> httpx.Response:
    """Return what an edge in front of the provider answers."""
    return httpx.Response(status, html="<h1>no</h1>", headers=headers)


class Provider:
    """Answers one after the other; an exception in the list is raised. The last one repeats."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self.now = 0.0
        self.client = BabySeaClient(
            "bye_test_key",
            "https://api.example.com/",
            http=httpx.Client(transport=httpx.MockTransport(self._answer)),
            sleep=self._sleep,
            jitter=lambda: 0.5,
            clock=lambda: self.now,
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def generate(self) -> GenerateOutcome:
        """Start a generation."""
        return self.client.generate(MediaKind.IMAGE, "bfl/flux-schnell", BODY, "gen:1")


def test_a_request_carries_the_exact_bytes_and_headers() -> None:
    """The stored bytes, the key and the documented headers are sent; the model id is not escaped."""
    provider = Provider(success(ACCEPTED))

    assert provider.generate() == Accepted(ID)

    [request] = provider.requests
    assert str(request.url) == "https://api.example.com/v1/generate/image/bfl/flux-schnell"
    assert request.content == BODY
    assert request.headers["idempotency-key"] == "gen:1"
    assert request.headers["authorization"] == "Bearer bye_test_key"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-babysea-sdk-runtime"] == "unknown"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (success(ACCEPTED, {"idempotency-replayed": "true"}), Accepted(ID)),
        (success({"generation_id": ID, "generation_status": "canceled"}), CanceledEarlier(ID)),
        (success({}), Unknown("success without a generation id")),
        (html(200), Unknown("200 HTTP_200")),
        (
            httpx.Response(302, headers={"location": "https://x.example.com"}),
            Unknown("302 HTTP_302"),
        ),
        (failure(402, "BSE1004"), OperatorOutOfCredits("BSE1004")),
        (failure(422, "BSE2006"), Refused("BSE2006", "words")),
        (failure(409, "BSE2015"), Refused("BSE2015", "words")),
        (failure(503, "BSE4006"), Refused("BSE4006", "words")),
        (failure(401, "BSE1002"), Refused("BSE1002", "words", before_lookup=True)),
        (failure(403, "BSE1007"), Refused("BSE1007", "words", before_lookup=True)),
        (html(403), Refused("HTTP_403", "", before_lookup=True)),
        (
            httpx.Response(404, json={"error": {"code": 7}}),
            Refused("HTTP_404", "", before_lookup=True),
        ),
        (failure(429, "BSE1009", details={"retry_after_seconds": 60}), Busy("BSE1009", 60)),
        (failure(429, "BSE1005", headers={"retry-after": "30"}), Busy("BSE1005", 30)),
        (html(429), Busy("HTTP_429", None)),
        (html(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), Busy("HTTP_429", None)),
        (html(408), Unknown("408 HTTP_408")),
        (httpx.ReadTimeout("t"), Unknown("ReadTimeout")),
        (httpx.ConnectTimeout("t"), Unknown("ConnectTimeout")),
    ],
)
def test_one_answer_has_one_outcome(answer: Any, outcome: Any) -> None:
    """Each answer that is not repeated has its named outcome."""
    provider = Provider(answer)

    assert provider.generate() == outcome
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("answer", "outcome", "waits"),
    [
        (failure(500, "BSE5001", retryable=True), Unknown("500 BSE5001"), [0.5, 1.0]),
        (html(502), Unknown("502 HTTP_502"), [0.5, 1.0]),
        (failure(409, "BSE2016"), Unknown("409 BSE2016"), [2.0, 4.0]),
        (failure(409, "BSE2016", retryable=True), Unknown("409 BSE2016"), [2.0, 4.0]),
        (httpx.ReadError("x"), Unknown("ReadError"), [0.5, 1.0]),
        (httpx.RemoteProtocolError("x"), Unknown("RemoteProtocolError"), [0.5, 1.0]),
        (failure(429, "BSE1009", retryable=True), Busy("BSE1009", None), [0.5, 1.0]),
        (html(429, {"retry-after": "3"}), Busy("HTTP_429", 3), [3, 3]),
    ],
)
def test_what_passes_is_asked_three_times_and_never_refused(
    answer: Any, outcome: Any, waits: Any
) -> None:
    """Trouble that may pass is repeated twice with the same bytes and key, then left unknown."""
    provider = Provider(answer)
    result = provider.generate()

    # After an attempt without an answer even an error proves nothing.
    if isinstance(result, Unknown) and isinstance(outcome, Unknown):
        assert result.reason.startswith(outcome.reason)
    else:
        assert result == outcome
    assert provider.waits == waits
    assert [r.content for r in provider.requests] == [BODY] * 3
    assert {r.headers["idempotency-key"] for r in provider.requests} == {"gen:1"}


@pytest.mark.parametrize("lost", [httpx.ReadError("reset"), html(502), failure(409, "BSE2016")])
def test_a_lost_answer_is_found_by_the_replay(lost: Any) -> None:
    """The repeated call learns the id of the generation that the first one started."""
    provider = Provider(lost, success(ACCEPTED, {"idempotency-replayed": "true"}))

    assert provider.generate() == Accepted(ID)


@pytest.mark.parametrize("refusal", [failure(401, "BSE1002"), failure(402, "BSE1004"), html(403)])
def test_a_refusal_after_a_lost_answer_is_unknown(refusal: Any) -> None:
    """What was perhaps accepted is not refused by a later attempt of the same call."""
    outcome = Provider(httpx.ReadError("reset"), refusal).generate()

    assert isinstance(outcome, Unknown)


def test_a_refusal_after_a_limit_is_definite() -> None:
    """A rate limit accepts nothing, so what follows it counts."""
    outcome = Provider(failure(429, "BSE1005", retryable=True), failure(422, "BSE2006")).generate()

    assert outcome == Refused("BSE2006", "words")


def test_a_call_ends_before_its_time_is_up() -> None:
    """No further attempt is started when the wait would pass the total time."""
    provider = Provider(html(502))
    provider.now = 0.0
    slow = provider.client
    slow._total_seconds = 0.7

    assert isinstance(provider.generate(), Unknown)
    assert len(provider.requests) == 2


@pytest.mark.parametrize("model", ["", "x", "a/../b", "../a/b", "a/b/c", "a/b?x=1", "a /b", "é/b"])
def test_a_model_that_could_leave_its_path_is_never_sent(model: Any) -> None:
    """A model id is two plain segments."""
    provider = Provider(success(ACCEPTED))

    with pytest.raises(ValueError, match="model"):
        provider.client.generate(MediaKind.IMAGE, model, BODY, "gen:1")
    assert provider.requests == []


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, "a\n"])
def test_a_bad_key_is_never_sent(key: Any) -> None:
    """A key the provider would not take, and so would not remember, is refused here."""
    with pytest.raises(ValueError, match="key"):
        Provider(success(ACCEPTED)).client.generate(MediaKind.VIDEO, "a/b", BODY, key)


def test_a_record_is_read_leniently() -> None:
    """Nulls, absent and unknown fields do not matter."""
    record = Provider(
        success(
            {
                "generation_id": ID,
                "generation_status": "succeeded",
                "generation_output_file": ["https://app.us.babysea.ai/1.png"],
                "generation_input_file": None,
                "brand_new": {"x": 1},
            }
        )
    ).client.get_generation(ID)

    assert record is not None
    assert record.generation_status is ProviderStatus.SUCCEEDED
    assert record.generation_output_file == ["https://app.us.babysea.ai/1.png"]
    empty = Provider(
        success(
            {"generation_id": ID, "generation_status": "pending", "generation_output_file": None}
        )
    ).client.get_generation(ID)
    assert empty is not None
    assert empty.generation_output_file == []


def test_an_unknown_record_is_none() -> None:
    """404 means there is no record, or no longer."""
    assert Provider(failure(404, "BSE4001")).client.get_generation(ID) is None


@pytest.mark.parametrize("answer", [html(404), failure(404, "BSE1008")], ids=["edge", "account"])
def test_a_404_about_something_else_proves_nothing(answer: Any) -> None:
    """The edge's 404 and one about our account do not say that the record is gone: it would be refunded."""
    with pytest.raises(ProviderUnavailableError):
        Provider(answer).client.get_generation(ID)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (html(503), UnavailableError),
        (html(429), UnavailableError),
        (httpx.ReadTimeout("t"), UnavailableError),
        (httpx.ConnectError("t"), UnavailableError),
        (failure(401, "BSE1002"), ProviderError),
        (html(403), ProviderError),
        (success({"generation_id": ID, "generation_status": "brand_new"}), ProviderError),
        (success({}), ProviderError),
    ],
)
def test_reading_fails_as_away_or_as_refused(answer: Any, error: Any) -> None:
    """A read that did not work says whether trying again makes sense."""
    with pytest.raises(error):
        Provider(answer).client.get_generation(ID)


def test_a_strange_id_is_never_sent() -> None:
    """An id that would change the path is an error of the provider's data."""
    provider = Provider(success({}))

    with pytest.raises(ProviderError):
        provider.client.get_generation("../v1/user/billing")
    assert provider.requests == []


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (
            success(
                {"generation_id": ID, "generation_status": "canceled", "credits_refunded": True}
            ),
            Canceled(credits_refunded=True),
        ),
        (
            success({"generation_id": ID, "generation_status": "succeeded"}),
            NotCancelable("succeeded"),
        ),
        (failure(409, "BSE4009"), NotCancelable("BSE4009")),
        (failure(404, "BSE4001"), NoSuchGeneration()),
        (html(404), Unknown("404 HTTP_404")),
        (failure(404, "BSE1008"), Unknown("404 BSE1008")),
        (html(502), Unknown("502 HTTP_502")),
        (failure(429, "BSE1005", retryable=True), Unknown("429 BSE1005")),
        (httpx.ReadError("reset"), Unknown("ReadError")),
        (httpx.ReadTimeout("t"), Unknown("ReadTimeout")),
    ],
)
def test_cancel_is_asked_once_and_says_what_happened(answer: Any, outcome: Any) -> None:
    """Cancel has no key, so it is not repeated; it has no body and no content type."""
    provider = Provider(answer)

    assert provider.client.cancel(ID) == outcome
    [request] = provider.requests
    assert request.method == "POST"
    assert request.url.path == f"/v1/content/generation/cancel/{ID}"
    assert request.content == b""
    assert "content-type" not in request.headers


def test_cancel_without_the_right_is_an_error() -> None:
    """A key without the scope to cancel is the operator's mistake, not an outcome."""
    with pytest.raises(ProviderError):
        Provider(failure(403, "BSE1003")).client.cancel(ID)


def test_prices_are_decimals_from_the_wire() -> None:
    """No float touches a price, in number or map form, and an estimate is exact."""
    rows = [
        {"model_identifier": "a/n", "model_type": "image", "model_pricing": 0.052, "schema": {}},
        {"model_identifier": "a/m", "model_type": "video", "model_pricing": {"480p": 0.03}},
        {"model_identifier": "a/none", "model_type": "image"},
        {"model_identifier": "a/odd", "model_type": "hologram"},
        "nonsense",
    ]
    number, by_size, none = Provider(success({"models": rows})).client.models()

    assert number.model_pricing == Decimal("0.052")
    assert by_size.model_pricing == {"480p": Decimal("0.03")}
    assert none.model_pricing is None
    provider = Provider(
        success({"model_identifier": "a/n", "cost_per_generation": 0.1, "cost_total_consumed": 0.3})
    )
    estimate = provider.client.estimate("a/n", count=3, duration=5, audio=False)
    assert estimate.cost_total_consumed == Decimal("0.3")
    assert dict(provider.requests[0].url.params) == {
        "count": "3",
        "duration": "5",
        "audio": "false",
    }


def test_the_catalogue_is_kept_for_five_minutes() -> None:
    """Within 300 seconds the provider is asked once."""
    provider = Provider(success({"models": []}))

    provider.client.models()
    provider.now = CATALOG_SECONDS - 1
    provider.client.models()
    assert len(provider.requests) == 1
    provider.now = CATALOG_SECONDS
    provider.client.models()
    assert len(provider.requests) == 2


def test_a_page_of_the_list_reads_its_totals_beside_the_data() -> None:
    """Total, limit and offset stand in the envelope."""
    row = {"generation_id": ID, "generation_status": "failed"}
    page = Provider(
        success({"generations": [row]}, total=7, limit=1, offset=0)
    ).client.list_generations(limit=1)

    assert (page.total, page.limit, page.offset) == (7, 1, 0)
    assert page.generations[0].generation_status is ProviderStatus.FAILED


@pytest.mark.parametrize(
    "error",
    [
        None,
        "text",
        [],
        {},
        {"code": "BSE1", "type": "t", "message": "m"},
        {"code": 1, "type": "t", "message": "m", "retryable": False},
        {"code": "BSE1", "type": "t", "message": None, "retryable": False},
        {"code": "BSE1", "type": "t", "message": "m", "retryable": "no"},
    ],
)
def test_a_mistyped_envelope_counts_by_its_status(error: Any) -> None:
    """An error object that is not as documented is judged by the HTTP status alone."""
    body = json.dumps({"status": "error", "error": error}).encode()

    refused = Provider(httpx.Response(400, content=body)).generate()
    unknown = Provider(httpx.Response(500, content=body)).generate()

    assert refused == Refused("HTTP_400", "", before_lookup=True)
    assert isinstance(unknown, Unknown)


def test_mistyped_details_are_dropped() -> None:
    """Details that are no object change nothing."""
    assert Provider(failure(429, "BSE1005", details=["x"])).generate() == Busy("BSE1005", None)
