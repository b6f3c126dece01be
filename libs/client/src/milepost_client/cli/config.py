"""The command line's configuration file: which gateway, and who asks, where neither options nor environment say so."""

import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from milepost_client.errors import MilepostError

VARIABLE = "MILEPOST_CONFIG"


class BadConfig(MilepostError):  # noqa: N818
    """The configuration file can't be used."""


class Config(BaseModel):
    """What the file may say."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: str | None = None
    api_key: str | None = None


def config_path() -> Path:
    """Return where the file is: what `MILEPOST_CONFIG` names, or `~/.config/milepost/config.toml`."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "milepost", "config.toml")


def read_config() -> Config:
    """Return what the file says; nothing, where there is none.

    Raises:
        BadConfig: It can't be read; says where, and not what its values are.
    """
    path = config_path()
    try:
        return Config.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        if os.environ.get(VARIABLE):
            raise BadConfig(f"{VARIABLE} names {path}, which is not there") from None
        return Config()
    except ValidationError as error:
        places = "; ".join(f"{one['loc'][0]}: {one['msg'].lower()}" for one in error.errors())
        raise BadConfig(f"{path} does not fit: {places}. It may say url and api_key.") from None
    except (OSError, ValueError) as error:
        raise BadConfig(f"{path} can't be read: {error}") from None
