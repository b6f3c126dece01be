"""The progress of uploaded files: `python uploads.py README.md docs`.

The files are part of the submission; the handler `digest-files` reads them wherever it runs.
"""

import sys
from pathlib import Path

from milepost_client import Client, find_files


def main(paths: list[str]) -> None:
    with Client() as client:
        handle = client.submit("digest-files", files=find_files(map(Path, paths)))
        for document in handle.watch():
            if document.progress:
                print(document.progress.message, f"{document.progress.done} of {document.progress.total} bytes")
        print(handle.result()["files"], "files")


if __name__ == "__main__":
    main(sys.argv[1:])
