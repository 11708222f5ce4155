import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigurationError, InvalidSignatureError
from holdfast.signatures import verify_babysea

T = 1767225600
SECRET = "whsec_test_1"
ZEROS = "0" * 64
ACCOUNT = (
    '"account_id":"11111111-1111-4111-8111-111111111111",'
    '"model_identifier":"{}","generation_id":"22222222-2222-4222-8222-222222222222"'
)


def envelope(event: Any, number: Any, model: Any, data: Any) -> Any:
    """Write an event exactly as the published vectors have it."""
    return (
        f'{{"webhook_event":"generation.{event}","webhook_timestamp":"2026-01-01T00:00:00.000Z",'
        f'"webhook_delivery_id":"dlv_{number}","webhook_data":{{{ACCOUNT.format(model)},'
        f'"generation_status":{data}}}}}'
    ).encode()


COMPLETED = envelope(
    "completed",
    1,
    "bfl/flux-schnell",
    '"succeeded","generation_provider_used":"replicate","generation_prediction_id":"pred_1",'
    '"generation_output_file":["https://app.us.babysea.ai/out/1.png"]',
)
FAILED = envelope(
    "failed",
    2,
    "bfl/flux-schnell",
    '"failed","generation_error":"provider refused","generation_error_code":"BSE4006"',
)
CANCELED = envelope(
    "canceled",
    3,
    "bfl/flux-schnell",
    '"canceled","generation_prediction_id":"pred_1","credits_refunded":true',
)
NON_ASCII = envelope(
    "failed",
    4,
    "qwen/image",
    '"failed","generation_error":"café 海","generation_error_code":"BSE2006"',
)
V5 = "f8b9fb5738c55496690a66c7de25923966dfcf3a732a1c2fdea8c5e763479b8e"

VECTORS = [
    (COMPLETED, 451, SECRET, T, "ff6ed83cc8bc11f886e8381cb79e3ed9ef0d674f92b3b2787c9f1602bb35287c"),
    (FAILED, 377, SECRET, T, "270ff3c3eadf14cd1c64654a5aba80e518affc4db8329449b64207296029d396"),
    (CANCELED, 369, SECRET, T, "87f640da89d04df7ba9fcbddadaf71682c099910d3d59f3f40d097fe8fb34095"),
    (NON_ASCII, 364, SECRET, T, "543d86ce9a6bd0dc52b42f47113ca8f577c88f725f1de38ebb6e6b7841c2a6d4"),
    (b"{}", 2, SECRET, T, V5),
    (b"", 0, SECRET, T, "e779b0d1949d423446265a67e7693dff6b9d93e27f85dd2cbd32244da4a14cd6"),
    (
        *(b"{}", 2, "whsec_test_2", T),
        "d6308883ce6d2a2e82cacd5382a9f4f4291badfb2bfea2e462af4074f1addd41",
    ),
    (b"{}", 2, SECRET, T + 1, "fc2c1b2235e752b1d6e3dca5cf7a51df6d1cf6fbb1836298ebfba6b56dd70c25"),
    (b"{}\n", 3, SECRET, T, "f993b1ec901c1fe9db2ac34a2d79d9d22eb62f733101aa49288da43440c3a611"),
    (b"{ }", 3, SECRET, T, "60b42fa8f73eb46213927d1e12f1da7cb62f5324b7d967255c1fbc73235c1675"),
]


@pytest.mark.parametrize(("body", "length", "secret", "t", "signature"), VECTORS)
def test_published_vectors_are_accepted(
    body: bytes, length: Any, secret: Any, t: Any, signature: Any
) -> None:
    """Every published vector verifies, so the message and the key are put together right."""
    assert len(body) == length
    verify_babysea(body, f"t={t},v1={signature}", [secret], now=t)


@pytest.mark.parametrize(
    ("header", "now"),
    [
        (f"t={T},v1={V5}", T),
        (f"t={T},v1={V5}", T + 300),
        (f"t={T},v1={V5}", T - 300),
        (f"v1={V5},t={T}", T),
        (f"t={T},v1={V5},v1={ZEROS}", T),
        (f"t={T},v0={ZEROS},v1={V5}", T),
    ],
)
def test_acceptable_headers(header: str | None, now: int) -> None:
    """Order, unknown parts and later duplicates do not matter; 300 seconds either way pass."""
    verify_babysea(b"{}", header, [SECRET], now=now)


@pytest.mark.parametrize(
    ("header", "now"),
    [
        (f"t={T},v1={V5}", T + 301),
        (f"t={T},v1={V5}", T - 301),
        (f"t={T}, v1={V5}", T),
        (f"t={T},v1={V5.upper()}", T),
        (f"t={T},v1={ZEROS},v1={V5}", T),
        (f"t={T}", T),
        (f"v1={V5}", T),
        (f"t=,v1={V5}", T),
        (f"t=abc,v1={V5}", T),
        (f"t=-{T},v1={V5}", T),
        (f"t=+{T},v1={V5}", T),
        (f"t={T}.0,v1={V5}", T),
        (f"t={'9' * 400},v1={V5}", T),
        (f"t=\uff11{T},v1={V5}", T),
        ("", T),
        (None, T),
        (f"t={T},v1={V5[:-1]}", T),
        (f"t={T},v1={V5}é", T),
        (f"t={T},v1=", T),
        (
            f"t={T}x,v1=5dc77496ffad31f722f65b92331438ca670d8229e5311f41c998bcdf2ad3c9c0",
            T,
        ),
        (f"t={T},v1=fa817b8b3b8b09cd1b19c992368b7a62cd47af5e31e29eada14bc9e82bc8e180", T),
    ],
)
def test_unacceptable_headers(header: str | None, now: int) -> None:
    """Anything but a fresh, exact signature by the whole secret is refused."""
    with pytest.raises(InvalidSignatureError):
        verify_babysea(b"{}", header, [SECRET], now=now)


@given(st.data(), st.sampled_from([COMPLETED, NON_ASCII, b"{}"]))
def test_one_changed_byte_is_noticed(data: Any, body: bytes) -> None:
    """A body that differs in a single byte is refused."""
    signature = hmac.new(SECRET.encode(), f"{T}.".encode() + body, hashlib.sha256).hexdigest()
    position = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[position] ^= data.draw(st.integers(1, 255))

    with pytest.raises(InvalidSignatureError):
        verify_babysea(bytes(changed), f"t={T},v1={signature}", [SECRET], now=T)


@given(st.text(max_size=80))
def test_no_header_breaks_it(header: str | None) -> None:
    """Any text as header is refused properly, never with another exception."""
    with pytest.raises(InvalidSignatureError):
        verify_babysea(b"{}", header, [SECRET], now=T)


def test_two_secrets_let_a_rotation_overlap() -> None:
    """Either of two secrets may have signed, and only these."""
    header = f"t={T},v1={V5}"

    verify_babysea(b"{}", header, ["whsec_test_2", SECRET], now=T)
    verify_babysea(b"{}", header, [SECRET, "whsec_test_2"], now=T)
    with pytest.raises(InvalidSignatureError):
        verify_babysea(b"{}", header, ["whsec_test_2", "whsec_test_3"], now=T)


@pytest.mark.parametrize(
    "secrets", [[], [""], ["whsec_"], ["whsec_short"], ["test_1"], [SECRET, ""]]
)
def test_weak_secrets_are_our_fault(secrets: list[str]) -> None:
    """Without a real secret nothing is accepted, and the sender is not blamed."""
    header = "t=1767225600,v1=" + hmac.new(b"", f"{T}.{{}}".encode(), hashlib.sha256).hexdigest()

    with pytest.raises(ConfigurationError):
        verify_babysea(b"{}", header, secrets, now=T)
