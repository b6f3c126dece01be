"""Results and files as downloads."""

from datetime import timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING

from milepost_contracts.events import JobProgressed, JobSucceeded
from milepost_contracts.values import FileRef
from milepost_gateway.blobs import ObjectBlobs
from milepost_gateway.errors import BlobsUnavailable, JobExpired, StoreUnavailable
from milepost_gateway.leftovers import LATE, Leftovers

CONTENT = b"0123456789"
DIGEST = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"


def ref(name, key, **more):
    return FileRef(name=name, size=len(CONTENT), key=key, digest=DIGEST, **{"media_type": "text/csv", **more})


@pytest.fixture
def job_id(keyring, store, blobs):
    """A job whose result is a file, and that wrote another one."""
    job_id = keyring.issue("default")
    outputs = (ref("a/réport.csv", "one"), ref("b.bin", "two", media_type=None), ref("gone", "three"))
    job = {"id": job_id, "result": None, "result_file": ref("result.json", "result", media_type="image/png")}
    store.project(JobSucceeded(job=ENDED.model_copy(update={**job, "outputs": outputs})))
    blobs.stored = {"one": CONTENT, "two": CONTENT, "result": CONTENT}
    return job_id


async def test_a_file_is_downloaded_with_all_it_takes_to_keep_it(http, job_id):
    """Its name, its size, its media type, and its digest (RFC 9530)."""
    answer = await http.get(f"/v1/jobs/{job_id}/outputs/a/réport.csv")
    assert (200, CONTENT) == (answer.status_code, answer.content)
    told = answer.headers
    assert ("text/csv", "10", "bytes") == (told["content-type"], told["content-length"], told["accept-ranges"])
    assert f'"{DIGEST[:32]}"' == told["etag"]
    assert "attachment; filename=\"r_port.csv\"; filename*=UTF-8''r%C3%A9port.csv" == told["content-disposition"]
    assert "sha-256=:hNiYd/DUBB77a/kaFvAkjy/Vc+avBcGflr7bn4gveII=:" == told["repr-digest"]
    assert "nosniff" == told["x-content-type-options"], "it may be a page, and this is no place for its scripts"


async def test_the_document_says_where_each_file_is(http, job_id):
    """As references that lead there, and not where the storage has them."""
    body = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert ["a/réport.csv", "b.bin", "gone"] == [one["name"] for one in body["outputs"]]
    assert {"name", "size", "digest", "media_type", "url"} == set(body["outputs"][0])
    assert 200 == (await http.get(body["outputs"][0]["url"])).status_code
    assert "image/png" == body["result_file"]["media_type"]
    assert 200 == (await http.get(body["links"]["result"])).status_code


async def test_a_result_that_is_a_file_has_its_own_media_type(http, job_id):
    """As its handler said."""
    answer = await http.get(f"/v1/jobs/{job_id}/result")
    assert (CONTENT, "image/png") == (answer.content, answer.headers["content-type"])


async def test_what_is_known_is_not_sent_again(http, job_id):
    """304, as for everything here."""
    url = f"/v1/jobs/{job_id}/result"
    etag = (await http.get(url)).headers["etag"]
    answer = await http.get(url, headers={"If-None-Match": etag})
    assert (304, b"") == (answer.status_code, answer.content)


@pytest.mark.parametrize(
    "asked, part, where",
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-100", CONTENT, "bytes 0-9/10"),
        ("bytes=9-9999", b"9", "bytes 9-9/10"),
    ],
)
async def test_a_part_may_be_asked_for(http, job_id, asked, part, where):
    """A broken download goes on where it was."""
    answer = await http.get(f"/v1/jobs/{job_id}/outputs/b.bin", headers={"Range": asked})
    told = answer.headers
    assert (206, part, where) == (answer.status_code, answer.content, told["content-range"])
    assert (str(len(part)), "application/octet-stream") == (told["content-length"], told["content-type"])


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=" + "9" * 99]
)
async def test_a_range_that_is_none_is_ignored(http, job_id, asked):
    """As RFC 9110 §14.2 wants it."""
    answer = await http.get(f"/v1/jobs/{job_id}/outputs/b.bin", headers={"Range": asked})
    assert (200, CONTENT) == (answer.status_code, answer.content)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0"])
async def test_bytes_that_are_not_there_are_a_problem(http, job_id, asked):
    """416, with how many there are."""
    answer = await http.get(f"/v1/jobs/{job_id}/outputs/b.bin", headers={"Range": asked})
    problem(answer, 416, "range-not-satisfiable")
    assert "bytes */10" == answer.headers["content-range"]


async def test_a_part_of_what_has_changed_since_is_all_of_it(http, job_id):
    """If-Range: two halves of different files make no file."""
    url = f"/v1/jobs/{job_id}/outputs/b.bin"
    etag = (await http.get(url)).headers["etag"]
    for condition, status in ((etag, 206), ('"another"', 200)):
        answer = await http.get(url, headers={"Range": "bytes=5-", "If-Range": condition})
        assert status == answer.status_code


async def test_a_file_that_there_is_not_is_a_problem(http, keyring, store, job_id):
    """Of another name, not written yet, or not kept any more."""
    problem(await http.get(f"/v1/jobs/{job_id}/outputs/nothing"), 404, "not-found")
    problem(await http.get(f"/v1/jobs/{job_id}/outputs/gone"), 410, "job-expired")
    running = RUNNING.model_copy(update={"id": keyring.issue("default")})
    store.project(JobProgressed(job=running))
    problem(await http.get(f"/v1/jobs/{running.id}/outputs/b.bin"), 404, "not-found")


async def test_a_storage_that_is_away_is_told(http, blobs, job_id):
    """503: the file is there, and can't be had now."""
    blobs.away = True
    problem(await http.get(f"/v1/jobs/{job_id}/outputs/b.bin"), 503, "status-unavailable")


# In a folder.


async def read(content):
    return b"".join([chunk async for chunk in content])


async def test_a_folder_gives_back_what_was_put_there(tmp_path):
    """All of it, or a part, or nothing."""

    async def content():
        for _ in range(3):
            yield CONTENT

    folder = ObjectBlobs(tmp_path.as_uri(), namespace="milepost")
    put = await folder.put("jobs/x/0000", content())
    assert (30, 64) == (put.size, len(put.digest))
    assert CONTENT * 3 == await read(await folder.open("jobs/x/0000", 0, 30))
    assert b"9012" == await read(await folder.open("jobs/x/0000", 9, 13))
    assert b"" == await read(await folder.open("jobs/x/0000", 30, 30))
    assert ["jobs/x/0000"] == [key async for key in folder.keys("jobs")]
    await folder.remove(["jobs/x/0000", "jobs/x/never"])
    with pytest.raises(JobExpired):
        await folder.open("jobs/x/0000", 0, 30)


async def test_a_folder_that_can_not_be_read_is_told(tmp_path):
    """It is a file, for example."""
    folder = ObjectBlobs((tmp_path / "blobs").as_uri(), namespace="milepost")
    (tmp_path / "blobs" / "milepost").write_text("no folder")
    with pytest.raises(BlobsUnavailable):
        await folder.open("jobs/x/0000", 0, 30)


# What is left.


@pytest.fixture
def leftovers(blobs, store):
    return Leftovers(blobs=blobs, store=store, retention=timedelta(days=7))


async def test_files_go_with_their_job(leftovers, blobs, store, keyring):
    """Of jobs that are remembered, and of young ones that nobody has heard of yet, they stay."""
    at = ENDED.created_at
    old, kept, young = (keyring.issue("default", at=at), keyring.issue("default", at=at), keyring.issue("default"))
    store.project(JobSucceeded(job=ENDED.model_copy(update={"id": kept})))
    keys = [f"jobs/{old}/0000", f"jobs/{old}/abcd1234/0000", f"jobs/{kept}/0000", f"jobs/{young}/0000", "jobs/notes"]
    blobs.stored = dict.fromkeys([*keys, f"elsewhere/{old}"], CONTENT)
    assert 2 == await leftovers.sweep()
    assert {*keys[2:], f"elsewhere/{old}"} == set(blobs.stored)
    assert 0 == await leftovers.sweep()
    assert LATE


async def test_nothing_is_removed_while_nobody_knows(leftovers, blobs, store, keyring):
    """What Redis has forgotten may come back from the log."""
    blobs.stored = {f"jobs/{keyring.issue('default', at=ENDED.created_at)}/0000": CONTENT}
    store.away = True
    with pytest.raises(StoreUnavailable):
        await leftovers.sweep()
    assert blobs.stored


async def test_what_is_forgotten_or_no_jobs_at_all_does_not_end_the_sweep(leftovers, blobs, store, keyring):
    """One odd folder, and no file would ever be removed again."""
    gone = keyring.issue("default", at=ENDED.created_at)
    store.gone.add(gone)
    blobs.stored = {f"jobs/{gone}/0000": CONTENT, f"jobs/{'v' * 40}/0000": CONTENT}
    assert 1 == await leftovers.sweep()
    assert [f"jobs/{'v' * 40}/0000"] == list(blobs.stored)


async def test_deployments_that_share_a_storage_do_not_see_each_other(tmp_path):
    """One sweeps what it does not know: that may be another one's."""

    async def content():
        yield CONTENT

    ours, theirs = (ObjectBlobs(tmp_path.as_uri(), namespace=name) for name in ("ours", "theirs"))
    await theirs.put("jobs/x/0000", content())
    assert [] == [key async for key in ours.keys("jobs")]
    with pytest.raises(JobExpired):
        await ours.open("jobs/x/0000", 0, 10)


async def test_a_storage_that_takes_nothing_is_told(tmp_path):
    """Whatever it says itself."""

    async def content():
        yield CONTENT

    folder = ObjectBlobs((tmp_path / "blobs").as_uri(), namespace="milepost")
    (tmp_path / "blobs" / "milepost").write_text("no folder")
    with pytest.raises(BlobsUnavailable):
        await folder.put("jobs/x/0000", content())


async def test_any_version_is_known_by_a_star(http, job_id):
    """RFC 9110 §13.1.2."""
    assert 304 == (await http.get(f"/v1/jobs/{job_id}/result", headers={"If-None-Match": "*"})).status_code
