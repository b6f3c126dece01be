"""From an empty folder to a running handler, as the README and the tutorial describe it."""

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
    """Servers that run already, with a namespace of the test's own."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MILEPOST_", "PYTEST"))},
        "MILEPOST_RABBITMQ_URL": rabbitmq_url,
        "MILEPOST_REDIS_URL": redis_url,
        "MILEPOST_NAMESPACE": namespace,
    }


def test_a_new_package_passes_its_own_tests_with_both_fixtures(folder, environment):
    """`milepost_run` runs a handler in-process, `milepost_stack` starts a complete stack."""
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


def test_an_invalid_name_or_an_existing_folder_is_refused(tmp_path):
    """Nothing is created."""

    def new(name):
        command = [BIN / "milepost", "new", "handlers", name]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    for name in ("Not a name", "class", "../up", "1st", "json", "pydantic"):
        assert (2, []) == (new(name).returncode, list(tmp_path.iterdir())), name
    (tmp_path / "letters").mkdir()
    assert "already exists" in " ".join(new("letters").stderr.replace("│", " ").split())


@pytest.fixture
def dev(folder, environment, tmp_path):
    """`milepost dev letters` while it runs; returns a function that reads its output so far."""
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
    """Also after a change that can't be imported, which is reported. What handlers print is shown."""
    code = folder / "src" / "letters" / "__init__.py"
    text = code.read_text()
    found = wait_until(lambda: re.search(r"stack: up: (http://\S+);", dev()), within=60, what="the stack is up")
    with Client(found[1]) as client:

        def words():
            return client.submit("letters", {"text": "one two"}).result(timeout=30)["words"]

        wait_until(
            lambda: any(one.type == "letters" for one in client.types()), within=20, what="the type is announced"
        )
        assert 2 == words()
        code.write_text(
            text.replace("words=len(words)", "words=len(words) + 40").replace(
                "    longest", "    print('printed')\n    longest", 1
            )
        )
        wait_until(lambda: words() == 42, within=30, what="the new code runs")
        assert "src/letters/__init__.py changed" in dev()
        wait_until(lambda: "printed" in dev(), within=10, what="what the handler prints appears")
        code.write_text("this is no python")
        wait_until(lambda: "waiting for a change" in dev(), within=30, what="the failed import is reported")
        wait_until(lambda: "SyntaxError" in dev(), within=10, what="the error is shown")
        code.write_text(text)
        assert 2 == words()


def test_a_missing_module_is_reported_before_anything_starts(tmp_path, environment):
    """For a file name, the error suggests the module's name."""
    for name, error in (("nowhere", "there is no module 'nowhere'"), ("my/jobs.py", "as it is imported, my.jobs")):
        command = [BIN / "milepost", "dev", name]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        assert (1, True) == (ran.returncode, error in ran.stderr), ran.stderr
        assert "starting" not in ran.stderr
