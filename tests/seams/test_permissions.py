"""The permissions agree with the code of the services."""

import re
from pathlib import Path

import pytest

from milepost_contracts.permissions import redis

ROOT = Path(__file__).parent.parent.parent
SERVICES = {"gateway": redis.GATEWAY, "tracker": redis.TRACKER, "processor": redis.PROCESSOR}
CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_do_all_that_its_scripts_do(service):
    """Redis checks the commands of a script when they are reached: an uncommon one would fail late."""
    scripts = list((ROOT / "services" / service).rglob("*.lua"))
    assert scripts
    scripts += (ROOT / "libs" / "redis" / "src").rglob("*.lua")
    used = {command.lower() for script in scripts for command in CALL.findall(script.read_text())}
    assert used <= set(SERVICES[service].commands)
