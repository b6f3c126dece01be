"""Measures how soon the dashboard shows its first content and its first rows of 10,000 jobs, in Chromium.

Runs in tests/foreign/.venv, which has Playwright. Needs MILEPOST_URL.
"""

import json
import os
import statistics
import time
import urllib.request
from typing import Any

from playwright.sync_api import sync_playwright

URL = os.environ["MILEPOST_URL"]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
JOBS, ROUNDS = 10_000, 7


def fetch_json(path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}{path}", data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310
        return json.load(response)


def main() -> None:
    for _ in range(JOBS // 1_000):
        fetch_json("/v1/jobs:batch", {"jobs": [{"type": "noop"}] * 1_000})
    while sum(count for status, count in fetch_json("/v1/jobs/counts").items() if status == "succeeded") < JOBS:
        time.sleep(0.5)
    paints, rows, warm = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        for _ in range(ROUNDS):
            context = browser.new_context()  # an empty cache
            page = context.new_page()
            for times in (rows, warm):
                page.goto(URL)
                page.wait_for_selector("tbody tr")
                times.append(page.evaluate("performance.now()"))
                if times is rows:
                    paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            context.close()
        print(f"Chromium {browser.version}, {JOBS:,} jobs, {ROUNDS} rounds; milliseconds, median and worst")
        browser.close()
    for label, times in (
        ("first contentful paint", paints),
        ("first rows of the list", rows),
        ("first rows, cached", warm),
    ):
        print(f"{label:<24}{statistics.median(times):>6.0f} {max(times):>6.0f}")


main()
