"""Configures structlog and the standard library's logging: console format on a terminal, JSON lines elsewhere.

Milepost's own lines go straight to standard error, so that no configuration of `logging` by a handler or a library
changes them. A line that can't be written is dropped: logging never raises into its caller, and never blocks it for
longer than `WRITE_TIMEOUT`.
"""

import logging
import os
import select
import sys
from collections.abc import Callable
from typing import Any

import structlog

NOISY_LIBRARIES = ("pika", "aiormq", "aio_pika", "uvicorn.access", "uvicorn.error", "dramatiq")
"""Libraries that log every frame or request, some with the complete URL. Only their warnings are logged."""
STDERR = 2
WRITE_TIMEOUT = 1.0
"""Seconds until a line is dropped because standard error takes nothing, for example a pipe that nobody reads."""

log = structlog.get_logger(__name__)


class StandardError(logging.Handler):
    """Writes lines to the file descriptor of standard error, whatever has become of `sys.stderr`."""

    def __init__(self, mask: Callable[[str], str] = str) -> None:
        super().__init__()
        self._mask = mask
        self._timeout = WRITE_TIMEOUT
        self._dropped = 0

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record's line; the lock is left to `write`, which does not wait for it without limit."""
        passed = bool(self.filter(record))
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - logging never raises
            line = f"milepost: a line of the logger {record.name!r} can't be formatted: {type(error).__name__}"
        self.write(line)

    def write(self, line: str) -> None:
        """Write a line, masked, or drop it."""
        line = self._mask(line)
        lock: Any = self.lock  # `logging` renews it in forked children
        if not lock.acquire(timeout=WRITE_TIMEOUT):
            return
        try:
            if not self._write_all(line):
                self._dropped += 1
                return
            dropped, self._dropped = self._dropped, 0
        finally:
            lock.release()
        if dropped:
            log.warning("log_lines_dropped", lines=dropped)

    def _write_all(self, line: str) -> bool:
        data = memoryview(line.encode(errors="backslashreplace") + b"\n")
        try:
            while data:
                if not _is_writable(self._timeout):
                    self._timeout = 0.0  # nobody waits again until a line could be written
                    return False
                # A pipe that is writable takes this much without blocking.
                data = data[os.write(STDERR, data[: select.PIPE_BUF]) :]
        except OSError:  # closed, its reader is gone, or the disk is full
            return False
        self._timeout = WRITE_TIMEOUT
        return True


class _Lines:
    """The logger below structlog's: writes the line that the processors have rendered."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


def configure(*, service: str, level: str, log_format: str, mask: Callable[[str], str] = str) -> None:
    """Configure the logging of this process, to standard error. `mask` takes out of each line what must not be in it.

    The handlers that the root logger has already are kept. Only what `logging.basicConfig` makes is replaced, because
    each line would be there twice; and if another handler writes to standard error, it does so alone.
    """
    _open_standard_streams()
    as_json = log_format == "json" or (log_format == "auto" and not os.isatty(STDERR))
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _named(service),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    handler = StandardError(mask)
    handler.setLevel(level.upper())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=lambda *_: _Lines(handler.write),
        wrapper_class=_never_raising(level),
        cache_logger_on_first_use=True,
    )
    _add_to_root(handler)
    for name in NOISY_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers, library.propagate = [handler], False
        library.setLevel(logging.WARNING)


def _add_to_root(handler: logging.Handler) -> None:
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not _is_basic(one)]
    if not root.handlers:
        root.setLevel(handler.level)
    if not any(_writes_to_stderr(one) for one in root.handlers):
        root.addHandler(handler)


def _is_basic(handler: logging.Handler) -> bool:
    """Return whether `logging.basicConfig` made the handler, without a format of its own."""
    is_default = handler.formatter is None or handler.formatter._fmt == logging.BASIC_FORMAT  # noqa: SLF001
    return isinstance(handler, StandardError) or (is_default and _writes_to_stderr(handler))


def _writes_to_stderr(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.__stderr__)


def _is_writable(timeout: float) -> bool:
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    return bool(poll.poll(timeout * 1000))


def _open_standard_streams() -> None:
    """Open the standard streams that this process was started without: a socket must not get their descriptors."""
    for stream in range(STDERR + 1):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one


def _never_raising(level: str) -> type[structlog.typing.FilteringBoundLogger]:
    """Return structlog's logger of this level, without the errors of what it renders: a value's `repr` may raise."""
    filtering: Any = structlog.make_filtering_bound_logger(level)

    class NeverRaising(filtering):  # type: ignore[misc]
        def _proxy_to_logger(self, method_name: str, event: str | None = None, *args: Any, **fields: Any) -> Any:
            try:
                return super()._proxy_to_logger(method_name, event, *args, **fields)
            except Exception as error:  # noqa: BLE001 - logging never raises
                why = type(error).__name__
                return super()._proxy_to_logger(method_name, event, unloggable=why)

    return NeverRaising


def _named(service: str) -> structlog.typing.Processor:
    """Return a processor that adds the service to every line, in every thread."""

    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add
