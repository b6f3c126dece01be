"""Logs: JSON lines for machines, each with its service."""

import json
import logging
import threading

import pytest
import structlog

from milepost_service import logs


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_every_line_is_json_and_names_its_service_from_any_thread(capsys):
    """Worker threads inherit no context, and their lines must not be anonymous."""
    logs.configure(service="processor", level="info", log_format="json")
    thread = threading.Thread(target=lambda: structlog.get_logger("test").info("it_happened", job_id="1"))
    thread.start()
    thread.join()
    logging.getLogger("a.library").warning("careful")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert ("it_happened", "processor", "1") == (ours["event"], ours["service"], ours["job_id"])
    assert ("careful", "processor") == (theirs["event"], theirs["service"])


def test_chatty_libraries_are_quiet(capsys):
    """Nobody wants every AMQP frame."""
    logs.configure(service="tracker", level="info", log_format="json")
    logging.getLogger("pika").info("frame")
    assert "" == capsys.readouterr().err
