"""The dashboard in a real Chromium, with a complete stack."""

import json
import re

import pytest
from conftest import EXAMPLES, MADE, URL
from playwright.sync_api import expect


def test_the_progress_of_a_running_job_is_updated_live(show, submit):
    """Over one stream, without a reload, until the job ends."""
    job_id = submit("walk", steps=80)
    page = show()
    streams = []
    page.on("request", lambda request: streams.append(request.url) if "/v1/events?" in request.url else None)
    row = page.locator("tbody tr").filter(has=page.locator(f"a[title='{job_id}']"))
    expect(row.locator(".status")).to_have_text("running")
    expect(row).to_contain_text("walking")
    first = int(row.locator(".percent").inner_text().split()[0])
    shown = "document.querySelector(`a[title='${id}']`).closest('tr').querySelector('.percent').textContent"
    page.wait_for_function(f"([id, first]) => parseInt({shown}) > first + 10", arg=[job_id, first])
    expect(page.locator("#link")).to_have_text("live")
    page.screenshot(path=MADE / "dashboard-jobs.png")
    expect(row.locator(".status")).to_have_text("succeeded")
    assert len(streams) <= 2, streams


def test_jobs_are_filtered_and_the_filter_is_in_the_address(show, submit):
    """By status, type, queue and tag."""
    submit("stumble")
    page = show()
    page.get_by_label("status", exact=True).select_option("failed")
    page.get_by_label("type", exact=True).select_option("stumble")
    expect(page).to_have_url(re.compile(r"#/\?status=failed&type=stumble$"))
    expect(page.locator("tbody tr").first).to_contain_text("there was a stone")
    assert set(page.locator("tbody .status").all_inner_texts()) == {"failed"}
    page.get_by_label("tag").fill("nobody-has-this")
    page.get_by_label("tag").press("Enter")
    expect(page.locator(".empty")).to_have_text("No job matches the filters.")
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("tbody tr").first).to_be_visible()


def test_a_job_is_canceled_retried_and_deleted_from_its_page(show, submit):
    """A retry is confirmed with a notice."""
    page = show(f"jobs/{submit('walk', steps=5_000)}")
    page.on("dialog", lambda dialog: dialog.accept())
    status = page.locator("h1 .status")
    expect(status).to_have_text("running")
    expect(page.locator(".items li").first).to_contain_text('{"step":')
    expect(page.locator(".pace")).to_contain_text("left")
    page.screenshot(path=MADE / "dashboard-job.png")
    page.get_by_role("button", name="Cancel").click()
    expect(status).to_have_text("canceled")
    expect(page.locator("dl")).to_contain_text("cooperative")
    page.get_by_role("button", name="Retry").click()
    expect(status).to_have_text("running")
    expect(page.locator("#notices")).to_contain_text("The job was submitted again.")
    page.get_by_role("button", name="Cancel").click()
    expect(status).to_have_text("canceled")
    page.get_by_role("button", name="Delete").click()
    expect(page).to_have_url(f"{URL}/#/")


def test_a_failed_job_shows_its_error_with_the_traceback(show, submit):
    """At the top of its page."""
    page = show(f"jobs/{submit('stumble')}")
    expect(page.locator(".error")).to_contain_text("ZeroDivisionError: there was a stone")
    page.get_by_text("Traceback").first.click()
    expect(page.locator(".error pre")).to_contain_text("shown_jobs.py")
    expect(page.locator(".attempts li")).to_have_count(1)
    page.screenshot(path=MADE / "dashboard-error.png")


def test_the_submit_form_is_generated_from_the_types_schema(show, tmp_path):
    """Errors are shown at their fields; files are uploaded, and output files can be downloaded."""
    page = show("submit?type=form")
    page.get_by_label("name").fill("UP")
    page.get_by_label("many").fill("[1, 2")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#param-many-error")).to_have_text("This is not valid JSON.")
    page.get_by_label("many").fill("[1, 2]")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#param-name")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[role=alert]")).to_contain_text("The params don't match the job type")
    page.screenshot(path=MADE / "dashboard-submit.png")
    page.get_by_label("name").fill("up")
    page.get_by_label("kind").select_option("fancy")
    page.get_by_label("loud").check()
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(2_000_000))
    page.get_by_label("Files").set_input_files(path)
    page.get_by_label("Tags").fill("nightly, by-hand")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("h1")).to_contain_text("form succeeded", use_inner_text=True)
    result = page.locator("section").filter(has=page.get_by_role("heading", name="Result"))
    expect(result.locator("pre")).to_contain_text('"kind": "fancy"')
    expect(result.locator("pre")).to_contain_text('"loud": true')
    expect(page.get_by_role("link", name="by-hand")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="copy/a.bin").click()
    assert download.value.path().read_bytes() == bytes(2_000_000)


def test_a_form_that_is_sent_again_after_a_lost_response_is_the_same_job(show):
    """The idempotency key belongs to the form."""
    page = show("submit?type=form")
    lost = []

    def lose(route):
        if route.request.method == "POST" and not lost:
            lost.append(route.fetch().json()["id"])
            route.abort()
        else:
            route.continue_()

    page.route("**/v1/jobs", lose)
    page.get_by_label("name").fill("once")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("[role=alert]")).to_contain_text("can't be reached")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("p.id")).to_have_text(lost[0])


def test_uploads_show_their_progress(show, tmp_path, context):
    """A progress bar moves while a large file is uploaded."""
    page = show("submit?type=form")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 10_000_000}
    context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
    seen = []
    page.expose_function("noted", lambda value: seen.append(value))  # noqa: PLW0108 - playwright marks what it is given
    page.evaluate(
        "new MutationObserver(() => { const bar = document.querySelector('form progress'); if (bar) noted(bar.value) })"
        ".observe(document.getElementById('main'), {subtree: true, childList: true, attributes: true})"
    )
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(30_000_000))
    page.get_by_label("name").fill("up")
    page.get_by_label("Files").set_input_files(path)
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("h1")).to_contain_text("form")
    assert len({value for value in seen if value > 0}) > 1, seen
    assert seen == sorted(seen)


def test_the_workers_view_shows_queues_and_processors(show):
    """Queues with their depth, processors with their running jobs."""
    page = show("workers")
    expect(page.get_by_role("region", name="Queues").locator("tbody")).to_contain_text("default")
    expect(page.get_by_role("region", name="Processors").locator("tbody tr")).to_have_count(1)
    page.screenshot(path=MADE / "dashboard-workers.png")


def test_dead_letters_are_redriven(show, submit):
    """The list is mocked: tests/e2e creates real dead letters."""
    job_id = submit("stumble")
    letter = {
        "job_id": job_id,
        "type": "stumble",
        "queue": "default",
        "run": 1,
        "given_up_at": "2026-01-01T00:00:00Z",
        "error": {"kind": "dead_lettered", "message": "its workers died", "exception": None, "traceback": None},
    }
    page = show("dead")
    expect(page.locator(".empty")).to_have_text("There are no dead letters.")
    page.route("**/v1/dead-letters", lambda route: route.fulfill(json={"items": [letter], "unreadable": []}))
    expect(page.locator("tbody")).to_contain_text("its workers died")
    page.on("dialog", lambda dialog: dialog.accept())
    with page.expect_request("**/v1/dead-letters/*/redrive"):
        page.get_by_role("button", name=f"Redrive {job_id[-8:]}").click()
    expect(page.locator("#notices")).to_contain_text("is not a dead letter")  # the job is only mocked as one
    with page.expect_request("**/v1/dead-letters:redrive") as request:
        page.get_by_role("button", name="Redrive all of stumble").click()
    assert request.value.post_data_json == {"type": "stumble", "limit": 1000}


def problem(status, title):
    """A handler of requests that answers this problem."""
    body = json.dumps({"title": title, "status": status})
    return lambda route: route.fulfill(status=status, content_type="application/problem+json", body=body)


@pytest.mark.parametrize("view", ["", "submit", "workers", "dead", "jobs/x"])
def test_a_page_that_may_not_be_read_says_so_and_is_not_requested_again(show, page, view):
    """It does not look empty. A repeat would get the same answer until the key is another one."""
    requested = []
    page.on("request", lambda request: requested.append(request.url) if "/v1/" in request.url else None)
    page.route("**/v1/**", problem(403, "Not allowed"))
    page.clock.install()
    show(view)
    expect(page.locator("main [role=alert]")).to_have_text("Not allowed")
    expect(page.locator(".empty")).to_have_count(0)
    expect(page.locator("#notices p")).to_have_count(0)
    before = len(requested)
    page.clock.fast_forward(60_000)
    page.wait_for_timeout(300)
    assert before == len(requested)


@pytest.mark.parametrize("view", ["", "submit", "workers", "dead"])
def test_a_page_that_can_not_be_read_says_so_until_it_can(show, page, view):
    """It does not look empty, and is requested again."""
    page.route("**/v1/**", problem(503, "The status view is unavailable"))
    show(view)
    expect(page.locator("main [role=alert]")).to_have_text("The status view is unavailable")
    expect(page.locator(".empty")).to_have_count(0)
    page.unroute("**/v1/**")
    expect(page.locator("main [role=alert]")).to_have_count(0)
    expect(page.locator("main :is(.empty, table, form.submit)").first).to_be_visible()


def test_an_unknown_job_and_an_unknown_page_say_so_once(show):
    """On the page, with a link to the list; no notice repeats it."""
    page = show("jobs/nothing")
    expect(page.get_by_text("Unknown job")).to_have_count(1)
    page.get_by_role("link", name="All jobs").click()
    expect(page.locator("h1")).to_have_text("Jobs")
    page = show("nonsense")
    expect(page.locator("main")).to_contain_text("There is no page #/nonsense.")
    page.get_by_role("link", name="All jobs").click()
    expect(page.locator("h1")).to_have_text("Jobs")


def test_the_list_says_when_a_scheduled_job_starts(show, submit):
    """Among its details."""
    job_id = submit("walk", delay=3_600)
    page = show()
    row = page.locator("tbody tr").filter(has=page.locator(f"a[title='{job_id}']"))
    expect(row.locator(".status")).to_have_text("scheduled")
    expect(row.locator(".details")).to_contain_text(re.compile(r"^starts .*\d\d:\d\d"))


def test_an_attempt_that_failed_looks_different_from_one_that_succeeded(show, submit):
    """Its bar has the colour of its outcome."""
    fill = "getComputedStyle(document.querySelector('.attempts rect')).fill"
    fills = []
    for type, status in (("stumble", "failed"), ("walk", "succeeded")):
        page = show(f"jobs/{submit(type, steps=1)}")
        expect(page.locator("h1 .status")).to_have_text(status)
        expect(page.locator(f".attempts rect.{status}")).to_have_count(1)
        fills.append(page.evaluate(fill))
    assert fills[0] != fills[1]


def test_a_phone_shows_every_column_of_the_list(show, submit, page):
    """The header has two lines, the page is no wider than the screen, and the table scrolls."""
    page.set_viewport_size({"width": 390, "height": 844})
    submit("stumble")
    show()
    age = page.get_by_role("columnheader", name="Age")
    expect(age).to_be_attached()
    assert page.locator("header").bounding_box()["height"] < 100
    assert 390 == page.evaluate("document.documentElement.scrollWidth")
    age.scroll_into_view_if_needed()
    expect(age).to_be_in_viewport()
    page.screenshot(path=MADE / "dashboard-phone.png")


def test_a_page_reconnects_after_it_lost_the_gateway(show, submit, context):
    """It shows `not connected` meanwhile, and continues from its last event."""
    page = show(f"jobs/{submit('walk', steps=150)}")
    expect(page.locator("h1 .status")).to_have_text("running")
    context.set_offline(True)
    expect(page.locator("#link")).to_have_text("not connected", timeout=30_000)
    context.set_offline(False)
    expect(page.locator("#link")).to_have_text("live", timeout=30_000)
    expect(page.locator("h1 .status")).to_have_text("succeeded", timeout=60_000)


def test_a_job_can_be_opened_and_canceled_with_the_keyboard(show, submit):
    """From the skip link to a job's page and its button."""
    job_id = submit("walk", steps=5_000)
    page = show()
    expect(page.locator(f"a[title='{job_id}']")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.title") == job_id:
            break
    page.keyboard.press("Enter")
    expect(page.locator("p.id")).to_have_text(job_id)
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    page.keyboard.press("Enter")
    expect(page.locator("h1 .status")).to_have_text("canceled")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", ["", "submit?type=form", "workers", "dead", "job", "failed"])
def test_axe_finds_no_serious_violation(show, submit, violations, page, theme, view):
    """In both themes, on each view."""
    if view == "job":
        view = f"jobs/{submit('walk', steps=100)}"
    elif view == "failed":
        view = f"jobs/{submit('stumble')}"
    page.emulate_media(color_scheme=theme)
    show(view)
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_timeout(700)  # the data has arrived, so axe checks it
    assert violations() == []
    if theme == "dark" and view == "":
        page.screenshot(path=MADE / "dashboard-dark.png")


def test_the_polling_example_shows_a_job_until_its_end(context):
    """`examples/poll.html`, from a page of another origin."""
    page = context.new_page()
    page.goto(f"{(EXAMPLES / 'poll.html').as_uri()}?gateway={URL}")
    expect(page.locator("#state")).to_have_text("succeeded", timeout=30_000)
    assert page.evaluate("bar.value") == 100


def test_the_docs_are_shown_without_the_internet(page):
    """`/docs` loads only files of this gateway, and keeps its content security policy. Requests can be tried out."""
    page.goto(f"{URL}/docs")
    expect(page.locator("#operations-jobs-list_jobs")).to_be_visible()
    page.locator("#operations-health-livez").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    page.screenshot(path=MADE / "docs.png")


def test_the_example_in_the_docs_submits_a_job_as_it_is(page):
    """`Try it out`, then `Execute`: 200 with the prefilled `Prefer: wait=5`, as the job ends within it."""
    page.goto(f"{URL}/docs")
    operation = page.locator("#operations-jobs-submit_job")
    operation.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.screenshot(path=MADE / "docs-submit.png")
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
