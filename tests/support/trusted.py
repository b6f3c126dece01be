"""Messages that are believed: valid grants, senders and properties. Forged ones are made from them."""

from milepost_contracts.grants import granted
from milepost_contracts.ids import Keyring
from milepost_contracts.messages.cloudevent import CONTENT_TYPE, encode
from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.messages.received import Received
from milepost_contracts.messages.senders import FACTS, Role, Senders
from milepost_contracts.messages.trust import Trust

ID_KEYS = "1:" + "ab" * 32
KEYRING = Keyring.parse(ID_KEYS)
SENDERS = Senders(
    gateways=frozenset({"gateway"}),
    trackers=frozenset({"tracker"}),
    processors={"processor": None, "gpu-team": frozenset({"gpu", "images"})},
)
TRUST = Trust(SENDERS, KEYRING)
USERS = {Role.GATEWAY: "gateway", Role.PROCESSOR: "processor", Role.TRACKER: "tracker"}

OPERATOR = "milepost-operator"
"""The RabbitMQ user of the stack with which tests connect; it may do everything."""
ONE_USER = Senders(gateways=frozenset({OPERATOR}), trackers=frozenset({OPERATOR}), processors={OPERATOR: None})
"""As where all services have one RabbitMQ user."""
ONE_USER_SETTINGS = {f"MILEPOST_{role.upper()}_USERS": OPERATOR for role in Role}
TRUST_ONE_USER = Trust(ONE_USER, KEYRING)


def own(job, **changes):
    """Return a job with some changes, a grant, and its files in its own folder."""
    job = job.model_copy(update=changes)
    files = tuple(file.model_copy(update={"key": f"jobs/{job.id}/{n:04d}"}) for n, file in enumerate(job.files))
    return granted(job.model_copy(update={"files": files}), KEYRING)


def believed(message):
    """Return a message whose job has a grant."""
    if not isinstance(message, JobEvent):
        return message
    return message.model_copy(update={"job": own(message.job)})


def sender_of(fact):
    """Return the user that states a fact."""
    return next(user for role, user in USERS.items() if fact in FACTS[role])


def received(message, **changes):
    """Return a message as the broker delivers it; a body that is no message has no properties."""
    if isinstance(message, bytes):
        return Received(message, "", None, None, None)._replace(**changes)
    message = believed(message)
    made = Received(encode(message), message.routing_key, sender_of(message.fact), message.subject, CONTENT_TYPE)
    return made._replace(**changes)
