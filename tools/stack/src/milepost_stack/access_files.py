"""Writes the files with which a deployment runs: the users for RabbitMQ and Redis, and the secrets of each service.

A file of secrets that exists keeps them, so that a further user can be added; without it, new ones are made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

from milepost_contracts.permissions.users import User, UserRole, deployment_users, user_settings
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
DEFINITIONS, ACL = "definitions.json", "users.acl"
READ_BY_SERVERS = 0o644
"""A container reads its file as a user of its own. The folder is its owner's alone, and the file has no password."""
NOTE = "# Written by 'stack access'. Keep it secret. To have new secrets, delete it and run the command again.\n"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The deployment whose files are wanted."""

    namespace: str = "milepost"
    rabbitmq_url: str = "amqp://rabbitmq:5672/"
    redis_url: str = "redis://redis:6379/0"
    #: More users of processors, and the job queues of each.
    processors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Users of other teams, and the binding keys of each; `None` for any.
    teams: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)


def write_access_files(folder: Path, wanted: Wanted) -> tuple[Path, ...]:
    """Write the files of a deployment into a folder that only its owner can enter; return them.

    Raises:
        StackError: Others can enter the folder, or the name of a user is taken.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_mode & 0o077:
        raise StackError(f"others can enter {folder}: 'chmod 700 {folder}', or choose another --folder")
    try:
        users = deployment_users(wanted.namespace, processors=wanted.processors, teams=wanted.teams)
    except ValueError as error:
        raise StackError(str(error)) from error
    known = {user.name: _read(folder / _file_of(user)) for user in users}
    access = Access(users=users, passwords={user.name: _password(known[user.name]) for user in users})
    gateway = known[access.of("gateway").name]
    keys = {name: gateway.get(name) or f"1:{token_hex(32)}" for name in KEY_HOLDERS}
    texts = {_file_of(user): _lines(_settings(user, access, wanted, keys)) for user in users}
    for name, text in texts.items():
        write_private(folder / name, NOTE + text)
    write_private(folder / DEFINITIONS, access.definitions(vhost_of(wanted.rabbitmq_url)), mode=READ_BY_SERVERS)
    write_private(folder / ACL, access.acl(), mode=READ_BY_SERVERS)
    return tuple(folder / name for name in (*texts, DEFINITIONS, ACL))


def _file_of(user: User) -> str:
    """Return the name of the file with the user's secrets; services of this deployment are named by their role."""
    own = user.role if user.queues is None and user.role != "team" else user.name
    return f"{own}.env"


def _settings(user: User, access: Access, wanted: Wanted, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in a user's file."""
    if user.role == "health":
        return {HEALTH_PASSWORD: access.passwords[user.name]}
    found = {}
    if user.broker is not None:
        found[RABBITMQ_URL] = access.url(wanted.rabbitmq_url, user)
    if user.redis is not None:
        found[REDIS_URL] = access.url(wanted.redis_url, user)
    if user.role in ("gateway", "tracker", "processor"):
        found |= {NAMESPACE: wanted.namespace, **user_settings(access.users)}
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
