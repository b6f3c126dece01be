"""What the processor counts, for Prometheus."""

from prometheus_client import Counter, Histogram

finished = Counter("milepost_jobs_finished_total", "Jobs that ended here", ["type", "status"])
put_back = Counter("milepost_jobs_put_back_total", "Attempts that another one follows on", ["type", "status"])
duration = Histogram(
    "milepost_job_duration_seconds",
    "From the start of a handler to the durable end of its job",
    ["type"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200, 43_200),
)
waited = Histogram(
    "milepost_job_wait_seconds",
    "From when a job could be started to its first start",
    ["queue"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200, 43_200),
)
skipped = Counter("milepost_jobs_skipped_total", "Deliveries that the gate let not run", ["verdict"])
parked = Counter("milepost_processor_messages_parked_total", "Deliveries that could not be understood", ["queue"])
progress_dropped = Counter("milepost_progress_dropped_total", "Progress events that the broker did not take")
