"""The errors of the processor.

ProcessorError
├── HandlersUnusable   a handler package that can't be imported, or that contradicts another
├── ClaimsUnavailable  Redis does not answer a claim, or may have lost claims
│   └── OutcomeRefused the claim had an outcome that is not believed, and was dropped
├── SecretsUnreadable  the secret params of a job can't be opened
├── DeliveredTooOften  the message goes to the dead-letter queue
└── Stopping           the process stops: another one runs the job
"""


class ProcessorError(Exception):
    """The processor can't go on as it should."""


class HandlersUnusable(ProcessorError):  # noqa: N818 - these are named as conditions
    """The configured handlers can't be used."""


class ClaimsUnavailable(ProcessorError):  # noqa: N818
    """Redis does not answer, or may have lost claims."""


class OutcomeRefused(ClaimsUnavailable):
    """The claim had an outcome that is not believed. It was dropped."""


class SecretsUnreadable(ProcessorError):  # noqa: N818
    """The secret params of this job can't be opened."""


class Stopping(ProcessorError):  # noqa: N818
    """The process stops."""


class DeliveredTooOften(ProcessorError):  # noqa: N818
    """This job has been delivered more often than the limit allows."""
