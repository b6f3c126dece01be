"""Runs examples/reactor.mjs, which must receive a succeeded job. Exit 1 with a sentence if it does not."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    script = shutil.copy(HERE.parent.parent / "examples" / "reactor.mjs", HERE / "made")
    with subprocess.Popen(["node", script], stdout=subprocess.PIPE, text=True) as node:
        try:
            assert node.stdout is not None
            if node.stdout.readline() != "listening\n":
                sys.exit("FAILED: it did not start to listen")
            body = json.dumps({"type": "echo", "params": {"text": "received"}}).encode()
            url = f"{os.environ['MILEPOST_URL']}/v1/jobs"
            with urllib.request.urlopen(
                urllib.request.Request(url, body, {"Content-Type": "application/json"})
            ) as answer:
                job_id = json.load(answer)["id"]
            line = next(line for line in node.stdout if job_id in line)
        finally:
            node.terminate()
    if json.loads(line.split(" ", 3)[3]) != {"text": "received"}:
        sys.exit(f"FAILED: it received {line}")
    print(line.strip())


main()
