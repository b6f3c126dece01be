"""A batch through a complete stack."""

import httpx
from waiting import wait_until


def test_the_progress_of_a_batch_is_polled_with_one_request(url):
    """However many jobs it has; its jobs can be listed."""
    jobs = [{"type": "echo", "params": {"text": str(number)}} for number in range(200)]
    jobs.append({"type": "echo", "params": {}})
    answer = httpx.post(f"{url}/v1/jobs:batch", json={"jobs": jobs}, timeout=30)
    assert (207, 200, 1) == (answer.status_code, answer.json()["accepted"], answer.json()["refused"])
    location = answer.headers["location"]
    wait_until(lambda: httpx.get(location).json()["ended"] == 200, within=60, what="all have ended")
    batch = httpx.get(location).json()
    assert (200, 0, 100.0, 200) == (batch["size"], batch["unseen"], batch["percent"], batch["counts"]["succeeded"])
    listed, page = [], httpx.get(url + batch["links"]["jobs"], params={"batch": batch["id"], "limit": 150}).json()
    while page["items"]:
        listed += [one["result"]["text"] for one in page["items"]]
        page = httpx.get(page["next"]).json() if page["next"] else {"items": []}
    assert {str(number) for number in range(200)} == set(listed)
    assert 200 == len(listed)
