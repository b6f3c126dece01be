"""A pytest plugin, found by its entry point: the fixture `milepost_run`."""

from collections.abc import Callable

import pytest

from milepost.testing import JobOutcome, run_job


@pytest.fixture
def milepost_run() -> Callable[..., JobOutcome]:
    """Run a job in-process to its end, `milepost_run(handler, params)`; see `milepost.testing.run_job`."""
    return run_job
