"""`milepost-gateway --check`: what the gateway would do."""

import asyncio
import socket

from milepost_contracts.http.access import read_access
from milepost_gateway.adapters.blob_store import describe_store
from milepost_gateway.settings import GatewaySettings
from milepost_rabbit.login import describe_broker
from milepost_redis.server_check import describe_server
from milepost_service.check import describe_address, describe_folder
from milepost_service.check import report as print_report
from milepost_service.exemptions import Exemption


def report(settings: GatewaySettings) -> int:
    """Print what the gateway would do; return the exit code."""
    allow_eviction = Exemption.EVICTING_REDIS in settings.allow
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return print_report(
        settings,
        [
            f"serve HTTP on {settings.host}, port {settings.port}",
            _access(settings),
            "sign webhook secrets" if settings.signing else "accept no callback URLs: MILEPOST_WEBHOOK_KEYS is not set",
        ],
        {
            "address": lambda: describe_address(settings.host, settings.port, family),
            "RabbitMQ": lambda: describe_broker(str(settings.rabbitmq_url)),
            "Redis": lambda: describe_server(str(settings.redis_url), allow_eviction=allow_eviction),
            "blob storage": lambda: (
                describe_folder(settings.blobs_url) or asyncio.run(describe_store(settings.blobs_url))
            ),
        },
    )


def _access(settings: GatewaySettings) -> str:
    if settings.access_file is None:
        return "let everybody who reaches it do everything: MILEPOST_ACCESS_FILE is not set"
    access = read_access(settings.access_file)
    return f"let in {len(access.keys)} API keys and the tokens of {len(access.issuers)} issuers"
