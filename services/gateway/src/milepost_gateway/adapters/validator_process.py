"""The program of the process that validates params: reads questions from standard input, answers on standard output.

The kernel ends it when a question takes too much processor time, or memory; `params_validator` then starts another.

A question is a line of JSON, `{"number": 1, "schema": …, "params": …}`. The schema is given once for each number;
without params, the question is whether it can be used. An answer is one line, and another one with the validation
errors, `[[pointer, detail], …]`, if the first is `false`.
"""

import json
import os
import resource
import signal
import sys
from typing import Any

from milepost_gateway.core.params_schema import MAX_DETAIL, explaining, first_errors

CPU_LIMIT = 0.5
"""Seconds of processor time for a question."""
MEMORY_LIMIT = 512 * 1024 * 1024
"""Bytes of address space."""


def main() -> None:
    """Answer questions until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    validators: dict[int, Any] = {}
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT)  # SIGPROF ends the process, whatever code runs
        try:
            _answer(json.loads(line), validators)
        except MemoryError:
            os.abort()  # as where other code than Python's needs too much memory
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(question: dict[str, Any], validators: dict[int, Any]) -> None:
    number = question["number"]
    if "schema" in question:
        try:
            validators[number] = explaining(question["schema"])
        except ValueError as error:
            _say({"fault": str(error)[:MAX_DETAIL]})
            return
    if "params" not in question:
        _say({"fault": None})
        return
    valid = validators[number].is_valid(question["params"])
    _say(valid)
    if not valid:
        _say(first_errors(validators[number], question["params"]))


def _say(answer: Any) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
