"""What the tracker counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

projected = Counter("milepost_events_projected_total", "Job events projected into the status view")
changed = Counter("milepost_views_changed_total", "Status views that a batch of events changed")
dead_lettered_messages = Counter(
    "milepost_tracker_messages_dead_lettered_total", "Messages that could not be decoded", ["queue"]
)
poison = Counter("milepost_messages_poisonous_total", "Unreadable messages that were moved to the poison queue")
refused = Counter(
    "milepost_messages_refused_total", "Messages that were well formed and not from who may state them", ["queue"]
)
quarantined = Counter("milepost_jobs_quarantined_total", "Jobs that were delivered too often and put into quarantine")
dead_lettered_jobs = Counter("milepost_jobs_dead_lettered_total", "Jobs that ended as dead_lettered")
unrouted = Counter("milepost_messages_unrouted_total", "Messages whose queue did not exist; they were published again")
missing_queues = Counter(
    "milepost_queues_missing_total", "Queues of Milepost that did not exist any more, and were declared again"
)
redelivered = Counter(
    "milepost_jobs_redelivered_total", "Jobs whose delay was over, that no queue had, and that were published again"
)
lost = Counter("milepost_jobs_lost_total", "Jobs that ended as lost: their next event did not arrive in time")
replays = Counter("milepost_replays_total", "Replays of the log because Redis had lost writes")
open_jobs = Gauge("milepost_jobs_open", "Jobs that have not ended, by the status view", ["status"])
held_jobs = Gauge("milepost_jobs_held", "Jobs that RabbitMQ and the processors hold", ["where"])
difference = Gauge(
    "milepost_reconcile_difference",
    "Open jobs by the status view, minus the jobs that RabbitMQ and the processors hold",
)
webhooks = Counter("milepost_webhooks_total", "Tries to deliver a webhook, by outcome", ["outcome"])
lag = Histogram(
    "milepost_projection_lag_seconds",
    "From the time of an event until its batch is in the view, for the oldest event of each batch",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)
