"""What users may do in Redis, against the table of keys. With a server: tests/integration/test_redis_permissions.py."""

import re

from milepost_contracts.permissions import redis
from milepost_contracts.status import redis_keys

ROW = re.compile(r"^\| `<ns>:([a-z-]+):?[^|]*\|[^|]*\| (tracker|processor|gateway) +\|", re.MULTILINE)
WRITERS = {"tracker": redis.TRACKER, "processor": redis.PROCESSOR, "gateway": redis.GATEWAY}


def test_each_kind_of_key_is_written_by_its_owner_alone():
    """As the table in `redis_keys` says it (law 3)."""
    owners = {kind: owner for kind, owner in ROW.findall(redis_keys.__doc__) if kind != "changes"}
    assert len(owners) > 20
    for name, permissions in WRITERS.items():
        assert {kind for kind, owner in owners.items() if owner == name} == set(permissions.writes)


def test_nobody_may_administer_the_server():
    """No user of a service has a command of these."""
    dangerous = {"acl", "config", "flushall", "flushdb", "keys", "scan", "client", "debug", "shutdown", "monitor"}
    for permissions in (*WRITERS.values(), redis.HEALTH):
        assert not dangerous & {command.partition("|")[0] for command in permissions.commands}
