"""Clients of the stack of a test module: the session's, or one that the module starts itself."""

import httpx
import pytest

from milepost_client import Client


@pytest.fixture
def client(stack):
    """The SDK."""
    with Client(stack.state.url) as made:
        yield made


@pytest.fixture
def http(stack):
    """Plain HTTP."""
    with httpx.Client(base_url=stack.state.url, timeout=40) as made:
        yield made
