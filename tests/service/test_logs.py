"""Logs are JSON lines, each with the name of its service; logging never raises, and never blocks its caller."""

import json
import logging
import logging.config
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
import structlog

from milepost_service import logs


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    libraries = [logging.getLogger(name) for name in logs.NOISY_LIBRARIES]
    before = [(one, one.handlers, one.level, one.propagate) for one in (root, *libraries)]
    enabled = [one for one in logging.Logger.manager.loggerDict.values() if not getattr(one, "disabled", True)]
    yield
    for one, handlers, level, propagate in before:
        one.handlers, one.level, one.propagate = handlers, level, propagate
    for one in enabled:
        one.disabled = False
    structlog.reset_defaults()


def configure(service="processor", handlers=()):
    """Configure the logs of a process whose root logger has these handlers (pytest adds handlers of its own)."""
    logging.getLogger().handlers = list(handlers)
    logs.configure(service=service, level="info", log_format="json")


def lines(capfd):
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_a_line_of_any_thread_is_json_and_names_its_service(capfd):
    """Worker threads do not inherit context variables."""
    configure()
    thread = threading.Thread(target=lambda: structlog.get_logger("test").info("it_happened", job_id="1"))
    thread.start()
    thread.join()
    logging.getLogger("a.library").warning("careful")
    own_line, library_line = lines(capfd)
    assert ("it_happened", "processor", "1") == (own_line["event"], own_line["service"], own_line["job_id"])
    assert ("careful", "processor") == (library_line["event"], library_line["service"])


def test_info_lines_of_chatty_libraries_are_dropped(capfd):
    """The pika library would log every AMQP frame."""
    configure("tracker")
    logging.getLogger("pika").info("frame")
    logging.getLogger("pika").warning("careful")
    assert ["careful"] == [line["event"] for line in lines(capfd)]


def test_a_line_of_the_standard_library_has_the_job_that_is_bound(capfd):
    """What a handler logs in its own way can be found by its job's id."""
    configure()
    with structlog.contextvars.bound_contextvars(job_id="j1"):
        logging.getLogger("app").warning("careful")
    assert ["j1"] == [line["job_id"] for line in lines(capfd)]


class Kept(logging.Handler):
    """A handler of the author's own."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def test_handlers_and_the_level_of_the_root_logger_are_kept(capfd):
    """A module of handlers may have configured logging; our log has its own level."""
    kept = Kept()
    logging.getLogger().setLevel(logging.DEBUG)
    configure(handlers=[kept])
    logging.getLogger("app").debug("detail")
    logging.getLogger("app").info("line")
    structlog.get_logger("test").info("ours")
    assert ["detail", "line"] == kept.messages
    assert ["line", "ours"] == [line["event"] for line in lines(capfd)]


def test_no_line_is_on_standard_error_twice(capfd):
    """What `basicConfig` makes is replaced; a handler with a format of its own writes alone."""
    basic, mine = logging.StreamHandler(), logging.StreamHandler()
    basic.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    mine.setFormatter(logging.Formatter("mine: %(message)s"))
    configure(handlers=[basic])
    logging.getLogger("app").info("line")
    assert ["line"] == [line["event"] for line in lines(capfd)]
    configure(handlers=[mine])
    logging.getLogger("app").info("line")
    assert "mine: line\n" == capfd.readouterr().err


def test_our_lines_do_not_depend_on_the_configuration_of_logging(capfd):
    """A handler may configure logging anew while it runs, disable loggers, or shut logging down."""
    configure()
    ours = structlog.get_logger("test")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "root": {"level": "CRITICAL"}})
    logging.disable(logging.CRITICAL)
    try:
        logging.shutdown()
        ours.warning("still_there")
    finally:
        logging.disable(logging.NOTSET)
    assert ["still_there"] == [line["event"] for line in lines(capfd)]


class Unprintable:
    def __repr__(self):
        raise RuntimeError


def test_a_value_that_can_not_be_rendered_does_not_raise(capfd):
    """Of the line, the event remains."""
    configure()
    structlog.get_logger("test").info("it_happened", value=Unprintable())
    logging.getLogger("app").warning("%d", "no number")
    ours, library = capfd.readouterr().err.splitlines()
    assert ("it_happened", "RuntimeError") == (json.loads(ours)["event"], json.loads(ours)["unloggable"])
    assert "'app'" in library


@pytest.fixture
def stderr_is():
    """Replace the descriptor of standard error, and restore it."""
    before = os.dup(2)

    def replace(descriptor):
        os.dup2(descriptor, 2)

    yield replace
    os.dup2(before, 2)
    os.close(before)


@pytest.mark.parametrize("how", ["closed", "read end closed", "full disk"])
def test_a_standard_error_that_takes_nothing_does_not_raise(stderr_is, how):
    """The lines are lost, and nothing else."""
    configure()
    if how == "full disk":
        full = os.open("/dev/full", os.O_WRONLY)
        stderr_is(full)
        os.close(full)
    else:
        read, write = os.pipe()
        os.close(read)
        stderr_is(write)
        os.close(write)
    if how == "closed":
        os.close(2)
    structlog.get_logger("test").error("lost")
    logging.getLogger("pika").error("lost")


def test_a_pipe_that_nobody_reads_delays_one_line_and_blocks_none(stderr_is, monkeypatch):
    """Once it is read again, a line says how many were dropped."""
    monkeypatch.setattr(logs, "WRITE_TIMEOUT", 0.05)
    configure()
    read, write = os.pipe()
    stderr_is(write)
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, b"\n" * 4096)
    os.set_blocking(write, True)
    began = time.monotonic()
    for _ in range(100):
        structlog.get_logger("test").info("lost", more="x" * 10_000)
    assert time.monotonic() - began < 2
    os.set_blocking(read, False)
    while os.read(read, 1 << 20) == b"\n" * (1 << 20):
        pass
    structlog.get_logger("test").info("back")
    back, dropped = (json.loads(line) for line in os.read(read, 1 << 16).split(b"\n") if line)
    assert ("back", "log_lines_dropped", 100) == (back["event"], dropped["event"], dropped["lines"])
    os.close(read)
    os.close(write)


def test_a_closed_sys_stderr_loses_no_line():
    """Some libraries close it, or set it to None; a process may be started without one."""
    code = (
        "import sys, structlog; from milepost_service import logs; "
        "logs.configure(service='processor', level='info', log_format='json'); "
        "sys.stderr.close(); structlog.get_logger('test').info('one'); "
        "sys.stderr = None; structlog.get_logger('test').info('two')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ["one", "two"] == [json.loads(line)["event"] for line in ran.stderr.splitlines()]


def test_a_process_without_standard_streams_does_not_write_into_its_sockets():
    """The first file that it opened would get the descriptor of standard error."""
    code = (
        "import os; from milepost_service import logs; "
        "logs.configure(service='processor', level='info', log_format='json'); "
        "assert os.open(os.devnull, os.O_RDONLY) > 2"
    )
    subprocess.run(["/bin/sh", "-c", 'exec "$0" -c "$1" 0>&- 1>&- 2>&-', sys.executable, code], check=True)
