"""The processor's adapter to Dramatiq and stock Dramatiq, with the same interface, and an actor for both."""

import json
import threading
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta

import aio_pika
import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.encoder import JSONEncoder
from dramatiq.message import set_encoder
from odd_handlers import REGISTRY
from published import published
from samples import SUBMITTED
from trusted import ONE_USER, own

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import JobSubmitted, decode_event
from milepost_contracts.messages.trust import Trust
from milepost_processor.adapters.dramatiq.broker import CommandBroker, CommandWorker, connection_url
from milepost_processor.adapters.dramatiq.consumer import Consuming
from milepost_processor.adapters.dramatiq.encoder import EnvelopeEncoder
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.put_off import Eligibility
from milepost_processor.core.secret_params import ParamsOpener
from milepost_service.sealing import Sealer

ACTOR = SUBMITTED.type
HANDLERS = Handlers({ACTOR: replace(REGISTRY.definitions["sync"], type=ACTOR)})


class Ours:
    """The processor's adapter to Dramatiq, with an actor that calls `act`."""

    worker = CommandWorker

    def __init__(self, url, topology, act):
        self.queue = topology.work("default").name
        self.exchange, self.key = topology.jobs.name, JobSubmitted(job=SUBMITTED).routing_key
        self._encoder = EnvelopeEncoder(topology)
        set_encoder(self._encoder)
        self.published = []
        consuming = Consuming(
            timeout=timedelta(minutes=30),
            one_at_a_time=frozenset(),
            trust=Trust(ONE_USER, keyring=None),
            eligibility=Eligibility(HANDLERS, ParamsOpener(HANDLERS, Sealer()), delivery_limit=3),
            publish=self.publish,
            nack_counts=False,
        )
        self.broker = CommandBroker(connection_url(url, heartbeat=timedelta(seconds=60)), consuming)
        dramatiq.Actor(
            lambda command, delivery: act(command.job.id, delivery.count),
            broker=self.broker,
            actor_name=ACTOR,
            queue_name=self.queue,
            priority=0,
            options={},
        )

    def publish(self, event):
        """Record the event that takes the place of a message, and confirm it."""
        self.published.append(event)
        confirmed = Future()
        confirmed.set_result(None)
        return confirmed

    @staticmethod
    def message(body):
        """Return a body as a service publishes it."""
        try:
            return published(decode_event(body))
        except MalformedEvent:
            return aio_pika.Message(body)

    def body(self, name, **wrong):
        if wrong:
            return json.dumps({"queue_name": self.queue, "actor_name": ACTOR, **wrong}).encode()
        return encode(JobSubmitted(job=own(SUBMITTED, id=name)))


class Stock:
    """Dramatiq without our adapter."""

    worker = dramatiq.Worker
    exchange = ""
    message = aio_pika.Message

    def __init__(self, url, topology, act):
        self.queue = self.key = f"{topology.namespace}.stock"
        set_encoder(JSONEncoder())
        self.broker = RabbitmqBroker(url=url)
        dramatiq.Actor(
            lambda name: act(name, None),
            broker=self.broker,
            actor_name=ACTOR,
            queue_name=self.queue,
            priority=0,
            options={"max_retries": 3},  # the first retry comes after at least 7 s, later than a test waits
        )
        # Its consumer declares the queue later, and messages published before that would be lost.
        self.broker.declare_queue(self.queue, ensure=True)

    def body(self, name, **wrong):
        message = {
            "queue_name": self.queue,
            "actor_name": ACTOR,
            "args": [name],
            "kwargs": {},
            "options": {},
            "message_id": name,
            "message_timestamp": 1,
        }
        return json.dumps(message | wrong).encode()


class RecordingActor:
    """An actor that records its calls, and blocks in those that the test holds."""

    def __init__(self):
        self.calls = []
        self.done = []
        self.held = {}

    def __call__(self, name, count):
        self.calls.append((name, count))
        if name in self.held:
            self.held[name].wait(20)
        self.done.append(name)

    def hold(self, name):
        self.held[name] = threading.Event()
        return self.held[name]
