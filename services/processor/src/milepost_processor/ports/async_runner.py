"""Where async handlers run."""

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

#: Runs a coroutine on the loop of the async handlers.
AsyncRunner = Callable[[Coroutine[Any, Any, Any]], Future[Any]]
