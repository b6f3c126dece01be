"""`strict_json.items`: the items of a large array, one by one, as strict as the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost_gateway.api import strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
)


def items(body, longest=1_000):
    return list(strict_json.items(body, "jobs", longest=longest))


@given(jobs=st.lists(VALUES, min_size=1, max_size=5), indent=st.none() | st.integers(0, 3))
def test_the_items_are_those_of_the_whole(jobs, indent):
    """However it is laid out."""
    body = strict_json.json.dumps({"jobs": jobs}, indent=indent).encode()
    assert jobs == strict_json.loads(body)["jobs"] == items(body, longest=len(body))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"jobs":1}', b'{"jobs":[1}', b'{"jobs":[1,]}', b'{"jobs":[1 2]}', b'{"jobs":[1]',
     b'{"jobs":[1]}x',
     b'{"jobs":[1],"a":1}', b'{"a":1,"jobs":[1]}', b'{"jobs":[NaN]}', b'{"jobs":[{"a":1,"a":2}]}',
     b'{"jobs":["\\u0000"]}',
     b'{"jobs":["\\ud800"]}', b'{"jobs":["\xff"]}', b'{"jobs":[1e999]}', b'{"jobs":[' + b"[" * 200 + b"]" * 200 + b"]}",
     b'{"jobs":[' + b"[" * 50_000],
)  # fmt: skip
def test_anything_else_is_refused(body):
    """As strictly as `loads`; and other members than the array."""
    with pytest.raises(strict_json.NotStrictJson):
        items(body, longest=100_000)


def test_an_item_that_is_too_long_is_refused_without_parsing_it_all():
    """Only as much as is allowed is parsed at once."""
    with pytest.raises(strict_json.ItemTooLong):
        items(b'{"jobs":["short","' + b"x" * 1_000 + b'"]}')
