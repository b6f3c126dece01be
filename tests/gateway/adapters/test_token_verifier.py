"""JSON Web Tokens of an issuer whose key set is published by a local HTTP server."""

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

from milepost_contracts.http.access import Issuer
from milepost_gateway.adapters import token_verifier as module
from milepost_gateway.adapters.token_verifier import JwtVerifier
from milepost_gateway.errors import IssuerUnavailable, Unauthenticated

EC_KEY, RSA_KEY = (
    ec.generate_private_key(ec.SECP256R1()),
    rsa.generate_private_key(public_exponent=65_537, key_size=2048),
)
CLAIMS = {"iss": "https://i", "aud": "milepost", "org": "acme", "scope": "read"}


class Publisher:
    """Serves a JSON Web Key Set, and counts the requests."""

    def __init__(self):
        self.keys = []
        self.requests = 0
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                publisher.requests += 1
                body = json.dumps({"keys": publisher.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Log nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def publish(self, key_id, key):
        algorithm, kind = (ECAlgorithm, "ES256") if key is EC_KEY else (RSAAlgorithm, "RS256")
        self.keys.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "alg": kind})


@pytest.fixture
def publisher():
    made = Publisher()
    made.publish("one", EC_KEY)
    made.thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture
def issuer(publisher):
    url = f"http://127.0.0.1:{publisher.server.server_port}/keys"
    return Issuer(
        issuer="https://i", audience="milepost", jwks_url=url, tenant_claim="org", tenants={"*"}, scopes={"read"}
    )


def token(key=EC_KEY, *, algorithm="ES256", key_id="one", expires_in=60, **claims):
    events = {**CLAIMS, "exp": int(time.time()) + expires_in, **claims}
    events = {name: value for name, value in events.items() if value is not None}
    return jwt.encode(events, key, algorithm=algorithm, headers={"kid": key_id})


async def test_a_valid_token_returns_its_claims(issuer, publisher):
    """And their issuer; the key set is fetched once."""
    tokens = JwtVerifier()
    for _ in range(3):
        claims, found = await tokens.verify(token(), [issuer])
        assert (issuer, "acme", "read") == (found, claims["org"], claims["scope"])
    assert 1 == publisher.requests


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda: token(expires_in=-60), id="expired"),
        pytest.param(lambda: token(nbf=int(time.time()) + 600), id="not yet valid"),
        pytest.param(lambda: token(exp=None), id="without an end"),
        pytest.param(lambda: token(aud="somebody else"), id="for another audience"),
        pytest.param(lambda: token(aud=None), id="for no audience"),
        pytest.param(lambda: token(iss="https://j"), id="of another issuer"),
        pytest.param(lambda: token(RSA_KEY, algorithm="RS256"), id="signed with another key"),
        pytest.param(lambda: token("a secret of at least 32 characters", algorithm="HS256"), id="with a shared secret"),
        pytest.param(lambda: token(None, algorithm="none"), id="not signed"),
        pytest.param(lambda: token(key_id="two"), id="with a key that is not published"),
        pytest.param(lambda: token()[:-4] + "AAAA", id="with another signature"),
        pytest.param(lambda: "a.b.c", id="no token"),
        pytest.param(lambda: "..", id="nothing"),
    ],
)
async def test_an_invalid_token_is_refused(issuer, text):
    """Each case has a single defect."""
    with pytest.raises(Unauthenticated):
        await JwtVerifier().verify(text(), [issuer])


async def test_the_public_key_is_not_accepted_as_a_shared_secret(issuer):
    """Algorithm confusion: the attacker signs with the public key and claims HS256."""
    public = EC_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head, claims = token().split(".")[:2]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=").decode()
    signature = hmac.digest(public, f"{head}.{claims}".encode(), "sha256")
    with pytest.raises(Unauthenticated):
        await JwtVerifier().verify(
            f"{head}.{claims}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}", [issuer]
        )


async def test_a_new_key_is_found_without_a_restart(issuer, publisher, monkeypatch):
    """Issuers rotate their keys."""
    monkeypatch.setattr(module, "MIN_REFRESH_INTERVAL", -1.0)
    tokens = JwtVerifier()
    await tokens.verify(token(), [issuer])
    publisher.publish("two", RSA_KEY)
    assert await tokens.verify(token(RSA_KEY, algorithm="RS256", key_id="two"), [issuer])


async def test_unknown_key_ids_do_not_refetch_the_key_set(issuer, publisher):
    """Otherwise any client could make the gateway flood the issuer."""
    tokens = JwtVerifier()
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await tokens.verify(token(key_id=str(number)), [issuer])
    assert 1 == publisher.requests


async def test_concurrent_first_requests_share_one_fetch(issuer, publisher):
    """A burst after a start or a key rotation causes no errors."""
    tokens = JwtVerifier()
    assert 8 == len(await asyncio.gather(*(tokens.verify(token(), [issuer]) for _ in range(8))))
    assert 1 == publisher.requests


async def test_an_unavailable_issuer_is_not_an_invalid_token(issuer, publisher):
    """The token may be valid, so the client should retry."""
    publisher.server.shutdown()
    publisher.server.server_close()
    with pytest.raises(IssuerUnavailable):
        await JwtVerifier().verify(token(), [issuer])


async def test_known_keys_stay_valid_while_the_issuer_is_unavailable(issuer, publisher, monkeypatch):
    """Even after their TTL."""
    tokens = JwtVerifier()
    await tokens.verify(token(), [issuer])
    publisher.server.shutdown()
    publisher.server.server_close()
    monkeypatch.setattr(module, "KEYS_TTL", -1.0)
    monkeypatch.setattr(module, "MIN_REFRESH_INTERVAL", -1.0)
    assert await tokens.verify(token(), [issuer])
