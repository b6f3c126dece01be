"""From nothing to a handler that runs: what the README and the tutorial promise its author."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from milepost_client import Client

BIN = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path):
    """What `milepost new handlers letters` makes."""
    made = subprocess.run(
        [BIN / "milepost", "new", "handlers", "letters"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "letters/src/letters/__init__.py" in made.stdout.split()
    assert "milepost dev letters" in made.stderr
    return tmp_path / "letters"


@pytest.fixture
def environment(namespace, rabbitmq_url, redis_url):
    """Servers that run already, with names that nobody else uses."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MILEPOST_", "PYTEST"))},
        "MILEPOST_RABBITMQ_URL": rabbitmq_url,
        "MILEPOST_REDIS_URL": redis_url,
        "MILEPOST_NAMESPACE": namespace,
    }


def test_a_new_package_passes_its_own_tests_and_runs_in_a_stack_of_its_tests(folder, environment):
    """Both fixtures: `milepost_run`, in-process, and `milepost_stack`, with everything."""
    (folder / "tests" / "test_whole.py").write_text(
        "from milepost_client import Client\n\n"
        "def test_whole(milepost_stack):\n"
        "    with Client(milepost_stack.url) as client:\n"
        "        result = client.submit('letters', {'text': 'one two'}).result(timeout=30)\n"
        "        assert result == {'words': 2, 'longest': 'one'}\n"
    )
    command = [BIN / "pytest", "-q", "-p", "no:randomly", "-o", "milepost_handlers=letters"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert "4 passed" in ran.stdout


def test_what_can_not_be_made_is_told(tmp_path):
    """A name that is none; a folder that is there."""

    def new(name):
        command = [BIN / "milepost", "new", "handlers", name]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    for name in ("Not a name", "class", "../up", "1st", "json", "pydantic"):
        assert (2, []) == (new(name).returncode, list(tmp_path.iterdir())), name
    (tmp_path / "letters").mkdir()
    assert "is there already" in " ".join(new("letters").stderr.replace("│", " ").split())


@pytest.fixture
def dev(folder, environment, tmp_path):
    """`milepost dev letters` while it runs; returns what it has printed so far."""
    log = tmp_path / "dev.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [BIN / "milepost", "dev", "letters", "--port", "0"],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    yield log.read_text
    process.send_signal(signal.SIGINT)
    assert 0 == process.wait(30), log.read_text()
    assert log.read_text().rstrip().endswith("stack: stopped")


def test_handlers_are_reloaded_when_their_code_changes(folder, dev):
    """Also after a change that can't be imported, which is shown; what was printed appears."""
    code = folder / "src" / "letters" / "__init__.py"
    text = code.read_text()
    found = wait_until(lambda: re.search(r"stack: up: (http://\S+);", dev()), within=60, what="it is up")
    with Client(found[1]) as client:

        def words():
            return client.submit("letters", {"text": "one two"}).result(timeout=30)["words"]

        wait_until(lambda: any(one.type == "letters" for one in client.types()), within=20, what="it is announced")
        assert 2 == words()
        code.write_text(
            text.replace("words=len(words)", "words=len(words) + 40").replace(
                "    longest", "    print('heard')\n    longest", 1
            )
        )
        wait_until(lambda: words() == 42, within=30, what="the new code runs")
        assert "src/letters/__init__.py changed" in dev()
        wait_until(lambda: "heard" in dev(), within=10, what="what the handler prints appears")
        code.write_text("this is no python")
        wait_until(lambda: "waiting for a change" in dev(), within=30, what="the mistake is told")
        wait_until(lambda: "SyntaxError" in dev(), within=10, what="and which it is")
        code.write_text(text)
        assert 2 == words()


def test_a_module_that_is_not_there_is_told_before_anything_starts(tmp_path, environment):
    """And what one may have meant by a file's name."""
    for name, says in (("nowhere", "there is no module 'nowhere'"), ("my/jobs.py", "as it is imported, my.jobs")):
        command = [BIN / "milepost", "dev", name]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        assert (1, True) == (ran.returncode, says in ran.stderr), ran.stderr
        assert "starting" not in ran.stderr
