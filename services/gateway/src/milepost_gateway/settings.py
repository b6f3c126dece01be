"""The gateway's settings: `MILEPOST_…` in the environment."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from milepost_contracts.errors import WeakKeyring
from milepost_contracts.ids import Keyring
from milepost_contracts.values import MAX_PARAMS
from milepost_service.settings import BlobsUrl, ServiceSettings


class GatewaySettings(ServiceSettings):
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

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.max_body < MAX_PARAMS:
            raise ValueError(
                f"MILEPOST_MAX_BODY ({self.max_body}) is smaller than the params that a job may have ({MAX_PARAMS})"
            )
        if self.max_upload < self.max_body:
            raise ValueError(
                f"MILEPOST_MAX_UPLOAD ({self.max_upload}) is smaller than MILEPOST_MAX_BODY ({self.max_body})"
            )
        return self
