"""Health and metrics, called through WSGI without a socket."""

import pytest
from prometheus_client import make_wsgi_app

from milepost_service.health import HealthServer


@pytest.fixture
def get():
    server = HealthServer.__new__(HealthServer)
    missing = []

    def call(path, *, without=()):
        missing[:] = without
        statuses = []
        body = server._app(
            {"PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": ""},
            lambda status, _: statuses.append(status),
        )
        return statuses[0], b"".join(body).decode()

    server._unready = lambda: missing
    server._metrics = make_wsgi_app()
    return call


def test_liveness_does_not_depend_on_other_services(get):
    """A restart of the process would not repair them."""
    assert ("200 OK", "alive\n") == get("/livez", without=["rabbitmq"])


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
