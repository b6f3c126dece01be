"""Creates a package of handlers from the templates beside this module."""

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from milepost_stack.errors import StackError

MODULE_FOLDER = "package"
"""The template folder that gets the module's name."""
DOT_PREFIX = "dot-"
"""Stands for a leading dot in a template's name: some tools skip hidden files."""


class PackageNotCreated(StackError):  # noqa: N818
    """The package can't be created; nothing was written."""


@dataclass(frozen=True, kw_only=True)
class _CreatedPackage:
    """A created package."""

    folder: Path
    #: Its import name.
    module: str
    #: Its first job type.
    type: str
    files: Sequence[Path]


def make_handlers(name: str, parent: Path) -> _CreatedPackage:
    """Create a folder with a package of handlers.

    Args:
        name: Words joined by hyphens or underscores.
        parent: The folder to create it in.

    Raises:
        PackageNotCreated: The name is invalid or taken, or the parent does not exist.
    """
    module, type_name = name.lower().replace("-", "_"), name.lower().replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", type_name) or len(type_name) > 64:  # noqa: PLR2004 - a type's
        raise PackageNotCreated(f"{name!r} is not a valid name: use words of letters and digits, joined by hyphens")
    if keyword.iskeyword(module) or module == "tests":
        raise PackageNotCreated(f"{module!r} is reserved: choose another name")
    if find_spec(module) is not None:
        raise PackageNotCreated(f"{module!r} would hide an installed module: choose another name")
    folder = parent / name
    if folder.exists():
        raise PackageNotCreated(f"{folder} already exists")
    if not parent.is_dir():
        raise PackageNotCreated(f"the folder {parent} does not exist")
    names = {"name": type_name, "module": module, "type": type_name}
    created: list[Path] = []
    with as_file(files("milepost_stack") / "templates" / "handlers") as templates:
        for template in sorted(path for path in templates.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            relative = str(template.relative_to(templates))
            path = folder / relative.replace(f"{MODULE_FOLDER}/", f"{module}/").replace(DOT_PREFIX, ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(template.read_text()).substitute(names))
            created.append(path)
    return _CreatedPackage(folder=folder, module=module, type=type_name, files=created)
