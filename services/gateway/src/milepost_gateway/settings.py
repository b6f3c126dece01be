"""The gateway's settings: `MILEPOST_…` in the environment."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from milepost_contracts.access import is_loopback, read_access
from milepost_contracts.errors import WeakKeyring
from milepost_contracts.ids import Keyring
from milepost_contracts.values import MAX_PARAMS
from milepost_service.callbacks import CallbackSettings
from milepost_service.settings import BlobsUrl


def _origins(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s,]+)$")]
Origins = Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_origins)]


class GatewaySettings(CallbackSettings):
    host: str = "127.0.0.1"
    port: int = Field(default=8800, ge=1, le=65_535)
    #: The keys that sign job ids, `NUMBER:HEX[,NUMBER:HEX…]`; the first signs, all verify. The same for every gateway.
    id_keys: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
    )
    #: Where the files of jobs are kept: a URL that gateway and processors can both reach.
    blobs_url: BlobsUrl = Field(default_factory=lambda: Path(".milepost/blobs").resolve().as_uri())
    #: The most bytes of a submission without files.
    max_body: int = Field(default=256 * 1024, ge=1_024, le=16 * 1024 * 1024)
    #: The most bytes of a submission with files.
    max_upload: int = Field(default=1024**3, ge=1_024)
    #: The most files of a submission.
    max_files: int = Field(default=500, ge=1, le=1_000)
    #: The file that says who may do what, and how much; see `milepost keys`. Without one the gateway is open.
    access_file: Path | None = None
    #: Let anybody who reaches the gateway do everything, though other machines may.
    open: bool = False
    #: Pages of these origins may ask, from a browser: `https://app.example.com,…`; `*` for any.
    cors_origins: Origins = ()

    @field_validator("id_keys")
    @classmethod
    def _usable(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError(
                "it must be set, the same for every gateway; "
                "make one with: python3 -c 'import secrets; print(\"1:\" + secrets.token_hex(32))'"
            )
        try:
            Keyring.parse(value.get_secret_value())
        except WeakKeyring as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("access_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_access(value)
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.access_file is None and not self.open and not is_loopback(self.host):
            raise ValueError(
                f"whoever reaches {self.host} could do everything: say who may what in MILEPOST_ACCESS_FILE "
                "(see 'milepost keys create --help'), or MILEPOST_OPEN=true if everybody may"
            )
        if self.access_file is not None and self.open:
            raise ValueError("MILEPOST_OPEN and MILEPOST_ACCESS_FILE contradict each other")
        if self.max_body < MAX_PARAMS:
            raise ValueError(
                f"MILEPOST_MAX_BODY ({self.max_body}) is smaller than the params that a job may have ({MAX_PARAMS})"
            )
        if self.max_upload < self.max_body:
            raise ValueError(
                f"MILEPOST_MAX_UPLOAD ({self.max_upload}) is smaller than MILEPOST_MAX_BODY ({self.max_body})"
            )
        return self
