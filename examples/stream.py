"""Submit a job and stream its events in one request: one JSON line per event, until the job ends.

Plain httpx. If the connection breaks, the job continues, and GET /v1/jobs/{id} returns its status.
"""

import json
import os

import httpx

URL = os.environ.get("MILEPOST_URL", "http://127.0.0.1:8800")


def main() -> None:
    submission = {"type": "count", "params": {"steps": 10}}
    headers = {"Accept": "application/x-ndjson"}
    with httpx.stream("POST", f"{URL}/v1/jobs", json=submission, headers=headers, timeout=30) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line:
                continue  # keep-alive
            event = json.loads(line)
            progress = event["data"]["progress"] or {}
            print(event["type"], progress.get("percent"))


if __name__ == "__main__":
    main()
