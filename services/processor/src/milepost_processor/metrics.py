"""The Prometheus metrics of the processor."""

from prometheus_client import Counter, Gauge, Histogram

finished = Counter("milepost_jobs_finished_total", "Jobs that ended on this processor", ["type", "status"])
put_back = Counter("milepost_jobs_put_back_total", "Attempts that were retried or interrupted", ["type", "status"])
duration = Histogram(
    "milepost_job_duration_seconds",
    "From the start of a handler until the end of its job is confirmed",
    ["type"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200, 43_200),
)
waited = Histogram(
    "milepost_job_wait_seconds",
    "From the time at which a job may start until its first start",
    ["queue"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200, 43_200),
)
skipped = Counter("milepost_jobs_skipped_total", "Deliveries that did not run, by verdict of the claim", ["verdict"])
put_off = Counter(
    "milepost_jobs_put_off_total",
    "Jobs that another processor has to run: their type or version is unknown here",
    ["queue"],
)
held = Gauge("milepost_processor_jobs_held", "Jobs that were delivered and wait in this processor for a free thread")
given_back = Counter("milepost_jobs_given_back_total", "Jobs that no thread became free for, put back into their queue")
dead_lettered_messages = Counter(
    "milepost_processor_messages_dead_lettered_total",
    "Messages that were dead-lettered because they can't be run: undecodable, misrouted, or unserved for five minutes",
    ["queue"],
)
loop_blocked = Counter(
    "milepost_processor_async_loop_blocked_seconds_total",
    "How long handlers have blocked the event loop that async handlers share; without a type if it is not known which",
    ["type"],
)
interpreter_held = Counter(
    "milepost_processor_interpreter_held_seconds_total",
    "How long no other thread ran, because a handler held the interpreter; without a type if it is not known which, "
    "or if the process was stopped",
    ["type"],
)
ignored_stops = Counter(
    "milepost_handlers_ignoring_stop_total",
    "Times that a handler was still running half a minute after it was forced to stop",
    ["type"],
)
progress_dropped = Counter("milepost_progress_dropped_total", "Progress events that could not be published")
