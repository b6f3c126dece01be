"""Health and metrics, asked through WSGI: no socket."""

import pytest
from prometheus_client import make_wsgi_app

from milepost_service.health import HealthServer


@pytest.fixture
def ask():
    server = HealthServer.__new__(HealthServer)
    missing = []

    def get(path, *, without=()):
        missing[:] = without
        answered = []
        body = server._app(
            {"PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": ""},
            lambda status, _: answered.append(status),
        )
        return answered[0], b"".join(body).decode()

    server._unready = lambda: missing
    server._metrics = make_wsgi_app()
    return get


def test_a_live_process_says_so_whatever_else_is_away(ask):
    """Restarting it would mend nothing."""
    assert ("200 OK", "alive\n") == ask("/livez", without=["rabbitmq"])


def test_readiness_names_what_is_missing(ask):
    """Whoever looks learns more than no."""
    assert ("200 OK", "ready\n") == ask("/readyz")
    assert ("503 Service Unavailable", "not ready: rabbitmq\n") == ask("/readyz", without=["rabbitmq"])


def test_metrics_are_in_prometheus_text(ask):
    """A scraper reads them as they are."""
    status, body = ask("/metrics")
    assert "200 OK" == status
    assert "# HELP" in body


def test_anything_else_is_not_found(ask):
    """And it is said what there is."""
    status, body = ask("/elsewhere")
    assert "404 Not Found" == status
    assert "/readyz" in body
