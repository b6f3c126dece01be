"""A pytest plugin, found by its entry point: the fixture `milepost_stack`."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HANDLERS = "milepost_handlers"


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    """A running Milepost, for `milepost_client.Client(stack.url)`."""

    #: URL of the gateway.
    url: str
    #: The servers, with an operator's user.
    rabbitmq_url: str
    redis_url: str
    #: Where the logs are.
    folder: Path


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option `milepost_handlers`."""
    parser.addini(HANDLERS, "Modules with handlers that the fixture milepost_stack runs", type="args", default=[])


@pytest.fixture(scope="session")
def milepost_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A complete Milepost for the session: real RabbitMQ, Redis, gateway, tracker and processor.

    It runs the handlers of the modules in the ini option `milepost_handlers`, by default those of installed packages.
    The processor has the import path of the tests.
    """
    from milepost_stack.errors import StackError  # noqa: PLC0415 - every session of pytest loads this module
    from milepost_stack.session import say  # noqa: PLC0415
    from milepost_stack.stack import Size, Stack  # noqa: PLC0415

    modules = request.config.getini(HANDLERS)
    settings = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path and Path(path).is_dir())}
    if modules:
        settings["MILEPOST_HANDLERS"] = ",".join(modules)
    stack = Stack(tmp_path_factory.mktemp("milepost"), "pytest", say)
    try:
        state = stack.up(Size(), port=0, settings=settings)
    except StackError as error:
        pytest.fail(f"the stack did not start: {error}", pytrace=False)
    assert state.url is not None  # noqa: S101 - it has a gateway
    yield RunningStack(url=state.url, rabbitmq_url=state.rabbitmq_url, redis_url=state.redis_url, folder=stack.folder)
    stack.down()
