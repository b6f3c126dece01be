"""Secrets in files: `MILEPOST_X_FILE` names the file that has the value of the secret setting `X`."""

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import AnyUrl, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from milepost_service.known_settings import FILE_SUFFIX

MAX_SIZE = 64 * 1024
"""Maximum size of such a file, in bytes."""


class UnreadableSecret(ValueError):  # noqa: N818 - named as the condition
    """The file of a secret can't be used."""


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting is a secret, or a URL that may contain one."""
    return any(kind in (SecretStr, AnyUrl) for kind in (field.annotation, *get_args(field.annotation)))


def read_secret(name: str) -> str | None:
    """Return the contents of the file that the variable `<name>_FILE` names, or nothing if it is not set.

    One newline at the end is removed.

    Raises:
        UnreadableSecret: The file can't be read or is empty, or `name` is set, too.
    """
    variable = name + FILE_SUFFIX
    path = os.environ.get(variable)
    if not path:
        return None
    if os.environ.get(name):
        raise UnreadableSecret(f"{name} and {variable} are both set: set one of them")
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise UnreadableSecret(f"{variable}: {path} can't be read: {error.strerror}") from error
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UnreadableSecret(f"{variable}: {path} is not a text file") from None
    if not text.strip() or len(content) > MAX_SIZE:
        raise UnreadableSecret(f"{variable}: {path} is empty or larger than {MAX_SIZE // 1024} KiB")
    return text


class SecretFiles(PydanticBaseSettingsSource):
    """Settings whose values are in files."""

    def __init__(self, settings: type[BaseSettings]) -> None:
        super().__init__(settings)
        self._prefix = str(settings.model_config.get("env_prefix", ""))

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a field, if it is in a file."""
        found = read_secret(f"{self._prefix}{field_name.upper()}") if is_secret(field) else None
        return found, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}
