"""Validates params in this process, without limits."""

import json

from milepost_contracts.http.problems import ProblemDetail
from milepost_gateway.core.params_schema import explaining, first_errors
from milepost_gateway.ports.params_validator import Verdict


class FakeParamsValidator:
    def __init__(self):
        #: Set by a test: what the next validations find out.
        self.verdict: Verdict | None = None

    async def find_fault(self, schema):
        try:
            explaining(json.loads(schema))
        except ValueError as error:
            return str(error)
        return None

    async def validate(self, schema, params, *, tenant, until):
        if self.verdict is not None:
            return self.verdict
        validator, value = explaining(json.loads(schema)), json.loads(params)
        errors = tuple(ProblemDetail(pointer=one, detail=text) for one, text in first_errors(validator, value))
        return Verdict(valid=not errors, errors=errors)
