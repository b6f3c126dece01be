"""The version of the code before this one, installed from the history of this clone."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
UV = ROOT / ".milepost" / "tools" / "bin" / "uv"

PREVIOUS_VERSION = "ea95cc71be969a385491312e5d893f3a7364b4e6"
"""What the services of this version must run beside: the tag of the last release, or a commit while there is none.

Services of before this commit do not run beside this version: their jobs have no grant, and they have no own users.
"""


class NotInHistory(Exception):  # noqa: N818 - named as a condition
    """The previous version can't be read from this clone; the message says what to do."""


def install(folder: Path, version: str = PREVIOUS_VERSION) -> Path:
    """Install the packages of a version below a folder, with the dependencies that it locks; return its Python.

    Raises:
        NotInHistory: This clone does not have the version.
    """
    try:
        archive = subprocess.run(["git", "archive", version], cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotInHistory(
            f"this clone has no version {version}, which the services must run beside: run 'git fetch --unshallow'"
        ) from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    made = folder / ".venv"
    cache = os.environ.get("UV_CACHE_DIR", str(ROOT / ".milepost" / "uv-cache"))
    # Compiled now, as tools/bootstrap does.
    command = [str(UV), "sync", "--quiet", "--locked", "--all-packages", "--no-default-groups", "--compile-bytecode"]
    subprocess.run(
        [*command, "--python", sys.executable],
        cwd=folder,
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(made), "UV_CACHE_DIR": cache},
        check=True,
    )
    return made / "bin" / "python"
