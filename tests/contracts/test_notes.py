"""What stands at a field in the code stands in the documents."""

from pydantic import create_model

from milepost_contracts.document import OutputInfo
from milepost_contracts.notes import describe, field_notes
from milepost_contracts.values import FileRef


def test_a_note_above_a_field_is_its_description():
    """All of its lines, and of no other field's."""
    notes = field_notes(FileRef)
    assert "The client's or the handler's name for it: a relative path, a label only." == notes["name"]
    assert "media_type" not in notes


def test_notes_are_put_where_nothing_is_said_yet():
    """Nor beside a reference, where readers would not see it."""
    told = {
        "Progress": {
            "properties": {"done": {}, "rate": {"type": "number"}, "percent": {"description": "Mine."}, "unit": {}}
        },
        "SomebodyElses": {"properties": {"rate": {}}},
    }
    describe(told)
    assert {"type": "number", "description": "Units a second, smoothed."} == told["Progress"]["properties"]["rate"]
    assert {"description": "Mine."} == told["Progress"]["properties"]["percent"]
    assert {} == told["Progress"]["properties"]["unit"] == told["SomebodyElses"]["properties"]["rate"]
    reference = {"Progress": {"properties": {"rate": {"$ref": "#/x"}}}}
    describe(reference)
    assert {"$ref": "#/x"} == reference["Progress"]["properties"]["rate"]


def test_notes_are_inherited_and_a_model_without_source_has_none():
    """One that was made while running, for example."""
    assert {"size", "digest", "url"} <= set(field_notes(OutputInfo))
    assert {} == field_notes(create_model("Made", x=(int, 1), __module__="milepost_test"))
