"""A receiver of webhooks that records which ends of which jobs it received."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(ThreadingHTTPServer):
    """Accepts everything."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        #: The received ends, by job: the event of each `webhook-id`.
        self.ends: dict[str, dict[str, str]] = defaultdict(dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def ends_of(self, job_id: str) -> list[str]:
        """Return how the webhooks said that the job ended."""
        return list(self.ends[job_id].values())

    def contradictions(self) -> list[str]:
        """Return a sentence for each job whose end was sent under several ids: receivers take them for several ends."""
        return [f"{job_id}: webhooks of several ends: {ends}" for job_id, ends in self.ends.items() if len(ends) > 1]


class _Hook(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.ends[event["subject"]][self.headers["webhook-id"]] = event["type"].split(".")[3]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive webhooks until the block ends."""
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, name="receiver", daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()
