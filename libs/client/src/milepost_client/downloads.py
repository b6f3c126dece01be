"""Where what a handler wrote may be saved."""

from pathlib import Path

from milepost_client.errors import Damaged


def within(folder: Path, name: str) -> Path:
    """Return where a file of this name belongs in a folder.

    Raises:
        Damaged: It would be outside.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Damaged(f"{name!r} leads out of {folder}")
    return path
