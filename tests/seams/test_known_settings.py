"""The list of known settings is complete: services refuse a variable with our prefix that is not in it."""

import re
from pathlib import Path

import pytest

from milepost_gateway.settings import GatewaySettings
from milepost_processor.settings import ProcessorSettings
from milepost_service.known_settings import KNOWN, PREFIX, SECRETS
from milepost_service.secret_files import is_secret
from milepost_tracker.settings import TrackerSettings

ROOT = Path(__file__).parent.parent.parent
SERVICES = (GatewaySettings, ProcessorSettings, TrackerSettings)
NAME = re.compile(r"(?<![A-Z_])MILEPOST_[A-Z_]*[A-Z]")
#: Not settings: the prefix of other words in these files.
ELSEWHERE = [*ROOT.glob("libs/client/src/**/*.py"), *ROOT.glob("tools/stack/src/**/*.py"), ROOT / "docker-compose.yml"]


def names_elsewhere():
    """Return the names that the client, the stack and Compose use."""
    return {name for path in ELSEWHERE for name in NAME.findall(path.read_text())}


def test_the_list_has_every_setting_and_no_other_name():
    """Of the services, the client, the stack and Compose."""
    fields = {name: field for settings in SERVICES for name, field in settings.model_fields.items()}
    used = {PREFIX + name.upper() for name in fields} | names_elsewhere()
    secrets = {name.upper() for name, field in fields.items() if is_secret(field)} | {"API_KEY"}
    assert secrets == SECRETS
    assert used | {f"{PREFIX}{name}_FILE" for name in secrets} == KNOWN


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_known_setting_is_documented(name):
    """The file of a secret is documented once, for all of them."""
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    secret = name.removeprefix(PREFIX).removesuffix("_FILE")
    assert f"`{name}`" in text or (secret in SECRETS and "`MILEPOST_…_FILE`" in text)


def test_every_secret_is_named_where_files_are_documented():
    """In the sentence about `MILEPOST_…_FILE`."""
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    paragraph = next(one for one in text.split("\n\n") if one.startswith("Every secret can be in a file"))
    assert [] == [name for name in SECRETS if f"`{PREFIX}{name}`" not in paragraph]
