"""The dashboard of a gateway that asks who asks; the key is in MILEPOST_API_KEY."""

import os

import pytest
from playwright.sync_api import expect

KEY = os.environ.get("MILEPOST_API_KEY", "")
pytestmark = pytest.mark.skipif(not KEY, reason="this gateway asks nobody")


def test_a_key_opens_the_dashboard_and_its_streams(show, submit):
    """It is asked for, kept in the tab, and never in an address."""
    job_id = submit("walk", steps=60)
    page = show()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.locator("h1")).to_have_text("Who asks?")
    page.get_by_label("API key or token").fill("mp_wrong")
    page.get_by_role("button", name="Enter").click()
    expect(page.locator("main")).to_contain_text("Not authenticated")
    page.get_by_label("API key or token").fill(KEY)
    page.get_by_role("button", name="Enter").click()
    row = page.locator("tbody tr").filter(has=page.locator(f"a[title='{job_id}']"))
    expect(row.locator(".status")).to_have_text("running")
    expect(page.locator("#link")).to_have_text("live")
    expect(row.locator(".status")).to_have_text("succeeded")
    assert any("/v1/events?" in url and "token=" in url for url in asked)
    assert not any(KEY in url for url in asked)
