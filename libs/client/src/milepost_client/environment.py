"""The API key in the environment: `MILEPOST_API_KEY`, or the file that `MILEPOST_API_KEY_FILE` names."""

import os
from pathlib import Path

KEY_VARIABLE = "MILEPOST_API_KEY"
KEY_FILE_VARIABLE = "MILEPOST_API_KEY_FILE"


def api_key_from_environment() -> str | None:
    """Return the API key, if there is one.

    Raises:
        ValueError: The file can't be read or is empty, or both variables are set.
    """
    key, path = os.environ.get(KEY_VARIABLE), os.environ.get(KEY_FILE_VARIABLE)
    if not path:
        return key
    if key:
        raise ValueError(f"{KEY_VARIABLE} and {KEY_FILE_VARIABLE} are both set: set one of them.")
    try:
        found = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise ValueError(f"{KEY_FILE_VARIABLE}: {path} can't be read: {reason}.") from None
    if not found:
        raise ValueError(f"{KEY_FILE_VARIABLE}: {path} is empty.")
    return found
