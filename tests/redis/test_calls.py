"""Calls to Redis, against a fake server."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from milepost_redis.calls import execute, execute_blocking, in_every_shard, raising
from milepost_redis.scripts import Script


class UnavailableError(Exception):
    pass


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A Lua script in an importable package."""
    (tmp_path / "made_package").mkdir()
    (tmp_path / "made_package" / "__init__.py").touch()
    (tmp_path / "made_package" / "one.lua").write_text("return 1")
    monkeypatch.syspath_prepend(tmp_path)
    return Script("made_package", "one.lua")


class FakePipe:
    def __init__(self, server):
        self._server = server
        self._commands = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def evalsha(self, digest, count, *arguments):
        self._commands.append((digest, arguments))

    def get(self, key):
        self._commands.append((None, (key,)))

    def _results(self):
        if any(digest is not None and digest not in self._server.scripts for digest, _ in self._commands):
            raise NoScriptError
        return [arguments for _, arguments in self._commands]


class AsyncPipe(FakePipe):
    async def execute(self):
        return self._results()


class BlockingPipe(FakePipe):
    def execute(self):
        return self._results()


class FakeServer:
    """Knows a script only after `SCRIPT LOAD` or `EVAL`."""

    def __init__(self, kind):
        self._kind = kind
        self.scripts = {}
        self.sent = []

    def pipeline(self, transaction):
        return self._kind(self)

    def _load(self, text):
        self.sent.append(text)
        self.scripts[Script.hash_of(text)] = text


class AsyncServer(FakeServer):
    def __init__(self):
        super().__init__(AsyncPipe)

    async def script_load(self, text):
        self._load(text)

    async def evalsha(self, digest, count, *arguments):
        if digest not in self.scripts:
            raise NoScriptError
        return arguments

    async def eval(self, text, count, *arguments):
        self._load(text)
        return arguments


class BlockingServer(FakeServer):
    def __init__(self):
        super().__init__(BlockingPipe)

    def script_load(self, text):
        self._load(text)

    def evalsha(self, digest, count, *arguments):
        if digest not in self.scripts:
            raise NoScriptError
        return arguments

    def eval(self, text, count, *arguments):
        self._load(text)
        return arguments


async def test_a_missing_script_is_sent_once(script):
    """A promoted replica or a restarted server has no scripts."""
    server = AsyncServer()
    assert ("k", 1) == await script.run(server, ["k"], 1)
    assert ("k", 2) == await script.run(server, ["k"], 2)
    assert ["return 1"] == server.sent


def test_a_missing_script_is_sent_once_by_blocking_calls(script):
    """The blocking form does the same."""
    server = BlockingServer()
    assert ("k", 1) == script.run_blocking(server, ["k"], 1)
    assert ("k", 2) == script.run_blocking(server, ["k"], 2)
    assert ["return 1"] == server.sent


async def test_a_pipeline_loads_the_scripts_that_the_server_lacks(script):
    """It is then sent again as a whole: its commands are idempotent."""
    server = AsyncServer()
    fill = lambda pipe: (pipe.get("a"), script.add_to(pipe, ["k"], 1))  # noqa: E731
    for _ in range(2):
        assert [("a",), ("k", 1)] == await execute(server, fill, script)
    assert ["return 1"] == server.sent


def test_a_blocking_pipeline_loads_the_scripts_that_the_server_lacks(script):
    """The blocking form does the same."""
    server = BlockingServer()
    for _ in range(2):
        assert [("k", 1)] == execute_blocking(server, lambda pipe: script.add_to(pipe, ["k"], 1), script)
    assert ["return 1"] == server.sent


async def test_a_call_for_every_shard_is_one_pipeline(script):
    """The results are in the order of the shards."""
    results = await in_every_shard(AsyncServer(), lambda pipe, shard: pipe.get(str(shard)))
    assert [(str(shard),) for shard in range(256)] == results


@pytest.mark.parametrize(
    "error", [RedisConnectionError("away"), ResponseError("away"), OSError("away"), TimeoutError("away")]
)
def test_redis_errors_are_raised_as_the_callers_error(error):
    """The core does not know the errors of the Redis client."""
    with pytest.raises(UnavailableError, match="away") as raised, raising(UnavailableError):
        raise error
    assert error is raised.value.__cause__


def test_other_errors_are_not_converted():
    """A bug in our code is not an outage."""
    with pytest.raises(KeyError), raising(UnavailableError):
        raise KeyError
