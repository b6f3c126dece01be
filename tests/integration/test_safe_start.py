"""Services against real servers that they must not use, and their `--check`."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import aio_pika
import pytest
from redis import Redis
from redis.exceptions import RedisError
from trusted import ONE_USER_SETTINGS
from waiting import wait_until

from milepost_contracts.messages.topology import Topology
from milepost_rabbit.declare import declare
from milepost_rabbit.errors import TopologyMismatch
from milepost_stack.free_ports import any_port

SERVICES = ["gateway", "tracker", "processor"]


@contextmanager
def redis_server(folder, port, *options):
    """Run a Redis of our own."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(port), within=30, what="Redis answers")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def answers(port):
    try:
        with Redis(port=port) as client:
            return client.ping()
    except RedisError:
        return False


@pytest.fixture
def environment(rabbitmq_url, redis_url, namespace, tmp_path):
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")},
        **ONE_USER_SETTINGS,
        "MILEPOST_BLOBS_URL": tmp_path.as_uri(),
        "MILEPOST_HEALTH_PORT": "0",
        "MILEPOST_ID_KEYS": "1:" + "ab" * 32,
        "MILEPOST_NAMESPACE": namespace,
        "MILEPOST_PORT": str(any_port()),
        "MILEPOST_RABBITMQ_URL": rabbitmq_url,
        "MILEPOST_REDIS_URL": redis_url,
    }


def run(service, environment, *arguments):
    command = [sys.executable, "-m", f"milepost_{service}", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


EVICTING = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")


@pytest.mark.parametrize("service", SERVICES)
def test_a_redis_that_evicts_keys_is_refused(environment, tmp_path, service):
    """With one sentence and code 2; `--check` says so too, unless it is allowed by name."""
    with redis_server(tmp_path, any_port(), *EVICTING) as url:
        environment["MILEPOST_REDIS_URL"] = url
        done = run(service, environment)
        assert 2 == done.returncode, done.stderr
        assert "milepost: MILEPOST_REDIS_URL: it deletes keys when its memory is full" in done.stderr
        assert "Traceback" not in done.stderr
        checked = run(service, environment, "--check")
        assert 2 == checked.returncode
        assert "FAILED: MILEPOST_REDIS_URL: it deletes keys" in checked.stdout
        allowed = run(service, {**environment, "MILEPOST_ALLOW": "evicting-redis"}, "--check")
        assert 0 == allowed.returncode, allowed.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_starts_without_redis_ends_if_the_redis_that_comes_evicts_keys(environment, tmp_path, service):
    """It starts all the same: a gateway accepts jobs while Redis is away."""
    port = any_port()
    environment["MILEPOST_REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
    log = (tmp_path / "log").open("w+")
    with subprocess.Popen([sys.executable, "-m", f"milepost_{service}"], env=environment, stderr=log) as process:
        wait_until(lambda: "redis_not_checked" in text(tmp_path / "log"), within=60, what="it has asked in vain")
        assert process.poll() is None
        with redis_server(tmp_path, port, *EVICTING):
            assert 2 == process.wait(90)
    log.close()
    assert "redis_refused" in text(tmp_path / "log")
    assert "milepost: MILEPOST_REDIS_URL: it deletes keys" in text(tmp_path / "log")


def text(path):
    return path.read_text()


def test_a_database_that_does_not_exist_and_a_cluster_are_refused(environment, tmp_path):
    """The service would wait for them for ever."""
    environment["MILEPOST_REDIS_URL"] = environment["MILEPOST_REDIS_URL"].removesuffix("/0") + "/99"
    done = run("tracker", environment)
    assert 2 == done.returncode
    assert "it has no database of this number" in done.stderr
    port = any_port()
    with redis_server(tmp_path, port, "--cluster-enabled", "yes", "--cluster-port", str(any_port())) as url:
        done = run("tracker", {**environment, "MILEPOST_REDIS_URL": url})
    assert 2 == done.returncode
    assert "Redis Cluster" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
async def test_a_check_changes_nothing(environment, connection, topology, service):
    """It declares and consumes nothing, and says which server answers."""
    done = run(service, environment, "--check")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "RabbitMQ " in done.stdout
    assert done.stdout.endswith("it would start\n")
    channel = await connection.channel()
    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        await channel.get_exchange(topology.jobs.name)


async def test_a_log_with_another_limit_ends_the_tracker(environment, connection, namespace):
    """The sentence has what exists and what is expected."""
    topology = Topology(namespace=namespace, log_max_bytes=5_000_000)
    await declare(connection, topology.exchanges, topology.shared_queues)
    with pytest.raises(TopologyMismatch, match="x-max-length-bytes is 5000000, and 10737418240 is expected"):
        await declare(connection, (), (Topology(namespace=namespace).log,))
    done = run("tracker", environment)
    assert 2 == done.returncode, done.stderr
    assert f"{namespace}.log.jobs in the vhost / exists with other arguments" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gateway_that_is_stopped_says_so(environment, tmp_path):
    """Otherwise, uvicorn ends the process by the same signal once more, with another exit code."""
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen([sys.executable, "-m", "milepost_gateway"], env=environment, stderr=log)
        wait_until(lambda: "rabbitmq_connected" in text(tmp_path / "log"), within=60, what="it runs")
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(30)
    assert "gateway_stopped" in text(tmp_path / "log")
