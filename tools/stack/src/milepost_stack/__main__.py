"""`stack`: a complete Milepost on this machine, with its own RabbitMQ and Redis.

Uses the servers in MILEPOST_RABBITMQ_URL and MILEPOST_REDIS_URL if they are set. Otherwise it starts private ones,
and installs missing server programs with the system's package manager.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer
from pydantic import ValidationError

from milepost_stack import processes
from milepost_stack.access_files import Deployment, describe, read_deployment, write_access_files
from milepost_stack.errors import NotUp, StackError
from milepost_stack.session import ROOT, Supervisor, say, stop_on_signals, stopped_at_exit
from milepost_stack.stack import DEFAULT_PORT, RABBITMQ_URL, REDIS_URL, Size, Stack
from milepost_stack.state import StackState

app = typer.Typer(
    name="stack",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Option("--name", help="Name of the stack; several can run side by side.")]
Gateways = Annotated[int, typer.Option(min=0, help="Number of gateways.")]
Processors = Annotated[int, typer.Option(min=0, help="Number of processors.")]
Trackers = Annotated[int, typer.Option(min=0, help="Number of trackers.")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="Port of the first gateway; 0 for a free one.", show_default="8800 if free"),
]


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is up; see 'stack down'.")] = False,
    gateways: Gateways = 1,
    processors: Processors = 1,
    trackers: Trackers = 1,
    port: Port = None,
    name: Name = "default",
) -> None:
    """Start everything. Without --detach, run until Ctrl-C, then stop everything."""
    stack = Stack(ROOT, name, say)
    state = stack.up(Size(gateways=gateways, processors=processors, trackers=trackers), port=port)
    say(f"up: {state.url or 'RabbitMQ and Redis only'}; the logs are in {os.path.relpath(stack.folder)}")
    if state.url and not state.url.endswith(f":{DEFAULT_PORT}"):
        say(f"for the milepost command: export MILEPOST_URL={state.url}")
    if detach:
        return
    say("press Ctrl-C to stop")
    with stopped_at_exit(stack):
        _run_until_stopped(stack)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    name: Name = "default",
) -> None:
    """Show the processes. The exit code is 1 if one of them has ended."""
    state = _load_state(name)
    rows = [(process, processes.find(process) is not None) for process in state.processes]
    if as_json:
        shown = {
            "url": state.url,
            "rabbitmq_url": state.rabbitmq_url,
            "redis_url": state.redis_url,
            "processes": [
                {"name": p.name, "pid": p.pid, "log": str(p.log), "url": p.url, "running": running}
                for p, running in rows
            ],
        }
        _print(json.dumps(shown, indent=2))
    else:
        _print(f"{state.name}: {state.url or 'no gateway'}")
        for process, running in rows:
            word = f"pid {process.pid}" if running else "has ended"
            _print(f"  {process.name:<12} {word:<12} {process.url or ''}".rstrip())
    if not all(running for _, running in rows):
        raise typer.Exit(1)


@app.command()
def logs(
    process: Annotated[str | None, typer.Argument(help="A process, for example tracker-1; by default all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of last lines to print.")] = 20,
    name: Name = "default",
) -> None:
    """Print the last lines of the logs."""
    stack = Stack(ROOT, name, say)
    state = _load_state(name)
    paths = [stack.log_of(process)] if process else [one.log for one in state.processes]
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, paths)]
    with _interruptible():
        raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def restart(
    process: Annotated[str, typer.Argument(help="A process, for example processor-1.")],
    name: Name = "default",
) -> None:
    """Stop one process gracefully and start it again."""
    started = Stack(ROOT, name, say).restart(process)
    say(f"{started.name} is up again, pid {started.pid}")


@app.command()
def down(name: Name = "default") -> None:
    """Stop everything that 'stack up' started and remove its data. The logs are kept."""
    Stack(ROOT, name, say).down()
    say("down")


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def run(
    command: Annotated[
        list[str],
        typer.Argument(help="The command; MILEPOST_URL, MILEPOST_RABBITMQ_URL and MILEPOST_REDIS_URL are set for it."),
    ],
    gateways: Gateways = 1,
    processors: Processors = 1,
    trackers: Trackers = 1,
) -> None:
    """Start a temporary stack, run a command, stop the stack; exit with the command's code."""
    stack = Stack(ROOT, f"run-{token_hex(3)}", say)
    state = stack.up(Size(gateways=gateways, processors=processors, trackers=trackers), port=0)
    with stopped_at_exit(stack), _interruptible():
        say(" ".join(command) if len(command) < 20 else f"{' '.join(command[:8])} …")  # noqa: PLR2004 - one line
        urls = {"MILEPOST_URL": state.url or "", RABBITMQ_URL: state.rabbitmq_url, REDIS_URL: state.redis_url}
        code = subprocess.run(command, env={**os.environ, **urls}, check=False).returncode
    if code == 0:
        shutil.rmtree(stack.folder, ignore_errors=True)
    else:
        say(f"the logs are in {os.path.relpath(stack.folder)}")
    raise typer.Exit(code)


@app.command()
def access(
    folder: Annotated[Path, typer.Option(file_okay=False, help="Folder for the files.")] = Path("deploy/access"),
    namespace: Annotated[
        str | None,
        typer.Option(help="MILEPOST_NAMESPACE of the deployment.", show_default=Deployment().namespace),
    ] = None,
    rabbitmq_url: Annotated[
        str | None,
        typer.Option(help="URL of RabbitMQ without a user.", show_default=str(Deployment().rabbitmq_url)),
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="URL of Redis without a user.", show_default=str(Deployment().redis_url))
    ] = None,
    processor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER:QUEUE+QUEUE", help="Another user for processors, for these queues only. Repeatable."
        ),
    ] = None,
    team: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER[:KEY,KEY]",
            help="A user of another team for queues named USER.…, with any binding key or only these. Repeatable.",
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="USER", help="Remove a user of --processor or --team. Repeatable."),
    ] = None,
) -> None:
    """Write the users of RabbitMQ and Redis, and the secrets of each service, for a deployment.

    RabbitMQ imports definitions.json (load_definitions), and Redis loads users.acl (aclfile); a service gets the
    variables in its own file. A further call keeps what the folder has, and changes what its options name.
    """
    given = {"namespace": namespace, "rabbitmq_url": rabbitmq_url, "redis_url": redis_url}
    processors = _split("--processor", processor, "+")
    teams = {name: keys or None for name, keys in _split("--team", team, ",").items()}
    try:
        kept = read_deployment(folder).without(remove or ())
        changes = {name: value for name, value in given.items() if value is not None}
        users = {"processors": kept.processors | processors, "teams": kept.teams | teams}
        written = write_access_files(folder, Deployment.model_validate({**kept.model_dump(), **changes, **users}))
    except ValidationError as error:
        option, sentence = describe(error)
        raise typer.BadParameter(sentence, param_hint=option and f"--{option.replace('_', '-')}") from error
    except StackError as error:
        raise typer.BadParameter(str(error)) from error
    for path in written:
        say(f"wrote {path}")


def main() -> None:
    """Run the command line. A `StackError` is printed without a traceback, with exit code 1."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        app()
    except StackError as error:
        say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _split(option: str, values: list[str] | None, separator: str) -> dict[str, tuple[str, ...]]:
    """Return what is behind the colon of each value, by the user before it."""
    found: dict[str, tuple[str, ...]] = {}
    for value in values or ():
        name, colon, rest = value.partition(":")
        if name in found:
            raise typer.BadParameter(f"it names {name!r} twice", param_hint=option)
        found[name] = tuple(rest.split(separator)) if colon else ()
    return found


def _load_state(name: str) -> StackState:
    state = Stack(ROOT, name, say).state
    if state is None:
        raise NotUp(f"there is no stack {name!r}: start it with 'stack up'")
    return state


def _run_until_stopped(stack: Stack) -> None:
    """Return after a stop signal, or when another command has stopped the stack."""
    supervisor = Supervisor(stack)
    stop = stop_on_signals()
    while not stop.wait(0.5):
        if not supervisor.check():
            return


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ignore Ctrl-C in this process: the child gets the signal too, and we wait for it to exit.

    A handler that does nothing, because a child inherits an ignored signal.
    """
    old = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


def _print(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
