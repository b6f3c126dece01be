"""A broker in memory."""

from milepost_gateway.errors import BrokerUnavailable
from milepost_rabbit.depth import Depth


class FakeBroker:
    def __init__(self):
        self.submitted = []
        self.requests = []
        self.events = []
        self.error = None

    async def submit(self, command):
        if self.error is not None:
            raise self.error(command)
        self.submitted.append(command)

    async def publish_request(self, request):
        if self.error is not None:
            raise self.error(request)
        self.requests.append(request)

    async def publish_webhook(self, event):
        if self.error is not None:
            raise self.error(event)
        self.events.append(event)

    async def depths(self, queues):
        if self.error is not None:
            raise BrokerUnavailable
        return {queue: Depth(ready=len(self.submitted), consumers=1) for queue in queues}

    async def answers(self):
        return self.error is None
