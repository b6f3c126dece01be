"""What can go wrong for the tracker.

TrackerError
├── StoreUnavailable      Redis can't be read or written now; the batch is held and tried again
└── EventLogUnavailable   the broker, or its log, can't be read now
"""


class TrackerError(Exception):
    """The tracker can't go on as it should."""


class StoreUnavailable(TrackerError):  # noqa: N818 - named as the condition
    """Redis can't be read or written now."""


class EventLogUnavailable(TrackerError):  # noqa: N818
    """The broker, or its log, can't be read now."""
