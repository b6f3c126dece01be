"""The dashboard of a gateway with API keys; the key is in MILEPOST_API_KEY."""

import os

import pytest
from playwright.sync_api import expect

KEY = os.environ.get("MILEPOST_API_KEY", "")
pytestmark = pytest.mark.skipif(not KEY, reason="this gateway has no API keys")


def test_the_dashboard_and_its_streams_work_with_a_key(show, submit):
    """The page asks for it, keeps it in memory only, and never puts it into an address."""
    job_id = submit("walk", steps=60)
    page = show()
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    expect(page.locator("h1")).to_have_text("Sign in")
    page.get_by_label("API key or token").fill("mp_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("main")).to_contain_text("Not authenticated")
    page.get_by_label("API key or token").fill(KEY)
    page.get_by_role("button", name="Sign in").click()
    row = page.locator("tbody tr").filter(has=page.locator(f"a[title='{job_id}']"))
    expect(row.locator(".status")).to_have_text("running")
    expect(page.locator("#link")).to_have_text("live")
    expect(row.locator(".status")).to_have_text("succeeded")
    assert any("/v1/events?" in url and "token=" in url for url in requested)
    assert not any(KEY in url for url in requested)
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert KEY not in page.evaluate(stored)
    assert [] == page.context.cookies()
    page.reload()
    expect(page.locator("h1")).to_have_text("Sign in")
