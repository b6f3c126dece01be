"""The garbage collector of a process that runs for long."""

import gc

THRESHOLDS = (10_000, 20, 20)
"""How many new containers, or collections of the younger generation, lead to a collection; by default 700, 10, 10."""


def spare() -> None:
    """Never again look at what is there by now: modules, routes, schemas. It was a third of the time of a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
