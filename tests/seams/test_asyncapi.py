"""The AsyncAPI document describes the messages as they are published."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from milepost_contracts import asyncapi
from milepost_contracts.messages.topology import Topology
from milepost_gateway.bootstrap import build_app

HERE = Path(__file__).parent
COMMITTED = HERE.parent.parent / "docs" / "reference" / "asyncapi.yaml"
GOLDEN = HERE.parent / "contracts" / "messages" / "golden"


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(COMMITTED.read_text())


def test_the_committed_document_is_up_to_date(document):
    """`make contracts` regenerates it."""
    assert document == asyncapi.document(Topology(), version=build_app().version), "run 'make contracts'"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.name)
def test_every_golden_message_matches_its_schema(document, path):
    """And its schema rejects a message without data."""
    body = json.loads(path.read_text())
    described = {message["name"]: message for message in document["components"]["messages"].values()}
    if body["type"] == "dev.milepost.job.postponed.v1":
        assert body["type"] not in described, "it does not change a job's status"
        return
    schema = {**described[body["type"]]["payload"], "components": document["components"]}
    jsonschema_rs.validate(schema, body)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, body | {"data": {}})


def test_every_address_is_a_routing_key(document):
    """So that a binding key can be read from it."""
    for name, channel in document["channels"].items():
        assert channel["address"].startswith(name)
        assert "milepost." in channel["bindings"]["amqp"]["exchange"]["name"]
