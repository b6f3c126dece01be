"""A batch through a whole stack."""

import httpx
from waiting import wait_until


def test_a_batch_is_followed_by_one_look_at_a_time(url):
    """However many jobs it has; and they are listed by it."""
    jobs = [{"type": "echo", "params": {"text": str(number)}} for number in range(200)]
    jobs.append({"type": "echo", "params": {}})
    answer = httpx.post(f"{url}/v1/jobs:batch", json={"jobs": jobs}, timeout=30)
    assert (207, 200, 1) == (answer.status_code, answer.json()["accepted"], answer.json()["refused"])
    where = answer.headers["location"]
    wait_until(lambda: httpx.get(where).json()["ended"] == 200, within=60, what="all have ended")
    told = httpx.get(where).json()
    assert (200, 0, 100.0, 200) == (told["size"], told["unseen"], told["percent"], told["counts"]["succeeded"])
    listed, page = [], httpx.get(url + told["links"]["jobs"], params={"batch": told["id"], "limit": 150}).json()
    while page["items"]:
        listed += [one["result"]["text"] for one in page["items"]]
        page = httpx.get(page["next"]).json() if page["next"] else {"items": []}
    assert {str(number) for number in range(200)} == set(listed)
    assert 200 == len(listed)
