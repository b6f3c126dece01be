"""Decodes a command, a CloudEvent, as a Dramatiq message for the actor of its job's type."""

from dramatiq.encoder import Encoder, MessageData
from dramatiq.errors import DecodeError

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.job_events import COMMANDS, JobPostponed, JobQuarantined, decode_event, encode_event
from milepost_contracts.messages.topology import Topology


class EnvelopeEncoder(Encoder):
    """Reads and writes CloudEvents; Dramatiq options in a message are ignored."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    def decode(self, data: bytes) -> MessageData:
        try:
            command = decode_event(data)
        except MalformedEvent as error:
            raise DecodeError(str(error), data, error) from error  # type: ignore[no-untyped-call]
        if not isinstance(command, COMMANDS):
            raise DecodeError(f"{command.fact} is not a command", data, None)  # type: ignore[no-untyped-call]
        quarantined = isinstance(command, JobQuarantined | JobPostponed) and command.job.quarantined
        name = self._topology.quarantine_queue_name if quarantined else self._topology.work_queue_name
        return {
            "queue_name": name(command.job.queue),
            "actor_name": command.job.type,
            "args": (),
            "kwargs": {"command": command},
            "options": {},
            "message_id": command.event_id,
            "message_timestamp": int(command.time.timestamp() * 1000),
        }

    def encode(self, data: MessageData) -> bytes:
        return encode_event(data["kwargs"]["command"])
