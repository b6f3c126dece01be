"""Checks the metrics of every service of the stack at MILEPOST_URL with promtool. Exit 1 if it finds an error.

The stack's state file has the services' addresses: MILEPOST_STACKS, or .milepost/stacks of the project.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

STACKS = Path(os.environ.get("MILEPOST_STACKS", "../../.milepost/stacks"))
KINDS = ("gateway", "tracker", "processor")


def main() -> None:
    states = [json.loads(path.read_text()) for path in STACKS.glob("*/state.json")]
    (state,) = [one for one in states if one["url"] == os.environ["MILEPOST_URL"]]
    services = [one for one in state["processes"] if one["name"].startswith(KINDS)]
    if {one["name"].partition("-")[0] for one in services} != set(KINDS):
        sys.exit(f"FAILED: the stack has no {' or no '.join(KINDS)}")
    for service in services:
        with urllib.request.urlopen(f"{service['url']}/metrics", timeout=10) as answer:
            text = answer.read()
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
        output = (checked.stdout + checked.stderr).decode() or "no errors"
        print(f"{service['name']}: {text.count(b'# TYPE')} metrics; {output}")
        if checked.returncode:
            sys.exit(f"FAILED: promtool exits with {checked.returncode}")


main()
