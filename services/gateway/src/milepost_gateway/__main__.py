"""Serve Milepost's HTTP API until SIGTERM or SIGINT. Settings are environment variables, `MILEPOST_…`."""

import sys

import uvicorn

from milepost_contracts.messages.senders import Role
from milepost_gateway.api.protocol import HttpProtocol
from milepost_gateway.api.server import Server
from milepost_gateway.bootstrap import create_app
from milepost_gateway.check import report
from milepost_gateway.settings import GatewaySettings
from milepost_redis.server_check import ServerCheck, UnsafeRedis
from milepost_service import check, logs
from milepost_service.exemptions import Exemption
from milepost_service.settings import SettingsError, exit_misconfigured, load

MAX_WEBSOCKET_MESSAGE = 4_096
"""Maximum size of a message from a WebSocket client, in bytes."""


def main() -> None:
    """Start the gateway."""
    arguments = check.parser("gateway", "Serve Milepost's HTTP API until SIGTERM or SIGINT.").parse_args()
    try:
        settings = load(GatewaySettings)
        settings.check_own_user(Role.GATEWAY)
        if arguments.check:
            sys.exit(report(settings))
        _run(settings)
    except SettingsError as error:
        exit_misconfigured(*(error.problems if arguments.check else error.problems[:1]))
    except UnsafeRedis as error:
        exit_misconfigured(str(error))


def _run(settings: GatewaySettings) -> None:
    logs.configure(service="gateway", level=settings.log_level, log_format=settings.log_format)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        ws_max_size=MAX_WEBSOCKET_MESSAGE,
        http=HttpProtocol,
    )
    redis_check = ServerCheck(str(settings.redis_url), allow_eviction=Exemption.EVICTING_REDIS in settings.allow)
    redis_check.start()
    Server(config, app.state.closing).listen_and_run()
    redis_check.raise_if_refused()


if __name__ == "__main__":
    main()
