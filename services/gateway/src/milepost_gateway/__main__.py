"""Serve Milepost's HTTP API until SIGTERM or SIGINT. Settings are environment variables, `MILEPOST_…`."""

import argparse

import uvicorn

from milepost_contracts.messages.senders import Role
from milepost_gateway.api.server import ReadTimeoutProtocol, Server
from milepost_gateway.bootstrap import create_app
from milepost_gateway.settings import GatewaySettings
from milepost_service import logs
from milepost_service.settings import SettingsError, exit_misconfigured, load

MAX_WEBSOCKET_MESSAGE = 4_096
"""Maximum size of a message from a WebSocket client, in bytes."""


def main() -> None:
    """Start the gateway."""
    argparse.ArgumentParser(prog="milepost-gateway", description=__doc__).parse_args()
    try:
        settings = load(GatewaySettings)
        settings.check_own_user(Role.GATEWAY)
    except SettingsError as error:
        exit_misconfigured(str(error))
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
        http=ReadTimeoutProtocol,
    )
    Server(config, app.state.closing).listen_and_run()


if __name__ == "__main__":
    main()
