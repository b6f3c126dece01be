"""The tutorial, as a reader follows it: its files are written, its commands run, and their outputs compared."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

TUTORIAL = Path(__file__).parent.parent.parent / "docs" / "tutorial.md"
BIN = Path(sys.executable).parent
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
VARIABLE_PARTS = (
    (r"\b[0-9a-v]{40}\b", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME"),
    (r"\b\d+\.\d+ ?s\b", "SECONDS"),
)


def steps(text):
    """Yield ("file", path, content), ("command", line, output) and ("run", line, "") in the order of the page."""
    for kind, title, body in FENCE.findall(text):
        if kind == "python" and title:
            yield "file", title, body
        elif kind == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                yield "command", line, output
        elif kind == "sh" and body.startswith("milepost dev"):
            yield "run", body.strip(), ""


def is_same_output(expected, actual):
    """Compare two outputs, except for their variable parts; a line of three dots stands for any lines."""
    for pattern, name in VARIABLE_PARTS:
        expected, actual = (re.sub(pattern, name, text) for text in (expected, actual))
    lines = [line.rstrip() for line in expected.strip().splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(f"{line}\n") for line in lines)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in actual.strip().splitlines()))


@pytest.fixture
def environment(namespace, rabbitmq_url, redis_url):
    """A reader's environment, with the session's servers instead of new ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MILEPOST_", "PYTEST"))}
    servers = {"MILEPOST_RABBITMQ_URL": rabbitmq_url, "MILEPOST_REDIS_URL": redis_url, "MILEPOST_NAMESPACE": namespace}
    return {**inherited, **servers, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb"}


def test_the_tutorial_works_as_written(tmp_path, environment):
    """A handler written by following the tutorial alone works at the first try."""
    place, started, ran = tmp_path, [], 0
    log = tmp_path / "dev.log"
    try:
        for kind, what, text in steps(TUTORIAL.read_text()):
            if kind == "file":
                place.joinpath(what).write_text(text)
            elif kind == "run":
                with log.open("wb") as file:
                    command = [*what.split(), "--port", "0"]
                    started.append(subprocess.Popen(command, cwd=place, env=environment, stdout=file, stderr=file))
                up = wait_until(
                    lambda: re.search(r"up: (http://\S+);", log.read_text()), within=60, what="the stack is up"
                )
                wait_until(lambda: "processor_started" in log.read_text(), within=20, what="the handler is announced")
                environment["MILEPOST_URL"] = up[1]
                wait_until(lambda: announced(environment), within=20, what="the type can be submitted")
            elif what.startswith("cd "):
                place = place / what.split()[1]
            else:
                done = subprocess.run(
                    ["sh", "-c", what], cwd=place, env=environment, capture_output=True, text=True, check=False
                )
                output = done.stderr + done.stdout if "--watch" in what else done.stdout + done.stderr
                print(f"$ {what}\n{output}", end="")
                assert is_same_output(text, output), f"$ {what}\n{output}"
                ran += 1
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert (1, 7) == (len(started), ran), "the tutorial has one `milepost dev` and seven commands"


def announced(environment):
    output = subprocess.run([BIN / "milepost", "types"], env=environment, capture_output=True, text=True, check=False)
    return "letters" in output.stdout
