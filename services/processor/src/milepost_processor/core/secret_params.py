"""Opens the secret params of jobs for their handlers, and masks them in what leaves the processor."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import JsonValue

from milepost.masking import Masking
from milepost_contracts.secret_params import MASK, SecretParams
from milepost_contracts.values import Job
from milepost_processor.core.handlers import Handlers
from milepost_processor.errors import SecretsUnreadable
from milepost_service.sealing import SEAL_KEYS, CannotOpen, Sealer


@dataclass(frozen=True)
class OpenedParams:
    """The params of a job, for its handler alone."""

    params: Mapping[str, JsonValue] = field(repr=False)
    masking: Masking


class ParamsOpener:
    """Opens the params of the jobs that this processor runs."""

    def __init__(self, handlers: Handlers, sealer: Sealer) -> None:
        self._sealer = sealer
        self._schemas = {name: SecretParams(one.params_schema()) for name, one in handlers.definitions.items()}
        #: The types with secret params.
        self.types = {name: one for name, one in self._schemas.items() if one.exist}
        self._maskings: dict[int, Masking] = {}

    @property
    def missing_keys(self) -> str | None:
        """What is wrong if a type has secret params and there is no key to open them."""
        if self._sealer.has_keys or not self.types:
            return None
        return f"{SEAL_KEYS} must be set, as for the gateways: params of {', '.join(sorted(self.types))} are secret"

    def has_key_of(self, job: Job) -> bool:
        """Whether the job has no secret params, or their key is known here."""
        return self._sealer.has_key_of(job)

    def open(self, job: Job) -> OpenedParams:
        """Return the job's params as they were submitted.

        Raises:
            SecretsUnreadable: The secrets can't be opened, or the message has lost them.
        """
        if job.sealed is None and job.type in self.types and MASK in self.types[job.type].split(job.params)[1].values():
            raise SecretsUnreadable("they are missing: a service of an earlier release has passed on the masks alone")
        try:
            params, secrets = self._sealer.open(job)
        except CannotOpen as error:
            raise SecretsUnreadable(str(error)) from error
        names = self._schemas[job.type].names if job.type in self._schemas else ()
        return OpenedParams(params, Masking(secrets.values(), names))

    @contextmanager
    def masking_logs(self, opened: OpenedParams) -> Iterator[None]:
        """Mask the secrets in all log lines of this process meanwhile."""
        self._maskings[id(opened)] = opened.masking
        try:
            yield
        finally:
            del self._maskings[id(opened)]

    def mask(self, line: str) -> str:
        """Return the line with masks in place of all secrets that are open."""
        for masking in tuple(self._maskings.values()):
            line = masking(line)
        return line
