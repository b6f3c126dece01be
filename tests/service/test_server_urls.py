"""A URL that the clients of RabbitMQ and Redis read in different ways, or not at all, is refused."""

import pytest
from pydantic import AnyUrl

from milepost_contracts.server_urls import is_local, without_password
from milepost_service.settings import ServiceSettings, SettingsError, load

BAD = {
    "MILEPOST_RABBITMQ_URL": [
        "",
        "amqp://",
        "amqp:///",
        "amqp:broker",
        "amqp://:5672/",
        "amqp://milepost:hunter2@broker:0/",
        "amqp://milepost:hunter2@broker:99999/",
        "amqp://milepost:hunter2@one,two/",
        "amqp://milepost:hunter2@one:5672,two:5672/",
        "amqp://milepost@broker/",
        "amqp://milepost:@broker/",
        "amqp://:hunter2@broker/",
        "amqp://milepost:hunter2@broker//",
        "amqp://milepost:hunter2@broker/a/b",
        "amqp://milepost:hunter2@broker/?heartbeat=60",
        "amqp://milepost:hunter2@broker/?foo=bar",
        "amqps://milepost:hunter2@broker/?cafile=/tmp/ca.pem",
        "amqp://milepost:hunter2@broker/#fragment",
        "amqp://milepost:hunter2/and@broker/",
        "amqp://milepost:hunter2?and@broker/",
        "amqp://milepost:hunter2#and@broker/",
    ],
    "MILEPOST_REDIS_URL": [
        "redis://",
        "redis:///0",
        "redis://:hunter2@redis/notanumber",
        "redis://:hunter2@redis/-1",
        "redis://:hunter2@redis/0/1",
        "redis://:hunter2@redis/0?foo=bar",
        "redis://:hunter2@redis/0?socket_timeout=abc",
        "redis://:hunter2@redis/0?decode_responses=True",
        "redis://default@redis/0",
        "unix:///var/run/redis.sock",
    ],
}


@pytest.mark.parametrize("variable, url", [(name, url) for name, urls in BAD.items() for url in urls])
def test_a_bad_url_is_one_sentence_without_its_password(monkeypatch, variable, url):
    """Before anything connects."""
    monkeypatch.setenv("MILEPOST_ALLOW", "guest,plain-amqp,plain-redis,short-secrets")
    monkeypatch.setenv(variable, url)
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{variable}: ")
    assert "\n" not in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "url, local",
    [
        ("redis://localhost/0", True),
        ("redis://127.0.0.1/0", True),
        ("redis://[::1]:6379/0", True),
        ("redis://localhost.example/0", False),
        ("redis://127.0.0.1.example/0", False),
        ("redis://0.0.0.0/0", False),
        ("redis://[::]/0", False),
    ],
)
def test_only_a_literal_loopback_host_is_local(url, local):
    """What a name resolves to may change."""
    assert local == is_local(AnyUrl(url))


@pytest.mark.parametrize(
    "url, shown",
    [
        ("amqp://user:p%40ss@host:1/", "amqp://user:***@host:1/"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("redis://host/0", "redis://host/0"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    """Everything else stays."""
    assert shown == without_password(AnyUrl(url))
