"""Makes a package of handlers out of the templates beside this module."""

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from milepost_stack.errors import StackError

PLACE = "package"
"""The folder of the templates that takes the module's name."""
DOT = "dot-"
"""What a template's name begins with in place of a dot: tools overlook hidden files."""


class NotMade(StackError):  # noqa: N818
    """The package can't be made; nothing was."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was made."""

    folder: Path
    #: How it is imported.
    module: str
    #: Its first job type.
    type: str
    files: Sequence[Path]


def make_handlers(name: str, parent: Path) -> Made:
    """Make a folder with a package of handlers, and return what is in it.

    Args:
        name: Words with hyphens or underscores.
        parent: Where.

    Raises:
        NotMade: The name is none, or something of that name is there.
    """
    module, type_name = name.lower().replace("-", "_"), name.lower().replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", type_name) or len(type_name) > 64:  # noqa: PLR2004 - a type's
        raise NotMade(f"{name!r} is no name: words of letters and digits, with hyphens between them")
    if keyword.iskeyword(module) or module == "tests":
        raise NotMade(f"{module!r} can't be the name of a package of handlers")
    if find_spec(module) is not None:
        raise NotMade(f"{module!r} is the name of a module that is there already, and would be hidden")
    folder = parent / name
    if folder.exists():
        raise NotMade(f"{folder} is there already")
    if not parent.is_dir():
        raise NotMade(f"there is no folder {parent}")
    words = {"name": type_name, "module": module, "type": type_name}
    made: list[Path] = []
    with as_file(files("milepost_stack") / "templates" / "handlers") as templates:
        for template in sorted(path for path in templates.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            place = str(template.relative_to(templates)).replace(f"{PLACE}/", f"{module}/").replace(DOT, ".")
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(template.read_text()).substitute(words))
            made.append(path)
    return Made(folder=folder, module=module, type=type_name, files=made)
