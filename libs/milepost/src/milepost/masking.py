"""Keeps secret params secret: marks them in the JSON Schema of the params, and masks them in texts."""

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from pydantic import Secret, SecretStr, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from milepost_contracts.secret_params import MASK

MIN_LENGTH = 4
"""Shorter secrets are not masked in texts, where they would hide other words."""


class Masking:
    """Masks secrets in texts, where they occur as they are, escaped or encoded as in a URL.

    Args:
        secrets: Texts, numbers, and objects and arrays of them; pydantic's secrets too, which a test may pass.
        names: The names of members in such objects that are no secrets.
    """

    def __init__(self, secrets: Iterable[Any] = (), names: Collection[str] = ()) -> None:
        texts = _texts(secrets, names)
        forms = {form for secret in texts for form in _forms(secret) if len(form) >= MIN_LENGTH}
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text with masks in place of the secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


class SecretsMarked(GenerateJsonSchema):
    """Marks every secret with `writeOnly`; pydantic marks `SecretStr` and `SecretBytes`, but no other `Secret[…]`."""

    def json_or_python_schema(self, schema: core_schema.JsonOrPythonSchema) -> JsonSchemaValue:
        made = super().json_or_python_schema(schema)
        is_secret = dict(schema.get("serialization") or {}).get("function") is _SERIALIZE_SECRET
        return {**made, "writeOnly": True} if is_secret else made


_SERIALIZE_SECRET = dict(TypeAdapter(Secret[int]).core_schema["serialization"])["function"]


def _texts(values: Iterable[Any], names: Collection[str]) -> Iterator[str]:
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += value.values()
            yield from (name for name in value if name not in names)
        elif isinstance(value, list):
            stack += value
        elif isinstance(value, Secret | SecretStr):
            stack.append(value.get_secret_value())
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            yield str(value)


def _forms(secret: str) -> Iterator[str]:
    """Return the forms in which a secret occurs in texts: a log line may be the JSON of the `repr` of one."""
    shown = repr(secret)[1:-1], repr(secret.encode())[2:-1]
    for form in (secret, *shown, quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield form
        for is_ascii in (True, False):
            yield json.dumps(form, ensure_ascii=is_ascii)[1:-1]


NOTHING_SECRET = Masking()
