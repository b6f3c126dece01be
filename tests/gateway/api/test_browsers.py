"""What a web page of another site may do through the browser of somebody who can reach the gateway: nothing."""

import asyncio
import json

import httpx
import pytest
from problem_answers import problem

from milepost_gateway import bootstrap
from milepost_gateway.settings import GatewaySettings
from milepost_service.settings import SettingsError, load

KEY = "1:" + "ab" * 32
JOB = {"type": "count", "params": {"a/b": "x"}}
FORM = {"job": (None, json.dumps(JOB))}
"""A form, which a page of any origin may send without a preflight."""
OWN = "http://gateway.test"


@pytest.fixture
def client(app):
    """Make a client of the same core behind an app with this policy."""

    def made(**policy):
        other = bootstrap.build_app(**policy)
        other.state.dependencies = app.state.dependencies
        return httpx.AsyncClient(transport=httpx.ASGITransport(other), base_url=OWN)

    return made


FOREIGN = {
    "another site": {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    "another port of this host": {"Origin": "http://gateway.test:3000", "Sec-Fetch-Site": "same-site"},
    "another site, over plain http": {"Origin": "http://evil.example"},
    "another port, over plain http": {"Origin": "http://gateway.test:3000"},
    "a sandboxed frame": {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    "a sandboxed frame, over plain http": {"Origin": "null"},
    "no origin": {"Sec-Fetch-Site": "cross-site"},
    "a longer name": {"Origin": "http://gateway.test.evil.example"},
    "userinfo": {"Origin": "http://gateway.test@evil.example"},
    "no scheme": {"Origin": "gateway.test"},
    "an empty origin": {"Origin": ""},
    "another scheme's port": {"Origin": "http://gateway.test:443"},
    "an unknown word": {"Sec-Fetch-Site": "SAME-ORIGIN, cross-site"},
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_page_of_another_origin_can_not_write(http, broker, name):
    """A form needs no preflight, so CORS does not stop it."""
    problem(await http.post("/v1/jobs", files=FORM, headers=FOREIGN[name]), 403, "cross-origin")
    problem(await http.post("/v1/jobs", json=JOB, headers=FOREIGN[name]), 403, "cross-origin")
    headers = {**FOREIGN[name], "Accept": "text/event-stream"}
    problem(await http.post("/v1/jobs", files=FORM, headers=headers), 403, "cross-origin")
    problem(await http.post("/v1/jobs:batch", json={"jobs": [JOB]}, headers=FOREIGN[name]), 403, "cross-origin")
    problem(await http.delete("/v1/jobs/x", headers=FOREIGN[name]), 403, "cross-origin")
    assert [] == broker.submitted


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_page_of_another_origin_can_not_open_a_websocket(app, name):
    """CORS does not cover handshakes. The refusal is a problem."""
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"gateway.test"), *((k.lower().encode(), v.encode()) for k, v in FOREIGN[name].items())]
    scope = {"type": "websocket", "path": "/v1/jobs/x/ws", "query_string": b"", "headers": headers, "subprotocols": []}
    await app(scope, asyncio.Queue().get, send)
    assert ["websocket.http.response.start", "websocket.http.response.body"] == [one["type"] for one in sent]
    assert 403 == sent[0]["status"]
    assert (b"content-type", b"application/problem+json") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["type"].endswith("#cross-origin")


OWN_PAGES = {
    "no browser": {},
    "the dashboard": {"Origin": OWN, "Sec-Fetch-Site": "same-origin"},
    "the dashboard, over plain http": {"Origin": OWN},
    "the dashboard behind a proxy that changes the host": {
        "Origin": "https://jobs.example.com",
        "Sec-Fetch-Site": "same-origin",
    },
    "the same over plain http": {"Origin": "http://jobs.example.com", "X-Forwarded-Host": "Jobs.example.com"},
    "the same, with the port": {"Origin": "http://jobs.example.com", "X-Forwarded-Host": "jobs.example.com:80"},
    "upper case": {"Host": "GATEWAY.test", "Origin": OWN},
    "a default port": {"Host": "gateway.test:443", "Origin": "https://gateway.test"},
    "an IPv6 address": {"Host": "[::1]:8800", "Origin": "http://[::1]:8800"},
    "typed by the user": {"Sec-Fetch-Site": "none"},
}


@pytest.mark.parametrize("name", OWN_PAGES)
async def test_own_pages_and_clients_that_are_no_browsers_may_write(http, name):
    """Browsers send `Sec-Fetch-Site` to https and loopback only; elsewhere the origin is compared with the host."""
    assert 202 == (await http.post("/v1/jobs", files=FORM, headers=OWN_PAGES[name])).status_code


@pytest.mark.parametrize("name", FOREIGN)
async def test_reading_is_left_to_cors(http, name):
    """A page can't see the response; a link from another site must lead to the dashboard."""
    assert 200 == (await http.get("/v1/jobs", headers=FOREIGN[name])).status_code
    assert 200 == (await http.get("/", headers=FOREIGN[name])).status_code


async def test_pages_of_the_configured_origins_may_write(client):
    """`MILEPOST_CORS_ORIGINS`; `*` for any."""
    page = {"Origin": "https://app.example.com", "Sec-Fetch-Site": "cross-site"}
    for origins, status in (
        (("https://app.example.com",), 202),
        (("*",), 202),
        (("https://app.example.com.evil.example",), 403),
        (("https://example.com",), 403),
    ):
        async with client(origins=origins) as http:
            assert status == (await http.post("/v1/jobs", files=FORM, headers=page)).status_code, origins


HOSTS = frozenset({"jobs.example.com", "gateway"})


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8800", "localhost.", "127.0.0.1:8800", "127.9.9.9", "[::1]:8800", "10.1.2.3", "gateway:80",
     "jobs.example.com", "Jobs.Example.com.:443"],
)  # fmt: skip
async def test_known_names_and_addresses_are_hosts(client, host):
    """DNS rebinding needs a name: no page of an attacker has an address or localhost as its origin."""
    async with client(hosts=HOSTS) as http:
        assert 200 == (await http.get("/v1/jobs", headers={"Host": host})).status_code


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8800", "localhost.evil.example", "jobs.example.com.evil.example", "x.localhost",
     "127.0.0.1.evil.example", "127.1", "0x7f000001", "2130706433", "jobs.example.com..", "ajobs.example.com",
     "[::1].x", "[evil.example]"],
)  # fmt: skip
async def test_a_rebound_name_reads_nothing(client, host):
    """A page whose name leads here by DNS rebinding has this gateway's origin: the browser lets it read everything."""
    async with client(hosts=HOSTS) as http:
        page = {"Host": host, "Sec-Fetch-Site": "same-origin"}
        for path in ("/v1/jobs", "/", "/readyz", "/openapi.json", "/v1/jobs/x"):
            problem(await http.get(path, headers=page), 421, "unknown-host")
        problem(await http.post("/v1/jobs", json=JOB, headers=page), 421, "unknown-host")


async def test_a_client_without_a_host_is_no_browser(client):
    """HTTP/1.0, for example a load balancer's probe."""
    async with client(hosts=HOSTS) as http:
        request = http.build_request("GET", "/livez")
        del request.headers["Host"]
        assert 200 == (await http.send(request)).status_code


def hosts(monkeypatch, **variables):
    for name, value in {"MILEPOST_ID_KEYS": KEY, **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MILEPOST_ALLOW", "guest")
    return load(GatewaySettings).known_hosts


def test_an_open_gateway_knows_the_name_it_listens_on(monkeypatch):
    """And those of `MILEPOST_HOSTS`; `*` for any."""
    assert {"127.0.0.1"} == hosts(monkeypatch)
    known = hosts(monkeypatch, MILEPOST_HOST="gateway.internal", MILEPOST_OPEN="true", MILEPOST_HOSTS="A, b.c.")
    assert {"gateway.internal", "a", "b.c"} == known
    assert hosts(monkeypatch, MILEPOST_HOSTS="*") is None


def test_a_gateway_with_an_access_file_answers_to_any_name(monkeypatch, tmp_path):
    """A rebound page has no API key. With `MILEPOST_HOSTS` it answers to those names only."""
    (tmp_path / "access.json").write_text("{}")
    assert hosts(monkeypatch, MILEPOST_ACCESS_FILE=str(tmp_path / "access.json")) is None
    assert {"a", "127.0.0.1"} == hosts(monkeypatch, MILEPOST_HOSTS="a")


@pytest.mark.parametrize("value", ["https://a", "a:80", "a b", "*.a", "a/b"])
def test_a_host_is_a_name_alone(monkeypatch, value):
    """Ports and schemes are not compared."""
    with pytest.raises(SettingsError, match="MILEPOST_HOSTS"):
        hosts(monkeypatch, MILEPOST_HOSTS=value)
