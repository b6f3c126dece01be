"""Health and metrics, called through WSGI without a socket."""

import os
import socket
from urllib.request import urlopen

import pytest
from prometheus_client import make_wsgi_app

from milepost_service.health import HealthServer


@pytest.fixture
def server():
    server = HealthServer(host="127.0.0.1", port=0, unready=list)
    yield server
    server.close()


def get_livez(server):
    with urlopen(f"http://127.0.0.1:{server._server.server_port}/livez", timeout=5) as answer:
        return answer.status


def test_the_default_time_out_of_sockets_does_not_apply(server):
    """A handler may set it for its own sockets."""
    socket.setdefaulttimeout(0.000_001)
    try:
        with socket.create_connection(("127.0.0.1", server._server.server_port), timeout=5) as connection:
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert b"200 OK" in connection.makefile("rb").readline()
    finally:
        socket.setdefaulttimeout(None)


def test_a_server_whose_socket_was_closed_is_not_alive(server):
    """A handler may close every descriptor, as a daemon does."""
    assert server.is_alive
    assert 200 == get_livez(server)
    os.close(server._server.socket.detach())
    assert not server.is_alive


@pytest.fixture
def get():
    server = HealthServer.__new__(HealthServer)
    missing, alive = [], [True]

    def call(path, *, without=(), dead=False, token=None):
        missing[:], alive[:] = without, [not dead]
        statuses = []
        body = server._app(
            {"PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": ""}
            | ({} if token is None else {"HTTP_AUTHORIZATION": f"Bearer {token}"}),
            lambda status, _: statuses.append(status),
        )
        return statuses[0], b"".join(body).decode()

    server._authorization = None
    server._unready = lambda: missing
    server._alive = lambda: alive[0]
    server._metrics = make_wsgi_app()
    call.server = server
    return call


def test_liveness_does_not_depend_on_other_services(get):
    """A restart of the process would not repair them."""
    assert ("200 OK", "alive\n") == get("/livez", without=["rabbitmq"])


def test_liveness_is_that_of_the_main_thread(get):
    """A process whose main thread has stopped must be started again."""
    assert "503 Service Unavailable" == get("/livez", dead=True)[0]


def test_readiness_names_what_is_missing(get):
    """The response names the parts that are not ready."""
    assert ("200 OK", "ready\n") == get("/readyz")
    assert ("503 Service Unavailable", "not ready: rabbitmq\n") == get("/readyz", without=["rabbitmq"])


def test_metrics_are_in_the_prometheus_text_format(get):
    """Prometheus can scrape them."""
    status, body = get("/metrics")
    assert "200 OK" == status
    assert "# HELP" in body


def test_other_paths_are_not_found(get):
    """The response lists the paths."""
    status, body = get("/elsewhere")
    assert "404 Not Found" == status
    assert "/readyz" in body


def test_with_a_token_only_its_owner_reads_metrics_and_what_is_missing(get):
    """Probes need none: an orchestrator sees the status alone."""
    get.server._authorization = b"Bearer the-token"
    assert "200 OK" == get("/livez")[0]
    assert ("200 OK", "ready\n") == get("/readyz")
    assert ("503 Service Unavailable", "not ready\n") == get("/readyz", without=["rabbitmq"])
    assert "not ready: rabbitmq\n" == get("/readyz", without=["rabbitmq"], token="the-token")[1]
    assert ["401 Unauthorized"] * 2 == [get("/metrics", token=token)[0] for token in (None, "another")]
    assert "200 OK" == get("/metrics", token="the-token")[0]
