"""`milepost-processor --check`: what the processor would do."""

from milepost_processor.adapters.files import describe_store
from milepost_processor.core.handlers import Handlers
from milepost_processor.settings import ProcessorSettings
from milepost_rabbit.login import describe_broker
from milepost_redis.server_check import describe_server
from milepost_service.check import describe_address, describe_folder, duration
from milepost_service.check import report as print_report
from milepost_service.exemptions import Exemption


def report(settings: ProcessorSettings, handlers: Handlers) -> int:
    """Print what the processor would do; return the exit code."""
    allow_eviction = Exemption.EVICTING_REDIS in settings.allow
    definitions = [handlers.definitions[name] for name in sorted(handlers.definitions)]
    return print_report(
        settings,
        [
            *(f"run {one.type} of the queue {one.queue}, for up to {duration(one.max_runtime)}" for one in definitions),
            f"run {settings.threads} jobs at once",
            f"serve /livez, /readyz and /metrics on {settings.health_host}, port {settings.health_port}",
        ],
        {
            "address": lambda: describe_address(settings.health_host, settings.health_port),
            "RabbitMQ": lambda: describe_broker(str(settings.rabbitmq_url)),
            "Redis": lambda: describe_server(str(settings.redis_url), allow_eviction=allow_eviction),
            "blob storage": lambda: describe_folder(settings.blobs_url) or describe_store(settings.blobs_url),
        },
    )
