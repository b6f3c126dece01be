"""What publishers count, for Prometheus."""

from prometheus_client import Counter

refused_by_others = Counter(
    "milepost_messages_refused_by_others_total",
    "Messages that all of Milepost's queues have stored, and a queue of another team refused",
    ["exchange"],
)
