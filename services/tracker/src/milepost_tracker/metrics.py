"""What the tracker counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

projected = Counter("milepost_events_projected_total", "Job events taken into the status view")
changed = Counter("milepost_views_changed_total", "Status views that a batch of events changed")
parked = Counter("milepost_tracker_messages_parked_total", "Messages that could not be understood", ["queue"])
poison = Counter("milepost_messages_poisonous_total", "Messages that nobody could read, kept in the poison queue")
quarantined = Counter("milepost_jobs_quarantined_total", "Jobs that were delivered too often and got another chance")
given_up = Counter("milepost_jobs_given_up_total", "Jobs that ended as dead_lettered")
lost = Counter("milepost_jobs_lost_total", "Jobs that ended because nobody spoke of them any more")
replays = Counter("milepost_replays_total", "How often Redis had lost writes and the log was replayed")
open_jobs = Gauge("milepost_jobs_open", "Jobs that have not ended, by the status view", ["status"])
held_jobs = Gauge("milepost_jobs_held", "Jobs that RabbitMQ and the processors hold", ["where"])
difference = Gauge(
    "milepost_reconcile_difference", "Jobs that have not ended by the status view, minus those that anybody holds"
)
webhooks = Counter("milepost_webhooks_total", "Tries to deliver a webhook, by what came of them", ["outcome"])
lag = Histogram(
    "milepost_projection_lag_seconds",
    "From an event to its batch being in the view, for the oldest event of each batch",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)
