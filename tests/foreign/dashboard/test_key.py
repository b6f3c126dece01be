"""The dashboard of a gateway with API keys; the key is in MILEPOST_API_KEY."""

import os

import pytest
from conftest import MADE
from playwright.sync_api import expect

KEY = os.environ.get("MILEPOST_API_KEY", "")
pytestmark = pytest.mark.skipif(not KEY, reason="this gateway has no API keys")


def sign_in(page, key):
    expect(page.locator("h1")).to_have_text("Sign in")
    page.get_by_label("API key or token").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_the_sign_in_page_marks_a_refused_key_and_requests_nothing(show, page):
    """Nobody is signed in, so there is no `Sign out`."""
    requested = []
    page.on("request", lambda request: requested.append(request.url) if "/v1/" in request.url else None)
    page.clock.install()
    show()
    sign_in(page, "mp_wrong")
    expect(page.locator("main [role=alert]")).to_contain_text("Not authenticated")
    expect(page.get_by_label("API key or token")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
    page.screenshot(path=MADE / "dashboard-sign-in.png")
    before = len(requested)
    page.clock.fast_forward(60_000)
    page.wait_for_timeout(300)
    assert before == len(requested)


def test_a_page_that_needs_another_scope_says_which(show, page):
    """Not that it is empty."""
    show("dead")
    sign_in(page, KEY)
    expect(page.locator("main [role=alert]")).to_have_text("Not allowed: This needs a key with the scope admin.")
    expect(page.locator(".empty")).to_have_count(0)
    page.screenshot(path=MADE / "dashboard-scope.png")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("h1")).to_have_text("Sign in")


def test_the_dashboard_and_its_streams_work_with_a_key(show, submit):
    """The page asks for it, keeps it in memory only, and never puts it into an address."""
    job_id = submit("walk", steps=60)
    page = show()
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    sign_in(page, "mp_wrong")
    expect(page.locator("main")).to_contain_text("Not authenticated")
    sign_in(page, KEY)
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
