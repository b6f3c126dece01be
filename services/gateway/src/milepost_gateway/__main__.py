"""`milepost-gateway`: serves HTTP until it is told to stop. Settings come from the environment, see its README."""

import argparse

import uvicorn

from milepost_gateway.bootstrap import create_app
from milepost_gateway.settings import GatewaySettings
from milepost_service import logs
from milepost_service.settings import SettingsError, exit_misconfigured, load


def main() -> None:
    """Start the gateway."""
    argparse.ArgumentParser(prog="milepost-gateway", description=__doc__).parse_args()
    try:
        settings = load(GatewaySettings)
    except SettingsError as error:
        exit_misconfigured(str(error))
    logs.configure(service="gateway", level=settings.log_level, log_format=settings.log_format)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
