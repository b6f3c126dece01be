"""Run handlers in-process, with no broker, no store and no waiting.

outcome = run_handler(crunch, {"limit": 100})                        one attempt; its exceptions propagate
outcome = run_job(crunch, {"limit": 100}, interrupt_at=3)            a complete job, with retries and resumes
"""

from milepost.testing.attempts import Outcome, run_handler
from milepost.testing.files import MemoryFile, MemoryOutputs
from milepost.testing.jobs import JobOutcome, run_job

__all__ = ["JobOutcome", "MemoryFile", "MemoryOutputs", "Outcome", "run_handler", "run_job"]
