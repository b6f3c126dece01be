"""Third-party tools read what Milepost writes."""

import json
from pathlib import Path

import pytest
from cloudevents.core.bindings.rabbitmq import RabbitMQMessage, from_structured_event
from openapi_spec_validator import OpenAPIV31SpecValidator

from milepost_contracts.messages.cloudevent import CONTENT_TYPE

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "contracts" / "messages" / "golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.name)
def test_the_cloudevents_sdk_reads_every_message(path):
    """From RabbitMQ, in structured mode, with our extensions."""
    body = path.read_bytes()
    event = from_structured_event(RabbitMQMessage(headers={}, content_type=CONTENT_TYPE, body=body))
    written = json.loads(body)
    assert (written["id"], written["type"], written["source"], written["subject"]) == (
        event.get_id(),
        event.get_type(),
        event.get_source(),
        event.get_subject(),
    )
    assert written["data"] == event.get_data()
    extensions = {name: written[name] for name in ("sequence", "traceparent") if name in written}
    assert extensions == {name: event.get_extension(name) for name in extensions}


def test_the_openapi_document_is_valid():
    """By the schema of OpenAPI 3.1, including its references."""
    document = json.loads((HERE.parent.parent / "docs" / "reference" / "openapi.json").read_text())
    assert [] == [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]
