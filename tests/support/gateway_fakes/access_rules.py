"""Access rules in memory."""

from milepost_contracts.http.access import Access


class FakeAccessRules:
    def __init__(self, access=None):
        self.access = access

    def current(self):
        return self.access or Access()
