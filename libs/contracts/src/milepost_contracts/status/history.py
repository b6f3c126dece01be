"""The history of a job in Redis, for streams: each entry is an event's short name, a line feed and its bytes."""

from milepost_contracts.messages.job_events import JobEvent, encode_event


def write(event: JobEvent) -> bytes:
    """Render an event for Redis, as clients see it."""
    return event.fact.removeprefix("job.").encode() + b"\n" + encode_event(event.shown)


def read(stored: bytes) -> tuple[str, bytes]:
    """Return the event's short name, such as `started`, and its bytes."""
    name, _, body = stored.partition(b"\n")
    return name.decode(), body
