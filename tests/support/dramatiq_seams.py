"""The processor's seam to Dramatiq, and Dramatiq as it comes, side by side; and an actor for either."""

import json
import threading
from datetime import timedelta

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.encoder import JSONEncoder
from dramatiq.message import set_encoder
from samples import SUBMITTED

from milepost_contracts.envelope import encode
from milepost_contracts.events import JobSubmitted
from milepost_processor.broker import CommandBroker, CommandWorker, Consuming, connection_url
from milepost_processor.encoder import EnvelopeEncoder

ACTOR = SUBMITTED.type


class Ours:
    """The processor's seam to Dramatiq, with an actor that only notes what it was given."""

    worker = CommandWorker

    def __init__(self, url, topology, act):
        self.queue = topology.work("default").name
        self._encoder = EnvelopeEncoder(topology)
        set_encoder(self._encoder)
        consuming = Consuming(timeout=timedelta(minutes=30), one_at_a_time=frozenset())
        self.broker = CommandBroker(connection_url(url, heartbeat=timedelta(seconds=60)), consuming)
        dramatiq.Actor(
            lambda command, delivery: act(command.job.id, delivery.count),
            broker=self.broker,
            actor_name=ACTOR,
            queue_name=self.queue,
            priority=0,
            options={},
        )

    def body(self, name, **wrong):
        if wrong:
            return json.dumps({"queue_name": self.queue, "actor_name": ACTOR, **wrong}).encode()
        return encode(JobSubmitted(job=SUBMITTED.model_copy(update={"id": name})))


class Stock:
    """Dramatiq as it comes."""

    worker = dramatiq.Worker

    def __init__(self, url, topology, act):
        self.queue = f"{topology.namespace}.stock"
        set_encoder(JSONEncoder())
        self.broker = RabbitmqBroker(url=url)
        dramatiq.Actor(
            lambda name: act(name, None),
            broker=self.broker,
            actor_name=ACTOR,
            queue_name=self.queue,
            priority=0,
            options={"max_retries": 3},  # after 7 s at least: nothing that a test waits for
        )
        # Its consumer would declare the queue by and by, and what is published before that goes nowhere.
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


class Acts:
    """An actor that notes its calls, and holds those that it is told to."""

    def __init__(self):
        self.calls = []
        self.done = []
        self.gates = {}

    def __call__(self, name, count):
        self.calls.append((name, count))
        if name in self.gates:
            self.gates[name].wait(20)
        self.done.append(name)

    def hold(self, name):
        self.gates[name] = threading.Event()
        return self.gates[name]
