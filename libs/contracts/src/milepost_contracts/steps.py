"""An event as Redis keeps it for those who listen: its short name, a line break, and the bytes that travel."""

from milepost_contracts.events import JobEvent, encode_event


def kept(event: JobEvent) -> bytes:
    """Render an event for Redis."""
    return event.fact.removeprefix("job.").encode() + b"\n" + encode_event(event)


def read(stored: bytes) -> tuple[str, bytes]:
    """Return the event's short name, such as `started`, and its bytes."""
    name, _, body = stored.partition(b"\n")
    return name.decode(), body
