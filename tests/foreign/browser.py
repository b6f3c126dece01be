"""Chromium's EventSource streams a job's events on a page of another origin. Exit 1 with a sentence if it fails.

The page is served here, on PAGE_PORT; the gateway has to allow its origin:
MILEPOST_CORS_ORIGINS=http://127.0.0.1:PAGE_PORT.
"""

import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

GATEWAY = os.environ["MILEPOST_URL"]
PORT = int(os.environ.get("PAGE_PORT", "14999"))
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PAGE = Path(__file__).parent / "page"
MS = 30_000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", PORT), partial(Quiet, directory=PAGE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            follow(f"http://127.0.0.1:{PORT}/?gateway={GATEWAY}")
        finally:
            server.shutdown()


def follow(address: str) -> None:
    connections: list[tuple[int, str | None]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=MS)
        page = browser.new_page(viewport={"width": 900, "height": 600})
        page.on("console", lambda message: print("console:", message.text))
        page.on(
            "response",
            lambda one: (
                connections.append((one.status, one.request.all_headers().get("last-event-id")))
                if one.url.endswith("/events")
                else None
            ),
        )
        page.goto(address, timeout=MS)
        page.wait_for_function(
            "!['submitting', 'following'].includes(document.getElementById('state').textContent)", timeout=MS
        )
        state, etag = page.text_content("#state"), page.text_content("#etag")
        seen = page.eval_on_selector_all("#events li", "lines => lines.map(line => ({...line.dataset}))")
        page.wait_for_timeout(2_500)  # it must not reconnect
        page.screenshot(path=PAGE.parent / "made" / "browser.png")
        print(page.text_content("#events").replace("%", "%\n"))
        version = browser.version
        browser.close()
    ids = [int(event["id"]) for event in seen]
    check(state == "ended", f"the page says: {state}")
    check(seen[0]["name"] == "snapshot", f"the first event is {seen[0]}")
    check(seen[-1]["type"] == "dev.milepost.job.succeeded.v1", f"the last event is {seen[-1]}")
    check(ids == sorted(set(ids)), f"the ids do not grow: {ids}")
    check(etag == f'"{ids[-1]}"', f"the document's ETag is {etag}, the last event's id {ids[-1]}")
    check(connections == [(200, None), (204, str(ids[-1]))], f"the connections: {connections}")
    print(f"Chromium {version}: {len(seen)} events in order, then 204; it did not reconnect")


def check(ok: bool, message: str) -> None:
    if not ok:
        sys.exit(f"FAILED: {message}")


main()
