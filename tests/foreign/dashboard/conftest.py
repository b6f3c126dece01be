"""Fixtures: Chromium with the dashboard of the gateway at MILEPOST_URL."""

import json
import os
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

URL = os.environ["MILEPOST_URL"]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
MADE = Path(__file__).parent.parent / "made"
EXAMPLES = Path(__file__).parent.parent.parent.parent / "examples"
AXE = Path(__file__).parent.parent / "node_modules" / "axe-core" / "axe.min.js"

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=30_000)
        print(f"\nChromium {made.version}")
        yield made
        made.close()


@pytest.fixture
def context(browser):
    made = browser.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True, reduced_motion="reduce")
    made.set_default_timeout(15_000)
    yield made
    made.close()


@pytest.fixture
def page(context):
    """A page; JavaScript errors, CSP violations and requests to other origins fail the test."""
    made = context.new_page()
    problems = []
    made.on("pageerror", lambda error: problems.append(f"error: {error}"))
    made.on(
        "console", lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None
    )
    made.on(
        "request", lambda request: problems.append(request.url) if not request.url.startswith((URL, "blob:")) else None
    )
    yield made
    assert problems == []


@pytest.fixture
def show(page):
    """Open a view by its path."""

    def shown(place=""):
        page.goto(f"{URL}/#/{place}")
        page.reload()
        return page

    return shown


@pytest.fixture
def submit():
    """Submit a job, and return its id."""

    def submitted(type, delay=0, **params):
        body = json.dumps({"type": type, "delay": delay, "params": params}).encode()
        request = urllib.request.Request(f"{URL}/v1/jobs", body, {"Content-Type": "application/json", **headers()})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["id"]

    return submitted


def headers():
    key = os.environ.get("MILEPOST_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


@pytest.fixture
def violations(page):
    """The serious and critical findings of axe."""

    def found():
        page.evaluate(AXE.read_text())
        report = page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
        )
        serious = [one for one in report["violations"] if one["impact"] in ("serious", "critical")]
        minor = [one["id"] for one in report["violations"] if one not in serious]
        passed, version = len(report["passes"]), report["testEngine"]["version"]
        print(f"axe-core {version}: {passed} rules passed, {len(serious)} serious, others: {minor}")
        return [f"{one['id']}: {node['html'][:120]}" for one in serious for node in one["nodes"]]

    return found
