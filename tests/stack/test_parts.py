"""The parts of the stack that need no servers. Tests of complete stacks are in tests/e2e."""

import stat
import sys
import threading

import pytest

from milepost_contracts.permissions.users import deployment_users
from milepost_stack import free_ports, install, processes, rabbitmq
from milepost_stack.access import Access
from milepost_stack.errors import NotInstalled, NotUp, StackError, StartFailed
from milepost_stack.stack import Size, Stack
from milepost_stack.state import ProcessState, StackState


def quiet(text):
    """Print nothing."""


def python_process(tmp_path, program, name="child"):
    return ProcessState(name=name, command=[sys.executable, "-c", program], environment={}, log=tmp_path / "child.log")


def test_only_the_owner_can_read_the_state_file(tmp_path):
    """It contains the key that signs ids."""
    state = StackState(name="x", url=None, rabbitmq_url="amqp://a", redis_url="redis://b")
    state.save(tmp_path)
    assert state == StackState.load(tmp_path)
    assert 0o600 == stat.S_IMODE((tmp_path / "state.json").stat().st_mode)


def test_no_free_port_is_chosen_twice(monkeypatch):
    """The caller may not have bound the port yet."""
    start = free_ports.any_port()
    monkeypatch.setattr(free_ports, "PORT_RANGE", range(start, start + 50))
    chosen = [start, *(free_ports.any_port() for _ in range(20))]
    assert len(chosen) == len(set(chosen))


def test_two_processes_install_one_after_the_other(tmp_path, monkeypatch):
    """Two test workers on a bare machine need the same packages, and apt-get fails while another one runs."""
    program = install.Program("made-program", (str(tmp_path / "made-program"),), apt="made", brew="made")
    monkeypatch.setattr(install.tempfile, "gettempdir", lambda: str(tmp_path))
    installed, running, waiting = [], threading.Event(), threading.Event()

    def install_slowly(missing, say, otherwise):
        installed.append(missing)
        running.set()
        assert waiting.wait(20), "the second process reports that it waits"
        (tmp_path / "made-program").touch(0o755)

    monkeypatch.setattr(install, "_install", install_slowly)
    found = []
    first = threading.Thread(target=lambda: found.append(install.ensure((program,), quiet)))
    first.start()
    assert running.wait(20)
    found.append(install.ensure((program,), lambda _: waiting.set()))
    first.join()
    assert [[program]] == installed
    assert 2 * [{"made-program": str(tmp_path / "made-program")}] == found


def test_a_process_is_found_and_stopped_by_pid_and_start_time(tmp_path):
    """Another process with the same pid is left alone."""
    process = python_process(tmp_path, "import time; time.sleep(60)")
    processes.start(process)
    assert processes.find(process) is not None
    assert processes.find(process.model_copy(update={"created": 1.0})) is None
    assert processes.stop(process)
    assert processes.find(process) is None
    assert processes.stop(process), "stopping an ended process succeeds"


def test_a_failed_start_shows_the_last_lines_of_the_log(tmp_path):
    """They usually have the reason."""
    process = python_process(tmp_path, "import sys; print('out of luck'); sys.exit(3)")
    processes.start(process)
    with pytest.raises(StartFailed, match=r"child ended while it started\n(.|\n)*out of luck"):
        processes.wait_ready(process, lambda: False, within=20)
    processes.stop(process)


def test_a_start_that_takes_too_long_fails(tmp_path):
    """`wait_ready` has a timeout."""
    process = python_process(tmp_path, "import time; time.sleep(60)")
    processes.start(process)
    try:
        with pytest.raises(StartFailed, match="not ready within"):
            processes.wait_ready(process, lambda: False, within=0.1)
    finally:
        processes.stop(process)


def test_nodes_share_nothing(tmp_path):
    """Two stacks have different names, ports and cookies."""
    programs = {"rabbitmq-server": "/r", "epmd": "/e"}
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(rabbitmq.processes(tmp_path / name, programs, Access.fresh(deployment_users("milepost"))))
    (one_url, one), (other_url, other) = made
    assert one_url != other_url
    for variable in ("RABBITMQ_NODENAME", "RABBITMQ_DIST_PORT", "ERL_EPMD_PORT", "HOME"):
        assert one[1].environment[variable] != other[1].environment[variable]


def test_the_error_for_a_missing_server_says_what_to_do(monkeypatch):
    """Without apt-get and brew, the user has to set the URL of a server."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NotInstalled, match="MILEPOST_REDIS_URL"):
        install.ensure((install.Program("no-such-server", (), apt="x", brew="x"),), quiet)


@pytest.mark.parametrize("name", ["", "../../victim", "/abs", "a/b", "A", "-x", "."])
def test_a_stack_name_cannot_lead_out_of_the_stacks_folder(tmp_path, name):
    """The folder of a stack is emptied when it starts."""
    with pytest.raises(StackError, match="lower-case"):
        Stack(tmp_path, name, quiet)


def test_stopping_an_unknown_stack_is_an_error(tmp_path):
    """The error names the stack."""
    with pytest.raises(NotUp, match="there is no stack 'x'"):
        Stack(tmp_path, "x", quiet).down()


@pytest.mark.parametrize("secret", ["MILEPOST_RABBITMQ_URL", "MILEPOST_ID_KEYS"])
def test_a_stack_refuses_a_secret_in_a_file(tmp_path, monkeypatch, secret):
    """It sets these itself, and a service would find both."""
    monkeypatch.setenv(f"{secret}_FILE", "/run/secrets/one")
    with pytest.raises(StackError, match=f"{secret}_FILE .* set {secret}"):
        Stack(tmp_path, "one", print).up(Size())
    assert not (tmp_path / "one").exists()
