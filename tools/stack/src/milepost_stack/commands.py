"""What this package adds to the `milepost` command: `milepost dev` and `milepost new`.

Every call of `milepost` imports this module: what takes long to import is imported where it is used.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
new = typer.Typer(help="Make a package to begin with.", no_args_is_help=True)
app.add_typer(new, name="new")


@app.command()
def dev(
    modules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODULE]...",
            help="Modules with handlers, as one imports them: my_app.jobs. By default those of installed packages.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Of the gateway; 0 for a free one.", show_default="8800 if free"),
    ] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="Another folder whose changes matter. May be repeated."),
    ] = None,
    reload: Annotated[bool, typer.Option(help="Whether to start the handlers anew when their code changes.")] = True,
) -> None:
    """Run everything with your handlers, and reload them.

    RabbitMQ, Redis, a gateway, a tracker, and a processor that is started anew whenever a Python file of this folder
    changes; what it was running goes on in the new one. What handlers print and log appears here. Ctrl-C stops it all.
    """
    from milepost_stack.develop import develop  # noqa: PLC0415 - see above

    sys.exit(develop(modules or [], port=port, watch=watch or [], reload=reload))


@new.command()
def handlers(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package and its first job type: letters.")],
    folder: Annotated[Path, typer.Option("--in", file_okay=False, help="Where to make its folder.")] = Path(),
) -> None:
    """Make a package of handlers, with a test that passes."""
    from milepost_stack.scaffold import NotMade, make_handlers  # noqa: PLC0415 - see above

    try:
        made = make_handlers(name, folder)
    except NotMade as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from error
    for path in made.files:
        sys.stdout.write(f"{path}\n")
    sys.stderr.write(
        f"next:\n  cd {made.folder}\n  pytest                     its tests\n"
        f"  milepost dev {made.module:<14}run it; then, elsewhere:\n"
        f"  milepost submit {made.type} text=hello --watch\n"
    )
