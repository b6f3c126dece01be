"""Results and files as downloads."""

from datetime import timedelta

import pytest
from gateway_fakes.status_store import FakeStatusStore
from problem_answers import problem
from samples import ENDED, RUNNING

from milepost_contracts.messages.job_events import JobProgressed, JobSucceeded
from milepost_contracts.values import FileRef
from milepost_gateway.adapters.blob_store import ObjectBlobStore
from milepost_gateway.core.orphaned_files import UPLOAD_ALLOWANCE, OrphanedFiles
from milepost_gateway.errors import BlobStoreUnavailable, JobExpired, StoreUnavailable

CONTENT = b"0123456789"
DIGEST = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"


def ref(name, key, **more):
    return FileRef(name=name, size=len(CONTENT), key=key, digest=DIGEST, **{"media_type": "text/csv", **more})


@pytest.fixture
def job_id(keyring, view, blob_store):
    """A succeeded job with a result file and three output files, one of which is not stored any more."""
    job_id = keyring.issue("default")
    one, two, three, result = (f"jobs/{job_id}/{name}" for name in ("one", "two", "three", "result"))
    outputs = (ref("a/réport.csv", one), ref("b.bin", two, media_type=None), ref("gone", three))
    job = {"id": job_id, "result": None, "result_file": ref("result.json", result, media_type="image/png")}
    view.project(JobSucceeded(job=ENDED.model_copy(update={**job, "outputs": outputs})))
    blob_store.stored = dict.fromkeys((one, two, result), CONTENT)
    return job_id


async def test_a_download_has_name_size_media_type_and_digest(http, job_id):
    """The digest is in Repr-Digest (RFC 9530)."""
    answer = await http.get(f"/v1/jobs/{job_id}/outputs/a/réport.csv")
    assert (200, CONTENT) == (answer.status_code, answer.content)
    headers = answer.headers
    assert ("text/csv", "10", "bytes") == (headers["content-type"], headers["content-length"], headers["accept-ranges"])
    assert f'"{DIGEST[:32]}"' == headers["etag"]
    assert "attachment; filename=\"r_port.csv\"; filename*=UTF-8''r%C3%A9port.csv" == headers["content-disposition"]
    assert "sha-256=:hNiYd/DUBB77a/kaFvAkjy/Vc+avBcGflr7bn4gveII=:" == headers["repr-digest"]
    assert "nosniff" == headers["x-content-type-options"], "a browser must not run it as a page"


async def test_the_document_has_a_url_for_each_file(http, job_id):
    """The URLs lead to the gateway; the storage keys are not shown."""
    body = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert ["a/réport.csv", "b.bin", "gone"] == [output["name"] for output in body["outputs"]]
    assert {"name", "size", "digest", "media_type", "url"} == set(body["outputs"][0])
    assert 200 == (await http.get(body["outputs"][0]["url"])).status_code
    assert "image/png" == body["result_file"]["media_type"]
    assert 200 == (await http.get(body["links"]["result"])).status_code


async def test_a_file_of_another_job_is_not_downloaded(http, keyring, view, blob_store, job_id):
    """Whatever an event said: its key must be in the folder of the job whose URL is requested."""
    spy = keyring.issue("default")
    stolen = ref("stolen", next(iter(blob_store.stored)))
    view.project(JobSucceeded(job=ENDED.model_copy(update={"id": spy, "outputs": (stolen,), "result_file": stolen})))
    for path in ("outputs/stolen", "result"):
        assert 404 == (await http.get(f"/v1/jobs/{spy}/{path}")).status_code


async def test_a_result_file_has_its_own_media_type(http, job_id):
    """As the handler set it."""
    answer = await http.get(f"/v1/jobs/{job_id}/result")
    assert (CONTENT, "image/png") == (answer.content, answer.headers["content-type"])


async def test_a_known_result_file_gets_304(http, job_id):
    """For If-None-Match with its ETag."""
    url = f"/v1/jobs/{job_id}/result"
    etag = (await http.get(url)).headers["etag"]
    answer = await http.get(url, headers={"If-None-Match": etag})
    assert (304, b"") == (answer.status_code, answer.content)


@pytest.mark.parametrize(
    "range_header, part, content_range",
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-100", CONTENT, "bytes 0-9/10"),
        ("bytes=9-9999", b"9", "bytes 9-9/10"),
    ],
)
async def test_a_range_request_returns_a_part(http, job_id, range_header, part, content_range):
    """206, so that an interrupted download can be resumed."""
    answer = await http.get(f"/v1/jobs/{job_id}/outputs/b.bin", headers={"Range": range_header})
    headers = answer.headers
    assert (206, part, content_range) == (answer.status_code, answer.content, headers["content-range"])
    assert (str(len(part)), "application/octet-stream") == (headers["content-length"], headers["content-type"])


@pytest.mark.parametrize(
    "range_header", ["bytes=5-2", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=" + "9" * 99]
)
async def test_an_unsupported_range_is_ignored(http, job_id, range_header):
    """200 with the whole file for a malformed range, several ranges or another unit (RFC 9110 §14.2)."""
    answer = await http.get(f"/v1/jobs/{job_id}/outputs/b.bin", headers={"Range": range_header})
    assert (200, CONTENT) == (answer.status_code, answer.content)


@pytest.mark.parametrize("range_header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
async def test_an_unsatisfiable_range_gets_416(http, job_id, range_header):
    """Content-Range has the size of the file."""
    answer = await http.get(f"/v1/jobs/{job_id}/outputs/b.bin", headers={"Range": range_header})
    problem(answer, 416, "range-not-satisfiable")
    assert "bytes */10" == answer.headers["content-range"]


async def test_a_range_of_a_changed_file_returns_the_whole_file(http, job_id):
    """If-Range: parts of two versions must not be combined."""
    url = f"/v1/jobs/{job_id}/outputs/b.bin"
    etag = (await http.get(url)).headers["etag"]
    for condition, status in ((etag, 206), ('"another"', 200)):
        answer = await http.get(url, headers={"Range": "bytes=5-", "If-Range": condition})
        assert status == answer.status_code


async def test_a_missing_file_is_a_problem(http, keyring, view, job_id):
    """404 for an unknown name and for a job without outputs, 410 for a file that is not stored any more."""
    problem(await http.get(f"/v1/jobs/{job_id}/outputs/nothing"), 404, "not-found")
    problem(await http.get(f"/v1/jobs/{job_id}/outputs/gone"), 410, "job-expired")
    earlier = (ref("b.bin", "two"),)  # the next attempt may replace it
    running = RUNNING.model_copy(update={"id": keyring.issue("default"), "outputs": earlier})
    view.project(JobProgressed(job=running))
    problem(await http.get(f"/v1/jobs/{running.id}/outputs/b.bin"), 404, "not-found")


async def test_a_download_gets_503_while_the_storage_is_away(http, blob_store, job_id):
    """The file exists, but can't be read now."""
    blob_store.away = True
    problem(await http.get(f"/v1/jobs/{job_id}/outputs/b.bin"), 503, "status-unavailable")


# Files in a folder.


async def read(content):
    return b"".join([chunk async for chunk in content])


async def test_a_folder_returns_what_was_stored(tmp_path):
    """Completely or in part; a removed file raises JobExpired."""

    async def content():
        for _ in range(3):
            yield CONTENT

    folder = ObjectBlobStore(tmp_path.as_uri(), namespace="milepost")
    put = await folder.put("jobs/x/0000", content())
    assert (30, 64) == (put.size, len(put.digest))
    assert CONTENT * 3 == await read(await folder.open("jobs/x/0000", 0, 30))
    assert b"9012" == await read(await folder.open("jobs/x/0000", 9, 13))
    assert b"" == await read(await folder.open("jobs/x/0000", 30, 30))
    assert ["jobs/x/0000"] == [key async for key in folder.keys("jobs")]
    await folder.remove(["jobs/x/0000", "jobs/x/never"])
    with pytest.raises(JobExpired):
        await folder.open("jobs/x/0000", 0, 30)


async def test_a_folder_that_can_not_be_read_raises(tmp_path):
    """BlobStoreUnavailable, for example if a file has its name."""
    folder = ObjectBlobStore((tmp_path / "blobs").as_uri(), namespace="milepost")
    (tmp_path / "blobs" / "milepost").write_text("no folder")
    with pytest.raises(BlobStoreUnavailable):
        await folder.open("jobs/x/0000", 0, 30)


# Orphaned files.


@pytest.fixture
def orphaned_files(blob_store, view):
    return OrphanedFiles(blob_store=blob_store, store=FakeStatusStore(view), retention=timedelta(days=7))


async def test_files_are_removed_with_their_job(orphaned_files, blob_store, view, keyring):
    """Files of existing jobs and of new jobs that no tracker has seen stay."""
    created_at = ENDED.created_at
    old, existing, new = (
        keyring.issue("default", at=created_at),
        keyring.issue("default", at=created_at),
        keyring.issue("default"),
    )
    view.project(JobSucceeded(job=ENDED.model_copy(update={"id": existing})))
    keys = [f"jobs/{old}/0000", f"jobs/{old}/abcd1234/0000", f"jobs/{existing}/0000", f"jobs/{new}/0000", "jobs/notes"]
    blob_store.stored = dict.fromkeys([*keys, f"elsewhere/{old}"], CONTENT)
    assert 2 == await orphaned_files.sweep()
    assert {*keys[2:], f"elsewhere/{old}"} == set(blob_store.stored)
    assert 0 == await orphaned_files.sweep()
    assert UPLOAD_ALLOWANCE


async def test_no_file_is_removed_while_redis_is_away(orphaned_files, blob_store, view, keyring):
    """Whether the job of a file still exists is not known then."""
    blob_store.stored = {f"jobs/{keyring.issue('default', at=ENDED.created_at)}/0000": CONTENT}
    view.away = True
    with pytest.raises(StoreUnavailable):
        await orphaned_files.sweep()
    assert blob_store.stored


async def test_a_folder_that_belongs_to_no_job_does_not_end_the_sweep(orphaned_files, blob_store, view, keyring):
    """The files of a deleted job are removed; a folder whose name is no job id stays."""
    deleted = keyring.issue("default", at=ENDED.created_at)
    view.deleted.add(deleted)
    blob_store.stored = {f"jobs/{deleted}/0000": CONTENT, f"jobs/{'v' * 40}/0000": CONTENT}
    assert 1 == await orphaned_files.sweep()
    assert [f"jobs/{'v' * 40}/0000"] == list(blob_store.stored)


async def test_deployments_that_share_a_storage_see_only_their_own_files(tmp_path):
    """Otherwise a sweep would remove the files of another deployment."""

    async def content():
        yield CONTENT

    ours, theirs = (ObjectBlobStore(tmp_path.as_uri(), namespace=name) for name in ("ours", "theirs"))
    await theirs.put("jobs/x/0000", content())
    assert [] == [key async for key in ours.keys("jobs")]
    with pytest.raises(JobExpired):
        await ours.open("jobs/x/0000", 0, 10)


async def test_a_storage_that_can_not_be_written_raises(tmp_path):
    """BlobStoreUnavailable, whatever the error of the storage is."""

    async def content():
        yield CONTENT

    folder = ObjectBlobStore((tmp_path / "blobs").as_uri(), namespace="milepost")
    (tmp_path / "blobs" / "milepost").write_text("no folder")
    with pytest.raises(BlobStoreUnavailable):
        await folder.put("jobs/x/0000", content())


async def test_if_none_match_star_gets_304(http, job_id):
    """RFC 9110 §13.1.2."""
    assert 304 == (await http.get(f"/v1/jobs/{job_id}/result", headers={"If-None-Match": "*"})).status_code
