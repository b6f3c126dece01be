"""What this package adds to the `milepost` command: `milepost dev` and `milepost new`.

Every call of `milepost` imports this module, so slow imports are inside the functions that need them.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
new = typer.Typer(help="Create a new package.", no_args_is_help=True)
app.add_typer(new, name="new")


@app.command()
def dev(
    modules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODULE]...",
            help="Modules with handlers, for example my_app.jobs; by default those of installed packages.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port of the gateway; 0 for a free one.", show_default="8800 if free"),
    ] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="Another folder to watch. May be repeated."),
    ] = None,
    reload: Annotated[bool, typer.Option(help="Restart the handlers when their code changes.")] = True,
) -> None:
    """Run everything with your handlers, and reload them.

    Starts RabbitMQ, Redis, a gateway, a tracker and a processor. The processor is restarted when a Python file in this
    folder changes; running jobs resume in the new one. The handlers' output appears here. Ctrl-C stops everything.
    """
    from milepost_stack.develop import develop  # noqa: PLC0415 - see above

    sys.exit(develop(modules or [], port=port, watch=watch or [], reload=reload))


@new.command()
def handlers(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the package and its job type.")],
    folder: Annotated[Path, typer.Option("--in", file_okay=False, help="Folder to create the package in.")] = Path(),
) -> None:
    """Create a package of handlers with passing tests."""
    from milepost_stack.scaffold import PackageNotCreated, make_handlers  # noqa: PLC0415 - see above

    try:
        created = make_handlers(name, folder)
    except PackageNotCreated as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from error
    for path in created.files:
        sys.stdout.write(f"{path}\n")
    sys.stderr.write(
        f"next:\n  cd {created.folder}\n  pytest                     run its tests\n"
        f"  milepost dev {created.module:<14}run it; then, in another terminal:\n"
        f"  milepost submit {created.type} text=hello --watch\n"
    )
