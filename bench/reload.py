"""Measures how soon a changed handler runs under `milepost dev`: seconds from the save to the new code's result.

Starts its own `milepost dev` in a temporary folder.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from milepost_client import Client

ROUNDS = 10
CODE = """
from milepost import Run, job
from pydantic import BaseModel

ANSWER = 0

class NoParams(BaseModel): pass

@job("answer")
def answer(params: NoParams, run: Run) -> int:
    return ANSWER
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder, "jobs.py")
        code.write_text(CODE)
        command = [str(Path(sys.executable).parent / "milepost"), "dev", "jobs", "--port", "0"]
        dev = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            measure(code, url_of(dev))
        finally:
            dev.terminate()
            dev.wait()


def url_of(dev: "subprocess.Popen[str]") -> str:
    assert dev.stderr is not None
    for line in dev.stderr:
        if found := re.search(r"stack: up: (http://\S+);", line):
            return found[1]
    sys.exit("milepost dev did not start")


def measure(code: Path, url: str) -> None:
    times = []
    with Client(url) as client:
        while not client.types():
            time.sleep(0.1)
        for number in range(1, ROUNDS + 1):
            saved_at = time.monotonic()
            code.write_text(CODE.replace("ANSWER = 0", f"ANSWER = {number}"))
            while client.submit("answer").result(int, timeout=20) != number:
                pass
            times.append(time.monotonic() - saved_at)
            time.sleep(2.5)  # until the next processor is warm
    print(f"milepost dev, from a save to the new code's result, {ROUNDS} rounds:")
    print(f"median {statistics.median(times):.2f} s, worst {max(times):.2f} s")


if __name__ == "__main__":
    main()
