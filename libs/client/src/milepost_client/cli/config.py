"""The configuration file of the command line: defaults for the gateway URL and the API key."""

import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from milepost_client.errors import MilepostError

VARIABLE = "MILEPOST_CONFIG"


class BadConfig(MilepostError):  # noqa: N818
    """The configuration file is invalid."""


class Config(BaseModel):
    """The content of the configuration file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: str | None = None
    api_key: str | None = None


def config_path() -> Path:
    """Return the path of the file: `MILEPOST_CONFIG`, or `~/.config/milepost/config.toml`."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "milepost", "config.toml")


def read_config() -> Config:
    """Return the configuration; it is empty if there is no file.

    Raises:
        BadConfig: The file is invalid. The message names the field, but not its value.
    """
    path = config_path()
    try:
        return Config.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        if os.environ.get(VARIABLE):
            raise BadConfig(f"{VARIABLE} names {path}, which does not exist.") from None
        return Config()
    except ValidationError as error:
        places = "; ".join(f"{one['loc'][0]}: {one['msg'].lower()}" for one in error.errors())
        raise BadConfig(f"{path} is invalid: {places}. Its fields are url and api_key.") from None
    except (OSError, ValueError) as error:
        raise BadConfig(f"{path} can't be read: {error}.") from None
