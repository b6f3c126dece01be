"""The gateway's settings: `MILEPOST_…` in the environment."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from milepost_contracts.http.access import is_loopback, read_access
from milepost_contracts.values import MAX_PARAMS
from milepost_service.callback_urls import CallbackSettings
from milepost_service.id_keys import IdKeySettings
from milepost_service.lists import split_words
from milepost_service.sealing import SealKeys
from milepost_service.senders import SenderSettings
from milepost_service.settings import BlobsUrl

Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s,]+)$")]
Origins = Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(split_words)]
HostName = Annotated[str, Field(pattern=r"^(\*|[a-z0-9._-]+)$"), BeforeValidator(str.lower)]
HostNames = Annotated[tuple[HostName, ...], NoDecode, BeforeValidator(split_words)]


class GatewaySettings(IdKeySettings, SenderSettings, CallbackSettings):
    host: str = "127.0.0.1"
    port: int = Field(default=8800, ge=1, le=65_535)
    seal_keys: SealKeys = SecretStr("")
    """The keys that seal secret params, `NUMBER:HEX[,NUMBER:HEX…]`; the first seals. The same for every processor."""
    blobs_url: BlobsUrl = Field(default_factory=lambda: Path(".milepost/blobs").resolve().as_uri())
    """Where the files of jobs are kept: a URL that gateway and processors can both reach."""
    max_body: int = Field(default=256 * 1024, ge=1_024, le=16 * 1024 * 1024)
    """Maximum size of a submission without files, in bytes."""
    max_upload: int = Field(default=1024**3, ge=1_024)
    """Maximum size of a submission with files, in bytes."""
    max_files: int = Field(default=500, ge=1, le=1_000)
    """Maximum number of files of a submission."""
    access_file: Path | None = None
    """File with the API keys, token issuers and limits; see `milepost keys`. Without one the gateway is open."""
    open: bool = False
    """Allow a gateway without an access file to listen beyond loopback: everybody who reaches it may do everything."""
    cors_origins: Origins = ()
    """Origins whose web pages may call the gateway: `https://app.example.com,…`; `*` for any."""
    hosts: HostNames = ()
    """Names under which clients reach the gateway: `jobs.example.com,…`; `*` for any."""
    docs: bool = True
    """Serve the documentation of the HTTP interface at `/docs`."""

    @property
    def known_hosts(self) -> frozenset[str] | None:
        """The names that a `Host` header may have, besides addresses and `localhost`; `None` for any.

        With an access file, any by default: a page that DNS rebinding brings here has no API key.
        """
        if "*" in self.hosts or (self.access_file is not None and not self.hosts):
            return None
        return frozenset(name.removesuffix(".") for name in (*self.hosts, self.host.lower()))

    @field_validator("access_file")
    @classmethod
    def _check_access_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_access(value)
        return value

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.access_file is None and not self.open and not is_loopback(self.host):
            raise ValueError(
                f"everybody who reaches {self.host} could do everything: set MILEPOST_ACCESS_FILE "
                "(see 'milepost keys create --help'), or MILEPOST_OPEN=true to allow that"
            )
        if self.access_file is not None and self.open:
            raise ValueError("MILEPOST_OPEN and MILEPOST_ACCESS_FILE contradict each other: set one of them")
        if self.max_body < MAX_PARAMS:
            raise ValueError(
                f"MILEPOST_MAX_BODY ({self.max_body}) is smaller than the maximum size of a job's params ({MAX_PARAMS})"
            )
        if self.max_upload < self.max_body:
            raise ValueError(
                f"MILEPOST_MAX_UPLOAD ({self.max_upload}) is smaller than MILEPOST_MAX_BODY ({self.max_body})"
            )
        return self
