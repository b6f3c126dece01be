"""Paths to save output files to."""

from pathlib import Path

from milepost_client.errors import DownloadError


def target_path(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder.

    Raises:
        DownloadError: The path would be outside the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DownloadError(f"The file name {name!r} is outside {folder}.")
    return path
