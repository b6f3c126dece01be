"""Example handlers: digest-files, crunch, count, echo, noop."""

from milepost_basics.crunch import crunch
from milepost_basics.digest import digest_files
from milepost_basics.small import count, echo, noop

__all__ = ["count", "crunch", "digest_files", "echo", "noop"]
