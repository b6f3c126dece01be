"""The example handlers, run in-process."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from milepost import Canceled, InputError
from milepost.testing import MemoryFile, run_handler
from milepost_basics import count, crunch, digest_files, echo, noop
from milepost_basics.digest import CHUNK, ROOT_VARIABLE


def test_count_reports_every_step():
    """Progress goes from zero to the total."""
    outcome = run_handler(count, {"steps": 3, "delay": 0})
    assert {"counted": 3} == outcome.result
    assert [0, 1, 2, 3] == [report.done for report in outcome.progress]


def test_echo_returns_its_text():
    """The text is unchanged."""
    assert {"text": "hé"} == run_handler(echo, {"text": "hé"}).result


def test_noop_does_nothing():
    """It has no result and no progress."""
    outcome = run_handler(noop, {})
    assert (None, ()) == (outcome.result, outcome.progress)


@pytest.mark.parametrize(
    "handler, params",
    [
        (count, {"steps": -1}),
        (count, {"stepz": 3}),
        (count, {"delay": float("inf")}),
        (echo, {}),
        (crunch, {"limit": 1}),
        (noop, {"x": 1}),
    ],
)
def test_invalid_params_are_refused(handler, params):
    """A misspelt param is an error and is not ignored."""
    with pytest.raises(ValidationError):
        run_handler(handler, params)


@pytest.mark.parametrize(
    "limit, primes, largest",
    [(2, 1, 2), (3, 2, 3), (10, 4, 7), (100, 25, 97), (262_144, 23_000, 262_139), (1_000_000, 78_498, 999_983)],
)
def test_crunch_counts_primes(limit, primes, largest):
    """The counts are those of OEIS A000720, also for limits beyond one block."""
    assert {"limit": limit, "count": primes, "largest": largest} == run_handler(crunch, {"limit": limit}).result


@settings(max_examples=50)
@given(st.integers(2, 600_000))
def test_crunch_agrees_with_trial_division(limit):
    """For any limit, the largest prime is correct."""
    result = run_handler(crunch, {"limit": limit}).result
    prime = lambda n: n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))  # noqa: E731
    assert prime(result["largest"])
    assert not any(prime(n) for n in range(result["largest"] + 1, limit + 1))


def test_crunch_stops_when_it_is_canceled():
    """It stops between two blocks at the latest."""
    with pytest.raises(Canceled):
        run_handler(crunch, {"limit": 10**9}, cancel_at=3)


def test_digest_agrees_with_sha256sum_and_wc():
    """It reports hash, size, lines and words, and emits each file as an item."""
    content = b"one two\nthree  four\tfive\n\nsix"
    outcome = run_handler(digest_files, {}, files=[MemoryFile("a/b.txt", content), MemoryFile("empty.bin", b"")])
    first, second = outcome.items.last
    assert {
        "name": "a/b.txt",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "lines": 3,
        "words": 6,
        "media_type": "text/plain",
    } == first
    assert (0, 0, 0) == (second["size"], second["lines"], second["words"])
    assert (2, len(content), 6) == (outcome.result["files"], outcome.result["size"], outcome.result["words"])
    assert 100.0 == outcome.progress[-1].percent


@settings(max_examples=30)
@given(st.lists(st.sampled_from([b"word", b" ", b"\n", b"x" * 1000]), max_size=50), st.integers(-3, 3))
def test_words_are_counted_across_chunks(parts, shift):
    """A word that is split by a read is one word."""
    content = b"y" * (CHUNK + shift) + b"".join(parts)
    outcome = run_handler(digest_files, {}, files=[MemoryFile("f", content)])
    assert len(content.split()) == outcome.result["words"]


def test_digest_opens_named_files_only_below_the_root_folder(monkeypatch, tmp_path):
    """A client cannot read other files of the processor's machine."""
    root = tmp_path / "open"
    root.mkdir()
    (root / "in.txt").write_text("in")
    (tmp_path / "out.txt").write_text("out")
    (root / "link.txt").symlink_to(tmp_path / "out.txt")
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    assert 1 == run_handler(digest_files, {"paths": ["in.txt"]}).result["files"]
    for path in ("../out.txt", str(tmp_path / "out.txt"), "link.txt", "missing.txt", "", ".", "in.txt\0"):
        with pytest.raises(InputError):
            run_handler(digest_files, {"paths": [path]})
    monkeypatch.delenv(ROOT_VARIABLE)
    with pytest.raises(InputError, match=ROOT_VARIABLE):
        run_handler(digest_files, {"paths": ["in.txt"]})


def test_digest_without_files_is_an_input_error():
    """The error says that there is nothing to digest."""
    with pytest.raises(InputError, match="nothing to digest"):
        run_handler(digest_files, {})


def test_digesting_pauses_by_size_and_never_longer_than_a_second_at_once(monkeypatch):
    """So the rate is steady, and a job with one large file among many small ones can be stopped meanwhile."""
    pauses = []
    monkeypatch.setattr("milepost_basics.digest.time.sleep", pauses.append)
    small, large = (MemoryFile(name, b"x" * size) for name, size in (("small", 100), ("large", 300)))
    run_handler(digest_files, {"pause": 1.75}, files=[small, large])
    assert pytest.approx([0.875, 1.0, 1.0, 0.625]) == pauses
    pauses.clear()
    empty = [MemoryFile(str(number), b"") for number in range(9)]
    run_handler(digest_files, {"pause": 0.25}, files=[*empty, small])
    assert pytest.approx([1.0, 1.0, 0.5]) == pauses
