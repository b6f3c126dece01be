"""What can go wrong for the tracker.

TrackerError
├── StoreUnavailable   Redis can't take the batch now; it is held and tried again
└── LogUnavailable     the log can't be read now
"""


class TrackerError(Exception):
    """The tracker can't go on as it should."""


class StoreUnavailable(TrackerError):  # noqa: N818 - named as the condition
    """Redis can't be written to now."""


class LogUnavailable(TrackerError):  # noqa: N818
    """The log can't be read now."""
