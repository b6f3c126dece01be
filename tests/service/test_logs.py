"""Logs are JSON lines, each with the name of its service."""

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


def test_a_line_of_any_thread_is_json_and_names_its_service(capsys):
    """Worker threads do not inherit context variables."""
    logs.configure(service="processor", level="info", log_format="json")
    thread = threading.Thread(target=lambda: structlog.get_logger("test").info("it_happened", job_id="1"))
    thread.start()
    thread.join()
    logging.getLogger("a.library").warning("careful")
    own_line, library_line = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert ("it_happened", "processor", "1") == (own_line["event"], own_line["service"], own_line["job_id"])
    assert ("careful", "processor") == (library_line["event"], library_line["service"])


def test_info_lines_of_chatty_libraries_are_dropped(capsys):
    """The pika library would log every AMQP frame."""
    logs.configure(service="tracker", level="info", log_format="json")
    logging.getLogger("pika").info("frame")
    assert "" == capsys.readouterr().err
