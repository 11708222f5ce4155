import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from holdfast.auth import AuthenticatedUser, TokenVerifier
from holdfast.errors import ConfigurationError, UnauthenticatedError, UnavailableError

USER = UUID("33333333-3333-4333-8333-333333333333")
KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHARED = "a-shared-secret-of-a-legacy-project"
PUBLIC_PEM = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def public_jwk(key: Any, kid: Any, algorithm: Any = "ES256") -> Any:
    """Return the JWK of a key's public half."""
    maker = jwt.algorithms.ECAlgorithm if algorithm == "ES256" else jwt.algorithms.RSAAlgorithm
    return {
        **json.loads(maker.to_jwk(key.public_key())),
        "kid": kid,
        "alg": algorithm,
        "use": "sig",
    }


class JwksServer:
    """A project's JWKS endpoint. `keys` is what it serves, `body` overrides it, `status` too."""

    def __init__(self) -> None:
        self.keys = [public_jwk(KEY, "k1")]
        self.body: bytes | None = None
        self.status = 200
        self.fetches = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.fetches += 1
                assert self.path == "/auth/v1/.well-known/jwks.json"
                body = outer.body or json.dumps({"keys": outer.keys}).encode()
                self.send_response(outer.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(name="jwks")
def _jwks() -> Any:
    server = JwksServer()
    yield server
    server.close()


@pytest.fixture(name="verifier")
def _verifier(jwks: Any) -> Any:
    return TokenVerifier(jwks.url, "ES256", cooldown_seconds=0)


def claims(url: Any, **changes: Any) -> Any:
    """Return the claims of a signed-in user's token; None removes one."""
    now = int(time.time())
    every = {
        "iss": f"{url}/auth/v1",
        "aud": "authenticated",
        "sub": str(USER),
        "iat": now,
        "exp": now + 3600,
        "role": "authenticated",
        "email": "ada@example.com",
        "session_id": "44444444-4444-4444-8444-444444444444",
        **changes,
    }
    return {name: value for name, value in every.items() if value is not None}


def sign(payload: Any, key: Any = KEY, algorithm: Any = "ES256", **headers: Any) -> Any:
    """Sign a payload, by default with the project's key."""
    return jwt.encode(payload, key, algorithm, headers={"kid": "k1", **headers})


def by_hand(header: Any, payload: Any, signature: Any = b"") -> Any:
    """Put a token together that no library would make."""

    def part(data: Any) -> Any:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    return f"{part(header)}.{part(payload)}.{part(signature)}"


def hs256_by_hand(payload: Any, key: Any, **header: Any) -> Any:
    """Sign with HMAC and a key PyJWT refuses to use for it: the classic confusion attack."""
    unsigned = by_hand({"alg": "HS256", "typ": "JWT", "kid": "k1", **header}, payload)[:-1]
    return (
        unsigned
        + "."
        + base64.urlsafe_b64encode(hmac.new(key, unsigned.encode(), hashlib.sha256).digest())
        .rstrip(b"=")
        .decode()
    )


def test_a_users_token_is_accepted(verifier: Any, jwks: Any) -> None:
    """A signed-in user's token gives the user's id."""
    user = verifier.verify(f"Bearer {sign(claims(jwks.url))}")

    assert user == AuthenticatedUser(USER)


def test_the_scheme_may_be_written_small(verifier: Any, jwks: Any) -> None:
    """`bearer` is `Bearer`, as everywhere in HTTP."""
    assert verifier.verify(f"bearer {sign(claims(jwks.url))}") == AuthenticatedUser(USER)


FORGERIES = {
    "alg none": lambda u: by_hand({"alg": "none", "kid": "k1"}, claims(u)),
    "alg None": lambda u: by_hand({"alg": "None", "kid": "k1"}, claims(u)),
    "alg empty": lambda u: by_hand({"alg": "", "kid": "k1"}, claims(u)),
    "alg absent": lambda u: by_hand({"kid": "k1"}, claims(u)),
    "alg a list": lambda u: by_hand({"alg": ["ES256"], "kid": "k1"}, claims(u)),
    "no signature": lambda u: by_hand({"alg": "ES256", "kid": "k1"}, claims(u)),
    "HS256 with the public PEM": lambda u: hs256_by_hand(claims(u), PUBLIC_PEM),
    "HS256 with the JWK": lambda u: hs256_by_hand(
        claims(u), json.dumps(public_jwk(KEY, "k1")).encode()
    ),
    "HS256 with an empty key": lambda u: hs256_by_hand(claims(u), b""),
    "ES256 header over an HMAC": lambda u: hs256_by_hand(claims(u), PUBLIC_PEM, alg="ES256"),
    "RS256": lambda u: sign(claims(u), RSA_KEY, "RS256"),
    "another key": lambda u: sign(claims(u), STRANGER),
    "another key, unknown kid": lambda u: sign(claims(u), STRANGER, kid="k2"),
    "right key, unknown kid": lambda u: sign(claims(u), kid="k2"),
    "kid absent": lambda u: jwt.encode(claims(u), KEY, "ES256"),
    "kid a path": lambda u: sign(claims(u), STRANGER, kid="../../etc/passwd"),
    "embedded jwk": lambda u: sign(claims(u), STRANGER, jwk=public_jwk(STRANGER, "k1")),
    "jku elsewhere": lambda u: sign(claims(u), STRANGER, jku="https://evil.example.com/jwks"),
    "payload exchanged": lambda u: ".".join(
        [
            sign(claims(u)).split(".")[0],
            by_hand({}, claims(u, sub="55555555-5555-4555-8555-555555555555")).split(".")[1],
            sign(claims(u)).split(".")[2],
        ]
    ),
    "signature cut": lambda u: sign(claims(u))[:-4],
    "wrong iss": lambda u: sign(claims(u, iss="https://other.supabase.co/auth/v1")),
    "iss with a slash more": lambda u: sign(claims(u, iss=f"{u}/auth/v1/")),
    "iss absent": lambda u: sign(claims(u, iss=None)),
    "wrong aud": lambda u: sign(claims(u, aud="anon")),
    "aud absent": lambda u: sign(claims(u, aud=None)),
    "expired": lambda u: sign(claims(u, exp=int(time.time()) - 6)),
    "exp absent": lambda u: sign(claims(u, exp=None)),
    "exp not a number": lambda u: sign(claims(u, exp="never")),
    "not yet valid": lambda u: sign(claims(u, nbf=int(time.time()) + 60)),
    "issued in the future": lambda u: sign(claims(u, iat=int(time.time()) + 60)),
    "iat absent": lambda u: sign(claims(u, iat=None)),
    "sub absent": lambda u: sign(claims(u, sub=None)),
    "sub no UUID": lambda u: sign(claims(u, sub="1; drop table users")),
    "sub empty": lambda u: sign(claims(u, sub="")),
    "role anon": lambda u: sign(claims(u, role="anon")),
    "role service_role": lambda u: sign(claims(u, role="service_role")),
    "role absent": lambda u: sign(claims(u, role=None)),
    "role a list": lambda u: sign(claims(u, role=["authenticated"])),
    "payload a list": lambda _: jwt.api_jws.encode(b"[]", KEY, "ES256", headers={"kid": "k1"}),
    "payload no JSON": lambda _: jwt.api_jws.encode(b"x", KEY, "ES256", headers={"kid": "k1"}),
    "unknown critical header": lambda u: sign(claims(u), crit=["b64"], b64=True),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_forged_and_foreign_tokens_are_refused(verifier: Any, jwks: Any, forge: Any) -> None:
    """Every forgery is unauthenticated, without a word on what was wrong with it."""
    with pytest.raises(UnauthenticatedError) as caught:
        verifier.verify(f"Bearer {forge(jwks.url)}")

    assert caught.value.detail == "A valid access token is required."


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer a",
        "Bearer a.b.c",
        "Bearer a b",
        "Bearer  two-blanks",
        "Basic dXNlcjpwYXNz",
        "Bearer sb_secret_local_key",
        "Bearer é.é.é",
        "Bearer " + "a" * 9000,
    ],
)
def test_headers_without_a_token_are_refused_without_a_fetch(
    verifier: Any, jwks: Any, authorization: Any
) -> None:
    """What is no token at all does not even cost a look at the keys."""
    with pytest.raises(UnauthenticatedError):
        verifier.verify(authorization)
    assert jwks.fetches == 0


def test_a_clock_may_be_five_seconds_off(verifier: Any, jwks: Any) -> None:
    """A token that expired three seconds ago still passes."""
    verifier.verify(f"Bearer {sign(claims(jwks.url, exp=int(time.time()) - 3))}")


def test_keys_are_fetched_once(jwks: Any) -> None:
    """Many tokens, unknown kids among them, cost one fetch within the cool-down."""
    verifier = TokenVerifier(jwks.url, "ES256")
    for _ in range(5):
        verifier.verify(f"Bearer {sign(claims(jwks.url))}")
        with pytest.raises(UnauthenticatedError):
            verifier.verify(f"Bearer {sign(claims(jwks.url), STRANGER, kid='k9')}")

    assert jwks.fetches == 1


def test_a_rotated_key_is_found(verifier: Any, jwks: Any) -> None:
    """A token by a new key makes the keys be fetched again."""
    verifier.verify(f"Bearer {sign(claims(jwks.url))}")
    jwks.keys = [public_jwk(KEY, "k1"), public_jwk(STRANGER, "k2")]

    verifier.verify(f"Bearer {sign(claims(jwks.url), STRANGER, kid='k2')}")

    assert jwks.fetches == 2


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"{}"), (404, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b"\xff")]
)
def test_unreadable_keys_are_unavailability(
    verifier: Any, jwks: Any, status: Any, body: bytes
) -> None:
    """An endpoint that is away or answers nonsense is not the user's fault."""
    jwks.status, jwks.body = status, body

    with pytest.raises(UnavailableError) as caught:
        verifier.verify(f"Bearer {sign(claims(jwks.url))}")
    assert not isinstance(caught.value, ConfigurationError)


def test_unreachable_keys_are_unavailability(jwks: Any) -> None:
    """With nobody listening the answer is 503, not 401."""
    url = jwks.url
    verifier = TokenVerifier("http://127.0.0.1:9", "ES256")

    with pytest.raises(UnavailableError):
        verifier.verify(f"Bearer {sign(claims(url))}")


@pytest.mark.parametrize("body", [b'{"keys": []}', b"{}"])
def test_a_project_without_keys_is_a_configuration_fault(
    verifier: Any, jwks: Any, body: bytes
) -> None:
    """An empty JWKS means the project still signs with HS256: our settings are wrong."""
    jwks.body = body

    with pytest.raises(ConfigurationError):
        verifier.verify(f"Bearer {sign(claims(jwks.url))}")


def test_a_key_of_another_algorithm_does_not_verify(jwks: Any) -> None:
    """A token by a key of the project, but not of the configured algorithm, is refused."""
    jwks.keys = [public_jwk(RSA_KEY, "k1", "RS256")]

    with pytest.raises(UnauthenticatedError):
        TokenVerifier(jwks.url, "ES256").verify(f"Bearer {sign(claims(jwks.url))}")
    token = sign(claims(jwks.url), RSA_KEY, "RS256")
    assert TokenVerifier(jwks.url, "RS256").verify(f"Bearer {token}").user_id == USER


def test_a_legacy_project_uses_its_secret_and_no_keys(jwks: Any) -> None:
    """HS256 verifies with the shared secret, fetches nothing and takes no other algorithm."""
    verifier = TokenVerifier(jwks.url, "HS256", SHARED)

    assert verifier.verify(f"Bearer {sign(claims(jwks.url), SHARED, 'HS256')}").user_id == USER
    for token in (
        sign(claims(jwks.url)),
        sign(claims(jwks.url), SHARED[::-1], "HS256"),
        sign(claims(jwks.url), SHARED * 2, "HS512"),
        sign(claims(jwks.url, role="service_role"), SHARED, "HS256"),
        by_hand({"alg": "none"}, claims(jwks.url)),
    ):
        with pytest.raises(UnauthenticatedError):
            verifier.verify(f"Bearer {token}")
    assert jwks.fetches == 0


def test_a_legacy_project_without_a_secret_does_not_start() -> None:
    """An empty shared secret would let anybody sign."""
    with pytest.raises(ConfigurationError):
        TokenVerifier("https://p.example.com", "HS256", "")
