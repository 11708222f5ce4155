from __future__ import annotations

import time
from typing import Any

import pytest

from local.standins.babysea import BabySea
from local.standins.babysea_webhooks import TEST_GENERATION_ID, sign
from tests.contract.babysea_support import SECRET, Api, Receiver

pytest_plugins = ["tests.contract.babysea_fixtures"]

_T = 1767225600
_IDS = (
    '"account_id":"11111111-1111-4111-8111-111111111111","model_identifier":"%s",'
    '"generation_id":"22222222-2222-4222-8222-222222222222","generation_status":"%s"'
)


def _payload(
    number: int, event: str, status: str, rest: str, model: str = "bfl/flux-schnell"
) -> bytes:
    head = (
        f'{{"webhook_event":"generation.{event}","webhook_timestamp":"2026-01-01T00:00:00.000Z",'
        f'"webhook_delivery_id":"dlv_{number}","webhook_data":{{{_IDS % (model, status)}'
    )
    return f"{head},{rest}}}}}".encode()


_COMPLETED = _payload(
    1,
    "completed",
    "succeeded",
    '"generation_provider_used":"replicate","generation_prediction_id":"pred_1",'
    '"generation_output_file":["https://app.us.babysea.ai/out/1.png"]',
)
_FAILED = _payload(
    2,
    "failed",
    "failed",
    '"generation_error":"provider refused","generation_error_code":"BSE4006"',
)
_CANCELED = _payload(
    3, "canceled", "canceled", '"generation_prediction_id":"pred_1","credits_refunded":true'
)
_NOT_ASCII = _payload(
    4,
    "failed",
    "failed",
    '"generation_error":"café 海","generation_error_code":"BSE2006"',
    "qwen/image",
)


class TestSignature:
    """The published vectors and the stand-in's own signer."""

    @pytest.mark.parametrize(
        ("body", "length", "secret", "moment", "expected"),
        [
            (
                _COMPLETED,
                451,
                1,
                _T,
                "ff6ed83cc8bc11f886e8381cb79e3ed9ef0d674f92b3b2787c9f1602bb35287c",
            ),
            (
                _FAILED,
                377,
                1,
                _T,
                "270ff3c3eadf14cd1c64654a5aba80e518affc4db8329449b64207296029d396",
            ),
            (
                _CANCELED,
                369,
                1,
                _T,
                "87f640da89d04df7ba9fcbddadaf71682c099910d3d59f3f40d097fe8fb34095",
            ),
            (
                _NOT_ASCII,
                364,
                1,
                _T,
                "543d86ce9a6bd0dc52b42f47113ca8f577c88f725f1de38ebb6e6b7841c2a6d4",
            ),
            (b"{}", 2, 1, _T, "f8b9fb5738c55496690a66c7de25923966dfcf3a732a1c2fdea8c5e763479b8e"),
            (b"", 0, 1, _T, "e779b0d1949d423446265a67e7693dff6b9d93e27f85dd2cbd32244da4a14cd6"),
            (b"{}", 2, 2, _T, "d6308883ce6d2a2e82cacd5382a9f4f4291badfb2bfea2e462af4074f1addd41"),
            (
                b"{}",
                2,
                1,
                _T + 1,
                "fc2c1b2235e752b1d6e3dca5cf7a51df6d1cf6fbb1836298ebfba6b56dd70c25",
            ),
            (b"{}\n", 3, 1, _T, "f993b1ec901c1fe9db2ac34a2d79d9d22eb62f733101aa49288da43440c3a611"),
            (b"{ }", 3, 1, _T, "60b42fa8f73eb46213927d1e12f1da7cb62f5324b7d967255c1fbc73235c1675"),
        ],
        ids=[f"V{number}" for number in range(1, 11)],
    )
    def test_vector(
        self, body: bytes, length: int, secret: int, moment: int, expected: str
    ) -> None:
        """The signer gives the published signature for the published bytes."""
        assert len(body) == length
        assert sign(f"whsec_test_{secret}", body, moment) == f"t={moment},v1={expected}"

    def test_defaults(self, babysea: BabySea) -> None:
        """Without a secret and time the right ones are taken."""
        assert babysea.sign(b"{}", timestamp=_T) == sign(SECRET, b"{}", _T)
        assert babysea.sign(b"{}", secret="x", timestamp=_T) == sign("x", b"{}", _T)
        stamp = int(babysea.sign(b"{}").split(",")[0].removeprefix("t="))
        assert abs(stamp - time.time()) < 5


class TestDelivery:
    """What the receiver gets when all is well, and when the receiver is not."""

    def test_success(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """A generation sends started and completed, signed, with ids equal in body and header."""
        generation_id = api.create()
        babysea.wait_idle()

        assert receiver.events == ["generation.started", "generation.completed"]
        assert all(callback.verifies(SECRET) for callback in receiver.callbacks)
        first, last = receiver.callbacks
        assert first.delivery_id != last.delivery_id
        assert f'"webhook_delivery_id":"{last.delivery_id}"'.encode() in last.body
        assert last.headers["x-babysea-event"] == "generation.completed"
        assert last.headers["x-babysea-timestamp"].encode() in last.body
        assert last.data == {
            "account_id": babysea.account.account_id,
            "model_identifier": "bfl/flux-schnell",
            "generation_id": generation_id,
            "generation_status": "succeeded",
            "generation_provider_used": "bfl",
            "generation_prediction_id": babysea.jobs[0].prediction_id,
            "generation_output_file": [f"{babysea.url}/out/{generation_id}/0.png"],
        }

    def test_failure(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """A failed generation sends its error."""
        babysea.plan(outcome="fail", code="BSE2006", error="café 海")
        api.create()
        babysea.wait_idle()

        data = receiver.callbacks[-1].data
        assert (data["generation_error_code"], data["generation_error"]) == ("BSE2006", "café 海")
        assert "café 海".encode() in receiver.callbacks[-1].body

    def test_cancel(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """A cancel sends whether the credits came back."""
        babysea.plan(outcome="stuck_pending")
        api.cancel(api.create())
        babysea.wait_idle()

        assert receiver.events == ["generation.canceled"]
        assert receiver.callbacks[0].data["credits_refunded"] is True

    def test_retries(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """What is not answered 2xx comes again, the same in every byte."""
        babysea.plan(webhook="reorder")  # so that all answers below are for `completed`
        receiver.answers = [500, 302, 404]
        api.create()
        babysea.wait_idle()

        tries = [c for c in receiver.callbacks if c.event == "generation.completed"]
        assert len(tries) >= 2
        assert len({(c.body, c.headers["x-babysea-signature"]) for c in tries}) == 1
        assert {d.state for d in babysea.deliveries} == {"delivered"}

    def test_resigned_retries(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """Attempts are signed anew if so set; the delivery id stays."""
        babysea.behaviour.resign_attempts = True
        babysea.behaviour.webhook_waits = (0, 1.1)
        babysea.plan(outcome="stuck")
        receiver.answers = [500]
        api.create()
        babysea.wait_idle()

        first, second = receiver.callbacks
        assert first.delivery_id == second.delivery_id
        assert first.signed_at() < second.signed_at()
        assert second.verifies(SECRET)

    def test_attempts_end(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """After five attempts a delivery has failed and is not tried again."""
        babysea.plan(outcome="stuck")
        receiver.answers = [500] * 9
        api.create()
        babysea.wait_idle()

        [delivery] = babysea.deliveries
        assert delivery.state == "failed"
        assert [attempt.status for attempt in delivery.attempts] == [500] * 5

    def test_disabled_endpoint(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """Too many failures disable the endpoint; what queues leaves with new ids when released."""
        babysea.behaviour.disable_after = 5
        babysea.plan(outcome="stuck", times=1)
        receiver.answers = [500] * 5
        api.create()
        babysea.wait_idle()
        api.create()
        babysea.wait_idle()
        assert len(receiver.callbacks) == 5
        queued = [d for d in babysea.deliveries if d.state == "queued"]
        assert len(queued) == 2

        assert api.http.post("/_control/release").is_success
        babysea.wait_idle()
        assert sorted(receiver.events[5:]) == ["generation.completed", "generation.started"]
        ids = {callback.delivery_id for callback in receiver.callbacks[5:]}
        assert ids.isdisjoint(delivery.delivery_id for delivery in queued)

    def test_no_endpoint(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """Without a webhook_url events queue; it can be set later."""
        babysea.webhook_url = None
        api.create()
        babysea.wait_idle()
        assert [d.state for d in babysea.deliveries] == ["queued", "queued"]

        babysea.webhook_url = receiver.hook
        api.create()
        babysea.wait_idle()
        assert len(receiver.callbacks) == 2

    def test_receiver_down(self, babysea: BabySea, api: Api) -> None:
        """A receiver that refuses connections uses up the attempts like any failure."""
        babysea.webhook_url = "http://127.0.0.1:9/webhooks/babysea"
        babysea.plan(outcome="stuck")
        api.create()
        babysea.wait_idle()

        assert babysea.deliveries[0].state == "failed"
        assert babysea.deliveries[0].attempts[0].status is None

    def test_new_secret(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """A rotated secret acts at once."""
        babysea.webhook_secret = "whsec_test_2"
        api.create()
        babysea.wait_idle()

        assert receiver.callbacks[0].verifies("whsec_test_2")


class TestFaults:
    """Each way a callback can go wrong."""

    def _run(self, babysea: BabySea, api: Api, fault: str) -> None:
        babysea.plan(webhook=fault)
        api.create()
        babysea.wait_idle()

    def test_drop(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """Nothing arrives, and the log says why."""
        self._run(babysea, api, "drop")

        assert receiver.callbacks == []
        assert [d.state for d in babysea.deliveries] == ["dropped", "dropped"]

    def test_duplicate(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """Each callback arrives twice, equal in id and signature."""
        self._run(babysea, api, "duplicate")

        assert len(receiver.callbacks) == 4
        seen = {
            (c.delivery_id, c.body, c.headers["x-babysea-signature"]) for c in receiver.callbacks
        }
        assert len(seen) == 2
        assert all(callback.verifies(SECRET) for callback in receiver.callbacks)

    def test_replay(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """Each callback arrives again under a new id."""
        self._run(babysea, api, "replay")

        assert sorted(receiver.events) == ["generation.completed"] * 2 + ["generation.started"] * 2
        assert len({callback.delivery_id for callback in receiver.callbacks}) == 4

    def test_reorder(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """The end arrives before the start."""
        self._run(babysea, api, "reorder")

        assert receiver.events == ["generation.completed", "generation.started"]

    def test_late(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """Callbacks come when the record has long been final."""
        babysea.plan(webhook="late")
        generation_id = api.create()
        time.sleep(0.2)
        assert api.record(generation_id)["generation_status"] == "succeeded"
        assert receiver.callbacks == []
        babysea.wait_idle()

        assert len(receiver.callbacks) == 2
        assert abs(receiver.callbacks[-1].signed_at() - time.time()) < 5

    def test_bad_signature(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """The signature is another secret's."""
        self._run(babysea, api, "bad_signature")

        assert not any(callback.verifies(SECRET) for callback in receiver.callbacks)

    @pytest.mark.parametrize(("fault", "seconds"), [("stale", -600), ("future", 600)])
    def test_wrong_time(
        self, babysea: BabySea, api: Api, receiver: Receiver, fault: str, seconds: int
    ) -> None:
        """The signature is right, but of another time."""
        self._run(babysea, api, fault)

        assert all(callback.verifies(SECRET) for callback in receiver.callbacks)
        assert abs(receiver.callbacks[0].signed_at() - time.time() - seconds) < 5

    def test_early(self, babysea: BabySea, api: Api, receiver: Receiver) -> None:
        """Both callbacks have arrived when POST answers."""
        babysea.plan(webhook="early")
        generation_id = api.create()

        assert receiver.events == ["generation.started", "generation.completed"]
        assert receiver.callbacks[0].data["generation_id"] == generation_id

    @pytest.mark.parametrize(("setting", "before"), [("off", 0), ("started", 1), ("completed", 2)])
    def test_before_answer(
        self, babysea: BabySea, api: Api, receiver: Receiver, setting: Any, before: int
    ) -> None:
        """The setting says which callbacks precede the answer; all come in the end."""
        babysea.behaviour.callback_before_answer = setting
        babysea.behaviour.pending = 0.3
        babysea.behaviour.processing = 0.3
        api.create()
        assert len(receiver.callbacks) == before
        babysea.wait_idle()

        assert receiver.events == ["generation.started", "generation.completed"]


class TestForged:
    """Callbacks of the test's own making."""

    def test_as_babysea_would(self, babysea: BabySea, receiver: Receiver) -> None:
        """Without overrides a forged callback is a right one."""
        status = babysea.deliver("webhook.test", {"generation_id": TEST_GENERATION_ID})

        assert status == 200
        assert receiver.callbacks[0].verifies(SECRET)
        assert babysea.deliveries[0].generation_id == TEST_GENERATION_ID

    def test_overrides(self, babysea: BabySea, receiver: Receiver) -> None:
        """Body, secret, time, ids and headers can be chosen; an empty header is left out."""
        receiver.answers = [400]
        status = babysea.deliver(
            "generation.completed",
            {},
            body=b'{"webhook_event": "odd", "webhook_data": {}}',
            secret="whsec_test_2",
            timestamp=_T,
            delivery_id="dlv_1",
            headers={"X-BabySea-Event": ""},
        )

        [callback] = receiver.callbacks
        assert status == 400
        assert callback.event == "odd"
        assert callback.delivery_id == "dlv_1"
        assert "x-babysea-event" not in callback.headers
        assert callback.signed_at() == _T
        assert callback.verifies("whsec_test_2")

    def test_raw_signature(self, babysea: BabySea, receiver: Receiver) -> None:
        """The signature header can be any text, or missing."""
        babysea.deliver("generation.completed", {}, signature="t=1,v1=0")
        babysea.deliver("generation.completed", {}, signature="")

        assert receiver.callbacks[0].headers["x-babysea-signature"] == "t=1,v1=0"
        assert "x-babysea-signature" not in receiver.callbacks[1].headers
