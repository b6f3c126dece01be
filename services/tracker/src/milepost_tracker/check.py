"""`milepost-tracker --check`: what the tracker would do."""

from milepost_contracts.messages.topology import Topology
from milepost_rabbit.login import describe_broker
from milepost_redis.server_check import describe_server
from milepost_service.check import describe_address, duration
from milepost_service.check import report as print_report
from milepost_service.exemptions import Exemption
from milepost_tracker.settings import TrackerSettings


def report(settings: TrackerSettings) -> int:
    """Print what the tracker would do; return the exit code."""
    allow_eviction = Exemption.EVICTING_REDIS in settings.allow
    topology = Topology(namespace=settings.namespace)
    size = f"{settings.log_max_bytes / 1024**3:.1f} GiB" if settings.log_max_bytes else "any size"
    return print_report(
        settings,
        [
            f"declare the {len(topology.shared_queues)} queues {settings.namespace}.… and their exchanges",
            f"keep the event log for {duration(settings.retention)}, up to {size}",
            "send webhooks"
            if settings.signing
            else "leave webhooks to other trackers: MILEPOST_WEBHOOK_KEYS is not set",
            f"serve /livez, /readyz and /metrics on {settings.health_host}, port {settings.health_port}",
        ],
        {
            "address": lambda: describe_address(settings.health_host, settings.health_port),
            "RabbitMQ": lambda: describe_broker(str(settings.rabbitmq_url)),
            "Redis": lambda: describe_server(str(settings.redis_url), allow_eviction=allow_eviction),
        },
    )
