"""Writes the files with which a deployment runs: the users for RabbitMQ and Redis, and the secrets of each service.

The folder keeps what was asked for, and a file of secrets that exists keeps them, so that a further user can be added.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AnyUrl, BaseModel, ConfigDict, ValidationError, model_validator

from milepost_contracts.permissions.users import User, UserRole, deployment_users, user_settings
from milepost_contracts.server_urls import RabbitUrl, RedisUrl
from milepost_contracts.values import Namespace
from milepost_stack.access import Access, vhost_of, write_private
from milepost_stack.errors import StackError
from milepost_stack.stack import ID_KEYS, NAMESPACE, RABBITMQ_URL, REDIS_URL, SEAL_KEYS

WEBHOOK_KEYS = "MILEPOST_WEBHOOK_KEYS"
KEY_HOLDERS: Mapping[str, tuple[UserRole, ...]] = {
    ID_KEYS: ("gateway", "tracker"),
    SEAL_KEYS: ("gateway", "processor"),
    WEBHOOK_KEYS: ("gateway", "tracker"),
}
"""The roles whose services need each of the keys."""
HEALTH_PASSWORD = "REDISCLI_AUTH"  # noqa: S105 - the name of a variable
DEPLOYMENT, DEFINITIONS, ACL = "deployment.json", "definitions.json", "users.acl"
READ_BY_SERVERS = 0o644
"""A container reads its file as a user of its own. The folder is its owner's alone, and the file has no password."""
NOTE = "# Written by 'stack access'. Keep it secret. To have new secrets, delete it and run the command again.\n"


def _without_user(url: AnyUrl) -> AnyUrl:
    if url.username or url.password:
        raise ValueError("it has a user or a password: leave them out, each service gets its own")
    return url


class Deployment(BaseModel):
    """The deployment whose files are wanted. The folder keeps it, and a further call changes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: Namespace = "milepost"
    rabbitmq_url: Annotated[RabbitUrl, AfterValidator(_without_user)] = AnyUrl("amqp://rabbitmq:5672/")
    redis_url: Annotated[RedisUrl, AfterValidator(_without_user)] = AnyUrl("redis://redis:6379/0")
    processors: dict[str, tuple[str, ...]] = {}
    """More users of processors, and the job queues of each."""
    teams: dict[str, tuple[str, ...] | None] = {}
    """Users of other teams, and the binding keys of each; `None` for any."""

    def users(self) -> tuple[User, ...]:
        """Return all its users."""
        return deployment_users(self.namespace, processors=self.processors, teams=self.teams)

    @model_validator(mode="after")
    def _check_users(self) -> Self:
        self.users()
        return self

    def without(self, names: Iterable[str]) -> "Deployment":
        """Return a copy without these users.

        Raises:
            StackError: One of them is none of `processors` and `teams`.
        """
        gone = {*names}
        if unknown := gone - {*self.processors, *self.teams}:
            raise StackError(f"there is no user {min(unknown)!r} to remove")
        return self.model_copy(
            update={
                "processors": {name: queues for name, queues in self.processors.items() if name not in gone},
                "teams": {name: keys for name, keys in self.teams.items() if name not in gone},
            }
        )


def describe(error: ValidationError) -> tuple[str | None, str]:
    """Return the field that is wrong, if it is one, and a sentence."""
    first = error.errors(include_input=False, include_url=False)[0]
    return (str(first["loc"][0]) if first["loc"] else None), first["msg"].removeprefix("Value error, ")


def read_deployment(folder: Path) -> Deployment:
    """Return the deployment whose files are in a folder; the default one if there are none.

    Raises:
        StackError: It can't be read.
    """
    path = folder / DEPLOYMENT
    try:
        if path.exists():
            return Deployment.model_validate_json(path.read_bytes())
        if any(folder.glob("*.env")):
            raise StackError(
                f"{folder} has secrets but no {DEPLOYMENT}: write {{}} to that file, then name all users again"
            )
    except OSError as error:
        raise StackError(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        raise StackError("{} is invalid: {}".format(path, ": ".join(filter(None, describe(error))))) from error
    return Deployment()


def write_access_files(folder: Path, deployment: Deployment) -> tuple[Path, ...]:
    """Write the files of a deployment into a folder that only its owner can enter; return them.

    A file with the secrets of a user that the deployment does not have any more is deleted.

    Raises:
        StackError: The folder can't be used, or others can enter it.
    """
    former = {_file_of(user) for user in read_deployment(folder).users()}
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_mode & 0o077:
            raise StackError(f"others can enter {folder}: 'chmod 700 {folder}', or choose another --folder")
        return _write(folder, deployment, former)
    except OSError as error:
        raise StackError(f"{folder} can't be used: {error.strerror}") from error


def _write(folder: Path, deployment: Deployment, former: set[str]) -> tuple[Path, ...]:
    users = deployment.users()
    known = {user.name: _read(folder / _file_of(user)) for user in users}
    access = Access(users=users, passwords={user.name: _password(known[user.name]) for user in users})
    gateway = known[access.of("gateway").name]
    keys = {name: gateway.get(name) or f"1:{token_hex(32)}" for name in KEY_HOLDERS}
    texts = {_file_of(user): _lines(_settings(user, access, deployment, keys)) for user in users}
    write_private(folder / DEPLOYMENT, deployment.model_dump_json(indent=2) + "\n")
    for name, text in texts.items():
        write_private(folder / name, NOTE + text)
    write_private(
        folder / DEFINITIONS, access.definitions(vhost_of(str(deployment.rabbitmq_url))), mode=READ_BY_SERVERS
    )
    write_private(folder / ACL, access.acl(), mode=READ_BY_SERVERS)
    for name in former - {*texts}:
        (folder / name).unlink(missing_ok=True)
    return tuple(folder / name for name in (DEPLOYMENT, *texts, DEFINITIONS, ACL))


def _file_of(user: User) -> str:
    """Return the name of the file with the user's secrets; services of this deployment are named by their role."""
    own = user.role if user.queues is None and user.role != "team" else user.name
    return f"{own}.env"


def _settings(user: User, access: Access, deployment: Deployment, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in a user's file."""
    if user.role == "health":
        return {HEALTH_PASSWORD: access.passwords[user.name]}
    found = {}
    if user.broker is not None:
        found[RABBITMQ_URL] = access.url(str(deployment.rabbitmq_url), user)
    if user.redis is not None:
        found[REDIS_URL] = access.url(str(deployment.redis_url), user)
    if user.role in ("gateway", "tracker", "processor"):
        found |= {NAMESPACE: deployment.namespace, **user_settings(access.users)}
    found |= {name: keys[name] for name, roles in KEY_HOLDERS.items() if user.role in roles}
    return found


def _lines(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _read(path: Path) -> dict[str, str]:
    """Return the variables in a file; none if it does not exist."""
    if not path.exists():
        return {}
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def _password(settings: Mapping[str, str]) -> str:
    """Return the password in a user's variables, or a new one."""
    urls = (settings.get(name) for name in (RABBITMQ_URL, REDIS_URL))
    found = [password for url in urls if url and (password := urlsplit(url).password)]
    return settings.get(HEALTH_PASSWORD) or (found[0] if found else token_hex(32))
