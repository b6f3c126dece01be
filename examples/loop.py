"""The progress of a loop.

`milepost dev loop` runs the handler; `python loop.py` is a client that prints its progress.
"""

import time

from pydantic import BaseModel

from milepost import Run, job
from milepost_client import Client


class Work(BaseModel):
    steps: int = 20
    pause: float = 0.1


@job("loop")
def loop(params: Work, run: Run) -> str:
    """Sleep in a loop."""
    for _ in run.track(range(params.steps), unit="steps"):
        time.sleep(params.pause)
    return "done"


def main() -> None:
    with Client() as client:
        handle = client.submit("loop", Work())
        for document in handle.watch():
            if document.progress:
                print(f"{document.progress.percent:.0f} %", document.status)
        print(handle.result())


if __name__ == "__main__":
    main()
