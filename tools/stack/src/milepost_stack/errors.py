"""What can go wrong with a stack; each message is written for the person at the terminal.

StackError
├── StartFailed      a part did not become ready; carries the last lines of its log
├── NotInstalled     a server is missing and can't be installed
├── AlreadyUp        a stack of this name runs
└── NotUp            no stack of this name runs, or it has no such process
"""


class StackError(Exception):
    """The stack did not do as asked."""


class StartFailed(StackError):  # noqa: N818 - these are named as conditions
    """A part of the stack did not become ready."""


class NotInstalled(StackError):  # noqa: N818
    """A server program is missing."""


class AlreadyUp(StackError):  # noqa: N818
    """A stack of this name runs already."""


class NotUp(StackError):  # noqa: N818
    """No such stack or process runs."""
