"""Users of RabbitMQ and Redis with fresh passwords, as the servers read them: no password is in what a server reads."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes, token_hex
from urllib.parse import quote, unquote, urlsplit

from milepost_contracts.permissions.users import User, UserRole

SALT = 4
"""Bytes; RabbitMQ's own length of a salt. The passwords are random, so hashes alone reveal none."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """The users of one deployment, and their passwords."""

    users: tuple[User, ...]
    #: By the names of the users.
    passwords: Mapping[str, str]

    @classmethod
    def fresh(cls, users: tuple[User, ...]) -> "Access":
        """Return the users with new passwords."""
        return cls(users=users, passwords={user.name: token_hex(32) for user in users})

    def of(self, role: UserRole) -> User:
        """Return the first user with this role."""
        return next(user for user in self.users if user.role == role)

    def url(self, server: str, user: User) -> str:
        """Return the URL of a server with the user's name and password."""
        scheme, _, rest = server.partition("://")
        return f"{scheme}://{quote(user.name)}:{self.passwords[user.name]}@{rest.rpartition('@')[2]}"

    def definitions(self, vhost: str = "/") -> str:
        """Return the file of definitions that RabbitMQ imports when it starts. There is no user guest then."""
        permitted = [(user, user.broker) for user in self.users if user.broker is not None]
        document = {
            "vhosts": [{"name": vhost}],
            "users": [
                {
                    "name": user.name,
                    "password_hash": _salted(self.passwords[user.name]),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": ["administrator"] if user.role == "operator" else [],
                    "limits": {},
                }
                for user, _ in permitted
            ],
            "permissions": [
                {
                    "user": user.name,
                    "vhost": vhost,
                    "configure": permissions.configure,
                    "write": permissions.write,
                    "read": permissions.read,
                }
                for user, permissions in permitted
            ],
            "topic_permissions": [
                {"user": user.name, "vhost": vhost, "exchange": one.exchange, "write": one.write, "read": one.read}
                for user, permissions in permitted
                for one in permissions.topics
            ],
        }
        return json.dumps(document, indent=2) + "\n"

    def acl(self) -> str:
        """Return the file of users that Redis loads when it starts. The user without a name can do nothing."""
        lines = ["user default off resetkeys resetchannels -@all"]
        for user in self.users:
            if user.redis is not None:
                digest = hashlib.sha256(self.passwords[user.name].encode()).hexdigest()
                lines.append(f"user {user.name} on #{digest} {' '.join(user.redis)}")
        return "\n".join(lines) + "\n"


def vhost_of(rabbitmq_url: str) -> str:
    """Return the virtual host that a URL of RabbitMQ names; without a path it is `/`."""
    return unquote(urlsplit(rabbitmq_url).path.removeprefix("/")) or "/"


def write_private(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file that only its owner can read, from the first byte on."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)


def _salted(password: str) -> str:
    """Return a password as RabbitMQ stores it (https://www.rabbitmq.com/docs/passwords)."""
    salt = token_bytes(SALT)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
