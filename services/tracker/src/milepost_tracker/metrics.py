"""What the tracker counts, for Prometheus."""

from prometheus_client import Counter, Histogram

projected = Counter("milepost_events_projected_total", "Job events taken into the status view")
changed = Counter("milepost_views_changed_total", "Status views that a batch of events changed")
parked = Counter("milepost_tracker_messages_parked_total", "Messages that could not be understood", ["queue"])
lag = Histogram(
    "milepost_projection_lag_seconds",
    "From an event to its batch being in the view, for the oldest event of each batch",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)
