"""The fake gate of these tests behaves as the real one does (tests/integration/test_gate.py)."""

from gate_suite import GateSuite


class TestTheFakeGate(GateSuite):
    """See `gate_suite`."""
