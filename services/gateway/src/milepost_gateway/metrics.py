"""What the gateway counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

submitted = Counter("milepost_jobs_submitted_total", "Jobs that were accepted here", ["type"])
problems = Counter("milepost_problems_total", "Requests that were answered with a problem", ["problem"])
listening = Gauge("milepost_stream_clients", "Streams that are open", ["transport"])
requests = Histogram(
    "milepost_http_request_duration_seconds",
    "From a request to the end of its answer; streams and requests that wait last as long as they last",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)
