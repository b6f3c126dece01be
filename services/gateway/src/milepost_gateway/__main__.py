"""`milepost-gateway`: serves HTTP until it is told to stop. Settings come from the environment, see its README."""

import argparse

import uvicorn

from milepost_gateway.bootstrap import create_app
from milepost_gateway.server import ImpatientProtocol, Server
from milepost_gateway.settings import GatewaySettings
from milepost_service import logs
from milepost_service.settings import SettingsError, exit_misconfigured, load

WEBSOCKET_FRAME = 4_096
"""The most bytes of what a client says over a WebSocket."""


def main() -> None:
    """Start the gateway."""
    argparse.ArgumentParser(prog="milepost-gateway", description=__doc__).parse_args()
    try:
        settings = load(GatewaySettings)
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
        ws_max_size=WEBSOCKET_FRAME,
        http=ImpatientProtocol,
    )
    Server(config, app.state.closing).listen_and_run()


if __name__ == "__main__":
    main()
