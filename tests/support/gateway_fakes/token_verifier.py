"""A token verifier that accepts configured tokens."""

from milepost_gateway.errors import Unauthenticated


class FakeTokenVerifier:
    def __init__(self):
        self.good: dict[str, dict[str, str]] = {}

    async def verify(self, token, issuers):
        if token not in self.good:
            raise Unauthenticated("not a known token")
        return self.good[token], issuers[0]
