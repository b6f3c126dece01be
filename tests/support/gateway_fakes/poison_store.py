"""Records of unreadable messages in memory."""


class FakePoisonStore:
    def __init__(self, view):
        self._view = view
        self.records: list[bytes] = []

    async def latest(self, limit):
        self._view.check()
        return self.records[:limit]
