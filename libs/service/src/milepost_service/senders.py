"""The RabbitMQ users of the services, for all that receive messages: whom they believe what (law 11)."""

from collections.abc import Set as AbstractSet
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_settings import NoDecode

from milepost_contracts.messages.senders import Role, Senders
from milepost_contracts.server_urls import user_of
from milepost_contracts.values import QueueName
from milepost_service.known_settings import PREFIX
from milepost_service.lists import split_words
from milepost_service.settings import ServiceSettings, SettingsError

_QUEUE = TypeAdapter(QueueName)


def _served_queues(value: Any) -> Any:
    """Read `USER,USER:QUEUE+QUEUE`; a user without queues may serve all."""
    if not isinstance(value, str):
        return value
    served: dict[str, frozenset[str] | None] = {}
    for part in split_words(value):
        user, colon, queues = part.partition(":")
        try:
            served[user] = frozenset(map(_QUEUE.validate_python, queues.split("+"))) if colon else None
        except ValidationError:
            raise ValueError(f"write {user}:QUEUE or {user}:QUEUE+QUEUE, with names of queues") from None
    return served


Users = Annotated[frozenset[str], NoDecode, BeforeValidator(split_words), Field(min_length=1)]
ProcessorUsers = Annotated[
    dict[str, frozenset[str] | None], NoDecode, BeforeValidator(_served_queues), Field(min_length=1)
]


class SenderSettings(ServiceSettings):
    """Settings for the services' RabbitMQ users, the same for all services."""

    gateway_users: Users = frozenset({"milepost-gateway"})
    """RabbitMQ users of gateways, separated by commas: they alone submit jobs, and request that they are canceled."""
    tracker_users: Users = frozenset({"milepost-tracker"})
    """RabbitMQ users of trackers, separated by commas."""
    processor_users: ProcessorUsers = Field(default={"milepost-processor": None})
    """RabbitMQ users of processors: `USER,USER:QUEUE+QUEUE`. One without queues may serve all queues."""

    @property
    def senders(self) -> Senders:
        """Whom this service believes."""
        return Senders(gateways=self.gateway_users, trackers=self.tracker_users, processors=self.processor_users)

    def check_own_user(self, role: Role, *, queues: AbstractSet[str] = frozenset()) -> None:
        """Return if the others will believe this service: what it publishes is refused otherwise.

        Raises:
            SettingsError: The user in its URL of RabbitMQ has not this role, or may not serve one of these queues.
        """
        user = user_of(self.rabbitmq_url)
        setting = f"{PREFIX}{role.upper()}_USERS"
        if role not in self.senders.roles(user):
            raise SettingsError(
                f"{setting} does not name {user!r}, the user in {PREFIX}RABBITMQ_URL, so the other services would "
                "refuse the messages of this one: name it there, in the settings of every service"
            )
        if role is Role.PROCESSOR and (others := queues - self.senders.served(user, queues)):
            raise SettingsError(f"{setting} does not let {user!r} serve the queue {min(others)}")

    def own_instance_prefix(self) -> str:
        """Return how the name of this processor must begin."""
        return self.senders.instance_prefix(user_of(self.rabbitmq_url))
