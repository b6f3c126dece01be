"""Errors of a stack. Their messages are printed as they are.

StackError
├── StartFailed         a process or server did not become ready; has the last lines of a process's log
├── NotInstalled        a server program is missing and can't be installed
├── AlreadyUp           a stack of this name is running
├── NotUp               no stack of this name is running, or it has no such process
└── PackageNotCreated   `milepost new` can't create the package (in `scaffold`)
"""


class StackError(Exception):
    """The stack can't do what was requested."""


class StartFailed(StackError):  # noqa: N818 - these are named as conditions
    """A process or server of the stack did not become ready."""


class NotInstalled(StackError):  # noqa: N818
    """A server program is missing and can't be installed."""


class AlreadyUp(StackError):  # noqa: N818
    """A stack of this name is already running."""


class NotUp(StackError):  # noqa: N818
    """There is no such stack or process."""
