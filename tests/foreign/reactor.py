"""examples/reactor.mjs, beside the packages it needs, hears of a job that has succeeded. Exit 1 if it does not."""

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
                sys.exit("FAILED: it does not listen")
            body = json.dumps({"type": "echo", "params": {"text": "heard"}}).encode()
            url = f"{os.environ['MILEPOST_URL']}/v1/jobs"
            with urllib.request.urlopen(
                urllib.request.Request(url, body, {"Content-Type": "application/json"})
            ) as told:
                job_id = json.load(told)["id"]
            heard = next(line for line in node.stdout if job_id in line)
        finally:
            node.terminate()
    if json.loads(heard.split(" ", 3)[3]) != {"text": "heard"}:
        sys.exit(f"FAILED: it heard {heard}")
    print(heard.strip())


main()
