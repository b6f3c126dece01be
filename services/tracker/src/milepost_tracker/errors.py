"""What can go wrong for the tracker.

TrackerError
└── StoreUnavailable   Redis can't take the batch now; it is held and tried again
"""


class TrackerError(Exception):
    """The tracker can't go on as it should."""


class StoreUnavailable(TrackerError):  # noqa: N818 - named as the condition
    """Redis can't be written to now."""
