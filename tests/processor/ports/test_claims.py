"""The fake claims of these tests behave as the real ones do (tests/integration/test_claims.py)."""

from claims_suite import ClaimsSuite


class TestTheFakeClaims(ClaimsSuite):
    """See `claims_suite`."""

    def expire_holder(self, claims):
        claims.alive.clear()

    def renew_holder(self, claims):
        claims.alive.update(claims.claims)
