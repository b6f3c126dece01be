"""A CPU-bound handler: a segmented sieve of Eratosthenes that reports progress and can be canceled after each block."""

from math import isqrt

from pydantic import BaseModel, Field

from milepost import Run, job
from milepost_basics.small import Strict

BLOCK = 1 << 18


class CrunchParams(Strict):
    #: Count the primes up to and including this.
    limit: int = Field(ge=2, le=10**9)


class Primes(BaseModel):
    limit: int
    count: int
    largest: int


@job("crunch", queue="cpu")
def crunch(params: CrunchParams, run: Run) -> Primes:
    """Count the primes up to a limit."""
    small = _sieve(isqrt(params.limit))
    count, largest = 0, 2
    for start in run.track(range(0, params.limit + 1, BLOCK), unit="blocks"):
        flags = _block(start, min(start + BLOCK, params.limit + 1), small)
        found = flags.count(1)
        if found:
            count += found
            largest = start + flags.rindex(1)
        run.emit({"up_to": start + len(flags) - 1, "primes": count})
    return Primes(limit=params.limit, count=count, largest=largest)


def _sieve(limit: int) -> list[int]:
    flags = bytearray([1]) * (limit + 1)
    flags[: min(2, limit + 1)] = bytes(min(2, limit + 1))
    for n in range(2, isqrt(limit) + 1):
        if flags[n]:
            flags[n * n :: n] = bytes(len(range(n * n, limit + 1, n)))
    return [n for n, flag in enumerate(flags) if flag]


def _block(start: int, stop: int, primes: list[int]) -> bytearray:
    """Return one byte for each number in `range(start, stop)`: 1 if it is prime."""
    flags = bytearray([1]) * (stop - start)
    for n in range(start, min(2, stop)):
        flags[n - start] = 0
    for prime in primes:
        first = max(prime * prime, -(-start // prime) * prime)
        if first >= stop:
            if prime * prime >= stop:
                break
            continue
        flags[first - start :: prime] = bytes(len(range(first, stop, prime)))
    return flags
