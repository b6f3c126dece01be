"""An in-memory gateway to test programs that use the SDK, without broker, Redis, network or waiting.

gateway = FakeGateway()
gateway.handle("crunch", lambda params: {"sum": sum(params["numbers"])})
with gateway.client() as client:
    assert {"sum": 3} == client.submit("crunch", {"numbers": [1, 2]}).result()
"""

from milepost_client.testing.gateway import FakeGateway
from milepost_client.testing.jobs import FakeJob, Report

__all__ = ["FakeGateway", "FakeJob", "Report"]
