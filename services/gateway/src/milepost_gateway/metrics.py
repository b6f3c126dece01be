"""The gateway's metrics, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

submitted = Counter("milepost_jobs_submitted_total", "Jobs accepted by this gateway", ["type"])
problems = Counter("milepost_problems_total", "Requests answered with a problem", ["problem"])
listening = Gauge("milepost_stream_clients", "Open streams", ["transport"])
requests = Histogram(
    "milepost_http_request_duration_seconds",
    "Time from a request to the end of its response; includes streams and requests that wait",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)
