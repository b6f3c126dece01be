"""JSON Web Tokens, of an issuer that publishes its keys on this machine."""

import asyncio
import base64
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from milepost_contracts.access import Issuer
from milepost_gateway import tokens as module
from milepost_gateway.errors import IssuerUnavailable, Unauthenticated
from milepost_gateway.tokens import JsonWebTokens

CURVE, FACTORS = (
    ec.generate_private_key(ec.SECP256R1()),
    rsa.generate_private_key(public_exponent=65_537, key_size=2048),
)
CLAIMS = {"iss": "https://i", "aud": "milepost", "org": "acme", "scope": "read"}


class Publisher:
    """Serves a JSON Web Key Set, and counts who asks."""

    def __init__(self):
        self.keys = []
        self.asked = 0
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                publisher.asked += 1
                body = json.dumps({"keys": publisher.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def publish(self, key_id, key):
        algorithm, kind = (ECAlgorithm, "ES256") if key is CURVE else (RSAAlgorithm, "RS256")
        self.keys.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "alg": kind})


@pytest.fixture
def publisher():
    made = Publisher()
    made.publish("one", CURVE)
    made.thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture
def issuer(publisher):
    url = f"http://127.0.0.1:{publisher.server.server_port}/keys"
    return Issuer(issuer="https://i", audience="milepost", jwks_url=url, tenant_claim="org")


def token(key=CURVE, *, algorithm="ES256", key_id="one", expires_in=60, **claims):
    told = {**CLAIMS, "exp": int(time.time()) + expires_in, **claims}
    told = {name: value for name, value in told.items() if value is not None}
    return jwt.encode(told, key, algorithm=algorithm, headers={"kid": key_id})


async def test_a_good_token_tells_its_claims(issuer, publisher):
    """And which one names the tenant; its issuer is asked for its keys once."""
    tokens = JsonWebTokens()
    for _ in range(3):
        claims, name = await tokens.verify(token(), [issuer])
        assert ("acme", "read") == (claims[name], claims["scope"])
    assert 1 == publisher.asked


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda: token(expires_in=-60), id="expired"),
        pytest.param(lambda: token(nbf=int(time.time()) + 600), id="not yet valid"),
        pytest.param(lambda: token(exp=None), id="without an end"),
        pytest.param(lambda: token(aud="somebody else"), id="for another audience"),
        pytest.param(lambda: token(aud=None), id="for no audience"),
        pytest.param(lambda: token(iss="https://j"), id="of another issuer"),
        pytest.param(lambda: token(FACTORS, algorithm="RS256"), id="signed with another key"),
        pytest.param(lambda: token("a secret of at least 32 characters", algorithm="HS256"), id="with a shared secret"),
        pytest.param(lambda: token(None, algorithm="none"), id="not signed"),
        pytest.param(lambda: token(key_id="two"), id="with a key that is not published"),
        pytest.param(lambda: token()[:-4] + "AAAA", id="with another signature"),
        pytest.param(lambda: "a.b.c", id="no token"),
        pytest.param(lambda: "..", id="nothing"),
    ],
)
async def test_a_token_that_is_not_good_is_refused(issuer, text):
    """Each for its own reason."""
    with pytest.raises(Unauthenticated):
        await JsonWebTokens().verify(text(), [issuer])


async def test_the_public_key_is_no_shared_secret(issuer):
    """A classic: the attacker signs with what everybody can read, and says HS256."""
    public = CURVE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head, claims = token().split(".")[:2]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=").decode()
    signature = hmac.digest(public, f"{head}.{claims}".encode(), "sha256")
    with pytest.raises(Unauthenticated):
        await JsonWebTokens().verify(
            f"{head}.{claims}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}", [issuer]
        )


async def test_a_new_key_is_found_without_a_restart(issuer, publisher, monkeypatch):
    """Issuers rotate theirs."""
    monkeypatch.setattr(module, "ASK_AGAIN_AFTER", -1.0)
    tokens = JsonWebTokens()
    await tokens.verify(token(), [issuer])
    publisher.publish("two", FACTORS)
    assert await tokens.verify(token(FACTORS, algorithm="RS256", key_id="two"), [issuer])


async def test_invented_keys_make_nobody_ask_the_issuer_again_and_again(issuer, publisher):
    """Else anybody could make this gateway flood it."""
    tokens = JsonWebTokens()
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await tokens.verify(token(key_id=str(number)), [issuer])
    assert 1 == publisher.asked


async def test_many_who_come_first_wait_for_the_same_keys(issuer, publisher):
    """A burst after a start, or after a rotation, is no burst of errors."""
    tokens = JsonWebTokens()
    assert 8 == len(await asyncio.gather(*(tokens.verify(token(), [issuer]) for _ in range(8))))
    assert 1 == publisher.asked


async def test_an_issuer_that_is_away_is_told_from_a_bad_token(issuer, publisher):
    """Come back later: the token may be good."""
    publisher.server.shutdown()
    publisher.server.server_close()
    with pytest.raises(IssuerUnavailable):
        await JsonWebTokens().verify(token(), [issuer])


async def test_keys_that_are_known_are_good_while_the_issuer_is_away(issuer, publisher, monkeypatch):
    """An outage there is none here."""
    tokens = JsonWebTokens()
    await tokens.verify(token(), [issuer])
    publisher.server.shutdown()
    publisher.server.server_close()
    monkeypatch.setattr(module, "FRESH_FOR", -1.0)
    monkeypatch.setattr(module, "ASK_AGAIN_AFTER", -1.0)
    assert await tokens.verify(token(), [issuer])
