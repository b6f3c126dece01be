"""The fake gate of these tests behaves as the real one does (tests/integration/test_gate.py)."""

from gate_suite import GateSuite


class TestTheFakeGate(GateSuite):
    """See `gate_suite`."""

    def silence(self, gate):
        gate.alive.clear()

    def speak(self, gate):
        gate.alive.update(gate.claims)
