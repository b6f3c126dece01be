"""A pytest plugin, found by its entry point: the fixture `milepost_run`."""

from collections.abc import Callable

import pytest

from milepost.testing import JobOutcome, run_job


@pytest.fixture
def milepost_run() -> Callable[..., JobOutcome]:
    """Return `milepost.testing.run_job`, which runs a job in-process: `milepost_run(handler, params)`."""
    return run_job
