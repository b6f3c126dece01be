"""Values in Redis that can't be parsed."""

from structlog.testing import capture_logs

from milepost_redis.parsing import UnreadableClaims


def test_of_many_unreadable_claims_one_is_logged():
    """Who can write claims can write many; the log stays readable."""
    claims = UnreadableClaims()
    with capture_logs() as logged:
        for number in range(3):
            claims.log(f"job{number}")
    assert [("claim_unreadable", "job0")] == [(entry["event"], entry["job_id"]) for entry in logged]
