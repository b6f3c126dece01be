"""The settings for the RabbitMQ users of the services."""

import pytest

from milepost_contracts.errors import RefusedMessage
from milepost_contracts.messages.senders import Role
from milepost_service.senders import SenderSettings
from milepost_service.settings import SettingsError, load

URL = "amqp://{}:secret@127.0.0.1:5672/"


@pytest.fixture
def setting(monkeypatch):
    """Return a function that reads the settings with these variables."""

    def read(**variables):
        for name, value in ({"RABBITMQ_URL": URL.format("milepost")} | variables).items():
            monkeypatch.setenv(f"MILEPOST_{name}", value)
        return load(SenderSettings)

    return read


def test_by_default_each_service_has_a_user_of_its_own(setting):
    """As `milepost-gateway` and so on; a processor may serve all queues."""
    senders = setting().senders
    roles = {role: senders.roles(f"milepost-{role}") for role in Role}
    assert {role: [role] for role in Role} == roles
    assert senders.serves_all("milepost-processor")
    assert [] == senders.roles("guest") == senders.roles(None)


def test_a_processors_user_may_be_limited_to_queues(setting):
    """Its name, a colon, and the queues with plus signs between them."""
    senders = setting(PROCESSOR_USERS="milepost-processor, gpu-team:gpu+images").senders
    assert {"gpu", "images"} == senders.served("gpu-team", {"gpu", "images", "cpu"})
    assert (True, False, False) == tuple(senders.serves_all(user) for user in ("milepost-processor", "gpu-team", "x"))
    with pytest.raises(RefusedMessage, match="may not serve the queue cpu"):
        senders.check("gpu-team", "job.succeeded", queues={"cpu"})


def test_one_user_may_have_all_roles(setting):
    """As in development."""
    senders = setting(GATEWAY_USERS="one", TRACKER_USERS="one", PROCESSOR_USERS="one").senders
    assert list(Role) == senders.roles("one")


@pytest.mark.parametrize(
    "name, value",
    [
        ("GATEWAY_USERS", ""),
        ("TRACKER_USERS", " , "),
        ("PROCESSOR_USERS", ""),
        ("PROCESSOR_USERS", "team:"),
        ("PROCESSOR_USERS", "team:gpu+"),
        ("PROCESSOR_USERS", "team:GPU"),
        ("PROCESSOR_USERS", "team:a:b"),
    ],
)
def test_an_unusable_value_is_one_sentence(setting, name, value):
    """It names the variable."""
    with pytest.raises(SettingsError, match=f"MILEPOST_{name}: ") as error:
        setting(**{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("role", list(Role))
def test_a_service_whose_messages_would_be_refused_does_not_start(setting, role):
    """Its user must be in the setting of its role."""
    setting(RABBITMQ_URL=URL.format(f"milepost-{role}")).check_own_user(role)
    with pytest.raises(SettingsError, match=f"MILEPOST_{role.upper()}_USERS does not name 'somebody'"):
        setting(RABBITMQ_URL=URL.format("somebody")).check_own_user(role)


def test_a_user_in_a_url_may_be_encoded(setting):
    """And it is `guest` if there is none."""
    setting(GATEWAY_USERS="a/b,guest", RABBITMQ_URL=URL.format("a%2Fb")).check_own_user(Role.GATEWAY)
    setting(RABBITMQ_URL="amqp://127.0.0.1/", ALLOW="guest").check_own_user(Role.GATEWAY)


def test_a_processor_that_may_not_serve_its_queues_does_not_start(setting):
    """Its announcements would be refused."""
    settings = setting(PROCESSOR_USERS="team:gpu", RABBITMQ_URL=URL.format("team"))
    settings.check_own_user(Role.PROCESSOR, queues=frozenset({"gpu"}))
    with pytest.raises(SettingsError, match="does not let 'team' serve the queue cpu"):
        settings.check_own_user(Role.PROCESSOR, queues=frozenset({"gpu", "cpu"}))
