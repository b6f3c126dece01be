"""The event loop of the async handlers, as the watchdog sees it."""


class FakeLoop:
    """Implements `ports.async_loop.AsyncLoop`; a test says what happens on it."""

    thread_id = 77

    def __init__(self):
        self.beats = 0
        #: The id of the job whose task runs.
        self.job_id = None

    def current_job(self):
        return self.job_id

    def where(self):
        return "app.py:20 blocks"
